//! What happens to tickets, and which notifications Intercom sends of it.

use serde_json::{Map, Value, json};

use super::ticket::{Category, Mover, Stage, TITLE, Ticket};
use super::{Author, Body, FIRST_TICKET, NewPart, Via, World};
use crate::render;

/// Tickets' notifications come in three shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The ticket itself.
    Bare,
    /// `ticket_ticket_part`: the ticket and the part, and no id of its own.
    WithPart,
    /// The ticket below `ticket`.
    Nested,
}

/// A teammate's change of a ticket is refused: why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMoved {
    NoSuchTicket,
    /// The state is unknown, out of use, or another type's.
    WrongState,
    SameState,
}

impl World {
    /// A ticket from nothing: its conversation has an empty opening message. `created_at` in Unix seconds; None: now. `type_id` and `contact` must be known.
    pub(crate) fn create_ticket(
        &mut self,
        contact: &str,
        type_id: u64,
        attributes: Map<String, Value>,
        created_at: Option<i64>,
        by: &Mover,
        via: Via,
    ) -> String {
        let empty = Body { html: String::new(), text: String::new() };
        let id = self.new_conversation(contact, by.author(), empty, Vec::new());
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.created_at = created_at.unwrap_or(conversation.created_at);
        }
        self.become_ticket(&id, type_id, attributes, by, via);
        self.emit_conversation("conversation.admin.single.created", &id, None);
        id
    }

    /// Makes a ticket of a conversation. False when there is none, or it is one already.
    pub(crate) fn convert(
        &mut self,
        id: &str,
        type_id: u64,
        attributes: Map<String, Value>,
        by: &Mover,
        via: Via,
    ) -> bool {
        let plain = self.conversations.get(id).is_some_and(|conversation| conversation.ticket.is_none());
        if plain {
            self.become_ticket(id, type_id, attributes, by, via);
        }
        plain
    }

    /// The first entry of every timeline says `submitted` twice.
    fn become_ticket(&mut self, id: &str, type_id: u64, attributes: Map<String, Value>, by: &Mover, via: Via) {
        let number = self.next_id(FIRST_TICKET);
        let Some(state_id) = self.first_state(type_id, Stage::Submitted) else { return };
        let shared = self.ticket_type(type_id).is_some_and(|of| of.category == Category::Customer);
        if let Some(conversation) = self.conversations.get_mut(id) {
            let ticket =
                Ticket { number, type_id, state_id, previous_state_id: None, attributes, shared, reopens_at_ms: None };
            conversation.ticket = Some(ticket);
        }
        let submitted = Some((Stage::Submitted, Stage::Submitted));
        self.append(id, NewPart { ticket_state: submitted, ..NewPart::new(by.part_type(), by.author(), None, via) });
        self.emit_ticket("ticket.created", id, None, Shape::Bare);
        self.emit_ticket("ticket.state.updated", id, None, Shape::Bare);
    }

    /// Whether the ticket can be moved there.
    pub(crate) fn check_move(&self, id: &str, state_id: u64) -> Result<(), NotMoved> {
        let ticket = self.conversations.get(id).and_then(|conversation| conversation.ticket.as_ref());
        let ticket = ticket.ok_or(NotMoved::NoSuchTicket)?;
        if !self.states_of(ticket.type_id).any(|state| state.id == state_id) {
            return Err(NotMoved::WrongState);
        }
        if ticket.state_id == state_id { Err(NotMoved::SameState) } else { Ok(()) }
    }

    /// Moves a ticket to another state. Returns the part's id.
    pub(crate) fn move_ticket(&mut self, id: &str, state_id: u64, by: &Mover, via: Via) -> Result<String, NotMoved> {
        self.check_move(id, state_id)?;
        let after = self.ticket_state(state_id).map_or(Stage::Submitted, |state| state.stage);
        let ticket = self.conversations.get(id).and_then(|conversation| conversation.ticket.as_ref());
        let before = ticket.map(|ticket| self.stage(ticket)).ok_or(NotMoved::NoSuchTicket)?;
        if let Some(ticket) = self.conversations.get_mut(id).and_then(|conversation| conversation.ticket.as_mut()) {
            ticket.previous_state_id = Some(ticket.state_id);
            ticket.state_id = state_id;
        }
        let part =
            NewPart { ticket_state: Some((before, after)), ..NewPart::new(by.part_type(), by.author(), None, via) };
        let part = self.append(id, part).ok_or(NotMoved::NoSuchTicket)?;
        self.emit_ticket("ticket.state.updated", id, None, Shape::Bare);
        if after == Stage::Resolved && before != Stage::Resolved {
            let topic = if self.tickets_before_2_15 { "ticket.closed" } else { "ticket.resolved" };
            self.emit_ticket(topic, id, None, Shape::Bare);
        }
        Ok(part)
    }

    /// Closing a ticket in the inbox resolves it too, as seen. Nothing happens to what is no ticket, or resolved.
    pub(super) fn resolve_closed(&mut self, id: &str, admin: &str, via: Via) {
        let ticket = self.conversations.get(id).and_then(|conversation| conversation.ticket.as_ref());
        let unresolved = ticket.filter(|ticket| self.stage(ticket) != Stage::Resolved);
        if let Some(state) = unresolved.and_then(|ticket| self.first_state(ticket.type_id, Stage::Resolved)) {
            self.move_ticket(id, state, &Mover::Admin(admin.to_owned()), via).ok();
        }
    }

    /// Writes attributes, one part and one notification for each that changes. Their names must be known.
    pub(crate) fn write_attributes(&mut self, id: &str, given: &Map<String, Value>, admin: &str, via: Via) {
        for (name, value) in given {
            let Some(ticket) = self.conversations.get_mut(id).and_then(|conversation| conversation.ticket.as_mut())
            else {
                return;
            };
            let before = ticket.attributes.insert(name.clone(), value.clone()).unwrap_or_default();
            let type_id = ticket.type_id;
            if before == *value {
                continue;
            }
            let attribute_id = self.ticket_type(type_id).and_then(|of| of.attribute(name)).map_or(0, |known| known.id);
            let part_type = if name == TITLE { "title_changed" } else { "ticket_attribute_updated_by_admin" };
            let updated_attribute = (name != TITLE).then(|| {
                json!({
                    "attribute": { "type": "attribute", "id": attribute_id.to_string(), "label": name },
                    "value": { "type": "value", "id": as_text(value), "label": as_text(value), "previous": as_text(&before) },
                })
            });
            let part = NewPart::new(part_type, Author::Admin(admin.to_owned()), None, via);
            let part = self.append(id, NewPart { updated_attribute, ..part });
            self.emit_ticket("ticket.attribute.updated", id, part.as_deref(), Shape::WithPart);
        }
    }

    /// Shows a back-office or tracker ticket to its contact, or hides it. False when there is no such ticket.
    pub(crate) fn share(&mut self, id: &str, shared: bool) -> bool {
        let now_ms = self.now_ms;
        let Some(conversation) = self.conversations.get_mut(id) else { return false };
        let Some(ticket) = conversation.ticket.as_mut() else { return false };
        ticket.shared = shared;
        conversation.touch(now_ms);
        true
    }

    /// After a contact's reply the bot takes up again what was resolved, or waited for that reply.
    pub(super) fn plan_reopening(&mut self, id: &str) {
        let Some(after_ms) = self.reopen_after_ms else { return };
        let due_ms = self.now_ms + after_ms;
        let ticket = self.conversations.get(id).and_then(|conversation| conversation.ticket.as_ref());
        let rests = ticket.is_some_and(|ticket| self.rests(ticket) && ticket.reopens_at_ms.is_none());
        if rests && let Some(ticket) = self.conversations.get_mut(id).and_then(|c| c.ticket.as_mut()) {
            ticket.reopens_at_ms = Some(due_ms);
            self.reopenings.push((id.to_owned(), after_ms));
        }
    }

    fn rests(&self, ticket: &Ticket) -> bool {
        matches!(self.stage(ticket), Stage::Resolved | Stage::WaitingOnCustomer)
    }

    /// What was planned is done, unless somebody was faster.
    pub(crate) fn reopen_as_planned(&mut self, id: &str) {
        let Some(ticket) = self.conversations.get_mut(id).and_then(|conversation| conversation.ticket.as_mut()) else {
            return;
        };
        if ticket.reopens_at_ms.take().is_none() {
            return;
        }
        let ticket = ticket.clone();
        let state = self.first_state(ticket.type_id, Stage::InProgress).filter(|_| self.rests(&ticket));
        if let Some(state) = state {
            self.move_ticket(id, state, &Mover::Bot, Via::Inbox).ok();
        }
    }

    /// The ids of the tickets the bot still means to reopen.
    pub(crate) fn planned_reopenings(&self) -> Vec<String> {
        let planned = |conversation: &&super::Conversation| {
            conversation.ticket.as_ref().is_some_and(|ticket| ticket.reopens_at_ms.is_some())
        };
        self.conversations.values().filter(planned).map(|conversation| conversation.id.clone()).collect()
    }

    /// What a ticket's notification says of a change that a conversation's says with `topic`. Some have no counterpart.
    pub(super) fn emit_as_ticket(&mut self, topic: &str, id: &str, part: Option<&str>) {
        let (topic, shape) = match topic {
            "conversation.user.replied" => ("ticket.contact.replied", Shape::WithPart),
            "conversation.admin.replied" => ("ticket.admin.replied", Shape::WithPart),
            "conversation.admin.noted" => ("ticket.note.created", Shape::WithPart),
            "conversation.admin.assigned" if self.assigns_team(id, part) => ("ticket.team.assigned", Shape::WithPart),
            "conversation.admin.assigned" => ("ticket.admin.assigned", Shape::WithPart),
            "conversation.admin.snoozed" => ("ticket.admin.snoozed", Shape::WithPart),
            "conversation.admin.unsnoozed" => ("ticket.admin.unsnoozed", Shape::WithPart),
            // Before 2.15 this topic came with the state `resolved`, not with the closing.
            "conversation.admin.closed" if !self.tickets_before_2_15 => ("ticket.closed", Shape::Nested),
            _ => return,
        };
        self.emit_ticket(topic, id, part, shape);
    }

    fn assigns_team(&self, id: &str, part: Option<&str>) -> bool {
        let parts = self.conversations.get(id).map(|conversation| conversation.parts.as_slice()).unwrap_or_default();
        parts.iter().any(|known| Some(known.id.as_str()) == part && known.assigned_to["type"] == "team")
    }

    fn emit_ticket(&mut self, topic: &str, id: &str, part: Option<&str>, shape: Shape) {
        let Some(conversation) = self.conversations.get(id) else { return };
        let Some(mut ticket) = render::ticket_in_webhook(self, conversation, shape != Shape::WithPart) else { return };
        if topic == "ticket.closed" {
            // Seen without `type` and `external_id` here, and only here.
            ticket["contacts"]["contacts"] = render::contact_roles(self, conversation);
        }
        let item = match shape {
            Shape::Bare => ticket,
            Shape::Nested => json!({ "ticket": ticket }),
            Shape::WithPart => {
                let part = conversation.parts.iter().rev().find(|known| Some(known.id.as_str()) == part);
                let part = part.map(|part| render::ticket_part(self, part));
                json!({ "type": "ticket_ticket_part", "ticket": ticket, "ticket_part": part })
            }
        };
        self.emit(topic, id, item);
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
