//! Bodies: a request's must arrive in time, an answer's tells when it is over.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::{Either, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::watched::Busy;
use crate::clock::Deadline;

/// What must arrive within the timeout alone: any JSON body.
const FREE_BYTES: u64 = 64 * 1024;
/// What must arrive in each further second: the slowest upload.
const BYTES_PER_SECOND: u64 = 16 * 1024;

/// What is read of a body that nobody wants, before it is answered.
const UNWANTED_BYTES: u64 = 256 * 1024;

/// A request's body that breaks off when it is too slow; hyper then closes the connection. What its handler does not
/// read goes to `left`.
pub(super) struct Timed {
    arriving: Option<Arriving>,
    left: Leftover,
}

impl Timed {
    pub(super) fn new(body: Incoming, timeout: Duration, left: Leftover) -> Self {
        let arriving = Arriving { body, timeout, deadline: None, received: 0, granted_s: 0, is_late: false };
        Self { arriving: Some(arriving), left }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = self.arriving.take();
    }
}

/// The part of a body that a handler did not read. Were it answered at once, the connection would be reset under the
/// client that still sends, and the answer, such as "too large", be lost.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Arriving>>>);

impl Leftover {
    /// Reads it away, if it is not too much.
    pub(super) async fn discard(&self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut left) = left.filter(|left| left.body.size_hint().lower() <= UNWANTED_BYTES) else { return };
        let most = left.received + UNWANTED_BYTES;
        while left.received <= most && matches!(poll_fn(|cx| left.poll_frame(cx)).await, Some(Ok(_))) {}
    }
}

struct Arriving {
    body: Incoming,
    timeout: Duration,
    deadline: Option<Deadline>,
    received: u64,
    /// Seconds granted beyond the timeout for bytes beyond the free ones.
    granted_s: u64,
    /// Time was up.
    is_late: bool,
}

impl Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => self.poll_deadline(cx).map(|()| Some(Err(io::Error::from(ErrorKind::TimedOut).into()))),
        }
    }

    /// Ready when time is up.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_late {
            let deadline = self.deadline.get_or_insert_with(|| Deadline::after(self.timeout));
            if Pin::new(deadline).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let more_s = earned_s(self.received).saturating_sub(self.granted_s);
            self.is_late = more_s == 0;
            self.granted_s += more_s;
            self.deadline = Some(Deadline::after(Duration::from_secs(more_s)));
        }
        Poll::Ready(())
    }
}

fn earned_s(received: u64) -> u64 {
    received.saturating_sub(FREE_BYTES) / BYTES_PER_SECOND
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.arriving.as_mut().map_or(Poll::Ready(None), |arriving| arriving.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.arriving.as_ref().is_none_or(|arriving| arriving.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.arriving.as_ref().map_or_else(SizeHint::default, |arriving| arriving.body.size_hint())
    }
}

/// An answer's body; the connection is busy until it is dropped.
pub(super) struct Answer {
    body: Either<Full<Bytes>, Body>,
    _busy: Busy,
}

impl Answer {
    /// What a handler answers.
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body: Either::Right(body), _busy: busy }
    }

    /// What is all there.
    pub(super) fn whole(body: Bytes, busy: Busy) -> Self {
        Self { body: Either::Left(Full::new(body)), _busy: busy }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_earned_by_large_bodies_only() {
        let table = [(0, 0), (64 * 1024, 0), (80 * 1024 - 1, 0), (80 * 1024, 1), (20 * 1024 * 1024, 1276)];
        for (received, seconds) in table {
            assert_eq!(earned_s(received), seconds, "{received} bytes");
        }
    }
}
