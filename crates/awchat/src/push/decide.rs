//! Pure: is a pile of notices to be told now, later or not at all, and when is it tried again?

use std::time::Duration;

use crate::model::Look;
use crate::store::devices::Wanted;
use crate::store::notices::{Kind, Notice};

/// What nobody could be told by then is old.
pub const TOLD_WITHIN_MS: i64 = 15 * 60_000;
/// One message in this time tells a device of a conversation; what comes meanwhile is told as one.
pub const WINDOW_MS: i64 = 5_000;
/// Who polled this lately is looking.
const LOOKING_MS: i64 = 15_000;
/// While a long poll waits, it is looked at again after this time.
const WAITING_MS: i64 = 1_000;
/// Attempts at one notice.
pub const ATTEMPTS: i64 = 5;
/// No service is asked again sooner than this.
const SHORTEST_MS: i64 = 10_000;

/// What a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// What the user wants to be told.
    pub wanted: Wanted,
    /// Up to where the user has read.
    pub read_position: i64,
    /// Whether the user is looking.
    pub look: Look,
    /// When the device was last told of this conversation, Unix milliseconds; 0: never.
    pub told_ms: i64,
}

/// What to do with a pile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tell it.
    Tell {
        /// How many notices it stands for.
        count: usize,
        /// The newest one's place in the pile.
        newest: usize,
    },
    /// Look again at this time, Unix milliseconds.
    Wait(i64),
    /// There is nothing to tell any more.
    Drop,
}

/// Decides about a pile; its notices are in the order of their positions.
pub fn decide(kind: Kind, notices: &[Notice], facts: &Facts) -> Verdict {
    let wanted = match kind {
        Kind::Chat => facts.wanted.chat_messages,
        Kind::Ticket => facts.wanted.ticket_updates,
    };
    let is_news = |notice: &Notice| {
        facts.now_ms - notice.created_ms < TOLD_WITHIN_MS
            && notice.position > facts.read_position
            && notice.position > facts.look.shown
    };
    let news: Vec<usize> = (0..notices.len()).filter(|at| is_news(&notices[*at])).collect();
    let (Some(newest), true) = (news.last(), wanted) else { return Verdict::Drop };
    if facts.look.waiting {
        return Verdict::Wait(facts.now_ms + WAITING_MS);
    }
    let until_ms = (facts.look.polled_ms + LOOKING_MS).max(facts.told_ms + WINDOW_MS);
    if facts.now_ms < until_ms {
        return Verdict::Wait(until_ms);
    }
    Verdict::Tell { count: news.len(), newest: *newest }
}

/// How long to wait after the `attempt`th failure (from 1), given what the service asked for and `chance` in `0.0..1.0`:
/// from 10 s on, up to twice as much each time, and never sooner than asked.
pub fn backoff_ms(attempt: i64, asked: Option<Duration>, chance: f64) -> i64 {
    let asked_ms = asked.map_or(0, |asked| i64::try_from(asked.as_millis()).unwrap_or(i64::MAX / 4));
    let spread_ms = SHORTEST_MS << (attempt - 1).clamp(0, 5);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "jitter needs no precision")]
    let jitter_ms = (spread_ms as f64 * chance) as i64;
    // Many that were told to wait alike do not come back all at once.
    if asked_ms > 0 { asked_ms.max(SHORTEST_MS) + jitter_ms.min(asked_ms / 10) } else { SHORTEST_MS + jitter_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn notice(position: i64, age_ms: i64) -> Notice {
        Notice { reason: position.to_string(), position, created_ms: NOW_MS - age_ms, attempt: 1 }
    }

    fn facts() -> Facts {
        let wanted = Wanted { chat_messages: true, ticket_updates: true, system_notices: true };
        Facts { now_ms: NOW_MS, wanted, read_position: 0, look: Look::default(), told_ms: 0 }
    }

    fn of(facts: &Facts) -> Verdict {
        decide(Kind::Chat, &[notice(10, 20_000), notice(20, 1_000)], facts)
    }

    #[test]
    fn what_is_new_is_told_as_one() {
        assert_eq!(of(&facts()), Verdict::Tell { count: 2, newest: 1 });
    }

    #[test]
    fn what_was_read_or_shown_is_not_told() {
        for (read_position, shown, expected) in [
            (9, 9, Verdict::Tell { count: 2, newest: 1 }),
            (10, 0, Verdict::Tell { count: 1, newest: 1 }),
            (0, 10, Verdict::Tell { count: 1, newest: 1 }),
            (20, 0, Verdict::Drop),
            (0, 20, Verdict::Drop),
        ] {
            let look = Look { shown, ..Look::default() };
            assert_eq!(of(&Facts { read_position, look, ..facts() }), expected, "{read_position} {shown}");
        }
    }

    #[test]
    fn what_is_fifteen_minutes_old_is_not_told() {
        let told = |age_ms| decide(Kind::Chat, &[notice(10, age_ms)], &facts());
        assert_eq!(told(TOLD_WITHIN_MS - 1), Verdict::Tell { count: 1, newest: 0 });
        assert_eq!(told(TOLD_WITHIN_MS), Verdict::Drop);
    }

    #[test]
    fn each_kind_has_its_switch() {
        let all = facts().wanted;
        for (kind, wanted, told) in [
            (Kind::Chat, Wanted { chat_messages: false, ..all }, false),
            (Kind::Chat, Wanted { ticket_updates: false, ..all }, true),
            (Kind::Ticket, Wanted { ticket_updates: false, ..all }, false),
            (Kind::Ticket, Wanted { chat_messages: false, ..all }, true),
        ] {
            let verdict = decide(kind, &[notice(10, 0)], &Facts { wanted, ..facts() });
            assert_eq!(verdict != Verdict::Drop, told, "{kind:?} {wanted:?}");
        }
    }

    #[test]
    fn who_is_looking_is_told_once_the_look_is_over() {
        let waits = |polled_ms, waiting| of(&Facts { look: Look { waiting, polled_ms, shown: 0 }, ..facts() });
        assert_eq!(waits(NOW_MS - 14_999, false), Verdict::Wait(NOW_MS + 1));
        assert_eq!(waits(NOW_MS - 15_000, false), Verdict::Tell { count: 2, newest: 1 });
        assert_eq!(waits(NOW_MS - 29_000, true), Verdict::Wait(NOW_MS + 1_000));
    }

    #[test]
    fn a_device_is_told_of_a_conversation_once_in_five_seconds() {
        assert_eq!(of(&Facts { told_ms: NOW_MS - 4_999, ..facts() }), Verdict::Wait(NOW_MS + 1));
        assert_eq!(of(&Facts { told_ms: NOW_MS - 5_000, ..facts() }), Verdict::Tell { count: 2, newest: 1 });
    }

    #[test]
    fn a_service_is_asked_again_ever_more_rarely_and_never_sooner_than_it_said() {
        for (attempt, asked_s, chance, expected_ms) in [
            (1, None, 0.0, 10_000),
            (1, None, 1.0, 20_000),
            (2, None, 1.0, 30_000),
            (4, None, 1.0, 90_000),
            (9, None, 1.0, 330_000),
            (1, Some(60), 0.0, 60_000),
            (1, Some(60), 1.0, 66_000),
            (1, Some(1), 0.0, 10_000),
            (1, Some(100_000), 0.5, 100_005_000),
        ] {
            let asked = asked_s.map(Duration::from_secs);
            assert_eq!(backoff_ms(attempt, asked, chance), expected_ms, "{attempt} {asked_s:?} {chance}");
        }
    }
}
