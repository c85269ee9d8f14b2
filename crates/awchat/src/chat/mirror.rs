//! Pure: what Intercom showed us, held against what we have, becomes what to write.
//!
//! Whatever is lost, doubled, late or out of order, the same conversation at Intercom gives the same mirror:
//! a message is known by its id, content changes only on Intercom's own answer (a webhook may be hours old),
//! and the state follows Intercom's `updated_at`, where an answer breaks the tie of equal seconds.

use sha2::{Digest, Sha256};

use super::attachments::files_of;
use super::draft::Attached;
use super::journal;
use super::view::{self, Seen, Snapshot};
use crate::model::{AuthorKind, Message, State};
use crate::store::conversations::Conversation;
use crate::store::messages::Known;
use crate::store::outbound::{Journal, Kind, Outbound};

mod ticket;

pub use ticket::{TicketPlan, plan_ticket};

/// Where a snapshot comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A webhook: a hint, however old.
    Webhook,
    /// Intercom's answer to a question asked at this time by Intercom's clock, Unix milliseconds, or later.
    Answer {
        /// When the question was asked.
        asked_ms: i64,
        /// The row of the journal whose message the answer holds.
        of: Option<String>,
    },
}

/// What to write.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages to store, in the order in which they get their positions.
    pub put: Vec<Put>,
    /// State and snooze, where they change.
    pub state: Option<(State, Option<i64>)>,
    /// `rated`, where it changes.
    pub rated: Option<bool>,
    /// It turned out to be a ticket.
    pub becomes_ticket: bool,
    /// The `updated_at` to keep.
    pub updated_at: i64,
    /// The `truth_ms` to keep.
    pub truth_ms: i64,
    /// Everything up to this `updated_at` is here, as asked for at this time.
    pub whole: Option<(i64, i64)>,
    /// A hint told us something new that is not our own doing: ask Intercom.
    pub ask: bool,
}

/// A message to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// As shown.
    pub message: Message,
    /// Of the normalised content.
    pub fingerprint: String,
    /// It opened the conversation.
    pub opening: bool,
    /// What it is to what we have.
    pub kind: PutKind,
    /// A late duplicate of a message that is already there: not shown.
    pub hidden: bool,
    /// The row of the journal that this message is.
    pub binds: Option<String>,
}

/// What a message is to what we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutKind {
    /// It is new.
    New,
    /// Its words are others: it is shown again.
    Edit,
    /// The same words with the formatting that a webhook lacks: no reason to show it again.
    Polish,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.state.is_none() && self.rated.is_none() && !self.becomes_ticket
    }
}

/// Whether a conversation that the mirror does not have yet was made by a request that had made one before. One that
/// another request may have made is not: people begin two with the same words, and with the same topic often.
pub fn is_duplicate(rows: &[Outbound], snapshot: &Snapshot, origin: &Origin) -> bool {
    if creator(rows, snapshot, origin).is_some() {
        return false;
    }
    snapshot.messages.iter().any(|seen| {
        let of = |row: &&Outbound| {
            row.kind == Kind::Create
                && row.state == Journal::Sent
                && row.attempts > 1
                && row.conversation.as_ref().is_some_and(|own| *own != snapshot.id)
                && row.content == content_of(seen)
        };
        seen.is_source && seen.message.author.kind == AuthorKind::User && rows.iter().any(|row| of(&row))
    })
}

/// The fingerprint of a message's content: alike for HTML and plain text of the same words.
pub fn fingerprint(message: &Message) -> String {
    if message.redacted {
        return "redacted".to_owned();
    }
    let mut digest = Sha256::new();
    // Of the HTML: as text, a link that Intercom made of an address would be spelled out.
    digest.update(view::normalised_html(&message.html));
    // A user's own files have other names at Intercom than here, and no others ever come to a message.
    for attachment in message.attachments.iter().filter(|_| message.author.kind != AuthorKind::User) {
        digest.update([0]);
        digest.update(&attachment.name);
    }
    hex::encode(digest.finalize())
}

/// The fingerprint of a body a user wants to send.
pub fn content(body: &str) -> String {
    hex::encode(Sha256::digest(view::normalised_text(body)))
}

/// The row of the journal that made a conversation which the mirror does not have yet.
pub fn creator<'a>(rows: &'a [Outbound], snapshot: &Snapshot, origin: &'a Origin) -> Option<&'a Outbound> {
    let source = snapshot.messages.iter().find(|seen| seen.is_source)?;
    Binder { rows, taken: Vec::new(), of: of(origin) }.row_of(source)
}

/// The same of a message at Intercom.
fn content_of(seen: &Seen) -> String {
    hex::encode(Sha256::digest(view::normalised_html(&seen.message.html)))
}

/// Decides what a snapshot changes. `known` holds what we have of the snapshot's messages, `rows` the journal's
/// rows that a message of the user may be, oldest first.
pub fn plan(before: &Conversation, known: &[Known], rows: &[Outbound], snapshot: &Snapshot, origin: &Origin) -> Plan {
    let mut plan = Plan { updated_at: before.updated_at, truth_ms: before.truth_ms, ..Plan::default() };
    let mut binder = Binder { rows, taken: Vec::new(), of: of(origin) };
    for seen in &snapshot.messages {
        // Intercom's answer to a creation need not name the opening message as a later answer does.
        let is_it = |known: &&Known| known.id == seen.message.id || (seen.is_source && known.opening);
        match known.iter().find(is_it) {
            None if seen.is_source && before.source_hidden => binder.bind_hidden_source(&mut plan, seen),
            Some(_) if seen.is_source && before.source_hidden => {}
            None => plan.put.push(binder.new_message(seen)),
            Some(known) => plan.put.extend(news(known, seen, origin)),
        }
    }
    plan.ask = *origin == Origin::Webhook && plan.put.iter().any(|put| put.binds.is_none());
    state(&mut plan, before, snapshot, origin);
    plan
}

fn of(origin: &Origin) -> Option<&str> {
    match origin {
        Origin::Answer { of, .. } => of.as_deref(),
        Origin::Webhook => None,
    }
}

/// News of a known message. A webhook may be older than what we have, so of its news only a redaction counts:
/// that is never taken back.
fn news(known: &Known, seen: &Seen, origin: &Origin) -> Option<Put> {
    let fingerprint = fingerprint(&seen.message);
    let is_answer = *origin != Origin::Webhook;
    let kind = if known.redacted {
        return None;
    } else if known.fingerprint != fingerprint && (seen.message.redacted || is_answer) {
        PutKind::Edit
    } else if known.fingerprint == fingerprint && is_answer && !known.polished {
        PutKind::Polish
    } else {
        return None;
    };
    let message = Message { id: known.id.clone(), ..seen.message.clone() };
    Some(Put { message, fingerprint, opening: seen.is_source, kind, hidden: false, binds: None })
}

fn state(plan: &mut Plan, before: &Conversation, snapshot: &Snapshot, origin: &Origin) {
    let newer = snapshot.updated_at > before.updated_at;
    let same_second = snapshot.updated_at == before.updated_at;
    let seen = snapshot.state.map(|state| (state, snapshot.snoozed_until.filter(|_| state == State::Snoozed)));
    let differs = seen.is_some_and(|seen| seen != (before.state, before.snoozed_until));
    let applies = match origin {
        Origin::Webhook => newer,
        Origin::Answer { asked_ms, .. } => newer || (same_second && *asked_ms >= before.truth_ms),
    };
    if applies {
        plan.updated_at = snapshot.updated_at;
        plan.state = seen.filter(|_| differs);
    }
    if let Origin::Answer { asked_ms, .. } = origin {
        plan.truth_ms = before.truth_ms.max(*asked_ms);
    }
    if let Origin::Answer { asked_ms, of: None } = origin {
        plan.whole = Some((snapshot.updated_at, *asked_ms)).filter(|whole| *whole > (before.whole_at, before.whole_ms));
    }
    if *origin == Origin::Webhook && differs && (newer || same_second) {
        plan.ask = true;
    }
    // A webhook's tags may be old: it can only add the rating. An answer may also take it away, but never the user's
    // own: its tag may still be on the way, and a second rating would be refused.
    let takes_away = applies && of_truth(origin) && !before.rated_here;
    plan.rated = snapshot.rated_by_tag.filter(|rated| *rated != before.rated && (*rated || takes_away));
    plan.becomes_ticket = snapshot.is_ticket && !before.is_ticket;
}

fn of_truth(origin: &Origin) -> bool {
    matches!(origin, Origin::Answer { of: None, .. })
}

/// Gives each message of the user at Intercom to at most one row of the journal, and each row one message.
struct Binder<'a> {
    rows: &'a [Outbound],
    taken: Vec<&'a str>,
    of: Option<&'a str>,
}

impl<'a> Binder<'a> {
    fn new_message(&mut self, seen: &Seen) -> Put {
        let row = self.row_of(seen);
        let hidden = row.is_none() && self.is_duplicate(seen);
        let message = row.map_or_else(|| seen.message.clone(), |row| as_written(seen, row));
        // With files, Intercom's words may be others than the user's.
        let is_other = row.is_some_and(|row| !files_of(row).files.is_empty());
        Put {
            fingerprint: fingerprint(if is_other { &seen.message } else { &message }),
            message,
            opening: seen.is_source,
            kind: PutKind::New,
            hidden,
            binds: row.map(|row| row.id.clone()),
        }
    }

    /// A conversation opened from a topic alone: its source is ours, and nobody sees it.
    fn bind_hidden_source(&mut self, plan: &mut Plan, seen: &Seen) {
        if let Some(row) = self.row_of(seen) {
            plan.put.push(Put {
                fingerprint: fingerprint(&seen.message),
                message: seen.message.clone(),
                opening: true,
                kind: PutKind::New,
                hidden: true,
                binds: Some(row.id.clone()),
            });
        }
    }

    fn row_of(&mut self, seen: &Seen) -> Option<&'a Outbound> {
        if seen.message.author.kind != AuthorKind::User {
            return None;
        }
        // What opens a conversation is never the reply that its answer brings it with.
        let may_be = |row: &Outbound| row.part_id.is_none() && (row.kind == Kind::Create || !seen.is_source);
        let named = self.rows.iter().find(|row| self.of == Some(row.id.as_str()) && may_be(row));
        // One that is on its way before one that was given up: that came too late, if at all.
        let fitting = |blocks| self.rows.iter().find(|row| journal::blocks(row) == blocks && self.fits(row, seen));
        let row = named.or_else(|| fitting(true)).or_else(|| fitting(false))?;
        self.taken.push(&row.id);
        // The answer to one request holds one message of ours.
        self.of = self.of.filter(|of| *of != row.id);
        Some(row)
    }

    fn fits(&self, row: &Outbound, seen: &Seen) -> bool {
        let open = matches!(row.state, Journal::Sending | Journal::Unknown | Journal::Abandoned);
        open && row.part_id.is_none()
            && !self.taken.contains(&row.id.as_str())
            && seen.message.created_at >= row.created_ms.div_euclid(1000) - CLOCK_DIFFERENCE_S
            && row.content == content_of(seen)
    }

    /// A second message with the words of one that we sent more than once without knowing; the first may have come with
    /// it.
    fn is_duplicate(&self, seen: &Seen) -> bool {
        let has_another = |row: &Outbound| {
            let is_sent =
                row.state == Journal::Sent && row.part_id.as_deref().is_some_and(|part| part != seen.message.id);
            is_sent || self.taken.contains(&row.id.as_str())
        };
        let is_of = |row: &Outbound| row.attempts > 1 && has_another(row) && row.content == content_of(seen);
        seen.message.author.kind == AuthorKind::User && seen.from_api && self.rows.iter().any(is_of)
    }
}

/// A user's message is shown as the user wrote it, not as it came back.
fn as_written(seen: &Seen, row: &Outbound) -> Message {
    let Attached { files, shown, .. } = files_of(row);
    if seen.message.redacted || row.body.trim().is_empty() {
        return seen.message.clone();
    }
    let body = shown.unwrap_or_else(|| row.body.clone());
    let html = if body.is_empty() { String::new() } else { view::html_of_plain(&body) };
    let attachments = if files.is_empty() { seen.message.attachments.clone() } else { files };
    Message { body, html, attachments, ..seen.message.clone() }
}

/// How far Intercom's clocks may be apart when a message is looked for.
const CLOCK_DIFFERENCE_S: i64 = 5;

#[cfg(test)]
mod tests;
