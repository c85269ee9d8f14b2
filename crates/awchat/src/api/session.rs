//! Sessions of Telegram Mini Apps without a backend of the company's own.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::extract::{ClientAddress, Json};
use crate::app::App;
use crate::auth::mini_app;
use crate::error::{Error, Result};
use crate::limits::Weight;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TelegramBody {
    init_data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    token: String,
    expires_at: i64,
}

/// What does not hold counts against the client's address, as a wrong token does.
pub(super) async fn telegram(
    State(app): State<App>,
    ClientAddress(client): ClientAddress,
    Json(body): Json<TelegramBody>,
) -> Result<axum::Json<Session>> {
    let limits = &app.edge.limits;
    let (session, decision) = match mini_app::session(&body.init_data, &app.config, &app.clock) {
        Ok(session) => {
            let decision = limits.check(&session.user, Weight::Light).await;
            (Ok(session), decision)
        }
        Err(Error::Unauthorized(reason)) => (Err(Error::Unauthorized(reason)), limits.check_failure(client)),
        Err(error) => return Err(error),
    };
    if !decision.allowed {
        return Err(Error::RateLimited { retry_after_s: decision.retry_after_s });
    }
    session.map(|session| axum::Json(Session { token: session.token, expires_at: session.expires_at }))
}
