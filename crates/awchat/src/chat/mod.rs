//! The domain: conversations between a user and the operators, tickets among them, mirrored from Intercom.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::files::Files;
use crate::id::{ContactId, FileId};
use crate::intercom::Intercom;
use crate::intercom::downloads::Downloads;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::devices::Platform;
use crate::store::outbound::Outbound;

pub mod attachments;
pub mod contacts;
pub mod conversations;
pub mod draft;
mod echoes;
pub mod erasure;
pub mod export;
pub mod feedback;
pub mod followups;
pub mod heads;
pub mod journal;
mod looking;
pub mod mirror;
mod nodes;
pub mod notices;
mod reopening;
pub mod requests;
pub mod sending;
#[cfg(test)]
mod simulation;
pub mod streams;
pub mod sweep;
pub mod sync;
pub mod tickets;
mod together;
pub mod trust;
mod turns;
pub mod view;

/// The domain with everything it needs.
#[derive(Debug)]
pub struct Chat {
    store: Store,
    intercom: Intercom,
    files: Files,
    downloads: Downloads,
    /// Where files of operators' messages are at Intercom, as long as it holds.
    sources: Cache<FileId, attachments::Source>,
    clock: Clock,
    settings: Settings,
    heads: heads::Heads,
    streams: Arc<streams::Streams>,
    /// What heads are worth while other nodes write to the database.
    trust: trust::Trust,
    /// Other nodes.
    shared: Shared,
    /// What the other nodes were asked.
    questions: looking::Questions,
    /// Polls that wait.
    long_polls: AtomicI64,
    turns: turns::Turns,
    requests: requests::Requests,
    /// Where ordinary replies wait to be stored, before they are sent and after it.
    beginning: together::Together<Outbound, Option<ContactId>>,
    ending: together::Together<sending::ordinary::Taken, Option<Outbound>>,
    echoes: echoes::Echoes,
    /// Owns what goes on after a client has hung up: a message that is being sent is sent to the end.
    tasks: TaskTracker,
    /// Rung when a webhook has been stored.
    received: Notify,
    /// Rung when a job may be due.
    work: Notify,
    /// Rung when telephones, or Telegram, may have something to be told.
    noticed: (Notify, Notify),
    /// Conversations that somebody watches and nobody has told us of for a while.
    watched: sweep::Watched,
    /// What sweeps and watching found that no webhook had brought.
    repairs: AtomicU64,
}

/// What of the configuration the domain needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How late Intercom may apply a request after our timeout.
    pub settle: Duration,
    /// How long one request to Intercom may take.
    pub timeout: Duration,
    /// New conversations are assigned to this team.
    pub team_id: Option<String>,
    /// Before a ticket's number: AW of AW-123.
    pub ticket_prefix: String,
    /// The workspace, where it is known: part of addresses in the inbox.
    pub app_id: Option<String>,
    /// The platforms whose devices are told of news; none: pushes are off.
    pub notified: Vec<Platform>,
}

impl Chat {
    /// Puts the domain together.
    pub fn new(
        (store, shared): (Store, Shared),
        intercom: Intercom,
        (files, downloads): (Files, Downloads),
        clock: Clock,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            trust: trust::Trust::new(!store.serves_many()),
            shared,
            store,
            intercom,
            files,
            downloads,
            sources: Cache::new(SOURCES),
            clock,
            settings,
            heads: heads::Heads::new(HEADS),
            streams: Arc::default(),
            questions: looking::Questions::default(),
            long_polls: AtomicI64::new(0),
            turns: turns::Turns::default(),
            requests: requests::Requests::default(),
            beginning: together::Together::default(),
            ending: together::Together::default(),
            echoes: echoes::Echoes::default(),
            tasks: TaskTracker::new(),
            received: Notify::new(),
            work: Notify::new(),
            noticed: (Notify::new(), Notify::new()),
            watched: sweep::Watched::new(),
            repairs: AtomicU64::new(0),
        })
    }

    /// How many heads are in memory.
    pub fn heads(&self) -> u64 {
        self.heads.len() as u64
    }

    /// How many polls wait.
    pub fn long_polls(&self) -> u64 {
        u64::try_from(self.long_polls.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Waits until a webhook has been stored.
    pub async fn received(&self) {
        self.received.notified().await;
    }

    /// Waits until a job may be due.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Waits until every message that is being sent has an end.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Heads in memory: a million active conversations.
const HEADS: usize = 1_000_000;
/// Addresses of operators' files in memory.
const SOURCES: usize = 10_000;
