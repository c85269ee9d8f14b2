//! Telegram's Bot API: what it takes, what it refuses in which words, how fast it may be asked, and what it can be told to answer.

use sandbox::{ChatState, Fault, Kind, Outcome, Service};
use serde_json::{Value, json};

use crate::sender::{START_MS, sender_without_token as sender};

fn open_at(url: &str) -> Value {
    json!({ "inline_keyboard": [[{ "text": "Open", "web_app": { "url": url } }]] })
}

#[tokio::test]
async fn a_message_with_a_button_stands_in_the_chat() {
    let sender = sender().await;
    let markup = open_at("https://app.example/?startapp=c_1");
    let body = json!({ "chat_id": 42, "text": "You have a new message.", "reply_markup": markup, "disable_notification": true });
    let answer = sender.tell(&body).await;
    assert_eq!((answer.status, &answer.body["ok"]), (200, &json!(true)), "{}", answer.body);
    let result = &answer.body["result"];
    assert_eq!((&result["chat"]["id"], &result["date"]), (&json!(42), &json!(sender.now_s())));
    assert_eq!(result["from"]["id"], 7_000_000_001_i64);
    let chat = sender.phones.chat(42);
    assert_eq!(
        (chat.len(), chat[0].text.as_str(), chat[0].at_ms, chat[0].silent),
        (1, "You have a new message.", START_MS, true)
    );
    assert_eq!(chat[0].buttons, [("Open".to_owned(), "https://app.example/?startapp=c_1".to_owned())]);
    assert_eq!(sender.phones.delivered_to(42)[0].body, body);
    assert_eq!(sender.sandbox.violations(), [""; 0]);
    sender.stop().await;
}

#[tokio::test]
async fn ids_and_markup_may_come_as_text() {
    let sender = sender().await;
    let body = json!({ "chat_id": "42", "text": "Hello", "reply_markup": open_at("https://a.example").to_string() });
    assert_eq!(sender.tell(&body).await.status, 200);
    assert_eq!(sender.phones.chat(42)[0].buttons[0].1, "https://a.example");
    sender.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_telegrams_words() {
    let sender = sender().await;
    let web_app = "inline keyboard button Web App URL";
    for (field, value, why) in [
        ("text", Value::Null, "message text is empty".to_owned()),
        ("text", json!("  "), "message text is empty".to_owned()),
        ("text", json!("x".repeat(4097)), "message is too long".to_owned()),
        ("chat_id", Value::Null, "chat_id is empty".to_owned()),
        ("chat_id", json!("ada"), "chat not found".to_owned()),
        ("chat_id", json!(1.5), "chat not found".to_owned()),
        ("parse_mode", json!("BBCode"), "unsupported parse_mode".to_owned()),
        ("link_preview_options", json!(false), "object expected as link preview options".to_owned()),
        ("reply_markup", json!("{"), "can't parse reply keyboard markup JSON object".to_owned()),
        ("reply_markup", json!([1]), "object expected as reply markup".to_owned()),
        (
            "reply_markup",
            json!({ "inline_keyboard": [{ "text": "Open" }] }),
            "field \"inline_keyboard\" of the InlineKeyboardMarkup must be an Array of Arrays".to_owned(),
        ),
        (
            "reply_markup",
            json!({ "inline_keyboard": [[{ "web_app": { "url": "https://a.example" } }]] }),
            "can't parse inline keyboard button: Can't find field \"text\"".to_owned(),
        ),
        (
            "reply_markup",
            json!({ "inline_keyboard": [[{ "text": "Open" }]] }),
            "text buttons are unallowed in the inline keyboard".to_owned(),
        ),
        (
            "reply_markup",
            json!({ "inline_keyboard": [[{ "text": "Open", "web_app": "https://a.example" }]] }),
            "can't parse inline keyboard button: Can't find field \"url\"".to_owned(),
        ),
        (
            "reply_markup",
            open_at("http://a.example"),
            format!("{web_app} 'http://a.example' is invalid: Only HTTPS links are allowed"),
        ),
        ("reply_markup", open_at("https://"), format!("{web_app} 'https://' is invalid: Wrong HTTP URL")),
        (
            "reply_markup",
            json!({ "inline_keyboard": [[{ "text": "Open", "url": "javascript:x" }]] }),
            "inline keyboard button URL 'javascript:x' is invalid: Wrong HTTP URL".to_owned(),
        ),
    ] {
        let mut body = json!({ "chat_id": 42, "text": "Hello" });
        body[field] = value;
        let answer = sender.tell(&body).await;
        let expected = json!({ "ok": false, "error_code": 400, "description": format!("Bad Request: {why}") });
        assert_eq!((answer.status, &answer.body), (400, &expected), "{body}");
    }
    let in_group = json!({ "chat_id": -1001, "text": "Hello", "reply_markup": open_at("https://a.example") });
    assert_eq!(sender.tell(&in_group).await.body["description"], "Bad Request: BUTTON_TYPE_INVALID");
    assert_eq!(sender.phones.chat(42), []);
    assert_eq!(
        sender.tell(&json!({ "chat_id": 42, "text": "я".repeat(4096) })).await.status,
        200,
        "letters, not bytes"
    );
    sender.stop().await;
}

#[tokio::test]
async fn the_token_and_the_method_must_be_right() {
    let sender = sender().await;
    let token = sender.phones.bot_token();
    let me = sender.try_bot(&token, "getMe", &json!({})).await.expect("an answer");
    assert_eq!((me.status, &me.body["result"]["is_bot"]), (200, &json!(true)));
    for (token, method, code, description) in [
        (token.as_str(), "sendPigeon", 404, "Not Found: method not found"),
        ("7000000001:guessed", "sendMessage", 401, "Unauthorized"),
        ("7000000001", "sendMessage", 401, "Unauthorized: invalid token specified"),
        ("0:x", "sendMessage", 401, "Unauthorized: invalid token specified"),
    ] {
        let body = json!({ "chat_id": 42, "text": "Hello" });
        let answer = sender.try_bot(token, method, &body).await.expect("an answer");
        let expected = json!({ "ok": false, "error_code": code, "description": description });
        assert_eq!((answer.status, &answer.body), (code, &expected));
    }
    assert_eq!(sender.own("POST", "/botless", &json!({})).await.status, 404);
    assert_eq!(sender.phones.sent(), []);
    assert_eq!(sender.phones.counts().telegram, 6);
    sender.stop().await;
}

#[tokio::test]
async fn a_parameter_that_does_not_exist_is_noted() {
    let sender = sender().await;
    let body = json!({ "chat_id": 42, "text": "Hello", "disable_notifications": true });
    assert_eq!(sender.tell(&body).await.status, 200, "Telegram does not mind");
    assert_eq!(sender.sandbox.violations(), ["sendMessage has no parameter disable_notifications"]);
    sender.stop().await;
}

#[tokio::test]
async fn a_chat_takes_a_message_a_second() {
    let sender = sender().await;
    let body = json!({ "chat_id": 42, "text": "Hello" });
    assert_eq!(sender.tell(&body).await.status, 200);
    sender.pass(899);
    let early = sender.tell(&body).await;
    assert_eq!(early.status, 429);
    assert_eq!(early.body["description"], "Too Many Requests: retry after 1");
    assert_eq!(early.body["parameters"]["retry_after"], 1);
    assert_eq!(early.headers["retry-after"], "1");
    assert_eq!(sender.tell(&json!({ "chat_id": 43, "text": "Hello" })).await.status, 200, "another chat");
    sender.pass(101);
    assert_eq!(sender.tell(&body).await.status, 200);
    assert_eq!(sender.phones.chat(42).len(), 2);
    sender.stop().await;
}

#[tokio::test]
async fn all_chats_take_thirty_a_second() {
    let sender = sender().await;
    let mut taken = Vec::new();
    for second in 0..2 {
        let mut count = 0;
        for chat in 1..=40 {
            let body = json!({ "chat_id": second * 100 + chat, "text": "Hello" });
            count += u32::from(sender.tell(&body).await.status == 200);
        }
        taken.push(count);
        sender.pass(1000);
    }
    assert_eq!(taken, [30, 30]);
    sender.stop().await;
}

#[tokio::test]
async fn another_clock_counts_anew() {
    let sender = sender().await;
    let body = json!({ "chat_id": 42, "text": "Hello" });
    assert_eq!(sender.tell(&body).await.status, 200);
    sender.sandbox.go_by(|| START_MS - 3_600_000);
    assert_eq!(sender.tell(&body).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn users_can_block_vanish_or_never_have_been_there() {
    let sender = sender().await;
    let forbidden = |why: &str| (403, format!("Forbidden: {why}"));
    for (state, outcome, (code, description)) in [
        (ChatState::Blocked, Outcome::Blocked, forbidden("bot was blocked by the user")),
        (ChatState::Deactivated, Outcome::Deactivated, forbidden("user is deactivated")),
        (ChatState::NeverStarted, Outcome::NeverStarted, forbidden("bot can't initiate conversation with a user")),
        (ChatState::Unknown, Outcome::ChatNotFound, (400, "Bad Request: chat not found".to_owned())),
    ] {
        let body = json!({ "chat_id": 42, "text": "Hello" });
        let expected = json!({ "ok": false, "error_code": code, "description": description });
        sender.pass(1000);
        sender.phones.set_chat(42, state);
        assert_eq!(sender.tell(&body).await.body, expected, "{state:?}");
        sender.phones.set_chat(42, ChatState::Open);
        sender.phones.script(42, outcome, 1);
        let scripted = sender.tell(&body).await;
        assert_eq!((scripted.status, &scripted.body), (code, &expected), "{state:?}");
        assert_eq!(sender.phones.sent().pop().and_then(|sent| sent.error), Some(description), "{state:?}");
        assert_eq!(sender.phones.chat(42), [], "{state:?}");
    }
    sender.pass(1000);
    assert_eq!(sender.tell(&json!({ "chat_id": 42, "text": "Hello" })).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn every_other_answer_can_be_had_by_script() {
    let sender = sender().await;
    let body = json!({ "chat_id": 42, "text": "Hello" });
    sender.phones.script(42, Outcome::TooManyRequests { retry_after_s: 100_000 }, 1);
    let later = sender.tell(&body).await;
    assert_eq!((later.status, &later.body["parameters"]["retry_after"]), (429, &json!(100_000)));
    sender.phones.script(42, Outcome::Unauthorized, 1);
    assert_eq!(sender.tell(&body).await.status, 401);
    sender.phones.script(42, Outcome::Error { status: 502, applied: false }, 1);
    assert_eq!(sender.tell(&body).await.body["description"], "Bad Gateway");
    for (outcome, delivered) in [
        (Outcome::Reset { applied: false }, 0),
        (Outcome::Hang { ms: 10, applied: false }, 0),
        (Outcome::Reset { applied: true }, 1),
        (Outcome::Hang { ms: 10, applied: true }, 2),
    ] {
        sender.phones.script(42, outcome.clone(), 1);
        let result = sender.try_bot(&sender.phones.bot_token(), "sendMessage", &body).await;
        assert!(result.is_err_and(|error| !error.is_timeout()), "{outcome:?}");
        assert_eq!(sender.phones.chat(42).len(), delivered, "{outcome:?}");
    }
    sender.stop().await;
}

#[tokio::test]
async fn it_can_be_down_and_suffer_faults_of_its_own() {
    let sender = sender().await;
    let (token, body) = (sender.phones.bot_token(), json!({ "chat_id": 42, "text": "Hello" }));
    sender.phones.take_down(Service::Telegram);
    assert!(sender.try_bot(&token, "sendMessage", &body).await.is_err());
    sender.phones.bring_up(Service::Telegram);
    sender.sandbox.fault(Fault::new(Kind::LostAnswer).on("POST", "/bot*").times(1));
    assert!(sender.try_bot(&token, "sendMessage", &body).await.is_err());
    assert_eq!(sender.phones.chat(42).len(), 1);
    sender.sandbox.fault(Fault::new(Kind::RateLimit { reset_after_s: 9 }).on("POST", "/bot*").times(1));
    assert_eq!(sender.tell(&body).await.body["parameters"]["retry_after"], 9);
    sender.stop().await;
}
