//! What is kept of one user, to be handed out: in the API's shapes, times in Unix seconds.

use serde::Serialize;

use super::Store;
use super::conversations::{Conversation, Row, conversation_columns};
use crate::error::Result;
use crate::id::UserId;

/// A rating.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Rating {
    /// Its id.
    pub id: String,
    /// 1 to 5.
    pub stars: i64,
    /// In the user's words.
    pub comment: Option<String>,
    /// The ticket that was named.
    pub ticket_id: Option<String>,
    /// The conversation that was named.
    pub conversation_id: Option<String>,
    /// When.
    pub created_at: i64,
}

/// A complaint.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Complaint {
    /// Its id.
    pub id: String,
    /// What kind.
    pub category: String,
    /// In the user's words.
    pub description: String,
    /// The chat that was named.
    pub chat_id: Option<String>,
    /// What else was named.
    pub dialog_id: Option<String>,
    /// When.
    pub created_at: i64,
}

/// A device.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub id: String,
    /// `mobile` or `tma`.
    pub platform: String,
    /// Where its notices go.
    pub token: String,
    /// In which language.
    pub locale: Option<String>,
    /// When it was first registered.
    pub created_at: i64,
    /// When it was last registered.
    pub registered_at: i64,
}

/// Something that a device has not been told yet.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// `chat` or `ticket`.
    pub kind: String,
    /// The device's id.
    pub device_id: String,
    /// What it is about.
    pub conversation_id: String,
    /// When.
    pub created_at: i64,
}

/// An uploaded file, without its bytes.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Its id: its bytes are at `/api/files/:id`.
    pub id: String,
    /// As it was named.
    pub name: String,
    /// What it is.
    pub content_type: String,
    /// Bytes.
    pub size: i64,
    /// When.
    pub created_at: i64,
}

/// A message as it was handed in, with what went with it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct HandedIn {
    /// The conversation, once it is known.
    pub conversation_id: Option<String>,
    /// What Intercom is sent.
    pub body: String,
    /// The rest of the request, JSON.
    pub payload: String,
    /// How far it is.
    pub state: String,
    /// When.
    pub created_at: i64,
}

impl Store {
    /// All of the user's conversations, oldest first, tickets included.
    pub async fn all_conversations(&self, user: &UserId) -> Result<Vec<Conversation>> {
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "select ",
            conversation_columns!(),
            " from conversation where user_id = $1 and hidden = 0 order by created_at, id"
        ))
        .bind(user.as_str())
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(Conversation::try_from).collect()
    }

    /// All of the user's ratings, oldest first.
    pub async fn all_ratings(&self, user: &UserId) -> Result<Vec<Rating>> {
        let rows = sqlx::query_as(
            "select id, stars, comment, ticket_id, conversation_id, created_ms / 1000 as created_at
             from csat where user_id = $1 order by created_ms, id",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }

    /// All of the user's complaints, oldest first.
    pub async fn all_complaints(&self, user: &UserId) -> Result<Vec<Complaint>> {
        let rows = sqlx::query_as(
            "select id, category, description, chat_id, dialog_id, created_ms / 1000 as created_at
             from complaint where user_id = $1 order by created_ms, id",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }

    /// All of the user's devices, oldest first.
    pub async fn all_devices(&self, user: &UserId) -> Result<Vec<Device>> {
        let rows = sqlx::query_as(
            "select id, platform, token, locale, created_ms / 1000 as created_at, registered_ms / 1000 as registered_at
             from device where user_id = $1 order by created_ms, id",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }

    /// What the user's devices have not been told yet, oldest first.
    pub async fn all_notices(&self, user: &UserId) -> Result<Vec<Notice>> {
        let rows = sqlx::query_as(
            "select kind, device_id, conversation_id, created_ms / 1000 as created_at
             from notice where user_id = $1 order by created_ms, id",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }

    /// The user's files, oldest first.
    pub async fn all_files(&self, user: &UserId) -> Result<Vec<File>> {
        let rows = sqlx::query_as(
            "select id, name, content_type, bytes as size, created_ms / 1000 as created_at
             from file where user_id = $1 and state = 'ready' order by created_ms, id",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }

    /// The user's messages of the last days as they were handed in, oldest first.
    pub async fn all_handed_in(&self, user: &UserId) -> Result<Vec<HandedIn>> {
        let rows = sqlx::query_as(
            "select conversation_id, body, payload, state, created_ms / 1000 as created_at
             from outbound where user_id = $1 order by seq",
        );
        Ok(rows.bind(user.as_str()).fetch_all(&self.read).await?)
    }
}
