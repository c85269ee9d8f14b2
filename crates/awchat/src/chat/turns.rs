//! One at a time per name: the order in which turns are asked for is the order in which they are given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

/// The queues in use, by name.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<Queue<()>>>>);

/// A turn; the next begins when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>);

impl Turns {
    /// Waits for its turn.
    pub(super) async fn take(&self, name: &str) -> Turn {
        Turn(self.queue(name).lock_owned().await)
    }

    fn queue(&self, name: &str) -> Arc<Queue<()>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(name).and_then(Weak::upgrade) {
            return queue;
        }
        // Nobody stands in the others any more; sweeping as the map doubles keeps it in proportion.
        if queues.len() == queues.capacity() {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(Queue::new(()));
        queues.insert(name.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_of_one_name_are_given_in_order_and_others_do_not_wait() {
        let turns = Arc::new(Turns::default());
        let first = turns.take("a").await;
        let second = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take("a").await }
        });
        tokio::task::yield_now().await;
        let _other = turns.take("b").await;
        assert!(!second.is_finished());
        drop(first);
        second.await.expect("the second turn is given");
    }

    #[tokio::test]
    async fn names_out_of_use_are_forgotten() {
        let turns = Turns::default();
        for name in 0..10_000 {
            turns.take(&name.to_string()).await;
        }
        assert!(turns.0.lock().expect("no panic holds it").len() < 100);
    }
}
