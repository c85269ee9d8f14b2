//! A socket that closes itself when its client is too slow.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::EdgeSettings;
use crate::clock::Deadline;

/// Where a connection stands, shared by its socket and its service.
#[derive(Clone, Default)]
pub(super) struct Phase(Arc<Stand>);

#[derive(Default)]
struct Stand {
    /// The lowest two bits say where, the rest counts the requests, so that a deadline of an earlier request is never
    /// taken for one of this.
    at: AtomicU64,
    /// Of an answer, something was written, and perhaps not all.
    owes: AtomicBool,
}

/// A head is awaited, of a new connection or after its first byte.
const HEAD: u64 = 0;
/// Between an answer and the first byte of the next request.
const IDLE: u64 = 1;
/// A request is answered.
const BUSY: u64 = 2;
const PHASES: u64 = 3;

impl Phase {
    /// A request begins; it ends when the guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.enter(BUSY);
        Busy(self.clone())
    }

    fn enter(&self, phase: u64) {
        let request = (self.0.at.load(Ordering::Relaxed) >> 2) + u64::from(phase == BUSY);
        self.0.at.store(request << 2 | phase, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.at.load(Ordering::Relaxed)
    }

    /// Whether something of an answer may still have to be written.
    pub(super) fn owes(&self) -> bool {
        self.0.owes.load(Ordering::Relaxed)
    }
}

/// Held while a request is answered, its body's last byte included.
pub(super) struct Busy(Phase);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// A socket with deadlines for the next head's first byte, for heads that were begun, and for answers that are not taken. A
/// request body's deadline is `Timed`'s.
///
/// It also notices that a client hangs up while its request is worked on. hyper would, if it were not told that half a
/// connection may be closed: but to look, it takes 8 KiB for what it might read, each time, and keeps them while a poll
/// waits.
pub(super) struct Watched {
    socket: TcpStream,
    phase: Phase,
    head_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// The head that is being read, and the request that it is of.
    head: (u64, HeadLines),
    /// Runs while a head or its first byte is awaited, and the phase that it was set for.
    reading: Option<(u64, Deadline)>,
    /// Runs while nothing is taken.
    writing: Option<Deadline>,
    /// What was read already, and is to be read again.
    ahead: Bytes,
}

impl Watched {
    pub(super) fn new(socket: TcpStream, phase: Phase, settings: &EdgeSettings) -> Self {
        Self {
            socket,
            phase,
            head_timeout: settings.head_timeout,
            idle_timeout: settings.idle_timeout,
            write_timeout: settings.write_timeout,
            head: (HEAD, HeadLines::default()),
            reading: None,
            writing: None,
            ahead: Bytes::new(),
        }
    }

    /// The same, of which these bytes are read next.
    pub(super) fn reading_again(self, ahead: &[u8]) -> Self {
        // Copied, for they hold the whole buffer that they were read into.
        Self { ahead: Bytes::copy_from_slice(ahead), ..self }
    }

    /// Whether what was read has no bare line feed in a head.
    fn ends_its_lines(&mut self, read: &[u8]) -> bool {
        let phase = self.phase.now();
        if phase & PHASES != HEAD {
            return true;
        }
        if self.head.0 != phase {
            self.head = (phase, HeadLines::default());
        }
        self.head.1.take(read)
    }

    /// Nothing came: that is an error once it was due.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.now();
        let timeout = match phase & PHASES {
            HEAD => self.head_timeout,
            IDLE => self.idle_timeout,
            _ => {
                self.reading = None;
                return Poll::Pending;
            }
        };
        let (since, deadline) = self.reading.get_or_insert_with(|| (phase, Deadline::after(timeout)));
        if *since != phase {
            *since = phase;
            deadline.reset(timeout);
        }
        ready!(Pin::new(deadline).poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    /// An error if the client has hung up while its request is worked on. What it sends ahead says that it has not.
    pub(super) fn notice_hanging_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.phase.now() & PHASES != BUSY {
            return Ok(());
        }
        // No head is awaited now.
        self.reading = None;
        let mut next = [0];
        match self.socket.poll_peek(cx, &mut ReadBuf::new(&mut next)) {
            Poll::Ready(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps the deadline of a write that made progress, or none.
    fn poll_stall<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.phase.0.owes.store(true, Ordering::Relaxed);
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let deadline = self.writing.get_or_insert_with(|| Deadline::after(self.write_timeout));
        ready!(Pin::new(deadline).poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.ahead.is_empty() {
            let length = buf.remaining().min(self.ahead.len());
            buf.put_slice(&self.ahead.split_to(length));
        } else if Pin::new(&mut self.socket).poll_read(cx, buf)?.is_pending() {
            return self.poll_silence(cx);
        }
        let read = &buf.filled()[before..];
        if !read.is_empty() && self.phase.now() & PHASES == IDLE {
            self.phase.enter(HEAD);
        }
        Poll::Ready(if self.ends_its_lines(read) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) })
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.poll_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.poll_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes whenever it has looked at everything, and written what there was: the moment to look whether anybody
    /// is still there.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.phase.0.owes.store(false, Ordering::Relaxed);
        self.notice_hanging_up(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Looks that each line of a head ends with CR LF. hyper takes a bare LF for an end too; a proxy before it may not, and
/// then the two do not agree on what a request is: one could be hidden in another's header.
#[derive(Clone, Copy, Debug, Default)]
enum HeadLines {
    /// Only empty lines so far, which are allowed before a request.
    #[default]
    Before,
    /// So many bytes into a line, the last of which is this.
    Line(usize, u8),
    /// The head is over; what follows is a body, or requests that were sent ahead.
    Over,
}

impl HeadLines {
    /// False if one of these bytes is a bare line feed.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(first) = bytes.first() {
            match *self {
                Self::Over => return true,
                Self::Before if matches!(first, b'\r' | b'\n') => bytes = &bytes[1..],
                Self::Before => *self = Self::Line(0, b'\n'),
                Self::Line(length, last) => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        *self = Self::Line(length + bytes.len(), bytes[bytes.len() - 1]);
                        return true;
                    };
                    if end.checked_sub(1).map_or(last, |before| bytes[before]) != b'\r' {
                        return false;
                    }
                    *self = if length + end == 1 { Self::Over } else { Self::Line(0, b'\n') };
                    bytes = &bytes[end + 1..];
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_lines_end_with_cr_lf_and_a_bodys_as_they_like() {
        let table = [
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", true),
            ("\r\n\r\n\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nhost: x\r\n\r\n{\n}\n", true),
            ("GET / HTTP/1.1\nhost: x\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nhost: x\n\r\n", false),
            ("GET / HTTP/1.1\r\nhost: x\r\n\n", false),
            ("GET / HTTP/1.1\r\nx: a\r\r\n\n", false),
            ("G\n", false),
        ];
        for (text, expected) in table {
            assert_eq!(HeadLines::default().take(text.as_bytes()), expected, "{text:?}");
            // However it is cut.
            let mut lines = HeadLines::default();
            assert_eq!(text.as_bytes().iter().all(|byte| lines.take(&[*byte])), expected, "{text:?} by the byte");
        }
    }
}
