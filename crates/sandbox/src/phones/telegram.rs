//! Telegram's Bot API: `sendMessage` and `getMe`. Error texts are those of its open server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outcome::{Outcome, To, telegram_error};
use super::pace::Pace;
use super::state::State;
use crate::exchange::{Answer, Reply, Request};

const MAX_TEXT: usize = 4096;
const MAX_TOKEN: usize = 80;
/// What Telegram lets through to all chats, each second.
const OVERALL_PER_S: i64 = 30;
/// How much early a chat's next message may come: clocks and connections are not exact.
const EARLY_MS: i64 = 100;
const PARAMETERS: [&str; 15] = [
    "business_connection_id",
    "chat_id",
    "message_thread_id",
    "text",
    "parse_mode",
    "entities",
    "link_preview_options",
    "disable_web_page_preview",
    "disable_notification",
    "protect_content",
    "allow_paid_broadcast",
    "message_effect_id",
    "reply_parameters",
    "reply_markup",
    "allow_sending_without_reply",
];

/// How things are between the bot and a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// The user has started the bot.
    #[default]
    Open,
    /// The user has blocked the bot.
    Blocked,
    /// The user has deleted the account.
    Deactivated,
    /// The user has never started the bot.
    NeverStarted,
    /// Nobody has that id.
    Unknown,
}

impl ChatState {
    fn outcome(self) -> Outcome {
        match self {
            Self::Open => Outcome::Delivered,
            Self::Blocked => Outcome::Blocked,
            Self::Deactivated => Outcome::Deactivated,
            Self::NeverStarted => Outcome::NeverStarted,
            Self::Unknown => Outcome::ChatNotFound,
        }
    }
}

/// A message as it stands in a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// When it came, in Unix milliseconds.
    pub at_ms: i64,
    /// The text.
    pub text: String,
    /// The buttons below: label and where each leads.
    pub buttons: Vec<(String, String)>,
    /// Whether it came without a sound.
    pub silent: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Chat {
    pub(crate) state: ChatState,
    pub(crate) messages: Vec<Message>,
    pace: Pace,
}

impl Chat {
    fn new() -> Self {
        Self { state: ChatState::default(), messages: Vec::new(), pace: Pace::new(1, 1000, EARLY_MS) }
    }
}

/// The bot and its chats.
#[derive(Debug)]
pub(crate) struct Telegram {
    pub(crate) bot_token: String,
    pub(crate) chats: BTreeMap<i64, Chat>,
    overall: Pace,
    issued: i64,
}

impl Telegram {
    pub(crate) fn new(bot_token: &str) -> Self {
        let mut telegram =
            Self { bot_token: bot_token.to_owned(), chats: BTreeMap::new(), overall: overall(), issued: 0 };
        telegram.issued = 100;
        telegram
    }

    pub(crate) fn chat(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_insert_with(Chat::new)
    }

    /// Forgets how fast messages came so far: another clock may be behind.
    pub(crate) fn start_counting(&mut self) {
        self.overall = overall();
        for chat in self.chats.values_mut() {
            chat.pace = Chat::new().pace;
        }
    }

    fn bot(&self) -> Value {
        let id: i64 = self.bot_token.split(':').next().and_then(|id| id.parse().ok()).unwrap_or_default();
        json!({ "id": id, "is_bot": true, "first_name": "Sandbox", "username": "sandbox_bot" })
    }

    /// Counts a message, or says in how many seconds one may be sent.
    fn count(&mut self, chat: i64, now_ms: i64) -> Result<(), u32> {
        let in_seconds = |ms: i64| u32::try_from((ms + 999).div_euclid(1000)).unwrap_or(u32::MAX);
        self.chat(chat).pace.take(now_ms).map_err(in_seconds)?;
        self.overall.take(now_ms).map_err(in_seconds)
    }
}

fn overall() -> Pace {
    Pace::new(OVERALL_PER_S, 1000, 1000 - 1000 / OVERALL_PER_S)
}

/// Does what a request asks, if it may.
pub(crate) fn answer(state: &mut State, request: &Request, now_ms: i64) -> Reply {
    let path = request.path.strip_prefix("/bot").unwrap_or_default();
    let Some((token, method)) = path.split_once('/') else { return telegram_error(404, "Not Found").into() };
    if token.starts_with('0') || token.len() > MAX_TOKEN || !token.contains(':') {
        return telegram_error(401, "Unauthorized: invalid token specified").into();
    }
    if token != state.telegram.bot_token {
        return telegram_error(401, "Unauthorized").into();
    }
    match method.to_ascii_lowercase().as_str() {
        "getme" => Answer::json(200, &json!({ "ok": true, "result": state.telegram.bot() })).into(),
        "sendmessage" => send(state, request, now_ms),
        _ => telegram_error(404, "Not Found: method not found").into(),
    }
}

fn send(state: &mut State, request: &Request, now_ms: i64) -> Reply {
    let (chat, message) = match read(&request.body, now_ms) {
        Ok(read) => read,
        Err(why) => {
            let to = To::Chat(request.body["chat_id"].as_i64().unwrap_or_default());
            let answer = telegram_error(400, &format!("Bad Request: {why}"));
            state.note(to, request.body.clone(), Some(&answer), false, now_ms);
            return answer.into();
        }
    };
    for name in request.body.as_object().into_iter().flat_map(|body| body.keys()) {
        if !PARAMETERS.contains(&name.as_str()) {
            state.violations.push(format!("sendMessage has no parameter {name}"));
        }
    }
    let to = To::Chat(chat);
    let outcome = state.scripted(&to).unwrap_or_else(|| match state.telegram.count(chat, now_ms) {
        Err(retry_after_s) => Outcome::TooManyRequests { retry_after_s },
        Ok(()) => state.telegram.chat(chat).state.outcome(),
    });
    let text = message.text.clone();
    if outcome.delivers() {
        state.telegram.chat(chat).messages.push(message);
    }
    state.telegram.issued += 1;
    let result = json!({
        "message_id": state.telegram.issued,
        "from": state.telegram.bot(),
        "chat": { "id": chat, "type": "private", "first_name": "User" },
        "date": now_ms.div_euclid(1000),
        "text": text,
    });
    state.reply(to, request.body.clone(), &outcome, &json!({ "ok": true, "result": result }), now_ms)
}

/// The chat and the message, or why it cannot be sent.
fn read(body: &Value, now_ms: i64) -> Result<(i64, Message), String> {
    let text = body["text"].as_str().unwrap_or_default();
    if text.trim().is_empty() {
        return Err("message text is empty".to_owned());
    }
    check_parse_mode(body, text)?;
    if let Some(options) = body.get("link_preview_options")
        && !options.is_object()
    {
        return Err("object expected as link preview options".to_owned());
    }
    let chat = match &body["chat_id"] {
        Value::Null => return Err("chat_id is empty".to_owned()),
        Value::Number(number) => number.as_i64(),
        Value::String(text) if text.is_empty() => return Err("chat_id is empty".to_owned()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let chat = chat.filter(|chat| *chat != 0).ok_or("chat not found")?;
    let buttons = match body.get("reply_markup") {
        None | Some(Value::Null) => Vec::new(),
        Some(markup) => buttons(markup, chat > 0)?,
    };
    if text.chars().count() > MAX_TEXT {
        return Err("message is too long".to_owned());
    }
    let silent = body["disable_notification"] == true;
    Ok((chat, Message { at_ms: now_ms, text: text.to_owned(), buttons, silent }))
}

/// Plain text alone is understood; the sandbox would rather refuse what it cannot read than show it wrongly.
fn check_parse_mode(body: &Value, text: &str) -> Result<(), String> {
    match body["parse_mode"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "none" => Ok(()),
        "html" if !text.contains(['<', '&']) => Ok(()),
        "markdown" | "markdownv2" if !text.contains(|c: char| c.is_ascii_punctuation()) => Ok(()),
        "html" | "markdown" | "markdownv2" => Err("can't parse entities: the sandbox reads plain text only".to_owned()),
        _ => Err("unsupported parse_mode".to_owned()),
    }
}

fn buttons(markup: &Value, private: bool) -> Result<Vec<(String, String)>, String> {
    // A form has no objects, so JSON in a text is taken too.
    let parsed = markup.as_str().map(serde_json::from_str::<Value>);
    let markup = match &parsed {
        None => markup,
        Some(Ok(markup)) => markup,
        Some(Err(_)) => return Err("can't parse reply keyboard markup JSON object".to_owned()),
    };
    let markup = markup.as_object().ok_or("object expected as reply markup")?;
    let rows = match markup.get("inline_keyboard") {
        None => return Ok(Vec::new()),
        Some(rows) => rows.as_array().ok_or("field \"inline_keyboard\" must be of type Array")?,
    };
    let mut all = Vec::new();
    for row in rows {
        let row =
            row.as_array().ok_or("field \"inline_keyboard\" of the InlineKeyboardMarkup must be an Array of Arrays")?;
        for one in row {
            all.push(button(one, private)?);
        }
    }
    Ok(all)
}

fn button(button: &Value, private: bool) -> Result<(String, String), String> {
    let parsing = |why: &str| format!("can't parse inline keyboard button: {why}");
    let button = button.as_object().ok_or_else(|| parsing("InlineKeyboardButton must be an Object"))?;
    let text = button.get("text").and_then(Value::as_str).ok_or_else(|| parsing("Can't find field \"text\""))?;
    if text.trim().is_empty() {
        return Err("inline keyboard button text must be non-empty".to_owned());
    }
    if let Some(url) = button.get("url").and_then(Value::as_str).filter(|url| !url.is_empty()) {
        let known = ["http://", "https://", "tg://", "ton://"].iter().any(|scheme| url.starts_with(scheme));
        let wrong = format!("inline keyboard button URL '{url}' is invalid: Wrong HTTP URL");
        return if known { Ok((text.to_owned(), url.to_owned())) } else { Err(wrong) };
    }
    if let Some(data) = button.get("callback_data").and_then(Value::as_str).filter(|data| !data.is_empty()) {
        return if data.len() <= 64 {
            Ok((text.to_owned(), data.to_owned()))
        } else {
            Err("BUTTON_DATA_INVALID".to_owned())
        };
    }
    let Some(web_app) = button.get("web_app") else {
        return Err("text buttons are unallowed in the inline keyboard".to_owned());
    };
    let url = web_app["url"].as_str().ok_or_else(|| parsing("Can't find field \"url\""))?;
    let host = url.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        None => Err(format!("inline keyboard button Web App URL '{url}' is invalid: Only HTTPS links are allowed")),
        Some("") => Err(format!("inline keyboard button Web App URL '{url}' is invalid: Wrong HTTP URL")),
        Some(_) if !private => Err("BUTTON_TYPE_INVALID".to_owned()),
        Some(_) => Ok((text.to_owned(), url.to_owned())),
    }
}
