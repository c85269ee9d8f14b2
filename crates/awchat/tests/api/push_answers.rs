//! Notices: what FCM and Telegram can answer, and what becomes of the message and the device then.

use std::time::Duration;

use sandbox::{ChatState, Outcome, Service};
use serde_json::json;

use crate::harness::{Client, World};
use crate::push::{has_chat, has_phone, in_telegram, world};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn is_registered(user: &Client<'_>, device: &str) -> bool {
    user.call("DELETE", &format!("/api/devices/{device}"), None).await.status == 204
}

/// What is expected of an answer: whether the device stays, and after how many seconds it is tried again.
struct Row {
    outcome: Outcome,
    stays: bool,
    again_s: Option<(u64, u64)>,
}

fn row(outcome: Outcome, stays: bool, again_s: Option<(u64, u64)>) -> Row {
    Row { outcome, stays, again_s }
}

#[tokio::test]
async fn each_answer_of_fcm_has_its_consequence() {
    let retry = |text: &str| Some(text.to_owned());
    let world = world().await;
    let date = httpdate(world.clock.now_s() + 40);
    let rows = [
        row(Outcome::Delivered, true, None),
        row(Outcome::Unregistered, false, None),
        row(Outcome::NoSuchProject, true, None),
        row(Outcome::InvalidToken, false, None),
        row(Outcome::InvalidMessage, true, None),
        row(Outcome::SenderIdMismatch, false, None),
        row(Outcome::PermissionDenied, true, None),
        row(Outcome::ThirdPartyAuthError, true, None),
        row(Outcome::Delivered, true, None),
        row(Outcome::Delivered, true, None),
        row(Outcome::Delivered, true, None),
        row(Outcome::QuotaExceeded { retry_after: None }, true, Some((60, 70))),
        row(Outcome::QuotaExceeded { retry_after: retry("30") }, true, Some((30, 36))),
        row(Outcome::Unavailable { retry_after: retry(&date) }, true, Some((30, 50))),
        row(Outcome::Unavailable { retry_after: None }, true, Some((10, 22))),
        row(Outcome::Internal, true, Some((10, 22))),
        row(Outcome::Reset { applied: false }, true, Some((10, 22))),
    ];
    let mut told = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let (user, token) = (world.user(&format!("user-{n}")), format!("fcm:{n}"));
        let chat = user.opens("Hello").await;
        let device = has_phone(&user, &token, "en").await;
        world.sandbox.phones().script(token.as_str(), row.outcome.clone(), 1);
        world.operator().replies(&chat, "1").await;
        world.work().await;
        told.push((user, token, device, world.clock.now_ms()));
    }
    for _ in 0..90 {
        world.pass(SECOND).await;
    }
    for (row, (user, token, device, at_ms)) in rows.iter().zip(&told) {
        let sent = world.sandbox.phones().sent_to(token.as_str());
        let expected = 1 + usize::from(row.again_s.is_some());
        assert_eq!(sent.len(), expected, "{:?}: {sent:?}", row.outcome);
        if let Some((from_s, to_s)) = row.again_s {
            let after_ms = sent[1].at_ms - at_ms;
            let range = (from_s * 1000).saturating_sub(500)..=to_s * 1000 + 1_500;
            assert!(range.contains(&after_ms.unsigned_abs()), "{:?}: {after_ms}", row.outcome);
            assert!(sent[1].delivered);
        }
        assert_eq!(is_registered(user, device).await, row.stays, "{:?}", row.outcome);
    }
    println!("outcome matrix of FCM: {} rows as they should be", rows.len());
}

/// As HTTP's headers have it.
fn httpdate(unix_s: i64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(unix_s.unsigned_abs());
    let text = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{}", time.duration_since(std::time::UNIX_EPOCH).expect("later").as_secs())])
        .arg("+%a, %d %b %Y %H:%M:%S GMT")
        .env("LC_ALL", "C")
        .output()
        .expect("date is everywhere");
    String::from_utf8(text.stdout).expect("ASCII").trim().to_owned()
}

#[tokio::test]
async fn a_notice_is_tried_five_times_and_never_after_a_quarter_of_an_hour() {
    let world = world().await;
    let (ada, bob, phones) = (world.user("ada"), world.user("bob"), world.sandbox.phones());
    let (adas, bobs) = (ada.opens("Hello").await, bob.opens("Hello").await);
    has_phone(&ada, "fcm:ada", "en").await;
    has_phone(&bob, "fcm:bob", "en").await;
    phones.script("fcm:ada", Outcome::Internal, u32::MAX);
    let later = Some("1000".to_owned());
    phones.script("fcm:bob", Outcome::Unavailable { retry_after: later }, 1);
    world.operator().replies(&adas, "1").await;
    world.operator().replies(&bobs, "1").await;
    for _ in 0..30 {
        world.pass(MINUTE).await;
    }
    assert_eq!(phones.sent_to("fcm:ada").len(), 5);
    assert_eq!(phones.sent_to("fcm:bob").len(), 1, "its turn would come after 1,000 s");
}

#[tokio::test]
async fn an_access_token_is_exchanged_once_early_and_again_when_it_is_refused() {
    let world = world().await;
    let phones = world.sandbox.phones();
    phones.access_tokens_live_for(SECOND * 120);
    let mut chats = Vec::new();
    for n in 0..12 {
        let user = world.user(&format!("user-{n}"));
        chats.push(user.opens("Hello").await);
        has_phone(&user, &format!("fcm:{n}"), "en").await;
    }
    let all_told = async |said: &str| {
        for chat in &chats {
            world.operator().replies(chat, said).await;
        }
        world.work().await;
    };
    all_told("1").await;
    assert_eq!((phones.counts().google, phones.counts().fcm), (1, 12), "one exchange for all");
    world.pass(SECOND * 90).await;
    all_told("2").await;
    assert_eq!(phones.counts().google, 1);
    world.pass(SECOND * 25).await;
    all_told("3").await;
    let counts = phones.counts();
    assert_eq!((counts.google, counts.fcm), (2, 36), "at eleven twelfths of its life, and none was refused");
    phones.revoke_access_tokens();
    world.pass(SECOND * 6).await;
    phones.forget();
    all_told("4").await;
    let delivered = phones.sent().iter().filter(|sent| sent.delivered).count();
    assert_eq!((phones.counts().google, delivered), (1, 12), "refused, exchanged once by one for all, sent");
}

#[tokio::test]
async fn an_account_that_google_refuses_costs_no_device_and_does_not_hammer() {
    let world = world().await;
    let (ada, phones) = (world.user("ada"), world.sandbox.phones());
    phones.refuse_assertions(true);
    let chat = ada.opens("Hello").await;
    let device = has_phone(&ada, "fcm:one", "en").await;
    world.operator().replies(&chat, "1").await;
    for _ in 0..60 {
        world.pass(SECOND).await;
    }
    let asked = phones.counts().google;
    assert!((2..=7).contains(&asked), "once, and then as a probe: {asked}");
    phones.refuse_assertions(false);
    for _ in 0..70 {
        world.pass(SECOND).await;
    }
    assert_eq!(phones.delivered_to("fcm:one").len(), 1, "it was young enough");
    assert!(is_registered(&ada, &device).await);
}

#[tokio::test]
async fn each_answer_of_telegram_has_its_consequence() {
    let world = world().await;
    let phones = world.sandbox.phones();
    let unknown = |status| Outcome::Error { status, applied: true };
    // Whether the next message is tried, and how often the first was.
    let rows = [
        (Outcome::Delivered, true, 1),
        (Outcome::Blocked, false, 1),
        (Outcome::Deactivated, false, 1),
        (Outcome::NeverStarted, false, 1),
        (Outcome::ChatNotFound, false, 1),
        (Outcome::Delivered, true, 1),
        (Outcome::Delivered, true, 1),
        (Outcome::Delivered, true, 1),
        (Outcome::Delivered, true, 1),
        (unknown(500), true, 1),
        (unknown(502), true, 1),
        (Outcome::Reset { applied: true }, true, 1),
    ];
    let mut chats = Vec::new();
    for (at, (outcome, ..)) in rows.iter().enumerate() {
        let id = 100 + i64::try_from(at).expect("few");
        let user = in_telegram(&world, &format!("user-{at}"), id);
        let chat = user.opens("Hello").await;
        has_chat(&user, id, "en").await;
        phones.script(id, outcome.clone(), 1);
        world.operator().replies(&chat, "1").await;
        world.work().await;
        chats.push((id, chat));
    }
    world.pass(MINUTE).await;
    world.pass(MINUTE).await;
    for ((outcome, _, times), (id, _)) in rows.iter().zip(&chats) {
        assert_eq!(phones.sent_to(*id).len(), *times, "{outcome:?}");
    }
    for ((outcome, reached, times), (id, chat)) in rows.iter().zip(&chats) {
        world.operator().replies(chat, "2").await;
        world.work().await;
        assert_eq!(phones.sent_to(*id).len(), times + usize::from(*reached), "{outcome:?}");
    }
    println!("outcome matrix of Telegram: {} rows as they should be", rows.len());
}

#[tokio::test]
async fn telegrams_429_stops_the_whole_bot_for_as_long_as_it_says() {
    let world = world().await;
    let phones = world.sandbox.phones();
    let (ada, bob) = (in_telegram(&world, "ada", 1), in_telegram(&world, "bob", 2));
    let (adas, bobs) = (ada.opens("Hello").await, bob.opens("Hello").await);
    has_chat(&ada, 1, "en").await;
    has_chat(&bob, 2, "en").await;
    phones.script(1, Outcome::TooManyRequests { retry_after_s: 300 }, 1);
    world.operator().replies(&adas, "1").await;
    world.work().await;
    world.operator().replies(&bobs, "1").await;
    world.pass(Duration::from_secs(290)).await;
    assert_eq!((phones.sent_to(1).len(), phones.sent_to(2).len()), (1, 0));
    world.pass(Duration::from_secs(11)).await;
    assert_eq!((phones.chat(1).len(), phones.chat(2).len()), (1, 1));

    phones.script(1, Outcome::TooManyRequests { retry_after_s: 100_000 }, 1);
    world.operator().replies(&adas, "2").await;
    for _ in 0..20 {
        world.pass(MINUTE).await;
    }
    world.pass(Duration::from_secs(100_000)).await;
    assert_eq!((phones.sent_to(1).len(), phones.sent_to(2).len()), (3, 1), "what waited for so long is old");
}

#[tokio::test]
async fn a_bot_token_that_telegram_refuses_stops_all_and_loses_nothing() {
    let world = world().await;
    let (ada, phones) = (in_telegram(&world, "ada", 1), world.sandbox.phones());
    let chat = ada.opens("Hello").await;
    has_chat(&ada, 1, "en").await;
    phones.script(1, Outcome::Unauthorized, 1);
    world.operator().replies(&chat, "1").await;
    world.work().await;
    assert_eq!(phones.chat(1).len(), 0);
    for _ in 0..40 {
        world.pass(SECOND).await;
    }
    assert_eq!((phones.chat(1).len(), phones.sent_to(1).len()), (1, 2));
}

#[tokio::test]
async fn who_blocked_the_bot_is_told_again_once_the_bot_may_write() {
    let world = world().await;
    let (phones, bot) = (world.sandbox.phones(), world.sandbox.phones().bot_token());
    let ada = world.user("ada");
    let now_s = world.clock.now_s();
    let registers = async |allows: bool| {
        let user = json!({ "id": 42, "first_name": "Ada", "allows_write_to_pm": allows });
        let data = sandbox::InitData::with_user(&user, now_s).sign_with_hash_alone(&bot);
        let body = json!({ "platform": "tma", "token": "42", "initData": data });
        ada.post("/api/devices/register", body).await.expect(200)["id"].clone()
    };
    let chat = ada.opens("Hello").await;
    let device = registers(true).await;
    phones.set_chat(42, ChatState::Blocked);
    let said = async |sent: usize| {
        world.operator().replies(&chat, "a word").await;
        world.pass(MINUTE).await;
        assert_eq!(phones.sent_to(42).len(), sent);
    };
    said(1).await;
    said(1).await;
    phones.set_chat(42, ChatState::Open);
    assert_eq!(registers(false).await, device);
    said(1).await;
    assert_eq!(registers(true).await, device);
    said(2).await;
    assert_eq!(phones.chat(42).len(), 1);
}

#[tokio::test]
async fn telegram_is_written_to_no_faster_than_it_bears() {
    let world = world().await;
    let phones = world.sandbox.phones();
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let other = ada.opens("Another matter").await;
    for id in 1..=19 {
        has_chat(&in_telegram(&world, "ada", id), id, "en").await;
    }
    world.operator().replies(&chat, "1").await;
    world.operator().replies(&other, "1").await;
    world.work().await;
    world.pass(SECOND * 2).await;
    world.pass(SECOND * 2).await;
    let sent = phones.sent();
    assert_eq!(
        sent.iter().filter(|sent| sent.delivered).count(),
        38,
        "none was refused, and each chat was told of both"
    );
    assert_eq!(sent.len(), 38);
    for one in &sent {
        let within = |ms: i64| sent.iter().filter(move |other| (one.at_ms..one.at_ms + ms).contains(&other.at_ms));
        assert!(within(1_000).count() <= 26, "25 a second");
        assert_eq!(within(900).filter(|other| other.to == one.to).count(), 1, "one a second to a chat");
    }
}

#[tokio::test]
async fn what_is_down_is_left_alone_and_told_afterwards_what_is_young_enough() {
    let world = world().await;
    let phones = world.sandbox.phones();
    let mut users = Vec::new();
    for n in 0..12 {
        let user = world.user(&format!("user-{n}"));
        let chat = user.opens("Hello").await;
        has_phone(&user, &format!("fcm:{n}"), "en").await;
        users.push((user, chat));
    }
    let tess = in_telegram(&world, "tess", 7);
    let tesss = tess.opens("Hello").await;
    has_chat(&tess, 7, "en").await;
    for service in [Service::Fcm, Service::Telegram] {
        phones.take_down(service);
    }
    for (_, chat) in &users {
        world.operator().replies(chat, "1").await;
    }
    world.operator().replies(&tesss, "1").await;
    world.work().await;
    phones.forget();
    for _ in 0..60 {
        world.pass(SECOND).await;
    }
    assert!(phones.counts().fcm <= 10, "an open circuit: {:?}", phones.counts());
    for service in [Service::Fcm, Service::Telegram] {
        phones.bring_up(service);
    }
    for _ in 0..90 {
        world.pass(SECOND).await;
    }
    for n in 0..12 {
        assert_eq!(phones.delivered_to(format!("fcm:{n}").as_str()).len(), 1, "{n}");
    }
}

#[tokio::test]
async fn after_a_long_outage_only_what_is_young_is_told() {
    let world = world().await;
    let phones = world.sandbox.phones();
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let (adas, bobs) = (ada.opens("Hello").await, bob.opens("Hello").await);
    has_phone(&ada, "fcm:ada", "en").await;
    has_phone(&bob, "fcm:bob", "en").await;
    phones.take_down(Service::Fcm);
    world.operator().replies(&adas, "before").await;
    world.pass(MINUTE * 10).await;
    world.operator().replies(&bobs, "later").await;
    world.pass(MINUTE * 5 + SECOND * 5).await;
    phones.bring_up(Service::Fcm);
    for _ in 0..180 {
        world.pass(SECOND).await;
    }
    assert_eq!((phones.sent_to("fcm:ada").len(), phones.delivered_to("fcm:bob").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_registered_again_while_fcm_says_unregistered_survives() {
    const TIMES: usize = 500;
    let world = World::with_phones(&[], true).await;
    let phones = world.sandbox.phones();
    let mut survived = 0;
    let mut users = Vec::new();
    for n in 0..25 {
        let user = world.user(&format!("user-{n}"));
        let chat = user.opens("Hello").await;
        users.push((user, chat));
    }
    for round in 0..TIMES / users.len() {
        let mut held = Vec::new();
        for (n, (user, chat)) in users.iter().enumerate() {
            let token = format!("fcm:{round}-{n}");
            has_phone(user, &token, "en").await;
            phones.script(token.as_str(), Outcome::Unregistered, 1);
            held.push(phones.hold(token.as_str()));
            world.operator().replies(chat, "a word").await;
        }
        for (n, ((user, _), held)) in users.iter().zip(held).enumerate() {
            let token = format!("fcm:{round}-{n}");
            let began = std::time::Instant::now();
            while phones.sent_to(token.as_str()).is_empty() {
                assert!(began.elapsed() < MINUTE, "{token} is told");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let device = has_phone(user, &token, "en").await;
            held.release();
            // The answer is read, and what it says of the device is done or not.
            tokio::time::sleep(Duration::from_millis(30)).await;
            survived += usize::from(is_registered(user, &device).await);
        }
    }
    assert_eq!(survived, TIMES);
    println!("registered again during UNREGISTERED: {survived} of {TIMES} tokens survive");
}
