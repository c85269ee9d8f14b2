//! A database for one server, gone with it: a SQLite file, or one of the PostgreSQL server that the run is given.

use std::path::{Path, PathBuf};
use std::sync::Once;

use awchat::config::Storage;
use awchat::id;
use awchat::store::Store;
use sqlx::{AnyConnection, Connection, Executor};
use tokio::sync::OnceCell;

use crate::harness;

/// A database that no other server of this run has.
pub(crate) struct Database {
    /// As `DATABASE_URL` has it.
    pub(crate) url: String,
    /// Where what is beside it is kept.
    pub(crate) folder: PathBuf,
    /// The PostgreSQL server, and its name there.
    at: Option<(String, String)>,
}

/// The PostgreSQL server that all servers of this run keep their databases at, such as
/// `postgres://awchat@127.0.0.1:5432`; without one, they are SQLite files.
pub(crate) fn postgres() -> Option<String> {
    static TOLD: Once = Once::new();
    let server = std::env::var("AWCHAT_TEST_DATABASE").ok().filter(|server| !server.is_empty());
    TOLD.call_once(|| eprintln!("databases: {}", server.as_deref().unwrap_or("SQLite")));
    server
}

impl Database {
    /// One without a row, whose files, if it has any, are in `folder`.
    ///
    /// # Panics
    /// When the PostgreSQL server that was asked for cannot be reached.
    pub(crate) async fn new(folder: &Path) -> Self {
        match postgres() {
            Some(server) => Self::made(folder, &server, template(&server).await).await,
            None => {
                let url = format!("sqlite://{}", folder.join("awchat.db").display());
                Self { url, folder: folder.to_owned(), at: None }
            }
        }
    }

    /// One without even the schema, at a PostgreSQL server.
    pub(crate) async fn blank(folder: &Path, server: &str) -> Self {
        Self::made(folder, server, "template0").await
    }

    async fn made(folder: &Path, server: &str, of: &str) -> Self {
        let (name, server) = (new_name(), server.to_owned());
        let made = at_server(&server, format!("create database {name} template {of}")).await;
        made.expect("a database at the PostgreSQL server");
        Self { url: format!("{server}/{name}"), folder: folder.to_owned(), at: Some((server, name)) }
    }
}

fn new_name() -> String {
    format!("test_{}", id::random().to_lowercase().replace(['-', '_'], "x"))
}

/// A database with the schema, which all others of the run are copies of: that takes a third of the time. It stays.
async fn template(server: &str) -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let make = async || {
        let name = new_name();
        at_server(server, format!("create database {name}")).await.expect("a database at AWCHAT_TEST_DATABASE");
        let url = format!("{server}/{name}");
        Store::open(&url).await.expect("its schema").close().await;
        // Each copy makes a key of its own: by that, installations that share a Redis are told apart.
        let mut connection = AnyConnection::connect(&url).await.expect("the new database");
        connection.execute("delete from digest_key").await.expect("a row less");
        connection.close().await.expect("closed");
        name
    };
    TEMPLATE.get_or_init(make).await
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((server, name)) = self.at.take() else { return };
        // A runtime of its own: the test's may be at its end.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(at_server(&server, format!("drop database {name} with (force)")))
        });
        let dropped = dropping.join().expect("it does not panic");
        if !std::thread::panicking() {
            dropped.expect("the test's database is dropped");
        }
    }
}

/// Does something at a PostgreSQL server that is about none of its databases.
pub(crate) async fn at_server(server: &str, statement: String) -> sqlx::Result<()> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&format!("{server}/postgres")).await?;
    connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    connection.close().await
}

#[tokio::test]
async fn a_run_is_on_what_it_was_asked_to_be_on() {
    let asked = (postgres().is_some(), harness::redis().is_some(), harness::bucket().is_some());
    let world = harness::world().await;
    let app = &world.app;
    let is_in_bucket = !matches!(app.config.files.storage, Storage::Local(_));
    assert_eq!((app.store.serves_many(), app.shared.is_up().is_some(), is_in_bucket), asked);
    let (database, redis, files) = asked;
    println!(
        "this run is on: {}, {}, {}",
        if database { "PostgreSQL" } else { "SQLite" },
        if redis { "Redis" } else { "no Redis" },
        if files { "files in S3" } else { "files in a directory" }
    );
}
