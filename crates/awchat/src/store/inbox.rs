//! Webhooks received: durable before they are acknowledged, applied by the worker.

use super::Store;
use crate::error::Result;

/// A webhook that waits to be applied.
#[derive(Debug)]
pub struct Received {
    /// The dedupe key.
    pub id: String,
    /// The body as it came.
    pub raw: String,
    /// How often applying it has failed.
    pub attempts: i64,
}

impl Store {
    /// Stores a webhook; `false` if it was here before.
    pub async fn receive(&self, id: &str, topic: &str, raw: &str, now_ms: i64) -> Result<bool> {
        let done = sqlx::query(
            "insert into inbox (id, seq, topic, received_ms, raw, due_ms)
             values ($1, (select coalesce(max(seq), 0) + 1 from inbox), $2, $3, $4, $3) on conflict (id) do nothing",
        )
        .bind(id)
        .bind(topic)
        .bind(now_ms)
        .bind(raw)
        .execute(&self.write)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The webhooks due, oldest first. Where other nodes could apply the same ones, they are kept off them until
    /// `until_ms`.
    pub async fn inbox_due(&self, now_ms: i64, until_ms: i64, limit: i64) -> Result<Vec<Received>> {
        let rows: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(
            "select id, raw, attempts, due_ms, seq from inbox
             where raw is not null and due_ms <= $1 and leased_until_ms <= $1 order by due_ms, seq limit $2",
        )
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        let rows = if rows.is_empty() || !self.serves_many() {
            rows
        } else {
            self.lease_inbox(now_ms, until_ms, limit).await?
        };
        Ok(rows.into_iter().map(|(id, raw, attempts, ..)| Received { id, raw, attempts }).collect())
    }

    /// The one statement that is PostgreSQL's alone: two nodes that lock the same rows in another order would wait for
    /// each other.
    async fn lease_inbox(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: i64,
    ) -> Result<Vec<(String, String, i64, i64, i64)>> {
        let mut rows: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(
            "update inbox set leased_until_ms = $2, leased_by = $3 where id in (
                 select id from inbox where raw is not null and due_ms <= $1 and leased_until_ms <= $1
                 order by due_ms, seq limit $4 for update skip locked
             ) and raw is not null returning id, raw, attempts, due_ms, seq",
        )
        .bind(now_ms)
        .bind(until_ms)
        .bind(&self.node.id)
        .bind(limit)
        .fetch_all(&self.write)
        .await?;
        rows.sort_by_key(|(_, _, _, due_ms, seq)| (*due_ms, *seq));
        Ok(rows)
    }

    /// These webhooks have had their effect: their texts go, their ids stay.
    pub async fn inbox_done(&self, ids: &[String]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_shared().await?;
        for id in ids {
            sqlx::query("update inbox set raw = null where id = $1").bind(id).execute(tx.conn()).await?;
        }
        tx.commit().await
    }

    /// A webhook could not be applied yet.
    pub async fn inbox_retry(&self, id: &str, due_ms: i64) -> Result<()> {
        sqlx::query("update inbox set attempts = attempts + 1, due_ms = $2, leased_until_ms = 0 where id = $1")
            .bind(id)
            .bind(due_ms)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Forgets the ids of webhooks received before `before_ms`.
    pub async fn inbox_forget(&self, before_ms: i64) -> Result<()> {
        sqlx::query("delete from inbox where raw is null and received_ms < $1")
            .bind(before_ms)
            .execute(&self.write)
            .await?;
        Ok(())
    }
}
