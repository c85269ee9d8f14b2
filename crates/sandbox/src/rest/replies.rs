//! Replies, and what teammates do with a conversation: close, open, snooze, assign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::{Outcome, acting_admin, invalid, missing, not_found};
use crate::exchange::{Answer, Request};
use crate::render::{self, Form, Parts};
use crate::world::{Assignee, Attachment, Author, Body, Contact, Conversation, Download, NewPart, State, Via, World};

const MAX_ATTACHMENTS: usize = 10;

/// A reply; the answer holds only the new part.
pub(super) fn reply(world: &mut World, id: &str, request: &Request) -> Outcome {
    match request.text("type") {
        Some("user") => reply_as_contact(world, id, request),
        Some("admin") => reply_as_admin(world, id, request),
        _ => Err(invalid("type must be user or admin")),
    }
}

fn reply_as_contact(world: &mut World, id: &str, request: &Request) -> Outcome {
    let contact = replying_contact(world, request)?.clone();
    let id = conversation_of(world, id, &contact)?;
    let part = write_as_contact(world, &id, request, true)?;
    only(world, &id, &part)
}

/// Writes as the contact named, whose own the conversation must be. Returns the part's id.
pub(super) fn write_as_contact(
    world: &mut World,
    id: &str,
    request: &Request,
    files_allowed: bool,
) -> Result<String, Answer> {
    if request.text("message_type") != Some("comment") {
        return Err(invalid("message_type must be comment"));
    }
    let contact = replying_contact(world, request)?.clone();
    let id = conversation_of(world, id, &contact)?;
    // Only attachments is not enough: a body is required.
    let body = Body::from_contact(request.text("body").ok_or_else(|| missing("body"))?);
    let files = attachments(world, request, files_allowed)?;
    let part = world.contact_replies(&id, &contact, body, files);
    part.ok_or_else(|| not_found("Conversation not found"))
}

/// Exactly one identifier names the contact.
fn replying_contact<'a>(world: &'a World, request: &Request) -> Result<&'a Contact, Answer> {
    let given = [request.text("intercom_user_id"), request.text("user_id"), request.text("email")];
    let contact = match given {
        [Some(id), None, None] => world.contacts.get(id),
        [None, Some(external_id), None] => world.contact_by_external_id(external_id),
        [None, None, Some(email)] => world.contacts.values().find(|c| c.details.email.as_deref() == Some(email)),
        _ => return Err(invalid("Provide exactly one of intercom_user_id, user_id and email")),
    };
    contact.filter(|c| c.merged_into.is_none() && !c.archived).ok_or_else(|| not_found("User Not Found"))
}

/// The conversation meant, where `last` is the contact's latest. It must be the contact's own.
fn conversation_of(world: &World, id: &str, contact: &Contact) -> Result<String, Answer> {
    let own = |conversation: &&Conversation| conversation.contacts.contains(&contact.id);
    let found = match id {
        "last" => world
            .conversations
            .values()
            .filter(own)
            .filter(|c| world.is_talk(c))
            .max_by_key(|conversation| &conversation.id),
        id => world.conversations.get(id).filter(own),
    };
    found.map(|conversation| conversation.id.clone()).ok_or_else(|| not_found("Conversation not found"))
}

fn reply_as_admin(world: &mut World, id: &str, request: &Request) -> Outcome {
    let part = write_as_admin(world, id, request)?;
    only(world, id, &part)
}

/// Writes as a teammate. Returns the part's id.
pub(super) fn write_as_admin(world: &mut World, id: &str, request: &Request) -> Result<String, Answer> {
    let admin = acting_admin(world, request)?;
    let part_type = match request.text("message_type") {
        Some(kind @ ("comment" | "note" | "quick_reply")) => kind,
        _ => return Err(invalid("message_type must be comment, note or quick_reply")),
    };
    let options: Vec<String> = request
        .field("reply_options")
        .as_array()
        .map(|options| options.iter().filter_map(|option| option["text"].as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let body = request.text("body").map(Body::from_teammate);
    let files = attachments(world, request, true)?;
    if body.is_none() && options.is_empty() && files.is_empty() {
        return Err(missing("body"));
    }
    let part = NewPart { options, ..NewPart::new(part_type, Author::Admin(admin), body, Via::Api) }.with(files);
    world.admin_writes(id, part).ok_or_else(|| not_found("Conversation not found"))
}

/// Close, open, snooze or assign, for a teammate.
pub(super) fn manage(world: &mut World, id: &str, request: &Request) -> Outcome {
    let admin = acting_admin(world, request)?;
    if !world.conversations.contains_key(id) {
        return Err(not_found("Conversation not found"));
    }
    let body = request.text("body").map(Body::from_teammate);
    let done = match request.text("message_type") {
        Some("close") => world.close(id, &admin, body, Via::Api),
        Some("open") => world.open(id, &admin, Via::Api),
        Some("snoozed") => {
            let until = request.field("snoozed_until").as_i64().ok_or_else(|| missing("snoozed_until"))?;
            if until <= world.now() {
                return Err(invalid("snoozed_until must be in the future"));
            }
            world.snooze(id, &admin, until, Via::Api)
        }
        Some("assignment") => {
            let assignee = assignee(world, id, request)?;
            world.assign(id, &admin, assignee, body, Via::Api)
        }
        _ => return Err(invalid("message_type must be close, open, snoozed or assignment")),
    };
    let part = done.ok_or_else(|| not_found("Conversation not found"))?;
    only(world, id, &part)
}

fn assignee(world: &World, id: &str, request: &Request) -> Result<Assignee, Answer> {
    let wanted = request.id("assignee_id").ok_or_else(|| missing("assignee_id"))?;
    let number: u64 = wanted.parse().map_err(|_| invalid("assignee_id is invalid"))?;
    let conversation = world.conversations.get(id);
    let (to, now) = match request.text("type") {
        Some("team") => (Assignee::Team(number), conversation.map(|c| c.team_assignee)),
        Some("admin") if number == 0 || world.admin(&wanted).is_some() => {
            (Assignee::Admin(number), conversation.map(|c| c.admin_assignee))
        }
        Some("admin") => return Err(Answer::refusal(404, "assignee_not_found", "Assignee not found")),
        _ => return Err(invalid("type must be admin or team")),
    };
    let closed = conversation.is_some_and(|conversation| conversation.state == State::Closed);
    if now == Some(number) && !closed {
        return Err(Answer::refusal(422, "unprocessable_entity", "Conversation is already assigned to this assignee"));
    }
    Ok(to)
}

/// The conversation with only the new part, as every example of the description has it.
fn only(world: &World, id: &str, part: &str) -> Outcome {
    let conversation = world.conversations.get(id).ok_or_else(|| not_found("Conversation not found"))?;
    Ok(render::conversation(world, conversation, Form::Html, &Parts::These(vec![part])))
}

/// `attachment_urls`, which are fetched later, and `attachment_files` where they are allowed.
pub(super) fn attachments(
    world: &mut World,
    request: &Request,
    files_allowed: bool,
) -> Result<Vec<Attachment>, Answer> {
    let list = |name: &str| request.field(name).as_array().cloned().unwrap_or_default();
    let (urls, files) = (list("attachment_urls"), list("attachment_files"));
    if urls.len() > MAX_ATTACHMENTS || files.len() > MAX_ATTACHMENTS {
        return Err(invalid(format!("No more than {MAX_ATTACHMENTS} attachments are allowed")));
    }
    if !files.is_empty() && !files_allowed {
        return Err(invalid("attachment_files is not supported here"));
    }
    // Read everything before keeping anything: a refused request leaves nothing behind.
    let urls: Option<Vec<String>> = urls.iter().map(|url| url.as_str().map(str::to_owned)).collect();
    let files: Option<Vec<(String, String, Bytes)>> = files.iter().map(file).collect();
    let (Some(urls), Some(files)) = (urls, files) else { return Err(invalid("an attachment is invalid")) };
    let mut kept: Vec<Attachment> = Vec::new();
    for url in urls {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file");
        let name = crate::openapi::decode(name);
        let attachment = world.files.keep(&name, content_type(&name), Bytes::new());
        world.downloads.push(Download { file: attachment.file.clone(), url });
        kept.push(attachment);
    }
    kept.extend(files.into_iter().map(|(name, content_type, bytes)| world.files.keep(&name, &content_type, bytes)));
    Ok(kept)
}

fn file(json: &Value) -> Option<(String, String, Bytes)> {
    let bytes = STANDARD.decode(json["data"].as_str()?).ok()?;
    Some((json["name"].as_str()?.to_owned(), json["content_type"].as_str()?.to_owned(), bytes.into()))
}

/// Intercom's guess from the name.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("pdf") => "application/pdf",
        Some("txt") => "text/plain",
        Some("mp4") => "video/mp4",
        _ => "application/octet-stream",
    }
}
