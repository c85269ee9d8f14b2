//! The configuration: read from a lookup function, typed, checked as a whole, all problems told together.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

mod build;
mod read;
mod settings;
mod topics;

pub use read::{Problem, Problems};
pub use settings::{SETTINGS, Setting, help_text};
pub use topics::{SubTopic, Topic};

use read::Reader;

/// A text that never shows itself: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything that `awchat` can be told from outside; [`SETTINGS`] explains each name.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port of the API.
    pub listen_addr: SocketAddr,
    /// The public base URL.
    pub server_url: Url,
    /// `sqlite:...` or `postgres://...`; may hold a password.
    pub database_url: Secret,
    /// What nodes share; may hold a password.
    pub redis_url: Option<Secret>,
    /// Session tokens.
    pub session: Session,
    /// Intercom and this server's place in it.
    pub intercom: Intercom,
    /// Uploads.
    pub files: Files,
    /// Requests per user.
    pub rate_limit: RateLimit,
    /// What stands before the number in a ticket's reference.
    pub ticket_prefix: String,
    /// FCM and Telegram.
    pub push: Push,
    /// As browsers send them: `https://app.example.com`.
    pub cors_origins: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The topic picker's content.
    pub topics: Vec<Topic>,
    /// Address and port of the Prometheus listener.
    pub metrics_addr: Option<SocketAddr>,
    /// Opens `/admin`.
    pub admin_token: Option<Secret>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where traces go; unset: none are made.
    pub traces: Option<Traces>,
}

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The collector; traces go to `v1/traces` below it.
    pub endpoint: Url,
    /// The name that they carry.
    pub service: String,
    /// Which are made.
    pub sampler: Sampler,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The caller's decision comes first, if there is one.
    pub follows_parent: bool,
    /// Of those that nobody has decided on: 0 to 1.
    pub share: f64,
}

/// How session tokens are verified: by shared secrets, a JWKS, or both.
#[derive(Clone, Debug)]
pub struct Session {
    /// HS256 secrets; the first signs `awchat token`.
    pub secrets: Vec<Secret>,
    /// The issuer's published keys.
    pub jwks_url: Option<Url>,
    /// The `iss` that a token must carry.
    pub issuer: Option<String>,
    /// The `aud` that a token must carry.
    pub audience: Option<String>,
}

/// Intercom and this server's place in it.
#[derive(Clone, Debug)]
pub struct Intercom {
    /// Token of the REST API.
    pub access_token: Secret,
    /// HMAC secrets of webhooks.
    pub client_secrets: Vec<Secret>,
    /// The service teammate; digits.
    pub admin_id: String,
    /// The API.
    pub base_url: Url,
    /// `example.com` or `*.example.com`, lower case; see [`Intercom::is_cdn_host`].
    pub cdn_hosts: Vec<String>,
    /// Webhooks of another app are ignored.
    pub app_id: Option<String>,
    /// New conversations are assigned to it; digits.
    pub team_id: Option<String>,
    /// The longest wait for one answer.
    pub timeout: Duration,
    /// How long after a timeout a request may still be applied.
    pub settle: Duration,
    /// The pause between two searches for what webhooks missed.
    pub sweep_interval: Duration,
    /// How long an open circuit refuses calls before it probes.
    pub breaker_open: Duration,
}

/// Uploads: where they are kept, how large they may be, who may read them.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where they are kept.
    pub storage: Storage,
    /// Keys of signed URLs: the first signs, all are accepted.
    pub url_secrets: Vec<Secret>,
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// The most files on one message.
    pub max_per_message: usize,
    /// The most bytes that a user uploads in a day.
    pub user_quota_bytes: u64,
}

/// Where uploads are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// What stands before each key; no slash at its ends, may be empty.
        prefix: String,
        /// The usual AWS_* variables that are set.
        options: Vec<(&'static str, Secret)>,
    },
}

/// The bucket of each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that fit in a minute, in the long run.
    pub per_minute: u32,
    /// Requests that fit at once.
    pub burst: u32,
}

/// Who is told of an operator's message, and how much.
#[derive(Clone, Debug)]
pub struct Push {
    /// Google's service account; without it nothing goes to FCM.
    pub fcm_service_account_file: Option<PathBuf>,
    /// FCM.
    pub fcm_base_url: Url,
    /// The bot's token, which is part of every URL called; without it nothing goes to Telegram.
    pub telegram_bot_token: Option<Secret>,
    /// The Bot API.
    pub telegram_api_url: Url,
    /// The Mini App that a notice opens.
    pub telegram_app_url: Option<Url>,
    /// Whether a notice carries the message's text.
    pub preview: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Intercom {
    /// Whether an operator's attachment may be fetched from `host`.
    pub fn is_cdn_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let below = |pattern: &str| {
            let end = pattern.strip_prefix('*')?;
            Some(host.len() > end.len() && host.ends_with(end))
        };
        self.base_url.host_str() == Some(host.as_str())
            || self.cdn_hosts.iter().any(|pattern| below(pattern).unwrap_or(*pattern == host))
    }
}

impl Config {
    /// The configuration of `awchat serve`, with `lookup` giving the value of a setting.
    ///
    /// # Errors
    /// All problems at once: what is missing, malformed, out of its range or weak.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        Reader::new(lookup, false).config()
    }

    /// The configuration of `awchat dev`: fixed secrets that `serve` refuses, own data files, and never the real
    /// Intercom, FCM or Telegram, sessions or database, whatever `lookup` says: a `.env` for `serve` may lie beside it.
    /// The rest can be set as for `serve`, LISTEN_ADDR included.
    ///
    /// # Errors
    /// As [`Config::from_lookup`].
    pub fn dev(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let outside = |name: &str| {
            ["INTERCOM_", "FCM_", "TELEGRAM_", "SESSION_", "REDIS_", "ADMIN_"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        let fixed = |name: &str| DEV.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let lookup = |name: &str| {
            let set = lookup(name).filter(|text| !text.trim().is_empty());
            fixed(name).or_else(|| set.filter(|_| !outside(name) || name.ends_with("_MS")))
        };
        Reader::new(&lookup, true).config()
    }
}

#[cfg(test)]
impl Config {
    /// A configuration for tests: `lookup`, and what `awchat dev` uses for the rest.
    pub(crate) fn for_tests(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let fixed = |name: &str| DEV.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Reader::new(&|name: &str| lookup(name).or_else(|| fixed(name)), true).config().expect("the settings hold")
    }
}

/// What `awchat dev` uses; the secrets are in everybody's hands.
const DEV: &[(&str, &str)] = &[
    ("DATABASE_URL", "sqlite://data/dev.db"),
    ("STORAGE_URL", "file://data/dev-files"),
    ("SESSION_JWT_SECRETS", "dev-only-session-secret-known-to-everybody"),
    ("FILE_URL_SECRETS", "dev-only-file-url-secret-known-to-everybody"),
    ("INTERCOM_ACCESS_TOKEN", "dev-only-access-token"),
    ("INTERCOM_CLIENT_SECRET", "dev-only-client-secret"),
    ("INTERCOM_ADMIN_ID", "1"),
    ("ADMIN_TOKEN", "dev-only-admin-token"),
    // Nothing listens there: whoever starts the sandbox sets the field to its address.
    ("INTERCOM_BASE_URL", "http://127.0.0.1:9"),
    ("FCM_BASE_URL", "http://127.0.0.1:9"),
    ("TELEGRAM_API_URL", "http://127.0.0.1:9"),
];

/// The secret that signs tokens: the first of SESSION_JWT_SECRETS.
pub fn signing_secret(lookup: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    let secrets = lookup("SESSION_JWT_SECRETS")?;
    secrets.split(',').map(str::trim).find(|secret| !secret.is_empty()).map(Secret::new)
}

/// The database of `awchat serve`, for what needs nothing else: DATABASE_URL, or its default.
pub fn database_url(lookup: &dyn Fn(&str) -> Option<String>) -> Secret {
    let name = "DATABASE_URL";
    let default = SETTINGS.iter().find(|setting| setting.name == name).and_then(|setting| setting.default);
    let set = lookup(name).filter(|url| !url.trim().is_empty());
    Secret::new(set.as_deref().or(default).unwrap_or_default().trim())
}

/// Looks settings up in the environment, then in the file `.env` of the working directory, if there is one.
///
/// # Errors
/// When `.env` exists and cannot be read; its content is never repeated.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> Result<impl Fn(&str) -> Option<String>, Problems> {
    let unreadable = |_| Problems::one(".env", "cannot be read, or has a line that is not NAME=value");
    let file: HashMap<String, String> = match dotenvy::from_path_iter(".env") {
        Ok(lines) => lines.collect::<Result<_, _>>().map_err(unreadable)?,
        Err(error) if error.not_found() => HashMap::new(),
        Err(error) => return Err(unreadable(error)),
    };
    Ok(move |name: &str| std::env::var(name).ok().or_else(|| file.get(name).cloned()))
}

#[cfg(test)]
mod tests;
