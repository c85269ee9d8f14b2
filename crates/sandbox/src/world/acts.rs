//! What people do in a conversation, and which notifications Intercom sends of it.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::{
    AppliedTag, Attachment, Author, Body, Contact, Conversation, FIRST_CONVERSATION, FIRST_MESSAGE, FIRST_PART, Part,
    Stage, State, Statistics, World,
};

/// Where a change came from: parts made by the API carry the app's package code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Api,
    Inbox,
}

/// A part to be added.
pub(crate) struct NewPart {
    pub(crate) part_type: String,
    pub(crate) body: Option<Body>,
    pub(crate) author: Author,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) assigned_to: Value,
    pub(crate) options: Vec<String>,
    /// Of a ticket's change of state: from, to.
    pub(crate) ticket_state: Option<(Stage, Stage)>,
    pub(crate) updated_attribute: Option<Value>,
    pub(crate) via: Via,
}

/// Whom a conversation is given to; 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignee {
    Admin(u64),
    Team(u64),
}

impl NewPart {
    pub(crate) fn new(part_type: &str, author: Author, body: Option<Body>, via: Via) -> Self {
        let (attachments, options) = (Vec::new(), Vec::new());
        Self {
            part_type: part_type.to_owned(),
            body,
            author,
            attachments,
            assigned_to: Value::Null,
            options,
            ticket_state: None,
            updated_attribute: None,
            via,
        }
    }

    pub(crate) fn with(mut self, attachments: Vec<Attachment>) -> Self {
        self.attachments = attachments;
        self
    }
}

impl World {
    /// Opens a conversation; who writes first decides which notification is sent.
    pub(crate) fn start(&mut self, contact: &str, author: Author, body: Body, attachments: Vec<Attachment>) -> String {
        let by_contact = matches!(author, Author::Contact(_));
        let id = self.new_conversation(contact, author, body, attachments);
        if by_contact {
            self.note_contact_wrote(contact);
        }
        let topic = if by_contact { "conversation.user.created" } else { "conversation.admin.single.created" };
        self.emit_conversation(topic, &id, None);
        id
    }

    /// Opens a conversation and says nothing to anybody.
    pub(super) fn new_conversation(
        &mut self,
        contact: &str,
        author: Author,
        body: Body,
        attachments: Vec<Attachment>,
    ) -> String {
        let (id, message_id, now) = (self.next_id(FIRST_CONVERSATION), self.next_id(FIRST_MESSAGE), self.now());
        let by_contact = matches!(author, Author::Contact(_));
        let mut conversation = Conversation {
            id: id.clone(),
            created_at: now,
            updated_at: now,
            title: None,
            message_id,
            delivered_as: if by_contact { "customer_initiated" } else { "admin_initiated" },
            body,
            author,
            attachments,
            redacted: false,
            contacts: vec![contact.to_owned()],
            state: State::Open,
            snoozed_until: None,
            waiting_since: by_contact.then_some(now),
            read: !by_contact,
            admin_assignee: 0,
            team_assignee: 0,
            tags: Vec::new(),
            custom_attributes: Map::new(),
            parts: Vec::new(),
            statistics: Statistics { last_contact_reply_at: by_contact.then_some(now), ..Statistics::default() },
            revisions: VecDeque::new(),
            seen: 0,
            ticket: None,
        };
        conversation.touch(self.now_ms);
        self.conversations.insert(id.clone(), conversation);
        id
    }

    /// Adds a part and says nothing to anybody. None when there is no such conversation.
    pub(crate) fn append(&mut self, id: &str, new: NewPart) -> Option<String> {
        if !self.conversations.contains_key(id) {
            return None;
        }
        let (part_id, now) = (self.next_id(FIRST_PART), self.now());
        let conversation = self.conversations.get_mut(id)?;
        conversation.parts.push(Part {
            id: part_id.clone(),
            part_type: new.part_type,
            body: new.body,
            author: new.author,
            created_at: now,
            updated_at: now,
            attachments: new.attachments,
            redacted: false,
            state: conversation.state,
            assigned_to: new.assigned_to,
            options: new.options,
            ticket_state: new.ticket_state,
            updated_attribute: new.updated_attribute,
            by_api: new.via == Via::Api,
        });
        conversation.touch(self.now_ms);
        Some(part_id)
    }

    fn append_and_tell(&mut self, id: &str, new: NewPart, topic: &str) -> Option<String> {
        let part = self.append(id, new)?;
        self.emit_conversation(topic, id, Some(&part));
        Some(part)
    }

    fn note_contact_wrote(&mut self, contact: &str) {
        let now = self.now();
        if let Some(contact) = self.contacts.get_mut(contact) {
            contact.last_replied_at = Some(now);
        }
    }

    fn set_state(&mut self, id: &str, state: State, snoozed_until: Option<i64>) {
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.state = state;
            conversation.snoozed_until = snoozed_until;
        }
    }

    /// A contact's reply. It reopens what was closed or snoozed, and then the part's type is `open`.
    pub(crate) fn contact_replies(
        &mut self,
        id: &str,
        contact: &Contact,
        body: Body,
        files: Vec<Attachment>,
    ) -> Option<String> {
        let now = self.now();
        let conversation = self.conversations.get_mut(id)?;
        let reopens = conversation.state != State::Open;
        conversation.statistics.reopens += u32::from(reopens);
        conversation.statistics.last_contact_reply_at = Some(now);
        conversation.waiting_since = conversation.waiting_since.or(Some(now));
        conversation.read = false;
        self.set_state(id, State::Open, None);
        self.note_contact_wrote(&contact.id);
        let part_type = if reopens { "open" } else { "comment" };
        let part = NewPart::new(part_type, Author::Contact(contact.id.clone()), Some(body), Via::Api).with(files);
        let part = self.append_and_tell(id, part, "conversation.user.replied");
        self.plan_reopening(id);
        part
    }

    /// A teammate's part with a body: `comment`, `note` or `quick_reply`.
    pub(crate) fn admin_writes(&mut self, id: &str, part: NewPart) -> Option<String> {
        let topic = if part.part_type == "note" { "conversation.admin.noted" } else { "conversation.admin.replied" };
        if part.part_type != "note" {
            self.count_admin_reply(id);
        }
        self.append_and_tell(id, part, topic)
    }

    fn count_admin_reply(&mut self, id: &str) {
        let now = self.now();
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.waiting_since = None;
            conversation.read = true;
            conversation.statistics.first_admin_reply_at.get_or_insert(now);
            conversation.statistics.last_admin_reply_at = Some(now);
        }
    }

    pub(crate) fn bot_writes(&mut self, id: &str, body: Body) -> Option<String> {
        let part = NewPart::new("comment", Author::Bot, Some(body), Via::Inbox);
        self.append_and_tell(id, part, "conversation.operator.replied")
    }

    /// Closes; a ticket is resolved by it too.
    pub(crate) fn close(&mut self, id: &str, admin: &str, body: Option<Body>, via: Via) -> Option<String> {
        let part = self.append_close(id, admin, body, via)?;
        self.resolve_closed(id, admin, via);
        self.emit_conversation("conversation.admin.closed", id, Some(&part));
        Some(part)
    }

    /// Closes and leaves a ticket in its state.
    pub(crate) fn close_only(&mut self, id: &str, admin: &str, via: Via) -> Option<String> {
        let part = self.append_close(id, admin, None, via)?;
        self.emit_conversation("conversation.admin.closed", id, Some(&part));
        Some(part)
    }

    fn append_close(&mut self, id: &str, admin: &str, body: Option<Body>, via: Via) -> Option<String> {
        let now = self.now();
        self.set_state(id, State::Closed, None);
        let conversation = self.conversations.get_mut(id)?;
        conversation.waiting_since = None;
        conversation.statistics.first_close_at.get_or_insert(now);
        conversation.statistics.last_close_at = Some(now);
        conversation.statistics.last_closed_by = Some(admin.to_owned());
        let part = NewPart::new("close", Author::Admin(admin.to_owned()), body, via);
        self.append(id, part)
    }

    pub(crate) fn open(&mut self, id: &str, admin: &str, via: Via) -> Option<String> {
        self.conversations.get_mut(id)?.statistics.reopens += 1;
        self.set_state(id, State::Open, None);
        let part = NewPart::new("open", Author::Admin(admin.to_owned()), None, via);
        self.append_and_tell(id, part, "conversation.admin.opened")
    }

    /// `until` in Unix seconds.
    pub(crate) fn snooze(&mut self, id: &str, admin: &str, until: i64, via: Via) -> Option<String> {
        self.set_state(id, State::Snoozed, Some(until));
        let part = NewPart::new("snoozed", Author::Admin(admin.to_owned()), None, via);
        self.append_and_tell(id, part, "conversation.admin.snoozed")
    }

    pub(crate) fn unsnooze(&mut self, id: &str, admin: &str, via: Via) -> Option<String> {
        self.set_state(id, State::Open, None);
        let part = NewPart::new("unsnoozed", Author::Admin(admin.to_owned()), None, via);
        self.append_and_tell(id, part, "conversation.admin.unsnoozed")
    }

    /// With a body an assignment is an ordinary reply to the customer, and is told as one.
    pub(crate) fn assign(
        &mut self,
        id: &str,
        admin: &str,
        to: Assignee,
        body: Option<Body>,
        via: Via,
    ) -> Option<String> {
        let now = self.now();
        let conversation = self.conversations.get_mut(id)?;
        conversation.statistics.assignments += 1;
        conversation.statistics.last_assignment_at = Some(now);
        let assigned_to = match to {
            Assignee::Admin(0) | Assignee::Team(0) => json!({ "type": "nobody_admin", "id": null }),
            Assignee::Admin(id) => json!({ "type": "admin", "id": id.to_string() }),
            Assignee::Team(id) => json!({ "type": "team", "id": id.to_string() }),
        };
        match to {
            Assignee::Admin(id) => conversation.admin_assignee = id,
            Assignee::Team(id) => conversation.team_assignee = id,
        }
        let has_body = body.is_some();
        let part = NewPart { assigned_to, ..NewPart::new("assignment", Author::Admin(admin.to_owned()), body, via) };
        let part = self.append_and_tell(id, part, "conversation.admin.assigned")?;
        if has_body {
            self.count_admin_reply(id);
            self.emit_conversation("conversation.admin.replied", id, Some(&part));
        }
        Some(part)
    }

    /// Redacts a part, or the opening message when `message` is its id. False when there is no such message.
    pub(crate) fn redact(&mut self, id: &str, message: &str) -> bool {
        let (now, now_ms) = (self.now(), self.now_ms);
        let Some(conversation) = self.conversations.get_mut(id) else { return false };
        let part = conversation.parts.iter_mut().find(|part| part.id == message);
        let redacted_part = match part {
            Some(part) => {
                (part.body, part.redacted, part.updated_at) = (Some(Body::redacted()), true, now);
                part.attachments.clear();
                Some(message)
            }
            None if conversation.message_id == message => {
                (conversation.body, conversation.redacted) = (Body::redacted(), true);
                conversation.attachments.clear();
                None
            }
            None => return false,
        };
        conversation.touch(now_ms);
        self.emit_conversation("conversation_part.redacted", id, redacted_part);
        true
    }

    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let Some(conversation) = self.conversations.remove(id) else { return false };
        if self.is_talk(&conversation) {
            self.deleted.push((id.to_owned(), self.now()));
        }
        self.emit_deletion(&conversation);
        true
    }

    /// Attaches a tag; Intercom sends nothing of it, but `updated_at` moves.
    pub(crate) fn attach_tag(&mut self, id: &str, tag: &str, admin: &str) -> Option<AppliedTag> {
        let (at, now_ms) = (self.now(), self.now_ms);
        let conversation = self.conversations.get_mut(id)?;
        if let Some(known) = conversation.tags.iter().find(|applied| applied.id == tag) {
            return Some(known.clone());
        }
        let applied = AppliedTag { id: tag.to_owned(), at, by: admin.to_owned() };
        conversation.tags.push(applied.clone());
        conversation.touch(now_ms);
        Some(applied)
    }

    pub(crate) fn detach_tag(&mut self, id: &str, tag: &str) -> Option<AppliedTag> {
        let now_ms = self.now_ms;
        let conversation = self.conversations.get_mut(id)?;
        let at = conversation.tags.iter().position(|applied| applied.id == tag)?;
        let applied = conversation.tags.remove(at);
        conversation.touch(now_ms);
        Some(applied)
    }
}
