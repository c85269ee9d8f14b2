//! Where objects are kept: a directory of this machine, or a bucket. An object is written once and never changed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tempfile::TempPath;

use crate::config;

mod bucket;
mod folder;

use bucket::Bucket;
use folder::Folder;

/// Where objects lie.
const OBJECTS: &str = "v1";

/// A stored object's bytes, as they are read.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;
/// Keys, as they are found.
pub type Keys = BoxStream<'static, io::Result<Key>>;

/// Where objects are kept.
#[derive(Debug)]
pub enum Storage {
    /// A directory of this machine.
    Local(Folder),
    /// A bucket of S3, or of its like.
    S3(Bucket),
}

/// A file on its way in, which goes with this value unless it is kept. It has a name only where keeping it means giving it
/// another one; one without is gone with a killed process too.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    name: Option<TempPath>,
}

impl Incoming {
    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// To write it by; the place in it is the same one.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// An object's key, `v1/<owner>/<random>`: made here alone, of letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A new key for an object of the owner with this tag.
    pub fn new(owner_tag: &str) -> Self {
        Self(format!("{OBJECTS}/{owner_tag}/{}", crate::id::random()))
    }

    /// A key that was stored; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
        let mut parts = text.split('/');
        let is_key = parts.next() == Some(OBJECTS)
            && parts.next().is_some_and(|owner| hex(owner, 16))
            && parts.next().is_some_and(|random| hex(random, 32))
            && parts.next().is_none();
        is_key.then(|| Self(text.to_owned()))
    }

    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Storage {
    /// Opens it; a directory that is missing is made, for its owner alone.
    ///
    /// # Errors
    /// When the directory cannot be made, or the bucket's settings cannot work.
    pub fn open(config: &config::Storage) -> io::Result<Self> {
        match config {
            config::Storage::Local(root) => Folder::open(root).map(Self::Local),
            config::Storage::S3 { bucket, prefix, options } => Bucket::open(bucket, prefix, options).map(Self::S3),
        }
    }

    /// A file that goes with the process unless it is kept.
    ///
    /// # Errors
    /// When there is no room.
    pub fn incoming(&self) -> io::Result<Incoming> {
        match self {
            Self::Local(folder) => folder.incoming(),
            // Where files go that are nobody's: TMPDIR.
            Self::S3(_) => Ok(Incoming { file: tempfile::tempfile()?, name: None }),
        }
    }

    /// Keeps a file under a new key: durably, when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, key: &Key, file: Incoming) -> io::Result<()> {
        match self {
            Self::Local(folder) => folder.keep(key, file).await,
            Self::S3(bucket) => bucket.keep(key, file).await,
        }
    }

    /// The bytes of an object in this range, which must lie within it.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn read(&self, key: &Key, range: Range<u64>) -> io::Result<Chunks> {
        match self {
            Self::Local(folder) => folder.read(key, range).await,
            Self::S3(bucket) => bucket.read(key, range).await,
        }
    }

    /// Removes an object; one that is gone is no error.
    ///
    /// # Errors
    /// When it stays.
    pub async fn remove(&self, key: &Key) -> io::Result<()> {
        match self {
            Self::Local(folder) => folder.remove(key).await,
            Self::S3(bucket) => bucket.remove(key).await,
        }
    }

    /// The keys of all objects older than `age`, found one after the other: there may be millions. What never became an
    /// object, and is as old, goes.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub async fn older_than(&self, age: Duration, now_ms: i64) -> io::Result<Keys> {
        let before_ms = now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        match self {
            Self::Local(folder) => folder.older_than(before_ms).await,
            Self::S3(bucket) => Ok(bucket.older_than(before_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn hour_old(storage: &Storage, now_ms: i64) -> Vec<Key> {
        let old = storage.older_than(Duration::from_secs(3600), now_ms).await.expect("a list");
        old.try_collect().await.expect("listed")
    }

    #[test]
    fn a_key_is_made_of_letters_and_digits() {
        let key = Key::new("0123456789abcdef");
        assert_eq!(Key::parse(key.as_str()), Some(key));
        let random = "0".repeat(32);
        for bad in ["", "v1", "/etc/passwd", "v1/../passwd", &format!("v2/0123456789abcdef/{random}")] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert_eq!(Key::parse(&format!("v1/0123456789abcde./{random}")), None);
        assert_eq!(Key::parse(&format!("v1/0123456789abcdef/{random}/x")), None);
    }

    #[tokio::test]
    async fn an_object_is_kept_read_in_part_and_removed() {
        use std::io::Write;
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(&config::Storage::Local(folder.path().join("deep/files"))).expect("a storage");
        let mut file = storage.incoming().expect("a file");
        file.file().write_all(b"0123456789").expect("written");
        let key = Key::new("0123456789abcdef");
        storage.keep(&key, file).await.expect("kept");
        let part: Vec<Bytes> = storage.read(&key, 2..5).await.expect("there").try_collect().await.expect("read");
        assert_eq!(part.concat(), b"234");
        let now_ms = crate::clock::Clock::system().now_ms();
        assert_eq!(hour_old(&storage, now_ms).await, []);
        assert!(hour_old(&storage, now_ms + 3_700_000).await == std::slice::from_ref(&key));
        storage.remove(&key).await.expect("removed");
        storage.remove(&key).await.expect("gone is gone");
        assert!(storage.read(&key, 0..1).await.is_err());
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_goes_after_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(&config::Storage::Local(folder.path().to_owned())).expect("a storage");
        let left = storage.incoming().expect("a file").name.expect("a name").keep().expect("left behind");
        let now_ms = crate::clock::Clock::system().now_ms();
        hour_old(&storage, now_ms).await;
        assert!(left.exists(), "it may still be arriving");
        hour_old(&storage, now_ms + 3_700_000).await;
        assert!(!left.exists());
    }
}
