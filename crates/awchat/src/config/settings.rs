//! The table of settings: what `awchat serve --help` prints and `.env.example` lists.

use std::fmt::Write;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// The value that holds when it is unset; `None` where there is none, or where it follows from another setting.
    pub default: Option<&'static str>,
    /// What it is for, in a line.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: Option<&'static str>, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// Where operators' attachments come from: Intercom's download hosts of all its regions.
const CDN_HOSTS: &str = "*.intercomcdn.com,*.intercomcdn.eu,*.intercom-attachments.com,*.intercom-attachments.eu,\
*.intercom-attachments-1.com,*.intercom-attachments-2.com,*.intercom-attachments-3.com,*.intercom-attachments-4.com,\
*.intercom-attachments-5.com,*.intercom-attachments-6.com,*.intercom-attachments-7.com,*.intercom-attachments-8.com,\
*.intercom-attachments-9.com";

/// Every setting, in the order in which they are explained.
pub const SETTINGS: &[Setting] = &[
    setting("LISTEN_ADDR", Some("127.0.0.1:8080"), "address and port of the API"),
    setting("SERVER_URL", None, "public base URL, on which signed file URLs are built; unset: http://LISTEN_ADDR"),
    setting("DATABASE_URL", Some("sqlite://data/awchat.db"), "sqlite://FILE, created if missing, or postgres://..."),
    setting("REDIS_URL", None, "redis://...: rate limits and wake-ups shared between nodes; losing it loses no data"),
    setting(
        "STORAGE_URL",
        Some("file://data/files"),
        "file://DIRECTORY, or s3://BUCKET/PREFIX with the usual AWS_* variables",
    ),
    setting(
        "SESSION_JWT_SECRETS",
        None,
        "HS256 secrets of session tokens, comma-separated, 32 bytes or more each; the first signs `awchat token`",
    ),
    setting(
        "SESSION_JWKS_URL",
        None,
        "https URL of a JWKS (RS256, ES256, EdDSA), beside or instead of SESSION_JWT_SECRETS",
    ),
    setting("SESSION_JWT_ISSUER", None, "when set, a token must carry this `iss`"),
    setting("SESSION_JWT_AUDIENCE", None, "when set, a token must carry this `aud`"),
    setting("INTERCOM_ACCESS_TOKEN", None, "required: token of Intercom's REST API"),
    setting("INTERCOM_CLIENT_SECRET", None, "required: secrets that sign Intercom's webhooks, comma-separated"),
    setting("INTERCOM_ADMIN_ID", None, "required: id of the teammate in whose name the server acts"),
    setting(
        "INTERCOM_BASE_URL",
        Some("https://api.intercom.io"),
        "Intercom's API, or its EU or AU host, or a stand-in",
    ),
    setting(
        "INTERCOM_CDN_HOSTS",
        Some(CDN_HOSTS),
        "hosts that operators' attachments are fetched from, comma-separated, `*.` for all names below; INTERCOM_BASE_URL's always counts",
    ),
    setting("INTERCOM_APP_ID", None, "when set, webhooks of another Intercom app are ignored"),
    setting("INTERCOM_TEAM_ID", None, "when set, new conversations are assigned to this team"),
    setting("INTERCOM_TIMEOUT_MS", Some("10000"), "longest wait for one answer of Intercom, milliseconds"),
    setting("SETTLE_MS", Some("30000"), "how long after a timeout Intercom may still apply a request, milliseconds"),
    setting("SWEEP_INTERVAL_MS", Some("60000"), "pause between two searches for what webhooks missed, milliseconds"),
    setting("BREAKER_OPEN_MS", Some("10000"), "how long an open circuit refuses calls before it probes, milliseconds"),
    setting(
        "FILE_URL_SECRETS",
        None,
        "required: keys that sign /files URLs, comma-separated, 32 bytes or more each; the first signs",
    ),
    setting("MAX_FILE_MB", Some("20"), "largest upload, MiB"),
    setting("MAX_FILES_PER_MSG", Some("10"), "most files on one message"),
    setting("USER_QUOTA_MB", Some("1024"), "most uploads of one user in a day, MiB"),
    setting("RATE_LIMIT_PER_MINUTE", Some("300"), "requests per user and minute"),
    setting("RATE_LIMIT_BURST", Some("60"), "requests of one user at once"),
    setting("TICKET_PREFIX", Some("AW"), "what stands before the number in a ticket's reference"),
    setting("FCM_SERVICE_ACCOUNT_FILE", None, "Google service account (JSON); unset: no pushes to FCM"),
    setting("FCM_BASE_URL", Some("https://fcm.googleapis.com"), "FCM, or a stand-in"),
    setting("TELEGRAM_BOT_TOKEN", None, "the bot's token; unset: no pushes to Telegram"),
    setting("TELEGRAM_API_URL", Some("https://api.telegram.org"), "Telegram's Bot API, or a stand-in"),
    setting("TELEGRAM_APP_URL", None, "URL of the Mini App that a notice's button opens"),
    setting(
        "CORS_ORIGINS",
        None,
        "origins of web and Mini App clients, comma-separated, such as https://app.example.com",
    ),
    setting("TRUSTED_PROXIES", None, "CIDRs whose X-Forwarded-For is believed, comma-separated"),
    setting("TOPICS_FILE", None, "the topic picker's content (JSON)"),
    setting("METRICS_ADDR", None, "address and port of the Prometheus listener"),
    setting("ADMIN_TOKEN", None, "opens the read-only page /admin; 16 bytes or more"),
    setting("PUSH_PREVIEW", Some("off"), "on: a push carries the message's text"),
    setting("LOG_FORMAT", Some("pretty"), "pretty or json"),
    setting("OTEL_EXPORTER_OTLP_ENDPOINT", None, "base URL of a collector that takes OTLP over HTTP; unset: no traces"),
    setting("OTEL_SERVICE_NAME", Some("awchat"), "the name that traces carry"),
    setting(
        "OTEL_TRACES_SAMPLER",
        Some("parentbased_always_on"),
        "what is traced: always_on, always_off or traceidratio, or parentbased_ and one of these, where callers decide first",
    ),
    setting("OTEL_TRACES_SAMPLER_ARG", Some("1"), "the share that traceidratio traces, 0 to 1"),
];

/// The settings with their defaults, for `awchat serve --help`.
pub fn help_text() -> String {
    let mut text = String::from("Settings (environment, or a file .env in the working directory):\n");
    for Setting { name, default, meaning } in SETTINGS {
        let default = default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        let _ = write!(text, "\n  {name}\n      {meaning}{default}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_example() -> String {
        let mut text = String::from(
            "# Settings of `awchat serve`. Copy this file to .env and uncomment what differs from the default.\n\
             # Good secrets come from: openssl rand -hex 32\n",
        );
        for Setting { name, default, meaning } in SETTINGS {
            let _ = write!(text, "\n# {meaning}\n# {name}={}\n", default.unwrap_or_default());
        }
        text
    }

    #[test]
    fn the_example_file_lists_every_setting_once_with_its_default() {
        let file = include_str!("../../../../.env.example");
        for (at, (is, must)) in file.lines().zip(env_example().lines()).enumerate() {
            assert_eq!(is, must, "line {}", at + 1);
        }
        assert_eq!(file, env_example(), "one is longer than the other");
    }

    /// What pages and files for operators name that is somebody else's.
    const FOREIGN: [&str; 11] = [
        "AWS_",
        "POSTGRES_",
        "ROOT_",
        "REDIS_PASSWORD",
        "S3_SECRET_KEY",
        "AF_",
        "METHOD_",
        "SESSION_JWT_SECRET",
        // OpenTelemetry's own, which its library reads.
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_BSP_",
    ];

    /// Words of capitals with an underscore: what a setting's name looks like.
    fn names(text: &str) -> impl Iterator<Item = &str> {
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(move |word| word.len() > 3 && word.chars().all(is_part) && word.trim_matches('_').contains('_'))
    }

    #[test]
    fn what_is_written_for_operators_names_only_settings_that_there_are() {
        let pages = [
            ("README.md", include_str!("../../../../README.md")),
            ("docs/guide.md", include_str!("../../../../docs/guide.md")),
            ("docs/operations.md", include_str!("../../../../docs/operations.md")),
            ("deploy/Dockerfile", include_str!("../../../../deploy/Dockerfile")),
            ("deploy/compose.yaml", include_str!("../../../../deploy/compose.yaml")),
            ("deploy/awchat.service", include_str!("../../../../deploy/awchat.service")),
        ];
        for (page, text) in pages {
            let is_ours = |name: &&str| !FOREIGN.iter().any(|foreign| name.starts_with(foreign));
            let unknown: Vec<&str> = names(text)
                .filter(is_ours)
                .filter(|name| !SETTINGS.iter().any(|setting| setting.name == *name))
                .collect();
            assert!(unknown.is_empty(), "{page} names what is no setting: {unknown:?}");
        }
        assert_eq!(names("`NO_SUCH=1`, A_B, Ab_C, NONE").collect::<Vec<_>>(), ["NO_SUCH"]);
    }

    #[test]
    fn no_setting_is_listed_twice() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn the_help_text_names_every_setting() {
        let help = help_text();
        assert!(SETTINGS.iter().all(|setting| help.contains(&format!("\n  {}\n", setting.name))));
    }
}
