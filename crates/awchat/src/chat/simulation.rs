//! Journal, inbox and sweep in a world of chance: two nodes that die at any step, clocks that differ, an Intercom that
//! refuses, loses, delays and forgets to answer, webhooks in any order. The decisions are the product's own
//! (`journal`, `mirror`); what carries them out is a model of `sending` and `sync`, with their names in their order.
//! A seed decides everything, so that a failure can be seen again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use self::database::Database;
use self::intercom::Intercom;
use self::ledger::Ledger;
use self::sending::Memory;
use self::time::{Promise, Timeline};
use super::journal::Patience;

mod clients;
mod database;
mod intercom;
mod ledger;
mod sending;
mod submission;
mod sync;
mod tests;
mod time;
mod turns;

/// The world of one seed.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// One works as with SQLite, several as with PostgreSQL.
    nodes: usize,
    /// The nodes' clocks differ, and step.
    clocks_differ: bool,
    /// Intercom applies replies later than it is trusted to.
    beyond_the_promise: bool,
    timeout_ms: i64,
    settle_ms: i64,
    /// How long a request waits for its end.
    deadline_ms: i64,
}

/// How the product is broken, to see that it is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mutation {
    /// Not at all.
    #[default]
    None,
    /// Absence at Intercom is final at once.
    NoSettling,
    /// A row is found by its words alone: one message can be two rows'.
    BoundByWordsAlone,
    /// What the client was told 502 about is sent again unasked.
    SentAfterTold,
    /// A transaction decides by rows that others may change before it ends.
    ReadsWithoutLocks,
    /// Another attempt begins without another look at the row.
    AgainUnseen,
    /// A request without a key is told 502 while it is still at work.
    ToldAtDeadline,
    /// A message's position is Intercom's time of it.
    PositionIsCreatedAt,
    /// Webhooks alone: nobody asks Intercom what they missed.
    NoSweep,
}

/// What happened.
#[derive(Clone, Debug, Default)]
struct Figures {
    messages: u64,
    requests: u64,
    applied: u64,
    operator_messages: u64,
    crashes: u64,
    faults: u64,
    polls: u64,
}

/// What goes wrong inside a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The database fails.
    Database,
    /// A unique index refuses a row.
    Unique,
    /// Intercom cannot be asked.
    Unavailable,
}

type Result<T, E = Fault> = std::result::Result<T, E>;

/// All there is.
struct World {
    time: Timeline,
    options: Options,
    mutation: Mutation,
    database: RefCell<Database>,
    intercom: RefCell<Intercom>,
    ledger: RefCell<Ledger>,
    nodes: RefCell<Vec<Node>>,
    figures: RefCell<Figures>,
    violations: RefCell<Vec<String>>,
    /// What happened, if somebody wants to know.
    trace: Option<RefCell<Vec<String>>>,
    storm: Cell<bool>,
}

struct Node {
    is_up: bool,
    /// How far its clock is ahead.
    ahead_ms: i64,
    memory: Rc<Memory>,
    connections: Vec<Rc<Promise<sending::Answer>>>,
}

/// How one seed ended.
struct Ended {
    figures: Figures,
    violations: Vec<String>,
    trace: Vec<String>,
}

/// Where all worlds begin.
const EPOCH_MS: i64 = 1_800_000_000_000;
/// People write, and things go wrong, for so long.
const STORM_MS: i64 = 120_000;
/// Then there is time to recover: longer than a sweep's overlap, a lease and a late webhook together.
const CALM_MS: i64 = 420_000;
/// How far two clocks are apart at most.
const CLOCKS_DIFFER_MS: i64 = 3_000;

/// Lives through one seed.
fn simulate(seed: u64, options: Options, mutation: Mutation, traced: bool) -> Ended {
    let world = Rc::new(World {
        time: Timeline::new(seed, EPOCH_MS),
        options,
        mutation,
        database: RefCell::default(),
        intercom: RefCell::default(),
        ledger: RefCell::default(),
        nodes: RefCell::default(),
        figures: RefCell::default(),
        violations: RefCell::default(),
        trace: traced.then(RefCell::default),
        storm: Cell::new(true),
    });
    for node in 0..options.nodes {
        let ahead_ms = world.clock_error_ms();
        let memory = Rc::new(Memory::default());
        world.nodes.borrow_mut().push(Node { is_up: false, ahead_ms, memory, connections: Vec::new() });
        world.start(node);
    }
    world.spawn_people();
    world.spawn_weather();
    let dying = Rc::clone(&world);
    world.time.run(EPOCH_MS + STORM_MS, |node| dying.died(node));
    world.storm.set(false);
    world.time.run(EPOCH_MS + STORM_MS + CALM_MS, |node| dying.died(node));
    world.check_the_end();
    world.time.end();
    Ended {
        figures: world.figures.borrow().clone(),
        violations: world.violations.take(),
        trace: world.trace.as_ref().map(RefCell::take).unwrap_or_default(),
    }
}

impl World {
    /// Whether things go wrong now.
    fn is_stormy(&self) -> bool {
        self.storm.get()
    }

    /// Something that goes wrong so often in a million times.
    fn storm(&self, in_a_million: i64) -> bool {
        self.is_stormy() && self.time.chance(in_a_million)
    }

    /// As [`World::storm`], counted.
    fn fault(&self, in_a_million: i64) -> bool {
        let is_one = self.storm(in_a_million);
        self.figures.borrow_mut().faults += u64::from(is_one);
        is_one
    }

    fn patience(&self) -> Patience {
        let settle_ms = if self.mutation == Mutation::NoSettling { 0 } else { self.options.settle_ms };
        Patience { timeout_ms: self.options.timeout_ms, settle_ms }
    }

    /// A place between two steps: time passes, and the node may die.
    async fn step(&self, node: usize) {
        self.stumble(node);
        self.time.sleep(self.time.between(0, 4)).await;
    }

    /// A place between two statements, where others may come between.
    async fn statement(&self, node: usize) {
        if self.time.chance(300_000) {
            self.step(node).await;
        }
    }

    /// The node may die here.
    fn stumble(&self, node: usize) {
        if self.storm(1_500) {
            self.time.kill(node);
        }
    }

    fn died(self: &Rc<Self>, node: usize) {
        self.figures.borrow_mut().crashes += 1;
        self.log(|| format!("node {node} dies"));
        let broken = {
            let mut nodes = self.nodes.borrow_mut();
            nodes[node].is_up = false;
            nodes[node].memory = Rc::new(Memory::default());
            std::mem::take(&mut nodes[node].connections)
        };
        broken.iter().for_each(|connection| connection.keep(&self.time, sending::Answer::Broken));
        let world = Rc::clone(self);
        self.time.spawn(None, async move {
            let longest_ms = if world.time.chance(100_000) { 60_000 } else { 4_000 };
            world.time.sleep(world.time.between(50, longest_ms)).await;
            world.start(node);
        });
    }

    fn start(self: &Rc<Self>, node: usize) {
        self.nodes.borrow_mut()[node].is_up = true;
        self.log(|| format!("node {node} starts"));
        let chat = self.chat(node);
        self.time.spawn(Some(node), async move { chat.work().await });
    }

    fn chat(self: &Rc<Self>, node: usize) -> sending::Chat {
        sending::Chat { world: Rc::clone(self), node, memory: Rc::clone(&self.nodes.borrow()[node].memory) }
    }

    fn some_node(&self) -> usize {
        usize::try_from(self.time.between(0, self.options.nodes.cast_signed() as i64)).expect("a small number")
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes.borrow()[node].is_up
    }

    fn clock_error_ms(&self) -> i64 {
        let half_ms = CLOCKS_DIFFER_MS / 2;
        if self.options.clocks_differ { self.time.between(-half_ms, half_ms + 1) } else { 0 }
    }

    /// Clocks step, and now and then a node is killed wherever it is.
    fn spawn_weather(self: &Rc<Self>) {
        let world = Rc::clone(self);
        self.time.spawn(None, async move {
            while world.is_stormy() {
                world.time.sleep(world.time.between(5_000, 60_000)).await;
                let node = world.some_node();
                match world.time.between(0, 3) {
                    0 if world.is_stormy() && world.is_up(node) => world.time.kill(node),
                    _ => {
                        let ahead_ms = world.clock_error_ms();
                        world.nodes.borrow_mut()[node].ahead_ms = ahead_ms;
                        world.log(|| format!("the clock of node {node} is {ahead_ms} ms ahead"));
                    }
                }
            }
        });
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let at_ms = self.time.now_ms() - EPOCH_MS;
            trace.borrow_mut().push(format!("{:>9.3} {}", at_ms as f64 / 1000.0, what()));
        }
    }

    fn violate(&self, what: String) {
        self.log(|| format!("VIOLATION: {what}"));
        self.violations.borrow_mut().push(what);
    }
}
