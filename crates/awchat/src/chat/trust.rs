//! Whether heads in memory can be behind the database: other nodes write there too.
//!
//! Alone, never. In touch with the other nodes, not beyond what is on its way; what was read before the touch was made
//! does not count. Out of touch, a head holds for a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Out of touch, a head is read anew after this long.
const AGE_MS: i64 = 1_000;
/// In touch, after this long: a net below all others, which costs each polled conversation one look a minute.
const AGE_IN_TOUCH_MS: i64 = 60_000;
/// When something may have been missed, those who wait ask the database within this time, not all at once.
pub const SPREAD: Duration = Duration::from_secs(1);

/// When the database was read: under which touch, and at what time (Unix milliseconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsOf {
    touch: u64,
    ms: i64,
}

/// What heads are worth.
#[derive(Debug)]
pub struct Trust {
    is_alone: bool,
    /// Every word of the other nodes is heard.
    is_in_touch: AtomicBool,
    /// Grows whenever something may have been missed.
    touch: AtomicU64,
    shaken: Notify,
}

impl Trust {
    /// `is_alone`: no other process writes to the database.
    pub fn new(is_alone: bool) -> Self {
        Self { is_alone, is_in_touch: AtomicBool::new(false), touch: AtomicU64::new(1), shaken: Notify::new() }
    }

    /// Whether no other process writes to the database.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// To be asked before the database is.
    pub fn as_of(&self, now_ms: i64) -> AsOf {
        AsOf { touch: self.touch.load(Ordering::Acquire), ms: now_ms }
    }

    /// Whether what was read then still holds, but for what is on its way.
    pub fn holds(&self, as_of: AsOf, now_ms: i64) -> bool {
        if self.is_alone {
            return true;
        }
        let is_in = self.is_in_touch.load(Ordering::Acquire) && self.touch.load(Ordering::Acquire) == as_of.touch;
        let age_ms = if is_in { AGE_IN_TOUCH_MS } else { AGE_MS };
        (0..age_ms).contains(&now_ms.saturating_sub(as_of.ms))
    }

    /// How long a wait of `left` may rest on a head that holds before the database is asked again.
    pub fn rest(&self, left: Duration) -> Duration {
        let is_in = self.is_alone || self.is_in_touch.load(Ordering::Acquire);
        if is_in { left } else { left.min(Duration::from_millis(AGE_MS.unsigned_abs())) }
    }

    /// From now on every word of the other nodes is heard, or no longer.
    pub fn set_in_touch(&self, is_in: bool) {
        if self.is_in_touch.swap(is_in, Ordering::AcqRel) && !is_in {
            self.miss();
        }
    }

    /// Something may have been missed: what was read until now does not count.
    pub fn miss(&self) {
        self.touch.fetch_add(1, Ordering::AcqRel);
        self.shaken.notify_waiters();
    }

    /// Waits until something may have been missed.
    pub fn shaken(&self) -> Notified<'_> {
        self.shaken.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_a_head_holds_for_ever() {
        let trust = Trust::new(true);
        assert!(trust.holds(AsOf::default(), i64::MAX));
    }

    #[test]
    fn out_of_touch_a_head_holds_for_a_second() {
        let trust = Trust::new(false);
        let as_of = trust.as_of(10_000);
        for (now_ms, holds) in [(10_000, true), (10_999, true), (11_000, false), (9_999, false)] {
            assert_eq!(trust.holds(as_of, now_ms), holds, "at {now_ms}");
        }
        assert!(!trust.holds(AsOf::default(), 10_000), "what was never read");
    }

    #[test]
    fn in_touch_a_head_of_this_touch_holds_until_something_may_have_been_missed() {
        let trust = Trust::new(false);
        let before = trust.as_of(0);
        trust.miss();
        let (since, later_ms) = (trust.as_of(0), 50_000);
        assert!(!trust.holds(since, later_ms), "not in touch yet");
        trust.set_in_touch(true);
        assert!(trust.holds(since, later_ms) && !trust.holds(before, later_ms));
        assert!(!trust.holds(since, 60_000), "the net below");
        trust.miss();
        assert!(!trust.holds(since, later_ms));
        let since = trust.as_of(0);
        trust.set_in_touch(false);
        trust.set_in_touch(true);
        assert!(!trust.holds(since, later_ms), "it was lost in between");
    }
}
