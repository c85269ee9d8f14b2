//! Notices by the hundred: how soon they are there, and what is left of them when the server is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use sandbox::{Service, To};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Settings, World};
use crate::process::{Caller, Server};
use crate::push::{has_phone, telegram_token};

/// Soaked, all of it; else a part.
fn cut(soaked: usize, usually: usize) -> usize {
    if std::env::var_os("AWCHAT_SOAK").is_some() { soaked } else { usually }
}

const SOON: Settings<'static> = &[("SWEEP_INTERVAL_MS", "500"), ("BREAKER_OPEN_MS", "500")];

/// Registers ten telephones and ten chats for a user; begins a conversation.
async fn with_devices(server: Arc<Server>, n: usize) -> String {
    let sub = format!("user-{n}");
    let register = async |user: &Caller, body: Value| {
        let answer = user.call("POST", "/api/devices/register", None, Some(&body)).await;
        answer.expect("an answer").expect(200);
    };
    let user = server.user(&sub);
    let chat = user.opens("Hello").await;
    for device in 0..10 {
        register(&user, json!({ "platform": "mobile", "token": format!("fcm:{n}-{device}") })).await;
        let telegram_id = i64::try_from(1_000 + n * 10 + device).expect("few");
        let there = server.user_with(telegram_token(&sub, telegram_id, &Clock::system()));
        register(&there, json!({ "platform": "tma", "token": telegram_id.to_string() })).await;
    }
    chat
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_survives_kills_fcm_at_least_once_and_telegram_at_most_once() {
    let (users, kills) = (cut(250, 12), cut(10, 4));
    let server = Arc::new(Server::start(SOON).await);
    let mut chats = Vec::new();
    for from in (0..users).step_by(8) {
        let mut some = JoinSet::new();
        for n in from..users.min(from + 8) {
            some.spawn(with_devices(server.clone(), n));
        }
        chats.extend(some.join_all().await);
    }
    let mut server = Arc::into_inner(server).expect("nobody else has it");
    let phones = server.sandbox.phones();
    let sent = || phones.sent().len();
    for chat in &chats {
        server.sandbox.operator().replies(chat, "News").await;
    }
    let all = users * 20;
    for kill in 1..=kills {
        let began = Instant::now();
        while sent() < all * kill / (kills + 2) && began.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill();
        server.up().await;
    }
    let mut quiet_since = (Instant::now(), sent());
    while quiet_since.0.elapsed() < Duration::from_secs(12) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if sent() != quiet_since.1 {
            quiet_since = (Instant::now(), sent());
        }
    }
    let mut telephones: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut in_chats: BTreeMap<i64, usize> = BTreeMap::new();
    for sent in phones.sent().into_iter().filter(|sent| sent.delivered) {
        match sent.to {
            To::Phone(token) => telephones.entry(token).or_default().push(sent.body["message"].clone()),
            To::Chat(id) => *in_chats.entry(id).or_default() += 1,
        }
    }
    assert_eq!(telephones.len(), users * 10, "each telephone was told at least once");
    for (token, messages) in &telephones {
        let same = |at: &str| messages.iter().all(|message| message.pointer(at) == messages[0].pointer(at));
        assert!(same("/android/collapse_key") && same("/android/notification/tag"), "{token}: {messages:?}");
        assert_eq!(phones.screen(token).len(), 1, "{token}: twice, and one on the screen");
    }
    let twice = telephones.values().filter(|messages| messages.len() > 1).count();
    assert!(in_chats.values().all(|times| *times == 1), "no chat was told twice: {in_chats:?}");
    let lost = users * 10 - in_chats.len();
    assert!(lost <= kills * 8, "only what was under way at a kill is lost: {lost}");
    println!(
        "fan-out of {all} with {kills} kills: {} telephones told, {twice} of them twice under one collapse key, 0 lost; \
         {} chats told once, {lost} not, 0 twice",
        telephones.len(),
        in_chats.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_webhook_to_the_push_it_takes_less_than_a_second() {
    let (per_second, count) = (cut(100, 20), cut(400, 200));
    let world = World::with_phones(&[], true).await;
    let phones = world.sandbox.phones();
    let mut chats = Vec::new();
    for from in (0..count).step_by(10) {
        let some = (from..from + 10).map(async |n| {
            let user = world.user(&format!("user-{n}"));
            let chat = user.opens("Hello").await;
            has_phone(&user, &format!("fcm:{n}"), "en").await;
            chat
        });
        chats.extend(futures_util::future::join_all(some).await);
    }
    world.sandbox.webhooks_settled().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // However long one takes to be delivered, the next comes in its time.
    let (pause, began) =
        (Duration::from_secs(1) / u32::try_from(per_second).expect("few"), tokio::time::Instant::now());
    let says = chats.iter().zip(0..).map(async |(chat, n)| {
        tokio::time::sleep_until(began + pause * n).await;
        let at_ms = world.clock.now_ms();
        (world.operator().replies(chat, "a word").await, at_ms)
    });
    let said: BTreeMap<String, i64> = futures_util::future::join_all(says).await.into_iter().collect();
    let took = began.elapsed();
    let waiting = Instant::now();
    while phones.sent().len() < count && waiting.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut took_ms: Vec<i64> = Vec::new();
    for sent in phones.sent() {
        let message = sent.body["message"]["data"]["messageId"].as_str().expect("its id").to_owned();
        took_ms.push(sent.at_ms - said[&message]);
    }
    assert_eq!(took_ms.len(), count, "each was told once");
    took_ms.sort_unstable();
    let at = |share: usize| took_ms[(count * share / 1000).min(count - 1)];
    let rate = f64::from(u32::try_from(count).expect("few")) / took.as_secs_f64();
    println!(
        "webhook to push, {rate:.0} webhooks/s, {count} messages: p50 {} ms, p99 {} ms, longest {} ms",
        at(500),
        at(990),
        at(1000)
    );
    assert!(at(990) <= 1_000, "p99 of {} ms", at(990));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_taken_from_its_user_hears_nothing_of_that_user_after_the_answer() {
    let rounds = cut(500, 120);
    let world = World::with_phones(&[], true).await;
    let phones = world.sandbox.phones();
    let (mut ada, bob) = (Vec::new(), world.user("bob"));
    for n in 0..8 {
        let user = world.user(&format!("ada-{n}"));
        let chat = user.opens("Hello").await;
        ada.push((user, chat));
    }
    let mut before = 0;
    for round in 0..rounds {
        let (ada, chat) = &ada[round % ada.len()];
        let token = format!("fcm:{round}");
        has_phone(ada, &token, "en").await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        world.operator().replies(chat, "a word").await;
        let pause = Duration::from_micros(u64::try_from(round % 40).expect("few") * 1_000);
        tokio::time::sleep(pause).await;
        has_phone(&bob, &token, "en").await;
        let told = phones.sent_to(token.as_str()).len();
        before += told;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(phones.sent_to(token.as_str()).len(), told, "{token} was told after it had moved");
    }
    println!("devices that moved while their user was told: {rounds}, {before} told before the answer, 0 after");
}

#[tokio::test(flavor = "multi_thread")]
async fn fcm_and_telegram_that_are_down_slow_nothing_else() {
    let world = World::with_phones(&[], true).await;
    let phones = world.sandbox.phones();
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let telegram = world.nobody().bearing(&telegram_token("ada", 7, &world.clock));
    crate::push::has_chat(&telegram, 7, "en").await;
    for n in 0..18 {
        has_phone(&ada, &format!("fcm:{n}"), "en").await;
        phones.script(format!("fcm:{n}").as_str(), sandbox::Outcome::Hang { ms: 60_000, applied: false }, u32::MAX);
    }
    phones.script(7, sandbox::Outcome::Hang { ms: 60_000, applied: false }, u32::MAX);
    let longest = async |turns: usize| {
        let mut longest = Duration::ZERO;
        for turn in 0..turns {
            let began = Instant::now();
            let part = world.operator().replies(&chat, &format!("word {turn}")).await;
            let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
            while !ada.polls(&chat, 0).await.to_string().contains(&part) {
                let wait = format!("/api/conversations/{chat}/poll?since={since}&wait=5");
                ada.get(&wait).await.expect(200);
            }
            ada.replies(&chat, "and back").await;
            longest = longest.max(began.elapsed());
            // Nobody looks: devices are to be told.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        longest
    };
    let other = ada.opens("Another matter").await;
    world.operator().replies(&other, "a word").await;
    let hung = Instant::now();
    while phones.counts().fcm < 16 || phones.counts().telegram < 1 {
        assert!(hung.elapsed() < Duration::from_secs(30), "they hang: {:?}", phones.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (busy, began) = (longest(8).await, Instant::now());
    phones.clear_scripts();
    for service in [Service::Fcm, Service::Telegram] {
        phones.take_down(service);
    }
    let down = longest(8).await;
    println!(
        "chat while FCM and Telegram hang: longest turn {} ms; while they are down: {} ms",
        busy.as_millis(),
        down.as_millis()
    );
    assert!(busy < Duration::from_secs(3) && down < Duration::from_secs(3), "{busy:?} {down:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
}
