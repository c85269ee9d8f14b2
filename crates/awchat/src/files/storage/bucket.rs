//! Objects in a bucket of S3, or of its like.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Chunks, Incoming, Key, Keys, OBJECTS};
use crate::config::Secret;

/// What is sent of a file at once. No part but the last may be smaller, and some of S3's like want all to be of one size.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// Parts of all files that are held at once: with them, uploads take 20 MiB at most, however many and large they are.
const PARTS: usize = 4;

/// A bucket.
#[derive(Debug)]
pub struct Bucket {
    bucket: Arc<AmazonS3>,
    /// What stands before each key.
    prefix: String,
    parts: Arc<Parts>,
}

impl Bucket {
    pub(super) fn open(name: &str, prefix: &str, options: &[(&'static str, Secret)]) -> io::Result<Self> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(name);
        for (name, value) in options {
            let key = name.to_ascii_lowercase().parse().map_err(io::Error::other)?;
            builder = builder.with_config(key, value.expose());
        }
        let bucket = Arc::new(builder.build().map_err(io::Error::other)?);
        Ok(Self { bucket, prefix: prefix.to_owned(), parts: Arc::default() })
    }

    fn path(&self, key: &Key) -> Path {
        Path::from(format!("{}/{}", self.prefix, key.as_str()))
    }

    /// Nobody sees an object before all of it is there.
    pub(super) async fn keep(&self, key: &Key, incoming: Incoming) -> io::Result<()> {
        let (path, file) = (self.path(key), Arc::new(incoming.file));
        (&*file).rewind()?;
        let first = self.parts.next(&file).await?;
        if first.len() < PART_BYTES {
            return self.bucket.put(&path, first.into()).await.map(drop).map_err(io::Error::other);
        }
        let mut upload = self.bucket.put_multipart(&path).await.map_err(io::Error::other)?;
        let sent = self.send(upload.as_mut(), first, &file).await;
        if sent.is_err() {
            // What was sent costs its room. That it could not be taken back either is no news.
            let _ = upload.abort().await;
        }
        sent
    }

    /// One part after the other, so that no upload waits for another one while it holds a part.
    async fn send(&self, upload: &mut dyn MultipartUpload, first: Bytes, file: &Arc<File>) -> io::Result<()> {
        let mut part = first;
        while !part.is_empty() {
            upload.put_part(part.into()).await.map_err(io::Error::other)?;
            part = self.parts.next(file).await?;
        }
        upload.complete().await.map(drop).map_err(io::Error::other)
    }

    pub(super) async fn read(&self, key: &Key, range: Range<u64>) -> io::Result<Chunks> {
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let found = self.bucket.get_opts(&self.path(key), options).await.map_err(io::Error::other)?;
        Ok(found.into_stream().map_err(io::Error::other).boxed())
    }

    pub(super) async fn remove(&self, key: &Key) -> io::Result<()> {
        match self.bucket.delete(&self.path(key)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    pub(super) fn older_than(&self, before_ms: i64) -> Keys {
        let prefix = self.prefix.clone();
        let key = move |object: ObjectMeta| {
            let path = object.location.as_ref();
            let bare = path.strip_prefix(prefix.as_str()).unwrap_or(path).trim_start_matches('/');
            let is_old = object.last_modified.timestamp_millis() < before_ms;
            Key::parse(bare).filter(|_| is_old)
        };
        let all = self.bucket.list(Some(&Path::from(format!("{}/{OBJECTS}", self.prefix))));
        all.map_err(io::Error::other).try_filter_map(move |object| future::ok(key(object))).boxed()
    }
}

/// The memory that parts are read into. It is used again: given back to the allocator, it would be kept there, once for
/// each thread.
#[derive(Debug)]
struct Parts {
    places: Arc<Semaphore>,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PARTS)), free: Mutex::default() }
    }
}

impl Parts {
    /// What follows in the file, a part's size of it; less only at its end. Waits for a place, which is held for as long
    /// as anybody has the bytes.
    async fn next(self: &Arc<Self>, file: &Arc<File>) -> io::Result<Bytes> {
        let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let free = self.lock().pop().unwrap_or_else(|| Vec::with_capacity(PART_BYTES));
        let mut part = Part { bytes: free, parts: self.clone(), _place: place };
        let file = file.clone();
        let read = tokio::task::spawn_blocking(move || {
            part.bytes.clear();
            (&*file).take(PART_BYTES as u64).read_to_end(&mut part.bytes)?;
            Ok(Bytes::from_owner(part))
        });
        read.await.map_err(io::Error::other)?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a file; dropped, its memory and its place are for the next one.
struct Part {
    bytes: Vec<u8>,
    parts: Arc<Parts>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.parts.lock().push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_in_parts_of_one_size_and_few_are_held() {
        let mut file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..=255).cycle().take(PARTS * PART_BYTES + 1).collect();
        file.write_all(&bytes).expect("written");
        file.rewind().expect("read from its beginning");
        let (parts, file) = (Arc::new(Parts::default()), Arc::new(file));
        let mut held = Vec::new();
        for _ in 0..PARTS {
            held.push(parts.next(&file).await.expect("a part"));
        }
        assert!(held.iter().all(|part| part.len() == PART_BYTES));
        let mut last = std::pin::pin!(parts.next(&file));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(50), &mut last).await;
        assert!(waits.is_err(), "it is one too many");
        assert!(held.concat() == bytes[..PARTS * PART_BYTES]);
        // Whoever has a part of a part has it all.
        let rest = held.remove(0).slice(5..6);
        let waits = tokio::time::timeout(std::time::Duration::from_millis(50), &mut last).await;
        assert!(waits.is_err(), "it is still held");
        drop(rest);
        assert_eq!(last.await.expect("the last part"), bytes[PARTS * PART_BYTES..]);
        assert_eq!(parts.next(&file).await.expect("the end"), Bytes::new());
        assert_eq!(parts.lock().len(), 1, "the memory is there for the next one");
    }
}
