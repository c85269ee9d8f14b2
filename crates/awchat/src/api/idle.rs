//! Idle polls that memory alone can answer, before the routes: what every other request passes through costs more than
//! their whole answer, and there are more of them than of all else together.
//!
//! Whatever is not plainly such a poll goes through the routes, which would give this very answer, only later.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, header};
use futures_util::future::BoxFuture;

use super::respond::{self, POLL};
use super::{conversations, params};
use crate::app::App;
use crate::auth::User;
use crate::chat::conversations::Still;
use crate::id::{self, ConversationId};
use crate::limits::{Decision, Weight};
use crate::metrics::OfRoute;
use crate::traces;

/// Room for the headers of an answer, so that their map never grows.
const HEADERS: usize = 14;

/// Answers idle polls.
#[derive(Clone, Debug)]
pub struct Idle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    app: App,
    policy: HeaderValue,
    counted: Option<Arc<OfRoute>>,
    /// Answers to other origins have headers that the routes know of.
    has_origins: bool,
    /// Who traces a request wants a span of it, which the routes make. Other idle polls leave none, as they leave no line.
    has_traces: bool,
}

/// What memory has for an idle poll.
pub enum Answer {
    /// The whole answer.
    Now(Response<Bytes>),
    /// The answer once the request is counted, where other nodes count too; `None` if it does not fit: the routes must answer.
    Counted(BoxFuture<'static, Option<Response<Bytes>>>),
}

/// A poll that finds nothing new.
struct Idly {
    user: User,
    id: ConversationId,
    still: Still,
    began_ms: i64,
}

impl Idle {
    /// Of what `app` keeps in memory.
    pub fn new(app: App) -> Self {
        let policy = respond::policy(&app.edge.limits.policy());
        let counted = app.requests.of_route(POLL);
        let has_origins = !app.config.cors_origins.is_empty();
        let has_traces = app.config.traces.is_some();
        Self(Arc::new(Inner { app, policy, counted, has_origins, has_traces }))
    }

    /// What memory has for a request without a body; `None` where the routes must answer.
    pub fn answer(&self, request: &Parts) -> Option<Answer> {
        let Inner { app, has_origins, has_traces, .. } = &*self.0;
        if request.method != Method::GET || (*has_origins && request.headers.contains_key(header::ORIGIN)) {
            return None;
        }
        if *has_traces && request.headers.contains_key(traces::TRACEPARENT) {
            return None;
        }
        let (id, since) = asked(&request.uri)?;
        if respond::too_large(&request.uri, &request.headers).is_some() {
            return None;
        }
        let began_ms = app.clock.now_ms();
        let user = app.edge.auth.remembered(&request.headers)?;
        let still = app.chat.still(&user.id, &id, since)?;
        let poll = Idly { user, id, still, began_ms };
        match app.edge.limits.check_here(&poll.user.id, Weight::Light) {
            Some(decision) => self.0.told(poll, &decision).map(Answer::Now),
            None => {
                let inner = Arc::clone(&self.0);
                Some(Answer::Counted(Box::pin(async move {
                    let decision = inner.app.edge.limits.check(&poll.user.id, Weight::Light).await;
                    inner.told(poll, &decision)
                })))
            }
        }
    }
}

impl Inner {
    /// The whole answer, if the request fits.
    fn told(&self, Idly { id, still, began_ms, .. }: Idly, decision: &Decision) -> Option<Response<Bytes>> {
        let Self { app, policy, counted, .. } = self;
        if !decision.allowed {
            return None;
        }
        let json = serde_json::to_vec(&app.chat.tell_still(&id, still)).ok()?;

        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            HeaderName::from_static(conversations::AW_POLL.0),
            HeaderValue::from_static(conversations::AW_POLL.1),
        );
        respond::add_headers(&mut headers, &id::random(), true);
        respond::add_rate_limit(&mut headers, decision, policy);
        let mut answer = Response::new(Bytes::from(json));
        *answer.headers_mut() = headers;
        if let Some(counted) = counted {
            counted.count("GET", answer.status().as_u16(), app.clock.now_ms() - began_ms);
        }
        Some(answer)
    }
}

/// Conversation and position of a poll that does not wait, as clients write it: anything else is for the routes.
fn asked(uri: &Uri) -> Option<(ConversationId, i64)> {
    let id = uri.path().strip_prefix("/api/conversations/")?.strip_suffix("/poll")?;
    let since = uri.query()?.strip_prefix("since=")?;
    let is_plain = since.bytes().all(|byte| byte.is_ascii_digit());
    Some((ConversationId::parse(id)?, params::since(since).ok().filter(|_| is_plain)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_poll_is_taken_for_one() {
        let asked = |uri: &str| asked(&uri.parse().expect("a URI")).map(|(id, since)| (id.as_str().to_owned(), since));
        assert_eq!(asked("/api/conversations/42/poll?since=1719750000"), Some(("42".to_owned(), 1_719_750_000)));
        for other in [
            "/api/conversations/42/poll",
            "/api/conversations/42/poll?since=",
            "/api/conversations/42/poll?since=-1",
            "/api/conversations/42/poll?since=%31",
            "/api/conversations/42/poll?since=+1",
            "/api/conversations/42/poll?since=1&wait=25",
            "/api/conversations/42/poll?wait=25&since=1",
            "/api/conversations/42/poll/?since=1",
            "/api/conversations/42x/poll?since=1",
            "/api/conversations/4%32/poll?since=1",
            "/api/conversations//poll?since=1",
            "/api/conversations/42/read?since=1",
            "//api/conversations/42/poll?since=1",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
