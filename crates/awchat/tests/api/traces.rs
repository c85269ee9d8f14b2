//! Traces: what a collector is sent, and that it matters to nobody whether it takes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness;
use crate::process::Server;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The thread that takes traces away; Linux tells fifteen bytes of a name.
const THREAD: &str = "OpenTelemetry.T";

/// A collector, and the bodies that it was sent.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let kept = bodies.clone();
        let take = post(async move |body: Bytes| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(body);
            StatusCode::OK
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().route("/v1/traces", take);
        tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, bodies }
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Spans with the name of their service.
    fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for body in self.bodies() {
            let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
            for resource in request.resource_spans {
                let attributes = resource.resource.expect("a resource").attributes;
                let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
                let service = service.and_then(|service| service.value?.value);
                let Some(any_value::Value::StringValue(service)) = service else { panic!("no name: {service:?}") };
                let of_resource = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(of_resource.map(|span| (service.clone(), span)));
            }
        }
        spans
    }
}

/// A request with a `traceparent`; its status.
async fn traced(server: &Server, (method, path): (&str, &str), body: Option<serde_json::Value>, flag: &str) -> String {
    let url = format!("http://{}{path}", server.config().listen_addr);
    let parent = format!("00-{TRACE}-b7ad6b7169203331-{flag}");
    let mut request = reqwest::Client::new()
        .request(method.parse().expect("a method"), url)
        .bearer_auth(harness::token("canary-user", &Clock::system()))
        .header("traceparent", parent)
        .header("tracestate", "canary=state");
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.text().await.expect("its body")
}

async fn until_gone(server: &mut Server) -> Duration {
    let began = Instant::now();
    server.terminate();
    while server.ended().is_none() {
        assert!(began.elapsed() < Duration::from_secs(25), "it does not go");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

fn log(server: &Server) -> String {
    std::fs::read_to_string(server.folder().join("server.log")).expect("a log")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_requests_with_their_calls_and_nothing_of_anybodys() {
    let collector = Collector::start().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_SERVICE_NAME", "chat-of-tests"),
        // Nothing is sent before the end, by itself.
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let mut server = Server::start(&settings).await;
    assert!(server.threads().iter().any(|name| name == THREAD), "{:?}", server.threads());
    let user = server.user("canary-user");
    let chat = user.opens("canary-opening").await;
    let phone = json!({ "platform": "mobile", "token": "canary-phone" });
    traced(&server, ("POST", "/api/devices/register"), Some(phone), "01").await;
    let reply = format!("/api/conversations/{chat}/reply?canary=query");
    traced(&server, ("POST", &reply), Some(json!({ "body": "canary-reply" })), "01").await;
    traced(&server, ("GET", "/api/tickets"), None, "00").await;
    let polled = user.call("GET", &format!("/api/conversations/{chat}/poll?since=0"), None, None).await;
    let since = polled.expect("an answer").expect(200)["latestTimestamp"].clone();
    traced(&server, ("GET", &format!("/api/conversations/{chat}/poll?since={since}")), None, "01").await;
    server.sandbox.operator().replies(&chat, "canary-answer").await;
    let phones = server.sandbox.phones();
    let waiting = Instant::now();
    while phones.sent().is_empty() {
        assert!(waiting.elapsed() < Duration::from_secs(20), "the telephone is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(collector.bodies().is_empty(), "batches wait");
    until_gone(&mut server).await;

    let spans = collector.spans();
    assert!(spans.iter().all(|(service, _)| service == "chat-of-tests"));
    let named =
        |name: &str| -> Vec<&Span> { spans.iter().map(|(_, span)| span).filter(|span| span.name == name).collect() };
    let names: Vec<&str> = spans.iter().map(|(_, span)| span.name.as_str()).collect();
    let [reply] = named("POST /api/conversations/{id}/reply")[..] else { panic!("one reply: {names:?}") };
    assert_eq!(hex::encode(&reply.trace_id), TRACE);
    assert_eq!(hex::encode(&reply.parent_span_id), "b7ad6b7169203331");
    let sends = named("send message");
    let sends: Vec<_> = sends.iter().filter(|span| span.parent_span_id == reply.span_id).collect();
    let [send] = sends[..] else { panic!("one message: {names:?}") };
    assert!(
        named("intercom POST Write")
            .iter()
            .any(|call| call.parent_span_id == send.span_id && call.trace_id == reply.trace_id),
        "{spans:#?}"
    );
    for name in ["POST /api/devices/register", "POST /webhooks/intercom", "apply webhook", "fcm send"] {
        assert!(!named(name).is_empty(), "{name}: {names:?}");
    }
    assert!(named("GET /api/tickets").is_empty(), "its caller had it not traced");
    let of_caller = |span: &&&Span| hex::encode(&span.trace_id) == TRACE;
    let polls = named("GET /api/conversations/{id}/poll");
    assert_eq!(
        polls.iter().filter(of_caller).count(),
        1,
        "its caller traces it, though memory could answer: {names:?}"
    );
    for body in collector.bodies() {
        let text = String::from_utf8_lossy(&body);
        for secret in ["canary", chat.as_str(), "eyJ", "Bearer"] {
            assert!(!text.contains(secret), "{secret} is in a trace");
        }
    }
    println!("{} spans in {} batches, flushed at the end", spans.len(), collector.bodies().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_hangs_slows_nothing_and_is_told_of_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let down = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    // Connections are taken, and nothing is ever answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hangs = format!("http://{}", silent.local_addr().expect("an address"));
    for url in [down, hangs] {
        let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        let mut server = Server::start(&settings).await;
        let user = server.user("ada");
        let chat = user.opens("Hello").await;
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(8) {
            let asked = Instant::now();
            let path = format!("/api/conversations/{chat}/poll?since=0");
            user.call("GET", &path, None, None).await.expect("an answer").expect(200);
            longest = longest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        let took = until_gone(&mut server).await;
        assert!(took < Duration::from_secs(15), "{took:?}");
        let log = log(&server);
        assert_eq!(log.matches("collector does not take them").count(), 1, "{log}");
        println!("longest poll {} ms, gone after {} ms", longest.as_millis(), took.as_millis());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_of_it_is_there() {
    let server = Server::start(&[("OTEL_SERVICE_NAME", "chat")]).await;
    server.user("ada").opens("Hello").await;
    assert!(!server.threads().iter().any(|name| name == THREAD), "{:?}", server.threads());
}
