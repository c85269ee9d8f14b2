//! The domain: conversations between a user and the operators, mirrored from Intercom.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::intercom::Intercom;
use crate::store::Store;

pub mod contacts;
pub mod conversations;
pub mod followups;
pub mod heads;
pub mod mirror;
pub mod sending;
pub mod sync;
mod turns;
pub mod view;

/// The domain with everything it needs.
#[derive(Debug)]
pub struct Chat {
    store: Store,
    intercom: Intercom,
    clock: Clock,
    settings: Settings,
    heads: heads::Heads,
    turns: turns::Turns,
    requests: sending::Requests,
    /// Owns what goes on after a client has hung up: a message that is being sent is sent to the end.
    tasks: TaskTracker,
    /// Rung when a webhook has been stored.
    received: Notify,
    /// Rung when a job may be due.
    work: Notify,
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
}

impl Chat {
    /// Puts the domain together.
    pub fn new(store: Store, intercom: Intercom, clock: Clock, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            store,
            intercom,
            clock,
            settings,
            heads: heads::Heads::new(HEADS),
            turns: turns::Turns::default(),
            requests: sending::Requests::default(),
            tasks: TaskTracker::new(),
            received: Notify::new(),
            work: Notify::new(),
        })
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

/// One message as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Intercom's part id (or the id of the conversation's source, for the opening message).
    pub id: String,
    /// Who wrote it.
    pub author: Author,
    /// Plain text.
    pub body: String,
    /// A sanitised subset of HTML.
    pub html: String,
    /// Files, in Intercom's order.
    pub attachments: Vec<Attachment>,
    /// When Intercom says it was written; Unix seconds.
    pub created_at: i64,
    /// The text was taken back; `body` and `html` are empty.
    pub redacted: bool,
}

/// The writer of a message: never an e-mail, never an internal id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Author {
    /// Which side of the conversation.
    #[serde(rename = "type")]
    pub kind: AuthorKind,
    /// Display name, where known.
    pub name: Option<String>,
    /// Picture, where known.
    pub avatar_url: Option<String>,
}

/// The sides of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorKind {
    /// The app's end user.
    User,
    /// A teammate in Intercom.
    Operator,
    /// Intercom's own automation.
    Bot,
}

/// A file on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Our stable id.
    pub id: String,
    /// File name as shown.
    pub name: String,
    /// MIME type.
    pub content_type: String,
    /// Bytes, where known.
    pub size: Option<i64>,
    /// Pixels, for pictures.
    pub width: Option<i64>,
    /// Pixels, for pictures.
    pub height: Option<i64>,
    /// Where to fetch it.
    pub url: String,
}

/// A conversation's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waiting for somebody.
    Open,
    /// Ended; a reply opens it again.
    Closed,
    /// Put aside by an operator until a time, or until a reply.
    Snoozed,
}

/// What a conversation is about, as the user picked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The main topic.
    pub main: String,
    /// The topic below it.
    pub sub: Option<String>,
}

impl State {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Snoozed => "snoozed",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Snoozed].into_iter().find(|state| state.as_str() == text)
    }
}

impl AuthorKind {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Bot => "bot",
        }
    }

    /// The side of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Operator, Self::Bot].into_iter().find(|kind| kind.as_str() == text)
    }
}
