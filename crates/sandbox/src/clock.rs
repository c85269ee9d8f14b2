//! The time that the sandbox goes by: the machine's, or a test's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Source = Arc<dyn Fn() -> i64 + Send + Sync>;

/// One for the whole sandbox; clones stay in step.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<Source>>);

impl Clock {
    /// The machine's clock.
    pub(crate) fn of_machine() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(machine_ms))))
    }

    /// Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        let source = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        source()
    }

    /// Unix seconds.
    pub(crate) fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// As the header `Date` has it.
    pub(crate) fn date(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.now_s().unsigned_abs()))
    }

    /// Goes by this from now on.
    pub(crate) fn go_by(&self, source: impl Fn() -> i64 + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(source);
    }
}

fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
