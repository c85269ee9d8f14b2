//! Tickets: reading them, replying as the contact, and opening them again.

use std::sync::{Arc, PoisonError};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::conversations::{attach, searching};
use super::{CallError, Class, Intercom, wire};
use crate::id::{ContactId, ConversationId};

/// Tickets come with all their parts.
const PER_PAGE: u32 = 25;
/// How long the workspace's states of tickets are taken for what they were, milliseconds.
const STATES_KEPT_MS: i64 = 600_000;

/// A page of a search; its tickets are whole.
#[derive(Clone, Debug, Default)]
pub struct TicketPage {
    /// In no useful order.
    pub tickets: Vec<wire::Ticket>,
    /// What to send for the next page; `None` on the last. Stop also if one repeats.
    pub next: Option<String>,
}

/// The workspace's states of tickets, and when they were asked for.
pub(super) type KnownStates = Option<(i64, Arc<[wire::TicketState]>)>;

impl Intercom {
    /// A ticket with its newest 500 parts; `None` if unknown.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn ticket(&self, ticket: &ConversationId, class: Class) -> Result<Option<wire::Ticket>, CallError> {
        self.send(&self.get(&["tickets", ticket.as_str()], class)).await?.json_or_none()
    }

    /// Tickets that changed at or after `unix_s`: a superset from a lagging index, as with conversations.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn search_tickets_updated_since(
        &self,
        unix_s: i64,
        starting_after: Option<&str>,
    ) -> Result<TicketPage, CallError> {
        let filter = json!({ "field": "updated_at", "operator": ">", "value": unix_s });
        self.search_tickets(filter, starting_after, Class::Sweep).await
    }

    /// The contact's tickets. The index lags.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn search_tickets_of_contact(
        &self,
        contact: &ContactId,
        starting_after: Option<&str>,
    ) -> Result<TicketPage, CallError> {
        let filter = json!({ "field": "contact_ids", "operator": "=", "value": contact });
        self.search_tickets(filter, starting_after, Class::Reconcile).await
    }

    async fn search_tickets(
        &self,
        filter: Value,
        starting_after: Option<&str>,
        class: Class,
    ) -> Result<TicketPage, CallError> {
        let request = searching(filter, PER_PAGE, starting_after);
        let call = self.call(Method::POST, &["tickets", "search"], class, &request).reading();
        let list: wire::TicketList = self.send(&call).await?.json()?;
        let next = list.pages.and_then(|pages| pages.next).and_then(|next| next.starting_after);
        Ok(TicketPage { tickets: list.tickets, next })
    }

    /// Replies as the contact. Repeated only if certainly not applied. The answer is the new part alone.
    ///
    /// # Errors
    /// [`CallError`]; 400 also if contacts may not reply to tickets of this kind.
    pub async fn reply_to_ticket(
        &self,
        ticket: &ConversationId,
        contact: &ContactId,
        body: &str,
        attachments: &[String],
    ) -> Result<wire::Part, CallError> {
        let mut request =
            json!({ "message_type": "comment", "type": "user", "intercom_user_id": contact, "body": body });
        attach(&mut request, attachments);
        let path = ["tickets", ticket.as_str(), "reply"];
        self.send(&self.call(Method::POST, &path, Class::Write, &request)).await?.json()
    }

    /// Puts a ticket into this state, open, and tells the contact nothing. `None`: it was in that state already.
    ///
    /// # Errors
    /// [`CallError`]; 400 also if tickets of this type do not have the state.
    pub async fn reopen_ticket(
        &self,
        ticket: &ConversationId,
        state_id: &str,
    ) -> Result<Option<wire::Ticket>, CallError> {
        let mut request = json!({ "ticket_state_id": state_id, "open": true, "skip_notifications": true });
        if let Ok(number) = self.admin_id().parse::<u64>() {
            request["admin_id"] = number.into();
        }
        let call = self.call(Method::PUT, &["tickets", ticket.as_str()], Class::Reconcile, &request);
        let answer = self.send(&call.repeatable()).await?;
        let is_there = answer.status == StatusCode::BAD_REQUEST
            && answer.refusal().message.is_some_and(|message| message.to_lowercase().contains("same state"));
        if is_there { Ok(None) } else { answer.json().map(Some) }
    }

    /// The workspace's states of tickets, as of the last ten minutes.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn ticket_states(&self, class: Class) -> Result<Arc<[wire::TicketState]>, CallError> {
        let now_ms = self.0.clock.now_ms();
        let known = self.0.ticket_states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((asked_ms, states)) = known
            && (0..STATES_KEPT_MS).contains(&(now_ms - asked_ms))
        {
            return Ok(states);
        }
        let list: wire::List<wire::TicketState> = self.send(&self.get(&["ticket_states"], class)).await?.json()?;
        let states: Arc<[_]> = list.data.into();
        *self.0.ticket_states.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_ms, Arc::clone(&states)));
        Ok(states)
    }
}
