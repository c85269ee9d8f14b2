//! Files: upload, and download by the owner or by who holds a signed address.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::{ClientAddress, Costly, IdempotencyKey, Path};
use crate::app::App;
use crate::auth::User;
use crate::chat::attachments::Content;
use crate::error::{Error, Result};
use crate::files::check::Kind;
use crate::files::intake::Kept;
use crate::files::link::Disposition;
use crate::files::{NoPlace, name};
use crate::id::FileId;
use crate::store::files::{File, Inserted};

pub mod range;
pub mod upload;

use range::Part;

/// The quota's day.
const DAY_MS: i64 = 24 * 3_600_000;
/// What a whole form may take, however small.
const FORM_TIME: Duration = Duration::from_secs(30);
/// The slowest form, in bytes per second, beside that.
const FORM_RATE: u64 = 64 * 1024;

/// What the client learns of its upload.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Uploaded<'a> {
    id: &'a FileId,
    name: &'a str,
    content_type: &'a str,
    size: i64,
    url: String,
}

pub(super) async fn upload(
    State(app): State<App>,
    Costly(user): Costly,
    key: IdempotencyKey,
    request: Request,
) -> Result<Response> {
    let _place = app.files.place(&user.id).map_err(|none| match none {
        NoPlace::Busy => Error::Overloaded { retry_after_s: 1 },
        NoPlace::TooMany => Error::RateLimited { retry_after_s: 1 },
    })?;
    let since_ms = app.clock.now_ms() - DAY_MS;
    let (used, first_ms) = app.store.uploaded_since(&user.id, since_ms).await?;
    let over = || Error::RateLimited {
        retry_after_s: u64::try_from((first_ms.unwrap_or(since_ms + DAY_MS) - since_ms) / 1000).unwrap_or(1),
    };
    let settings = &app.config.files;
    let quota = i64::try_from(settings.user_quota_bytes).unwrap_or(i64::MAX);
    if used >= quota {
        return Err(over());
    }
    let deadline = FORM_TIME + Duration::from_secs(settings.max_bytes / FORM_RATE);
    let form = tokio::select! {
        form = upload::receive(&app.files, request, settings.max_bytes) => form?,
        () = app.clock.sleep(deadline) => return Err(Error::BadRequest("the form did not arrive in time".to_owned())),
    };
    let kept = app.files.keep(form.file, &user.id).await?;
    let file = row(&kept, form.name.as_deref(), key.0, app.clock.now_ms());
    let inserted = app.store.insert_file(&user.id, &file, quota, since_ms).await?;
    if inserted != Inserted::Stored {
        app.files.storage().remove(&kept.key).await.map_err(Error::internal)?;
    }
    match (inserted, &file.key) {
        (Inserted::Stored, _) => answer(&app, &file, false),
        (Inserted::OverQuota, _) => Err(over()),
        (Inserted::KeyTaken, Some(key)) => match app.store.file_by_key(&user.id, key).await? {
            Some(earlier) if earlier.fingerprint == file.fingerprint => answer(&app, &earlier, true),
            Some(_) => Err(Error::IdempotencyMismatch),
            None => Err(Error::Conflict),
        },
        (Inserted::KeyTaken, None) => Err(Error::internal("two files have one id")),
    }
}

fn row(kept: &Kept, given: Option<&str>, key: Option<String>, now_ms: i64) -> File {
    let name = name::of_upload(given, kept.kind);
    File {
        id: FileId::random(),
        object: kept.key.as_str().to_owned(),
        fingerprint: format!("{} {name}", kept.arrived_sha256),
        name,
        content_type: kept.kind.content_type().to_owned(),
        bytes: i64::try_from(kept.len).unwrap_or(i64::MAX),
        size: kept.size.map(|(width, height)| (width.into(), height.into())),
        sha256: kept.sha256.clone(),
        key,
        created_ms: now_ms,
    }
}

/// The same bytes for the same request, while its address holds.
fn answer(app: &App, file: &File, replayed: bool) -> Result<Response> {
    let (links, now_s) = (app.files.links(), app.clock.now_s());
    let mut link = links.link(&file.id, disposition(&file.content_type), file.created_ms.div_euclid(1000));
    if link.expires_at <= now_s {
        link = links.link(&file.id, disposition(&file.content_type), now_s);
    }
    let (id, name, content_type, size) = (&file.id, &*file.name, &*file.content_type, file.bytes);
    let body = Uploaded { id, name, content_type, size, url: link.url };
    let mut response = (StatusCode::CREATED, axum::Json(body)).into_response();
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// How a file of this type is shown: only what a browser shows safely is shown in place.
fn disposition(content_type: &str) -> Disposition {
    match Kind::of_content_type(content_type).is_some_and(Kind::is_shown_inline) {
        true => Disposition::Inline,
        false => Disposition::Attachment,
    }
}

/// An address of a file, for a client that needs one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    url: String,
    expires_at: i64,
    name: String,
    content_type: String,
}

pub(super) async fn get(
    State(app): State<App>,
    user: User,
    Path(id): Path<FileId>,
    headers: HeaderMap,
) -> Result<Response> {
    let wants_json = headers.get_all(header::ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|kind| kind.trim().starts_with("application/json")))
    });
    if let Some(file) = app.store.file(&user.id, &id).await? {
        return match wants_json {
            true => Ok(address(&app, &id, file.name, file.content_type)),
            false => own(&app, &file, None, &headers).await,
        };
    }
    let file = app.store.remote_file(&user.id, &id).await?.ok_or(Error::NotFound)?;
    match wants_json {
        true => Ok(address(&app, &id, file.name, file.content_type)),
        false => remote(app.chat.attachment(&file).await?, None, &headers),
    }
}

fn address(app: &App, id: &FileId, name: String, content_type: String) -> Response {
    let link = app.files.links().link(id, disposition(&content_type), app.clock.now_s());
    axum::Json(Address { url: link.url, expires_at: link.expires_at, name, content_type }).into_response()
}

/// For who holds a signed address, Intercom above all: no session. What does not hold is one 401, whatever is wrong.
pub(super) async fn signed(
    State(app): State<App>,
    ClientAddress(client): ClientAddress,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let id = uri.path().strip_prefix("/files/").unwrap_or_default();
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let given: Vec<_> = pairs.filter(|(name, _)| name == "t").map(|(_, t)| t).collect();
    let t = if let [t] = given.as_slice() { t } else { "" };
    let holds = app.files.links().verify(id, t, app.clock.now_s());
    let (Some(disposition), Some(id)) = (holds, FileId::parse(id)) else {
        let decision = app.edge.limits.check_failure(client);
        return Err(match decision.allowed {
            true => Error::Unauthorized("the address is not valid, or no longer"),
            false => Error::RateLimited { retry_after_s: decision.retry_after_s },
        });
    };
    if let Some(file) = app.store.signed_file(&id).await? {
        return own(&app, &file, Some(disposition), &headers).await;
    }
    let file = app.store.signed_remote_file(&id).await?.ok_or(Error::NotFound)?;
    remote(app.chat.attachment(&file).await?, Some(disposition), &headers)
}

/// A file of ours, or the part of it that is asked for.
async fn own(app: &App, file: &File, asked: Option<Disposition>, headers: &HeaderMap) -> Result<Response> {
    let (etag, len) = (format!("\"{}\"", file.sha256), u64::try_from(file.bytes).unwrap_or(0));
    let mut response = Response::new(Body::empty());
    let Some((first, end)) = part(&mut response, headers, &etag, len) else { return Ok(response) };
    let key =
        crate::files::storage::Key::parse(&file.object).ok_or_else(|| Error::internal("an object's key is damaged"))?;
    let chunks = app.files.storage().read(&key, first..end).await.map_err(Error::internal)?;
    *response.body_mut() = Body::from_stream(chunks);
    set(&mut response, header::ETAG, &etag);
    describe(&mut response, &file.name, &file.content_type, asked);
    Ok(response)
}

/// A file on an operator's message, as it comes from Intercom, or the part of it that is asked for: what is before that
/// is fetched for nothing, for nobody knows whether Intercom sends parts.
fn remote(content: Content, asked: Option<Disposition>, headers: &HeaderMap) -> Result<Response> {
    let mut response = Response::new(Body::empty());
    let body = match content.len {
        Some(len) => {
            let Some((first, end)) = part(&mut response, headers, "", len) else { return Ok(response) };
            Body::from_stream(range::cut(content.chunks, first, end))
        }
        None => Body::from_stream(content.chunks),
    };
    *response.body_mut() = body;
    describe(&mut response, &content.name, &content.content_type, asked);
    Ok(response)
}

/// Notes which part of `len` bytes is asked for, from the first to before the last; `None`, and the answer is made, if
/// no byte of it is there.
fn part(response: &mut Response, headers: &HeaderMap, etag: &str, len: u64) -> Option<(u64, u64)> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (first, end) = match range::part(text(header::RANGE), text(header::IF_RANGE), etag, len) {
        Part::Beyond => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(response, header::CONTENT_RANGE, &format!("bytes */{len}"));
            return None;
        }
        Part::Whole => (0, len),
        Part::Some(first, end) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(response, header::CONTENT_RANGE, &format!("bytes {first}-{}/{len}", end - 1));
            (first, end)
        }
    };
    set(response, header::CONTENT_LENGTH, &(end - first).to_string());
    set(response, header::ACCEPT_RANGES, "bytes");
    Some((first, end))
}

/// What keeps a file a file: no browser reads anything else into it, or runs it.
fn describe(response: &mut Response, name: &str, content_type: &str, asked: Option<Disposition>) {
    let may = disposition(content_type) == Disposition::Inline;
    let is_inline = may && asked != Some(Disposition::Attachment);
    set(response, header::CONTENT_TYPE, content_type);
    set(response, header::CONTENT_DISPOSITION, &name::content_disposition(is_inline, name));
    set(response, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    set(response, header::REFERRER_POLICY, "no-referrer");
    set(response, header::CACHE_CONTROL, "private, no-store");
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // All values are made here, of visible ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
