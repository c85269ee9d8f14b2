//! What a client's screens need to know of the server's settings.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::params;
use crate::app::App;
use crate::auth::User;
use crate::chat::feedback::Category;
use crate::files::check::Kind;

/// How often a client asks that cannot wait for answers, in milliseconds: while something happens, and while not.
const ACTIVE_MS: u32 = 2500;
const IDLE_MS: u32 = 15_000;

pub(super) async fn get(_: User, State(app): State<App>) -> Json<Value> {
    let files = &app.config.files;
    Json(json!({
        "topics": app.config.topics,
        "complaintCategories": Category::ALL,
        "files": {
            "maxBytes": files.max_bytes,
            "maxPerMessage": files.max_per_message,
            // Without the charset: a client compares types.
            "contentTypes": Kind::ALL.map(|kind| kind.content_type().split(';').next()),
        },
        "poll": { "maxWaitSeconds": params::LONGEST_WAIT_S, "activeMs": ACTIVE_MS, "idleMs": IDLE_MS },
    }))
}
