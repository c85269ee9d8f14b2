//! Health: is the process up, and can it do its work?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::extract::Query;
use crate::app::App;
use crate::intercom::{Circuit, Reason};

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Always 200 while the process is up; no I/O, so that a load balancer never empties a fleet over Intercom's outage.
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: VERSION })
}

#[derive(Deserialize)]
pub(super) struct ReadyQuery {
    scope: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Ready {
    status: &'static str,
    checks: Checks,
    version: &'static str,
}

#[derive(Serialize)]
struct Checks {
    database: &'static str,
    intercom: &'static str,
    shutdown: &'static str,
}

pub(super) async fn ready(State(app): State<App>, Query(query): Query<ReadyQuery>) -> (StatusCode, Json<Ready>) {
    let database = if app.store.is_writable().await { "ok" } else { "down" };
    let intercom = match app.intercom.status().circuit {
        Circuit::Closed => "ok",
        Circuit::Open { reason: Reason::Auth, .. } => "auth",
        Circuit::Open { .. } | Circuit::HalfOpen => "open",
    };
    let shutdown = if app.draining.is_cancelled() { "draining" } else { "ok" };
    let local = query.scope.as_deref() == Some("local");
    let is_ready = database == "ok" && shutdown == "ok" && (local || intercom == "ok");
    let (code, status) =
        if is_ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (code, Json(Ready { status, checks: Checks { database, intercom, shutdown }, version: VERSION }))
}
