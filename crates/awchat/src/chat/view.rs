//! Intercom's JSON to our messages and state: pure.
//!
//! What a user may see is an allow-list: a part of an unknown type, or by an unknown kind of author, stays hidden.
//! Notes, teammates' e-mails and internal labels have no way out of here.

use serde::Deserialize;
use serde_json::Value;

use crate::id::{ContactId, ConversationId, FileId};
use crate::intercom::conversations::Created;
use crate::intercom::wire;
use crate::model::{Attachment, Author, AuthorKind, Message, State};

mod html;
#[cfg(test)]
mod tests;
pub mod ticket;

pub use html::{clean_html, html_of_plain, normalised_html, normalised_text, text_of};
pub use ticket::TicketView;

/// The label that says that the user has rated begins with this, whatever the case.
const RATED_TAG: &str = "csat";

/// A conversation as Intercom showed it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The conversation.
    pub id: ConversationId,
    /// Who talks; several in a group conversation.
    pub contacts: Vec<ContactId>,
    /// The app's user ids of those who talk (for a lead a random one).
    pub users: Vec<String>,
    /// `None` if Intercom did not say.
    pub state: Option<State>,
    /// Unix seconds.
    pub snoozed_until: Option<i64>,
    /// Unix seconds; 0 if Intercom did not say.
    pub created_at: i64,
    /// Unix seconds; 0 if Intercom did not say.
    pub updated_at: i64,
    /// Whether a label says that the user has rated; `None` if the labels are absent.
    pub rated_by_tag: Option<bool>,
    /// It is a ticket.
    pub is_ticket: bool,
    /// What it is as a ticket, if that was told.
    pub ticket: Option<TicketView>,
    /// The title, if it is not empty.
    pub title: Option<String>,
    /// What the user may see: the source, then the parts, oldest first by time and number. A notification carries
    /// only the newest ones, a `GET` the newest 500: what is missing here is not gone.
    pub messages: Vec<Seen>,
    /// How many parts of all kinds there are, as far as this answer counts.
    pub total_parts: Option<u64>,
}

/// A message with what only the mirror needs. Whether it is a certain text of ours is told by
/// [`normalised_html`] of its `html` and [`normalised_text`] of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The message.
    pub message: Message,
    /// Intercom's name for the kind of part; `source` for the opening message.
    pub part_type: String,
    /// Created through the API.
    pub from_api: bool,
    /// The opening message.
    pub is_source: bool,
    /// The contact who wrote it; `None` for operators and bots.
    pub author_contact: Option<ContactId>,
    /// Unix seconds; later than the message's `created_at` if it was edited or taken back.
    pub updated_at: i64,
}

/// What a notification tells us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A conversation changed; here is a part of it. A message that was taken back comes `redacted`.
    Conversation(Box<Snapshot>),
    /// A conversation is gone.
    Deleted(ConversationId),
    /// A conversation or ticket changed in a way that the notification does not show well: ask Intercom.
    Refresh(ConversationId),
    /// Two contacts became one.
    ContactMerged {
        /// The one that lives on.
        survivor: ContactId,
        /// The one that is no more, if the notification names it.
        from: Option<ContactId>,
        /// The survivor's user id in the app.
        user: Option<String>,
    },
    /// A contact was deleted or archived.
    ContactGone(ContactId),
    /// Nothing for us.
    Ignored,
}

/// Topics whose notification carries a conversation.
const OF_CONVERSATIONS: [&str; 13] = [
    "conversation.user.created",
    "conversation.user.replied",
    "conversation.admin.replied",
    "conversation.operator.replied",
    "conversation.admin.single.created",
    "conversation.admin.closed",
    "conversation.admin.opened",
    "conversation.admin.snoozed",
    "conversation.admin.unsnoozed",
    "conversation.admin.assigned",
    "conversation.admin.open.assigned",
    "conversation.read",
    "conversation_part.redacted",
];

/// Whether a notification of this topic can have an effect. What cannot, internal notes above all, is not stored.
pub fn matters(topic: &str) -> bool {
    OF_CONVERSATIONS.contains(&topic)
        || matches!(topic, "conversation.deleted" | "conversation_part.tag.created")
        || matches!(topic, "contact.merged" | "contact.deleted" | "contact.archived")
        || (topic.starts_with("ticket.") && topic != "ticket.note.created")
}

impl Snapshot {
    /// The same with the one message that it has beside the opening one: so Intercom shows a message that was just written.
    /// `None` where there are more or none, or where the opening one was taken back, which is to be seen.
    pub fn of_one_message(mut self) -> Option<Self> {
        let is_seen = |seen: &Seen| seen.is_source && seen.message.redacted;
        if self.messages.iter().any(is_seen) {
            return None;
        }
        self.messages.retain(|seen| !seen.is_source);
        (self.messages.len() == 1).then_some(self)
    }
}

/// What a notification tells us; never fails. Whether it comes from our workspace is the caller's question.
pub fn event(notification: &wire::Notification) -> Event {
    let nothing = Value::Null;
    let item = notification.data.as_ref().map_or(&nothing, |data| &data.item);
    match notification.topic.as_deref().unwrap_or_default() {
        topic if !matters(topic) => Event::Ignored,
        topic if OF_CONVERSATIONS.contains(&topic) => parsed(item)
            .and_then(|conversation| snapshot(&conversation))
            .map_or_else(|| refresh(item), |snapshot| Event::Conversation(Box::new(snapshot))),
        "conversation.deleted" => conversation_id(item).map_or(Event::Ignored, Event::Deleted),
        "contact.merged" => contact(item).map_or(Event::Ignored, |(survivor, contact)| Event::ContactMerged {
            survivor,
            from: contact.merged_from.and_then(|from| contact_id(from.id.as_ref())),
            user: contact.external_id.map(|id| id.0),
        }),
        "contact.deleted" | "contact.archived" => {
            contact(item).map_or(Event::Ignored, |(id, _)| Event::ContactGone(id))
        }
        topic if topic.starts_with("ticket.") => ticket::event(topic, item),
        _ => refresh(item),
    }
}

/// Which conversation a notification is about; `None` of one on contacts, and where it does not say.
pub fn subject(notification: &wire::Notification) -> Option<ConversationId> {
    let topic = notification.topic.as_deref().unwrap_or_default();
    let item = &notification.data.as_ref()?.item;
    let own = || ConversationId::parse(wire::Id::deserialize(item.get("id")?).ok()?.as_str());
    match topic {
        topic if topic.starts_with("contact.") => None,
        topic if OF_CONVERSATIONS.contains(&topic) => own().or_else(|| conversation_id(item)),
        _ => conversation_id(item),
    }
}

/// A conversation in our words; `None` without a usable id.
pub fn snapshot(conversation: &wire::Conversation) -> Option<Snapshot> {
    let id = ConversationId::parse(conversation.id.as_ref()?.as_str())?;
    let created_at = conversation.created_at.unwrap_or(0);
    let source = conversation.source.as_ref().or(conversation.conversation_message.as_ref());
    let parts = conversation.conversation_parts.as_ref();
    let mut messages: Vec<Seen> = parts
        .into_iter()
        .flat_map(|parts| &parts.conversation_parts)
        .filter_map(|part| seen(&id, part, created_at, false))
        .collect();
    messages.sort_by_cached_key(by_age);
    let source = source.and_then(|source| seen(&id, source, created_at, true));
    let contacts = || conversation.contacts.iter().flat_map(|list| &list.contacts).chain(&conversation.user);
    Some(Snapshot {
        contacts: contacts().filter_map(|contact| contact_id(contact.id.as_ref())).collect(),
        users: contacts()
            .filter_map(|contact| contact.external_id.as_ref().or(contact.user_id.as_ref()))
            .map(|id| id.as_str().to_owned())
            .collect(),
        state: conversation.state.as_deref().and_then(state),
        snoozed_until: conversation.snoozed_until,
        created_at,
        updated_at: conversation.updated_at.unwrap_or(created_at),
        rated_by_tag: conversation.tags.as_ref().map(|tags| tags.tags.iter().any(says_rated)),
        is_ticket: conversation.ticket.as_ref().is_some_and(Value::is_object),
        title: conversation.title.as_deref().map(text_of).filter(|title| !title.is_empty()),
        messages: source.into_iter().chain(messages).collect(),
        total_parts: parts.and_then(|parts| parts.total_count),
        ticket: None,
        id,
    })
}

/// A conversation that was just begun: Intercom's answer holds ids, the rest is what was sent.
pub fn opened(created: Created, contact: &ContactId, name: Option<String>, text: &str, asked_s: i64) -> Snapshot {
    let Created { conversation_id: id, message_id, created_at } = created;
    let created_at = created_at.unwrap_or(asked_s);
    let message = Message {
        id: message_id.unwrap_or_else(|| id.as_str().to_owned()),
        author: Author { kind: AuthorKind::User, name, avatar_url: None },
        body: text.to_owned(),
        html: html_of_plain(text),
        attachments: Vec::new(),
        created_at,
        redacted: false,
    };
    let source = Seen {
        message,
        part_type: "source".to_owned(),
        from_api: true,
        is_source: true,
        author_contact: Some(contact.clone()),
        updated_at: created_at,
    };
    Snapshot {
        id,
        contacts: vec![contact.clone()],
        users: Vec::new(),
        state: Some(State::Open),
        snoozed_until: None,
        created_at,
        updated_at: created_at,
        rated_by_tag: None,
        is_ticket: false,
        title: None,
        messages: vec![source],
        total_parts: None,
        ticket: None,
    }
}

/// The order of messages: the opening one, then by Intercom's seconds and numbers.
fn by_age(seen: &Seen) -> (bool, i64, u128) {
    (!seen.is_source, seen.message.created_at, seen.message.id.parse().unwrap_or(u128::MAX))
}

/// A part as a message, if the user may see it.
fn seen(
    conversation: &ConversationId,
    part: &wire::Part,
    conversation_created_at: i64,
    is_source: bool,
) -> Option<Seen> {
    let part_type = if is_source { "source" } else { part.part_type.as_deref()? };
    let author = part.author.as_ref()?;
    let kind = side(author)?;
    if !is_source && !may_carry_a_message(part_type) {
        return None;
    }
    let id = part.id.as_ref().map(wire::Id::as_str).filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    let redacted = part.redacted == Some(true);
    let options = || if part_type == "quick_reply" { options(part) } else { None };
    let raw = part.body.clone().filter(|body| !body.trim().is_empty()).or_else(options).unwrap_or_default();
    let (read, attachments) = if redacted {
        Default::default()
    } else {
        let mut read = html::read(&raw);
        let pictures = std::mem::take(&mut read.pictures);
        (read, attachments(conversation, id, part, pictures))
    };
    if read.text.is_empty() && attachments.is_empty() && !redacted {
        return None; // A change of state, not a message.
    }
    let created_at = part.created_at.unwrap_or(conversation_created_at);
    Some(Seen {
        message: Message {
            id: id.to_owned(),
            author: shown(author, kind),
            body: read.text,
            html: read.html,
            attachments,
            created_at,
            redacted,
        },
        part_type: part_type.to_owned(),
        from_api: part.app_package_code.as_deref().is_some_and(|code| !code.is_empty()),
        is_source,
        author_contact: if kind == AuthorKind::User { contact_id(author.id.as_ref()) } else { None },
        updated_at: part.updated_at.unwrap_or(created_at),
    })
}

/// The allow-list. All but the first two carry words for the user only when an operator says something while
/// closing, assigning or the like, or when a user's reply opens the conversation; bare, they are changes of state.
fn may_carry_a_message(part_type: &str) -> bool {
    matches!(
        part_type,
        "comment"
            | "quick_reply"
            | "open"
            | "close"
            | "assignment"
            | "assign_and_reopen"
            | "assign_and_unsnooze"
            | "snoozed"
            | "unsnoozed"
            | "timer_unsnooze"
    )
}

fn side(author: &wire::Author) -> Option<AuthorKind> {
    let by_machine = author.from_ai_agent == Some(true) || author.is_ai_answer == Some(true);
    match author.kind.as_deref()? {
        "user" | "lead" | "contact" => Some(AuthorKind::User),
        "bot" => Some(AuthorKind::Bot),
        "admin" | "team" => Some(if by_machine { AuthorKind::Bot } else { AuthorKind::Operator }),
        _ => None,
    }
}

fn shown(author: &wire::Author, kind: AuthorKind) -> Author {
    let name = author.name.as_deref().map(str::trim).filter(|name| !name.is_empty() && !holds_an_email(name));
    let avatar = author.avatar.as_ref().and_then(|avatar| match avatar {
        wire::Avatar::Url(url) => Some(url),
        wire::Avatar::Object { image_url } => image_url.as_ref(),
    });
    let avatar_url = avatar.filter(|url| url.starts_with("https://")).cloned();
    Author { kind, name: name.map(str::to_owned), avatar_url }
}

fn holds_an_email(name: &str) -> bool {
    name.split_whitespace()
        .any(|word| word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()))
}

/// The choices of a quick reply, one a line, for clients that show only text.
fn options(part: &wire::Part) -> Option<String> {
    let options = part.metadata.as_ref()?.quick_reply_options.iter();
    Some(html_of_plain(&options.filter_map(|option| option.text.as_deref()).collect::<Vec<_>>().join("\n")))
}

/// The files of a part, then the pictures in its text that are not among them. Ids depend only on the place, so
/// that they survive Intercom's changing addresses.
fn attachments(
    conversation: &ConversationId,
    part_id: &str,
    part: &wire::Part,
    pictures: Vec<String>,
) -> Vec<Attachment> {
    let id = |index: usize| FileId::of_part(conversation, part_id, index).as_str().to_owned();
    let mut known: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for (index, file) in part.attachments.iter().enumerate() {
        let Some(url) = file.url.as_deref().filter(|url| is_web(url)) else { continue };
        known.push(without_query(url).to_owned());
        found.push(Attachment {
            id: id(index),
            name: file.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| name_of(url)),
            content_type: file.content_type.clone().unwrap_or_else(|| content_type_of(url).to_owned()),
            size: file.filesize.filter(|bytes| *bytes >= 0),
            width: file.width.filter(|pixels| *pixels > 0),
            height: file.height.filter(|pixels| *pixels > 0),
            url: url.to_owned(),
        });
    }
    let mut index = part.attachments.len();
    for url in pictures.into_iter().filter(|url| is_web(url)) {
        if known.iter().any(|known| known == without_query(&url)) {
            continue;
        }
        known.push(without_query(&url).to_owned());
        let (name, content_type) = (name_of(&url), content_type_of(&url).to_owned());
        found.push(Attachment { id: id(index), name, content_type, size: None, width: None, height: None, url });
        index += 1;
    }
    found
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// The last part of the path.
fn name_of(url: &str) -> String {
    let path = without_query(url).splitn(4, '/').nth(3).unwrap_or_default();
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file").to_owned()
}

fn content_type_of(url: &str) -> &'static str {
    let name = name_of(url).to_ascii_lowercase();
    match name.rsplit('.').next() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => "application/octet-stream",
    }
}

fn state(name: &str) -> Option<State> {
    match name {
        "open" => Some(State::Open),
        "closed" => Some(State::Closed),
        "snoozed" => Some(State::Snoozed),
        _ => None,
    }
}

fn says_rated(tag: &wire::Tag) -> bool {
    tag.name.as_deref().is_some_and(|name| normalised_html(name).to_lowercase().starts_with(RATED_TAG))
}

fn refresh(item: &Value) -> Event {
    conversation_id(item).map_or(Event::Ignored, Event::Refresh)
}

/// Which conversation a notification is about. A ticket is a conversation of the same id; in notifications on
/// tickets `item.id` can be a part's id, so it comes last.
fn conversation_id(item: &Value) -> Option<ConversationId> {
    let paths = ["/ticket/id", "/conversation_id", "/id"];
    paths.iter().find_map(|path| {
        let id = wire::Id::deserialize(item.pointer(path)?).ok()?;
        ConversationId::parse(id.as_str())
    })
}

fn contact(item: &Value) -> Option<(ContactId, wire::Contact)> {
    let contact: wire::Contact = parsed(item)?;
    Some((contact_id(contact.id.as_ref())?, contact))
}

fn contact_id(id: Option<&wire::Id>) -> Option<ContactId> {
    ContactId::parse(id?.as_str())
}

fn parsed<'a, T: Deserialize<'a>>(item: &'a Value) -> Option<T> {
    T::deserialize(item).ok()
}
