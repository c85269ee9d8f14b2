//! The attacks on session tokens, as tables.

use axum::http::HeaderValue;
use serde_json::json;

use super::*;

mod forge;
mod key_set;

use forge::{Key, base64url, token};

const NEW: &str = "the-new-session-secret-0123456789abcdef";
const OLD: &str = "the-old-session-secret-0123456789abcdef";
const NOW_S: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// A configuration with two shared secrets and `settings`.
fn config(settings: &[(&str, &str)]) -> Config {
    let secrets = format!("{NEW},{OLD}");
    let set = |name: &str| {
        let given = settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        given.or_else(|| (name == "SESSION_JWT_SECRETS").then(|| secrets.clone()))
    };
    Config::for_tests(&set)
}

fn authenticator(settings: &[(&str, &str)]) -> (Authenticator, Clock) {
    let clock = Clock::manual(NOW_S * 1000);
    (Authenticator::new(&config(settings), clock.clone()), clock)
}

fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

/// Sound claims with `changes` on top; `null` removes one.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"sub": "ada", "exp": NOW_S + HOUR});
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn good() -> String {
    token(&Key::shared(NEW), &hs256(), &claims(json!({})))
}

async fn refusal(auth: &Authenticator, token: &str) -> &'static str {
    match auth.verify_token(token).await {
        Err(Error::Unauthorized(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => "accepted",
    }
}

#[tokio::test]
async fn claims_must_hold() {
    let (auth, _) = authenticator(&[]);
    let table = [
        (json!({}), "accepted"),
        (json!({"sub": null}), "token sub missing"),
        (json!({"sub": ""}), "token sub must be 1 to 128 visible characters"),
        (json!({"sub": "a b"}), "token sub must be 1 to 128 visible characters"),
        (json!({"sub": "a\n"}), "token sub must be 1 to 128 visible characters"),
        (json!({"sub": "x".repeat(128)}), "accepted"),
        (json!({"sub": "x".repeat(129)}), "token sub must be 1 to 128 visible characters"),
        (json!({"sub": 42}), "token claims malformed"),
        (json!({"exp": null}), "token exp missing"),
        (json!({"exp": NOW_S - 29}), "accepted"),
        (json!({"exp": NOW_S - 30}), "token expired"),
        (json!({"exp": -1}), "token expired"),
        (json!({"exp": NOW_S as f64 + 0.5}), "accepted"),
        (json!({"exp": (NOW_S + HOUR).to_string()}), "token claims malformed"),
        (json!({"exp": true}), "token claims malformed"),
        (json!({"exp": [NOW_S + HOUR]}), "token claims malformed"),
        (json!({"nbf": NOW_S + 30}), "accepted"),
        (json!({"nbf": NOW_S + 31}), "token not valid yet"),
        (json!({"nbf": (NOW_S - HOUR).to_string()}), "token claims malformed"),
        (json!({"iat": NOW_S + 30}), "accepted"),
        (json!({"iat": NOW_S + 31}), "token issued in the future"),
        (json!({"iat": "yesterday"}), "token claims malformed"),
        (json!({"iat": NOW_S, "exp": NOW_S + 24 * HOUR}), "accepted"),
        (json!({"iat": NOW_S, "exp": NOW_S + 24 * HOUR + 1}), "token lives longer than 24 hours"),
        (json!({"exp": NOW_S + 48 * HOUR}), "accepted"),
        (json!({"iss": 1}), "token claims malformed"),
        (json!({"aud": [1]}), "token claims malformed"),
        (json!({"aud": {"a": 1}}), "token claims malformed"),
        (json!({"name": ["Ada"]}), "token claims malformed"),
        (json!({"more": {"nested": [1, 2]}}), "accepted"),
    ];
    for (changes, expected) in table {
        let token = token(&Key::shared(NEW), &hs256(), &claims(changes.clone()));
        assert_eq!(refusal(&auth, &token).await, expected, "{changes}");
    }
    let raw = |text: &str| token(&Key::shared(NEW), &hs256(), &json!(text));
    let far = NOW_S + HOUR;
    assert_eq!(refusal(&auth, &raw("not JSON")).await, "token claims malformed");
    assert_eq!(refusal(&auth, &raw("[]")).await, "token claims malformed");
    let twice = format!(r#"{{"sub":"ada","sub":"eve","exp":{far}}}"#);
    assert_eq!(refusal(&auth, &raw(&twice)).await, "token claims malformed");
    let huge = r#"{"sub":"ada","exp":1e400}"#;
    assert_eq!(refusal(&auth, &raw(huge)).await, "token claims malformed");
}

#[tokio::test]
async fn the_header_must_be_one_we_understand() {
    let (auth, _) = authenticator(&[]);
    let table = [
        (json!({"alg": "HS256"}), "accepted"),
        (json!({"alg": "HS256", "typ": "at+jwt"}), "accepted"),
        (json!({"alg": "HS256", "typ": "jwt"}), "accepted"),
        (json!({"alg": "HS256", "typ": "dpop+jwt"}), "token typ must be JWT or at+jwt"),
        (json!({"alg": "HS256", "typ": 1}), "token header malformed"),
        (json!({"alg": "none"}), "token algorithm not accepted"),
        (json!({"alg": "None"}), "token algorithm not accepted"),
        (json!({"alg": "hs256"}), "token algorithm not accepted"),
        (json!({"alg": "HS384"}), "token algorithm not accepted"),
        (json!({"alg": "HS512"}), "token algorithm not accepted"),
        (json!({"alg": "RS256"}), "token algorithm not accepted"),
        (json!({"alg": "PS256"}), "token algorithm not accepted"),
        (json!({"alg": ["HS256"]}), "token header malformed"),
        (json!({"typ": "JWT"}), "token header malformed"),
        (json!({"alg": "HS256", "crit": ["exp"]}), "token header crit not supported"),
        (json!({"alg": "HS256", "crit": []}), "token header crit not supported"),
        (json!({"alg": "HS256", "crit": null}), "token header crit not supported"),
        (json!({"alg": "HS256", "kid": "../../etc/passwd"}), "accepted"),
        (json!({"alg": "HS256", "jku": "https://evil.example/jwks", "x5u": "https://evil.example/"}), "accepted"),
        (json!(r#"{"alg":"HS256","alg":"none"}"#), "token header malformed"),
        (json!("[]"), "token header malformed"),
    ];
    for (header, expected) in table {
        let token = token(&Key::shared(NEW), &header, &claims(json!({})));
        assert_eq!(refusal(&auth, &token).await, expected, "{header}");
    }
}

#[tokio::test]
async fn a_key_that_a_token_brings_along_is_ignored() {
    let (auth, _) = authenticator(&[]);
    let own = Key::rsa();
    let header = json!({"alg": "RS256", "jwk": own.jwk("own"), "kid": "own"});
    assert_eq!(refusal(&auth, &token(&own, &header, &claims(json!({})))).await, "token algorithm not accepted");
    let shared = Key::shared("an-attackers-own-secret-0123456789abcdef");
    let header = json!({"alg": "HS256", "jwk": shared.jwk("own")});
    assert_eq!(refusal(&auth, &token(&shared, &header, &claims(json!({})))).await, "token signature invalid");
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    let (auth, _) = authenticator(&[]);
    let good = good();
    let parts: Vec<_> = good.split('.').collect();
    let other = base64url(claims(json!({"sub": "eve"})).to_string().as_bytes());
    let none = base64url(br#"{"alg":"none"}"#);
    let table = [
        (good.clone(), "accepted"),
        (format!("{}.{other}.{}", parts[0], parts[2]), "token signature invalid"),
        (format!("{}.{}.{}", parts[0], parts[1], base64url(b"")), "token signature invalid"),
        (format!("{}.{}.", parts[0], parts[1]), "token signature invalid"),
        (format!("{none}.{}.", parts[1]), "token algorithm not accepted"),
        (format!("{}.{}", parts[0], parts[1]), "token malformed"),
        (format!("{good}.{}", parts[2]), "token malformed"),
        (format!("{good}="), "token malformed"),
        ("..".to_owned(), "token header malformed"),
        ("x".to_owned(), "token malformed"),
    ];
    for (token, expected) in table {
        assert_eq!(refusal(&auth, &token).await, expected, "{token}");
    }
}

#[tokio::test]
async fn secrets_rotate() {
    let (auth, _) = authenticator(&[]);
    for secret in [NEW, OLD] {
        assert_eq!(refusal(&auth, &token(&Key::shared(secret), &hs256(), &claims(json!({})))).await, "accepted");
    }
    let retired = Key::shared("a-retired-session-secret-0123456789abcd");
    assert_eq!(refusal(&auth, &token(&retired, &hs256(), &claims(json!({})))).await, "token signature invalid");
}

#[tokio::test]
async fn issuer_and_audience_are_required_when_configured() {
    let (auth, _) = authenticator(&[("SESSION_JWT_ISSUER", "https://id.example"), ("SESSION_JWT_AUDIENCE", "awchat")]);
    let iss = "https://id.example";
    let table = [
        (json!({"iss": iss, "aud": "awchat"}), "accepted"),
        (json!({"iss": iss, "aud": ["other", "awchat"]}), "accepted"),
        (json!({"aud": "awchat"}), "token iss not accepted"),
        (json!({"iss": "https://id.example/", "aud": "awchat"}), "token iss not accepted"),
        (json!({"iss": iss}), "token aud not accepted"),
        (json!({"iss": iss, "aud": "AWCHAT"}), "token aud not accepted"),
        (json!({"iss": iss, "aud": []}), "token aud not accepted"),
        (json!({"iss": iss, "aud": ["other"]}), "token aud not accepted"),
    ];
    for (changes, expected) in table {
        let token = token(&Key::shared(NEW), &hs256(), &claims(changes.clone()));
        assert_eq!(refusal(&auth, &token).await, expected, "{changes}");
    }
}

#[tokio::test]
async fn the_authorization_header_is_one_and_says_bearer() {
    let (auth, _) = authenticator(&[]);
    let good = good();
    let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
    let table: [(&[String], &str); 13] = [
        (&[format!("Bearer {good}")], "accepted"),
        (&[format!("bEARER {good}")], "accepted"),
        (&[format!("Bearer   {good}")], "accepted"),
        (&[], "session token missing"),
        (&[format!("Bearer {good}"), format!("Bearer {good}")], "more than one Authorization header"),
        (std::slice::from_ref(&good), "Authorization must be: Bearer <session token>"),
        (&[format!("Basic {good}")], "Authorization must be: Bearer <session token>"),
        (&["Bearer".to_owned()], "Authorization must be: Bearer <session token>"),
        (&["Bearer ".to_owned()], "Authorization must be: Bearer <session token>"),
        (&[format!("Bearer {good} ")], "token malformed"),
        (&[format!("Bearer {good}, Bearer {good}")], "token malformed"),
        (&[format!("Bearer \t{good}")], "token malformed"),
        (&[long], "token longer than 4096 bytes"),
    ];
    for (values, expected) in table {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header's value"));
        }
        let told = match auth.verify(&headers).await {
            Ok(_) => "accepted",
            Err(Error::Unauthorized(reason)) => reason,
            Err(other) => panic!("another error: {other}"),
        };
        assert_eq!(told, expected, "{values:?}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").expect("opaque bytes"));
    assert!(auth.verify(&headers).await.is_err());
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let (auth, clock) = authenticator(&[]);
    let short = token(&Key::shared(NEW), &hs256(), &claims(json!({"exp": NOW_S + 60})));
    assert_eq!(refusal(&auth, &short).await, "accepted");
    clock.advance(89_999);
    assert_eq!(refusal(&auth, &short).await, "accepted");
    assert_eq!(auth.verified.len(), 1);
    clock.advance(1);
    assert_eq!(refusal(&auth, &short).await, "token expired");
    assert_eq!(auth.verified.len(), 0);
}

#[tokio::test]
async fn refused_tokens_are_not_remembered_and_remembered_ones_are_bounded() {
    let (auth, _) = authenticator(&[]);
    for _ in 0..3 {
        refusal(&auth, "x.y.z").await;
    }
    assert_eq!(auth.verified.len(), 0);
    assert!(auth.verified.capacity() <= CACHED_TOKENS as u64);
}

#[tokio::test]
async fn details_that_intercom_would_refuse_are_left_out() {
    let (auth, _) = authenticator(&[]);
    let user = async |changes: Value| {
        let token = token(&Key::shared(NEW), &hs256(), &claims(changes));
        auth.verify_token(&token).await.expect("accepted")
    };
    let sound = json!({"name": " Ada ", "email": "ada@example.com", "phone": "+44 20 7946-0000", "telegram_id": 4711});
    let ada = user(sound).await;
    assert_eq!((ada.id.as_str(), ada.expires_at), ("ada", NOW_S + HOUR));
    assert_eq!((ada.name.as_deref(), ada.email.as_deref()), (Some("Ada"), Some("ada@example.com")));
    assert_eq!((ada.phone.as_deref(), ada.telegram_id.as_deref()), (Some("+44 20 7946-0000"), Some("4711")));
    assert_eq!(format!("{ada:?}"), "User(***)");
    let odd = json!({"name": "a\u{0}b", "email": "not an address", "phone": "call me", "telegram_id": "-100"});
    let bob = user(odd).await;
    assert!(bob.name.is_none() && bob.email.is_none() && bob.phone.is_none() && bob.telegram_id.is_none());
    assert_eq!(user(json!({"telegram_id": "42", "name": ""})).await.telegram_id.as_deref(), Some("42"));
}

#[tokio::test]
async fn a_minted_token_is_accepted() {
    let (auth, clock) = authenticator(&[]);
    let sub = UserId::parse("ada").expect("a user id");
    let extra = json!({"name": "Ada", "sub": "eve", "exp": 1}).as_object().cloned().expect("an object");
    let token = mint(&Secret::new(NEW), &sub, 3600, &clock, extra);
    let user = auth.verify_token(&token).await.expect("accepted");
    assert_eq!((user.id.as_str(), user.name.as_deref(), user.expires_at), ("ada", Some("Ada"), NOW_S + HOUR));
}
