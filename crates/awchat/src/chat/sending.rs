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

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::draft::{Draft, opening};
use super::journal::{self, Next, Patience};
use super::mirror::Origin;
use super::{Chat, view};
use crate::error::{Error, Result};
use crate::id::{ContactId, ConversationId, UserId};
use crate::intercom::{CallError, Class};
use crate::store::outbound::{Journal, Outbound};

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

/// A request that is being worked on.
#[derive(Clone, Debug)]
struct AtWork {
    fingerprint: String,
    /// Where its end will be told.
    outcome: watch::Receiver<Option<Outcome>>,
    /// Its client was told 502: what is not on its way yet stays here.
    given_up: CancellationToken,
}

/// What makes two requests one: the key in its scope, or without a key the words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    user: UserId,
    route: String,
    key_or_fingerprint: String,
}

/// How long a request waits for its end before the client hears that it goes on.
const DEADLINE: Duration = Duration::from_secs(15);

impl Chat {
    /// Sends a message, or finds out what became of it if it is the same request again.
    ///
    /// # Errors
    /// `Unavailable` when Intercom does not have it or nobody knows; `IdempotencyMismatch` when its key came
    /// with another payload; `Conflict` when its key is still at work after 15 s; `NotFound` when the
    /// conversation is gone; `Validation` when Intercom refuses the text.
    pub async fn submit(self: &Arc<Self>, draft: Draft) -> Result<Sent> {
        let (user, route, has_key) = (draft.user.clone(), draft.route(), draft.key.is_some());
        let Some(mut at_work) = self.join_or_start(draft) else { return Outcome::Mismatch.into() };
        let end = async { at_work.outcome.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) };
        let end = tokio::select! {
            end = end => Some(end.unwrap_or(Outcome::Failed)),
            () = self.clock.sleep(DEADLINE) => None,
        };
        match end {
            Some(end) => {
                if at_work.given_up.is_cancelled() && matches!(end, Outcome::Sent(_)) {
                    // Somebody was told 502, asked again and has the answer: the same words are a new message now.
                    self.store.outbound_told(&user, &route, &at_work.fingerprint, false).await?;
                }
                end.into()
            }
            None if has_key => Err(Error::Conflict),
            None => {
                // First the flag, then the row: whichever of them the work looks at next, it sees one.
                at_work.given_up.cancel();
                self.store.outbound_told(&user, &route, &at_work.fingerprint, true).await?;
                Outcome::Unavailable { retry_after_s: 1 }.into()
            }
        }
    }

    /// The end of this request: that of the same one already at work, or of a new one. `None`: its key is at
    /// work with another payload.
    fn join_or_start(self: &Arc<Self>, draft: Draft) -> Option<AtWork> {
        let fingerprint = draft.fingerprint();
        let key_or_fingerprint = draft.key.clone().unwrap_or_else(|| fingerprint.clone());
        let identity = Identity { user: draft.user.clone(), route: draft.route(), key_or_fingerprint };
        let mut requests = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at_work) = requests.get(&identity) {
            return (at_work.fingerprint == fingerprint).then(|| at_work.clone());
        }
        let (end, outcome) = watch::channel(None);
        let at_work = AtWork { fingerprint, outcome, given_up: CancellationToken::new() };
        requests.insert(identity.clone(), at_work.clone());
        drop(requests);
        let (chat, given_up) = (Arc::clone(self), at_work.given_up.clone());
        self.tasks.spawn(async move {
            let outcome = chat.send_or_find(&draft, &given_up).await.unwrap_or_else(|error| {
                tracing::error!(cause = %error, source = ?std::error::Error::source(&error), "message not sent");
                Outcome::Failed
            });
            chat.requests.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity);
            end.send_replace(Some(outcome));
        });
        Some(at_work)
    }

    async fn send_or_find(&self, draft: &Draft, given_up: &CancellationToken) -> Result<Outcome> {
        let _turn = self.turns.take(&turn(&draft.user, draft.conversation.as_ref())).await;
        let (route, fingerprint) = (draft.route(), draft.fingerprint());
        let earlier = match &draft.key {
            Some(key) => self.store.outbound_by_key(&draft.user, &route, key).await?,
            None => {
                let since_ms = self.clock.now_ms() - journal::ADOPT_MS;
                self.store.outbound_to_adopt(&draft.user, &route, &fingerprint, since_ms).await?
            }
        };
        let mut row = earlier;
        loop {
            return match journal::on_request(row.as_ref(), &fingerprint) {
                Next::Mismatch => Ok(Outcome::Mismatch),
                Next::Replay => self.replay(row).await,
                Next::Look => match self.look(row).await? {
                    found if !journal::blocks(&found) => {
                        row = Some(found);
                        continue;
                    }
                    unknown => self.tell(unknown).await,
                },
                Next::Send => self.send(row, draft, given_up).await,
            };
        }
    }

    /// Sends a new message, or one that came before and is certainly not at Intercom.
    async fn send(&self, row: Option<Outbound>, draft: &Draft, given_up: &CancellationToken) -> Result<Outcome> {
        // Before anything is stored: a 502 must never turn into a message later.
        if let Err(closed) = self.intercom.gate() {
            return Ok(unavailable(&closed));
        }
        if let Some(retry_after_s) = self.blocked(&draft.user, draft.conversation.as_ref()).await? {
            return Ok(Outcome::Unavailable { retry_after_s });
        }
        let contact = match self.contact_of(&draft.user, &draft.profile).await {
            Err(Error::Unavailable { retry_after_s, .. }) => return Ok(Outcome::Unavailable { retry_after_s }),
            contact => contact?,
        };
        let row = match row {
            Some(row) => self.advance(&row.id, |row| journal::sending(row, self.clock.now_ms())).await?,
            None => {
                let row = draft.row(self.clock.now_ms())?;
                let mut tx = self.store.begin().await?;
                tx.insert_outbound(&row).await?;
                tx.commit().await?;
                row
            }
        };
        if given_up.is_cancelled() {
            self.advance(&row.id, |row| journal::told(journal::not_applied(row, false))).await?;
            return Ok(Outcome::Unavailable { retry_after_s: 1 });
        }
        self.attempt_unless_found(row, contact).await
    }

    /// A message of this conversation whose fate is unknown comes first: how long to wait, if it still is.
    async fn blocked(&self, user: &UserId, conversation: Option<&ConversationId>) -> Result<Option<u64>> {
        let Some(row) = self.store.outbound_unresolved(user, conversation).await? else { return Ok(None) };
        let row = self.resolve(row).await?;
        Ok(journal::blocks(&row).then(|| journal::retry_after_s(&row, self.clock.now_ms())))
    }

    /// Looks for a message whose fate is unknown; one that is not there, and that nobody was told about, is sent once
    /// more. The caller has the turn.
    async fn resolve(&self, row: Outbound) -> Result<Outbound> {
        let row = self.look(Some(row)).await?;
        if !journal::is_still_wanted(&row, self.clock.now_ms()) || self.intercom.gate().is_err() {
            return Ok(row);
        }
        let profile = opening(&row)?.profile;
        let Ok(contact) = self.contact_of(&row.user, &profile).await else { return Ok(row) };
        let row = self.advance(&row.id, |row| journal::sending(row, self.clock.now_ms())).await?;
        let id = row.id.clone();
        self.attempt_unless_found(row, contact).await?;
        self.advance(&id, |row| row).await
    }

    /// Asks Intercom for the message: found, the row is `sent`; absent for good, it is `abandoned`.
    async fn look(&self, row: Option<Outbound>) -> Result<Outbound> {
        let row = row.ok_or_else(|| Error::internal("there is no row to look for"))?;
        let row = match row.state {
            // Left behind by a failing database.
            Journal::Sending => self.advance(&row.id, |row| journal::orphaned(row, self.patience())).await?,
            _ => row,
        };
        let asked_ms = self.clock.now_ms();
        let looked = match &row.conversation {
            Some(conversation) => self.refresh(conversation, Class::Reconcile).await.map(|_| ()),
            None => self.look_for_new_conversations(&row).await,
        };
        match looked {
            Ok(()) => self.advance(&row.id, |row| journal::absent(row, asked_ms)).await,
            Err(Error::Unavailable { .. }) => self.advance(&row.id, |row| row).await,
            Err(other) => Err(other),
        }
    }

    /// A new conversation has no id to ask for: the user's latest ones are read instead.
    async fn look_for_new_conversations(&self, row: &Outbound) -> Result<()> {
        let Some(contact) = self.store.contact(&row.user).await?.and_then(|contact| contact.contact_id) else {
            return Ok(());
        };
        let page = self.intercom.search_of_contact(&contact, None, Class::Reconcile).await?;
        for conversation in page.conversations {
            let Some(snapshot) = view::snapshot(&conversation) else { continue };
            let recent = snapshot.created_at >= row.created_ms.div_euclid(1000) - 60;
            if recent && self.store.conversation(&row.user, &snapshot.id).await?.is_none() {
                self.refresh(&snapshot.id, Class::Reconcile).await?;
            }
        }
        Ok(())
    }

    /// A webhook may have found it since it was looked for.
    async fn attempt_unless_found(&self, row: Outbound, contact: ContactId) -> Result<Outcome> {
        if row.state == Journal::Sent { self.replay(Some(row)).await } else { self.attempt(row, contact).await }
    }

    /// Sends a row that is durably `sending`, and makes its end durable.
    async fn attempt(&self, row: Outbound, contact: ContactId) -> Result<Outcome> {
        let mut posted = self.post(&row, &contact).await;
        if matches!(&posted, Err(CallError::Rejected { status: 404, .. })) {
            // Which of the two is gone, the contact or the conversation? A contact made anew tells.
            self.store.forget_contact(&contact).await?;
            let profile = opening(&row)?.profile;
            if let Some(anew) = self.contact_of(&row.user, &profile).await.ok().filter(|anew| *anew != contact) {
                posted = self.post(&row, &anew).await;
            }
        }
        let now_ms = self.clock.now_ms();
        match posted {
            Ok(()) => {
                let row = self.advance(&row.id, |row| row).await?;
                if row.state == Journal::Sent { Ok(answer(&row, false)) } else { self.unknown(row, true).await }
            }
            Err(CallError::Ambiguous { answered }) => self.unknown(row, answered).await,
            Err(CallError::Rejected { status, code }) => {
                tracing::warn!(status, code, "intercom refused a message");
                let row = self.advance(&row.id, |row| journal::not_applied(row, true)).await?;
                let Some(conversation) = row.conversation.as_ref().filter(|_| status == 404) else {
                    return Ok(Outcome::Refused);
                };
                self.store.enqueue("refresh", conversation.as_str(), "{}", now_ms, now_ms).await?;
                Ok(Outcome::NotFound)
            }
            Err(not_applied) => {
                self.advance(&row.id, |row| journal::told(journal::not_applied(row, false))).await?;
                Ok(unavailable(&not_applied))
            }
        }
    }

    /// The request itself; its effect is in the mirror when this returns.
    async fn post(&self, row: &Outbound, contact: &ContactId) -> Result<(), CallError> {
        let asked_ms = self.clock.now_ms();
        let of = Some(row.id.clone());
        let applied = match &row.conversation {
            Some(conversation) => {
                let answer = self.intercom.reply(conversation, contact, &row.body, &[]).await?;
                self.apply_answer(&answer, asked_ms, of).await
            }
            None => {
                let created = self.intercom.create(contact, &row.body, &[]).await?;
                let name = opening(row).ok().and_then(|opening| opening.profile.name);
                let snapshot = view::opened(created, contact, name, &row.body, asked_ms.div_euclid(1000));
                self.apply(&snapshot, &Origin::Answer { asked_ms, of }).await
            }
        };
        // Intercom has it. If the database does not, the message is looked for like one without an answer.
        applied.map(|_| ()).map_err(|error| {
            tracing::error!(cause = ?error, "a sent message could not be stored");
            CallError::Ambiguous { answered: true }
        })
    }

    /// Nobody knows whether Intercom has the message: look at once, and say so if it is not found.
    async fn unknown(&self, row: Outbound, answered: bool) -> Result<Outcome> {
        let now_ms = self.clock.now_ms();
        let row = self.advance(&row.id, |row| journal::unknown(row, answered, now_ms, self.patience())).await?;
        if journal::blocks(&row) {
            self.store.enqueue("settle", &row.id, "{}", now_ms + journal::LOOK_MS, now_ms).await?;
        }
        let row = self.look(Some(row)).await?;
        if row.state == Journal::Sent { Ok(answer(&row, false)) } else { self.tell(row).await }
    }

    async fn replay(&self, row: Option<Outbound>) -> Result<Outcome> {
        let row = row.ok_or_else(|| Error::internal("there is no row to replay"))?;
        if row.told {
            let mut tx = self.store.begin().await?;
            tx.update_outbound(&journal::answered(row.clone())).await?;
            tx.commit().await?;
        }
        Ok(answer(&row, true))
    }

    async fn tell(&self, row: Outbound) -> Result<Outcome> {
        let row = self.advance(&row.id, journal::told).await?;
        match row.state {
            Journal::Sent => self.replay(Some(row)).await,
            _ => Ok(Outcome::Unavailable { retry_after_s: journal::retry_after_s(&row, self.clock.now_ms()) }),
        }
    }

    /// Takes a row on durably, unless it has been found at Intercom meanwhile; the row as it is then.
    async fn advance(&self, id: &str, step: impl FnOnce(Outbound) -> Outbound + Send) -> Result<Outbound> {
        let mut tx = self.store.begin().await?;
        let row = tx.outbound(id).await?.ok_or_else(|| Error::internal("a row of the journal is gone"))?;
        let next = if row.state == Journal::Sent { row.clone() } else { step(row.clone()) };
        if next != row {
            tx.update_outbound(&next).await?;
        }
        tx.commit().await?;
        Ok(next)
    }

    fn patience(&self) -> Patience {
        Patience::new(self.settings.timeout, self.settings.settle)
    }

    /// A job: looks again for a message whose fate is unknown. `Some`: and again after so many milliseconds.
    pub async fn settle(&self, id: &str) -> Result<Option<i64>> {
        let Some(row) = self.store.outbound(id).await? else { return Ok(None) };
        let _turn = self.turns.take(&turn(&row.user, row.conversation.as_ref())).await;
        let row = self.advance(id, |row| row).await?;
        if row.state != Journal::Unknown {
            return Ok(None);
        }
        let row = self.resolve(row).await?;
        Ok(journal::blocks(&row).then(|| journal::next_look_ms(&row, self.clock.now_ms())))
    }

    /// At the start: what a dead process was sending is unknown, and is looked for at once.
    pub async fn recover(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for row in self.store.outbound_open().await? {
            if row.state == Journal::Sending {
                tracing::warn!(row = row.id, "a message was being sent when the process died; looking for it");
                self.advance(&row.id, |row| journal::orphaned(row, self.patience())).await?;
            }
            self.store.enqueue("settle", &row.id, "{}", now_ms, now_ms).await?;
        }
        Ok(())
    }
}

/// Messages of one conversation go one after the other, and so do one user's new conversations.
fn turn(user: &UserId, conversation: Option<&ConversationId>) -> String {
    match conversation {
        Some(id) => format!("send {id}"),
        None => format!("open {user}"),
    }
}

fn answer(row: &Outbound, replayed: bool) -> Outcome {
    match &row.response {
        Some(body) => Outcome::Sent(Sent { body: body.as_str().into(), replayed }),
        None => Outcome::Failed,
    }
}

fn unavailable(error: &CallError) -> Outcome {
    tracing::warn!(cause = %error, "a message was not sent");
    Outcome::Unavailable { retry_after_s: error.retry_after().map_or(1, |wait| wait.as_secs() + 1) }
}
