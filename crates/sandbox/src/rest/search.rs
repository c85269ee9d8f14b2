//! `POST /contacts/search` and `/conversations/search`: filters, pages, and an index that lags behind. Tickets' search uses the
//! same filters and pages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Outcome, invalid};
use crate::exchange::{Answer, Request};
use crate::render::{self, Form, Parts};
use crate::world::{Contact, Conversation, Revision, State, World};

const MAX_FILTERS: usize = 15;
const MAX_NESTING: usize = 2;
const MAX_PER_PAGE: usize = 150;
const DAY_S: i64 = 86_400;

/// What a field of a searched object holds.
pub(super) enum Found {
    /// Any of these texts.
    Texts(Vec<String>),
    /// Unix seconds, if there is one.
    Date(Option<i64>),
    Flag(bool),
}

/// How a search compares dates.
#[derive(Clone, Copy)]
pub(super) enum Dates {
    /// By the second.
    Exact,
    /// Conversations: both sides cut to their day, and `>` means "or equal".
    WholeDaysInclusive,
    /// Contacts: `>` begins with the next day, `<` ends before the day.
    WholeDays,
}

pub(super) fn conversations(world: &World, request: &Request, lag_ms: i64) -> Outcome {
    let query = request.field("query");
    let dates = if world.whole_day_dates { Dates::WholeDaysInclusive } else { Dates::Exact };
    let mut found: Vec<Indexed<'_>> = Vec::new();
    check(query, 0)?;
    for conversation in world.conversations.values().filter(|conversation| world.is_talk(conversation)) {
        let Some(seen) = conversation.seen_by_search(world.now_ms, lag_ms) else { continue };
        let indexed = Indexed { conversation, seen };
        if matches(query, dates, &|name| conversation_field(world, indexed, name))? {
            found.push(indexed);
        }
    }
    let key = |i: &Indexed<'_>| format!("{:012}/{}", i.seen.updated_at, i.conversation.id);
    // `sort` is accepted and ignored, as measured: the latest change comes first.
    found.sort_by_key(|indexed| std::cmp::Reverse(key(indexed)));
    let items: Vec<Value> = page_of(request, &found, key)?.into_iter().map(|indexed| indexed.render(world)).collect();
    let pages = pages(request, &found, key)?;
    Ok(json!({ "type": "conversation.list", "conversations": items, "total_count": found.len(), "pages": pages }))
}

/// A conversation, and what the index knows of it.
#[derive(Clone, Copy)]
struct Indexed<'a> {
    conversation: &'a Conversation,
    seen: Revision,
}

impl Indexed<'_> {
    fn render(&self, world: &World) -> Value {
        let mut json = render::conversation(world, self.conversation, Form::Html, &Parts::None);
        json["updated_at"] = json!(self.seen.updated_at);
        json["state"] = json!(self.seen.state.name());
        json["open"] = json!(self.seen.state != State::Closed);
        if self.seen.ticket_state_id.is_none() {
            json["ticket"] = Value::Null;
        }
        json
    }
}

pub(super) fn contacts(world: &World, request: &Request, lag_ms: i64) -> Outcome {
    let query = request.field("query");
    if let Some(order) = request.field("sort")["order"].as_str()
        && !["ascending", "descending"].contains(&order)
    {
        return Err(Answer::refusal(400, "invalid_sort_order", "sort order must be ascending or descending"));
    }
    let dates = if world.whole_day_dates { Dates::WholeDays } else { Dates::Exact };
    check(query, 0)?;
    let mut found: Vec<&Contact> = Vec::new();
    let indexed = |contact: &&Contact| {
        contact.created_ms <= world.now_ms - lag_ms && !contact.archived && contact.merged_into.is_none()
    };
    for contact in world.contacts.values().filter(indexed) {
        if matches(query, dates, &|name| contact_field(contact, name))? {
            found.push(contact);
        }
    }
    let key = |c: &&Contact| format!("{:012}/{}", c.created_at, c.id);
    found.sort_by_key(|contact| std::cmp::Reverse(key(contact)));
    let items: Vec<Value> = page_of(request, &found, key)?.into_iter().map(|c| render::contact(world, c)).collect();
    Ok(json!({ "type": "list", "data": items, "total_count": found.len(), "pages": pages(request, &found, key)? }))
}

fn conversation_field(world: &World, indexed: Indexed<'_>, name: &str) -> Option<Found> {
    let Indexed { conversation, seen } = indexed;
    let texts = |texts: &[&str]| Found::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    Some(match name {
        "id" => texts(&[&conversation.id]),
        "created_at" => Found::Date(Some(conversation.created_at)),
        "updated_at" => Found::Date(Some(seen.updated_at)),
        "waiting_since" => Found::Date(conversation.waiting_since),
        "snoozed_until" => Found::Date(conversation.snoozed_until),
        "open" => Found::Flag(seen.state != State::Closed),
        "read" => Found::Flag(conversation.read),
        "state" => texts(&[seen.state.name()]),
        "title" => texts(&[conversation.title.as_deref().unwrap_or_default()]),
        "priority" => texts(&["none"]),
        "admin_assignee_id" => texts(&[&conversation.admin_assignee.to_string()]),
        "team_assignee_id" => texts(&[&conversation.team_assignee.to_string()]),
        "contact_ids" => Found::Texts(conversation.contacts.clone()),
        "tag_ids" => Found::Texts(conversation.tags.iter().map(|tag| tag.id.clone()).collect()),
        "source.id" => texts(&[&conversation.message_id]),
        "source.delivered_as" => texts(&[conversation.delivered_as]),
        // Every word is searched for by itself.
        "source.body" => Found::Texts(conversation.body.text.split_whitespace().map(str::to_owned).collect()),
        _ => {
            let name = name.strip_prefix("custom_attribute.")?;
            world.attribute("conversation", name)?;
            texts(&[&as_text(conversation.custom_attributes.get(name)?)])
        }
    })
}

fn contact_field(contact: &Contact, name: &str) -> Option<Found> {
    let details = &contact.details;
    let text = |text: Option<&String>| Found::Texts(text.into_iter().cloned().collect());
    Some(match name {
        "id" => text(Some(&contact.id)),
        "external_id" => text(details.external_id.as_ref()),
        "email" => text(details.email.as_ref()),
        "phone" => text(details.phone.as_ref()),
        "name" => text(details.name.as_ref()),
        "role" => text(Some(&details.role)),
        "created_at" => Found::Date(Some(contact.created_at)),
        "updated_at" => Found::Date(Some(contact.updated_at)),
        "last_replied_at" => Found::Date(contact.last_replied_at),
        "last_seen_at" => Found::Date(details.last_seen_at),
        "signed_up_at" => Found::Date(details.signed_up_at),
        _ => text(details.custom_attributes.get(name.strip_prefix("custom_attributes.")?).map(as_text).as_ref()),
    })
}

/// The shape of a query: two levels, and fifteen filters in a group, are the most.
pub(super) fn check(query: &Value, depth: usize) -> Result<(), Answer> {
    let Some(group) = query["value"].as_array().filter(|_| is_group(query)) else {
        let complete = query["field"].is_string() && query["operator"].is_string() && query.get("value").is_some();
        return if complete { Ok(()) } else { Err(invalid("query needs field, operator and value")) };
    };
    if group.len() > MAX_FILTERS || depth >= MAX_NESTING {
        return Err(invalid(format!(
            "No more than {MAX_FILTERS} filters, and {MAX_NESTING} levels of them, are allowed"
        )));
    }
    group.iter().try_for_each(|inner| check(inner, depth + 1))
}

fn is_group(query: &Value) -> bool {
    matches!(query["operator"].as_str(), Some("AND" | "OR")) && query["field"].is_null()
}

pub(super) fn matches(query: &Value, dates: Dates, field: &dyn Fn(&str) -> Option<Found>) -> Result<bool, Answer> {
    if is_group(query) {
        let group = query["value"].as_array().into_iter().flatten();
        let all: Vec<bool> = group.map(|inner| matches(inner, dates, field)).collect::<Result<_, _>>()?;
        return Ok(if query["operator"] == "AND" {
            all.into_iter().all(|fits| fits)
        } else {
            all.into_iter().any(|fits| fits)
        });
    }
    let name = query["field"].as_str().unwrap_or_default();
    let operator = query["operator"].as_str().unwrap_or_default();
    let refused = || Answer::refusal(400, "invalid_field", format!("'{name}' with '{operator}' is not a valid search"));
    let found = field(name).ok_or_else(refused)?;
    let wanted = &query["value"];
    let fits = match found {
        Found::Texts(texts) => text_fits(&texts, operator, wanted),
        Found::Flag(flag) => match operator {
            "=" => Some(Some(flag) == wanted.as_bool()),
            "!=" => Some(Some(flag) != wanted.as_bool()),
            _ => None,
        },
        Found::Date(date) => seconds(wanted).and_then(|wanted| date_fits(date, operator, wanted, dates)),
    };
    fits.ok_or_else(refused)
}

fn text_fits(texts: &[String], operator: &str, wanted: &Value) -> Option<bool> {
    let any = |of: &dyn Fn(&str) -> bool| texts.iter().any(|text| of(&text.to_lowercase()));
    let one = as_text(wanted).to_lowercase();
    let list = || wanted.as_array().map(|all| all.iter().map(|item| as_text(item).to_lowercase()).collect::<Vec<_>>());
    Some(match operator {
        "=" if wanted.is_null() => texts.is_empty(),
        "=" => any(&|text| text == one),
        "!=" => !any(&|text| text == one),
        "~" => any(&|text| text.contains(&one)),
        "!~" => !any(&|text| text.contains(&one)),
        "^" => any(&|text| text.starts_with(&one)),
        "$" => any(&|text| text.ends_with(&one)),
        "IN" => list().map(|list| any(&|text| list.iter().any(|item| item == text)))?,
        "NIN" => list().map(|list| !any(&|text| list.iter().any(|item| item == text)))?,
        _ => return None,
    })
}

fn date_fits(date: Option<i64>, operator: &str, wanted: i64, dates: Dates) -> Option<bool> {
    let Some(date) = date else { return ["=", ">", "<"].contains(&operator).then_some(false) };
    let (day, wanted_day) = (date.div_euclid(DAY_S), wanted.div_euclid(DAY_S));
    Some(match (dates, operator) {
        (Dates::Exact, "=") => date == wanted,
        (Dates::Exact, ">") => date > wanted,
        (Dates::Exact, "<") => date < wanted,
        (Dates::WholeDaysInclusive | Dates::WholeDays, "=") => day == wanted_day,
        (Dates::WholeDaysInclusive, ">") => day >= wanted_day,
        (Dates::WholeDaysInclusive, "<") => day <= wanted_day,
        (Dates::WholeDays, ">") => day > wanted_day,
        (Dates::WholeDays, "<") => day < wanted_day,
        _ => return None,
    })
}

fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

pub(super) fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Where a page begins: its number and the sort key of the last item before it.
fn cursor(request: &Request) -> Result<(usize, Option<String>), Answer> {
    let Some(text) = request.field("pagination")["starting_after"].as_str() else { return Ok((1, None)) };
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| serde_json::from_slice::<(usize, String)>(&bytes).ok());
    decoded.map(|(page, key)| (page, Some(key))).ok_or_else(|| invalid("starting_after is invalid"))
}

fn per_page(request: &Request) -> Result<usize, Answer> {
    let given = &request.field("pagination")["per_page"];
    let number = if given.is_null() { Some(20) } else { given.as_u64().and_then(|n| usize::try_from(n).ok()) };
    number.filter(|number| (1..=MAX_PER_PAGE).contains(number)).ok_or_else(|| {
        Answer::refusal(400, "invalid_per_page", format!("per_page must be between 1 and {MAX_PER_PAGE}"))
    })
}

/// The items of the page asked for. Items are sorted by falling key; one that moved up between two pages is missed, as in life.
pub(super) fn page_of<'a, T>(
    request: &Request,
    all: &'a [T],
    key: impl Fn(&T) -> String,
) -> Result<Vec<&'a T>, Answer> {
    let (_, after) = cursor(request)?;
    let rest = all.iter().filter(|item| after.as_ref().is_none_or(|after| key(item) < *after));
    Ok(rest.take(per_page(request)?).collect())
}

pub(super) fn pages<T>(request: &Request, all: &[T], key: impl Fn(&T) -> String) -> Result<Value, Answer> {
    let (per_page, (page, after)) = (per_page(request)?, cursor(request)?);
    let mut pages = json!({
        "type": "pages", "page": page, "per_page": per_page, "total_pages": all.len().div_ceil(per_page),
    });
    let mut rest = all.iter().filter(|item| after.as_ref().is_none_or(|after| key(item) < *after)).skip(per_page - 1);
    if let (Some(last), Some(_)) = (rest.next(), rest.next()) {
        let next = STANDARD.encode(json!([page + 1, key(last)]).to_string());
        pages["next"] = json!({ "page": page + 1, "starting_after": next });
    }
    Ok(pages)
}
