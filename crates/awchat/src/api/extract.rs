//! What handlers take: each value is checked once here, and each refusal is our own [`Error`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{
    ConnectInfo, FromRef, FromRequest, FromRequestParts, OptionalFromRequest, Query as AxumQuery, RawPathParams,
    Request,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::respond::Tally;
use crate::app::{App, Edge};
use crate::auth::User;
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId};
use crate::limits::{Limits, Weight};

/// The largest JSON body, in bytes.
pub const MAX_JSON_BYTES: usize = 64 * 1024;
/// The deepest nesting of a JSON body.
const MAX_JSON_DEPTH: usize = 32;
/// The longest part of a refused field's path that is told.
const MAX_PATH_CHARS: usize = 100;

impl FromRef<App> for Arc<Edge> {
    fn from_ref(app: &App) -> Self {
        Self::clone(&app.edge)
    }
}

// ---- who asks ----

/// Put before all other arguments: a call without a session learns nothing but that.
impl<S> FromRequestParts<S> for User
where
    S: Send + Sync,
    Arc<Edge>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        admit(parts, &Arc::from_ref(state), Weight::Light).await
    }
}

/// A user whose request counts for five: an upload, a new conversation, a complaint. Takes the place of [`User`].
#[derive(Clone, Debug)]
pub struct Costly(pub User);

impl<S> FromRequestParts<S> for Costly
where
    S: Send + Sync,
    Arc<Edge>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        admit(parts, &Arc::from_ref(state), Weight::Heavy).await.map(Self)
    }
}

/// Token verified, request counted. A refused token counts against the client's address instead.
async fn admit(parts: &Parts, edge: &Edge, weight: Weight) -> Result<User> {
    let user = match edge.auth.verify(&parts.headers).await {
        Ok(user) => user,
        Err(Error::Unauthorized(reason)) => {
            let decision = edge.limits.check_failure(client_address(parts, &edge.limits));
            return Err(match decision.allowed {
                true => Error::Unauthorized(reason),
                false => Error::RateLimited { retry_after_s: decision.retry_after_s },
            });
        }
        Err(error) => return Err(error),
    };
    let decision = edge.limits.check(&user.id, weight).await;
    if let Some(tally) = parts.extensions.get::<Tally>() {
        tally.set(decision);
    }
    if decision.allowed { Ok(user) } else { Err(Error::RateLimited { retry_after_s: decision.retry_after_s }) }
}

/// Where the request comes from, proxies of TRUSTED_PROXIES seen through.
#[derive(Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(***)")
    }
}

impl<S> FromRequestParts<S> for ClientAddress
where
    S: Send + Sync,
    Arc<Edge>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Ok(Self(client_address(parts, &Arc::<Edge>::from_ref(state).limits)))
    }
}

/// A request that came over no socket comes from this process.
fn client_address(parts: &Parts, limits: &Limits) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| address.ip());
    let forwarded: Vec<_> = parts.headers.get_all("x-forwarded-for").iter().map(|line| line.to_str()).collect();
    // What cannot be read ends the chain, as any other hop that is no address.
    limits.client_address(peer, forwarded.into_iter().map(|line| line.unwrap_or("unreadable")))
}

// ---- what they ask for ----

/// What can stand for `{id}` in a route.
pub trait PathId: Sized {
    /// The id, unless it is malformed.
    fn parse(text: &str) -> Option<Self>;
}

impl PathId for ConversationId {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl PathId for FileId {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

/// The route's `{id}`. A malformed one is refused like an unknown one: 404.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T> Deref for Path<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: PathId,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        // Fails for a path that is no UTF-8 once decoded: another malformed id.
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Error::NotFound)?;
        let id = params.iter().find(|(name, _)| *name == "id").and_then(|(_, text)| T::parse(text));
        id.map(Self).ok_or(Error::NotFound)
    }
}

/// The query string; a parameter that breaks its rule is a `validation_error` that names it.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        match AxumQuery::try_from_uri(&parts.uri) {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Error::Validation(match text.split_once(": ") {
                    Some((field, rule)) if !field.contains(' ') => rule_of(field, rule),
                    _ => rule_of(".", text),
                }))
            }
        }
    }
}

/// The `Idempotency-Key` header, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        idempotency_key(&parts.headers).map(Self)
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let quoted = |text: &str| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let key = value.to_str().ok().map(|text| quoted(text).unwrap_or_else(|| text.to_owned()));
    let sound = |key: &String| {
        (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) && !key.contains('"')
    };
    let rule = "Idempotency-Key must be one header with 1 to 255 visible ASCII characters, bare or in double quotes";
    match key.filter(sound) {
        Some(key) if more.is_none() => Ok(Some(key)),
        _ => Err(Error::Validation(rule.to_owned())),
    }
}

/// A JSON body, in either direction; on the way in of at most so many bytes. Unknown fields are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Json<T, const MAX_BYTES: usize = MAX_JSON_BYTES>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<S, T, const MAX_BYTES: usize> FromRequest<S> for Json<T, MAX_BYTES>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            return Err(Error::BadRequest("Content-Type must be application/json".to_owned()));
        }
        parse(&whole_body(request, MAX_BYTES).await?).map(Self)
    }
}

/// `Option<Json<T>>` is `None` for a request without a body.
impl<S, T> OptionalFromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return <Self as FromRequest<S>>::from_request(request, state).await.map(Some);
        }
        match whole_body(request, MAX_JSON_BYTES).await?.is_empty() {
            true => Ok(None),
            false => Err(Error::BadRequest("Content-Type must be application/json".to_owned())),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn whole_body(request: Request, max_bytes: usize) -> Result<axum::body::Bytes> {
    let too_long = || Error::BadRequest(format!("the body must not be longer than {max_bytes} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > max_bytes) {
        return Err(too_long());
    }
    axum::body::to_bytes(request.into_body(), max_bytes).await.map_err(|error| {
        let limited =
            std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if limited { too_long() } else { Error::BadRequest("the body did not arrive whole".to_owned()) }
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    if depth(body) > MAX_JSON_DEPTH {
        return Err(Error::BadRequest(format!("the body must not be nested deeper than {MAX_JSON_DEPTH}")));
    }
    // serde would read an array as a struct's fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Error::Validation("the body must be a JSON object".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| match error.inner().is_data() {
        true => Error::Validation(rule_of(&error.path().to_string(), &error.inner().to_string())),
        false => not_json(error.inner()),
    })?;
    reader.end().map_err(|error| not_json(&error))?;
    match nul_in(body) {
        Some(path) => Err(Error::Validation(format!("{path}: must not contain a NUL character"))),
        None => Ok(value),
    }
}

/// Where the first NUL character of a JSON body is: no database text has one. In JSON it is always escaped.
fn nul_in(body: &[u8]) -> Option<String> {
    // Most bodies have none, and are not read twice.
    body.windows(5).any(|escape| escape == b"u0000").then(|| serde_json::from_slice(body).ok())?.and_then(nul_below)
}

fn nul_below(value: Value) -> Option<String> {
    let below = |name: String, value: Value| {
        nul_below(value)
            .map(|rest| if rest.starts_with('[') || rest.is_empty() { name + &rest } else { name + "." + &rest })
    };
    let path = match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => values.into_iter().enumerate().find_map(|(at, value)| below(format!("[{at}]"), value)),
        Value::Object(members) => members.into_iter().find_map(|(name, value)| match name.contains('\0') {
            true => Some("the name of a member".to_owned()),
            false => below(name, value),
        }),
        _ => None,
    };
    path.map(|path| path.chars().take(MAX_PATH_CHARS).collect())
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::BadRequest(format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()))
}

/// The deepest nesting of arrays and objects, brackets within strings not counted.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'[' | b'{') => now += 1,
            (false, b']' | b'}') => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

/// `stars: must be an integer` from what serde tells; the refused value itself is left out, it is the user's.
fn rule_of(path: &str, told: &str) -> String {
    let told = told.rsplit_once(" at line ").map_or(told, |(told, _)| told);
    let path: String = if path == "." { String::new() } else { path.chars().take(MAX_PATH_CHARS).collect() };
    let about_member = [("missing field `", "is required"), ("duplicate field `", "must be given once")];
    for (start, rule) in about_member {
        if let Some(field) = told.strip_prefix(start).and_then(|rest| rest.strip_suffix('`')) {
            let dot = if path.is_empty() { "" } else { "." };
            return format!("{path}{dot}{field}: {rule}");
        }
    }
    let subject = if path.is_empty() { "the input" } else { &path };
    match told.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{subject}: must be {}", in_json(expected)),
        None => format!("{subject}: {told}"),
    }
}

/// JSON's word for what serde expects.
fn in_json(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "an integer in range",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        record if record.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests;
