//! The sending journal: a user's message reaches Intercom exactly once.
//!
//! Intercom has no idempotency key, so a request without an answer may or may not have had its effect. Each
//! message is a row that is durable before it is sent; a row without an answer is `unknown`, and Intercom is
//! asked for the message until it is found or its absence is final. Finding is the mirror's work: whatever
//! brings a message of the user from Intercom binds it to its row (`mirror`), so every way of finding is one.
//! A client that was told 502 sends again or not, as its user likes; this server never does so by itself.

use super::attachments::{attach, files_of};
use super::draft::{Draft, Wish, opening};
use super::journal::{self, Next, Patience};
use super::mirror::Origin;
use super::requests::{Identity, Outcome, Sent};
use super::{Chat, view};
use crate::error::{Error, Result};
use crate::id::{ContactId, ConversationId, UserId};
use crate::intercom::{CallError, Class};
use crate::store::Tx;
use crate::store::outbound::{Journal, Kind, Outbound, Told};
use ordinary::Taken;

pub(super) mod ordinary;
mod recovery;
mod submission;

/// What a look at Intercom says of a row that had no end.
enum Looked {
    /// It has one now.
    Ended(Outbound),
    /// It is not there, and will not come.
    Absent(Outbound),
    /// Nobody knows yet.
    Open(Outbound),
}

/// What became of the wish to send a row again.
enum Begun {
    /// It is durably `sending`.
    Attempt(Outbound),
    /// The row, which has gone on, as it is.
    Not(Outbound),
    WithoutFiles,
}

/// How an attempt to send a row ended.
enum Attempted {
    /// It is sent, or nobody knows and it is looked for.
    Done(Outbound),
    /// Intercom does not take it; `gone`: it no longer has the conversation.
    Refused { gone: bool },
    /// Certainly without effect; the row is still `sending`.
    NotApplied(Outbound, CallError),
}

/// How often other nodes may be faster, before the client hears that it may ask again.
const RACES: usize = 8;

impl Chat {
    async fn send_or_find(&self, draft: &Draft, identity: &Identity) -> Result<Outcome> {
        let _turn = self.turns.take(&turn(&draft.user, draft.conversation.as_ref())).await;
        if let Some((row, contact)) = self.begin_ordinary(draft, identity).await? {
            return self.send_begun(row, contact, draft, identity).await;
        }
        if let (Wish::Talk, Some(id)) = (&draft.wish, &draft.conversation) {
            match self.owned(&draft.user, id).await {
                Err(Error::NotFound) => return Ok(Outcome::NotFound),
                owned => owned?,
            };
        }
        for _ in 0..RACES {
            if let Some(outcome) = self.send_or_find_once(draft, identity).await? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Unavailable { retry_after_s: 1 })
    }

    /// `None`: another node was faster, and what it does is to be looked at.
    async fn send_or_find_once(&self, draft: &Draft, identity: &Identity) -> Result<Option<Outcome>> {
        let fingerprint = draft.fingerprint();
        let asked = self.requests.asked(identity);
        let mut row = self.earlier(draft).await?;
        if row.as_ref().is_some_and(|row| !self.requests.take_on(identity, &row.id, true)) {
            return Ok(Some(Outcome::Unavailable { retry_after_s: 1 }));
        }
        if let Some(known) = row {
            self.requests.is_unanswered(identity, asked);
            let known = match &draft.key {
                Some(_) => known,
                None => self.advance(&known.id, journal::shared).await?,
            };
            row = Some(self.left_by_others(known, Some(identity)).await?);
        }
        loop {
            return match journal::on_request(row.as_ref(), &fingerprint) {
                Next::Mismatch => Ok(Some(Outcome::Mismatch)),
                Next::Replay => Self::replay(row).map(Some),
                Next::Look => match self.look(row).await? {
                    Looked::Open(row) => self.tell(row, identity).await.map(Some),
                    Looked::Absent(row) => self.send(Some(row), draft, identity).await,
                    Looked::Ended(ended) => {
                        row = Some(ended);
                        continue;
                    }
                },
                Next::Send => self.send(row, draft, identity).await,
            };
        }
    }

    /// The row that a request repeats, if it does.
    async fn earlier(&self, draft: &Draft) -> Result<Option<Outbound>> {
        let route = draft.route();
        let Some(key) = &draft.key else {
            let since_ms = self.clock.now_ms() - journal::ADOPT_MS;
            return self.store.outbound_to_adopt(&draft.user, &route, &draft.fingerprint(), since_ms).await;
        };
        self.store.outbound_by_key(&draft.user, &route, key).await
    }

    /// Sends a new message, or one that came before and is certainly not at Intercom. `None`: another node was faster.
    async fn send(&self, row: Option<Outbound>, draft: &Draft, identity: &Identity) -> Result<Option<Outcome>> {
        let ready = self.ready(row.as_ref(), draft, identity).await?;
        self.store.stay_if_due(self.clock.now_ms()).await?;
        let (row, contact) = match (row, ready) {
            (None, Err(retry_after_s)) => {
                // What is in the way may be this one, from another node: then it must be known there that its client hears 502.
                let is_here = self.earlier(draft).await?.is_some();
                return Ok((!is_here).then_some(Outcome::Unavailable { retry_after_s }));
            }
            (Some(row), Err(retry_after_s)) => {
                self.advance(&row.id, journal::told).await?;
                return Ok(Some(Outcome::Unavailable { retry_after_s }));
            }
            (Some(row), Ok(contact)) => match self.begin_again(&row, true).await? {
                Begun::Attempt(row) => (row, contact),
                // A webhook found it meanwhile, or another node is sending it.
                Begun::Not(row) if row.state == Journal::Sent => return Self::replay(Some(row)).map(Some),
                Begun::WithoutFiles => return Ok(Some(Outcome::NoSuchFile)),
                Begun::Not(row) if row.state == Journal::Sending => return Ok(None),
                Begun::Not(row) => return self.tell(row, identity).await.map(Some),
            },
            (None, Ok(contact)) => {
                let row = draft.row(self.clock.now_ms(), self.intercom.behind_ms())?;
                if !self.requests.take_on(identity, &row.id, false) {
                    return Ok(Some(Outcome::Unavailable { retry_after_s: 1 }));
                }
                // Its client may have heard 502 here, 502 of the same at another node, and come back here just now.
                if self.earlier(draft).await?.is_some() {
                    return Ok(None);
                }
                let mut tx = self.store.begin_shared().await?;
                if !tx.insert_outbound(&row).await? {
                    tx.withdraw().await?;
                    return Ok(None);
                }
                if !attach(&mut tx, &row).await? {
                    tx.withdraw().await?;
                    return Ok(Some(Outcome::NoSuchFile));
                }
                tx.commit().await?;
                // Intercom has not been asked yet.
                self.requests.is_row_unanswered(&row);
                (row, contact)
            }
        };
        self.send_begun(row, contact, draft, identity).await.map(Some)
    }

    /// Sends a row that is durably `sending`, unless its client has given it up.
    async fn send_begun(
        &self,
        row: Outbound,
        contact: ContactId,
        draft: &Draft,
        identity: &Identity,
    ) -> Result<Outcome> {
        if self.requests.is_told(identity) {
            self.end_attempt(&row, |row| journal::told(journal::not_applied(row, false))).await?;
            return Ok(Outcome::Unavailable { retry_after_s: 1 });
        }
        let row_id = row.id.clone();
        Ok(match self.attempt(row, contact).await? {
            Attempted::Done(row) => self.tell(row, identity).await?,
            Attempted::Refused { gone: true } if matches!(draft.wish, Wish::Clarify(_)) => {
                // The conversation was our choice; the next time it is another.
                self.store.forget_refused(&row_id).await?;
                Outcome::Unavailable { retry_after_s: 1 }
            }
            Attempted::Refused { gone: true } => Outcome::NotFound,
            Attempted::Refused { gone: false } => Outcome::Refused,
            Attempted::NotApplied(row, error) => {
                self.end_attempt(&row, |row| journal::told(journal::not_applied(row, false))).await?;
                unavailable(&error)
            }
        })
    }

    /// Whether a message can go now: by which contact, or after how many seconds to ask again. Asked before anything
    /// is stored, since a 502 must never turn into a message later.
    async fn ready(
        &self,
        row: Option<&Outbound>,
        draft: &Draft,
        identity: &Identity,
    ) -> Result<std::result::Result<ContactId, u64>> {
        if self.requests.is_told(identity) {
            return Ok(Err(1));
        }
        if let Err(closed) = self.intercom.gate() {
            return Ok(Err(retry_after_s(&closed)));
        }
        // A message of this conversation whose fate is unknown comes first.
        let unresolved = self.store.outbound_unresolved(&draft.user, draft.conversation.as_ref()).await?;
        if let Some(other) = unresolved.filter(|other| row.is_none_or(|row| row.id != other.id)) {
            let other = self.left_by_others(other, None).await?;
            let other = if journal::blocks(&other) { self.resolve(other).await? } else { other };
            if journal::blocks(&other) {
                return Ok(Err(journal::retry_after_s(&other, self.clock.now_ms())));
            }
        }
        match self.contact_of(&draft.user, &draft.profile).await {
            Err(Error::Unavailable { retry_after_s, .. }) => Ok(Err(retry_after_s)),
            contact => contact.map(Ok),
        }
    }

    /// Looks for a message whose fate is unknown; one that is not there, and that nobody was told about, is sent once
    /// more. Until that has an end it stays unknown, so that it is neither overtaken nor forgotten. The caller has
    /// the turn.
    async fn resolve(&self, row: Outbound) -> Result<Outbound> {
        let row = match self.look(Some(row)).await? {
            Looked::Ended(row) | Looked::Open(row) => return Ok(row),
            Looked::Absent(row) => row,
        };
        if !journal::is_still_wanted(&row, self.clock.now_ms()) {
            return self.advance(&row.id, |now| journal::given_up(&row, now)).await;
        }
        let profile = opening(&row)?.profile;
        let (Ok(()), Ok(contact)) = (self.intercom.gate(), self.contact_of(&row.user, &profile).await) else {
            return Ok(row);
        };
        let row = match self.begin_again(&row, false).await? {
            Begun::Attempt(row) => row,
            Begun::Not(row) => return Ok(row),
            Begun::WithoutFiles => return self.advance(&row.id, |now| journal::given_up(&row, now)).await,
        };
        match self.attempt(row.clone(), contact).await? {
            Attempted::Done(row) => Ok(row),
            Attempted::Refused { .. } => self.advance(&row.id, |row| row).await,
            Attempted::NotApplied(row, error) => {
                tracing::warn!(cause = %error, "a message that nobody was told about waits to be sent once more");
                self.end_attempt(&row, journal::deferred).await
            }
        }
    }

    /// Asks Intercom for the message.
    async fn look(&self, row: Option<Outbound>) -> Result<Looked> {
        let row = row.ok_or_else(|| Error::internal("there is no row to look for"))?;
        let row = match row.state {
            // Left behind by a failing database.
            Journal::Sending => {
                let now_ms = self.clock.now_ms();
                self.advance(&row.id, |now| journal::orphaned_as_seen(&row, now, now_ms, self.patience())).await?
            }
            _ => row,
        };
        let asked_ms = self.clock.now_ms();
        let looked = match &row.conversation {
            Some(conversation) => self.refresh(conversation, Class::Reconcile).await.map(|_| ()),
            None => self.look_for_new_conversations(&row).await,
        };
        let has_answer = match looked {
            Ok(()) => true,
            Err(Error::Unavailable { .. }) => false,
            Err(other) => return Err(other),
        };
        let (seen, row) = (&row, self.advance(&row.id, |row| row).await?);
        Ok(match journal::blocks(&row) {
            false => Looked::Ended(row),
            true if has_answer && journal::is_absent(seen, &row, asked_ms) => Looked::Absent(row),
            true => Looked::Open(row),
        })
    }

    /// Begins another attempt durably, unless the row has gone on since it was `seen`: found by a webhook, or taken on
    /// by another node.
    async fn begin_again(&self, seen: &Outbound, asked: bool) -> Result<Begun> {
        let mut tx = self.store.begin_shared().await?;
        let begun = self.begin_in(&mut tx, seen, asked).await;
        match begun {
            Ok(Begun::Attempt(_)) => tx.commit().await?,
            _ => tx.withdraw().await?,
        }
        begun
    }

    async fn begin_in(&self, tx: &mut Tx, seen: &Outbound, asked: bool) -> Result<Begun> {
        let row = tx.outbound(&seen.id).await?.ok_or(Error::NotFound)?;
        let Some(next) = journal::again(seen, row.clone(), asked, self.clock.now_ms()) else {
            return Ok(Begun::Not(row));
        };
        if !tx.resume_outbound(&next).await? {
            return Ok(Begun::Not(row));
        }
        Ok(if attach(tx, &next).await? { Begun::Attempt(next) } else { Begun::WithoutFiles })
    }

    /// Sends a row that is durably `sending`, and makes its end durable, unless it was certainly not applied.
    async fn attempt(&self, mut row: Outbound, contact: ContactId) -> Result<Attempted> {
        let mut posted = self.post(&row, &contact).await;
        if matches!(&posted, Err(CallError::Rejected { status: 404, .. })) {
            // Which of the two is gone, the contact or the conversation? A contact made anew tells.
            self.store.forget_contact(&contact).await?;
            let profile = opening(&row)?.profile;
            if let Some(anew) = self.contact_of(&row.user, &profile).await.ok().filter(|anew| *anew != contact) {
                row = match self.begin_again(&row, true).await? {
                    Begun::Attempt(row) => row,
                    Begun::Not(row) => return Ok(Attempted::Done(row)),
                    Begun::WithoutFiles => return Ok(Attempted::Refused { gone: false }),
                };
                posted = self.post(&row, &anew).await;
            }
        }
        if matches!(&posted, Err(CallError::Rejected { status: 400 | 422, .. }))
            && let Some(folded) = self.folded(&row)
        {
            let again = journal::sending(folded, self.clock.now_ms());
            row = self.advance(&row.id, |now| if now == row { again } else { now }).await?;
            posted = self.post(&row, &contact).await;
        }
        match posted {
            Ok(Some(sent)) => Ok(Attempted::Done(sent)),
            Ok(None) => {
                let row = self.advance(&row.id, |row| row).await?;
                if row.state == Journal::Sent { Ok(Attempted::Done(row)) } else { self.unknown(row, true).await }
            }
            Err(CallError::Ambiguous { answered }) => self.unknown(row, answered).await,
            Err(CallError::Rejected { status, code }) => {
                tracing::warn!(status, code, "intercom refused a message");
                let row = self.end_attempt(&row, |row| journal::not_applied(row, true)).await?;
                let Some(conversation) = row.conversation.as_ref().filter(|_| status == 404) else {
                    return Ok(Attempted::Refused { gone: false });
                };
                let now_ms = self.clock.now_ms();
                self.store.enqueue("refresh", conversation.as_str(), "{}", now_ms, now_ms).await?;
                Ok(Attempted::Refused { gone: true })
            }
            Err(not_applied) => Ok(Attempted::NotApplied(row, not_applied)),
        }
    }

    /// The request itself; its effect is in the mirror when this returns. The row, if it is known as it is then.
    async fn post(&self, row: &Outbound, contact: &ContactId) -> Result<Option<Outbound>, CallError> {
        let _posting = match &row.conversation {
            Some(conversation) => Some(self.turns.take(&posting(conversation)).await),
            None => None,
        };
        let asked = self.clock.ticks_ms();
        let of = Some(row.id.clone());
        let urls = if files_of(row).is_folded { Vec::new() } else { self.urls(row) };
        let applied = match &row.conversation {
            Some(ticket) if row.kind == Kind::TicketReply => {
                let part = self.intercom.reply_to_ticket(ticket, contact, &row.body, &urls).await?;
                match view::ticket::replied(ticket, &part) {
                    Some(snapshot) => {
                        let asked_ms = self.intercom.time_at(asked);
                        self.apply(&snapshot, &Origin::Answer { asked_ms, of }).await
                    }
                    None => return Err(CallError::Ambiguous { answered: true }),
                }
            }
            Some(conversation) => {
                let answer = self.intercom.reply(conversation, contact, &row.body, &urls).await?;
                let Some(snapshot) = view::snapshot(&answer) else { return Ok(None) };
                let origin = Origin::Answer { asked_ms: self.intercom.time_at(asked), of };
                if let Some(taken) = Taken::new(row, &snapshot, &origin)
                    && let Some(sent) = self.end_ordinary(taken).await
                {
                    return Ok(Some(sent));
                }
                self.apply(&snapshot, &origin).await
            }
            None => {
                let created = self.intercom.create(contact, &row.body, &urls).await?;
                let asked_ms = self.intercom.time_at(asked);
                let name = opening(row).ok().and_then(|opening| opening.profile.name);
                let snapshot = view::opened(created, contact, name, &row.body, asked_ms.div_euclid(1000));
                self.apply(&snapshot, &Origin::Answer { asked_ms, of }).await
            }
        };
        // Intercom has it. If the database does not, the message is looked for like one without an answer.
        applied.map(|_| None).map_err(|error| {
            tracing::error!(cause = ?error, "a sent message could not be stored");
            CallError::Ambiguous { answered: true }
        })
    }

    /// Nobody knows whether Intercom has the message: look at once.
    async fn unknown(&self, row: Outbound, answered: bool) -> Result<Attempted> {
        let now_ms = self.clock.now_ms();
        let row = self.end_attempt(&row, |row| journal::unknown(row, answered, now_ms, self.patience())).await?;
        let (Looked::Ended(row) | Looked::Open(row) | Looked::Absent(row)) = self.look(Some(row)).await?;
        Ok(Attempted::Done(row))
    }

    fn replay(row: Option<Outbound>) -> Result<Outcome> {
        Ok(answer(&row.ok_or_else(|| Error::internal("there is no row to replay"))?, true))
    }

    async fn tell(&self, row: Outbound, identity: &Identity) -> Result<Outcome> {
        let asked = self.requests.asked(identity);
        // Nobody else can have been told anything of it, or asks: then it stays as it is.
        let is_final = row.state == Journal::Sent && row.told == Told::Nothing && asked <= 1;
        let row = if is_final { row } else { self.advance(&row.id, journal::told).await? };
        if row.told != Told::Sent {
            self.requests.is_unanswered(identity, asked);
        }
        match row.state {
            Journal::Sent => Ok(answer(&row, false)),
            _ => Ok(Outcome::Unavailable { retry_after_s: journal::retry_after_s(&row, self.clock.now_ms()) }),
        }
    }

    async fn end_attempt(&self, row: &Outbound, step: impl FnOnce(Outbound) -> Outbound + Send) -> Result<Outbound> {
        self.advance(&row.id, |now| journal::after_attempt(row, now, step)).await
    }

    /// Takes a row on durably, unless it has been found at Intercom meanwhile; the row as it is then.
    async fn advance(&self, id: &str, step: impl FnOnce(Outbound) -> Outbound + Send) -> Result<Outbound> {
        let mut tx = self.store.begin_shared().await?;
        let Some(row) = tx.outbound(id).await? else {
            tx.withdraw().await?;
            return Err(Error::NotFound);
        };
        let next = if row.state == Journal::Sent { row.clone() } else { step(row.clone()) };
        if next != row {
            tx.update_outbound(&next).await?;
            if matches!(next.state, Journal::Rejected | Journal::Abandoned) {
                tx.release_files(id).await?;
            }
            if next.state == Journal::Unknown && row.state != Journal::Unknown {
                // With it, not after it: whatever fails from here on, somebody goes on looking.
                let now_ms = self.clock.now_ms();
                tx.enqueue("settle", id, "{}", now_ms + journal::LOOK_MS, now_ms).await?;
            }
            tx.commit().await?;
        } else {
            tx.withdraw().await?;
        }
        Ok(next)
    }

    fn patience(&self) -> Patience {
        Patience::new(self.settings.timeout, self.settings.settle)
    }
}

/// Messages of one conversation go one after the other, and so do one user's new conversations.
fn turn(user: &UserId, conversation: Option<&ConversationId>) -> String {
    match conversation {
        Some(id) => format!("send {id}"),
        None => format!("open {user}"),
    }
}

/// While a message of this conversation is at Intercom, and its answer not yet here.
pub(super) fn posting(conversation: &ConversationId) -> String {
    format!("post {conversation}")
}

fn answer(row: &Outbound, replayed: bool) -> Outcome {
    match &row.response {
        Some(body) => {
            let sent = Sent { body: body.as_str().into(), replayed };
            Outcome::Sent { sent, row: row.id.clone(), told: row.told, new_from: None }
        }
        None => Outcome::Failed,
    }
}

fn unavailable(error: &CallError) -> Outcome {
    tracing::warn!(cause = %error, "a message was not sent");
    Outcome::Unavailable { retry_after_s: retry_after_s(error) }
}

fn retry_after_s(error: &CallError) -> u64 {
    error.retry_after().map_or(1, |wait| wait.as_secs() + 1)
}
