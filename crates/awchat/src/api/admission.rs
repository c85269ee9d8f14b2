//! How many requests are worked on at once; beyond, they wait a little and are then refused with a 503.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    router.layer(middleware::from_fn_with_state(gate, pass))
}

#[derive(Clone)]
struct Gate {
    slots: Arc<Semaphore>,
    clock: Clock,
}

/// A request's place among those that are worked on. A long poll gives it back before it waits, an event stream
/// need not: the place is free again when the answer's head is made.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Slot {
    /// Gives the place back.
    pub fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
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

async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let permit = match gate.slots.clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => tokio::select! {
            Ok(permit) = gate.slots.clone().acquire_owned() => permit,
            () = gate.clock.sleep(PATIENCE) => return Error::Overloaded { retry_after_s: 1 }.into_response(),
        },
    };
    let slot = Slot(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(slot.clone());
    let response = next.run(request).await;
    slot.release();
    response
}
