//! Tokens of an issuer that publishes its keys.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

/// An issuer on a local port: what it answers can be changed, and its requests are counted.
#[derive(Clone)]
struct Issuer {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    requests: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("bound"));
        let issuer = Self { url, answer: Arc::default(), requests: Arc::default() };
        issuer.publish(keys);
        let of_route = issuer.clone();
        let route = get(async move || {
            of_route.requests.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            of_route.answer.lock().expect("no panic").clone()
        });
        let app = Router::new().route("/jwks", route);
        tokio::spawn(async move { axum::serve(listener, app).await });
        issuer
    }

    fn answer(&self, status: StatusCode, body: String) {
        *self.answer.lock().expect("no panic") = (status, body);
    }

    fn publish(&self, keys: &[Value]) {
        self.answer(StatusCode::OK, json!({ "keys": keys }).to_string());
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn authenticator(&self) -> (Authenticator, Clock) {
        authenticator(&[("SESSION_JWKS_URL", &self.url)])
    }
}

fn signed(key: &Key, kid: &str) -> String {
    token(key, &json!({"alg": key.algorithm(), "kid": kid}), &claims(json!({})))
}

/// Another token of the same key, which no cache knows.
fn again(key: &Key, kid: &str, jti: u32) -> String {
    token(key, &json!({"alg": key.algorithm(), "kid": kid}), &claims(json!({"jti": jti.to_string()})))
}

#[tokio::test]
async fn published_keys_of_each_family_are_accepted_and_fetched_once() {
    let (rsa, ec, ed) = (Key::rsa(), Key::ec(), Key::ed());
    let issuer = Issuer::start(&[rsa.jwk("r"), ec.jwk("e"), ed.jwk("d")]).await;
    let (auth, _) = issuer.authenticator();
    for (key, kid) in [(&rsa, "r"), (&ec, "e"), (&ed, "d")] {
        assert_eq!(refusal(&auth, &signed(key, kid)).await, "accepted", "{kid}");
        let nameless = token(key, &json!({"alg": key.algorithm()}), &claims(json!({})));
        assert_eq!(refusal(&auth, &nameless).await, "accepted", "{kid} without its name");
    }
    assert_eq!(refusal(&auth, &good()).await, "accepted", "shared secrets hold beside them");
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_key_confirms_its_own_algorithm_only() {
    let (rsa, ec, ed, stranger) = (Key::rsa(), Key::ec(), Key::ed(), Key::rsa());
    let secret = Key::shared("published-for-everybody-0123456789abcdef");
    let issuer = Issuer::start(&[rsa.jwk("r"), ec.jwk("e"), ed.jwk("d"), secret.jwk("s")]).await;
    let (auth, _) = issuer.authenticator();
    let with = |key: &Key, alg: &str, kid: &str| token(key, &json!({"alg": alg, "kid": kid}), &claims(json!({})));
    let pem = Key::shared(&rsa.public_pem());
    let modulus = Key::shared(rsa.jwk("r")["n"].as_str().expect("text"));
    let table = [
        (with(&pem, "HS256", "r"), "token signature invalid"),
        (with(&modulus, "HS256", "r"), "token signature invalid"),
        (with(&secret, "HS256", "s"), "token signature invalid"),
        (with(&secret, "RS256", "s"), "token kid unknown"),
        (with(&stranger, "RS256", "r"), "token signature invalid"),
        (with(&rsa, "RS256", "e"), "token algorithm not accepted"),
        (with(&ec, "ES256", "r"), "token algorithm not accepted"),
        (with(&ed, "ES256", "e"), "token signature invalid"),
        (with(&ed, "EdDSA", "e"), "token algorithm not accepted"),
        (with(&rsa, "PS256", "r"), "token algorithm not accepted"),
        (with(&rsa, "RS512", "r"), "token algorithm not accepted"),
        (with(&rsa, "RS256", "unknown"), "token kid unknown"),
        (with(&rsa, "RS256", ""), "token kid unknown"),
    ];
    for (at, (token, expected)) in table.into_iter().enumerate() {
        assert_eq!(refusal(&auth, &token).await, expected, "row {at}");
    }
}

#[tokio::test]
async fn keys_that_are_not_for_signatures_are_skipped() {
    let (rsa, ec) = (Key::rsa(), Key::ec());
    let (mut for_encryption, mut for_another) = (rsa.jwk("enc"), ec.jwk("other"));
    for_encryption["use"] = json!("enc");
    for_another["alg"] = json!("ES384");
    let odd = [json!(1), json!({"kty": "RSA"}), json!({"kty": "future", "kid": "f"}), rsa.jwk("r")];
    let issuer = Issuer::start(&[[for_encryption, for_another].as_slice(), &odd].concat()).await;
    let (auth, _) = issuer.authenticator();
    assert_eq!(refusal(&auth, &signed(&rsa, "r")).await, "accepted");
    assert_eq!(refusal(&auth, &signed(&rsa, "enc")).await, "token kid unknown");
    assert_eq!(refusal(&auth, &signed(&ec, "other")).await, "token kid unknown");
}

#[tokio::test]
async fn an_unknown_kid_asks_the_issuer_once_a_minute() {
    let (first, second) = (Key::ed(), Key::ed());
    let issuer = Issuer::start(&[first.jwk("1")]).await;
    let (auth, clock) = issuer.authenticator();
    assert_eq!(refusal(&auth, &signed(&first, "1")).await, "accepted");
    issuer.publish(&[first.jwk("1"), second.jwk("2")]);
    for _ in 0..5 {
        assert_eq!(refusal(&auth, &signed(&second, "2")).await, "token kid unknown");
    }
    assert_eq!(issuer.requests(), 1);
    clock.advance(60_000);
    assert_eq!(refusal(&auth, &signed(&second, "2")).await, "accepted");
    for at in 0..5 {
        assert_eq!(refusal(&auth, &signed(&second, &format!("made-up-{at}"))).await, "token kid unknown");
    }
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn callers_share_one_fetch() {
    let key = Key::ed();
    let issuer = Issuer::start(&[key.jwk("1")]).await;
    let (auth, _) = issuer.authenticator();
    let tokens: Vec<_> = (0..20).map(|jti| again(&key, "1", jti)).collect();
    let all = futures_util::future::join_all(tokens.iter().map(|token| refusal(&auth, token))).await;
    assert!(all.iter().all(|told| *told == "accepted"), "{all:?}");
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn keys_are_kept_for_a_day_while_the_issuer_is_down_and_renewed_when_it_is_back() {
    let (old, new) = (Key::ed(), Key::ed());
    let issuer = Issuer::start(&[old.jwk("1")]).await;
    let (auth, clock) = issuer.authenticator();
    // Lives longer than the keys, so that its own time is not what is tested.
    let lasting = |jti: u32| {
        let header = json!({"alg": "EdDSA", "kid": "1"});
        token(&old, &header, &claims(json!({"exp": NOW_S + 72 * HOUR, "jti": jti.to_string()})))
    };
    assert_eq!(refusal(&auth, &lasting(0)).await, "accepted");

    issuer.answer(StatusCode::INTERNAL_SERVER_ERROR, "down".into());
    clock.advance(23 * HOUR * 1000);
    assert_eq!(refusal(&auth, &lasting(1)).await, "accepted", "stale keys do");
    assert_eq!(issuer.requests(), 2);
    clock.advance(HOUR * 1000);
    let unknown = auth.verify_token(&lasting(2)).await;
    assert!(matches!(unknown, Err(Error::Unavailable { .. })), "after a day they do not: {unknown:?}");

    issuer.publish(&[new.jwk("2")]);
    clock.advance(5_000);
    assert_eq!(refusal(&auth, &lasting(3)).await, "token kid unknown", "a key that was taken back is gone");
}

#[tokio::test]
async fn a_remembered_token_does_not_outlive_its_key_for_long() {
    let key = Key::ed();
    let issuer = Issuer::start(&[key.jwk("1")]).await;
    let (auth, clock) = issuer.authenticator();
    let token = signed(&key, "1");
    assert_eq!(refusal(&auth, &token).await, "accepted");
    issuer.publish(&[]);
    clock.advance(CACHED_FOR_S * 1000);
    assert_eq!(refusal(&auth, &token).await, "token kid unknown");
}

#[tokio::test]
async fn a_document_that_is_too_large_or_no_key_set_is_refused() {
    let key = Key::ed();
    let many: Vec<_> = (0..33).map(|at| key.jwk(&at.to_string())).collect();
    let long = json!({"keys": [key.jwk("1")], "padding": "x".repeat(64 * 1024)}).to_string();
    let table = [
        (StatusCode::OK, json!({ "keys": many }).to_string()),
        (StatusCode::OK, long),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::FOUND, String::new()),
        (StatusCode::NOT_FOUND, json!({"keys": [key.jwk("1")]}).to_string()),
    ];
    for (status, document) in table {
        let issuer = Issuer::start(&[]).await;
        issuer.answer(status, document);
        let (auth, _) = issuer.authenticator();
        let told = auth.verify_token(&signed(&key, "1")).await;
        assert!(matches!(told, Err(Error::Unavailable { .. })), "{status}: {told:?}");
        let told = auth.verify_token(&signed(&key, "1")).await;
        assert!(told.is_err() && issuer.requests() == 1, "it is not asked again at once");
    }
}
