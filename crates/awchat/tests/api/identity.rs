//! Who is asking: forged tokens, other people's ids, and what must stay in here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use awchat::clock::Clock;
use awchat::config::Secret;
use awchat::id::UserId;
use awchat::intercom::signature;
use axum::Router;
use axum::routing::get;
use sandbox::{Fault, Kind, Sandbox};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::child::Process;
use crate::clients::raw;
use crate::harness::{SECRET, World, world};

#[path = "../../src/auth/tests/forge.rs"]
mod forge;

use forge::{Key, base64url, token};

// Tokens.

/// An issuer that publishes its keys, until it is dropped.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    serving: JoinHandle<()>,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("bound"));
        let keys = Arc::new(Mutex::new(json!({ "keys": keys })));
        let published = keys.clone();
        let answer = move || std::future::ready(published.lock().expect("no panic").to_string());
        let router = Router::new().route("/jwks", get(answer));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, keys, serving }
    }

    fn publish(&self, keys: &[Value]) {
        *self.keys.lock().expect("no panic") = json!({ "keys": keys });
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Sound claims with `changes` on top; `null` removes one.
fn claims(now_s: i64, changes: Value) -> Value {
    let mut claims = json!({ "sub": "ada", "iat": now_s, "exp": now_s + 3600 });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

/// A token that does not say when it was issued.
pub(crate) fn unissued(sub: &str, exp: i64) -> String {
    token(&Key::shared(SECRET), &json!({ "alg": "HS256" }), &json!({ "sub": sub, "exp": exp }))
}

fn with(key: &Key, alg: &str, kid: &str, claims: &Value) -> String {
    token(key, &json!({ "alg": alg, "kid": kid }), claims)
}

/// The statuses that a list gets with each token, where they are others than expected.
async fn surprises(world: &World, tokens: Vec<(&str, String)>, expected: u16) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for (name, token) in tokens {
        let answer = world.nobody().bearing(&token).get("/api/conversations").await;
        assert!(!answer.text.contains(&token), "{name}: the token comes back");
        if answer.status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{name}");
        }
        if answer.status != expected {
            found.push((name.to_owned(), answer.status));
        }
    }
    found
}

#[tokio::test]
async fn no_forged_broken_or_outdated_token_opens_anything() {
    let world = world().await;
    let now = world.clock.now_s();
    let own = Key::shared(SECRET);
    let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
    let good = claims(now, json!({}));
    let of = |changes: Value| token(&own, &hs256, &claims(now, changes));
    let under = |header: Value| token(&own, &header, &good);
    let sound = token(&own, &hs256, &good);
    let unsigned = sound.rsplit_once('.').expect("three parts").0.to_owned();
    let altered = {
        let parts: Vec<&str> = sound.split('.').collect();
        let bob = base64url(claims(now, json!({ "sub": "bob" })).to_string().as_bytes());
        format!("{}.{bob}.{}", parts[0], parts[2])
    };
    let refused = vec![
        ("alg none", under(json!({ "alg": "none" }))),
        ("alg None", under(json!({ "alg": "None" }))),
        (
            "alg none, unsigned",
            format!("{}.", token(&own, &json!({ "alg": "none" }), &good).rsplit_once('.').expect("parts").0),
        ),
        ("no alg", under(json!({ "typ": "JWT" }))),
        ("HS384", under(json!({ "alg": "HS384" }))),
        ("HS512", under(json!({ "alg": "HS512" }))),
        ("RS256 under the shared secret", under(json!({ "alg": "RS256" }))),
        ("another secret", token(&Key::shared("another-secret-of-32-bytes-or-more-0"), &hs256, &good)),
        ("an empty secret", token(&Key::shared(" "), &hs256, &good)),
        ("unsigned", format!("{unsigned}.")),
        ("without a signature part", unsigned),
        ("altered claims", altered),
        ("four parts", format!("{sound}.x")),
        ("an empty token's parts", "..".to_owned()),
        ("not base64", "a.b.c".to_owned()),
        ("expired", of(json!({ "iat": now - 7200, "exp": now - 31 }))),
        ("not valid yet", of(json!({ "nbf": now + 31 }))),
        ("issued in the future", of(json!({ "iat": now + 31, "exp": now + 100 }))),
        ("longer than a day", of(json!({ "exp": now + 86_401 }))),
        ("no exp", of(json!({ "exp": null }))),
        ("no sub", of(json!({ "sub": null }))),
        ("exp as text", of(json!({ "exp": (now + 3600).to_string() }))),
        ("exp as true", of(json!({ "exp": true }))),
        ("nbf as text", of(json!({ "nbf": "0" }))),
        ("iat as text", of(json!({ "iat": "0" }))),
        ("sub as a number", of(json!({ "sub": 1 }))),
        ("sub as a list", of(json!({ "sub": ["ada"] }))),
        ("an empty sub", of(json!({ "sub": "" }))),
        ("a sub with a space", of(json!({ "sub": "a b" }))),
        ("a sub with a line", of(json!({ "sub": "ada\nbob" }))),
        ("a long sub", of(json!({ "sub": "x".repeat(129) }))),
        ("claims that are a list", token(&own, &hs256, &json!([good]))),
        ("claims that are no JSON", token(&own, &hs256, &json!("{"))),
        ("crit", under(json!({ "alg": "HS256", "crit": ["exp"] }))),
        ("an empty crit", under(json!({ "alg": "HS256", "crit": [] }))),
        ("another typ", under(json!({ "alg": "HS256", "typ": "JWE" }))),
        ("oversized", of(json!({ "padding": "x".repeat(4096) }))),
    ];
    assert_eq!(surprises(&world, refused, 401).await, [], "accepted");
    let accepted = vec![
        ("sound", sound.clone()),
        ("within the leeway", of(json!({ "exp": now - 29, "iat": now - 3600 }))),
        ("nbf within the leeway", of(json!({ "nbf": now + 29 }))),
        ("at+jwt", under(json!({ "alg": "HS256", "typ": "at+jwt" }))),
        (
            "keys of its own are not looked at",
            under(json!({ "alg": "HS256", "jku": "http://127.0.0.1:9/", "jwk": {}, "x5u": "x", "x5c": ["x"] })),
        ),
    ];
    assert_eq!(surprises(&world, accepted, 200).await, [], "refused");
}

#[tokio::test]
async fn a_token_comes_in_one_header_and_nowhere_else() {
    let world = world().await;
    let sound = world.token("ada");
    let path = "/api/conversations";
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let ada = world.nobody().with("authorization", &format!("{scheme} {sound}"));
        ada.get(path).await.expect(200);
    }
    let twice = format!("Bearer {sound}, Bearer {sound}");
    for value in [&sound, &format!("Basic {sound}"), "Bearer", "Bearer ", &twice, &format!("Token {sound}")] {
        world.nobody().with("authorization", value).get(path).await.expect_error(401, "unauthorized");
    }
    let two = world.user("ada").with("authorization", &format!("Bearer {sound}"));
    two.get(path).await.expect_error(401, "unauthorized");
    for (name, value) in [("cookie", format!("token={sound}")), ("x-authorization", format!("Bearer {sound}"))] {
        world.nobody().with(name, &value).get(path).await.expect_error(401, "unauthorized");
    }
    let in_query = format!("{path}?token={sound}&access_token={sound}&authorization=Bearer%20{sound}");
    world.nobody().get(&in_query).await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn published_keys_confirm_their_own_algorithm_and_no_other() {
    let (rsa, ec, ed, stranger) = (Key::rsa(), Key::ec(), Key::ed(), Key::rsa());
    let published = Key::shared("published-for-everybody-0123456789abcdef");
    let issuer = Issuer::start(&[rsa.jwk("r"), ec.jwk("e"), ed.jwk("d"), published.jwk("s")]).await;
    let world = World::begin(&[("SESSION_JWKS_URL", &issuer.url)], false).await;
    let good = claims(world.clock.now_s(), json!({}));
    let accepted = vec![
        ("RS256", with(&rsa, rsa.algorithm(), "r", &good)),
        ("ES256", with(&ec, ec.algorithm(), "e", &good)),
        ("EdDSA", with(&ed, ed.algorithm(), "d", &good)),
        ("the shared secret beside them", world.token("ada")),
    ];
    assert_eq!(surprises(&world, accepted, 200).await, [], "refused");
    let modulus = rsa.jwk("r")["n"].as_str().expect("text").to_owned();
    let refused = vec![
        ("HS256 under the public key", with(&Key::shared(&rsa.public_pem()), "HS256", "r", &good)),
        ("HS256 under the modulus", with(&Key::shared(&modulus), "HS256", "r", &good)),
        ("HS256 under a published secret", with(&published, "HS256", "s", &good)),
        ("RS256 by a stranger", with(&stranger, "RS256", "r", &good)),
        ("RS256 under the name of an EC key", with(&rsa, "RS256", "e", &good)),
        ("ES256 under the name of an RSA key", with(&ec, "ES256", "r", &good)),
        ("EdDSA under the name of an EC key", with(&ed, "EdDSA", "e", &good)),
        ("RS512 for RS256", with(&rsa, "RS512", "r", &good)),
        ("PS256 for RS256", with(&rsa, "PS256", "r", &good)),
        ("an unknown kid", with(&rsa, "RS256", "../../r", &good)),
        ("an empty kid", with(&rsa, "RS256", "", &good)),
        ("a kid that is no text", token(&rsa, &json!({ "alg": "RS256", "kid": ["r"] }), &good)),
    ];
    assert_eq!(surprises(&world, refused, 401).await, [], "accepted");
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart() {
    let (old, new) = (Key::ec(), Key::ec());
    let issuer = Issuer::start(&[old.jwk("1")]).await;
    let world = World::begin(&[("SESSION_JWKS_URL", &issuer.url)], false).await;
    let now = world.clock.now_s();
    let by = |key: &Key, kid: &str, jti: u32| with(key, "ES256", kid, &claims(now, json!({ "jti": jti.to_string() })));
    let asks = async |token: String| world.nobody().bearing(&token).get("/api/conversations").await.status;
    assert_eq!(asks(by(&old, "1", 1)).await, 200);
    issuer.publish(&[old.jwk("1"), new.jwk("2")]);
    world.clock.advance(60_000);
    assert_eq!(asks(by(&new, "2", 2)).await, 200, "an unknown name is looked up");
    assert_eq!(asks(by(&old, "1", 3)).await, 200, "both hold for a while");
    issuer.publish(&[new.jwk("2")]);
    world.clock.advance(10 * 60_000);
    // Whoever comes first makes the server look; from then on the old key is nobody's.
    asks(by(&new, "2", 4)).await;
    assert_eq!(asks(by(&old, "1", 5)).await, 401, "a key that was taken back is gone");
    assert_eq!(asks(by(&old, "1", 1)).await, 401, "for tokens too that were accepted before");
    assert_eq!(asks(by(&new, "2", 6)).await, 200);
}

#[tokio::test]
async fn issuer_and_audience_are_required_where_they_are_configured() {
    let settings = [("SESSION_JWT_ISSUER", "https://id.example.com"), ("SESSION_JWT_AUDIENCE", "chat")];
    let world = World::begin(&settings, false).await;
    let now = world.clock.now_s();
    let of = |iss: Value, aud: Value| {
        let claims = claims(now, json!({ "iss": iss, "aud": aud }));
        token(&Key::shared(SECRET), &json!({ "alg": "HS256" }), &claims)
    };
    let iss = json!("https://id.example.com");
    let accepted = vec![
        ("one audience", of(iss.clone(), json!("chat"))),
        ("among several", of(iss.clone(), json!(["shop", "chat"]))),
    ];
    assert_eq!(surprises(&world, accepted, 200).await, [], "refused");
    let refused = vec![
        ("no iss", of(Value::Null, json!("chat"))),
        ("another iss", of(json!("https://id.example.com.evil.example"), json!("chat"))),
        ("iss as a list", of(json!(["https://id.example.com"]), json!("chat"))),
        ("no aud", of(iss.clone(), Value::Null)),
        ("another aud", of(iss.clone(), json!("chatter"))),
        ("an empty list", of(iss.clone(), json!([]))),
        ("aud as a number", of(iss, json!(1))),
    ];
    assert_eq!(surprises(&world, refused, 401).await, [], "accepted");
}

// The document's operations: what is new in it is covered here without a line.

struct Operation {
    method: String,
    path: String,
    /// It says that it needs no session.
    public: bool,
    /// An example of its body.
    body: Option<Value>,
}

async fn operations(world: &World) -> Vec<Operation> {
    let document = world.nobody().get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods").iter().filter(|(name, _)| *name != "parameters") {
            let content = &operation["requestBody"]["content"]["application/json"];
            let named = content["examples"].as_object().into_iter().flat_map(|examples| examples.values());
            let mut examples = content.get("example").into_iter().chain(named.map(|example| &example["value"]));
            // Other things' ids are nobody's here.
            let names_others =
                |body: &Value| body.as_object().is_some_and(|body| body.keys().any(|name| name.contains("Id")));
            let body = examples.find(|body| !names_others(body)).cloned();
            // The session is what holds where nothing else is said.
            let public = operation["security"].is_array();
            found.push(Operation { method: method.to_uppercase(), path: path.clone(), public, body });
        }
    }
    found
}

/// Everything that answers without a session token, and why.
const PUBLIC: [(&str, &str); 16] = [
    ("HEAD", "/files/{id}"),           // the same
    ("GET", "/files/{id}"),            // its address is signed
    ("GET", "/health"),                // for load balancers
    ("GET", "/ready"),                 // the same
    ("GET", "/openapi.json"),          // the contract
    ("GET", "/docs"),                  // the same, to read
    ("POST", "/webhooks/intercom"),    // has a signature of its own
    ("HEAD", "/webhooks/intercom"),    // tells nothing
    ("GET", "/admin"),                 // has a token of its own
    ("GET", "/admin/login"),           // the form that takes it
    ("POST", "/admin/login"),          // the same
    ("POST", "/admin/logout"),         // forgets a cookie
    ("GET", "/admin/style.css"),       // how the form looks
    ("POST", "/api/session/telegram"), // Telegram has signed it
    ("GET", "/widget/"),               // a page knows nobody before it has a token
    ("GET", "/widget/v1/aw-chat.js"),  // the same for every page
];

#[tokio::test]
async fn every_operation_needs_a_session_but_for_those_that_are_listed() {
    let world = world().await;
    let operations = operations(&world).await;
    let public: BTreeSet<_> =
        operations.iter().filter(|one| one.public).map(|one| (one.method.as_str(), one.path.as_str())).collect();
    assert_eq!(public, BTreeSet::from(PUBLIC), "what the document calls public is a decision made here");
    let bad =
        token(&Key::shared("another-secret-of-32-bytes-or-more-0"), &json!({ "alg": "HS256" }), &claims(0, json!({})));
    for Operation { method, path, body, .. } in operations.iter().filter(|one| !one.public) {
        let path = path.replace("{id}", "1");
        for body in [body.clone(), None] {
            let nobody = world.nobody();
            nobody.call(method, &path, body.clone()).await.expect_error(401, "unauthorized");
            nobody.bearing(&bad).call(method, &path, body).await.expect_error(401, "unauthorized");
        }
    }
    world.nobody().post("/webhooks/intercom", json!({})).await.expect_error(401, "unauthorized");
}

/// An id of `user`, of the kind that stands in `path`.
async fn id_of(world: &World, user: &str, path: &str) -> String {
    match path.split('/').nth(2) {
        Some("conversations") => world.user(user).opens("Hello").await,
        Some("tickets") => world.user(user).has_ticket(world, "Refund").await,
        Some("files") => {
            let file = world.user(user).uploads("note.txt", b"words").await.expect(201);
            file["id"].as_str().expect("an id").to_owned()
        }
        Some("devices") => {
            let device = json!({ "platform": "mobile", "token": format!("{user}-{}", awchat::id::random()) });
            let answer = world.user(user).post("/api/devices/register", device).await.expect(200);
            answer["id"].as_str().expect("an id").to_owned()
        }
        _ => panic!("{path} is new: say here how its {{id}} comes into being"),
    }
}

/// An answer's status, headers and body, without what names or counts the request.
fn essence(answer: &str) -> (String, Vec<String>, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines().map(str::to_ascii_lowercase);
    let status = lines.next().expect("a status");
    let own = ["x-request-id", "date", "ratelimit-remaining", "ratelimit-reset"];
    let mut headers: Vec<_> = lines
        .map(|line| match line.split(':').next() {
            Some(name) if own.contains(&name) => name.to_owned(),
            _ => line,
        })
        .collect();
    headers.sort();
    let mut body: Value = serde_json::from_str(body).expect("JSON");
    body.as_object_mut().expect("an object").remove("requestId");
    (status, headers, body)
}

#[tokio::test]
async fn what_is_anothers_unknown_or_no_id_at_all_is_the_same_404() {
    let world = world().await;
    let session = world.token("ada");
    let of_documents = operations(&world).await;
    let with_id: Vec<_> = of_documents.iter().filter(|one| one.path.contains("{id}") && !one.public).collect();
    assert!(with_id.len() >= 5, "the document has more of them");
    for Operation { method, path, body, .. } in with_id {
        let (own, bobs) = (id_of(&world, "ada", path).await, id_of(&world, "bob", path).await);
        let ask = async |id: &str| {
            let body = body.as_ref().map(ToString::to_string).unwrap_or_default();
            let target = path.replace("{id}", id);
            let length = body.len();
            let request = format!(
                "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {session}\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            raw(&world, &request).await
        };
        let unknown = essence(&ask("999999999").await);
        assert!(unknown.0.starts_with("http/1.1 404"), "{method} {path}: {unknown:?}");
        assert_eq!(unknown.2["error"], "not_found");
        let others = [
            bobs.clone(),
            format!("0{own}"),
            format!("{own}%20"),
            format!("{own}%0a"),
            format!("{own}%00"),
            format!("{own};x"),
            format!("{own}.json"),
            format!("{own},{bobs}"),
            format!("{own}%2f..%2f{bobs}"),
            format!("..%2f..%2f{own}"),
            format!("..%5c{own}"),
            "..%2f..%2f..%2fhealth".to_owned(),
        ];
        let fixed = [
            "0",
            "-1",
            "1.5",
            "1e3",
            "abc",
            "last",
            "search",
            "redact",
            "null",
            "%20",
            "%00",
            "%ff",
            "%D9%A1",
            "..",
            ".",
            "%2e%2e",
            "%252e%252e",
            "*",
            "'",
            "123456789012345678901",
        ];
        // What is an address of its own is no id.
        let is_id = |id: &&str| !of_documents.iter().any(|other| other.path == path.replace("{id}", id));
        for id in others.iter().map(String::as_str).chain(fixed).filter(is_id) {
            assert_eq!(essence(&ask(id).await), unknown, "{method} {path} of {id}");
        }
        let answer = ask(&own).await;
        assert!(answer.starts_with("HTTP/1.1 20"), "the request itself is sound: {answer}");
    }
    world.work().await;
    for bobs in
        world.user("bob").get("/api/conversations").await.expect(200)["conversations"].as_array().expect("a list")
    {
        assert_eq!((&bobs["state"], &bobs["lastMessage"]["body"]), (&json!("open"), &json!("Hello")), "untouched");
    }
}

// What must stay in here.

/// In everything that a user, an operator or a setting brings; each with a name of its own after it.
const CANARY: &str = "canary7f3a9c";

/// The sandbox's operator.
const OPERATOR: &str = "operator@sandbox.example";

/// A server in a process of its own, whose answers are kept.
struct Watched {
    process: Process,
    http: reqwest::Client,
    /// The bodies of errors, with what was asked.
    errors: Mutex<Vec<String>>,
    /// All bodies, with what was asked.
    answers: Mutex<Vec<String>>,
}

impl Watched {
    /// Asks; the status and the body.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.process.address);
        let mut request = self.http.request(method.parse().expect("a method"), url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let answer = request.send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.expect("a whole body");
        let told = format!("{method} {path}: {status} {headers} {text}");
        // What is asked may itself have a canary.
        let kept = told[told.find(": ").unwrap_or(0)..].to_owned();
        if status >= 400 {
            self.errors.lock().expect("no panic").push(kept.clone());
        }
        self.answers.lock().expect("no panic").push(kept);
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

fn canary(name: &str) -> String {
    format!("{CANARY}-{name}")
}

fn session(secret: &str, user: &str) -> String {
    let claim = |name: &str, value: String| (name.to_owned(), Value::String(value));
    let claims = Map::from_iter([
        claim("name", canary("name")),
        claim("email", format!("{}@example.com", canary("mail"))),
        claim("extra", canary("claim")),
        claim("telegram_id", "777000777000777".to_owned()),
    ]);
    let user = UserId::parse(&canary(user)).expect("a user id");
    awchat::auth::mint(&Secret::new(secret), &user, 3600, &Clock::system(), claims)
}

#[tokio::test]
async fn nothing_private_reaches_the_log_an_error_or_the_wrong_answer() {
    let settings = sandbox::Settings {
        access_token: canary("access-token"),
        client_secret: canary("client-secret-0123456789"),
        ..sandbox::Settings::default()
    };
    let client_secret = settings.client_secret.clone();
    let sandbox = Sandbox::start(settings.clone()).await.expect("the sandbox starts");
    let secret = canary("session-secret-0123456789");
    let own = [
        ("SESSION_JWT_SECRETS", secret.as_str()),
        ("INTERCOM_ACCESS_TOKEN", &settings.access_token),
        ("INTERCOM_CLIENT_SECRET", &settings.client_secret),
        ("FILE_URL_SECRETS", &canary("file-secret-0123456789-0123456789")),
        ("ADMIN_TOKEN", &canary("admin-secret-0123456789")),
        // Nobody is there: what is said of that does not say the password.
        ("REDIS_URL", &format!("redis://:{}@127.0.0.1:1", canary("redis-secret-0123456789"))),
        ("INTERCOM_TIMEOUT_MS", "500"),
        ("SETTLE_MS", "500"),
        ("BREAKER_OPEN_MS", "500"),
    ];
    let process = Process::start(&own, &sandbox).await;
    sandbox.send_webhooks_to(format!("http://{}/webhooks/intercom", process.address));
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let server = Watched { process, http, errors: Mutex::default(), answers: Mutex::default() };

    let token = session(&secret, "ada");
    let bearer = format!("Bearer {token}");
    let chat = converse(&server, &sandbox, &bearer).await;
    judge(&server, &bearer, &chat).await;
    misbehave(&server, &chat, &token).await;
    notify(&server, &sandbox, &chat, &client_secret).await;
    for kind in [
        Kind::Error { status: 500, applied: false, html: false },
        Kind::Error { status: 422, applied: false, html: false },
        Kind::Error { status: 503, applied: true, html: true },
        Kind::TruncatedBody,
        Kind::ResetBeforeApply,
        Kind::RateLimit { reset_after_s: 1 },
        Kind::Refuse,
    ] {
        sandbox.fault(Fault::new(kind));
        write(&server, &bearer, &chat).await;
        let newcomer = format!("Bearer {}", session(&secret, "newcomer"));
        write(&server, &newcomer, &chat).await;
        sandbox.clear_faults();
    }
    sandbox.operator().deletes(&chat).await;
    write(&server, &bearer, &chat).await;

    let (errors, answers) = (server.errors, server.answers);
    let printed = server.process.end();
    assert!(printed.lines().count() > 50, "it logs: {printed}");
    assert!(printed.contains("\"os_version\":\"17.4\""), "diagnostics are for the log: {printed}");
    let private = [
        CANARY,
        "777000777000777",
        OPERATOR,
        token.rsplit('.').next().expect("a signature"),
        token.split('.').nth(1).expect("claims"),
    ];
    let leaks = |text: &str| private.iter().any(|word| text.to_lowercase().contains(&word.to_lowercase()));
    let logged: Vec<&str> = printed.lines().filter(|line| leaks(line)).collect();
    assert!(logged.is_empty(), "in the log: {logged:#?}");
    let told: Vec<String> = errors.into_inner().expect("no panic").into_iter().filter(|text| leaks(text)).collect();
    assert!(told.is_empty(), "in errors: {told:#?}");
    let secrets = [OPERATOR, &canary("note"), "-secret-", "access-token"];
    let shown = |text: &String| secrets.iter().any(|word| text.contains(word));
    let shown: Vec<String> = answers.into_inner().expect("no panic").into_iter().filter(shown).collect();
    assert!(shown.is_empty(), "in answers: {shown:#?}");
}

/// What users say of the support and tell of their devices; and an operator looks at it.
async fn judge(server: &Watched, bearer: &str, chat: &str) {
    let headers = [("authorization", bearer), ("idempotency-key", &canary("judged"))];
    let name = canary("name");
    let init_data = format!("user={name}&auth_date=1&hash={name}");
    for (path, body, status) in [
        ("/api/csat", json!({ "stars": 5, "comment": canary("comment"), "conversationId": chat }), 201),
        ("/api/csat", json!({ "stars": name, "comment": name }), 400),
        ("/api/csat", json!({ "stars": 5, "ticketId": name }), 404),
        ("/api/complaints", json!({ "category": "other", "description": name, "chatId": name, "dialogId": name }), 201),
        ("/api/complaints", json!({ "category": name, "description": name }), 400),
        ("/api/devices/register", json!({ "platform": "mobile", "token": name }), 200),
        ("/api/devices/register", json!({ "platform": name, "token": name }), 400),
        ("/api/devices/register", json!({ "platform": "tma", "token": name, "initData": init_data }), 400),
        ("/api/devices/register", json!({ "platform": "mobile", "token": "t", "locale": format!("{name}!") }), 400),
        (
            "/api/diagnostics",
            json!({ "osVersion": "17.4", "os": format!("{name}@x"), "a": name, (name.clone()): 1 }),
            204,
        ),
        ("/api/diagnostics", json!({ "os": [name] }), 400),
    ] {
        let (answered, text) = server.ask("POST", path, &headers, &body.to_string()).await;
        assert_eq!(answered, status, "{path} {text}");
    }
    let settings = json!({ "chatMessages": name, (name.clone()): name }).to_string();
    assert_eq!(server.ask("PUT", "/api/settings/notifications", &headers, &settings).await.0, 400);
    let admin = format!("Bearer {}", canary("admin-secret-0123456789"));
    let looked = format!("/admin?text={name}&category={name}");
    assert_eq!(server.ask("GET", &looked, &[("authorization", &admin)], "").await.0, 200);
    assert_eq!(server.ask("GET", &looked, &[("authorization", &format!("{admin}{name}"))], "").await.0, 401);
    server.ask("POST", "/admin/login", &[], &format!("token={name}")).await;
}

/// All that goes well; the conversation.
async fn converse(server: &Watched, sandbox: &Sandbox, bearer: &str) -> String {
    let headers = [("authorization", bearer), ("idempotency-key", &canary("key")), ("user-agent", &canary("agent"))];
    let start = json!({
        "body": canary("body"),
        "reason": { "main": canary("topic"), "sub": canary("sub") },
        "meta": { canary("meta"): canary("value") },
    });
    let (status, begun) = server.ask("POST", "/api/conversations", &headers, &start.to_string()).await;
    assert_eq!(status, 201, "{begun}");
    let chat = begun["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/conversations/{chat}");
    let reply = json!({ "body": canary("reply") }).to_string();
    assert_eq!(server.ask("POST", &format!("{path}/reply"), &headers, &reply).await.0, 201);
    sandbox.operator().notes(&chat, &format!("<p>{}</p>", canary("note"))).await;
    sandbox.operator().replies(&chat, &format!("<p>{}</p>", canary("answer"))).await;
    // A note would come with the answer, were it shown.
    loop {
        let (_, poll) = server.ask("GET", &format!("{path}/poll?wait=5&{}", canary("query")), &headers, "").await;
        if poll.to_string().contains("-answer") {
            break;
        }
    }
    for (method, path) in [("GET", "/api/conversations"), ("GET", &path), ("POST", &format!("{path}/read"))] {
        assert_eq!(server.ask(method, path, &headers, "").await.0, 200, "{method} {path}");
    }
    chat
}

/// All that a client can get wrong.
async fn misbehave(server: &Watched, chat: &str, token: &str) {
    let bearer = format!("Bearer {token}");
    let session = ("authorization", bearer.as_str());
    let text = canary("wrong");
    let long = text.repeat(1_000);
    let path = format!("/api/conversations/{chat}");
    for query in ["since", "wait", "limit", "cursor", "scope"] {
        for path in ["/api/conversations", &format!("{path}/poll"), "/ready"] {
            server.ask("GET", &format!("{path}?{query}={text}"), &[session], "").await;
        }
    }
    for body in [
        json!({ "body": { &text: 1 } }).to_string(),
        json!({ "body": long }).to_string(),
        json!({ "body": [text] }).to_string(),
        json!({ "reason": text }).to_string(),
        json!({ "reason": { "main": "", "sub": text } }).to_string(),
        json!({ "reason": { "main": [text] } }).to_string(),
        json!({ "reason": { "main": long } }).to_string(),
        json!({ "body": "x", "meta": { &text: { "a": text } } }).to_string(),
        json!({ "body": "x", "meta": text }).to_string(),
        json!({ "body": "x", "meta": { &text: long } }).to_string(),
        json!({ "body": text, "attachmentIds": [text] }).to_string(),
        json!({ "body": text, "attachmentIds": { &text: text } }).to_string(),
        format!("{{\"body\":\"{text}\",\"body\":\"{text}\"}}"),
        format!("{{\"{text}\":"),
        format!("{{\"body\":\"{text}\"}} {text}"),
        text.clone(),
        format!("\"{text}\""),
        format!("[\"{text}\"]"),
        format!("{}{text}", "[".repeat(200)),
        long.repeat(5),
    ] {
        for path in ["/api/conversations", &format!("{path}/reply")] {
            // A reply ignores what only a new conversation has.
            let (status, told) = server.ask("POST", path, &[session], &body).await;
            assert!(status < 500 && (status >= 400 || path.ends_with("reply")), "{path} {body}: {status} {told}");
        }
    }
    for path in [
        format!("/{text}"),
        format!("/api/conversations/{text}"),
        format!("{path}/{text}"),
        format!("{path}{text}/poll"),
    ] {
        server.ask("GET", &path, &[session, ("x-request-id", &text)], "").await;
    }
    server.ask(&text.replace('-', ""), &path, &[session], "").await;
    server.ask("POST", "/api/conversations", &[session, ("content-type", &text)], &text).await;
    let key = ("idempotency-key", canary("key"));
    let other = json!({ "body": canary("other") }).to_string();
    assert_eq!(server.ask("POST", "/api/conversations", &[session, (key.0, &key.1)], &other).await.0, 422);
    let blank = format!("{text} {text}");
    server.ask("POST", "/api/conversations", &[session, ("idempotency-key", &blank)], &other).await;
    for authorization in [
        format!("Bearer {text}"),
        format!("Basic {text}"),
        format!("{text} {token}"),
        format!("Bearer {token}{text}"),
        format!(
            "Bearer {}",
            self::token(&Key::shared(&text), &json!({ "alg": text, "kid": text }), &json!({ "sub": text }))
        ),
    ] {
        assert_eq!(server.ask("GET", "/api/conversations", &[("authorization", &authorization)], "").await.0, 401);
    }
}

/// Webhooks, genuine and not.
async fn notify(server: &Watched, sandbox: &Sandbox, chat: &str, secret: &str) {
    let text = canary("webhook");
    let part = json!({ "type": "conversation_part", "id": "31337", "part_type": "comment", "body": format!("<p>{text}</p>"),
        "author": { "type": "admin", "id": "1", "name": "Olga", "email": "olga@canary7f3a9c.example" } });
    let item = json!({ "type": "conversation", "id": chat, "conversation_parts": { "conversation_parts": [part] } });
    for body in [
        sandbox.notification("conversation.admin.replied", item.clone()).to_string(),
        sandbox.notification(&text, item).to_string(),
        sandbox.notification("conversation.admin.replied", json!(text)).to_string(),
        sandbox.notification("contact.merged", json!({ "id": text, "external_id": text })).to_string(),
        sandbox.notification("conversation.deleted", json!({ "conversation_id": text })).to_string(),
        json!({ "id": text, "topic": "conversation.admin.replied", "app_id": text }).to_string(),
        json!({ "topic": [text] }).to_string(),
        format!("{{\"{text}\""),
        text.clone(),
    ] {
        let good = signature::sign(secret, body.as_bytes());
        for signature in [good.as_str(), &format!("sha1={text}")] {
            server.ask("POST", "/webhooks/intercom", &[("x-hub-signature", signature)], &body).await;
        }
    }
}

/// Writes that may fail in many ways.
async fn write(server: &Watched, bearer: &str, chat: &str) {
    let path = format!("/api/conversations/{chat}");
    let body = json!({ "body": canary("fate"), "meta": { "build": canary("build") } }).to_string();
    for path in ["/api/conversations".to_owned(), format!("{path}/reply"), format!("{path}/close")] {
        server.ask("POST", &path, &[("authorization", bearer)], &body).await;
    }
}
