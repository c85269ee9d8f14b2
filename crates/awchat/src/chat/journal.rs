//! The sending journal's decisions: pure, with time handed in. `sending` carries them out.
//!
//! A row is `sending` while a request is out, `unknown` when its answer did not come, and in the end `sent`,
//! `rejected` or `abandoned`. Two facts decide the rest: whether an attempt may have been applied without our
//! knowing (`ambiguous`), and whether the client was told that it failed (`told`).

use std::time::Duration;

use crate::store::outbound::{Journal, Kind, Outbound, Told};

/// How long after a 502 the same words without a key are the same message, in milliseconds.
pub const ADOPT_MS: i64 = 600_000;
/// How long after a crash a message that nobody was told about is still sent, in milliseconds.
const INTENT_MS: i64 = 600_000;
/// An answered 5xx has had its effect by then, or never has, in milliseconds.
const ANSWERED_SETTLE_MS: i64 = 1_000;
/// What a request may spend on waiting for its turn, in milliseconds.
const QUEUE_MS: i64 = 1_000;
/// What a process has for writing down how an attempt ended, in milliseconds.
const FORGOTTEN_MS: i64 = 30_000;
/// Between two looks for a message whose fate is unknown, in milliseconds.
pub const LOOK_MS: i64 = 2_000;

/// How late Intercom may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long one request may take, in milliseconds.
    pub timeout_ms: i64,
    /// How long after that it may still be applied, in milliseconds.
    pub settle_ms: i64,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it, or send it again.
    Send,
    /// Ask Intercom what became of it.
    Look,
    /// Give the answer that was given before.
    Replay,
    /// Its key came with another payload.
    Mismatch,
}

impl Patience {
    /// From settings.
    pub fn new(timeout: Duration, settle: Duration) -> Self {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4);
        Self { timeout_ms: ms(timeout), settle_ms: ms(settle) }
    }

    fn settle_ms(self, kind: Kind, answered: bool) -> i64 {
        match (kind, answered) {
            (Kind::Reply | Kind::TicketReply, true) => self.settle_ms.min(ANSWERED_SETTLE_MS),
            (Kind::Reply | Kind::TicketReply, false) => self.settle_ms,
            // A new conversation is found by search, whose index lags.
            (Kind::Create, _) => self.settle_ms.saturating_mul(2),
        }
    }
}

/// A request with this fingerprint came: what of the row that it repeats, if there is one?
pub fn on_request(row: Option<&Outbound>, fingerprint: &str) -> Next {
    match row {
        None => Next::Send,
        Some(row) if row.fingerprint != fingerprint => Next::Mismatch,
        Some(row) => match row.state {
            Journal::Sent => Next::Replay,
            Journal::Sending | Journal::Unknown => Next::Look,
            Journal::Rejected | Journal::Abandoned => Next::Send,
        },
    }
}

/// The row of an attempt that is about to begin.
pub fn sending(row: Outbound, now_ms: i64) -> Outbound {
    Outbound { state: Journal::Sending, attempts: row.attempts + 1, attempt_ms: now_ms, ..row }
}

/// Another attempt of a row that was `seen` to allow one: `None` if it has gone on since, found at Intercom or taken on
/// by another node. `asked`: the client asks for it again, whatever it was told; otherwise its wish must still stand.
pub fn again(seen: &Outbound, row: Outbound, asked: bool, now_ms: i64) -> Option<Outbound> {
    let may = is_as(seen, &row) && row.state != Journal::Sent && (asked || is_still_wanted(&row, now_ms));
    let told = match (asked, &row.key) {
        (true, None) => Told::Shared,
        (true, Some(_)) => Told::Nothing,
        (false, _) => row.told,
    };
    may.then(|| sending(Outbound { told, ..row }, now_ms))
}

/// Whether nobody has taken the row on since it was seen.
fn is_as(seen: &Outbound, row: &Outbound) -> bool {
    let mark = |row: &Outbound| (row.state, row.attempts, row.attempt_ms, row.settle_until_ms);
    mark(seen) == mark(row)
}

/// No answer came, or one that says nothing (`answered`): from when on is absence at Intercom final?
pub fn unknown(row: Outbound, answered: bool, now_ms: i64, patience: Patience) -> Outbound {
    let settle_until_ms = now_ms.saturating_add(patience.settle_ms(row.kind, answered));
    Outbound { state: Journal::Unknown, ambiguous: true, settle_until_ms, ..row }
}

/// The process that was sending has died: it may have been applied, as late as after a timeout. The request was
/// written before now, but not necessarily when the attempt began: it may have waited for its turn, or be the second
/// after a refused connection.
pub fn orphaned(row: Outbound, now_ms: i64, patience: Patience) -> Outbound {
    let answer_due_ms =
        latest_start_ms(&row, patience).min(now_ms.max(row.attempt_ms)).saturating_add(patience.timeout_ms);
    unknown(row, false, answer_due_ms, patience)
}

/// The same of a row that was `seen` in its journal: one that has gone on since stays as it is.
pub fn orphaned_as_seen(seen: &Outbound, row: Outbound, now_ms: i64, patience: Patience) -> Outbound {
    if is_as(seen, &row) { orphaned(row, now_ms, patience) } else { row }
}

/// Whether a row has been `sending` for longer than anybody can have been at it: another process has died over it, or
/// its commit was not told to who made it.
pub fn is_forgotten(row: &Outbound, now_ms: i64, patience: Patience) -> bool {
    let answer_due_ms = latest_start_ms(row, patience).saturating_add(patience.timeout_ms);
    row.state == Journal::Sending && now_ms >= answer_due_ms.saturating_add(FORGOTTEN_MS)
}

fn latest_start_ms(row: &Outbound, patience: Patience) -> i64 {
    row.attempt_ms.saturating_add(patience.timeout_ms / 2 + QUEUE_MS)
}

/// Whether a row that was not at Intercom when it was asked at `asked_ms` will never be. `seen` is the row as it was
/// before the question: what another node learnt meanwhile, by a clock of its own, is a question of its own.
pub fn is_absent(seen: &Outbound, row: &Outbound, asked_ms: i64) -> bool {
    row.state == Journal::Unknown && is_as(seen, row) && asked_ms >= row.settle_until_ms
}

/// Sent once more without being asked for, and certainly without effect: it still waits to be.
pub fn deferred(row: Outbound) -> Outbound {
    Outbound { state: Journal::Unknown, ..row }
}

/// Certainly without effect: refused by Intercom, or never sent. One of whose earlier attempts nobody knows may come
/// yet, refused or not.
pub fn not_applied(row: Outbound, refused: bool) -> Outbound {
    let state = if refused && !row.ambiguous { Journal::Rejected } else { Journal::Abandoned };
    Outbound { state, ..row }
}

/// Given up as it was `seen`: one that has gone on since, asked for at another node, stays as it is.
pub fn given_up(seen: &Outbound, row: Outbound) -> Outbound {
    if is_as(seen, &row) { not_applied(row, false) } else { row }
}

/// What an attempt's end makes of its row, unless another attempt has begun since.
pub fn after_attempt(seen: &Outbound, row: Outbound, step: impl FnOnce(Outbound) -> Outbound) -> Outbound {
    if row.attempts == seen.attempts { step(row) } else { row }
}

/// The client hears 502: from now on the message is sent again only if the client asks for it.
pub fn told(row: Outbound) -> Outbound {
    Outbound { told: Told::Unavailable, ..row }
}

/// Another request asks for a row that has no end yet. Requests with a key need no such note.
pub fn shared(row: Outbound) -> Outbound {
    let is_news = row.key.is_none() && blocks(&row) && row.told == Told::Nothing;
    Outbound { told: if is_news { Told::Shared } else { row.told }, ..row }
}

/// Whether a row that turned out not to be at Intercom is sent without being asked for: its process died, so the
/// client was told nothing and the wish stands, for a while.
pub fn is_still_wanted(row: &Outbound, now_ms: i64) -> bool {
    matches!(row.told, Told::Nothing | Told::Shared) && now_ms.saturating_sub(row.created_ms) < INTENT_MS
}

/// Whether later messages of the conversation wait for this one.
pub fn blocks(row: &Outbound) -> bool {
    matches!(row.state, Journal::Sending | Journal::Unknown)
}

/// Whole seconds until asking again makes sense.
pub fn retry_after_s(row: &Outbound, now_ms: i64) -> u64 {
    let remaining_ms = row.settle_until_ms.saturating_sub(now_ms).max(1);
    u64::try_from(remaining_ms).unwrap_or(1).div_ceil(1000)
}

/// Milliseconds until the next look.
pub fn next_look_ms(row: &Outbound, now_ms: i64) -> i64 {
    row.settle_until_ms.saturating_sub(now_ms).clamp(LOOK_MS, 5 * LOOK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;

    const PATIENCE: Patience = Patience { timeout_ms: 10_000, settle_ms: 30_000 };
    const BEGUN_MS: i64 = 1_000_000;

    fn row(state: Journal) -> Outbound {
        let text = String::new;
        Outbound {
            id: text(),
            user: UserId::parse("ada").expect("a user id"),
            conversation: None,
            kind: Kind::Reply,
            route: text(),
            key: None,
            fingerprint: "same".to_owned(),
            content: text(),
            body: text(),
            payload: text(),
            state,
            attempts: 1,
            ambiguous: false,
            told: Told::Nothing,
            attempt_ms: BEGUN_MS,
            settle_until_ms: 0,
            part_id: None,
            response: None,
            created_ms: BEGUN_MS,
        }
    }

    #[test]
    fn a_repeated_request_is_looked_for_replayed_or_sent_as_its_row_says() {
        use Journal::{Abandoned, Rejected, Sending, Sent, Unknown};
        assert_eq!(on_request(None, "same"), Next::Send);
        for (state, next) in [
            (Sending, Next::Look),
            (Unknown, Next::Look),
            (Sent, Next::Replay),
            (Rejected, Next::Send),
            (Abandoned, Next::Send),
        ] {
            assert_eq!(on_request(Some(&row(state)), "same"), next, "{state:?}");
            assert_eq!(on_request(Some(&row(state)), "other"), Next::Mismatch, "{state:?}");
        }
    }

    #[test]
    fn absence_is_final_when_a_request_written_at_the_last_moment_has_settled() {
        // Killed `after` the attempt began and started again `later`: when the last request can have been written.
        for (restarted_after_ms, last_written_ms) in [
            (0, 0),
            (1_200, 1_200),
            (6_000, 6_000),
            // Half a timeout for the attempts before the last, and a second in the queue.
            (3_600_000, 6_000),
            // A clock that was set back.
            (-5_000, 0),
        ] {
            let orphan = orphaned(row(Journal::Sending), BEGUN_MS + restarted_after_ms, PATIENCE);
            let expected = BEGUN_MS + last_written_ms + PATIENCE.timeout_ms + PATIENCE.settle_ms;
            assert_eq!(orphan.settle_until_ms, expected, "{restarted_after_ms}");
            assert!(
                orphan.ambiguous && !is_absent(&orphan, &orphan, expected - 1) && is_absent(&orphan, &orphan, expected)
            );
        }
    }

    #[test]
    fn an_answered_failure_settles_soon_and_a_new_conversation_late() {
        let settles_after = |kind, answered| {
            let row = Outbound { kind, ..row(Journal::Sending) };
            unknown(row, answered, BEGUN_MS, PATIENCE).settle_until_ms - BEGUN_MS
        };
        assert_eq!(settles_after(Kind::Reply, true), 1_000);
        assert_eq!(settles_after(Kind::Reply, false), 30_000);
        assert_eq!(settles_after(Kind::Create, true), 60_000);
        assert_eq!(settles_after(Kind::Create, false), 60_000);
    }

    #[test]
    fn what_nobody_was_told_about_is_wanted_for_ten_minutes() {
        let unknown = row(Journal::Unknown);
        assert!(is_still_wanted(&unknown, BEGUN_MS + INTENT_MS - 1));
        assert!(!is_still_wanted(&unknown, BEGUN_MS + INTENT_MS));
        assert!(!is_still_wanted(&told(unknown.clone()), BEGUN_MS));
        let asked = again(&told(unknown.clone()), told(unknown), true, BEGUN_MS).expect("nobody was faster");
        assert!(is_still_wanted(&asked, BEGUN_MS), "asked for again, it is wanted again");
    }

    #[test]
    fn a_row_is_forgotten_when_nobody_can_be_at_it_any_more() {
        let due_ms = BEGUN_MS + PATIENCE.timeout_ms / 2 + QUEUE_MS + PATIENCE.timeout_ms + FORGOTTEN_MS;
        let sending = row(Journal::Sending);
        assert!(!is_forgotten(&sending, due_ms - 1, PATIENCE) && is_forgotten(&sending, due_ms, PATIENCE));
        assert!(!is_forgotten(&row(Journal::Unknown), due_ms, PATIENCE), "somebody looks for it");
    }

    #[test]
    fn a_refusal_ends_a_row_unless_an_earlier_attempt_may_come_yet() {
        let state = |ambiguous| not_applied(Outbound { ambiguous, ..row(Journal::Sending) }, true).state;
        assert_eq!((state(false), state(true)), (Journal::Rejected, Journal::Abandoned));
    }

    #[test]
    fn another_attempt_begins_only_if_the_row_has_not_gone_on_since_it_was_seen() {
        let seen = Outbound { settle_until_ms: BEGUN_MS + 30_000, ..row(Journal::Unknown) };
        let told = Outbound { told: Told::Unavailable, ..seen.clone() };
        let begun = Outbound { state: Journal::Sending, attempts: 2, ..seen.clone() };
        let answered = Outbound { settle_until_ms: BEGUN_MS + 1_000, ..seen.clone() };
        let found = Outbound { state: Journal::Sent, ..seen.clone() };
        for (now, asked, may) in [
            (&seen, true, true),
            (&seen, false, true),
            (&told, true, true),
            (&told, false, false),
            (&begun, true, false),
            (&answered, true, false),
            (&found, true, false),
        ] {
            let next = again(&seen, now.clone(), asked, BEGUN_MS + 40_000);
            assert_eq!(
                next.is_some_and(|row| row.state == Journal::Sending && row.told != Told::Unavailable),
                may,
                "{now:?} {asked}"
            );
        }
        assert!(again(&found, found.clone(), true, BEGUN_MS).is_none());
        assert!(!is_absent(&seen, &answered, BEGUN_MS + 40_000), "another node's clock set that end");
    }
}
