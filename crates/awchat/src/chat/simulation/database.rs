//! The simulated database: transactions as PostgreSQL runs them for several nodes (each statement sees what is
//! committed, a written row is locked until the end), or one at a time as SQLite does; the schema's unique indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::sending::Chat;
use super::{Fault, Mutation, Result, World};
use crate::chat::journal;
use crate::id::{ContactId, ConversationId, UserId};
use crate::model::Message;
use crate::store::conversations::Conversation;
use crate::store::messages::{Known, Stored};
use crate::store::outbound::{Journal, Kind, Outbound, Told};

/// What is committed.
#[derive(Default)]
pub(super) struct Database {
    pub(super) contacts: BTreeMap<UserId, ContactId>,
    pub(super) conversations: BTreeMap<ConversationId, Conversation>,
    pub(super) messages: BTreeMap<(ConversationId, String), Kept>,
    /// With `seq`, the order of acceptance.
    pub(super) outbound: BTreeMap<String, (u64, Outbound)>,
    /// Webhooks that wait to be applied, and the names of all that came.
    pub(super) inbox: BTreeMap<String, super::sync::Received>,
    pub(super) received: BTreeSet<String>,
    pub(super) jobs: BTreeMap<(&'static str, String), super::sync::Job>,
    pub(super) marks: BTreeMap<&'static str, i64>,
    locks: BTreeMap<String, u64>,
}

/// A stored message.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) fingerprint: String,
    pub(super) opening: bool,
    pub(super) hidden: bool,
    pub(super) polished: bool,
    pub(super) position: i64,
}

/// A transaction; dropped without [`Tx::commit`], it leaves nothing.
pub(super) struct Tx {
    world: Rc<World>,
    node: usize,
    id: u64,
    held: Vec<String>,
    conversations: BTreeMap<ConversationId, Conversation>,
    messages: BTreeMap<(ConversationId, String), Kept>,
    outbound: BTreeMap<String, (u64, Outbound)>,
    jobs: Vec<(&'static str, String, i64)>,
}

impl Drop for Tx {
    fn drop(&mut self) {
        let mut database = self.world.database.borrow_mut();
        for name in self.held.drain(..) {
            database.locks.remove(&name);
        }
    }
}

/// How long a transaction waits for a lock before it is given up.
const LOCK_WAIT_MS: i64 = 5_000;

impl Tx {
    pub(super) async fn begin(world: &Rc<World>, node: usize) -> Result<Self> {
        world.step(node).await;
        if world.fault(1_000) {
            return Err(Fault::Database);
        }
        let id = world.time.count();
        let mut tx = Self {
            world: Rc::clone(world),
            node,
            id,
            held: Vec::new(),
            conversations: BTreeMap::new(),
            messages: BTreeMap::new(),
            outbound: BTreeMap::new(),
            jobs: Vec::new(),
        };
        if world.options.nodes == 1 {
            tx.lock("database".to_owned()).await?;
        }
        Ok(tx)
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        self.world.step(self.node).await;
        if self.world.fault(500) {
            return Err(Fault::Database);
        }
        {
            let mut database = self.world.database.borrow_mut();
            database.conversations.append(&mut self.conversations);
            database.messages.append(&mut self.messages);
            database.outbound.append(&mut self.outbound);
        }
        for (kind, subject, due_ms) in self.jobs.drain(..) {
            self.world.enqueued(kind, subject, due_ms);
        }
        let (world, node) = (Rc::clone(&self.world), self.node);
        drop(self);
        world.step(node).await;
        if world.fault(500) {
            world.log(|| format!("node {node} commits, and is not told so"));
            return Err(Fault::Database);
        }
        Ok(())
    }

    async fn lock(&mut self, name: String) -> Result<()> {
        let until_ms = self.world.time.now_ms() + LOCK_WAIT_MS;
        loop {
            let holder = *self.world.database.borrow_mut().locks.entry(name.clone()).or_insert(self.id);
            if holder == self.id {
                if !self.held.contains(&name) {
                    self.held.push(name);
                }
                return Ok(());
            }
            if self.world.time.now_ms() >= until_ms {
                self.world.violate(format!("a deadlock, or a transaction that never ends: {name}"));
                return Err(Fault::Database);
            }
            self.world.time.sleep(self.world.time.between(1, 4)).await;
        }
    }

    async fn lock_conversation(&mut self, id: &ConversationId) -> Result<()> {
        self.lock(format!("conversation {id}")).await
    }

    /// The conversation; its row is locked until the end.
    pub(super) async fn mirrored(&mut self, id: &ConversationId) -> Result<Option<Conversation>> {
        self.world.statement(self.node).await;
        if self.world.mutation != Mutation::ReadsWithoutLocks {
            self.lock_conversation(id).await?;
        }
        Ok(self.read_conversation(id))
    }

    fn read_conversation(&self, id: &ConversationId) -> Option<Conversation> {
        self.conversations.get(id).cloned().or_else(|| self.world.database.borrow().conversations.get(id).cloned())
    }

    pub(super) async fn insert_conversation(&mut self, new: &Conversation) -> Result<()> {
        self.world.statement(self.node).await;
        self.lock_conversation(&new.id).await?;
        if self.read_conversation(&new.id).is_some() {
            return Err(Fault::Unique);
        }
        self.conversations.insert(new.id.clone(), new.clone());
        Ok(())
    }

    async fn conversation_to_write(&mut self, id: &ConversationId) -> Result<&mut Conversation> {
        self.world.statement(self.node).await;
        self.lock_conversation(id).await?;
        let now = self.read_conversation(id).ok_or(Fault::Database)?;
        Ok(self.conversations.entry(id.clone()).or_insert(now))
    }

    pub(super) async fn next_position(&mut self, id: &ConversationId, now_ms: i64) -> Result<i64> {
        let now_s = now_ms.div_euclid(1000) + i64::from(now_ms.rem_euclid(1000) > 0);
        let now = self.conversation_to_write(id).await?;
        now.last_position = now_s.max(now.last_position + 1);
        Ok(now.last_position)
    }

    pub(super) async fn update_conversation(&mut self, changed: &Conversation) -> Result<Conversation> {
        let now = self.conversation_to_write(&changed.id).await?;
        let (last_position, revision) = (now.last_position, now.revision + 1);
        *now = Conversation { last_position, revision, ..changed.clone() };
        Ok(now.clone())
    }

    pub(super) async fn set_whole(&mut self, id: &ConversationId, whole_at: i64, whole_ms: i64) -> Result<()> {
        let now = self.conversation_to_write(id).await?;
        (now.whole_at, now.whole_ms, now.truth_ms) = (whole_at, whole_ms, now.truth_ms.max(whole_ms));
        Ok(())
    }

    pub(super) async fn known(&mut self, conversation: &ConversationId) -> Result<Vec<Known>> {
        self.world.statement(self.node).await;
        let database = self.world.database.borrow();
        let of_it = database.messages.range((conversation.clone(), String::new())..);
        Ok(of_it.take_while(|((of, _), _)| of == conversation).map(|(_, kept)| kept.known()).collect())
    }

    pub(super) async fn put_message(&mut self, id: &ConversationId, new: &Stored<'_>, position: i64) -> Result<()> {
        self.world.statement(self.node).await;
        let kept = Kept {
            message: new.message.clone(),
            fingerprint: new.fingerprint.to_owned(),
            opening: new.opening,
            hidden: new.hidden,
            polished: new.polished,
            position,
        };
        self.keep(id, kept);
        Ok(())
    }

    pub(super) async fn polish_message(&mut self, id: &ConversationId, new: &Stored<'_>) -> Result<()> {
        self.world.statement(self.node).await;
        let before = self.world.database.borrow().messages.get(&(id.clone(), new.message.id.clone())).cloned();
        if let Some(before) = before {
            self.keep(id, Kept { message: new.message.clone(), polished: true, ..before });
        }
        Ok(())
    }

    /// What a conflict does not change stays as it was.
    fn keep(&mut self, id: &ConversationId, new: Kept) {
        let key = (id.clone(), new.message.id.clone());
        let kept = match self.world.database.borrow().messages.get(&key) {
            Some(before) => Kept { opening: before.opening, hidden: before.hidden, ..new },
            None => new,
        };
        self.messages.insert(key, kept);
    }

    /// Asks for work in the transaction that makes it necessary.
    pub(super) fn enqueue(&mut self, kind: &'static str, subject: &str, due_ms: i64) {
        self.jobs.push((kind, subject.to_owned(), due_ms));
    }

    /// The row; it is locked until the end.
    pub(super) async fn outbound(&mut self, id: &str) -> Result<Outbound> {
        self.world.statement(self.node).await;
        if self.world.mutation != Mutation::ReadsWithoutLocks {
            self.lock(format!("outbound {id}")).await?;
        }
        let own = self.outbound.get(id).map(|(_, row)| row.clone());
        own.or_else(|| self.world.outbound(id)).ok_or(Fault::Database)
    }

    /// `false`: another row has its place in one of the unique indexes.
    pub(super) async fn insert_outbound(&mut self, new: &Outbound) -> Result<bool> {
        self.world.statement(self.node).await;
        if self.conflicts(new).await? {
            return Ok(false);
        }
        let seq = self.world.time.count();
        self.outbound.insert(new.id.clone(), (seq, new.clone()));
        Ok(true)
    }

    /// As [`Tx::insert_outbound`], of a row that is there.
    pub(super) async fn update_outbound(&mut self, row: &Outbound) -> Result<bool> {
        self.world.statement(self.node).await;
        self.lock(format!("outbound {}", row.id)).await?;
        if self.conflicts(row).await? {
            return Ok(false);
        }
        let own = self.outbound.get(&row.id).map(|(seq, _)| *seq);
        let seq = own.or_else(|| self.world.database.borrow().outbound.get(&row.id).map(|(seq, _)| *seq));
        self.outbound.insert(row.id.clone(), (seq.ok_or(Fault::Database)?, row.clone()));
        Ok(true)
    }

    /// Whether a unique index has another row for this one's place; the places are locked like rows.
    async fn conflicts(&mut self, row: &Outbound) -> Result<bool> {
        for (index, place) in places(row) {
            self.lock(format!("{index} {place}")).await?;
            let database = self.world.database.borrow();
            let mut others = database.outbound.values().filter(|(_, other)| other.id != row.id);
            let taken = others.any(|(_, other)| is_same_place(index, row, other));
            drop(database);
            if taken && index == "outbound_part" {
                self.world.violate(format!("{place} is bound to two rows, one of them {}", row.id));
            }
            if taken {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn outbound_candidates(
        &mut self,
        user: &UserId,
        conversation: &ConversationId,
        is_new: bool,
    ) -> Result<Vec<Outbound>> {
        self.world.statement(self.node).await;
        let is_here = |row: &Outbound| match is_new {
            false => row.conversation.as_ref() == Some(conversation),
            true => row.kind == Kind::Create,
        };
        let may_be = |row: &Outbound| match row.state {
            Journal::Sending | Journal::Unknown => true,
            Journal::Abandoned | Journal::Sent => row.ambiguous,
            Journal::Rejected => false,
        };
        Ok(self.world.outbound_where(|row| row.user == *user && is_here(row) && may_be(row)))
    }
}

impl Kept {
    fn known(&self) -> Known {
        Known {
            id: self.message.id.clone(),
            fingerprint: self.fingerprint.clone(),
            redacted: self.message.redacted,
            opening: self.opening,
            polished: self.polished,
        }
    }
}

/// Whether two rows have the same place in this index, where the first has one.
fn is_same_place(index: &str, row: &Outbound, other: &Outbound) -> bool {
    let blocks = matches!(other.state, Journal::Sending | Journal::Unknown);
    match index {
        "outbound_key" => (&row.key, &row.user, &row.route) == (&other.key, &other.user, &other.route),
        "outbound_part" => (&row.part_id, &row.conversation) == (&other.part_id, &other.conversation),
        "outbound_one" => blocks && row.conversation == other.conversation,
        _ => blocks && other.conversation.is_none() && row.user == other.user,
    }
}

/// The row's places in the unique indexes of the schema.
fn places(row: &Outbound) -> Vec<(&'static str, String)> {
    let mut places = Vec::new();
    if let Some(key) = &row.key {
        places.push(("outbound_key", format!("{} {} {key}", row.user, row.route)));
    }
    if let (Some(part), Some(conversation)) = (&row.part_id, &row.conversation) {
        places.push(("outbound_part", format!("{conversation} {part}")));
    }
    if matches!(row.state, Journal::Sending | Journal::Unknown) {
        places.push(match &row.conversation {
            Some(conversation) => ("outbound_one", conversation.to_string()),
            None => ("outbound_new", row.user.to_string()),
        });
    }
    places
}

impl World {
    /// One row, as it is committed.
    pub(super) fn outbound(&self, id: &str) -> Option<Outbound> {
        self.database.borrow().outbound.get(id).map(|(_, row)| row.clone())
    }

    /// The rows of which this is true, in the order of acceptance.
    pub(super) fn outbound_where(&self, is_it: impl Fn(&Outbound) -> bool) -> Vec<Outbound> {
        let database = self.database.borrow();
        let mut rows: Vec<_> = database.outbound.values().filter(|(_, row)| is_it(row)).collect();
        rows.sort_by_key(|(seq, _)| *seq);
        rows.into_iter().map(|(_, row)| row.clone()).collect()
    }
}

/// What the store does in one statement.
impl Chat {
    pub(super) async fn answered_outbound(&self, id: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let row = tx.outbound(id).await?;
        let is_first = row.told != Told::Sent;
        tx.update_outbound(&Outbound { told: Told::Sent, ..row }).await?;
        tx.commit().await?;
        Ok(is_first)
    }

    pub(super) async fn tell_outbound_open(
        &self,
        user: &UserId,
        route: &str,
        fingerprint: &str,
        own: Option<&str>,
    ) -> Result<()> {
        self.reads().await;
        let is_it = |row: &Outbound| row.user == *user && row.route == route && row.fingerprint == fingerprint;
        let is_its = |row: &Outbound| journal::blocks(row) || own == Some(&row.id);
        for row in self.world.outbound_where(|row| is_its(row) && is_it(row)) {
            let mut tx = self.begin().await?;
            let row = tx.outbound(&row.id).await?;
            if is_its(&row) && matches!(row.told, Told::Nothing | Told::Shared) {
                tx.update_outbound(&journal::told(row)).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}
