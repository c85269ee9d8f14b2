//! Everything that is kept here of one user, as one document.

use serde::Serialize;
use serde_json::Value;

use super::Chat;
use super::conversations::{Full, Rating, Summary};
use super::view::ticket::timeline;
use crate::error::{Error, Result};
use crate::id::{ContactId, ConversationId, UserId};
use crate::model::{Message, Step};
use crate::store::export;
use crate::store::{self, Store};

/// A user's data.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// When it was read, Unix seconds.
    pub exported_at: i64,
    /// Who it is about.
    pub user: Person,
    /// Oldest first, tickets included.
    pub conversations: Vec<Full>,
    /// Newest first; their messages are in the conversations of the same ids.
    pub tickets: Vec<Ticket>,
    /// Messages of the last days, as they were handed in.
    pub handed_in: Vec<HandedIn>,
    /// Oldest first.
    pub ratings: Vec<export::Rating>,
    /// Oldest first.
    pub complaints: Vec<export::Complaint>,
    /// Uploads, oldest first.
    pub files: Vec<export::File>,
    /// Oldest first.
    pub devices: Vec<export::Device>,
    /// What the devices have not been told yet, oldest first.
    pub notices: Vec<export::Notice>,
    /// The switches.
    pub notification_settings: Notices,
}

/// Who the data is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The app's own id.
    pub id: UserId,
    /// What stands for the user at Intercom.
    pub contact_id: Option<ContactId>,
}

/// A ticket, without its messages.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// That of its conversation.
    pub id: ConversationId,
    /// Its reference without the prefix.
    pub number: String,
    /// What it is called.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// How its status came about, oldest first.
    pub timeline: Vec<Step>,
    /// Unix seconds.
    pub created_at: i64,
}

/// A message as it was handed in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedIn {
    /// Where it went; `None`: it began a conversation that is not known.
    pub conversation_id: Option<String>,
    /// Its text.
    pub body: String,
    /// What went with it: topic, context, and what the session token said of the user.
    pub details: Value,
    /// How far it came.
    pub state: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// Which notices the user wants.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notices {
    /// Of operators' messages.
    pub chat_messages: bool,
    /// Of tickets' states.
    pub ticket_updates: bool,
    /// Of the service itself.
    pub system_notices: bool,
}

impl Chat {
    /// Everything that is kept here of the user.
    pub async fn export(&self, user: &UserId) -> Result<Export> {
        export(&self.store, user, self.clock.now_s(), |messages| self.all_shown(messages)).await
    }
}

/// Everything that `store` keeps of the user, read at `now_s`; `shown` gives messages the addresses of their files.
pub async fn export(
    store: &Store,
    user: &UserId,
    now_s: i64,
    shown: impl Fn(Vec<Message>) -> Vec<Message> + Send,
) -> Result<Export> {
    let mut conversations = Vec::new();
    for conversation in store.all_conversations(user).await? {
        let messages = shown(store.messages(user, &conversation.id).await?);
        let summary = Summary::of(&conversation, messages.last().cloned());
        let rating = store.rating(user, &conversation.id).await?.map(Rating::from);
        conversations.push(Full { rating, ..Full::of(summary, messages, conversation.last_position) });
    }
    let mut tickets = Vec::new();
    for owned in store.tickets(user, "", None, i64::MAX).await? {
        let changes = store.ticket_changes(user, &owned.id).await?;
        let timeline = timeline(changes, &owned.ticket);
        let store::tickets::Ticket { number, title, description, created_at, .. } = owned.ticket;
        tickets.push(Ticket { id: owned.id, number, title, description, timeline, created_at });
    }
    let handed_in = store.all_handed_in(user).await?.into_iter().map(|row| {
        let export::HandedIn { conversation_id, body, payload, state, created_at } = row;
        let details = serde_json::from_str(&payload).map_err(Error::internal)?;
        Ok(HandedIn { conversation_id, body, details, state, created_at })
    });
    let handed_in = handed_in.collect::<Result<Vec<_>>>()?;
    let contact_id = store.contact(user).await?.and_then(|contact| contact.contact_id);
    let wanted = store.wanted_notices(user).await?;
    Ok(Export {
        exported_at: now_s,
        user: Person { id: user.clone(), contact_id },
        conversations,
        tickets,
        handed_in,
        ratings: store.all_ratings(user).await?,
        complaints: store.all_complaints(user).await?,
        files: store.all_files(user).await?,
        devices: store.all_devices(user).await?,
        notices: store.all_notices(user).await?,
        notification_settings: Notices {
            chat_messages: wanted.chat_messages,
            ticket_updates: wanted.ticket_updates,
            system_notices: wanted.system_notices,
        },
    })
}
