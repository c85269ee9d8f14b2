//! `POST /tickets/search`: whole tickets with their parts, from an index that lags behind.

use serde_json::{Value, json};

use super::Outcome;
use super::search::{Dates, Found, as_text, check, matches, page_of, pages};
use crate::exchange::Request;
use crate::render;
use crate::world::{Conversation, DESCRIPTION, Revision, Stage, State, TITLE, World};

/// A ticket, and what the index knows of it.
#[derive(Clone, Copy)]
struct Indexed<'a> {
    conversation: &'a Conversation,
    seen: Revision,
}

pub(super) fn tickets(world: &World, request: &Request, lag_ms: i64) -> Outcome {
    let query = request.field("query");
    let dates = if world.whole_day_dates { Dates::WholeDaysInclusive } else { Dates::Exact };
    check(query, 0)?;
    let mut found: Vec<Indexed<'_>> = Vec::new();
    for conversation in world.conversations.values() {
        let seen = conversation.seen_by_search(world.now_ms, lag_ms).filter(|seen| seen.ticket_state_id.is_some());
        let Some(seen) = seen else { continue };
        let indexed = Indexed { conversation, seen };
        if matches(query, dates, &|name| field(world, indexed, name))? {
            found.push(indexed);
        }
    }
    let key = |i: &Indexed<'_>| format!("{:012}/{}", i.seen.updated_at, i.conversation.id);
    // `sort` is accepted and ignored here too.
    found.sort_by_key(|indexed| std::cmp::Reverse(key(indexed)));
    let page = page_of(request, &found, key)?;
    let items: Vec<Value> =
        page.into_iter().filter_map(|one| render::ticket_as_of(world, one.conversation, one.seen)).collect();
    let pages = pages(request, &found, key)?;
    Ok(json!({ "type": "ticket.list", "tickets": items, "total_count": found.len(), "pages": pages }))
}

/// The documented fields, and no others: neither `ticket_id` nor `company_id`.
fn field(world: &World, indexed: Indexed<'_>, name: &str) -> Option<Found> {
    let Indexed { conversation, seen } = indexed;
    let ticket = conversation.ticket.as_ref()?;
    let text = |text: &str| Found::Texts(vec![text.to_owned()]);
    Some(match name {
        "id" => text(&conversation.id),
        "created_at" => Found::Date(Some(conversation.created_at)),
        "updated_at" => Found::Date(Some(seen.updated_at)),
        "snoozed_until" => Found::Date(conversation.snoozed_until),
        "title" => text(ticket.text(TITLE)),
        "description" => text(ticket.text(DESCRIPTION)),
        "category" => text(world.category(ticket).search_term()),
        "ticket_type_id" => text(&ticket.type_id.to_string()),
        "contact_ids" => Found::Texts(conversation.contacts.clone()),
        "teammate_ids" => Found::Texts(conversation.teammates().into_iter().cloned().collect()),
        "admin_assignee_id" => text(&conversation.admin_assignee.to_string()),
        "team_assignee_id" => text(&conversation.team_assignee.to_string()),
        "open" => Found::Flag(seen.state != State::Closed),
        "state" => {
            let state = seen.ticket_state_id.and_then(|id| world.ticket_state(id));
            text(state.map_or(Stage::Submitted, |state| state.stage).name())
        }
        _ => {
            let id = name.strip_prefix("ticket_attribute.")?;
            let mut all = world.ticket_types.iter().flat_map(|of| of.attributes.iter().map(move |one| (of.id, one)));
            let (type_id, attribute) = all.find(|(_, attribute)| attribute.id.to_string() == id)?;
            let own =
                ticket.attributes.get(attribute.name).filter(|value| type_id == ticket.type_id && !value.is_null());
            Found::Texts(own.map(as_text).into_iter().collect())
        }
    })
}
