//! What the stand-in remembers. Plain data, changed only under one lock; the time is set by whoever takes the lock.

mod acts;
mod contact;
mod conversation;
mod desk;
mod files;
mod text;
mod ticket;
mod ticket_acts;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub(crate) use acts::{Assignee, NewPart, Via};
pub(crate) use contact::{Contact, Details};
pub(crate) use conversation::{AppliedTag, Author, Conversation, Part, Revision, State, Statistics};
pub(crate) use files::{Attachment, Download, Files};
pub(crate) use text::Body;
pub(crate) use ticket::{Category, DESCRIPTION, Mover, Stage, TITLE, Ticket, TicketAttribute, TicketState, TicketType};
pub(crate) use ticket_acts::NotMoved;

/// First ids: as long as real ones, so that nobody keeps them in 32 bits.
const FIRST_CONVERSATION: u64 = 215_472_621_200_001;
const FIRST_PART: u64 = 37_358_200_001;
const FIRST_MESSAGE: u64 = 3_381_828_792;
const FIRST_TICKET: u64 = 66_040_342;
const FIRST_TAG: u64 = 7_522_907;
const FIRST_ATTRIBUTE: u64 = 34_001;

/// Everything there is: contacts, conversations and tickets, tags, attributes, files, and what is still to be told.
pub(crate) struct World {
    pub(crate) now_ms: i64,
    pub(crate) app_id: String,
    pub(crate) admins: Vec<Admin>,
    pub(crate) contacts: BTreeMap<String, Contact>,
    pub(crate) conversations: BTreeMap<String, Conversation>,
    /// (conversation, when in Unix seconds).
    pub(crate) deleted: Vec<(String, i64)>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) ticket_types: Vec<TicketType>,
    pub(crate) ticket_states: Vec<TicketState>,
    pub(crate) files: Files,
    pub(crate) search_lag_ms: i64,
    pub(crate) whole_day_dates: bool,
    pub(crate) tickets_as_conversations: bool,
    pub(crate) tickets_before_2_15: bool,
    /// How long after a contact's reply the bot takes up a resting ticket again; None: never.
    pub(crate) reopen_after_ms: Option<i64>,
    /// Notifications to send; the caller takes them before it gives the lock back, so that their order is the order of changes.
    pub(crate) events: Vec<Event>,
    pub(crate) downloads: Vec<Download>,
    /// Tickets to be reopened by the bot, and in how many milliseconds; the caller takes them too.
    pub(crate) reopenings: Vec<(String, i64)>,
    issued: u64,
}

/// A teammate.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) email: String,
}

/// A tag of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A custom attribute of contacts, companies or conversations.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) id: u64,
    pub(crate) model: String,
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) description: String,
    pub(crate) created_at: i64,
}

/// A notification to be sent.
pub(crate) struct Event {
    pub(crate) topic: String,
    /// Notifications with the same key are delivered in order: the conversation's id, or the contact's.
    pub(crate) key: String,
    pub(crate) item: Value,
}

impl World {
    pub(crate) fn new(settings: &crate::Settings, base_url: &str) -> Self {
        let admin = |id: &str, name: &str, email: &str| Admin { id: id.into(), name: name.into(), email: email.into() };
        Self {
            now_ms: 0,
            app_id: settings.app_id.clone(),
            admins: vec![
                admin(&settings.admin_id, "Support Service", "service@sandbox.example"),
                admin(crate::operator::ADMIN_ID, crate::operator::NAME, crate::operator::EMAIL),
            ],
            contacts: BTreeMap::new(),
            conversations: BTreeMap::new(),
            deleted: Vec::new(),
            tags: Vec::new(),
            attributes: Vec::new(),
            ticket_types: desk::types(),
            ticket_states: desk::states(),
            files: Files::new(base_url, &settings.client_secret, settings.attachment_urls_live_for),
            search_lag_ms: settings.search_lag_ms,
            whole_day_dates: settings.whole_day_dates,
            tickets_as_conversations: settings.tickets_as_conversations,
            tickets_before_2_15: settings.ticket_webhooks_before_2_15,
            reopen_after_ms: settings
                .ticket_reopens_after
                .map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            events: Vec::new(),
            downloads: Vec::new(),
            reopenings: Vec::new(),
            issued: 0,
        }
    }

    /// Now, in Unix seconds.
    pub(crate) fn now(&self) -> i64 {
        self.now_ms.div_euclid(1000)
    }

    /// Ids of every kind grow together, so that two kinds never run in step by chance.
    fn next_id(&mut self, first: u64) -> String {
        self.issued += 1;
        (first + self.issued).to_string()
    }

    pub(crate) fn admin(&self, id: &str) -> Option<&Admin> {
        self.admins.iter().find(|admin| admin.id == id)
    }

    pub(crate) fn tag(&self, id: &str) -> Option<&Tag> {
        self.tags.iter().find(|tag| tag.id == id)
    }

    /// Creates the tag, or finds the one of that name in whatever case.
    pub(crate) fn tag_named(&mut self, name: &str) -> Tag {
        let known = self.tags.iter().find(|tag| tag.name.to_lowercase() == name.to_lowercase());
        if let Some(tag) = known {
            return tag.clone();
        }
        let tag = Tag { id: self.next_id(FIRST_TAG), name: name.to_owned() };
        self.tags.push(tag.clone());
        tag
    }

    pub(crate) fn attribute(&self, model: &str, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.model == model && attribute.name == name)
    }

    pub(crate) fn define_attribute(
        &mut self,
        model: &str,
        name: &str,
        data_type: &str,
        description: &str,
    ) -> Attribute {
        if let Some(known) = self.attribute(model, name) {
            return known.clone();
        }
        self.issued += 1;
        let attribute = Attribute {
            id: FIRST_ATTRIBUTE + self.issued,
            model: model.to_owned(),
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            description: description.to_owned(),
            created_at: self.now(),
        };
        self.attributes.push(attribute.clone());
        attribute
    }

    /// The first of the given custom attributes that the workspace does not have.
    pub(crate) fn unknown_attribute<'a>(&self, model: &str, given: &'a Map<String, Value>) -> Option<&'a str> {
        given.keys().map(String::as_str).find(|name| self.attribute(model, name).is_none())
    }

    pub(crate) fn emit(&mut self, topic: &str, key: &str, item: Value) {
        self.events.push(Event { topic: topic.to_owned(), key: key.to_owned(), item });
    }

    /// Tells of a change of a conversation, with the part that made it. Bodies are plain text, as since 2.15. Of a ticket it tells
    /// in the ticket's way, and in this way only where the settings say so.
    pub(crate) fn emit_conversation(&mut self, topic: &str, id: &str, part: Option<&str>) {
        self.emit_as_ticket(topic, id, part);
        let Some(conversation) = self.conversations.get(id) else { return };
        if !self.tells_as_conversation(conversation) {
            return;
        }
        let parts = crate::render::Parts::These(part.into_iter().collect());
        let item = crate::render::conversation(self, conversation, crate::render::Form::Plain, &parts);
        self.emit(topic, id, item);
    }

    fn tells_as_conversation(&self, conversation: &Conversation) -> bool {
        conversation.ticket.is_none() || self.tickets_as_conversations && self.is_talk(conversation)
    }

    pub(crate) fn emit_contact(&mut self, topic: &str, id: &str, extra: Value) {
        let Some(contact) = self.contacts.get(id) else { return };
        let mut item = crate::render::contact_in_webhook(self, contact);
        if let (Some(item), Value::Object(extra)) = (item.as_object_mut(), extra) {
            item.extend(extra);
        }
        self.emit(topic, id, item);
    }

    pub(crate) fn emit_deletion(&mut self, conversation: &Conversation) {
        if !self.tells_as_conversation(conversation) {
            return;
        }
        let id = conversation.id.as_str();
        // No `id` here: Intercom calls it `conversation_id` in this one topic.
        self.emit("conversation.deleted", id, json!({ "type": "conversation", "conversation_id": id }));
    }
}
