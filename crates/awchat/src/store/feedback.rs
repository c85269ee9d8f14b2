//! What users say of the support: ratings and complaints.

use super::{Store, Tx};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};

/// A rating as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rating {
    /// 1 to 5.
    pub stars: u8,
    /// In the user's words.
    pub comment: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A rating to store.
#[derive(Debug)]
pub struct NewRating<'a> {
    /// Its id.
    pub id: &'a str,
    /// Who rates.
    pub user: &'a UserId,
    /// 1 to 5.
    pub stars: u8,
    /// In the user's words.
    pub comment: Option<&'a str>,
    /// The ticket that the client named.
    pub ticket: Option<&'a ConversationId>,
    /// The conversation that the client named.
    pub conversation: Option<&'a ConversationId>,
    /// The client's `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Of the request.
    pub fingerprint: &'a str,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A complaint to store.
#[derive(Debug)]
pub struct NewComplaint<'a> {
    /// Its id.
    pub id: &'a str,
    /// Who complains.
    pub user: &'a UserId,
    /// What kind of complaint.
    pub category: &'a str,
    /// In the user's words.
    pub description: &'a str,
    /// The chat it is about.
    pub chat: Option<&'a str>,
    /// The app's own word for what it is about.
    pub dialog: Option<&'a str>,
    /// The client's `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Of the request.
    pub fingerprint: &'a str,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// What was stored for an `Idempotency-Key` before.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Earlier {
    /// The id of what was stored.
    pub id: String,
    /// Of the request that it was stored for.
    pub fingerprint: String,
}

impl Store {
    /// The user's rating of a conversation.
    pub async fn rating(&self, user: &UserId, conversation: &ConversationId) -> Result<Option<Rating>> {
        rating(&mut *self.read.acquire().await?, user, conversation).await
    }

    /// Forgets the `Idempotency-Key`s of what was stored before `before_ms`.
    pub async fn forget_feedback_keys(&self, before_ms: i64) -> Result<()> {
        for sql in [
            "update csat set idem_key = null where idem_key is not null and created_ms < $1",
            "update complaint set idem_key = null where idem_key is not null and created_ms < $1",
        ] {
            sqlx::query(sql).bind(before_ms).execute(&self.write).await?;
        }
        Ok(())
    }
}

impl Tx {
    /// The rating that was stored for this key.
    pub async fn rating_of_key(&mut self, user: &UserId, key: &str) -> Result<Option<Earlier>> {
        let found = sqlx::query_as("select id, fingerprint from csat where user_id = $1 and idem_key = $2");
        Ok(found.bind(user.as_str()).bind(key).fetch_optional(self.conn()).await?)
    }

    /// The complaint that was stored for this key.
    pub async fn complaint_of_key(&mut self, user: &UserId, key: &str) -> Result<Option<Earlier>> {
        let found = sqlx::query_as("select id, fingerprint from complaint where user_id = $1 and idem_key = $2");
        Ok(found.bind(user.as_str()).bind(key).fetch_optional(self.conn()).await?)
    }

    /// The rating of a conversation by its owner, whoever that is: for the jobs that tell Intercom of it.
    pub async fn rating_by_owner(&mut self, conversation: &ConversationId) -> Result<Option<Rating>> {
        let found: Option<(String,)> = sqlx::query_as("select user_id from conversation where id = $1")
            .bind(conversation.as_str())
            .fetch_optional(self.conn())
            .await?;
        let Some(owner) = found.and_then(|(user,)| UserId::parse(&user)) else { return Ok(None) };
        rating(self.conn(), &owner, conversation).await
    }

    /// When the user last gave ratings of no conversation, newest first, at most `limit`; Unix milliseconds.
    pub async fn ratings_of_nothing(&mut self, user: &UserId, since_ms: i64, limit: i64) -> Result<Vec<i64>> {
        let rows: Vec<(i64,)> = sqlx::query_as(
            "select created_ms from csat where user_id = $1 and created_ms > $2
               and ticket_id is null and conversation_id is null
             order by created_ms desc limit $3",
        )
        .bind(user.as_str())
        .bind(since_ms)
        .bind(limit)
        .fetch_all(self.conn())
        .await?;
        Ok(rows.into_iter().map(|(created_ms,)| created_ms).collect())
    }

    /// Stores a rating, which counts for nothing yet; `false` if another request has just used its key.
    pub async fn insert_rating(&mut self, new: &NewRating<'_>) -> Result<bool> {
        self.refuse_erased(new.user).await?;
        let done = sqlx::query(
            "insert into csat (id, user_id, stars, comment, ticket_id, conversation_id, idem_key, fingerprint,
               created_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (user_id, idem_key) where idem_key is not null do nothing",
        )
        .bind(new.id)
        .bind(new.user.as_str())
        .bind(i64::from(new.stars))
        .bind(new.comment)
        .bind(new.ticket.map(ConversationId::as_str))
        .bind(new.conversation.map(ConversationId::as_str))
        .bind(new.key)
        .bind(new.fingerprint)
        .bind(new.created_ms)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Lets a rating count for a conversation; `false` if another one does.
    pub async fn rate(&mut self, user: &UserId, conversation: &ConversationId, rating: &str) -> Result<bool> {
        let done = sqlx::query(
            "insert into csat_subject (user_id, conversation_id, csat_id) values ($1, $2, $3)
             on conflict (user_id, conversation_id) do nothing",
        )
        .bind(user.as_str())
        .bind(conversation.as_str())
        .bind(rating)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Stores a complaint; `false` if another request has just used its key.
    pub async fn insert_complaint(&mut self, new: &NewComplaint<'_>) -> Result<bool> {
        self.refuse_erased(new.user).await?;
        let done = sqlx::query(
            "insert into complaint (id, user_id, category, description, chat_id, dialog_id, idem_key, fingerprint,
               created_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (user_id, idem_key) where idem_key is not null do nothing",
        )
        .bind(new.id)
        .bind(new.user.as_str())
        .bind(new.category)
        .bind(new.description)
        .bind(new.chat)
        .bind(new.dialog)
        .bind(new.key)
        .bind(new.fingerprint)
        .bind(new.created_ms)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn rating(
    connection: &mut sqlx::AnyConnection,
    user: &UserId,
    conversation: &ConversationId,
) -> Result<Option<Rating>> {
    let row: Option<(i64, Option<String>, i64)> = sqlx::query_as(
        "select csat.stars, csat.comment, csat.created_ms from csat_subject
         join csat on csat.id = csat_subject.csat_id
         where csat_subject.user_id = $1 and csat_subject.conversation_id = $2",
    )
    .bind(user.as_str())
    .bind(conversation.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|(stars, comment, created_ms)| {
        let stars = u8::try_from(stars).map_err(Error::internal)?;
        Ok(Rating { stars, comment, created_ms })
    })
    .transpose()
}
