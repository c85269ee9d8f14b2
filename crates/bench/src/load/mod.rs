//! Load: a connection for who waits, [`rush`] for many requests, and what lists of figures come to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) mod rush;

/// Requests as they go over the wire.
pub(crate) type Requests = Arc<[Vec<u8>]>;

/// A `GET` with a session token.
pub(crate) fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// A `POST` with a session token.
pub(crate) fn post(path: &str, token: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, read: Vec::with_capacity(4096) })
    }

    /// Sends, and does not wait for the answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.socket.write_all(request).await
    }

    /// Sends, and takes a whole answer; its body. Anything but 2xx is an error.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.send(request).await?;
        self.read.clear();
        let (head, length) = loop {
            if let Some(found) = head(&self.read) {
                break found;
            }
            self.more().await?;
        };
        while self.read.len() < head + length {
            self.more().await?;
        }
        if !self.read.starts_with(b"HTTP/1.1 2") {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            return Err(io::Error::other(format!("refused: {text}")));
        }
        Ok(&self.read[head..])
    }

    /// What comes next on an answer without an end.
    pub(crate) async fn next(&mut self) -> io::Result<&[u8]> {
        self.read.clear();
        self.more().await?;
        Ok(&self.read)
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Where an answer's body begins, and how long it is.
fn head(read: &[u8]) -> Option<(usize, usize)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let lines = read[..end].split(|byte| *byte == b'\n');
    let length = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Some((end, length.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)))
}

/// The value that this share of all stays below.
pub(crate) fn quantile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list in memory"
    )]
    let at = (samples.len() as f64 * share) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The middle one, and how far the others are from it at most, as a share of it.
pub(crate) fn median(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let spread = sorted.iter().map(|sample| (sample / middle - 1.0).abs()).fold(0.0, f64::max);
    (middle, spread)
}
