//! The issuer's published keys: fetched when needed, kept for ten minutes, and for a day while the issuer is down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::clock::Clock;
use crate::error::{Cause, Error, Result};

const FRESH_MS: i64 = 10 * 60 * 1000;
const USABLE_MS: i64 = 24 * 3600 * 1000;
/// Between two attempts: an unknown `kid` costs the issuer one request a minute at most.
const RETRY_MS: i64 = 60 * 1000;
/// The same while there are no keys at all, and every caller waits for them.
const FIRST_RETRY_MS: i64 = 5 * 1000;
const TIMEOUT: Duration = Duration::from_secs(3);
const MAX_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 32;

/// A JWKS behind a URL.
pub(super) struct KeySet {
    url: Url,
    clock: Clock,
    client: reqwest::Client,
    held: Mutex<Held>,
    /// Whoever holds it fetches; the others wait for the result.
    fetching: AsyncMutex<()>,
}

/// What is known of the key set: plain data, decisions in plain functions.
#[derive(Clone, Default)]
struct Held {
    keys: Arc<Vec<PublishedKey>>,
    fetched_ms: Option<i64>,
    attempted_ms: Option<i64>,
}

struct PublishedKey {
    kid: Option<String>,
    /// The one algorithm that it may be used with.
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Held {
    fn age_within(&self, limit_ms: i64, now_ms: i64) -> bool {
        self.fetched_ms.is_some_and(|at| now_ms.saturating_sub(at) < limit_ms)
    }

    fn may_fetch(&self, now_ms: i64) -> bool {
        let pause_ms = if self.age_within(USABLE_MS, now_ms) { RETRY_MS } else { FIRST_RETRY_MS };
        // A clock that was set back must not hold fetches up.
        self.attempted_ms.is_none_or(|at| now_ms.saturating_sub(at) >= pause_ms || now_ms < at)
    }

    /// The keys that may have signed: the one with this `kid`, or all of the algorithm if the token names none.
    fn matching(&self, kid: Option<&str>, algorithm: Algorithm) -> Matching {
        let named: Vec<_> = self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).collect();
        if named.is_empty() {
            return Matching::Unknown;
        }
        let fit = named.iter().filter(|key| key.algorithm == algorithm).map(|key| key.key.clone());
        Matching::Known(fit.collect())
    }
}

enum Matching {
    Known(Vec<DecodingKey>),
    Unknown,
}

impl KeySet {
    pub(super) fn new(url: Url, clock: Clock) -> Self {
        // A redirect could lead anywhere, plain http included.
        let builder = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let client = builder.build().expect("the TLS library starts");
        Self { url, clock, client, held: Mutex::default(), fetching: AsyncMutex::default() }
    }

    /// The keys that may confirm a token with this `kid` and algorithm; never none.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<DecodingKey>> {
        let now_ms = self.clock.now_ms();
        let held = self.held();
        let usable = held.age_within(USABLE_MS, now_ms);
        let known = matches!(held.matching(kid, algorithm), Matching::Known(_));
        if usable && known {
            // Stale keys do: one caller fetches new ones, the others need not wait.
            if !held.age_within(FRESH_MS, now_ms)
                && let Ok(_turn) = self.fetching.try_lock()
            {
                self.refresh().await;
            }
        } else {
            let _turn = self.fetching.lock().await;
            // The previous holder may have brought what is missing: `refresh` asks again.
            self.refresh().await;
        }
        self.answer(kid, algorithm)
    }

    fn answer(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<DecodingKey>> {
        let held = self.held();
        if !held.age_within(USABLE_MS, self.clock.now_ms()) {
            return Err(Error::Unavailable { retry_after_s: 5, cause: Some("the issuer's keys are unknown".into()) });
        }
        match held.matching(kid, algorithm) {
            Matching::Unknown => Err(Error::Unauthorized("token kid unknown")),
            Matching::Known(keys) if keys.is_empty() => Err(Error::Unauthorized("token algorithm not accepted")),
            Matching::Known(keys) => Ok(keys),
        }
    }

    /// Fetches the keys, unless that was just tried. Call it with `fetching` held.
    async fn refresh(&self) {
        let now_ms = self.clock.now_ms();
        if !self.held().may_fetch(now_ms) {
            return;
        }
        self.update(|held| held.attempted_ms = Some(now_ms));
        match self.fetch().await {
            Ok(keys) => self.update(|held| (held.keys, held.fetched_ms) = (Arc::new(keys), Some(now_ms))),
            Err(cause) => tracing::warn!(%cause, "the key set cannot be fetched"),
        }
    }

    async fn fetch(&self) -> Result<Vec<PublishedKey>, Cause> {
        let request = self.client.get(self.url.clone()).header("accept", "application/json");
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let mut response = response.error_for_status().map_err(reqwest::Error::without_url)?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()).into());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err("the key set is larger than 64 KiB".into());
            }
        }
        parse(&body)
    }

    fn held(&self) -> Held {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys of a JWKS document. Keys of other kinds are skipped: an issuer may publish them for others.
fn parse(document: &[u8]) -> Result<Vec<PublishedKey>, Cause> {
    let Document { keys } = serde_json::from_slice(document)?;
    if keys.len() > MAX_KEYS {
        return Err("the key set has more than 32 keys".into());
    }
    Ok(keys.into_iter().filter_map(|key| usable(serde_json::from_value(key).ok()?)).collect())
}

/// The key with its one algorithm. A symmetric key (`oct`) in a published document is nobody's secret: never used.
fn usable(jwk: Jwk) -> Option<PublishedKey> {
    let Jwk { kty, crv, alg, usage, kid, n, e, x, y } = jwk;
    if usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let (algorithm, key) = match (kty.as_str(), crv.as_deref(), alg.as_deref().unwrap_or_default()) {
        ("RSA", _, "" | "RS256") => (Algorithm::RS256, DecodingKey::from_rsa_components(&n?, &e?)),
        ("EC", Some("P-256"), "" | "ES256") => (Algorithm::ES256, DecodingKey::from_ec_components(&x?, &y?)),
        ("OKP", Some("Ed25519"), "" | "EdDSA" | "Ed25519") => (Algorithm::EdDSA, DecodingKey::from_ed_components(&x?)),
        _ => return None,
    };
    Some(PublishedKey { kid, algorithm, key: key.ok()? })
}
