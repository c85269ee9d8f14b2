//! The bot that takes up again what rested when a contact replied.

use std::time::Duration;

use sandbox::{NewTicket, Settings};
use serde_json::json;

use crate::harness::{reply, world_with};
use crate::tickets::{state, step, timeline};

#[tokio::test]
async fn the_bot_takes_up_again_what_rested_after_a_contacts_reply() {
    for label in ["Resolved", "Waiting on you"] {
        let world =
            world_with(Settings { ticket_reopens_after: Some(Duration::from_secs(60)), ..Settings::default() }).await;
        let contact = world.sandbox.add_contact(Some("ada"), None);
        let operator = world.sandbox.operator();
        let id = operator.creates_ticket(&contact, NewTicket::default()).await;
        world.post(&format!("/tickets/{id}/reply"), reply(&contact, "Any news?")).await;
        world.sandbox.bot_reopens_tickets_now().await;
        let stage = || world.sandbox.ticket(&id).expect("there")["ticket_state"]["external_label"].clone();
        assert_eq!(stage(), "Submitted", "what does not rest is left alone");
        operator.moves_ticket(&id, label).await;
        world.post(&format!("/tickets/{id}/reply"), reply(&contact, "It is not!")).await;
        assert_eq!(stage(), label, "not at once");
        world.sandbox.bot_reopens_tickets_now().await;
        let ticket = world.sandbox.ticket(&id).expect("there");
        assert_eq!(ticket["ticket_state"]["external_label"], "In progress");
        let from = if label == "Resolved" { "resolved" } else { "waiting_on_customer" };
        assert_eq!(timeline(&ticket).last(), Some(&step("admin", from, "in_progress", "bot")));
        let parts = ticket["ticket_parts"]["ticket_parts"].as_array().expect("parts");
        assert_eq!(parts.last().expect("a part")["author"]["name"], "Fin");
        world.stop().await;
    }
}

#[tokio::test]
async fn the_bot_comes_by_itself_after_a_while_or_never() {
    for (after, expected) in [(Some(Duration::from_millis(20)), "in_progress"), (None, "resolved")] {
        let world = world_with(Settings { ticket_reopens_after: after, ..Settings::default() }).await;
        let contact = world.sandbox.add_contact(Some("ada"), None);
        let operator = world.sandbox.operator();
        let id = operator.creates_ticket(&contact, NewTicket::default()).await;
        operator.closes(&id, None).await;
        world.replies(&contact, &id, "It is not!").await;
        let stage = || world.sandbox.ticket(&id).expect("there")["ticket_state"]["category"].clone();
        for _ in 0..100 {
            if stage() == "in_progress" || after.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.sandbox.bot_reopens_tickets_now().await;
        assert_eq!(stage(), expected);
        assert_eq!(world.sandbox.ticket(&id).expect("there")["open"], true, "the reply itself has opened it");
        world.stop().await;
    }
}

#[tokio::test]
async fn the_bot_leaves_alone_what_somebody_else_reopened_first() {
    let world =
        world_with(Settings { ticket_reopens_after: Some(Duration::from_secs(60)), ..Settings::default() }).await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let operator = world.sandbox.operator();
    let id = operator.creates_ticket(&contact, NewTicket::default()).await;
    operator.moves_ticket(&id, "Resolved").await;
    world.post(&format!("/tickets/{id}/reply"), reply(&contact, "It is not!")).await;
    let bank = state(&world, "Waiting on bank").await;
    world.send("PUT", &format!("/tickets/{id}"), json!({ "ticket_state_id": bank })).await;
    world.sandbox.bot_reopens_tickets_now().await;
    assert_eq!(world.sandbox.ticket(&id).expect("there")["ticket_state"]["external_label"], "Waiting on bank");
    world.stop().await;
}
