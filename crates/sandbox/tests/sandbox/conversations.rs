//! Conversations over REST: starting, reading, replying, managing, tags, redaction.

use serde_json::{Value, json};

use crate::harness::{now_s, reply, world, world_with};
use sandbox::Settings;

fn parts(conversation: &Value) -> Vec<(String, Value)> {
    let list = conversation["conversation_parts"]["conversation_parts"].as_array().expect("parts").clone();
    list.into_iter()
        .map(|part| (part["part_type"].as_str().expect("a type").to_owned(), part["body"].clone()))
        .collect()
}

#[tokio::test]
async fn starting_answers_with_a_message_and_keeps_it_as_the_source() {
    let world = world().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let body = json!({ "from": { "type": "user", "id": contact }, "body": "Where is <b>my</b>\n& refund?" });
    let message = world.post("/conversations", body).await;
    assert_eq!(message.status, 200);
    assert_eq!((&message.body["type"], &message.body["message_type"]), (&json!("user_message"), &json!("inapp")));
    assert!(message.body["state"].is_null(), "a message is no conversation");

    let id = message.body["conversation_id"].as_str().expect("an id");
    let html = world.get(&format!("/conversations/{id}")).await.body;
    assert_eq!(html["source"]["body"], "<p>Where is &lt;b&gt;my&lt;/b&gt;<br>&amp; refund?</p>");
    assert_eq!(html["source"]["id"], message.body["id"]);
    assert_eq!(html["conversation_parts"]["total_count"], 0);
    assert_eq!(
        (&html["admin_assignee_id"], &html["priority"], &html["ticket"]),
        (&json!(0), &json!("none"), &Value::Null)
    );
    let plain = world.get(&format!("/conversations/{id}?display_as=plaintext")).await.body;
    assert_eq!(plain["source"]["body"], "Where is <b>my</b>\n& refund?");
    world.stop().await;
}

#[tokio::test]
async fn a_blank_body_and_an_unknown_contact_are_refused() {
    let world = world().await;
    let (contact, id) = world.opens("Hello").await;
    let start = |contact: &str, body: &str| json!({ "from": { "type": "user", "id": contact }, "body": body });
    assert_eq!(world.post("/conversations", start(&contact, " \n ")).await.status, 400);
    assert_eq!(world.replies(&contact, &id, "  ").await.status, 400);
    let unknown = world.post("/conversations", start("0123456789abcdef01234567", "Hello")).await;
    assert_eq!((unknown.status, &unknown.body["errors"][0]["message"]), (404, &json!("User Not Found")));
    world.stop().await;
}

#[tokio::test]
async fn a_reply_answers_with_only_the_new_part() {
    let world = world().await;
    let (contact, id) = world.opens("One").await;
    world.replies(&contact, &id, "Two").await;
    let third = world.replies(&contact, &id, "Three").await.body;
    assert_eq!(parts(&third), [("comment".to_owned(), json!("<p>Three</p>"))]);
    assert_eq!(third["conversation_parts"]["total_count"], 1);
    let part = &third["conversation_parts"]["conversation_parts"][0];
    assert!(part["app_package_code"].is_string(), "made by the API");
    assert_eq!((&part["author"]["type"], &part["author"]["id"]), (&json!("user"), &json!(contact)));
    assert_eq!(world.sandbox.contact_parts(&id), ["One", "Two", "Three"]);
    world.stop().await;
}

#[tokio::test]
async fn a_reply_names_its_contact_in_exactly_one_way() {
    let world = world().await;
    let (contact, id) = world.opens("One").await;
    let path = format!("/conversations/{id}/reply");
    let with = |fields: Value| {
        let mut body = json!({ "message_type": "comment", "type": "user", "body": "Two" });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    assert_eq!(world.post(&path, with(json!({ "user_id": "ada" }))).await.status, 200);
    assert_eq!(world.post(&path, with(json!({ "email": "ada@example.com" }))).await.status, 200);
    assert_eq!(world.post(&path, with(json!({}))).await.status, 400);
    assert_eq!(world.post(&path, with(json!({ "user_id": "ada", "intercom_user_id": contact }))).await.status, 400);
    let stranger = world.sandbox.add_contact(Some("eve"), None);
    assert_eq!(world.replies(&stranger, &id, "mine!").await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn a_contacts_reply_reopens_and_its_part_is_of_type_open() {
    let world = world().await;
    let (contact, id) = world.opens("One").await;
    let manage = format!("/conversations/{id}/parts");
    let close = json!({ "message_type": "close", "type": "admin", "admin_id": "9000001", "body": "Bye" });
    let closed = world.post(&manage, close).await.body;
    assert_eq!((&closed["state"], &closed["open"]), (&json!("closed"), &json!(false)));
    assert_eq!(parts(&closed), [("close".to_owned(), json!("<p>Bye</p>"))]);

    let reopened = world.replies(&contact, &id, "One more thing").await.body;
    assert_eq!(parts(&reopened), [("open".to_owned(), json!("<p>One more thing</p>"))]);
    assert_eq!(reopened["state"], "open");

    let until = now_s() + 3600;
    let snooze = json!({ "message_type": "snoozed", "admin_id": "9000001", "snoozed_until": until });
    let snoozed = world.post(&manage, snooze).await.body;
    assert_eq!(
        (&snoozed["state"], &snoozed["open"], &snoozed["snoozed_until"]),
        (&json!("snoozed"), &json!(true), &json!(until))
    );
    let awake = world.replies(&contact, &id, "Now!").await.body;
    assert_eq!((&awake["state"], &awake["snoozed_until"]), (&json!("open"), &Value::Null));
    world.stop().await;
}

#[tokio::test]
async fn assigning_twice_to_the_same_is_unprocessable() {
    let world = world().await;
    let (_, id) = world.opens("One").await;
    let assign = |kind: &str, to: &str| json!({ "message_type": "assignment", "type": kind, "admin_id": "9000001", "assignee_id": to });
    let path = format!("/conversations/{id}/parts");
    let first = world.post(&path, assign("team", "7000001")).await;
    assert_eq!((first.status, &first.body["team_assignee_id"]), (200, &json!(7_000_001)));
    assert_eq!(world.post(&path, assign("team", "7000001")).await.status, 422);
    assert_eq!(world.post(&path, assign("admin", "9000002")).await.status, 200);
    assert_eq!(world.post(&path, assign("admin", "123")).await.status, 404);
    assert_eq!(world.post(&path, assign("admin", "0")).await.body["admin_assignee_id"], 0);
    world.stop().await;
}

#[tokio::test]
async fn a_get_holds_the_500_most_recent_parts_and_the_true_count() {
    let world = world_with(Settings { rate_limit_per_10s: 10_000, ..Settings::default() }).await;
    let (contact, id) = world.opens("0").await;
    for number in 1..=503 {
        world.replies(&contact, &id, &number.to_string()).await;
    }
    let conversation = world.get(&format!("/conversations/{id}?display_as=plaintext")).await.body;
    let parts = parts(&conversation);
    assert_eq!((parts.len(), &parts[0].1, &parts[499].1), (500, &json!("4"), &json!("503")));
    assert_eq!(conversation["conversation_parts"]["total_count"], 503);
    assert_eq!(world.sandbox.contact_parts(&id).len(), 504);
    world.stop().await;
}

#[tokio::test]
async fn notes_and_unknown_part_types_stand_in_a_get() {
    let world = world().await;
    let (_, id) = world.opens("One").await;
    let note = json!({ "message_type": "note", "type": "admin", "admin_id": "9000001", "body": "<b>internal</b>" });
    assert_eq!(world.post(&format!("/conversations/{id}/reply"), note).await.status, 200);
    world.sandbox.operator().adds_part(&id, "something_new", Some("?"), "bot").await;
    world.sandbox.operator().assigns_with_reply(&id, "Mine now").await;
    let conversation = world.get(&format!("/conversations/{id}")).await.body;
    let types: Vec<String> = parts(&conversation).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(types, ["note", "something_new", "assignment"]);
    let author = &conversation["conversation_parts"]["conversation_parts"][2]["author"];
    assert_eq!((&author["name"], &author["email"]), (&json!("Olga Operator"), &json!("operator@sandbox.example")));
    world.stop().await;
}

#[tokio::test]
async fn attributes_of_conversations_must_exist() {
    let world = world().await;
    let (_, id) = world.opens("One").await;
    let path = format!("/conversations/{id}");
    let update = json!({ "read": true, "custom_attributes": { "topic": "Refund" } });
    let refused = world.send("PUT", &path, update.clone()).await;
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["message"]),
        (400, &json!("Conversation attribute 'topic' does not exist"))
    );
    let define = json!({ "name": "topic", "data_type": "string", "description": "What it is about" });
    assert_eq!(world.post("/conversations/attributes", define.clone()).await.status, 200);
    assert_eq!(world.post("/conversations/attributes", define).await.status, 422);
    assert_eq!(world.get("/conversations/attributes").await.body["data"][0]["name"], "topic");
    let updated = world.send("PUT", &path, update).await.body;
    assert_eq!((&updated["read"], &updated["custom_attributes"]["topic"]), (&json!(true), &json!("Refund")));
    world.stop().await;
}

#[tokio::test]
async fn tags_are_found_in_any_case_and_detached_with_a_body() {
    let world = world().await;
    let (_, id) = world.opens("One").await;
    let tag = world.post("/tags", json!({ "name": "CSAT_5" })).await.body;
    assert_eq!(world.post("/tags", json!({ "name": "csat_5" })).await.body["id"], tag["id"]);
    assert_eq!(world.get("/tags").await.body["data"].as_array().map(Vec::len), Some(1));
    let path = format!("/conversations/{id}/tags");
    let attach = json!({ "id": tag["id"], "admin_id": "9000001" });
    assert_eq!(world.post(&path, attach.clone()).await.body["name"], "CSAT_5");
    assert_eq!(world.post(&path, attach).await.status, 200, "attaching twice is harmless");
    let tags = world.sandbox.conversation(&id).expect("there")["tags"]["tags"].clone();
    assert_eq!((tags.as_array().map(Vec::len), &tags[0]["applied_by"]["id"]), (Some(1), &json!("9000001")));

    let one = format!("{path}/{}", tag["id"].as_str().expect("an id"));
    assert_eq!(world.send("DELETE", &one, json!(null)).await.status, 400, "admin_id is required");
    assert_eq!(world.send("DELETE", &one, json!({ "admin_id": "9000001" })).await.status, 200);
    assert_eq!(world.send("DELETE", &one, json!({ "admin_id": "9000001" })).await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn a_redacted_message_loses_its_text_and_files() {
    let world = world().await;
    let (contact, id) = world.opens("Secret").await;
    let replied = world.replies(&contact, &id, "Also secret").await.body;
    let part = &replied["conversation_parts"]["conversation_parts"][0]["id"];
    let redact = json!({ "type": "conversation_part", "conversation_id": id, "conversation_part_id": part });
    let redacted = world.post("/conversations/redact", redact).await.body;
    let part = &redacted["conversation_parts"]["conversation_parts"][0];
    assert_eq!((&part["redacted"], &part["body"]), (&json!(true), &json!("<p><i>This message was deleted</i></p>")));
    let source = json!({ "type": "source", "conversation_id": id, "source_id": redacted["source"]["id"] });
    assert_eq!(world.post("/conversations/redact", source).await.body["source"]["redacted"], true);
    let unknown = json!({ "type": "source", "conversation_id": id, "source_id": "1" });
    assert_eq!(world.post("/conversations/redact", unknown).await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn attachments_get_addresses_that_expire() {
    let world =
        world_with(Settings { attachment_urls_live_for: std::time::Duration::from_secs(1), ..Settings::default() })
            .await;
    let (contact, id) = world.opens("One").await;
    let mut body = reply(&contact, "see file");
    body["attachment_files"] = json!([{ "name": "a b.txt", "content_type": "text/plain", "data": "aGVsbG8=" }]);
    body["attachment_urls"] = json!([format!("{}/i/o/x/receipt.pdf?t=1", world.sandbox.url())]);
    let replied = world.post(&format!("/conversations/{id}/reply"), body).await.body;
    let attachments = &replied["conversation_parts"]["conversation_parts"][0]["attachments"];
    assert_eq!(
        (&attachments[0]["name"], &attachments[0]["content_type"]),
        (&json!("receipt.pdf"), &json!("application/pdf"))
    );
    assert_eq!((&attachments[1]["name"], &attachments[1]["filesize"]), (&json!("a b.txt"), &json!(5)));

    let url = attachments[1]["url"].as_str().expect("a URL");
    let path = url.strip_prefix(&world.sandbox.url()).expect("ours");
    assert_eq!(world.get(path).await.body, json!("hello"));
    let later = path.replace("expires=", "expires=9");
    assert_eq!(world.get(&later).await.status, 403, "the signature covers the time");
    // Two whole seconds pass any one-second lifetime; the address itself has no finer clock.
    tokio::time::sleep(std::time::Duration::from_millis(2_000)).await;
    assert_eq!(world.get(path).await.status, 403);

    let mut start = json!({ "from": { "type": "user", "id": contact }, "body": "x" });
    start["attachment_files"] = json!([{ "name": "a", "content_type": "text/plain", "data": "aGVsbG8=" }]);
    assert_eq!(world.post("/conversations", start).await.status, 400, "files are for replies only");
    world.stop().await;
}

#[tokio::test]
async fn the_latest_conversation_can_be_called_last() {
    let world = world().await;
    let (contact, _) = world.opens("One").await;
    let (_, second) = world.opens("Two").await;
    world.replies(&contact, "last", "Three").await;
    assert_eq!(world.sandbox.contact_parts(&second), ["Two", "Three"]);
    world.stop().await;
}

#[tokio::test]
async fn every_change_moves_updated_at() {
    let world = world().await;
    let (_, id) = world.opens("One").await;
    let before = world.sandbox.conversation(&id).expect("there")["updated_at"].as_i64().expect("a time");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    world.sandbox.operator().tags(&id, "vip").await;
    let after = world.sandbox.conversation(&id).expect("there")["updated_at"].as_i64().expect("a time");
    assert!(after > before, "{after} > {before}");
    world.stop().await;
}
