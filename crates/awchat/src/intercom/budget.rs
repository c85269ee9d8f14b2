//! How much of Intercom's rate limit each kind of call may use. Pure: time is handed in.
//!
//! Intercom counts calls in windows of 10 s and says in `X-RateLimit-Limit`, `-Remaining` and `-Reset` how many are
//! left (its "rate limiting"; the limit differs by workspace, so it is never a constant here). Before the first
//! such answer nothing is held back.
//!
//! Of a window, half is kept for users' writes, 15 % for looking whether they arrived, 20 % for refreshing the mirror,
//! 15 % for sweeps. What a less important kind leaves is free for the more important ones, never the other way round:
//! so each kind stops at a floor, the sum of the shares above it.

use std::time::Duration;

/// Intercom's window, in milliseconds.
const WINDOW_MS: i64 = 10_000;
/// No window ends later than this: a reset further away is a clock that is wrong.
const LONGEST_PAUSE_MS: i64 = 15_000;
/// More than any limit of Intercom's; keeps the arithmetic safe.
const MOST_CALLS: i64 = 1_000_000;
/// After a 429 that does not say when to come back.
const SHORTEST_PAUSE_MS: i64 = 1_000;

/// What a call is for: decides which share of the rate limit it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A user's message, conversation or close: may use everything.
    Write,
    /// Looking whether a write arrived, and what follows a write (notes, tags).
    Reconcile,
    /// Bringing the mirror up to date where something changed.
    Refresh,
    /// Looking for changes nobody told us of.
    Sweep,
}

impl Class {
    /// The share of a window that must be left after the call, in percent.
    fn floor_percent(self) -> i64 {
        match self {
            Self::Write => 0,
            Self::Reconcile => 50,
            Self::Refresh => 65,
            Self::Sweep => 85,
        }
    }
}

/// What an answer said about the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `X-RateLimit-Limit`: calls per window.
    pub limit: Option<i64>,
    /// `X-RateLimit-Remaining`: calls left in this window.
    pub remaining: Option<i64>,
    /// `X-RateLimit-Reset`: when the window ends, Unix seconds.
    pub reset_s: Option<i64>,
    /// `Retry-After` in seconds: undocumented, honoured.
    pub retry_after_s: Option<i64>,
}

/// What is left of the current window, as far as we know.
#[derive(Debug, Default)]
pub struct Budget {
    window: Option<Window>,
    paused_until_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    limit: i64,
    left: i64,
    ends_ms: i64,
    /// No answer of this window was seen yet: `ends_ms` is the latest it can be.
    guessed: bool,
}

impl Budget {
    /// Takes one call out of the budget.
    ///
    /// # Errors
    /// How long this class must wait.
    pub fn take(&mut self, class: Class, now_ms: i64) -> Result<(), Duration> {
        self.pause(now_ms)?;
        self.roll(now_ms);
        let Some(window) = &mut self.window else { return Ok(()) };
        if (window.left - 1) * 100 < window.limit * class.floor_percent() {
            return Err(millis(window.ends_ms - now_ms));
        }
        window.left -= 1;
        Ok(())
    }

    /// Whether Intercom told us to wait.
    ///
    /// # Errors
    /// How long.
    pub fn pause(&self, now_ms: i64) -> Result<(), Duration> {
        if now_ms < self.paused_until_ms { Err(millis(self.paused_until_ms - now_ms)) } else { Ok(()) }
    }

    /// Learns from an answer's headers. What is answered while everybody waits was asked before, and says nothing of the
    /// time after.
    pub fn learn(&mut self, seen: Seen, now_ms: i64) {
        if self.pause(now_ms).is_err() {
            return;
        }
        let (Some(limit @ 1..), Some(remaining)) = (seen.limit, seen.remaining) else { return };
        let ends_ms = seen.reset_s.map_or(now_ms.saturating_add(WINDOW_MS), |s| s.saturating_mul(1_000));
        let ends_ms = ends_ms.min(now_ms.saturating_add(LONGEST_PAUSE_MS));
        let limit = limit.min(MOST_CALLS);
        let remaining = remaining.clamp(0, limit);
        // Answers overtake one another: within a window only less can be left, and an older window says nothing.
        let left = match self.window {
            Some(known) if known.guessed => known.left.min(remaining),
            Some(known) if ends_ms < known.ends_ms - WINDOW_MS / 2 => return,
            Some(known) if ends_ms <= known.ends_ms + WINDOW_MS / 2 => known.left.min(remaining),
            _ => remaining,
        };
        self.window = Some(Window { limit, left, ends_ms, guessed: false });
    }

    /// Intercom answered 429: everybody waits for the reset, with which a window begins. Returns how long.
    pub fn throttled(&mut self, seen: Seen, now_ms: i64) -> Duration {
        let asked_ms = match (seen.retry_after_s, seen.reset_s) {
            (Some(wait_s), _) => wait_s.saturating_mul(1_000),
            (None, Some(reset_s)) => reset_s.saturating_mul(1_000).saturating_sub(now_ms),
            (None, None) => SHORTEST_PAUSE_MS,
        };
        let pause_ms = asked_ms.clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS);
        self.paused_until_ms = self.paused_until_ms.max(now_ms.saturating_add(pause_ms));
        if let Some(window) = &mut self.window {
            window.ends_ms = self.paused_until_ms;
        }
        millis(self.paused_until_ms - now_ms)
    }

    /// The share of the window that is left, `0.0..=1.0`; `None` before Intercom said anything.
    pub fn left(&mut self, now_ms: i64) -> Option<f64> {
        self.roll(now_ms);
        #[expect(clippy::cast_precision_loss, reason = "a share for a human to read")]
        self.window.map(|window| window.left as f64 / window.limit as f64)
    }

    /// A window that has ended gives way to a full one.
    fn roll(&mut self, now_ms: i64) {
        if let Some(window) = &mut self.window
            && now_ms >= window.ends_ms
        {
            let (limit, ends_ms) = (window.limit, now_ms.saturating_add(WINDOW_MS));
            *window = Window { limit, left: limit, ends_ms, guessed: true };
        }
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Reconcile, Refresh, Sweep, Write};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn told(limit: i64, remaining: i64, resets_in_s: i64) -> Seen {
        Seen {
            limit: Some(limit),
            remaining: Some(remaining),
            reset_s: Some(NOW_MS / 1_000 + resets_in_s),
            retry_after_s: None,
        }
    }

    fn with(limit: i64, remaining: i64) -> Budget {
        let mut budget = Budget::default();
        budget.learn(told(limit, remaining, 5), NOW_MS);
        budget
    }

    #[test]
    fn nothing_is_held_back_before_the_first_answer() {
        let mut budget = Budget::default();
        assert!((0..1_000).all(|_| budget.take(Sweep, NOW_MS).is_ok()));
        assert_eq!(budget.left(NOW_MS), None);
    }

    #[test]
    fn each_class_stops_at_its_floor() {
        for (class, granted) in [(Sweep, 15), (Refresh, 35), (Reconcile, 50), (Write, 100)] {
            let mut budget = with(100, 100);
            assert_eq!((0..200).filter(|_| budget.take(class, NOW_MS).is_ok()).count(), granted, "{class:?}");
            assert_eq!(budget.take(class, NOW_MS), Err(Duration::from_secs(5)), "until the window ends");
        }
    }

    #[test]
    fn a_users_write_goes_before_a_sweep() {
        let mut budget = with(100, 10);
        assert!(budget.take(Sweep, NOW_MS).is_err());
        assert!(budget.take(Write, NOW_MS).is_ok());
    }

    #[test]
    fn the_next_window_is_full_again() {
        let mut budget = with(100, 0);
        assert!(budget.take(Write, NOW_MS + 4_999).is_err());
        assert!(budget.take(Sweep, NOW_MS + 5_000).is_ok());
        assert_eq!(budget.left(NOW_MS + 5_000), Some(0.99));
        budget.learn(told(100, 70, 8), NOW_MS + 5_000);
        assert_eq!(budget.left(NOW_MS + 5_000), Some(0.7), "until an answer says better");
    }

    #[test]
    fn answers_that_overtake_one_another_never_give_calls_back() {
        let mut budget = with(100, 40);
        budget.learn(told(100, 60, 5), NOW_MS);
        assert_eq!(budget.left(NOW_MS), Some(0.4));
        budget.learn(told(100, 90, 12), NOW_MS);
        assert_eq!(budget.left(NOW_MS), Some(0.9), "a new window");
        budget.learn(told(100, 10, 2), NOW_MS);
        assert_eq!(budget.left(NOW_MS), Some(0.9), "the old one says nothing");
    }

    #[test]
    fn when_a_429_is_over_a_window_begins_whatever_was_answered_meanwhile() {
        for seen in [told(100, 0, 1), Seen { retry_after_s: Some(1), ..told(100, 0, 8) }] {
            let mut budget = Budget::default();
            budget.learn(told(100, 60, 4), NOW_MS);
            budget.learn(seen, NOW_MS);
            budget.throttled(seen, NOW_MS);
            budget.learn(told(100, 59, 4), NOW_MS + 10);
            assert!(budget.take(Class::Write, NOW_MS + 999).is_err());
            assert_eq!(budget.take(Class::Write, NOW_MS + 1_000), Ok(()), "{seen:?}");
        }
    }

    #[test]
    fn a_429_stops_everybody_until_the_reset() {
        let cases = [
            (Seen { retry_after_s: Some(3), ..told(100, 0, 7) }, 3_000),
            (told(100, 0, 7), 7_000),
            (told(100, 0, -100), 1_000),
            (told(100, 0, 1_000), 15_000),
            (Seen::default(), 1_000),
        ];
        for (seen, expected_ms) in cases {
            let mut budget = Budget::default();
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(budget.throttled(seen, NOW_MS), expected);
            assert_eq!(budget.take(Write, NOW_MS), Err(expected));
            assert!(budget.take(Write, NOW_MS + 15_000).is_ok());
        }
    }

    #[test]
    fn absurd_headers_are_harmless() {
        let mut budget = Budget::default();
        for (limit, remaining, reset_s) in [(0, 0, 0), (-5, 3, 1), (i64::MAX, i64::MIN, i64::MAX), (10, 999, i64::MIN)]
        {
            let (limit, remaining, reset_s) = (Some(limit), Some(remaining), Some(reset_s));
            let seen = Seen { limit, remaining, reset_s, retry_after_s: reset_s };
            budget.learn(seen, NOW_MS);
            budget.throttled(seen, NOW_MS);
            let _ = budget.take(Sweep, NOW_MS + 20_000);
        }
    }
}
