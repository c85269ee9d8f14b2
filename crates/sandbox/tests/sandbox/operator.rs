//! The teammate's acts, in Rust and over HTTP, and the page.

use sandbox::Upload;
use serde_json::{Value, json};

use crate::harness::{Receiver, now_s, world};

#[tokio::test]
async fn every_act_changes_the_conversation_and_sends_its_topic() {
    let (world, receiver) = (world().await, Receiver::answering(&[]).await);
    let (contact, id) = world.opens("Hello").await;
    world.sandbox.send_webhooks_to(&receiver.url);
    let operator = world.sandbox.operator();
    let state = || world.sandbox.conversation(&id).expect("there")["state"].clone();

    let answer = operator.replies(&id, "Hi").await;
    operator.assigns_with_reply(&id, "I take it").await;
    operator.notes(&id, "internal").await;
    operator.bot_says(&id, "Beep").await;
    operator.snoozes(&id, now_s() + 60).await;
    assert_eq!(state(), "snoozed");
    operator.unsnoozes(&id).await;
    assert_eq!(state(), "open");
    operator.closes(&id, Some("Bye")).await;
    assert_eq!(state(), "closed");
    operator.reopens(&id).await;
    operator.redacts(&id, &answer).await;
    operator.tags(&id, "vip").await;
    operator.adds_part(&id, "conversation_rating_changed", None, "user").await;
    let other = operator.starts(&contact, "A word about your account").await;
    operator.deletes(&id).await;

    assert_eq!(
        receiver.topics(),
        [
            "conversation.admin.replied",
            "conversation.admin.assigned",
            "conversation.admin.replied",
            "conversation.admin.noted",
            "conversation.operator.replied",
            "conversation.admin.snoozed",
            "conversation.admin.unsnoozed",
            "conversation.admin.closed",
            "conversation.admin.opened",
            "conversation_part.redacted",
            "conversation.admin.single.created",
            "conversation.deleted",
        ]
    );
    let items: Vec<Value> = receiver.got().into_iter().map(|got| got.json["data"]["item"].clone()).collect();
    let part = |index: usize| &items[index]["conversation_parts"]["conversation_parts"][0];
    assert_eq!((&part(2)["part_type"], &part(2)["body"]), (&json!("assignment"), &json!("I take it")));
    assert_eq!((&part(9)["redacted"], &part(9)["body"]), (&json!(true), &json!("This message was deleted")));
    assert_eq!(items[10]["source"]["delivered_as"], "admin_initiated");
    assert_eq!(items[11], json!({ "type": "conversation", "conversation_id": id }));
    assert_eq!(world.get(&format!("/conversations/{id}")).await.status, 404);
    assert_eq!(world.sandbox.conversation_ids(), [other]);
    world.stop().await;
    receiver.stop();
}

#[tokio::test]
async fn an_answer_may_be_only_a_file() {
    let world = world().await;
    let (_, id) = world.opens("Hello").await;
    let file = Upload { name: "r.png".to_owned(), content_type: "image/png".to_owned(), data: vec![1, 2, 3] };
    world.sandbox.operator().replies_with(&id, "", vec![file]).await;
    let conversation = world.sandbox.conversation(&id).expect("there");
    let part = &conversation["conversation_parts"]["conversation_parts"][0];
    assert_eq!((&part["body"], &part["attachments"][0]["filesize"]), (&Value::Null, &json!(3)));
    world.stop().await;
}

#[tokio::test]
async fn acts_and_looks_are_there_over_http() {
    let world = world().await;
    let (_, id) = world.opens("Hello <script>").await;
    let done = world.post("/_sandbox/act", json!({ "act": "reply", "conversation": id, "body": "Hi" })).await;
    assert!(done.body["part"].is_string(), "{}", done.body);
    assert_eq!(
        world.post("/_sandbox/act", json!({ "act": "reply", "conversation": "1", "body": "Hi" })).await.status,
        404
    );
    assert_eq!(world.post("/_sandbox/act", json!({ "act": "dance" })).await.status, 400);
    let form = world.request("POST", "/_sandbox/act").body("act=reply").send().await.expect("an answer");
    assert_eq!(form.status(), 415, "other sites' forms do nothing");

    let list = world.get("/_sandbox/conversations").await.body;
    assert_eq!((&list[0]["id"], &list[0]["last_line"], &list[0]["unread"]), (&json!(id), &json!("Hi"), &json!(1)));
    assert_eq!(list[0]["contact"]["external_id"], "ada");
    let thread = world.get(&format!("/_sandbox/conversations/{id}?view=true")).await.body;
    assert_eq!((&thread["unread"], &thread["contact_texts"]), (&json!(0), &json!(["Hello <script>"])));
    assert_eq!(thread["conversation"]["source"]["body"], "Hello <script>");

    let calls = world.get("/_sandbox/calls").await.body;
    assert_eq!((&calls[0]["path"], &calls[0]["status"]), (&json!("/conversations"), &json!(200)));
    world.send("DELETE", "/_sandbox/calls", Value::Null).await;
    assert_eq!(world.sandbox.calls().len(), 0);
    assert_eq!(world.get("/_sandbox/violations").await.body, json!([]));
    assert_eq!(world.get("/_sandbox/nothing").await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn faults_are_set_and_cleared_over_http() {
    let world = world().await;
    let rule = json!({ "kind": "error", "status": 503, "html": true, "method": "GET", "path": "/me" });
    let active = world.post("/_sandbox/faults", rule).await.body;
    assert_eq!((&active[0]["kind"], &active[0]["hits"]), (&json!("error"), &json!(0)));
    assert_eq!(world.get("/me").await.status, 503);
    assert_eq!(world.get("/_sandbox/faults").await.body[0]["hits"], 1);
    assert_eq!(world.post("/_sandbox/faults", json!({ "kind": "earthquake" })).await.status, 400);
    world.send("DELETE", "/_sandbox/faults", Value::Null).await;
    assert_eq!(world.get("/me").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn the_page_and_its_parts_are_served_under_a_strict_policy() {
    let world = world().await;
    for (path, kind) in
        [("/operator", "text/html"), ("/operator/page.css", "text/css"), ("/operator/page.js", "text/javascript")]
    {
        let answer = world.request("GET", path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert!(header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        let text = answer.text().await.expect("a body");
        assert!(text.len() > 500 && !text.contains("innerHTML") && !text.contains("https://"), "{path}");
    }
    world.stop().await;
}
