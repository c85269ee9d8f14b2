//! What a configuration accepts, refuses and hides.

use super::*;

const JWT: &str = "session-secret-0123456789abcdef-0123";
const FILE: &str = "file-url-secret-0123456789abcdef-0123";

/// The least that `serve` accepts, with `changes` on top; an empty value unsets.
fn with(changes: &[(&str, &str)]) -> Result<Config, Problems> {
    let mut set = HashMap::from([
        ("SESSION_JWT_SECRETS", JWT),
        ("FILE_URL_SECRETS", FILE),
        ("INTERCOM_ACCESS_TOKEN", "dG9rOmludGVyY29t"),
        ("INTERCOM_CLIENT_SECRET", "client-secret-1"),
        ("INTERCOM_ADMIN_ID", "814860"),
    ]);
    set.extend(changes.iter().copied());
    Config::from_lookup(&|name| set.get(name).map(|value| (*value).to_owned()))
}

fn problem(changes: &[(&str, &str)]) -> String {
    with(changes).expect_err("the configuration is wrong").to_string()
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = with(&[]).expect("complete");
    assert_eq!(config.listen_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server_url.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(config.database_url.expose(), "sqlite://data/awchat.db");
    assert_eq!(config.files.storage, Storage::Local("data/files".into()));
    assert_eq!((config.files.max_bytes, config.files.max_per_message), (20 * 1024 * 1024, 10));
    assert_eq!(config.rate_limit, RateLimit { per_minute: 300, burst: 60 });
    assert_eq!(config.intercom.base_url.as_str(), "https://api.intercom.io/");
    assert_eq!(config.intercom.settle, Duration::from_secs(30));
    assert_eq!(config.ticket_prefix, "AW");
    assert_eq!(config.log_format, LogFormat::Pretty);
    assert!(config.traces.is_none());
    assert!(!config.push.preview && config.cors_origins.is_empty() && config.trusted_proxies.is_empty());
}

#[test]
fn all_problems_are_told_together() {
    let nothing = Config::from_lookup(&|_| None).expect_err("secrets are missing").to_string();
    let required = [
        "SESSION_JWT_SECRETS",
        "INTERCOM_ACCESS_TOKEN",
        "INTERCOM_CLIENT_SECRET",
        "INTERCOM_ADMIN_ID",
        "FILE_URL_SECRETS",
    ];
    for name in required {
        assert!(nothing.contains(&format!("\n  {name}: must be set")), "{name} in {nothing}");
    }
    assert_eq!(nothing.lines().count(), 1 + required.len());
}

#[test]
fn each_rule_names_its_setting() {
    let wrong = [
        ("LISTEN_ADDR", "8080"),
        ("SERVER_URL", "support.example.com"),
        ("SERVER_URL", "https://user:pw@support.example.com"),
        ("DATABASE_URL", "mysql://localhost"),
        ("REDIS_URL", "localhost:6379"),
        ("STORAGE_URL", "gs://bucket"),
        ("STORAGE_URL", "s3://"),
        ("SESSION_JWT_SECRETS", "too-short"),
        ("SESSION_JWT_SECRETS", "session-secret-0123456789abcdef-0123,too-short"),
        ("SESSION_JWT_SECRETS", "changeme-changeme-changeme-changeme"),
        ("SESSION_JWT_SECRETS", "00000000000000000000000000000000"),
        ("SESSION_JWKS_URL", "http://keys.example.com/jwks"),
        ("INTERCOM_ACCESS_TOKEN", "changeme"),
        ("INTERCOM_ADMIN_ID", "ada"),
        ("INTERCOM_BASE_URL", "http://api.intercom.io"),
        ("INTERCOM_CDN_HOSTS", "*"),
        ("INTERCOM_TIMEOUT_MS", "0"),
        ("SETTLE_MS", "-1"),
        ("FILE_URL_SECRETS", "too-short"),
        ("FILE_URL_SECRETS", JWT),
        ("MAX_FILE_MB", "many"),
        ("MAX_FILES_PER_MSG", "0"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
        ("TICKET_PREFIX", "AW-"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://app.example.com,https://b.example.com/path"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("METRICS_ADDR", "localhost"),
        ("ADMIN_TOKEN", "short"),
        ("PUSH_PREVIEW", "yes"),
        ("LOG_FORMAT", "xml"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "5"),
    ];
    for (name, value) in wrong {
        let told = problem(&[(name, value)]);
        assert!(told.contains(&format!("\n  {name}: ")), "{name}={value}: {told}");
    }
}

#[test]
fn lists_are_comma_separated() {
    let config = with(&[
        ("SESSION_JWT_SECRETS", "new-secret-0123456789abcdef-01234567, old-secret-0123456789abcdef-01234567"),
        ("CORS_ORIGINS", "https://app.example.com, http://localhost:5173"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1"),
    ])
    .expect("complete");
    assert_eq!(config.session.secrets.len(), 2);
    assert_eq!(config.session.secrets[0].expose(), "new-secret-0123456789abcdef-01234567");
    assert_eq!(config.cors_origins, ["https://app.example.com", "http://localhost:5173"]);
    assert_eq!(config.trusted_proxies.len(), 2);
}

#[test]
fn traces_are_sampled_as_opentelemetry_names_it() {
    let sampler = |changes: &[(&str, &str)]| {
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")];
        let Sampler { follows_parent, share } =
            with(&[&endpoint, changes].concat()).expect("complete").traces.expect("an endpoint").sampler;
        (follows_parent, share)
    };
    assert_eq!(sampler(&[]), (true, 1.0));
    assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER", "always_off")]), (false, 0.0));
    let arg = ("OTEL_TRACES_SAMPLER_ARG", "0.05");
    assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER", "always_on"), arg]), (false, 1.0));
    assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER", "traceidratio"), arg]), (false, 0.05));
    assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), arg]), (true, 0.05));
}

#[test]
fn a_key_set_stands_in_for_shared_secrets_and_a_stand_in_for_intercom_may_be_local() {
    let config = with(&[
        ("SESSION_JWT_SECRETS", ""),
        ("SESSION_JWKS_URL", "https://id.example.com/jwks.json"),
        ("INTERCOM_BASE_URL", "http://127.0.0.1:4000"),
        ("STORAGE_URL", "s3://chat-files/prod/"),
    ])
    .expect("complete");
    assert!(config.session.secrets.is_empty() && config.session.jwks_url.is_some());
    assert_eq!(
        config.files.storage,
        Storage::S3 { bucket: "chat-files".into(), prefix: "prod".into(), options: Vec::new() }
    );
}

#[test]
fn attachments_come_from_known_hosts_only() {
    let intercom = with(&[]).expect("complete").intercom;
    for known in ["downloads.intercomcdn.com", "ws-1.intercom-attachments-7.com", "api.intercom.io"] {
        assert!(intercom.is_cdn_host(known), "{known}");
    }
    for foreign in ["intercomcdn.com.evil.example", "evilintercomcdn.com", "127.0.0.1", "intercom.io", ""] {
        assert!(!intercom.is_cdn_host(foreign), "{foreign}");
    }
}

#[test]
fn secrets_never_show() {
    let config = with(&[
        ("DATABASE_URL", "postgres://awchat:canary-database@db/awchat"),
        ("REDIS_URL", "redis://:canary-redis@cache"),
        ("TELEGRAM_BOT_TOKEN", "123:canary-telegram"),
        ("ADMIN_TOKEN", "canary-admin-0123456789"),
    ]);
    let shown = format!("{:?}", config.expect("complete"));
    for secret in [JWT, FILE, "dG9rOmludGVyY29t", "client-secret-1", "canary"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    assert_eq!(format!("{}", Secret::new("x")), "***");
    let told = problem(&[("SESSION_JWT_SECRETS", "canary"), ("DATABASE_URL", "canary"), ("REDIS_URL", "canary")]);
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn dev_needs_nothing_and_serve_refuses_its_secrets() {
    let set = |name: &str| match name {
        "LISTEN_ADDR" => Some("127.0.0.1:9999".to_owned()),
        "INTERCOM_BASE_URL" => Some("https://api.intercom.io".to_owned()),
        "INTERCOM_ACCESS_TOKEN" => Some("the-real-token".to_owned()),
        _ => None,
    };
    let dev = Config::dev(&set).expect("dev needs nothing");
    assert_eq!(dev.listen_addr.port(), 9999);
    assert_eq!(dev.server_url.as_str(), "http://127.0.0.1:9999/");
    assert!(dev.intercom.access_token.expose().starts_with("dev-only"), "the real Intercom is out of reach");
    assert!(dev.intercom.base_url.as_str().starts_with("http://127.0.0.1"));
    let told = problem(&[("SESSION_JWT_SECRETS", dev.session.secrets[0].expose())]);
    assert!(told.contains("SESSION_JWT_SECRETS: is a placeholder"), "{told}");
}
