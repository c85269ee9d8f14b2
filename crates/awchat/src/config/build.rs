//! Which rule each setting must keep: the groups of the configuration, read one by one.

use url::Url;

use super::read::{Http, Reader, host_pattern, is_loopback, origin};
use super::{Config, Files, Intercom, LogFormat, Problems, Push, RateLimit, Sampler, Secret, Session, Storage, Traces};

const MIB: u64 = 1024 * 1024;

// Everything is read before the first `?`, so that no problem hides another.
impl Reader<'_> {
    pub(super) fn config(mut self) -> Result<Config, Problems> {
        let built = self.all();
        self.finish(built)
    }

    /// `None` where something is missing or wrong without which there is no configuration.
    fn all(&mut self) -> Option<Config> {
        let listen_addr = self.address("LISTEN_ADDR");
        let server_url = self.url("SERVER_URL", Http::Anywhere);
        let database_url = self.database_url();
        let redis_url = self.redis_url();
        let session = self.session();
        let intercom = self.intercom();
        let files = self.files(&session.secrets);
        let rate_limit = self.rate_limit();
        let ticket_prefix = self.parsed("TICKET_PREFIX", "must be 1 to 10 letters", |text| {
            ((1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic())).then(|| text.to_owned())
        });
        let push = self.push();
        let origins = "must be origins such as https://app.example.com, comma-separated, never *";
        let cors_origins = self.list("CORS_ORIGINS", origins, origin);
        let trusted_proxies = self.networks("TRUSTED_PROXIES");
        let topics = self.topics();
        let metrics_addr = self.address("METRICS_ADDR");
        let admin_token = self.secret("ADMIN_TOKEN", 16);
        let log_format = self.parsed("LOG_FORMAT", "must be pretty or json", |text| match text {
            "pretty" => Some(LogFormat::Pretty),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let traces = self.traces();
        let listen_addr = listen_addr?;
        Some(Config {
            listen_addr,
            server_url: server_url.or_else(|| Url::parse(&format!("http://{listen_addr}")).ok())?,
            database_url: database_url?,
            redis_url,
            session,
            intercom: intercom?,
            files: files?,
            rate_limit,
            ticket_prefix: ticket_prefix?,
            push: push?,
            cors_origins,
            trusted_proxies,
            topics,
            metrics_addr,
            admin_token,
            log_format: log_format?,
            traces: traces?,
        })
    }

    /// Inner `None`: there are to be none.
    fn traces(&mut self) -> Option<Option<Traces>> {
        let endpoint = self.url("OTEL_EXPORTER_OTLP_ENDPOINT", Http::Anywhere);
        let service = self.text("OTEL_SERVICE_NAME").unwrap_or_else(|| "awchat".to_owned());
        let share = self.parsed("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1", |text| {
            text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share))
        });
        let kinds = "must be always_on, always_off or traceidratio, or parentbased_ and one of these";
        let sampler = self.parsed("OTEL_TRACES_SAMPLER", kinds, |text| {
            let (follows_parent, kind) = match text.strip_prefix("parentbased_") {
                Some(kind) => (true, kind),
                None => (false, text),
            };
            let share = match kind {
                "always_on" => 1.0,
                "always_off" => 0.0,
                "traceidratio" => share?,
                _ => return None,
            };
            Some(Sampler { follows_parent, share })
        });
        let (sampler, _) = (sampler?, share?);
        Some(endpoint.map(|endpoint| Traces { endpoint, service, sampler }))
    }

    fn database_url(&mut self) -> Option<Secret> {
        self.parsed("DATABASE_URL", "must start with sqlite:, postgres:// or postgresql://", |text| {
            let starts = ["sqlite:", "postgres://", "postgresql://"];
            starts.iter().any(|start| text.starts_with(start)).then(|| Secret::new(text))
        })
    }

    fn redis_url(&mut self) -> Option<Secret> {
        self.parsed("REDIS_URL", "must be a redis:// or rediss:// URL", |text| {
            let url = Url::parse(text).ok()?;
            (matches!(url.scheme(), "redis" | "rediss") && url.has_host()).then(|| Secret::new(text))
        })
    }

    fn session(&mut self) -> Session {
        let secrets = self.secrets("SESSION_JWT_SECRETS", 32);
        let jwks_url = self.url("SESSION_JWKS_URL", Http::Loopback);
        if self.text("SESSION_JWT_SECRETS").is_none() && self.text("SESSION_JWKS_URL").is_none() {
            self.problem("SESSION_JWT_SECRETS", "must be set, or SESSION_JWKS_URL");
        }
        Session {
            secrets,
            jwks_url,
            issuer: self.text("SESSION_JWT_ISSUER"),
            audience: self.text("SESSION_JWT_AUDIENCE"),
        }
    }

    fn intercom(&mut self) -> Option<Intercom> {
        let access_token = self.secret("INTERCOM_ACCESS_TOKEN", 1);
        let access_token = self.required("INTERCOM_ACCESS_TOKEN", access_token);
        let client_secrets = self.secrets("INTERCOM_CLIENT_SECRET", 1);
        self.required("INTERCOM_CLIENT_SECRET", client_secrets.first());
        let admin_id = self.parsed("INTERCOM_ADMIN_ID", "must be digits", digits);
        let admin_id = self.required("INTERCOM_ADMIN_ID", admin_id);
        let base_url = self.url("INTERCOM_BASE_URL", Http::Loopback);
        let hosts = "must be host names, comma-separated; one may start with *.";
        let cdn_hosts = self.list("INTERCOM_CDN_HOSTS", hosts, host_pattern);
        let app_id = self.parsed("INTERCOM_APP_ID", "must be letters and digits", |text| {
            text.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| text.to_owned())
        });
        let team_id = self.parsed("INTERCOM_TEAM_ID", "must be digits", digits);
        let timeout = self.millis("INTERCOM_TIMEOUT_MS", 1..=60_000);
        let settle = self.millis("SETTLE_MS", 0..=600_000);
        let sweep_interval = self.millis("SWEEP_INTERVAL_MS", 1..=86_400_000);
        let breaker_open = self.millis("BREAKER_OPEN_MS", 1..=600_000);
        Some(Intercom {
            access_token: access_token?,
            client_secrets,
            admin_id: admin_id?,
            base_url: base_url?,
            cdn_hosts,
            app_id,
            team_id,
            timeout,
            settle,
            sweep_interval,
            breaker_open,
        })
    }

    fn files(&mut self, session_secrets: &[Secret]) -> Option<Files> {
        let storage = self.parsed("STORAGE_URL", "must be file://DIRECTORY or s3://BUCKET/PREFIX", storage);
        let storage = storage.map(|storage| match storage {
            Storage::S3 { bucket, prefix, .. } => Storage::S3 { bucket, prefix, options: self.aws() },
            local => local,
        });
        let url_secrets = self.secrets("FILE_URL_SECRETS", 32);
        self.required("FILE_URL_SECRETS", url_secrets.first());
        if url_secrets.iter().any(|secret| session_secrets.contains(secret)) {
            self.problem("FILE_URL_SECRETS", "must differ from SESSION_JWT_SECRETS");
        }
        let max_bytes = self.number("MAX_FILE_MB", 1..=1024) * MIB;
        let max_per_message = self.count("MAX_FILES_PER_MSG", 1..=100) as usize;
        let user_quota_bytes = self.number("USER_QUOTA_MB", 1..=1_048_576) * MIB;
        Some(Files { storage: storage?, url_secrets, max_bytes, max_per_message, user_quota_bytes })
    }

    /// What is set of the variables that AWS's own tools know. Plain http is for a stand-in named by AWS_ENDPOINT_URL.
    fn aws(&self) -> Vec<(&'static str, Secret)> {
        let set = |name: &'static str| self.text(name).map(|value| (name, Secret::new(value)));
        let mut options: Vec<_> = AWS.iter().filter_map(|name| set(name)).collect();
        let is_plain = |(name, value): &(&str, Secret)| {
            name.starts_with("AWS_ENDPOINT_URL") && value.expose().starts_with("http://")
        };
        if options.iter().any(is_plain) {
            options.push(("AWS_ALLOW_HTTP", Secret::new("true")));
        }
        options
    }

    fn rate_limit(&mut self) -> RateLimit {
        RateLimit {
            per_minute: self.count("RATE_LIMIT_PER_MINUTE", 1..=1_000_000),
            burst: self.count("RATE_LIMIT_BURST", 1..=1_000_000),
        }
    }

    fn push(&mut self) -> Option<Push> {
        let fcm_base_url = self.url("FCM_BASE_URL", Http::Loopback);
        let telegram_bot_token = self.secret("TELEGRAM_BOT_TOKEN", 1);
        let telegram_api_url = self.url("TELEGRAM_API_URL", Http::Loopback);
        let telegram_app_url = self.parsed("TELEGRAM_APP_URL", "must be an https URL", |text| {
            Url::parse(text).ok().filter(|url| url.scheme() == "https" || is_loopback(url))
        });
        let preview = self.parsed("PUSH_PREVIEW", "must be on or off", |text| match text {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        });
        Some(Push {
            fcm_service_account_file: self.path("FCM_SERVICE_ACCOUNT_FILE"),
            fcm_base_url: fcm_base_url?,
            telegram_bot_token,
            telegram_api_url: telegram_api_url?,
            telegram_app_url,
            preview: preview?,
        })
    }
}

/// The variables by which AWS's own tools find a bucket and the right to use it.
const AWS: [&str; 13] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];

/// Intercom's ids: 1 to 20 digits.
fn digits(text: &str) -> Option<String> {
    ((1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.to_owned())
}

fn storage(text: &str) -> Option<Storage> {
    if let Some(path) = text.strip_prefix("file://") {
        return (!path.is_empty()).then(|| Storage::Local(path.into()));
    }
    let (bucket, prefix) = text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    let named = (3..=63).contains(&bucket.len()) && bucket.bytes().all(name);
    named.then(|| Storage::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.trim_matches('/').to_owned(),
        options: Vec::new(),
    })
}
