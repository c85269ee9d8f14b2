//! What users' devices are to be told: written with what it tells of, taken in piles, each sent as one.

use super::devices::{Platform, Wanted};
use super::{Store, Tx, flag};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};

/// What a notice tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message of an operator's.
    Chat,
    /// A ticket's status.
    Ticket,
}

/// What the devices of a user are to be told.
#[derive(Clone, Debug)]
pub struct News<'a> {
    /// Who is to be told.
    pub user: &'a UserId,
    /// Of which conversation or ticket.
    pub conversation: &'a ConversationId,
    /// What of it.
    pub kind: Kind,
    /// The message, or the part that changed the status.
    pub reason: &'a str,
    /// Where it stands in the poll's clock.
    pub position: i64,
}

/// A notice that was taken to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The message, or the part that changed the status.
    pub reason: String,
    /// Where it stands in the poll's clock.
    pub position: i64,
    /// When it was written, Unix milliseconds.
    pub created_ms: i64,
    /// The how manyth attempt this is.
    pub attempt: i64,
}

/// All that one device is to be told of one conversation. Leased: nobody else has it.
#[derive(Clone, Debug)]
pub struct Pile {
    /// Its name.
    pub name: String,
    /// The device that it was written for.
    pub device: String,
    /// Whose that was.
    pub user: String,
    /// What it is about.
    pub conversation: ConversationId,
    /// What of it.
    pub kind: Kind,
    /// In the order of their positions; at least one.
    pub notices: Vec<Notice>,
    /// Until when it is leased: with the name, what tells the rows of this pile from those that came since.
    leased_until_ms: i64,
}

/// Where a pile goes, and what decides whether it does, as it is now.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose the device is.
    pub user: UserId,
    /// FCM's token, or the Telegram user id.
    pub token: String,
    /// The language of the device.
    pub locale: Option<String>,
    /// How often it was registered.
    pub registrations: i64,
    /// Telegram does not let the bot write there.
    pub unreachable: bool,
    /// What the user wants to be told.
    pub wanted: Wanted,
    /// Up to where the user has read.
    pub read_position: i64,
    /// Unread messages of the conversation.
    pub unread: i64,
    /// Unread messages of all conversations.
    pub unread_total: i64,
    /// It opens as a ticket.
    pub is_ticket: bool,
}

/// What becomes of a pile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told, or need not or cannot be any more.
    Done,
    /// It is to be told later.
    Again {
        /// When, Unix milliseconds.
        due_ms: i64,
        /// This was no attempt: nothing was asked of anybody.
        uncounted: bool,
    },
}

#[derive(sqlx::FromRow)]
struct Row {
    pile: String,
    device_id: String,
    user_id: String,
    kind: String,
    conversation_id: String,
    reason: String,
    position: i64,
    created_ms: i64,
    attempts: i64,
}

#[derive(sqlx::FromRow)]
struct TargetRow {
    user_id: String,
    token: String,
    locale: Option<String>,
    registrations: i64,
    unreachable: i64,
    chat_messages: i64,
    ticket_updates: i64,
    system_notices: i64,
    read_position: i64,
    unread: i64,
    is_ticket: i64,
}

impl Store {
    /// Whether a platform's notice is due, without taking it: an idle worker writes nothing.
    pub async fn notice_is_due(&self, platform: Platform, now_ms: i64) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as(
            "select due_ms from notice
             where platform = $1 and due_ms <= $2 and leased_until_ms <= $2 and sending = 0 limit 1",
        )
        .bind(platform.as_str())
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.is_some())
    }

    /// Takes at most `most` piles whose time has come, those that have waited longest first, and keeps others off them
    /// until `until_ms`. What came since of a pile that is being sent waits for its end.
    pub async fn lease_piles(&self, platform: Platform, now_ms: i64, until_ms: i64, most: usize) -> Result<Vec<Pile>> {
        let rows: Vec<Row> = sqlx::query_as(
            "update notice set leased_until_ms = $3, leased_by = $5, attempts = attempts + 1 where pile in (
                 select pile from notice
                 where platform = $1 and due_ms <= $2 and leased_until_ms <= $2 and sending = 0
                   and pile not in (select pile from notice where platform = $1 and leased_until_ms > $2)
                 group by pile order by min(due_ms), pile limit $4)
               and leased_until_ms <= $2 and sending = 0
             returning pile, device_id, user_id, kind, conversation_id, reason, position, created_ms, attempts",
        )
        .bind(platform.as_str())
        .bind(now_ms)
        .bind(until_ms)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .bind(&self.node.id)
        .fetch_all(&self.write)
        .await?;
        let mut piles: Vec<Pile> = Vec::new();
        for row in rows {
            let Row { pile, device_id, user_id, kind, conversation_id, reason, position, created_ms, attempts } = row;
            let notice = Notice { reason, position, created_ms, attempt: attempts };
            if let Some(known) = piles.iter_mut().find(|known| known.name == pile) {
                known.notices.push(notice);
                continue;
            }
            let damaged = || Error::internal("a notice is damaged");
            piles.push(Pile {
                device: device_id,
                user: user_id,
                conversation: ConversationId::parse(&conversation_id).ok_or_else(damaged)?,
                kind: Kind::parse(&kind).ok_or_else(damaged)?,
                notices: vec![notice],
                leased_until_ms: until_ms,
                name: pile,
            });
        }
        piles.iter_mut().for_each(|pile| pile.notices.sort_by_key(|notice| notice.position));
        Ok(piles)
    }

    /// Where the pile goes; `None` if its device is gone, or another user's, or the conversation is gone.
    pub async fn target(&self, pile: &Pile) -> Result<Option<Target>> {
        let row: Option<TargetRow> = sqlx::query_as(
            "select d.user_id, d.token, d.locale, d.registrations, d.unreachable,
               coalesce(s.chat_messages, 1) as chat_messages, coalesce(s.ticket_updates, 1) as ticket_updates,
               coalesce(s.system_notices, 1) as system_notices, c.read_position, c.unread, c.is_ticket
             from device d join conversation c on c.user_id = d.user_id
               left join notification_settings s on s.user_id = d.user_id
             where d.id = $1 and c.id = $2 and c.hidden = 0",
        )
        .bind(&pile.device)
        .bind(pile.conversation.as_str())
        .fetch_optional(&self.read)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let user = UserId::parse(&row.user_id).ok_or_else(|| Error::internal("a device is damaged"))?;
        Ok(Some(Target {
            unread_total: self.unread_total(&user).await?,
            user,
            token: row.token,
            locale: row.locale,
            registrations: row.registrations,
            unreachable: row.unreachable != 0,
            wanted: (row.chat_messages, row.ticket_updates, row.system_notices).into(),
            read_position: row.read_position,
            unread: row.unread,
            is_ticket: row.is_ticket != 0,
        }))
    }

    /// From now on Telegram may have been asked: should this process die, the pile is not sent again. `false`: it is not
    /// ours any more.
    pub async fn begin_sending(&self, pile: &Pile) -> Result<bool> {
        let done = sqlx::query("update notice set sending = 1 where pile = $1 and leased_until_ms = $2")
            .bind(&pile.name)
            .bind(pile.leased_until_ms)
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether another node that is alive may be telling the device something.
    pub async fn is_told_elsewhere(&self, device: &str, now_ms: i64) -> Result<bool> {
        if !self.serves_many() {
            return Ok(false);
        }
        let row: Option<(String,)> = sqlx::query_as(
            "select n.id from notice n join node on node.id = n.leased_by
             where n.device_id = $1 and n.leased_until_ms > $3 and n.leased_by <> $2 and node.alive_until_ms > $3
             limit 1",
        )
        .bind(device)
        .bind(&self.node.id)
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.is_some())
    }

    /// Writes down what became of piles.
    pub async fn settle_piles(&self, ends: &[(Pile, End)]) -> Result<()> {
        let mut tx = self.begin_shared().await?;
        for (pile, end) in ends {
            match end {
                End::Done => {
                    sqlx::query("delete from notice where pile = $1 and leased_until_ms = $2")
                        .bind(&pile.name)
                        .bind(pile.leased_until_ms)
                        .execute(tx.conn())
                        .await?;
                }
                End::Again { due_ms, uncounted } => {
                    sqlx::query(
                        "update notice set due_ms = $3, attempts = attempts - $4, leased_until_ms = 0, sending = 0
                         where pile = $1 and leased_until_ms = $2",
                    )
                    .bind(&pile.name)
                    .bind(pile.leased_until_ms)
                    .bind(due_ms)
                    .bind(flag(*uncounted))
                    .execute(tx.conn())
                    .await?;
                    if !uncounted {
                        // What holds for one pile holds for the device.
                        sqlx::query(
                            "update notice set due_ms = $2
                             where device_id = $1 and due_ms < $2 and leased_until_ms = 0",
                        )
                        .bind(&pile.device)
                        .bind(due_ms)
                        .execute(tx.conn())
                        .await?;
                    }
                }
            }
        }
        tx.commit().await
    }

    /// Forgets what nobody has been told by now: what was written before `before_ms`.
    pub async fn forget_notices(&self, before_ms: i64) -> Result<()> {
        sqlx::query("delete from notice where created_ms < $1").bind(before_ms).execute(&self.write).await?;
        Ok(())
    }
}

impl Tx {
    /// Writes a notice for each device of the user on one of these platforms. What a device is waiting for to be told
    /// of the same conversation, or to be tried again, this waits for too.
    pub async fn add_notices(&mut self, news: &News<'_>, platforms: &[Platform], now_ms: i64) -> Result<u64> {
        let mut written = 0;
        for platform in platforms {
            let done = sqlx::query(
                "insert into notice (id, pile, user_id, device_id, platform, kind, conversation_id, reason, position,
                   created_ms, due_ms)
                 select d.id || ' ' || $3 || ' ' || $4 || ' ' || $5, d.id || ' ' || $3 || ' ' || $4, d.user_id, d.id,
                   d.platform, $4, $3, $5, $6, $7,
                   coalesce((select max(n.due_ms) from notice n where n.device_id = d.id and n.due_ms > $7
                     and (n.attempts > 0 or n.pile = d.id || ' ' || $3 || ' ' || $4)), $7)
                 from device d where d.user_id = $1 and d.platform = $2 and d.unreachable = 0
                 on conflict (id) do nothing",
            )
            .bind(news.user.as_str())
            .bind(platform.as_str())
            .bind(news.conversation.as_str())
            .bind(news.kind.as_str())
            .bind(news.reason)
            .bind(news.position)
            .bind(now_ms)
            .execute(self.conn())
            .await?;
            written += done.rows_affected();
        }
        Ok(written)
    }

    /// Nothing that was written for the user is told any more; whether another node that is alive may be telling some of
    /// it. What is about to go to Telegram does not: see [`Store::begin_sending`].
    pub(super) async fn forget_notices_of(&mut self, user: &UserId, now_ms: i64) -> Result<bool> {
        let rows: Vec<(String, i64, String, i64)> = sqlx::query_as(
            "delete from notice where user_id = $1 returning leased_by, leased_until_ms, platform, sending",
        )
        .bind(user.as_str())
        .fetch_all(self.conn())
        .await?;
        let own = self.node().to_owned();
        let may_be_told = |(by, until_ms, platform, sending): &(String, i64, String, i64)| {
            *until_ms > now_ms && *by != own && (*sending == 1 || platform != Platform::Tma.as_str())
        };
        for (by, ..) in rows.iter().filter(|row| may_be_told(row)) {
            let alive: Option<(i64,)> =
                sqlx::query_as("select alive_until_ms from node where id = $1 and alive_until_ms > $2")
                    .bind(by)
                    .bind(now_ms)
                    .fetch_optional(self.conn())
                    .await?;
            if alive.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes back what nobody has been told yet of a message that was taken back.
    pub async fn withdraw_notices(&mut self, conversation: &ConversationId, reason: &str) -> Result<()> {
        sqlx::query("delete from notice where conversation_id = $1 and reason = $2")
            .bind(conversation.as_str())
            .bind(reason)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// When the user's earlier conversations were taken over, Unix milliseconds; `None`: they were not.
    pub async fn first_visit_ms(&mut self, user: &UserId) -> Result<Option<i64>> {
        let row: Option<(Option<i64>,)> = sqlx::query_as("select imported_ms from contact where user_id = $1")
            .bind(user.as_str())
            .fetch_optional(self.conn())
            .await?;
        Ok(row.and_then(|(imported_ms,)| imported_ms))
    }

    /// Whether the conversation's own user has written in it since `at`, Unix seconds.
    pub async fn user_wrote_since(&mut self, conversation: &ConversationId, at: i64) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as(
            "select created_at from message where conversation_id = $1 and author = 'user' and created_at >= $2 limit 1",
        )
        .bind(conversation.as_str())
        .bind(at)
        .fetch_optional(self.conn())
        .await?;
        Ok(row.is_some())
    }
}

impl Kind {
    /// As stored, and as FCM's collapse key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Ticket => "ticket",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Chat, Self::Ticket].into_iter().find(|kind| kind.as_str() == text)
    }
}
