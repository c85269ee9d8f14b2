//! When a failed call is tried again. Pure: time and chance are handed in.
//!
//! Only what certainly had no effect, or may happen twice, is repeated; at most twice; within the time a request has;
//! and retries never exceed a tenth of the calls, so that they cannot keep a struggling Intercom down.

use std::time::Duration;

use super::{CallError, NotApplied};

const MOST_RETRIES: u32 = 2;
const SHORTEST_MS: f64 = 200.0;
const LONGEST_MS: f64 = 2_000.0;
/// A wait that Intercom asks for is borne if it is shorter than this.
const WORTH_WAITING: Duration = Duration::from_secs(2);
const MOST_TOKENS: f64 = 10.0;
const TOKENS_PER_CALL: f64 = 0.1;

/// One call's history, as far as the decision needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempted {
    /// Retries so far.
    pub(super) retries: u32,
    /// The call may happen twice without harm.
    pub(super) repeatable: bool,
    /// What is left of the time the call may take in all, after another attempt at its longest.
    pub(super) spare: Duration,
}

/// The share of retries among all calls.
#[derive(Debug)]
pub(super) struct Retries {
    tokens: f64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { tokens: MOST_TOKENS }
    }
}

impl Retries {
    /// Notes a call (not a retry).
    pub(super) fn called(&mut self) {
        self.tokens = (self.tokens + TOKENS_PER_CALL).min(MOST_TOKENS);
    }

    /// How long to wait before the next attempt; `None` if there is none. `chance` is in `0.0..1.0`.
    pub(super) fn after(&mut self, error: &CallError, attempted: Attempted, chance: f64) -> Option<Duration> {
        if attempted.retries >= MOST_RETRIES || self.tokens < 1.0 {
            return None;
        }
        let wait = match error {
            CallError::NotApplied { reason: NotApplied::Unreachable, .. } => full_jitter(attempted.retries, chance),
            CallError::NotApplied { reason: NotApplied::Throttled, retry_after: Some(wait) } => *wait,
            CallError::Ambiguous { .. } if attempted.repeatable => full_jitter(attempted.retries, chance),
            _ => return None,
        };
        if wait >= WORTH_WAITING || wait > attempted.spare {
            return None;
        }
        self.tokens -= 1.0;
        Some(wait)
    }
}

/// Somewhere between 200 ms and 1 s, then 2 s.
fn full_jitter(retries: u32, chance: f64) -> Duration {
    let longest_ms = if retries == 0 { LONGEST_MS / 2.0 } else { LONGEST_MS };
    Duration::from_secs_f64((SHORTEST_MS + chance * (longest_ms - SHORTEST_MS)) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: CallError = CallError::NotApplied { reason: NotApplied::Unreachable, retry_after: None };
    const TIMED_OUT: CallError = CallError::Ambiguous { answered: false };
    const FRESH: Attempted = Attempted { retries: 0, repeatable: false, spare: Duration::from_secs(5) };

    fn throttled(wait_ms: u64) -> CallError {
        CallError::NotApplied { reason: NotApplied::Throttled, retry_after: Some(Duration::from_millis(wait_ms)) }
    }

    #[test]
    fn only_what_had_no_effect_or_may_happen_twice_is_repeated() {
        let repeatable = Attempted { repeatable: true, ..FRESH };
        let refused = CallError::Rejected { status: 404, code: "not_found".to_owned() };
        let open = CallError::NotApplied { reason: NotApplied::CircuitOpen, retry_after: Some(Duration::ZERO) };
        let cases = [
            (&UNREACHABLE, FRESH, Some(200)),
            (&TIMED_OUT, FRESH, None),
            (&TIMED_OUT, repeatable, Some(200)),
            (&TIMED_OUT, Attempted { spare: Duration::from_millis(199), ..repeatable }, None),
            (&TIMED_OUT, Attempted { retries: 1, ..repeatable }, Some(200)),
            (&TIMED_OUT, Attempted { retries: 2, ..repeatable }, None),
            (&throttled(1_999), FRESH, Some(1_999)),
            (&throttled(2_000), FRESH, None),
            (&refused, repeatable, None),
            (&open, repeatable, None),
            (&CallError::Auth { status: 401 }, repeatable, None),
        ];
        for (error, attempted, expected_ms) in cases {
            let wait = Retries::default().after(error, attempted, 0.0);
            assert_eq!(wait, expected_ms.map(Duration::from_millis), "{error:?} {attempted:?}");
        }
    }

    #[test]
    fn retries_are_at_most_a_tenth_of_the_calls() {
        let mut retries = Retries::default();
        let granted = |retries: &mut Retries| {
            retries.called();
            retries.after(&UNREACHABLE, FRESH, 0.0).is_some()
        };
        assert!((0..10).all(|_| granted(&mut retries)), "the first ten, to be of use on a quiet server");
        let more = (0..1_000).filter(|_| granted(&mut retries)).count();
        assert!((99..=101).contains(&more), "{more}");
    }

    #[test]
    fn the_wait_is_spread() {
        let wait = |retries, chance| full_jitter(retries, chance).as_millis();
        assert_eq!([wait(0, 0.0), wait(0, 1.0), wait(1, 0.0), wait(1, 1.0)], [200, 1_000, 200, 2_000]);
    }
}
