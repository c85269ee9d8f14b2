//! What phones show: what replaces what, what waits for them, and what the operator's page is told of it.

use sandbox::{Platform, Shown};
use serde_json::{Value, json};

use crate::sender::{Sender, sender};

/// A message about a conversation, with everything that replaces an earlier one.
fn about(conversation: &str, body: &str) -> Value {
    json!({
        "token": "t1",
        "notification": { "title": "Support", "body": body },
        "data": { "conversationId": conversation },
        "android": { "ttl": "900s", "collapse_key": conversation, "notification": { "tag": conversation } },
        "apns": {
            "headers": { "apns-collapse-id": conversation, "apns-expiration": "1800000900" },
            "payload": { "aps": { "badge": 2 } },
        },
    })
}

async fn push(sender: &Sender, message: &Value) {
    let answer = sender.push(message).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn bodies(shown: &[Shown]) -> Vec<&str> {
    shown.iter().map(|shown| shown.body.as_str()).collect()
}

#[tokio::test]
async fn a_newer_message_of_the_same_conversation_replaces_the_older() {
    for platform in [Platform::Android, Platform::Iphone] {
        let sender = sender().await;
        sender.phones.set_platform("t1", platform);
        for (conversation, body) in [("c1", "one"), ("c2", "two"), ("c1", "three")] {
            push(&sender, &about(conversation, body)).await;
            sender.pass(1000);
        }
        let screen = sender.phones.screen("t1");
        assert_eq!(bodies(&screen), ["two", "three"], "{platform:?}");
        assert_eq!(screen[1].tag.as_deref(), Some("c1"));
        assert_eq!(screen[1].at_ms - screen[0].at_ms, 1000);
        assert_eq!(sender.phones.badge("t1"), (platform == Platform::Iphone).then_some(2));
        sender.phones.clear_screen("t1");
        assert_eq!((sender.phones.screen("t1").len(), sender.phones.badge("t1")), (0, None));
        sender.stop().await;
    }
}

#[tokio::test]
async fn without_a_tag_nothing_is_replaced_and_data_alone_shows_nothing() {
    let sender = sender().await;
    for body in ["one", "two"] {
        push(&sender, &json!({ "token": "t1", "notification": { "body": body } })).await;
    }
    push(&sender, &json!({ "token": "t1", "data": { "a": "b" } })).await;
    assert_eq!(bodies(&sender.phones.screen("t1")), ["one", "two"]);
    assert_eq!(sender.phones.delivered_to("t1").len(), 3);
    sender.stop().await;
}

#[tokio::test]
async fn each_platform_has_words_of_its_own() {
    let message = json!({
        "token": "t1",
        "notification": { "title": "Both", "body": "Both" },
        "android": { "notification": { "title": "Android" } },
        "apns": { "payload": { "aps": { "alert": { "title": "Apple" } } } },
    });
    for (platform, title) in [(Platform::Android, "Android"), (Platform::Iphone, "Apple")] {
        let sender = sender().await;
        sender.phones.set_platform("t1", platform);
        push(&sender, &message).await;
        let screen = sender.phones.screen("t1");
        assert_eq!((screen[0].title.as_str(), screen[0].body.as_str()), (title, "Both"));
        sender.stop().await;
    }
}

#[tokio::test]
async fn a_phone_that_was_away_gets_the_last_of_each_collapse_key() {
    for platform in [Platform::Android, Platform::Iphone] {
        let sender = sender().await;
        sender.phones.set_platform("t1", platform);
        sender.phones.goes_offline("t1");
        for (conversation, body) in [("c1", "one"), ("c2", "two"), ("c1", "three")] {
            push(&sender, &about(conversation, body)).await;
        }
        assert_eq!(sender.phones.screen("t1"), [], "{platform:?}");
        sender.phones.comes_online("t1");
        assert_eq!(bodies(&sender.phones.screen("t1")), ["two", "three"], "{platform:?}");
        sender.phones.comes_online("t1");
        assert_eq!(sender.phones.screen("t1").len(), 2, "once");
        sender.stop().await;
    }
}

#[tokio::test]
async fn four_collapse_keys_are_kept_and_a_hundred_other_messages() {
    let sender = sender().await;
    sender.phones.goes_offline("t1");
    for key in ["c1", "c2", "c3", "c4", "c5"] {
        push(&sender, &about(key, key)).await;
    }
    sender.phones.comes_online("t1");
    assert_eq!(bodies(&sender.phones.screen("t1")), ["c2", "c3", "c4", "c5"]);

    for (count, shown) in [(100, 100), (101, 0)] {
        sender.pass(60_000);
        sender.phones.clear_screen("t1");
        sender.phones.goes_offline("t1");
        for at in 0..count {
            push(&sender, &json!({ "token": "t1", "notification": { "body": at.to_string() } })).await;
        }
        sender.phones.comes_online("t1");
        assert_eq!(sender.phones.screen("t1").len(), shown, "of {count}");
    }
    sender.stop().await;
}

#[tokio::test]
async fn what_has_outlived_its_time_is_not_shown_any_more() {
    for platform in [Platform::Android, Platform::Iphone] {
        let sender = sender().await;
        sender.phones.set_platform("t1", platform);
        sender.phones.goes_offline("t1");
        push(&sender, &about("c1", "one")).await;
        sender.pass(899_999);
        sender.phones.comes_online("t1");
        assert_eq!(bodies(&sender.phones.screen("t1")), ["one"], "{platform:?}");

        sender.phones.clear_screen("t1");
        sender.pass(-899_999);
        sender.phones.goes_offline("t1");
        push(&sender, &about("c1", "two")).await;
        sender.pass(900_000);
        sender.phones.comes_online("t1");
        assert_eq!(sender.phones.screen("t1"), [], "{platform:?}");
        sender.stop().await;
    }
}

#[tokio::test]
async fn the_page_is_told_of_phones_and_chats() {
    let sender = sender().await;
    push(&sender, &about("c1", "one")).await;
    let button = json!({ "inline_keyboard": [[{ "text": "Open", "web_app": { "url": "https://app.example/#c1" } }]] });
    sender.tell(&json!({ "chat_id": 42, "text": "Hello", "reply_markup": button })).await;
    let told = sender.own("GET", "/_sandbox/phones", &Value::Null).await.body;
    let phone = &told["phones"][0];
    assert_eq!(
        (&phone["token"], &phone["platform"], &phone["registration"]),
        (&json!("t1"), &json!("android"), &json!("installed"))
    );
    assert_eq!(
        (&phone["screen"][0]["body"], &phone["screen"][0]["data"]["conversationId"]),
        (&json!("one"), &json!("c1"))
    );
    assert_eq!(told["chats"][0]["chat"], 42);
    assert_eq!(told["chats"][0]["messages"][0]["buttons"], json!([["Open", "https://app.example/#c1"]]));
    assert_eq!(told["counts"], json!({ "google": 1, "fcm": 1, "telegram": 1 }));
    assert_eq!(sender.own("GET", "/_sandbox/sent", &Value::Null).await.body[1]["to"], json!({ "chat": 42 }));
    let account = sender.own("GET", "/_sandbox/service_account", &Value::Null).await.body;
    assert_eq!(account, sender.phones.service_account());
    sender.stop().await;
}

#[tokio::test]
async fn everything_can_be_arranged_over_http() {
    let sender = sender().await;
    for act in [
        json!({ "act": "script", "to": { "phone": "t1" }, "outcome": { "outcome": "unavailable", "retry_after": "5" }, "times": 1 }),
        json!({ "act": "set_phone", "token": "t1", "platform": "iphone", "registration": "gone", "online": false }),
        json!({ "act": "set_chat", "chat": 42, "state": "blocked" }),
        json!({ "act": "down", "service": "telegram" }),
        json!({ "act": "up", "service": "telegram" }),
    ] {
        assert_eq!(sender.own("POST", "/_sandbox/phones", &act).await.status, 200, "{act}");
    }
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(sender.push(&about("c1", "one")).await.status);
    }
    assert_eq!(statuses, [503, 404]);
    assert_eq!(sender.tell(&json!({ "chat_id": 42, "text": "Hello" })).await.status, 403);
    for act in [
        json!({ "act": "clear_scripts" }),
        json!({ "act": "clear_screen", "to": { "chat": 42 } }),
        json!({ "act": "revoke_access_tokens" }),
    ] {
        assert_eq!(sender.own("POST", "/_sandbox/phones", &act).await.status, 200, "{act}");
    }
    assert_eq!(sender.push(&about("c1", "one")).await.status, 401);
    for act in [
        json!({ "act": "script", "to": { "chat": 42 }, "outcome": { "outcome": "unregistered" } }),
        json!({ "act": "dance" }),
    ] {
        assert_eq!(sender.own("POST", "/_sandbox/phones", &act).await.status, 400, "{act}");
    }
    sender.stop().await;
}
