//! `awchat dev`: the whole product on one machine, with the sandbox as Intercom, FCM and Telegram, and a demo page.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use sandbox::Sandbox;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Secret, Storage};
use crate::error::{Cause, Error, Result};
use crate::id::UserId;
use crate::{api, auth, server};

/// A demo's token lasts a day.
const TOKEN_S: u32 = 86_400;

/// What the demo page's routes need.
#[derive(Clone)]
struct Demo {
    app: App,
    operator_url: String,
}

/// Runs server and sandbox until `shutdown`.
///
/// # Errors
/// When an address is taken or the database cannot be opened.
pub async fn run(mut config: Config, shutdown: CancellationToken) -> Result<(), Cause> {
    let listener = TcpListener::bind(config.listen_addr)
        .await
        .map_err(|error| format!("LISTEN_ADDR: {} cannot be used: {error}", config.listen_addr))?;
    let address = listener.local_addr()?;
    let sandbox = start_sandbox(&config, address).await?;
    config.intercom.base_url = sandbox.url().parse()?;
    if config.topics.is_empty() {
        config.topics = serde_json::from_str(include_str!("dev/topics.json"))?;
    }
    let account = tempfile::NamedTempFile::new()?;
    std::fs::write(&account, sandbox.phones().service_account().to_string())?;
    config.push.fcm_service_account_file = Some(account.path().to_owned());
    config.push.fcm_base_url = sandbox.url().parse()?;
    config.push.telegram_bot_token = Some(Secret::new(sandbox.phones().bot_token()));
    config.push.telegram_api_url = sandbox.url().parse()?;
    if config.server_url.port() == Some(0) {
        // Any free port: the one that it has become.
        config.server_url = format!("http://{address}").parse()?;
    }
    forget_yesterday(config.database_url.expose(), &config.files.storage);
    let app = App::open(config, Clock::system()).await?;
    let operator_url = format!("{}/operator", sandbox.url());
    welcome(&app, address, &operator_url);
    let demo = Router::new()
        .route("/", get(page))
        .route("/dev/demo.css", get(style))
        .route("/dev/demo.js", get(script))
        .route("/dev/token", get(token))
        .route("/dev/info", get(info))
        .with_state(Demo { app: app.clone(), operator_url });
    let router = demo.fallback_service(api::router(app.clone()));
    server::run_with(listener, app, router, shutdown, Duration::ZERO).await;
    sandbox.stop().await;
    Ok(())
}

/// On the port after the server's, or where there is room.
async fn start_sandbox(config: &Config, server: SocketAddr) -> Result<Sandbox, Cause> {
    let next = SocketAddr::new(server.ip(), server.port().wrapping_add(1));
    let settings = |listen| sandbox::Settings {
        listen,
        access_token: config.intercom.access_token.expose().to_owned(),
        client_secret: config
            .intercom
            .client_secrets
            .first()
            .map(|secret| secret.expose().to_owned())
            .unwrap_or_default(),
        admin_id: config.intercom.admin_id.clone(),
        ..sandbox::Settings::default()
    };
    let sandbox = match Sandbox::start(settings(next)).await {
        Ok(sandbox) => sandbox,
        Err(_) => Sandbox::start(settings(SocketAddr::new(server.ip(), 0))).await?,
    };
    sandbox.send_webhooks_to(format!("http://{server}/webhooks/intercom"));
    Ok(sandbox)
}

/// The sandbox begins empty, so the mirror of yesterday's conversations would point nowhere.
fn forget_yesterday(database_url: &str, files: &Storage) {
    if let Storage::Local(folder) = files
        && folder.ends_with("dev-files")
    {
        let _ = std::fs::remove_dir_all(folder);
    }
    let Some(path) = database_url.strip_prefix("sqlite://").filter(|path| path.ends_with("dev.db")) else { return };
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{path}{end}"));
    }
}

fn welcome(app: &App, server: SocketAddr, operator_url: &str) {
    let token = mint(app, "ada").unwrap_or_default();
    let admin_token = app.config.admin_token.as_ref().map(Secret::expose).unwrap_or_default();
    println!(
        "
AW Chat is running, with a sandbox in Intercom's place.

  the app's page        http://{server}/
  the operator's page   {operator_url}
  complaints, ratings   http://{server}/admin   (token: {admin_token})

A token for the user ada, good for a day:

  TOKEN={token}

To try with curl:

  curl -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
       -d '{{\"body\":\"Where is my refund?\"}}' http://{server}/api/conversations
  curl -H \"Authorization: Bearer $TOKEN\" http://{server}/api/conversations
  curl -H \"Authorization: Bearer $TOKEN\" \"http://{server}/api/conversations/ID/poll?since=0\"

Ctrl-C stops it.
"
    );
}

fn mint(app: &App, user: &str) -> Result<String> {
    let sub = UserId::parse(user).ok_or_else(|| Error::Validation("user: 1 to 128 visible characters".to_owned()))?;
    let secret = app.config.session.secrets.first().ok_or_else(|| Error::internal("no secret to sign with"))?;
    let mut extra = Map::new();
    extra.insert("name".to_owned(), capitalised(user).into());
    Ok(auth::mint(secret, &sub, TOKEN_S, &app.clock, extra))
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// As strict as a page can be, to show that the widget asks for no exception.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                           img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; \
                           require-trusted-types-for 'script'; trusted-types 'none'";

fn fresh(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text)
}

async fn page() -> impl IntoResponse {
    fresh("text/html; charset=utf-8", include_str!("dev/demo.html"))
}

async fn style() -> impl IntoResponse {
    fresh("text/css; charset=utf-8", include_str!("dev/demo.css"))
}

async fn script() -> impl IntoResponse {
    fresh("text/javascript; charset=utf-8", include_str!("dev/demo.js"))
}

#[derive(Deserialize)]
struct Who {
    user: String,
}

/// Anybody may be anybody: this is a demo on one machine.
async fn token(State(demo): State<Demo>, Query(who): Query<Who>) -> Result<Json<Value>> {
    Ok(Json(json!({ "token": mint(&demo.app, &who.user)? })))
}

async fn info(State(demo): State<Demo>) -> Json<Value> {
    Json(json!({ "operatorUrl": demo.operator_url }))
}
