//! Tickets as Intercom writes them. What is null is left out of their parts, as seen.

use serde_json::{Map, Value, json};

use super::{APP_PACKAGE_CODE, MAX_PARTS, attachments, author, contact_references};
use crate::world::{
    Conversation, DESCRIPTION, Part, Revision, State, TITLE, Ticket, TicketAttribute, TicketState, TicketType, World,
};

/// When all types were set up, in Unix seconds.
const TYPES_MADE_AT: i64 = 1_767_066_651;

/// A ticket as of now. None when the conversation is none.
pub(crate) fn ticket(world: &World, conversation: &Conversation) -> Option<Value> {
    ticket_as_of(world, conversation, conversation.revision(world.now_ms))
}

/// A ticket as a search index knows it.
pub(crate) fn ticket_as_of(world: &World, conversation: &Conversation, seen: Revision) -> Option<Value> {
    let ticket = conversation.ticket.as_ref()?;
    let state = world.ticket_state(seen.ticket_state_id?)?;
    let of = world.ticket_type(ticket.type_id)?;
    let known = &conversation.parts[..seen.parts.min(conversation.parts.len())];
    let parts: Vec<Value> =
        known.iter().skip(known.len().saturating_sub(MAX_PARTS)).map(|part| ticket_part(world, part)).collect();
    let mut json = json!({
        "type": "ticket",
        "id": conversation.id,
        "ticket_id": ticket.number,
        "category": of.category.name(),
        "ticket_attributes": ticket_attributes(of, ticket),
        "ticket_state": ticket_state(state),
        "previous_ticket_state_id": ticket.previous_state_id.map(|id| id.to_string()),
        "ticket_type": ticket_type(world, of),
        "contacts": { "type": "contact.list", "contacts": contact_references(world, conversation) },
        "admin_assignee_id": conversation.admin_assignee,
        "team_assignee_id": conversation.team_assignee,
        "created_at": conversation.created_at,
        "updated_at": seen.updated_at,
        "open": seen.state != State::Closed,
        "linked_objects": { "type": "list", "data": [], "total_count": 0, "has_more": false },
        "ticket_parts": { "type": "ticket_part.list", "ticket_parts": parts, "total_count": known.len() },
        "is_shared": ticket.shared,
    });
    if let Some(until) = conversation.snoozed_until {
        json["snoozed_until"] = json!(until);
    }
    Some(json)
}

/// A ticket in a notification. By itself it names what it lacks; beside a part it does not.
pub(crate) fn ticket_in_webhook(world: &World, conversation: &Conversation, with_nulls: bool) -> Option<Value> {
    let mut json = ticket(world, conversation)?;
    json["channel"] = json!("messenger");
    if with_nulls {
        json["company_id"] = Value::Null;
        json["snoozed_until"] = json!(conversation.snoozed_until);
    }
    if world.tickets_before_2_15 {
        json["admin_assignee_id"] = json!(conversation.admin_assignee.to_string());
        json["team_assignee_id"] = json!(conversation.team_assignee.to_string());
        json.as_object_mut().map(|json| json.remove("previous_ticket_state_id"));
    }
    Some(json)
}

/// The `ticket` of a conversation: its id is a number here, and the state its category.
pub(crate) fn ticket_in_conversation(world: &World, conversation: &Conversation) -> Option<Value> {
    let ticket = conversation.ticket.as_ref()?;
    let state = world.ticket_state(ticket.state_id)?;
    let of = world.ticket_type(ticket.type_id)?;
    Some(json!({
        "type": "ticket",
        "id": conversation.id.parse::<u64>().ok(),
        "url": format!("https://app.intercom.com/a/apps/{}/conversations/{}", world.app_id, conversation.id),
        "title": ticket.text(TITLE),
        "description": ticket.text(DESCRIPTION),
        "custom_attributes": ticket_attributes(of, ticket),
        "state": state.stage.name(),
        "ticket_custom_state_admin_label": state.internal_label,
        "ticket_custom_state_user_label": state.external_label,
        "ticket_type": of.name,
    }))
}

pub(crate) fn ticket_part(world: &World, part: &Part) -> Value {
    let mut author = author(world, &part.author);
    if let Some("lead" | "contact") = author["type"].as_str() {
        author["type"] = json!("user");
    }
    let mut json = json!({
        "type": "ticket_part",
        "id": part.id,
        "part_type": part.part_type,
        "created_at": part.created_at,
        "updated_at": part.updated_at,
        "author": author,
        "attachments": attachments(world, &part.attachments),
        "redacted": part.redacted,
    });
    if let Some(body) = &part.body {
        json["body"] = json!(body.html);
    }
    if !part.assigned_to.is_null() {
        json["assigned_to"] = part.assigned_to.clone();
    }
    if let Some((from, to)) = part.ticket_state {
        json["ticket_state"] = json!(to.name());
        json["previous_ticket_state"] = json!(from.name());
    }
    if let Some(updated) = &part.updated_attribute {
        json["updated_attribute_data"] = updated.clone();
    }
    if part.by_api {
        json["app_package_code"] = json!(APP_PACKAGE_CODE);
    }
    json
}

/// Contacts in the one notification that has only their ids and roles.
pub(crate) fn contact_roles(world: &World, conversation: &Conversation) -> Value {
    let role = |id: &String| world.contacts.get(id).map(|contact| contact.details.role.clone());
    conversation.contacts.iter().map(|id| json!({ "id": id, "role": role(id) })).collect()
}

/// Every attribute of the type; null what is not set.
fn ticket_attributes(of: &TicketType, ticket: &Ticket) -> Map<String, Value> {
    let value = |name: &str| ticket.attributes.get(name).cloned().unwrap_or_default();
    of.attributes.iter().map(|attribute| (attribute.name.to_owned(), value(attribute.name))).collect()
}

pub(crate) fn ticket_state(state: &TicketState) -> Value {
    json!({
        "type": "ticket_state", "id": state.id.to_string(), "category": state.stage.name(),
        "internal_label": state.internal_label, "external_label": state.external_label,
    })
}

/// With the types that have it, as in the list of all states.
pub(crate) fn ticket_state_detailed(world: &World, state: &TicketState) -> Value {
    let has = |of: &&TicketType| of.states.contains(&state.id);
    let brief = |of: &TicketType| {
        json!({
            "type": "ticket_type", "id": of.id.to_string(), "name": of.name, "description": of.description,
            "icon": of.icon, "archived": false, "is_internal": false, "category": of.category.name(),
        })
    };
    let types: Vec<Value> = world.ticket_types.iter().filter(has).map(brief).collect();
    let mut json = ticket_state(state);
    json["archived"] = json!(state.archived);
    json["ticket_types"] = json!({ "type": "list", "data": types });
    json
}

fn ticket_type(world: &World, of: &TicketType) -> Value {
    let attribute = |(order, attribute): (usize, &TicketAttribute)| {
        json!({
            "type": "ticket_type_attribute", "id": attribute.id.to_string(), "workspace_id": world.app_id,
            "name": attribute.name, "description": "", "data_type": attribute.data_type,
            "input_options": { "multiline": attribute.name == DESCRIPTION }, "order": order,
            "required_to_create": false, "required_to_create_for_contacts": false, "visible_on_create": true,
            "visible_to_contacts": attribute.visible_to_contacts, "default": order < 2, "ticket_type_id": of.id,
            "archived": false, "created_at": TYPES_MADE_AT, "updated_at": TYPES_MADE_AT,
        })
    };
    json!({
        "type": "ticket_type", "id": of.id.to_string(), "name": of.name, "description": of.description,
        "icon": of.icon, "workspace_id": world.app_id, "archived": false, "created_at": TYPES_MADE_AT,
        "updated_at": TYPES_MADE_AT, "is_internal": false, "category": of.category.name(),
        "ticket_type_attributes": { "type": "list", "data": of.attributes.iter().enumerate().map(attribute).collect::<Vec<Value>>() },
    })
}

/// With its states, as in the list of all types.
pub(crate) fn ticket_type_detailed(world: &World, of: &TicketType) -> Value {
    let states: Vec<Value> = world.states_of(of.id).map(ticket_state).collect();
    let mut json = ticket_type(world, of);
    json["ticket_states"] = json!({ "type": "list", "data": states });
    json
}
