//! `sync`, `sweep` and the worker, step by step: the same names in the same order, over the simulated database and
//! Intercom.

use super::database::Tx;
use super::sending::Chat;
use super::{Fault, Mutation, Result, World};
use crate::chat::draft;
use crate::chat::mirror::{self, Origin, Plan, Put, PutKind};
use crate::chat::sweep::is_whole;
use crate::chat::sync::{Applied, first};
use crate::chat::view::Snapshot;
use crate::id::{ConversationId, UserId};
use crate::model::{AuthorKind, Head};
use crate::store::conversations::Conversation;
use crate::store::messages::Stored;
use crate::store::outbound::{Journal, Outbound};

/// A webhook that was received.
#[derive(Clone)]
pub(super) struct Received {
    hint: Snapshot,
    due_ms: i64,
    attempts: u32,
}

/// A job.
#[derive(Clone)]
pub(super) struct Job {
    due_ms: i64,
    asked: u64,
    leased_until_ms: i64,
    attempts: u32,
}

const COALESCE_MS: i64 = 1_500;
const LEASE_MS: i64 = 60_000;
const OVERLAP_S: i64 = 300;
/// Without a bell, how soon due work is noticed; the product looks more often.
const LOOK_MS: i64 = 8_000;
const SWEEP_MS: i64 = 60_000;

impl World {
    /// A webhook reaches a node; whether it was acknowledged.
    pub(super) async fn receive_at(self: &std::rc::Rc<Self>, node: usize, name: &str, hint: &Snapshot) -> bool {
        if !self.is_up(node) {
            return false;
        }
        self.time.sleep(self.time.between(1, 10)).await;
        if !self.is_up(node) || self.fault(2_000) {
            return false;
        }
        let due_ms = self.time.now_ms();
        let mut database = self.database.borrow_mut();
        if database.received.insert(name.to_owned()) {
            database.inbox.insert(name.to_owned(), Received { hint: hint.clone(), due_ms, attempts: 0 });
        }
        drop(database);
        self.log(|| format!("node {node} receives {name} of {}", hint.id));
        self.ring(due_ms);
        true
    }

    /// A job that was asked for in a transaction which is committed now.
    pub(super) fn enqueued(self: &std::rc::Rc<Self>, kind: &'static str, subject: String, due_ms: i64) {
        let mut database = self.database.borrow_mut();
        let new = Job { due_ms, asked: 0, leased_until_ms: 0, attempts: 0 };
        let job = database.jobs.entry((kind, subject)).or_insert(new);
        (job.asked, job.due_ms) = (job.asked + 1, job.due_ms.min(due_ms));
        drop(database);
        self.ring(due_ms);
    }

    /// Work is due then: nodes look for it at about that time, one of them or all.
    fn ring(self: &std::rc::Rc<Self>, due_ms: i64) {
        let one = self.some_node();
        for node in 0..self.options.nodes {
            if node == one || self.time.chance(300_000) {
                let world = std::rc::Rc::clone(self);
                let late_ms = self.time.between(0, 250);
                self.time.spawn(Some(node), async move {
                    world.time.sleep_until(due_ms + late_ms).await;
                    if world.is_up(node) {
                        world.chat(node).do_what_is_due().await;
                    }
                });
            }
        }
    }
}

impl Chat {
    /// Works until the node dies.
    pub(super) async fn work(&self) {
        while self.recover().await.is_err() {
            self.world.time.sleep(500).await;
        }
        let (time, mut swept_ms) = (&self.world.time, 0);
        loop {
            self.do_what_is_due().await;
            if time.now_ms() - swept_ms >= SWEEP_MS && self.world.mutation != Mutation::NoSweep {
                swept_ms = time.now_ms();
                let _ = self.recover_forgotten().await;
                let _ = self.sweep().await;
            }
            let longest_ms = if self.world.is_stormy() { LOOK_MS } else { 3 * LOOK_MS };
            time.sleep(longest_ms + time.between(0, 500)).await;
        }
    }

    async fn do_what_is_due(&self) {
        loop {
            let did = [self.apply_inbox().await.unwrap_or(0) > 0, self.run_job().await.unwrap_or(false)];
            if did == [false, false] {
                return;
            }
        }
    }

    async fn apply_inbox(&self) -> Result<usize> {
        let now_ms = self.world.time.now_ms();
        let due: Vec<_> = {
            let database = self.world.database.borrow();
            let due = database.inbox.iter().filter(|(_, received)| received.due_ms <= now_ms);
            due.map(|(name, received)| (name.clone(), received.clone())).collect()
        };
        for (name, received) in &due {
            let applied = self.apply_webhook(&received.hint).await;
            self.reads().await;
            let mut database = self.world.database.borrow_mut();
            match applied {
                Ok(()) => drop(database.inbox.remove(name)),
                Err(_) => {
                    let again = Received {
                        due_ms: now_ms + (500 << received.attempts.min(10)),
                        attempts: received.attempts + 1,
                        hint: received.hint.clone(),
                    };
                    database.inbox.entry(name.clone()).and_modify(|row| *row = again);
                }
            }
        }
        Ok(due.len())
    }

    async fn apply_webhook(&self, hint: &Snapshot) -> Result<()> {
        self.apply(hint, &Origin::Webhook).await.map(drop)
    }

    pub(super) async fn enqueue(&self, kind: &'static str, subject: &str, due_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.enqueue(kind, subject, self.true_ms(due_ms));
        tx.commit().await
    }

    /// Jobs are due by the nodes' clocks; bells ring in true time.
    pub(super) fn true_ms(&self, due_ms: i64) -> i64 {
        self.world.time.now_ms() + (due_ms - self.now_ms()).max(0)
    }

    async fn run_job(&self) -> Result<bool> {
        self.reads().await;
        let now_ms = self.world.time.now_ms();
        let leased = {
            let mut database = self.world.database.borrow_mut();
            let due = |job: &Job| job.due_ms <= now_ms && job.leased_until_ms <= now_ms;
            let next = database.jobs.iter_mut().filter(|(_, job)| due(job)).min_by_key(|(_, job)| job.due_ms);
            next.map(|(name, job)| {
                job.leased_until_ms = now_ms + LEASE_MS;
                (name.clone(), job.clone())
            })
        };
        let Some((name, job)) = leased else { return Ok(false) };
        let done = self.perform(name.0, &name.1).await;
        self.reads().await;
        let mut database = self.world.database.borrow_mut();
        let Some(row) = database.jobs.get_mut(&name) else { return Ok(true) };
        row.leased_until_ms = 0;
        match done {
            Ok(None) if row.asked == job.asked => drop(database.jobs.remove(&name)),
            Ok(None) => row.attempts = 0,
            Ok(Some(again_ms)) => row.due_ms = self.world.time.now_ms() + again_ms,
            Err(_) => {
                row.due_ms = self.world.time.now_ms() + (1_000 << row.attempts.min(5));
                row.attempts += 1;
            }
        }
        let due_ms = database.jobs.get(&name).map(|row| row.due_ms);
        drop(database);
        due_ms.into_iter().for_each(|due_ms| self.world.ring(due_ms));
        Ok(true)
    }

    async fn perform(&self, kind: &str, subject: &str) -> Result<Option<i64>> {
        if kind == "settle" {
            return self.settle(subject).await;
        }
        let Some(id) = ConversationId::parse(subject) else { return Ok(None) };
        self.refresh(&id).await.map(|_| None)
    }

    /// The sweep: the index lags, so sweeps overlap.
    async fn sweep(&self) -> Result<()> {
        let began_s = self.now_ms().div_euclid(1000);
        self.reads().await;
        let mark_s = self.world.database.borrow().marks.get("sweep").copied().unwrap_or(began_s);
        for (id, updated_at) in self.search_updated_since(mark_s - OVERLAP_S).await.map_err(|_| Fault::Unavailable)? {
            if self.lacks(&id, updated_at).await? {
                self.enqueue("refresh", id.as_str(), self.now_ms()).await?;
            }
        }
        self.begin().await?.commit().await?;
        self.world.database.borrow_mut().marks.insert("sweep", began_s);
        Ok(())
    }

    async fn lacks(&self, id: &ConversationId, updated_at: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        Ok(tx.mirrored(id).await?.is_none_or(|mirrored| !is_whole(mirrored.whole_at, mirrored.whole_ms, updated_at)))
    }

    pub(super) async fn refresh(&self, id: &ConversationId) -> Result<Applied> {
        let _turn = self.turn(format!("refresh {id}")).await;
        let asked = self.world.time.now_ms();
        match self.conversation(id).await.map_err(|_| Fault::Unavailable)? {
            Some(snapshot) => {
                let asked_ms = self.intercom_ms(asked);
                self.apply(&snapshot, &Origin::Answer { asked_ms, of: None }).await
            }
            None => Ok(Applied::Unchanged),
        }
    }

    pub(super) async fn apply(&self, snapshot: &Snapshot, origin: &Origin) -> Result<Applied> {
        let now_ms = self.now_ms();
        let mut tx = self.begin().await?;
        let Some(base) = base(&mut tx, &self.world, snapshot, origin, now_ms).await? else {
            return Ok(Applied::NotOurs);
        };
        let known = tx.known(&snapshot.id).await?;
        let mut plan = mirror::plan(&base.conversation, &known, &base.rows, snapshot, origin);
        if self.world.mutation == Mutation::BoundByWordsAlone {
            bind_by_words_alone(&mut plan, &base.rows, snapshot);
        }
        if plan.ask {
            tx.enqueue("refresh", snapshot.id.as_str(), self.true_ms(now_ms + COALESCE_MS));
        }
        if plan.is_empty() && !base.is_new {
            if let Some((whole_at, whole_ms)) = plan.whole {
                tx.set_whole(&snapshot.id, whole_at, whole_ms).await?;
            }
            if plan.ask || plan.whole.is_some() {
                tx.commit().await?;
            }
            return Ok(if plan.ask { Applied::Changed } else { Applied::Unchanged });
        }
        let changed = self.write_plan(&mut tx, &base, &plan, *origin != Origin::Webhook, now_ms).await?;
        tx.commit().await.inspect_err(|_| self.memory.heads.doubt(&snapshot.id))?;
        if !changed.hidden {
            self.memory.heads.publish(&snapshot.id, Head::from(&changed));
        }
        Ok(Applied::Changed)
    }

    async fn write_plan(
        &self,
        tx: &mut Tx,
        base: &Base,
        plan: &Plan,
        polished: bool,
        now_ms: i64,
    ) -> Result<Conversation> {
        let mut changed = base.conversation.clone();
        if plan.state.is_some() || plan.rated.is_some() {
            tx.next_position(&changed.id, now_ms).await?;
        }
        for put in &plan.put {
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
            let position = match self.world.mutation {
                _ if put.hidden => 0,
                Mutation::PositionIsCreatedAt => {
                    tx.next_position(&changed.id, now_ms).await?;
                    put.message.created_at
                }
                _ => tx.next_position(&changed.id, now_ms).await?,
            };
            tx.put_message(&changed.id, &stored, position).await?;
            self.world.log(|| format!("node {} stores {} at {position}: {put:?}", self.node, put.message.id));
            if base.is_new && put.message.author.kind == AuthorKind::User {
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
                self.bind(tx, row, put, &changed).await?;
            }
        }
        Ok(changed)
    }

    async fn bind(&self, tx: &mut Tx, row: &Outbound, put: &Put, now: &Conversation) -> Result<()> {
        // As it is now: others write to it too.
        let row = match self.world.mutation {
            Mutation::ReadsWithoutLocks => row.clone(),
            _ => tx.outbound(&row.id).await?,
        };
        let response = draft::response(&row, put, now).map_err(|_| Fault::Database)?;
        let sent = Outbound {
            conversation: Some(now.id.clone()),
            state: Journal::Sent,
            part_id: Some(put.message.id.clone()),
            response: Some(response),
            ..row
        };
        self.world.log(|| format!("node {} finds {} as {}", self.node, sent.id, put.message.id));
        self.memory.requests.is_row_unanswered(&sent);
        if tx.update_outbound(&sent).await? { Ok(()) } else { Err(Fault::Unique) }
    }
}

struct Base {
    conversation: Conversation,
    rows: Vec<Outbound>,
    is_new: bool,
}

async fn base(tx: &mut Tx, world: &World, snapshot: &Snapshot, origin: &Origin, now_ms: i64) -> Result<Option<Base>> {
    if let Some(conversation) = tx.mirrored(&snapshot.id).await? {
        let rows = tx.outbound_candidates(&conversation.user, &conversation.id, false).await?;
        return Ok(Some(Base { conversation, rows, is_new: false }));
    }
    let Some(user) = world.user_of(snapshot) else { return Ok(None) };
    let rows = tx.outbound_candidates(&user, &snapshot.id, true).await?;
    let opening = mirror::creator(&rows, snapshot, origin).map(draft::opening);
    let opening = opening.transpose().map_err(|_| Fault::Database)?.unwrap_or_default();
    let mut conversation = first(snapshot, user, opening.topic, opening.source_hidden, now_ms);
    conversation.hidden = mirror::is_duplicate(&rows, snapshot, origin);
    tx.insert_conversation(&conversation).await?;
    Ok(Some(Base { conversation, rows, is_new: true }))
}

impl World {
    fn user_of(&self, snapshot: &Snapshot) -> Option<UserId> {
        let database = self.database.borrow();
        let mut known = database.contacts.iter().filter(|(_, contact)| snapshot.contacts.contains(contact));
        known.next().map(|(user, _)| user.clone())
    }
}

/// The mutation: whoever has the words is the message, were it another row's.
fn bind_by_words_alone(plan: &mut Plan, rows: &[Outbound], snapshot: &Snapshot) {
    let open = rows.iter().filter(|row| matches!(row.state, Journal::Sending | Journal::Unknown));
    for row in open.filter(|row| !row.body.is_empty()) {
        let said = snapshot.messages.iter().find(|seen| seen.message.body == row.body && seen.from_api);
        let is_bound = plan.put.iter().any(|put| put.binds.as_ref() == Some(&row.id));
        if let (Some(said), false) = (said, is_bound) {
            plan.put.push(Put {
                message: said.message.clone(),
                fingerprint: mirror::fingerprint(&said.message),
                opening: said.is_source,
                kind: PutKind::Polish,
                hidden: false,
                binds: Some(row.id.clone()),
            });
        }
    }
}
