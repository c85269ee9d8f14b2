//! Devices, notification settings and diagnostics.

use std::collections::BTreeMap;

use awchat::{auth, config::Secret, id::UserId};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Answer, Client, SECRET, World, world};

const BOT_TOKEN: &str = "7342037359:a-bot-token-for-tests";

/// A world whose server knows the bot.
async fn world_with_bot() -> World {
    World::begin(&[("TELEGRAM_BOT_TOKEN", BOT_TOKEN)], false).await
}

/// A user whose session token names a Telegram user.
fn telegram_user<'a>(world: &'a World, sub: &str, telegram_id: Value) -> Client<'a> {
    let sub = UserId::parse(sub).expect("a user id");
    let extra = json!({ "telegram_id": telegram_id }).as_object().expect("an object").clone();
    world.nobody().bearing(&auth::mint(&Secret::new(SECRET), &sub, 3600, &world.clock, extra))
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// As Telegram signs for a bot.
fn init_data(user: u64, auth_date: i64, bot_token: &str) -> String {
    let user = json!({ "id": user, "first_name": "Ada & Co", "language_code": "en" }).to_string();
    let fields =
        BTreeMap::from([("auth_date", auth_date.to_string()), ("query_id", "AAHd".to_owned()), ("user", user)]);
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let hash = hex::encode(hmac(&hmac(b"WebAppData", bot_token), &lines.join("\n")));
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(&fields).append_pair("hash", &hash);
    query.finish()
}

async fn register(user: &Client<'_>, body: Value) -> Answer {
    user.post("/api/devices/register", body).await
}

async fn registers(user: &Client<'_>, body: Value) -> String {
    register(user, body).await.expect(200)["id"].as_str().expect("an id").to_owned()
}

async fn unregister(user: &Client<'_>, id: &str) -> Answer {
    user.call("DELETE", &format!("/api/devices/{id}"), None).await
}

#[tokio::test]
async fn a_device_is_registered_once_and_unregistered_once() {
    let world = world().await;
    let ada = world.user("ada");
    let id = registers(&ada, json!({ "platform": "mobile", "token": "fcm:one" })).await;
    let again = json!({ "platform": "mobile", "token": "fcm:one", "locale": "pt-BR", "initData": null });
    assert_eq!(registers(&ada, again).await, id);
    assert_ne!(registers(&ada, json!({ "platform": "mobile", "token": "fcm:two" })).await, id);
    assert_eq!(unregister(&ada, &id).await.status, 204);
    unregister(&ada, &id).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn a_token_moves_to_its_latest_user() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let phone = json!({ "platform": "mobile", "token": "fcm:shared" });
    let adas = registers(&ada, phone.clone()).await;
    let bobs = registers(&bob, phone.clone()).await;
    assert_ne!(adas, bobs, "a notice for Ada that is on its way does not find Bob's device");
    unregister(&ada, &adas).await.expect_error(404, "not_found");
    unregister(&ada, &bobs).await.expect_error(404, "not_found");
    assert_eq!(registers(&bob, phone).await, bobs);
    assert_eq!(unregister(&bob, &bobs).await.status, 204);
}

#[tokio::test]
async fn anothers_unknown_and_malformed_devices_answer_alike() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let adas = registers(&ada, json!({ "platform": "mobile", "token": "fcm:one" })).await;
    let upper = adas.to_uppercase();
    let unknown = "0".repeat(32);
    let mut answers = Vec::new();
    for id in [&adas, &unknown, &upper, "1", "register", "..%2f1", "%00", "é", &"a".repeat(33)] {
        let mut answer = unregister(&bob, id).await;
        for changing in ["x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"] {
            answer.headers.remove(changing);
        }
        answer.json["requestId"] = Value::Null;
        answers.push((id.to_owned(), answer.status, answer.headers, answer.json));
    }
    for (id, status, headers, json) in &answers {
        assert_eq!((status, headers, json), (&404, &answers[0].2, &answers[0].3), "{id}");
    }
    assert_eq!(unregister(&ada, &adas).await.status, 204);
}

#[tokio::test]
async fn a_users_newest_twenty_devices_are_kept() {
    let world = world().await;
    let ada = world.user("ada");
    let mut ids = Vec::new();
    for at in 0..22 {
        ids.push(registers(&ada, json!({ "platform": "mobile", "token": format!("fcm:{at}") })).await);
        world.clock.advance(1_000);
    }
    let mut kept = Vec::new();
    for id in &ids {
        kept.push(unregister(&ada, id).await.status == 204);
    }
    assert_eq!(kept, [vec![false; 2], vec![true; 20]].concat());
}

#[tokio::test]
async fn what_is_no_device_is_refused() {
    let world = world().await;
    let ada = world.user("ada");
    let long = "x".repeat(1025);
    for (body, field) in [
        (json!({ "token": "t" }), "platform"),
        (json!({ "platform": "ios", "token": "t" }), "platform"),
        (json!({ "platform": "MOBILE", "token": "t" }), "platform"),
        (json!({ "platform": null, "token": "t" }), "platform"),
        (json!({ "platform": ["mobile"], "token": "t" }), "platform"),
        (json!({ "platform": "mobile" }), "token"),
        (json!({ "platform": "mobile", "token": "" }), "token"),
        (json!({ "platform": "mobile", "token": " " }), "token"),
        (json!({ "platform": "mobile", "token": "a\nb" }), "token"),
        (json!({ "platform": "mobile", "token": "é" }), "token"),
        (json!({ "platform": "mobile", "token": long }), "token"),
        (json!({ "platform": "mobile", "token": 7 }), "token"),
        (json!({ "platform": "mobile", "token": "t", "locale": "" }), "locale"),
        (json!({ "platform": "mobile", "token": "t", "locale": "de_" }), "locale"),
        (json!({ "platform": "mobile", "token": "t", "locale": "<b>" }), "locale"),
        (json!({ "platform": "mobile", "token": "t", "locale": "x".repeat(36) }), "locale"),
        (json!({ "platform": "mobile", "token": "t", "initData": 7 }), "initData"),
    ] {
        let message = register(&ada, body.clone()).await.expect_error(400, "validation_error");
        assert!(message.starts_with(field), "{body}: {message}");
    }
    let nobody = register(&world.nobody(), json!({ "platform": "mobile", "token": "t" })).await;
    nobody.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_telegram_user_is_proved_by_the_session_or_by_telegrams_signature() {
    let world = world_with_bot().await;
    let now_s = world.clock.now_s();
    let ada = telegram_user(&world, "ada", json!(279_058_397));
    let id = registers(&ada, json!({ "platform": "tma", "token": "279058397" })).await;
    let text = telegram_user(&world, "ada", json!("279058397"));
    assert_eq!(registers(&text, json!({ "platform": "tma", "token": "279058397" })).await, id);

    let bob = world.user("bob");
    let proof = |at_s: i64, bot: &str| json!({ "platform": "tma", "token": "7", "initData": init_data(7, at_s, bot) });
    registers(&bob, proof(now_s, BOT_TOKEN)).await;
    registers(&bob, proof(now_s - 86_400, BOT_TOKEN)).await;
    for body in [
        proof(now_s - 86_401, BOT_TOKEN),
        proof(now_s + 61, BOT_TOKEN),
        proof(now_s, "7342037359:another-token"),
        // Genuine, but somebody else's.
        json!({ "platform": "tma", "token": "8", "initData": init_data(7, now_s, BOT_TOKEN) }),
        json!({ "platform": "tma", "token": "007", "initData": init_data(7, now_s, BOT_TOKEN) }),
        json!({ "platform": "tma", "token": "7", "initData": "" }),
        json!({ "platform": "tma", "token": "7" }),
        json!({ "platform": "tma", "token": "279058397" }),
    ] {
        register(&bob, body).await.expect_error(400, "validation_error");
    }
    let strangers = json!({ "platform": "tma", "token": "8" });
    register(&ada, strangers).await.expect_error(400, "validation_error");
    assert_eq!(unregister(&ada, &id).await.status, 204, "nobody has taken it");
}

#[tokio::test]
async fn one_changed_byte_of_a_telegram_signature_is_refused() {
    let world = world_with_bot().await;
    let ada = world.user("ada");
    let genuine = init_data(7, world.clock.now_s(), BOT_TOKEN);
    registers(&ada, json!({ "platform": "tma", "token": "7", "initData": genuine })).await;
    for at in (0..genuine.len()).step_by(3) {
        let mut changed = genuine.clone().into_bytes();
        changed[at] ^= 1;
        let changed = String::from_utf8(changed).expect("ASCII");
        let answer = register(&ada, json!({ "platform": "tma", "token": "7", "initData": changed })).await;
        answer.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn without_a_bot_only_the_session_proves_a_telegram_user() {
    let world = world().await;
    let proof = json!({ "platform": "tma", "token": "7", "initData": init_data(7, world.clock.now_s(), "") });
    register(&world.user("ada"), proof).await.expect_error(400, "validation_error");
    registers(&telegram_user(&world, "ada", json!(7)), json!({ "platform": "tma", "token": "7" })).await;
}

const SETTINGS: &str = "/api/settings/notifications";

#[tokio::test]
async fn all_notices_are_wanted_until_the_user_says_otherwise() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let all = json!({ "chatMessages": true, "ticketUpdates": true, "systemNotices": true });
    assert_eq!(ada.get(SETTINGS).await.expect(200), all);
    assert_eq!(ada.call("PUT", SETTINGS, Some(json!({}))).await.expect(200), all);
    let less = json!({ "chatMessages": true, "ticketUpdates": true, "systemNotices": false });
    assert_eq!(ada.call("PUT", SETTINGS, Some(json!({ "systemNotices": false }))).await.expect(200), less);
    assert_eq!(ada.get(SETTINGS).await.expect(200), less);
    let body = json!({ "chatMessages": false, "systemNotices": true, "unknown": 7 });
    let other = json!({ "chatMessages": false, "ticketUpdates": true, "systemNotices": true });
    assert_eq!(ada.call("PUT", SETTINGS, Some(body)).await.expect(200), other);
    assert_eq!(ada.get(SETTINGS).await.expect(200), other);
    assert_eq!(bob.get(SETTINGS).await.expect(200), all, "each user's own");
}

#[tokio::test]
async fn a_switch_is_on_or_off() {
    let world = world().await;
    let ada = world.user("ada");
    for switch in ["chatMessages", "ticketUpdates", "systemNotices"] {
        for bad in [json!(1), json!(0), json!("true"), json!(null), json!([true]), json!({}), json!(1.0)] {
            let answer = ada.call("PUT", SETTINGS, Some(json!({ switch: bad }))).await;
            let message = answer.expect_error(400, "validation_error");
            assert!(message.starts_with(switch), "{message}");
        }
    }
    ada.call_raw("PUT", SETTINGS, Some("[true,true,true]".to_owned())).await.expect_error(400, "validation_error");
    ada.call_raw("PUT", SETTINGS, Some("true".to_owned())).await.expect_error(400, "validation_error");
    world.nobody().get(SETTINGS).await.expect_error(401, "unauthorized");
    let all = json!({ "chatMessages": true, "ticketUpdates": true, "systemNotices": true });
    assert_eq!(ada.get(SETTINGS).await.expect(200), all, "nothing of it counts");
}

#[tokio::test]
async fn diagnostics_are_a_flat_object_of_at_most_8_kib() {
    let world = world().await;
    let ada = world.user("ada");
    let report = async |body: String| ada.call_raw("POST", "/api/diagnostics", Some(body)).await;
    for good in [r#"{"os":"iOS","failures":3,"online":true,"anything":null,"os":"Android"}"#, "{}"] {
        let answer = report(good.to_owned()).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{good}");
    }
    for bad in [r#"{"os":{"name":"iOS"}}"#, r#"{"unknown":["a"]}"#, "[]", "7", r#""os""#, "null"] {
        report(bad.to_owned()).await.expect_error(400, "validation_error");
    }
    for bad in ["", "{", r#"{"os":}"#] {
        report(bad.to_owned()).await.expect_error(400, "bad_request");
    }
    let of_bytes = |bytes: usize| format!(r#"{{"unknown":"{}"}}"#, "x".repeat(bytes - 14));
    assert_eq!(report(of_bytes(8 * 1024)).await.status, 204);
    report(of_bytes(8 * 1024 + 1)).await.expect_error(400, "bad_request");
    world.nobody().post("/api/diagnostics", json!({})).await.expect_error(401, "unauthorized");
}
