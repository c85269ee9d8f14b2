//! Pure: what Intercom showed us of a ticket, held against what we have of it, becomes what to write.
//!
//! The same law as for its conversation, by a clock of its own: title, status and labels follow the ticket's
//! `updated_at` and, within a second, its newest part, for a hint has them all. A change of state is known by its part
//! and never taken back.

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
    let age = (seen.ticket.updated_at, seen.ticket.newest_part).cmp(&(before.updated_at, before.newest_part));
    let applies = match origin {
        Origin::Webhook => age.is_gt(),
        Origin::Answer { asked_ms, .. } => age.is_gt() || (age.is_eq() && *asked_ms >= before.whole_ms),
    };
    let now = as_seen(seen, Some(before), is_hint);
    let (updated_at, newest_part) = (before.updated_at, before.newest_part);
    let differs = Ticket { updated_at, newest_part, ..now.clone() } != *before;
    let kept = whole(if applies { now } else { before.clone() }, seen, origin);
    let changes: Vec<Change> = seen.changes.iter().filter(|change| !known.contains(&change.part_id)).cloned().collect();
    TicketPlan {
        shows: (applies && differs) || !changes.is_empty(),
        // Of the same second and fewer parts it may be older, or have been cut short.
        ask: is_hint && ((differs && seen.ticket.updated_at >= before.updated_at) || !changes.is_empty()),
        write: Some(kept).filter(|kept| kept != before),
        changes,
    }
}

/// A hint does not know the labels of the states that the ticket is not in.
fn as_seen(seen: &TicketView, before: Option<&Ticket>, is_hint: bool) -> Ticket {
    let known = || before.map_or_else(Labels::new, |before| before.labels.clone());
    Ticket {
        labels: if is_hint { known() } else { seen.ticket.labels.clone() },
        whole_at: before.map_or(0, |before| before.whole_at),
        whole_ms: before.map_or(0, |before| before.whole_ms),
        ..seen.ticket.clone()
    }
}

/// With the time up to which everything is here, if an answer says so.
fn whole(ticket: Ticket, seen: &TicketView, origin: &Origin) -> Ticket {
    let whole_at = seen.ticket.updated_at;
    match origin {
        Origin::Answer { asked_ms, of: None } if (whole_at, *asked_ms) > (ticket.whole_at, ticket.whole_ms) => {
            Ticket { whole_at, whole_ms: *asked_ms, ..ticket }
        }
        _ => ticket,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Status;

    const T: i64 = 1_800_000_000;

    fn seen(status: Status, updated_at: i64) -> TicketView {
        let ticket = Ticket {
            number: "123".to_owned(),
            title: None,
            description: None,
            status,
            label: status.usual_label().to_owned(),
            labels: Labels::new(),
            created_at: T,
            updated_at,
            newest_part: 1,
            whole_at: 0,
            whole_ms: 0,
        };
        TicketView { ticket, is_shown: true, state: None, snoozed_until: None, changes: Vec::new() }
    }

    fn answer(asked_ms: i64) -> Origin {
        Origin::Answer { asked_ms, of: None }
    }

    /// What we keep, written as the store writes it.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Kept(Option<(Ticket, Vec<String>)>);

    impl Kept {
        fn apply(&mut self, seen: &TicketView, origin: &Origin) -> TicketPlan {
            let plan = plan_ticket(self.0.as_ref(), seen, origin);
            let (before, mut parts) = self.0.take().unzip();
            let parts = parts.get_or_insert_default();
            parts.extend(plan.changes.iter().map(|change| change.part_id.clone()));
            parts.sort();
            self.0 = plan.write.clone().or(before).map(|ticket| (ticket, std::mem::take(parts)));
            plan
        }
    }

    #[test]
    fn the_status_follows_the_tickets_time_and_an_answer_breaks_the_tie() {
        use Status::{Resolved, Submitted};
        for (updated_at, origin, status, ask) in [
            (T + 1, Origin::Webhook, Resolved, true),
            (T, Origin::Webhook, Submitted, true),
            (T - 1, Origin::Webhook, Submitted, false),
            (T + 1, answer(T * 1000), Resolved, false),
            (T, answer(T * 1000), Resolved, false),
            (T, answer(T * 1000 - 1), Submitted, false),
            (T - 1, answer(T * 1000), Submitted, false),
        ] {
            let mut kept = Kept::default();
            kept.apply(&seen(Submitted, T), &answer(T * 1000));
            let plan = kept.apply(&seen(Resolved, updated_at), &origin);
            let now = kept.0.expect("it is kept").0.status;
            assert_eq!((now, plan.ask, plan.shows), (status, ask, status == Resolved), "{updated_at} {origin:?}");
        }
    }

    #[test]
    fn a_hint_that_only_moves_the_time_asks_nothing_and_shows_nothing() {
        let mut kept = Kept::default();
        assert!(kept.apply(&seen(Status::Submitted, T), &Origin::Webhook).ask);
        kept.apply(&seen(Status::Submitted, T), &answer(T * 1000));
        let plan = kept.apply(&seen(Status::Submitted, T + 9), &Origin::Webhook);
        assert_eq!((plan.ask, plan.shows, plan.write.map(|ticket| ticket.updated_at)), (false, false, Some(T + 9)));
    }

    /// What happens to a ticket.
    #[derive(Clone, Debug)]
    enum Act {
        Move(Status),
        Rename(u8),
        Label(u8),
        Touch,
    }

    fn act() -> impl Strategy<Value = Act> {
        let status = prop::sample::select(vec![
            Status::Submitted,
            Status::InProgress,
            Status::WaitingOnCustomer,
            Status::Resolved,
        ]);
        prop_oneof![
            4 => status.prop_map(Act::Move),
            1 => any::<u8>().prop_map(Act::Rename),
            1 => any::<u8>().prop_map(Act::Label),
            1 => Just(Act::Touch),
        ]
    }

    /// The ticket after each act: the last is the truth, the others are what webhooks carried. Each act has its part.
    fn history(acts: &[Act], acts_a_second: usize) -> Vec<TicketView> {
        let mut now = seen(Status::Submitted, T);
        let mut moments = Vec::new();
        for (at, act) in acts.iter().enumerate() {
            now.ticket.updated_at = T + 1 + i64::try_from(at / acts_a_second).expect("few");
            now.ticket.newest_part = 100 + i64::try_from(at).expect("few");
            match act {
                Act::Move(status) => {
                    let change = Change {
                        part_id: at.to_string(),
                        status: *status,
                        before: Some(now.ticket.status),
                        at: now.ticket.updated_at,
                    };
                    now.changes.push(change);
                    (now.ticket.status, now.ticket.label) = (*status, status.usual_label().to_owned());
                }
                Act::Rename(name) => now.ticket.title = Some(name.to_string()),
                Act::Label(name) => now.ticket.label = name.to_string(),
                Act::Touch => {}
            }
            moments.push(now.clone());
        }
        moments
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn any_order_of_events_then_the_truth_is_the_ticket_built_anew(
            acts in prop::collection::vec(act(), 1..12),
            acts_a_second in 1..4_usize,
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        ) {
            let moments = history(&acts, acts_a_second);
            let mut truth = moments.last().expect("at least one act").clone();
            truth.ticket.labels = [(Status::Submitted, "We have it".to_owned())].into();
            let (mut shuffled, mut rebuilt) = (Kept::default(), Kept::default());
            for index in order {
                shuffled.apply(index.get(&moments), &Origin::Webhook);
            }
            shuffled.apply(&truth, &answer((T + 100) * 1000));
            rebuilt.apply(&truth, &answer((T + 100) * 1000));
            prop_assert_eq!(shuffled, rebuilt);
        }

        #[test]
        fn all_events_in_any_order_are_the_same_ticket(
            acts in prop::collection::vec(act(), 1..10),
            acts_a_second in 1..4_usize,
            seed in any::<u64>(),
        ) {
            let moments = history(&acts, acts_a_second);
            let mut order: Vec<usize> = (0..moments.len()).collect();
            order.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(seed | 1));
            let (mut straight, mut shuffled) = (Kept::default(), Kept::default());
            moments.iter().for_each(|moment| drop(straight.apply(moment, &Origin::Webhook)));
            order.into_iter().for_each(|at| drop(shuffled.apply(&moments[at], &Origin::Webhook)));
            prop_assert_eq!(shuffled, straight);
        }
    }
}
