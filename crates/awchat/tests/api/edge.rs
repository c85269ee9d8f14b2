//! What every route does alike: who may ask, how often, and the one shape of errors.

use std::time::Duration;

use sandbox::{Fault, Kind};
use serde_json::json;

use crate::harness::{OLD_SECRET, World, world};

#[tokio::test]
async fn without_a_valid_token_nothing_is_answered() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let expired = world.token("ada");
    for (method, path) in [
        ("GET", "/api/conversations".to_owned()),
        ("POST", "/api/conversations".to_owned()),
        ("GET", format!("/api/conversations/{chat}")),
        ("GET", format!("/api/conversations/{chat}/poll")),
        ("POST", format!("/api/conversations/{chat}/read")),
        ("POST", format!("/api/conversations/{chat}/close")),
        ("POST", format!("/api/conversations/{chat}/reply")),
        ("GET", "/api/events".to_owned()),
    ] {
        world.nobody().call(method, &path, None).await.expect_error(401, "unauthorized");
        let bearing = world.nobody().bearing("not.a.token");
        bearing.call(method, &path, None).await.expect_error(401, "unauthorized");
        // A token in the address is no token.
        let path = format!("{path}?token={expired}&access_token={expired}");
        world.nobody().call(method, &path, None).await.expect_error(401, "unauthorized");
    }
    world.clock.advance(3_700_000);
    let message = world.nobody().bearing(&expired).get("/api/conversations").await.expect_error(401, "unauthorized");
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test]
async fn a_token_of_the_old_secret_holds_while_it_is_listed() {
    let world = world().await;
    let ada = awchat::id::UserId::parse("ada").expect("a user id");
    let mint = |secret: &str| {
        awchat::auth::mint(&awchat::config::Secret::new(secret), &ada, 60, &world.clock, serde_json::Map::new())
    };
    world.nobody().bearing(&mint(OLD_SECRET)).get("/api/conversations").await.expect(200);
    let foreign = mint("a-secret-of-somebody-else-0123456789");
    world.nobody().bearing(&foreign).get("/api/conversations").await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn every_error_has_the_one_shape_and_a_request_id() {
    let world = world().await;
    let ada = world.user("ada");
    for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/api", 404, "not_found"),
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/api/conversations/1/nothing", 404, "not_found"),
        ("GET", "/api/conversations/../health", 404, "not_found"),
        ("DELETE", "/api/conversations", 405, "method_not_allowed"),
        ("PUT", "/health", 405, "method_not_allowed"),
    ] {
        let answer = ada.call(method, path, None).await;
        if path.contains("..") {
            continue; // The client resolves it; the raw form is among the malformed ids.
        }
        assert_eq!(answer.json["requestId"].as_str(), answer.header("x-request-id"), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.expect_error(status, code);
    }
    let text = ada.with("content-type", "text/plain").call("POST", "/api/conversations", None).await;
    text.expect_error(400, "bad_request");
    let large = format!("{{\"body\":\"{}\"}}", "x".repeat(70_000));
    world.user("ada").call_raw("POST", "/api/conversations", Some(large)).await.expect_error(400, "bad_request");
    let deep = format!("{{\"body\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let deep = world.user("ada").call_raw("POST", "/api/conversations", Some(deep)).await;
    assert_eq!(deep.status, 400);
}

#[tokio::test]
async fn a_user_who_asks_too_often_waits_and_others_do_not() {
    // Redis has a clock of its own, which cannot be advanced.
    let limits = [("RATE_LIMIT_PER_MINUTE", "60"), ("RATE_LIMIT_BURST", "10"), ("REDIS_URL", "")];
    let world = World::begin(&limits, false).await;
    let ada = world.user("ada");
    for left in (0..10).rev() {
        let answer = ada.get("/api/conversations").await;
        assert_eq!(answer.header("ratelimit-remaining"), Some(left.to_string().as_str()));
        answer.expect(200);
    }
    let refused = ada.get("/api/conversations").await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.expect_error(429, "rate_limited");
    world.user("bob").get("/api/conversations").await.expect(200);
    world.clock.advance(1_000);
    ada.get("/api/conversations").await.expect(200);
    // A new conversation weighs five.
    world.clock.advance(4_000);
    ada.post("/api/conversations", json!({ "body": "x" })).await.expect_error(429, "rate_limited");
    world.clock.advance(1_000);
    ada.post("/api/conversations", json!({ "body": "x" })).await.expect(201);
}

#[tokio::test]
async fn while_intercom_is_down_reads_are_answered_and_writes_say_when_to_come_again() {
    let world = World::begin(&[("INTERCOM_TIMEOUT_MS", "300")], false).await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    world.sandbox.fault(Fault::new(Kind::Refuse));
    for path in [
        "/api/conversations".to_owned(),
        format!("/api/conversations/{chat}"),
        format!("/api/conversations/{chat}/poll"),
    ] {
        ada.get(&path).await.expect(200);
    }
    for (path, body) in [
        (format!("/api/conversations/{chat}/reply"), json!({ "body": "Are you there?" })),
        (format!("/api/conversations/{chat}/close"), json!({})),
        ("/api/conversations".to_owned(), json!({ "body": "Another" })),
    ] {
        let answer = ada.post(&path, body).await;
        let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a Retry-After");
        assert!(wait >= 1);
        answer.expect_error(502, "service_unavailable");
    }
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello"]);
    world.sandbox.clear_faults();
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello"], "nothing is sent later behind the user's back");
}

#[tokio::test]
async fn the_document_is_served_as_json() {
    let world = world().await;
    let document = world.nobody().get("/openapi.json").await.expect(200);
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    assert!(document["paths"]["/api/conversations/{id}/poll"].is_object());
}

#[tokio::test]
async fn every_route_of_the_document_is_there() {
    let world = World::begin(&[("ADMIN_TOKEN", "an-admin-token-for-tests")], false).await;
    let document = world.nobody().get("/openapi.json").await.expect(200);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys().filter(|name| *name != "parameters") {
            let answer = world.nobody().call(&method.to_uppercase(), &path.replace("{id}", "1"), None).await;
            assert!(!matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn browsers_of_the_listed_origins_may_ask() {
    let world = World::begin(&[("CORS_ORIGINS", "https://app.example.com")], false).await;
    let asks = |origin: &'static str| {
        let client = world.user("ada").with("origin", origin);
        async move { client.get("/api/conversations").await.header("access-control-allow-origin").map(str::to_owned) }
    };
    assert_eq!(asks("https://app.example.com").await.as_deref(), Some("https://app.example.com"));
    assert_eq!(asks("https://evil.example.com").await, None);
}
