//! The processes that have one PostgreSQL database as their own: who of them lives, what they have in hand, and which
//! of them does what one does for all.
//!
//! A node is alive until a time that it keeps moving on. What a dead one had leased is free at once, and what it was
//! sending is looked for by another. A SQLite file has one process: it is alive as long as it runs, leads in
//! everything, and whatever it finds in hand at its start is a dead one's.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Store;
use crate::error::Result;
use crate::id;

/// A node that has not renewed its life for this long is dead to the others, milliseconds. Their clocks must agree by
/// much less.
const ALIVE_MS: i64 = 6_000;
/// How often a node renews its life, milliseconds.
pub const RENEW_MS: u64 = 1_500;

/// This process among the nodes of its database.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    /// Until when the others think so, Unix milliseconds.
    alive_until_ms: AtomicI64,
    /// Others that seem dead may only have been cut off from the database, as this one was: they get until then to renew
    /// their lives, Unix milliseconds.
    patient_until_ms: AtomicI64,
    /// What it leads in, while it is alive.
    leads: Mutex<HashSet<String>>,
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            id: id::random(),
            alive_until_ms: AtomicI64::new(0),
            patient_until_ms: AtomicI64::new(0),
            leads: Mutex::default(),
        }
    }

    fn leads(&self) -> MutexGuard<'_, HashSet<String>> {
        self.leads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self, now_ms: i64) -> bool {
        now_ms < self.alive_until_ms.load(Ordering::Acquire)
    }
}

impl Store {
    /// At the start: this process is one of the database's nodes, and what dead ones had in hand is free.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn join(&self, now_ms: i64) -> Result<()> {
        if self.serves_many() {
            self.stay(now_ms).await?;
        }
        self.free_leases(now_ms).await
    }

    /// Renews this node's life; too late, it leads in nothing any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stay(&self, now_ms: i64) -> Result<()> {
        if !self.serves_many() {
            return Ok(());
        }
        let node = &self.node;
        let was_ms = node.alive_until_ms.load(Ordering::Acquire);
        let until_ms = now_ms.saturating_add(ALIVE_MS);
        if was_ms > 0 && !node.is_alive(now_ms) {
            node.leads().clear();
            node.patient_until_ms.store(until_ms, Ordering::Release);
        }
        sqlx::query(
            "insert into node (id, alive_until_ms) values ($1, $2)
             on conflict (id) do update set alive_until_ms = excluded.alive_until_ms",
        )
        .bind(&node.id)
        .bind(until_ms)
        .execute(&self.write)
        .await?;
        node.alive_until_ms.store(until_ms, Ordering::Release);
        Ok(())
    }

    /// The same where it is due: before something is taken in hand that others would take up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stay_if_due(&self, now_ms: i64) -> Result<()> {
        if self.node.is_alive(now_ms.saturating_add(ALIVE_MS / 2)) { Ok(()) } else { self.stay(now_ms).await }
    }

    /// At the end: others need not wait to lead.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave(&self) -> Result<()> {
        if !self.serves_many() {
            return Ok(());
        }
        self.node.alive_until_ms.store(0, Ordering::Release);
        self.node.leads().clear();
        sqlx::query("delete from node where id = $1").bind(&self.node.id).execute(&self.write).await?;
        Ok(())
    }

    /// Whether this node is the one that does `what` for all; it is from now on if nobody alive does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leads_in(&self, what: &str, now_ms: i64) -> Result<bool> {
        if !self.serves_many() {
            return Ok(true);
        }
        self.stay_if_due(now_ms).await?;
        // While it is alive, nobody else can have become the one.
        if self.node.leads().contains(what) {
            return Ok(true);
        }
        let other: Option<(String,)> = sqlx::query_as(
            "select node from lead where name = $1 and node <> $2
             and node in (select id from node where alive_until_ms > $3)",
        )
        .bind(what)
        .bind(&self.node.id)
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await?;
        if other.is_some() {
            return Ok(false);
        }
        let done = sqlx::query(
            "insert into lead (name, node) values ($1, $2) on conflict (name) do update set node = excluded.node
             where lead.node = excluded.node or lead.node not in (select id from node where alive_until_ms > $3)",
        )
        .bind(what)
        .bind(&self.node.id)
        .bind(now_ms)
        .execute(&self.write)
        .await?;
        let leads = done.rows_affected() == 1;
        if leads {
            self.node.leads().insert(what.to_owned());
        }
        Ok(leads)
    }

    /// Whether a server has this database as its own right now. Of a SQLite file, [`Store::is_in_use`] knows: one that was
    /// opened beside its server has one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_served(&self, now_ms: i64) -> Result<bool> {
        if !self.serves_many() {
            return Ok(true);
        }
        let alive: Option<(String,)> = sqlx::query_as("select id from node where alive_until_ms > $1 limit 1")
            .bind(now_ms)
            .fetch_optional(&self.read)
            .await?;
        Ok(alive.is_some())
    }

    /// Whether nodes have died whose work nobody has taken up yet, as far as this one may say.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn misses_nodes(&self, now_ms: i64) -> Result<bool> {
        if now_ms < self.node.patient_until_ms.load(Ordering::Acquire) {
            return Ok(false);
        }
        let dead: Option<(String,)> = sqlx::query_as("select id from node where alive_until_ms <= $1 limit 1")
            .bind(now_ms)
            .fetch_optional(&self.read)
            .await?;
        Ok(dead.is_some())
    }

    /// Forgets the nodes that are dead by now: what they had in hand has been taken up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_dead_nodes(&self, now_ms: i64) -> Result<()> {
        sqlx::query("delete from node where alive_until_ms <= $1").bind(now_ms).execute(&self.write).await?;
        Ok(())
    }

    /// Frees what dead nodes had leased; what Telegram may have been asked by them is not asked again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn free_leases(&self, now_ms: i64) -> Result<()> {
        // This process has nothing in hand at its start; nor has one from before there were nodes, on SQLite.
        const OF_THE_DEAD: [&str; 4] = [
            "update job set leased_until_ms = 0 where leased_until_ms > 0 and leased_by <> $1
               and leased_by not in (select id from node where alive_until_ms > $2)
               and (leased_by <> '' or $3 = 0)",
            "delete from notice where sending = 1 and leased_by <> $1
               and leased_by not in (select id from node where alive_until_ms > $2)
               and (leased_by <> '' or $3 = 0)",
            "update notice set leased_until_ms = 0 where leased_until_ms > 0 and leased_by <> $1
               and leased_by not in (select id from node where alive_until_ms > $2)
               and (leased_by <> '' or $3 = 0)",
            "update inbox set leased_until_ms = 0 where leased_until_ms > 0 and leased_by <> $1
               and leased_by not in (select id from node where alive_until_ms > $2)
               and (leased_by <> '' or $3 = 0)",
        ];
        for sql in OF_THE_DEAD {
            sqlx::query(sql)
                .bind(&self.node.id)
                .bind(now_ms)
                .bind(super::flag(self.serves_many()))
                .execute(&self.write)
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sqlite_file_has_one_node_which_leads_in_everything_and_writes_nothing_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&format!("sqlite://{}/test.db", folder.path().display())).await.expect("a database");
        store.join(0).await.expect("it joins");
        assert!(store.leads_in("sweep", i64::MAX).await.expect("asked"));
        let (rows,): (i64,) = sqlx::query_as("select (select count(*) from node) + (select count(*) from lead)")
            .fetch_one(&store.read)
            .await
            .expect("counted");
        assert_eq!(rows, 0);
    }
}
