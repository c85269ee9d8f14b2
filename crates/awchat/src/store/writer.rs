//! The way to the database for all that writes.
//!
//! PostgreSQL has many writers, and makes their commits durable together. SQLite has one, and a disk takes so many commits
//! in a second: so those who wait for each other here share one. Whoever ends its transaction while others wait leaves its
//! changes uncommitted and stands in line again; whose turn it is next adds its own, each behind a savepoint; and whoever
//! finds its own still open when its turn comes again commits for all who came between. Nobody is told before that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Either, Execute, Executor, SqlStr, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio_util::task::TaskTracker;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// How long a transaction waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// What writes finds its rows by keys. A plan for several keys, made and kept while a table was small, would else read all
/// of it when it has grown, until PostgreSQL has counted its rows anew.
const POSTGRES: &str = "begin; set local enable_seqscan = off";

/// The way to the database for all that writes. A clone is a pointer. As an executor, it runs a statement in a transaction
/// of its own.
#[derive(Clone, Debug)]
pub(super) enum Writer {
    /// Each with a connection of its own.
    Many(AnyPool),
    /// One after the other.
    One(Arc<Line>),
}

/// Who stands in line for the one connection that writes to a SQLite file.
#[derive(Debug)]
pub(super) struct Line {
    turn: Arc<Mutex<Turn>>,
    /// How many wait to begin.
    waiting: AtomicUsize,
    /// How often something was committed.
    commits: AtomicU64,
    /// A commit goes on when who asked for it is gone; so does taking back what was left.
    tasks: TaskTracker,
    pool: AnyPool,
}

/// Whose turn it is has the connection, and what is uncommitted on it.
#[derive(Debug)]
struct Turn {
    /// None once it is closed.
    connection: Option<PoolConnection<Any>>,
    /// A transaction of the database's is open.
    open: bool,
    /// Whoever had the turn has left without an end: what it did is behind the savepoint.
    left: bool,
    /// Those whose changes are there and not committed.
    uncommitted: Vec<oneshot::Sender<Result<()>>>,
}

/// A transaction that may write; dropped without [`Writing::commit`], it leaves nothing.
pub(super) enum Writing {
    Own(Transaction<'static, Any>),
    Shared(Shared),
}

/// One that has its turn.
pub(super) struct Shared {
    turn: Option<OwnedMutexGuard<Turn>>,
    line: Arc<Line>,
}

/// What a transaction begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// On what is committed: what it reads may be told whatever becomes of it.
    Committed,
    /// Also on what others have done and not yet committed: nothing it reads may be told before its own end.
    Shared,
}

impl Writer {
    /// The one connection of a SQLite file's pool.
    pub(super) async fn of_one(pool: AnyPool) -> Result<Self> {
        let connection = Some(pool.acquire().await?);
        let turn = Turn { connection, open: false, left: false, uncommitted: Vec::new() };
        Ok(Self::One(Arc::new(Line {
            turn: Arc::new(Mutex::new(turn)),
            waiting: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            pool,
        })))
    }

    /// Begins a transaction that may write.
    pub(super) async fn begin(&self, base: Base) -> Result<Writing> {
        Ok(match self {
            Self::Many(pool) => Writing::Own(pool.begin_with(POSTGRES).await?),
            Self::One(line) => Writing::Shared(line.begin(base).await?),
        })
    }

    /// Folds SQLite's write-ahead log into the file, unless a reader is in the way: then `false`.
    pub(super) async fn checkpoint(&self) -> Result<bool> {
        let Self::One(line) = self else { return Ok(true) };
        let mut turn = line.turn().await?;
        turn.settle(line).await;
        let query = sqlx::query_as("pragma wal_checkpoint(truncate)");
        let (busy, _, _): (i64, i64, i64) = query.fetch_one(turn.connection()?).await?;
        Ok(busy == 0)
    }

    /// Commits what is open and closes the connections.
    pub(super) async fn close(&self) {
        match self {
            Self::Many(pool) => pool.close().await,
            Self::One(line) => {
                line.tasks.close();
                line.tasks.wait().await;
                if let Ok(mut turn) = line.turn().await {
                    turn.settle(line).await;
                    turn.connection = None;
                }
                line.pool.close().await;
            }
        }
    }

    async fn all<'q, E>(&self, query: E) -> Result<Vec<Either<AnyQueryResult, AnyRow>>>
    where
        E: 'q + Execute<'q, Any>,
    {
        match self {
            Self::Many(pool) => pool.fetch_many(query).try_collect().await,
            Self::One(_) => {
                let mut writing = self.begin(Base::Shared).await?;
                let all = writing.connection().fetch_many(query).try_collect().await?;
                writing.commit().await?;
                Ok(all)
            }
        }
    }
}

impl<'c> Executor<'c> for &'c Writer {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let all = async move { Ok::<_, sqlx::Error>(stream::iter(self.all(query).await?.into_iter().map(Ok))) };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        Box::pin(async move { Ok(self.all(query).await?.into_iter().find_map(Either::right)) })
    }

    fn prepare_with<'e>(self, sql: SqlStr, _: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.begin(Base::Shared).await?.connection().prepare(sql).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Any>>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.begin(Base::Shared).await?.connection().describe(sql).await })
    }
}

impl Line {
    async fn turn(self: &Arc<Self>) -> Result<OwnedMutexGuard<Turn>> {
        let turn = Arc::clone(&self.turn).lock_owned();
        tokio::time::timeout(TURN, turn).await.map_err(|_| sqlx::Error::PoolTimedOut)
    }

    async fn begin(self: &Arc<Self>, base: Base) -> Result<Shared> {
        let mut turn = {
            let _waiting = Waiting::new(&self.waiting);
            self.turn().await?
        };
        if turn.left || (base == Base::Committed && !turn.uncommitted.is_empty()) {
            // In a task: half a commit would be nobody's.
            let line = Arc::clone(self);
            let settled = self.tasks.spawn(async move {
                turn.settle(&line).await;
                turn
            });
            turn = settled.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        }
        let begins = !turn.open;
        turn.connection()?;
        (turn.open, turn.left) = (true, true);
        let mut shared = Shared { turn: Some(turn), line: Arc::clone(self) };
        let sql = if begins { "begin immediate; savepoint own" } else { "savepoint own" };
        sqlx::raw_sql(sql).execute(shared.connection()).await?;
        Ok(shared)
    }

    /// The end of a transaction: its own, or shared with those who wait.
    async fn end(self: Arc<Self>, mut turn: OwnedMutexGuard<Turn>) -> Result<()> {
        turn.left = false;
        if self.waiting.load(Ordering::Acquire) == 0 {
            return turn.commit(&self).await;
        }
        if let Err(error) = turn.run("release own").await {
            turn.give_up(&error).await;
            return Err(error);
        }
        let (tell, mut told) = oneshot::channel();
        turn.uncommitted.push(tell);
        drop(turn);
        tokio::select! {
            biased;
            told = &mut told => told.unwrap_or(Err(sqlx::Error::WorkerCrashed)),
            mut turn = Arc::clone(&self.turn).lock_owned() => {
                if let Ok(told) = told.try_recv() {
                    return told;
                }
                turn.settle(&self).await;
                told.try_recv().unwrap_or(Err(sqlx::Error::WorkerCrashed))
            }
        }
    }
}

impl Turn {
    fn connection(&mut self) -> Result<&mut AnyConnection> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    async fn run(&mut self, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(self.connection()?).await.map(|_| ())
    }

    /// Takes back what was left, and commits what is not committed: nothing is open then.
    async fn settle(&mut self, line: &Line) {
        if self.left {
            self.undo().await;
        }
        if !self.uncommitted.is_empty() {
            // They are told.
            let _ = self.commit(line).await;
        }
    }

    /// Takes back what whoever had the turn has left behind the savepoint.
    async fn undo(&mut self) {
        self.left = false;
        if self.uncommitted.is_empty() {
            self.open = false;
            // Where it failed to begin there is nothing to take back.
            let _ = self.run("rollback").await;
        } else if let Err(error) = self.run("rollback to own; release own").await {
            self.give_up(&error).await;
        }
    }

    async fn commit(&mut self, line: &Line) -> Result<()> {
        if let Err(error) = self.run("commit").await {
            self.give_up(&error).await;
            return Err(error);
        }
        self.open = false;
        line.commits.fetch_add(1, Ordering::Relaxed);
        for tell in self.uncommitted.drain(..) {
            // Nobody may wait for it any more.
            let _ = tell.send(Ok(()));
        }
        Ok(())
    }

    /// SQLite has taken everything back by itself, as it does when the disk is full, or cannot commit.
    async fn give_up(&mut self, cause: &sqlx::Error) {
        self.open = false;
        let _ = self.run("rollback").await;
        for tell in self.uncommitted.drain(..) {
            let _ = tell.send(Err(sqlx::Error::Protocol(format!("a shared commit failed: {cause}"))));
        }
    }
}

impl Writing {
    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        match self {
            Self::Own(transaction) => transaction,
            Self::Shared(shared) => shared.connection(),
        }
    }

    /// Whether others may write at the same time.
    pub(super) fn is_one_of_many(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Makes everything done in it durable. It is durable, or not, even if nobody waits for the answer.
    pub(super) async fn commit(self) -> Result<()> {
        match self {
            Self::Own(transaction) => transaction.commit().await,
            Self::Shared(shared) => shared.end(false).await,
        }
    }

    /// Leaves nothing, and returns once what it has read is durable.
    pub(super) async fn withdraw(self) -> Result<()> {
        match self {
            Self::Own(transaction) => transaction.rollback().await,
            Self::Shared(shared) => shared.end(true).await,
        }
    }
}

impl Shared {
    fn connection(&mut self) -> &mut AnyConnection {
        let turn = self.turn.as_mut().expect("it has its turn until its end");
        turn.connection.as_deref_mut().expect("who closes it waits for its turn")
    }

    async fn end(mut self, withdraws: bool) -> Result<()> {
        let Some(mut turn) = self.turn.take() else { return Err(sqlx::Error::PoolClosed) };
        let line = Arc::clone(&self.line);
        let end = async move {
            if withdraws {
                turn.settle(&line).await;
                return Ok(());
            }
            line.end(turn).await
        };
        self.line.tasks.spawn(end).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        // Without a runtime, whoever comes next takes it back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.line.tasks.spawn_on(async move { turn.undo().await }, &runtime);
        }
    }
}

/// One that waits to begin.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
