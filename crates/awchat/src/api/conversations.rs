//! Conversations: list, start, get, poll, read, close, reply.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::admission::Slot;
use super::extract::{Costly, IdempotencyKey, Json, Path, Query};
use super::params;
use crate::app::App;
use crate::auth::User;
use crate::chat::contacts::Profile;
use crate::chat::conversations::{Full, Poll, Start, Summary};
use crate::chat::requests::Sent;
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId};
use crate::model::Topic;

/// The longest message, in characters.
const BODY_CHARS: usize = 10_000;
/// The longest topic, in characters.
const TOPIC_CHARS: usize = 100;
/// The largest `meta`, in bytes of JSON.
const META_BYTES: usize = 4_096;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    conversations: Vec<Summary>,
    next_cursor: Option<String>,
    unread_total: i64,
}

pub(super) async fn list(
    State(app): State<App>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<List>> {
    let limit = params::limit(query.limit)?;
    let after = query.cursor.as_deref().map(params::cursor).transpose()?;
    let page = app.chat.list(&user.id, after.as_ref(), limit).await?;
    let next_cursor = page.next.as_ref().map(params::print_cursor);
    Ok(axum::Json(List { conversations: page.conversations, next_cursor, unread_total: page.unread_total }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartBody {
    body: Option<String>,
    reason: Option<Reason>,
    meta: Option<serde_json::Map<String, serde_json::Value>>,
    attachment_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Reason {
    main: String,
    sub: Option<String>,
}

pub(super) async fn start(
    State(app): State<App>,
    Costly(user): Costly,
    key: IdempotencyKey,
    Json(body): Json<StartBody>,
) -> Result<Response> {
    let files = attachments(&app, body.attachment_ids)?;
    let start = Start {
        text: text(body.body)?,
        topic: body.reason.map(topic).transpose()?,
        files,
        meta: meta(body.meta.unwrap_or_default())?,
    };
    if start.text.is_none() && start.topic.is_none() && start.files.is_empty() {
        return Err(Error::Validation("body: required unless there is a reason or an attachment".to_owned()));
    }
    let sent = app.chat.start(user.id.clone(), profile(&user), start, key.0).await?;
    Ok(created(sent))
}

pub(super) async fn get(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
) -> Result<axum::Json<Full>> {
    Ok(axum::Json(app.chat.get(&user.id, &id).await?))
}

/// A client learns from this header that it may wait.
pub(super) const AW_POLL: (&str, &str) = ("aw-poll", "long");

#[derive(Deserialize)]
pub(super) struct PollQuery {
    since: Option<String>,
    wait: Option<String>,
}

pub(super) async fn poll(
    State(app): State<App>,
    user: User,
    slot: Slot,
    Path(id): Path<ConversationId>,
    Query(query): Query<PollQuery>,
) -> Result<([(&'static str, &'static str); 1], axum::Json<Poll>)> {
    let since = query.since.as_deref().map_or(Ok(0), params::since)?;
    let wait = query.wait.as_deref().map_or(Ok(Duration::ZERO), params::wait)?;
    if !wait.is_zero() {
        slot.wait();
    }
    let poll = tokio::select! {
        poll = app.chat.poll(&user.id, &id, since, wait) => poll?,
        // Nobody waits for a server that is going.
        () = app.draining.cancelled() => Box::pin(app.chat.poll(&user.id, &id, since, Duration::ZERO)).await?,
    };
    Ok(([AW_POLL], axum::Json(poll)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Read {
    unread_count: i64,
}

pub(super) async fn read(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
) -> Result<axum::Json<Read>> {
    app.chat.mark_read(&user.id, &id).await?;
    Ok(axum::Json(Read { unread_count: 0 }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Closed {
    state: &'static str,
    csat_prompt: bool,
}

pub(super) async fn close(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
) -> Result<axum::Json<Closed>> {
    let csat_prompt = app.chat.close(&user.id, &id).await?;
    Ok(axum::Json(Closed { state: "closed", csat_prompt }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplyBody {
    body: Option<String>,
    attachment_ids: Option<Vec<String>>,
}

pub(super) async fn reply(
    State(app): State<App>,
    user: User,
    Path(id): Path<ConversationId>,
    key: IdempotencyKey,
    Json(body): Json<ReplyBody>,
) -> Result<Response> {
    let content = body.content(&app)?;
    let sent = app.chat.reply(user.id.clone(), profile(&user), id, content, key.0).await?;
    Ok(created(sent))
}

impl ReplyBody {
    /// The message: words, files or both.
    pub(super) fn content(self, app: &App) -> Result<(Option<String>, Vec<FileId>)> {
        let content = (text(self.body)?, attachments(app, self.attachment_ids)?);
        if content.0.is_none() && content.1.is_empty() {
            return Err(Error::Validation("body: required unless there is an attachment".to_owned()));
        }
        Ok(content)
    }
}

pub(super) fn profile(user: &User) -> Profile {
    Profile {
        name: user.name.clone(),
        email: user.email.clone(),
        phone: user.phone.clone(),
        telegram_id: user.telegram_id.clone(),
    }
}

/// A body of white space counts as none.
pub(super) fn text(body: Option<String>) -> Result<Option<String>> {
    let Some(body) = body.filter(|body| !body.trim().is_empty()) else { return Ok(None) };
    if body.chars().count() > BODY_CHARS {
        return Err(Error::Validation(format!("body: at most {BODY_CHARS} characters")));
    }
    if body.contains('\0') {
        return Err(Error::Validation("body: must not contain a NUL character".to_owned()));
    }
    Ok(Some(body))
}

fn topic(reason: Reason) -> Result<Topic> {
    let field = |name: &str, value: String| {
        let value = value.trim().to_owned();
        if value.chars().count() > TOPIC_CHARS || value.chars().any(char::is_control) {
            return Err(Error::Validation(format!("reason.{name}: at most {TOPIC_CHARS} visible characters")));
        }
        Ok(value)
    };
    let main = field("main", reason.main)?;
    if main.is_empty() {
        return Err(Error::Validation("reason.main: must not be empty".to_owned()));
    }
    let sub = reason.sub.map(|sub| field("sub", sub)).transpose()?.filter(|sub| !sub.is_empty());
    Ok(Topic { main, sub })
}

fn meta(meta: serde_json::Map<String, serde_json::Value>) -> Result<serde_json::Map<String, serde_json::Value>> {
    let flat = |value: &serde_json::Value| !value.is_object() && !value.is_array();
    if !meta.values().all(flat) {
        return Err(Error::Validation("meta: values must be strings, numbers or booleans".to_owned()));
    }
    if serde_json::to_vec(&meta).map_err(Error::internal)?.len() > META_BYTES {
        return Err(Error::Validation(format!("meta: at most {META_BYTES} bytes")));
    }
    Ok(meta)
}

/// Each file once, and not too many; whether they are the user's own is seen later.
fn attachments(app: &App, ids: Option<Vec<String>>) -> Result<Vec<FileId>> {
    let ids = ids.unwrap_or_default();
    let most = app.config.files.max_per_message;
    if ids.len() > most {
        return Err(Error::Validation(format!("attachmentIds: at most {most} files")));
    }
    let parsed: Vec<FileId> = ids.iter().filter_map(|id| FileId::parse(id)).collect();
    let is_twice = |(at, id): (usize, &FileId)| parsed[..at].contains(id);
    if parsed.len() < ids.len() || parsed.iter().enumerate().any(is_twice) {
        return Err(Error::Validation("attachmentIds: must be ids of uploaded files, each once".to_owned()));
    }
    Ok(parsed)
}

pub(super) fn created(sent: Sent) -> Response {
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = (StatusCode::CREATED, [json], sent.body.to_string()).into_response();
    if sent.replayed {
        let replayed = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    }
    response
}
