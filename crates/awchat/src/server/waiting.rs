//! Requests that wait leave hyper, which would keep buffers of 16 KiB for each: of those, a long poll or an event stream
//! needs nothing for all the time that it waits. Their answers are written here, and then the connection goes back.

use std::future::{poll_fn, ready};
use std::io;
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, Version};
use tokio::io::AsyncWriteExt;

use super::body::Answer;
use super::watched::Watched;
use crate::api::admission::Slot;
use crate::clock;

/// What is collected of an answer before it is written.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer that is on its way.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;

/// Whether a request may leave: one that asks of its connection what hyper knows how to do stays there. It has no body.
pub(super) fn may_leave<B>(request: &Request<B>) -> bool {
    let mut connection = request.headers().get_all(CONNECTION).iter();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && connection.all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// Where a connection's request leaves hyper.
#[derive(Default)]
pub(super) struct Exit(Mutex<Option<Waiting>>);

impl Exit {
    pub(super) fn take(&self) -> Option<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// The answer to a request; one that waits leaves instead, and hyper waits for its answer in vain.
pub(super) struct Leaving<'a> {
    answer: Option<Waiting>,
    /// Says whether the request waits, if it may.
    slot: Option<Slot>,
    exit: &'a Exit,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(answer: Waiting, slot: Option<Slot>, exit: &'a Exit) -> Self {
        Self { answer: Some(answer), slot, exit }
    }
}

impl Future for Leaving<'_> {
    type Output = Response<Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let polled = answer.as_mut().poll(cx);
        if !self.slot.as_ref().is_some_and(Slot::waits) {
            return polled;
        }
        let waiting = match polled {
            Poll::Ready(answer) => Some(Box::pin(ready(answer)) as Waiting),
            Poll::Pending => self.answer.take(),
        };
        self.answer = None;
        *self.exit.0.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        Poll::Pending
    }
}

/// Waits for the answer, and writes it as it comes. `is_last` says, when it has come, whether it is the connection's last;
/// as the outcome, whether it was.
///
/// # Errors
/// The client has hung up, or is too slow: that connection is over.
pub(super) async fn answer(
    socket: &mut Watched,
    waiting: Waiting,
    now_ms: impl Fn() -> i64,
    is_last: impl Fn() -> bool,
) -> io::Result<bool> {
    let (mut parts, mut body) = while_there(socket, waiting).await?.into_parts();
    let is_last = is_last() || parts.headers.contains_key(CONNECTION);
    let framing = body.size_hint().exact().map_or(Framing::Chunks, Framing::Length);
    let mut out = head(&mut parts, framing, is_last, now_ms());
    drop(parts);
    loop {
        // What is there already goes out with what was before.
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                socket.write_all(&take(&mut out)).await?;
                while_there(socket, body.frame()).await?
            }
        };
        match frame {
            Some(frame) => framing.add(&mut out, &frame.map_err(io::Error::other)?.into_data().unwrap_or_default()),
            None => break,
        }
        if out.len() >= PIECE_BYTES {
            socket.write_all(&take(&mut out)).await?;
        }
    }
    framing.end(&mut out);
    socket.write_all(&out).await?;
    Ok(is_last)
}

/// What comes of `work`, unless the client hangs up.
async fn while_there<T>(socket: &mut Watched, work: impl Future<Output = T>) -> io::Result<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        socket.notice_hanging_up(cx)?;
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// How a client knows where an answer ends.
#[derive(Clone, Copy)]
enum Framing {
    Length(u64),
    Chunks,
}

impl Framing {
    fn add(self, out: &mut Vec<u8>, data: &[u8]) {
        match self {
            Self::Length(_) => out.extend_from_slice(data),
            // An empty one would be the end.
            Self::Chunks if data.is_empty() => {}
            Self::Chunks => {
                out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn end(self, out: &mut Vec<u8>) {
        match self {
            Self::Length(_) => {}
            Self::Chunks => out.extend_from_slice(b"0\r\n\r\n"),
        }
    }
}

/// The head of an answer. None that waits is without a body.
fn head(parts: &mut Parts, framing: Framing, is_last: bool, now_ms: i64) -> Vec<u8> {
    let headers = &mut parts.headers;
    match framing {
        Framing::Length(length) => {
            headers.remove(TRANSFER_ENCODING);
            headers.insert(CONTENT_LENGTH, length.into());
        }
        Framing::Chunks => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if is_last {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(date) = HeaderValue::try_from(clock::http_date(now_ms)) {
        headers.insert(DATE, date);
    }
    let (status, reason) = (parts.status.as_str(), parts.status.canonical_reason().unwrap_or_default());
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
