//! What a token says, and whether that holds at a given time: no keys, no clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny};

use super::Identity;
use crate::id::UserId;

/// How far the issuer's clock may be off, in seconds.
pub(super) const LEEWAY_S: i64 = 30;
/// The longest life of a token that says when it was issued, in seconds.
const MAX_LIFE_S: i64 = 24 * 3600;
/// The longest name, e-mail address or telephone number that is kept, in characters.
const MAX_DETAIL_CHARS: usize = 255;

/// The parts of a token's header that are used. `jku`, `jwk`, `x5u` and `x5c` are not: keys come from the configuration.
#[derive(Deserialize)]
pub(super) struct TokenHeader {
    alg: String,
    typ: Option<String>,
    pub(super) kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl TokenHeader {
    pub(super) fn parse(token: &str) -> Result<Self, &'static str> {
        let parts: Vec<_> = token.splitn(4, '.').collect();
        let [header, _, _] = parts[..] else { return Err("token malformed") };
        let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| "token header malformed")?;
        serde_json::from_slice(&bytes).map_err(|_| "token header malformed")
    }

    /// The algorithm, if the header asks for nothing that is not understood.
    pub(super) fn algorithm(&self) -> Result<Algorithm, &'static str> {
        if self.crit {
            return Err("token header crit not supported");
        }
        let typ = self.typ.as_deref().unwrap_or("JWT");
        if !["jwt", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)) {
            return Err("token typ must be JWT or at+jwt");
        }
        match self.alg.as_str() {
            "HS256" => Ok(Algorithm::HS256),
            "RS256" => Ok(Algorithm::RS256),
            "ES256" => Ok(Algorithm::ES256),
            "EdDSA" => Ok(Algorithm::EdDSA),
            _ => Err("token algorithm not accepted"),
        }
    }
}

/// What the configuration asks of a token.
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

/// A token's claims. One of the wrong type makes the token malformed; `null` counts as absent.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    exp: Option<Seconds>,
    nbf: Option<Seconds>,
    iat: Option<Seconds>,
    iss: Option<String>,
    aud: Option<Audience>,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    telegram_id: Option<TelegramId>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Backends know it as a number, JSON as either.
#[derive(Deserialize)]
#[serde(untagged)]
enum TelegramId {
    Number(u64),
    Text(String),
}

/// A JWT's NumericDate: a JSON number, perhaps with a fraction, which is dropped.
#[derive(Clone, Copy)]
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
        whole.map(Self).ok_or_else(|| de::Error::custom("not a number of seconds"))
    }
}

impl Claims {
    /// The user, if every claim holds at `now` (Unix seconds); else which one does not.
    pub(super) fn check(self, rules: &Rules, now: i64) -> Result<Identity, &'static str> {
        let id = UserId::parse(&self.sub.ok_or("token sub missing")?);
        let id = id.ok_or("token sub must be 1 to 128 visible characters")?;
        let Seconds(exp) = self.exp.ok_or("token exp missing")?;
        if now >= exp.saturating_add(LEEWAY_S) {
            return Err("token expired");
        }
        if self.nbf.is_some_and(|Seconds(nbf)| nbf.saturating_sub(LEEWAY_S) > now) {
            return Err("token not valid yet");
        }
        if let Some(Seconds(iat)) = self.iat {
            if iat.saturating_sub(LEEWAY_S) > now {
                return Err("token issued in the future");
            }
            if exp.saturating_sub(iat) > MAX_LIFE_S {
                return Err("token lives longer than 24 hours");
            }
        }
        if rules.issuer.is_some() && self.iss != rules.issuer {
            return Err("token iss not accepted");
        }
        if rules.audience.as_ref().is_some_and(|wanted| !names(self.aud.as_ref(), wanted)) {
            return Err("token aud not accepted");
        }
        let telegram_id = self.telegram_id.map(|id| match id {
            TelegramId::Number(id) => id.to_string(),
            TelegramId::Text(id) => id,
        });
        Ok(Identity {
            id,
            name: detail(self.name, |_| true),
            email: detail(self.email, is_email),
            phone: detail(self.phone, is_phone),
            telegram_id: telegram_id.filter(|id| is_telegram_id(id)),
            issued_at: self.iat.map(|Seconds(iat)| iat),
            expires_at: exp,
        })
    }
}

/// Whether a token may be from before `erased_at` (Unix seconds), the issuer's clock being up to [`LEEWAY_S`] ahead. One
/// that does not say when it was issued is taken for an old one for as long as old ones may live.
pub(super) fn is_from_before(issued_at: Option<i64>, erased_at: i64, now: i64) -> bool {
    match issued_at {
        Some(issued_at) => issued_at <= erased_at.saturating_add(LEEWAY_S),
        None => now <= erased_at.saturating_add(MAX_LIFE_S + LEEWAY_S),
    }
}

fn names(audience: Option<&Audience>, wanted: &str) -> bool {
    match audience {
        None => false,
        Some(Audience::One(one)) => one == wanted,
        Some(Audience::Many(many)) => many.iter().any(|one| one == wanted),
    }
}

/// A contact's detail that Intercom would refuse is left out: it must not keep a user from writing.
fn detail(text: Option<String>, holds: fn(&str) -> bool) -> Option<String> {
    let text = text?.trim().to_owned();
    let short = text.chars().nth(MAX_DETAIL_CHARS).is_none();
    (!text.is_empty() && short && !text.contains(char::is_control) && holds(&text)).then_some(text)
}

fn is_email(text: &str) -> bool {
    !text.contains(char::is_whitespace)
        && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

fn is_phone(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || "+-(). ".contains(c)) && text.contains(|c: char| c.is_ascii_digit())
}

fn is_telegram_id(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a member is there at all, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
