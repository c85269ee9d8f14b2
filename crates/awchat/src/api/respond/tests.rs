//! What every answer carries.

use std::sync::LazyLock;

use axum::http::Request;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

fn app(cors_origins: &[&str]) -> Router {
    let settings = Settings {
        cors_origins: cors_origins.iter().map(|origin| (*origin).to_owned()).collect(),
        rate_limit_policy: "60;w=12".to_owned(),
        clock: Clock::manual(0),
        requests: Arc::default(),
    };
    let plain = |status: StatusCode| async move || (status, "plain text");
    let routes = Router::new()
        .route("/api/ok", get(async || "fine"))
        .route("/api/own", get(async || ([(header::CACHE_CONTROL, "private, max-age=60")], "fine")))
        .route("/api/things/{id}", get(async || "fine"))
        .route(
            POLL,
            get(async |path: axum::extract::RawPathParams| match path.iter().next() {
                Some((_, "1")) => Ok("fine"),
                _ => Err(Error::NotFound),
            }),
        )
        .route("/api/post", post(async || "fine"))
        .route("/api/internal", get(async || Error::internal("canary-cause")))
        .route("/api/panic", get(async || -> &'static str { panic!("canary-panic") }))
        .route("/api/unavailable", get(async || Error::Unavailable { retry_after_s: 0, cause: None }))
        .route("/api/413", get(plain(StatusCode::PAYLOAD_TOO_LARGE)))
        .route("/api/422", get(plain(StatusCode::UNPROCESSABLE_ENTITY)))
        .route("/api/416", get(plain(StatusCode::RANGE_NOT_SATISFIABLE)))
        .route("/api/504", get(plain(StatusCode::GATEWAY_TIMEOUT)))
        .route("/api/501", get(plain(StatusCode::NOT_IMPLEMENTED)))
        .route("/ready", get(async || (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({"status": "down"})))));
    layers(routes, &settings)
}

struct Told {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }
}

async fn send(app: &Router, request: Request<Body>) -> Told {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("in memory");
    let text = String::from_utf8_lossy(&body).into_owned();
    Told { status: parts.status.as_u16(), headers: parts.headers, text }
}

async fn ask(app: &Router, method: &str, path: &str) -> Told {
    send(app, Request::builder().method(method).uri(path).body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn every_error_has_the_one_shape() {
    let app = app(&[]);
    let long = format!("/api/ok?{}", "x".repeat(4096));
    let table = [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/nowhere", 404, "not_found"),
        ("DELETE", "/api/ok", 405, "method_not_allowed"),
        ("OPTIONS", "/api/ok", 405, "method_not_allowed"),
        ("GET", "/api/internal", 500, "internal_error"),
        ("GET", "/api/panic", 500, "internal_error"),
        ("GET", "/api/unavailable", 502, "service_unavailable"),
        ("GET", "/api/413", 400, "bad_request"),
        ("GET", "/api/422", 400, "bad_request"),
        ("GET", "/api/416", 416, "bad_request"),
        ("GET", "/api/504", 503, "service_unavailable"),
        ("GET", "/api/501", 500, "internal_error"),
        ("GET", &long, 414, "bad_request"),
    ];
    for (method, path, status, code) in table {
        let told = ask(&app, method, path).await;
        assert_eq!(told.status, status, "{method} {path}");
        assert_eq!(told.headers["content-type"], "application/json");
        assert_eq!(told.headers["content-length"], told.text.len().to_string().as_str());
        let body = told.json();
        assert_eq!(body["error"], code, "{method} {path}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(body["requestId"].as_str().map(str::as_bytes), Some(told.headers["x-request-id"].as_bytes()));
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(3));
        assert!(!told.text.contains("canary") && !told.text.contains("plain text"), "{}", told.text);
        assert_eq!(told.headers.contains_key("retry-after"), matches!(status, 502 | 503), "{method} {path}");
    }
    assert!(ask(&app, "DELETE", "/api/ok").await.headers["allow"].to_str().is_ok_and(|allow| allow.contains("GET")));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let app = app(&[]);
    let wide = Request::get("/api/ok").header("x", "y".repeat(16 * 1024));
    assert_eq!(send(&app, wide.body(Body::empty()).expect("a request")).await.status, 431);
    let many = (0..65).fold(Request::get("/api/ok"), |request, at| request.header(format!("x-{at}"), "y"));
    let told = send(&app, many.body(Body::empty()).expect("a request")).await;
    assert_eq!((told.status, told.json()["error"].clone()), (431, json!("bad_request")));
}

#[tokio::test]
async fn every_answer_carries_an_id_of_its_own_and_the_security_headers() {
    let app = app(&[]);
    let mut ids = Vec::new();
    for path in ["/api/ok", "/nowhere", "/api/panic", "/ready"] {
        let request = Request::get(path).header("x-request-id", "the-clients");
        let told = send(&app, request.body(Body::empty()).expect("a request")).await;
        let id = told.headers["x-request-id"].to_str().expect("ASCII").to_owned();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(told.headers["x-content-type-options"], "nosniff");
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(ask(&app, "GET", "/api/ok").await.headers["cache-control"], "no-store");
    assert_eq!(ask(&app, "GET", "/api/own").await.headers["cache-control"], "private, max-age=60");
}

#[tokio::test]
async fn our_own_json_passes_as_it_is() {
    let told = ask(&app(&[]), "GET", "/ready").await;
    assert_eq!((told.status, told.json()), (503, json!({"status": "down"})));
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let app = app(&[]);
    for (path, status) in [("/api/ok", 200), ("/nowhere", 404), ("/api/post", 405)] {
        let told = ask(&app, "HEAD", path).await;
        assert_eq!((told.status, told.text.as_str()), (status, ""), "{path}");
        assert!(told.headers.contains_key("x-request-id"));
    }
}

#[tokio::test]
async fn a_listed_origin_may_call_from_a_browser_and_no_other() {
    let app = app(&["https://app.example.com"]);
    let preflight = |origin: &str| {
        let request = Request::options("/api/post").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "authorization,content-type,idempotency-key");
        request.body(Body::empty()).expect("a request")
    };
    let told = send(&app, preflight("https://app.example.com")).await;
    assert_eq!(
        (told.status, &told.headers["access-control-allow-origin"]),
        (200, &HeaderValue::from_static("https://app.example.com"))
    );
    assert_eq!(told.headers["access-control-max-age"], "7200");
    assert!(told.headers["access-control-allow-headers"].to_str().is_ok_and(|names| names.contains("idempotency-key")));
    assert!(!told.headers.contains_key("access-control-allow-credentials"));
    assert!(!send(&app, preflight("https://evil.example")).await.headers.contains_key("access-control-allow-origin"));

    for path in ["/api/ok", "/api/panic", "/nowhere"] {
        let request = Request::get(path).header("origin", "https://app.example.com");
        let told = send(&app, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(told.headers["access-control-allow-origin"], "https://app.example.com", "{path}");
        let exposed = told.headers["access-control-expose-headers"].to_str().expect("ASCII").to_ascii_lowercase();
        for name in [
            "retry-after",
            "x-request-id",
            "ratelimit-limit",
            "ratelimit-remaining",
            "ratelimit-reset",
            "idempotent-replayed",
            "aw-poll",
        ] {
            assert!(exposed.contains(name), "{name} in {exposed}");
        }
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// What this thread logs until the guard is dropped.
    fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        // Alone, a subscriber is asked about a line by whoever comes to it first: were that another test's thread, which has
        // none, the line would be nobody's for good. Beside another one, all are asked.
        static BESIDE: LazyLock<tracing::Dispatch> =
            LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&BESIDE);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_poll_leaves_a_line_if_it_fails() {
    let app = app(&[]);
    let (log, guard) = Log::of_this_thread();
    let answered = ask(&app, "GET", "/api/conversations/1/poll").await;
    let refused = ask(&app, "GET", "/api/conversations/2/poll").await;
    drop(guard);
    assert_eq!((answered.status, refused.status), (200, 404));
    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("UTF-8");
    let line: Value = serde_json::from_str(&text).expect("one line");
    assert_eq!(line["fields"]["status"], 404);
}

#[tokio::test]
async fn a_request_leaves_one_line_without_path_query_or_headers() {
    let app = app(&[]);
    let (log, guard) = Log::of_this_thread();
    let request = Request::get("/api/things/canary-id?t=canary-query").header("authorization", "Bearer canary-token");
    let told = send(&app, request.body(Body::empty()).expect("a request")).await;
    let failed = ask(&app, "GET", "/api/internal").await;
    drop(guard);

    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "one for each request, and one for the cause of the 500: {text}");
    let fields = &lines[0]["fields"];
    assert_eq!((&fields["method"], &fields["route"]), (&json!("GET"), &json!("/api/things/{id}")));
    assert_eq!((&fields["status"], &fields["ms"]), (&json!(200), &json!(0)));
    assert_eq!(fields["request_id"].as_str().map(str::as_bytes), Some(told.headers["x-request-id"].as_bytes()));
    for canary in ["canary-id", "canary-query", "canary-token"] {
        assert!(!text.contains(canary), "{canary} in {text}");
    }
    // The cause is logged, under the id that the client is told.
    assert_eq!(lines[1]["fields"]["cause"], "canary-cause");
    assert_eq!(lines[1]["span"]["id"], failed.json()["requestId"]);
}
