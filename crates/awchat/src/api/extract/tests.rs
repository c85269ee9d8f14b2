//! What extractors take and refuse.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::*;
use crate::api::respond;
use crate::auth::Authenticator;
use crate::auth::mint;
use crate::clock::Clock;
use crate::config::Config;
use crate::id::UserId;
use crate::shared::Shared;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rating {
    stars: u8,
    topic: Option<Topic>,
    #[serde(default)]
    attachment_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    main: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<u32>,
}

fn told(result: Result<Rating>) -> (StatusCode, &'static str, String) {
    let error = result.expect_err("refused");
    let (status, code) = error.status_and_code();
    (status, code, error.to_string())
}

#[test]
fn a_refused_body_names_the_field_and_the_rule_but_not_the_value() {
    let table = [
        (r#"{}"#, "validation_error", "stars: is required"),
        (r#"{"stars":"canary"}"#, "validation_error", "stars: must be an integer in range"),
        (r#"{"stars":7.5}"#, "validation_error", "stars: must be an integer in range"),
        (r#"{"stars":300}"#, "validation_error", "stars: must be an integer in range"),
        (r#"{"stars":1,"topic":{}}"#, "validation_error", "topic.main: is required"),
        (r#"{"stars":1,"topic":{"main":["canary"]}}"#, "validation_error", "topic.main: must be a string"),
        (r#"{"stars":1,"attachmentIds":["a",1]}"#, "validation_error", "attachmentIds[1]: must be a string"),
        (r#""canary""#, "validation_error", "the input: must be an object"),
        ("[5]", "validation_error", "the body must be a JSON object"),
        (
            r#"{"stars":1,"topic":{"main":"can\u0000ary"}}"#,
            "validation_error",
            "topic.main: must not contain a NUL character",
        ),
        (r#"{"stars":1,"other":[1,["\u0000"]]}"#, "validation_error", "other[1][0]: must not contain a NUL character"),
        (
            r#"{"stars":1,"can\u0000ary":2}"#,
            "validation_error",
            "the name of a member: must not contain a NUL character",
        ),
        (r#"{"stars":1,"stars":2}"#, "validation_error", "stars: must be given once"),
        ("", "bad_request", "the body is not valid JSON (line 1, column 0)"),
        (r#"{"stars":1"#, "bad_request", "the body is not valid JSON (line 1, column 10)"),
        (r#"{"stars":1} canary"#, "bad_request", "the body is not valid JSON (line 1, column 13)"),
    ];
    for (body, code, message) in table {
        assert_eq!(told(parse(body.as_bytes())), (StatusCode::BAD_REQUEST, code, message.to_owned()), "{body}");
    }
    let unicode = [b"{\"stars\":1,\"topic\":{\"main\":\"".as_slice(), &[0xff], b"\"}}"].concat();
    assert_eq!(told(parse(&unicode)).1, "bad_request");
}

#[test]
fn a_sound_body_is_taken_and_unknown_fields_are_ignored() {
    let rating: Rating = parse(br#"{"stars":5,"topic":{"main":"a"},"more":{"x":[1]}}"#).expect("sound");
    assert_eq!((rating.stars, rating.topic.expect("given").main.as_str()), (5, "a"));
    assert!(rating.attachment_ids.is_empty());
}

#[test]
fn nesting_is_counted_outside_of_strings() {
    let table = [("1", 0), ("{}", 1), ("[[],[[]]]", 3), (r#""[[[[""#, 0), (r#"["\"[[", "\\", [1]]"#, 2), ("]]]][", 1)];
    for (json, depth_expected) in table {
        assert_eq!(depth(json.as_bytes()), depth_expected, "{json}");
    }
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    assert_eq!(told(parse(deep.as_bytes())).2, "the body must not be nested deeper than 32");
}

#[test]
fn an_idempotency_key_is_bare_or_quoted() {
    let long = "k".repeat(255);
    let good: [(&[&str], Option<&str>); 5] = [
        (&[], None),
        (&["abc-123"], Some("abc-123")),
        (&["\"abc-123\""], Some("abc-123")),
        (&["a,b;c"], Some("a,b;c")),
        (&[&long], Some(&long)),
    ];
    for (values, key) in good {
        assert_eq!(idempotency_key(&keys(values)).expect("taken").as_deref(), key, "{values:?}");
    }
    let too_long = "k".repeat(256);
    let bad: [&[&str]; 9] =
        [&[""], &["\"\""], &["\""], &["\"abc"], &["abc\""], &["a b"], &["ключ"], &[&too_long], &["a", "a"]];
    for values in bad {
        let refused = idempotency_key(&keys(values)).expect_err("refused");
        assert_eq!(refused.status_and_code().1, "validation_error", "{values:?}");
    }
}

fn keys(values: &[&str]) -> HeaderMap {
    let value = |text: &&str| axum::http::HeaderValue::from_bytes(text.as_bytes()).expect("a header's bytes");
    values.iter().map(|text| (IDEMPOTENCY_KEY, value(text))).collect()
}

// ---- over HTTP ----

struct World {
    app: Router,
    config: Config,
    clock: Clock,
}

fn world(settings: &'static [(&'static str, &'static str)]) -> World {
    let find = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let config = Config::for_tests(&find);
    let clock = Clock::manual(1_800_000_000_000);
    let limits = Limits::new(&config, Shared::default(), clock.clone());
    let layers = respond::Settings {
        cors_origins: Vec::new(),
        rate_limit_policy: limits.policy(),
        clock: clock.clone(),
        requests: Arc::default(),
    };
    let edge = Arc::new(Edge { auth: Authenticator::new(&config, clock.clone()), limits });
    let routes = Router::new()
        .route("/api/me", get(async |user: User| user.id.as_str().to_owned()))
        .route("/api/costly", post(async |Costly(user): Costly| user.id.as_str().to_owned()))
        .route("/api/things/{id}", get(async |_: User, id: Path<ConversationId>| id.as_str().to_owned()))
        .route("/api/list", get(async |Query(page): Query<Page>| page.limit.unwrap_or(20).to_string()))
        .route("/api/rate", post(async |Json(rating): Json<Rating>| rating.stars.to_string()))
        .route("/api/maybe", post(async |body: Option<Json<Topic>>| body.is_some().to_string()))
        .route("/where", get(async |_: State<Arc<Edge>>, ClientAddress(address): ClientAddress| address.to_string()));
    World { app: respond::layers(routes, &layers).with_state(edge), config, clock }
}

impl World {
    fn token(&self, sub: &str) -> String {
        let sub = UserId::parse(sub).expect("a user id");
        mint(&self.config.session.secrets[0], &sub, 3600, &self.clock, Map::new())
    }

    async fn send(&self, request: Request) -> (StatusCode, HeaderMap, String) {
        let response = self.app.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("in memory");
        (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, path: &str, token: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, path: &str, kind: Option<&str>, body: impl Into<Body>) -> (StatusCode, Value) {
        let mut request = Request::post(path);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let (status, _, body) = self.send(request.body(body.into()).expect("a request")).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }
}

#[tokio::test]
async fn a_user_is_a_verified_token_and_a_counted_request() {
    let world = world(&[("RATE_LIMIT_PER_MINUTE", "60"), ("RATE_LIMIT_BURST", "7")]);
    let (ada, bob) = (world.token("ada"), world.token("bob"));
    let (status, headers, body) = world.get("/api/me", &ada).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ada"));
    assert_eq!(headers["ratelimit-limit"], "7");
    assert_eq!(headers["ratelimit-remaining"], "6");
    assert_eq!(headers["ratelimit-reset"], "1");
    assert_eq!(headers["ratelimit-policy"], "7;w=7");

    let costly = Request::post("/api/costly").header("authorization", format!("bearer {ada}"));
    let (status, headers, _) = world.send(costly.body(Body::empty()).expect("a request")).await;
    assert_eq!((status, headers["ratelimit-remaining"].as_bytes()), (StatusCode::OK, b"1".as_slice()));

    world.get("/api/me", &ada).await;
    let (status, headers, body) = world.get("/api/me", &ada).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (headers["retry-after"].as_bytes(), headers["ratelimit-remaining"].as_bytes()),
        (b"1".as_slice(), b"0".as_slice())
    );
    assert!(body.contains("\"rate_limited\""), "{body}");
    assert_eq!(world.get("/api/me", &bob).await.0, StatusCode::OK, "another's requests are not counted");
    world.clock.advance(1000);
    assert_eq!(world.get("/api/me", &ada).await.0, StatusCode::OK);
}

#[tokio::test]
async fn without_a_session_nothing_else_is_looked_at() {
    let world = world(&[]);
    let (status, headers, body) = world.get("/api/things/not-an-id", "nonsense").await;
    assert_eq!((status, headers["www-authenticate"].as_bytes()), (StatusCode::UNAUTHORIZED, b"Bearer".as_slice()));
    assert!(body.contains("\"token malformed\""), "{body}");
    assert!(!headers.contains_key("ratelimit-limit"));
}

#[tokio::test]
async fn an_address_that_keeps_failing_has_to_wait_and_others_have_not() {
    let world = world(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let ask = |token: String, address: &str| {
        let request = Request::get("/api/me").header("authorization", format!("Bearer {token}"));
        world.send(request.header("x-forwarded-for", address).body(Body::empty()).expect("a request"))
    };
    for _ in 0..100 {
        assert_eq!(ask("x".into(), "198.51.100.7").await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(ask("x".into(), "198.51.100.7").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask("x".into(), "198.51.100.8").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(world.token("ada"), "198.51.100.7").await.0, StatusCode::OK, "who has a session is not held up");
}

#[tokio::test]
async fn a_malformed_id_is_an_unknown_one() {
    let world = world(&[]);
    let token = world.token("ada");
    assert_eq!(world.get("/api/things/42", &token).await.2, "42");
    for id in ["last", "%2e%2e", "1%2F2", "%ff", "123456789012345678901", "4x"] {
        let (status, _, body) = world.get(&format!("/api/things/{id}"), &token).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{id}");
        assert!(body.starts_with(r#"{"error":"not_found","message":"not found","requestId":""#), "{body}");
    }
}

#[tokio::test]
async fn a_refused_parameter_is_named() {
    let world = world(&[]);
    assert_eq!(world.get("/api/list?limit=5&more=1", "").await.2, "5");
    for query in ["limit=canary", "limit=-1", "limit=1&limit=2", "limit="] {
        let (status, _, body) = world.get(&format!("/api/list?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body.contains("validation_error") && body.contains("limit"), "{query}: {body}");
        assert!(!body.contains("canary"), "{body}");
    }
}

#[tokio::test]
async fn a_body_is_json_and_short() {
    let world = world(&[]);
    let good = r#"{"stars":5}"#;
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        assert_eq!(world.post("/api/rate", Some(kind), good).await, (StatusCode::OK, json!(5)), "{kind}");
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")] {
        let (status, body) = world.post("/api/rate", kind, good).await;
        assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("bad_request")), "{kind:?}");
    }
    let padded = |bytes: usize| format!("{good}{}", " ".repeat(bytes - good.len()));
    let json_kind = Some("application/json");
    assert_eq!(world.post("/api/rate", json_kind, padded(MAX_JSON_BYTES)).await.0, StatusCode::OK);
    let (status, body) = world.post("/api/rate", json_kind, padded(MAX_JSON_BYTES + 1)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        (&body["error"], &body["message"]),
        (&json!("bad_request"), &json!("the body must not be longer than 65536 bytes"))
    );
}

#[tokio::test]
async fn a_body_may_be_absent_where_it_is_optional() {
    let world = world(&[]);
    assert_eq!(world.post("/api/maybe", None, "").await, (StatusCode::OK, json!(false)));
    let given = world.post("/api/maybe", Some("application/json"), r#"{"main":"a"}"#).await;
    assert_eq!(given, (StatusCode::OK, json!(true)));
    assert_eq!(world.post("/api/maybe", None, r#"{"main":"a"}"#).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_client_behind_a_proxy_has_its_own_address() {
    let world = world(&[("TRUSTED_PROXIES", "127.0.0.0/8")]);
    let request = Request::get("/where").header("x-forwarded-for", "1.1.1.1, 198.51.100.7");
    assert_eq!(world.send(request.body(Body::empty()).expect("a request")).await.2, "198.51.100.7");
}
