//! A copy of a SQLite database, made while a server writes to it.
//!
//! `vacuum into` reads one snapshot: it holds up no writer, and needs no quiet moment, as copying pages in turn would.
//! What was deleted is not in the copy.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Store, sqlite_path, sqlite_pool};
use crate::error::{Error, Result};

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Conversations in it.
    pub conversations: i64,
    /// Its size.
    pub bytes: u64,
}

/// Waits for who recovers the write-ahead log; reads only, but for the index beside that.
const SOURCE: &str = "pragma busy_timeout = 5000; pragma temp_store = memory;";
const COPY: &str = "pragma synchronous = full; pragma secure_delete = on; pragma temp_store = memory;";

/// What the server that goes on has in hand is done by it, not by the copy: a message whose fate is open is looked for at
/// Intercom and never sent again unasked, and a notice is not given twice.
const IN_HAND: [&str; 2] =
    ["update outbound set told = 1 where state in ('sending', 'unknown') and told = 0", "delete from notice"];

impl Store {
    /// Copies the SQLite database at `url` to the new file `to`, which only its owner can read, and checks it. When this
    /// returns, the copy is on the disk; until then there is no file of that name.
    ///
    /// # Errors
    /// When `url` is none of SQLite's, there is a file already, it cannot be written, or the copy is damaged.
    pub async fn back_up(url: &str, to: &Path) -> Result<Copied> {
        let path = sqlite_path(url).ok_or_else(|| Error::internal("PostgreSQL is backed up with its own pg_dump"))?;
        if to.exists() {
            return Err(Error::internal(format!("{} is there already", to.display())));
        }
        let part = PathBuf::from(format!("{}.part", to.display()));
        let copied = copy(path, &part).await;
        if copied.is_err() {
            // What is incomplete is no backup.
            let _ = std::fs::remove_file(&part);
        }
        let copied = copied?;
        std::fs::rename(&part, to).and_then(|()| sync_folder(to)).map_err(Error::internal)?;
        Ok(copied)
    }
}

async fn copy(from: &str, part: &Path) -> Result<Copied> {
    sqlx::any::install_default_drivers();
    let source = sqlite_pool(1, SOURCE).connect(&format!("sqlite://{from}?mode=rw")).await?;
    // Made here, so that nobody else can read it from the first byte on.
    let mut new = OpenOptions::new();
    new.write(true).create(true).truncate(true).mode(0o600).open(part).map_err(Error::internal)?;
    let target = part.to_str().ok_or_else(|| Error::internal("the file's name is not UTF-8"))?;
    sqlx::query("vacuum into $1").bind(target).execute(&source).await?;
    source.close().await;

    let copy = sqlite_pool(1, COPY).connect(&format!("sqlite://{target}?mode=rw")).await?;
    let mut changes = copy.begin().await?;
    for change in IN_HAND {
        sqlx::query(change).execute(&mut *changes).await?;
    }
    changes.commit().await?;
    let (verdict,): (String,) =
        sqlx::query_as("select integrity_check from pragma_integrity_check limit 1").fetch_one(&copy).await?;
    let (conversations,): (i64,) = sqlx::query_as("select count(*) from conversation").fetch_one(&copy).await?;
    copy.close().await;
    if verdict != "ok" {
        return Err(Error::internal(format!("the copy is damaged: {verdict}")));
    }
    let file = File::open(part).map_err(Error::internal)?;
    file.sync_all().map_err(Error::internal)?;
    Ok(Copied { conversations, bytes: file.metadata().map_err(Error::internal)?.len() })
}

/// A name is on the disk once its folder is.
fn sync_folder(of: &Path) -> std::io::Result<()> {
    let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_copy_is_made_beside_the_server_and_replaces_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("chat.db").display());
        let store = Store::open(&url).await.expect("a database");
        store.set_mark("here", 17).await.expect("written");
        let to = folder.path().join("copy.db");
        let copied = Store::back_up(&url, &to).await.expect("copied");
        assert_eq!((copied.conversations, copied.bytes), (0, std::fs::metadata(&to).expect("a file").len()));
        assert_eq!(std::fs::metadata(&to).expect("a file").permissions().mode() & 0o777, 0o600);
        let again = Store::back_up(&url, &to).await.expect_err("there is one already");
        assert!(std::error::Error::source(&again).expect("a cause").to_string().contains("there already"));
        let copy = Store::open(&format!("sqlite://{}", to.display())).await.expect("the copy is a database");
        assert_eq!(copy.mark("here").await.expect("read"), Some(17));
        let left = std::fs::read_dir(folder.path())
            .expect("a folder")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        assert!(left.into_iter().all(|name| !name.contains(".part")), "nothing else is left");
    }

    #[tokio::test]
    async fn what_cannot_be_copied_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = folder.path().join("copy.db");
        for url in ["postgres://somewhere/else".to_owned(), format!("sqlite://{}/none.db", folder.path().display())] {
            Store::back_up(&url, &to).await.expect_err("there is nothing");
        }
        std::fs::write(folder.path().join("odd.db"), "no database at all, but long enough to be looked at")
            .expect("written");
        Store::back_up(&format!("sqlite://{}/odd.db", folder.path().display()), &to).await.expect_err("no database");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
