//! Tickets: create, read, move, reply, convert; their types and states.

use serde_json::{Map, Value, json};

use super::{Outcome, invalid, missing, not_found, replies};
use crate::exchange::{Answer, Request};
use crate::render;
use crate::world::{Assignee, Category, Contact, Details, Mover, NotMoved, State, TicketType, Via, World};

pub(super) fn get(world: &World, id: &str) -> Outcome {
    let found = world.conversations.get(id).and_then(|conversation| render::ticket(world, conversation));
    found.ok_or_else(not_a_ticket)
}

pub(super) fn delete(world: &mut World, id: &str) -> Outcome {
    if world.delete(id) { Ok(json!({ "id": id, "object": "ticket", "deleted": true })) } else { Err(not_a_ticket()) }
}

pub(super) fn states(world: &World) -> Outcome {
    let data: Vec<Value> =
        world.ticket_states.iter().map(|state| render::ticket_state_detailed(world, state)).collect();
    Ok(json!({ "type": "list", "data": data }))
}

pub(super) fn types(world: &World) -> Outcome {
    let data: Vec<Value> = world.ticket_types.iter().map(|of| render::ticket_type_detailed(world, of)).collect();
    Ok(json!({ "type": "list", "data": data }))
}

pub(super) fn one_type(world: &World, id: &str) -> Outcome {
    let of = id.parse().ok().and_then(|id| world.ticket_type(id));
    of.map(|of| render::ticket_type_detailed(world, of)).ok_or_else(|| not_found("Resource Not Found"))
}

/// Creates a ticket for one contact, in the name of the token's owner.
pub(super) fn create(world: &mut World, request: &Request) -> Outcome {
    let of = wanted_type(world, request)?;
    let (type_id, category) = (of.id, of.category);
    let attributes = attributes_of(of, request, "ticket_attributes")?;
    if category == Category::Customer && request.id("conversation_to_link_id").is_some() {
        return Err(invalid("A conversation cannot be linked to a customer ticket"));
    }
    let created_at = match request.field("created_at") {
        Value::Null => None,
        given => Some(given.as_i64().filter(|at| *at <= world.now()).ok_or_else(|| invalid("created_at is invalid"))?),
    };
    let assignment = &request.field("assignment");
    let admin = assignee_number(&assignment["admin_assignee_id"])?;
    let team = assignee_number(&assignment["team_assignee_id"])?;
    if admin != 0 && world.admin(&admin.to_string()).is_none() {
        return Err(assignee_not_found());
    }
    // The last that can be refused, as it may make a contact.
    let contact = only_contact(world, request)?;
    let owner = owner(world);
    let id = world.create_ticket(&contact, type_id, attributes, created_at, &Mover::Admin(owner.clone()), Via::Api);
    for to in [Assignee::Team(team), Assignee::Admin(admin)] {
        if to != Assignee::Admin(0) && to != Assignee::Team(0) {
            world.assign(&id, &owner, to, None, Via::Api);
        }
    }
    get(world, &id)
}

pub(super) fn convert(world: &mut World, id: &str, request: &Request) -> Outcome {
    let conversation = world.conversations.get(id).ok_or_else(|| not_found("Conversation not found"))?;
    if conversation.ticket.is_some() {
        return Err(invalid("Conversation is already a ticket"));
    }
    let of = wanted_type(world, request)?;
    if of.category != Category::Customer {
        return Err(invalid("Ticket type is not a customer ticket type"));
    }
    let type_id = of.id;
    let attributes = attributes_of(of, request, "attributes")?;
    let state = match request.id("ticket_state_id") {
        None => None,
        Some(wanted) => {
            let known = world.states_of(type_id).find(|state| state.id.to_string() == wanted).map(|state| state.id);
            Some(known.ok_or_else(wrong_state)?)
        }
    };
    let by = Mover::Admin(owner(world));
    world.convert(id, type_id, attributes, &by, Via::Api);
    if let Some(state) = state {
        // Already in that state is as good.
        world.move_ticket(id, state, &by, Via::Api).ok();
    }
    get(world, id)
}

/// Everything is looked at before anything is changed: a refused request changes nothing.
pub(super) fn update(world: &mut World, id: &str, request: &Request) -> Outcome {
    let conversation = world.conversations.get(id).ok_or_else(not_a_ticket)?;
    let ticket = conversation.ticket.as_ref().ok_or_else(not_a_ticket)?;
    let of = world.ticket_type(ticket.type_id).ok_or_else(not_a_ticket)?;
    let attributes = attributes_of(of, request, "ticket_attributes")?;
    let admin = request.id("admin_id").unwrap_or_else(|| owner(world));
    if world.admin(&admin).is_none() {
        return Err(assignee_not_found());
    }
    let assignee = match request.id("assignee_id").map(|id| id.parse::<u64>()) {
        None => None,
        Some(Ok(number)) if number == 0 || world.admin(&number.to_string()).is_some() => Some(number),
        Some(_) => return Err(assignee_not_found()),
    };
    let state = match request.id("ticket_state_id") {
        None => None,
        Some(wanted) => {
            let state = wanted.parse().map_err(|_| wrong_state())?;
            world.check_move(id, state).map_err(refusal_of)?;
            Some(state)
        }
    };
    let until = request.field("snoozed_until").as_i64();
    if until.is_some_and(|until| until <= world.now()) {
        return Err(invalid("snoozed_until must be in the future"));
    }
    let open = request.field("open").as_bool().filter(|open| *open == (conversation.state == State::Closed));

    world.write_attributes(id, &attributes, &admin, Via::Api);
    if let Some(shared) = request.field("is_shared").as_bool() {
        world.share(id, shared);
    }
    if let Some(number) = assignee {
        world.assign(id, &admin, Assignee::Admin(number), None, Via::Api);
    }
    match open {
        Some(true) => drop(world.open(id, &admin, Via::Api)),
        Some(false) => drop(world.close_only(id, &admin, Via::Api)),
        None => {}
    }
    if let Some(until) = until {
        world.snooze(id, &admin, until, Via::Api);
    }
    if let Some(state) = state {
        world.move_ticket(id, state, &Mover::Admin(admin), Via::Api).map_err(refusal_of)?;
    }
    get(world, id)
}

/// A reply; the answer is the new part, and its type what was asked for: it knows no `open`, as a conversation's does.
pub(super) fn reply(world: &mut World, id: &str, request: &Request) -> Outcome {
    let of_customer = world.conversations.get(id).is_some_and(|conversation| world.is_talk(conversation));
    let part = match request.text("type") {
        Some("user") if !of_customer => {
            return Err(mismatch("User replies are not allowed on Backoffice tickets"));
        }
        Some("user") => reply_as_contact(world, id, request)?,
        Some("admin") if !of_customer && request.text("message_type") != Some("note") => {
            return Err(mismatch("Only notes are allowed on Backoffice and Tracker tickets"));
        }
        Some("admin") => replies::write_as_admin(world, id, request)?,
        _ => return Err(invalid("type must be user or admin")),
    };
    let conversation = world.conversations.get(id).ok_or_else(not_a_ticket)?;
    let part = conversation.parts.iter().rev().find(|known| known.id == part).ok_or_else(not_a_ticket)?;
    let mut json = render::ticket_part(world, part);
    json["part_type"] = request.field("message_type").clone();
    Ok(json)
}

fn reply_as_contact(world: &mut World, id: &str, request: &Request) -> Result<String, Answer> {
    // No files in the request here, unlike in conversations.
    replies::write_as_contact(world, id, request, false)
}

fn wanted_type<'a>(world: &'a World, request: &Request) -> Result<&'a TicketType, Answer> {
    let id = request.id("ticket_type_id").ok_or_else(|| missing("ticket_type_id"))?;
    let of = id.parse().ok().and_then(|id| world.ticket_type(id));
    of.ok_or_else(|| invalid("Ticket type not found"))
}

/// The attributes a request brings, all of which the type must have.
fn attributes_of(of: &TicketType, request: &Request, field: &str) -> Result<Map<String, Value>, Answer> {
    let given = request.field(field).as_object().cloned().unwrap_or_default();
    for (name, value) in &given {
        if of.attribute(name).is_none() {
            return Err(invalid(format!("Ticket attribute '{name}' does not exist on this ticket type")));
        }
        if value.is_object() {
            return Err(Answer::refusal(400, "type_mismatch", format!("Ticket attribute '{name}' must be flat")));
        }
    }
    Ok(given)
}

/// Exactly one contact, by exactly one name. An unknown e-mail makes a contact; everything else must be known.
fn only_contact(world: &mut World, request: &Request) -> Result<String, Answer> {
    let [named] = request.field("contacts").as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(invalid("contacts must hold exactly one contact"));
    };
    let text = |name: &str| named[name].as_str();
    let living = |contact: &&Contact| contact.merged_into.is_none() && !contact.archived;
    let found = match (text("id"), text("external_id"), text("email")) {
        (Some(id), None, None) => world.contacts.get(id).filter(living),
        (None, Some(external_id), None) => world.contact_by_external_id(external_id).filter(living),
        (None, None, Some(email)) => {
            let same = |contact: &&Contact| contact.details.email.as_deref() == Some(email) && living(contact);
            match world.contacts.values().find(same) {
                Some(contact) => Some(contact),
                None => {
                    let email = Some(email.to_owned());
                    let details = Details { role: "user".to_owned(), email, ..Details::default() };
                    return Ok(world.add_contact(details));
                }
            }
        }
        _ => return Err(invalid("Provide exactly one of id, external_id and email")),
    };
    found.map(|contact| contact.id.clone()).ok_or_else(|| not_found("User Not Found"))
}

fn assignee_number(given: &Value) -> Result<u64, Answer> {
    match given {
        Value::Null => Ok(0),
        Value::Number(number) => number.as_u64().ok_or_else(assignee_not_found),
        other => other.as_str().and_then(|text| text.parse().ok()).ok_or_else(assignee_not_found),
    }
}

/// The teammate whose token it is.
fn owner(world: &World) -> String {
    world.admins.first().map(|admin| admin.id.clone()).unwrap_or_default()
}

fn refusal_of(why: NotMoved) -> Answer {
    match why {
        NotMoved::NoSuchTicket => not_a_ticket(),
        NotMoved::WrongState => wrong_state(),
        NotMoved::SameState => invalid("Cannot transition ticket to the same state"),
    }
}

fn wrong_state() -> Answer {
    let message = "Ticket state id is not valid or is not associated with the ticket type";
    Answer::refusal(400, "ticket_state_id_invalid", message)
}

fn mismatch(message: &str) -> Answer {
    Answer::refusal(400, "parameter_mismatch", message)
}

fn assignee_not_found() -> Answer {
    Answer::refusal(404, "assignee_not_found", "Assignee not found")
}

pub(super) fn not_a_ticket() -> Answer {
    Answer::refusal(404, "ticket_not_found", "Ticket not found")
}
