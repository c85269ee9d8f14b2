//! Tags of the workspace, and on conversations.

use serde_json::{Value, json};

use super::{Outcome, acting_admin, missing, not_found};
use crate::exchange::{Answer, Request};
use crate::render;
use crate::world::{AppliedTag, World};

pub(super) fn list(world: &World) -> Outcome {
    Ok(json!({ "type": "list", "data": world.tags.iter().map(render::tag).collect::<Vec<Value>>() }))
}

/// Creates or finds by name, in whatever case; with an id it renames.
pub(super) fn create(world: &mut World, request: &Request) -> Outcome {
    let name = request.text("name").ok_or_else(|| missing("name"))?;
    if let Some(id) = request.id("id") {
        let tag = world.tags.iter_mut().find(|tag| tag.id == id).ok_or_else(|| tag_not_found(&id))?;
        tag.name = name.to_owned();
        return Ok(render::tag(tag));
    }
    Ok(render::tag(&world.tag_named(name)))
}

pub(super) fn get(world: &World, id: &str) -> Outcome {
    world.tag(id).map(render::tag).ok_or_else(|| tag_not_found(id))
}

pub(super) fn attach(world: &mut World, conversation: &str, request: &Request) -> Outcome {
    let id = request.id("id").ok_or_else(|| missing("id"))?;
    let admin = acting_admin(world, request)?;
    if world.tag(&id).is_none() {
        return Err(tag_not_found(&id));
    }
    let applied = world.attach_tag(conversation, &id, &admin).ok_or_else(|| not_found("Conversation not found"))?;
    Ok(with_application(world, &applied))
}

pub(super) fn detach(world: &mut World, conversation: &str, id: &str, request: &Request) -> Outcome {
    acting_admin(world, request)?;
    if !world.conversations.contains_key(conversation) {
        return Err(not_found("Conversation not found"));
    }
    let applied = world.detach_tag(conversation, id).ok_or_else(|| tag_not_found(id))?;
    Ok(with_application(world, &applied))
}

fn with_application(world: &World, applied: &AppliedTag) -> Value {
    let mut json = world.tag(&applied.id).map(render::tag).unwrap_or_default();
    json["applied_at"] = json!(applied.at);
    json["applied_by"] = json!({ "type": "admin", "id": applied.by });
    json
}

fn tag_not_found(id: &str) -> Answer {
    Answer::refusal(404, "tag_not_found", format!("Tag not found with id={id}"))
}
