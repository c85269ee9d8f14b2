//! All users' ratings and complaints, and what waits to be done: for the operator's page and for exports, never for a
//! user.

use super::Store;
use crate::error::Result;

/// A rating, with whose it is.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RatingRow {
    /// Its id.
    pub id: String,
    /// Who rated.
    #[sqlx(rename = "user_id")]
    pub user: String,
    /// 1 to 5.
    pub stars: i64,
    /// In the user's words.
    pub comment: Option<String>,
    /// The ticket that was named.
    pub ticket_id: Option<String>,
    /// The conversation that was named.
    pub conversation_id: Option<String>,
    /// What it was about: the main topic.
    pub topic_main: Option<String>,
    /// The topic below it.
    pub topic_sub: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A complaint, with whose it is.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ComplaintRow {
    /// Its id.
    pub id: String,
    /// Who complained.
    #[sqlx(rename = "user_id")]
    pub user: String,
    /// What kind of complaint.
    pub category: String,
    /// In the user's words.
    pub description: String,
    /// The chat it is about.
    pub chat_id: Option<String>,
    /// The app's own word for what it is about.
    pub dialog_id: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A place between rows, in the order of their time; ids break ties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row's time, Unix milliseconds.
    pub created_ms: i64,
    /// The row's id.
    pub id: String,
}

/// How many ratings had so many stars, of one day or one topic.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Count<K> {
    /// The day, counted from 1970 (UTC), or the main topic.
    pub key: K,
    /// 1 to 5.
    pub stars: i64,
    /// So many.
    pub ratings: i64,
}

/// What waits to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Webhooks that are not applied yet.
    pub webhooks: Waiting,
    /// Jobs that are due.
    pub jobs: Waiting,
    /// Messages of users of which nobody knows yet whether Intercom has them.
    pub unresolved: Waiting,
}

/// So many, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// How many.
    pub count: i64,
    /// The oldest one's time, Unix milliseconds.
    pub oldest_ms: Option<i64>,
}

impl Store {
    /// Ratings from `since_ms` on that come after `after`, oldest first.
    pub async fn ratings_after(&self, since_ms: i64, after: &Place, limit: i64) -> Result<Vec<RatingRow>> {
        let rows = sqlx::query_as(
            "select csat.id, csat.user_id, csat.stars, csat.comment, csat.ticket_id, csat.conversation_id,
               conversation.topic_main, conversation.topic_sub, csat.created_ms
             from csat
             left join conversation on conversation.id = coalesce(csat.ticket_id, csat.conversation_id)
             where csat.created_ms >= $1 and (csat.created_ms > $2 or (csat.created_ms = $2 and csat.id > $3))
             order by csat.created_ms, csat.id limit $4",
        )
        .bind(since_ms)
        .bind(after.created_ms)
        .bind(&after.id)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// Complaints from `since_ms` on that come after `after`, oldest first.
    pub async fn complaints_after(&self, since_ms: i64, after: &Place, limit: i64) -> Result<Vec<ComplaintRow>> {
        let rows = sqlx::query_as(
            "select id, user_id, category, description, chat_id, dialog_id, created_ms from complaint
             where created_ms >= $1 and (created_ms > $2 or (created_ms = $2 and id > $3))
             order by created_ms, id limit $4",
        )
        .bind(since_ms)
        .bind(after.created_ms)
        .bind(&after.id)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// Complaints from `since_ms` on that come before `before`, newest first; of one category, or of any.
    pub async fn complaints_before(
        &self,
        category: Option<&str>,
        since_ms: i64,
        before: &Place,
        limit: i64,
    ) -> Result<Vec<ComplaintRow>> {
        let rows = sqlx::query_as(
            "select id, user_id, category, description, chat_id, dialog_id, created_ms from complaint
             where created_ms >= $1 and (created_ms < $2 or (created_ms = $2 and id < $3))
               and (category = $4 or $4 = '')
             order by created_ms desc, id desc limit $5",
        )
        .bind(since_ms)
        .bind(before.created_ms)
        .bind(&before.id)
        .bind(category.unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// How many complaints there are from `since_ms` on, by category.
    pub async fn complaint_counts(&self, since_ms: i64) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query_as(
            "select category, cast(count(*) as bigint) from complaint where created_ms >= $1 group by category",
        )
        .bind(since_ms)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// The ratings from `since_ms` on by day, oldest first.
    pub async fn ratings_by_day(&self, since_ms: i64) -> Result<Vec<Count<i64>>> {
        let rows = sqlx::query_as(
            "select created_ms / 86400000 as key, stars, cast(count(*) as bigint) as ratings from csat
             where created_ms >= $1 group by created_ms / 86400000, stars order by 1, stars",
        )
        .bind(since_ms)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// The ratings from `since_ms` on by the main topic of what was rated.
    pub async fn ratings_by_topic(&self, since_ms: i64) -> Result<Vec<Count<Option<String>>>> {
        let rows = sqlx::query_as(
            "select conversation.topic_main as key, csat.stars, cast(count(*) as bigint) as ratings from csat
             left join conversation on conversation.id = coalesce(csat.ticket_id, csat.conversation_id)
             where csat.created_ms >= $1 group by conversation.topic_main, csat.stars
             order by case when conversation.topic_main is null then 0 else 1 end, conversation.topic_main, csat.stars",
        )
        .bind(since_ms)
        .fetch_all(&self.read)
        .await?;
        Ok(rows)
    }

    /// What waits to be done at `now_ms`.
    pub async fn backlog(&self, now_ms: i64) -> Result<Backlog> {
        let webhooks = sqlx::query_as(
            "select cast(count(*) as bigint) as count, cast(min(received_ms) as bigint) as oldest_ms from inbox
             where raw is not null",
        );
        let jobs = sqlx::query_as(
            "select cast(count(*) as bigint) as count, cast(min(due_ms) as bigint) as oldest_ms from job
             where due_ms <= $1",
        );
        let unresolved = sqlx::query_as(
            "select cast(count(*) as bigint) as count, cast(min(attempt_ms) as bigint) as oldest_ms from outbound
             where state in ('sending', 'unknown')",
        );
        Ok(Backlog {
            webhooks: webhooks.fetch_one(&self.read).await?,
            jobs: jobs.bind(now_ms).fetch_one(&self.read).await?,
            unresolved: unresolved.fetch_one(&self.read).await?,
        })
    }
}

impl Place {
    /// Before every row.
    pub fn first() -> Self {
        Self { created_ms: i64::MIN, id: String::new() }
    }

    /// After every row.
    pub fn last() -> Self {
        Self { created_ms: i64::MAX, id: String::new() }
    }
}
