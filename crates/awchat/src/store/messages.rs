//! The mirror's messages.

use super::{Store, Tx, flag};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::model::{Attachment, Author, AuthorKind, Message};

/// A message to store.
#[derive(Debug)]
pub struct Stored<'a> {
    /// What is shown.
    pub message: &'a Message,
    /// Of the normalised content.
    pub fingerprint: &'a str,
    /// It opened the conversation.
    pub opening: bool,
    /// Known, but not shown: a late duplicate.
    pub hidden: bool,
    /// It has Intercom's formatting, which a webhook lacks.
    pub polished: bool,
}

/// What tells an edit from a repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Intercom's id.
    pub id: String,
    /// Of the normalised content.
    pub fingerprint: String,
    /// It was taken back.
    pub redacted: bool,
    /// It opened the conversation.
    pub opening: bool,
    /// It has Intercom's formatting.
    pub polished: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    author: String,
    author_name: Option<String>,
    avatar_url: Option<String>,
    body: String,
    html: String,
    attachments: String,
    created_at: i64,
    redacted: i64,
}

impl TryFrom<Row> for Message {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let damaged = || Error::internal(format!("message {} is damaged", row.id));
        Ok(Self {
            author: Author {
                kind: AuthorKind::parse(&row.author).ok_or_else(damaged)?,
                name: row.author_name,
                avatar_url: row.avatar_url,
            },
            body: row.body,
            html: row.html,
            attachments: serde_json::from_str::<Vec<Attachment>>(&row.attachments).map_err(|_| damaged())?,
            created_at: row.created_at,
            redacted: row.redacted != 0,
            id: row.id,
        })
    }
}

/// The order in which people read: Intercom's seconds, the opening message first, then Intercom's ids.
macro_rules! shown {
    ($rest:literal) => {
        concat!(
            "select m.id, m.author, m.author_name, m.avatar_url, m.body, m.html, m.attachments, m.created_at, m.redacted
             from message m join conversation c on c.id = m.conversation_id
             where m.conversation_id = $1 and c.user_id = $2 and m.hidden = 0 ",
            $rest
        )
    };
}

macro_rules! known {
    () => {
        "select id, fingerprint, redacted, opening, polished from message where conversation_id = $1"
    };
}
const KNOWN: &str = known!();

impl Store {
    /// The messages of the user's conversation in reading order.
    pub async fn messages(&self, user: &UserId, id: &ConversationId) -> Result<Vec<Message>> {
        let rows: Vec<Row> = sqlx::query_as(shown!("order by m.created_at, m.opening desc, length(m.id), m.id"))
            .bind(id.as_str())
            .bind(user.as_str())
            .fetch_all(&self.read)
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// The messages with `since` < position ≤ `until`, oldest position first.
    pub async fn messages_since(
        &self,
        user: &UserId,
        id: &ConversationId,
        since: i64,
        until: i64,
    ) -> Result<Vec<Message>> {
        let rows: Vec<Row> = sqlx::query_as(shown!("and m.position > $3 and m.position <= $4 order by m.position"))
            .bind(id.as_str())
            .bind(user.as_str())
            .bind(since)
            .bind(until)
            .fetch_all(&self.read)
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// At most `limit` messages of the user's conversation that the change of this number brought, oldest position first.
    pub async fn messages_of_change(
        &self,
        user: &UserId,
        id: &ConversationId,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Message>> {
        let rows: Vec<Row> = sqlx::query_as(shown!("and m.seq = $3 order by m.position limit $4"))
            .bind(id.as_str())
            .bind(user.as_str())
            .bind(seq)
            .bind(limit)
            .fetch_all(&self.read)
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// The text of a message of the user's conversation.
    pub async fn message_text(&self, user: &UserId, id: &ConversationId, message: &str) -> Result<Option<String>> {
        let row: Option<(String,)> = sqlx::query_as(
            "select m.body from message m join conversation c on c.id = m.conversation_id
             where m.conversation_id = $1 and c.user_id = $2 and m.id = $3 and m.hidden = 0",
        )
        .bind(id.as_str())
        .bind(user.as_str())
        .bind(message)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.map(|(body,)| body))
    }

    /// The last message of the user's conversation in reading order.
    pub async fn newest_message(&self, user: &UserId, id: &ConversationId) -> Result<Option<Message>> {
        let row: Option<Row> =
            sqlx::query_as(shown!("order by m.created_at desc, m.opening, length(m.id) desc, m.id desc limit 1"))
                .bind(id.as_str())
                .bind(user.as_str())
                .fetch_optional(&self.read)
                .await?;
        row.map(Message::try_from).transpose()
    }

    /// One message of the user's conversation.
    pub async fn message(&self, user: &UserId, id: &ConversationId, message: &str) -> Result<Option<Message>> {
        let row: Option<Row> = sqlx::query_as(shown!("and m.id = $3"))
            .bind(id.as_str())
            .bind(user.as_str())
            .bind(message)
            .fetch_optional(&self.read)
            .await?;
        row.map(Message::try_from).transpose()
    }
}

/// As JSON, without addresses: Intercom's and ours hold for a while only.
pub(super) fn attachments(message: &Message) -> Result<String> {
    let bare = |file: &Attachment| Attachment { url: String::new(), ..file.clone() };
    serde_json::to_string(&message.attachments.iter().map(bare).collect::<Vec<_>>()).map_err(Error::internal)
}

impl Tx {
    /// What is known of these messages and of the opening one; all of the conversation's where that is cheaper
    /// than asking for each.
    pub async fn known(&mut self, conversation: &ConversationId, ids: &[&str]) -> Result<Vec<Known>> {
        if ids.len() > 4 {
            return self.known_where(KNOWN, conversation, "").await;
        }
        let mut found = self.known_where(concat!(known!(), " and opening = 1"), conversation, "").await?;
        for id in ids {
            found.extend(self.known_where(concat!(known!(), " and id = $2"), conversation, id).await?);
        }
        Ok(found)
    }

    async fn known_where(&mut self, sql: &'static str, conversation: &ConversationId, id: &str) -> Result<Vec<Known>> {
        let query = sqlx::query_as(sql).bind(conversation.as_str());
        let query = if id.is_empty() { query } else { query.bind(id) };
        let rows: Vec<(String, String, i64, i64, i64)> = query.fetch_all(self.conn()).await?;
        let known = |(id, fingerprint, redacted, opening, polished): (String, String, i64, i64, i64)| Known {
            id,
            fingerprint,
            redacted: redacted != 0,
            opening: opening != 0,
            polished: polished != 0,
        };
        Ok(rows.into_iter().map(known).collect())
    }

    /// Stores a new message, or new content of a known one, at `position`.
    pub async fn put_message(&mut self, id: &ConversationId, stored: &Stored<'_>, position: i64) -> Result<()> {
        let message = stored.message;
        let attachments = attachments(message)?;
        sqlx::query(
            "insert into message (conversation_id, id, position, arrived, opening, author, author_name, avatar_url,
               body, html, attachments, created_at, redacted, hidden, fingerprint, polished)
             values ($1, $2, $3, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             on conflict (conversation_id, id) do update set position = excluded.position, body = excluded.body,
               html = excluded.html, attachments = excluded.attachments, redacted = excluded.redacted,
               fingerprint = excluded.fingerprint, polished = excluded.polished",
        )
        .bind(id.as_str())
        .bind(&message.id)
        .bind(position)
        .bind(flag(stored.opening))
        .bind(message.author.kind.as_str())
        .bind(message.author.name.clone())
        .bind(message.author.avatar_url.clone())
        .bind(&message.body)
        .bind(&message.html)
        .bind(attachments)
        .bind(message.created_at)
        .bind(flag(message.redacted))
        .bind(flag(stored.hidden))
        .bind(stored.fingerprint)
        .bind(flag(stored.polished))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Gives a known message its formatting, at the position it has.
    pub async fn polish_message(&mut self, id: &ConversationId, stored: &Stored<'_>) -> Result<()> {
        let message = stored.message;
        sqlx::query(
            "update message set body = $3, html = $4, attachments = $5, polished = 1
             where conversation_id = $1 and id = $2",
        )
        .bind(id.as_str())
        .bind(&message.id)
        .bind(&message.body)
        .bind(&message.html)
        .bind(attachments(message)?)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
