//! A form with one file, taken as it arrives: nothing of it is held but what was just read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures_util::{Stream, StreamExt};

use crate::error::{Error, Result};
use crate::files::Files;
use crate::files::intake::{Arriving, too_large};

/// Parts of a form; one is the file.
const MAX_PARTS: usize = 8;
/// The head of a part, in bytes.
const MAX_PART_HEAD: usize = 8 * 1024;
/// The longest boundary, in characters (RFC 2046).
const MAX_BOUNDARY: usize = 70;
/// All parts but the file, with their heads, in bytes.
const MAX_REST: u64 = 64 * 1024;
/// What is handed on at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// What a form brought.
#[derive(Debug)]
pub struct Upload {
    /// The file.
    pub file: Arriving,
    /// What the client calls it.
    pub name: Option<String>,
}

/// Takes a form.
///
/// # Errors
/// `BadRequest` when it is none, `Validation` when it has not one file and little else.
pub async fn receive(files: &Files, request: Request<Body>, max_bytes: u64) -> Result<Upload> {
    let boundary = boundary(request.headers())?;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > max_bytes.saturating_add(MAX_REST)) {
        return Err(too_large(max_bytes));
    }
    let unread = Unread::default();
    let body = Paced::new(request.into_body().into_data_stream(), unread.clone());
    let mut form = multer::Multipart::new(body, boundary);
    let (mut upload, mut rest) = (None, 0_u64);
    for count in 1.. {
        unread.reset();
        let Some(mut part) = form.next_field().await.map_err(malformed)? else { break };
        if count > MAX_PARTS {
            return Err(Error::Validation(format!("the form must have at most {MAX_PARTS} parts")));
        }
        let head: usize = part.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if head > MAX_PART_HEAD {
            return Err(Error::BadRequest(format!("the head of a part must be at most {MAX_PART_HEAD} bytes")));
        }
        if part.name() != Some("file") {
            while let Some(bytes) = part.chunk().await.map_err(malformed)? {
                unread.reset();
                rest += bytes.len() as u64;
                if rest > MAX_REST {
                    return Err(Error::Validation(format!("all parts but file: at most {MAX_REST} bytes")));
                }
            }
            continue;
        }
        if upload.is_some() {
            return Err(Error::Validation("file: exactly one".to_owned()));
        }
        let name = part.file_name().map(str::to_owned);
        let mut file = files.begin(max_bytes)?;
        while let Some(bytes) = part.chunk().await.map_err(malformed)? {
            unread.reset();
            file.push(bytes).await?;
        }
        upload = Some(Upload { file, name });
    }
    upload.ok_or_else(|| Error::Validation("file: required".to_owned()))
}

fn boundary(headers: &HeaderMap) -> Result<String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).ok().filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()));
    boundary.ok_or_else(|| Error::BadRequest("Content-Type must be multipart/form-data with a boundary".to_owned()))
}

fn malformed(_: multer::Error) -> Error {
    Error::BadRequest("the form is malformed or did not arrive whole".to_owned())
}

/// What was handed on since something came out of it.
#[derive(Clone, Default)]
struct Unread(Arc<AtomicUsize>);

impl Unread {
    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A body that is handed on piece by piece: the parser takes all that is at hand, and would hold a fast client's whole
/// file; or a part's endless head.
struct Paced {
    body: BodyDataStream,
    rest: Bytes,
    has_given: bool,
    unread: Unread,
}

impl Paced {
    fn new(body: BodyDataStream, unread: Unread) -> Self {
        Self { body, rest: Bytes::new(), has_given: false, unread }
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.has_given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            match self.body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.rest = bytes,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let count = self.rest.len().min(CHUNK_BYTES);
        let bytes = self.rest.split_to(count);
        let unread = self.unread.0.fetch_add(count, Ordering::Relaxed);
        if unread > MAX_PART_HEAD + CHUNK_BYTES {
            return Poll::Ready(Some(Err("a part's head is too long".into())));
        }
        self.has_given = true;
        Poll::Ready(Some(Ok(bytes)))
    }
}
