//! Contacts: find, create, update, archive, merge.

use serde_json::{Map, Value, json};

use super::{Outcome, invalid, missing, not_found};
use crate::exchange::{Answer, Request};
use crate::render;
use crate::world::{Contact, Details, World};

/// The longest text a custom attribute holds.
const MAX_ATTRIBUTE_CHARS: usize = 255;

/// By external id: merged contacts answer 410, archived ones are invisible.
pub(super) fn find(world: &World, external_id: &str) -> Outcome {
    let contact = world.contact_by_external_id(external_id).ok_or_else(|| not_found("User Not Found"))?;
    living(contact).map(|contact| render::contact(world, contact))
}

pub(super) fn get(world: &World, id: &str) -> Outcome {
    known(world, id).map(|contact| render::contact(world, contact))
}

pub(super) fn create(world: &mut World, request: &Request) -> Outcome {
    let details = written(world, request, Details::default())?;
    refuse_conflict(world, &details, None)?;
    let id = world.add_contact(details);
    get(world, &id)
}

pub(super) fn update(world: &mut World, id: &str, request: &Request) -> Outcome {
    let before = known(world, id)?.details.clone();
    let details = written(world, request, before)?;
    refuse_conflict(world, &details, Some(id))?;
    let now = world.now();
    if let Some(contact) = world.contacts.get_mut(id) {
        (contact.details, contact.updated_at) = (details, now);
    }
    get(world, id)
}

pub(super) fn set_archived(world: &mut World, id: &str, archived: bool) -> Outcome {
    if world.contacts.get(id).is_some_and(|contact| contact.doomed) {
        return Err(invalid("Contact is marked for permanent deletion and is not restorable"));
    }
    if !world.set_archived(id, archived) {
        return Err(not_found("User Not Found"));
    }
    let mut json = world.contacts.get(id).map(render::contact_reference).unwrap_or_default();
    json["archived"] = json!(archived);
    Ok(json)
}

pub(super) fn delete(world: &mut World, id: &str) -> Outcome {
    let mut json = render::contact_reference(known(world, id)?);
    world.doom_contact(id);
    json["deleted"] = json!(true);
    Ok(json)
}

pub(super) fn merge(world: &mut World, request: &Request) -> Outcome {
    let from = request.text("from").ok_or_else(|| missing("from"))?;
    let into = request.text("into").ok_or_else(|| missing("into"))?;
    known(world, from)?;
    known(world, into)?;
    if !world.merge_contact(from, into) {
        return Err(invalid("A contact cannot be merged with itself"));
    }
    get(world, into)
}

fn known<'a>(world: &'a World, id: &str) -> Result<&'a Contact, Answer> {
    let contact = world.contacts.get(id).filter(|contact| !contact.doomed);
    living(contact.ok_or_else(|| not_found("User Not Found"))?)
}

fn living(contact: &Contact) -> Result<&Contact, Answer> {
    match &contact.merged_into {
        None => Ok(contact),
        Some(into) => {
            let refusal = Answer::refusal(410, "contact_merged", "Contact has been merged into another contact");
            Err(refusal.with("link", format!("</contacts/{into}>; rel=\"canonical\"")))
        }
    }
}

fn refuse_conflict(world: &World, details: &Details, own_id: Option<&str>) -> Result<(), Answer> {
    let Some(other) = world.conflicting(details, own_id) else { return Ok(()) };
    let kind = if other.archived { "An archived contact" } else { "A contact" };
    let message = format!("{kind} matching those details already exists with id={}", other.id);
    Err(Answer::refusal(409, "conflict", message))
}

/// `before`, with what the request writes.
fn written(world: &World, request: &Request, before: Details) -> Result<Details, Answer> {
    let mut details = before;
    let text = |name: &str, now: &mut Option<String>| match request.field(name) {
        Value::Null if request.body.get(name).is_none() => Ok(()),
        Value::Null => {
            *now = None;
            Ok(())
        }
        Value::String(text) => {
            *now = Some(text.clone());
            Ok(())
        }
        _ => Err(Answer::refusal(400, "type_mismatch", format!("{name} must be a string"))),
    };
    text("external_id", &mut details.external_id)?;
    text("email", &mut details.email)?;
    text("phone", &mut details.phone)?;
    text("name", &mut details.name)?;
    text("avatar", &mut details.avatar)?;
    text("owner_id", &mut details.owner_id)?;
    text("language_override", &mut details.language_override)?;
    details.signed_up_at = request.field("signed_up_at").as_i64().or(details.signed_up_at);
    details.last_seen_at = request.field("last_seen_at").as_i64().or(details.last_seen_at);
    if let Some(verified) = request.field("email_verified").as_bool() {
        if request.text("email").is_none() {
            return Err(invalid("email_verified requires email in the same request"));
        }
        details.email_verified = Some(verified);
    }
    check_addresses(&details)?;
    set_role(request, &mut details)?;
    if let Value::Object(given) = request.field("custom_attributes") {
        check_attributes(world, given)?;
        details.custom_attributes.extend(given.clone());
    }
    Ok(details)
}

fn set_role(request: &Request, details: &mut Details) -> Result<(), Answer> {
    match request.text("role") {
        Some(role @ ("user" | "lead")) => details.role = role.to_owned(),
        Some(other) => return Err(invalid(format!("role '{other}' is not supported"))),
        None if !details.role.is_empty() => {}
        None if details.external_id.is_some() || details.email.is_some() => details.role = "user".to_owned(),
        None => return Err(missing("email, external_id or role")),
    }
    Ok(())
}

fn check_addresses(details: &Details) -> Result<(), Answer> {
    let phone_fits = |phone: &str| {
        let digits = phone.strip_prefix('+').unwrap_or_default();
        (6..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if details.phone.as_deref().is_some_and(|phone| !phone_fits(phone)) {
        return Err(invalid("phone is invalid"));
    }
    let email_fits =
        |email: &str| email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    if details.email.as_deref().is_some_and(|email| !email_fits(email)) {
        return Err(invalid("email is invalid"));
    }
    Ok(())
}

/// One unknown or too long attribute refuses the whole request.
fn check_attributes(world: &World, given: &Map<String, Value>) -> Result<(), Answer> {
    if let Some(name) = world.unknown_attribute("contact", given) {
        return Err(invalid(format!("Custom attribute '{name}' does not exist")));
    }
    for (name, value) in given {
        if value.is_object() || value.is_array() {
            return Err(Answer::refusal(400, "type_mismatch", format!("Custom attribute '{name}' must be flat")));
        }
        if value.as_str().is_some_and(|text| text.chars().count() > MAX_ATTRIBUTE_CHARS) {
            return Err(invalid(format!("Custom attribute '{name}' is longer than {MAX_ATTRIBUTE_CHARS} characters")));
        }
    }
    Ok(())
}
