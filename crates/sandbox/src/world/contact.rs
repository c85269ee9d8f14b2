//! Contacts: finding, merging, archiving.

use serde_json::{Map, Value, json};

use super::World;

/// A person who writes to support.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    pub(crate) id: String,
    pub(crate) details: Details,
    pub(crate) created_at: i64,
    pub(crate) created_ms: i64,
    pub(crate) updated_at: i64,
    pub(crate) last_replied_at: Option<i64>,
    pub(crate) archived: bool,
    /// Deleted by the API: gone for whoever asks, yet in the way of its external id until it is gone for good.
    pub(crate) doomed: bool,
    pub(crate) merged_into: Option<String>,
}

/// What of a contact the API may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    pub(crate) role: String,
    pub(crate) external_id: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) email_verified: Option<bool>,
    pub(crate) phone: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) avatar: Option<String>,
    pub(crate) owner_id: Option<String>,
    pub(crate) language_override: Option<String>,
    pub(crate) signed_up_at: Option<i64>,
    pub(crate) last_seen_at: Option<i64>,
    pub(crate) unsubscribed_from_emails: bool,
    pub(crate) custom_attributes: Map<String, Value>,
}

impl World {
    pub(crate) fn add_contact(&mut self, details: Details) -> String {
        // Seconds first, then chance: the shape of Intercom's own ids.
        let id = format!("{:08x}{:016x}", u32::try_from(self.now()).unwrap_or_default(), rand::random::<u64>());
        let now = self.now();
        let contact = Contact {
            id: id.clone(),
            details,
            created_at: now,
            created_ms: self.now_ms,
            updated_at: now,
            ..Contact::default()
        };
        self.contacts.insert(id.clone(), contact);
        id
    }

    /// The contact of that external id, merged ones included, archived ones not.
    pub(crate) fn contact_by_external_id(&self, external_id: &str) -> Option<&Contact> {
        let named =
            |contact: &&Contact| contact.details.external_id.as_deref() == Some(external_id) && !contact.archived;
        let mut all = self.contacts.values().filter(named);
        // A living contact wins over one that was merged away.
        all.clone().find(|contact| contact.merged_into.is_none()).or_else(|| all.next())
    }

    /// Another contact with the same external id, or the same e-mail, that stands in the way of `details`.
    pub(crate) fn conflicting(&self, details: &Details, own_id: Option<&str>) -> Option<&Contact> {
        let same = |a: &Option<String>, b: &Option<String>| {
            a.as_deref()
                .filter(|text| !text.is_empty())
                .is_some_and(|a| b.as_deref().is_some_and(|b| a.eq_ignore_ascii_case(b)))
        };
        let others = self.contacts.values().filter(|c| c.merged_into.is_none() && Some(c.id.as_str()) != own_id);
        let clash = |contact: &&Contact| {
            let same_id = details.external_id.is_some() && details.external_id == contact.details.external_id;
            same_id || (contact.details.role == "user" && same(&details.email, &contact.details.email))
        };
        let (mut by_id, mut by_email) = (None, None);
        for contact in others.filter(clash) {
            let slot = if contact.details.external_id == details.external_id { &mut by_id } else { &mut by_email };
            slot.get_or_insert(contact);
        }
        by_id.or(by_email)
    }

    pub(crate) fn set_archived(&mut self, id: &str, archived: bool) -> bool {
        let now = self.now();
        let Some(contact) = self.contacts.get_mut(id) else { return false };
        contact.archived = archived;
        contact.updated_at = now;
        self.emit_contact(if archived { "contact.archived" } else { "contact.unarchived" }, id, json!({}));
        true
    }

    /// As the API deletes: for days the contact is neither there nor restorable.
    pub(crate) fn doom_contact(&mut self, id: &str) {
        let now = self.now();
        let Some(contact) = self.contacts.get_mut(id) else { return };
        (contact.archived, contact.doomed, contact.updated_at) = (true, true, now);
        let Details { role, external_id, .. } = std::mem::take(&mut contact.details);
        contact.details = Details { role, external_id, ..Details::default() };
        let item = json!({ "type": "contact", "id": id, "external_id": contact.details.external_id, "deleted": true });
        self.emit("contact.deleted", id, item);
    }

    pub(crate) fn delete_contact(&mut self, id: &str) -> bool {
        let Some(contact) = self.contacts.remove(id) else { return false };
        let item = json!({ "type": "contact", "id": id, "external_id": contact.details.external_id, "deleted": true });
        self.emit("contact.deleted", id, item);
        true
    }

    /// Merges `from` into `into`: its conversations move, its id answers 410 from now on.
    pub(crate) fn merge_contact(&mut self, from: &str, into: &str) -> bool {
        if from == into || !self.contacts.contains_key(into) {
            return false;
        }
        let now = self.now();
        let Some(contact) = self.contacts.get_mut(from) else { return false };
        contact.merged_into = Some(into.to_owned());
        contact.updated_at = now;
        for conversation in self.conversations.values_mut() {
            let others: Vec<String> = conversation.contacts.iter().filter(|id| *id != from).cloned().collect();
            if others.len() < conversation.contacts.len() {
                conversation.contacts = others;
                if !conversation.contacts.iter().any(|id| id == into) {
                    conversation.contacts.push(into.to_owned());
                }
                conversation.touch(self.now_ms);
            }
        }
        self.emit_contact("contact.merged", into, json!({ "merged_from": { "type": "contact", "id": from } }));
        true
    }
}
