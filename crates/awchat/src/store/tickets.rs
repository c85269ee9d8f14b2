//! The mirror's tickets: what a conversation that is one has besides its messages.

use std::collections::BTreeMap;

use super::conversations::ListCursor;
use super::{Store, Tx};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::model::Status;

/// How users are told of each status, as far as the workspace's own word is known.
pub type Labels = BTreeMap<Status, String>;

/// A ticket as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The one people see: AW-123 is 123.
    pub number: String,
    /// `None`: none, or not for the user's eyes.
    pub title: Option<String>,
    /// As the title.
    pub description: Option<String>,
    /// How far it is.
    pub status: Status,
    /// How users are told of the state it is in.
    pub label: String,
    /// And of the others.
    pub labels: Labels,
    /// Unix seconds.
    pub created_at: i64,
    /// Intercom's `updated_at` of the above, Unix seconds.
    pub updated_at: i64,
    /// The number of its newest part then: the order of changes within a second.
    pub newest_part: i64,
    /// Intercom's `updated_at` up to which everything is here, Unix seconds.
    pub whole_at: i64,
    /// When that was asked for, Unix milliseconds.
    pub whole_ms: i64,
}

/// A change of a ticket's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Intercom's id of the part.
    pub part_id: String,
    /// What the ticket became.
    pub status: Status,
    /// What it was.
    pub before: Option<Status>,
    /// Unix seconds.
    pub at: i64,
}

/// A user's ticket, and what its conversation says of it.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Intercom's id.
    pub id: ConversationId,
    /// The ticket.
    pub ticket: Ticket,
    /// It was rated.
    pub rated: bool,
    /// Messages not from the user and not read.
    pub unread: i64,
    /// The newest message's arrival, Unix milliseconds.
    pub active_ms: i64,
}

/// A ticket's columns by name: `*` would fail on PostgreSQL while a newer version adds one.
macro_rules! columns {
    () => {
        "conversation_id, number, title, description, status, label, labels, created_at, updated_at,
         newest_part, whole_at, whole_ms"
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    conversation_id: String,
    number: String,
    title: Option<String>,
    description: Option<String>,
    status: String,
    label: String,
    labels: String,
    created_at: i64,
    updated_at: i64,
    newest_part: i64,
    whole_at: i64,
    whole_ms: i64,
}

#[derive(sqlx::FromRow)]
struct OwnedRow {
    #[sqlx(flatten)]
    ticket: Row,
    rated: i64,
    unread: i64,
    active_ms: i64,
}

fn damaged(id: &str) -> Error {
    Error::internal(format!("ticket {id} is damaged"))
}

impl TryFrom<Row> for Ticket {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let damaged = || damaged(&row.conversation_id);
        Ok(Self {
            status: Status::parse(&row.status).ok_or_else(damaged)?,
            labels: serde_json::from_str(&row.labels).map_err(|_| damaged())?,
            number: row.number,
            title: row.title,
            description: row.description,
            label: row.label,
            created_at: row.created_at,
            updated_at: row.updated_at,
            newest_part: row.newest_part,
            whole_at: row.whole_at,
            whole_ms: row.whole_ms,
        })
    }
}

impl TryFrom<OwnedRow> for Owned {
    type Error = Error;

    fn try_from(row: OwnedRow) -> Result<Self> {
        let id = &row.ticket.conversation_id;
        Ok(Self {
            id: ConversationId::parse(id).ok_or_else(|| damaged(id))?,
            rated: row.rated != 0,
            unread: row.unread,
            active_ms: row.active_ms,
            ticket: row.ticket.try_into()?,
        })
    }
}

macro_rules! owned {
    ($rest:literal) => {
        concat!(
            "select t.conversation_id, t.number, t.title, t.description, t.status, t.label, t.labels, t.created_at,
               t.updated_at, t.newest_part, t.whole_at, t.whole_ms, c.rated, c.unread, c.active_ms from ticket t join conversation c on c.id = t.conversation_id
             where c.user_id = $1 and c.hidden = 0 ",
            $rest
        )
    };
}

impl Store {
    /// The user's tickets whose number begins with `number` (digits), newest first.
    pub async fn tickets(
        &self,
        user: &UserId,
        number: &str,
        after: Option<&ListCursor>,
        limit: i64,
    ) -> Result<Vec<Owned>> {
        let (created_at, id) = after.map_or((i64::MAX, ""), |cursor| (cursor.at, cursor.id.as_str()));
        let rows: Vec<OwnedRow> = sqlx::query_as(owned!(
            "and t.number like $2 || '%' and (t.created_at < $3 or (t.created_at = $3 and t.conversation_id < $4))
             order by t.created_at desc, t.conversation_id desc limit $5"
        ))
        .bind(user.as_str())
        .bind(number)
        .bind(created_at)
        .bind(id)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(Owned::try_from).collect()
    }

    /// The user's ticket; `None` if it is unknown, somebody else's, or no ticket.
    pub async fn ticket(&self, user: &UserId, id: &ConversationId) -> Result<Option<Owned>> {
        let row: Option<OwnedRow> = sqlx::query_as(owned!("and t.conversation_id = $2"))
            .bind(user.as_str())
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await?;
        row.map(Owned::try_from).transpose()
    }

    /// The changes of state of the user's ticket, in no particular order.
    pub async fn ticket_changes(&self, user: &UserId, id: &ConversationId) -> Result<Vec<Change>> {
        let rows: Vec<ChangeRow> = sqlx::query_as(
            "select h.part_id, h.status, h.status_before, h.changed_at from ticket_change h
             join conversation c on c.id = h.conversation_id
             where h.conversation_id = $1 and c.user_id = $2 and c.hidden = 0",
        )
        .bind(id.as_str())
        .bind(user.as_str())
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(Change::try_from).collect()
    }

    /// Whether the mirror has this as a ticket, whoever owns it: for the synchronisation with Intercom alone.
    pub async fn is_ticket(&self, id: &ConversationId) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("select is_ticket from conversation where id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some_and(|(is_ticket,)| is_ticket != 0))
    }
}

type ChangeRow = (String, String, Option<String>, i64);

impl TryFrom<ChangeRow> for Change {
    type Error = Error;

    fn try_from((part_id, status, before, at): ChangeRow) -> Result<Self> {
        let status = Status::parse(&status).ok_or_else(|| damaged(&part_id))?;
        Ok(Self { part_id, status, before: before.as_deref().and_then(Status::parse), at })
    }
}

impl Tx {
    /// The ticket and the parts known of its timeline, whoever owns it: for the synchronisation alone, which has
    /// locked its conversation.
    pub async fn mirrored_ticket(&mut self, id: &ConversationId) -> Result<Option<(Ticket, Vec<String>)>> {
        let row: Option<Row> =
            sqlx::query_as(concat!("select ", columns!(), " from ticket where conversation_id = $1"))
                .bind(id.as_str())
                .fetch_optional(self.conn())
                .await?;
        let Some(row) = row else { return Ok(None) };
        let parts: Vec<(String,)> = sqlx::query_as("select part_id from ticket_change where conversation_id = $1")
            .bind(id.as_str())
            .fetch_all(self.conn())
            .await?;
        Ok(Some((row.try_into()?, parts.into_iter().map(|(part_id,)| part_id).collect())))
    }

    /// Stores a ticket, new or changed.
    pub async fn put_ticket(&mut self, id: &ConversationId, ticket: &Ticket) -> Result<()> {
        sqlx::query(
            "insert into ticket (conversation_id, number, title, description, status, label, labels, created_at,
               updated_at, newest_part, whole_at, whole_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             on conflict (conversation_id) do update set number = excluded.number, title = excluded.title,
               description = excluded.description, status = excluded.status, label = excluded.label,
               labels = excluded.labels, created_at = excluded.created_at, updated_at = excluded.updated_at,
               newest_part = excluded.newest_part, whole_at = excluded.whole_at, whole_ms = excluded.whole_ms",
        )
        .bind(id.as_str())
        .bind(&ticket.number)
        .bind(ticket.title.clone())
        .bind(ticket.description.clone())
        .bind(ticket.status.as_str())
        .bind(&ticket.label)
        .bind(serde_json::to_string(&ticket.labels).map_err(Error::internal)?)
        .bind(ticket.created_at)
        .bind(ticket.updated_at)
        .bind(ticket.newest_part)
        .bind(ticket.whole_at)
        .bind(ticket.whole_ms)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Adds a change of state; one that is known stays as it is.
    pub async fn add_ticket_change(&mut self, id: &ConversationId, change: &Change) -> Result<()> {
        sqlx::query(
            "insert into ticket_change (conversation_id, part_id, status, status_before, changed_at)
             values ($1, $2, $3, $4, $5) on conflict do nothing",
        )
        .bind(id.as_str())
        .bind(&change.part_id)
        .bind(change.status.as_str())
        .bind(change.before.map(Status::as_str))
        .bind(change.at)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
