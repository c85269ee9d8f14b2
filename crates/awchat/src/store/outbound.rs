//! The sending journal's rows.

use super::{Store, Tx, flag};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};

/// One message of a user on its way to Intercom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Its id.
    pub id: String,
    /// Whose message it is.
    pub user: UserId,
    /// Where it goes; `None` until Intercom has made the conversation.
    pub conversation: Option<ConversationId>,
    /// What it is.
    pub kind: Kind,
    /// The request's path: with the user, the scope of its key.
    pub route: String,
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
    /// Of route, body and attachments.
    pub fingerprint: String,
    /// Of the normalised body.
    pub content: String,
    /// What Intercom is sent.
    pub body: String,
    /// The rest of the request, JSON.
    pub payload: String,
    /// How far it is.
    pub state: Journal,
    /// How often it was sent.
    pub attempts: i64,
    /// An attempt may have been applied without our knowing.
    pub ambiguous: bool,
    /// What the client was told of it.
    pub told: Told,
    /// When the newest attempt began, Unix milliseconds.
    pub attempt_ms: i64,
    /// From then on absence at Intercom is final, Unix milliseconds.
    pub settle_until_ms: i64,
    /// The message at Intercom.
    pub part_id: Option<String>,
    /// The answer's body.
    pub response: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// What a client was told of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or 201 at once.
    Nothing,
    /// 502: it is sent again only if the client asks again, and then it is the same message.
    Unavailable,
    /// 201, when it asked again: the same words without a key are another message for good.
    Sent,
    /// Nothing yet; several requests without a key ask for it, perhaps at several nodes. Whoever says 201 notes it.
    Shared,
}

impl Told {
    pub(super) fn parse(number: i64) -> Option<Self> {
        [Self::Nothing, Self::Unavailable, Self::Sent, Self::Shared].into_iter().find(|told| *told as i64 == number)
    }
}

/// What a row of the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message in a conversation.
    Reply,
    /// A new conversation.
    Create,
    /// A message in a ticket.
    TicketReply,
}

/// How far a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Handed to Intercom, no answer yet.
    Sending,
    /// Intercom may or may not have it.
    Unknown,
    /// Intercom has it.
    Sent,
    /// Intercom refused it.
    Rejected,
    /// Intercom does not have it, and it is not sent again unasked.
    Abandoned,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Create => "create",
            Self::TicketReply => "ticket_reply",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Reply, Self::Create, Self::TicketReply].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Journal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Rejected => "rejected",
            Self::Abandoned => "abandoned",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Sending, Self::Unknown, Self::Sent, Self::Rejected, Self::Abandoned]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A row's columns by name: `*` would fail on PostgreSQL while a newer version adds one.
macro_rules! columns {
    () => {
        "id, user_id, conversation_id, kind, route, idem_key, fingerprint, content, body, payload, state,
         attempts, ambiguous, told, attempt_ms, settle_until_ms, part_id, response, created_ms"
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    user_id: String,
    conversation_id: Option<String>,
    kind: String,
    route: String,
    idem_key: Option<String>,
    fingerprint: String,
    content: String,
    body: String,
    payload: String,
    state: String,
    attempts: i64,
    ambiguous: i64,
    told: i64,
    attempt_ms: i64,
    settle_until_ms: i64,
    part_id: Option<String>,
    response: Option<String>,
    created_ms: i64,
}

impl TryFrom<Row> for Outbound {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let damaged = || Error::internal(format!("journal row {} is damaged", row.id));
        Ok(Self {
            user: UserId::parse(&row.user_id).ok_or_else(damaged)?,
            conversation: row
                .conversation_id
                .as_deref()
                .map(|id| ConversationId::parse(id).ok_or_else(damaged))
                .transpose()?,
            kind: Kind::parse(&row.kind).ok_or_else(damaged)?,
            state: Journal::parse(&row.state).ok_or_else(damaged)?,
            route: row.route,
            key: row.idem_key,
            fingerprint: row.fingerprint,
            content: row.content,
            body: row.body,
            payload: row.payload,
            attempts: row.attempts,
            ambiguous: row.ambiguous != 0,
            told: Told::parse(row.told).ok_or_else(damaged)?,
            attempt_ms: row.attempt_ms,
            settle_until_ms: row.settle_until_ms,
            part_id: row.part_id,
            response: row.response,
            created_ms: row.created_ms,
            id: row.id,
        })
    }
}

impl Store {
    /// The row of this request's key.
    pub async fn outbound_by_key(&self, user: &UserId, route: &str, key: &str) -> Result<Option<Outbound>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from outbound where user_id = $1 and route = $2 and idem_key = $3"
        ))
        .bind(user.as_str())
        .bind(route)
        .bind(key)
        .fetch_optional(&self.read)
        .await?;
        row.map(Outbound::try_from).transpose()
    }

    /// The row that a request without a key repeats: the newest equal one that is unresolved, or that was asked for again
    /// or ended in a 502 after `since_ms`. Never one that was answered: a person may say "ok" twice.
    pub async fn outbound_to_adopt(
        &self,
        user: &UserId,
        route: &str,
        fingerprint: &str,
        since_ms: i64,
    ) -> Result<Option<Outbound>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from outbound where user_id = $1 and route = $2 and fingerprint = $3 and (
               state in ('sending', 'unknown') or (state in ('abandoned', 'sent') and told in (1, 3) and attempt_ms >= $4))
             order by seq desc limit 1"
        ))
        .bind(user.as_str())
        .bind(route)
        .bind(fingerprint)
        .bind(since_ms)
        .fetch_optional(&self.read)
        .await?;
        row.map(Outbound::try_from).transpose()
    }

    /// One row.
    pub async fn outbound(&self, id: &str) -> Result<Option<Outbound>> {
        let row: Option<Row> = sqlx::query_as(concat!("select ", columns!(), " from outbound where id = $1"))
            .bind(id)
            .fetch_optional(&self.read)
            .await?;
        row.map(Outbound::try_from).transpose()
    }

    /// Whether another node that is alive is sending the row.
    pub async fn is_sent_elsewhere(&self, id: &str, now_ms: i64) -> Result<bool> {
        if !self.serves_many() {
            return Ok(false);
        }
        let row: Option<(i64,)> = sqlx::query_as(
            "select o.seq from outbound o join node n on n.id = o.sender
             where o.id = $1 and o.state = 'sending' and o.sender <> $2 and n.alive_until_ms > $3",
        )
        .bind(id)
        .bind(&self.node.id)
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.is_some())
    }

    /// The rows that dead nodes were sending, those of each user oldest first. Of one from before there were nodes nobody
    /// knows on PostgreSQL whether it is dead.
    pub async fn outbound_orphans(&self, now_ms: i64) -> Result<Vec<Outbound>> {
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from outbound where state = 'sending' and sender <> $1
             and sender not in (select id from node where alive_until_ms > $2) and (sender <> '' or $3 = 0)
             order by user_id, seq"
        ))
        .bind(&self.node.id)
        .bind(now_ms)
        .bind(flag(self.serves_many()))
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(Outbound::try_from).collect()
    }

    /// The rows that have no end yet, those of each user oldest first.
    pub async fn outbound_open(&self) -> Result<Vec<Outbound>> {
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from outbound where state in ('sending', 'unknown') order by user_id, seq"
        ))
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(Outbound::try_from).collect()
    }

    /// The unresolved row that blocks this conversation, or this user's new conversations.
    pub async fn outbound_unresolved(
        &self,
        user: &UserId,
        conversation: Option<&ConversationId>,
    ) -> Result<Option<Outbound>> {
        const OF_CONVERSATION: &str = concat!(
            "select ",
            columns!(),
            " from outbound where conversation_id = $1 and state in ('sending', 'unknown')"
        );
        const OF_USER: &str = concat!(
            "select ",
            columns!(),
            " from outbound where user_id = $1 and conversation_id is null and state in ('sending', 'unknown')"
        );
        let (sql, id) = conversation.map_or((OF_USER, user.as_str()), |id| (OF_CONVERSATION, id.as_str()));
        let row: Option<Row> = sqlx::query_as(sql).bind(id).fetch_optional(&self.read).await?;
        row.map(Outbound::try_from).transpose()
    }

    /// Notes that the client has its answer: it will not ask again, whatever a request that it no longer waits for is
    /// told later. `false`: it had its answer before.
    pub async fn answered_outbound(&self, id: &str) -> Result<bool> {
        let done = sqlx::query("update outbound set told = 2 where id = $1 and told <> 2").bind(id);
        Ok(done.execute(&self.write).await?.rows_affected() == 1)
    }

    /// Notes that the client was told 502 of a request that works on `row`, or whose row, if it has one yet, has no end.
    pub async fn tell_outbound_open(
        &self,
        user: &UserId,
        route: &str,
        fingerprint: &str,
        row: Option<&str>,
    ) -> Result<()> {
        sqlx::query(
            "update outbound set told = 1 where user_id = $1 and route = $2 and fingerprint = $3
             and (state in ('sending', 'unknown') or id = $4) and told in (0, 3)",
        )
        .bind(user.as_str())
        .bind(route)
        .bind(fingerprint)
        .bind(row.unwrap_or_default())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Forgets a row whose conversation is gone, and with it whatever could still come: the same request again is new.
    pub async fn forget_refused(&self, id: &str) -> Result<()> {
        sqlx::query("delete from outbound where id = $1 and state in ('rejected', 'abandoned')")
            .bind(id)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Forgets resolved rows created before `before_ms`.
    pub async fn outbound_forget(&self, before_ms: i64) -> Result<()> {
        sqlx::query("delete from outbound where created_ms < $1 and state not in ('sending', 'unknown')")
            .bind(before_ms)
            .execute(&self.write)
            .await?;
        Ok(())
    }
}

impl Tx {
    /// The row, locked until the end: what is decided by it is still true when it is written. On PostgreSQL a plain
    /// select would let others change it in between.
    pub async fn outbound(&mut self, id: &str) -> Result<Option<Outbound>> {
        let row: Option<Row> =
            sqlx::query_as(concat!("update outbound set state = state where id = $1 returning ", columns!()))
                .bind(id)
                .fetch_optional(self.conn())
                .await?;
        row.map(Outbound::try_from).transpose()
    }

    /// Stores a row that is about to be sent; `false` if another node was faster: with the same key, or with another
    /// message of the same conversation.
    pub async fn insert_outbound(&mut self, new: &Outbound) -> Result<bool> {
        // Holds the user's contact until the end: only this user's messages wait for each other to be numbered.
        self.refuse_erased(&new.user).await?;
        let done = sqlx::query(
            "insert into outbound (id, seq, user_id, conversation_id, kind, route, idem_key, fingerprint, content, body,
               payload, state, attempts, ambiguous, told, attempt_ms, created_ms, sender)
             values ($1, (select coalesce(max(seq), 0) + 1 from outbound where user_id = $2),
               $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             on conflict do nothing",
        )
        .bind(&new.id)
        .bind(new.user.as_str())
        .bind(new.conversation.as_ref().map(|id| id.as_str().to_owned()))
        .bind(new.kind.as_str())
        .bind(&new.route)
        .bind(new.key.clone())
        .bind(&new.fingerprint)
        .bind(&new.content)
        .bind(&new.body)
        .bind(&new.payload)
        .bind(new.state.as_str())
        .bind(new.attempts)
        .bind(flag(new.ambiguous))
        .bind(new.told as i64)
        .bind(new.attempt_ms)
        .bind(new.created_ms)
        .bind(self.node().to_owned())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Writes a row that is about to be sent again; `false` if another message of its conversation is on its way.
    pub async fn resume_outbound(&mut self, row: &Outbound) -> Result<bool> {
        match self.write_outbound(row).await {
            Ok(()) => {
                let sender = self.node().to_owned();
                let done = sqlx::query("update outbound set sender = $2 where id = $1").bind(&row.id).bind(sender);
                done.execute(self.conn()).await?;
                Ok(true)
            }
            Err(sqlx::Error::Database(refusal)) if refusal.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what changes of a row.
    pub async fn update_outbound(&mut self, row: &Outbound) -> Result<()> {
        Ok(self.write_outbound(row).await?)
    }

    async fn write_outbound(&mut self, row: &Outbound) -> sqlx::Result<()> {
        sqlx::query(
            "update outbound set conversation_id = $2, state = $3, attempts = $4, ambiguous = $5, told = $6,
               attempt_ms = $7, settle_until_ms = $8, part_id = $9, response = $10, content = $11, body = $12,
               payload = $13 where id = $1",
        )
        .bind(&row.id)
        .bind(row.conversation.as_ref().map(|id| id.as_str().to_owned()))
        .bind(row.state.as_str())
        .bind(row.attempts)
        .bind(flag(row.ambiguous))
        .bind(row.told as i64)
        .bind(row.attempt_ms)
        .bind(row.settle_until_ms)
        .bind(row.part_id.clone())
        .bind(row.response.clone())
        .bind(&row.content)
        .bind(&row.body)
        .bind(&row.payload)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// The rows that a message of the user found at Intercom may be: the one without an answer, then, oldest first,
    /// those given up although they may have been applied, and those sent that may have been applied twice. Were one
    /// given up to come before the open one of the same words, the open one would be sent twice.
    pub async fn outbound_candidates(
        &mut self,
        user: &UserId,
        conversation: &ConversationId,
        is_new: bool,
    ) -> Result<Vec<Outbound>> {
        const OPEN: &str = concat!(
            "select ",
            columns!(),
            " from outbound where user_id = $1 and conversation_id = $2
             and (state in ('sending', 'unknown') or (ambiguous = 1 and state in ('abandoned', 'sent')))
             order by case when state in ('sending', 'unknown') then 0 else 1 end, seq"
        );
        const NEW: &str = concat!(
            "select ",
            columns!(),
            " from outbound where user_id = $1 and kind = 'create'
             and (state in ('sending', 'unknown') or (ambiguous = 1 and state in ('abandoned', 'sent')))
             order by case when state in ('sending', 'unknown') then 0 else 1 end, seq"
        );
        let query = sqlx::query_as(if is_new { NEW } else { OPEN }).bind(user.as_str());
        let query = if is_new { query } else { query.bind(conversation.as_str()) };
        let rows: Vec<Row> = query.fetch_all(self.conn()).await?;
        rows.into_iter().map(Outbound::try_from).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
