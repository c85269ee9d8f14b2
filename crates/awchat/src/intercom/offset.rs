//! Where Intercom's clock stands, learnt from the header `Date` of its answers, so that Intercom's times are compared with
//! Intercom's, whatever this machine's clock says.
//!
//! An answer says a whole second. It was written after the question went out and before it came in, so it bounds the
//! offset from both sides (RFC 9110 §6.6.1 for the header; the bounds are those of Marzullo's algorithm in NTP). Where in
//! the second an answer falls differs, so a few narrow the bounds to a round trip.

/// Intercom's time less our ticks, in milliseconds: between the two, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offset(Option<Bounds>);

#[derive(Clone, Copy, Debug)]
struct Bounds {
    least_ms: i64,
    most_ms: i64,
    /// When they were last narrowed, in ticks.
    learnt_ms: i64,
}

/// A header `Date` is good for a whole second.
const SECOND_MS: i64 = 1_000;
/// Two clocks part by at most a millisecond in so many: what was learnt grows less exact.
const DRIFT: i64 = 10_000;

impl Offset {
    /// An answer dated `date_ms` to a question that went out and was answered at these ticks.
    pub fn learn(&mut self, sent_ms: i64, answered_ms: i64, date_ms: i64) {
        let seen =
            Bounds { least_ms: date_ms - answered_ms, most_ms: date_ms + SECOND_MS - sent_ms, learnt_ms: answered_ms };
        let known = self.0.map(|known| known.at(answered_ms)).map(|known| Bounds {
            least_ms: known.least_ms.max(seen.least_ms),
            most_ms: known.most_ms.min(seen.most_ms),
            ..seen
        });
        // One that contradicts the others: a clock was set.
        self.0 = Some(known.filter(|known| known.least_ms <= known.most_ms).unwrap_or(seen));
    }

    /// The least that Intercom's clock can have shown at these ticks, Unix milliseconds; `None` before the first answer.
    pub fn time_at(&self, ticks_ms: i64) -> Option<i64> {
        self.0.map(|known| known.at(ticks_ms).least_ms + ticks_ms)
    }
}

impl Bounds {
    fn at(self, ticks_ms: i64) -> Self {
        let drift_ms = (ticks_ms - self.learnt_ms).max(0) / DRIFT;
        Self { least_ms: self.least_ms - drift_ms, most_ms: self.most_ms + drift_ms, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Intercom's clock in these tests: ahead of the ticks by this much.
    const AHEAD_MS: i64 = 1_800_000_000_321;

    fn asks(offset: &mut Offset, sent_ms: i64, took_ms: i64) {
        let date_ms = (sent_ms + took_ms / 2 + AHEAD_MS).div_euclid(1000) * 1000;
        offset.learn(sent_ms, sent_ms + took_ms, date_ms);
    }

    #[test]
    fn it_is_never_later_than_intercoms_clock_and_a_few_answers_bring_it_within_a_round_trip() {
        let mut offset = Offset::default();
        assert_eq!(offset.time_at(5_000), None);
        for nth in 0..40 {
            let sent_ms = nth * 1_337;
            asks(&mut offset, sent_ms, 80);
            let behind_ms = sent_ms + AHEAD_MS - offset.time_at(sent_ms).expect("an answer came");
            assert!((0..=1_080).contains(&behind_ms), "{behind_ms}");
            assert!(nth < 20 || behind_ms <= 150, "after {nth} answers still {behind_ms} ms behind");
        }
    }

    #[test]
    fn what_was_learnt_grows_less_exact() {
        let mut offset = Offset::default();
        asks(&mut offset, 0, 100);
        let (now, tomorrow) = (offset.time_at(100), offset.time_at(100 + 86_400_000));
        assert_eq!(tomorrow.map(|at| at - 86_400_000), now.map(|at| at - 8_640));
    }

    #[test]
    fn a_clock_that_was_set_is_learnt_anew() {
        let mut offset = Offset::default();
        asks(&mut offset, 0, 100);
        for date_ms in [AHEAD_MS + 60_000, AHEAD_MS - 60_000] {
            offset.learn(1_000, 1_100, date_ms);
            assert_eq!(offset.time_at(1_100), Some(date_ms));
        }
    }
}
