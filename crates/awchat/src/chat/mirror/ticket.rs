//! Pure: what Intercom showed us of a ticket, held against what we have of it, becomes what to write.
//!
//! The same law as for its conversation, by a clock of its own: title, status and labels follow the ticket's
//! `updated_at`, a change of state is known by its part and never taken back.

use super::Origin;
use crate::chat::view::TicketView;
use crate::store::tickets::{Change, Labels, Ticket};

/// What to write of a ticket.
#[derive(Debug, Default, PartialEq)]
pub struct TicketPlan {
    /// The ticket as it is to be kept, if that is another.
    pub write: Option<Ticket>,
    /// Changes of state that were not known.
    pub changes: Vec<Change>,
    /// The user sees something new.
    pub shows: bool,
    /// A hint told us something new: ask Intercom.
    pub ask: bool,
}

/// Decides what a snapshot changes of a ticket: `before` is what we have, with the parts of its timeline.
pub fn plan_ticket(before: Option<&(Ticket, Vec<String>)>, seen: &TicketView, origin: &Origin) -> TicketPlan {
    let is_hint = *origin == Origin::Webhook;
    let Some((before, known)) = before else {
        let write = Some(whole(as_seen(seen, None, is_hint), seen, origin));
        return TicketPlan { write, changes: seen.changes.clone(), shows: true, ask: is_hint };
    };
    let newer = seen.updated_at > before.updated_at;
    let same_second = seen.updated_at == before.updated_at;
    let applies = match origin {
        Origin::Webhook => newer,
        Origin::Answer { asked_ms, .. } => newer || (same_second && *asked_ms >= before.whole_ms),
    };
    let now = as_seen(seen, Some(before), is_hint);
    let differs = Ticket { updated_at: before.updated_at, ..now.clone() } != *before;
    let kept = whole(if applies { now } else { before.clone() }, seen, origin);
    let changes: Vec<Change> = seen.changes.iter().filter(|change| !known.contains(&change.part_id)).cloned().collect();
    TicketPlan {
        shows: (applies && differs) || !changes.is_empty(),
        ask: is_hint && ((differs && (newer || same_second)) || !changes.is_empty()),
        write: Some(kept).filter(|kept| kept != before),
        changes,
    }
}

/// A hint does not know the labels of the states that the ticket is not in.
fn as_seen(seen: &TicketView, before: Option<&Ticket>, is_hint: bool) -> Ticket {
    let known = || before.map_or_else(Labels::new, |before| before.labels.clone());
    Ticket {
        number: seen.number.clone(),
        title: seen.title.clone(),
        description: seen.description.clone(),
        status: seen.status,
        label: seen.label.clone(),
        labels: if is_hint { known() } else { seen.labels.clone() },
        created_at: seen.created_at,
        updated_at: seen.updated_at,
        whole_at: before.map_or(0, |before| before.whole_at),
        whole_ms: before.map_or(0, |before| before.whole_ms),
    }
}

/// With the time up to which everything is here, if an answer says so.
fn whole(ticket: Ticket, seen: &TicketView, origin: &Origin) -> Ticket {
    match origin {
        Origin::Answer { asked_ms, of: None } if (seen.updated_at, *asked_ms) > (ticket.whole_at, ticket.whole_ms) => {
            Ticket { whole_at: seen.updated_at, whole_ms: *asked_ms, ..ticket }
        }
        _ => ticket,
    }
}
