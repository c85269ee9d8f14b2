//! The edge: what is parsed on the way in and answered on the way out. The whole route table is here.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use crate::app::App;

mod admin;
pub mod admission;
mod config;
mod conversations;
mod devices;
mod diagnostics;
mod docs;
mod events;
pub mod extract;
mod feedback;
pub mod files;
mod health;
pub mod idle;
mod me;
pub mod metrics;
mod openapi;
pub mod params;
pub mod respond;
mod session;
mod tickets;
mod webhooks;
mod widget;

/// The largest webhook, in bytes.
const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// Every route of the server.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/api/conversations", get(conversations::list).post(conversations::start))
        .route("/api/conversations/{id}", get(conversations::get))
        .route(respond::POLL, get(conversations::poll))
        .route("/api/conversations/{id}/read", post(conversations::read))
        .route("/api/conversations/{id}/close", post(conversations::close))
        .route("/api/conversations/{id}/reply", post(conversations::reply))
        .route("/api/tickets", get(tickets::list))
        .route("/api/tickets/search", get(tickets::search))
        .route("/api/tickets/{id}", get(tickets::get))
        .route("/api/tickets/{id}/reply", post(tickets::reply))
        .route("/api/tickets/{id}/clarify", post(tickets::clarify))
        .route("/api/files/upload", post(files::upload))
        .route("/api/files/{id}", get(files::get))
        .route("/files/{id}", get(files::signed))
        .route("/api/csat", post(feedback::rate))
        .route("/api/complaints", post(feedback::complain))
        // As an id it is malformed: not found, like any other.
        .route("/api/devices/register", post(devices::register).delete(devices::unregister))
        .route("/api/devices/{id}", delete(devices::unregister))
        .route("/api/settings/notifications", get(devices::notifications).put(devices::set_notifications))
        .route("/api/diagnostics", post(diagnostics::report))
        .route("/api/config", get(config::get))
        .route("/api/events", get(events::stream))
        .route("/api/session/telegram", post(session::telegram))
        .route("/api/export", get(me::export))
        .route("/api/me", delete(me::erase));
    let json = openapi::Contract::of_the_binary();
    let page = json.clone();
    let outside = Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/openapi.json", get(move || openapi::json(json.clone())))
        .route("/docs", get(move || openapi::page(page.clone())))
        .route(
            "/webhooks/intercom",
            post(webhooks::receive).head(webhooks::validate).layer(DefaultBodyLimit::max(MAX_WEBHOOK_BYTES)),
        );
    let settings = respond::Settings {
        cors_origins: app.config.cors_origins.clone(),
        rate_limit_policy: app.edge.limits.policy(),
        clock: app.clock.clone(),
        requests: app.requests.clone(),
    };
    let limited = admission::limited(api, admission::CONCURRENCY, app.clock.clone());
    let admin = admin::router(app.config.admin_token.as_ref());
    let widget = widget::router(&app.config.cors_origins);
    respond::layers(outside.merge(limited).merge(admin).merge(widget), &settings).with_state(app)
}
