//! A message a user wants to send, as a row of the journal and as an answer.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::contacts::Profile;
use super::conversations::{Full, Summary};
use super::mirror::{self, Put};
use crate::error::{Error, Result};
use crate::id::{self, ConversationId, UserId};
use crate::model::{Attachment, Message, Topic};
use crate::store::conversations::Conversation;
use crate::store::outbound::{Journal, Kind, Outbound, Told};

/// A message a user wants to send.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Whose it is.
    pub user: UserId,
    /// What the user's contact at Intercom should know.
    pub profile: Profile,
    /// Into which conversation; `None` begins one.
    pub conversation: Option<ConversationId>,
    /// What the user asked for.
    pub wish: Wish,
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
    /// What Intercom is sent; for a conversation begun by its topic alone, the topic line.
    pub body: String,
    /// What goes with a new conversation.
    pub opening: Opening,
}

/// What the user asked for: which address of the API the message came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To write in a conversation, or to begin one.
    Talk,
    /// To write in the ticket that the conversation is.
    ReplyToTicket,
    /// To ask about this ticket, in a conversation.
    Clarify(ConversationId),
}

/// What goes with a new conversation, besides its text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// What it is about.
    pub topic: Option<Topic>,
    /// Begun by its topic alone: the opening line is not the user's.
    pub source_hidden: bool,
    /// Context about the user's device and place.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// What the user's contact at Intercom should know.
    #[serde(default)]
    pub profile: Profile,
    /// The ticket that the message, in a new conversation or not, asks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clarifies: Option<ConversationId>,
    /// The files on the message.
    #[serde(default, skip_serializing_if = "Attached::is_empty")]
    pub attached: Attached,
}

/// The files on a message, and what they do to its words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The user's files, without addresses.
    pub files: Vec<Attachment>,
    /// The user's own words, where Intercom is sent others.
    pub shown: Option<String>,
    /// Intercom did not take the files: they are links in the words that it is sent.
    #[serde(default)]
    pub is_folded: bool,
}

impl Attached {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Draft {
    fn kind(&self) -> Kind {
        match (&self.wish, &self.conversation) {
            (Wish::ReplyToTicket, _) => Kind::TicketReply,
            (_, Some(_)) => Kind::Reply,
            (_, None) => Kind::Create,
        }
    }

    /// The request's path: with the user, the scope of its key.
    pub(super) fn route(&self) -> String {
        match (&self.wish, &self.conversation) {
            (Wish::Clarify(ticket), _) => format!("/api/tickets/{ticket}/clarify"),
            (Wish::ReplyToTicket, Some(id)) => format!("/api/tickets/{id}/reply"),
            (Wish::Talk, Some(id)) => format!("/api/conversations/{id}/reply"),
            (Wish::Talk | Wish::ReplyToTicket, None) => "/api/conversations".to_owned(),
        }
    }

    /// The same request again has the same.
    pub(super) fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.route());
        digest.update([0]);
        digest.update(self.body.nfc().collect::<String>());
        digest.update([0]);
        // The topic and the device's context are part of the request, the token's claims are not.
        let opening = Opening { profile: Profile::default(), ..self.opening.clone() };
        digest.update(serde_json::to_vec(&opening).unwrap_or_default());
        hex::encode(digest.finalize())
    }

    /// The row of its first attempt. `behind_ms`: how far Intercom's clock may be behind ours, since Intercom's times are
    /// held against when it was made.
    pub(super) fn row(&self, now_ms: i64, behind_ms: i64) -> Result<Outbound> {
        Ok(Outbound {
            id: id::random(),
            user: self.user.clone(),
            conversation: self.conversation.clone(),
            kind: self.kind(),
            route: self.route(),
            key: self.key.clone(),
            fingerprint: self.fingerprint(),
            content: mirror::content(&self.body),
            body: self.body.clone(),
            payload: serde_json::to_string(&self.opening).map_err(Error::internal)?,
            state: Journal::Sending,
            attempts: 1,
            ambiguous: false,
            told: Told::Nothing,
            attempt_ms: now_ms,
            settle_until_ms: 0,
            part_id: None,
            response: None,
            created_ms: now_ms - behind_ms,
        })
    }
}

/// Where the user's question about a ticket went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Clarified<'a> {
    conversation_id: &'a ConversationId,
    message: &'a Message,
}

/// What went with a new conversation.
pub fn opening(row: &Outbound) -> Result<Opening> {
    serde_json::from_str(&row.payload).map_err(Error::internal)
}

/// The answer's body to a message that was found at Intercom.
pub fn response(row: &Outbound, put: &Put, conversation: &Conversation) -> Result<String> {
    if opening(row)?.clarifies.is_some() {
        let answer = Clarified { conversation_id: &conversation.id, message: &put.message };
        return serde_json::to_string(&answer).map_err(Error::internal);
    }
    match row.kind {
        Kind::Reply | Kind::TicketReply => serde_json::to_string(&put.message),
        Kind::Create => {
            let messages: Vec<Message> = if put.hidden { Vec::new() } else { vec![put.message.clone()] };
            let summary = Summary::of(conversation, messages.last().cloned());
            serde_json::to_string(&Full::of(summary, messages, conversation.last_position))
        }
    }
    .map_err(Error::internal)
}
