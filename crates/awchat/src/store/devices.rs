//! Where a user's notices go, and which the user wants.

use serde::Deserialize;

use super::{Store, flag};
use crate::error::Result;
use crate::id::{self, DeviceId, UserId};

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Platform {
    /// An app on a telephone: the token is FCM's.
    Mobile,
    /// A Telegram Mini App: the token is the Telegram user id.
    Tma,
}

/// Which notices a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of operators' messages.
    pub chat_messages: bool,
    /// Of tickets' states.
    pub ticket_updates: bool,
    /// Of the service itself.
    pub system_notices: bool,
}

/// A device that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// What the same token was registered as before, for another user.
    pub moved_from: Option<String>,
}

/// Of a user's devices, those that were registered last are kept.
const DEVICES: i64 = 20;

impl Store {
    /// Registers a device for the user. A token that was another user's is this user's from now on, under a new id.
    /// `reachable`: whatever Telegram said of the user before, the bot may write now.
    pub async fn register_device(
        &self,
        user: &UserId,
        platform: Platform,
        token: &str,
        (locale, reachable): (Option<&str>, bool),
        now_ms: i64,
    ) -> Result<Registered> {
        let mut tx = self.begin().await?;
        tx.refuse_erased(user).await?;
        let before: Option<(String,)> = sqlx::query_as("select id from device where platform = $1 and token = $2")
            .bind(platform.as_str())
            .bind(token)
            .fetch_optional(tx.conn())
            .await?;
        let (id,): (String,) = sqlx::query_as(
            "insert into device (id, user_id, platform, token, locale, created_ms, registered_ms)
             values ($1, $2, $3, $4, $5, $6, $6)
             on conflict (platform, token) do update set
               id = case when device.user_id = excluded.user_id then device.id else excluded.id end,
               created_ms = case when device.user_id = excluded.user_id then device.created_ms
                                 else excluded.created_ms end,
               unreachable = case when $7 = 1 or device.user_id <> excluded.user_id then 0 else device.unreachable end,
               registrations = device.registrations + 1,
               user_id = excluded.user_id, locale = excluded.locale, registered_ms = excluded.registered_ms
             returning id",
        )
        .bind(id::random())
        .bind(user.as_str())
        .bind(platform.as_str())
        .bind(token)
        .bind(locale)
        .bind(now_ms)
        .bind(flag(reachable))
        .fetch_one(tx.conn())
        .await?;
        sqlx::query(
            "delete from device where user_id = $1 and id not in (
               select id from device where user_id = $1
               order by case when id = $2 then 0 else 1 end, registered_ms desc, id limit $3)",
        )
        .bind(user.as_str())
        .bind(&id)
        .bind(DEVICES)
        .execute(tx.conn())
        .await?;
        tx.commit().await?;
        let moved_from = before.map(|(before,)| before).filter(|before| *before != id);
        Ok(Registered { id, moved_from })
    }

    /// Forgets a device whose token is nobody's any more, unless it was registered again meanwhile: then `false`.
    pub async fn remove_device(&self, id: &str, registrations: i64) -> Result<bool> {
        let done = sqlx::query("delete from device where id = $1 and registrations = $2")
            .bind(id)
            .bind(registrations)
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Remembers that Telegram does not let the bot write to this user, unless the device was registered again
    /// meanwhile: then `false`.
    pub async fn set_unreachable(&self, id: &str, registrations: i64) -> Result<bool> {
        let done = sqlx::query("update device set unreachable = 1 where id = $1 and registrations = $2")
            .bind(id)
            .bind(registrations)
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets the user's device; `false` if there is none of that id.
    pub async fn unregister_device(&self, user: &UserId, id: &DeviceId) -> Result<bool> {
        let done = sqlx::query("delete from device where id = $1 and user_id = $2")
            .bind(id.as_str())
            .bind(user.as_str())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets all devices of the user.
    pub async fn forget_devices(&self, user: &UserId) -> Result<()> {
        sqlx::query("delete from device where user_id = $1").bind(user.as_str()).execute(&self.write).await?;
        Ok(())
    }

    /// Which notices the user wants; all, unless the user said otherwise.
    pub async fn wanted_notices(&self, user: &UserId) -> Result<Wanted> {
        let row: Option<(i64, i64, i64)> = sqlx::query_as(
            "select chat_messages, ticket_updates, system_notices from notification_settings where user_id = $1",
        )
        .bind(user.as_str())
        .fetch_optional(&self.read)
        .await?;
        Ok(row.unwrap_or((1, 1, 1)).into())
    }

    /// Changes the switches that are given; all of them as they are then.
    pub async fn want_notices(
        &self,
        user: &UserId,
        chat_messages: Option<bool>,
        ticket_updates: Option<bool>,
        system_notices: Option<bool>,
    ) -> Result<Wanted> {
        let mut tx = self.begin().await?;
        tx.refuse_erased(user).await?;
        let row: (i64, i64, i64) = sqlx::query_as(
            "insert into notification_settings (user_id, chat_messages, ticket_updates, system_notices)
             values ($1, coalesce($2, 1), coalesce($3, 1), coalesce($4, 1))
             on conflict (user_id) do update set
               chat_messages = coalesce($2, notification_settings.chat_messages),
               ticket_updates = coalesce($3, notification_settings.ticket_updates),
               system_notices = coalesce($4, notification_settings.system_notices)
             returning chat_messages, ticket_updates, system_notices",
        )
        .bind(user.as_str())
        .bind(chat_messages.map(flag))
        .bind(ticket_updates.map(flag))
        .bind(system_notices.map(flag))
        .fetch_one(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(row.into())
    }
}

impl Platform {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Tma => "tma",
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        [Self::Mobile, Self::Tma].into_iter().find(|own| own.as_str() == text).ok_or("must be mobile or tma")
    }
}

impl From<(i64, i64, i64)> for Wanted {
    fn from((chat_messages, ticket_updates, system_notices): (i64, i64, i64)) -> Self {
        Self {
            chat_messages: chat_messages != 0,
            ticket_updates: ticket_updates != 0,
            system_notices: system_notices != 0,
        }
    }
}
