//! The poll: its clock, its cost, and that no message is missed or shown twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use awchat::api::idle::{self, Idle};
use axum::http::Request;
use axum::http::request::Parts;
use sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{Answer, World, bodies, live, world};

#[tokio::test]
async fn a_poll_has_the_references_fields() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let answer = ada.get(&format!("/api/conversations/{chat}/poll")).await;
    assert_eq!(answer.header("aw-poll"), Some("long"));
    let poll = answer.expect(200);
    assert_eq!(bodies(&poll), ["Hello"], "without since: all");
    assert_eq!(
        (&poll["state"], &poll["snoozedUntil"], &poll["rated"], &poll["unreadCount"]),
        (&json!("open"), &Value::Null, &json!(false), &json!(0)),
    );
    let latest = poll["latestTimestamp"].as_i64().expect("a time");
    assert!((latest - world.clock.now_s()).abs() <= 2, "seconds: {latest}");
    let idle = ada.polls(&chat, latest).await;
    assert_eq!(
        (bodies(&idle).len(), &idle["latestTimestamp"]),
        (0, &json!(latest)),
        "an empty one repeats the position"
    );
    for unit in [1, 1_000, 1_000_000] {
        assert!(bodies(&ada.polls(&chat, latest * unit).await).is_empty(), "times {unit}");
        assert_eq!(bodies(&ada.polls(&chat, (latest - 1) * unit).await), ["Hello"], "times {unit}");
    }
    for bad in ["since=x", "since=-1", "since=1.5", "since=", "wait=31", "wait=-1", "wait=x"] {
        let path = format!("/api/conversations/{chat}/poll?{bad}");
        ada.get(&path).await.expect_error(400, "validation_error");
    }
}

/// A poll's head, as the edge gets it.
fn poll_of(token: &str, path: &str) -> Parts {
    let request = Request::get(path).header("authorization", format!("Bearer {token}")).body(());
    request.expect("a request").into_parts().0
}

#[tokio::test]
async fn an_idle_poll_is_answered_from_memory_just_as_the_routes_would() {
    let world = World::begin(&[("RATE_LIMIT_PER_MINUTE", "1"), ("RATE_LIMIT_BURST", "30")], false).await;
    let (ada, idle) = (world.user("ada"), Idle::new(world.app.clone()));
    let chat = ada.opens("Hello").await;
    let latest = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    let (token, stranger) = (world.token("ada"), world.token("eve"));
    world
        .user("eve")
        .get(&format!("/api/conversations/{chat}/poll?since={latest}"))
        .await
        .expect_error(404, "not_found");
    let path = format!("/api/conversations/{chat}/poll?since={latest}");
    let answers = async |token: &str, path: &str| match idle.answer(&poll_of(token, path)) {
        Some(idle::Answer::Now(_)) => true,
        Some(idle::Answer::Counted(answer)) => answer.await.is_some(),
        None => false,
    };

    assert!(answers(&token, &path).await, "nothing is new");
    assert!(!answers(&stranger, &path).await, "not her conversation");
    assert!(
        !answers(&token, &format!("/api/conversations/{chat}/poll?since={}", latest - 1)).await,
        "something is new"
    );
    assert!(!answers(&token, &format!("/api/conversations/9{chat}/poll?since={latest}")).await, "unknown");
    assert!(!answers(&format!("{token}x"), &path).await, "not her token");
    let mut post = poll_of(&token, &path);
    post.method = "POST".parse().expect("a method");
    assert!(idle.answer(&post).is_none(), "not a poll");
    let mut crowded = poll_of(&token, &path);
    crowded.headers.insert("x-long", "x".repeat(20_000).parse().expect("a value"));
    assert!(idle.answer(&crowded).is_none(), "too large");
    let mut twice = poll_of(&token, &path);
    twice.headers.append("authorization", format!("Bearer {token}").parse().expect("a value"));
    assert!(idle.answer(&twice).is_none(), "two tokens");

    // `wait=0` is for the routes, and says the same.
    let (mut quick, mut slow) = (ada.get(&path).await, ada.get(&format!("{path}&wait=0")).await);
    for answer in [&mut quick, &mut slow] {
        for changing in ["x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"] {
            assert!(answer.headers.remove(changing).is_some(), "{changing}");
        }
    }
    assert_eq!((quick.status, quick.headers, quick.text), (slow.status, slow.headers, slow.text));

    world.operator().replies(&chat, "News").await;
    world.work().await;
    assert!(!answers(&token, &path).await, "the operator has answered");
    let poll = ada.polls(&chat, latest).await;
    assert_eq!(bodies(&poll), ["News"]);
    let path = format!("/api/conversations/{chat}/poll?since={}", poll["latestTimestamp"]);
    assert!(answers(&token, &path).await, "nothing is new again");
    world.clock.advance(7_200_000);
    assert!(!answers(&token, &path).await, "the token has ended");

    // Each is counted once, by whomever it is answered.
    let (ada, token) = (world.user("ada"), world.token("ada"));
    let left =
        |answer: &Answer| answer.header("ratelimit-remaining").expect("a number").parse::<u32>().expect("a number");
    let before = left(&ada.get(&path).await);
    assert_eq!(left(&ada.get(&path).await), before - 1);
    assert_eq!(left(&ada.get(&format!("{path}&wait=0")).await), before - 2);
    for _ in 0..before - 2 {
        assert!(answers(&token, &path).await);
    }
    assert!(!answers(&token, &path).await, "no more fit");
    ada.get(&path).await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn messages_of_one_second_each_have_their_own_position() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("0").await;
    for n in 1..6 {
        world.operator().replies(&chat, &n.to_string()).await;
    }
    world.work().await;
    let mut since = 0;
    let mut seen = Vec::new();
    loop {
        let poll = ada.polls(&chat, since).await;
        let Some(first) = bodies(&poll).first().map(ToString::to_string) else { break };
        seen.push(first);
        // One position at a time.
        let all = bodies(&poll).len() as i64;
        since = poll["latestTimestamp"].as_i64().expect("a time") - (all - 1);
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_clock_that_steps_back_changes_nothing() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let latest = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    world.clock.advance(-3_000);
    world.operator().replies(&chat, "Hi").await;
    world.work().await;
    assert_eq!(bodies(&ada.polls(&chat, latest).await), ["Hi"]);
}

#[tokio::test]
async fn an_idle_poll_asks_neither_intercom_nor_the_database() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    let latest = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    world.sandbox.forget_calls();
    // With the database closed, one statement would be an error.
    world.app.store.close().await;
    for _ in 0..100 {
        assert!(bodies(&ada.polls(&chat, latest).await).is_empty());
    }
    assert_eq!(world.calls(), 0);
    ada.get("/api/conversations").await.expect_error(500, "internal_error");
}

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_something_changes() {
    let world = live().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.sandbox.webhooks_settled().await;
    for act in ["reply", "snooze", "open", "close"] {
        let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
        let path = format!("/api/conversations/{chat}/poll?since={since}&wait=20");
        let began = Instant::now();
        let (poll, ()) = tokio::join!(ada.get(&path), async {
            let operator = world.operator();
            match act {
                "reply" => operator.replies(&chat, "Hi").await,
                "snooze" => operator.snoozes(&chat, world.clock.now_s() + 3600).await,
                "open" => operator.reopens(&chat).await,
                _ => operator.closes(&chat, None).await,
            };
        });
        let poll = poll.expect(200);
        assert!(began.elapsed() < Duration::from_secs(5), "{act} took {:?}", began.elapsed());
        match act {
            "reply" => assert_eq!(bodies(&poll), ["Hi"]),
            "snooze" => assert_eq!(poll["state"], "snoozed"),
            "open" => assert_eq!(poll["state"], "open"),
            _ => assert_eq!(poll["state"], "closed"),
        }
        world.sandbox.webhooks_settled().await;
    }
}

#[tokio::test]
async fn a_long_poll_that_sees_nothing_ends_after_its_wait() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=30");
    let mut waiting = std::pin::pin!(ada.get(&path));
    // Time passes until the poll, whenever it got there, has had its wait.
    let answer = loop {
        tokio::select! {
            answer = &mut waiting => break answer,
            () = tokio::task::yield_now() => world.clock.advance(100),
        }
    };
    assert_eq!(answer.expect(200)["latestTimestamp"], since);
}

/// A client of the app that polls in its own way.
struct Poller {
    name: &'static str,
    times: i64,
    restarts: bool,
    since: i64,
    seen: HashMap<String, u32>,
}

impl Poller {
    async fn polls(&mut self, world: &World, chat: &str) {
        let poll = world.user("ada").polls(chat, self.since).await;
        if self.restarts && awchat::id::chance() < 0.1 {
            return; // The app was killed before it could take the answer in; it goes on from what it had.
        }
        for message in poll["messages"].as_array().expect("messages") {
            *self.seen.entry(message["body"].as_str().expect("a body").to_owned()).or_default() += 1;
        }
        self.since = poll["latestTimestamp"].as_i64().expect("a time") * self.times;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_messages_doubled_disordered_and_late_are_each_shown_once() {
    const MESSAGES: usize = 2_000;
    let world = live().await;
    let chat = world.user("ada").opens("Hello").await;
    world.sandbox.webhooks_settled().await;
    world.sandbox.fault(Fault::new(Kind::Double).with_probability(0.2, 1));
    world.sandbox.fault(Fault::new(Kind::Reorder).with_probability(0.2, 2));
    world.sandbox.fault(Fault::new(Kind::Late { ms: 400 }).with_probability(0.2, 3));
    let poller = |name, times, restarts| Poller { name, times, restarts, since: 0, seen: HashMap::new() };
    let mut pollers = [
        poller("echo", 1, false),
        poller("times 1,000", 1_000, false),
        poller("echo, restarted", 1, true),
        poller("times 1,000, restarted", 1_000, true),
    ];
    let operator = async {
        for n in 0..MESSAGES {
            world.operator().replies(&chat, &format!("m{n}")).await;
        }
        world.sandbox.webhooks_settled().await;
    };
    let complete = |pollers: &[Poller]| pollers.iter().all(|poller| poller.seen.len() == MESSAGES + 1);
    let clients = async {
        let (mut seen, mut news) = (0, Instant::now());
        // However slow the machine is, something comes.
        while !complete(&pollers) && news.elapsed() < Duration::from_secs(30) {
            for poller in &mut pollers {
                poller.polls(&world, &chat).await;
            }
            let now_seen = pollers.iter().map(|poller| poller.seen.len()).sum();
            if now_seen > seen {
                (seen, news) = (now_seen, Instant::now());
            }
        }
        // Once more: what came twice would come now.
        world.sandbox.webhooks_settled().await;
        for poller in &mut pollers {
            poller.polls(&world, &chat).await;
        }
    };
    tokio::join!(operator, clients);
    let (mut missed, mut twice) = (0, 0);
    for poller in &pollers {
        let lost = MESSAGES + 1 - poller.seen.len();
        let doubled = poller.seen.values().filter(|times| **times > 1).count();
        println!("{}: {lost} missed, {doubled} twice of {MESSAGES}", poller.name);
        (missed, twice) = (missed + lost, twice + doubled);
    }
    assert_eq!((missed, twice), (0, 0));
    println!(
        "polls: 4 clients, {MESSAGES} operator messages doubled, disordered, late: {missed} missed, {twice} twice"
    );
}
