//! How many requests are worked on at once; beyond, they wait a little and are then refused with a 503.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tower::layer::layer_fn;

use crate::clock::Clock;
use crate::error::Error;

/// Requests worked on at once, unless a test says otherwise.
pub const CONCURRENCY: usize = 512;
/// How long a request may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Puts the routes of `router` under one limit of `concurrency`. Leave `/health`, `/ready` and webhooks out of it:
/// they must answer when everything else is busy.
pub fn limited<S>(router: Router<S>, concurrency: usize, clock: Clock) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let gate = Gate { slots: Arc::new(Semaphore::new(concurrency)), clock };
    router.layer(layer_fn(move |inner| Limited { inner, gate: gate.clone() }))
}

#[derive(Clone)]
struct Gate {
    slots: Arc<Semaphore>,
    clock: Clock,
}

/// A request's place among those that are worked on. A long poll and an event stream give it back before they wait, and
/// the server, who put it into the request, then knows that they do.
#[derive(Clone, Default)]
pub struct Slot(Arc<Place>);

#[derive(Default)]
struct Place {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    waits: AtomicBool,
}

impl Slot {
    /// The place of this request, which can give it back.
    fn given(permit: OwnedSemaphorePermit, request: &mut Request) -> Self {
        let slot = request.extensions_mut().get_or_insert_default::<Self>().clone();
        *slot.0.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        slot
    }

    /// Gives the place back: from here on the request waits, for as long as it likes.
    pub fn wait(&self) {
        self.0.waits.store(true, Ordering::Relaxed);
        self.free();
    }

    /// Whether the request waits.
    pub fn waits(&self) -> bool {
        self.0.waits.load(Ordering::Relaxed)
    }

    fn free(&self) {
        self.0.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// On a route without a limit, a slot that holds nothing.
impl<S: Send + Sync> FromRequestParts<S> for Slot {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Lets in so many at once.
#[derive(Clone)]
struct Limited<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request> for Limited<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Ok(permit) = self.gate.slots.clone().try_acquire_owned() {
            let slot = Slot::given(permit, &mut request);
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let answer = answer.await;
                slot.free();
                answer
            });
        }
        let (mut inner, gate) = (self.inner.clone(), self.gate.clone());
        Box::pin(async move {
            let permit = tokio::select! {
                Ok(permit) = gate.slots.clone().acquire_owned() => permit,
                () = gate.clock.sleep(PATIENCE) => return Ok(Error::Overloaded { retry_after_s: 1 }.into_response()),
            };
            let slot = Slot::given(permit, &mut request);
            let answer = inner.call(request).await;
            slot.free();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    /// One place; `/work` holds it until told, `/poll` gives it back before it waits.
    fn app(clock: &Clock, go_on: &Arc<Notify>) -> Router {
        let (work, poll) = (go_on.clone(), go_on.clone());
        let work = async move || work.notified().await;
        let poll = async move |slot: Slot| {
            slot.wait();
            poll.notified().await;
        };
        let routes =
            Router::new().route("/work", get(work)).route("/poll", get(poll)).route("/quick", get(async || ()));
        limited(routes, 1, clock.clone())
    }

    async fn ask(app: &Router, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        app.clone().oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_a_second_and_is_refused() {
        let (clock, go_on) = (Clock::manual(0), Arc::new(Notify::new()));
        let app = app(&clock, &go_on);
        let busy = tokio::spawn({
            let app = app.clone();
            async move { ask(&app, "/work").await }
        });
        tokio::task::yield_now().await;
        let waiting = tokio::spawn({
            let app = app.clone();
            async move { ask(&app, "/quick").await }
        });
        tokio::task::yield_now().await;
        clock.advance(999);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(1);
        let refused = waiting.await.expect("answered");
        assert_eq!((refused.status(), &refused.headers()["retry-after"]), (StatusCode::SERVICE_UNAVAILABLE, &1.into()));
        go_on.notify_waiters();
        assert_eq!(busy.await.expect("answered").status(), StatusCode::OK);
        assert_eq!(ask(&app, "/quick").await.status(), StatusCode::OK, "the place is free again");
    }

    #[tokio::test]
    async fn a_long_poll_takes_no_place_while_it_waits() {
        let (clock, go_on) = (Clock::manual(0), Arc::new(Notify::new()));
        let app = app(&clock, &go_on);
        let polling = tokio::spawn({
            let app = app.clone();
            async move { ask(&app, "/poll").await }
        });
        tokio::task::yield_now().await;
        assert_eq!(ask(&app, "/quick").await.status(), StatusCode::OK);
        assert!(!polling.is_finished());
        go_on.notify_waiters();
        assert_eq!(polling.await.expect("answered").status(), StatusCode::OK);
    }
}
