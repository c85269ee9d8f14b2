//! Telegram's Bot API: a message to the user who has opened the Mini App, with a button that opens it again.
//!
//! Telegram cannot collapse messages, so a message that may have been sent is never sent again.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::http;
use super::words::Words;
use crate::breaker::Outcome as Went;
use crate::clock::Clock;
use crate::config::Secret;
use crate::id::ConversationId;

/// Where Telegram asks for a pause and does not say how long.
const PAUSE: Duration = Duration::from_secs(5);

/// The bot.
#[derive(Debug)]
pub(super) struct Telegram {
    /// With the bot's token in it: never to be shown.
    send: Secret,
    probe: Secret,
    app: Option<Url>,
    http: reqwest::Client,
    clock: Clock,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Telegram has sent it.
    Delivered,
    /// The user has blocked the bot, or never begun with it, or is gone.
    Unreachable,
    /// The whole bot is to pause; nothing was sent.
    Paused(Duration),
    /// The bot's token is refused; nothing was sent.
    NoAccess,
    /// The message is wrong.
    Refused,
    /// Telegram was not reached: certainly nothing was sent.
    Unreached,
    /// It may have been sent, or not.
    Unknown,
}

impl Sent {
    /// What it was for the circuit breaker.
    pub(super) fn went(self) -> Went {
        match self {
            Self::NoAccess => Went::Auth,
            Self::Unreached | Self::Unknown => Went::Failure,
            _ => Went::Success,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    ok: bool,
    description: String,
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<u64>,
}

impl Telegram {
    /// The bot of this token. `app`: the Mini App's address.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(token: &Secret, base_url: &Url, app: Option<Url>, clock: Clock) -> Result<Self, &'static str> {
        let method = |name: &str| {
            let mut url = base_url.clone();
            let bot = format!("bot{}", token.expose());
            url.path_segments_mut().ok()?.pop_if_empty().extend([bot.as_str(), name]);
            Some(Secret::new(url.as_str()))
        };
        let (Some(send), Some(probe)) = (method("sendMessage"), method("getMe")) else {
            return Err("cannot be used with TELEGRAM_API_URL");
        };
        Ok(Self { send, probe, app, http: http::client()?, clock })
    }

    /// Sends a message to the user with this Telegram id.
    pub(super) async fn send(&self, user: &str, words: &Words, conversation: &ConversationId, is_ticket: bool) -> Sent {
        let Ok(chat) = user.parse::<i64>() else { return Sent::Unreachable };
        let mut body = json!({
            "chat_id": chat,
            "text": words.body,
            "link_preview_options": { "is_disabled": true },
        });
        if let Some(app) = &self.app {
            body["reply_markup"] = json!({ "inline_keyboard": [[button(app, words, conversation, is_ticket)]] });
        }
        let request = self.http.post(self.send.expose()).header("content-type", "application/json");
        match request.body(body.to_string()).send().await {
            Ok(answer) => self.read(answer).await,
            Err(error) if error.is_connect() || error.is_builder() => Sent::Unreached,
            Err(_) => Sent::Unknown,
        }
    }

    /// Whether Telegram answers and knows the bot: asked while the circuit is half open, since a message that serves as
    /// a probe would be lost.
    pub(super) async fn probe(&self) -> Sent {
        match self.http.get(self.probe.expose()).send().await {
            Ok(answer) => self.read(answer).await,
            Err(_) => Sent::Unreached,
        }
    }

    async fn read(&self, answer: reqwest::Response) -> Sent {
        let status = answer.status().as_u16();
        let header = http::retry_after(answer.headers(), self.clock.now_ms());
        let (body, _) = http::body(answer).await;
        sent(status, header, &body)
    }
}

/// What an answer means.
fn sent(status: u16, header: Option<Duration>, body: &[u8]) -> Sent {
    let Body { ok, description, parameters } = serde_json::from_slice(body).unwrap_or_default();
    let asked = parameters.retry_after.map(Duration::from_secs);
    match status {
        200..=299 if ok => Sent::Delivered,
        429 => Sent::Paused(asked.or(header).unwrap_or(PAUSE)),
        403 => Sent::Unreachable,
        400 if description.contains("chat not found") => Sent::Unreachable,
        // A path that Telegram does not know is a token that it does not know.
        401 | 404 => Sent::NoAccess,
        400..=499 => Sent::Refused,
        _ => Sent::Unknown,
    }
}

/// Opens the Mini App at the conversation: in Telegram's own window by its address, or by a link that leads to the bot.
fn button(app: &Url, words: &Words, conversation: &ConversationId, is_ticket: bool) -> Value {
    let mut url = app.clone();
    if matches!(app.host_str(), Some("t.me" | "telegram.me")) {
        let letter = if is_ticket { 't' } else { 'c' };
        url.query_pairs_mut().append_pair("startapp", &format!("{letter}_{conversation}"));
        return json!({ "text": words.button, "url": url.as_str() });
    }
    let name = if is_ticket { "ticket" } else { "conversation" };
    url.query_pairs_mut().append_pair(name, conversation.as_str());
    json!({ "text": words.button, "web_app": { "url": url.as_str() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::words::words;
    use crate::store::notices::Kind;

    fn of(status: u16, body: &str) -> Sent {
        sent(status, None, body.as_bytes())
    }

    fn refusal(status: u16, description: &str) -> Sent {
        of(status, &json!({ "ok": false, "error_code": status, "description": description }).to_string())
    }

    #[test]
    fn each_answer_has_its_meaning() {
        assert_eq!(of(200, r#"{"ok":true,"result":{"message_id":7}}"#), Sent::Delivered);
        assert_eq!(refusal(403, "Forbidden: bot was blocked by the user"), Sent::Unreachable);
        assert_eq!(refusal(403, "Forbidden: user is deactivated"), Sent::Unreachable);
        assert_eq!(refusal(403, "Forbidden: bot can't initiate conversation with a user"), Sent::Unreachable);
        assert_eq!(refusal(400, "Bad Request: chat not found"), Sent::Unreachable);
        assert_eq!(refusal(400, "Bad Request: message text is empty"), Sent::Refused);
        assert_eq!(refusal(401, "Unauthorized"), Sent::NoAccess);
        assert_eq!(refusal(404, "Not Found"), Sent::NoAccess);
        for (status, body) in [(500, "{}"), (502, "<html>"), (200, "<html>"), (200, r#"{"ok":false}"#)] {
            assert_eq!(of(status, body), Sent::Unknown, "{status} {body}");
        }
    }

    #[test]
    fn the_pause_stands_in_the_answer_or_in_its_header() {
        let long = r#"{"ok":false,"error_code":429,"parameters":{"retry_after":100000}}"#;
        assert_eq!(of(429, long), Sent::Paused(Duration::from_secs(100_000)));
        assert_eq!(sent(429, Some(Duration::from_secs(3)), b"{}"), Sent::Paused(Duration::from_secs(3)));
        assert_eq!(of(429, ""), Sent::Paused(PAUSE));
    }

    #[test]
    fn the_button_opens_the_mini_app_at_the_conversation() {
        let id = ConversationId::parse("42").expect("an id");
        let words = words(Kind::Chat, None, 1, None);
        let url = |app: &str, is_ticket| {
            let button = button(&Url::parse(app).expect("a URL"), &words, &id, is_ticket);
            let url = button["web_app"]["url"].as_str().or(button["url"].as_str());
            (button["web_app"].is_object(), url.expect("an address").to_owned())
        };
        let own = "https://app.example.com/chat?theme=dark";
        assert_eq!(url(own, false), (true, format!("{own}&conversation=42")));
        assert_eq!(url(own, true), (true, format!("{own}&ticket=42")));
        assert_eq!(url("https://t.me/bank_bot/app", false), (false, "https://t.me/bank_bot/app?startapp=c_42".into()));
        assert_eq!(url("https://t.me/bank_bot/app", true), (false, "https://t.me/bank_bot/app?startapp=t_42".into()));
    }
}
