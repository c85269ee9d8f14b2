//! What is being sent right now, by device: whoever takes a device from its user calls back what is on its way there.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::id::UserId;

/// What is on its way when it is called back has this long to land: a service that has read it shows it, whoever hangs up.
const LANDING: Duration = Duration::from_secs(2);

/// Everything that is being sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    next: u64,
    flights: HashMap<u64, Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    device: String,
    user: String,
    called_back: CancellationToken,
    landed: CancellationToken,
}

/// Something that is being sent, until it is dropped.
pub(super) struct Flight {
    number: u64,
    flights: Flights,
    listed: Listed,
}

impl Flights {
    /// Whoever begins to send is listed before looking whose the device is: it is then either seen here, or sees there
    /// that the device is gone.
    pub(super) fn begin(&self, device: &str, user: &str) -> Flight {
        let (called_back, landed) = (CancellationToken::new(), CancellationToken::new());
        let listed = Listed { device: device.to_owned(), user: user.to_owned(), called_back, landed };
        let mut board = self.board();
        board.next += 1;
        let number = board.next;
        board.flights.insert(number, listed.clone());
        drop(board);
        Flight { number, flights: self.clone(), listed }
    }

    /// Calls back what is on its way to the device, and waits until nothing is.
    pub(super) async fn call_back(&self, device: &str) {
        self.call_back_all(|listed| listed.device == device).await;
    }

    /// The same of all devices of a user.
    pub(super) async fn call_back_from(&self, user: &UserId) {
        self.call_back_all(|listed| listed.user == user.as_str()).await;
    }

    async fn call_back_all(&self, which: impl Fn(&Listed) -> bool) {
        let found: Vec<Listed> = self.board().flights.values().filter(|listed| which(listed)).cloned().collect();
        found.iter().for_each(|listed| listed.called_back.cancel());
        for listed in found {
            listed.landed.cancelled().await;
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Does `work`, which sends; `None` if it was called back before, or was meanwhile and has not landed in time.
    pub(super) async fn unless_called_back<T>(&self, work: impl Future<Output = T>, clock: &Clock) -> Option<T> {
        let called_back = &self.listed.called_back;
        if called_back.is_cancelled() {
            return None;
        }
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return Some(done),
            () = called_back.cancelled() => {}
        }
        tokio::select! {
            done = work => Some(done),
            () = clock.sleep(LANDING) => None,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.board().flights.remove(&self.number);
        self.listed.landed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_calls_back_waits_until_nothing_is_on_its_way() {
        let (flights, clock) = (Flights::default(), Clock::manual(0));
        let (first, other) = (flights.begin("one", "ada"), flights.begin("two", "bob"));
        let (lands, landed) = tokio::sync::oneshot::channel();
        let sending = tokio::spawn({
            let clock = clock.clone();
            async move { first.unless_called_back(landed, &clock).await.map(|landed| landed.expect("it lands")) }
        });
        tokio::task::yield_now().await;
        let called = tokio::spawn({
            let flights = flights.clone();
            async move { flights.call_back("one").await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!called.is_finished(), "the service may have read it");
        lands.send(5).expect("it is on its way");
        called.await.expect("it ends");
        assert_eq!(sending.await.expect("it ends"), Some(5));
        assert_eq!(flights.board().flights.len(), 1);
        assert_eq!(other.unless_called_back(async { 7 }, &clock).await, Some(7), "others go on");
        drop(other);
        flights.call_back("two").await;
        flights.call_back_from(&UserId::parse("bob").expect("a user id")).await;
    }

    #[tokio::test]
    async fn what_is_called_back_does_not_begin_and_what_never_lands_is_left() {
        let (flights, clock) = (Flights::default(), Clock::manual(0));
        let [early, late] = [flights.begin("one", "ada"), flights.begin("one", "ada")];
        let sending = tokio::spawn({
            let clock = clock.clone();
            async move { late.unless_called_back(std::future::pending::<()>(), &clock).await }
        });
        tokio::task::yield_now().await;
        let called = tokio::spawn(async move { flights.call_back("one").await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(early.unless_called_back(async { panic!("it begins") }, &clock).await, None::<()>);
        drop(early);
        while !called.is_finished() {
            clock.advance(2_000);
            tokio::task::yield_now().await;
        }
        assert_eq!(sending.await.expect("it ends"), None);
    }
}
