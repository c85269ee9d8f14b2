//! Metrics: what Prometheus reads, and that the dashboard asks for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use awchat::server;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::child::Process;
use crate::harness::{World, intercom, live, world};

/// A listener for Prometheus beside a world's server.
struct Scraper {
    url: String,
    _stop: DropGuard,
}

/// Values by name and labels, as they stand in the text.
type Metrics = BTreeMap<String, f64>;

impl Scraper {
    async fn beside(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/metrics", listener.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        tokio::spawn(server::measure(listener, world.app.clone(), stop.clone()));
        Self { url, _stop: stop.drop_guard() }
    }

    async fn scrape(&self) -> Metrics {
        parse(&reqwest::get(&self.url).await.expect("an answer").text().await.expect("a text"))
    }
}

fn parse(text: &str) -> Metrics {
    assert!(text.ends_with("# EOF\n"), "the whole of it: {text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(pair).collect()
}

fn of(metrics: &Metrics, name: &str) -> f64 {
    *metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:#?}"))
}

#[tokio::test]
async fn what_happens_is_counted() {
    let world = world().await;
    let scraper = Scraper::beside(&world).await;
    let before = scraper.scrape().await;
    assert_eq!(of(&before, r#"awchat_intercom_circuit{state="closed"}"#), 1.0);
    assert!(!before.contains_key("awchat_intercom_budget_left_ratio"), "Intercom has not said anything yet");
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    for _ in 0..3 {
        ada.polls(&chat, 0).await;
    }
    world.user("bob").get(&format!("/api/conversations/{chat}/poll")).await.expect_error(404, "not_found");
    ada.get("/nowhere/at/all").await.expect_error(404, "not_found");
    let after = scraper.scrape().await;
    let requests = |rest: &str| of(&after, &format!("awchat_requests_total{{{rest}}}"));
    assert_eq!(requests(r#"route="/api/conversations",method="POST",status="201""#), 1.0);
    assert_eq!(requests(r#"route="/api/conversations/{id}/poll",method="GET",status="200""#), 3.0);
    assert_eq!(requests(r#"route="/api/conversations/{id}/poll",method="GET",status="404""#), 1.0);
    assert_eq!(requests(r#"route="(none)",method="GET",status="404""#), 1.0);
    assert_eq!(of(&after, r#"awchat_request_seconds_count{route="/api/conversations/{id}/poll"}"#), 4.0);
    assert_eq!(of(&after, r#"awchat_request_seconds_bucket{le="30.0",route="/api/conversations/{id}/poll"}"#), 4.0);
    assert!(of(&after, r#"awchat_intercom_calls_total{class="write",result="done"}"#) >= 1.0);
    assert!((0.0..1.0).contains(&of(&after, "awchat_intercom_budget_left_ratio")));
    assert_eq!(of(&after, "awchat_heads"), 1.0);
}

#[tokio::test]
async fn what_waits_is_told_with_its_age() {
    let world = world().await;
    let scraper = Scraper::beside(&world).await;
    let chat = world.user("ada").opens("Hello").await;
    world.work().await;
    world.operator().replies(&chat, "Hi").await;
    world.sandbox.webhooks_settled().await;
    world.clock.advance(7_000);
    let metrics = scraper.scrape().await;
    assert_eq!(of(&metrics, r#"awchat_waiting{what="webhooks"}"#), 1.0);
    assert!((7.0..8.0).contains(&of(&metrics, r#"awchat_waiting_seconds{what="webhooks"}"#)));
    assert_eq!(of(&metrics, r#"awchat_waiting{what="journal"}"#), 0.0);
    world.work().await;
    assert_eq!(of(&scraper.scrape().await, r#"awchat_waiting{what="webhooks"}"#), 0.0);
}

#[tokio::test]
async fn long_polls_and_streams_count_while_they_are_open() {
    let world = live().await;
    let scraper = Scraper::beside(&world).await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a time");
    let open = async |name: &str, expected: f64| {
        for _ in 0..200 {
            if of(&scraper.scrape().await, name) == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{name} does not become {expected}");
    };
    let stream = ada.opens_stream("/api/events").await;
    open("awchat_event_streams", 1.0).await;
    drop(stream);
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=30");
    let polling = ada.get(&path);
    tokio::select! {
        _ = polling => panic!("nothing happened"),
        () = open("awchat_long_polls", 1.0) => {}
    }
    // Who hangs up waits no longer.
    open("awchat_long_polls", 0.0).await;
    open("awchat_event_streams", 0.0).await;
}

#[tokio::test]
async fn no_label_tells_who_it_was() {
    let world = world().await;
    let scraper = Scraper::beside(&world).await;
    let ada = world.user("canary-user");
    let chat = ada.opens("canary words").await;
    ada.polls(&chat, 0).await;
    ada.get("/api/files/AAAAAAAAAAAAAAAAAAAAAA?t=canary").await;
    ada.call("CANARY", "/canary", None).await;
    world.work().await;
    let text = reqwest::get(&scraper.url).await.expect("an answer").text().await.expect("a text");
    for word in ["canary", "CANARY", chat.as_str(), "AAAAAAAA"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// The names of metrics in an expression of Prometheus' language.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("awchat_"))
}

fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(expression) = fields.get("expr").and_then(Value::as_str) {
                found.extend(names(expression).map(ToOwned::to_owned));
            }
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_every_metric_and_for_no_other() {
    let world = world().await;
    let scraper = Scraper::beside(&world).await;
    world.user("ada").opens("Hello").await;
    let name = |line: &String| line.split('{').next().unwrap_or_default().to_owned();
    let told: BTreeSet<String> = scraper.scrape().await.keys().map(name).collect();
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../deploy/grafana-dashboard.json")).expect("JSON");
    let mut asked = BTreeSet::new();
    expressions(&dashboard, &mut asked);
    let unknown: Vec<_> = asked.difference(&told).collect();
    assert!(unknown.is_empty(), "the dashboard asks for what there is not: {unknown:?}");
    // Of a histogram, the dashboard needs the buckets alone.
    let own = told.iter().filter(|name| !name.ends_with("_sum") && !name.ends_with("_count"));
    let unasked: Vec<_> = own.filter(|name| !asked.contains(*name)).collect();
    assert!(unasked.is_empty(), "nobody looks at {unasked:?}");
}

#[tokio::test]
async fn the_binary_listens_for_prometheus_where_it_is_told_to() {
    let sandbox = intercom(Default::default()).await;
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let process = Process::start(&[("METRICS_ADDR", &free.to_string())], &sandbox).await;
    let text = reqwest::get(format!("http://{free}/metrics")).await.expect("an answer").text().await.expect("a text");
    assert!(parse(&text).contains_key("awchat_heads"));
    // Not where users are.
    let outside = reqwest::get(format!("http://{}/metrics", process.address)).await.expect("an answer");
    assert_eq!(outside.status(), 404);
    process.end();
}
