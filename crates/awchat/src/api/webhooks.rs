//! Intercom's notifications: checked against their signature, stored, acknowledged; the worker applies them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::chat::view;
use crate::error::{Error, Result};
use crate::intercom::{signature, wire};

/// `{}`: Intercom looks at the status alone.
#[derive(Serialize)]
pub(super) struct Taken {}

pub(super) async fn receive(State(app): State<App>, headers: HeaderMap, raw: Bytes) -> Result<Json<Taken>> {
    let mut signatures = headers.get_all("x-hub-signature").iter();
    let signature = signatures.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if signatures.next().is_some() || !signature::verify(&app.config.intercom.client_secrets, signature, &raw) {
        return Err(Error::Unauthorized("webhook signature invalid"));
    }
    let text = std::str::from_utf8(&raw).map_err(|_| not_json())?;
    let is_object = text.trim_start().starts_with('{');
    let notification: Option<wire::Notification> = serde_json::from_str(text).ok().filter(|_| is_object);
    let notification = notification.ok_or_else(not_json)?;
    let (own, theirs) = (app.config.intercom.app_id.as_deref(), notification.app_id.as_ref());
    let of_another_app = own.is_some() && own != theirs.map(|id| id.as_str());
    let topic = notification.topic.as_deref().unwrap_or_default();
    if of_another_app || !view::matters(topic) {
        return Ok(Json(Taken {}));
    }
    if app.chat.is_echo(&notification).await {
        return Ok(Json(Taken {}));
    }
    let id = notification.id.as_ref();
    let id = id.map_or_else(|| hex::encode(Sha256::digest(&raw)), |id| id.as_str().to_owned());
    let stored = async {
        match app.chat.is_of_erased(&notification).await? {
            true => Ok(true),
            false => app.chat.receive(&id, topic, text).await,
        }
    };
    // Not durable, not taken: a 503 gets Intercom's one repetition.
    stored.await.map_err(|cause: Error| {
        tracing::error!(?cause, "a webhook could not be stored");
        Error::Overloaded { retry_after_s: 1 }
    })?;
    Ok(Json(Taken {}))
}

/// Intercom validates the address with HEAD.
pub(super) async fn validate() {}

fn not_json() -> Error {
    Error::BadRequest("not a JSON object".to_owned())
}
