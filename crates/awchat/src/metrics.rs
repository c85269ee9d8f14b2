//! What is counted while the server works, and Prometheus' text of it. No label holds an id or anything of a person.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// The methods that are told apart, the last for all others.
pub const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "(other)"];
/// The statuses that are told apart; all others count as 0.
const STATUSES: [u16; 23] =
    [0, 200, 201, 204, 206, 301, 302, 303, 304, 400, 401, 403, 404, 405, 409, 413, 416, 422, 429, 431, 500, 502, 503];
/// The upper ends of the buckets of times, in milliseconds.
const ENDS_MS: [u32; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];
/// No more routes than this are told apart: there are far fewer.
const MOST_ROUTES: usize = 256;

/// Requests by route, method and status.
#[derive(Default)]
pub struct Requests(RwLock<HashMap<Box<str>, Arc<OfRoute>>>);

impl fmt::Debug for OfRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfRoute")
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

/// Answers of one route.
pub struct OfRoute {
    /// By method and status.
    answers: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    /// By the first end that is not below; one more for what took longer.
    times: [AtomicU64; ENDS_MS.len() + 1],
    all_ms: AtomicU64,
}

impl OfRoute {
    fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            answers: std::array::from_fn(|_| zeros()),
            times: std::array::from_fn(|_| AtomicU64::new(0)),
            all_ms: AtomicU64::new(0),
        }
    }

    /// Counts an answer.
    pub fn count(&self, method: &str, status: u16, took_ms: i64) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        let took_ms = u64::try_from(took_ms).unwrap_or(0);
        let bucket = ENDS_MS.iter().position(|end| took_ms <= u64::from(*end)).unwrap_or(ENDS_MS.len());
        self.answers[method][status].fetch_add(1, Ordering::Relaxed);
        self.times[bucket].fetch_add(1, Ordering::Relaxed);
        if took_ms > 0 {
            self.all_ms.fetch_add(took_ms, Ordering::Relaxed);
        }
    }
}

impl Requests {
    /// Counts an answer; `route` is the template, never the path.
    pub fn count(&self, method: &str, route: &str, status: u16, took_ms: i64) {
        let Some(of_route) = self.of_route(route) else { return };
        of_route.count(method, status, took_ms);
    }

    /// Where the answers of a route are counted that is asked for all the time; `None` where there are too many routes.
    pub fn of_route(&self, route: &str) -> Option<Arc<OfRoute>> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Some(known.clone());
        }
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= MOST_ROUTES {
            return None;
        }
        Some(routes.entry(route.into()).or_insert_with(|| Arc::new(OfRoute::new())).clone())
    }

    /// The routes in order, for a text that is the same each time.
    fn routes(&self) -> Vec<(Box<str>, Arc<OfRoute>)> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut routes: Vec<_> = routes.iter().map(|(route, of_route)| (route.clone(), of_route.clone())).collect();
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        routes
    }
}

/// Counts by two labels whose values are known beforehand.
#[derive(Debug)]
pub struct Grid {
    rows: &'static [&'static str],
    columns: &'static [&'static str],
    counts: Box<[AtomicU64]>,
}

impl Grid {
    /// All zero.
    pub fn new(rows: &'static [&'static str], columns: &'static [&'static str]) -> Self {
        Self { rows, columns, counts: (0..rows.len() * columns.len()).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts one; an unknown row or column counts nowhere.
    pub fn count(&self, row: usize, column: usize) {
        if let Some(count) = self.counts.get(row * self.columns.len() + column) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Row, column and count.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let cell = |(at, count): (usize, &AtomicU64)| {
            let (row, column) = (at / self.columns.len(), at % self.columns.len());
            (self.rows[row], self.columns[column], count.load(Ordering::Relaxed))
        };
        self.counts.iter().enumerate().map(cell).collect()
    }
}

/// How things stand at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Calls to Intercom by class and result.
    pub intercom_calls: Vec<(&'static str, &'static str, u64)>,
    /// The share of Intercom's rate limit that is left; `None` before its first answer.
    pub budget_left: Option<f64>,
    /// `closed`, `open` or `half_open`.
    pub circuit: &'static str,
    /// Notices to devices by platform and result.
    pub pushes: Vec<(&'static str, &'static str, u64)>,
    /// What waits in the database: name, how many, and how old the oldest is, in milliseconds; none if it cannot be read.
    pub waiting: Vec<(&'static str, i64, i64)>,
    /// What sweeps found that no webhook had brought.
    pub repairs: u64,
    /// Heads in memory.
    pub heads: u64,
    /// Polls that wait.
    pub long_polls: u64,
    /// Open event streams.
    pub event_streams: u64,
}

/// Everything as Prometheus reads it.
pub fn text(requests: Arc<Requests>, snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("awchat");
    registry.register_collector(Box::new(Scrape { requests, snapshot }));
    let mut text = String::new();
    // A text takes whatever is written to it.
    let _ = text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    requests: Arc<Requests>,
    snapshot: Snapshot,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        let now = &self.snapshot;
        let calls = ("intercom_calls", "Calls to Intercom by class and result");
        counts(&mut encoder, calls, ("class", "result"), &now.intercom_calls)?;
        counts(&mut encoder, ("pushes", "Notices to users' devices"), ("platform", "result"), &now.pushes)?;
        if let Some(left) = now.budget_left {
            gauge(&mut encoder, "intercom_budget_left_ratio", "The share of Intercom's rate limit that is left", left)?;
        }
        self.circuit(&mut encoder)?;
        self.waiting(&mut encoder)?;
        let mut repairs =
            encoder.encode_descriptor("repairs", "What no webhook had brought", None, MetricType::Counter)?;
        repairs.encode_counter::<NoLabels, _, u64>(&now.repairs, None)?;
        for (name, help, value) in [
            ("heads", "Conversations' heads in memory", now.heads),
            ("long_polls", "Polls that wait for news", now.long_polls),
            ("event_streams", "Open event streams", now.event_streams),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "a figure for a chart")]
            gauge(&mut encoder, name, help, value as f64)?;
        }
        Ok(())
    }
}

type NoLabels = [(&'static str, &'static str); 0];

impl Scrape {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let routes = self.requests.routes();
        let help = "Requests by route, method and status";
        let mut all = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (route, of_route) in &routes {
            for (method, by_status) in METHODS.iter().zip(&of_route.answers) {
                for (status, count) in STATUSES.iter().zip(by_status) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let status = status.to_string();
                        let labels = [("route", &**route), ("method", *method), ("status", status.as_str())];
                        all.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&count, None)?;
                    }
                }
            }
        }
        let help = "From a request's head to its answer's head, in seconds";
        let mut times = encoder.encode_descriptor("request_seconds", help, None, MetricType::Histogram)?;
        for (route, of_route) in &routes {
            let counted: Vec<u64> = of_route.times.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let ends = ENDS_MS.iter().map(|end| f64::from(*end) / 1_000.0).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = ends.zip(counted.iter().copied()).collect();
            #[expect(clippy::cast_precision_loss, reason = "a figure for a chart")]
            let sum = of_route.all_ms.load(Ordering::Relaxed) as f64 / 1_000.0;
            times.encode_family(&[("route", &**route)])?.encode_histogram::<NoLabels>(
                sum,
                counted.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn circuit(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The circuit to Intercom: 1 for what it is";
        let mut circuit = encoder.encode_descriptor("intercom_circuit", help, None, MetricType::Gauge)?;
        for state in ["closed", "open", "half_open"] {
            let is = i64::from(state == self.snapshot.circuit);
            circuit.encode_family(&[("state", state)])?.encode_gauge(&is)?;
        }
        Ok(())
    }

    fn waiting(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Rows that wait: users' messages without an end, webhooks that are not applied, jobs that are due";
        let mut rows = encoder.encode_descriptor("waiting", help, None, MetricType::Gauge)?;
        for (what, count, _) in &self.snapshot.waiting {
            rows.encode_family(&[("what", *what)])?.encode_gauge(count)?;
        }
        let help = "How long the oldest of them has waited, in seconds";
        let mut oldest = encoder.encode_descriptor("waiting_seconds", help, None, MetricType::Gauge)?;
        for (what, _, age_ms) in &self.snapshot.waiting {
            #[expect(clippy::cast_precision_loss, reason = "a figure for a chart")]
            let seconds = *age_ms as f64 / 1_000.0;
            oldest.encode_family(&[("what", *what)])?.encode_gauge(&seconds)?;
        }
        Ok(())
    }
}

fn counts(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    (row, column): (&'static str, &'static str),
    counts: &[(&'static str, &'static str, u64)],
) -> fmt::Result {
    let mut all = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (in_row, in_column, count) in counts {
        let labels = [(row, *in_row), (column, *in_column)];
        all.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(count, None)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}
