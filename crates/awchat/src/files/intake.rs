//! An upload's way in: to a file as it arrives, checked, cleaned, kept.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IoSlice, Seek, SeekFrom, Write};

use bytes::Bytes;
use sha2::digest::Output;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Files;
use super::check::{self, Kind, Refusal};
use super::storage::{Incoming, Key};
use crate::error::{Error, Result};
use crate::id::UserId;

/// What is handed at once to the thread that hashes and writes. One such batch is filled, one waits and one is written.
const BATCH_BYTES: usize = 64 * 1024;
/// The most pieces of a batch, however small.
const BATCH_PIECES: usize = 64;
/// What is copied at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A file that is arriving; dropped, it leaves nothing.
#[derive(Debug)]
pub struct Arriving {
    file: Incoming,
    /// What was taken and is not handed on yet, and how many bytes.
    taken: (Vec<Bytes>, usize),
    /// To the thread that writes.
    batches: mpsc::Sender<Vec<Bytes>>,
    /// Ends when there is nothing more to write: with the digest.
    writing: JoinHandle<io::Result<Output<Sha256>>>,
    len: u64,
    max_bytes: u64,
}

/// Writes what arrives, and hashes it on the way, on a thread that may wait for the disk: one for the whole file, since to
/// call one for each batch costs nearly as much as to write it.
fn write(mut file: File, mut batches: mpsc::Receiver<Vec<Bytes>>) -> io::Result<Output<Sha256>> {
    let mut digest = Sha256::new();
    while let Some(batch) = batches.blocking_recv() {
        for piece in &batch {
            digest.update(piece);
        }
        write_all(&mut file, &batch)?;
    }
    Ok(digest.finalize())
}

/// Writes all pieces by one call, unless the system takes less.
fn write_all(file: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file that is kept, and has no row yet.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub len: u64,
    /// Of what is kept, in hexadecimal.
    pub sha256: String,
    /// Of what arrived, in hexadecimal.
    pub arrived_sha256: String,
    /// Width and height in pixels, of pictures and films.
    pub size: Option<(u32, u32)>,
}

struct Cleaned {
    file: Incoming,
    kind: Kind,
    size: Option<(u32, u32)>,
    len: u64,
    sha256: String,
}

impl Arriving {
    /// How much has arrived, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes what arrives next.
    ///
    /// # Errors
    /// `Validation` when it becomes too large.
    pub async fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.len += bytes.len() as u64;
        if self.len > self.max_bytes {
            return Err(too_large(self.max_bytes));
        }
        self.taken.1 += bytes.len();
        self.taken.0.push(bytes);
        if self.taken.1 >= BATCH_BYTES || self.taken.0.len() >= BATCH_PIECES {
            self.hand_on().await?;
        }
        Ok(())
    }

    /// Has what was taken written, once there is room: meanwhile more may arrive.
    async fn hand_on(&mut self) -> Result<()> {
        let (batch, _) = std::mem::take(&mut self.taken);
        if self.batches.send(batch).await.is_ok() {
            return Ok(());
        }
        // The thread has ended before its time: it says why.
        Err((&mut self.writing)
            .await
            .map_err(Error::internal)?
            .map_or_else(Error::internal, |_| Error::internal("it wrote no more")))
    }

    /// Ends when all is written.
    async fn written(mut self) -> Result<(Incoming, u64, Output<Sha256>)> {
        self.hand_on().await?;
        drop(self.batches);
        let digest = self.writing.await.map_err(Error::internal)?.map_err(Error::internal)?;
        Ok((self.file, self.len, digest))
    }
}

/// A file that is larger than one may be.
pub fn too_large(max_bytes: u64) -> Error {
    Error::Validation(format!("file: at most {max_bytes} bytes"))
}

impl Files {
    /// Begins to take a file.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn begin(&self, max_bytes: u64) -> Result<Arriving> {
        let file = self.storage().incoming().map_err(Error::internal)?;
        let writer = file.writer().map_err(Error::internal)?;
        let (batches, arriving) = mpsc::channel(1);
        let writing = spawn_blocking(move || write(writer, arriving));
        Ok(Arriving { file, taken: (Vec::new(), 0), batches, writing, len: 0, max_bytes })
    }

    /// Checks a file that has arrived whole, cleans it and keeps it. A row must follow.
    ///
    /// # Errors
    /// `Validation` names the rule that it breaks.
    pub async fn keep(&self, arrived: Arriving, owner: &UserId) -> Result<Kept> {
        let (file, len, digest) = arrived.written().await?;
        let arrived_sha256 = hex::encode(digest);
        let files = self.clone();
        let told = arrived_sha256.clone();
        let cleaned = spawn_blocking(move || files.cleaned(file, len, told));
        let Cleaned { file, kind, size, len, sha256 } =
            cleaned.await.map_err(Error::internal)?.map_err(|refusal| match refusal {
                Refusal::Rule(rule) => Error::Validation(format!("file: {rule}")),
                Refusal::Unreadable(error) => Error::internal(error),
            })?;
        let key = Key::new(&self.links().owner_tag(owner.as_str()));
        self.storage().keep(&key, file).await.map_err(Error::internal)?;
        Ok(Kept { key, kind, len, sha256, arrived_sha256, size })
    }

    /// The file itself if it is clean, else a clean copy.
    fn cleaned(&self, mut file: Incoming, len: u64, sha256: String) -> Result<Cleaned, Refusal> {
        let clean = check::check(file.file())?;
        let (kind, size) = (clean.kind, clean.size);
        if clean.is_identical(len) {
            return Ok(Cleaned { file, kind, size, len, sha256 });
        }
        let mut copy = self.storage().incoming()?;
        let mut out = Hashed { out: BufWriter::with_capacity(BUFFER_BYTES, copy.file()), digest: Sha256::new() };
        clean.write(file.file(), &mut out)?;
        out.out.flush()?;
        let sha256 = hex::encode(out.digest.clone().finalize());
        drop(out);
        let len = copy.file().seek(SeekFrom::End(0))?;
        Ok(Cleaned { file: copy, kind, size, len, sha256 })
    }
}

/// Counts what is written into a digest.
struct Hashed<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and is interrupted each other time.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pieces_are_written_whole_and_in_order_however_little_is_taken_at_once() {
        let pieces = ["", "one", "", "twenty-two", "3", ""].map(|piece| Bytes::from_static(piece.as_bytes()));
        let mut file = Slow(Vec::new(), false);
        write_all(&mut file, &pieces).expect("written");
        assert_eq!(file.0, b"onetwenty-two3");
        write_all(&mut file, &[Bytes::new()]).expect("nothing is written");
    }
}
