//! Contacts: Intercom's copies of our users, told apart by `external_id`, the app's own user id.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::send::Answer;
use super::{CallError, Class, Intercom, wire};
use crate::id::{self, ContactId, UserId};

/// Intercom resolves chains of merges up to this length (its description of `GET /contacts/{id}`).
const MERGE_HOPS: usize = 3;
/// Longer values of a custom attribute are refused.
const LONGEST_ATTRIBUTE: usize = 255;

/// A contact that can be called by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Intercom's id.
    pub id: ContactId,
    /// The app's user id, if it has one.
    pub external_id: Option<String>,
}

/// What a contact is created with: no e-mail and no phone, which could belong to somebody else's contact.
#[derive(Clone, Copy, Debug)]
pub struct NewContact<'a> {
    /// The app's user id.
    pub external_id: &'a UserId,
    /// Display name, where known.
    pub name: Option<&'a str>,
}

/// A contact that was found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    /// Intercom's id.
    pub id: ContactId,
    /// It was made: it has no conversations yet.
    pub is_new: bool,
}

/// How a creation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateContact {
    /// It is new.
    Created(Contact),
    /// Something of it, not necessarily the external id, is taken by this contact.
    Exists(ContactId),
    /// As `Exists`, by a contact that is archived: neither found nor usable until it is brought back.
    Archived(ContactId),
}

/// What is known of a person; what is `None` stays as it is. Not `Debug`: personal data.
#[derive(Clone, Default, Serialize)]
pub struct ContactPatch {
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address; refused if another contact has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Phone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Strings (cut at 255 characters), numbers and booleans; refused as a whole if the workspace lacks one of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_attributes: BTreeMap<String, Value>,
}

/// A part of a patch that Intercom may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The custom attributes.
    CustomAttributes,
    /// The e-mail address.
    Email,
    /// The phone number.
    Phone,
}

impl Intercom {
    /// The user's contact; archived ones are invisible. A merged one is the contact it lives on in.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn find_contact(&self, external_id: &UserId) -> Result<Option<Contact>, CallError> {
        self.followed(&["contacts", "find_by_external_id", external_id.as_str()]).await
    }

    /// A contact; a merged one is the contact it lives on in.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn contact(&self, id: &ContactId) -> Result<Option<Contact>, CallError> {
        self.followed(&["contacts", id.as_str()]).await
    }

    /// Creates a contact, unless there is one like it. Safe to repeat: the external id is unique.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn create_contact(&self, new: NewContact<'_>) -> Result<CreateContact, CallError> {
        let mut body = json!({ "role": "user", "external_id": new.external_id });
        if let Some(name) = new.name {
            body["name"] = name.into();
        }
        let answer = self.send(&self.call(Method::POST, &["contacts"], Class::Write, &body).repeatable()).await?;
        match existing(&answer) {
            Some(existing) => Ok(existing),
            None => usable(answer.json()?).map(CreateContact::Created),
        }
    }

    /// Changes what the patch names, all or nothing.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn update_contact(&self, id: &ContactId, patch: &ContactPatch) -> Result<(), CallError> {
        self.put_contact(id, patch).await?.ok()
    }

    /// Brings an archived contact back.
    ///
    /// # Errors
    /// [`CallError::Rejected`] too if it is about to be deleted for good.
    pub async fn unarchive_contact(&self, id: &ContactId) -> Result<(), CallError> {
        let call = self.call(Method::POST, &["contacts", id.as_str(), "unarchive"], Class::Write, &json!({}));
        self.send(&call.repeatable()).await?.ok()
    }

    /// The user's contact, found or made. A contact that stands in the way of the creation is taken for the user's
    /// only if its external id is theirs: otherwise one user would talk in another one's name.
    ///
    /// # Errors
    /// [`CallError`]; a contact in the way that is not the user's is a rejected creation.
    pub async fn ensure_contact(&self, external_id: &UserId, name: Option<&str>) -> Result<Ensured, CallError> {
        let found = |contact: Contact| Ensured { id: contact.id, is_new: false };
        if let Some(contact) = self.find_contact(external_id).await? {
            return Ok(found(contact));
        }
        let in_the_way = match self.create_contact(NewContact { external_id, name }).await? {
            CreateContact::Created(contact) => return Ok(Ensured { id: contact.id, is_new: true }),
            CreateContact::Exists(id) => id,
            CreateContact::Archived(id) => {
                self.unarchive_contact(&id).await?;
                id
            }
        };
        match self.contact(&in_the_way).await? {
            Some(contact) if contact.external_id.as_deref() == Some(external_id.as_str()) => Ok(found(contact)),
            _ => Err(CallError::Rejected { status: StatusCode::CONFLICT.as_u16(), code: "conflict".to_owned() }),
        }
    }

    /// Changes as much as Intercom accepts: what it refuses (an attribute the workspace lacks, an e-mail address of
    /// somebody else, a phone number it does not like) is left out, and named in the answer.
    ///
    /// # Errors
    /// [`CallError`] if nothing could be changed at all; no reason to fail a user's request.
    pub async fn enrich_contact(&self, id: &ContactId, patch: &ContactPatch) -> Result<Vec<Refused>, CallError> {
        let mut patch = flat(patch);
        let mut refused = Vec::new();
        loop {
            let answer = self.put_contact(id, &patch).await?;
            let suspect = match answer.status {
                StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
                    suspect(&answer, &patch)
                }
                _ => None,
            };
            let Some(suspect) = suspect else { return answer.ok().map(|()| refused) };
            patch.drop(suspect);
            refused.push(suspect);
        }
    }

    /// Deletes a contact for good; one that is gone already is gone.
    ///
    /// Intercom may keep a deleted contact in the way of its external id for days, so it is given another one first.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn delete_contact(&self, id: &ContactId) -> Result<(), CallError> {
        let path = ["contacts", id.as_str()];
        let anonymous = json!({ "external_id": format!("erased-{}", id::random()) });
        let renamed = self.send(&self.call(Method::PUT, &path, Class::Reconcile, &anonymous).repeatable()).await?;
        if let Err(error) = renamed.ok() {
            tracing::info!(cause = %error, "a contact was not renamed before its deletion");
        }
        match self.send(&self.delete(&path, Class::Reconcile)).await?.ok() {
            Err(CallError::Rejected { status: 404 | 410, .. }) => Ok(()),
            done => done,
        }
    }

    async fn put_contact(&self, id: &ContactId, patch: &ContactPatch) -> Result<Answer, CallError> {
        let call = self.call(Method::PUT, &["contacts", id.as_str()], Class::Reconcile, patch);
        self.send(&call.repeatable()).await
    }

    async fn followed(&self, path: &[&str]) -> Result<Option<Contact>, CallError> {
        let mut answer = self.send(&self.get(path, Class::Write)).await?;
        for _ in 0..MERGE_HOPS {
            let Some(survivor) = survivor(&answer) else { break };
            answer = self.send(&self.get(&["contacts", survivor.as_str()], Class::Write)).await?;
        }
        answer.json_or_none()?.map(usable).transpose()
    }
}

impl ContactPatch {
    fn has(&self, part: Refused) -> bool {
        match part {
            Refused::CustomAttributes => !self.custom_attributes.is_empty(),
            Refused::Email => self.email.is_some(),
            Refused::Phone => self.phone.is_some(),
        }
    }

    fn drop(&mut self, part: Refused) {
        match part {
            Refused::CustomAttributes => self.custom_attributes.clear(),
            Refused::Email => self.email = None,
            Refused::Phone => self.phone = None,
        }
    }
}

/// Where a merged contact lives on: `410` and `Link: </contacts/{id}>; rel="canonical"`.
fn survivor(answer: &Answer) -> Option<ContactId> {
    if answer.status != StatusCode::GONE {
        return None;
    }
    let (_, rest) = answer.link.as_deref()?.split_once("/contacts/")?;
    ContactId::parse(rest.split_once('>')?.0)
}

/// What a 409 says: "A contact matching those details already exists with id=5da6f18e3d7cf967e4582d05", or "An
/// archived contact …". Not in Intercom's description; seen in the field.
fn existing(answer: &Answer) -> Option<CreateContact> {
    if answer.status != StatusCode::CONFLICT {
        return None;
    }
    let message = answer.refusal().message?;
    let (before, after) = message.split_once("id=")?;
    let id = ContactId::parse(after.split(|c: char| !c.is_ascii_alphanumeric()).next()?)?;
    let archived = before.to_ascii_lowercase().contains("archived");
    Some(if archived { CreateContact::Archived(id) } else { CreateContact::Exists(id) })
}

/// Which part of the patch a refusal means: the one it names, else the likeliest that is there.
fn suspect(answer: &Answer, patch: &ContactPatch) -> Option<Refused> {
    let refusal = answer.refusal();
    let words = [refusal.field, refusal.message].into_iter().flatten().collect::<Vec<_>>().join(" ").to_lowercase();
    let parts = [("attribute", Refused::CustomAttributes), ("email", Refused::Email), ("phone", Refused::Phone)];
    let named = parts.iter().find(|(name, part)| words.contains(name) && patch.has(*part));
    let likely = match answer.status {
        StatusCode::CONFLICT => [Refused::Email, Refused::Phone, Refused::CustomAttributes],
        _ => [Refused::CustomAttributes, Refused::Phone, Refused::Email],
    };
    named.map(|(_, part)| *part).or_else(|| likely.into_iter().find(|part| patch.has(*part)))
}

/// Intercom takes no nested attributes and no long strings.
fn flat(patch: &ContactPatch) -> ContactPatch {
    let mut patch = patch.clone();
    patch.custom_attributes.retain(|_, value| !value.is_object() && !value.is_array());
    for value in patch.custom_attributes.values_mut() {
        if let Value::String(text) = value
            && let Some((end, _)) = text.char_indices().nth(LONGEST_ATTRIBUTE)
        {
            text.truncate(end);
        }
    }
    patch
}

fn usable(contact: wire::Contact) -> Result<Contact, CallError> {
    let id = contact.id.and_then(|id| ContactId::parse(id.as_str()));
    let external_id = contact.external_id.map(|id| id.0);
    id.map(|id| Contact { id, external_id }).ok_or(CallError::Ambiguous { answered: true })
}
