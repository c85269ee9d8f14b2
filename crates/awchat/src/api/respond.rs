//! The outermost layers: request id, one shape for every error, headers, one log line (but for an answered poll).

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map, ready};
use serde::Serialize;
use tower::Service;
use tower::layer::layer_fn;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument, Span};

use crate::clock::Clock;
use crate::error::{Error, ErrorBody};
use crate::id;
use crate::limits::Decision;
use crate::metrics::Requests;
use crate::traces;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The route of polls.
pub(super) const POLL: &str = "/api/conversations/{id}/poll";

const MAX_URI_BYTES: usize = 4096;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What the layers need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins of web clients, as browsers send them; none: no CORS headers at all.
    pub cors_origins: Vec<String>,
    /// `RateLimit-Policy`, see [`crate::limits::Limits::policy`].
    pub rate_limit_policy: String,
    /// Times the requests.
    pub clock: Clock,
    /// Counts them.
    pub requests: Arc<Requests>,
}

/// Carries the limiter's decision from the extractor to the answer's headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<OnceLock<Decision>>);

impl Tally {
    /// The first decision stays: a request is counted once.
    pub(super) fn set(&self, decision: Decision) {
        let _ = self.0.set(decision);
    }
}

struct Frame {
    policy: HeaderValue,
    clock: Clock,
    requests: Arc<Requests>,
}

/// Puts the layers around `router`: call it last, so that every answer passes through them. They are one service of
/// named parts: axum's functions as layers would clone and box all below them for each request, twice.
pub fn layers<S>(router: Router<S>, settings: &Settings) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let policy = policy(&settings.rate_limit_policy);
    let frame = Arc::new(Frame { policy, clock: settings.clock.clone(), requests: settings.requests.clone() });
    let caught = layer_fn(|inner| Caught { inner });
    match &settings.cors_origins[..] {
        [] => router.layer((layer_fn(move |inner| Framed { inner, frame: frame.clone() }), caught)),
        origins => {
            let framed = layer_fn(move |inner| Framed { inner, frame: frame.clone() });
            router.layer((framed, cors(origins), caught))
        }
    }
}

/// `RateLimit-Policy` of all answers.
pub(super) fn policy(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Makes a handler's panic an answer.
#[derive(Clone)]
struct Caught<S> {
    inner: S,
}

type Outcome = Result<Response, Infallible>;
type Thrown = Box<dyn Any + Send>;

impl<S> Service<Request> for Caught<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Result<Outcome, Thrown>) -> Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // What a handler had in hand is dropped with its future, so nothing half done is seen again.
        AssertUnwindSafe(self.inner.call(request)).catch_unwind().map(unless_panicked)
    }
}

/// The panic's message may hold anything: it goes to standard error by the panic hook, and nowhere else.
fn unless_panicked(end: Result<Outcome, Thrown>) -> Outcome {
    end.unwrap_or_else(|_| Ok(Error::internal("a handler panicked").into_response()))
}

fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CACHE_CONTROL,
            header::RANGE,
            name("idempotency-key"),
            name("last-event-id"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            X_REQUEST_ID,
            RATELIMIT_LIMIT,
            RATELIMIT_REMAINING,
            RATELIMIT_RESET,
            name("idempotent-replayed"),
            name("aw-poll"),
        ])
        .max_age(Duration::from_secs(7200))
}

/// Gives every answer what all have.
#[derive(Clone)]
struct Framed<S> {
    inner: S,
    frame: Arc<Frame>,
}

impl<S> Service<Request> for Framed<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Outcome> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let frame = self.frame.clone();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let traceparent = || request.headers().get(traces::TRACEPARENT)?.to_str().ok();
        let asked = Asked {
            traced: traces::request(known(request.method()), route_of(&route), traceparent),
            started_ms: frame.clock.now_ms(),
            id: id::random(),
            method: request.method().clone(),
            is_api: request.uri().path().starts_with("/api/"),
            route,
            tally: Tally::default(),
        };
        request.extensions_mut().insert(asked.tally.clone());
        let span = tracing::error_span!("request", id = &*asked.id);
        let answer = match too_large(request.uri(), request.headers()) {
            Some(refusal) => Either::Left(ready(Ok(refusal))),
            None => Either::Right(self.inner.call(request).instrument(span).instrument(asked.traced.clone())),
        };
        Box::pin(async move { Ok(asked.framed(answer.await?, &frame)) })
    }
}

/// What is known of a request when its answer is made.
struct Asked {
    started_ms: i64,
    id: String,
    method: Method,
    is_api: bool,
    route: Option<MatchedPath>,
    tally: Tally,
    traced: Span,
}

/// The template, never the path: ids stay out of logs and traces.
fn route_of(route: &Option<MatchedPath>) -> &str {
    route.as_ref().map_or("(none)", MatchedPath::as_str)
}

impl Asked {
    fn framed(self, mut response: Response, frame: &Frame) -> Response {
        one_shape(&mut response, &self.id);
        if self.is_api && response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        add_headers(response.headers_mut(), &self.id, self.is_api);
        if let Some(decision) = self.tally.0.get() {
            add_rate_limit(response.headers_mut(), decision, &frame.policy);
        }
        if self.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        let (method, route) = (known(&self.method), route_of(&self.route));
        let ms = frame.clock.now_ms() - self.started_ms;
        let status = response.status().as_u16();
        frame.requests.count(method, route, status, ms);
        traces::ended(&self.traced, Some(status), status >= 500);
        // Of polls there are more than of all else together: those that are answered are counted, and leave no line.
        if !(route == POLL && status == 200) {
            tracing::info!(method, route, status, ms, request_id = self.id, "request");
        }
        response
    }
}

/// A method's name for the log. HTTP lets clients make up others, as long and as telling as they like.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "(other)",
    }
}

/// The head's limits. hyper's own are wider (see `server`), because its refusals have no body.
pub(super) fn too_large(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let refusal = |status: StatusCode, message: String| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.extensions_mut().insert(ErrorBody { error: "bad_request", message });
        Some(response)
    };
    if uri.path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI_BYTES) {
        return refusal(StatusCode::URI_TOO_LONG, format!("the URI must not be longer than {MAX_URI_BYTES} bytes"));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEAD_BYTES {
        let message = format!("a request may have {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes of them");
        return refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message);
    }
    None
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    error: &'a str,
    message: &'a str,
    request_id: &'a str,
}

/// Gives every error the one body: ours from its [`ErrorBody`], the framework's from its status.
fn one_shape(response: &mut Response, id: &str) {
    let body = match response.extensions_mut().remove::<ErrorBody>() {
        Some(body) => body,
        None if is_foreign_error(response) => {
            let (status, body) = translated(response.status());
            *response.status_mut() = status;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
            }
            body
        }
        None => return,
    };
    let told = Told { error: body.error, message: &body.message, request_id: id };
    // Three strings always serialise.
    let json = serde_json::to_vec(&told).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::from(json);
}

/// An error that did not come from our table: a router's, an extractor's or a layer's, empty or plain text.
fn is_foreign_error(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    (response.status().is_client_error() || response.status().is_server_error())
        && !kind.starts_with("application/json")
}

/// The table's entry for a framework's status; what is wrong with the input is a 400.
fn translated(status: StatusCode) -> (StatusCode, ErrorBody) {
    let known = match status {
        StatusCode::UNAUTHORIZED => Some(Error::Unauthorized("session token missing")),
        StatusCode::NOT_FOUND => Some(Error::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => Some(Error::MethodNotAllowed),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Error::BadRequest("the body is too large".to_owned())),
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY => {
            Some(Error::BadRequest("the request cannot be parsed".to_owned()))
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Some(Error::Overloaded { retry_after_s: 1 }),
        _ => None,
    };
    if let Some(error) = known {
        let (status, code) = error.status_and_code();
        return (status, ErrorBody { error: code, message: error.to_string() });
    }
    if status.is_client_error() {
        let message = status.canonical_reason().unwrap_or("bad request").to_ascii_lowercase();
        return (status, ErrorBody { error: "bad_request", message });
    }
    let body = ErrorBody { error: "internal_error", message: "internal error".to_owned() };
    (StatusCode::INTERNAL_SERVER_ERROR, body)
}

/// What every answer has.
pub(super) fn add_headers(headers: &mut HeaderMap, id: &str, is_api: bool) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_api {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// What a user's request left of the limit.
pub(super) fn add_rate_limit(headers: &mut HeaderMap, decision: &Decision, policy: &HeaderValue) {
    headers.insert(RATELIMIT_LIMIT, HeaderValue::from(decision.limit));
    headers.insert(RATELIMIT_REMAINING, HeaderValue::from(decision.remaining));
    headers.insert(RATELIMIT_RESET, HeaderValue::from(decision.reset_s));
    headers.insert(RATELIMIT_POLICY, policy.clone());
}

#[cfg(test)]
mod tests;
