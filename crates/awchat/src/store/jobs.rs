//! Work that is due, leased by one worker at a time.

use super::{Store, Tx};
use crate::error::Result;
use crate::id;

/// A leased job.
#[derive(Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What to do.
    pub kind: String,
    /// To what.
    pub subject: String,
    /// With what: JSON.
    pub payload: String,
    /// The how manyth attempt this is: 2 where the first failed, or died.
    pub attempt: i64,
    /// When it was first asked for, Unix milliseconds.
    pub created_ms: i64,
    /// How often it had been asked for when it was leased.
    asked: i64,
    /// Until when it is leased: what tells this lease from a later one.
    leased_until_ms: i64,
}

const INSERT: &str = "insert into job (id, kind, subject, payload, due_ms, created_ms) values ($1, $2, $3, $4, $5, $6)
     on conflict (kind, subject) do update set asked = job.asked + 1, payload = excluded.payload,
       due_ms = case when job.due_ms > excluded.due_ms then excluded.due_ms else job.due_ms end";

impl Store {
    /// Asks for work; asked for twice before it is done, it is done once, with the newest payload, when it is due
    /// first.
    pub async fn enqueue(&self, kind: &str, subject: &str, payload: &str, due_ms: i64, now_ms: i64) -> Result<()> {
        let mut tx = self.begin_shared().await?;
        tx.enqueue(kind, subject, payload, due_ms, now_ms).await?;
        tx.commit().await
    }

    /// Takes the job that has been due longest and keeps others off it until `until_ms`.
    ///
    /// The condition is repeated outside the subquery: that is what makes it safe on both engines.
    pub async fn lease_job(&self, now_ms: i64, until_ms: i64) -> Result<Option<Job>> {
        let row: Option<(String, String, String, String, i64, i64, i64)> = sqlx::query_as(
            "update job set leased_until_ms = $2, leased_by = $3, attempts = attempts + 1 where id = (
                 select id from job where due_ms <= $1 and leased_until_ms <= $1 order by due_ms, id limit 1
             ) and leased_until_ms <= $1 returning id, kind, subject, payload, attempts, created_ms, asked",
        )
        .bind(now_ms)
        .bind(until_ms)
        .bind(&self.node.id)
        .fetch_optional(&self.write)
        .await?;
        Ok(row.map(|(id, kind, subject, payload, attempt, created_ms, asked)| Job {
            id,
            kind,
            subject,
            payload,
            attempt,
            created_ms,
            asked,
            leased_until_ms: until_ms,
        }))
    }

    /// Whether a job is due, without taking it: an idle worker writes nothing.
    pub async fn job_is_due(&self, now_ms: i64) -> Result<bool> {
        let row: Option<(i64,)> =
            sqlx::query_as("select due_ms from job where due_ms <= $1 and leased_until_ms <= $1 limit 1")
                .bind(now_ms)
                .fetch_optional(&self.read)
                .await?;
        Ok(row.is_some())
    }

    /// Whether a job is still to be done.
    pub async fn has_job(&self, kind: &str, subject: &str) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("select due_ms from job where kind = $1 and subject = $2")
            .bind(kind)
            .bind(subject)
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some())
    }

    /// The job is done, unless it was asked for again meanwhile: then it is due at once. One that was leased again, since
    /// this took too long, is that one's.
    pub async fn finish_job(&self, job: &Job) -> Result<()> {
        let mut tx = self.begin_shared().await?;
        sqlx::query("delete from job where id = $1 and asked = $2 and leased_until_ms = $3 and leased_by = $4")
            .bind(&job.id)
            .bind(job.asked)
            .bind(job.leased_until_ms)
            .bind(&self.node.id)
            .execute(tx.conn())
            .await?;
        sqlx::query(
            "update job set leased_until_ms = 0, attempts = 0
             where id = $1 and leased_until_ms = $2 and leased_by = $3",
        )
        .bind(&job.id)
        .bind(job.leased_until_ms)
        .bind(&self.node.id)
        .execute(tx.conn())
        .await?;
        tx.commit().await
    }

    /// The job is to be tried again at `due_ms`.
    pub async fn retry_job(&self, job: &Job, due_ms: i64) -> Result<()> {
        sqlx::query(
            "update job set due_ms = $2, leased_until_ms = 0
             where id = $1 and leased_until_ms = $3 and leased_by = $4",
        )
        .bind(&job.id)
        .bind(due_ms)
        .bind(job.leased_until_ms)
        .bind(&self.node.id)
        .execute(&self.write)
        .await?;
        Ok(())
    }
}

impl Tx {
    /// Asks for work in the transaction that makes it necessary.
    pub async fn enqueue(&mut self, kind: &str, subject: &str, payload: &str, due_ms: i64, now_ms: i64) -> Result<()> {
        sqlx::query(INSERT)
            .bind(id::random())
            .bind(kind)
            .bind(subject)
            .bind(payload)
            .bind(due_ms)
            .bind(now_ms)
            .execute(self.conn())
            .await?;
        Ok(())
    }
}
