//! Firebase Cloud Messaging, HTTP v1: one message to one token a request.

use serde_json::{Value, json};
use url::Url;

use super::http;
use super::words::Words;
use crate::breaker::Outcome as Went;
use crate::clock::Clock;
use crate::id::ConversationId;
use crate::store::notices::Kind;

pub mod account;
pub mod answer;

use account::{Account, NoToken};
pub use answer::Outcome;

/// How long FCM keeps a message for a telephone that is off.
const KEPT_S: i64 = 86_400;

/// What a telephone is told.
#[derive(Debug)]
pub struct Message<'a> {
    /// FCM's token.
    pub token: &'a str,
    /// What is told of.
    pub kind: Kind,
    /// It opens as a ticket.
    pub is_ticket: bool,
    /// What is to be opened.
    pub conversation: &'a ConversationId,
    /// The newest message, where it tells of messages.
    pub message: Option<&'a str>,
    /// What it says.
    pub words: &'a Words,
    /// The number on the app's icon.
    pub badge: i64,
    /// Unix seconds.
    pub now_s: i64,
}

/// FCM, for one project.
#[derive(Debug)]
pub struct Fcm {
    account: Account,
    url: Url,
    http: reqwest::Client,
    clock: Clock,
}

/// What became of a message, where it came as far as FCM or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// FCM answered.
    Answered(Outcome),
    /// Google refuses the account, or FCM does a token that Google has just given.
    NoAccess,
    /// No answer, or no access token.
    Unreachable,
}

impl Sent {
    /// What it was for the circuit breaker.
    pub(super) fn went(self) -> Went {
        match self {
            Self::NoAccess => Went::Auth,
            Self::Unreachable | Self::Answered(Outcome::Later { .. }) => Went::Failure,
            Self::Answered(_) => Went::Success,
        }
    }
}

impl Fcm {
    /// FCM at `base_url` for the account of the file's text.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(json: &str, base_url: &Url, clock: Clock) -> Result<Self, &'static str> {
        let account = Account::read(json, clock.clone())?;
        let mut url = base_url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(["v1", "projects", &account.project, "messages:send"]);
            }
            Err(()) => return Err("cannot be used with FCM_BASE_URL"),
        }
        Ok(Self { account, url, http: http::client()?, clock })
    }

    /// Sends one message; an access token that does not hold is exchanged once.
    pub async fn send(&self, message: &Message<'_>) -> Sent {
        let body = body(message).to_string();
        for _ in 0..2 {
            let token = match self.account.token(&self.http).await {
                Ok(token) => token,
                Err(NoToken::Refused) => return Sent::NoAccess,
                Err(NoToken::Unavailable) => return Sent::Unreachable,
            };
            let request = self.http.post(self.url.clone()).bearer_auth(token.expose());
            let request = request.header("content-type", "application/json").body(body.clone());
            let Ok(answer) = request.send().await else { return Sent::Unreachable };
            let Some(outcome) = self.read(answer).await else { return Sent::Unreachable };
            if outcome != Outcome::Unauthenticated {
                return Sent::Answered(outcome);
            }
            self.account.forget(&token);
        }
        tracing::error!("FCM refuses access tokens that Google has just given");
        Sent::NoAccess
    }

    /// `None`: what there is of the answer says nothing. That a message was taken stands in the status.
    async fn read(&self, answer: reqwest::Response) -> Option<Outcome> {
        let status = answer.status();
        let retry_after = http::retry_after(answer.headers(), self.clock.now_ms());
        let (body, is_whole) = http::body(answer).await;
        (is_whole || status.is_success()).then(|| answer::outcome(status.as_u16(), retry_after, &body))
    }
}

/// A notification to be shown, and data by which the app finds what it is about. One collapse key a kind, since a token
/// may have four; what was told of the same conversation before is replaced on the screen.
fn body(message: &Message<'_>) -> Value {
    let Message { token, kind, is_ticket, conversation, words, badge, now_s, .. } = message;
    let place = format!("{}:{conversation}", kind.as_str());
    let opens = if *is_ticket { "ticket" } else { "chat" };
    let mut data = json!({ "type": opens, "conversationId": conversation, "v": "1" });
    if let Some(id) = message.message {
        data["messageId"] = json!(id);
    }
    json!({ "message": {
        "token": token,
        "notification": { "title": words.title, "body": words.body },
        "data": data,
        "android": {
            "priority": "high",
            "ttl": format!("{KEPT_S}s"),
            "collapse_key": kind.as_str(),
            "notification": { "tag": place, "channel_id": "support_messages", "notification_count": badge },
        },
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-push-type": "alert",
                "apns-expiration": (now_s + KEPT_S).to_string(),
                "apns-collapse-id": place,
            },
            "payload": { "aps": { "thread-id": place, "badge": badge, "sound": "default", "mutable-content": 1 } },
        },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::words::words;

    #[test]
    fn a_message_is_what_both_kinds_of_telephones_take() {
        let conversation = ConversationId::parse("12345678901234567890").expect("an id");
        let long = "й".repeat(1_000);
        let words = words(Kind::Chat, Some("ru"), 3, Some(&long));
        let token = "t".repeat(1024);
        let message = Message {
            token: &token,
            kind: Kind::Chat,
            is_ticket: true,
            conversation: &conversation,
            message: Some("98765432109876543210"),
            words: &words,
            badge: 7,
            now_s: 1_800_000_000,
        };
        let body = body(&message);
        assert!(body.to_string().len() < 4096, "the longest of all: {}", body.to_string().len());
        let message = &body["message"];
        let strings = message["data"].as_object().expect("an object").values().all(Value::is_string);
        assert!(strings, "FCM takes texts alone as data");
        assert_eq!(message["data"]["type"], "ticket");
        assert_eq!(message["android"]["collapse_key"], "chat");
        assert_eq!(message["android"]["notification"]["tag"], "chat:12345678901234567890");
        let apns = &message["apns"];
        assert!(apns["headers"]["apns-collapse-id"].as_str().expect("a text").len() <= 64);
        assert_eq!(apns["headers"]["apns-expiration"], "1800086400");
        assert_eq!(apns["payload"]["aps"]["badge"], 7);
        assert_eq!(message["android"]["notification"]["notification_count"], 7);
    }
}
