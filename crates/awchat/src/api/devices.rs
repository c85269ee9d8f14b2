//! Devices and notification settings: where a user's notices go, and which are wanted.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

use super::extract::{Json, Path, PathId};
use crate::app::App;
use crate::auth::{User, init_data};
use crate::error::{Error, Result};
use crate::id::DeviceId;
use crate::store::devices::{Platform, Wanted};

/// The longest token, in bytes: FCM's have about 200.
const TOKEN_BYTES: usize = 1024;
/// The longest locale, in bytes: `ca-ES-valencia`.
const LOCALE_BYTES: usize = 35;
/// A Mini App may be open for a day, and clients hand out what they got at its start.
const INIT_DATA_AGE_S: i64 = 86_400;
/// The longest `initData`, in characters.
const INIT_DATA_CHARS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterBody {
    platform: Platform,
    token: String,
    init_data: Option<String>,
    locale: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Registered {
    id: String,
}

pub(super) async fn register(
    State(app): State<App>,
    user: User,
    Json(body): Json<RegisterBody>,
) -> Result<axum::Json<Registered>> {
    let token = body.token.as_str();
    if !(1..=TOKEN_BYTES).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Validation(format!("token: must be 1 to {TOKEN_BYTES} visible ASCII characters")));
    }
    let locale = body.locale.as_deref();
    if !locale.is_none_or(is_locale) {
        return Err(Error::Validation("locale: must be a language tag such as en or pt-BR".to_owned()));
    }
    if body.init_data.as_deref().is_some_and(|text| text.chars().nth(INIT_DATA_CHARS).is_some()) {
        return Err(Error::Validation(format!("initData: at most {INIT_DATA_CHARS} characters")));
    }
    let reachable = match body.platform {
        Platform::Tma => is_own_telegram_id(&app, &user, token, body.init_data.as_deref())?,
        Platform::Mobile => true,
    };
    let told = (locale, reachable);
    let registered = app.store.register_device(&user.id, body.platform, token, told, app.clock.now_ms()).await?;
    if let Some(before) = &registered.moved_from {
        app.push.call_back(before).await;
    }
    Ok(axum::Json(Registered { id: registered.id }))
}

/// A Telegram user id is easily guessed: without proof, anybody could aim notices at strangers. Whether the bot may write
/// to the user now, whatever Telegram said before: so says `initData`; without it, the next message finds out.
fn is_own_telegram_id(app: &App, user: &User, token: &str, init_data: Option<&str>) -> Result<bool> {
    let is_of_session = user.telegram_id.as_deref() == Some(token);
    let not_own = || Error::Validation("token: must be the caller's own Telegram user id".to_owned());
    let proof = match (init_data, &app.config.push.telegram_bot_token) {
        (Some(init_data), Some(bot_token)) => init_data::user(init_data, bot_token, app.clock.now_s(), INIT_DATA_AGE_S)
            .map_err(|why| Error::Validation(format!("initData: {why}"))),
        _ => Err(not_own()),
    };
    match proof {
        Ok(named) if named.id == token => Ok(named.allows_write),
        _ if is_of_session => Ok(true),
        Ok(_) => Err(not_own()),
        Err(why) => Err(why),
    }
}

fn is_locale(text: &str) -> bool {
    let letters_and_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.len() <= LOCALE_BYTES && text.split(['-', '_']).all(letters_and_digits)
}

impl PathId for DeviceId {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

pub(super) async fn unregister(State(app): State<App>, user: User, Path(id): Path<DeviceId>) -> Result<StatusCode> {
    match app.store.unregister_device(&user.id, &id).await? {
        true => {
            app.push.call_back(id.as_str()).await;
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Error::NotFound),
    }
}

/// The switches of the API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notifications {
    chat_messages: bool,
    ticket_updates: bool,
    system_notices: bool,
}

impl From<Wanted> for Notifications {
    fn from(wanted: Wanted) -> Self {
        let Wanted { chat_messages, ticket_updates, system_notices } = wanted;
        Self { chat_messages, ticket_updates, system_notices }
    }
}

pub(super) async fn notifications(State(app): State<App>, user: User) -> Result<axum::Json<Notifications>> {
    Ok(axum::Json(app.store.wanted_notices(&user.id).await?.into()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationsBody {
    #[serde(default, deserialize_with = "switch")]
    chat_messages: Option<bool>,
    #[serde(default, deserialize_with = "switch")]
    ticket_updates: Option<bool>,
    #[serde(default, deserialize_with = "switch")]
    system_notices: Option<bool>,
}

/// Absent or a boolean: null is neither.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(deserializer).map(Some)
}

pub(super) async fn set_notifications(
    State(app): State<App>,
    user: User,
    Json(body): Json<NotificationsBody>,
) -> Result<axum::Json<Notifications>> {
    let wanted = app.store.want_notices(&user.id, body.chat_messages, body.ticket_updates, body.system_notices).await?;
    Ok(axum::Json(wanted.into()))
}
