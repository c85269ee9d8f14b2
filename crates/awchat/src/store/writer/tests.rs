//! Commits that are shared, and what must not be shared.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::super::{SQLITE_READER, SQLITE_WRITER, sqlite_pool};
use super::*;

struct File {
    writer: Writer,
    /// Sees what is committed.
    reader: AnyPool,
    folder: tempfile::TempDir,
}

async fn file() -> File {
    sqlx::any::install_default_drivers();
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let pool = sqlite_pool(1, SQLITE_WRITER).connect(&format!("{url}?mode=rwc")).await.expect("a database");
    sqlx::raw_sql("create table word (word text primary key not null)").execute(&pool).await.expect("a table");
    let writer = Writer::of_one(pool).await.expect("a writer");
    let reader = sqlite_pool(2, SQLITE_READER).connect(&url).await.expect("a reader");
    File { writer, reader, folder }
}

impl File {
    fn line(&self) -> &Arc<Line> {
        match &self.writer {
            Writer::One(line) => line,
            Writer::Many(_) => panic!("one writes"),
        }
    }

    fn commits(&self) -> u64 {
        self.line().commits.load(Ordering::Relaxed)
    }

    async fn add(&self, word: &str) -> Result<()> {
        sqlx::query("insert into word (word) values ($1)").bind(word).execute(&self.writer).await.map(|_| ())
    }

    /// What is committed, in alphabetical order.
    async fn words(&self) -> String {
        let rows: Vec<(String,)> =
            sqlx::query_as("select word from word order by word").fetch_all(&self.reader).await.expect("read");
        rows.into_iter().map(|(word,)| word).collect::<Vec<_>>().join(" ")
    }

    /// A transaction that has done something, and its turn.
    async fn begun(&self, word: &str) -> Writing {
        let mut writing = self.writer.begin(Base::Committed).await.expect("begun");
        insert(&mut writing, word).await.expect("inserted");
        writing
    }

    /// So many wait for their turn.
    async fn until_waiting(&self, count: usize) {
        while self.line().waiting.load(Ordering::Acquire) < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn insert(writing: &mut Writing, word: &str) -> Result<()> {
    sqlx::query("insert into word (word) values ($1)").bind(word).execute(writing.connection()).await.map(|_| ())
}

#[tokio::test]
async fn those_who_wait_for_each_other_share_a_commit_and_each_hears_of_its_own() {
    let file = file().await;
    let first = file.begun("a").await;
    let before = file.commits();
    let words: Vec<String> = (0..30).map(|n| format!("w{n:02}")).chain(["w07".to_owned()]).collect();
    let others = join_all(words.iter().map(|word| file.add(word)));
    let ends = async {
        file.until_waiting(words.len()).await;
        first.commit().await.expect("the first");
        assert!(file.words().await.starts_with('a'), "what was answered is there for all to see");
    };
    let (others, ()) = futures_util::future::join(others, ends).await;
    assert_eq!(others.iter().filter(|end| end.is_err()).count(), 1, "one came twice, and spoils nothing");
    assert_eq!(file.words().await.split(' ').count(), 31);
    assert_eq!(file.commits() - before, 1, "one commit for all");
}

#[tokio::test]
async fn what_is_dropped_is_taken_back_and_what_shares_its_commit_stays() {
    let file = file().await;
    let first = file.begun("a").await;
    let dropped = async {
        let mut writing = file.writer.begin(Base::Shared).await.expect("begun");
        insert(&mut writing, "b").await.expect("inserted");
        let seen: Vec<(String,)> =
            sqlx::query_as("select word from word").fetch_all(writing.connection()).await.expect("read");
        assert_eq!(seen.len(), 2, "it stands on what the first did");
    };
    let ends = async {
        file.until_waiting(1).await;
        first.commit().await.expect("the first");
    };
    futures_util::future::join(dropped, ends).await;
    assert_eq!(file.words().await, "a");
    drop(file.begun("c").await);
    file.add("d").await.expect("there is a turn for the next");
    assert_eq!(file.words().await, "a d");
}

#[tokio::test]
async fn who_reads_what_may_be_told_reads_nothing_uncommitted() {
    let file = file().await;
    let first = file.begun("a").await;
    let before = file.commits();
    let reads = async {
        let mut writing = file.writer.begin(Base::Committed).await.expect("begun");
        assert_eq!(file.commits() - before, 1, "what the first did is committed before another reads it");
        assert_eq!(file.words().await, "a");
        insert(&mut writing, "b").await.expect("inserted");
        drop(writing);
    };
    let ends = async {
        file.until_waiting(1).await;
        first.commit().await.expect("the first");
    };
    futures_util::future::join(reads, ends).await;
    assert_eq!(file.words().await, "a");
}

#[tokio::test]
async fn what_was_read_in_a_shared_transaction_is_durable_once_it_is_withdrawn() {
    let file = file().await;
    let first = file.begun("a").await;
    let reads = async {
        let writing = file.writer.begin(Base::Shared).await.expect("begun");
        assert_eq!(file.words().await, "", "nothing is committed yet");
        writing.withdraw().await.expect("withdrawn");
        assert_eq!(file.words().await, "a");
    };
    let ends = async {
        file.until_waiting(1).await;
        first.commit().await.expect("the first");
    };
    futures_util::future::join(reads, ends).await;
}

#[tokio::test]
async fn a_commit_goes_on_when_nobody_waits_for_its_end() {
    let file = file().await;
    let first = file.begun("a").await;
    let held = file.writer.begin(Base::Shared);
    let ends = async {
        file.until_waiting(1).await;
        let mut commit = Box::pin(first.commit());
        assert!(futures_util::poll!(&mut commit).is_pending());
    };
    let (held, ()) = futures_util::future::join(held, ends).await;
    drop(held);
    while file.words().await != "a" {
        tokio::task::yield_now().await;
    }
    file.writer.close().await;
    assert!(file.add("b").await.is_err(), "it is closed");
}

#[tokio::test]
async fn when_sqlite_takes_all_back_all_hear_of_it_and_the_next_may_write() {
    let file = file().await;
    let first = file.begun("a").await;
    let spoils = async {
        let mut writing = file.writer.begin(Base::Shared).await.expect("begun");
        // As SQLite does by itself when the disk is full.
        sqlx::raw_sql("rollback").execute(writing.connection()).await.expect("taken back");
        writing.commit().await.expect_err("there is nothing to commit");
    };
    let ends = async {
        file.until_waiting(1).await;
        first.commit().await.expect_err("it was not committed");
    };
    futures_util::future::join(spoils, ends).await;
    assert_eq!(file.words().await, "");
    file.add("b").await.expect("the next one may");
    assert!(file.writer.checkpoint().await.expect("asked"));
    assert_eq!(file.words().await, "b");
    drop(file.folder);
}
