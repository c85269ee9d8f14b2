//! The world as Intercom writes it: JSON for REST answers and for webhooks.

mod ticket;

use serde_json::{Map, Value, json};

pub(crate) use ticket::{
    contact_roles, ticket, ticket_as_of, ticket_in_conversation, ticket_in_webhook, ticket_part, ticket_state_detailed,
    ticket_type_detailed,
};

use crate::world::{Attachment, Attribute, Author, Body, Contact, Conversation, Part, State, Tag, World};

/// The package code of the app whose token the server uses.
pub(crate) const APP_PACKAGE_CODE: &str = "sandbox-support-app";
/// A GET holds no more parts than this, the most recent ones.
pub(crate) const MAX_PARTS: usize = 500;
const BOT_ID: &str = "9000000";

/// How bodies are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Plain,
}

/// Which parts come along.
pub(crate) enum Parts<'a> {
    /// The most recent ones, at most [`MAX_PARTS`].
    Recent,
    /// Only these.
    These(Vec<&'a str>),
    /// No `conversation_parts` at all, as in search results.
    None,
}

pub(crate) fn conversation(world: &World, conversation: &Conversation, form: Form, parts: &Parts<'_>) -> Value {
    let mut json = json!({
        "type": "conversation",
        "id": conversation.id,
        "title": conversation.title,
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
        "waiting_since": conversation.waiting_since,
        "snoozed_until": conversation.snoozed_until,
        "open": conversation.state != State::Closed,
        "state": conversation.state.name(),
        "read": conversation.read,
        "priority": "none",
        "admin_assignee_id": conversation.admin_assignee,
        "team_assignee_id": conversation.team_assignee,
        "company": null,
        "tags": { "type": "tag.list", "tags": applied_tags(world, conversation) },
        "conversation_rating": null,
        "source": source(world, conversation, form),
        "contacts": { "type": "contact.list", "contacts": contact_references(world, conversation) },
        "teammates": teammates(conversation),
        "custom_attributes": conversation.custom_attributes,
        "first_contact_reply": first_contact_reply(conversation),
        "sla_applied": null,
        "statistics": statistics(conversation),
        "topics": { "type": "topic.list", "topics": [], "total_count": 0 },
        "ticket": ticket_in_conversation(world, conversation),
        "linked_objects": { "type": "list", "data": [], "total_count": 0, "has_more": false },
        "ai_agent": null,
        "ai_agent_participated": false,
        "channel": { "initial": "messenger", "current": "messenger" },
    });
    if let Some(list) = part_list(world, conversation, form, parts) {
        json["conversation_parts"] = list;
    }
    json
}

fn part_list(world: &World, conversation: &Conversation, form: Form, parts: &Parts<'_>) -> Option<Value> {
    let all = &conversation.parts;
    let (chosen, total): (Vec<&Part>, usize) = match parts {
        Parts::None => return None,
        Parts::Recent => (all.iter().skip(all.len().saturating_sub(MAX_PARTS)).collect(), all.len()),
        Parts::These(ids) => {
            // New parts stand at the end, so look from there.
            let chosen: Vec<&Part> = ids.iter().filter_map(|id| all.iter().rev().find(|part| part.id == *id)).collect();
            let total = chosen.len();
            (chosen, total)
        }
    };
    let chosen: Vec<Value> = chosen.into_iter().map(|part| one_part(world, part, form)).collect();
    Some(json!({ "type": "conversation_part.list", "conversation_parts": chosen, "total_count": total }))
}

fn one_part(world: &World, part: &Part, form: Form) -> Value {
    let mut author = author(world, &part.author);
    author["from_ai_agent"] = json!(false);
    author["is_ai_answer"] = json!(false);
    json!({
        "type": "conversation_part",
        "id": part.id,
        "part_type": part.part_type,
        "body": part.body.as_ref().map(|body| text(body, form)),
        "created_at": part.created_at,
        "updated_at": part.updated_at,
        "notified_at": part.created_at,
        "assigned_to": part.assigned_to,
        "author": author,
        "attachments": attachments(world, &part.attachments),
        "external_id": null,
        "redacted": part.redacted,
        "email_message_metadata": null,
        "metadata": metadata(part),
        "state": part.state.name(),
        "tags": [],
        "event_details": null,
        "app_package_code": part.by_api.then_some(APP_PACKAGE_CODE),
    })
}

fn metadata(part: &Part) -> Value {
    if part.options.is_empty() {
        return json!({});
    }
    let uuid = |index: usize| format!("00000000-0000-4000-8000-{:012}", index + 1);
    let options: Vec<Value> =
        part.options.iter().enumerate().map(|(index, text)| json!({ "text": text, "uuid": uuid(index) })).collect();
    json!({ "quick_reply_options": options })
}

fn source(world: &World, conversation: &Conversation, form: Form) -> Value {
    json!({
        "type": "conversation",
        "id": conversation.message_id,
        "delivered_as": conversation.delivered_as,
        "subject": "",
        "body": text(&conversation.body, form),
        "author": author(world, &conversation.author),
        "attachments": attachments(world, &conversation.attachments),
        "url": null,
        "redacted": conversation.redacted,
    })
}

fn author(world: &World, author: &Author) -> Value {
    match author {
        Author::Contact(id) => {
            let details = world.contacts.get(id).map(|contact| contact.details.clone()).unwrap_or_default();
            let role = if details.role.is_empty() { "user" } else { &details.role };
            // A contact without an e-mail has an empty one here, not null.
            json!({ "type": role, "id": id, "name": details.name, "email": details.email.unwrap_or_default() })
        }
        Author::Admin(id) => {
            let admin = world.admin(id);
            json!({ "type": "admin", "id": id, "name": admin.map(|a| &a.name), "email": admin.map_or("", |a| &a.email) })
        }
        Author::Bot => {
            json!({ "type": "bot", "id": BOT_ID, "name": "Fin", "email": format!("operator+{}@intercom.io", world.app_id) })
        }
        Author::Other(kind) => json!({ "type": kind, "id": BOT_ID, "name": null, "email": "" }),
    }
}

fn text(body: &Body, form: Form) -> &str {
    match form {
        Form::Html => &body.html,
        Form::Plain => &body.text,
    }
}

fn attachments(world: &World, all: &[Attachment]) -> Vec<Value> {
    all.iter().map(|attachment| world.files.render(attachment, world.now())).collect()
}

fn contact_references(world: &World, conversation: &Conversation) -> Vec<Value> {
    let external_id = |id: &String| world.contacts.get(id).and_then(|contact| contact.details.external_id.clone());
    conversation
        .contacts
        .iter()
        .map(|id| json!({ "type": "contact", "id": id, "external_id": external_id(id) }))
        .collect()
}

fn teammates(conversation: &Conversation) -> Value {
    let admins: Vec<Value> =
        conversation.teammates().into_iter().map(|id| json!({ "type": "admin", "id": id })).collect();
    if admins.is_empty() { Value::Null } else { json!({ "type": "admin.list", "admins": admins }) }
}

fn first_contact_reply(conversation: &Conversation) -> Value {
    let opened = matches!(conversation.author, Author::Contact(_)).then_some(conversation.created_at);
    let replied =
        conversation.parts.iter().find(|part| matches!(part.author, Author::Contact(_))).map(|p| p.created_at);
    opened.or(replied).map_or(Value::Null, |at| json!({ "created_at": at, "type": "conversation", "url": null }))
}

fn statistics(conversation: &Conversation) -> Value {
    let known = &conversation.statistics;
    let since_start = |at: Option<i64>| at.map(|at| at - conversation.created_at);
    json!({
        "type": "conversation_statistics",
        "time_to_assignment": since_start(known.last_assignment_at),
        "time_to_admin_reply": since_start(known.first_admin_reply_at),
        "time_to_first_close": since_start(known.first_close_at),
        "time_to_last_close": since_start(known.last_close_at),
        "median_time_to_reply": since_start(known.first_admin_reply_at),
        "first_contact_reply_at": conversation.created_at,
        "first_assignment_at": known.last_assignment_at,
        "first_admin_reply_at": known.first_admin_reply_at,
        "first_close_at": known.first_close_at,
        "last_assignment_at": known.last_assignment_at,
        "last_assignment_admin_reply_at": null,
        "last_contact_reply_at": known.last_contact_reply_at,
        "last_admin_reply_at": known.last_admin_reply_at,
        "last_close_at": known.last_close_at,
        "last_closed_by_id": known.last_closed_by,
        "count_reopens": known.reopens,
        "count_assignments": known.assignments,
        "count_conversation_parts": conversation.parts.len(),
        "assigned_team_first_response_time": [],
        "assigned_team_first_response_time_in_office_hours": [],
        "handling_time": null,
    })
}

fn applied_tags(world: &World, conversation: &Conversation) -> Vec<Value> {
    let applied = |tag: &crate::world::AppliedTag| {
        let name = world.tag(&tag.id).map(|known| known.name.as_str());
        json!({ "type": "tag", "id": tag.id, "name": name.unwrap_or_default(), "applied_at": tag.at,
            "applied_by": { "type": "admin", "id": tag.by } })
    };
    conversation.tags.iter().map(applied).collect()
}

pub(crate) fn tag(tag: &Tag) -> Value {
    json!({ "type": "tag", "id": tag.id, "name": tag.name })
}

pub(crate) fn contact(world: &World, contact: &Contact) -> Value {
    let details = &contact.details;
    let addressable = |what: &str| json!({ "type": "list", "data": [], "url": format!("/contacts/{}/{what}", contact.id), "total_count": 0, "has_more": false });
    let avatar = details.avatar.as_ref().map(|url| json!({ "type": "avatar", "image_url": url }));
    let mut json = json!({
        "type": "contact",
        "id": contact.id,
        "workspace_id": world.app_id,
        "external_id": details.external_id,
        "role": details.role,
        "email": details.email,
        "email_domain": details.email.as_ref().and_then(|email| email.split_once('@')).map(|(_, domain)| domain),
        "email_verified": details.email_verified,
        "phone": details.phone,
        "name": details.name,
        "avatar": avatar,
        "owner_id": details.owner_id,
        "has_hard_bounced": false,
        "marked_email_as_spam": false,
        "unsubscribed_from_emails": details.unsubscribed_from_emails,
        "created_at": contact.created_at,
        "updated_at": contact.updated_at,
        "signed_up_at": details.signed_up_at,
        "last_seen_at": details.last_seen_at,
        "last_replied_at": contact.last_replied_at,
        "last_contacted_at": null,
        "language_override": details.language_override,
        "location": { "type": "location", "country": null, "region": null, "city": null },
        "social_profiles": { "type": "list", "data": [] },
        "custom_attributes": details.custom_attributes,
        "tags": addressable("tags"),
        "notes": addressable("notes"),
        "companies": addressable("companies"),
    });
    if let Some(object) = json.as_object_mut() {
        // What the Messenger would have told of a device is null for contacts that came by the API.
        let device = ["browser", "browser_version", "browser_language", "os", "ios_device", "android_device"];
        object.extend(device.into_iter().map(|name| (name.to_owned(), Value::Null)).collect::<Map<_, _>>());
    }
    json
}

/// In webhooks a contact's dates are text.
pub(crate) fn contact_in_webhook(world: &World, of: &Contact) -> Value {
    let mut json = contact(world, of);
    for name in ["created_at", "updated_at", "signed_up_at", "last_seen_at", "last_replied_at"] {
        if let Some(seconds) = json[name].as_i64() {
            json[name] = json!(iso_8601(seconds));
        }
    }
    json
}

pub(crate) fn contact_reference(contact: &Contact) -> Value {
    json!({ "type": "contact", "id": contact.id, "external_id": contact.details.external_id })
}

pub(crate) fn attribute(attribute: &Attribute) -> Value {
    if attribute.model == "conversation" {
        return json!({
            "type": "conversation_attribute", "id": attribute.id, "name": attribute.name, "data_type": attribute.data_type,
            "description": attribute.description, "archived": false,
            "created_at": attribute.created_at, "updated_at": attribute.created_at,
        });
    }
    json!({
        "type": "data_attribute", "id": attribute.id, "model": attribute.model, "name": attribute.name,
        "full_name": format!("custom_attributes.{}", attribute.name), "label": attribute.name,
        "description": attribute.description, "data_type": attribute.data_type, "api_writable": true,
        "messenger_writable": false, "ui_writable": true, "custom": true, "archived": false,
        "created_at": attribute.created_at, "updated_at": attribute.created_at,
    })
}

/// Unix seconds as `2026-01-10T07:56:29.000Z`.
fn iso_8601(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970 (H. Hinnant's algorithm), years starting in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000Z", rest / 3_600, rest % 3_600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_written_as_text() {
        assert_eq!(super::iso_8601(1_768_031_789), "2026-01-10T07:56:29.000Z");
        assert_eq!(super::iso_8601(951_782_400), "2000-02-29T00:00:00.000Z");
    }
}
