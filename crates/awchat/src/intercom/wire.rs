//! Intercom's JSON under Intercom's names: shapes only, no logic.
//!
//! Versions 2.11 to 2.16 and the shapes of the old 1.x notifications are read alike. Nothing here is required, and a
//! field of an unexpected type counts as absent: one odd field or list item never loses the rest of a page. Field
//! names are those of Intercom's OpenAPI description 2.16 and of captured notifications.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

mod nul;
mod ticket;
mod tolerant;

pub use nul::without_nul;
pub use ticket::{AttributeDefinition, List, StateOf, Ticket, TicketList, TicketParts, TicketState, TicketType};
pub use tolerant::Id;
use tolerant::{tolerant, tolerant_list};

/// An admin, of `GET /me` and `GET /admins/{id}`. The e-mail address is left out on purpose.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// Display name.
    #[serde(deserialize_with = "tolerant")]
    pub name: Option<String>,
    /// Picture.
    #[serde(deserialize_with = "tolerant")]
    pub avatar: Option<Avatar>,
    /// The workspace; only in `GET /me`.
    #[serde(deserialize_with = "tolerant")]
    pub app: Option<App>,
}

/// A workspace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    /// What the notifications' `app_id` must equal.
    #[serde(deserialize_with = "tolerant")]
    pub id_code: Option<Id>,
    /// `US`, `EU` or `AU`.
    #[serde(deserialize_with = "tolerant")]
    pub region: Option<String>,
}

/// A picture: an address, or an object that holds one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Avatar {
    /// The address itself.
    Url(String),
    /// An object with the address.
    Object {
        /// The address.
        image_url: Option<String>,
    },
}

/// A contact, as far as it is used: the person's details are left out on purpose.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Contact {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// The app's own user id; a random one for leads.
    #[serde(deserialize_with = "tolerant")]
    pub external_id: Option<Id>,
    /// The app's own user id, in 1.x.
    #[serde(deserialize_with = "tolerant")]
    pub user_id: Option<Id>,
    /// `user` or `lead`.
    #[serde(deserialize_with = "tolerant")]
    pub role: Option<String>,
    /// Where `contact.merged` says who was merged into this contact.
    #[serde(deserialize_with = "tolerant")]
    pub merged_from: Option<Reference>,
}

/// An id with a type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// The id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
}

/// A conversation, of the API or inside a notification (where it carries only its newest parts).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conversation {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// The title operators see; empty for most.
    #[serde(deserialize_with = "tolerant")]
    pub title: Option<String>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub created_at: Option<i64>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub updated_at: Option<i64>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub snoozed_until: Option<i64>,
    /// `open`, `closed` or `snoozed`; a snoozed conversation has `open: true`, so this one decides.
    #[serde(deserialize_with = "tolerant")]
    pub state: Option<String>,
    /// The opening message.
    #[serde(deserialize_with = "tolerant")]
    pub source: Option<Part>,
    /// The opening message, in 1.x.
    #[serde(deserialize_with = "tolerant")]
    pub conversation_message: Option<Part>,
    /// Who talks.
    #[serde(deserialize_with = "tolerant")]
    pub contacts: Option<Contacts>,
    /// Who talks, in 1.x.
    #[serde(deserialize_with = "tolerant")]
    pub user: Option<Contact>,
    /// Labels; absent in some notifications.
    #[serde(deserialize_with = "tolerant")]
    pub tags: Option<Tags>,
    /// The parts: at most the 500 newest.
    #[serde(deserialize_with = "tolerant")]
    pub conversation_parts: Option<Parts>,
    /// An object if the conversation is a ticket (its `id` is a number), else null.
    #[serde(deserialize_with = "tolerant")]
    pub ticket: Option<Value>,
}

/// The contacts of a conversation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Contacts {
    /// Usually one; several in a group conversation.
    #[serde(deserialize_with = "tolerant_list")]
    pub contacts: Vec<Contact>,
}

/// The labels of a conversation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// In no particular order.
    #[serde(deserialize_with = "tolerant_list")]
    pub tags: Vec<Tag>,
}

/// A label.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// The name; may come with HTML entities.
    #[serde(deserialize_with = "tolerant")]
    pub name: Option<String>,
}

/// The parts of a conversation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Oldest first, as a rule.
    #[serde(deserialize_with = "tolerant_list")]
    pub conversation_parts: Vec<Part>,
    /// How many there are at Intercom, or in this notification.
    #[serde(deserialize_with = "tolerant")]
    pub total_count: Option<u64>,
}

/// A part of a conversation or ticket, or a conversation's source (which has neither `part_type` nor times).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// What kind of part; see `chat::view` for those a user may see.
    #[serde(deserialize_with = "tolerant")]
    pub part_type: Option<String>,
    /// HTML; plain text in notifications since 2.15.
    #[serde(deserialize_with = "tolerant")]
    pub body: Option<String>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub created_at: Option<i64>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub updated_at: Option<i64>,
    /// Who wrote it.
    #[serde(deserialize_with = "tolerant")]
    pub author: Option<Author>,
    /// Files.
    #[serde(deserialize_with = "tolerant_list")]
    pub attachments: Vec<Attachment>,
    /// The text was taken back.
    #[serde(deserialize_with = "tolerant")]
    pub redacted: Option<bool>,
    /// The app that created the part, if it came through the API.
    #[serde(deserialize_with = "tolerant")]
    pub app_package_code: Option<String>,
    /// What a ticket became by it.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_state: Option<StateOf>,
    /// What a ticket was before it.
    #[serde(deserialize_with = "tolerant")]
    pub previous_ticket_state: Option<StateOf>,
    /// Holds the options of a quick reply.
    #[serde(deserialize_with = "tolerant")]
    pub metadata: Option<Metadata>,
}

/// A part's metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// What the user may pick from.
    #[serde(deserialize_with = "tolerant_list")]
    pub quick_reply_options: Vec<QuickReplyOption>,
}

/// One choice of a quick reply.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct QuickReplyOption {
    /// The text on the button.
    #[serde(deserialize_with = "tolerant")]
    pub text: Option<String>,
}

/// The writer of a part. The e-mail address is left out on purpose.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Author {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// `user`, `lead`, `contact`, `admin`, `team` or `bot`.
    #[serde(rename = "type", deserialize_with = "tolerant")]
    pub kind: Option<String>,
    /// Display name.
    #[serde(deserialize_with = "tolerant")]
    pub name: Option<String>,
    /// Picture; absent in most versions.
    #[serde(deserialize_with = "tolerant")]
    pub avatar: Option<Avatar>,
    /// Sent by Intercom's AI agent.
    #[serde(deserialize_with = "tolerant")]
    pub from_ai_agent: Option<bool>,
    /// The text was made by Intercom's AI agent.
    #[serde(deserialize_with = "tolerant")]
    pub is_ai_answer: Option<bool>,
}

/// A file on a part. Its address expires (about 30 minutes); each `GET` of the conversation has a fresh one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// File name.
    #[serde(deserialize_with = "tolerant")]
    pub name: Option<String>,
    /// Where to fetch it.
    #[serde(deserialize_with = "tolerant")]
    pub url: Option<String>,
    /// MIME type.
    #[serde(deserialize_with = "tolerant")]
    pub content_type: Option<String>,
    /// Bytes.
    #[serde(deserialize_with = "tolerant")]
    pub filesize: Option<i64>,
    /// Pixels.
    #[serde(deserialize_with = "tolerant")]
    pub width: Option<i64>,
    /// Pixels.
    #[serde(deserialize_with = "tolerant")]
    pub height: Option<i64>,
}

/// What `POST /conversations` answers: a message, not a conversation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CreatedMessage {
    /// The message's own id; not the id of the conversation's source.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// The new conversation.
    #[serde(deserialize_with = "tolerant")]
    pub conversation_id: Option<Id>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub created_at: Option<i64>,
}

/// One page of `POST /conversations/search`: conversations come without their parts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConversationList {
    /// May be null.
    #[serde(deserialize_with = "tolerant_list")]
    pub conversations: Vec<Conversation>,
    /// Over all pages.
    #[serde(deserialize_with = "tolerant")]
    pub total_count: Option<u64>,
    /// Where the next page begins.
    #[serde(deserialize_with = "tolerant")]
    pub pages: Option<Pages>,
}

/// A list's position.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pages {
    /// Absent on the last page.
    #[serde(deserialize_with = "tolerant")]
    pub next: Option<Next>,
}

/// The next page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Next {
    /// The cursor to send.
    #[serde(deserialize_with = "tolerant")]
    pub starting_after: Option<String>,
}

/// `{"type":"error.list"}`: the body of a refusal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ErrorList {
    /// Usually one.
    #[serde(deserialize_with = "tolerant_list")]
    pub errors: Vec<Refusal>,
}

/// One reason of a refusal. Its message may hold personal data: it is looked at, never shown.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Such as `not_found` or `parameter_invalid`.
    #[serde(deserialize_with = "tolerant")]
    pub code: Option<String>,
    /// A sentence for developers.
    #[serde(deserialize_with = "tolerant")]
    pub message: Option<String>,
    /// The field that is wrong.
    #[serde(deserialize_with = "tolerant")]
    pub field: Option<String>,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("code", &self.code).finish_non_exhaustive()
    }
}

/// The envelope of a webhook.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Notification {
    /// Stable over retries: duplicates are told by it. Null for `ping`.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// Such as `conversation.admin.replied`.
    #[serde(deserialize_with = "tolerant")]
    pub topic: Option<String>,
    /// The workspace it comes from.
    #[serde(deserialize_with = "tolerant")]
    pub app_id: Option<Id>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub created_at: Option<i64>,
    /// What happened to what.
    #[serde(deserialize_with = "tolerant")]
    pub data: Option<NotificationData>,
}

/// The content of a webhook.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NotificationData {
    /// A conversation, a ticket, a contact or a wrapper, by topic.
    pub item: Value,
}
