//! Tickets: list, search, get, reply, ask about one.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::conversations::{ReplyBody, created, profile, text};
use super::extract::{Costly, IdempotencyKey, Json, Path, Query};
use super::params;
use crate::app::App;
use crate::auth::User;
use crate::chat::tickets::{Full, Summary};
use crate::error::{Error, Result};
use crate::id::ConversationId;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    tickets: Vec<Summary>,
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List>> {
    Ok(axum::Json(page(&app, &user, Some(""), &query).await?))
}

pub(super) async fn search(
    State(app): State<App>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List>> {
    let q = query.q.as_deref().ok_or_else(|| Error::Validation("q: required".to_owned()))?;
    let number = params::ticket_number(q, &app.config.ticket_prefix)?;
    Ok(axum::Json(page(&app, &user, number, &query).await?))
}

/// The tickets whose number begins with this; none without one.
async fn page(app: &App, user: &User, number: Option<&str>, query: &ListQuery) -> Result<List> {
    let limit = params::limit(query.limit)?;
    let after = query.cursor.as_deref().map(params::cursor).transpose()?;
    let Some(number) = number else { return Ok(List::default()) };
    let page = app.chat.tickets(&user.id, number, after.as_ref(), limit).await?;
    Ok(List { next_cursor: page.next.as_ref().map(params::print_cursor), tickets: page.tickets })
}

pub(super) async fn get(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
) -> Result<axum::Json<Full>> {
    Ok(axum::Json(app.chat.ticket(&user.id, &id).await?))
}

pub(super) async fn reply(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
    key: IdempotencyKey,
    Json(body): Json<ReplyBody>,
) -> Result<Response> {
    let content = body.content(&app)?;
    Ok(created(app.chat.reply_to_ticket(user.id.clone(), profile(&user), id, content, key.0).await?))
}

#[derive(Default, Deserialize)]
pub(super) struct ClarifyBody {
    body: Option<String>,
}

pub(super) async fn clarify(
    State(app): State<App>,
    Costly(user): Costly,
    Path(id): Path<ConversationId>,
    key: IdempotencyKey,
    body: Option<Json<ClarifyBody>>,
) -> Result<Response> {
    let text = text(body.and_then(|Json(asked)| asked.body))?;
    Ok(created(app.chat.clarify(user.id.clone(), profile(&user), id, text, key.0).await?))
}
