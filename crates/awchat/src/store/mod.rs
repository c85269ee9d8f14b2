//! The only SQL: one text for SQLite and PostgreSQL, through `sqlx`'s `Any`.
//!
//! Columns are TEXT and BIGINT; a flag is 0 or 1, since `Any` cannot read a SQLite BOOLEAN. The dialect's
//! traps live here: SQLite gets one connection that writes (its transactions begin `immediate`, a deferred
//! one that reads and then writes fails with "database is locked") and several that read.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{Any, AnyPool, Transaction};

use crate::error::{Error, Result};

pub mod contacts;
pub mod conversations;
pub mod files;
pub mod inbox;
pub mod jobs;
pub mod messages;
pub mod outbound;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    write: AnyPool,
    read: AnyPool,
    engine: Engine,
    /// Keeps a second process off a SQLite database: it would take our messages in flight for a dead process's.
    _lock: Option<Arc<File>>,
}

/// A transaction that may write; dropped without [`Tx::commit`], it leaves nothing.
pub struct Tx(Transaction<'static, Any>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

impl Store {
    /// Opens the database at `url` (`sqlite://path` or `postgres://…`), creates a missing SQLite file and its
    /// folder, and brings the schema up to date.
    ///
    /// # Errors
    /// When the database cannot be reached or its schema is not ours.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let store = match url.strip_prefix("sqlite://") {
            Some(path) => Self::open_sqlite(path).await?,
            None => Self::open_postgres(url).await?,
        };
        sqlx::migrate!().run(&store.write).await.map_err(Error::internal)?;
        Ok(store)
    }

    async fn open_sqlite(path: &str) -> Result<Self> {
        let path = path.split('?').next().unwrap_or(path);
        if let Some(folder) = Path::new(path).parent() {
            std::fs::create_dir_all(folder).map_err(Error::internal)?;
        }
        let lock = lock(path)?;
        let url = format!("sqlite://{path}?mode=rwc");
        let write = sqlite_pool(1, SQLITE_WRITER).connect(&url).await?;
        restrict_to_owner(path)?;
        let read = sqlite_pool(4, SQLITE_READER).connect(&url).await?;
        Ok(Self { write, read, engine: Engine::Sqlite, _lock: Some(Arc::new(lock)) })
    }

    async fn open_postgres(url: &str) -> Result<Self> {
        let pool = AnyPoolOptions::new().max_connections(16).acquire_timeout(ACQUIRE).connect(url).await?;
        Ok(Self { write: pool.clone(), read: pool, engine: Engine::Postgres, _lock: None })
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx(match self.engine {
            Engine::Sqlite => self.write.begin_with("begin immediate").await?,
            Engine::Postgres => self.write.begin().await?,
        }))
    }

    /// Whether the database takes a write now.
    pub async fn is_writable(&self) -> bool {
        let probe = async {
            let mut tx = self.begin().await?;
            sqlx::query(
                "insert into mark (name, value) values ('probe', 1)
                 on conflict (name) do update set value = mark.value + 1",
            )
            .execute(tx.conn())
            .await?;
            tx.commit().await
        };
        tokio::time::timeout(Duration::from_secs(2), probe).await.is_ok_and(|done: Result<()>| done.is_ok())
    }

    /// A mark's value, if it was ever set.
    pub async fn mark(&self, name: &str) -> Result<Option<i64>> {
        let row: Option<(i64,)> =
            sqlx::query_as("select value from mark where name = $1").bind(name).fetch_optional(&self.read).await?;
        Ok(row.map(|(value,)| value))
    }

    /// Sets a mark.
    pub async fn set_mark(&self, name: &str, value: i64) -> Result<()> {
        sqlx::query(
            "insert into mark (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Closes every connection; SQLite folds its write-ahead log into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

impl Tx {
    /// Makes everything done in it durable.
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }

    fn conn(&mut self) -> &mut sqlx::AnyConnection {
        &mut self.0
    }
}

const ACQUIRE: Duration = Duration::from_secs(2);

/// FULL: at NORMAL a power cut loses acknowledged rows.
const SQLITE_WRITER: &str = "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;
    pragma busy_timeout = 5000; pragma temp_store = memory;";
const SQLITE_READER: &str = "pragma query_only = on; pragma busy_timeout = 5000; pragma temp_store = memory;";

fn sqlite_pool(connections: u32, pragmas: &'static str) -> sqlx::pool::PoolOptions<Any> {
    AnyPoolOptions::new()
        .min_connections(connections)
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(pragmas).execute(connection).await?;
                Ok(())
            })
        })
}

/// Held until the process ends, however it ends.
fn lock(path: &str) -> Result<File> {
    let file = File::create(format!("{path}.lock")).map_err(Error::internal)?;
    file.try_lock().map_err(|_| Error::internal(format!("{path} is in use by another process")))?;
    Ok(file)
}

/// The database holds conversations: nobody else on the machine reads it.
fn restrict_to_owner(path: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(Error::internal)
}

fn flag(value: bool) -> i64 {
    i64::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_process_at_a_time_uses_a_sqlite_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("deep/er/chat.db").display());
        let first = Store::open(&url).await.expect("the file and its folder are made");
        assert!(first.is_writable().await);
        Store::open(&url).await.expect_err("a second one is refused");
        first.close().await;
        drop(first);
        Store::open(&url).await.expect("the next one may");
    }

    #[tokio::test]
    async fn an_acknowledged_row_is_on_the_disk_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("chat.db");
        let store = Store::open(&format!("sqlite://{}", path.display())).await.expect("a database");
        let (full,): (i64,) = sqlx::query_as("select synchronous from pragma_synchronous")
            .fetch_one(&store.write)
            .await
            .expect("a pragma");
        assert_eq!(full, 2, "synchronous = FULL");
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
