//! A whole server and a whole outside world for one test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use awchat::app::App;
use awchat::clock::Clock;
use awchat::config::Config;
use awchat::{api, auth, id, server, worker};
use reqwest::header::HeaderMap;
use sandbox::openapi::Document;
use sandbox::{Operator, Sandbox};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::Database;

/// The first HS256 secret of every world; the second is [`OLD_SECRET`].
pub(crate) const SECRET: &str = "a-session-secret-for-tests-0123456789";
/// A secret that is being rotated out.
pub(crate) const OLD_SECRET: &str = "an-old-session-secret-for-tests-01234";

/// The server, the outside world, and a clock.
pub(crate) struct World {
    /// Intercom.
    pub(crate) sandbox: Sandbox,
    /// The server's handles.
    pub(crate) app: App,
    /// The server's time: stands still unless the world is [`World::live`].
    pub(crate) clock: Clock,
    /// Where the server listens.
    pub(crate) url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
    _database: Database,
    _folder: tempfile::TempDir,
}

/// How a world differs from the usual one: settings by name.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

/// A world whose clock stands still, at Intercom too, and whose worker works when told to ([`World::work`]).
pub(crate) async fn world() -> World {
    World::begin(&[], false).await
}

/// A world as in production: the machine's clock, the worker running.
pub(crate) async fn live() -> World {
    World::begin(&[], true).await
}

impl World {
    /// A world with some settings of its own.
    pub(crate) async fn begin(settings: Settings<'_>, live: bool) -> Self {
        Self::begin_at(sandbox::Settings::default(), settings, live).await
    }

    /// As [`World::begin`], at another kind of Intercom.
    pub(crate) async fn begin_at(intercom: sandbox::Settings, settings: Settings<'_>, live: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let sandbox = self::intercom(intercom).await;
        Self::begin_in(folder, sandbox, settings, live).await
    }

    /// A world with telephones and a bot.
    pub(crate) async fn with_phones(settings: Settings<'_>, live: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let sandbox = self::intercom(Default::default()).await;
        let phones = phone_settings(&sandbox, folder.path());
        let phones = phones.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<_> = settings.iter().copied().chain(phones).collect();
        Self::begin_in(folder, sandbox, &settings, live).await
    }

    async fn begin_in(folder: tempfile::TempDir, sandbox: Sandbox, settings: Settings<'_>, live: bool) -> Self {
        let database = Database::new(folder.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let settings: Vec<_> = settings.iter().copied().chain([("SERVER_URL", url.as_str())]).collect();
        let config = config(&settings, &sandbox, &database);
        let clock = if live { Clock::system() } else { Clock::manual(Clock::system().now_ms()) };
        if !live {
            let clock = clock.clone();
            sandbox.go_by(move || clock.now_ms());
        }
        let app = App::open(config, clock.clone()).await.expect("the server opens its database");
        sandbox.send_webhooks_to(format!("{url}/webhooks/intercom"));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn({
            let (app, shutdown) = (app.clone(), shutdown.clone());
            async move {
                if live {
                    server::run(listener, app, shutdown, Duration::ZERO).await;
                } else {
                    let router = api::router(app.clone());
                    server::answer(listener, &app, router, shutdown, Duration::ZERO).await;
                }
            }
        });
        // Each answer is looked at: no redirect is followed.
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = http.build().expect("an HTTP client");
        Self { sandbox, app, clock, url, http, shutdown, serving: Some(serving), _database: database, _folder: folder }
    }

    /// A user of the app, signed in.
    pub(crate) fn user(&self, sub: &str) -> Client<'_> {
        Client { world: self, token: Some(self.token(sub)), headers: Vec::new() }
    }

    /// Somebody without a token.
    pub(crate) fn nobody(&self) -> Client<'_> {
        Client { world: self, token: None, headers: Vec::new() }
    }

    /// A session token that holds for an hour.
    pub(crate) fn token(&self, sub: &str) -> String {
        token(sub, &self.clock)
    }

    /// The teammate who answers.
    pub(crate) fn operator(&self) -> Operator {
        self.sandbox.operator()
    }

    /// Lets every webhook arrive and does all work that is due; webhooks that the work itself causes too.
    pub(crate) async fn work(&self) {
        for _ in 0..2 {
            self.sandbox.webhooks_settled().await;
            self.while_time_goes_by(worker::run_due(&self.app)).await.expect("the work is done");
        }
    }

    /// Does something that may wait on the clock, such as a repeated call to Intercom: once it seems to, time goes by.
    pub(crate) async fn while_time_goes_by<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(100)) => self.clock.advance(100),
            }
        }
    }

    /// Time passes, and what becomes due is done.
    pub(crate) async fn pass(&self, time: Duration) {
        self.work().await;
        self.clock.advance(i64::try_from(time.as_millis()).expect("a sane time"));
        self.work().await;
    }

    /// Tells the server to go, and waits until it has gone.
    pub(crate) async fn shut_down(&mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("the server ends without a panic");
        }
    }

    /// How many calls to Intercom since they were last forgotten.
    pub(crate) fn calls(&self) -> usize {
        self.sandbox.calls().len()
    }

    /// Sends a request and checks the answer against the document.
    async fn send(&self, request: reqwest::Request) -> Answer {
        exchange(&self.http, request).await.expect("the server answers")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        if !std::thread::panicking() {
            assert_no_violations(&self.sandbox);
        }
    }
}

/// The outside world, which holds each request against Intercom's own description.
pub(crate) async fn intercom(settings: sandbox::Settings) -> Sandbox {
    let settings = sandbox::Settings { description: Some(intercoms_description()), ..settings };
    let sandbox = Sandbox::start(settings).await.expect("the sandbox starts");
    if !sandbox.validates() {
        eprintln!("SKIPPED: requests to Intercom are not checked, {} is missing", intercoms_description().display());
    }
    sandbox
}

/// No request may have been one that Intercom's description does not know.
pub(crate) fn assert_no_violations(sandbox: &Sandbox) {
    let violations = sandbox.violations();
    assert!(violations.is_empty(), "requests that Intercom's description does not know: {violations:#?}");
}

/// What a server needs to reach the sandbox's telephones and chats; the account's file is kept in `folder`.
pub(crate) fn phone_settings(sandbox: &Sandbox, folder: &Path) -> Vec<(&'static str, String)> {
    let file = folder.join("service-account.json");
    std::fs::write(&file, sandbox.phones().service_account().to_string()).expect("a file for the service account");
    vec![
        ("FCM_SERVICE_ACCOUNT_FILE", file.display().to_string()),
        ("FCM_BASE_URL", sandbox.url()),
        ("TELEGRAM_BOT_TOKEN", sandbox.phones().bot_token()),
        ("TELEGRAM_API_URL", sandbox.url()),
        ("TELEGRAM_APP_URL", "https://app.example.com/chat".to_owned()),
    ]
}

fn config(settings: Settings<'_>, sandbox: &Sandbox, database: &Database) -> Config {
    let all = all_settings(settings, sandbox, database);
    let lookup = |name: &str| all.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    Config::from_lookup(&lookup).expect("the test's settings hold")
}

/// The settings of a server for tests; its own ones come first.
pub(crate) fn all_settings(settings: Settings<'_>, sandbox: &Sandbox, database: &Database) -> Vec<(String, String)> {
    let outside = sandbox::Settings::default();
    let secrets = format!("{SECRET},{OLD_SECRET}");
    let base = sandbox.url();
    let usual = [
        ("DATABASE_URL", database.url.as_str()),
        ("SESSION_JWT_SECRETS", &secrets),
        ("INTERCOM_ACCESS_TOKEN", &outside.access_token),
        ("INTERCOM_CLIENT_SECRET", &outside.client_secret),
        ("INTERCOM_ADMIN_ID", &outside.admin_id),
        ("INTERCOM_APP_ID", &outside.app_id),
        ("INTERCOM_BASE_URL", &base),
        ("FILE_URL_SECRETS", "a-file-secret-for-tests-0123456789abcdef"),
        ("RATE_LIMIT_PER_MINUTE", "600000"),
        ("RATE_LIMIT_BURST", "100000"),
    ];
    let given = settings.iter().chain(&usual).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let redis = redis().map(|redis| ("REDIS_URL".to_owned(), redis));
    given.chain(redis).chain(storage(database).into_iter().map(|(name, value)| (name.to_owned(), value))).collect()
}

/// The bucket that all servers of this run keep their files in, such as `http://127.0.0.1:9000/tests`; without one, they
/// are kept in directories.
pub(crate) fn bucket() -> Option<String> {
    static TOLD: Once = Once::new();
    let bucket = std::env::var("AWCHAT_TEST_S3").ok().filter(|bucket| !bucket.is_empty());
    TOLD.call_once(|| eprintln!("files: {}", bucket.as_deref().unwrap_or("directories")));
    bucket
}

/// The Redis server that all servers of this run share what they share through, such as `redis://127.0.0.1:6379`;
/// without one, they share nothing.
pub(crate) fn redis() -> Option<String> {
    static TOLD: Once = Once::new();
    let server = std::env::var("AWCHAT_TEST_REDIS").ok().filter(|server| !server.is_empty());
    TOLD.call_once(|| eprintln!("redis: {}", server.as_deref().unwrap_or("none")));
    server
}

/// A place for files that no other server of this run has.
fn storage(database: &Database) -> Vec<(&'static str, String)> {
    let Some(bucket) = bucket() else {
        return vec![("STORAGE_URL", format!("file://{}", database.folder.join("awchat.db.files").display()))];
    };
    let (endpoint, name) = bucket.rsplit_once('/').expect("AWCHAT_TEST_S3 is the address of a bucket");
    let to = |text: &str| text.to_owned();
    vec![
        ("STORAGE_URL", format!("s3://{name}/tests/{}", id::random())),
        ("AWS_ENDPOINT_URL", to(endpoint)),
        ("AWS_ACCESS_KEY_ID", to("tests")),
        ("AWS_SECRET_ACCESS_KEY", to("tests")),
        ("AWS_REGION", to("us-east-1")),
    ]
}

/// A session token that holds for an hour.
pub(crate) fn token(sub: &str, clock: &Clock) -> String {
    let sub = id::UserId::parse(sub).expect("a user id");
    auth::mint(&awchat::config::Secret::new(SECRET), &sub, 3600, clock, serde_json::Map::new())
}

/// Somebody who calls the API.
pub(crate) struct Client<'a> {
    world: &'a World,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

impl Client<'_> {
    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another token.
    pub(crate) fn bearing(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// POST with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    /// Any request; the path goes out as it is, `..` included.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_raw(method, path, body.map(|body| body.to_string())).await
    }

    /// Any request with any text as its JSON body.
    pub(crate) async fn call_raw(&self, method: &str, path: &str, body: Option<String>) -> Answer {
        let url = format!("{}{path}", self.world.url);
        let method = method.parse().expect("a method");
        let mut request = self.world.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.world.send(request.build().expect("a request")).await
    }

    /// Asks for an answer that does not end; its head is checked against the document.
    pub(crate) async fn opens_stream(&self, path: &str) -> reqwest::Response {
        let mut request = self.world.http.get(format!("{}{path}", self.world.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        assert_eq!(status, 200, "{path}");
        let (text, bytes, json, took) = (String::new(), Vec::new(), Value::Null, Duration::ZERO);
        Answer { status, headers, text, bytes, json, took }.check("GET", path);
        response
    }

    /// Uploads a file under a name.
    pub(crate) async fn uploads(&self, name: &str, bytes: &[u8]) -> Answer {
        let head = format!(
            "--limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: image/png\r\n\r\n"
        );
        self.sends_form("limit", [head.as_bytes(), bytes, b"\r\n--limit--\r\n"].concat().into()).await
    }

    /// Sends a form as it is.
    pub(crate) async fn sends_form(&self, boundary: &str, form: reqwest::Body) -> Answer {
        let mut request = self.world.http.post(format!("{}/api/files/upload", self.world.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let kind = format!("multipart/form-data; boundary={boundary}");
        self.world.send(request.header("content-type", kind).body(form).build().expect("a request")).await
    }

    /// Begins a conversation with a message; its id.
    pub(crate) async fn opens(&self, body: &str) -> String {
        let answer = self.post("/api/conversations", json!({ "body": body })).await.expect(201);
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message; its id.
    pub(crate) async fn replies(&self, conversation: &str, body: &str) -> String {
        let path = format!("/api/conversations/{conversation}/reply");
        let answer = self.post(&path, json!({ "body": body })).await.expect(201);
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Polls.
    pub(crate) async fn polls(&self, conversation: &str, since: i64) -> Value {
        self.get(&format!("/api/conversations/{conversation}/poll?since={since}")).await.expect(200)
    }

    /// The whole conversation.
    pub(crate) async fn reads(&self, conversation: &str) -> Value {
        self.get(&format!("/api/conversations/{conversation}")).await.expect(200)
    }
}

/// An answer that fits the document.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// The body as text.
    pub(crate) text: String,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
    /// The body as JSON; null where it is none.
    pub(crate) json: Value,
    /// From the request's sending to the body's end.
    pub(crate) took: Duration,
}

/// Sends a request and checks the answer against the document.
///
/// # Errors
/// When there is no answer, or not all of it.
pub(crate) async fn exchange(http: &reqwest::Client, request: reqwest::Request) -> reqwest::Result<Answer> {
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let started = Instant::now();
    let response = http.execute(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?.to_vec();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let took = started.elapsed();
    let json = serde_json::from_str(&text).ok();
    let answer = Answer { status, headers, text, bytes, json: json.unwrap_or(Value::Null), took };
    answer.check(&method, &path);
    Ok(answer)
}

impl Answer {
    /// The JSON of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// An answer in the one shape of errors.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> String {
        assert_eq!((self.status, self.json["error"].as_str()), (status, Some(code)), "{}", self.text);
        self.json["message"].as_str().expect("a message").to_owned()
    }

    /// One header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn check(&self, method: &str, path: &str) {
        let document = document();
        let known = document.operations().iter().any(|(own, template)| own == method && fits(template, path));
        if !known {
            // A route or method that the document does not have is refused in the one shape.
            assert!(
                matches!(self.status, 400 | 404 | 405 | 414 | 431),
                "{method} {path} is not in the document: {}",
                self.status
            );
            assert!(self.json["error"].is_string() && self.json["message"].is_string(), "{}", self.text);
            return;
        }
        let headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = (!self.text.is_empty()).then_some(&self.json);
        if let Err(problems) =
            document.check_response(method, path, self.status, self.header("content-type"), &headers, body)
        {
            panic!("{method} {path} answered {} against the document: {problems:#?}\n{}", self.status, self.text);
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
}

/// The contract.
pub(crate) fn document() -> &'static Arc<Document> {
    static DOCUMENT: OnceLock<Arc<Document>> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/openapi.yaml");
        Arc::new(Document::load(&path).expect("api/openapi.yaml can be read"))
    })
}

/// Intercom's official description, where it is there.
pub(crate) fn intercoms_description() -> PathBuf {
    shared("intercom/api.intercom.io-2.16.yaml")
}

/// A file of the shared reference data beside the project.
pub(crate) fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path)
}

/// Waits until it is so: Intercom, processes and sockets live in real time.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The duration that 99 of 100 stay below.
pub(crate) fn p99(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() * 99 / 100]
}

/// The texts of an answer's messages.
pub(crate) fn bodies(answer: &Value) -> Vec<&str> {
    let messages = answer["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["body"].as_str().expect("a body")).collect()
}
