//! Conversations: start, list, get, read, close, reply, and who may see what.

use std::time::Duration;

use sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{bodies, world};

#[tokio::test]
async fn a_message_reaches_intercom_and_the_answer_reaches_the_user() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Where is my refund?").await;
    assert_eq!(world.sandbox.contact_parts(&chat), ["Where is my refund?"]);

    world.operator().replies(&chat, "<p>On its <b>way</b>.</p>").await;
    world.work().await;
    let seen = ada.reads(&chat).await;
    assert_eq!(bodies(&seen), ["Where is my refund?", "On its way."]);
    let answer = &seen["messages"][1];
    assert_eq!((&answer["author"]["type"], &answer["author"]["name"]), (&json!("operator"), &json!("Olga Operator")));
    assert_eq!(seen["unreadCount"], 1);

    // A webhook has plain text; Intercom's own answer has the formatting, which is no reason to show it again.
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(ada.reads(&chat).await["messages"][1]["html"], "<p>On its <b>way</b>.</p>");
    assert!(bodies(&ada.polls(&chat, since).await).is_empty());
}

#[tokio::test]
async fn a_conversation_begins_with_a_body_a_reason_or_both() {
    let world = world().await;
    let ada = world.user("ada");

    let by_body = ada.post("/api/conversations", json!({ "body": "Hello" })).await.expect(201);
    assert_eq!((&by_body["topic"], bodies(&by_body)), (&Value::Null, vec!["Hello"]));
    assert_eq!(by_body["state"], "open");
    assert_eq!(by_body["lastMessage"]["body"], "Hello");

    let reason = json!({ "main": "Deposits", "sub": "Card" });
    let by_reason = ada.post("/api/conversations", json!({ "reason": reason })).await.expect(201);
    assert_eq!((&by_reason["topic"], bodies(&by_reason)), (&reason, Vec::new()));
    assert_eq!(by_reason["lastMessage"], Value::Null);

    let both = json!({ "body": "It failed", "reason": { "main": "Deposits" } });
    let both = ada.post("/api/conversations", both).await.expect(201);
    assert_eq!((&both["topic"], bodies(&both)), (&json!({ "main": "Deposits", "sub": null }), vec!["It failed"]));
}

#[tokio::test]
async fn a_topic_alone_is_a_note_and_a_tag_and_never_a_message() {
    let world = world().await;
    let ada = world.user("ada");
    let reason = json!({ "reason": { "main": "Deposits", "sub": "Card <b>" }, "meta": { "browser": "Firefox" } });
    let answer = ada.post("/api/conversations", reason).await.expect(201);
    let chat = answer["id"].as_str().expect("an id");
    world.work().await;

    let at_intercom = world.sandbox.conversation(chat).expect("the conversation");
    let parts = at_intercom["conversation_parts"]["conversation_parts"].as_array().expect("parts");
    let note = parts.iter().find(|part| part["part_type"] == "note").expect("a note");
    let note = note["body"].as_str().expect("a text");
    assert!(note.contains("Deposits") && note.contains("Card &lt;b&gt;") && note.contains("Firefox"), "{note}");
    assert!(at_intercom["tags"]["tags"].to_string().contains("topic: Deposits"), "{}", at_intercom["tags"]);

    // However it comes back from Intercom, the opening line stays out.
    world.operator().replies(chat, "Which card?").await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&ada.reads(chat).await), ["Which card?"]);
    assert_eq!(bodies(&ada.polls(chat, 0).await), ["Which card?"]);
    assert_eq!(
        ada.get("/api/conversations").await.expect(200)["conversations"][0]["lastMessage"]["body"],
        "Which card?"
    );
}

#[tokio::test]
async fn a_reply_after_a_topic_alone_is_known_by_its_answer() {
    let world = world().await;
    let ada = world.user("ada");
    let reason = json!({ "reason": { "main": "Deposits" } });
    let chat = ada.post("/api/conversations", reason).await.expect(201)["id"].as_str().expect("an id").to_owned();
    world.work().await;
    world.sandbox.forget_calls();
    let reply = ada.replies(&chat, "By card").await;
    let calls = world.sandbox.calls();
    assert_eq!(calls.len(), 1, "nothing has to be looked for: {calls:?}");
    let messages = ada.reads(&chat).await["messages"].clone();
    assert_eq!(
        (&messages[0]["id"], &messages[0]["body"], &messages[1]),
        (&json!(reply), &json!("By card"), &Value::Null)
    );
}

#[tokio::test]
async fn a_start_without_body_and_reason_is_refused() {
    let world = world().await;
    let ada = world.user("ada");
    let long = "x".repeat(10_001);
    for (body, field) in [
        (json!({}), "body"),
        (json!({ "body": "  \n\t " }), "body"),
        (json!({ "body": long }), "body"),
        (json!({ "body": 5 }), "body"),
        (json!({ "reason": {} }), "reason"),
        (json!({ "reason": { "main": "" } }), "reason.main"),
        (json!({ "reason": { "main": "x".repeat(101) } }), "reason.main"),
        (json!({ "reason": { "main": "A", "sub": "x".repeat(101) } }), "reason.sub"),
        (json!({ "reason": "Deposits" }), "reason"),
        (json!({ "body": "a", "meta": [] }), "meta"),
        (json!({ "body": "a", "meta": { "deep": {} } }), "meta"),
        (json!({ "body": "a", "meta": { "long": "x".repeat(5000) } }), "meta"),
        (json!({ "body": "a", "attachmentIds": ["f1"] }), "attachmentIds"),
    ] {
        let message = ada.post("/api/conversations", body).await.expect_error(400, "validation_error");
        assert!(message.contains(field), "{message}: names {field}");
    }
    ada.call_raw("POST", "/api/conversations", Some("{".into())).await.expect_error(400, "bad_request");
    assert!(world.sandbox.conversation_ids().is_empty());
}

#[tokio::test]
async fn ten_thousand_characters_are_a_message() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens(&"é".repeat(10_000)).await;
    let path = format!("/api/conversations/{chat}/reply");
    let message = ada.post(&path, json!({ "body": "x".repeat(10_001) })).await.expect_error(400, "validation_error");
    assert!(message.starts_with("body"), "{message}");
    for empty in [json!({}), json!({ "body": null }), json!({ "body": " " })] {
        ada.post(&path, empty).await.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn what_a_user_writes_comes_back_as_written() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("1 < 2 && a <b>bold</b> claim").await;
    for text in
        ["two  spaces", "line one\nline two", "<script>alert(1)</script>", "&amp; is not &", "ünïcödé 👩‍👧 \u{202e}"]
    {
        ada.replies(&chat, text).await;
    }
    world.operator().replies(&chat, "Noted").await;
    world.pass(Duration::from_secs(2)).await;
    let seen = ada.reads(&chat).await;
    let expected = [
        "1 < 2 && a <b>bold</b> claim",
        "two  spaces",
        "line one\nline two",
        "<script>alert(1)</script>",
        "&amp; is not &",
        "ünïcödé 👩‍👧 \u{202e}",
        "Noted",
    ];
    assert_eq!(bodies(&seen), expected);
    assert!(!seen.to_string().contains("<script>alert(1)</script></p>"), "html is escaped");
    assert_eq!(bodies(&ada.polls(&chat, 0).await), expected, "nothing came twice by the refresh");
}

#[tokio::test]
async fn the_list_has_the_latest_activity_first_and_goes_on_by_cursor() {
    let world = world().await;
    let ada = world.user("ada");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(ada.opens(&format!("number {n}")).await);
        world.clock.advance(10);
    }
    ada.replies(&ids[1], "again").await;
    ids.reverse();
    let latest = ids.remove(3);
    ids.insert(0, latest);

    let mut listed = Vec::new();
    let mut path = "/api/conversations?limit=2".to_owned();
    loop {
        let page = ada.get(&path).await.expect(200);
        let conversations = page["conversations"].as_array().expect("a list");
        assert!(conversations.len() <= 2);
        listed.extend(conversations.iter().map(|c| c["id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/api/conversations?limit=2&cursor={cursor}");
    }
    assert_eq!(listed, ids);
    for bad in ["limit=0", "limit=101", "limit=x", "limit=-1", "cursor=x", "cursor=%00"] {
        ada.get(&format!("/api/conversations?{bad}")).await.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn what_is_unread_is_counted_until_it_is_read() {
    let world = world().await;
    let ada = world.user("ada");
    let (one, two) = (ada.opens("one").await, ada.opens("two").await);
    for chat in [&one, &one, &two] {
        world.operator().replies(chat, "hello").await;
    }
    world.work().await;
    let list = ada.get("/api/conversations").await.expect(200);
    assert_eq!(list["unreadTotal"], 3);
    assert_eq!(ada.polls(&one, 0).await["unreadCount"], 2);

    let read = ada.post(&format!("/api/conversations/{one}/read"), json!({})).await.expect(200);
    assert_eq!(read, json!({ "unreadCount": 0 }));
    assert_eq!(ada.polls(&one, 0).await["unreadCount"], 0);
    assert_eq!(ada.get("/api/conversations").await.expect(200)["unreadTotal"], 1);
    // No body is needed, and reading twice is reading once.
    assert_eq!(ada.call("POST", &format!("/api/conversations/{one}/read"), None).await.expect(200)["unreadCount"], 0);
    world.work().await;
    assert!(world.sandbox.calls().iter().any(|call| call.method == "PUT" && call.body == json!({ "read": true })));

    world.operator().replies(&one, "one more").await;
    world.work().await;
    assert_eq!(ada.reads(&one).await["unreadCount"], 1);
}

#[tokio::test]
async fn closing_closes_at_intercom_and_twice_is_the_same_answer() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Thanks, solved").await;
    let path = format!("/api/conversations/{chat}/close");
    for _ in 0..2 {
        let closed = ada.post(&path, json!({})).await.expect(200);
        assert_eq!(closed, json!({ "state": "closed", "csatPrompt": true }));
    }
    assert_eq!(world.sandbox.conversation(&chat).expect("it")["state"], "closed");
    assert_eq!(ada.polls(&chat, 0).await["state"], "closed");
    let closes = world.sandbox.calls().iter().filter(|call| call.path.ends_with("/parts")).count();
    assert_eq!(closes, 1, "Intercom is asked once");

    // A CSAT tag at Intercom means rated: nothing to prompt for.
    world.operator().tags(&chat, "csat-5").await;
    world.operator().replies(&chat, "Bye").await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(ada.polls(&chat, 0).await["rated"], true);
    assert_eq!(ada.post(&path, json!({})).await.expect(200)["csatPrompt"], false);
}

#[tokio::test]
async fn a_reply_opens_a_closed_and_a_snoozed_conversation() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    ada.post(&format!("/api/conversations/{chat}/close"), json!({})).await.expect(200);
    ada.replies(&chat, "One more thing").await;
    assert_eq!(ada.polls(&chat, 0).await["state"], "open");

    let until = world.clock.now_s() + 3600;
    world.operator().snoozes(&chat, until).await;
    world.pass(Duration::from_secs(2)).await;
    let snoozed = ada.polls(&chat, 0).await;
    assert_eq!((&snoozed["state"], &snoozed["snoozedUntil"]), (&json!("snoozed"), &json!(until)));
    ada.replies(&chat, "Still there?").await;
    let open = ada.polls(&chat, 0).await;
    assert_eq!((&open["state"], &open["snoozedUntil"]), (&json!("open"), &Value::Null));
    assert_eq!(bodies(&open), ["Hello", "One more thing", "Still there?"]);
}

#[tokio::test]
async fn no_note_no_unknown_part_no_email_and_no_internal_label_leaves_the_server() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let operator = world.operator();
    operator.notes(&chat, "CANARY-note: looks like fraud").await;
    for part_type in ["note", "note_and_reopen", "custom_action_started", "away_mode_assignment", "brand_new_type"] {
        operator.adds_part(&chat, part_type, Some("CANARY-internal"), "admin").await;
    }
    operator
        .adds_part(&chat, "channel_and_reply_time_expectation", Some("CANARY: replies at ada@example.com"), "bot")
        .await;
    operator.assigns_with_reply(&chat, "Assigned, and answered").await;
    operator.bot_says(&chat, "I am a bot").await;
    operator.closes(&chat, Some("Closed with words")).await;
    world.pass(Duration::from_secs(2)).await;

    let seen = ada.reads(&chat).await;
    assert_eq!(bodies(&seen), ["Hello", "Assigned, and answered", "I am a bot", "Closed with words"]);
    assert_eq!(seen["messages"][2]["author"]["type"], "bot");
    let list = ada.get("/api/conversations").await.expect(200);
    let poll = ada.polls(&chat, 0).await;
    for answer in [&seen, &list, &poll] {
        let text = answer.to_string();
        for secret in ["CANARY", "operator@", "@sandbox", "@example"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn a_message_taken_back_is_shown_as_taken_back_and_its_words_are_gone() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let part = world.operator().replies(&chat, "The secret is 1234").await;
    world.work().await;
    let before = ada.polls(&chat, 0).await;
    world.operator().redacts(&chat, &part).await;
    world.work().await;

    let since = before["latestTimestamp"].as_i64().expect("a time");
    let after = ada.polls(&chat, since).await;
    assert_eq!(after["messages"].as_array().expect("messages").len(), 1, "it comes again, at a new position");
    let message = &after["messages"][0];
    assert_eq!((&message["id"], &message["redacted"], &message["body"]), (&json!(part), &json!(true), &json!("")));
    assert!(!ada.reads(&chat).await.to_string().contains("1234"));
    assert_eq!(bodies(&ada.reads(&chat).await).len(), 2, "under its id, not beside it");
}

#[tokio::test]
async fn an_operator_can_begin_and_delete_a_conversation() {
    let world = world().await;
    let ada = world.user("ada");
    let first = ada.opens("Hello").await;
    let contact = world.sandbox.contact_by_external_id("ada").expect("a contact");
    let begun = world.operator().starts(contact["id"].as_str().expect("an id"), "<p>May we help?</p>").await;
    world.work().await;
    let list = ada.get("/api/conversations").await.expect(200);
    assert_eq!(list["conversations"][0]["id"], begun.as_str());
    assert_eq!((&list["conversations"][0]["unreadCount"], &list["unreadTotal"]), (&json!(1), &json!(1)));

    world.operator().deletes(&first).await;
    world.work().await;
    ada.get(&format!("/api/conversations/{first}")).await.expect_error(404, "not_found");
    ada.get(&format!("/api/conversations/{first}/poll")).await.expect_error(404, "not_found");
}

/// Every route with an id, as (method, what comes before the id, what follows it).
const ROUTES: [(&str, &str, &str); 8] = [
    ("GET", "conversations", ""),
    ("GET", "conversations", "/poll"),
    ("POST", "conversations", "/read"),
    ("POST", "conversations", "/close"),
    ("POST", "conversations", "/reply"),
    ("GET", "tickets", ""),
    ("POST", "tickets", "/reply"),
    ("POST", "tickets", "/clarify"),
];

#[tokio::test]
async fn anothers_unknown_and_malformed_conversations_and_tickets_answer_alike() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let adas = ada.opens("Mine").await;
    let ticket = ada.has_ticket(&world, "Hers").await;
    bob.opens("His").await;
    bob.has_ticket(&world, "His").await;
    world.work().await;
    world.sandbox.forget_calls();
    let long = "1".repeat(21);
    for (method, of, rest) in ROUTES {
        let body = ["/reply", "/clarify"].contains(&rest).then(|| json!({ "body": "mine now" }));
        let mut answers = Vec::new();
        for id in [
            adas.as_str(),
            ticket.as_str(),
            "999999999",
            "last",
            "redact",
            "attributes",
            "0x1",
            "-1",
            "1%20",
            "%2e%2e%2f1",
            "1%2F2",
            "%00",
            "é",
            &long,
            "1;drop",
            "%252e%252e",
        ] {
            let answer = bob.call(method, &format!("/api/{of}/{id}{rest}"), body.clone()).await;
            let mut headers: Vec<String> = answer
                .headers
                .iter()
                .filter(|(name, _)| {
                    !["x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"].contains(&name.as_str())
                })
                .map(|(name, value)| format!("{name}: {value:?}"))
                .collect();
            headers.sort();
            let mut json = answer.json.clone();
            json["requestId"] = Value::Null;
            answers.push((id, answer.status, headers, json));
        }
        let (_, status, headers, json) = answers[0].clone();
        assert_eq!((status, &json["error"]), (404, &json!("not_found")), "{method} {of} {rest}");
        for (id, other_status, other_headers, other_json) in &answers {
            assert_eq!(
                (&status, &headers, &json),
                (other_status, other_headers, other_json),
                "{method} {of} {id}{rest}"
            );
        }
    }
    bob.get("/api/conversations/search").await.expect_error(404, "not_found");
    assert_eq!(world.calls(), 0, "none of it reached Intercom");
    assert_eq!(bodies(&ada.reads(&adas).await), ["Mine"]);
    assert_eq!(bodies(&ada.reads(&ticket).await), ["Hello"]);
}

#[tokio::test]
async fn a_list_shows_only_its_users_own() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let adas = ada.opens("Mine").await;
    let bobs = bob.opens("His").await;
    for (user, own) in [(&ada, &adas), (&bob, &bobs)] {
        let list = user.get("/api/conversations").await.expect(200);
        let ids: Vec<_> = list["conversations"].as_array().expect("a list").iter().map(|c| &c["id"]).collect();
        assert_eq!(ids, [&json!(own)]);
    }
    assert_eq!(world.user("carol").get("/api/conversations").await.expect(200)["conversations"], json!([]));
}

#[tokio::test]
async fn the_same_key_is_the_same_message_and_another_payload_is_refused() {
    let world = world().await;
    let ada = world.user("ada").with("Idempotency-Key", "k-1");
    let first = ada.post("/api/conversations", json!({ "body": "Hello" })).await;
    let again = ada.post("/api/conversations", json!({ "body": "Hello" })).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.text, again.text, "byte for byte");
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    ada.post("/api/conversations", json!({ "body": "Other" })).await.expect_error(422, "idempotency_mismatch");
    assert_eq!(world.sandbox.conversation_ids().len(), 1);

    let chat = first.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/conversations/{chat}/reply");
    let quoted = world.user("ada").with("Idempotency-Key", "\"k-2\"");
    let reply = quoted.post(&path, json!({ "body": "ok" })).await;
    let bare = world.user("ada").with("Idempotency-Key", "k-2").post(&path, json!({ "body": "ok" })).await;
    assert_eq!((reply.status, &reply.text), (201, &bare.text), "bare and quoted are one key");
    quoted.post(&path, json!({ "body": "no" })).await.expect_error(422, "idempotency_mismatch");

    // The key's scope is the user: bob's k-1 is another.
    let bobs =
        world.user("bob").with("Idempotency-Key", "k-1").post("/api/conversations", json!({ "body": "Hi" })).await;
    assert_eq!(bobs.status, 201);
    for bad in ["", "\"\"", "a b\tc", &"x".repeat(256)] {
        let bad = world.user("ada").with("Idempotency-Key", bad);
        bad.post(&path, json!({ "body": "x" })).await.expect_error(400, "validation_error");
    }
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "ok"]);
}

#[tokio::test]
async fn without_a_key_the_same_words_are_said_twice() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let (one, two) = (ada.replies(&chat, "ok").await, ada.replies(&chat, "ok").await);
    assert_ne!(one, two);
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "ok", "ok"]);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&ada.polls(&chat, 0).await), ["Hello", "ok", "ok"]);
}

#[tokio::test]
async fn a_double_tap_is_one_message() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.sandbox.fault(Fault::new(Kind::Slow { ms: 300 }).on("POST", "*/reply"));
    let (one, two) = tokio::join!(ada.replies(&chat, "tap"), ada.replies(&chat, "tap"));
    assert_eq!(one, two);
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "tap"]);
}

#[tokio::test]
async fn messages_reach_intercom_in_the_order_of_their_acceptance() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("0").await;
    for n in 1..20 {
        ada.replies(&chat, &n.to_string()).await;
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(world.sandbox.contact_parts(&chat), expected);
    assert_eq!(bodies(&ada.polls(&chat, 0).await), expected);
}
