//! `sending`, step by step: the same names in the same order, over the simulated database and Intercom.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::database::Tx;
use super::time::TaskId;
use super::{Fault, Mutation, Result, World};
use crate::chat::draft::Draft;
use crate::chat::heads::Heads;
use crate::chat::journal::{self, Next};
use crate::chat::mirror::Origin;
use crate::chat::requests::{Identity, Outcome, Requests, Sent};
use crate::id::{ContactId, ConversationId, UserId};
use crate::intercom::CallError;
use crate::intercom::offset::Offset;
use crate::store::outbound::{Journal, Outbound, Told};

/// The domain on one node.
#[derive(Clone)]
pub(super) struct Chat {
    pub(super) world: Rc<World>,
    pub(super) node: usize,
    pub(super) memory: Rc<Memory>,
}

/// What a node loses when it dies.
pub(super) struct Memory {
    pub(super) turns: RefCell<BTreeMap<String, Vec<(u64, TaskId)>>>,
    pub(super) requests: Requests,
    pub(super) heads: Heads,
    /// Where Intercom's clock stands.
    pub(super) offset: RefCell<Offset>,
}

impl Default for Memory {
    fn default() -> Self {
        let (turns, offset) = (RefCell::default(), RefCell::default());
        Self { turns, requests: Requests::default(), heads: Heads::new(64), offset }
    }
}

/// What a client sees of how sending ended.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Outcome(Outcome),
    Conflict,
    Broken,
}

enum Looked {
    Ended(Outbound),
    Absent(Outbound),
    Open(Outbound),
}

enum Begun {
    Attempt(Outbound),
    Not(Outbound),
}

enum Attempted {
    Done(Outbound),
    Refused,
    NotApplied(Outbound),
}

impl Chat {
    pub(super) fn now_ms(&self) -> i64 {
        self.world.time.now_ms() + self.world.nodes.borrow()[self.node].ahead_ms
    }

    pub(super) async fn begin(&self) -> Result<Tx> {
        Tx::begin(&self.world, self.node).await
    }

    /// A read outside of transactions.
    pub(super) async fn reads(&self) {
        self.world.step(self.node).await;
    }

    pub(super) async fn send_or_find(&self, draft: &Draft, identity: &Identity) -> Result<Outcome> {
        let _turn = self.turn(turn(&draft.user, draft.conversation.as_ref())).await;
        for _ in 0..RACES {
            if let Some(outcome) = self.send_or_find_once(draft, identity).await? {
                return Ok(outcome);
            }
        }
        Ok(unavailable())
    }

    async fn send_or_find_once(&self, draft: &Draft, identity: &Identity) -> Result<Option<Outcome>> {
        let fingerprint = draft.fingerprint();
        let asked = self.memory.requests.asked(identity);
        let mut row = self.earlier(draft).await;
        if row.as_ref().is_some_and(|row| !self.memory.requests.take_on(identity, &row.id, true)) {
            return Ok(Some(unavailable()));
        }
        if row.is_some() {
            self.memory.requests.is_unanswered(identity, asked);
        }
        if let Some(known) = row.take_if(|_| draft.key.is_none()) {
            row = Some(self.advance(&known.id, journal::shared).await?);
        }
        loop {
            return match journal::on_request(row.as_ref(), &fingerprint) {
                Next::Mismatch => Ok(Some(Outcome::Mismatch)),
                Next::Replay => Ok(Some(Self::replay(row))),
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

    async fn earlier(&self, draft: &Draft) -> Option<Outbound> {
        self.reads().await;
        let (route, fingerprint) = (draft.route(), draft.fingerprint());
        let since_ms = self.now_ms() - journal::ADOPT_MS;
        let is_it = |row: &Outbound| match &draft.key {
            Some(key) => row.key.as_ref() == Some(key),
            None => row.fingerprint == fingerprint && is_to_adopt(row, since_ms),
        };
        self.world.outbound_where(|row| row.user == draft.user && row.route == route && is_it(row)).pop()
    }

    async fn send(&self, row: Option<Outbound>, draft: &Draft, identity: &Identity) -> Result<Option<Outcome>> {
        let ready = self.ready(row.as_ref(), draft, identity).await?;
        let (row, contact) = match (row, ready) {
            (None, Err(retry_after_s)) => {
                let is_here = self.earlier(draft).await.is_some();
                return Ok((!is_here).then_some(Outcome::Unavailable { retry_after_s }));
            }
            (Some(row), Err(retry_after_s)) => {
                self.advance(&row.id, journal::told).await?;
                return Ok(Some(Outcome::Unavailable { retry_after_s }));
            }
            (Some(row), Ok(contact)) => match self.begin_again(&row, true).await? {
                Begun::Attempt(row) => (row, contact),
                Begun::Not(row) if row.state == Journal::Sent => return Ok(Some(Self::replay(Some(row)))),
                Begun::Not(row) if row.state == Journal::Sending => return Ok(None),
                Begun::Not(row) => return self.tell(row, identity).await.map(Some),
            },
            (None, Ok(contact)) => {
                let mut row = draft.row(self.now_ms(), self.behind_ms()).expect("a plain opening is JSON");
                row.id = format!("r{}", self.world.time.count());
                if !self.memory.requests.take_on(identity, &row.id, false) {
                    return Ok(Some(unavailable()));
                }
                if self.earlier(draft).await.is_some() {
                    return Ok(None);
                }
                let mut tx = self.begin().await?;
                if !tx.insert_outbound(&row).await? {
                    return Ok(None);
                }
                tx.commit().await?;
                self.memory.requests.is_row_unanswered(&row);
                self.world.log(|| format!("node {} accepts {}: {:?} {:?}", self.node, row.id, row.key, row.body));
                (row, contact)
            }
        };
        self.send_begun(row, contact, identity).await.map(Some)
    }

    async fn send_begun(&self, row: Outbound, contact: ContactId, identity: &Identity) -> Result<Outcome> {
        if self.memory.requests.is_told(identity) {
            self.end_attempt(&row, |row| journal::told(journal::not_applied(row, false))).await?;
            return Ok(unavailable());
        }
        match self.attempt(row, contact).await? {
            Attempted::Done(row) => self.tell(row, identity).await,
            Attempted::Refused => Ok(Outcome::Refused),
            Attempted::NotApplied(row) => {
                self.end_attempt(&row, |row| journal::told(journal::not_applied(row, false))).await?;
                Ok(unavailable())
            }
        }
    }

    async fn ready(
        &self,
        row: Option<&Outbound>,
        draft: &Draft,
        identity: &Identity,
    ) -> Result<std::result::Result<ContactId, u64>> {
        if self.memory.requests.is_told(identity) {
            return Ok(Err(1));
        }
        if self.gate().is_err() {
            return Ok(Err(1));
        }
        self.reads().await;
        let is_it = |other: &Outbound| match &draft.conversation {
            Some(_) => other.conversation == draft.conversation,
            None => other.conversation.is_none() && other.user == draft.user,
        };
        let unresolved = self.world.outbound_where(|other| journal::blocks(other) && is_it(other)).pop();
        if let Some(other) = unresolved.filter(|other| row.is_none_or(|row| row.id != other.id)) {
            let other = self.resolve(other).await?;
            if journal::blocks(&other) {
                return Ok(Err(journal::retry_after_s(&other, self.now_ms())));
            }
        }
        match self.contact_of(&draft.user).await {
            Err(Fault::Unavailable) => Ok(Err(1)),
            contact => contact.map(Ok),
        }
    }

    async fn resolve(&self, row: Outbound) -> Result<Outbound> {
        let row = match self.look(Some(row)).await? {
            Looked::Ended(row) | Looked::Open(row) => return Ok(row),
            Looked::Absent(row) => row,
        };
        if !journal::is_still_wanted(&self.mutated(&row), self.now_ms()) {
            return self.advance(&row.id, |now| journal::given_up(&row, now)).await;
        }
        let (Ok(()), Ok(contact)) = (self.gate(), self.contact_of(&row.user).await) else { return Ok(row) };
        let row = match self.begin_again(&row, false).await? {
            Begun::Attempt(row) => row,
            Begun::Not(row) => return Ok(row),
        };
        match self.attempt(row.clone(), contact).await? {
            Attempted::Done(row) => Ok(row),
            Attempted::Refused => self.advance(&row.id, |row| row).await,
            Attempted::NotApplied(row) => self.end_attempt(&row, journal::deferred).await,
        }
    }

    /// The mutation forgets what the client was told.
    fn mutated(&self, row: &Outbound) -> Outbound {
        match self.world.mutation {
            Mutation::SentAfterTold => Outbound { told: Told::Nothing, ..row.clone() },
            _ => row.clone(),
        }
    }

    async fn look(&self, row: Option<Outbound>) -> Result<Looked> {
        let row = row.ok_or(Fault::Database)?;
        let row = match row.state {
            Journal::Sending => {
                let now_ms = self.now_ms();
                self.orphaned(&row, now_ms).await?
            }
            _ => row,
        };
        let asked_ms = self.now_ms();
        let looked = match &row.conversation {
            Some(conversation) => self.refresh(conversation).await.map(|_| ()),
            None => self.look_for_new_conversations(&row).await,
        };
        let has_answer = match looked {
            Ok(()) => true,
            Err(Fault::Unavailable) => false,
            Err(other) => return Err(other),
        };
        let (mut seen, row) = (row.clone(), self.advance(&row.id, |row| row).await?);
        if self.world.mutation == Mutation::AgainUnseen {
            seen = row.clone();
        }
        Ok(match journal::blocks(&row) {
            false => Looked::Ended(row),
            true if has_answer && journal::is_absent(&seen, &row, asked_ms) => Looked::Absent(row),
            true => Looked::Open(row),
        })
    }

    async fn look_for_new_conversations(&self, row: &Outbound) -> Result<()> {
        self.reads().await;
        let Some(contact) = self.world.database.borrow().contacts.get(&row.user).cloned() else { return Ok(()) };
        for snapshot in self.search_of_contact(&contact).await.map_err(|_| Fault::Unavailable)? {
            let recent = snapshot.created_at >= row.created_ms.div_euclid(1000) - 60;
            self.reads().await;
            let is_here = self.world.database.borrow().conversations.contains_key(&snapshot.id);
            if recent && !is_here {
                self.refresh(&snapshot.id).await?;
            }
        }
        Ok(())
    }

    async fn begin_again(&self, seen: &Outbound, asked: bool) -> Result<Begun> {
        let mut tx = self.begin().await?;
        let row = tx.outbound(&seen.id).await?;
        let seen = if self.world.mutation == Mutation::AgainUnseen { &row } else { seen };
        let Some(next) = journal::again(seen, self.mutated(&row), asked, self.now_ms()) else {
            return Ok(Begun::Not(row));
        };
        if !tx.update_outbound(&next).await? {
            return Ok(Begun::Not(row));
        }
        tx.commit().await?;
        self.world.log(|| format!("node {} begins {} again, asked: {asked}", self.node, next.id));
        Ok(Begun::Attempt(next))
    }

    async fn attempt(&self, row: Outbound, contact: ContactId) -> Result<Attempted> {
        let posted = self.post(&row, &contact).await;
        match posted {
            Ok(()) => {
                let row = self.advance(&row.id, |row| row).await?;
                if row.state == Journal::Sent { Ok(Attempted::Done(row)) } else { self.unknown(row, true).await }
            }
            Err(CallError::Ambiguous { answered }) => self.unknown(row, answered).await,
            Err(CallError::Rejected { .. }) => {
                self.end_attempt(&row, |row| journal::not_applied(row, true)).await?;
                Ok(Attempted::Refused)
            }
            Err(_not_applied) => Ok(Attempted::NotApplied(row)),
        }
    }

    async fn post(&self, row: &Outbound, contact: &ContactId) -> Result<(), CallError> {
        let asked = self.world.time.now_ms();
        self.world.stumble(self.node);
        let snapshot = self.write(row, contact).await?;
        let asked_ms = self.intercom_ms(asked);
        self.world.stumble(self.node);
        let applied = self.apply(&snapshot, &Origin::Answer { asked_ms, of: Some(row.id.clone()) }).await;
        applied.map(|_| ()).map_err(|_| CallError::Ambiguous { answered: true })
    }

    async fn unknown(&self, row: Outbound, answered: bool) -> Result<Attempted> {
        let now_ms = self.now_ms();
        let patience = self.world.patience();
        let row = self.end_attempt(&row, |row| journal::unknown(row, answered, now_ms, patience)).await?;
        let (Looked::Ended(row) | Looked::Open(row) | Looked::Absent(row)) = self.look(Some(row)).await?;
        Ok(Attempted::Done(row))
    }

    fn replay(row: Option<Outbound>) -> Outcome {
        answer(&row.expect("a row to replay"), true)
    }

    async fn tell(&self, row: Outbound, identity: &Identity) -> Result<Outcome> {
        let asked = self.memory.requests.asked(identity);
        let row = self.advance(&row.id, journal::told).await?;
        if row.told != Told::Sent {
            self.memory.requests.is_unanswered(identity, asked);
        }
        match row.state {
            Journal::Sent => Ok(answer(&row, false)),
            _ => Ok(Outcome::Unavailable { retry_after_s: journal::retry_after_s(&row, self.now_ms()) }),
        }
    }

    async fn end_attempt(&self, row: &Outbound, step: impl FnOnce(Outbound) -> Outbound) -> Result<Outbound> {
        self.advance(&row.id, |now| journal::after_attempt(row, now, step)).await
    }

    pub(super) async fn advance(&self, id: &str, step: impl FnOnce(Outbound) -> Outbound) -> Result<Outbound> {
        let mut tx = self.begin().await?;
        let row = tx.outbound(id).await?;
        let next = if row.state == Journal::Sent { row.clone() } else { step(row.clone()) };
        if next != row {
            if !tx.update_outbound(&next).await? {
                return Err(Fault::Unique);
            }
            if next.state == Journal::Unknown && row.state != Journal::Unknown {
                tx.enqueue("settle", id, self.true_ms(self.now_ms() + journal::LOOK_MS));
            }
            tx.commit().await?;
            self.world.log(|| {
                format!("node {} takes {id} from {:?} to {:?}, {:?}", self.node, row.state, next.state, next.told)
            });
        }
        Ok(next)
    }

    /// A job. `Some`: and again after so many milliseconds.
    pub(super) async fn settle(&self, id: &str) -> Result<Option<i64>> {
        self.reads().await;
        let Some(row) = self.world.outbound(id) else { return Ok(None) };
        let _turn = self.turn(turn(&row.user, row.conversation.as_ref())).await;
        let row = self.advance(id, |row| row).await?;
        if row.state != Journal::Unknown {
            return Ok(None);
        }
        let row = self.resolve(row).await?;
        Ok(journal::blocks(&row).then(|| journal::next_look_ms(&row, self.now_ms())))
    }

    pub(super) async fn recover(&self) -> Result<()> {
        let now_ms = self.now_ms();
        self.reads().await;
        for row in self.world.outbound_where(journal::blocks) {
            if row.state == Journal::Sending {
                self.orphaned(&row, now_ms).await?;
            }
            self.enqueue("settle", &row.id, now_ms).await?;
        }
        Ok(())
    }

    pub(super) async fn recover_forgotten(&self) -> Result<()> {
        let now_ms = self.now_ms();
        self.reads().await;
        for row in self.world.outbound_where(|row| journal::is_forgotten(row, now_ms, self.world.patience())) {
            self.orphaned(&row, now_ms).await?;
        }
        Ok(())
    }

    async fn orphaned(&self, row: &Outbound, now_ms: i64) -> Result<Outbound> {
        self.advance(&row.id, |now| journal::orphaned_as_seen(row, now, now_ms, self.world.patience())).await
    }

    async fn contact_of(&self, user: &UserId) -> Result<ContactId> {
        self.reads().await;
        if let Some(contact) = self.world.database.borrow().contacts.get(user) {
            return Ok(contact.clone());
        }
        let _turn = self.turn(format!("contact {user}")).await;
        self.world.time.sleep(self.world.time.between(10, 200)).await;
        if self.world.storm(50_000) {
            return Err(Fault::Unavailable);
        }
        let contact = super::clients::contact(user);
        self.world.database.borrow_mut().contacts.insert(user.clone(), contact.clone());
        Ok(contact)
    }
}

const RACES: usize = 8;

/// A row that a request without a key repeats.
fn is_to_adopt(row: &Outbound, since_ms: i64) -> bool {
    let ended_in_502 = matches!(row.state, Journal::Abandoned | Journal::Sent)
        && matches!(row.told, Told::Unavailable | Told::Shared)
        && row.attempt_ms >= since_ms;
    journal::blocks(row) || ended_in_502
}

fn turn(user: &UserId, conversation: Option<&ConversationId>) -> String {
    match conversation {
        Some(id) => format!("send {id}"),
        None => format!("open {user}"),
    }
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

pub(super) fn unavailable() -> Outcome {
    Outcome::Unavailable { retry_after_s: 1 }
}
