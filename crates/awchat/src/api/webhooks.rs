//! Intercom's notifications: checked against their signature, stored, acknowledged; the worker applies them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::error::{Error, Result};
use crate::intercom::signature;

/// What is looked at before storing.
#[derive(Deserialize)]
struct Envelope {
    id: Option<String>,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    app_id: Option<String>,
}

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
    let envelope: Envelope = serde_json::from_str(text).map_err(|_| not_json())?;
    let own = &app.config.intercom.app_id;
    let of_another_app = own.is_some() && envelope.app_id != *own;
    if of_another_app || envelope.topic == "ping" {
        return Ok(Json(Taken {}));
    }
    let id = envelope.id.unwrap_or_else(|| hex::encode(Sha256::digest(&raw)));
    app.chat.receive(&id, &envelope.topic, text).await?;
    Ok(Json(Taken {}))
}

/// Intercom validates the address with HEAD.
pub(super) async fn validate() {}

fn not_json() -> Error {
    Error::BadRequest("not a JSON object".to_owned())
}
