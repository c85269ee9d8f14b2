//! Intercom's REST API (version 2.16): the only way out to it, and what keeps its troubles from becoming ours.
//!
//! Every call goes through one `send`: circuit breaker, bulkhead, rate budget, timeout, classification and, where
//! it is safe, a retry. What went wrong is said in the one way that matters to the caller: is it certain that the
//! call had no effect?

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::metrics::Grid;

pub mod budget;
pub mod contacts;
pub mod conversations;
pub mod downloads;
pub mod offset;
mod retry;
mod send;
pub mod signature;
#[cfg(test)]
mod tests;
pub mod tickets;
pub mod wire;

pub use crate::breaker::{Circuit, Reason};
pub use budget::Class;
use offset::Offset;

const VERSION: HeaderName = HeaderName::from_static("intercom-version");
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than load balancers keep a silent connection: a write on one that is just being closed would be ambiguous.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
const KNOWN_TAGS: usize = 1_000;
/// How far Intercom's clock is believed to be behind ours at most before it has told us.
const UNKNOWN_OFFSET_MS: i64 = 500;
/// No clock of ours is so far ahead and still trusted: webhooks and tokens would be refused.
const MOST_BEHIND_MS: i64 = 300_000;
/// As metrics name the classes, in their order.
const CLASSES: [&str; 4] = ["write", "reconcile", "refresh", "sweep"];
/// What may become of a try; only the first four and the last reached Intercom for certain.
const RESULTS: [&str; 9] =
    ["done", "refused", "auth", "throttled", "no_budget", "circuit_open", "busy", "unreachable", "unknown"];

/// How to reach one Intercom workspace.
#[derive(Clone)]
pub struct Settings {
    /// The region's host, or a stand-in: `https://api.intercom.io`.
    pub base_url: String,
    /// The private app's token.
    pub access_token: String,
    /// The teammate in whose name notes, tags and closes are made.
    pub admin_id: String,
    /// For a write; a read has at most 5 s of it.
    pub timeout: Duration,
    /// How long the circuit stays open the first time.
    pub breaker_open: Duration,
}

/// A client of one workspace. Cheap to clone; all clones share breaker, budget and connections.
#[derive(Clone)]
pub struct Intercom(Arc<Shared>);

struct Shared {
    base: Url,
    http: reqwest::Client,
    settings: Settings,
    clock: Clock,
    guard: Mutex<Guard>,
    calls: Grid,
    opened: Notify,
    bulkheads: Bulkheads,
    /// Tag ids by name in lower case.
    tags: Cache<String, String>,
    ticket_states: Mutex<tickets::KnownStates>,
}

/// What decides whether a call may go, and what answers have told.
struct Guard {
    breaker: Breaker,
    budget: budget::Budget,
    retries: retry::Retries,
    /// Where Intercom's clock stands.
    offset: Offset,
}

struct Bulkheads {
    writes: Semaphore,
    reads: Semaphore,
    sweeps: Semaphore,
}

/// A call that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Certainly without effect: it may be repeated.
    #[error("not sent to Intercom: {reason}")]
    NotApplied {
        /// What stopped it.
        reason: NotApplied,
        /// After which a repetition makes sense, where known.
        retry_after: Option<Duration>,
    },
    /// Intercom understood and said no: a 4xx other than those below. Certainly without effect.
    #[error("Intercom refused: {status} {code}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// Intercom's code, such as `not_found`. Its message is left out: it can hold personal data.
        code: String,
    },
    /// Our credentials, rights or plan: 401, 402 or 403. Certainly without effect; needs a person.
    #[error("Intercom does not accept our credentials: {status}")]
    Auth {
        /// The HTTP status.
        status: u16,
    },
    /// It may have happened, or may yet happen: a timeout or a reset after the request was written, a 5xx, a 2xx
    /// that cannot be read.
    #[error("Intercom's answer is unknown (answered: {answered})")]
    Ambiguous {
        /// Intercom did answer, so it will not apply the call much later.
        answered: bool,
    },
}

impl CallError {
    /// After which a repetition makes sense, where known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotApplied { retry_after, .. } => *retry_after,
            Self::Rejected { .. } | Self::Auth { .. } | Self::Ambiguous { .. } => None,
        }
    }
}

/// Why a call was certainly not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// The circuit is open.
    #[error("the circuit is open")]
    CircuitOpen,
    /// This class of calls has used its share of the rate limit.
    #[error("the rate budget is used up")]
    NoBudget,
    /// Intercom answered 429, or did so a moment ago.
    #[error("throttled")]
    Throttled,
    /// Too many calls are under way.
    #[error("too many calls are under way")]
    BulkheadFull,
    /// No connection: DNS, TCP or TLS.
    #[error("no connection")]
    Unreachable,
}

/// The settings cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Misconfigured {
    /// The base URL is not an `http` or `https` URL.
    #[error("Intercom's base URL must be an http(s) URL")]
    BaseUrl,
    /// The token has characters that no header can carry.
    #[error("Intercom's access token must be visible ASCII")]
    AccessToken,
    /// TLS cannot start.
    #[error("the HTTP client cannot start")]
    Client(#[source] reqwest::Error),
}

/// How the way to Intercom looks, for `/ready`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Open or half open: calls are refused.
    pub circuit: Circuit,
    /// The share of the rate limit that is left in this window, `0.0..=1.0`; `None` before the first answer.
    pub budget_left: Option<f64>,
}

impl Intercom {
    /// A client; nothing is called yet. Somebody must run [`Intercom::run_probe`], or a circuit that opens stays open.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, Misconfigured> {
        let base = Url::parse(&settings.base_url).map_err(|_| Misconfigured::BaseUrl)?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Misconfigured::BaseUrl);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers(&settings.access_token)?)
            // Half of the whole, so that "no connection" is told from "no answer" also with short timeouts.
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout / 2))
            .pool_idle_timeout(IDLE_CONNECTION)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Misconfigured::Client(error.without_url()))?;
        let guard = Guard {
            breaker: Breaker::new(settings.breaker_open),
            budget: budget::Budget::default(),
            retries: retry::Retries::default(),
            offset: Offset::default(),
        };
        let bulkheads = Bulkheads { writes: Semaphore::new(32), reads: Semaphore::new(16), sweeps: Semaphore::new(4) };
        let (guard, opened, tags) = (Mutex::new(guard), Notify::new(), Cache::new(KNOWN_TAGS));
        let ticket_states = Mutex::new(None);
        let calls = Grid::new(&CLASSES, &RESULTS);
        let shared = Shared { base, http, settings, clock, guard, calls, opened, bulkheads, tags, ticket_states };
        Ok(Self(Arc::new(shared)))
    }

    /// The workspace and the token's owner. Also what the probe calls.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn me(&self) -> Result<wire::Admin, CallError> {
        self.send(&self.get(&["me"], Class::Reconcile)).await?.json()
    }

    /// A teammate; `None` if there is none of that id.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn admin(&self, id: &str) -> Result<Option<wire::Admin>, CallError> {
        self.send(&self.get(&["admins", id], Class::Refresh)).await?.json_or_none()
    }

    /// How often it was tried to call Intercom: class, result, count.
    pub fn calls(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.0.calls.counts()
    }

    /// How the way to Intercom looks now. No I/O.
    pub fn status(&self) -> Status {
        let now_ms = self.0.clock.now_ms();
        let mut guard = self.guard();
        Status { circuit: guard.breaker.circuit(now_ms), budget_left: guard.budget.left(now_ms) }
    }

    /// What Intercom's clock showed at these [`Clock::ticks_ms`] at the earliest, Unix milliseconds; of a question that it
    /// has answered: no later than when it was answered. No I/O.
    pub fn time_at(&self, ticks_ms: i64) -> i64 {
        self.guard().offset.time_at(ticks_ms).unwrap_or_else(|| {
            let ago_ms = self.0.clock.ticks_ms() - ticks_ms;
            self.0.clock.now_ms() - ago_ms - UNKNOWN_OFFSET_MS
        })
    }

    /// How far Intercom's clock may be behind ours, in milliseconds. No I/O.
    pub fn behind_ms(&self) -> i64 {
        (self.0.clock.now_ms() - self.time_at(self.0.clock.ticks_ms())).clamp(0, MOST_BEHIND_MS)
    }

    /// Whether a write would be let out now, so that a request can be refused before anything is stored. No I/O.
    ///
    /// # Errors
    /// [`CallError::NotApplied`]: the circuit is not closed, or Intercom told us to wait.
    pub fn gate(&self) -> Result<(), CallError> {
        let now_ms = self.0.clock.now_ms();
        let guard = self.guard();
        let (reason, wait) = match guard.breaker.circuit(now_ms) {
            Circuit::Open { retry_after, .. } => (NotApplied::CircuitOpen, retry_after),
            Circuit::HalfOpen => (NotApplied::CircuitOpen, Duration::from_secs(1)),
            Circuit::Closed => match guard.budget.pause(now_ms) {
                Ok(()) => return Ok(()),
                Err(wait) => (NotApplied::Throttled, wait),
            },
        };
        Err(CallError::NotApplied { reason, retry_after: Some(wait) })
    }

    /// Looks after the circuit until `shutdown`: whenever it opens, waits, asks for `GET /me` and closes it after
    /// three good answers. Users' traffic plays no part, so that a server which has lost all of it recovers too.
    pub async fn run_probe(&self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.probe_forever()).await;
    }

    async fn probe_forever(&self) {
        let call = self.get(&["me"], Class::Write);
        loop {
            let wait = self.guard().breaker.probe_in(self.0.clock.now_ms());
            match wait {
                None => self.0.opened.notified().await,
                Some(Duration::ZERO) => {
                    let outcome = self.probe(&call).await;
                    tracing::info!(?outcome, "probed Intercom");
                }
                Some(wait) => self.0.clock.sleep(wait).await,
            }
        }
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.0.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Intercom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Intercom").field(&self.0.settings).finish()
    }
}

fn headers(access_token: &str) -> Result<HeaderMap, Misconfigured> {
    let mut bearer =
        HeaderValue::from_str(&format!("Bearer {access_token}")).map_err(|_| Misconfigured::AccessToken)?;
    bearer.set_sensitive(true);
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, bearer),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (VERSION, HeaderValue::from_static("2.16")),
    ]))
}
