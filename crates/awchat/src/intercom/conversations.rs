//! Conversations: what a contact says, what is done in the service teammate's name, and reading it all back.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::send::Answer;
use super::{CallError, Class, Intercom, wire};
use crate::id::{ContactId, ConversationId};

/// Intercom's most (its description of searches).
const PER_PAGE: u32 = 150;

/// A conversation that was just started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The message's own id, which is not the id of the conversation's source.
    pub message_id: Option<String>,
    /// Unix seconds.
    pub created_at: Option<i64>,
}

/// A page of a search; what its conversations lack is their parts.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In no useful order: Intercom ignores `sort`. Rows can repeat from page to page.
    pub conversations: Vec<wire::Conversation>,
    /// What to send for the next page; `None` on the last. Stop also if one repeats.
    pub next: Option<String>,
}

/// What to take back.
#[derive(Clone, Copy, Debug)]
pub enum Redaction<'a> {
    /// A part.
    Part(&'a str),
    /// The opening message.
    Source(&'a str),
}

impl Intercom {
    /// Starts a conversation as the contact. Repeated only if certainly not applied. `body` must not be blank; it is
    /// plain text. At most 10 attachments.
    ///
    /// # Errors
    /// [`CallError`]; 404 is an unknown contact.
    pub async fn create(&self, contact: &ContactId, body: &str, attachments: &[String]) -> Result<Created, CallError> {
        let mut request = json!({ "from": { "type": "user", "id": contact }, "body": body });
        attach(&mut request, attachments);
        let answer = self.send(&self.call(Method::POST, &["conversations"], Class::Write, &request)).await?;
        let message: wire::CreatedMessage = answer.json()?;
        let conversation_id = message.conversation_id.and_then(|id| ConversationId::parse(id.as_str()));
        Ok(Created {
            conversation_id: conversation_id.ok_or(CallError::Ambiguous { answered: true })?,
            message_id: message.id.map(|id| id.0),
            created_at: message.created_at,
        })
    }

    /// Replies as the contact; opens a closed or snoozed conversation. Repeated only if certainly not applied. The
    /// answer holds only the new part, of type `open` if the conversation was closed.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn reply(
        &self,
        conversation: &ConversationId,
        contact: &ContactId,
        body: &str,
        attachments: &[String],
    ) -> Result<wire::Conversation, CallError> {
        let mut request =
            json!({ "message_type": "comment", "type": "user", "intercom_user_id": contact, "body": body });
        attach(&mut request, attachments);
        let path = ["conversations", conversation.as_str(), "reply"];
        self.send(&self.call(Method::POST, &path, Class::Write, &request)).await?.json()
    }

    /// A conversation with its newest 500 parts, as HTML: plain text would lose inline pictures. `None` if unknown.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn conversation(
        &self,
        conversation: &ConversationId,
        class: Class,
    ) -> Result<Option<wire::Conversation>, CallError> {
        self.send(&self.get(&["conversations", conversation.as_str()], class)).await?.json_or_none()
    }

    /// Conversations that changed at or after `unix_s`. A superset: Intercom may cut the time to its day. The index
    /// lags, so what is missing may only be late.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn search_updated_since(&self, unix_s: i64, starting_after: Option<&str>) -> Result<Page, CallError> {
        // For dates `>` means "or equal" (its description of searches).
        let filter = json!({ "field": "updated_at", "operator": ">", "value": unix_s });
        self.search(filter, starting_after, Class::Sweep).await
    }

    /// The contact's conversations. The index lags.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn search_of_contact(
        &self,
        contact: &ContactId,
        starting_after: Option<&str>,
        class: Class,
    ) -> Result<Page, CallError> {
        let filter = json!({ "field": "contact_ids", "operator": "=", "value": contact });
        self.search(filter, starting_after, class).await
    }

    async fn search(&self, filter: Value, starting_after: Option<&str>, class: Class) -> Result<Page, CallError> {
        let request = searching(filter, PER_PAGE, starting_after);
        let call = self.call(Method::POST, &["conversations", "search"], class, &request).reading();
        let list: wire::ConversationList = self.send(&call).await?.json()?;
        let next = list.pages.and_then(|pages| pages.next).and_then(|next| next.starting_after);
        Ok(Page { conversations: list.conversations, next })
    }

    /// Closes in the service teammate's name: a contact cannot. Closing what is closed is a success.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn close(&self, conversation: &ConversationId) -> Result<(), CallError> {
        let request = json!({ "message_type": "close", "type": "admin", "admin_id": self.admin_id() });
        let answer = self.manage(conversation, Class::Write, &request).await?;
        let Err(rejected) = answer.ok() else { return Ok(()) };
        // Whether Intercom minds closing a closed one is not documented: ask what is the case.
        match self.conversation(conversation, Class::Write).await? {
            Some(now) if now.state.as_deref() == Some("closed") => Ok(()),
            _ => Err(rejected),
        }
    }

    /// Leaves an internal note, never shown to the contact. Repeated only if certainly not applied.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn note(&self, conversation: &ConversationId, html: &str) -> Result<(), CallError> {
        let request = json!({ "message_type": "note", "type": "admin", "admin_id": self.admin_id(), "body": html });
        let path = ["conversations", conversation.as_str(), "reply"];
        self.send(&self.call(Method::POST, &path, Class::Reconcile, &request)).await?.ok()
    }

    /// Whether a note whose body `is_it` was left since `unix_s`: tells, after an answer that never came, whether
    /// the note did.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn has_note(
        &self,
        conversation: &ConversationId,
        unix_s: i64,
        is_it: impl Fn(&str) -> bool + Sync,
    ) -> Result<bool, CallError> {
        let Some(now) = self.conversation(conversation, Class::Reconcile).await? else { return Ok(false) };
        let parts = now.conversation_parts.map(|parts| parts.conversation_parts).unwrap_or_default();
        Ok(parts.iter().any(|part| {
            part.part_type.as_deref() == Some("note")
                && part.created_at.is_some_and(|at| at >= unix_s)
                && part.body.as_deref().is_some_and(&is_it)
        }))
    }

    /// Assigns to a team; a team that has it already is a success.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn assign_team(&self, conversation: &ConversationId, team: &str) -> Result<(), CallError> {
        let request = json!({
            "message_type": "assignment",
            "type": "team",
            "admin_id": self.admin_id(),
            "assignee_id": team,
        });
        let answer = self.manage(conversation, Class::Reconcile, &request).await?;
        let already = answer.status == StatusCode::UNPROCESSABLE_ENTITY
            && answer.refusal().message.is_some_and(|message| message.to_lowercase().contains("already"));
        if already { Ok(()) } else { answer.ok() }
    }

    /// Marks the conversation as read within Intercom.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn mark_read(&self, conversation: &ConversationId) -> Result<(), CallError> {
        let path = ["conversations", conversation.as_str()];
        let call = self.call(Method::PUT, &path, Class::Reconcile, &json!({ "read": true }));
        self.send(&call.repeatable()).await?.ok()
    }

    /// Puts a tag on, creating it if need be.
    ///
    /// # Errors
    /// [`CallError`]; 404 is an unknown conversation.
    pub async fn tag(&self, conversation: &ConversationId, name: &str) -> Result<(), CallError> {
        let key = name.to_lowercase();
        if let Some(id) = self.0.tags.get(&key) {
            let answer = self.attach_tag(conversation, &id).await?;
            if answer.status != StatusCode::NOT_FOUND {
                return answer.ok();
            }
            self.0.tags.remove(&key); // Perhaps the tag was deleted since we learnt its id.
        }
        let id = self.tag_id(name).await?;
        self.attach_tag(conversation, &id).await?.ok()?;
        self.0.tags.insert(key, id);
        Ok(())
    }

    async fn attach_tag(&self, conversation: &ConversationId, tag_id: &str) -> Result<Answer, CallError> {
        let path = ["conversations", conversation.as_str(), "tags"];
        let request = json!({ "id": tag_id, "admin_id": self.admin_id() });
        self.send(&self.call(Method::POST, &path, Class::Reconcile, &request).repeatable()).await
    }

    /// `POST /tags` finds a tag by its name, or creates it.
    async fn tag_id(&self, name: &str) -> Result<String, CallError> {
        let call = self.call(Method::POST, &["tags"], Class::Reconcile, &json!({ "name": name }));
        let tag: wire::Tag = self.send(&call.repeatable()).await?.json()?;
        tag.id.map(|id| id.0).ok_or(CallError::Ambiguous { answered: true })
    }

    /// Takes a text back, for good. False if there is none of that id.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn redact(&self, conversation: &ConversationId, what: Redaction<'_>) -> Result<bool, CallError> {
        let request = match what {
            Redaction::Part(id) => {
                json!({ "type": "conversation_part", "conversation_id": conversation, "conversation_part_id": id })
            }
            Redaction::Source(id) => json!({ "type": "source", "conversation_id": conversation, "source_id": id }),
        };
        let call = self.call(Method::POST, &["conversations", "redact"], Class::Reconcile, &request);
        let answer = self.send(&call.repeatable()).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(false) } else { answer.ok().map(|()| true) }
    }

    async fn manage(&self, conversation: &ConversationId, class: Class, request: &Value) -> Result<Answer, CallError> {
        let path = ["conversations", conversation.as_str(), "parts"];
        self.send(&self.call(Method::POST, &path, class, request).repeatable()).await
    }

    pub(super) fn admin_id(&self) -> &str {
        &self.0.settings.admin_id
    }
}

/// The body of a search.
pub(super) fn searching(filter: Value, per_page: u32, starting_after: Option<&str>) -> Value {
    let mut request = json!({
        "query": { "operator": "AND", "value": [filter] },
        "pagination": { "per_page": per_page },
    });
    if let Some(cursor) = starting_after {
        request["pagination"]["starting_after"] = cursor.into();
    }
    request
}

pub(super) fn attach(request: &mut Value, urls: &[String]) {
    if !urls.is_empty() {
        request["attachment_urls"] = urls.into();
    }
}
