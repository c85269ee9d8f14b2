//! Conversations: start, read, update, redact, delete.

use serde_json::{Value, json};

use super::{Outcome, invalid, missing, not_found, replies};
use crate::exchange::{Answer, Request};
use crate::render::{self, Form, Parts};
use crate::world::{Author, Body, World};

/// The whole conversation in the form asked for.
pub(super) fn get(world: &World, id: &str, request: &Request) -> Outcome {
    let conversation = world.conversations.get(id).ok_or_else(|| not_found("Conversation not found"))?;
    let plain = request.query_value("display_as").as_deref() == Some("plaintext");
    Ok(render::conversation(world, conversation, if plain { Form::Plain } else { Form::Html }, &Parts::Recent))
}

/// Starts a conversation. The answer is a message, not a conversation.
pub(super) fn create(world: &mut World, request: &Request) -> Outcome {
    let from = request.field("from");
    if !["user", "lead", "contact"].contains(&from["type"].as_str().unwrap_or_default()) {
        return Err(invalid("from.type must be user, lead or contact"));
    }
    let text = request.text("body").ok_or_else(|| missing("body"))?;
    let contact = from["id"].as_str().and_then(|id| world.contacts.get(id));
    let contact = contact.filter(|c| c.merged_into.is_none() && !c.archived).map(|c| c.id.clone());
    let contact = contact.ok_or_else(|| not_found("User Not Found"))?;
    let attachments = replies::attachments(world, request, false)?;
    let id = world.start(&contact, Author::Contact(contact.clone()), Body::from_contact(text), attachments);
    let conversation = world.conversations.get(&id).ok_or_else(|| not_found("Conversation not found"))?;
    Ok(json!({
        "type": "user_message",
        "id": conversation.message_id,
        "created_at": conversation.created_at,
        "body": text,
        "message_type": "inapp",
        "conversation_id": id,
    }))
}

pub(super) fn update(world: &mut World, id: &str, request: &Request) -> Outcome {
    let attributes = request.field("custom_attributes").as_object().cloned().unwrap_or_default();
    if let Some(name) = world.unknown_attribute("conversation", &attributes) {
        return Err(invalid(format!("Conversation attribute '{name}' does not exist")));
    }
    let now_ms = world.now_ms;
    let conversation = world.conversations.get_mut(id).ok_or_else(|| not_found("Conversation not found"))?;
    if let Some(read) = request.field("read").as_bool() {
        conversation.read = read;
    }
    if let Some(title) = request.text("title") {
        conversation.title = Some(title.to_owned());
    }
    conversation.custom_attributes.extend(attributes);
    conversation.touch(now_ms);
    get(world, id, request)
}

pub(super) fn redact(world: &mut World, request: &Request) -> Outcome {
    let id = request.id("conversation_id").ok_or_else(|| missing("conversation_id"))?;
    let name = match request.text("type") {
        Some("conversation_part") => "conversation_part_id",
        Some("source") => "source_id",
        _ => return Err(invalid("type must be conversation_part or source")),
    };
    let message = request.id(name).ok_or_else(|| missing(name))?;
    if !world.redact(&id, &message) {
        let why = "Conversation part or message not found";
        return Err(Answer::refusal(404, "conversation_part_or_message_not_found", why));
    }
    get(world, &id, request)
}

pub(super) fn delete(world: &mut World, id: &str) -> Outcome {
    if world.delete(id) {
        Ok(json!({ "id": id, "object": "conversation", "deleted": true }))
    } else {
        Err(not_found("Conversation not found"))
    }
}

/// Deleted conversations, the latest first, by page number.
pub(super) fn deleted(world: &World, request: &Request) -> Outcome {
    let number = |name: &str, default: usize| request.query_value(name).map_or(Some(default), |text| text.parse().ok());
    let per_page =
        number("per_page", 20).filter(|n| (1..=60).contains(n)).ok_or_else(|| invalid("per_page is invalid"))?;
    let page = number("page", 1).filter(|n| *n > 0).ok_or_else(|| invalid("page is invalid"))?;
    let all = world.deleted.iter().rev().skip((page - 1).saturating_mul(per_page)).take(per_page);
    let one = |(id, at): &(String, i64)| json!({ "type": "conversation", "id": id, "metrics_retained": false, "deleted_at": at });
    let total_pages = world.deleted.len().div_ceil(per_page);
    Ok(json!({
        "type": "conversations.list",
        "conversations": all.map(one).collect::<Vec<Value>>(),
        "total_count": world.deleted.len(),
        "pages": { "type": "pages", "next": null, "page": page, "per_page": per_page, "total_pages": total_pages },
    }))
}
