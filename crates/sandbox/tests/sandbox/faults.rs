//! Faults of REST calls: what the caller sees, and what happened nevertheless.

use std::time::{Duration, Instant};

use sandbox::{Fault, Kind, Settings};
use serde_json::{Value, json};

use crate::harness::{Reply, World, now_s, reply, world, world_with};

const REPLY: &str = "/conversations/{id}/reply";

/// A conversation with "1" in it, and what comes of replying "2" under a fault.
async fn replying_under(world: &World, kind: Kind) -> (String, reqwest::Result<Reply>) {
    let (contact, id) = world.opens("1").await;
    world.sandbox.fault(Fault::new(kind).on("POST", REPLY).times(1));
    let result = world.try_send("POST", &format!("/conversations/{id}/reply"), reply(&contact, "2")).await;
    (id, result)
}

#[tokio::test]
async fn a_broken_connection_tells_nothing_of_what_was_applied() {
    for (kind, applied) in [
        (Kind::Refuse, false),
        (Kind::ResetBeforeApply, false),
        (Kind::LostAnswer, true),
        (Kind::TruncatedBody, true),
        (Kind::Hang { ms: 10, applied: true }, true),
        (Kind::Hang { ms: 10, applied: false }, false),
    ] {
        let world = world().await;
        let (id, result) = replying_under(&world, kind.clone()).await;
        let error = result.err().unwrap_or_else(|| panic!("{kind:?} gave an answer"));
        assert!(!error.is_timeout(), "{kind:?}: {error:?}");
        let expected: &[&str] = if applied { &["1", "2"] } else { &["1"] };
        assert_eq!(world.sandbox.contact_parts(&id), expected, "{kind:?}");
        let call = world.sandbox.calls().pop().expect("logged");
        assert_eq!((call.method.as_str(), call.path.ends_with("/reply")), ("POST", true), "{kind:?}");
        assert_eq!(call.status.is_some(), kind == Kind::TruncatedBody, "{kind:?}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_late_application_comes_after_the_connection_is_gone() {
    let world = world().await;
    let (id, result) = replying_under(&world, Kind::AppliedLate { after_ms: 600_000, hang: false }).await;
    assert!(result.is_err());
    assert_eq!(world.sandbox.contact_parts(&id), ["1"], "not yet");
    for _ in 0..2 {
        world.sandbox.apply_late();
        assert_eq!(world.sandbox.contact_parts(&id), ["1", "2"], "once");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_late_application_comes_by_itself_while_the_client_hears_nothing() {
    let world = world().await;
    let start = Instant::now();
    let (id, result) = replying_under(&world, Kind::AppliedLate { after_ms: 150, hang: true }).await;
    assert!(result.is_err());
    assert!(start.elapsed() >= Duration::from_millis(150));
    while world.sandbox.contact_parts(&id) != ["1", "2"] {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_up_does_not_undo_what_is_slow() {
    let world = world().await;
    let (contact, id) = world.opens("1").await;
    world.sandbox.fault(Fault::new(Kind::Slow { ms: 60_000 }).on("POST", REPLY));
    let path = format!("/conversations/{id}/reply");
    let request = world.request("POST", &path).json(&reply(&contact, "2")).timeout(Duration::from_millis(150));
    assert!(request.send().await.expect_err("too slow").is_timeout());
    assert_eq!(world.sandbox.contact_parts(&id), ["1", "2"]);
    world.sandbox.clear_faults();

    world.sandbox.fault(Fault::new(Kind::Slow { ms: 100 }));
    let start = Instant::now();
    assert_eq!(world.replies(&contact, &id, "3").await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    world.stop().await;
}

#[tokio::test]
async fn an_error_answer_may_hide_an_effect_and_may_be_html() {
    for (applied, html) in [(false, false), (true, true)] {
        let world = world().await;
        let (id, result) = replying_under(&world, Kind::Error { status: 503, applied, html }).await;
        let answer = result.expect("an answer");
        assert_eq!(answer.status, 503);
        assert_eq!(world.sandbox.contact_parts(&id).len(), if applied { 2 } else { 1 });
        match html {
            true => assert!(answer.body.as_str().is_some_and(|text| text.starts_with("<html>")), "{}", answer.body),
            false => assert_eq!(answer.body["errors"][0]["code"], "service_unavailable"),
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn a_throttled_call_learns_when_the_window_ends_from_the_headers_alone() {
    let world = world().await;
    let (id, result) = replying_under(&world, Kind::RateLimit { reset_after_s: 7 }).await;
    let answer = result.expect("an answer");
    assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (429, &json!("rate_limit_exceeded")));
    assert!(answer.headers.get("retry-after").is_none());
    assert_eq!(answer.headers["x-ratelimit-remaining"], "0");
    let reset: i64 = answer.headers["x-ratelimit-reset"].to_str().expect("text").parse().expect("seconds");
    assert!((5..=8).contains(&(reset - now_s())), "{reset}");
    assert_eq!(world.sandbox.contact_parts(&id), ["1"]);
    world.stop().await;
}

#[tokio::test]
async fn the_rate_limit_itself_counts_down_to_429() {
    let world = world_with(Settings { rate_limit_per_10s: 3, ..Settings::default() }).await;
    let mut statuses = Vec::new();
    // Seven calls cross at most one end of a window, so at least one is refused.
    for _ in 0..7 {
        let answer = world.get("/me").await;
        statuses.push(answer.status);
        assert_eq!(answer.headers["x-ratelimit-limit"], "3");
    }
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_doubled_post_shows_what_a_checker_must_find() {
    let world = world().await;
    let (id, result) = replying_under(&world, Kind::DoubleApply).await;
    assert_eq!(result.expect("an answer").status, 200);
    assert_eq!(world.sandbox.contact_parts(&id), ["1", "2", "2"]);
    world.stop().await;
}

#[tokio::test]
async fn by_chance_and_with_a_seed_some_calls_fail() {
    let world = world().await;
    world.sandbox.fault(Fault::new(Kind::Error { status: 500, applied: false, html: false }).with_probability(0.5, 1));
    let mut failed = 0;
    for _ in 0..40 {
        failed += u32::from(world.get("/me").await.status == 500);
    }
    assert_eq!(world.sandbox.faults()[0].hits, failed);
    assert!((8..=32).contains(&failed), "{failed}");
    world.stop().await;
}

#[tokio::test]
async fn stopping_frees_the_port_and_ends_hanging_calls() {
    let world = world().await;
    world.sandbox.fault(Fault::new(Kind::Hang { ms: 60_000, applied: false }));
    let (hanging, stopped) = tokio::join!(world.try_send("GET", "/me", Value::Null), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.sandbox.stop().await;
        tokio::net::TcpListener::bind(world.sandbox.url().trim_start_matches("http://")).await
    });
    assert!(hanging.is_err_and(|error| !error.is_timeout()));
    assert!(stopped.is_ok(), "{stopped:?}");
}
