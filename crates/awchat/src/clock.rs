//! The only place that asks what time it is, and the only place that waits.
//!
//! Everything that depends on time takes a [`Clock`], so that a test advances it instead of sleeping.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use tokio::sync::watch;
use tokio::time::Sleep;

/// The time of day in Unix milliseconds, and a way to wait for a later one.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The machine's, and when this was made.
    System(Instant),
    Manual(Arc<watch::Sender<i64>>),
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that stands at `now_ms` until [`Clock::advance`] moves it.
    pub fn manual(now_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(now_ms))))
    }

    /// Unix time in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Unix time in whole seconds, rounded down.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// Milliseconds since some moment, by a clock that nobody sets: for how long something took.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    pub fn ticks_ms(&self) -> i64 {
        match &self.0 {
            Source::System(made) => i64::try_from(made.elapsed().as_millis()).unwrap_or(i64::MAX),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Waits until `duration` has passed on this clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System(_) => tokio::time::sleep(duration).await,
            Source::Manual(now) => {
                let wait_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                let until = self.now_ms().saturating_add(wait_ms);
                let mut now = now.subscribe();
                // The sender lives in `self`, so this cannot fail while the caller holds the clock.
                let _ = now.wait_for(|now| *now >= until).await;
            }
        }
    }

    /// Moves a manual clock forward (or back, with a negative number) and wakes whoever waits for the new time.
    ///
    /// # Panics
    /// On the system clock: a program that tries to set it is wrong.
    pub fn advance(&self, by_ms: i64) {
        match &self.0 {
            Source::System(_) => panic!("the system clock cannot be advanced"),
            Source::Manual(now) => now.send_modify(|now| *now += by_ms),
        }
    }
}

/// A deadline on the machine's clock, as sockets have; ready when it has come.
#[derive(Debug)]
pub struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// Comes when `duration` has passed.
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    pub fn after(duration: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(duration)))
    }

    /// Comes when `duration` has passed from now instead. A later time costs next to nothing: tokio's timers look where they
    /// stand only when the earlier time has come.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    pub fn reset(&mut self, duration: Duration) {
        self.0.as_mut().reset(tokio::time::Instant::now() + duration);
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// Unix milliseconds of an RFC 3339 time, or of a day's beginning (UTC).
pub fn parse(text: &str) -> Option<i64> {
    let is_day = text.len() == "2026-01-31".len();
    let time = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    unix_ms(OffsetDateTime::parse(&time, &Rfc3339).ok()?)
}

/// Unix milliseconds of a time as HTTP's headers have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http_date(text: &str) -> Option<i64> {
    unix_ms(OffsetDateTime::parse(text, &Rfc2822).ok()?)
}

/// A time as HTTP writes it.
pub fn http_date(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000));
    let text = time.ok().and_then(|time| time.format(&Rfc2822).ok()).unwrap_or_default();
    text.replace("+0000", "GMT")
}

fn unix_ms(time: OffsetDateTime) -> Option<i64> {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// A time in Unix milliseconds as RFC 3339 has it, in UTC; one that no calendar has is empty.
pub fn rfc3339(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_an_http_header_is_read() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(http_date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        for bad in ["", "60", "Sunday", "1994-11-06T08:49:37Z"] {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_reaches_its_time() {
        let clock = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(4_999);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(1);
        sleeper.await.expect("the sleeper ends");
    }
}
