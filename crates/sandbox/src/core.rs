//! What all parts of a running sandbox share: the world, the rules, the log, and the tasks it owns.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::Settings;
use crate::clock::Clock;
use crate::exchange::{Answer, Reply, Request};
use crate::faults::Rules;
use crate::openapi::Document;
use crate::phones::{Network, Service};
use crate::rest;
use crate::webhooks::Hooks;
use crate::world::{Download, World};

/// How many calls, and violations, are remembered.
const REMEMBERED: usize = 50_000;
const WINDOW_S: i64 = 10;
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A REST call as it arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// When it arrived, in Unix milliseconds.
    pub at_ms: i64,
    /// Such as `POST`.
    pub method: String,
    /// Without the query, still percent-encoded.
    pub path: String,
    /// What was answered; None while there is no answer, and for ever when a fault took it.
    pub status: Option<u16>,
    /// The JSON body; null when there was none, or it was not read.
    pub body: Value,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) url: String,
    pub(crate) clock: Clock,
    pub(crate) document: Option<Arc<Document>>,
    pub(crate) hooks: Hooks,
    pub(crate) client: reqwest::Client,
    pub(crate) network: Arc<Network>,
    world: Mutex<World>,
    rules: Mutex<Rules>,
    log: Mutex<Log>,
    late: Mutex<Late>,
    tasks: Mutex<Option<JoinSet<()>>>,
    runtime: Handle,
}

#[derive(Default)]
struct Log {
    calls: VecDeque<Call>,
    /// The number of the first call still in `calls`.
    first: u64,
    violations: Vec<String>,
    window: i64,
    used: u32,
}

/// Requests that are to be applied late, by the order they came in, each with whose it is and the search's lag.
#[derive(Default)]
struct Late {
    last: u64,
    requests: BTreeMap<u64, (Option<Service>, Request, Option<i64>)>,
}

/// A call in the log, to be completed with its status.
#[derive(Clone, Copy)]
pub(crate) struct Entry(u64);

impl Core {
    pub(crate) fn new(settings: Settings, url: String, document: Option<Arc<Document>>) -> reqwest::Result<Self> {
        // A proxy from the environment must not see what goes over loopback.
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let clock = Clock::of_machine();
        Ok(Self {
            world: Mutex::new(World::new(&settings, &url)),
            network: Arc::new(Network::new(&settings, &url, clock.clone())),
            settings,
            url,
            clock,
            document,
            hooks: Hooks::new(),
            client,
            rules: Mutex::default(),
            log: Mutex::default(),
            late: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            runtime: Handle::current(),
        })
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change of the world (or a look at it), and sends what comes of it.
    pub(crate) fn change<T>(self: &Arc<Self>, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.now_ms = self.clock.now_ms();
        let result = act(&mut world);
        let now_ms = world.now_ms;
        // Still under the lock, so that notifications queue up in the order of the changes.
        for event in std::mem::take(&mut world.events) {
            self.hooks.announce(self, event, now_ms);
        }
        for (ticket, after_ms) in std::mem::take(&mut world.reopenings) {
            let core = Arc::clone(self);
            self.spawn(async move { core.reopen(ticket, Duration::from_millis(after_ms.unsigned_abs())).await });
        }
        for download in std::mem::take(&mut world.downloads) {
            let core = Arc::clone(self);
            self.spawn(async move { core.fetch(download).await });
        }
        result
    }

    /// Lets the bot reopen a ticket after a while, unless that was done in the meantime.
    async fn reopen(self: &Arc<Self>, ticket: String, after: Duration) {
        tokio::time::sleep(after).await;
        self.change(|world| world.reopen_as_planned(&ticket));
    }

    /// Fetches an attachment from where the app offers it, as Intercom does: once, without credentials.
    async fn fetch(self: &Arc<Self>, download: Download) {
        let answer = self.client.get(&download.url).timeout(DOWNLOAD_TIMEOUT).send().await;
        let Ok(answer) = answer.and_then(reqwest::Response::error_for_status) else { return };
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type = header("content-type").unwrap_or("application/octet-stream").to_owned();
        let name = header("content-disposition").and_then(file_name);
        if let Ok(bytes) = answer.bytes().await {
            self.change(|world| world.files.fill(&download.file, name, &content_type, bytes));
        }
    }

    /// Runs a task that ends with the sandbox. Does nothing once it has stopped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        }
    }

    pub(crate) async fn stop(&self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        self.hooks.stop();
    }

    /// Does what a request asks of Intercom (None) or another service, if it may.
    pub(crate) fn apply_at(
        self: &Arc<Self>,
        service: Option<Service>,
        request: &Request,
        lag_ms: Option<i64>,
    ) -> Reply {
        let Some(service) = service else { return self.apply(request, lag_ms).into() };
        let (reply, violations) = self.network.apply(service, request);
        self.add_violations(violations);
        reply
    }

    fn apply(self: &Arc<Self>, request: &Request, lag_ms: Option<i64>) -> Answer {
        let token = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        if token != Some(&self.settings.access_token) {
            return Answer::refusal(401, "unauthorized", "Access Token Invalid");
        }
        let (remaining, reset) = self.count();
        let answer = match remaining {
            None => self.rate_limited(),
            Some(_) if !accepts_json(request) => Answer::refusal(
                406,
                "media_type_not_acceptable",
                "The Accept header should send a media type of application/json",
            ),
            Some(_) => self.change(|world| {
                let lag_ms = lag_ms.unwrap_or(world.search_lag_ms);
                rest::answer(world, request, lag_ms)
            }),
        };
        answer
            .with("x-ratelimit-limit", self.settings.rate_limit_per_10s.to_string())
            .with("x-ratelimit-remaining", remaining.unwrap_or(0).to_string())
            .with("x-ratelimit-reset", reset.to_string())
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a request after a while, or with [`Core::apply_late`] if that is earlier, whoever goes away meanwhile.
    pub(crate) fn apply_after(
        self: &Arc<Self>,
        after: Duration,
        service: Option<Service>,
        request: Request,
        lag_ms: Option<i64>,
    ) {
        let mut late = self.late();
        late.last += 1;
        let (core, number) = (Arc::clone(self), late.last);
        late.requests.insert(number, (service, request, lag_ms));
        drop(late);
        self.spawn(async move {
            tokio::time::sleep(after).await;
            let due = core.late().requests.remove(&number);
            if let Some((service, request, lag_ms)) = due {
                core.apply_at(service, &request, lag_ms);
            }
        });
    }

    /// Applies at once what was to be applied late.
    pub(crate) fn apply_late(self: &Arc<Self>) {
        let due = std::mem::take(&mut self.late().requests);
        for (service, request, lag_ms) in due.into_values() {
            self.apply_at(service, &request, lag_ms);
        }
    }

    pub(crate) fn rate_limited(&self) -> Answer {
        let message = format!("Exceeded rate limit of {} in 10_seconds", self.settings.rate_limit_per_10s);
        Answer::refusal(429, "rate_limit_exceeded", message)
    }

    /// 429 as in a window that ends in so many seconds.
    pub(crate) fn rate_limited_for(&self, seconds: i64) -> Answer {
        self.rate_limited()
            .with("x-ratelimit-limit", self.settings.rate_limit_per_10s.to_string())
            .with("x-ratelimit-remaining", "0")
            .with("x-ratelimit-reset", (self.clock.now_s() + seconds).to_string())
    }

    /// Counts a call: what remains in this window of ten seconds (None: nothing was left), and when it ends, in Unix seconds.
    fn count(&self) -> (Option<u32>, i64) {
        let window = self.clock.now_s().div_euclid(WINDOW_S);
        let mut log = self.log();
        if log.window != window {
            (log.window, log.used) = (window, 0);
        }
        let remaining = self.settings.rate_limit_per_10s.checked_sub(log.used + 1);
        log.used += u32::from(remaining.is_some());
        (remaining, (window + 1) * WINDOW_S)
    }

    pub(crate) fn log_call(&self, request: &Request) -> Entry {
        let mut log = self.log();
        let (method, path, body) = (request.method.clone(), request.path.clone(), request.body.clone());
        log.calls.push_back(Call { at_ms: self.clock.now_ms(), method, path, status: None, body });
        if log.calls.len() > REMEMBERED {
            log.calls.pop_front();
            log.first += 1;
        }
        Entry(log.first + log.calls.len() as u64 - 1)
    }

    pub(crate) fn log_answer(&self, entry: Entry, status: u16) {
        let mut log = self.log();
        let index = entry.0.checked_sub(log.first).and_then(|index| usize::try_from(index).ok());
        if let Some(call) = index.and_then(|index| log.calls.get_mut(index)) {
            call.status = Some(status);
        }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.log().calls.iter().cloned().collect()
    }

    pub(crate) fn forget_calls(&self) {
        let mut log = self.log();
        log.first += log.calls.len() as u64;
        log.calls.clear();
    }

    pub(crate) fn add_violations(&self, found: Vec<String>) {
        let mut log = self.log();
        let room = REMEMBERED.saturating_sub(log.violations.len());
        log.violations.extend(found.into_iter().take(room));
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.log().violations.clone()
    }
}

/// The plain file name that a Content-Disposition has.
fn file_name(disposition: &str) -> Option<String> {
    let (_, rest) = disposition.split_once("filename=\"")?;
    rest.split_once('"').map(|(name, _)| name.to_owned()).filter(|name| !name.is_empty())
}

fn accepts_json(request: &Request) -> bool {
    let accept = request.accept.as_deref().unwrap_or_default();
    accept
        .split(',')
        .any(|kind| matches!(kind.split(';').next().map(str::trim), Some("application/json" | "application/*" | "*/*")))
}
