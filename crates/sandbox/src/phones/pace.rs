//! How fast somebody may send: one message every so often, some of them early.

/// Counts with one number: when the next message would be due if all came as slowly as they should.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    every_us: i64,
    early_us: i64,
    due_us: i64,
}

impl Pace {
    /// `count` messages in `per_ms` milliseconds in the long run; one may come `early_ms` before it is due.
    pub(crate) fn new(count: i64, per_ms: i64, early_ms: i64) -> Self {
        Self { every_us: per_ms * 1000 / count, early_us: early_ms * 1000, due_us: 0 }
    }

    /// Counts a message, or says in how many milliseconds one would do.
    pub(crate) fn take(&mut self, now_ms: i64) -> Result<(), i64> {
        let now_us = now_ms * 1000;
        let due_us = self.due_us.max(now_us);
        let ahead_us = due_us - now_us - self.early_us;
        if ahead_us > 0 {
            return Err(ahead_us.div_euclid(1000) + 1);
        }
        self.due_us = due_us + self.every_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn one_a_second_may_come_a_little_early_but_not_always() {
        let mut pace = Pace::new(1, 1000, 100);
        assert_eq!(pace.take(0), Ok(()));
        assert_eq!(pace.take(500), Err(401));
        assert_eq!(pace.take(900), Ok(()));
        assert_eq!(pace.take(1800), Err(101), "the second one was early already");
        assert_eq!(pace.take(2000), Ok(()));
    }

    #[test]
    fn a_burst_is_paid_back() {
        let mut pace = Pace::new(30, 1000, 967);
        let burst = (0..100).filter(|_| pace.take(5000).is_ok()).count();
        assert_eq!(burst, 30);
        let after = (0..100).filter(|_| pace.take(5100).is_ok()).count();
        assert_eq!(after, 3);
    }
}
