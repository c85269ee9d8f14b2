//! Intercom's REST API, version 2.16: which request means what.

mod attributes;
mod contacts;
mod conversations;
pub(crate) mod official;
mod people;
mod replies;
mod search;
mod tags;
mod ticket_search;
mod tickets;

use serde_json::Value;

use crate::exchange::{Answer, Request};
use crate::world::World;

/// What a handler comes to: the 200's body, or a refusal.
type Outcome = Result<Value, Answer>;

/// Does what the request asks, and answers it. The whole route table.
pub(crate) fn answer(world: &mut World, request: &Request, lag_ms: i64) -> Answer {
    if !request.raw.is_empty() && request.body.is_null() {
        return Answer::refusal(400, "bad_request", "The request body is not valid JSON");
    }
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Some(refusal) = other_kind(world, &segments) {
        return refusal;
    }
    let outcome = match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["me"]) => people::me(world),
        ("GET", ["admins"]) => people::list(world, request),
        ("GET", ["admins", id]) => people::admin(world, id),
        ("GET", ["teams"]) => people::teams(world),

        ("POST", ["contacts"]) => contacts::create(world, request),
        ("POST", ["contacts", "search"]) => search::contacts(world, request, lag_ms),
        ("POST", ["contacts", "merge"]) => contacts::merge(world, request),
        ("GET", ["contacts", "find_by_external_id", id]) => contacts::find(world, id),
        ("GET", ["contacts", id]) => contacts::get(world, id),
        ("PUT", ["contacts", id]) => contacts::update(world, id, request),
        ("DELETE", ["contacts", id]) => contacts::delete(world, id),
        ("POST", ["contacts", id, "archive"]) => contacts::set_archived(world, id, true),
        ("POST", ["contacts", id, "unarchive"]) => contacts::set_archived(world, id, false),

        ("POST", ["conversations"]) => conversations::create(world, request),
        ("POST", ["conversations", "search"]) => search::conversations(world, request, lag_ms),
        ("POST", ["conversations", "redact"]) => conversations::redact(world, request),
        ("GET", ["conversations", "deleted"]) => conversations::deleted(world, request),
        ("GET", ["conversations", "attributes"]) => attributes::list(world, Some("conversation")),
        ("POST", ["conversations", "attributes"]) => attributes::create_for_conversations(world, request),
        ("GET", ["conversations", id]) => conversations::get(world, id, request),
        ("PUT", ["conversations", id]) => conversations::update(world, id, request),
        ("DELETE", ["conversations", id]) => conversations::delete(world, id),
        ("POST", ["conversations", id, "reply"]) => replies::reply(world, id, request),
        ("POST", ["conversations", id, "parts"]) => replies::manage(world, id, request),
        ("POST", ["conversations", id, "tags"]) => tags::attach(world, id, request),
        ("DELETE", ["conversations", id, "tags", tag]) => tags::detach(world, id, tag, request),

        ("POST", ["conversations", id, "convert"]) => tickets::convert(world, id, request),

        ("POST", ["tickets"]) => tickets::create(world, request),
        ("POST", ["tickets", "search"]) => ticket_search::tickets(world, request, lag_ms),
        ("GET", ["tickets", id]) => tickets::get(world, id),
        ("PUT", ["tickets", id]) => tickets::update(world, id, request),
        ("DELETE", ["tickets", id]) => tickets::delete(world, id),
        ("POST", ["tickets", id, "reply"]) => tickets::reply(world, id, request),
        ("POST", ["tickets", id, "tags"]) => tags::attach(world, id, request),
        ("DELETE", ["tickets", id, "tags", tag]) => tags::detach(world, id, tag, request),
        ("GET", ["ticket_states"]) => tickets::states(world),
        ("GET", ["ticket_types"]) => tickets::types(world),
        ("GET", ["ticket_types", id]) => tickets::one_type(world, id),

        ("GET", ["tags"]) => tags::list(world),
        ("POST", ["tags"]) => tags::create(world, request),
        ("GET", ["tags", id]) => tags::get(world, id),
        ("GET", ["data_attributes"]) => attributes::list(world, request.query_value("model").as_deref()),
        ("POST", ["data_attributes"]) => attributes::create(world, request),
        _ => Err(not_found("Resource Not Found")),
    };
    outcome.map_or_else(|refusal| refusal, |body| Answer::json(200, &body))
}

/// A ticket's path with a conversation's id is not found, nor is a conversation's with the id of a ticket that is none. A Customer
/// ticket is both.
fn other_kind(world: &World, segments: &[&str]) -> Option<Answer> {
    let known = |id: &str| world.conversations.get(id);
    match segments {
        ["conversations", id, ..] => {
            known(id).filter(|found| !world.is_talk(found)).map(|_| not_found("Conversation not found"))
        }
        ["tickets", "search"] => None,
        ["tickets", id, rest @ ..] if known(id).is_none_or(|found| found.ticket.is_none()) => {
            Some(if rest == ["reply"] { not_found("Resource Not Found") } else { tickets::not_a_ticket() })
        }
        _ => None,
    }
}

fn not_found(message: &str) -> Answer {
    Answer::refusal(404, "not_found", message)
}

fn invalid(message: impl Into<String>) -> Answer {
    Answer::refusal(400, "parameter_invalid", message)
}

fn missing(name: &str) -> Answer {
    Answer::refusal(400, "parameter_not_found", format!("{name} is required"))
}

/// The teammate the request acts for.
fn acting_admin(world: &World, request: &Request) -> Result<String, Answer> {
    let id = request.id("admin_id").ok_or_else(|| missing("admin_id"))?;
    let known = world.admin(&id).is_some();
    if known { Ok(id) } else { Err(Answer::refusal(404, "admin_not_found", "Admin not found")) }
}
