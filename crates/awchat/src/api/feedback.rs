//! CSAT and complaints: kept here, so they work while Intercom does not.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{Costly, IdempotencyKey, Json};
use crate::app::App;
use crate::auth::User;
use crate::chat::feedback::{Category, Complaint, Kept, Rate, Rated};
use crate::error::{Error, Result};
use crate::id::ConversationId;

/// The longest comment or description, in characters.
const TEXT_CHARS: usize = 10_000;
/// The shortest description, in characters.
const DESCRIPTION_CHARS: usize = 10;
/// The longest name of a chat or dialog, in characters.
const NAME_CHARS: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CsatBody {
    stars: u8,
    comment: Option<String>,
    ticket_id: Option<String>,
    conversation_id: Option<String>,
}

#[derive(Serialize)]
struct Csat {
    id: Option<String>,
    duplicate: bool,
}

pub(super) async fn rate(
    State(app): State<App>,
    user: User,
    key: IdempotencyKey,
    Json(body): Json<CsatBody>,
) -> Result<Response> {
    if !(1..=5).contains(&body.stars) {
        return Err(Error::Validation("stars: must be 1 to 5".to_owned()));
    }
    let rate = Rate {
        stars: body.stars,
        comment: body.comment.map(|comment| text("comment", &comment)).transpose()?.filter(|text| !text.is_empty()),
        ticket: body.ticket_id.map(named).transpose()?,
        conversation: body.conversation_id.map(named).transpose()?,
    };
    Ok(match app.chat.rate(&user.id, &rate, key.0.as_deref()).await? {
        Rated::Stored(kept) => created(kept.replayed, Csat { id: Some(kept.id), duplicate: false }),
        Rated::Duplicate => axum::Json(Csat { id: None, duplicate: true }).into_response(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ComplaintBody {
    category: Category,
    description: String,
    chat_id: Option<String>,
    dialog_id: Option<String>,
}

#[derive(Serialize)]
struct Stored {
    id: String,
}

pub(super) async fn complain(
    State(app): State<App>,
    Costly(user): Costly,
    key: IdempotencyKey,
    Json(body): Json<ComplaintBody>,
) -> Result<Response> {
    let description = text("description", &body.description)?;
    if description.chars().count() < DESCRIPTION_CHARS {
        return Err(Error::Validation(format!("description: at least {DESCRIPTION_CHARS} characters")));
    }
    let complaint = Complaint {
        category: body.category,
        description,
        chat: body.chat_id.map(|name| label("chatId", name)).transpose()?,
        dialog: body.dialog_id.map(|name| label("dialogId", name)).transpose()?,
    };
    let Kept { id, replayed } = app.chat.complain(&user.id, &complaint, key.0.as_deref()).await?;
    Ok(created(replayed, Stored { id }))
}

fn created(replayed: bool, body: impl Serialize) -> Response {
    let mut response = (StatusCode::CREATED, axum::Json(body)).into_response();
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}

/// What a user wrote, without the white space around it.
fn text(field: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > TEXT_CHARS {
        return Err(Error::Validation(format!("{field}: at most {TEXT_CHARS} characters")));
    }
    if text.contains('\0') {
        return Err(Error::Validation(format!("{field}: must not contain a NUL character")));
    }
    Ok(text.to_owned())
}

/// An id that no conversation has is as unknown as one that another user's has.
fn named(id: String) -> Result<ConversationId> {
    ConversationId::parse(&id).ok_or(Error::NotFound)
}

fn label(field: &str, name: String) -> Result<String> {
    if (1..=NAME_CHARS).contains(&name.chars().count()) && !name.contains(char::is_control) {
        return Ok(name);
    }
    Err(Error::Validation(format!("{field}: must be 1 to {NAME_CHARS} visible characters")))
}
