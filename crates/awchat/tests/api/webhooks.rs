//! Intercom's notifications: who may send them, and what they do.

use std::time::Duration;

use awchat::intercom::signature;
use sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{World, bodies, shared, world};

/// Sends a notification as Intercom does.
async fn deliver(world: &World, notification: &Value) -> u16 {
    let raw = notification.to_string();
    let secret = sandbox::Settings::default().client_secret;
    world.sandbox.send_raw_webhook(raw.as_bytes(), Some(&signature::sign(&secret, raw.as_bytes()))).await
}

#[tokio::test]
async fn only_what_intercom_signed_is_taken() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    world.work().await;
    let app_id = sandbox::Settings::default().app_id;
    let part = json!({ "type": "conversation_part", "id": "666", "part_type": "comment", "body": "FORGED",
        "created_at": world.clock.now_s(), "author": { "type": "admin", "id": "1", "name": "Mallory" } });
    let forged = json!({ "type": "notification_event", "app_id": app_id, "id": "notif_forged",
        "topic": "conversation.admin.replied", "created_at": world.clock.now_s(), "data": { "item": {
            "type": "conversation", "id": chat, "updated_at": world.clock.now_s() + 100, "state": "closed",
            "conversation_parts": { "conversation_parts": [part] } } } })
    .to_string();
    let good = signature::sign(&sandbox::Settings::default().client_secret, forged.as_bytes());
    let upper = good.to_uppercase().replace("SHA1", "sha1");
    let other = signature::sign("another-client-secret-0123456789", forged.as_bytes());
    for bad in [
        Some(""),
        Some("sha1="),
        Some(other.as_str()),
        Some(&good[5..]),
        Some(&good[..44]),
        Some(upper.as_str()),
        Some(&good.replace("sha1=", "sha256=")),
        Some(&format!("{good}00")),
    ] {
        assert_eq!(world.sandbox.send_raw_webhook(forged.as_bytes(), bad).await, 401, "{bad:?}");
    }
    world.nobody().call_raw("POST", "/webhooks/intercom", Some(forged.clone())).await.expect_error(401, "unauthorized");
    let altered = forged.replace("Mallory", "Mallorx");
    assert_eq!(world.sandbox.send_raw_webhook(altered.as_bytes(), Some(&good)).await, 401);
    world.work().await;
    assert_eq!(bodies(&world.user("ada").reads(&chat).await), ["Hello"]);
}

#[tokio::test]
async fn each_of_several_secrets_signs() {
    let own = sandbox::Settings::default().client_secret;
    let both = format!("the-next-client-secret-0123456789,{own}");
    let world = World::begin(&[("INTERCOM_CLIENT_SECRET", &both)], false).await;
    let ping = json!({ "type": "notification_event", "id": null, "topic": "ping" }).to_string();
    for secret in both.split(',') {
        let signature = signature::sign(secret, ping.as_bytes());
        assert_eq!(world.sandbox.send_raw_webhook(ping.as_bytes(), Some(&signature)).await, 200, "{secret}");
    }
}

#[tokio::test]
async fn the_address_is_validated_with_head_and_ping() {
    let world = world().await;
    let head = world.nobody().call("HEAD", "/webhooks/intercom", None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(
        deliver(&world, &json!({ "id": null, "topic": "ping", "data": { "item": { "type": "ping" } } })).await,
        200
    );
    world.nobody().get("/webhooks/intercom").await.expect_error(405, "method_not_allowed");
}

#[tokio::test]
async fn what_is_not_json_is_refused_and_what_is_too_large_too() {
    let world = world().await;
    let secret = sandbox::Settings::default().client_secret;
    for (body, status) in [(&b"hello"[..], 400), (b"[]", 400), (b"\xff\xfe", 400), (b"", 400)] {
        let signature = signature::sign(&secret, body);
        assert_eq!(world.sandbox.send_raw_webhook(body, Some(&signature)).await, status);
    }
    let large = format!("{{\"topic\":\"ping\",\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    let signature = signature::sign(&secret, large.as_bytes());
    assert_eq!(world.sandbox.send_raw_webhook(large.as_bytes(), Some(&signature)).await, 400);
}

#[tokio::test]
async fn another_workspaces_notification_has_no_effect() {
    let own = sandbox::Settings::default().app_id;
    let world = World::begin(&[("INTERCOM_APP_ID", &own)], false).await;
    let chat = world.user("ada").opens("Hello").await;
    let foreign = json!({ "id": "n1", "app_id": "another", "topic": "conversation.deleted",
        "data": { "item": { "conversation_id": chat } } });
    assert_eq!(deliver(&world, &foreign).await, 200);
    world.work().await;
    assert_eq!(bodies(&world.user("ada").reads(&chat).await), ["Hello"]);
}

#[tokio::test]
async fn an_operators_message_costs_one_question_to_intercom_and_a_users_none() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    ada.replies(&chat, "Anybody?").await;
    world.pass(Duration::from_secs(2)).await;
    world.sandbox.forget_calls();
    for n in 0..5 {
        ada.replies(&chat, &format!("message {n}")).await;
        world.pass(Duration::from_secs(2)).await;
    }
    assert_eq!(world.calls(), 5, "one call for each message of a user: {:?}", world.sandbox.calls());
    world.sandbox.forget_calls();
    for n in 0..5 {
        world.operator().replies(&chat, &format!("answer {n}")).await;
        world.pass(Duration::from_secs(2)).await;
    }
    assert_eq!(world.calls(), 5, "one call for each message of an operator");
    world.sandbox.forget_calls();
    for n in 0..20 {
        world.operator().replies(&chat, &format!("burst {n}")).await;
    }
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.calls(), 1, "a burst is one question");
}

#[tokio::test]
async fn what_an_answer_has_said_is_not_stored_when_a_webhook_says_it_again() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    ada.replies(&chat, "Anybody?").await;
    world.sandbox.webhooks_settled().await;
    let waiting = async || {
        let now_ms = world.clock.now_ms();
        world.app.store.inbox_due(now_ms, now_ms, 10).await.expect("read").len()
    };
    assert_eq!(waiting().await, 0, "Intercom told of the message, and there was nothing to store");
    world.sandbox.replay_webhooks().await;
    assert_eq!(waiting().await, 1, "what comes a second time is looked at");
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&ada.reads(&chat).await), ["Hello", "Anybody?"]);
}

#[tokio::test]
async fn a_webhook_survives_a_failing_question() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    world
        .sandbox
        .fault(Fault::new(Kind::Error { status: 503, applied: false, html: false }).on("GET", "/conversations/*"));
    world.operator().replies(&chat, "Here").await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&ada.polls(&chat, 0).await), ["Hello", "Here"], "the payload alone was enough");
    world.sandbox.clear_faults();
    world.sandbox.forget_calls();
    world.pass(Duration::from_secs(60)).await;
    assert!(world.calls() >= 1, "and Intercom is asked again");
}

#[tokio::test]
async fn every_captured_sample_is_accepted_and_shows_nothing_internal() {
    let folder = shared("intercom/webhook-samples");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: the captured samples are missing at {}", folder.display());
        return;
    };
    let world = World::begin(&[("INTERCOM_APP_ID", "")], false).await;
    // The samples' contact is one of our users, so that their conversations count.
    let lead = awchat::id::UserId::parse("5e68ece4-0ec8-4792-baac-02deba39e7fe").expect("a user id");
    let contact = awchat::id::ContactId::parse("696205460674dbb9050aa7fd").expect("a contact id");
    world.app.store.set_contact(&lead, &contact, world.clock.now_ms()).await.expect("stored");
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a sample");
        let sample: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(deliver(&world, &sample).await, 200, "{}", path.display());
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    assert!(names.len() >= 18, "{names:?}");
    world.work().await;
    let user = world.user(lead.as_str());
    let list = user.get("/api/conversations").await.expect(200);
    let conversations = list["conversations"].as_array().expect("a list");
    assert!(!conversations.is_empty());
    for conversation in conversations {
        let whole = user.reads(conversation["id"].as_str().expect("an id")).await.to_string();
        for secret in ["@example.com", "@zulip", "note", "9608799"] {
            assert!(!whole.contains(secret), "{secret} in {whole}");
        }
    }
}

#[tokio::test]
async fn a_contact_that_is_gone_is_made_anew_and_one_that_is_merged_is_followed() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let old = world.sandbox.contact_by_external_id("ada").expect("a contact")["id"].as_str().expect("id").to_owned();
    let survivor = world.sandbox.add_contact(None, Some("ada@example.com"));
    world.sandbox.merge_contact(&old, &survivor);
    world.work().await;
    ada.replies(&chat, "Still me").await;
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "Still me"]);
}
