//! Session tokens: any text, and any header and claims under a good signature.

#![no_main]

use std::sync::LazyLock;

use awchat::auth::Authenticator;
use awchat::clock::Clock;
use awchat::config::Config;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use tokio::runtime::Runtime;

const SECRET: &str = "a-session-secret-for-fuzzing-0123456789";
const NOW_MS: i64 = 1_800_000_000_000;

static SERVER: LazyLock<(Authenticator, Runtime)> = LazyLock::new(|| {
    let config = Config::dev(&|name| (name == "SESSION_JWT_SECRETS").then(|| SECRET.to_owned()));
    let authenticator = Authenticator::new(&config.expect("settings hold"), Clock::manual(NOW_MS));
    (authenticator, tokio::runtime::Builder::new_current_thread().build().expect("a runtime"))
});

fuzz_target!(|bytes: &[u8]| {
    let (authenticator, runtime) = &*SERVER;
    let verified = |token: &str| runtime.block_on(authenticator.verify_token(token));
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(verified(text).is_err(), "nobody signed this");
    }
    let (header, claims) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (br#"{"alg":"HS256"}"#.as_slice(), bytes),
    };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(message.as_bytes());
    let signed = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    if let Ok(user) = verified(&signed) {
        assert!(user.expires_at > NOW_MS / 1000 - 31, "expired");
        assert!((1..=128).contains(&user.id.as_str().chars().count()), "{:?}", user.id);
        assert!(user.telegram_id.as_ref().is_none_or(|id| id.bytes().all(|byte| byte.is_ascii_digit())));
        let details = [&user.name, &user.email, &user.phone];
        assert!(details.into_iter().flatten().all(|text| !text.chars().any(char::is_control)), "a line break");
    }
});
