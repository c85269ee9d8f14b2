//! Webhooks: what is sent, how it is signed, retried, and what goes wrong on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbox::{Fault, Kind, Settings, signature};
use serde_json::{Value, json};

use crate::harness::{Receiver, World, world, world_with};

async fn connected() -> (World, Receiver) {
    let (world, receiver) = (world().await, Receiver::answering(&[]).await);
    world.sandbox.send_webhooks_to(&receiver.url);
    (world, receiver)
}

async fn end(world: World, receiver: Receiver) {
    world.stop().await;
    receiver.stop();
}

#[tokio::test]
async fn a_notification_is_signed_plain_and_holds_only_the_new_part() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("One & two").await;
    let part = world.sandbox.operator().replies(&id, "<p>On its <b>way</b>.</p>").await;
    let got = receiver.got();
    assert_eq!(receiver.topics(), ["conversation.user.created", "conversation.admin.replied"]);
    for one in &got {
        let expected = signature("sandbox-client-secret-0123456789abcdef", &one.raw);
        assert_eq!(one.signature.as_deref(), Some(expected.as_str()));
        assert_eq!((&one.json["app_id"], &one.json["type"]), (&json!("abc123def"), &json!("notification_event")));
        assert!(
            one.json["id"].as_str().is_some_and(|id| id.starts_with("notif_") && id.len() == 42),
            "{}",
            one.json["id"]
        );
    }
    let item = &got[1].json["data"]["item"];
    assert_eq!((&item["id"], &item["source"]["body"]), (&json!(id), &json!("One & two")));
    assert_eq!(item["conversation_parts"]["total_count"], 1);
    let new = &item["conversation_parts"]["conversation_parts"][0];
    assert_eq!((&new["id"], &new["body"]), (&json!(part), &json!("On its way.")));
    assert_eq!(got[0].json["data"]["item"]["conversation_parts"]["conversation_parts"], json!([]));
    end(world, receiver).await;
}

#[tokio::test]
async fn notifications_have_the_shape_of_the_samples() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("Hello").await;
    world.sandbox.operator().replies(&id, "Hi").await;
    let envelope = &receiver.got()[1].json;
    let keys = |json: &Value| json.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
    let of = |names: &str| names.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>();
    let outer =
        "type app_id data links id topic delivery_status delivery_attempts delivered_at first_sent_at created_at self";
    assert_eq!(keys(envelope), of(outer));
    let item = "type id created_at updated_at waiting_since snoozed_until source contacts first_contact_reply admin_assignee_id \
        team_assignee_id open state read tags priority sla_applied statistics conversation_rating teammates title \
        custom_attributes topics ticket linked_objects ai_agent ai_agent_participated conversation_parts";
    assert!(keys(&envelope["data"]["item"]).is_superset(&of(item)));
    let part = "type id part_type body created_at updated_at notified_at assigned_to author attachments external_id redacted \
        metadata email_message_metadata state tags event_details app_package_code";
    assert_eq!(keys(&envelope["data"]["item"]["conversation_parts"]["conversation_parts"][0]), of(part));
    end(world, receiver).await;
}

#[tokio::test]
async fn our_own_api_calls_echo() {
    let (world, receiver) = connected().await;
    let (contact, id) = world.opens("One").await;
    world.replies(&contact, &id, "Two").await;
    let close = json!({ "message_type": "close", "type": "admin", "admin_id": "9000001" });
    world.post(&format!("/conversations/{id}/parts"), close).await;
    world.sandbox.webhooks_settled().await;
    assert_eq!(
        receiver.topics(),
        ["conversation.user.created", "conversation.user.replied", "conversation.admin.closed"]
    );
    end(world, receiver).await;
}

#[tokio::test]
async fn a_failed_delivery_is_retried_once_with_the_same_id() {
    let settings = Settings { webhook_retry_after: Duration::from_millis(30), ..Settings::default() };
    let (world, receiver) = (world_with(settings).await, Receiver::answering(&[500, 503, 500]).await);
    world.sandbox.send_webhooks_to(&receiver.url);
    let (_, id) = world.opens("One").await;
    world.sandbox.webhooks_settled().await;
    world.sandbox.release_delayed_webhooks().await;
    let got = receiver.got();
    assert_eq!(got.len(), 2, "one retry, then never again");
    assert_eq!((&got[0].json["id"], &got[1].json["delivery_attempts"]), (&got[1].json["id"], &json!(2)));

    world.sandbox.operator().replies(&id, "Two").await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if receiver.got().len() == 4 {
            break;
        }
    }
    assert_eq!(receiver.texts()[2..], ["Two", "Two"], "the retry comes by itself too");
    world.sandbox.webhooks_settled().await;
    let attempts: Vec<_> = world.sandbox.deliveries().iter().map(|d| (d.attempt, d.status)).collect();
    assert_eq!(attempts, [(1, Some(500)), (2, Some(503)), (1, Some(500)), (2, Some(200))]);
    end(world, receiver).await;
}

#[tokio::test]
async fn a_410_ends_all_notifications() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("One").await;
    world.sandbox.webhooks_settled().await;
    receiver.answers(410);
    world.sandbox.operator().replies(&id, "Two").await;
    world.sandbox.operator().replies(&id, "Three").await;
    assert_eq!(receiver.texts(), ["One", "Two"]);
    assert!(world.sandbox.webhooks_disabled());
    world.sandbox.send_webhooks_to(&receiver.url);
    world.sandbox.operator().replies(&id, "Four").await;
    assert_eq!(receiver.texts(), ["One", "Two", "Four"]);
    end(world, receiver).await;
}

#[tokio::test]
async fn notifications_of_one_conversation_come_in_order() {
    let (world, receiver) = connected().await;
    let (contact, id) = world.opens("0").await;
    for number in 1..=20 {
        world.replies(&contact, &id, &number.to_string()).await;
    }
    world.sandbox.webhooks_settled().await;
    assert_eq!(receiver.texts(), (0..=20).map(|number| number.to_string()).collect::<Vec<_>>());
    end(world, receiver).await;
}

#[tokio::test]
async fn webhooks_are_dropped_doubled_delayed_and_swapped_on_demand() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("0").await;
    world.sandbox.webhooks_settled().await;
    let operator = world.sandbox.operator();
    let replied = |kind| Fault::new(kind).on_topic("conversation.admin.*").times(1);

    world.sandbox.fault(replied(Kind::Drop));
    operator.replies(&id, "1").await;
    world.sandbox.fault(replied(Kind::Double));
    operator.replies(&id, "2").await;
    assert_eq!(receiver.texts(), ["0", "2", "2"]);
    assert_eq!(receiver.got()[1].json["id"], receiver.got()[2].json["id"]);

    world.sandbox.fault(replied(Kind::Late { ms: 60_000 }));
    operator.replies(&id, "3").await;
    operator.replies(&id, "4").await;
    assert_eq!(receiver.texts()[3..], ["4"]);
    world.sandbox.release_delayed_webhooks().await;
    assert_eq!(receiver.texts()[3..], ["4", "3"]);

    world.sandbox.fault(replied(Kind::Reorder));
    operator.replies(&id, "5").await;
    operator.replies(&id, "6").await;
    assert_eq!(receiver.texts()[5..], ["6", "5"]);
    end(world, receiver).await;
}

#[tokio::test]
async fn a_forgery_has_a_bad_signature_and_an_attackers_text() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("0").await;
    world.sandbox.webhooks_settled().await;
    world.sandbox.fault(Fault::new(Kind::Forge));
    receiver.answers(401);
    world.sandbox.operator().replies(&id, "Real").await;
    let got = receiver.got();
    assert!(receiver.texts()[1].contains("evil.example"));
    assert_ne!(got[1].signature, Some(signature("sandbox-client-secret-0123456789abcdef", &got[1].raw)));
    assert_eq!(got[2].signature, Some(signature("sandbox-client-secret-0123456789abcdef", &got[2].raw)));
    assert_ne!(got[1].json["id"], got[2].json["id"]);
    end(world, receiver).await;
}

#[tokio::test]
async fn ids_may_be_numbers_and_nulls_may_be_left_out() {
    let (world, receiver) = connected().await;
    let (contact, id) = world.opens("0").await;
    world.sandbox.webhooks_settled().await;
    world.sandbox.fault(Fault::new(Kind::NumericIds).times(1));
    world.sandbox.operator().replies(&id, "1").await;
    world.sandbox.fault(Fault::new(Kind::Sparse).times(1));
    world.sandbox.operator().replies(&id, "2").await;
    let items: Vec<Value> = receiver.got().into_iter().map(|got| got.json["data"]["item"].clone()).collect();
    assert_eq!(items[1]["id"].as_u64().map(|number| number.to_string()), Some(id.clone()));
    assert_eq!(items[1]["contacts"]["contacts"][0]["id"], json!(contact), "a contact's id has letters");
    assert!(items[1].get("snoozed_until").is_some() && items[2].get("snoozed_until").is_none());
    assert_eq!(items[2]["id"], json!(id));
    end(world, receiver).await;
}

#[tokio::test]
async fn stopping_forgets_what_was_to_be_sent() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("0").await;
    world.sandbox.fault(Fault::new(Kind::Late { ms: 60_000 }));
    world.sandbox.operator().replies(&id, "1").await;
    world.sandbox.stop().await;
    world.sandbox.operator().replies(&id, "2").await;
    world.sandbox.release_delayed_webhooks().await;
    world.sandbox.webhooks_settled().await;
    assert!(!receiver.texts().contains(&"1".to_owned()));
    receiver.stop();
}

#[tokio::test]
async fn everything_can_be_replayed_with_the_same_ids() {
    let (world, receiver) = connected().await;
    let (_, id) = world.opens("0").await;
    world.sandbox.operator().replies(&id, "1").await;
    let before: Vec<Vec<u8>> = receiver.got().into_iter().map(|got| got.raw).collect();
    world.sandbox.replay_webhooks().await;
    let all: Vec<Vec<u8>> = receiver.got().into_iter().map(|got| got.raw).collect();
    assert_eq!(all, [before.clone(), before].concat());
    end(world, receiver).await;
}

#[tokio::test]
async fn raw_bytes_pings_and_the_validation_reach_the_receiver() {
    let (world, receiver) = connected().await;
    assert_eq!(world.sandbox.validate_webhook_url().await, 200);
    assert_eq!(world.sandbox.ping().await, 200);
    let mut foreign = world.sandbox.notification("conversation.admin.replied", json!({ "id": 1 }));
    foreign["app_id"] = json!("another");
    assert_eq!(world.sandbox.send_raw_webhook(foreign.to_string().as_bytes(), None).await, 200);
    assert_eq!(world.sandbox.send_raw_webhook(b"not json", Some("")).await, 200);
    assert_eq!(world.sandbox.send_raw_webhook(b"{}", Some("sha1=00")).await, 200);
    let got = receiver.got();
    let seen: Vec<(&str, bool)> = got.iter().map(|one| (one.method.as_str(), one.signature.is_some())).collect();
    assert_eq!(seen, [("HEAD", false), ("POST", true), ("POST", true), ("POST", false), ("POST", true)]);
    assert_eq!((&got[1].json["id"], &got[1].json["topic"]), (&Value::Null, &json!("ping")));
    assert_eq!((got[2].json["app_id"].as_str(), got[3].raw.as_slice()), (Some("another"), b"not json".as_slice()));
    receiver.stop();
    world.sandbox.send_webhooks_to("http://127.0.0.1:1/nobody");
    assert_eq!(world.sandbox.ping().await, 0);
    end(world, receiver).await;
}

#[tokio::test]
async fn contacts_are_told_of_with_dates_as_text() {
    let (world, receiver) = connected().await;
    let (old, new) = (world.sandbox.add_contact(Some("a"), None), world.sandbox.add_contact(Some("b"), None));
    world.sandbox.merge_contact(&old, &new);
    world.sandbox.archive_contact(&new);
    world.sandbox.delete_contact(&new);
    world.sandbox.webhooks_settled().await;
    let got = receiver.got();
    let merged = got.iter().find(|one| one.json["topic"] == "contact.merged").expect("told");
    let item = &merged.json["data"]["item"];
    assert_eq!((&item["id"], &item["merged_from"]["id"]), (&json!(new), &json!(old)));
    assert!(item["created_at"].as_str().is_some_and(|date| date.ends_with(".000Z")), "{item}");
    let topics: BTreeSet<String> = receiver.topics().into_iter().collect();
    assert_eq!(topics.into_iter().collect::<Vec<_>>(), ["contact.archived", "contact.deleted", "contact.merged"]);
    end(world, receiver).await;
}
