//! Intercom's tickets to ours: pure. Of its attributes a user sees title and description, if contacts may; of its
//! states the external label.

use serde_json::Value;

use super::{Event, Seen, Snapshot, by_age, parsed, refresh, says_rated, seen};
use crate::id::{ContactId, ConversationId};
use crate::intercom::wire;
use crate::model::{State, Status, Step};
use crate::store::tickets::{Change, Labels, Ticket};

/// Its tickets are conversations, and for the contact's eyes.
const CUSTOMER: &str = "customer";

/// What a ticket is besides its messages, as Intercom showed it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketView {
    /// As it is to be kept, but for what was asked when.
    pub ticket: Ticket,
    /// Whether the contact may see it at all.
    pub is_shown: bool,
    /// Of the inbox.
    pub state: Option<State>,
    /// Of the inbox, Unix seconds.
    pub snoozed_until: Option<i64>,
    /// The changes of its state that are among its newest 500 parts.
    pub changes: Vec<Change>,
}

impl Snapshot {
    /// The conversation with what Intercom says of the ticket that it is.
    #[must_use]
    pub fn with_ticket(self, ticket: Self) -> Self {
        let Self { mut messages, contacts, users, .. } = self;
        let is_known = |seen: &Seen| messages.iter().any(|known| known.message.id == seen.message.id);
        let more: Vec<Seen> = ticket.messages.into_iter().filter(|seen| !is_known(seen)).collect();
        messages.extend(more);
        messages.sort_by_cached_key(by_age);
        let rated_by_tag = match (self.rated_by_tag, ticket.rated_by_tag) {
            (Some(own), Some(other)) => Some(own || other),
            (own, other) => own.or(other),
        };
        let (contacts, users) = if contacts.is_empty() { (ticket.contacts, ticket.users) } else { (contacts, users) };
        Self { messages, contacts, users, rated_by_tag, is_ticket: true, ticket: ticket.ticket, ..self }
    }

    /// A ticket that is no conversation: its own times and state of the inbox are all there is.
    #[must_use]
    pub fn alone(mut self) -> Self {
        if let Some(ticket) = &self.ticket {
            (self.state, self.snoozed_until) = (ticket.state, ticket.snoozed_until);
            self.updated_at = ticket.ticket.updated_at;
        }
        self
    }
}

/// A ticket in our words; `None` without a usable id, number or state. As part of the conversation that it is, it says
/// nothing of that one's state and times. `states`: the workspace's.
pub fn ticket(ticket: &wire::Ticket, states: &[wire::TicketState]) -> Option<Snapshot> {
    let id = ConversationId::parse(ticket.id.as_ref()?.as_str())?;
    let number = ticket.ticket_id.as_ref().map(wire::Id::as_str).filter(|number| is_number(number))?;
    let (status, label) = state(ticket)?;
    let created_at = ticket.created_at.unwrap_or(0);
    let parts = ticket.ticket_parts.iter().flat_map(|parts| &parts.ticket_parts);
    let mut messages: Vec<Seen> = parts.clone().filter_map(|part| seen(&id, part, created_at, false)).collect();
    messages.sort_by_cached_key(by_age);
    let snoozed_until = ticket.snoozed_until.filter(|until| *until > 0);
    let contacts = || ticket.contacts.iter().flat_map(|list| &list.contacts);
    let newest_part = parts.clone().filter_map(|part| part.id.as_ref()?.as_str().parse().ok()).max();
    let kept = Ticket {
        number: number.to_owned(),
        title: visible(ticket, "_default_title_"),
        description: visible(ticket, "_default_description_"),
        status,
        label: label.unwrap_or_else(|| status.usual_label().to_owned()),
        labels: labels(ticket, states),
        created_at,
        updated_at: ticket.updated_at.unwrap_or(created_at),
        newest_part: newest_part.unwrap_or(0),
        whole_at: 0,
        whole_ms: 0,
    };
    let view = TicketView {
        ticket: kept,
        is_shown: is_shown(ticket),
        state: ticket.open.map(|open| match snoozed_until {
            _ if !open => State::Closed,
            Some(_) => State::Snoozed,
            None => State::Open,
        }),
        snoozed_until,
        changes: parts.filter_map(change).collect(),
    };
    Some(Snapshot {
        contacts: contacts().filter_map(|contact| ContactId::parse(contact.id.as_ref()?.as_str())).collect(),
        users: contacts().filter_map(|contact| Some(contact.external_id.as_ref()?.as_str().to_owned())).collect(),
        rated_by_tag: ticket.tags.as_ref().map(|tags| tags.tags.iter().any(says_rated)),
        messages,
        ticket: Some(view),
        ..bare(id, created_at)
    })
}

/// The answer to a contact's reply: a message, and nothing of the ticket.
pub fn replied(id: &ConversationId, part: &wire::Part) -> Option<Snapshot> {
    let message = seen(id, part, 0, false)?;
    Some(Snapshot { messages: vec![message], ..bare(id.clone(), 0) })
}

fn bare(id: ConversationId, created_at: i64) -> Snapshot {
    Snapshot {
        id,
        contacts: Vec::new(),
        users: Vec::new(),
        state: None,
        snoozed_until: None,
        created_at,
        updated_at: 0,
        rated_by_tag: None,
        is_ticket: true,
        title: None,
        messages: Vec::new(),
        total_parts: None,
        ticket: None,
    }
}

/// What a notification on a ticket tells. Of its shapes, one is the ticket, others have it under `ticket`, and one has
/// so little of it that Intercom must be asked.
pub(super) fn event(topic: &str, item: &Value) -> Event {
    let whole = item.get("ticket").filter(|ticket| ticket.is_object()).unwrap_or(item);
    // Words in another language are not the message.
    let readable = Some(whole).filter(|_| !topic.ends_with(".translated"));
    readable
        .and_then(parsed::<wire::Ticket>)
        .and_then(|whole| ticket(&whole, &[]))
        .map_or_else(|| refresh(item), |snapshot| Event::Conversation(Box::new(snapshot)))
}

/// The timeline as the user sees it: where the ticket began, and every change of its status since. Two states of one
/// status cannot be told apart in the past; the last entry has the label of the state that the ticket is in.
pub fn timeline(mut changes: Vec<Change>, now: &Ticket) -> Vec<Step> {
    changes.sort_by_cached_key(|change| (change.at, number_of(&change.part_id)));
    let first = changes.first().map(|change| change.part_id.clone());
    let label = |status: Status| now.labels.get(&status).cloned().unwrap_or_else(|| status.usual_label().to_owned());
    let mut steps: Vec<Step> = changes
        .into_iter()
        .filter(|change| change.before != Some(change.status) || first.as_ref() == Some(&change.part_id))
        .map(|change| Step { status: change.status, label: label(change.status), at: change.at })
        .collect();
    match steps.last_mut() {
        Some(last) if last.status == now.status => last.label.clone_from(&now.label),
        Some(_) => {}
        None => steps.push(Step { status: now.status, label: now.label.clone(), at: now.created_at }),
    }
    steps
}

/// The state into which a user's reply brings a resolved ticket: the first in progress that tickets of its type have,
/// else the first submitted.
pub fn reopened_state(ticket: &wire::Ticket, states: &[wire::TicketState]) -> Option<String> {
    let of = |wanted: Status| {
        let mut fitting = states_of(ticket, states).filter(|state| status_of(state) == Some(wanted));
        fitting.find_map(|state| Some(state.id.as_ref()?.as_str().to_owned()))
    };
    of(Status::InProgress).or_else(|| of(Status::Submitted))
}

/// Whether the newest change of state came after the part of this time and id.
pub fn was_changed_after(view: &TicketView, at: i64, part_id: &str) -> bool {
    let newest = view.changes.iter().map(|change| (change.at, number_of(&change.part_id))).max();
    newest.is_some_and(|newest| newest > (at, number_of(part_id)))
}

/// Whether the answer names the states that the ticket can have, so that they need not be asked for.
pub fn names_its_states(ticket: &wire::Ticket) -> bool {
    ticket.ticket_type.as_ref().and_then(|of| of.ticket_states.as_ref()).is_some_and(|states| !states.data.is_empty())
}

fn is_shown(ticket: &wire::Ticket) -> bool {
    let of_type = || ticket.ticket_type.as_ref().and_then(|of| of.category.as_deref());
    let category = ticket.category.as_deref().or_else(of_type);
    ticket.is_shared == Some(true) || category.is_some_and(|category| category.eq_ignore_ascii_case(CUSTOMER))
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Status and external label; a category that is not known is one that somebody is at.
fn state(ticket: &wire::Ticket) -> Option<(Status, Option<String>)> {
    let (category, label) = match ticket.ticket_state.as_ref()? {
        wire::StateOf::Category(category) => (category, &ticket.ticket_state_external_label),
        wire::StateOf::Whole(state) => (state.category.as_ref()?, &state.external_label),
    };
    let label = label.as_deref().map(str::trim).filter(|label| !label.is_empty());
    Some((Status::parse(category).unwrap_or(Status::InProgress), label.map(str::to_owned)))
}

/// An attribute's text, if contacts may see it.
fn visible(ticket: &wire::Ticket, name: &str) -> Option<String> {
    let definitions = &ticket.ticket_type.as_ref()?.ticket_type_attributes.as_ref()?.data;
    let definition = definitions.iter().find(|definition| definition.name.as_deref() == Some(name))?;
    definition.visible_to_contacts.filter(|visible| *visible)?;
    let text = ticket.ticket_attributes.as_ref()?.get(name)?.as_str()?.trim();
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn status_of(state: &wire::TicketState) -> Option<Status> {
    state.category.as_deref().and_then(Status::parse)
}

/// The states that the ticket can have: those its type names, else those of the workspace that name its type.
fn states_of<'a>(
    ticket: &'a wire::Ticket,
    states: &'a [wire::TicketState],
) -> impl Iterator<Item = &'a wire::TicketState> {
    let own_type = ticket.ticket_type.as_ref();
    let named = own_type.and_then(|of| of.ticket_states.as_ref()).map_or(&[][..], |states| &states.data);
    let type_id = own_type.and_then(|of| of.id.as_ref());
    let has_type = move |state: &&wire::TicketState| {
        let types = state.ticket_types.as_ref();
        types.is_none_or(|types| types.data.iter().any(|of| of.id.is_some() && of.id.as_ref() == type_id))
    };
    let others = states.iter().filter(move |_| named.is_empty()).filter(has_type);
    named.iter().chain(others).filter(|state| state.archived != Some(true))
}

/// The external label of each status: that of its first state.
fn labels(ticket: &wire::Ticket, states: &[wire::TicketState]) -> Labels {
    let mut labels = Labels::new();
    for state in states_of(ticket, states) {
        let label = state.external_label.as_deref().map(str::trim).filter(|label| !label.is_empty());
        if let (Some(status), Some(label)) = (status_of(state), label) {
            labels.entry(status).or_insert_with(|| label.to_owned());
        }
    }
    labels
}

fn change(part: &wire::Part) -> Option<Change> {
    part.part_type.as_deref().filter(|kind| kind.starts_with("ticket_state_updated_by_"))?;
    let status = |state: &Option<wire::StateOf>| match state.as_ref()? {
        wire::StateOf::Category(category) => Status::parse(category),
        wire::StateOf::Whole(state) => status_of(state),
    };
    let part_id = part.id.as_ref().map(wire::Id::as_str).filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    Some(Change {
        part_id: part_id.to_owned(),
        status: status(&part.ticket_state)?,
        before: status(&part.previous_ticket_state),
        at: part.created_at?,
    })
}

fn number_of(part_id: &str) -> u128 {
    part_id.parse().unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests;
