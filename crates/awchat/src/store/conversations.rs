//! The mirror's conversations.

use super::{Store, Tx, flag};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::model::{Message, State, Topic};

/// A conversation as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Intercom's id.
    pub id: ConversationId,
    /// Its owner.
    pub user: UserId,
    /// State and Intercom's time of it.
    pub state: State,
    /// Until when it is snoozed, Unix seconds.
    pub snoozed_until: Option<i64>,
    /// It was rated.
    pub rated: bool,
    /// It was rated by the user, here: what tags it has at Intercom does not matter any more.
    pub rated_here: bool,
    /// It is also a Customer ticket, and listed there.
    pub is_ticket: bool,
    /// The topic it was begun with.
    pub topic: Option<Topic>,
    /// Its opening line is the topic, not the user's.
    pub source_hidden: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// Made a second time by a request that had no answer: never shown.
    pub hidden: bool,
    /// Intercom's `updated_at`, Unix seconds, of the state above.
    pub updated_at: i64,
    /// When the newest applied answer of Intercom was asked for, Unix milliseconds.
    pub truth_ms: i64,
    /// Intercom's `updated_at` up to which everything is here, Unix seconds.
    pub whole_at: i64,
    /// When that was asked for, Unix milliseconds.
    pub whole_ms: i64,
    /// The newest message's arrival, Unix milliseconds.
    pub active_ms: i64,
    /// The greatest position.
    pub last_position: i64,
    /// Up to where the user has read.
    pub read_position: i64,
    /// Messages not from the user and not read.
    pub unread: i64,
    /// Grows with every change.
    pub revision: i64,
}

/// Where a list goes on: the last row's place in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// What the list is ordered by: a conversation's `active_ms`, a ticket's `created_at`.
    pub at: i64,
    /// The row's id, which breaks ties.
    pub id: ConversationId,
}

/// A conversation's columns by name: `*` would fail on PostgreSQL while a newer version adds one.
macro_rules! conversation_columns {
    () => {
        "id, user_id, state, snoozed_until, rated, rated_here, is_ticket, topic_main, topic_sub,
         source_hidden, created_at, hidden, updated_at, truth_ms, whole_at, whole_ms, active_ms,
         last_position, read_position, unread, revision"
    };
}
pub(super) use conversation_columns;

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    user_id: String,
    state: String,
    snoozed_until: Option<i64>,
    rated: i64,
    rated_here: i64,
    is_ticket: i64,
    topic_main: Option<String>,
    topic_sub: Option<String>,
    source_hidden: i64,
    created_at: i64,
    hidden: i64,
    updated_at: i64,
    truth_ms: i64,
    whole_at: i64,
    whole_ms: i64,
    active_ms: i64,
    last_position: i64,
    read_position: i64,
    unread: i64,
    revision: i64,
}

impl TryFrom<Row> for Conversation {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let damaged = || Error::internal(format!("conversation {} is damaged", row.id));
        Ok(Self {
            id: ConversationId::parse(&row.id).ok_or_else(damaged)?,
            user: UserId::parse(&row.user_id).ok_or_else(damaged)?,
            state: State::parse(&row.state).ok_or_else(damaged)?,
            snoozed_until: row.snoozed_until,
            rated: row.rated != 0,
            rated_here: row.rated_here != 0,
            is_ticket: row.is_ticket != 0,
            topic: row.topic_main.map(|main| Topic { main, sub: row.topic_sub }),
            source_hidden: row.source_hidden != 0,
            created_at: row.created_at,
            updated_at: row.updated_at,
            hidden: row.hidden != 0,
            truth_ms: row.truth_ms,
            whole_at: row.whole_at,
            whole_ms: row.whole_ms,
            active_ms: row.active_ms,
            last_position: row.last_position,
            read_position: row.read_position,
            unread: row.unread,
            revision: row.revision,
        })
    }
}

/// The least whole second that is not before.
fn second_from(now_ms: i64) -> i64 {
    now_ms.div_euclid(1000) + i64::from(now_ms.rem_euclid(1000) > 0)
}

impl Conversation {
    /// The position after its last one. Of a conversation that is locked: others would take the same.
    pub fn next_position(&self, now_ms: i64) -> i64 {
        second_from(now_ms).max(self.last_position + 1)
    }
}

impl Store {
    /// The user's conversation; `None` if it is unknown or somebody else's.
    pub async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<Option<Conversation>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "select ",
            conversation_columns!(),
            " from conversation where id = $1 and user_id = $2 and hidden = 0"
        ))
        .bind(id.as_str())
        .bind(user.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.map(Conversation::try_from).transpose()
    }

    /// The user's conversations that are no tickets, latest activity first, each with its newest message.
    pub async fn conversations(
        &self,
        user: &UserId,
        after: Option<&ListCursor>,
        limit: i64,
    ) -> Result<Vec<(Conversation, Option<Message>)>> {
        let (active_ms, id) = after.map_or((i64::MAX, ""), |cursor| (cursor.at, cursor.id.as_str()));
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "select ",
            conversation_columns!(),
            " from conversation where user_id = $1 and is_ticket = 0 and hidden = 0
               and (active_ms < $2 or (active_ms = $2 and id < $3))
             order by active_ms desc, id desc limit $4"
        ))
        .bind(user.as_str())
        .bind(active_ms)
        .bind(id)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        let mut list = Vec::with_capacity(rows.len());
        for row in rows {
            let conversation = Conversation::try_from(row)?;
            let newest = self.newest_message(user, &conversation.id).await?;
            list.push((conversation, newest));
        }
        Ok(list)
    }

    /// The user's unread messages over all conversations that are no tickets.
    pub async fn unread_total(&self, user: &UserId) -> Result<i64> {
        let (total,): (i64,) = sqlx::query_as(
            "select cast(coalesce(sum(unread), 0) as bigint) from conversation
             where user_id = $1 and is_ticket = 0 and hidden = 0",
        )
        .bind(user.as_str())
        .fetch_one(&self.read)
        .await?;
        Ok(total)
    }

    /// The user's open conversation, no ticket, with the latest activity.
    pub async fn latest_open(&self, user: &UserId) -> Result<Option<ConversationId>> {
        let row: Option<(String,)> = sqlx::query_as(
            "select id from conversation where user_id = $1 and is_ticket = 0 and hidden = 0 and state = 'open'
             order by active_ms desc, id desc limit 1",
        )
        .bind(user.as_str())
        .fetch_optional(&self.read)
        .await?;
        Ok(row.and_then(|(id,)| ConversationId::parse(&id)))
    }

    /// Marks all of the user's conversation as read; the conversation as it is then, or `None` if it is not there or
    /// has been read.
    pub async fn mark_read(&self, user: &UserId, id: &ConversationId, now_ms: i64) -> Result<Option<Conversation>> {
        let mut tx = self.begin().await?;
        let row: Option<Row> = sqlx::query_as(concat!(
            "update conversation set read_position = last_position, unread = 0, revision = revision + 1
             where id = $1 and user_id = $2 and hidden = 0 and (unread > 0 or read_position < last_position)
             returning ",
            conversation_columns!()
        ))
        .bind(id.as_str())
        .bind(user.as_str())
        .fetch_optional(tx.conn())
        .await?;
        let Some(read) = row.map(Conversation::try_from).transpose()? else { return Ok(None) };
        tx.number_change(user, id, read.last_position, now_ms).await?;
        tx.commit().await?;
        Ok(Some(read))
    }
}

impl Tx {
    /// The conversation, whoever owns it: for the synchronisation with Intercom alone. It is locked until the end: on
    /// PostgreSQL, two that apply the same news at once would otherwise both find it new.
    pub async fn mirrored(&mut self, id: &ConversationId) -> Result<Option<Conversation>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "update conversation set state = state where id = $1 returning ",
            conversation_columns!()
        ))
        .bind(id.as_str())
        .fetch_optional(self.conn())
        .await?;
        row.map(Conversation::try_from).transpose()
    }

    /// Stores a new conversation; `false` if another transaction has just done so.
    pub async fn insert_conversation(&mut self, new: &Conversation) -> Result<bool> {
        let done = sqlx::query(
            "insert into conversation (id, user_id, state, snoozed_until, rated, is_ticket, topic_main, topic_sub,
               source_hidden, created_at, hidden, updated_at, active_ms, last_position)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             on conflict (id) do nothing",
        )
        .bind(new.id.as_str())
        .bind(new.user.as_str())
        .bind(new.state.as_str())
        .bind(new.snoozed_until)
        .bind(flag(new.rated))
        .bind(flag(new.is_ticket))
        .bind(new.topic.as_ref().map(|topic| topic.main.clone()))
        .bind(new.topic.as_ref().and_then(|topic| topic.sub.clone()))
        .bind(flag(new.source_hidden))
        .bind(new.created_at)
        .bind(flag(new.hidden))
        .bind(new.updated_at)
        .bind(new.active_ms)
        .bind(new.last_position)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The next position, as [`Conversation::next_position`]: the least whole second that is ≥ `now_ms` and > the last one.
    /// It locks the row on PostgreSQL and the file on SQLite, so that positions are in commit order.
    pub async fn next_position(&mut self, id: &ConversationId, now_ms: i64) -> Result<i64> {
        let (position,): (i64,) = sqlx::query_as(
            "update conversation
             set last_position = case when last_position >= $2 then last_position + 1 else $2 end
             where id = $1 returning last_position",
        )
        .bind(id.as_str())
        .bind(second_from(now_ms))
        .fetch_one(self.conn())
        .await?;
        Ok(position)
    }

    /// Writes what may change of a conversation, counts its unread messages and returns it as it is now.
    pub async fn update_conversation(&mut self, changed: &Conversation) -> Result<Conversation> {
        let row: Row = sqlx::query_as(concat!(
            "update conversation set user_id = $2, state = $3, snoozed_until = $4, rated = $5, is_ticket = $6,
               updated_at = $7, truth_ms = $8, active_ms = $9, read_position = $10, whole_at = $11, whole_ms = $12,
               rated_here = $13, revision = revision + 1,
               unread = (select cast(count(*) as bigint) from message where conversation_id = $1
                         and author <> 'user' and hidden = 0 and redacted = 0 and arrived > $10)
             where id = $1 returning ",
            conversation_columns!()
        ))
        .bind(changed.id.as_str())
        .bind(changed.user.as_str())
        .bind(changed.state.as_str())
        .bind(changed.snoozed_until)
        .bind(flag(changed.rated))
        .bind(flag(changed.is_ticket))
        .bind(changed.updated_at)
        .bind(changed.truth_ms)
        .bind(changed.active_ms)
        .bind(changed.read_position)
        .bind(changed.whole_at)
        .bind(changed.whole_ms)
        .bind(flag(changed.rated_here))
        .fetch_one(self.conn())
        .await?;
        row.try_into()
    }

    /// Remembers up to where everything is here, where nothing else changed.
    pub async fn set_whole(&mut self, id: &ConversationId, whole_at: i64, whole_ms: i64) -> Result<()> {
        sqlx::query(
            "update conversation set whole_at = $2, whole_ms = $3, truth_ms = case when truth_ms > $3 then truth_ms else $3 end
             where id = $1",
        )
        .bind(id.as_str())
        .bind(whole_at)
        .bind(whole_ms)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Removes a conversation that was deleted at Intercom, with its messages, and the ticket that it is.
    pub async fn delete_conversation(&mut self, id: &ConversationId) -> Result<()> {
        for rows in [
            "delete from message where conversation_id = $1",
            "delete from ticket where conversation_id = $1",
            "delete from ticket_change where conversation_id = $1",
            "delete from notice where conversation_id = $1",
        ] {
            sqlx::query(rows).bind(id.as_str()).execute(self.conn()).await?;
        }
        sqlx::query("delete from conversation where id = $1").bind(id.as_str()).execute(self.conn()).await?;
        Ok(())
    }
}
