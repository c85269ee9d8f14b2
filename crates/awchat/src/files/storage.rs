//! Where objects are kept: a directory of this machine, or a bucket. An object is written once and never changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::config;

/// What is read or sent at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Where files of the local storage lie while they arrive.
const INCOMING: &str = "incoming";
/// Where objects lie.
const OBJECTS: &str = "v1";

/// A stored object's bytes, as they are read.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Where objects are kept.
#[derive(Debug)]
pub enum Storage {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket.
    S3 {
        /// The bucket.
        bucket: Arc<AmazonS3>,
        /// What stands before each key.
        prefix: String,
    },
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
            config::Storage::Local(root) => {
                use std::os::unix::fs::DirBuilderExt;
                let mut folders = fs::DirBuilder::new();
                folders.recursive(true).mode(0o700);
                folders.create(root.join(INCOMING))?;
                folders.create(root.join(OBJECTS))?;
                Ok(Self::Local(root.clone()))
            }
            config::Storage::S3 { bucket, prefix, options } => {
                let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
                for (name, value) in options {
                    let key = name.to_ascii_lowercase().parse().map_err(io::Error::other)?;
                    builder = builder.with_config(key, value.expose());
                }
                let bucket = Arc::new(builder.build().map_err(io::Error::other)?);
                Ok(Self::S3 { bucket, prefix: prefix.clone() })
            }
        }
    }

    /// A file that goes with the process unless it is kept.
    ///
    /// # Errors
    /// When there is no room.
    pub fn incoming(&self) -> io::Result<NamedTempFile> {
        match self {
            Self::Local(root) => NamedTempFile::new_in(root.join(INCOMING)),
            Self::S3 { .. } => NamedTempFile::new(),
        }
    }

    /// Keeps a file under a new key: durably, when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, key: &Key, file: NamedTempFile) -> io::Result<()> {
        match self {
            Self::Local(root) => {
                let (root, key) = (root.clone(), key.clone());
                tokio::task::spawn_blocking(move || keep_local(&root, &key, file)).await.map_err(io::Error::other)?
            }
            Self::S3 { bucket, prefix } => {
                let target = bucket.put_multipart(&object_path(prefix, key)).await.map_err(io::Error::other)?;
                let mut writer = WriteMultipart::new(target);
                let mut chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file.reopen()?), CHUNK_BYTES);
                while let Some(chunk) = chunks.next().await {
                    match chunk {
                        // One part is on its way while the next is gathered.
                        Ok(chunk) => {
                            writer.wait_for_capacity(1).await.map_err(io::Error::other)?;
                            writer.put(chunk);
                        }
                        Err(error) => {
                            writer.abort().await.map_err(io::Error::other)?;
                            return Err(error);
                        }
                    }
                }
                writer.finish().await.map_err(io::Error::other)?;
                Ok(())
            }
        }
    }

    /// The bytes of an object in this range, which must lie within it.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn read(&self, key: &Key, range: Range<u64>) -> io::Result<Chunks> {
        match self {
            Self::Local(root) => {
                let mut file = tokio::fs::File::open(root.join(key.as_str())).await?;
                file.seek(SeekFrom::Start(range.start)).await?;
                let part = file.take(range.end - range.start);
                Ok(ReaderStream::with_capacity(part, CHUNK_BYTES).boxed())
            }
            Self::S3 { bucket, prefix } => {
                let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
                let found = bucket.get_opts(&object_path(prefix, key), options).await.map_err(io::Error::other)?;
                Ok(found.into_stream().map_err(io::Error::other).boxed())
            }
        }
    }

    /// Removes an object; one that is gone is no error.
    ///
    /// # Errors
    /// When it stays.
    pub async fn remove(&self, key: &Key) -> io::Result<()> {
        match self {
            Self::Local(root) => match tokio::fs::remove_file(root.join(key.as_str())).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::S3 { bucket, prefix } => match bucket.delete(&object_path(prefix, key)).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    /// The keys of all objects older than `age`. What never became an object, and is as old, goes.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub async fn older_than(&self, age: Duration, now_ms: i64) -> io::Result<Vec<Key>> {
        let before_ms = now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        match self {
            Self::Local(root) => {
                let root = root.clone();
                let found = tokio::task::spawn_blocking(move || old_files(&root, before_ms));
                found.await.map_err(io::Error::other)?
            }
            Self::S3 { bucket, prefix } => {
                let folder = ObjectPath::from(format!("{prefix}/{OBJECTS}"));
                let all: Vec<_> = bucket.list(Some(&folder)).try_collect().await.map_err(io::Error::other)?;
                let old = all.into_iter().filter(|object| object.last_modified.timestamp_millis() < before_ms);
                let bare = |path: &ObjectPath| {
                    let path = path.as_ref().strip_prefix(prefix.as_str()).unwrap_or(path.as_ref()).to_owned();
                    Key::parse(path.trim_start_matches('/'))
                };
                Ok(old.filter_map(|object| bare(&object.location)).collect())
            }
        }
    }
}

fn object_path(prefix: &str, key: &Key) -> ObjectPath {
    ObjectPath::from(format!("{prefix}/{}", key.as_str()))
}

/// The file's bytes, then its name, then the folder that has the name: in this order they are on the disk.
fn keep_local(root: &Path, key: &Key, file: NamedTempFile) -> io::Result<()> {
    let path = root.join(key.as_str());
    let folder = path.parent().ok_or_else(|| io::Error::other("a key has a folder"))?;
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        File::open(root.join(OBJECTS))?.sync_all()?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(&path).map_err(|refused| refused.error)?;
    File::open(folder)?.sync_all()
}

fn old_files(root: &Path, before_ms: i64) -> io::Result<Vec<Key>> {
    let is_old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|data| data.modified());
        let since = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.and_then(|since| i64::try_from(since.as_millis()).ok()).is_some_and(|ms| ms < before_ms)
    };
    for entry in fs::read_dir(root.join(INCOMING))? {
        let entry = entry?;
        if is_old(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    let mut old = Vec::new();
    for owner in fs::read_dir(root.join(OBJECTS))? {
        let owner = owner?;
        for entry in fs::read_dir(owner.path())? {
            let entry = entry?;
            let key = format!("{OBJECTS}/{}/{}", owner.file_name().display(), entry.file_name().display());
            old.extend(Key::parse(&key).filter(|_| is_old(&entry)));
        }
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        file.write_all(b"0123456789").expect("written");
        let key = Key::new("0123456789abcdef");
        storage.keep(&key, file).await.expect("kept");
        let part: Vec<Bytes> = storage.read(&key, 2..5).await.expect("there").try_collect().await.expect("read");
        assert_eq!(part.concat(), b"234");
        let now_ms = crate::clock::Clock::system().now_ms();
        let hour = Duration::from_secs(3600);
        assert_eq!(storage.older_than(hour, now_ms).await.expect("listed"), []);
        let old = storage.older_than(hour, now_ms + 3_700_000).await.expect("listed");
        assert!(old == std::slice::from_ref(&key), "{old:?}");
        storage.remove(&key).await.expect("removed");
        storage.remove(&key).await.expect("gone is gone");
        assert!(storage.read(&key, 0..1).await.is_err());
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_goes_after_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(&config::Storage::Local(folder.path().to_owned())).expect("a storage");
        let (_, left) = storage.incoming().expect("a file").keep().expect("left behind");
        let now_ms = crate::clock::Clock::system().now_ms();
        storage.older_than(Duration::from_secs(3600), now_ms).await.expect("listed");
        assert!(left.exists(), "it may still be arriving");
        storage.older_than(Duration::from_secs(3600), now_ms + 3_700_000).await.expect("listed");
        assert!(!left.exists());
    }
}
