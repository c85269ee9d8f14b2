//! What is the user's own: handed out, or erased.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};

use super::extract::Costly;
use crate::app::App;
use crate::chat::export::Export;
use crate::error::Result;

pub(super) async fn export(
    State(app): State<App>,
    Costly(user): Costly,
) -> Result<([(HeaderName, HeaderValue); 1], axum::Json<Export>)> {
    let name = HeaderValue::from_static("attachment; filename=\"export.json\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], axum::Json(app.chat.export(&user.id).await?)))
}

pub(super) async fn erase(State(app): State<App>, Costly(user): Costly) -> Result<StatusCode> {
    app.chat.erase(&user.id).await?;
    app.push.call_back_from(&user.id).await;
    Ok(StatusCode::NO_CONTENT)
}
