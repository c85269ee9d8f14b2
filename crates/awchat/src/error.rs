//! Every way a request can fail, one table, one body: `{ "error", "message", "requestId" }`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A failed request, in the domain's words. The cause rides along as source: logged once where the answer
/// is made, never sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks its rule; the message names both.
    #[error("{0}")]
    Validation(String),
    /// The request cannot be parsed.
    #[error("{0}")]
    BadRequest(String),
    /// No session token, or one that does not hold; the message says which claim failed.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// Unknown, malformed or somebody else's: told apart nowhere.
    #[error("not found")]
    NotFound,
    /// The path exists, the method does not.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// A request with the same `Idempotency-Key` is still running.
    #[error("a request with the same Idempotency-Key is still running")]
    Conflict,
    /// The same `Idempotency-Key` came with another payload.
    #[error("this Idempotency-Key was used with another payload")]
    IdempotencyMismatch,
    /// The user's rate limit.
    #[error("too many requests")]
    RateLimited {
        /// Whole seconds until a request of this weight fits.
        retry_after_s: u64,
    },
    /// Intercom cannot be reached, or its answer is unknown.
    #[error("support is temporarily unavailable")]
    Unavailable {
        /// Whole seconds after which a retry makes sense.
        retry_after_s: u64,
        /// What happened, for the log.
        #[source]
        cause: Option<Cause>,
    },
    /// This server is overloaded or shutting down.
    #[error("the server is busy")]
    Overloaded {
        /// Whole seconds after which a retry makes sense.
        retry_after_s: u64,
    },
    /// Anything unexpected.
    #[error("internal error")]
    Internal(#[source] Cause),
}

/// The reason behind an error, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The result of whatever a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps anything unexpected.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// The table: HTTP status and the `error` code.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Validation(_) => (StatusCode::BAD_REQUEST, "validation_error"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict"),
            Self::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable { .. } => (StatusCode::BAD_GATEWAY, "service_unavailable"),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// Whole seconds for `Retry-After`, where the error has one; never 0.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s }
            | Self::Unavailable { retry_after_s, .. }
            | Self::Overloaded { retry_after_s } => Some((*retry_after_s).max(1)),
            _ => None,
        }
    }

    fn log(&self) {
        let cause = match self {
            Self::Internal(cause) => cause,
            Self::Unavailable { cause: Some(cause), .. } => {
                tracing::warn!(cause = %chain(cause.as_ref()), "intercom unavailable");
                return;
            }
            _ => return,
        };
        tracing::error!(cause = %chain(cause.as_ref()), "internal error");
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        match cause {
            // Nothing was done: whoever comes again is served.
            sqlx::Error::PoolTimedOut => Self::Overloaded { retry_after_s: 1 },
            cause if is_away(&cause) => {
                tracing::warn!(cause = %chain(&cause), "the database is away, or too slow");
                Self::Overloaded { retry_after_s: 1 }
            }
            cause => Self::internal(cause),
        }
    }
}

/// Whether the database broke off, as one does that is started again, or took too long. What a commit did by then is not
/// known: whoever asks again finds it, or does it.
fn is_away(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Io(_) => true,
        // PostgreSQL's classes "connection exception" and "operator intervention", to which its timeouts belong.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.len() == 5 && (code.starts_with("08") || code.starts_with("57")))
        }
        _ => false,
    }
}

/// The body of an error's answer; `requestId` is added by the outermost layer, which knows it.
#[derive(Clone, Debug)]
pub struct ErrorBody {
    /// The code of the table.
    pub error: &'static str,
    /// A sentence for the developer who reads it.
    pub message: String,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.log();
        let (status, error) = self.status_and_code();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The body is written where the request id is known: `api::respond`.
        response.extensions_mut().insert(ErrorBody { error, message: self.to_string() });
        response
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
