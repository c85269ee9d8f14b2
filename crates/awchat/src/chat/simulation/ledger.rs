//! What was promised to whom, and whether it was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::World;
use super::intercom::Truth;
use crate::chat::draft::Draft;
use crate::chat::mirror::{self, Origin};
use crate::chat::requests::Outcome;
use crate::chat::sync::first;
use crate::id::ConversationId;
use crate::model::{AuthorKind, Message};
use crate::store::outbound::{Journal, Outbound};

/// The books.
#[derive(Default)]
pub(super) struct Ledger {
    /// By identity of the request: how many are at work, and whether the last answer was 502.
    asked: BTreeMap<String, (u32, bool)>,
    /// By row: the messages it was the answer to.
    acknowledged: BTreeMap<String, BTreeSet<u64>>,
    /// The words of messages without a key whose client has lost a connection: nobody can tell what it has asked for again.
    pub(super) doubtful: BTreeSet<String>,
    /// What each poller was shown, newest last.
    pub(super) shown: Vec<Shown>,
}

/// What one poller was shown.
pub(super) struct Shown {
    pub(super) conversation: ConversationId,
    pub(super) messages: BTreeMap<String, Message>,
}

impl Ledger {
    /// Whether the client was told 502 about it and has not asked again.
    pub(super) fn is_told(&self, row: &Outbound) -> bool {
        let identity = |last: &str| format!("{} {} {last}", row.user, row.route);
        let keyed = row.key.as_ref().map(|key| self.state(&identity(key)));
        let keyless = self.state(&identity(&row.fingerprint));
        let all = keyed.into_iter().chain([keyless]).flatten();
        let (live, told): (Vec<_>, Vec<_>) = all.partition(|(live, told)| *live > 0 || !told);
        live.is_empty() && !told.is_empty()
    }

    fn state(&self, identity: &str) -> Option<(u32, bool)> {
        self.asked.get(identity).copied()
    }

    /// A client asks.
    pub(super) fn asks(&mut self, draft: &Draft) {
        let asked = self.asked.entry(identity(draft)).or_default();
        *asked = (asked.0 + 1, false);
    }

    /// A client has its answer, or has lost the connection.
    pub(super) fn hears(&mut self, draft: &Draft, is_told: bool) {
        let asked = self.asked.entry(identity(draft)).or_default();
        *asked = (asked.0.saturating_sub(1), is_told);
    }
}

fn identity(draft: &Draft) -> String {
    let last = draft.key.clone().unwrap_or_else(|| draft.fingerprint());
    format!("{} {} {last}", draft.user, draft.route())
}

impl World {
    /// Nothing is sent for which the client was told that it was not, unless it asked again.
    pub(super) fn watch_request(&self, row: &Outbound) {
        self.figures.borrow_mut().requests += 1;
        if self.ledger.borrow().is_told(row) {
            self.violate(format!("{} is sent although its client was told 502 and did not ask again", row.id));
        }
    }

    /// A client was told 201. `doubtful`: without a key it asked again after a broken connection.
    pub(super) fn acknowledged(&self, message: u64, outcome: &Outcome, doubtful: bool) {
        let Outcome::Sent { row, sent, .. } = outcome else { return };
        self.log(|| format!("message {message} is acknowledged as {row}"));
        if self.parts_of(row) == 0 && !self.options.beyond_the_promise {
            self.violate(format!("{row} is acknowledged and not at Intercom: {}", sent.body));
        }
        let mut ledger = self.ledger.borrow_mut();
        let messages = ledger.acknowledged.entry(row.clone()).or_default();
        messages.insert(message);
        let shared = messages.len() > 1 && !doubtful;
        drop(ledger);
        if shared {
            self.violate(format!("{row} is the answer to two messages"));
        }
    }

    /// A poller is shown messages.
    pub(super) fn show(&self, poller: usize, messages: Vec<Message>) {
        let mut ledger = self.ledger.borrow_mut();
        let shown = &mut ledger.shown[poller];
        for message in messages {
            let before = shown.messages.insert(message.id.clone(), message.clone());
            let is_edit = before.as_ref().is_none_or(|before| before.redacted != message.redacted);
            if !is_edit {
                self.violate(format!("poller {poller} is shown {} of {} again", message.id, shown.conversation));
            }
        }
    }

    fn parts_of(&self, row: &str) -> usize {
        let intercom = self.intercom.borrow();
        let ours = intercom.conversations.values().flat_map(|truth| &truth.ours);
        ours.filter(|(_, of, _)| of == row).count()
    }

    /// When all is quiet.
    pub(super) fn check_the_end(self: &Rc<Self>) {
        for row in self.outbound_where(|_| true) {
            let parts = self.parts_of(&row.id);
            let acknowledged = self.ledger.borrow().acknowledged.contains_key(&row.id);
            if acknowledged && parts == 0 && !self.options.beyond_the_promise {
                self.violate(format!("{} was acknowledged and is lost", row.id));
            }
            if parts > 1 && !self.options.beyond_the_promise {
                self.violate(format!("{} is at Intercom {parts} times", row.id));
            }
            if matches!(row.state, Journal::Sending | Journal::Unknown) {
                self.violate(format!("{} is {:?} for ever", row.id, row.state));
            }
        }
        let intercom = self.intercom.borrow();
        if !self.options.beyond_the_promise {
            self.check_words(intercom.conversations.values());
        }
        for (id, truth) in &intercom.conversations {
            self.check_mirror(id, truth);
            if self.options.beyond_the_promise {
                self.check_doubles(id, truth);
            } else {
                self.check_pollers(id, truth);
            }
        }
        if let Some((name, _)) = self.database.borrow().inbox.first_key_value() {
            self.violate(format!("webhook {name} is never applied"));
        }
    }

    /// What somebody says once is at Intercom once, in however many rows; "ok" is said often.
    fn check_words<'a>(&self, conversations: impl Iterator<Item = &'a Truth>) {
        let mut said = BTreeSet::new();
        for (part, row, _) in conversations.flat_map(|truth| &truth.ours) {
            let Some(words) = self.outbound(row).map(|row| row.body).filter(|words| words.starts_with("message "))
            else {
                continue;
            };
            if !self.ledger.borrow().doubtful.contains(&words) && !said.insert(words.clone()) {
                self.violate(format!("{words:?} is at Intercom again, as {part} of {row}"));
            }
        }
    }

    /// The mirror is what a mirror built anew would be.
    fn check_mirror(&self, id: &ConversationId, truth: &Truth) {
        let database = self.database.borrow();
        let Some(mirrored) = database.conversations.get(id) else {
            // Nobody was told of it: it can be one that came after its creation was given up.
            self.violate(format!("conversation {id} is not in the mirror"));
            return;
        };
        let user = mirrored.user.clone();
        let fresh = first(&truth.snapshot, user, mirrored.topic.clone(), mirrored.source_hidden, 0);
        let answer = Origin::Answer { asked_ms: i64::MAX, of: None };
        let plan = mirror::plan(&fresh, &[], &[], &truth.snapshot, &answer);
        if (mirrored.state, mirrored.snoozed_until) != plan.state.unwrap_or((fresh.state, fresh.snoozed_until)) {
            self.violate(format!("{id} is {:?} in the mirror, {:?} at Intercom", mirrored.state, truth.snapshot.state));
        }
        let here = database.messages.iter().filter(|((of, _), kept)| of == id && !(kept.opening && kept.hidden));
        if mirrored.hidden {
            return;
        }
        let mut here: BTreeMap<&str, (&Message, bool)> =
            here.map(|((_, message), kept)| (message.as_str(), (&kept.message, kept.opening))).collect();
        for put in &plan.put {
            // The answer to a creation names the opening message otherwise than later ones.
            let same = |(name, (_, opening)): (&&str, &(&Message, bool))| {
                **name == put.message.id || (put.opening && *opening)
            };
            let name = here.iter().find(|entry| same(*entry)).map(|(name, _)| *name);
            let Some((message, _)) = name.and_then(|name| here.remove(name)) else {
                self.violate(format!("{} of {id} is not in the mirror", put.message.id));
                continue;
            };
            let same_id = Message { id: put.message.id.clone(), ..message.clone() };
            if same_id != put.message {
                self.violate(format!("{id} has {message:?} in the mirror, {:?} at Intercom", put.message));
            }
        }
        if let Some(name) = here.keys().next() {
            self.violate(format!("{name} of {id} is in the mirror alone"));
        }
    }

    /// Each poller was shown each message; that none came twice is checked as they come.
    fn check_pollers(&self, id: &ConversationId, truth: &Truth) {
        let database = self.database.borrow();
        let hides_source = database.conversations.get(id).is_some_and(|mirrored| mirrored.source_hidden);
        for (poller, shown) in
            self.ledger.borrow().shown.iter().enumerate().filter(|(_, shown)| shown.conversation == *id)
        {
            let expected = truth.snapshot.messages.len() - usize::from(hides_source);
            if shown.messages.len() != expected {
                let ids: Vec<&String> = shown.messages.keys().collect();
                self.violate(format!("poller {poller} of {id} was shown {} of {expected}: {ids:?}", ids.len()));
            }
        }
    }

    /// Beyond the promise a message may be at Intercom twice; shown it is once. Of messages with the same words, the
    /// double of one is as good as the other.
    fn check_doubles(&self, id: &ConversationId, truth: &Truth) {
        let database = self.database.borrow();
        let sent = self.outbound_where(|row| row.state == Journal::Sent && row.conversation.as_ref() == Some(id));
        let mut rows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (part, row, _) in &truth.ours {
            let said = truth.snapshot.messages.iter().find(|seen| seen.message.id == *part);
            rows.entry(said.map_or("", |seen| &seen.message.body)).or_default().insert(row);
        }
        for row in &sent {
            rows.entry(&row.body).or_default().insert(&row.id);
        }
        for (body, rows) in rows {
            let kept = database.messages.iter().filter(|((of, _), kept)| of == id && (!kept.hidden || kept.opening));
            let shown =
                kept.filter(|(_, kept)| kept.message.author.kind == AuthorKind::User && kept.message.body == body);
            let (shown, sent) = (shown.count(), sent.iter().filter(|row| row.body == body).count());
            let hidden_opening =
                usize::from(database.conversations.get(id).is_some_and(|mirrored| mirrored.source_hidden));
            if shown + hidden_opening < sent || shown > rows.len() {
                self.violate(format!("{body:?} of {id} is shown {shown} times; {sent} were found, of {rows:?}"));
            }
        }
    }
}
