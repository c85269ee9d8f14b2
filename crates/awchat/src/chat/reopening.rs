//! A user's reply opens a resolved ticket again. Intercom may do so itself, about a second later: so a job looks a
//! little later, and acts only if the ticket is still resolved, and was not resolved anew since the reply.

use serde::{Deserialize, Serialize};

use super::Chat;
use super::view::ticket::{reopened_state, ticket, was_changed_after};
use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::intercom::Class;
use crate::model::{Message, Status};
use crate::store::Tx;

/// Longer than Intercom takes to do it itself.
const LOOK_MS: i64 = 2_000;

/// The reply after which a ticket is to be open.
#[derive(Serialize, Deserialize)]
struct Reply {
    at: i64,
    part_id: String,
}

/// Asks, in the transaction that stores a user's reply, for a look at its ticket.
pub(super) async fn ask(tx: &mut Tx, id: &ConversationId, reply: &Message, now_ms: i64) -> Result<()> {
    let reply = Reply { at: reply.created_at, part_id: reply.id.clone() };
    let payload = serde_json::to_string(&reply).map_err(Error::internal)?;
    tx.enqueue("reopen", id.as_str(), &payload, now_ms + LOOK_MS, now_ms).await
}

impl Chat {
    /// A job: brings the mirror up to date, since the answer to a reply says nothing of the ticket or its conversation,
    /// and opens a ticket that is still resolved.
    pub(super) async fn reopen(&self, id: &ConversationId, payload: &str) -> Result<()> {
        self.refresh(id, Class::Reconcile).await?;
        let now = self.store.begin().await?.mirrored_ticket(id).await?;
        if now.is_none_or(|(ticket, _)| ticket.status != Status::Resolved) {
            return Ok(());
        }
        let reply: Reply = serde_json::from_str(payload).map_err(Error::internal)?;
        let Some(found) = self.intercom.ticket(id, Class::Reconcile).await? else { return Ok(()) };
        let states = self.states_for(&found, Class::Reconcile).await?;
        let seen = ticket(&found, &states).and_then(|snapshot| snapshot.ticket);
        let is_resolved = |seen: &super::view::TicketView| {
            seen.ticket.status == Status::Resolved && !was_changed_after(seen, reply.at, &reply.part_id)
        };
        if !seen.as_ref().is_some_and(is_resolved) {
            return Ok(());
        }
        match reopened_state(&found, &states) {
            Some(state) => drop(self.intercom.reopen_ticket(id, &state).await?),
            None => tracing::warn!(ticket = %id, "no state to open the ticket with: its type has none for work"),
        }
        self.refresh(id, Class::Reconcile).await.map(|_| ())
    }
}
