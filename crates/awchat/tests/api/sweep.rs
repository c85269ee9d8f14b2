//! What webhooks missed: sweeps, first visits, and the rare question about what is watched.

use std::time::Duration;

use awchat::id::ConversationId;
use awchat::intercom::Class;
use sandbox::{Fault, Kind};
use serde_json::json;

use crate::harness::{World, bodies, world};

impl World {
    /// A sweep, and the work that it asks for; how many conversations it asked about.
    async fn sweeps(&self) -> usize {
        let asked = self.while_time_goes_by(self.app.chat.sweep()).await.expect("Intercom answers");
        self.work().await;
        asked
    }
}

#[tokio::test]
async fn with_no_webhooks_at_all_the_sweep_brings_every_message() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    assert_eq!(world.sweeps().await, 0, "the first sweep of a new database sets the mark");
    world.sandbox.fault(Fault::new(Kind::Drop));
    for n in 0..5 {
        world.operator().replies(&chat, &format!("lost {n}")).await;
    }
    world.operator().closes(&chat, None).await;
    assert_eq!(world.sweeps().await, 1);
    let poll = ada.polls(&chat, 0).await;
    assert_eq!(bodies(&poll), ["Hello", "lost 0", "lost 1", "lost 2", "lost 3", "lost 4"]);
    assert_eq!(poll["state"], "closed");
    assert_eq!(world.app.chat.repairs(), 1);
}

#[tokio::test]
async fn a_sweep_that_finds_nothing_new_asks_about_nothing() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.operator().replies(&chat, "Hi").await;
    world.pass(Duration::from_secs(3)).await;
    world.sweeps().await;
    world.sweeps().await;
    world.sandbox.forget_calls();
    assert_eq!(world.sweeps().await, 0);
    assert_eq!(world.calls(), 2, "one search for conversations, one for tickets: {:?}", world.sandbox.calls());
    assert_eq!(world.app.chat.repairs(), 0);
}

#[tokio::test]
async fn a_message_lost_before_the_users_own_reply_is_found() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    world.sweeps().await;
    world.sandbox.fault(Fault::new(Kind::Drop));
    world.operator().replies(&chat, "lost").await;
    world.sandbox.clear_faults();
    // The reply's answer is newer than what was lost, and holds only the reply.
    ada.replies(&chat, "Anybody?").await;
    world.work().await;
    assert_eq!(bodies(&ada.reads(&chat).await), ["Hello", "Anybody?"]);
    assert_eq!(world.sweeps().await, 1);
    assert_eq!(bodies(&ada.reads(&chat).await), ["Hello", "lost", "Anybody?"]);
}

#[tokio::test]
async fn a_sweep_that_fails_looks_again_from_where_the_last_good_one_began() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    world.sweeps().await;
    world.sandbox.fault(Fault::new(Kind::Drop));
    world.operator().replies(&chat, "lost").await;
    world.sandbox.fault(Fault::new(Kind::Error { status: 503, applied: false, html: true }).on("POST", "*/search"));
    world.while_time_goes_by(world.app.chat.sweep()).await.expect_err("Intercom is down");
    world.sandbox.clear_faults();
    world.clock.advance(3_600_000);
    assert_eq!(world.sweeps().await, 1);
    assert_eq!(bodies(&ada.reads(&chat).await), ["Hello", "lost"]);
}

#[tokio::test]
async fn a_first_visit_brings_the_users_earlier_conversations_and_nobody_elses() {
    let world = world().await;
    let (adas, bobs) = (world.sandbox.add_contact(Some("ada"), None), world.sandbox.add_contact(Some("bob"), None));
    let mut chats = Vec::new();
    for n in 0..3 {
        chats.push(world.operator().starts(&adas, &format!("<p>Offer {n}</p>")).await);
    }
    let other = world.operator().starts(&bobs, "<p>Yours</p>").await;
    world.operator().notes(&chats[0], "CANARY").await;
    world.work().await;

    let ada = world.user("ada");
    let list = ada.get("/api/conversations").await.expect(200);
    let ids: Vec<_> = list["conversations"].as_array().expect("a list").iter().map(|c| c["id"].clone()).collect();
    assert_eq!(ids.len(), 3, "{list}");
    assert!(chats.iter().all(|chat| ids.contains(&json!(chat))) && !list.to_string().contains("CANARY"));
    assert_eq!(list["unreadTotal"], 3);
    ada.get(&format!("/api/conversations/{other}")).await.expect_error(404, "not_found");

    world.work().await;
    world.sandbox.forget_calls();
    ada.get("/api/conversations").await.expect(200);
    ada.get(&format!("/api/conversations/{other}")).await.expect_error(404, "not_found");
    assert_eq!(world.calls(), 0, "once is enough");
    // Somebody who knows the id needs no list first.
    assert_eq!(bodies(&world.user("bob").polls(&other, 0).await), ["Yours"]);
}

#[tokio::test]
async fn a_first_visit_while_intercom_is_down_is_repeated() {
    let world = World::begin(&[("INTERCOM_TIMEOUT_MS", "300")], false).await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    world.operator().starts(&contact, "<p>Offer</p>").await;
    world.sandbox.fault(Fault::new(Kind::Refuse));
    let ada = world.user("ada");
    let listing = world.while_time_goes_by(ada.get("/api/conversations")).await;
    assert_eq!(listing.expect(200)["conversations"], json!([]));
    world.sandbox.clear_faults();
    let list = ada.get("/api/conversations").await.expect(200);
    assert_eq!(list["conversations"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn a_watched_conversation_without_news_is_asked_about_rarely() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    world.sandbox.forget_calls();
    for _ in 0..40 {
        ada.polls(&chat, since).await;
        world.pass(Duration::from_secs(3)).await;
    }
    let asked = world.calls();
    assert!((1..=4).contains(&asked), "{asked} questions in two minutes");

    world.sandbox.fault(Fault::new(Kind::Drop));
    world.operator().replies(&chat, "lost").await;
    for _ in 0..100 {
        ada.polls(&chat, since).await;
        world.pass(Duration::from_secs(3)).await;
    }
    assert_eq!(bodies(&ada.polls(&chat, since).await), ["lost"]);
    assert_eq!(world.app.chat.repairs(), 1);
}

#[tokio::test]
async fn while_intercom_is_down_it_is_not_asked_about_all_that_is_watched() {
    let world = world().await;
    let ada = world.user("ada");
    let mut chats = Vec::new();
    for _ in 0..5 {
        chats.push(ada.opens("Hello").await);
    }
    world.work().await;
    for chat in &chats {
        ada.polls(chat, 0).await;
    }
    world.clock.advance(16_000);
    for chat in &chats {
        ada.polls(chat, 0).await;
    }
    world.sandbox.fault(Fault::new(Kind::Refuse));
    let asking = world.app.chat.ask_about_watched();
    assert!(!world.while_time_goes_by(asking).await.expect("the database answers"), "about no other for now");
    world.sandbox.clear_faults();
    world.sandbox.forget_calls();
    world.work().await;
    assert!(world.calls() >= 4, "the others wait for it to come back: {:?}", world.sandbox.calls());
}

#[tokio::test]
async fn what_a_clock_says_that_was_set_wrong_hides_nothing_from_the_sweep() {
    for ahead_ms in [-10_000, 10_000] {
        let world = world().await;
        let intercom = world.clock.clone();
        world.sandbox.go_by(move || intercom.now_ms() - ahead_ms);
        let ada = world.user("ada");
        let chat = ada.opens("Hello").await;
        world.work().await;
        world.sweeps().await;
        // Nobody tells of the second message, which comes in the second in which the first was asked about.
        world.operator().replies(&chat, "told of").await;
        world
            .app
            .chat
            .refresh(&ConversationId::parse(&chat).expect("an id"), Class::Refresh)
            .await
            .expect("Intercom answers");
        world.sandbox.fault(Fault::new(Kind::Drop));
        world.operator().replies(&chat, "lost").await;
        world.pass(Duration::from_secs(3)).await;
        world.sweeps().await;
        assert_eq!(bodies(&ada.reads(&chat).await), ["Hello", "told of", "lost"], "ahead by {ahead_ms} ms");
        world.sandbox.forget_calls();
        world.pass(Duration::from_secs(3)).await;
        assert_eq!(world.sweeps().await, 0, "whole, it is not asked about again; ahead by {ahead_ms} ms");
    }
}
