//! The teammate at the other end: Olga Operator, and what she can do.

mod tickets;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

use crate::Sandbox;
use crate::world::{Assignee, Author, Body, Details, NewPart, State, Via, World};

pub(crate) const ADMIN_ID: &str = "9000002";
pub(crate) const NAME: &str = "Olga Operator";
/// Stands in payloads, as Intercom has it, and must never reach a user.
pub(crate) const EMAIL: &str = "operator@sandbox.example";

pub use tickets::NewTicket;
pub(crate) use tickets::moves;

/// A file for an answer with attachments. In JSON `data` is base64.
#[derive(Clone, Debug, Deserialize)]
pub struct Upload {
    /// The file's name.
    pub name: String,
    /// Such as `image/png`.
    pub content_type: String,
    /// The file itself.
    #[serde(deserialize_with = "from_base64")]
    pub data: Vec<u8>,
}

/// Something done in the workspace, as `POST /_sandbox/act` takes it: `{"act":"reply","conversation":"…","body":"…"}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    Reply {
        conversation: String,
        body: String,
        #[serde(default)]
        attachments: Vec<Upload>,
    },
    AssignWithReply {
        conversation: String,
        body: String,
    },
    Note {
        conversation: String,
        body: String,
    },
    Close {
        conversation: String,
        #[serde(default)]
        body: Option<String>,
    },
    Snooze {
        conversation: String,
        until: i64,
    },
    Unsnooze {
        conversation: String,
    },
    Reopen {
        conversation: String,
    },
    Redact {
        conversation: String,
        part: String,
    },
    Start {
        contact: String,
        body: String,
    },
    BotSay {
        conversation: String,
        body: String,
    },
    Delete {
        conversation: String,
    },
    Tag {
        conversation: String,
        name: String,
    },
    AddPart {
        conversation: String,
        part_type: String,
        #[serde(default)]
        body: Option<String>,
        #[serde(default)]
        author: Option<String>,
    },
    View {
        conversation: String,
    },
    AddContact {
        #[serde(default)]
        external_id: Option<String>,
        #[serde(default)]
        email: Option<String>,
        #[serde(default)]
        name: Option<String>,
    },
    ArchiveContact {
        contact: String,
    },
    DeleteContact {
        contact: String,
    },
    MergeContact {
        from: String,
        into: String,
    },
    DefineAttribute {
        model: String,
        name: String,
    },
    CreateTicket {
        contact: String,
        ticket: NewTicket,
    },
    ConvertToTicket {
        conversation: String,
        #[serde(default)]
        ticket: NewTicket,
    },
    MoveTicket {
        ticket: String,
        state: String,
        #[serde(default)]
        by: Option<String>,
    },
    ShareTicket {
        ticket: String,
        shared: bool,
    },
    SetTicketAttribute {
        ticket: String,
        name: String,
        value: Value,
    },
}

impl Act {
    /// The conversation or ticket acted on, unless the act makes it.
    fn conversation(&self) -> Option<&str> {
        match self {
            Self::Reply { conversation, .. }
            | Self::AssignWithReply { conversation, .. }
            | Self::Note { conversation, .. }
            | Self::Close { conversation, .. }
            | Self::Snooze { conversation, .. }
            | Self::Unsnooze { conversation }
            | Self::Reopen { conversation }
            | Self::Redact { conversation, .. }
            | Self::BotSay { conversation, .. }
            | Self::Delete { conversation }
            | Self::Tag { conversation, .. }
            | Self::AddPart { conversation, .. }
            | Self::ConvertToTicket { conversation, .. }
            | Self::View { conversation } => Some(conversation),
            Self::MoveTicket { ticket, .. }
            | Self::ShareTicket { ticket, .. }
            | Self::SetTicketAttribute { ticket, .. } => Some(ticket),
            _ => None,
        }
    }
}

/// Does it. The answer holds the id of what came of it, if anything did; an error says what is missing.
pub(crate) fn perform(world: &mut World, act: Act) -> Result<Value, String> {
    let html = |body: &str| Body::from_teammate(body);
    let olga = || Author::Admin(ADMIN_ID.to_owned());
    let (what, id) = match act {
        Act::Reply { conversation, body, attachments } => {
            require(world, &conversation)?;
            let keep = |upload: Upload| world.files.keep(&upload.name, &upload.content_type, upload.data.into());
            let files = attachments.into_iter().map(keep).collect();
            let body = (!body.is_empty()).then(|| html(&body));
            let part = NewPart::new("comment", olga(), body, Via::Inbox).with(files);
            ("part", world.admin_writes(&conversation, part))
        }
        Act::Note { conversation, body } => {
            let part = NewPart::new("note", olga(), Some(html(&body)), Via::Inbox);
            ("part", world.admin_writes(&conversation, part))
        }
        Act::AssignWithReply { conversation, body } => {
            let to = Assignee::Admin(ADMIN_ID.parse().unwrap_or_default());
            ("part", world.assign(&conversation, ADMIN_ID, to, Some(html(&body)), Via::Inbox))
        }
        Act::Close { conversation, body } => {
            let body = body.as_deref().filter(|body| !body.is_empty()).map(html);
            ("part", world.close(&conversation, ADMIN_ID, body, Via::Inbox))
        }
        Act::Snooze { conversation, until } => ("part", world.snooze(&conversation, ADMIN_ID, until, Via::Inbox)),
        Act::Unsnooze { conversation } => ("part", world.unsnooze(&conversation, ADMIN_ID, Via::Inbox)),
        Act::Reopen { conversation } => ("part", world.open(&conversation, ADMIN_ID, Via::Inbox)),
        Act::Redact { conversation, part } => ("part", world.redact(&conversation, &part).then_some(part)),
        Act::Start { contact, body } => {
            let known = world.contacts.contains_key(&contact);
            ("conversation", known.then(|| world.start(&contact, olga(), html(&body), Vec::new())))
        }
        Act::BotSay { conversation, body } => ("part", world.bot_writes(&conversation, html(&body))),
        Act::Delete { conversation } => ("conversation", world.delete(&conversation).then_some(conversation)),
        Act::Tag { conversation, name } => {
            let tag = world.tag_named(&name).id;
            ("tag", world.attach_tag(&conversation, &tag, ADMIN_ID).map(|applied| applied.id))
        }
        Act::AddPart { conversation, part_type, body, author } => {
            require(world, &conversation)?;
            let author = author_of(world, &conversation, author.as_deref().unwrap_or("admin"));
            let part = NewPart::new(&part_type, author, body.as_deref().map(html), Via::Inbox);
            ("part", world.append(&conversation, part))
        }
        Act::View { conversation } => {
            let known = world.conversations.get_mut(&conversation);
            ("conversation", known.map(|known| known.seen = known.contact_texts().len()).map(|()| conversation))
        }
        act => return perform_on_contacts(world, act),
    };
    id.map(|id| json!({ what: id })).ok_or_else(|| format!("no such {what}"))
}

fn perform_on_contacts(world: &mut World, act: Act) -> Result<Value, String> {
    let done = match act {
        Act::AddContact { external_id, email, name } => {
            let details = Details { role: "user".to_owned(), external_id, email, name, ..Details::default() };
            return Ok(json!({ "contact": world.add_contact(details) }));
        }
        Act::ArchiveContact { contact } => world.set_archived(&contact, true),
        Act::DeleteContact { contact } => world.delete_contact(&contact),
        Act::MergeContact { from, into } => world.merge_contact(&from, &into),
        Act::DefineAttribute { model, name } => {
            return Ok(json!({ "attribute": world.define_attribute(&model, &name, "string", "").id }));
        }
        act => return tickets::perform(world, act),
    };
    if done { Ok(json!({})) } else { Err("no such contact".to_owned()) }
}

fn require(world: &World, conversation: &str) -> Result<(), String> {
    world.conversations.get(conversation).map(|_| ()).ok_or_else(|| "no such conversation".to_owned())
}

fn author_of(world: &World, conversation: &str, kind: &str) -> Author {
    let contact = || world.conversations.get(conversation).and_then(|known| known.contacts.first().cloned());
    match kind {
        "admin" => Author::Admin(ADMIN_ID.to_owned()),
        "bot" => Author::Bot,
        "user" | "lead" | "contact" => contact().map_or(Author::Other(kind.to_owned()), Author::Contact),
        other => Author::Other(other.to_owned()),
    }
}

fn from_base64<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(input)?).map_err(D::Error::custom)
}

/// Acts as the teammate Olga Operator. Each act returns once its notifications were delivered (or taken by a fault, or refused by
/// the receiver), except those that faults delay.
///
/// # Panics
/// All acts panic when the conversation, part or contact does not exist: that is a mistake in the test.
#[derive(Clone)]
pub struct Operator {
    sandbox: Sandbox,
}

impl Operator {
    pub(crate) fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }

    /// Answers with HTML (bare text gets a paragraph). Returns the part's id.
    pub async fn replies(&self, conversation: &str, html: &str) -> String {
        self.replies_with(conversation, html, Vec::new()).await
    }

    /// Answers with attachments; an empty `html` sends only them. Returns the part's id.
    pub async fn replies_with(&self, conversation: &str, html: &str, attachments: Vec<Upload>) -> String {
        self.act(Act::Reply { conversation: conversation.into(), body: html.into(), attachments }).await
    }

    /// Answers while taking the conversation: the part's type is `assignment`, and it has a body. Returns the part's id.
    pub async fn assigns_with_reply(&self, conversation: &str, html: &str) -> String {
        self.act(Act::AssignWithReply { conversation: conversation.into(), body: html.into() }).await
    }

    /// Writes an internal note, with the notification that a wrongly subscribed app would get. Returns the part's id.
    pub async fn notes(&self, conversation: &str, html: &str) -> String {
        self.act(Act::Note { conversation: conversation.into(), body: html.into() }).await
    }

    /// Closes, with a last word if there is one. Returns the part's id.
    pub async fn closes(&self, conversation: &str, html: Option<&str>) -> String {
        self.act(Act::Close { conversation: conversation.into(), body: html.map(str::to_owned) }).await
    }

    /// Snoozes until a time in Unix seconds. Returns the part's id.
    pub async fn snoozes(&self, conversation: &str, until: i64) -> String {
        self.act(Act::Snooze { conversation: conversation.into(), until }).await
    }

    /// Ends a snooze. Returns the part's id.
    pub async fn unsnoozes(&self, conversation: &str) -> String {
        self.act(Act::Unsnooze { conversation: conversation.into() }).await
    }

    /// Reopens. Returns the part's id.
    pub async fn reopens(&self, conversation: &str) -> String {
        self.act(Act::Reopen { conversation: conversation.into() }).await
    }

    /// Redacts a part, or the opening message by its id.
    pub async fn redacts(&self, conversation: &str, part: &str) {
        self.act(Act::Redact { conversation: conversation.into(), part: part.into() }).await;
    }

    /// Starts a conversation with a contact. Returns the conversation's id.
    pub async fn starts(&self, contact: &str, html: &str) -> String {
        self.act(Act::Start { contact: contact.into(), body: html.into() }).await
    }

    /// Lets the bot answer. Returns the part's id.
    pub async fn bot_says(&self, conversation: &str, html: &str) -> String {
        self.act(Act::BotSay { conversation: conversation.into(), body: html.into() }).await
    }

    /// Deletes the conversation.
    pub async fn deletes(&self, conversation: &str) {
        self.act(Act::Delete { conversation: conversation.into() }).await;
    }

    /// Tags the conversation; Intercom sends no notification of it. Returns the tag's id.
    pub async fn tags(&self, conversation: &str, name: &str) -> String {
        self.act(Act::Tag { conversation: conversation.into(), name: name.into() }).await
    }

    /// Adds a part of any type, without a notification. `author` is `admin`, `bot`, `user` or any other `author.type`. Returns the
    /// part's id.
    pub async fn adds_part(&self, conversation: &str, part_type: &str, html: Option<&str>, author: &str) -> String {
        let (body, author) = (html.map(str::to_owned), Some(author.to_owned()));
        self.act(Act::AddPart { conversation: conversation.into(), part_type: part_type.into(), body, author }).await
    }

    async fn act(&self, act: Act) -> String {
        let said = format!("{act:?}");
        let acted_on = act.conversation().map(str::to_owned);
        let done = self.sandbox.core.change(|world| perform(world, act));
        let done = done.unwrap_or_else(|why| panic!("{why}: {said}"));
        let id = done.as_object().and_then(|done| done.values().next()).and_then(Value::as_str);
        let id = id.unwrap_or_default().to_owned();
        // Only this conversation's queue: under load the others may never be empty.
        self.sandbox.core.hooks.settled(Some(acted_on.as_deref().unwrap_or(&id))).await;
        id
    }
}

/// A conversation as the operator's page shows it.
pub(crate) fn overview(world: &World, id: &str) -> Option<Value> {
    let conversation = world.conversations.get(id)?;
    let contact = conversation.contacts.first().and_then(|id| world.contacts.get(id));
    let contact = contact.map(|c| json!({ "id": c.id, "name": c.details.name, "external_id": c.details.external_id }));
    let last = conversation.parts.iter().rev().find_map(|part| part.body.as_ref()).unwrap_or(&conversation.body);
    let written = conversation.contact_texts().len();
    let ticket = conversation.ticket.as_ref();
    Some(json!({
        "id": conversation.id,
        "contact": contact,
        "state": conversation.state.name(),
        "snoozed_until": conversation.snoozed_until,
        "last_line": last.text.split_whitespace().collect::<Vec<_>>().join(" "),
        "updated_at": conversation.updated_at,
        "unread": written.saturating_sub(conversation.seen),
        "open": conversation.state == State::Open,
        "ticket": ticket.map(|ticket| tickets::overview(world, ticket)),
    }))
}
