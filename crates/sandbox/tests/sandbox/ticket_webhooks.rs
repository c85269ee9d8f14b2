//! What is told of tickets, in which shapes, and what of them as of conversations.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbox::{Fault, Kind, NewTicket, Settings};
use serde_json::{Value, json};

use crate::harness::{Receiver, World, reply, world_with};

/// A sandbox that tells a receiver, and the contact `ada`.
async fn connected(settings: Settings) -> (World, Receiver, String) {
    let (world, receiver) = (world_with(settings).await, Receiver::answering(&[]).await);
    world.sandbox.send_webhooks_to(&receiver.url);
    let contact = world.sandbox.add_contact(Some("ada"), None);
    (world, receiver, contact)
}

async fn end(world: World, receiver: Receiver) {
    world.stop().await;
    receiver.stop();
}

fn item(receiver: &Receiver, topic: &str) -> Value {
    let got = receiver.got();
    let found = got.iter().rev().find(|one| one.json["topic"] == topic);
    found.unwrap_or_else(|| panic!("no {topic} in {:?}", receiver.topics())).json["data"]["item"].clone()
}

fn keys(json: &Value) -> BTreeSet<String> {
    json.as_object().expect("an object").keys().cloned().collect()
}

fn of(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

/// Everything that happens to a ticket, once.
async fn life(world: &World, contact: &str) -> String {
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(contact, NewTicket { title: "Card".to_owned(), ..NewTicket::default() }).await;
    assert_eq!(world.post(&format!("/tickets/{id}/reply"), reply(contact, "Hello?")).await.status, 200);
    operator.replies(&id, "Hello").await;
    operator.notes(&id, "internal").await;
    operator.assigns_with_reply(&id, "I take it").await;
    operator.sets_ticket_attribute(&id, "Transaction", json!("T-1")).await;
    operator.moves_ticket(&id, "Waiting on bank").await;
    operator.closes(&id, Some("Bye")).await;
    id
}

#[tokio::test]
async fn every_change_of_a_ticket_is_told_under_its_own_topic() {
    let (world, receiver, contact) = connected(Settings::default()).await;
    life(&world, &contact).await;
    assert_eq!(
        receiver.topics(),
        [
            "ticket.created",
            "ticket.state.updated",
            "ticket.contact.replied",
            "ticket.admin.replied",
            "ticket.note.created",
            "ticket.admin.assigned",
            "ticket.admin.replied",
            "ticket.attribute.updated",
            "ticket.state.updated",
            "ticket.state.updated",
            "ticket.resolved",
            "ticket.closed",
        ]
    );
    let resolved = item(&receiver, "ticket.resolved");
    assert_eq!((&resolved["ticket_state"]["category"], &resolved["open"]), (&json!("resolved"), &json!(false)));
    end(world, receiver).await;
}

#[tokio::test]
async fn customer_tickets_are_told_of_as_conversations_too_where_so_set() {
    let (world, receiver, contact) =
        connected(Settings { tickets_as_conversations: true, ..Settings::default() }).await;
    let id = life(&world, &contact).await;
    let topics = receiver.topics();
    for topic in ["user.replied", "admin.replied", "admin.noted", "admin.assigned", "admin.closed"] {
        assert!(topics.contains(&format!("conversation.{topic}")), "{topic} in {topics:?}");
    }
    let (ticket, talk) = (item(&receiver, "ticket.contact.replied"), item(&receiver, "conversation.user.replied"));
    assert_eq!((&ticket["ticket"]["id"], &talk["id"]), (&json!(id), &json!(id)));
    assert_eq!(ticket["ticket_part"]["id"], talk["conversation_parts"]["conversation_parts"][0]["id"]);
    assert!(talk["ticket"].is_object());

    let before = receiver.got().len();
    let ledger = NewTicket { ticket_type: Some("Ledger check".to_owned()), ..NewTicket::default() };
    let ledger = world.sandbox.operator().creates_ticket(&contact, ledger).await;
    world.sandbox.operator().closes(&ledger, None).await;
    let topics = receiver.topics();
    assert!(topics[before..].iter().all(|topic| topic.starts_with("ticket.")), "{topics:?}");
    end(world, receiver).await;
}

#[tokio::test]
async fn tickets_notifications_have_the_shapes_of_the_samples() {
    let (world, receiver, contact) = connected(Settings::default()).await;
    let id = life(&world, &contact).await;
    // Beside a part, the ticket does not name what it lacks.
    let beside = "type id ticket_id ticket_attributes ticket_state ticket_type contacts admin_assignee_id team_assignee_id \
        created_at updated_at ticket_parts open linked_objects category is_shared channel previous_ticket_state_id";
    let alone = format!("{beside} snoozed_until company_id");
    for topic in ["ticket.contact.replied", "ticket.admin.replied", "ticket.note.created"] {
        let item = item(&receiver, topic);
        assert_eq!((keys(&item), &item["type"]), (of("type ticket ticket_part"), &json!("ticket_ticket_part")));
        assert_eq!(keys(&item["ticket"]), of(beside), "{topic}");
        let own = "type id part_type body created_at updated_at author attachments redacted";
        let own = match topic {
            "ticket.contact.replied" => format!("{own} app_package_code"),
            "ticket.admin.replied" => format!("{own} assigned_to"),
            _ => own.to_owned(),
        };
        assert_eq!(keys(&item["ticket_part"]), of(&own), "{topic}");
        assert_eq!(keys(&item["ticket_part"]["author"]), of("type id name email"));
    }
    for topic in ["ticket.created", "ticket.state.updated", "ticket.resolved"] {
        let item = item(&receiver, topic);
        assert_eq!((keys(&item), &item["id"]), (of(&alone), &json!(id)), "{topic}");
        assert_eq!(keys(&item["ticket_state"]), of("type id category internal_label external_label"));
        let types = "type id name description icon workspace_id archived created_at updated_at is_internal \
            ticket_type_attributes category";
        assert_eq!(keys(&item["ticket_type"]), of(types));
        assert_eq!(
            item["ticket_parts"]["total_count"],
            json!(item["ticket_parts"]["ticket_parts"].as_array().map(Vec::len))
        );
    }
    let changed = item(&receiver, "ticket.attribute.updated");
    assert_eq!(keys(&changed["ticket_part"]["updated_attribute_data"]), of("attribute value"));
    assert_eq!(changed["ticket_part"]["updated_attribute_data"]["value"]["previous"], "");
    end(world, receiver).await;
}

#[tokio::test]
async fn a_closing_is_told_nested_and_a_resolving_apart_since_2_15() {
    let (world, receiver, contact) = connected(Settings::default()).await;
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(&contact, NewTicket::default()).await;
    operator.moves_ticket(&id, "Resolved").await;
    assert!(!receiver.topics().contains(&"ticket.closed".to_owned()), "resolved is not closed");
    operator.closes(&id, None).await;
    let closed = item(&receiver, "ticket.closed");
    assert_eq!((keys(&closed), &closed["ticket"]["id"]), (of("ticket"), &json!(id)));
    assert_eq!(closed["ticket"]["contacts"]["contacts"], json!([{ "id": contact, "role": "user" }]));
    assert_eq!(
        receiver.topics().iter().filter(|topic| *topic == "ticket.resolved").count(),
        1,
        "it was resolved before"
    );
    assert!(item(&receiver, "ticket.resolved")["admin_assignee_id"].is_u64());
    let path = format!("/tickets/{id}");
    world.send("PUT", &path, json!({ "open": true })).await;
    world.send("PUT", &path, json!({ "open": false })).await;
    world.sandbox.webhooks_settled().await;
    assert_eq!(receiver.topics().iter().filter(|topic| *topic == "ticket.closed").count(), 2);
    end(world, receiver).await;
}

#[tokio::test]
async fn before_2_15_a_resolving_was_told_as_a_closing_and_bare() {
    let settings = Settings { ticket_webhooks_before_2_15: true, ..Settings::default() };
    let (world, receiver, contact) = connected(settings).await;
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(&contact, NewTicket::default()).await;
    operator.moves_ticket(&id, "Resolved").await;
    operator.closes(&id, None).await;
    assert_eq!(receiver.topics()[2..], ["ticket.state.updated", "ticket.closed"]);
    let closed = item(&receiver, "ticket.closed");
    assert_eq!((&closed["id"], &closed["type"]), (&json!(id), &json!("ticket")));
    assert_eq!(closed["contacts"]["contacts"], json!([{ "id": contact, "role": "user" }]));
    assert_eq!((&closed["admin_assignee_id"], closed.get("previous_ticket_state_id")), (&json!("0"), None));
    end(world, receiver).await;
}

#[tokio::test]
async fn the_bots_reopening_is_told() {
    let settings = Settings { ticket_reopens_after: Some(Duration::from_secs(60)), ..Settings::default() };
    let (world, receiver, contact) = connected(settings).await;
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(&contact, NewTicket::default()).await;
    operator.closes(&id, None).await;
    world.post(&format!("/tickets/{id}/reply"), reply(&contact, "It is not!")).await;
    world.sandbox.bot_reopens_tickets_now().await;
    assert_eq!(receiver.topics().last().map(String::as_str), Some("ticket.state.updated"));
    let told = item(&receiver, "ticket.state.updated");
    assert_eq!((&told["ticket_state"]["category"], &told["open"]), (&json!("in_progress"), &json!(true)));
    let replied = item(&receiver, "ticket.contact.replied");
    assert_eq!(
        (&replied["ticket_part"]["part_type"], &replied["ticket_part"]["body"]),
        (&json!("open"), &json!("<p>It is not!</p>"))
    );
    end(world, receiver).await;
}

#[tokio::test]
async fn forgeries_and_losses_strike_tickets_notifications_too() {
    let (world, receiver, contact) = connected(Settings::default()).await;
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(&contact, NewTicket::default()).await;
    world.sandbox.fault(Fault::new(Kind::Drop).on_topic("ticket.admin.replied").times(1));
    operator.replies(&id, "Lost").await;
    assert_eq!(receiver.got().len(), 2);
    world.sandbox.fault(Fault::new(Kind::Forge).on_topic("ticket.*").times(2));
    operator.replies(&id, "Real").await;
    operator.moves_ticket(&id, "Resolved").await;
    let items: Vec<Value> = receiver.got().iter().map(|one| one.json["data"]["item"].clone()).collect();
    let lured = |text: &Value| text.as_str().is_some_and(|text| text.contains("evil.example"));
    assert!(lured(&items[2]["ticket_part"]["body"]) && !lured(&items[3]["ticket_part"]["body"]));
    let title = |index: usize| &items[index]["ticket_attributes"]["_default_title_"];
    assert!(lured(title(4)) && !lured(title(5)));
    end(world, receiver).await;
}
