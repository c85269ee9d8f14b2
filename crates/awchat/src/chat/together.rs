//! Many do in one go what each would do alone: who comes while others are at it waits, and goes with the next.
//!
//! Nobody waits for company: the first to come goes at once. The more come meanwhile, the more go together.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many go together at most, a power of two.
const MOST: usize = 32;

/// Where those who want the same done meet.
#[derive(Debug)]
pub(super) struct Together<T, R>(Mutex<Crowd<T, R>>);

#[derive(Debug)]
struct Crowd<T, R> {
    /// Somebody is at it.
    is_busy: bool,
    waiting: VecDeque<(T, oneshot::Sender<Call<T, R>>)>,
}

/// What one who waits hears.
#[derive(Debug)]
enum Call<T, R> {
    /// Others have done it.
    Done(R),
    /// It is its turn to do it, for itself and for those who wait.
    Lead(T),
}

impl<T, R> Default for Together<T, R> {
    fn default() -> Self {
        Self(Mutex::new(Crowd { is_busy: false, waiting: VecDeque::new() }))
    }
}

impl<T, R> Together<T, R> {
    fn lock(&self) -> MutexGuard<'_, Crowd<T, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `work` done on `item`, with those of others: it gives each its result, in their order. `None`: whoever was at it
    /// is gone.
    pub(super) async fn go(&self, item: T, work: impl AsyncFnOnce(Vec<T>) -> Vec<R>) -> Option<R> {
        let item = match self.come(item) {
            Ok(item) => item,
            Err(called) => match called.await.ok()? {
                Call::Done(result) => return Some(result),
                Call::Lead(item) => item,
            },
        };
        let _led = Led(self);
        let (mut items, mut others) = (vec![item], Vec::new());
        for (item, call) in self.company() {
            items.push(item);
            others.push(call);
        }
        let mut results = work(items).await.into_iter();
        let own = results.next();
        for (call, result) in others.into_iter().zip(results) {
            // Nobody may wait for it any more.
            let _ = call.send(Call::Done(result));
        }
        own
    }

    /// The item back, where it can go at once.
    fn come(&self, item: T) -> Result<T, oneshot::Receiver<Call<T, R>>> {
        let mut crowd = self.lock();
        if !crowd.is_busy {
            crowd.is_busy = true;
            return Ok(item);
        }
        let (call, called) = oneshot::channel();
        crowd.waiting.push_back((item, call));
        Err(called)
    }

    /// Who goes with the one whose turn it is. So many that all are a power of two: each number of rows is a statement of
    /// its own, and a connection keeps so many of them.
    fn company(&self) -> Vec<(T, oneshot::Sender<Call<T, R>>)> {
        let mut crowd = self.lock();
        let all = (crowd.waiting.len() + 1).min(MOST);
        let count = (1 << all.ilog2()) - 1;
        crowd.waiting.drain(..count).collect()
    }
}

/// Somebody who is at it, until it is dropped: then it is the turn of who has waited longest.
struct Led<'a, T, R>(&'a Together<T, R>);

impl<T, R> Drop for Led<'_, T, R> {
    fn drop(&mut self) {
        let mut crowd = self.0.lock();
        while let Some((item, call)) = crowd.waiting.pop_front() {
            if call.send(Call::Lead(item)).is_ok() {
                return;
            }
        }
        crowd.is_busy = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_comes_meanwhile_goes_with_the_next_and_hears_its_own_result() {
        let (together, gate) = (Arc::new(Together::<usize, (usize, usize)>::default()), Arc::new(Semaphore::new(0)));
        let come = |item| {
            let (together, gate) = (Arc::clone(&together), Arc::clone(&gate));
            tokio::spawn(async move {
                let work = async |items: Vec<usize>| {
                    gate.acquire().await.expect("open").forget();
                    items.iter().map(|item| (*item, items.len())).collect()
                };
                together.go(item, work).await
            })
        };
        let mut all = Vec::new();
        for item in 0..6 {
            all.push(come(item));
            tokio::task::yield_now().await;
        }
        gate.add_permits(3);
        let mut heard = Vec::new();
        for one in all {
            heard.push(one.await.expect("no panic").expect("done"));
        }
        assert_eq!(heard, [(0, 1), (1, 4), (2, 4), (3, 4), (4, 4), (5, 1)]);
    }

    #[tokio::test]
    async fn the_next_goes_on_when_whoever_was_at_it_is_gone() {
        let together = Arc::new(Together::<usize, usize>::default());
        let come = |item| {
            let together = Arc::clone(&together);
            tokio::spawn(async move {
                let work = async |items: Vec<usize>| {
                    if items.contains(&0) {
                        std::future::pending::<()>().await;
                    }
                    items
                };
                together.go(item, work).await
            })
        };
        let stuck = come(0);
        tokio::task::yield_now().await;
        let gone = come(1);
        tokio::task::yield_now().await;
        let next = come(2);
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        stuck.abort();
        assert_eq!(next.await.expect("no panic"), Some(2));
    }
}
