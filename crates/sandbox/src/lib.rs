//! The outside world: stand-ins for Intercom, FCM and Telegram that remember, with a teammate to act as, phones to look at and faults
//! to suffer from.
//!
//! It is written from the facts about them alone and knows nothing of the server that calls them.

mod clock;
mod control;
mod core;
mod exchange;
mod faults;
mod http;
pub mod openapi;
mod operator;
mod phones;
mod render;
mod rest;
mod settings;
mod webhooks;
mod world;

use std::io;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;

pub use crate::core::Call;
pub use crate::faults::{ActiveFault, Fault, Kind};
pub use crate::operator::{NewTicket, Operator, Upload};
pub use crate::phones::{
    ChatState, Counts, Held, InitData, Message, Outcome, Phones, Platform, Registration, Sent, Service, Shown, To,
};
pub use crate::settings::Settings;
pub use crate::webhooks::{Delivery, signature};

use crate::core::Core;
use crate::operator::Act;
use crate::render::{Form, Parts};

/// A running stand-in. Clones are handles to the same one.
#[derive(Clone)]
pub struct Sandbox {
    core: Arc<Core>,
}

/// Starting, stopping, and where it is.
impl Sandbox {
    /// Starts on the address in the settings; all its tasks run on the current runtime until [`Sandbox::stop`].
    ///
    /// # Errors
    /// When the address cannot be bound, or the description is there but unreadable.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let description = settings.description.clone().filter(|path| path.exists());
        let document = match description {
            Some(path) => Some(tokio::task::spawn_blocking(move || openapi::Document::shared(&path)).await??),
            None => None,
        };
        let core = Arc::new(Core::new(settings, url, document).map_err(io::Error::other)?);
        core.spawn(http::serve(Arc::clone(&core), listener));
        Ok(Self { core })
    }

    /// The base address of the REST API, such as `http://127.0.0.1:41234`. The operator's page is at `/operator` below it.
    #[must_use]
    pub fn url(&self) -> String {
        self.core.url.clone()
    }

    /// Stops listening, breaks all connections and forgets what was still to be sent.
    pub async fn stop(&self) {
        self.core.stop().await;
    }

    /// A teammate to act as.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(self.clone())
    }

    /// Phones and chats, where notices arrive, and the services that bring them there.
    #[must_use]
    pub fn phones(&self) -> Phones {
        Phones::new(Arc::clone(&self.core.network))
    }
}

/// Time.
impl Sandbox {
    /// Goes by this clock, in Unix milliseconds, instead of the machine's: what happens is dated by it, answers say so, tokens end
    /// by it, and limits are counted by it. What waits or hangs still does so by the machine's.
    pub fn go_by(&self, now_ms: impl Fn() -> i64 + Send + Sync + 'static) {
        self.core.clock.go_by(now_ms);
        self.core.network.start_counting();
    }
}

/// Looking.
impl Sandbox {
    /// The REST calls so far, the latest 50,000.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.core.calls()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.core.forget_calls();
    }

    /// Requests that did not fit the official description (or lacked `Intercom-Version`), one sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.core.violations()
    }

    /// Whether the official description was there to hold requests against.
    #[must_use]
    pub fn validates(&self) -> bool {
        self.core.document.is_some()
    }

    /// A conversation, as a GET would answer it.
    #[must_use]
    pub fn conversation(&self, id: &str) -> Option<Value> {
        self.core.change(|world| {
            let conversation = world.conversations.get(id).filter(|found| world.is_talk(found))?;
            Some(render::conversation(world, conversation, Form::Html, &Parts::Recent))
        })
    }

    /// A ticket, as a GET would answer it.
    #[must_use]
    pub fn ticket(&self, id: &str) -> Option<Value> {
        self.core.change(|world| render::ticket(world, world.conversations.get(id)?))
    }

    /// The ids of all tickets, the oldest first.
    #[must_use]
    pub fn ticket_ids(&self) -> Vec<String> {
        self.core.change(|world| {
            let tickets = world.conversations.values().filter(|conversation| conversation.ticket.is_some());
            tickets.map(|conversation| conversation.id.clone()).collect()
        })
    }

    /// The ids of all conversations, the oldest first; Customer tickets are among them.
    #[must_use]
    pub fn conversation_ids(&self) -> Vec<String> {
        self.core.change(|world| {
            let talks = world.conversations.values().filter(|conversation| world.is_talk(conversation));
            talks.map(|conversation| conversation.id.clone()).collect()
        })
    }

    /// A contact, as a GET would answer it; archived ones are not found.
    #[must_use]
    pub fn contact_by_external_id(&self, external_id: &str) -> Option<Value> {
        self.core
            .change(|world| world.contact_by_external_id(external_id).map(|contact| render::contact(world, contact)))
    }

    /// The plain texts the contact wrote in a conversation, in order, the opening message first. Beyond the 500 parts of a GET.
    #[must_use]
    pub fn contact_parts(&self, conversation: &str) -> Vec<String> {
        self.core.change(|world| world.conversations.get(conversation).map(|c| c.contact_texts()).unwrap_or_default())
    }
}

/// Arranging.
impl Sandbox {
    /// Adds a contact with role `user`, and returns its id.
    #[must_use = "the id is how to find it again"]
    pub fn add_contact(&self, external_id: Option<&str>, email: Option<&str>) -> String {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let done = self.arrange(Act::AddContact { external_id: owned(external_id), email: owned(email), name: None });
        done["contact"].as_str().unwrap_or_default().to_owned()
    }

    /// Archives a contact: it is no longer found, and stands in the way of a new one.
    ///
    /// # Panics
    /// When there is no such contact.
    pub fn archive_contact(&self, id: &str) {
        self.arrange(Act::ArchiveContact { contact: id.to_owned() });
    }

    /// Deletes a contact: its id answers 404.
    ///
    /// # Panics
    /// When there is no such contact.
    pub fn delete_contact(&self, id: &str) {
        self.arrange(Act::DeleteContact { contact: id.to_owned() });
    }

    /// Merges `from` into `into`: `from` answers 410 with a `Link`, and its conversations move.
    ///
    /// # Panics
    /// When there is no such contact, or both are the same.
    pub fn merge_contact(&self, from: &str, into: &str) {
        self.arrange(Act::MergeContact { from: from.to_owned(), into: into.to_owned() });
    }

    /// Defines a custom attribute of `contact`, `company` or `conversation`; unknown ones are refused.
    pub fn define_attribute(&self, model: &str, name: &str) {
        self.arrange(Act::DefineAttribute { model: model.to_owned(), name: name.to_owned() });
    }

    /// Lets the bot reopen at once the tickets it means to reopen after a contact's reply, and waits for what is sent of it.
    pub async fn bot_reopens_tickets_now(&self) {
        self.core.change(|world| {
            for ticket in world.planned_reopenings() {
                world.reopen_as_planned(&ticket);
            }
        });
        self.webhooks_settled().await;
    }

    fn arrange(&self, act: Act) -> Value {
        let said = format!("{act:?}");
        self.core.change(|world| operator::perform(world, act)).unwrap_or_else(|why| panic!("{why}: {said}"))
    }
}

/// Faults.
impl Sandbox {
    /// Adds a rule of what goes wrong.
    pub fn fault(&self, rule: Fault) {
        self.core.rules().add(rule);
    }

    /// Removes all rules. What they delayed stays delayed.
    pub fn clear_faults(&self) {
        self.core.rules().clear();
    }

    /// Applies at once what [`Kind::AppliedLate`] still keeps back: a test need not race against its time.
    pub fn apply_late(&self) {
        self.core.apply_late();
    }

    /// The rules in force, and how often each has acted.
    #[must_use]
    pub fn faults(&self) -> Vec<ActiveFault> {
        self.core.rules().active()
    }
}

/// Webhooks.
impl Sandbox {
    /// Sends notifications to this full URL from now on (and again, if a 410 had ended that). Without one none are sent.
    pub fn send_webhooks_to(&self, url: impl Into<String>) {
        self.core.hooks.send_to(url.into());
    }

    /// Waits until no notification is queued or on its way. Those delayed by a fault, or waiting for their retry, do not count: see
    /// [`Sandbox::release_delayed_webhooks`].
    pub async fn webhooks_settled(&self) {
        self.core.hooks.settled(None).await;
    }

    /// Sends at once what faults delayed and what waits for its retry, and waits until it is delivered.
    pub async fn release_delayed_webhooks(&self) {
        self.core.hooks.release_all(&self.core);
        self.webhooks_settled().await;
    }

    /// Sends all notifications sent so far (the latest 10,000) again, with the same ids, and waits until they are delivered.
    pub async fn replay_webhooks(&self) {
        self.core.hooks.replay(&self.core);
        self.webhooks_settled().await;
    }

    /// What became of the notifications so far, the latest 10,000.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.core.hooks.deliveries()
    }

    /// Whether the receiver answered 410, which ends all notifications.
    #[must_use]
    pub fn webhooks_disabled(&self) -> bool {
        self.core.hooks.disabled()
    }

    /// The envelope of a notification with any topic and item, to be changed and sent with [`Sandbox::send_raw_webhook`].
    #[must_use]
    pub fn notification(&self, topic: &str, item: Value) -> Value {
        webhooks::envelope(&self.core.settings.app_id, topic, item, self.core.clock.now_s())
    }

    /// Sends raw bytes to the receiver and returns its status, 0 when it gave none. Without a signature the body is signed
    /// properly; with an empty one the header is left out.
    pub async fn send_raw_webhook(&self, body: &[u8], signature: Option<&str>) -> u16 {
        let Some(url) = self.core.hooks.url() else { return 0 };
        let signed = webhooks::signature(&self.core.settings.client_secret, body);
        let signature = Some(signature.unwrap_or(&signed)).filter(|text| !text.is_empty());
        webhooks::post(&self.core, &url, body.to_vec(), signature).await.unwrap_or(0)
    }

    /// Sends a `ping`, whose id is null, and returns the receiver's status, 0 when it gave none.
    pub async fn ping(&self) -> u16 {
        let body = webhooks::ping(&self.core.settings.app_id, self.core.clock.now_s());
        self.send_raw_webhook(body.to_string().as_bytes(), None).await
    }

    /// Asks the receiver as Intercom does before it saves a URL: with HEAD. Returns its status, 0 when it gave none.
    pub async fn validate_webhook_url(&self) -> u16 {
        let Some(url) = self.core.hooks.url() else { return 0 };
        let answer = self.core.client.head(&url).timeout(self.core.settings.webhook_timeout).send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }
}
