//! What FCM and Telegram can be told to answer, word for word as they do.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::state::Service;
use crate::exchange::Answer;

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const BAD_CREDENTIALS: &str = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
                               authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";

/// Who is sent to. `"token".into()` is a phone, `42.into()` a chat.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The app on a phone, by FCM's registration token.
    Phone(String),
    /// A private chat with the bot, by the user's id.
    Chat(i64),
}

impl To {
    pub(crate) fn service(&self) -> Service {
        match self {
            Self::Phone(_) => Service::Fcm,
            Self::Chat(_) => Service::Telegram,
        }
    }
}

impl From<&str> for To {
    fn from(token: &str) -> Self {
        Self::Phone(token.to_owned())
    }
}

impl From<i64> for To {
    fn from(chat: i64) -> Self {
        Self::Chat(chat)
    }
}

/// What becomes of a message. The first group is FCM's, the second Telegram's, the third anybody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// 404: the app is gone from the phone.
    Unregistered,
    /// 400 that names the token.
    InvalidToken,
    /// 400 that names a field of the message: whatever the token, the sender is wrong.
    InvalidMessage,
    /// 403: the token is of another project.
    SenderIdMismatch,
    /// 403: the service account may not send.
    PermissionDenied,
    /// 401: Apple does not accept the project's key.
    ThirdPartyAuthError,
    /// 401: the access token does not hold.
    Unauthenticated,
    /// 404 with no `FcmError`: there is no such project.
    NoSuchProject,
    /// 429.
    QuotaExceeded {
        /// The header `Retry-After`: seconds, or a date.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 503.
    Unavailable {
        /// The header `Retry-After`: seconds, or a date.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 500.
    Internal,

    /// 403: the user has blocked the bot.
    Blocked,
    /// 403: the user is no more.
    Deactivated,
    /// 403: the user has never started the bot.
    NeverStarted,
    /// 400: nobody has that id.
    ChatNotFound,
    /// 401: the bot's token does not hold.
    Unauthorized,
    /// 429.
    TooManyRequests {
        /// Seconds, in the body and in the header `Retry-After`.
        retry_after_s: u32,
    },

    /// Nothing is wrong.
    Delivered,
    /// An error of the service itself, such as 502.
    Error {
        /// The HTTP status.
        status: u16,
        /// Whether the message was delivered nevertheless.
        #[serde(default)]
        applied: bool,
    },
    /// The connection is closed without an answer.
    Reset {
        /// Whether the message was delivered nevertheless.
        #[serde(default)]
        applied: bool,
    },
    /// Silence, then the connection is closed without an answer.
    Hang {
        /// Milliseconds of silence, on the machine's clock.
        ms: u64,
        /// Whether the message was delivered nevertheless.
        #[serde(default)]
        applied: bool,
    },
}

impl Outcome {
    /// Whether the message arrives.
    pub(crate) fn delivers(&self) -> bool {
        match self {
            Self::Delivered => true,
            Self::Error { applied, .. } | Self::Reset { applied } | Self::Hang { applied, .. } => *applied,
            _ => false,
        }
    }

    /// Whether that recipient's service ever answers so.
    pub(crate) fn fits(&self, to: &To) -> bool {
        let anybodys = matches!(self, Self::Delivered | Self::Error { .. } | Self::Reset { .. } | Self::Hang { .. });
        anybodys
            || match to {
                To::Phone(_) => self.fcm().is_some(),
                To::Chat(_) => self.telegram().is_some(),
            }
    }

    /// FCM's answer, if this is one of its errors.
    pub(crate) fn fcm(&self) -> Option<Answer> {
        let answer = match self {
            Self::Unregistered => {
                fcm_error(404, "NOT_FOUND", "Requested entity was not found.", &[fcm_code("UNREGISTERED")])
            }
            Self::InvalidToken => {
                let why = "The registration token is not a valid FCM registration token";
                fcm_error(400, "INVALID_ARGUMENT", why, &[fcm_code("INVALID_ARGUMENT")])
            }
            Self::InvalidMessage => invalid(Violation::new("message.android.ttl", "Invalid ttl.")),
            Self::SenderIdMismatch => {
                fcm_error(403, "PERMISSION_DENIED", "SenderId mismatch", &[fcm_code("SENDER_ID_MISMATCH")])
            }
            Self::PermissionDenied => {
                let why = "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist).";
                let info =
                    json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED" });
                fcm_error(403, "PERMISSION_DENIED", why, &[info])
            }
            Self::ThirdPartyAuthError => {
                let why = "Auth error from APNS or Web Push Service";
                let apns = json!({
                    "@type": "type.googleapis.com/google.firebase.fcm.v1.ApnsError",
                    "statusCode": 403,
                    "reason": "InvalidProviderToken",
                });
                fcm_error(401, "UNAUTHENTICATED", why, &[fcm_code("THIRD_PARTY_AUTH_ERROR"), apns])
            }
            Self::Unauthenticated => unauthenticated("ACCESS_TOKEN_EXPIRED"),
            Self::NoSuchProject => fcm_error(404, "NOT_FOUND", "Requested entity was not found.", &[]),
            Self::QuotaExceeded { retry_after } => {
                let why = "Quota exceeded for quota metric 'Message send requests'.";
                waiting(fcm_error(429, "RESOURCE_EXHAUSTED", why, &[fcm_code("QUOTA_EXCEEDED")]), retry_after)
            }
            Self::Unavailable { retry_after } => {
                let why = "The service is currently unavailable.";
                waiting(fcm_error(503, "UNAVAILABLE", why, &[fcm_code("UNAVAILABLE")]), retry_after)
            }
            Self::Internal => fcm_error(500, "INTERNAL", "Internal error encountered.", &[fcm_code("INTERNAL")]),
            _ => return None,
        };
        Some(answer)
    }

    /// Telegram's answer, if this is one of its errors.
    pub(crate) fn telegram(&self) -> Option<Answer> {
        let answer = match self {
            Self::Blocked => telegram_error(403, "Forbidden: bot was blocked by the user"),
            Self::Deactivated => telegram_error(403, "Forbidden: user is deactivated"),
            Self::NeverStarted => telegram_error(403, "Forbidden: bot can't initiate conversation with a user"),
            Self::ChatNotFound => telegram_error(400, "Bad Request: chat not found"),
            Self::Unauthorized => telegram_error(401, "Unauthorized"),
            Self::TooManyRequests { retry_after_s } => {
                let body = json!({
                    "ok": false,
                    "error_code": 429,
                    "description": format!("Too Many Requests: retry after {retry_after_s}"),
                    "parameters": { "retry_after": retry_after_s },
                });
                Answer::json(429, &body).with("retry-after", retry_after_s.to_string())
            }
            _ => return None,
        };
        Some(answer)
    }
}

fn waiting(answer: Answer, retry_after: &Option<String>) -> Answer {
    match retry_after {
        Some(text) => answer.with("retry-after", text.clone()),
        None => answer,
    }
}

fn fcm_code(code: &str) -> Value {
    json!({ "@type": FCM_ERROR, "errorCode": code })
}

/// An error as Google's APIs have them; without details there is no `details`.
pub(crate) fn fcm_error(code: u16, status: &str, message: &str, details: &[Value]) -> Answer {
    let mut error = json!({ "code": code, "message": message, "status": status });
    if !details.is_empty() {
        error["details"] = json!(details);
    }
    Answer::json(code, &json!({ "error": error }))
}

/// 401 for the bearer token's sake; the reason is `CREDENTIALS_MISSING`, `ACCESS_TOKEN_EXPIRED` and the like.
pub(crate) fn unauthenticated(reason: &str) -> Answer {
    let info = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": { "method": "google.firebase.fcm.v1.FcmService.SendMessage", "service": "fcm.googleapis.com" },
    });
    fcm_error(401, "UNAUTHENTICATED", BAD_CREDENTIALS, &[info])
}

/// A field of a message, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    field: String,
    why: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// 400 for what the message says: FCM understood it, and does not want it.
pub(crate) fn invalid(violation: Violation) -> Answer {
    let message = violation.why.clone();
    fcm_error(400, "INVALID_ARGUMENT", &message, &[fcm_code("INVALID_ARGUMENT"), bad_request(&[violation])])
}

/// 400 for the message's form: it is not what FCM's JSON looks like.
pub(crate) fn malformed(violations: &[Violation]) -> Answer {
    let all: Vec<&str> = violations.iter().map(|violation| violation.why.as_str()).collect();
    fcm_error(400, "INVALID_ARGUMENT", &all.join("\n"), &[bad_request(violations)])
}

fn bad_request(violations: &[Violation]) -> Value {
    let violations: Vec<Value> =
        violations.iter().map(|one| json!({ "field": one.field, "description": one.why })).collect();
    json!({ "@type": BAD_REQUEST, "fieldViolations": violations })
}

/// An error of the Bot API.
pub(crate) fn telegram_error(code: u16, description: &str) -> Answer {
    Answer::json(code, &json!({ "ok": false, "error_code": code, "description": description }))
}
