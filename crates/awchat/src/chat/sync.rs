//! Intercom's truth into the mirror: webhooks, answers, refreshes.
//!
//! A webhook is a hint: its content is applied at once, so that a message is here within one commit, and what
//! it told us that is not our own doing is asked for again at Intercom, coalesced.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tracing::Instrument;

use super::mirror::{self, Origin, Plan, Put, PutKind, TicketPlan};
use super::notices::{self, Coming, Told};
use super::view::{self, Event, Snapshot};
use super::{Chat, draft};
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId, UserId};
use crate::intercom::{CallError, Class, wire};
use crate::model::{AuthorKind, Message, State, Topic};
use crate::store::Tx;
use crate::store::conversations::Conversation;
use crate::store::files::RemoteFile;
use crate::store::inbox::Received;
use crate::store::messages::Stored;
use crate::store::outbound::{Journal, Outbound};
use crate::traces;

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It belongs to none of our users.
    NotOurs,
    /// The mirror had it all.
    Unchanged,
    /// The mirror changed, or Intercom is asked whether it must.
    Changed,
}

/// Events of one conversation that come within this time are one question to Intercom. More than a second: what
/// happens in a second is all there once it is over.
const COALESCE_MS: i64 = 1_500;

/// Conversations to which webhooks are applied at once.
const AT_ONCE: usize = 8;

/// Webhooks that a node has taken are not another's for so long; applied twice, they change nothing.
const INBOX_LEASE_MS: i64 = 10_000;
/// A webhook that cannot be applied is tried this often, for about a day.
const GIVE_UP: i64 = 150;

impl Chat {
    /// Stores a webhook whose signature holds, and that is of nobody erased ([`Chat::is_of_erased`]); `false` if it was
    /// here before. The worker applies it.
    pub async fn receive(&self, id: &str, topic: &str, raw: &str) -> Result<bool> {
        let is_new = self.store.receive(id, topic, raw, self.clock.now_ms()).await?;
        self.received.notify_one();
        Ok(is_new)
    }

    /// Applies webhooks that are due; how many there were. Those of one conversation are applied in their order, and
    /// others at once: they share a commit.
    pub async fn apply_inbox(&self) -> Result<usize> {
        const BATCH: i64 = 64;
        let now_ms = self.clock.now_ms();
        let due = self.store.inbox_due(now_ms, now_ms + INBOX_LEASE_MS, BATCH).await?;
        let count = due.len();
        let mut lines: BTreeMap<Option<ConversationId>, Vec<(Received, Option<wire::Notification>)>> = BTreeMap::new();
        for received in due {
            // The edge stores only JSON objects; of what is no notification there is nothing to apply.
            let raw = wire::without_nul(received.raw.as_bytes());
            let notification = serde_json::from_slice::<wire::Notification>(&raw).ok();
            lines.entry(notification.as_ref().and_then(view::subject)).or_default().push((received, notification));
        }
        let applied = stream::iter(lines.into_values()).map(|line| self.apply_line(line, now_ms));
        // Written down for all at once: what is applied twice after a crash is the same.
        let done: Vec<Vec<String>> = applied.buffer_unordered(AT_ONCE).try_collect().await?;
        self.store.inbox_done(&done.concat()).await?;
        Ok(count)
    }

    /// Webhooks of one conversation, in order; those that are done with.
    async fn apply_line(&self, line: Vec<(Received, Option<wire::Notification>)>, now_ms: i64) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for (received, notification) in line {
            let traced = traces::work("apply webhook");
            let applied = match &notification {
                Some(notification) => self.apply_webhook(notification).instrument(traced.clone()).await,
                None => Ok(()),
            };
            traces::ended(&traced, None, applied.is_err());
            match applied {
                Ok(()) => done.push(received.id),
                Err(error) if received.attempts >= GIVE_UP => {
                    tracing::error!(cause = ?error, "webhook given up; the sweep brings what it was about");
                    done.push(received.id);
                }
                Err(error) => {
                    tracing::warn!(attempts = received.attempts, cause = %error, "webhook not applied, will retry");
                    let wait_ms = 500 << received.attempts.min(10);
                    self.store.inbox_retry(&received.id, now_ms + wait_ms).await?;
                }
            }
        }
        Ok(done)
    }

    async fn apply_webhook(&self, notification: &wire::Notification) -> Result<()> {
        match view::event(notification) {
            Event::Conversation(snapshot) => drop(self.apply(&snapshot, &Origin::Webhook).await?),
            Event::Refresh(id) => self.ask_for(&id).await?,
            Event::Deleted(id) => self.gone(&id).await?,
            Event::ContactMerged { survivor, from, user } => {
                let mut tx = self.store.begin().await?;
                let from: Vec<_> = from.into_iter().chain([survivor.clone()]).collect();
                let named: Vec<_> = user.into_iter().collect();
                let user = tx.user_of(&from, &named).await?;
                tx.commit().await?;
                if let Some(user) = user {
                    self.store.set_contact(&user, &survivor, self.clock.now_ms()).await?;
                }
            }
            Event::ContactGone(contact) => self.store.forget_contact(&contact).await?,
            Event::Ignored => {}
        }
        Ok(())
    }

    /// Asks for a refresh soon; asked for often, it is done once.
    pub async fn ask_for(&self, id: &ConversationId) -> Result<()> {
        let mut tx = self.store.begin_shared().await?;
        ask(&mut tx, id, self.clock.now_ms()).await?;
        tx.commit().await
    }

    /// Reads the conversation at Intercom into the mirror, and the ticket that it is, if it is one.
    pub async fn refresh(&self, id: &ConversationId, class: Class) -> Result<Applied> {
        // One at a time: answers that overtake each other could not be told apart within a second.
        let _turn = self.turns.take(&format!("refresh {id}")).await;
        let asked = self.clock.ticks_ms();
        let found = self.intercom.conversation(id, class).await?;
        let conversation = found.as_ref().and_then(view::snapshot);
        if found.is_some() && conversation.is_none() {
            return Ok(Applied::Unchanged);
        }
        let is_ticket = match &conversation {
            Some(conversation) => conversation.is_ticket || self.store.is_ticket(id).await?,
            None => true,
        };
        let ticket = if is_ticket { self.intercom.ticket(id, class).await? } else { None };
        let as_ticket = match &ticket {
            Some(ticket) => view::ticket::ticket(ticket, &self.states_for(ticket, class).await?),
            None => None,
        };
        let snapshot = match (conversation, as_ticket) {
            (Some(conversation), Some(ticket)) => conversation.with_ticket(ticket),
            // Without what it is as a ticket, it would be in no list at all.
            (Some(conversation), None) => Snapshot { is_ticket: false, ..conversation },
            (None, Some(ticket)) => ticket.alone(),
            (None, None) if ticket.is_some() => return Ok(Applied::Unchanged),
            (None, None) => {
                self.gone(id).await?;
                return Ok(Applied::Unchanged);
            }
        };
        self.apply(&snapshot, &Origin::Answer { asked_ms: self.intercom.time_at(asked), of: None }).await
    }

    /// The workspace's states, where the ticket does not name those that it can have. A workspace that does not tell
    /// them gets the usual labels.
    pub(super) async fn states_for(&self, ticket: &wire::Ticket, class: Class) -> Result<Arc<[wire::TicketState]>> {
        if view::ticket::names_its_states(ticket) {
            return Ok(Arc::default());
        }
        match self.intercom.ticket_states(class).await {
            Err(CallError::Rejected { .. } | CallError::Auth { .. }) => Ok(Arc::default()),
            states => Ok(states?),
        }
    }

    /// Applies a conversation that Intercom answered with. `asked_ms`: as in [`Origin::Answer`]; `of`: the journal's row whose
    /// message it holds.
    pub async fn apply_answer(
        &self,
        conversation: &wire::Conversation,
        asked_ms: i64,
        of: Option<String>,
    ) -> Result<Applied> {
        let Some(snapshot) = view::snapshot(conversation) else { return Ok(Applied::Unchanged) };
        self.apply(&snapshot, &Origin::Answer { asked_ms, of }).await
    }

    /// Removes a conversation that Intercom no longer has.
    async fn gone(&self, id: &ConversationId) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let mirrored = tx.mirrored(id).await?;
        tx.give_up_conversation(id).await?;
        tx.delete_conversation(id).await?;
        if let Some(Conversation { user, .. }) = &mirrored {
            tx.number_loss(user, self.clock.now_ms()).await?;
        }
        tx.commit().await?;
        if let Some(Conversation { user, .. }) = &mirrored {
            self.forget(id, user);
        }
        Ok(())
    }

    /// Brings the mirror up to a snapshot in one transaction and publishes the head it leaves.
    pub async fn apply(&self, snapshot: &Snapshot, origin: &Origin) -> Result<Applied> {
        if snapshot.ticket.as_ref().is_some_and(|ticket| !ticket.is_shown) {
            return self.withdraw(&snapshot.id, origin).await;
        }
        let now_ms = self.clock.now_ms();
        let mut tx = self.store.begin_shared().await?;
        let Some(base) = base(&mut tx, snapshot, origin, now_ms).await? else {
            tx.withdraw().await?;
            return Ok(Applied::NotOurs);
        };
        let ids: Vec<&str> = snapshot.messages.iter().map(|seen| seen.message.id.as_str()).collect();
        let known = tx.known(&snapshot.id, &ids).await?;
        let plan = mirror::plan(&base.conversation, &known, &base.rows, snapshot, origin);
        let ticket = match &snapshot.ticket {
            Some(seen) => mirror::plan_ticket(tx.mirrored_ticket(&snapshot.id).await?.as_ref(), seen, origin),
            None => TicketPlan::default(),
        };
        let asks = plan.ask || ticket.ask;
        if asks {
            // With what it told us, not after it.
            ask(&mut tx, &snapshot.id, now_ms).await?;
        }
        if plan.is_empty() && !ticket.shows && !base.is_new {
            if let Some((whole_at, whole_ms)) = plan.whole {
                tx.set_whole(&snapshot.id, whole_at, whole_ms).await?;
            }
            write_ticket(&mut tx, &snapshot.id, &ticket).await?;
            let writes = asks || plan.whole.is_some() || ticket.write.is_some();
            if writes {
                tx.commit().await?
            } else {
                tx.withdraw().await?
            }
            return Ok(if asks { Applied::Changed } else { Applied::Unchanged });
        }
        write_ticket(&mut tx, &snapshot.id, &ticket).await?;
        if (plan.becomes_ticket || base.is_new && snapshot.is_ticket) && snapshot.ticket.is_none() {
            // It has left the list of conversations, and comes to that of tickets once it is known what it is.
            tx.enqueue("refresh", snapshot.id.as_str(), "{}", now_ms, now_ms).await?;
        }
        let polished = *origin != Origin::Webhook;
        let arrival = Arrival { polished, as_ticket: ticket.shows, now_ms };
        let (changed, told) = self.write(&mut tx, &base, &plan, arrival).await?;
        let coming = Coming { origin, is_new: base.is_new, now_ms };
        let tells = self.notify(&mut tx, &changed, told, &ticket.changes, &coming).await?;
        if tells_streams(&base, &changed) {
            tx.number_change(&changed.user, &changed.id, base.conversation.last_position, now_ms).await?;
        }
        let committing = self.committing(&changed.id);
        tx.commit().await?;
        committing.done();
        if tells {
            self.ring_push();
        }
        if !changed.hidden {
            self.publish(&changed);
        }
        self.work.notify_one();
        Ok(Applied::Changed)
    }

    /// A ticket that its user must not see, or no longer: nothing of it is kept. A hint may be old, so Intercom is asked.
    async fn withdraw(&self, id: &ConversationId, origin: &Origin) -> Result<Applied> {
        if self.store.begin().await?.mirrored(id).await?.is_none() {
            return Ok(Applied::NotOurs);
        }
        if *origin == Origin::Webhook {
            self.ask_for(id).await?
        } else {
            self.gone(id).await?
        }
        Ok(Applied::Changed)
    }

    /// The conversation as it is then, and what of it the user's devices may be told.
    async fn write(
        &self,
        tx: &mut Tx,
        base: &Base,
        plan: &Plan,
        arrival: Arrival,
    ) -> Result<(Conversation, Vec<Told>)> {
        let Arrival { polished, as_ticket, now_ms } = arrival;
        let (mut changed, mut told) = (base.conversation.clone(), Vec::new());
        if plan.state.is_some() || plan.rated.is_some() || as_ticket {
            tx.next_position(&changed.id, now_ms).await?;
        }
        for put in &plan.put {
            remember_files(tx, &changed.id, &put.message).await?;
            let stored = Stored {
                message: &put.message,
                fingerprint: &put.fingerprint,
                opening: put.opening,
                hidden: put.hidden,
                polished: polished || put.binds.is_some(),
            };
            if put.kind == PutKind::Polish {
                tx.polish_message(&changed.id, &stored).await?;
                continue;
            }
            let position = if put.hidden { 0 } else { tx.next_position(&changed.id, now_ms).await? };
            tx.put_message(&changed.id, &stored, position).await?;
            told.extend(notices::of_message(put, position));
            if put.hidden && put.binds.is_none() {
                tracing::warn!(conversation = %changed.id, "intercom has a message twice; the second is hidden");
                tx.enqueue("twice", changed.id.as_str(), "{}", now_ms, now_ms).await?;
            }
            if put.kind == PutKind::New && !put.hidden {
                changed.active_ms = changed.active_ms.max(arrival_ms(put.message.created_at, now_ms));
            }
            if base.is_new && put.message.author.kind == AuthorKind::User {
                // What was said before the user's own last word has been read.
                changed.read_position = changed.read_position.max(position);
            }
        }
        (changed.state, changed.snoozed_until) = plan.state.unwrap_or((changed.state, changed.snoozed_until));
        changed.rated = plan.rated.unwrap_or(changed.rated);
        changed.is_ticket |= plan.becomes_ticket;
        changed.updated_at = plan.updated_at;
        changed.truth_ms = plan.truth_ms;
        (changed.whole_at, changed.whole_ms) = plan.whole.unwrap_or((changed.whole_at, changed.whole_ms));
        let changed = tx.update_conversation(&changed).await?;
        for put in &plan.put {
            if let Some(row) = base.rows.iter().find(|row| put.binds.as_ref() == Some(&row.id)) {
                self.bind(tx, row, put, &changed, now_ms).await?;
            }
        }
        Ok((changed, told))
    }

    /// A row of the journal has found its message at Intercom.
    async fn bind(&self, tx: &mut Tx, row: &Outbound, put: &Put, now: &Conversation, now_ms: i64) -> Result<()> {
        // As it is now: a client may have been told 502 since it was read.
        let row = tx.outbound(&row.id).await?.ok_or_else(|| Error::internal("a row of the journal is gone"))?;
        let shown = Put { message: self.shown(put.message.clone()), ..put.clone() };
        let response = draft::response(&row, &shown, now)?;
        let sent = Outbound {
            conversation: Some(now.id.clone()),
            state: Journal::Sent,
            part_id: Some(put.message.id.clone()),
            response: Some(response),
            ..row
        };
        // Not before this is committed, by which another node may know sooner than who asks here.
        self.requests.is_row_unanswered(&sent);
        tx.update_outbound(&sent).await?;
        tx.bind_files(&sent.id, &now.id, &put.message.id).await?;
        self.follow_up(tx, &sent, put, now, now_ms).await
    }
}

/// How news comes into the mirror.
struct Arrival {
    /// The content has Intercom's formatting.
    polished: bool,
    /// The ticket shows something new.
    as_ticket: bool,
    now_ms: i64,
}

/// A refresh soon; asked for often, it is done once.
async fn ask(tx: &mut Tx, id: &ConversationId, now_ms: i64) -> Result<()> {
    tx.enqueue("refresh", id.as_str(), "{}", now_ms + COALESCE_MS, now_ms).await
}

async fn write_ticket(tx: &mut Tx, id: &ConversationId, plan: &TicketPlan) -> Result<()> {
    if let Some(ticket) = &plan.write {
        tx.put_ticket(id, ticket).await?;
    }
    for change in &plan.changes {
        tx.add_ticket_change(id, change).await?;
    }
    Ok(())
}

/// Files that are at Intercom are known by their place from now on; those of a message that was taken back go.
async fn remember_files(tx: &mut Tx, conversation: &ConversationId, message: &Message) -> Result<()> {
    if message.redacted {
        tx.withdraw_notices(conversation, &message.id).await?;
        return tx.give_up_files(conversation, &message.id).await;
    }
    // Ours have no address of Intercom's.
    for file in &message.attachments {
        let Some(id) = FileId::parse(&file.id) else { continue };
        if file.url.is_empty() {
            continue;
        }
        let (message, name, content_type) = (message.id.clone(), file.name.clone(), file.content_type.clone());
        let conversation = conversation.clone();
        tx.put_remote_file(&RemoteFile { id, conversation, message, name, content_type }).await?;
    }
    Ok(())
}

/// Whether the user would see a difference: formatting that comes later is none.
fn tells_streams(base: &Base, changed: &Conversation) -> bool {
    let before = &base.conversation;
    let moved = (before.last_position, before.unread) != (changed.last_position, changed.unread);
    !changed.hidden && (base.is_new || moved)
}

/// What a snapshot is held against.
struct Base {
    conversation: Conversation,
    rows: Vec<Outbound>,
    is_new: bool,
}

/// The conversation in the mirror, made where it is new and one of our users owns it.
async fn base(tx: &mut Tx, snapshot: &Snapshot, origin: &Origin, now_ms: i64) -> Result<Option<Base>> {
    if let Some(conversation) = tx.mirrored(&snapshot.id).await? {
        let rows = tx.outbound_candidates(&conversation.user, &conversation.id, false).await?;
        return Ok(Some(Base { conversation, rows, is_new: false }));
    }
    let Some(user) = tx.user_of(&snapshot.contacts, &snapshot.users).await? else { return Ok(None) };
    if tx.stays_erased(&user, &snapshot.id, snapshot.created_at).await? {
        return Ok(None);
    }
    let rows = tx.outbound_candidates(&user, &snapshot.id, true).await?;
    let opening = mirror::creator(&rows, snapshot, origin).map(draft::opening).transpose()?.unwrap_or_default();
    let mut conversation = first(snapshot, user, opening.topic, opening.source_hidden, now_ms);
    conversation.hidden = mirror::is_duplicate(&rows, snapshot, origin);
    if !tx.insert_conversation(&conversation).await? {
        // Another node was faster, and has committed: it is here now, and ours to add to.
        return Box::pin(base(tx, snapshot, origin, now_ms)).await;
    }
    if conversation.hidden {
        tracing::warn!(conversation = %snapshot.id, "intercom made a conversation twice; the second is closed and hidden");
        tx.enqueue("duplicate", snapshot.id.as_str(), "{}", now_ms, now_ms).await?;
    }
    Ok(Some(Base { conversation, rows, is_new: true }))
}

pub(super) fn first(
    snapshot: &Snapshot,
    user: UserId,
    topic: Option<Topic>,
    source_hidden: bool,
    now_ms: i64,
) -> Conversation {
    let state = snapshot.state.unwrap_or(State::Open);
    Conversation {
        id: snapshot.id.clone(),
        user,
        state,
        snoozed_until: snapshot.snoozed_until.filter(|_| state == State::Snoozed),
        rated: snapshot.rated_by_tag.unwrap_or(false),
        rated_here: false,
        is_ticket: snapshot.is_ticket,
        topic,
        source_hidden,
        created_at: snapshot.created_at,
        updated_at: snapshot.updated_at,
        hidden: false,
        truth_ms: 0,
        whole_at: 0,
        whole_ms: 0,
        active_ms: arrival_ms(snapshot.created_at, now_ms),
        last_position: now_ms.div_euclid(1000),
        read_position: 0,
        unread: 0,
        revision: 0,
    }
}

/// When a message counts as having come: now, unless it is history that is being taken over.
pub(super) fn arrival_ms(created_at: i64, now_ms: i64) -> i64 {
    const HISTORY_MS: i64 = 300_000;
    let created_ms = created_at.saturating_mul(1000);
    if now_ms - created_ms > HISTORY_MS { created_ms } else { now_ms }
}

impl From<CallError> for Error {
    fn from(cause: CallError) -> Self {
        let retry_after_s = cause.retry_after().map_or(1, |wait| wait.as_secs() + 1);
        Self::Unavailable { retry_after_s, cause: Some(Box::new(cause)) }
    }
}
