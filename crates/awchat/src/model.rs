//! What the product speaks of, in the shapes of the API: a message, its author and files, a state, a topic, a ticket's
//! status and timeline; a conversation's head, and whether a user looks at it.

use serde::{Deserialize, Serialize};

use crate::id::UserId;

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

/// How far a ticket is. Several states of a workspace can share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has begun.
    Submitted,
    /// Somebody is at it.
    InProgress,
    /// The user has to say something.
    WaitingOnCustomer,
    /// Done.
    Resolved,
}

/// One entry of a ticket's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it became.
    pub status: Status,
    /// How users are told of it.
    pub label: String,
    /// Unix seconds.
    pub at: i64,
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

impl Status {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::InProgress => "in_progress",
            Self::WaitingOnCustomer => "waiting_on_customer",
            Self::Resolved => "resolved",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Submitted, Self::InProgress, Self::WaitingOnCustomer, Self::Resolved]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// How users are told of it where the workspace's own word is not known.
    pub fn usual_label(self) -> &'static str {
        match self {
            Self::Submitted => "Submitted",
            Self::InProgress => "In progress",
            Self::WaitingOnCustomer => "Waiting on you",
            Self::Resolved => "Resolved",
        }
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

/// One conversation as an idle poll sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The only user who may see it.
    pub user: UserId,
    /// The greatest position.
    pub position: i64,
    /// The conversation's state.
    pub state: State,
    /// Until when it is snoozed, Unix seconds.
    pub snoozed_until: Option<i64>,
    /// It was rated.
    pub rated: bool,
    /// Messages not from the user and not read.
    pub unread: i64,
    /// Grows with every change.
    pub revision: i64,
}

/// Whether a user looks at a conversation, as far as a node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// A poll waits for news right now.
    pub waiting: bool,
    /// When the last poll came or was answered, Unix milliseconds; 0: none.
    pub polled_ms: i64,
    /// Up to which position polls were answered.
    pub shown: i64,
}

impl Look {
    /// What two nodes know, as one.
    pub fn or(self, other: Self) -> Self {
        Self {
            waiting: self.waiting || other.waiting,
            polled_ms: self.polled_ms.max(other.polled_ms),
            shown: self.shown.max(other.shown),
        }
    }
}
