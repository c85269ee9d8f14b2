//! The sandbox and Intercom's official description: what is asked of callers, and whether our own answers fit.

use std::time::Instant;

use sandbox::NewTicket;
use sandbox::openapi::Document;
use serde_json::{Value, json};

use crate::harness::{World, description, world};

#[tokio::test]
async fn a_call_without_token_or_version_is_noticed() {
    let world = world().await;
    let bare = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = bare.get(format!("{}/me", world.sandbox.url())).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().get("x-ratelimit-limit").is_none(), "only authenticated answers tell");
    let body: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
    assert_eq!((&body["type"], &body["errors"][0]["code"]), (&json!("error.list"), &json!("unauthorized")));
    assert_eq!(world.sandbox.violations(), ["GET /me: Intercom-Version is missing"]);

    let me = world.get("/me").await;
    assert_eq!((&me.body["app"]["id_code"], &me.body["id"]), (&json!("abc123def"), &json!("9000001")));
    assert_eq!(me.headers["intercom-version"], "2.16");
    assert_eq!(me.headers["x-ratelimit-limit"], "1667");
    let address = format!("{}/me", world.sandbox.url());
    let picky =
        bare.get(address).bearer_auth("sandbox-token").header("accept", "text/html").send().await.expect("an answer");
    assert_eq!(picky.status(), 406);
    let garbled = world.request("POST", "/contacts").header("content-type", "application/json").body("{").send().await;
    assert_eq!(garbled.expect("an answer").status(), 400);
    world.stop().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_an_error_list() {
    let world = world().await;
    for (method, path) in [("GET", "/nothing"), ("PUT", "/conversations"), ("GET", "/contacts/a/b/c")] {
        let answer = world.send(method, path, Value::Null).await;
        assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (404, &json!("not_found")), "{method} {path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_misspelt_field_is_a_violation() {
    let world = world().await;
    if !world.sandbox.validates() {
        return world.stop().await;
    }
    let (contact, id) = world.opens("One").await;
    world.replies(&contact, &id, "Two").await;
    assert_eq!(world.sandbox.violations(), Vec::<String>::new());
    let body = json!({ "from": { "type": "user", "id": contact }, "body": "x", "atachment_urls": [] });
    world.post("/conversations", body).await;
    world.post(&format!("/conversations/{id}/reply"), json!({ "type": "user", "body": "x" })).await;
    world.get(&format!("/conversations/{id}?display=plain")).await;
    let found = world.sandbox.violations();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "POST /conversations: request body: property \"atachment_urls\" is not documented");
    assert!(found[1].contains("not valid under any of the schemas"), "{found:?}");
    assert!(found[2].contains("query parameter \"display\""), "{found:?}");
    world.stop().await;
}

/// Where real payloads differ from the description, and we side with the payloads.
const LIVE_DIFFERS: [&str; 4] = ["/statistics/", "/custom_attributes", "/width", "/height"];

#[tokio::test]
async fn our_own_answers_fit_the_description() {
    let Some(path) = description() else { return };
    let document = Document::shared(&path).expect("the description");
    let world = world().await;
    world.sandbox.define_attribute("contact", "plan");
    world.sandbox.define_attribute("conversation", "topic");
    let (contact, id) = world.opens("One").await;
    world.sandbox.operator().replies(&id, "Two").await;
    let tag = world.post("/tags", json!({ "name": "vip" })).await.body["id"].as_str().expect("an id").to_owned();
    let admin = json!("9000001");
    let search = json!({ "query": { "field": "role", "operator": "=", "value": "user" } });
    let open = json!({ "query": { "field": "open", "operator": "=", "value": true } });
    let user_reply = json!({ "message_type": "comment", "type": "user", "intercom_user_id": contact, "body": "x" });
    let note = json!({ "message_type": "note", "type": "admin", "admin_id": admin, "body": "x" });
    let close = json!({ "message_type": "close", "type": "admin", "admin_id": admin });
    let assign = json!({ "message_type": "assignment", "type": "admin", "admin_id": admin, "assignee_id": "9000002" });
    let email = json!({ "external_id": "eve", "email": "eve@example.com", "custom_attributes": { "plan": "gold" } });
    let attribute = json!({ "name": "p", "model": "contact", "data_type": "string" });
    let calls = [
        ("GET", "/me".to_owned(), Value::Null),
        ("GET", "/admins".to_owned(), Value::Null),
        ("GET", "/admins/9000001".to_owned(), Value::Null),
        ("GET", "/admins/1".to_owned(), Value::Null),
        ("GET", "/teams".to_owned(), Value::Null),
        ("POST", "/contacts".to_owned(), email),
        ("GET", format!("/contacts/{contact}"), Value::Null),
        ("PUT", format!("/contacts/{contact}"), json!({ "name": "Ada" })),
        ("GET", "/contacts/find_by_external_id/ada".to_owned(), Value::Null),
        ("POST", "/contacts/search".to_owned(), search),
        ("POST", format!("/contacts/{contact}/archive"), Value::Null),
        ("POST", format!("/contacts/{contact}/unarchive"), Value::Null),
        ("POST", "/conversations".to_owned(), json!({ "from": { "type": "user", "id": contact }, "body": "x" })),
        ("POST", "/conversations/search".to_owned(), open),
        ("GET", format!("/conversations/{id}"), Value::Null),
        ("GET", "/conversations/1".to_owned(), Value::Null),
        ("PUT", format!("/conversations/{id}"), json!({ "read": true, "custom_attributes": { "topic": "x" } })),
        ("POST", format!("/conversations/{id}/reply"), user_reply),
        ("POST", format!("/conversations/{id}/reply"), note),
        ("POST", format!("/conversations/{id}/parts"), assign),
        ("POST", format!("/conversations/{id}/parts"), close),
        ("POST", format!("/conversations/{id}/tags"), json!({ "id": tag, "admin_id": admin })),
        ("DELETE", format!("/conversations/{id}/tags/{tag}"), json!({ "admin_id": admin })),
        ("GET", "/tags".to_owned(), Value::Null),
        ("GET", format!("/tags/{tag}"), Value::Null),
        ("GET", "/data_attributes?model=contact".to_owned(), Value::Null),
        ("POST", "/data_attributes".to_owned(), attribute),
        ("GET", "/conversations/attributes".to_owned(), Value::Null),
        ("DELETE", format!("/conversations/{id}"), Value::Null),
        ("GET", "/conversations/deleted".to_owned(), Value::Null),
    ];
    hold_against(&document, &world, calls.into()).await;
    world.stop().await;
}

#[tokio::test]
async fn our_answers_about_tickets_fit_the_description() {
    let Some(path) = description() else { return };
    let document = Document::shared(&path).expect("the description");
    let world = world().await;
    let (contact, id) = world.opens("One").await;
    let operator = world.sandbox.operator();
    let ticket = operator.creates_ticket(&contact, NewTicket::default()).await;
    operator.moves_ticket_as("user", &ticket, "Waiting on bank").await;
    operator.sets_ticket_attribute(&ticket, "Transaction", json!("T-1")).await;
    operator.assigns_with_reply(&ticket, "Mine now").await;
    operator.snoozes(&ticket, crate::harness::now_s() + 60).await;
    let tag = operator.tags(&ticket, "vip").await;
    let states = world.get("/ticket_states").await.body;
    let admin = json!("9000001");
    let user_reply = json!({ "message_type": "comment", "type": "user", "intercom_user_id": contact, "body": "x" });
    let admin_reply = |kind: &str| json!({ "message_type": kind, "type": "admin", "admin_id": admin, "body": "x" });
    let create = json!({ "ticket_type_id": "2979332", "contacts": [{ "id": contact }], "skip_notifications": true,
        "ticket_attributes": { "_default_title_": "x" }, "assignment": { "admin_assignee_id": "9000002" } });
    let update = json!({ "ticket_state_id": states["data"][0]["id"], "open": true, "is_shared": true, "admin_id": 9_000_001,
        "assignee_id": "9000002", "ticket_attributes": { "Amount": 7 }, "skip_notifications": true });
    let search = json!({ "query": { "operator": "AND", "value": [
        { "field": "contact_ids", "operator": "=", "value": contact },
        { "field": "category", "operator": "=", "value": "request" },
    ] }, "pagination": { "per_page": 1 } });
    let talks = json!({ "query": { "field": "contact_ids", "operator": "=", "value": contact } });
    let calls = [
        ("GET", "/ticket_states".to_owned(), Value::Null),
        ("GET", "/ticket_types".to_owned(), Value::Null),
        ("GET", "/ticket_types/2979330".to_owned(), Value::Null),
        ("POST", "/tickets".to_owned(), create),
        ("GET", format!("/tickets/{ticket}"), Value::Null),
        ("GET", format!("/conversations/{ticket}"), Value::Null),
        ("POST", format!("/tickets/{ticket}/reply"), user_reply),
        ("POST", format!("/tickets/{ticket}/reply"), admin_reply("comment")),
        ("POST", format!("/tickets/{ticket}/reply"), admin_reply("note")),
        ("PUT", format!("/tickets/{ticket}"), update),
        ("PUT", format!("/tickets/{ticket}"), json!({ "ticket_state_id": "1" })),
        ("PUT", format!("/tickets/{ticket}"), json!({ "open": false })),
        (
            "POST",
            format!("/tickets/{ticket}/reply"),
            json!({ "message_type": "comment", "type": "user", "user_id": "ada", "body": "x" }),
        ),
        ("POST", "/tickets/search".to_owned(), search),
        ("POST", "/conversations/search".to_owned(), talks),
        ("POST", format!("/tickets/{ticket}/tags"), json!({ "id": tag, "admin_id": admin })),
        ("DELETE", format!("/tickets/{ticket}/tags/{tag}"), json!({ "admin_id": admin })),
        ("POST", format!("/conversations/{id}/convert"), json!({ "ticket_type_id": "2979332" })),
        ("POST", format!("/conversations/{id}/convert"), json!({ "ticket_type_id": "2979331" })),
        ("DELETE", format!("/tickets/{ticket}"), Value::Null),
    ];
    hold_against(&document, &world, calls.into()).await;
    world.stop().await;
}

/// Every answer, and every request, must fit.
async fn hold_against(document: &Document, world: &World, calls: Vec<(&str, String, Value)>) {
    for (method, path, body) in calls {
        let answer = world.send(method, &path, body).await;
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap_or_default().to_owned())
        };
        let headers: Vec<(String, String)> = answer.headers.iter().map(header).collect();
        let kind = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
        let checked = document.check_response(method, &path, answer.status, kind, &headers, Some(&answer.body));
        let found: Vec<String> = checked.err().unwrap_or_default();
        let found: Vec<&String> =
            found.iter().filter(|what| !LIVE_DIFFERS.iter().any(|part| what.contains(part))).collect();
        assert!(found.is_empty(), "{method} {path}: {found:#?}\n{:#}", answer.body);
    }
    assert_eq!(world.sandbox.violations(), Vec::<String>::new());
}

#[test]
fn the_description_loads_fast_and_every_schema_compiles() {
    let Some(path) = description() else { return };
    let start = Instant::now();
    let document = Document::load(&path).expect("the description");
    // Half a second in a debug build here; the limit only catches a change of kind.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    let operations = document.operations();
    assert!(operations.contains(&("POST".to_owned(), "/conversations/{conversation_id}/reply".to_owned())));
    for (method, path) in operations {
        let found = document.check_request(&method, &path, Some(&json!({}))).err().unwrap_or_default();
        assert!(!found.iter().any(|what| what.contains("unusable")), "{found:?}");
    }
}
