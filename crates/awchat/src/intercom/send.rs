//! The one way out: a call goes through breaker, bulkhead, budget and timeout, and its end is classified here.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LINK, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;
use tracing::Instrument;
use url::Url;

use super::budget::{Class, Seen};
use super::retry::Attempted;
use super::{CallError, Intercom, NotApplied, READ_TIMEOUT, wire};
use crate::breaker::Outcome;
use crate::{clock, id, traces};

/// How long a call waits for its turn.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// 500 parts of the longest messages are far less.
const LONGEST_ANSWER_BYTES: usize = 32 << 20;

/// A call, ready to go out. Not `Debug`: its body is people's words.
pub(super) struct Call {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    class: Class,
    /// It only reads: the shorter timeout, the readers' bulkhead.
    reads: bool,
    /// It may happen twice without harm.
    repeatable: bool,
}

/// An answer that is ours to interpret: 2xx, or a refusal. Not `Debug`, as a call.
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The `Link` header, which names the contact that a merged one lives on in.
    pub(super) link: Option<String>,
    body: Vec<u8>,
}

/// How a call ended on the wire.
enum Exchange {
    Answered {
        status: StatusCode,
        headers: HeaderMap,
        body: Vec<u8>,
    },
    /// The connection never stood.
    Unreachable,
    /// Something was written; no whole answer came back.
    Broken {
        answered: bool,
    },
}

impl Call {
    /// A call that may happen twice without harm.
    pub(super) fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// A `POST` that only reads: a search.
    pub(super) fn reading(self) -> Self {
        Self { reads: true, repeatable: true, ..self }
    }
}

impl Intercom {
    /// A `GET` of the path with these segments.
    pub(super) fn get(&self, path: &[&str], class: Class) -> Call {
        Call { method: Method::GET, url: self.url(path), body: None, class, reads: true, repeatable: true }
    }

    /// A `DELETE`, which may happen twice.
    pub(super) fn delete(&self, path: &[&str], class: Class) -> Call {
        Call { method: Method::DELETE, url: self.url(path), body: None, class, reads: false, repeatable: true }
    }

    /// A call with a JSON body.
    pub(super) fn call(&self, method: Method, path: &[&str], class: Class, body: &impl Serialize) -> Call {
        let body = serde_json::to_vec(body).expect("our requests are plain maps with text keys");
        Call { method, url: self.url(path), body: Some(body), class, reads: false, repeatable: false }
    }

    /// Sends, retrying where that is safe.
    ///
    /// # Errors
    /// Everything but a refusal, which is the caller's to interpret.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, CallError> {
        let started_ms = self.0.clock.now_ms();
        self.guard().retries.called();
        let mut retries = 0;
        loop {
            let attempt = self.attempt(call).await;
            self.0.calls.count(call.class as usize, result(&attempt));
            let error = match attempt {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let elapsed = Duration::from_millis(self.0.clock.now_ms().saturating_sub(started_ms).unsigned_abs());
            let in_all = self.0.settings.timeout * 3 / 2;
            let spare = in_all.saturating_sub(elapsed + self.timeout(call));
            let attempted = Attempted { retries, repeatable: call.repeatable, spare };
            let Some(wait) = self.guard().retries.after(&error, attempted, id::chance()) else {
                tracing::debug!(method = %call.method, class = ?call.class, retries, %error, "a call to Intercom failed");
                return Err(error);
            };
            self.0.clock.sleep(wait).await;
            retries += 1;
        }
    }

    /// One attempt. The breaker is asked first, so that an open circuit answers at once and costs nothing; the budget
    /// last, so that a call which cannot go out takes nothing of it.
    async fn attempt(&self, call: &Call) -> Result<Answer, CallError> {
        self.gate()?;
        let _turn = self.turn(call).await?;
        self.gate()?;
        let started_ms = self.0.clock.now_ms();
        self.guard()
            .budget
            .take(call.class, started_ms)
            .map_err(|wait| not_applied(NotApplied::NoBudget, Some(wait)))?;
        let exchange = self.traced(call).await;
        let now_ms = self.0.clock.now_ms();
        let opened = {
            let mut guard = self.guard();
            guard.breaker.record(exchange.outcome(), now_ms - started_ms, now_ms, id::chance())
        };
        if opened {
            tracing::warn!(circuit = ?self.status().circuit, "the circuit to Intercom opens");
            self.0.opened.notify_one();
        }
        self.classified(exchange, now_ms)
    }

    /// The half-open circuit's look at Intercom: past breaker, bulkhead and budget.
    pub(super) async fn probe(&self, call: &Call) -> Outcome {
        let outcome = self.traced(call).await.outcome();
        let now_ms = self.0.clock.now_ms();
        self.guard().breaker.record_probe(outcome, now_ms, id::chance());
        outcome
    }

    async fn turn(&self, call: &Call) -> Result<SemaphorePermit<'_>, CallError> {
        let bulkheads = &self.0.bulkheads;
        let bulkhead = match call.class {
            Class::Sweep => &bulkheads.sweeps,
            _ if call.reads => &bulkheads.reads,
            _ => &bulkheads.writes,
        };
        let full = || not_applied(NotApplied::BulkheadFull, Some(QUEUE_WAIT));
        tokio::select! {
            biased;
            turn = bulkhead.acquire() => turn.map_err(|_closed| full()),
            () = self.0.clock.sleep(QUEUE_WAIT) => Err(full()),
        }
    }

    async fn traced(&self, call: &Call) -> Exchange {
        let span = traces::call("intercom", format_args!("{} {:?}", call.method, call.class));
        let exchange = self.exchange(call).instrument(span.clone()).await;
        let status = match &exchange {
            Exchange::Answered { status, .. } => Some(status.as_u16()),
            Exchange::Unreachable | Exchange::Broken { .. } => None,
        };
        traces::ended(&span, status, status.is_none_or(|status| status >= 400));
        exchange
    }

    async fn exchange(&self, call: &Call) -> Exchange {
        let sent_ms = self.0.clock.ticks_ms();
        let mut request = self.0.http.request(call.method.clone(), call.url.clone()).timeout(self.timeout(call));
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Exchange::Unreachable,
            Err(_) => return Exchange::Broken { answered: false },
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        if let Some(date_ms) = headers.get(DATE).and_then(|date| clock::parse_http_date(date.to_str().ok()?)) {
            self.guard().offset.learn(sent_ms, self.0.clock.ticks_ms(), date_ms);
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER_BYTES => body.extend_from_slice(&chunk),
                Ok(None) => return Exchange::Answered { status, headers, body },
                Ok(Some(_)) | Err(_) => return Exchange::Broken { answered: true },
            }
        }
    }

    fn classified(&self, exchange: Exchange, now_ms: i64) -> Result<Answer, CallError> {
        let (status, headers, body) = match exchange {
            Exchange::Answered { status, headers, body } => (status, headers, body),
            Exchange::Unreachable => return Err(not_applied(NotApplied::Unreachable, None)),
            Exchange::Broken { answered } => return Err(CallError::Ambiguous { answered }),
        };
        let seen = seen(&headers);
        self.guard().budget.learn(seen, now_ms);
        match status.as_u16() {
            401..=403 => Err(CallError::Auth { status: status.as_u16() }),
            429 => {
                let wait = self.guard().budget.throttled(seen, now_ms);
                Err(not_applied(NotApplied::Throttled, Some(wait)))
            }
            200..=299 | 400..=407 | 409..=499 => {
                let link = headers.get(LINK).and_then(|link| link.to_str().ok()).map(str::to_owned);
                Ok(Answer { status, link, body })
            }
            _ => Err(CallError::Ambiguous { answered: true }),
        }
    }

    fn timeout(&self, call: &Call) -> Duration {
        let timeout = self.0.settings.timeout;
        if call.reads { timeout.min(READ_TIMEOUT) } else { timeout }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.0.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

impl Exchange {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable | Self::Broken { .. } => Outcome::Failure,
            Self::Answered { status, body, .. } => match status.as_u16() {
                // A right that the acting teammate lacks, or tickets that the plan lacks: no reason to stop everybody's chat.
                403 if matches!(refusal(body).code.as_deref(), Some("action_forbidden" | "api_plan_restricted")) => {
                    Outcome::Success
                }
                401..=403 => Outcome::Auth,
                408 | 500.. => Outcome::Failure,
                _ => Outcome::Success,
            },
        }
    }
}

impl Answer {
    /// The body of a success; a refusal is an error.
    ///
    /// # Errors
    /// [`CallError::Rejected`], or [`CallError::Ambiguous`] if the body cannot be read.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        self.ok()?;
        serde_json::from_slice(&wire::without_nul(&self.body)).map_err(|_| CallError::Ambiguous { answered: true })
    }

    /// As [`Answer::json`], with `None` for a 404.
    ///
    /// # Errors
    /// [`CallError`]
    pub(super) fn json_or_none<T: DeserializeOwned>(&self) -> Result<Option<T>, CallError> {
        if self.status == StatusCode::NOT_FOUND { Ok(None) } else { self.json().map(Some) }
    }

    /// A success whose body does not matter.
    ///
    /// # Errors
    /// [`CallError::Rejected`]
    pub(super) fn ok(&self) -> Result<(), CallError> {
        if self.status.is_success() { Ok(()) } else { Err(self.rejected()) }
    }

    /// The refusal as an error.
    pub(super) fn rejected(&self) -> CallError {
        let code = self.refusal().code.unwrap_or_default();
        let code = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
        CallError::Rejected { status: self.status.as_u16(), code }
    }

    /// The first reason of a refusal; empty if there is none to read.
    pub(super) fn refusal(&self) -> wire::Refusal {
        refusal(&self.body)
    }
}

fn refusal(body: &[u8]) -> wire::Refusal {
    let list: wire::ErrorList = serde_json::from_slice(body).unwrap_or_default();
    list.errors.into_iter().next().unwrap_or_default()
}

fn not_applied(reason: NotApplied, retry_after: Option<Duration>) -> CallError {
    CallError::NotApplied { reason, retry_after }
}

/// A try's place among [`super::RESULTS`].
fn result(attempt: &Result<Answer, CallError>) -> usize {
    match attempt {
        Ok(answer) if answer.status.is_success() => 0,
        Ok(_) | Err(CallError::Rejected { .. }) => 1,
        Err(CallError::Auth { .. }) => 2,
        Err(CallError::NotApplied { reason, .. }) => match reason {
            NotApplied::Throttled => 3,
            NotApplied::NoBudget => 4,
            NotApplied::CircuitOpen => 5,
            NotApplied::BulkheadFull => 6,
            NotApplied::Unreachable => 7,
        },
        Err(CallError::Ambiguous { .. }) => 8,
    }
}

fn seen(headers: &HeaderMap) -> Seen {
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    Seen {
        limit: number("x-ratelimit-limit"),
        remaining: number("x-ratelimit-remaining"),
        reset_s: number("x-ratelimit-reset"),
        retry_after_s: number(RETRY_AFTER.as_str()),
    }
}
