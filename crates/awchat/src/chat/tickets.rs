//! A user's tickets: list, search, get, reply, ask about.

use std::sync::Arc;

use serde::Serialize;

use super::Chat;
use super::contacts::Profile;
use super::draft::{Draft, Opening, Wish};
use super::requests::Sent;
use super::view::ticket::timeline;
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId, UserId};
use crate::model::{Message, Status, Step};
use crate::store::conversations::ListCursor;
use crate::store::tickets::Owned;

/// A ticket in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Intercom's id.
    pub id: ConversationId,
    /// What people call it: AW-123.
    pub reference: String,
    /// The reference, where it has no title that the user may see.
    pub title: String,
    /// How far it is.
    pub status: Status,
    /// The workspace's words for that.
    pub status_label: String,
    /// It was rated.
    pub rated: bool,
    /// Messages not from the user and not read.
    pub unread_count: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
}

/// A whole ticket.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// `None`: it has none that the user may see.
    pub description: Option<String>,
    /// All messages in reading order.
    pub messages: Vec<Message>,
    /// How it came to where it is, oldest first.
    pub timeline: Vec<Step>,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// Newest first.
    pub tickets: Vec<Summary>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<ListCursor>,
}

impl Chat {
    /// The user's tickets whose number begins with `number`, newest first. The empty one is any number's beginning.
    pub async fn tickets(&self, user: &UserId, number: &str, after: Option<&ListCursor>, limit: usize) -> Result<Page> {
        self.take_over(user).await?;
        let ask = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut owned = self.store.tickets(user, number, after, ask).await?;
        let more = owned.len() > limit;
        owned.truncate(limit);
        let last = owned.last().filter(|_| more);
        let next = last.map(|last| ListCursor { at: last.ticket.created_at, id: last.id.clone() });
        Ok(Page { tickets: owned.iter().map(|owned| self.summary(owned)).collect(), next })
    }

    /// One whole ticket.
    pub async fn ticket(&self, user: &UserId, id: &ConversationId) -> Result<Full> {
        let owned = self.owned_ticket(user, id).await?;
        let messages = self.all_shown(self.store.messages(user, id).await?);
        let changes = self.store.ticket_changes(user, id).await?;
        Ok(Full {
            summary: self.summary(&owned),
            timeline: timeline(changes, &owned.ticket),
            description: owned.ticket.description,
            messages,
        })
    }

    /// Sends a message; the answer is a [`Message`]. A resolved ticket opens again a little later.
    pub async fn reply_to_ticket(
        self: &Arc<Self>,
        user: UserId,
        profile: Profile,
        id: ConversationId,
        content: (Option<String>, Vec<FileId>),
        key: Option<String>,
    ) -> Result<Sent> {
        self.owned_ticket(&user, &id).await?;
        self.say(user, profile, (id, Wish::ReplyToTicket), content, key).await
    }

    /// Asks about a ticket in the user's latest open conversation, or in a new one; the answer names it, and has the
    /// message. Without words of the user's own it is a question about the status.
    pub async fn clarify(
        self: &Arc<Self>,
        user: UserId,
        profile: Profile,
        id: ConversationId,
        text: Option<String>,
        key: Option<String>,
    ) -> Result<Sent> {
        let reference = self.reference(&self.owned_ticket(&user, &id).await?.ticket.number);
        let body = text.unwrap_or_else(|| format!("Ticket {reference}: what is its status?"));
        let opening = Opening { profile: profile.clone(), clarifies: Some(id.clone()), ..Opening::default() };
        // Of a request that came before, its row knows where it went: the same request is the same message.
        let conversation = self.store.latest_open(&user).await?;
        self.submit(Draft { user, profile, conversation, wish: Wish::Clarify(id), key, body, opening }).await
    }

    /// What people call the ticket of this number.
    pub(super) fn reference(&self, number: &str) -> String {
        format!("{}-{number}", self.settings.ticket_prefix)
    }

    /// The user's ticket; one from before the first visit is looked for first.
    async fn owned_ticket(&self, user: &UserId, id: &ConversationId) -> Result<Owned> {
        if let Some(owned) = self.store.ticket(user, id).await? {
            return Ok(owned);
        }
        self.take_over(user).await?;
        self.store.ticket(user, id).await?.ok_or(Error::NotFound)
    }

    pub(super) fn summary(&self, owned: &Owned) -> Summary {
        let ticket = &owned.ticket;
        let reference = self.reference(&ticket.number);
        Summary {
            id: owned.id.clone(),
            title: ticket.title.clone().unwrap_or_else(|| reference.clone()),
            reference,
            status: ticket.status,
            status_label: ticket.label.clone(),
            rated: owned.rated,
            unread_count: owned.unread,
            created_at: ticket.created_at,
            updated_at: ticket.updated_at.max(owned.active_ms.div_euclid(1000)),
        }
    }
}
