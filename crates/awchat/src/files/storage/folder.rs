//! Objects as files below a directory of this machine.

use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{Chunks, Incoming, Key, Keys, OBJECTS};

/// Where files lie while they arrive.
const INCOMING: &str = "incoming";
/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A directory.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut folders = fs::DirBuilder::new();
        folders.recursive(true).mode(0o700);
        folders.create(root.join(INCOMING))?;
        folders.create(root.join(OBJECTS))?;
        Ok(Self { root: root.to_owned() })
    }

    pub(super) fn incoming(&self) -> io::Result<Incoming> {
        let (file, name) = NamedTempFile::new_in(self.root.join(INCOMING))?.into_parts();
        Ok(Incoming { file, name: Some(name) })
    }

    pub(super) async fn keep(&self, key: &Key, file: Incoming) -> io::Result<()> {
        let (root, key) = (self.root.clone(), key.clone());
        blocking(move || keep(&root, &key, file)).await
    }

    pub(super) async fn read(&self, key: &Key, range: Range<u64>) -> io::Result<Chunks> {
        let mut file = tokio::fs::File::open(self.root.join(key.as_str())).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        let part = file.take(range.end - range.start);
        Ok(ReaderStream::with_capacity(part, CHUNK_BYTES).boxed())
    }

    pub(super) async fn remove(&self, key: &Key) -> io::Result<()> {
        match tokio::fs::remove_file(self.root.join(key.as_str())).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One owner's objects after the other's.
    pub(super) async fn older_than(&self, before_ms: i64) -> io::Result<Keys> {
        let root = self.root.clone();
        let owners = blocking(move || {
            remove_left(&root.join(INCOMING), before_ms)?;
            entries(&root.join(OBJECTS))
        });
        let owners = stream::iter(owners.await?.into_iter().map(Ok));
        let objects = owners.and_then(move |owner| blocking(move || old_objects(&owner, before_ms)));
        Ok(objects.map_ok(|keys| stream::iter(keys.into_iter().map(Ok))).try_flatten().boxed())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The name first, then the bytes, then the folder that has the name: a file system with a journal makes the first two durable
/// by one commit, and finds the third done. All is on the disk when a row may name it; a name without its bytes has no row,
/// and goes as any object that nobody has.
fn keep(root: &Path, key: &Key, incoming: Incoming) -> io::Result<()> {
    let path = root.join(key.as_str());
    let folder = path.parent().ok_or_else(|| io::Error::other("a key has a folder"))?;
    let name = incoming.name.ok_or_else(|| io::Error::other("a file of this storage has a name"))?;
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        File::open(root.join(OBJECTS))?.sync_all()?;
    }
    name.persist_noclobber(&path).map_err(|refused| refused.error)?;
    incoming.file.sync_all()?;
    File::open(folder)?.sync_all()
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(folder)?.collect()
}

/// What arrived in a process that died.
fn remove_left(folder: &Path, before_ms: i64) -> io::Result<()> {
    for entry in entries(folder)?.iter().filter(|entry| is_old(entry, before_ms)) {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}

fn old_objects(owner: &DirEntry, before_ms: i64) -> io::Result<Vec<Key>> {
    let key = |entry: &DirEntry| {
        Key::parse(&format!("{OBJECTS}/{}/{}", owner.file_name().display(), entry.file_name().display()))
    };
    let found = entries(&owner.path())?;
    Ok(found.iter().filter(|entry| is_old(entry, before_ms)).filter_map(key).collect())
}

fn is_old(entry: &DirEntry, before_ms: i64) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    let since = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).is_some_and(|ms| ms < before_ms)
}
