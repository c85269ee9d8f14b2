//! Health: is the process up, and can it do its work?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::extract::Query;
use crate::app::App;
use crate::error::{Error, Result};
use crate::intercom::{Circuit, Reason};

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Always 200 while the process is up; no I/O, so that a load balancer never empties a fleet over Intercom's outage.
/// A process that has been told to go says so, for the balancer that reads it.
pub(super) async fn health(State(app): State<App>) -> Json<Health> {
    let status = if app.draining.is_cancelled() { "draining" } else { "ok" };
    Json(Health { status, version: VERSION })
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
    /// Only where there is one; without it this node does its work all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<&'static str>,
    /// Only while the process is shutting down.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'static str>,
}

pub(super) async fn ready(
    State(app): State<App>,
    Query(query): Query<ReadyQuery>,
) -> Result<(StatusCode, Json<Ready>)> {
    let local = match query.scope.as_deref() {
        None => false,
        Some("local") => true,
        Some(_) => return Err(Error::Validation("scope: must be local".to_owned())),
    };
    let database = if app.is_writable().await { "ok" } else { "down" };
    let intercom = match app.intercom.status().circuit {
        Circuit::Closed => "ok",
        Circuit::Open { reason: Reason::Auth, .. } => "auth",
        Circuit::Open { .. } | Circuit::HalfOpen => "open",
    };
    let redis = app.shared.is_up().map(|up| if up { "ok" } else { "down" });
    let server = app.draining.is_cancelled().then_some("draining");
    let is_ready = database == "ok" && server.is_none() && (local || intercom == "ok");
    let (code, status) =
        if is_ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    Ok((code, Json(Ready { status, checks: Checks { database, intercom, redis, server }, version: VERSION })))
}
