//! The edge: what is parsed on the way in and answered on the way out. The whole route table is here.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::app::App;

pub mod admission;
mod conversations;
pub mod extract;
pub mod files;
mod health;
mod openapi;
pub mod params;
pub mod respond;
mod webhooks;

/// The largest webhook, in bytes.
const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// Every route of the server.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/api/conversations", get(conversations::list).post(conversations::start))
        .route("/api/conversations/{id}", get(conversations::get))
        .route("/api/conversations/{id}/poll", get(conversations::poll))
        .route("/api/conversations/{id}/read", post(conversations::read))
        .route("/api/conversations/{id}/close", post(conversations::close))
        .route("/api/conversations/{id}/reply", post(conversations::reply))
        .route("/api/files/upload", post(files::upload))
        .route("/api/files/{id}", get(files::get))
        .route("/files/{id}", get(files::signed));
    let document = openapi::document();
    let outside = Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/openapi.json", get(move || openapi::serve(document.clone())))
        .route(
            "/webhooks/intercom",
            post(webhooks::receive).head(webhooks::validate).layer(DefaultBodyLimit::max(MAX_WEBHOOK_BYTES)),
        );
    let settings = respond::Settings {
        cors_origins: app.config.cors_origins.clone(),
        rate_limit_policy: app.edge.limits.policy(),
        clock: app.clock.clone(),
    };
    let limited = admission::limited(api, admission::CONCURRENCY, app.clock.clone());
    respond::layers(outside.merge(limited), &settings).with_state(app)
}
