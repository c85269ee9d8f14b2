//! What is polled along with something else that wakes often, and is itself hardly ever ready.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that is polled only when it asked for it itself. A cancellation that all connections wait for keeps them in one list
/// behind one lock: polled at each request, it has them all wait for each other.
pub(super) struct Rarely<F> {
    future: F,
    bell: Arc<Bell>,
}

struct Bell {
    rung: AtomicBool,
    /// Whoever polls.
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> Rarely<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, bell: Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() }) }
    }
}

impl<F: Future + Unpin> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.bell.task.register(cx.waker());
        if !self.bell.rung.load(Ordering::Acquire) || !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_is_woken_and_not_when_another_is() {
        let (send, mut receive) = oneshot::channel();
        let mut polls = 0;
        let counted = std::future::poll_fn(|cx| {
            polls += 1;
            Pin::new(&mut receive).poll(cx)
        });
        let mut rarely = Rarely::new(counted);
        for _ in 0..5 {
            assert_eq!((&mut rarely).now_or_never(), None);
        }
        send.send("word").expect("it listens");
        assert_eq!((&mut rarely).await, Ok("word"));
        drop(rarely);
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn it_wakes_whoever_polls() {
        let (send, receive) = oneshot::channel();
        let waiting = tokio::spawn(Rarely::new(receive));
        tokio::task::yield_now().await;
        send.send("word").expect("it listens");
        assert_eq!(waiting.await.expect("no panic"), Ok("word"));
    }
}
