//! Metrics, on a listener of their own: for Prometheus alone, not for the outside.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;
use crate::intercom::Circuit;
use crate::metrics::{self, Snapshot};

/// `GET /metrics`.
pub fn router(app: App) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(app)
}

async fn scrape(State(app): State<App>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = metrics::text(app.requests.clone(), snapshot(&app).await);
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text)
}

async fn snapshot(app: &App) -> Snapshot {
    let now_ms = app.clock.now_ms();
    // Whatever ails the database, the rest is told.
    let waiting = match app.store.backlog(now_ms).await {
        Ok(backlog) => {
            let queues = [("journal", backlog.unresolved), ("webhooks", backlog.webhooks), ("jobs", backlog.jobs)];
            queues
                .map(|(name, queue)| (name, queue.count, queue.oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0))))
                .into()
        }
        Err(_) => Vec::new(),
    };
    let status = app.intercom.status();
    Snapshot {
        intercom_calls: app.intercom.calls(),
        budget_left: status.budget_left,
        circuit: match status.circuit {
            Circuit::Closed => "closed",
            Circuit::Open { .. } => "open",
            Circuit::HalfOpen => "half_open",
        },
        pushes: app.push.counts(),
        waiting,
        repairs: app.chat.repairs(),
        heads: app.chat.heads(),
        long_polls: app.chat.long_polls(),
        event_streams: app.chat.listeners() as u64,
    }
}
