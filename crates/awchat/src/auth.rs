//! Who is calling: a session token in, a verified [`User`] out.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::store::Store;
use crate::store::erasure::ERASED;

mod claims;
pub mod init_data;
mod jwks;
pub mod mini_app;

use claims::{Claims, Rules, TokenHeader};
use jwks::KeySet;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;
/// Verified tokens that are remembered: with fewer than there are users at work, most polls would verify theirs anew, and
/// ask the database whether its user was erased. Full, they take about 60 MB.
const CACHED_TOKENS: usize = 200_000;
/// A verified token is verified anew after this time, so that a key that was taken back stops working.
const CACHED_FOR_S: i64 = 600;

/// The caller: whoever holds one has a session token that was verified. Cheap to clone; shows nothing in logs.
#[derive(Clone)]
pub struct User(Arc<Identity>);

/// What a session token says of its user.
pub struct Identity {
    /// The app's own id.
    pub id: UserId,
    /// Display name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Telegram's user id, as digits.
    pub telegram_id: Option<String>,
    /// When the token was issued, if it says so; Unix seconds.
    pub issued_at: Option<i64>,
    /// When the token expires; Unix seconds.
    pub expires_at: i64,
}

impl Identity {
    /// From when on the token is refused: its end, and the leeway for clocks that differ; Unix seconds.
    pub fn ends_at(&self) -> i64 {
        self.expires_at.saturating_add(claims::LEEWAY_S)
    }
}

impl Deref for User {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl From<Identity> for User {
    fn from(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(***)")
    }
}

/// Verifies session tokens, and remembers those it has verified.
pub struct Authenticator {
    clock: Clock,
    secrets: Vec<DecodingKey>,
    keys: Option<KeySet>,
    rules: Rules,
    verified: Cache<[u8; 32], Verified>,
    /// Where users are erased, whose tokens then end.
    store: Option<Store>,
}

#[derive(Clone)]
struct Verified {
    user: User,
    /// Unix seconds.
    until: i64,
    /// How many users had been erased: one more, and the token is looked at anew.
    erasures: u64,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator(***)")
    }
}

impl Authenticator {
    /// Accepts tokens that `config.session` describes, by the time of `clock`.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let session = &config.session;
        Self {
            secrets: session.secrets.iter().map(|key| DecodingKey::from_secret(key.expose().as_bytes())).collect(),
            keys: session.jwks_url.clone().map(|url| KeySet::new(url, clock.clone())),
            rules: Rules { issuer: session.issuer.clone(), audience: session.audience.clone() },
            verified: Cache::new(CACHED_TOKENS),
            store: None,
            clock,
        }
    }

    /// Refuses the tokens of users from before they were erased in `store`.
    #[must_use]
    pub fn heeding(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// The user whose token the `Authorization` header carries.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] with what is wrong; [`Error::Unavailable`] while the issuer's keys cannot be fetched.
    pub async fn verify(&self, headers: &HeaderMap) -> Result<User> {
        self.verify_token(bearer(headers)?).await
    }

    /// The user of a bare token.
    ///
    /// # Errors
    /// As [`Authenticator::verify`].
    pub async fn verify_token(&self, token: &str) -> Result<User> {
        let fingerprint = fingerprint(token);
        match self.known(&fingerprint) {
            Some(user) => Ok(user),
            // In a box: it would take its room in every request while it is answered.
            None => Box::pin(self.verify_anew(token, fingerprint)).await,
        }
    }

    async fn verify_anew(&self, token: &str, fingerprint: [u8; 32]) -> Result<User> {
        let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !token.bytes().all(part) {
            return Err(Error::Unauthorized("token malformed"));
        }
        // Counted before the look: who is erased meanwhile is looked for again next time.
        let erasures = self.erasures();
        let claims = self.signed_claims(token).await?;
        let now = self.clock.now_s();
        let user = User::from(claims.check(&self.rules, now).map_err(Error::Unauthorized)?);
        self.refuse_erased(&user, now).await?;
        let until = user.ends_at().min(now + CACHED_FOR_S);
        self.verified.insert(fingerprint, Verified { user: user.clone(), until, erasures });
        Ok(user)
    }

    /// The user whose token the `Authorization` header carries, if it was verified a short while ago: at once. `None`
    /// refuses nobody, it says to ask [`Authenticator::verify`].
    pub fn remembered(&self, headers: &HeaderMap) -> Option<User> {
        self.known(&fingerprint(bearer(headers).ok()?))
    }

    fn known(&self, fingerprint: &[u8; 32]) -> Option<User> {
        let known = self.verified.get(fingerprint)?;
        if self.clock.now_s() < known.until && self.erasures() == known.erasures {
            return Some(known.user);
        }
        self.verified.remove(fingerprint);
        None
    }

    fn erasures(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::erasures)
    }

    /// A token from before its user was erased ended with that; the first one from after it brings the user back.
    async fn refuse_erased(&self, user: &User, now: i64) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let Some(erasure) = store.erasure(&user.id).await? else { return Ok(()) };
        if claims::is_from_before(user.issued_at, erasure.erased_ms.div_euclid(1000), now) {
            return Err(Error::Unauthorized(ERASED));
        }
        if !erasure.returned {
            store.set_returned(&user.id).await?;
        }
        Ok(())
    }

    /// The claims, once a key of the family that the header names has confirmed them.
    async fn signed_claims(&self, token: &str) -> Result<Claims> {
        let header = TokenHeader::parse(token).map_err(Error::Unauthorized)?;
        let algorithm = header.algorithm().map_err(Error::Unauthorized)?;
        if algorithm == Algorithm::HS256 {
            return confirm(token, algorithm, &self.secrets).map_err(Error::Unauthorized);
        }
        let Some(keys) = &self.keys else { return Err(Error::Unauthorized("token algorithm not accepted")) };
        let candidates = keys.find(header.kid.as_deref(), algorithm).await?;
        confirm(token, algorithm, &candidates).map_err(Error::Unauthorized)
    }
}

/// Tries each key: with rotated secrets, any of them may have signed.
fn confirm(token: &str, algorithm: Algorithm, keys: &[DecodingKey]) -> Result<Claims, &'static str> {
    let mut rules = Validation::new(algorithm);
    // Only the signature is checked here. The library asks the system's clock, reads absent and wrong-typed claims
    // alike, and leaves `iat` alone: all claims are checked by `Claims::check`.
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    let mut refusal = "token algorithm not accepted";
    for key in keys {
        match jsonwebtoken::decode::<Claims>(token, key, &rules) {
            Ok(token) => return Ok(token.claims),
            Err(error) => match error.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_) => return Err("token claims malformed"),
                _ => refusal = "token signature invalid",
            },
        }
    }
    Err(refusal)
}

/// The token of the one `Authorization: Bearer` header.
///
/// # Errors
/// [`Error::Unauthorized`] with what is wrong.
pub fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    let value = first.ok_or(Error::Unauthorized("session token missing"))?;
    if second.is_some() {
        return Err(Error::Unauthorized("more than one Authorization header"));
    }
    let malformed = Error::Unauthorized("Authorization must be: Bearer <session token>");
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return Err(malformed);
    };
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(malformed);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Error::Unauthorized("token longer than 4096 bytes"));
    }
    Ok(token)
}

/// What a token is remembered by.
fn fingerprint(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A session token for `sub`, signed with HS256: for `awchat token`, and for Mini Apps without a backend.
/// It holds for `lifetime_s` seconds; of `extra`, `sub`, `iat` and `exp` are overwritten.
pub fn mint(secret: &Secret, sub: &UserId, lifetime_s: u32, clock: &Clock, extra: Map<String, Value>) -> String {
    let now = clock.now_s();
    let mut claims = extra;
    claims.insert("sub".into(), sub.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + i64::from(lifetime_s)).into());
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a JSON object can be signed with HS256")
}

#[cfg(test)]
mod tests;
