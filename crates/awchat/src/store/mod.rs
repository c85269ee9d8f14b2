//! The only SQL: one text for SQLite and PostgreSQL, through `sqlx`'s `Any`.
//!
//! Columns are TEXT and BIGINT; a flag is 0 or 1, since `Any` cannot read a SQLite BOOLEAN. The dialect's
//! traps live here: SQLite gets one connection that writes (its transactions begin `immediate`, a deferred
//! one that reads and then writes fails with "database is locked"; who waits for it shares a commit, `writer.rs`) and
//! several that read.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::MigrateError;
use sqlx::{Any, AnyPool, Connection};

use crate::error::{Error, Result};
use writer::{Base, Writer, Writing};

pub mod backup;
pub mod contacts;
pub mod conversations;
pub mod devices;
pub mod erasure;
pub mod export;
pub mod feedback;
pub mod files;
pub mod inbox;
pub mod jobs;
pub mod messages;
pub mod nodes;
pub mod notices;
pub mod outbound;
pub mod replies;
pub mod reports;
pub mod streams;
pub mod tickets;
mod writer;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    write: Writer,
    read: AnyPool,
    engine: Engine,
    tombstones: erasure::Tombstones,
    node: Arc<nodes::Node>,
    /// Keeps a second process off a SQLite database: it would take our messages in flight for a dead process's.
    _lock: Option<Arc<File>>,
}

/// A transaction that may write; dropped without [`Tx::commit`], it leaves nothing.
pub struct Tx(Writing, erasure::Tombstones, Arc<nodes::Node>);

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
        let (pools, lock) = match sqlite_path(url) {
            Some(path) => {
                if let Some(folder) = Path::new(path).parent() {
                    std::fs::create_dir_all(folder).map_err(Error::internal)?;
                }
                let lock = lock(path)?;
                let pools = sqlite(path, "rwc").await?;
                restrict_to_owner(path)?;
                (pools, Some(Arc::new(lock)))
            }
            None => (postgres(url).await?, None),
        };
        migrate(url, &pools).await?;
        Self::with(pools, lock).await
    }

    /// Opens the database at `url` beside the process that uses it, to read alone.
    ///
    /// # Errors
    /// When there is no database, or it cannot be read.
    pub async fn open_to_read(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let (engine, options, url) = match sqlite_path(url) {
            Some(path) => {
                // Not `mode=ro`: a reader of a write-ahead log writes to the index beside it.
                (Engine::Sqlite, sqlite_pool(1, SQLITE_READER), format!("sqlite://{path}?mode=rw"))
            }
            None => {
                let options = AnyPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE);
                let read_only = "set default_transaction_read_only = on";
                let options = options.after_connect(move |connection, _| {
                    Box::pin(async move { sqlx::raw_sql(read_only).execute(connection).await.map(|_| ()) })
                });
                (Engine::Postgres, options, url.to_owned())
            }
        };
        let pool = options.connect(&url).await?;
        let tombstones = erasure::Tombstones::read(&pool).await?;
        Ok(Self {
            write: Writer::Many(pool.clone()),
            read: pool,
            engine,
            tombstones,
            node: Arc::new(nodes::Node::new()),
            _lock: None,
        })
    }

    /// Opens a database that is there, beside the server that may have it open: to ask the server for something.
    ///
    /// # Errors
    /// As [`Store::open`], and when there is none.
    pub async fn open_beside(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let pools = match sqlite_path(url) {
            Some(path) => sqlite(path, "rw").await?,
            None => postgres(url).await?,
        };
        Self::with(pools, None).await
    }

    /// Whether a process has this database open as its own; never known of PostgreSQL.
    pub fn is_in_use(url: &str) -> Option<bool> {
        sqlite_path(url).map(|path| lock(path).is_err())
    }

    async fn with((write, read, engine): (AnyPool, AnyPool, Engine), lock: Option<Arc<File>>) -> Result<Self> {
        let write = match engine {
            Engine::Sqlite => Writer::of_one(write).await?,
            Engine::Postgres => Writer::Many(write),
        };
        let tombstones = erasure::Tombstones::open(&write).await?;
        Ok(Self { write, read, engine, tombstones, node: Arc::new(nodes::Node::new()), _lock: lock })
    }

    /// Whether several processes can use the database as their own: PostgreSQL; a SQLite file has one.
    pub fn serves_many(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_on(Base::Committed).await
    }

    /// Begins one that may share its commit with others, and so may read what they have not committed: until
    /// [`Tx::commit`] or [`Tx::withdraw`] returns, nothing that it has read may be told to anybody.
    pub async fn begin_shared(&self) -> Result<Tx> {
        self.begin_on(Base::Shared).await
    }

    async fn begin_on(&self, base: Base) -> Result<Tx> {
        Ok(Tx(self.write.begin(base).await?, self.tombstones.clone(), Arc::clone(&self.node)))
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

    /// Counts a mark up.
    pub async fn count_up(&self, name: &str) -> Result<()> {
        sqlx::query(
            "insert into mark (name, value) values ($1, 1) on conflict (name) do update set value = mark.value + 1",
        )
        .bind(name)
        .execute(&self.write)
        .await?;
        Ok(())
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

    /// Leaves nothing; what it has read may be told then.
    pub async fn withdraw(self) -> Result<()> {
        Ok(self.0.withdraw().await?)
    }

    fn conn(&mut self) -> &mut sqlx::AnyConnection {
        self.0.connection()
    }

    fn tombstones(&self) -> &erasure::Tombstones {
        &self.1
    }

    /// At the end of a `select`: the rows are locked until the end of the transaction, and those that others hold are left
    /// out. SQLite has one writer.
    fn unheld(&self) -> &'static str {
        if self.0.is_one_of_many() { " for update skip locked" } else { "" }
    }

    /// This process among the nodes of the database.
    fn node(&self) -> &str {
        &self.2.id
    }
}

async fn postgres(url: &str) -> Result<(AnyPool, AnyPool, Engine)> {
    let options = AnyPoolOptions::new().max_connections(16).acquire_timeout(ACQUIRE);
    let options = options.after_connect(|connection, _| {
        Box::pin(async move { sqlx::raw_sql(POSTGRES).execute(connection).await.map(|_| ()) })
    });
    let pool = options.connect(url).await?;
    Ok((pool.clone(), pool, Engine::Postgres))
}

/// Brings the schema up to date, one process at a time: SQLite's file is ours alone by now, and on PostgreSQL the
/// migrator holds a lock of the database's.
async fn migrate(url: &str, (write, _, engine): &(AnyPool, AnyPool, Engine)) -> Result<()> {
    let migrator = sqlx::migrate!();
    let migrated = match engine {
        Engine::Sqlite => migrator.run(write).await,
        // On a connection without the deadlines of the pool's: a long migration is waited for.
        Engine::Postgres => migrator.run(&mut sqlx::AnyConnection::connect(url).await?).await,
    };
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) => Error::internal(format!(
            "the database is of a newer awchat than this one: it has migration {version}, which this one does not know"
        )),
        error => Error::internal(error),
    })
}

async fn sqlite(path: &str, mode: &str) -> Result<(AnyPool, AnyPool, Engine)> {
    let url = format!("sqlite://{path}?mode={mode}");
    let write = sqlite_pool(1, SQLITE_WRITER).connect(&url).await?;
    let read = sqlite_pool(4, SQLITE_READER).connect(&url).await?;
    Ok((write, read, Engine::Sqlite))
}

fn sqlite_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite://")?;
    Some(path.split('?').next().unwrap_or(path))
}

const ACQUIRE: Duration = Duration::from_secs(2);

/// FULL: at NORMAL a power cut loses acknowledged rows. What is deleted is overwritten: a person's words are gone, not
/// only out of reach.
const SQLITE_WRITER: &str = "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;
    pragma busy_timeout = 5000; pragma temp_store = memory; pragma secure_delete = on;";
/// A statement takes milliseconds, and so does a transaction: one that does not end would hold up the others for ever.
const POSTGRES: &str = "set statement_timeout = '5s'; set idle_in_transaction_session_timeout = '10s';";
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
    async fn a_database_of_a_newer_version_is_refused_with_a_sentence() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("chat.db").display());
        let store = Store::open(&url).await.expect("a database");
        sqlx::query(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9999, 'later', 1, x'00', 0)",
        )
        .execute(&store.write)
        .await
        .expect("migrated by a newer one");
        store.close().await;
        drop(store);
        let refused = Store::open(&url).await.expect_err("it is not ours");
        let why = std::error::Error::source(&refused).expect("a cause").to_string();
        assert!(why.contains("newer awchat") && why.contains("9999"), "{why}");
    }

    #[tokio::test]
    async fn who_had_visited_before_there_were_tickets_visits_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("chat.db").display());
        let pool = sqlite_pool(1, SQLITE_WRITER);
        sqlx::any::install_default_drivers();
        let old = pool.connect(&format!("{url}?mode=rwc")).await.expect("a database");
        let mut before = sqlx::migrate!();
        before.migrations = before.migrations[..1].to_vec().into();
        before.run(&old).await.expect("the schema of before");
        sqlx::query("insert into contact (user_id, imported_ms, created_ms) values ('ada', 1, 1)")
            .execute(&old)
            .await
            .expect("a visitor");
        old.close().await;
        let store = Store::open(&url).await.expect("it is brought up to date");
        let ada = crate::id::UserId::parse("ada").expect("a user id");
        assert_eq!(store.contact(&ada).await.expect("read").expect("she is known").imported_ms, None);
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
