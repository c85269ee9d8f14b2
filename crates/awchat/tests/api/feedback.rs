//! Ratings and complaints: kept here whatever becomes of Intercom, each once, and told to the operators.

use std::time::Duration;

use awchat::id::ConversationId;
use awchat::intercom::{Class, signature};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, World, bodies, live, world};

/// The names of a conversation's tags at Intercom.
fn tags(world: &World, conversation: &str) -> Vec<String> {
    let conversation = world.sandbox.conversation(conversation).expect("it is at Intercom");
    let tags = conversation["tags"]["tags"].as_array().cloned().unwrap_or_default();
    tags.iter().filter_map(|tag| tag["name"].as_str().map(str::to_owned)).collect()
}

/// The notes on a conversation at Intercom.
fn notes(world: &World, conversation: &str) -> Vec<String> {
    let conversation = world.sandbox.conversation(conversation).expect("it is at Intercom");
    let parts = conversation["conversation_parts"]["conversation_parts"].as_array().cloned().unwrap_or_default();
    let notes = parts.iter().filter(|part| part["part_type"] == "note");
    notes.filter_map(|part| part["body"].as_str().map(str::to_owned)).collect()
}

/// Begins a conversation that an operator makes a ticket; its id.
async fn opens_ticket(world: &World, user: &Client<'_>) -> String {
    let id = user.opens("My card is lost").await;
    let item = json!({ "type": "conversation", "id": id, "updated_at": world.clock.now_s() + 1, "state": "open",
        "ticket": { "id": id, "state": "submitted" } });
    let raw = world.sandbox.notification("conversation.admin.assigned", item).to_string();
    let secret = sandbox::Settings::default().client_secret;
    let signature = signature::sign(&secret, raw.as_bytes());
    assert_eq!(world.sandbox.send_raw_webhook(raw.as_bytes(), Some(&signature)).await, 200);
    world.work().await;
    id
}

async fn rates(user: &Client<'_>, body: Value) -> String {
    let answer = user.post("/api/csat", body).await.expect(201);
    assert_eq!(answer["duplicate"], false);
    answer["id"].as_str().expect("an id").to_owned()
}

async fn has_rated(user: &Client<'_>, body: Value) {
    assert_eq!(user.post("/api/csat", body).await.expect(200), json!({ "id": null, "duplicate": true }));
}

#[tokio::test]
async fn a_rating_is_known_from_the_next_poll_on() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Thanks, solved").await;
    let before = ada.polls(&chat, 0).await;
    assert_eq!((&before["rated"], &ada.reads(&chat).await["rating"]), (&json!(false), &Value::Null));
    world.sandbox.forget_calls();

    rates(&ada, json!({ "stars": 4, "comment": "  Quick \n", "conversationId": chat })).await;
    let since = before["latestTimestamp"].as_i64().expect("a position");
    let after = ada.polls(&chat, since).await;
    assert_eq!((&after["rated"], &after["messages"]), (&json!(true), &json!([])));
    assert!(after["latestTimestamp"].as_i64() > Some(since), "who waits for news is woken");
    let rating = json!({ "stars": 4, "comment": "Quick", "createdAt": world.clock.now_s() });
    assert_eq!(ada.reads(&chat).await["rating"], rating);
    assert_eq!(ada.get("/api/conversations").await.expect(200)["conversations"][0]["rated"], true);
    assert_eq!(world.calls(), 0, "Intercom is not needed for it");

    let closed = ada.post(&format!("/api/conversations/{chat}/close"), json!({})).await.expect(200);
    assert_eq!(closed["csatPrompt"], false);
    has_rated(&ada, json!({ "stars": 1, "conversationId": chat })).await;
    assert_eq!(ada.reads(&chat).await["rating"], rating, "the first one stands");
}

#[tokio::test]
async fn who_waits_with_a_poll_learns_of_a_rating_at_once() {
    let world = live().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=30");
    let (poll, _) = tokio::join!(ada.get(&path), rates(&ada, json!({ "stars": 5, "conversationId": chat })));
    assert!(poll.took < Duration::from_secs(10), "{:?}", poll.took);
    assert_eq!(poll.expect(200)["rated"], true);
}

#[tokio::test]
async fn of_32_ratings_at_once_one_counts() {
    let world = live().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let at_once = (0..32).map(|at| ada.post("/api/csat", json!({ "stars": at % 5 + 1, "conversationId": chat })));
    let answers: Vec<(u16, Value)> = join_all(at_once).await.into_iter().map(|it| (it.status, it.json)).collect();
    let (stored, duplicates): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 201);
    assert_eq!((stored.len(), duplicates.len()), (1, 31));
    assert!(
        duplicates.iter().all(|answer| *answer == (200, json!({ "id": null, "duplicate": true }))),
        "{duplicates:?}"
    );
    println!("32 ratings at once: {} stored, {} duplicates", stored.len(), duplicates.len());
}

#[tokio::test]
async fn each_user_rates_each_conversation() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let mut ids = Vec::new();
    for user in [&ada, &ada, &bob] {
        let chat = user.opens("Hello").await;
        ids.push(rates(user, json!({ "stars": 3, "conversationId": chat })).await);
        has_rated(user, json!({ "stars": 3, "conversationId": chat })).await;
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn operators_see_the_stars_as_a_tag_and_the_comment_as_a_note() {
    let world = world().await;
    let ada = world.user("ada");
    let (one, two) = (ada.opens("Hello").await, ada.opens("Hello again").await);
    rates(&ada, json!({ "stars": 5, "comment": "Ada <b>liked</b> it", "conversationId": one })).await;
    rates(&ada, json!({ "stars": 1, "comment": " ", "conversationId": two })).await;
    world.work().await;
    assert_eq!((tags(&world, &one), tags(&world, &two)), (vec!["csat-5".to_owned()], vec!["csat-1".to_owned()]));
    let said = notes(&world, &one);
    assert!(said.len() == 1 && said[0].contains("Rated 5 of 5") && said[0].contains("Ada &lt;b&gt;liked"), "{said:?}");
    assert_eq!(notes(&world, &two), Vec::<String>::new(), "without a comment the tag says it all");
    // What comes back from Intercom changes nothing, and the user never sees the note.
    let before = ada.polls(&one, 0).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(ada.polls(&one, 0).await, before);
    assert_eq!(before["messages"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_answer_without_the_tag_never_takes_the_users_own_rating_away() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    rates(&ada, json!({ "stars": 2, "conversationId": chat })).await;
    let id = ConversationId::parse(&chat).expect("an id");
    for text in ["Was it that bad?", "Tell us more."] {
        world.clock.advance(1_000);
        world.operator().replies(&chat, text).await;
        world.app.chat.refresh(&id, Class::Refresh).await.expect("Intercom answers");
        let polled = ada.polls(&chat, 0).await;
        assert!(bodies(&polled).contains(&text), "Intercom's answer was applied");
        assert_eq!(polled["rated"], true, "and it had no tag yet");
    }
    assert_eq!(tags(&world, &chat), Vec::<String>::new());
    let positions = ada.polls(&chat, 0).await["latestTimestamp"].clone();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(tags(&world, &chat), ["csat-2"], "told when it can be");
    assert_eq!(ada.polls(&chat, 0).await["latestTimestamp"], positions, "no news for the user");
}

#[tokio::test]
async fn a_ticket_and_a_conversation_rated_at_once_count_for_both() {
    let world = world().await;
    let ada = world.user("ada");
    let (ticket, chat) = (opens_ticket(&world, &ada).await, ada.opens("About my ticket").await);
    rates(&ada, json!({ "stars": 5, "ticketId": ticket, "conversationId": chat })).await;
    has_rated(&ada, json!({ "stars": 5, "ticketId": ticket })).await;
    has_rated(&ada, json!({ "stars": 5, "conversationId": ticket })).await;
    has_rated(&ada, json!({ "stars": 5, "conversationId": chat })).await;
    for id in [&ticket, &chat] {
        assert_eq!((&ada.reads(id).await["rating"]["stars"], tags(&world, id).len()), (&json!(5), 0));
    }
    world.work().await;
    assert_eq!((tags(&world, &ticket), tags(&world, &chat)), (vec!["csat-5".to_owned()], vec!["csat-5".to_owned()]));
}

#[tokio::test]
async fn where_both_are_named_the_ticket_decides_whether_it_was_rated_before() {
    let world = world().await;
    let ada = world.user("ada");
    let (ticket, other) = (opens_ticket(&world, &ada).await, opens_ticket(&world, &ada).await);
    let (rated, fresh) = (ada.opens("Rated").await, ada.opens("Fresh").await);
    rates(&ada, json!({ "stars": 2, "conversationId": rated })).await;
    rates(&ada, json!({ "stars": 5, "ticketId": ticket, "conversationId": rated })).await;
    assert_eq!(ada.reads(&rated).await["rating"]["stars"], 2, "its own rating stands");
    assert_eq!(ada.reads(&ticket).await["rating"]["stars"], 5);

    has_rated(&ada, json!({ "stars": 4, "ticketId": ticket, "conversationId": fresh })).await;
    assert_eq!(ada.reads(&fresh).await["rating"], Value::Null, "nothing of a duplicate counts");
    rates(&ada, json!({ "stars": 3, "ticketId": other, "conversationId": other })).await;
}

#[tokio::test]
async fn a_tag_of_intercom_and_a_rating_here_do_not_get_in_each_others_way() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.operator().tags(&chat, "csat-asked-by-phone").await;
    world.operator().replies(&chat, "Thank you").await;
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(ada.polls(&chat, 0).await["rated"], true);
    rates(&ada, json!({ "stars": 5, "conversationId": chat })).await;
    assert_eq!(ada.reads(&chat).await["rating"]["stars"], 5);
}

#[tokio::test]
async fn stars_are_an_integer_from_1_to_5_and_every_field_has_its_rule() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let too_long = "x".repeat(10_001);
    let bad = [
        (r#"{"stars":0}"#, "stars"),
        (r#"{"stars":6}"#, "stars"),
        (r#"{"stars":-1}"#, "stars"),
        (r#"{"stars":256}"#, "stars"),
        (r#"{"stars":"5"}"#, "stars"),
        (r#"{"stars":4.5}"#, "stars"),
        (r#"{"stars":4.0}"#, "stars"),
        (r#"{"stars":5e0}"#, "stars"),
        (r#"{"stars":true}"#, "stars"),
        (r#"{"stars":null}"#, "stars"),
        (r#"{"stars":[5]}"#, "stars"),
        (r#"{"stars":{}}"#, "stars"),
        (r#"{"stars":5,"stars":5}"#, "stars"),
        (r#"{}"#, "stars"),
        (r#"{"stars":5,"comment":7}"#, "comment"),
        (r#"{"stars":5,"comment":"a\u0000b"}"#, "comment"),
        (&format!(r#"{{"stars":5,"comment":"{too_long}"}}"#), "comment"),
        (r#"{"stars":5,"ticketId":7}"#, "ticketId"),
        (r#"{"stars":5,"conversationId":7}"#, "conversationId"),
        (r#"[5]"#, ""),
    ];
    for (body, field) in bad {
        let answer = ada.call_raw("POST", "/api/csat", Some(body.to_owned())).await;
        let message = answer.expect_error(400, "validation_error");
        assert!(message.contains(field), "{body}: {message}");
    }
    ada.call_raw("POST", "/api/csat", Some("{".to_owned())).await.expect_error(400, "bad_request");
    world.nobody().post("/api/csat", json!({ "stars": 5 })).await.expect_error(401, "unauthorized");
    assert_eq!(ada.reads(&chat).await["rated"], false);
    let all_null = json!({ "stars": 5, "comment": null, "ticketId": null, "conversationId": chat });
    rates(&ada, all_null).await;
}

#[tokio::test]
async fn nobody_rates_or_complains_about_what_is_not_theirs() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let (chat, ticket) = (ada.opens("Hello").await, opens_ticket(&world, &ada).await);
    let own = bob.opens("Mine").await;
    world.work().await;
    let long = "1".repeat(21);
    let strangers = [chat.as_str(), &ticket, "999999999"];
    let malformed = ["", "last", "0x1", "-1", "1 ", "../1", "١", &long];
    for id in strangers.iter().chain(&malformed) {
        for body in [
            json!({ "stars": 5, "conversationId": id }),
            json!({ "stars": 5, "ticketId": id }),
            json!({ "stars": 5, "ticketId": id, "conversationId": own }),
        ] {
            let answer = bob.post("/api/csat", body.clone()).await;
            assert_eq!(answer.expect_error(404, "not_found"), "not found", "{body}");
        }
    }
    bob.post("/api/csat", json!({ "stars": 5, "ticketId": own })).await.expect_error(404, "not_found");
    for field in ["chatId", "dialogId"] {
        for id in strangers {
            let body = json!({ "category": "other", "description": "About a stranger", field: id });
            assert_eq!(bob.post("/api/complaints", body).await.expect_error(404, "not_found"), "not found", "{field}");
        }
        let body = json!({ "category": "other", "description": "About my own chat", field: own });
        bob.post("/api/complaints", body).await.expect(201);
    }
    for (user, id) in [(&ada, &chat), (&ada, &ticket), (&bob, &own)] {
        assert_eq!(user.reads(id).await["rated"], false);
    }
    assert_eq!((tags(&world, &chat), tags(&world, &ticket)), (vec![], vec![]));
}

#[tokio::test]
async fn five_ratings_of_nothing_in_particular_fit_in_a_day() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    for stars in 1..=5 {
        rates(&ada, json!({ "stars": stars })).await;
        world.clock.advance(1_000);
    }
    let refused = ada.post("/api/csat", json!({ "stars": 5 })).await;
    assert_eq!(refused.header("retry-after"), Some("86395"));
    refused.expect_error(429, "rate_limited");
    rates(&bob, json!({ "stars": 5 })).await;
    let chat = ada.opens("Hello").await;
    rates(&ada, json!({ "stars": 5, "conversationId": chat })).await;
    world.clock.advance(86_395_000);
    rates(&world.user("ada"), json!({ "stars": 5 })).await;
    world.user("ada").post("/api/csat", json!({ "stars": 5 })).await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn the_same_key_is_the_same_rating_and_the_same_complaint() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let complaint = json!({ "category": "technical", "description": "It is broken again", "dialogId": "menu" });
    let other = json!({ "category": "technical", "description": "It is broken once more" });
    for (path, first, second) in [
        ("/api/csat", json!({ "stars": 5 }), json!({ "stars": 4 })),
        ("/api/csat", json!({ "stars": 5, "conversationId": chat }), json!({ "stars": 5 })),
        ("/api/complaints", complaint, other),
    ] {
        let key = format!("key-{first}").replace(['"', ' '], "");
        let again = || world.user("ada").with("idempotency-key", &key);
        let stored = again().post(path, first.clone()).await;
        assert_eq!(stored.header("idempotent-replayed"), None);
        let stored = stored.expect(201);
        let replayed = again().post(path, first.clone()).await;
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
        assert_eq!(replayed.expect(201), stored);
        again().post(path, second).await.expect_error(422, "idempotency_mismatch");
        // Of another user it is another key.
        if first.get("conversationId").is_none() {
            let bobs = world.user("bob").with("idempotency-key", &key).post(path, first).await.expect(201);
            assert_ne!(bobs["id"], stored["id"]);
        }
    }
    world.user("ada").with("idempotency-key", "").post("/api/csat", json!({ "stars": 5 })).await.expect(400);
}

#[tokio::test]
async fn the_same_complaint_sent_at_once_with_one_key_is_stored_once() {
    let world = live().await;
    let ada = world.user("ada").with("idempotency-key", "one");
    let body = json!({ "category": "funds", "description": "Where is my money?" });
    let answers = join_all((0..16).map(|_| ada.post("/api/complaints", body.clone()))).await;
    let mut ids: Vec<Value> = answers.into_iter().map(|answer| answer.expect(201)["id"].clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_too_old_is_forgotten() {
    let world = world().await;
    let keyed = || world.user("ada").with("idempotency-key", "one");
    let body = json!({ "category": "funds", "description": "Where is my money?" });
    let stored_ms = world.clock.now_ms();
    let first = keyed().post("/api/complaints", body.clone()).await.expect(201);
    world.app.store.forget_feedback_keys(stored_ms).await.expect("the database works");
    assert_eq!(keyed().post("/api/complaints", body.clone()).await.expect(201), first, "it is not older");
    world.app.store.forget_feedback_keys(stored_ms + 1).await.expect("the database works");
    assert_ne!(keyed().post("/api/complaints", body).await.expect(201), first);
}

#[tokio::test]
async fn a_complaint_has_a_category_and_ten_characters() {
    let world = world().await;
    let ada = world.user("ada");
    let mut ids = Vec::new();
    for category in ["funds", "security", "operator", "technical", "other"] {
        let body =
            json!({ "category": category, "description": "Ten chars!", "chatId": "livechat/7", "dialogId": "d-1" });
        ids.push(ada.post("/api/complaints", body).await.expect(201)["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let long = "ж".repeat(10_000);
    ada.post("/api/complaints", json!({ "category": "other", "description": long, "chatId": null })).await.expect(201);
    let too_long = format!("{long}ж");
    let name = "x".repeat(129);
    for (body, field) in [
        (json!({ "category": "weather", "description": "Ten chars!" }), "category"),
        (json!({ "category": "Funds", "description": "Ten chars!" }), "category"),
        (json!({ "category": "", "description": "Ten chars!" }), "category"),
        (json!({ "category": null, "description": "Ten chars!" }), "category"),
        (json!({ "category": 1, "description": "Ten chars!" }), "category"),
        (json!({ "description": "Ten chars!" }), "category"),
        (json!({ "category": "other" }), "description"),
        (json!({ "category": "other", "description": null }), "description"),
        (json!({ "category": "other", "description": 1_234_567_890 }), "description"),
        (json!({ "category": "other", "description": "9 chars!!" }), "description"),
        (json!({ "category": "other", "description": "  9 chars!!  \n" }), "description"),
        (json!({ "category": "other", "description": "          " }), "description"),
        (json!({ "category": "other", "description": too_long }), "description"),
        (json!({ "category": "other", "description": "Ten chars!\u{0}" }), "description"),
        (json!({ "category": "other", "description": "Ten chars!", "chatId": "" }), "chatId"),
        (json!({ "category": "other", "description": "Ten chars!", "chatId": 7 }), "chatId"),
        (json!({ "category": "other", "description": "Ten chars!", "dialogId": name }), "dialogId"),
        (json!({ "category": "other", "description": "Ten chars!", "dialogId": "a\nb" }), "dialogId"),
    ] {
        let message = ada.post("/api/complaints", body.clone()).await.expect_error(400, "validation_error");
        assert!(message.starts_with(field), "{body}: {message}");
    }
    let body = json!({ "category": "other", "description": "Ten chars!" });
    world.nobody().post("/api/complaints", body).await.expect_error(401, "unauthorized");
    assert_eq!(world.calls(), 0, "Intercom has no part in it");
}

#[tokio::test]
async fn a_complaint_counts_for_five_requests_and_a_rating_for_one() {
    // Redis has a clock of its own, which does not stand still.
    let limits = [("RATE_LIMIT_PER_MINUTE", "60"), ("RATE_LIMIT_BURST", "12"), ("REDIS_URL", "")];
    let world = World::begin(&limits, false).await;
    let ada = world.user("ada");
    let complain = || ada.post("/api/complaints", json!({ "category": "other", "description": "Ten chars!" }));
    for left in ["7", "2"] {
        let answer = complain().await;
        assert_eq!(answer.header("ratelimit-remaining"), Some(left));
        answer.expect(201);
    }
    complain().await.expect_error(429, "rate_limited");
    assert_eq!(ada.post("/api/csat", json!({ "stars": 5 })).await.header("ratelimit-remaining"), Some("1"));
}
