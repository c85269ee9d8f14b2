//! What the operator does with tickets.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ADMIN_ID, Act, Operator};
use crate::world::{
    Category, Conversation, DESCRIPTION, Mover, NotMoved, Part, TITLE, Ticket, TicketState, TicketType, Via, World,
};

/// A ticket to be made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewTicket {
    /// Its type, by id or name; None is the first one for customers.
    pub ticket_type: Option<String>,
    /// What stands above it.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// Further attributes of the type, by name.
    pub attributes: Map<String, Value>,
    /// Who makes it: `admin` (also when None), `user`, `workflow` or `bot`.
    pub by: Option<String>,
}

pub(super) fn perform(world: &mut World, act: Act) -> Result<Value, String> {
    match act {
        Act::CreateTicket { contact, ticket } => {
            if !world.contacts.contains_key(&contact) {
                return Err("no such contact".to_owned());
            }
            let type_id = type_of(world, ticket.ticket_type.as_deref())?;
            let by = mover(ticket.by.as_deref(), Some(&contact))?;
            let attributes = attributes(world, type_id, ticket)?;
            let id = world.create_ticket(&contact, type_id, attributes, None, &by, Via::Inbox);
            Ok(json!({ "ticket": id }))
        }
        Act::ConvertToTicket { conversation, ticket } => {
            let known = world.conversations.get(&conversation).ok_or("no such conversation")?;
            let by = mover(ticket.by.as_deref(), known.contacts.first())?;
            let type_id = type_of(world, ticket.ticket_type.as_deref())?;
            if world.ticket_type(type_id).is_none_or(|of| of.category != Category::Customer) {
                return Err("no such type for customers".to_owned());
            }
            let attributes = attributes(world, type_id, ticket)?;
            let done = world.convert(&conversation, type_id, attributes, &by, Via::Inbox);
            if done { Ok(json!({ "ticket": conversation })) } else { Err("it is a ticket already".to_owned()) }
        }
        Act::MoveTicket { ticket, state, by } => {
            let known = world.conversations.get(&ticket).ok_or("no such ticket")?;
            let by = mover(by.as_deref(), known.contacts.first())?;
            let type_id = known.ticket.as_ref().map(|ticket| ticket.type_id).ok_or("no such ticket")?;
            let named = |of: &&TicketState| {
                of.id.to_string() == state || of.external_label == state || of.internal_label == state
            };
            let state = world.states_of(type_id).find(named).map(|of| of.id).ok_or("no such state")?;
            let part = world.move_ticket(&ticket, state, &by, Via::Inbox).map_err(|why| match why {
                NotMoved::NoSuchTicket => "no such ticket",
                NotMoved::WrongState => "no such state",
                NotMoved::SameState => "it is in that state already",
            })?;
            Ok(json!({ "part": part }))
        }
        Act::ShareTicket { ticket, shared } if world.share(&ticket, shared) => Ok(json!({ "ticket": ticket })),
        Act::SetTicketAttribute { ticket, name, value } => {
            let type_id = known(world, &ticket).map(|ticket| ticket.type_id).ok_or("no such ticket")?;
            require_attribute(world, type_id, &name)?;
            world.write_attributes(&ticket, &Map::from_iter([(name, value)]), ADMIN_ID, Via::Inbox);
            Ok(json!({ "ticket": ticket }))
        }
        _ => Err("no such ticket".to_owned()),
    }
}

fn known<'a>(world: &'a World, id: &str) -> Option<&'a Ticket> {
    world.conversations.get(id)?.ticket.as_ref()
}

fn type_of(world: &World, wanted: Option<&str>) -> Result<u64, String> {
    let fits = |of: &&TicketType| match wanted {
        None => of.category == Category::Customer,
        Some(wanted) => of.id.to_string() == wanted || of.name == wanted,
    };
    world.ticket_types.iter().find(fits).map(|of| of.id).ok_or_else(|| "no such ticket type".to_owned())
}

fn attributes(world: &World, type_id: u64, ticket: NewTicket) -> Result<Map<String, Value>, String> {
    let mut all = ticket.attributes;
    for (name, text) in [(TITLE, ticket.title), (DESCRIPTION, ticket.description)] {
        if !text.is_empty() {
            all.insert(name.to_owned(), json!(text));
        }
    }
    all.keys().try_for_each(|name| require_attribute(world, type_id, name))?;
    Ok(all)
}

fn require_attribute(world: &World, type_id: u64, name: &str) -> Result<(), String> {
    let known = world.ticket_type(type_id).and_then(|of| of.attribute(name));
    known.map(|_| ()).ok_or_else(|| "no such attribute".to_owned())
}

fn mover(by: Option<&str>, contact: Option<&String>) -> Result<Mover, String> {
    match by.unwrap_or("admin") {
        "admin" => Ok(Mover::Admin(ADMIN_ID.to_owned())),
        "user" => contact.cloned().map(Mover::Contact).ok_or_else(|| "it has no contact".to_owned()),
        "workflow" => Ok(Mover::Workflow),
        "bot" => Ok(Mover::Bot),
        _ => Err("by must be admin, user, workflow or bot".to_owned()),
    }
}

/// A ticket as the page shows it: no more than what stands in its head.
pub(super) fn overview(world: &World, ticket: &Ticket) -> Value {
    let of = world.ticket_type(ticket.type_id);
    let state = world.ticket_state(ticket.state_id);
    let choice = |state: &TicketState| json!({ "id": state.id.to_string(), "label": state.internal_label, "shown": state.external_label });
    json!({
        "number": ticket.number,
        "title": ticket.text(TITLE),
        "description": ticket.text(DESCRIPTION),
        "type": of.map(|of| of.name),
        "category": of.map(|of| of.category.name()),
        "shared": ticket.shared,
        "state": ticket.state_id.to_string(),
        "state_label": state.map(|state| state.external_label),
        "stage": state.map(|state| state.stage.name()),
        "states": world.states_of(ticket.type_id).map(choice).collect::<Vec<Value>>(),
    })
}

/// From which state to which each part moved a ticket, as a sentence, by the part's id.
pub(crate) fn moves(conversation: &Conversation) -> Value {
    let moved = |part: &Part| {
        let (from, to) = part.ticket_state?;
        let what = if from == to { to.name().to_owned() } else { format!("{} → {}", from.name(), to.name()) };
        Some((part.id.clone(), json!(what)))
    };
    Value::Object(conversation.parts.iter().filter_map(moved).collect())
}

/// Tickets. A ticket is replied to, noted on, tagged, assigned and closed as a conversation is, by the same id.
impl Operator {
    /// Makes a ticket for a contact. Returns its id.
    pub async fn creates_ticket(&self, contact: &str, ticket: NewTicket) -> String {
        self.act(Act::CreateTicket { contact: contact.into(), ticket }).await
    }

    /// Makes a Customer ticket of a conversation. Returns its id, which is the conversation's.
    pub async fn converts(&self, conversation: &str, ticket: NewTicket) -> String {
        self.act(Act::ConvertToTicket { conversation: conversation.into(), ticket }).await
    }

    /// Moves a ticket to a state, named by its id or one of its labels. Returns the part's id.
    pub async fn moves_ticket(&self, ticket: &str, state: &str) -> String {
        self.moves_ticket_as("admin", ticket, state).await
    }

    /// Moves a ticket, done by `admin`, `user`, `workflow` or `bot`. Returns the part's id.
    pub async fn moves_ticket_as(&self, by: &str, ticket: &str, state: &str) -> String {
        let (ticket, state, by) = (ticket.to_owned(), state.to_owned(), Some(by.to_owned()));
        self.act(Act::MoveTicket { ticket, state, by }).await
    }

    /// Shares a back-office or tracker ticket with its contact, or takes it back. Intercom sends nothing of it.
    pub async fn shares_ticket(&self, ticket: &str, shared: bool) {
        self.act(Act::ShareTicket { ticket: ticket.into(), shared }).await;
    }

    /// Writes an attribute of a ticket, by its name.
    pub async fn sets_ticket_attribute(&self, ticket: &str, name: &str, value: Value) {
        self.act(Act::SetTicketAttribute { ticket: ticket.into(), name: name.into(), value }).await;
    }
}
