//! Ordinary replies: words into one's own conversation, with nothing in the way. They go to the database together with
//! those of others, their rows before they are sent and what they have become after it.
//!
//! Whatever else there is to it (a file, an earlier attempt, another message on its way, a row that somebody holds) is
//! seen by what the statements leave out, and that message goes alone, as all others do.

use std::slice;

use crate::chat::Chat;
use crate::chat::draft::{self, Draft, Wish};
use crate::chat::journal;
use crate::chat::mirror::{self, Origin, Plan, Put, PutKind};
use crate::chat::nodes::Committing;
use crate::chat::requests::Identity;
use crate::chat::sync::arrival_ms;
use crate::chat::view::{Seen, Snapshot};
use crate::error::{Error, Result};
use crate::id::ContactId;
use crate::model::AuthorKind;
use crate::store::conversations::Conversation;
use crate::store::messages::Stored;
use crate::store::outbound::{Journal, Kind, Outbound};
use crate::store::replies::Answered;

/// A reply that Intercom has taken, and its answer.
#[derive(Debug)]
pub(in crate::chat) struct Taken {
    row: Outbound,
    snapshot: Snapshot,
    origin: Origin,
}

impl Taken {
    /// `None` where more than the message is to be stored, or less. What opened the conversation does not count: such an
    /// answer is never taken for the whole of it.
    pub(super) fn new(row: &Outbound, snapshot: &Snapshot, origin: &Origin) -> Option<Self> {
        let is_first = row.kind == Kind::Reply && row.attempts == 1;
        let is_bare = draft::opening(row).is_ok_and(|opening| opening == draft::Opening::default());
        let snapshot = snapshot.clone().of_one_message().filter(|one| is_first && is_bare && !one.is_ticket)?;
        let is_words =
            |seen: &Seen| seen.message.author.kind == AuthorKind::User && seen.message.attachments.is_empty();
        let is_ordinary = snapshot.messages.iter().all(is_words);
        is_ordinary.then(|| Self { row: row.clone(), snapshot, origin: origin.clone() })
    }
}

/// What one of them leaves.
struct Leaves {
    changed: Conversation,
    put: Put,
    row: Outbound,
}

impl Chat {
    /// The row of a message that is new and ordinary, durably `sending`, and the contact as which it goes. `None`: it goes
    /// the way of all others.
    pub(super) async fn begin_ordinary(
        &self,
        draft: &Draft,
        identity: &Identity,
    ) -> Result<Option<(Outbound, ContactId)>> {
        let is_ordinary =
            draft.conversation.is_some() && draft.wish == Wish::Talk && draft.opening == draft::Opening::default();
        if !is_ordinary || self.intercom.gate().is_err() {
            return Ok(None);
        }
        let now_ms = self.clock.now_ms();
        self.store.stay_if_due(now_ms).await?;
        let row = draft.row(now_ms, self.intercom.behind_ms())?;
        if !self.requests.take_on(identity, &row.id, false) {
            return Ok(None);
        }
        let begin = async |rows: Vec<Outbound>| {
            let stored = self.store.insert_replies(&rows, now_ms - journal::ADOPT_MS).await.unwrap_or_else(|error| {
                tracing::warn!(cause = ?error, replies = rows.len(), "replies could not be stored together");
                Vec::new()
            });
            let contact =
                |row: &Outbound| stored.iter().find(|(id, _)| *id == row.id).map(|(_, contact)| contact.clone());
            rows.iter().map(contact).collect()
        };
        let Some(contact) = self.beginning.go(row.clone(), begin).await.flatten() else { return Ok(None) };
        // Intercom has not been asked yet.
        self.requests.is_row_unanswered(&row);
        Ok(Some((row, contact)))
    }

    /// Stores what Intercom has answered to an ordinary reply; the row as it is then. `None`: it is to be applied as any
    /// other answer.
    pub(super) async fn end_ordinary(&self, taken: Taken) -> Option<Outbound> {
        let end = async |taken: Vec<Taken>| {
            let sent = self.bind_all(&taken).await.unwrap_or_else(|error| {
                tracing::warn!(cause = ?error, replies = taken.len(), "answers could not be stored together");
                Vec::new()
            });
            taken.iter().map(|one| sent.iter().find(|row| row.id == one.row.id).cloned()).collect()
        };
        self.ending.go(taken, end).await.flatten()
    }

    /// The rows of those that are stored.
    async fn bind_all(&self, taken: &[Taken]) -> Result<Vec<Outbound>> {
        let now_ms = self.clock.now_ms();
        let mut tx = self.store.begin_shared().await?;
        let ids: Vec<_> = taken.iter().map(|one| &one.snapshot.id).collect();
        let mirrored = tx.mirrored_unheld(&ids).await?;
        let mut leaves = Vec::new();
        for one in taken {
            if let Some(conversation) = mirrored.iter().find(|mirrored| mirrored.id == one.snapshot.id) {
                leaves.extend(self.leaves(one, conversation, now_ms)?);
            }
        }
        let mut replies: Vec<Answered<'_>> = leaves.iter().map(Leaves::answered).collect();
        let told = if replies.is_empty() { Default::default() } else { tx.bind_replies(&replies).await? };
        replies.retain(|reply| told.contains_key(&reply.row.id));
        if replies.is_empty() {
            tx.withdraw().await?;
            return Ok(Vec::new());
        }
        if !tx.put_replies(&replies, now_ms).await? {
            tx.withdraw().await?;
            return Err(Error::internal("a message is here whose row knew nothing of it"));
        }
        replies.iter().for_each(|reply| self.requests.is_row_unanswered(reply.row));
        let committing: Vec<_> = replies.iter().map(|reply| self.committing(&reply.conversation.id)).collect();
        tx.commit().await?;
        committing.into_iter().for_each(Committing::done);
        let mut sent = Vec::with_capacity(replies.len());
        for Leaves { changed, put, row } in leaves {
            let Some(told) = told.get(&row.id) else { continue };
            self.publish(&changed);
            self.echoes.expect(changed, &put);
            sent.push(Outbound { told: *told, ..row });
        }
        Ok(sent)
    }

    /// What an answer leaves, by the mirror's own plan; `None` where that is more than an ordinary reply.
    fn leaves(&self, taken: &Taken, before: &Conversation, now_ms: i64) -> Result<Option<Leaves>> {
        let Taken { row, snapshot, origin } = taken;
        if before.is_ticket || before.hidden || before.user != row.user {
            return Ok(None);
        }
        let Plan { put, state, rated, becomes_ticket, updated_at, truth_ms, whole, ask } =
            mirror::plan(before, &[], slice::from_ref(row), snapshot, origin);
        let ([put], false, None, false) = (&put[..], becomes_ticket, whole, ask) else { return Ok(None) };
        let is_it = put.kind == PutKind::New && !put.hidden && put.binds.as_deref() == Some(&*row.id);
        if !is_it || put.message.redacted {
            return Ok(None);
        }
        let mut changed = before.clone();
        if state.is_some() || rated.is_some() {
            changed.last_position = changed.next_position(now_ms);
        }
        changed.last_position = changed.next_position(now_ms);
        (changed.state, changed.snoozed_until) = state.unwrap_or((changed.state, changed.snoozed_until));
        changed.rated = rated.unwrap_or(changed.rated);
        (changed.updated_at, changed.truth_ms) = (updated_at, truth_ms);
        changed.active_ms = changed.active_ms.max(arrival_ms(put.message.created_at, now_ms));
        changed.revision += 1;
        let sent = Outbound {
            state: Journal::Sent,
            part_id: Some(put.message.id.clone()),
            response: Some(draft::response(row, put, &changed)?),
            ..row.clone()
        };
        Ok(Some(Leaves { changed, put: put.clone(), row: sent }))
    }
}

impl Leaves {
    fn answered(&self) -> Answered<'_> {
        let Self { changed, put, row } = self;
        let message = Stored {
            message: &put.message,
            fingerprint: &put.fingerprint,
            opening: false,
            hidden: false,
            polished: true,
        };
        Answered { row, message, conversation: changed }
    }
}
