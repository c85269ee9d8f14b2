//! The sending journal: a user's message reaches Intercom exactly once.
//!
//! Intercom has no idempotency key, so a request without an answer may or may not have had its effect. Each
//! message is a row that is durable before it is sent; a row without an answer is `unknown`, and Intercom is
//! asked for the message until it is found or its absence is final. Finding is the mirror's work: whatever
//! brings a message of the user from Intercom binds it to its row (`mirror`), so every way of finding is one.
//! A client that was told 502 sends again or not, as its user likes; this server never does so by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use unicode_normalization::UnicodeNormalization;

use super::contacts::Profile;
use super::conversations::{Full, Summary};
use super::mirror::{self, Origin, Put};
use super::view::{self, Seen, Snapshot};
use super::{Author, AuthorKind, Chat, Message, State, Topic};
use crate::error::{Error, Result};
use crate::id::{self, ContactId, ConversationId, UserId};
use crate::intercom::{CallError, Class};
use crate::store::conversations::Conversation;
use crate::store::outbound::{Journal, Kind, Outbound};

/// A message a user wants to send.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Whose it is.
    pub user: UserId,
    /// What the user's contact at Intercom should know.
    pub profile: Profile,
    /// Into which conversation; `None` begins one.
    pub conversation: Option<ConversationId>,
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
    /// What Intercom is sent; for a conversation begun by its topic alone, the topic line.
    pub body: String,
    /// What goes with a new conversation.
    pub opening: Opening,
}

/// What goes with a new conversation, besides its text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// What it is about.
    pub topic: Option<Topic>,
    /// Begun by its topic alone: the opening line is not the user's.
    pub source_hidden: bool,
    /// Context about the user's device and place.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// What the user's contact at Intercom should know.
    #[serde(default)]
    pub profile: Profile,
}

/// The answer to a message that Intercom has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The body, the same bytes for the same request.
    pub body: Arc<str>,
    /// It was given before.
    pub replayed: bool,
}

/// How sending ended, in words that several waiting requests can share.
#[derive(Clone, Debug)]
enum Outcome {
    Sent(Sent),
    Mismatch,
    NotFound,
    Refused,
    Unavailable { retry_after_s: u64 },
    Failed,
}

impl From<Outcome> for Result<Sent> {
    fn from(outcome: Outcome) -> Self {
        Err(match outcome {
            Outcome::Sent(sent) => return Ok(sent),
            Outcome::Mismatch => Error::IdempotencyMismatch,
            Outcome::NotFound => Error::NotFound,
            Outcome::Refused => Error::Validation("body: refused by the support desk".to_owned()),
            Outcome::Unavailable { retry_after_s } => Error::Unavailable { retry_after_s, cause: None },
            Outcome::Failed => Error::internal("a message could not be sent, see above"),
        })
    }
}

/// The requests that are being worked on: the same one, come again, waits for the first.
#[derive(Debug, Default)]
pub struct Requests(Mutex<HashMap<Identity, AtWork>>);

/// A request that is being worked on: its fingerprint, and where its end will be told.
type AtWork = (String, watch::Receiver<Option<Outcome>>);

/// What makes two requests one: the key in its scope, or without a key the words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    user: UserId,
    route: String,
    key_or_fingerprint: String,
}

/// How long a request waits for its end before the client hears that it goes on.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long after a 502 the same words without a key are the same message.
const ADOPT_MS: i64 = 600_000;
/// How long after a crash a message nobody was told about is still sent.
const INTENT_MS: i64 = 600_000;
/// An answered 5xx has had its effect by then, or never has.
const ANSWERED_SETTLE_MS: i64 = 1_000;

impl Draft {
    fn kind(&self) -> Kind {
        if self.conversation.is_some() { Kind::Reply } else { Kind::Create }
    }

    fn route(&self) -> String {
        match &self.conversation {
            Some(id) => format!("/api/conversations/{id}/reply"),
            None => "/api/conversations".to_owned(),
        }
    }

    fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.route());
        digest.update([0]);
        digest.update(self.body.nfc().collect::<String>());
        digest.update([0]);
        // The topic and the device's context are part of the request, the token's claims are not.
        let opening = Opening { profile: Profile::default(), ..self.opening.clone() };
        digest.update(serde_json::to_vec(&opening).unwrap_or_default());
        hex::encode(digest.finalize())
    }

    fn row(&self, now_ms: i64) -> Result<Outbound> {
        Ok(Outbound {
            id: id::random(),
            user: self.user.clone(),
            conversation: self.conversation.clone(),
            kind: self.kind(),
            route: self.route(),
            key: self.key.clone(),
            fingerprint: self.fingerprint(),
            content: mirror::content(&self.body),
            body: self.body.clone(),
            payload: serde_json::to_string(&self.opening).map_err(Error::internal)?,
            state: Journal::Sending,
            attempts: 1,
            ambiguous: false,
            told: false,
            attempt_ms: now_ms,
            settle_until_ms: 0,
            part_id: None,
            response: None,
            created_ms: now_ms,
        })
    }
}

/// What went with a new conversation.
pub fn opening(row: &Outbound) -> Result<Opening> {
    serde_json::from_str(&row.payload).map_err(Error::internal)
}

/// The answer's body to a message that was found at Intercom.
pub fn response(row: &Outbound, put: &Put, conversation: &Conversation) -> Result<String> {
    match row.kind {
        Kind::Reply => serde_json::to_string(&put.message),
        Kind::Create => {
            let messages: Vec<Message> = if put.hidden { Vec::new() } else { vec![put.message.clone()] };
            let summary = Summary::of(conversation, messages.last().cloned());
            serde_json::to_string(&Full::of(summary, messages, conversation.last_position))
        }
    }
    .map_err(Error::internal)
}

impl Chat {
    /// Sends a message, or finds out what became of it if it is the same request again.
    ///
    /// # Errors
    /// `Unavailable` when Intercom does not have it or nobody knows; `IdempotencyMismatch` when its key came
    /// with another payload; `Conflict` when its key is still at work after 15 s; `NotFound` when the
    /// conversation is gone; `Validation` when Intercom refuses the text.
    pub async fn submit(self: &Arc<Self>, draft: Draft) -> Result<Sent> {
        let has_key = draft.key.is_some();
        let Some(mut outcome) = self.join_or_start(draft) else { return Outcome::Mismatch.into() };
        let end = outcome.wait_for(Option::is_some);
        match tokio::time::timeout(DEADLINE, end).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Outcome::Failed).into(),
            Ok(Err(_)) => Outcome::Failed.into(),
            Err(_) if has_key => Err(Error::Conflict),
            Err(_) => Outcome::Unavailable { retry_after_s: 1 }.into(),
        }
    }

    /// The end of this request: that of the same one already at work, or of a new one. `None`: its key is at
    /// work with another payload.
    fn join_or_start(self: &Arc<Self>, draft: Draft) -> Option<watch::Receiver<Option<Outcome>>> {
        let fingerprint = draft.fingerprint();
        let key_or_fingerprint = draft.key.clone().unwrap_or_else(|| fingerprint.clone());
        let identity = Identity { user: draft.user.clone(), route: draft.route(), key_or_fingerprint };
        let mut requests = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_work, outcome)) = requests.get(&identity) {
            return (*at_work == fingerprint).then(|| outcome.clone());
        }
        let (end, outcome) = watch::channel(None);
        requests.insert(identity.clone(), (fingerprint, outcome.clone()));
        drop(requests);
        let chat = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = chat.send_or_find(&draft).await.unwrap_or_else(|error| {
                tracing::error!(cause = %error, source = ?std::error::Error::source(&error), "message not sent");
                Outcome::Failed
            });
            chat.requests.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity);
            end.send_replace(Some(outcome));
        });
        Some(outcome)
    }

    async fn send_or_find(&self, draft: &Draft) -> Result<Outcome> {
        let _turn = self.turns.take(&turn(&draft.user, draft.conversation.as_ref())).await;
        let earlier = match &draft.key {
            Some(key) => self.store.outbound_by_key(&draft.user, &draft.route(), key).await?,
            None => {
                let since_ms = self.clock.now_ms() - ADOPT_MS;
                self.store.outbound_to_adopt(&draft.user, &draft.route(), &draft.fingerprint(), since_ms).await?
            }
        };
        match earlier {
            Some(row) if row.fingerprint != draft.fingerprint() => Ok(Outcome::Mismatch),
            Some(row) => self.again(row, &draft.profile).await,
            None => self.first_time(draft).await,
        }
    }

    async fn first_time(&self, draft: &Draft) -> Result<Outcome> {
        // Before anything is stored: a 502 must never turn into a message later.
        if let Err(closed) = self.intercom.gate() {
            return Ok(unavailable(&closed));
        }
        let contact = match self.contact_of(&draft.user, &draft.profile).await {
            Ok(contact) => contact,
            Err(Error::Unavailable { retry_after_s, .. }) => return Ok(Outcome::Unavailable { retry_after_s }),
            Err(other) => return Err(other),
        };
        let row = draft.row(self.clock.now_ms())?;
        if let Some(retry_after_s) = self.blocked(&draft.user, draft.conversation.as_ref(), &row.id).await? {
            return Ok(Outcome::Unavailable { retry_after_s });
        }
        let mut tx = self.store.begin().await?;
        tx.insert_outbound(&row).await?;
        tx.commit().await?;
        self.attempt(row, contact).await
    }

    /// The request came before: what became of it?
    async fn again(&self, row: Outbound, profile: &Profile) -> Result<Outcome> {
        let row = match row.state {
            Journal::Sending | Journal::Unknown => self.look(row).await?,
            Journal::Sent | Journal::Rejected | Journal::Abandoned => row,
        };
        match row.state {
            Journal::Sent => {
                if row.told {
                    // Answered at last: the same words again are another message.
                    let mut tx = self.store.begin().await?;
                    tx.update_outbound(&Outbound { told: false, ..row.clone() }).await?;
                    tx.commit().await?;
                }
                Ok(replay(&row))
            }
            Journal::Sending | Journal::Unknown => self.tell(row).await,
            Journal::Rejected | Journal::Abandoned => {
                if let Err(closed) = self.intercom.gate() {
                    return Ok(unavailable(&closed));
                }
                if let Some(retry_after_s) = self.blocked(&row.user, row.conversation.as_ref(), &row.id).await? {
                    return Ok(Outcome::Unavailable { retry_after_s });
                }
                let contact = self.contact_of(&row.user, profile).await?;
                self.attempt_again(row, contact).await
            }
        }
    }

    /// A message of this conversation whose fate is unknown comes first: how long to wait, if it still is.
    async fn blocked(&self, user: &UserId, conversation: Option<&ConversationId>, except: &str) -> Result<Option<u64>> {
        let mut tx = self.store.begin().await?;
        let unresolved = tx.outbound_unresolved(user, conversation).await?;
        drop(tx);
        let Some(row) = unresolved.filter(|row| row.id != except) else { return Ok(None) };
        let row = self.resolve(row).await?;
        Ok(matches!(row.state, Journal::Unknown | Journal::Sending).then(|| self.remaining_s(&row)))
    }

    /// Looks for a message whose fate is unknown and, once its absence is final, gives it up, or sends it once
    /// more if nobody was told that it failed. The caller holds the turn.
    async fn resolve(&self, row: Outbound) -> Result<Outbound> {
        let row = self.look(row).await?;
        let young = self.clock.now_ms() - row.created_ms < INTENT_MS;
        if row.state != Journal::Abandoned || row.told || !young || self.intercom.gate().is_err() {
            return Ok(row);
        }
        let profile = opening(&row).map(|opening| opening.profile).unwrap_or_default();
        let Ok(contact) = self.contact_of(&row.user, &profile).await else { return Ok(row) };
        let id = row.id.clone();
        self.attempt_again(row, contact).await?;
        self.reload(&id).await
    }

    /// Asks Intercom for the message. Found, the row is `sent`; absent for good, it is `abandoned`.
    async fn look(&self, row: Outbound) -> Result<Outbound> {
        let asked_ms = self.clock.now_ms();
        let looked = match &row.conversation {
            Some(conversation) => self.refresh(conversation, Class::Reconcile).await.map(|_| ()),
            None => self.look_for_new_conversations(&row).await,
        };
        let mut row = self.reload(&row.id).await?;
        let settle_until_ms = match row.state {
            // Left behind by a failing database: as late as a timeout would be.
            Journal::Sending => row.attempt_ms.saturating_add(self.lateness_ms()),
            _ => row.settle_until_ms,
        };
        match looked {
            Ok(()) if row.state != Journal::Sent && asked_ms >= settle_until_ms => {
                row.state = Journal::Abandoned;
                let mut tx = self.store.begin().await?;
                tx.update_outbound(&row).await?;
                tx.commit().await?;
                Ok(row)
            }
            Ok(()) | Err(Error::Unavailable { .. }) => Ok(row),
            Err(other) => Err(other),
        }
    }

    /// A new conversation has no id to ask for: the user's latest ones are read instead.
    async fn look_for_new_conversations(&self, row: &Outbound) -> Result<()> {
        let Some(contact) = self.store.contact(&row.user).await? else { return Ok(()) };
        let page = self.intercom.search_of_contact(&contact.contact_id, None, Class::Reconcile).await?;
        for conversation in page.conversations {
            let Some(snapshot) = view::snapshot(&conversation) else { continue };
            let recent = snapshot.created_at >= row.created_ms.div_euclid(1000) - 60;
            if recent && self.store.conversation(&row.user, &snapshot.id).await?.is_none() {
                self.refresh(&snapshot.id, Class::Reconcile).await?;
            }
        }
        Ok(())
    }

    async fn attempt_again(&self, mut row: Outbound, contact: ContactId) -> Result<Outcome> {
        row.state = Journal::Sending;
        row.attempts += 1;
        row.told = false;
        row.attempt_ms = self.clock.now_ms();
        let mut tx = self.store.begin().await?;
        tx.update_outbound(&row).await?;
        tx.commit().await?;
        self.attempt(row, contact).await
    }

    /// Sends a row that is durably `sending`, and makes its end durable.
    async fn attempt(&self, row: Outbound, contact: ContactId) -> Result<Outcome> {
        let mut sent = self.post(&row, &contact).await;
        if matches!(&sent, Err(CallError::Rejected { status: 404, .. })) {
            // Which of the two is gone, the contact or the conversation? A contact made anew tells.
            self.store.forget_contact(&contact).await?;
            let profile = opening(&row).map(|opening| opening.profile).unwrap_or_default();
            if let Some(anew) = self.contact_of(&row.user, &profile).await.ok().filter(|anew| *anew != contact) {
                sent = self.post(&row, &anew).await;
            }
        }
        match sent {
            Ok(()) => {
                let row = self.reload(&row.id).await?;
                if row.state == Journal::Sent { Ok(first_answer(&row)) } else { self.unknown(row, false).await }
            }
            Err(CallError::Ambiguous { answered }) => self.unknown(row, answered).await,
            Err(CallError::Rejected { status: 404, .. }) if row.kind == Kind::Reply => {
                self.end(row.clone(), Journal::Rejected, false).await?;
                if let Some(conversation) = &row.conversation {
                    self.ask_for(conversation).await?;
                }
                Ok(Outcome::NotFound)
            }
            Err(CallError::Rejected { status, code }) => {
                tracing::warn!(status, code, "intercom refused a message");
                self.end(row, Journal::Rejected, false).await?;
                Ok(Outcome::Refused)
            }
            Err(not_applied) => {
                self.end(row, Journal::Abandoned, true).await?;
                Ok(unavailable(&not_applied))
            }
        }
    }

    /// The request itself; its effect is in the mirror when this returns.
    async fn post(&self, row: &Outbound, contact: &ContactId) -> Result<(), CallError> {
        let asked_ms = self.clock.now_ms();
        let applied = match &row.conversation {
            Some(conversation) => {
                let answer = self.intercom.reply(conversation, contact, &row.body, &[]).await?;
                self.apply_answer(&answer, asked_ms, Some(row.id.clone())).await
            }
            None => {
                let created = self.intercom.create(contact, &row.body, &[]).await?;
                let origin = Origin::Answer { asked_ms, of: Some(row.id.clone()) };
                self.apply(&opened(row, contact, created), &origin).await
            }
        };
        // Intercom has it; if the database does not, the row stays `sending` and is looked for.
        applied.map(|_| ()).map_err(|error| {
            tracing::error!(cause = %error, "a sent message could not be stored");
            CallError::Ambiguous { answered: true }
        })
    }

    /// Nobody knows whether Intercom has the message: look at once, and say so if it is not found.
    async fn unknown(&self, row: Outbound, answered: bool) -> Result<Outcome> {
        let now_ms = self.clock.now_ms();
        let mut row = row;
        row.state = Journal::Unknown;
        row.ambiguous = true;
        row.settle_until_ms = now_ms + self.settle_ms(row.kind, answered);
        let mut tx = self.store.begin().await?;
        // A webhook may have found it meanwhile.
        if tx.outbound(&row.id).await?.is_some_and(|row| row.state != Journal::Sent) {
            tx.update_outbound(&row).await?;
            tx.enqueue("settle", &row.id, "{}", now_ms + LOOK_MS, now_ms).await?;
        }
        tx.commit().await?;
        let row = self.look(row).await?;
        if row.state == Journal::Sent { Ok(first_answer(&row)) } else { self.tell(row).await }
    }

    fn settle_ms(&self, kind: Kind, answered: bool) -> i64 {
        let settle_ms = i64::try_from(self.settings.settle.as_millis()).unwrap_or(i64::MAX);
        match kind {
            _ if answered && kind == Kind::Reply => ANSWERED_SETTLE_MS.min(settle_ms),
            Kind::Reply => settle_ms,
            // A new conversation is found by search, whose index lags.
            Kind::Create => settle_ms.saturating_mul(2),
        }
    }

    /// How long after an attempt began it may still have its effect.
    fn lateness_ms(&self) -> i64 {
        let timeout_ms = i64::try_from(self.settings.timeout.as_millis()).unwrap_or(i64::MAX);
        timeout_ms.saturating_add(self.settle_ms(Kind::Reply, false))
    }

    /// The client hears 502: from now on the message is sent again only if the client asks for it.
    async fn tell(&self, row: Outbound) -> Result<Outcome> {
        let retry_after_s = self.remaining_s(&row);
        let state = row.state;
        self.end(row, state, true).await?;
        Ok(Outcome::Unavailable { retry_after_s })
    }

    async fn end(&self, row: Outbound, state: Journal, told: bool) -> Result<()> {
        let mut tx = self.store.begin().await?;
        if let Some(mut row) = tx.outbound(&row.id).await?.filter(|row| row.state != Journal::Sent) {
            row.state = state;
            row.told = told;
            tx.update_outbound(&row).await?;
        }
        tx.commit().await
    }

    fn remaining_s(&self, row: &Outbound) -> u64 {
        let remaining_ms = (row.settle_until_ms - self.clock.now_ms()).max(1);
        u64::try_from(remaining_ms).unwrap_or(1).div_ceil(1000)
    }

    async fn reload(&self, id: &str) -> Result<Outbound> {
        self.store.outbound(id).await?.ok_or_else(|| Error::internal("a row of the journal is gone"))
    }

    /// A job: looks again for a message whose fate is unknown. `Some`: and again after so many milliseconds.
    pub async fn settle(&self, id: &str) -> Result<Option<i64>> {
        let Some(row) = self.store.outbound(id).await? else { return Ok(None) };
        let _turn = self.turns.take(&turn(&row.user, row.conversation.as_ref())).await;
        let row = self.reload(id).await?;
        if row.state != Journal::Unknown {
            return Ok(None);
        }
        let row = self.resolve(row).await?;
        let wait_ms = (row.settle_until_ms - self.clock.now_ms()).clamp(LOOK_MS, 5 * LOOK_MS);
        Ok((row.state == Journal::Unknown).then_some(wait_ms))
    }

    /// At the start: what a dead process was sending is unknown, and is looked for at once.
    pub async fn recover(&self) -> Result<()> {
        let found = self.store.outbound_recover(self.lateness_ms()).await?;
        if found > 0 {
            tracing::warn!(found, "messages were being sent when the process died; looking for them");
        }
        let now_ms = self.clock.now_ms();
        for row in self.store.outbound_unknown().await? {
            self.store.enqueue("settle", &row.id, "{}", now_ms, now_ms).await?;
        }
        Ok(())
    }
}

/// Between two looks for a message whose fate is unknown.
const LOOK_MS: i64 = 2_000;

/// Messages of one conversation go one after the other, and so do one user's new conversations.
fn turn(user: &UserId, conversation: Option<&ConversationId>) -> String {
    match conversation {
        Some(id) => format!("send {id}"),
        None => format!("open {user}"),
    }
}

fn replay(row: &Outbound) -> Outcome {
    match &row.response {
        Some(body) => Outcome::Sent(Sent { body: body.as_str().into(), replayed: true }),
        None => Outcome::Failed,
    }
}

fn first_answer(row: &Outbound) -> Outcome {
    match replay(row) {
        Outcome::Sent(sent) => Outcome::Sent(Sent { replayed: false, ..sent }),
        other => other,
    }
}

fn unavailable(error: &CallError) -> Outcome {
    tracing::warn!(cause = %error, "a message was not sent");
    Outcome::Unavailable { retry_after_s: error.retry_after().map_or(1, |wait| wait.as_secs() + 1) }
}

/// The new conversation as Intercom's answer describes it: the answer holds ids, the rest is what was sent.
fn opened(row: &Outbound, contact: &ContactId, created: crate::intercom::conversations::Created) -> Snapshot {
    let created_at = created.created_at.unwrap_or_else(|| row.attempt_ms.div_euclid(1000));
    let message = Message {
        id: created.message_id.unwrap_or_else(|| created.conversation_id.as_str().to_owned()),
        author: Author { kind: AuthorKind::User, name: None, avatar_url: None },
        body: row.body.clone(),
        html: view::html_of_plain(&row.body),
        attachments: Vec::new(),
        created_at,
        redacted: false,
    };
    Snapshot {
        id: created.conversation_id,
        contact_ids: vec![contact.clone()],
        external_ids: Vec::new(),
        state: Some(State::Open),
        snoozed_until: None,
        created_at,
        updated_at: created_at,
        rated_by_tag: None,
        is_ticket: false,
        title: None,
        total_parts: None,
        messages: vec![Seen {
            updated_at: created_at,
            message,
            part_type: String::new(),
            from_api: true,
            is_source: true,
            author_contact: Some(contact.clone()),
        }],
    }
}
