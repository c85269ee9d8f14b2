//! When to stop calling a service (Intercom, FCM, Telegram), and when to start again. Pure: time and chance are handed
//! in.
//!
//! Closed, it watches the calls of the last 30 s. Open, it refuses everything for a while. Then it is half open:
//! users' calls are still refused, and a background probe decides; so an instance that has lost all its traffic
//! because it is not ready recovers by itself. Probes run one after another, so a service never sees a burst of them.

use std::time::Duration;

const BUCKETS: usize = 10;
const BUCKET_MS: i64 = 3_000;
const ENOUGH_CALLS: u32 = 10;
const SLOW_MS: i64 = 5_000;
const PROBES_TO_CLOSE: u8 = 3;
/// The longest open time, as a multiple of the first.
const LONGEST: i64 = 6;

/// What a call was for the breaker. At Intercom a refusal (4xx) and a throttled call (429)
/// are successes: it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service answered.
    Success,
    /// No answer, or one that says that the service is broken: connect, timeout, reset, 408, 5xx.
    Failure,
    /// Our credentials or our plan were refused: 401, 402, 403.
    Auth,
}

/// Why the circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Half of the recent calls failed.
    Failures,
    /// Four fifths of the recent calls took longer than 5 s.
    Slow,
    /// Our credentials are refused; needs a person.
    Auth,
}

/// The circuit as `/ready` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open {
        /// Why.
        reason: Reason,
        /// Until the next probe.
        retry_after: Duration,
    },
    /// Calls are refused; the probe is looking.
    HalfOpen,
}

/// The state machine.
#[derive(Debug)]
pub struct Breaker {
    first_open_ms: i64,
    next_open_ms: i64,
    state: State,
    window: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { reason: Reason, until_ms: i64 },
    HalfOpen { successes: u8 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch of time this is: Unix milliseconds / `BUCKET_MS`.
    stretch: i64,
    calls: u32,
    failures: u32,
    slow: u32,
}

impl Breaker {
    /// Closed, with nothing seen. `open` is how long it stays open the first time; each probe that fails doubles it,
    /// up to six times.
    pub fn new(open: Duration) -> Self {
        let first_open_ms = i64::try_from(open.as_millis()).unwrap_or(i64::MAX / LONGEST).clamp(1, i64::MAX / LONGEST);
        Self { first_open_ms, next_open_ms: first_open_ms, state: State::Closed, window: Default::default() }
    }

    /// The circuit at `now_ms`.
    pub fn circuit(&self, now_ms: i64) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { reason, until_ms } => Circuit::Open { reason, retry_after: left(until_ms, now_ms) },
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    /// Notes how a call went. `chance` in `0.0..1.0` spreads the open time by ±20 %. True if this opened the circuit.
    pub fn record(&mut self, outcome: Outcome, took_ms: i64, now_ms: i64, chance: f64) -> bool {
        if !matches!(self.state, State::Closed) {
            return false; // A straggler of before: the probe decides now.
        }
        let stretch = now_ms.div_euclid(BUCKET_MS);
        let bucket = &mut self.window[usize::try_from(stretch.rem_euclid(BUCKETS as i64)).unwrap_or(0)];
        if bucket.stretch != stretch {
            *bucket = Bucket { stretch, ..Bucket::default() };
        }
        bucket.calls += 1;
        bucket.failures += u32::from(outcome == Outcome::Failure);
        bucket.slow += u32::from(took_ms > SLOW_MS);
        let reason = if outcome == Outcome::Auth { Some(Reason::Auth) } else { self.reason_to_open(stretch) };
        if let Some(reason) = reason {
            self.open(reason, now_ms, chance);
        }
        reason.is_some()
    }

    /// When the next probe may go: `None` while closed. Once the wait is over the circuit is half open.
    pub fn probe_in(&mut self, now_ms: i64) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::HalfOpen { .. } => Some(Duration::ZERO),
            State::Open { until_ms, .. } => {
                let wait = left(until_ms, now_ms);
                if wait.is_zero() {
                    self.state = State::HalfOpen { successes: 0 };
                }
                Some(wait)
            }
        }
    }

    /// Notes how a probe went: three successes in a row close the circuit, anything else opens it for longer.
    pub fn record_probe(&mut self, outcome: Outcome, now_ms: i64, chance: f64) {
        let State::HalfOpen { successes } = self.state else { return };
        match outcome {
            Outcome::Success if successes + 1 < PROBES_TO_CLOSE => {
                self.state = State::HalfOpen { successes: successes + 1 };
            }
            Outcome::Success => *self = Self::new(Duration::from_millis(self.first_open_ms.unsigned_abs())),
            Outcome::Failure => self.open(Reason::Failures, now_ms, chance),
            Outcome::Auth => self.open(Reason::Auth, now_ms, chance),
        }
    }

    fn reason_to_open(&self, stretch: i64) -> Option<Reason> {
        let recent = self.window.iter().filter(|bucket| stretch - bucket.stretch < BUCKETS as i64);
        let (calls, failures, slow) = recent.fold((0, 0, 0), |(calls, failures, slow), bucket| {
            (calls + bucket.calls, failures + bucket.failures, slow + bucket.slow)
        });
        if calls < ENOUGH_CALLS {
            None
        } else if failures * 2 >= calls {
            Some(Reason::Failures)
        } else {
            (slow * 5 >= calls * 4).then_some(Reason::Slow)
        }
    }

    fn open(&mut self, reason: Reason, now_ms: i64, chance: f64) {
        let longest_ms = self.first_open_ms * LONGEST;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "jitter needs no precision")]
        let open_ms = (self.next_open_ms as f64 * (0.8 + 0.4 * chance)) as i64;
        self.state = State::Open { reason, until_ms: now_ms.saturating_add(open_ms.min(longest_ms)) };
        self.next_open_ms = self.next_open_ms.saturating_mul(2).min(longest_ms);
    }
}

fn left(until_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Circuit::{Closed, HalfOpen};

    const OPEN: Duration = Duration::from_secs(10);

    /// Each letter is a call, 100 ms after the one before: `.` went well, `s` well but slowly, `x` failed, `a` was an
    /// auth failure; `|` is a pause of 30 s.
    fn after(calls: &str) -> (Breaker, i64) {
        let mut breaker = Breaker::new(OPEN);
        let mut now_ms = 1_000_000;
        for call in calls.chars() {
            let (outcome, took_ms) = match call {
                '.' => (Outcome::Success, 50),
                's' => (Outcome::Success, 5_001),
                'x' => (Outcome::Failure, 50),
                'a' => (Outcome::Auth, 50),
                _ => {
                    now_ms += 30_000;
                    continue;
                }
            };
            now_ms += 100;
            breaker.record(outcome, took_ms, now_ms, 0.5);
        }
        (breaker, now_ms)
    }

    fn check(calls: &str, expected: Option<Reason>) {
        let (breaker, now_ms) = after(calls);
        let reason = match breaker.circuit(now_ms) {
            Circuit::Open { reason, .. } => Some(reason),
            Closed | HalfOpen => None,
        };
        assert_eq!(reason, expected, "{calls}");
    }

    #[test]
    fn trips_at_half_of_ten_calls() {
        check("xxxxx.....", Some(Reason::Failures));
        check(".....xxxxx", Some(Reason::Failures));
        check("xxxx......", None);
        check("xxxxx....", None);
        check("xxxxxxxxx", None);
    }

    #[test]
    fn trips_when_four_fifths_are_slow() {
        check("ssssssss..", Some(Reason::Slow));
        check("sssssss...", None);
        check("sssssssss", None);
    }

    #[test]
    fn trips_at_once_when_the_credentials_are_refused() {
        check("a", Some(Reason::Auth));
        check("....a", Some(Reason::Auth));
    }

    #[test]
    fn forgets_what_is_older_than_the_window() {
        check("xxxxx|.....", None);
        check("xxxxx|.....xxxxx", Some(Reason::Failures));
    }

    #[test]
    fn opens_longer_each_time_and_closes_after_three_good_probes() {
        let (mut breaker, mut now_ms) = after("xxxxxxxxxx");
        for expected_s in [10, 20, 40, 60, 60] {
            assert_eq!(breaker.probe_in(now_ms), Some(Duration::from_secs(expected_s)));
            now_ms += i64::try_from(expected_s).expect("small") * 1_000;
            assert_eq!(breaker.probe_in(now_ms), Some(Duration::ZERO));
            assert_eq!(breaker.circuit(now_ms), HalfOpen);
            breaker.record_probe(Outcome::Success, now_ms, 0.5);
            breaker.record_probe(Outcome::Failure, now_ms, 0.5);
        }
        breaker.probe_in(now_ms + 60_000);
        for _ in 0..2 {
            breaker.record_probe(Outcome::Success, now_ms, 0.5);
            assert_eq!(breaker.circuit(now_ms), HalfOpen);
        }
        breaker.record_probe(Outcome::Success, now_ms, 0.5);
        assert_eq!(breaker.circuit(now_ms), Closed);
        assert_eq!(breaker.probe_in(now_ms), None);
        breaker.record(Outcome::Auth, 1, now_ms, 0.5);
        assert_eq!(breaker.probe_in(now_ms), Some(OPEN), "the next time starts short again");
    }

    #[test]
    fn stragglers_change_nothing_while_open() {
        let (mut breaker, now_ms) = after("xxxxxxxxxx");
        assert!(!breaker.record(Outcome::Success, 1, now_ms, 0.5));
        assert!(!breaker.record(Outcome::Auth, 1, now_ms, 0.5));
        check("xxxxxxxxxx", Some(Reason::Failures));
    }

    #[test]
    fn the_open_time_is_spread_and_never_above_the_longest() {
        for (chance, expected_ms) in [(0.0, 8_000), (0.5, 10_000), (1.0, 12_000)] {
            let mut breaker = Breaker::new(OPEN);
            breaker.record(Outcome::Auth, 1, 0, chance);
            assert_eq!(breaker.probe_in(0), Some(Duration::from_millis(expected_ms)));
        }
        let mut breaker = Breaker::new(OPEN);
        breaker.record(Outcome::Auth, 1, 0, 1.0);
        for now_ms in [100_000, 200_000, 300_000, 400_000] {
            breaker.probe_in(now_ms);
            breaker.record_probe(Outcome::Failure, now_ms, 1.0);
        }
        assert_eq!(breaker.probe_in(400_000), Some(Duration::from_secs(60)));
    }
}
