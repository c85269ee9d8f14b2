//! FCM: what it takes, what it refuses and how, and what it can be told to answer.

use std::time::{Duration, Instant};

use sandbox::{Fault, Kind, Outcome, Registration, Service, To};
use serde_json::{Value, json};

use crate::harness::Reply;
use crate::sender::{Sender, sender};

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";

/// A message as a proper client sends it.
fn message(token: &str) -> Value {
    json!({
        "token": token,
        "notification": { "title": "Support", "body": "You have a new message." },
        "data": { "type": "chat", "conversationId": "c1" },
        "android": {
            "priority": "high",
            "ttl": "900s",
            "collapse_key": "chat",
            "notification": { "tag": "chat:c1", "channel_id": "support_messages", "notification_count": 3 },
        },
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-push-type": "alert",
                "apns-expiration": "1800000900",
                "apns-collapse-id": "chat:c1",
            },
            "payload": { "aps": { "thread-id": "chat:c1", "badge": 3, "sound": "default", "mutable-content": 1 } },
        },
    })
}

fn code(answer: &Reply) -> Option<&str> {
    let details = answer.body["error"]["details"].as_array()?;
    details.iter().find(|detail| detail["@type"] == FCM_ERROR).and_then(|detail| detail["errorCode"].as_str())
}

/// The fields that the answer finds fault with.
fn fields(answer: &Reply) -> Vec<String> {
    let details = answer.body["error"]["details"].as_array().cloned().unwrap_or_default();
    let violations = details.iter().filter_map(|detail| detail["fieldViolations"].as_array()).flatten();
    violations.map(|violation| violation["field"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_proper_message_is_taken_and_comes_up_on_the_phone() {
    let sender = sender().await;
    let answer = sender.push(&message("t1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let name = answer.body["name"].as_str().expect("a name");
    assert!(name.starts_with("projects/sandbox-project/messages/0:"), "{name}");
    let sent = sender.phones.delivered_to("t1");
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].at_ms, sent[0].status, &sent[0].error), (crate::sender::START_MS, Some(200), &None));
    assert_eq!(sent[0].body["message"], message("t1"));
    let screen = sender.phones.screen("t1");
    assert_eq!((screen[0].title.as_str(), screen[0].body.as_str()), ("Support", "You have a new message."));
    assert_eq!(screen[0].data["conversationId"], "c1");
    assert_eq!(sender.phones.badge("t1"), Some(3));
    sender.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_as_malformed() {
    let sender = sender().await;
    for (pointer, value, field) in [
        ("/data", json!({ "count": 3 }), "message.data[0].value"),
        ("/data", json!({ "nested": { "a": "b" } }), "message.data[0].value"),
        ("/data", json!("text"), "message.data"),
        ("/android/data", json!({ "a": 1 }), "message.android.data[0].value"),
        ("/text", json!("Hello"), "message"),
        ("/notification/text", json!("Hello"), "message.notification"),
        ("/notification/title", json!(1), "message.notification.title"),
        ("/notification", json!("Hello"), "message.notification"),
        ("/android/importance", json!("high"), "message.android"),
        ("/android/notification/badge", json!(1), "message.android.notification"),
        ("/android/notification/notification_count", json!("three"), "message.android.notification.notification_count"),
        ("/android/notification/body_loc_args", json!([1]), "message.android.notification.body_loc_args[0]"),
        ("/android/priority", json!("urgent"), "message.android.priority"),
        ("/android/direct_boot_ok", json!("yes"), "message.android.direct_boot_ok"),
        ("/android/ttl", json!("900"), "message.android.ttl"),
        ("/android/ttl", json!(900), "message.android.ttl"),
        ("/android/ttl", json!("15m"), "message.android.ttl"),
        ("/android/ttl", json!("-1s"), "message.android.ttl"),
        ("/android/ttl", json!("+1s"), "message.android.ttl"),
        ("/apns/headers", json!({ "apns-priority": 10 }), "message.apns.headers[0].value"),
        ("/apns/payload", json!("aps"), "message.apns.payload"),
        ("/apns/aps", json!({}), "message.apns"),
        ("/topic", json!("news"), "message"),
        ("/condition", json!("'a' in topics"), "message"),
        ("/tokens", json!(["t1"]), "message"),
    ] {
        let answer = sender.push(&changed(pointer, value)).await;
        assert_eq!((answer.status, code(&answer)), (400, None), "{pointer}: {}", answer.body);
        assert_eq!(answer.body["error"]["status"], "INVALID_ARGUMENT", "{pointer}");
        assert_eq!(fields(&answer), [field], "{pointer}: {}", answer.body);
    }
    assert_eq!(sender.phones.delivered_to("t1"), []);
    assert_eq!(sender.phones.sent_to("t1").len(), 25, "refused ones are remembered too");
    for body in [json!({ "message": message("t1"), "dry_run": true }), json!({ "messages": [] }), json!([])] {
        assert_eq!(sender.try_push_to("sandbox-project", &body).await.expect("an answer").status, 400, "{body}");
    }
    sender.stop().await;
}

#[tokio::test]
async fn what_a_message_may_not_say_is_refused_as_invalid() {
    let sender = sender().await;
    for (pointer, value, field) in [
        ("/token", Value::Null, "message"),
        ("/token", json!(""), "message"),
        ("/data/from", json!("x"), "message.data"),
        ("/data/message_type", json!("x"), "message.data"),
        ("/data/google.a", json!("x"), "message.data"),
        ("/data/gcm", json!("x"), "message.data"),
        ("/android/data", json!({ "gcm.x": "x" }), "message.android.data"),
        ("/android/ttl", json!("2419201s"), "message.android.ttl"),
        ("/android/notification/color", json!("red"), "message.android.notification.color"),
        ("/apns/headers/apns-priority", json!("high"), "message.apns.headers"),
        ("/apns/headers/apns-push-type", json!("chat"), "message.apns.headers"),
        ("/apns/headers/apns-expiration", json!("900s"), "message.apns.headers"),
        ("/apns/headers/apns-collapse-id", json!("x".repeat(65)), "message.apns.headers"),
        ("/apns/headers/apns-colapse-id", json!("x"), "message.apns.headers"),
        ("/apns/payload/aps", json!("x"), "message.apns.payload"),
        ("/apns/payload/aps/badge", json!("3"), "message.apns.payload"),
        ("/apns/payload/aps/badge", json!(-1), "message.apns.payload"),
        ("/apns/payload/aps/mutable-content", json!(true), "message.apns.payload"),
        ("/apns/payload/aps/thread-id", json!(1), "message.apns.payload"),
        ("/apns/payload/aps/alert", json!(1), "message.apns.payload"),
        ("/apns/payload/aps/interruption-level", json!("loud"), "message.apns.payload"),
        ("/data/long", json!("x".repeat(4096)), "message"),
        ("/apns/payload/long", json!("x".repeat(4096)), "message"),
    ] {
        let answer = sender.push(&changed(pointer, value)).await;
        assert_eq!((answer.status, code(&answer)), (400, Some("INVALID_ARGUMENT")), "{pointer}: {}", answer.body);
        assert_eq!(fields(&answer), [field], "{pointer}: {}", answer.body);
    }
    assert_eq!(sender.phones.delivered_to("t1"), []);
    sender.stop().await;
}

/// The message with one thing changed.
fn changed(pointer: &str, value: Value) -> Value {
    let mut changed = message("t1");
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("a place for it");
    parent.insert(name.to_owned(), value);
    changed
}

#[tokio::test]
async fn the_limits_themselves_are_allowed() {
    let sender = sender().await;
    let weight = |message: &Value| message["data"].to_string().len() + message["notification"].to_string().len();
    let mut full = json!({ "token": "t1", "notification": { "title": "A" }, "data": { "a": "" } });
    full["data"]["a"] = json!("x".repeat(4096 - weight(&full)));
    assert_eq!(sender.push(&full).await.status, 200);
    let mut more = full.clone();
    more["data"]["a"] = json!(format!("{}x", full["data"]["a"].as_str().expect("text")));
    assert_eq!(sender.push(&more).await.body["error"]["message"], "Android message is too big");
    for (pointer, value) in [
        ("/android/ttl", json!("2419200s")),
        ("/android/ttl", json!("0s")),
        ("/android/ttl", json!("3.5s")),
        ("/android/priority", json!("NORMAL")),
        ("/android/notification/color", json!("#A0b1C2")),
        ("/apns/headers/apns-collapse-id", json!("x".repeat(64))),
        ("/apns/payload/aps/alert", json!({ "title": "A", "body": "B" })),
        ("/apns/payload/own", json!({ "anything": [1, 2] })),
        ("/topic", Value::Null),
        ("/android/collapseKey", json!("other")),
    ] {
        let answer = sender.push(&changed(pointer, value)).await;
        assert_eq!(answer.status, 200, "{pointer}: {}", answer.body);
    }
    sender.stop().await;
}

#[tokio::test]
async fn a_message_only_to_be_checked_reaches_nobody() {
    let sender = sender().await;
    let body = json!({ "validate_only": true, "message": message("t1") });
    let answer = sender.try_push_to("sandbox-project", &body).await.expect("an answer");
    assert_eq!(answer.body["name"], "projects/sandbox-project/messages/fake_message_id");
    assert_eq!(sender.phones.screen("t1"), []);
    sender.stop().await;
}

#[tokio::test]
async fn the_bearer_and_the_project_must_be_right() {
    let mut sender = sender().await;
    let elsewhere = sender.try_push_to("other", &json!({ "message": message("t1") })).await.expect("an answer");
    assert_eq!((elsewhere.status, &elsewhere.body["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(elsewhere.body["error"].get("details"), None, "not to be taken for UNREGISTERED");
    let path = "/v1/projects/sandbox-project/messages:send";
    let nobody = sender.own("POST", path, &json!({ "message": message("t1") })).await;
    assert_eq!((nobody.status, &nobody.body["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    sender.token = "ya29.guessed".to_owned();
    let guessed = sender.push(&message("t1")).await;
    assert_eq!((guessed.status, code(&guessed)), (401, None));
    assert_eq!(sender.own("GET", "/v1/projects/sandbox-project/messages", &Value::Null).await.status, 404);
    assert_eq!(sender.phones.sent(), []);
    sender.stop().await;
}

#[tokio::test]
async fn every_answer_can_be_had_by_script() {
    let sender = sender().await;
    let after = |text: &str| Some(text.to_owned());
    for (outcome, status, name, code_expected, retry_after) in [
        (Outcome::Unregistered, 404, "NOT_FOUND", Some("UNREGISTERED"), None),
        (Outcome::InvalidToken, 400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), None),
        (Outcome::InvalidMessage, 400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), None),
        (Outcome::SenderIdMismatch, 403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), None),
        (Outcome::PermissionDenied, 403, "PERMISSION_DENIED", None, None),
        (Outcome::ThirdPartyAuthError, 401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), None),
        (Outcome::Unauthenticated, 401, "UNAUTHENTICATED", None, None),
        (Outcome::NoSuchProject, 404, "NOT_FOUND", None, None),
        (
            Outcome::QuotaExceeded { retry_after: after("30") },
            429,
            "RESOURCE_EXHAUSTED",
            Some("QUOTA_EXCEEDED"),
            Some("30"),
        ),
        (Outcome::QuotaExceeded { retry_after: None }, 429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), None),
        (
            Outcome::Unavailable { retry_after: after("Fri, 15 Jan 2027 08:01:00 GMT") },
            503,
            "UNAVAILABLE",
            Some("UNAVAILABLE"),
            Some("Fri, 15 Jan 2027 08:01:00 GMT"),
        ),
        (Outcome::Internal, 500, "INTERNAL", Some("INTERNAL"), None),
    ] {
        sender.phones.script("t1", outcome.clone(), 1);
        let answer = sender.push(&message("t1")).await;
        let error = &answer.body["error"];
        assert_eq!(
            (answer.status, &error["code"], &error["status"]),
            (status, &json!(status), &json!(name)),
            "{outcome:?}"
        );
        assert_eq!(code(&answer), code_expected, "{outcome:?}");
        let header = answer.headers.get("retry-after").map(|value| value.to_str().expect("text"));
        assert_eq!(header, retry_after, "{outcome:?}");
        let noted = sender.phones.sent().pop().expect("noted");
        assert_eq!((noted.status, noted.error.as_deref()), (Some(status), code_expected.or(Some(name))), "{outcome:?}");
    }
    sender.phones.script("t1", Outcome::InvalidToken, 1);
    assert!(fields(&sender.push(&message("t1")).await).is_empty(), "no field of ours is wrong");
    assert_eq!(sender.phones.screen("t1"), []);
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn scripts_follow_each_other_and_end() {
    let sender = sender().await;
    sender.phones.script("t1", Outcome::Internal, 2);
    sender.phones.script("t1", Outcome::Unregistered, 1);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(sender.push(&message("t1")).await.status);
    }
    assert_eq!(statuses, [500, 500, 404, 200]);
    assert_eq!(sender.push(&message("t2")).await.status, 200, "another phone");
    sender.phones.script("t1", Outcome::Internal, u32::MAX);
    assert_eq!(sender.push(&message("t1")).await.status, 500);
    sender.phones.clear_scripts();
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
#[should_panic(expected = "that service never answers so")]
async fn telegrams_answers_are_not_fcms() {
    sender().await.phones.script("t1", Outcome::Blocked, 1);
}

#[tokio::test]
async fn a_broken_connection_tells_nothing_of_what_was_delivered() {
    let sender = sender().await;
    for (outcome, delivered) in [
        (Outcome::Reset { applied: false }, false),
        (Outcome::Reset { applied: true }, true),
        (Outcome::Hang { ms: 10, applied: false }, false),
        (Outcome::Hang { ms: 10, applied: true }, true),
    ] {
        sender.phones.clear_screen("t1");
        sender.phones.script("t1", outcome.clone(), 1);
        let error = sender.try_push(&message("t1")).await.err().unwrap_or_else(|| panic!("{outcome:?} answered"));
        assert!(!error.is_timeout(), "{outcome:?}");
        let noted = sender.phones.sent().pop().expect("noted");
        assert_eq!((noted.status, noted.delivered), (None, delivered), "{outcome:?}");
        assert_eq!(sender.phones.screen("t1").len(), usize::from(delivered), "{outcome:?}");
    }
    sender.phones.script("t1", Outcome::Error { status: 502, applied: true }, 1);
    assert_eq!(sender.push(&message("t1")).await.status, 502);
    assert!(sender.phones.sent().pop().is_some_and(|sent| sent.delivered));
    sender.stop().await;
}

#[tokio::test]
async fn an_app_that_is_gone_or_anothers_is_no_longer_reached() {
    let sender = sender().await;
    sender.phones.set_registration("t1", Registration::Gone);
    assert_eq!(code(&sender.push(&message("t1")).await), Some("UNREGISTERED"));
    sender.phones.set_registration("t1", Registration::Foreign);
    assert_eq!(code(&sender.push(&message("t1")).await), Some("SENDER_ID_MISMATCH"));
    sender.phones.set_registration("t1", Registration::Installed);
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    let no_token = sender.push(&message("not a token")).await;
    assert_eq!((no_token.status, code(&no_token)), (400, Some("INVALID_ARGUMENT")));
    sender.stop().await;
}

#[tokio::test]
async fn one_phone_takes_240_messages_a_minute() {
    let sender = sender().await;
    let mut taken = 0;
    for _ in 0..245 {
        taken += u32::from(sender.push(&message("t1")).await.status == 200);
    }
    assert_eq!(taken, 240);
    assert_eq!(code(&sender.push(&message("t1")).await), Some("QUOTA_EXCEEDED"));
    assert_eq!(sender.push(&message("t2")).await.status, 200);
    sender.pass(250);
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn an_answer_can_be_held_while_other_things_happen() {
    let sender = sender().await;
    sender.phones.set_registration("t1", Registration::Gone);
    let held = sender.phones.hold("t1");
    let (message_1, message_2) = (message("t1"), message("t2"));
    let (answer, ()) = tokio::join!(sender.push(&message_1), async {
        held.arrived(1).await;
        assert_eq!(sender.push(&message_2).await.status, 200, "others are not held");
        sender.phones.set_registration("t1", Registration::Installed);
        held.release();
    });
    assert_eq!(code(&answer), Some("UNREGISTERED"), "decided when it arrived");
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn it_can_be_down_and_suffer_faults_of_its_own() {
    let sender = sender().await;
    sender.phones.take_down(Service::Fcm);
    assert!(sender.try_push(&message("t1")).await.is_err());
    sender.phones.bring_up(Service::Fcm);
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    assert_eq!(sender.phones.counts().fcm, 2);

    for (kind, expected) in [
        (Kind::Error { status: 502, applied: false, html: true }, Some(502)),
        (Kind::Error { status: 500, applied: false, html: false }, Some(500)),
        (Kind::RateLimit { reset_after_s: 7 }, Some(429)),
        (Kind::LostAnswer, None),
        (Kind::ResetBeforeApply, None),
        (Kind::Hang { ms: 10, applied: false }, None),
        (Kind::TruncatedBody, None),
    ] {
        sender.sandbox.fault(Fault::new(kind.clone()).on("POST", "/v1/projects/*").times(1));
        let answer = sender.try_push(&message("t1")).await.ok();
        assert_eq!(answer.as_ref().map(|answer| answer.status), expected, "{kind:?}");
        if let Some(answer) = answer.filter(|answer| answer.status == 429) {
            assert_eq!(
                (code(&answer), &answer.headers["retry-after"]),
                (Some("QUOTA_EXCEEDED"), &"7".parse().expect("text"))
            );
        }
    }
    assert_eq!(sender.phones.delivered_to("t1").len(), 3, "the first, the lost and the truncated");
    sender
        .sandbox
        .fault(Fault::new(Kind::AppliedLate { after_ms: 600_000, hang: false }).on("POST", "/v1/projects/*").times(1));
    assert!(sender.try_push(&message("t1")).await.is_err());
    assert_eq!(sender.phones.delivered_to("t1").len(), 3, "not yet");
    sender.sandbox.apply_late();
    assert_eq!(sender.phones.delivered_to("t1").len(), 4);
    sender.sandbox.fault(Fault::new(Kind::Slow { ms: 100 }).on("POST", "/v1/projects/*").times(1));
    let start = Instant::now();
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    sender.stop().await;
}

#[tokio::test]
async fn a_fault_without_a_path_is_intercoms_alone() {
    let sender = sender().await;
    sender.sandbox.fault(Fault::new(Kind::Refuse));
    assert_eq!(sender.push(&message("t1")).await.status, 200);
    assert_eq!(sender.sandbox.calls().len(), 0, "calls are Intercom's");
    sender.stop().await;
}

#[tokio::test]
async fn what_was_sent_can_be_forgotten() {
    let sender: Sender = sender().await;
    sender.push(&message("t1")).await;
    assert_eq!(sender.phones.sent()[0].to, To::from("t1"));
    sender.phones.forget();
    assert_eq!((sender.phones.sent().len(), sender.phones.counts().fcm), (0, 0));
    assert_eq!(sender.phones.screen("t1").len(), 1, "the phone has not forgotten");
    sender.stop().await;
}
