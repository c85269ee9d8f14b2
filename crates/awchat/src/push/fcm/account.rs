//! Google's service account: its key signs assertions, and an assertion is exchanged for an access token that holds for
//! an hour.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};

use crate::clock::Clock;
use crate::config::Secret;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion holds: the longest that Google takes.
const ASSERTION_S: i64 = 3600;
/// A token is exchanged when this part of its life is left: five minutes of an hour.
const EARLY: i64 = 12;
/// After a refusal or a failure Google is left alone for this long.
const PAUSE_MS: i64 = 5_000;
const LONGEST_TOKEN_BYTES: usize = 16 * 1024;

/// The file, as Google writes it.
#[derive(Deserialize)]
struct File {
    project_id: String,
    private_key_id: Option<String>,
    private_key: String,
    client_email: String,
    token_uri: String,
}

/// Why there is no access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Google refuses the account: its key was taken back, or this machine's clock is wrong. Needs a person.
    #[error("Google refuses the service account")]
    Refused,
    /// Google did not answer, or said that it cannot.
    #[error("Google gave no access token")]
    Unavailable,
}

/// A service account.
pub struct Account {
    /// The Firebase project.
    pub project: String,
    email: String,
    key: EncodingKey,
    key_id: Option<String>,
    token_url: Url,
    clock: Clock,
    held: Mutex<Held>,
    /// Who exchanges a token holds it: one at a time does.
    exchanging: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// Why the last exchange gave none, and until when no other is tried, Unix milliseconds.
    failed: Option<(NoToken, i64)>,
}

struct Token {
    text: Secret,
    early_ms: i64,
    until_ms: i64,
}

/// What is to be done with what is held, at a time.
enum Now {
    /// Answer with a token that holds; or there is none, and it is too soon to ask again.
    Answer(Result<Secret, NoToken>),
    /// It is time for another token; the one before may still hold.
    Exchange(Option<Secret>),
}

impl Held {
    fn at(&self, now_ms: i64) -> Now {
        let failed = self.failed.filter(|(_, until_ms)| now_ms < *until_ms);
        match (&self.token, failed) {
            (Some(token), _) if now_ms < token.early_ms => Now::Answer(Ok(token.text.clone())),
            (Some(token), Some(_)) if now_ms < token.until_ms => Now::Answer(Ok(token.text.clone())),
            (Some(token), None) if now_ms < token.until_ms => Now::Exchange(Some(token.text.clone())),
            (_, Some((why, _))) => Now::Answer(Err(why)),
            _ => Now::Exchange(None),
        }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("project", &self.project).finish_non_exhaustive()
    }
}

impl Account {
    /// The account of a file's text.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the file is repeated.
    pub fn read(json: &str, clock: Clock) -> Result<Self, &'static str> {
        let file: File = serde_json::from_str(json).map_err(|_| "is no service account's JSON")?;
        let key = EncodingKey::from_rsa_pem(file.private_key.as_bytes()).map_err(|_| "has no usable private_key")?;
        let token_url = Url::parse(&file.token_uri).map_err(|_| "has no usable token_uri")?;
        let is_loopback = matches!(token_url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if token_url.scheme() != "https" && !is_loopback {
            return Err("has a token_uri that is not https");
        }
        if file.project_id.is_empty() || file.client_email.is_empty() {
            return Err("has no project_id or client_email");
        }
        Ok(Self {
            project: file.project_id,
            email: file.client_email,
            key,
            key_id: file.private_key_id,
            token_url,
            clock,
            held: Mutex::default(),
            exchanging: tokio::sync::Mutex::default(),
        })
    }

    /// An access token. While one is exchanged early, the others go on with the one before.
    ///
    /// # Errors
    /// [`NoToken`]
    pub async fn token(&self, http: &reqwest::Client) -> Result<Secret, NoToken> {
        let good = match self.held().at(self.clock.now_ms()) {
            Now::Answer(answer) => return answer,
            Now::Exchange(good) => good,
        };
        let _turn = match (self.exchanging.try_lock(), good) {
            (Ok(turn), _) => turn,
            (Err(_), Some(good)) => return Ok(good),
            (Err(_), None) => self.exchanging.lock().await,
        };
        // Somebody may have done it meanwhile, or have failed.
        let good = match self.held().at(self.clock.now_ms()) {
            Now::Answer(answer) => return answer,
            Now::Exchange(good) => good,
        };
        let exchanged = self.exchange(http).await;
        let mut held = self.held();
        match exchanged {
            Ok(token) => {
                let text = token.text.clone();
                *held = Held { token: Some(token), failed: None };
                Ok(text)
            }
            Err(why) => {
                held.failed = Some((why, self.clock.now_ms() + PAUSE_MS));
                good.ok_or(why)
            }
        }
    }

    /// A token that was refused is not given out again; another one stays.
    pub fn forget(&self, refused: &Secret) {
        let mut held = self.held();
        if held.token.as_ref().is_some_and(|token| token.text == *refused) {
            held.token = None;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, http: &reqwest::Client) -> Result<Token, NoToken> {
        let assertion = self.assertion().ok_or(NoToken::Refused)?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", &assertion)
            .finish();
        let asked_ms = self.clock.now_ms();
        let request = http.post(self.token_url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = request.body(form).send().await.map_err(|error| {
            tracing::warn!(cause = %error.without_url(), "Google's token endpoint cannot be reached");
            NoToken::Unavailable
        })?;
        let status = answer.status();
        if status.is_client_error() && status.as_u16() != 429 {
            tracing::error!(status = status.as_u16(), "Google refuses the service account of FCM_SERVICE_ACCOUNT_FILE");
            return Err(NoToken::Refused);
        }
        let body = answer.bytes().await.map_err(|_| NoToken::Unavailable)?;
        let granted = serde_json::from_slice::<Granted>(&body).ok().filter(|_| status.is_success());
        let Some(granted) = granted.filter(|granted| granted.access_token.len() <= LONGEST_TOKEN_BYTES) else {
            tracing::warn!(status = status.as_u16(), "Google's token endpoint gave no token");
            return Err(NoToken::Unavailable);
        };
        let life_ms = granted.expires_in.clamp(1, ASSERTION_S) * 1000;
        Ok(Token {
            text: Secret::new(granted.access_token),
            early_ms: asked_ms + life_ms - life_ms / EARLY,
            until_ms: asked_ms + life_ms,
        })
    }

    fn assertion(&self) -> Option<String> {
        let now_s = self.clock.now_s();
        let (iss, aud) = (self.email.as_str(), self.token_url.as_str());
        let claims = Claims { iss, scope: SCOPE, aud, iat: now_s, exp: now_s + ASSERTION_S };
        let header = Header { kid: self.key_id.clone(), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &self.key).ok()
    }
}
