//! The teammate's acts, in Rust and over HTTP, and the page.

use sandbox::{NewTicket, Upload};
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
    for (path, kind) in [
        ("/operator", "text/html"),
        ("/operator/page.css", "text/css"),
        ("/operator/page.js", "text/javascript"),
        ("/operator/dom.js", "text/javascript"),
        ("/operator/phones", "text/html"),
        ("/operator/phones.css", "text/css"),
        ("/operator/phones.js", "text/javascript"),
    ] {
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

#[tokio::test]
async fn the_operator_makes_moves_and_shares_tickets() {
    let world = world().await;
    let (contact, talk) = world.opens("Hello").await;
    let operator = world.sandbox.operator();
    let new = NewTicket {
        ticket_type: Some("Account request".to_owned()),
        title: "New name".to_owned(),
        description: "I married".to_owned(),
        attributes: serde_json::from_value(json!({ "Urgent": true })).expect("a map"),
        by: Some("user".to_owned()),
    };
    let id = operator.creates_ticket(&contact, new).await;
    let ticket = || world.sandbox.ticket(&id).expect("there");
    let expected = json!({ "_default_title_": "New name", "_default_description_": "I married", "Urgent": true, "Root cause": null });
    assert_eq!(ticket()["ticket_attributes"], expected);
    operator.moves_ticket_as("workflow", &id, "Waiting on you").await;
    operator.moves_ticket(&id, "Agent working").await;
    operator.sets_ticket_attribute(&id, "Root cause", json!("marriage")).await;
    operator.tags(&id, "vip").await;
    operator.replies(&id, "Congratulations").await;
    let parts = ticket()["ticket_parts"]["ticket_parts"].clone();
    let kinds: Vec<&str> =
        parts.as_array().expect("parts").iter().filter_map(|part| part["part_type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "ticket_state_updated_by_user",
            "ticket_state_updated_by_workflow",
            "ticket_state_updated_by_admin",
            "ticket_attribute_updated_by_admin",
            "comment"
        ]
    );
    assert_eq!((&parts[0]["author"]["id"], &parts[1]["author"]["type"]), (&json!(contact), &json!("bot")));
    assert_eq!(ticket()["ticket_state"]["external_label"], "In progress");

    assert_eq!(operator.converts(&talk, NewTicket::default()).await, talk);
    let ledger = NewTicket { ticket_type: Some("2979332".to_owned()), ..NewTicket::default() };
    let ledger = operator.creates_ticket(&contact, ledger).await;
    operator.shares_ticket(&ledger, true).await;
    assert_eq!(world.sandbox.ticket(&ledger).expect("there")["is_shared"], true);
    assert_eq!(world.sandbox.ticket_ids(), [talk.clone(), id.clone(), ledger]);
    assert_eq!(world.sandbox.conversation_ids(), [talk, id]);
    world.stop().await;
}

#[tokio::test]
async fn acts_on_tickets_and_looks_at_them_are_there_over_http() {
    let world = world().await;
    let (contact, talk) = world.opens("Hello").await;
    let act = async |body: Value| world.post("/_sandbox/act", body).await;
    let made = act(json!({ "act": "create_ticket", "contact": contact, "ticket": { "title": "Card" } })).await.body;
    let id = made["ticket"].as_str().expect("an id").to_owned();
    assert_eq!(act(json!({ "act": "convert_to_ticket", "conversation": talk })).await.status, 200);
    assert_eq!(act(json!({ "act": "move_ticket", "ticket": id, "state": "Waiting on bank" })).await.status, 200);
    for (wrong, why) in [
        (json!({ "act": "create_ticket", "contact": "1", "ticket": {} }), "no such contact"),
        (
            json!({ "act": "create_ticket", "contact": contact, "ticket": { "ticket_type": "?" } }),
            "no such ticket type",
        ),
        (
            json!({ "act": "create_ticket", "contact": contact, "ticket": { "attributes": { "?": 1 } } }),
            "no such attribute",
        ),
        (json!({ "act": "convert_to_ticket", "conversation": talk }), "it is a ticket already"),
        (
            json!({ "act": "convert_to_ticket", "conversation": id, "ticket": { "ticket_type": "Incident" } }),
            "no such type for customers",
        ),
        (json!({ "act": "move_ticket", "ticket": id, "state": "Waiting on bank" }), "it is in that state already"),
        (json!({ "act": "move_ticket", "ticket": id, "state": "With level 2" }), "no such state"),
        (json!({ "act": "move_ticket", "ticket": "1", "state": "Resolved" }), "no such ticket"),
        (json!({ "act": "share_ticket", "ticket": "1", "shared": true }), "no such ticket"),
        (json!({ "act": "set_ticket_attribute", "ticket": id, "name": "?", "value": 1 }), "no such attribute"),
    ] {
        let refused = act(wrong.clone()).await;
        assert_eq!((refused.status, &refused.body["error"]), (404, &json!(why)), "{wrong}");
    }
    let list = world.get("/_sandbox/conversations").await.body;
    let mine = list.as_array().expect("a list").iter().find(|one| one["id"] == json!(id)).expect("listed");
    assert_eq!((&mine["ticket"]["title"], &mine["ticket"]["state_label"]), (&json!("Card"), &json!("Waiting on bank")));
    let thread = world.get(&format!("/_sandbox/conversations/{id}")).await.body;
    let moves: Vec<&Value> = thread["moves"].as_object().expect("an object").values().collect();
    assert_eq!(moves, [&json!("submitted"), &json!("submitted → in_progress")]);
    assert_eq!(world.get(&format!("/_sandbox/tickets/{id}")).await.body["ticket_id"], mine["ticket"]["number"]);
    assert_eq!(world.get("/_sandbox/tickets/1").await.status, 404);
    assert_eq!(world.get("/_sandbox/ticket_types").await.body[0]["name"], "Payment problem");
    world.stop().await;
}
