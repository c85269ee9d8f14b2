//! What a test, or the operator's page, sees of phones and chats, and does to them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::outcome::{Outcome, To};
use super::screen::{Platform, Registration, Shown};
use super::state::{Counts, Sent, Service};
use super::telegram::{ChatState, Message};
use super::{Held, Network};

/// Phones with the app on them, and chats with the bot. They need no introduction: every token is a phone's and every positive id a
/// user's, until something else is said about them.
#[derive(Clone)]
pub struct Phones {
    network: Arc<Network>,
}

/// Something done to phones and chats, as `POST /_sandbox/phones` takes it:
/// `{"act":"script","to":{"phone":"TOKEN"},"outcome":{"outcome":"unregistered"},"times":1}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PhoneAct {
    Script {
        to: To,
        outcome: Outcome,
        #[serde(default = "always")]
        times: u32,
    },
    ClearScripts,
    SetPhone {
        token: String,
        #[serde(default)]
        registration: Option<Registration>,
        #[serde(default)]
        platform: Option<Platform>,
        #[serde(default)]
        online: Option<bool>,
    },
    SetChat {
        chat: i64,
        state: ChatState,
    },
    ClearScreen {
        to: To,
    },
    Down {
        service: Service,
    },
    Up {
        service: Service,
    },
    RevokeAccessTokens,
}

fn always() -> u32 {
    u32::MAX
}

/// How to reach the stand-ins. All are below the sandbox's own address.
impl Phones {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        Self { network }
    }

    /// The service account's file as the Firebase console would give it out; its `token_uri` is the sandbox's. The first call in a
    /// process makes the key, which takes a moment.
    #[must_use]
    pub fn service_account(&self) -> Value {
        self.network.look(|state| state.google.service_account())
    }

    /// The project whose messages FCM takes.
    #[must_use]
    pub fn project(&self) -> String {
        self.network.look(|state| state.google.project.clone())
    }

    /// The bot's token.
    #[must_use]
    pub fn bot_token(&self) -> String {
        self.network.look(|state| state.telegram.bot_token.clone())
    }
}

/// Looking.
impl Phones {
    /// Every message that anybody wanted sent, the latest 50,000, in order; those that were refused too.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.network.look(|state| state.sent.iter().cloned().collect())
    }

    /// The messages wanted sent to somebody, in order; those that were refused too.
    #[must_use]
    pub fn sent_to(&self, to: impl Into<To>) -> Vec<Sent> {
        let to = to.into();
        self.network.look(|state| state.sent.iter().filter(|sent| sent.to == to).cloned().collect())
    }

    /// The messages that reached somebody, in order.
    #[must_use]
    pub fn delivered_to(&self, to: impl Into<To>) -> Vec<Sent> {
        self.sent_to(to).into_iter().filter(|sent| sent.delivered).collect()
    }

    /// What stands on a phone's screen, the oldest first.
    #[must_use]
    pub fn screen(&self, token: &str) -> Vec<Shown> {
        self.network.look(|state| state.phones.get(token).map(|phone| phone.screen.clone()).unwrap_or_default())
    }

    /// The number on the app's icon; None: no message has said any.
    #[must_use]
    pub fn badge(&self, token: &str) -> Option<i64> {
        self.network.look(|state| state.phones.get(token).and_then(|phone| phone.badge))
    }

    /// What stands in a chat, the oldest first.
    #[must_use]
    pub fn chat(&self, chat: i64) -> Vec<Message> {
        self.network.look(|state| state.telegram.chats.get(&chat).map(|chat| chat.messages.clone()).unwrap_or_default())
    }

    /// How many requests each service got.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.network.look(|state| state.counts)
    }

    /// Forgets messages and counts; what stands on screens and in chats stays.
    pub fn forget(&self) {
        self.network.look(|state| {
            state.sent.clear();
            state.counts = Counts::default();
        });
    }

    /// All phones and chats, as the operator's page shows them.
    pub(crate) fn overview(&self) -> Value {
        self.network.look(|state| {
            let phone = |(token, phone): (&String, &super::screen::Phone)| {
                json!({
                    "token": token,
                    "platform": phone.platform,
                    "registration": phone.registration,
                    "online": phone.online,
                    "badge": phone.badge,
                    "screen": phone.screen,
                })
            };
            let chat = |(id, chat): (&i64, &super::telegram::Chat)| json!({ "chat": id, "state": chat.state, "messages": chat.messages });
            json!({
                "phones": state.phones.iter().map(phone).collect::<Vec<_>>(),
                "chats": state.telegram.chats.iter().map(chat).collect::<Vec<_>>(),
                "counts": state.counts,
                "down": state.down,
            })
        })
    }
}

/// Arranging.
impl Phones {
    /// Says what becomes of the next `times` messages to somebody. Said again, it holds for those after them. A script comes before
    /// everything else that could be wrong with a proper message, limits included.
    ///
    /// # Panics
    /// When that somebody's service never answers so.
    pub fn script(&self, to: impl Into<To>, outcome: Outcome, times: u32) {
        self.arrange(PhoneAct::Script { to: to.into(), outcome, times });
    }

    /// Forgets what was said of messages to come.
    pub fn clear_scripts(&self) {
        self.arrange(PhoneAct::ClearScripts);
    }

    /// Holds the answers to messages to somebody from now on; the messages take effect at once.
    pub fn hold(&self, to: impl Into<To>) -> Held {
        Held::new(Arc::clone(&self.network), to.into())
    }

    /// From now on the app is there, or gone, or another project's.
    pub fn set_registration(&self, token: &str, registration: Registration) {
        self.network.look(|state| state.phone(token).registration = registration);
    }

    /// The kind of a phone; they are Android's unless this was said.
    pub fn set_platform(&self, token: &str, platform: Platform) {
        self.network.look(|state| state.phone(token).platform = platform);
    }

    /// The phone cannot be reached: FCM takes messages and keeps some of them.
    pub fn goes_offline(&self, token: &str) {
        self.set_online(token, false);
    }

    /// The phone can be reached again, and shows what FCM has kept.
    pub fn comes_online(&self, token: &str) {
        self.set_online(token, true);
    }

    fn set_online(&self, token: &str, online: bool) {
        self.arrange(PhoneAct::SetPhone {
            token: token.to_owned(),
            registration: None,
            platform: None,
            online: Some(online),
        });
    }

    /// Its user has looked: nothing is on the screen any more, and no number on the icon.
    pub fn clear_screen(&self, to: impl Into<To>) {
        self.arrange(PhoneAct::ClearScreen { to: to.into() });
    }

    /// How things are from now on between the bot and a user.
    pub fn set_chat(&self, chat: i64, state: ChatState) {
        self.arrange(PhoneAct::SetChat { chat, state });
    }

    /// From now on the service breaks every connection. Slower deaths: `Sandbox::fault` with the service's path.
    pub fn take_down(&self, service: Service) {
        self.arrange(PhoneAct::Down { service });
    }

    /// The service is there again.
    pub fn bring_up(&self, service: Service) {
        self.arrange(PhoneAct::Up { service });
    }

    /// How long access tokens hold that are given from now on; at first 3,599 seconds.
    pub fn access_tokens_live_for(&self, time: Duration) {
        self.network
            .look(|state| state.google.tokens_live_for_s = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2000));
    }

    /// Ends all access tokens before their time.
    pub fn revoke_access_tokens(&self) {
        self.arrange(PhoneAct::RevokeAccessTokens);
    }

    /// Whether every assertion is refused with `invalid_grant` from now on, as when the key was deleted.
    pub fn refuse_assertions(&self, refuses: bool) {
        self.network.look(|state| state.google.refuses = refuses);
    }

    fn arrange(&self, act: PhoneAct) {
        let said = format!("{act:?}");
        self.perform(act).unwrap_or_else(|why| panic!("{why}: {said}"));
    }

    /// Does it, or says why it cannot be.
    pub(crate) fn perform(&self, act: PhoneAct) -> Result<(), &'static str> {
        let now_ms = self.network.now_ms();
        self.network.look(|state| {
            match act {
                PhoneAct::Script { to, outcome, times } => {
                    if !outcome.fits(&to) {
                        return Err("that service never answers so");
                    }
                    state.script(to, outcome, times);
                }
                PhoneAct::ClearScripts => state.forget_scripts(),
                PhoneAct::SetPhone { token, registration, platform, online } => {
                    let phone = state.phone(&token);
                    phone.registration = registration.unwrap_or(phone.registration);
                    phone.platform = platform.unwrap_or(phone.platform);
                    match online {
                        Some(true) => phone.come_online(now_ms),
                        Some(false) => phone.online = false,
                        None => {}
                    }
                }
                PhoneAct::SetChat { chat, state: new } => state.telegram.chat(chat).state = new,
                PhoneAct::ClearScreen { to: To::Phone(token) } => {
                    let phone = state.phone(&token);
                    phone.screen.clear();
                    phone.badge = None;
                }
                PhoneAct::ClearScreen { to: To::Chat(chat) } => state.telegram.chat(chat).messages.clear(),
                PhoneAct::Down { service } => _ = state.down.insert(service),
                PhoneAct::Up { service } => _ = state.down.remove(&service),
                PhoneAct::RevokeAccessTokens => state.google.revoke_all(),
            }
            Ok(())
        })
    }
}
