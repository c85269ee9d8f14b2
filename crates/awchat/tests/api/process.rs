//! The server as a process of its own: started, told to go, killed, started again on the same port and database.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use awchat::config::Config;
use sandbox::{Fault, Kind, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::Database;
use crate::harness::{self, Answer, Settings, all_settings, assert_no_violations, bodies};

/// `awchat serve` with a database of its own, and the outside world it talks to.
pub(crate) struct Server {
    /// Intercom.
    pub(crate) sandbox: Sandbox,
    settings: Vec<(String, String)>,
    url: String,
    http: reqwest::Client,
    child: Option<Child>,
    database: Arc<Database>,
    folder: TempDir,
}

/// A user of the app with an HTTP client of their own; a clone is another device.
#[derive(Clone)]
pub(crate) struct Caller {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Server {
    /// Starts the outside world and the server.
    pub(crate) async fn start(settings: Settings<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let database = Database::new(folder.path()).await;
        Self::start_in(folder, database, settings).await
    }

    /// The same with a database that is there; what it keeps beside it is in `folder`.
    pub(crate) async fn start_in(folder: TempDir, database: Database, settings: Settings<'_>) -> Self {
        let sandbox = harness::intercom(Default::default()).await;
        let mut settings = all_settings(settings, &sandbox, &database);
        let phones = harness::phone_settings(&sandbox, folder.path());
        settings.extend(phones.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let server = Self::of(sandbox, settings, Arc::new(database), folder).await;
        server.sandbox.send_webhooks_to(format!("{}/webhooks/intercom", server.url));
        server
    }

    /// Another node of the same installation, before the same outside world.
    pub(crate) async fn beside(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its log");
        Self::of(self.sandbox.clone(), self.settings.clone(), Arc::clone(&self.database), folder).await
    }

    async fn of(
        sandbox: Sandbox,
        mut settings: Vec<(String, String)>,
        database: Arc<Database>,
        folder: TempDir,
    ) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        settings.insert(0, ("LISTEN_ADDR".to_owned(), address.clone()));
        let url = format!("http://{address}");
        let mut server = Self { sandbox, settings, url, http: client(), child: None, database, folder };
        server.up().await;
        server
    }

    /// Where it listens, such as `http://127.0.0.1:12345`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Another value for a setting, from the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(0, (name.to_owned(), value.to_owned()));
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn up(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("a file for the log");
        let mut serve = self.command(&["serve"]);
        let child = serve.stdout(Stdio::null()).stderr(log).spawn().expect("the server's binary starts");
        self.child = Some(child);
        for _ in 0..1_000 {
            let health = self.http.get(format!("{}/health", self.url)).send().await;
            if health.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(self.ended().is_none(), "the server ended instead of starting");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not answer");
    }

    /// The processor time that it has used since it was started, in ticks of 10 ms.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        cpu_ticks(self.child.as_ref().expect("a running server").id())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("and is gone then");
        }
    }

    /// The most memory that the process has held so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that the process holds now, in KiB.
    pub(crate) fn held_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Its threads' names, as far as Linux tells them.
    pub(crate) fn threads(&self) -> Vec<String> {
        let id = self.child.as_ref().expect("a running server").id();
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("Linux tells");
        let name = |thread: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.expect("a thread").path().join("comm")).unwrap_or_default()
        };
        threads.map(|thread| name(thread).trim_end().to_owned()).collect()
    }

    fn status(&self, name: &str) -> u64 {
        let id = self.child.as_ref().expect("a running server").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// What it is told by its settings.
    pub(crate) fn config(&self) -> Config {
        let lookup = |name: &str| self.settings.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        Config::from_lookup(&lookup).expect("the settings hold")
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.as_ref().expect("a running server").id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("kill is everywhere");
        assert!(told.success());
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be asked"))
    }

    /// A user with a session token of their own.
    pub(crate) fn user_with(&self, token: String) -> Caller {
        Caller { http: client(), url: self.url.clone(), token }
    }

    /// A user, signed in.
    pub(crate) fn user(&self, sub: &str) -> Caller {
        // A client of one's own: its connections are nobody else's.
        Caller { http: client(), url: self.url.clone(), token: harness::token(sub, &Clock::system()) }
    }

    /// Where its database is, if that is a file, and its log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the binary's with the server's settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_awchat"));
        command.args(arguments).env_clear().envs(self.settings.iter().rev().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = File::open(self.log()).and_then(std::io::read_to_string).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" INFO ")).collect();
            eprintln!("the server's last words:\n{}", lines[lines.len().saturating_sub(600)..].join("\n"));
        } else {
            assert_no_violations(&self.sandbox);
        }
    }
}

impl Caller {
    /// Sends a request; a key makes it safe to send again.
    ///
    /// # Errors
    /// When there is no answer, or not all of it.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> reqwest::Result<Answer> {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        harness::exchange(&self.http, request.build().expect("a request")).await
    }

    /// The same user at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Uploads a text.
    ///
    /// # Errors
    /// When there is no answer, or not all of it.
    pub(crate) async fn uploads(&self, key: &str, bytes: &[u8]) -> reqwest::Result<Answer> {
        let head = "--limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n";
        let request = self.http.post(format!("{}/api/files/upload", self.url)).bearer_auth(&self.token);
        let request =
            request.header("Idempotency-Key", key).header("content-type", "multipart/form-data; boundary=limit");
        let form = [head.as_bytes(), bytes, b"\r\n--limit--\r\n"].concat();
        harness::exchange(&self.http, request.body(form).build().expect("a request")).await
    }

    /// Sends the same request with the same key until it is answered with 201, as a client should.
    pub(crate) async fn posts_until_201(&self, path: &str, key: &str, body: &Value) -> Answer {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(120) {
            let wait = match self.call("POST", path, Some(key), Some(body)).await {
                Ok(answer) if answer.status == 201 => return answer,
                Ok(answer) => {
                    assert!(matches!(answer.status, 409 | 502 | 503), "{path}: {} {}", answer.status, answer.text);
                    // Impatient: a quarter of what it is told.
                    answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or(1) * 250
                }
                Err(_) => 50,
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        panic!("{path} with {key} was not answered with 201 in two minutes");
    }

    /// Begins a conversation; its id.
    pub(crate) async fn opens(&self, body: &str) -> String {
        let answer = self.posts_until_201("/api/conversations", "open", &json!({ "body": body })).await;
        answer.json["id"].as_str().expect("an id").to_owned()
    }

    /// The texts of a conversation.
    pub(crate) async fn reads(&self, chat: &str) -> Vec<String> {
        let answer = self.call("GET", &format!("/api/conversations/{chat}"), None, None).await;
        let read = answer.expect("the server answers").expect(200);
        bodies(&read).into_iter().map(str::to_owned).collect()
    }
}

/// The processor time that a process has used, by `/proc`: in ticks of 10 ms.
pub(crate) fn cpu_ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("Linux tells");
    // After the name, which may hold anything: the state is the third field, utime and stime the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(40)).build().expect("an HTTP client")
}

/// A port to come back to: not one of those that the kernel hands out, or somebody else might have it meanwhile.
pub(crate) fn free_port() -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 10,000 and 30,000")]
    let any = || 10_000 + (awchat::id::chance() * 20_000.0) as u16;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(any).take(100).find(free).expect("one of a hundred ports is free")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_go_fails_no_request() {
    const CLIENTS: usize = 8;
    /// 80 replies a second at most: a fast machine's would use up Intercom's budget of 166.
    const PAUSE: Duration = Duration::from_millis(20);
    let mut server = Server::start(&[]).await;
    let slow = server.user("slow");
    let slow_chat = slow.opens("Hello").await;
    let path = format!("/conversations/{slow_chat}/reply");
    server.sandbox.fault(Fault::new(Kind::Slow { ms: 3_000 }).on("POST", &path));

    let (answered, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let told: Arc<OnceLock<Instant>> = Arc::default();
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let (user, answered, closed) = (server.user(&format!("user-{n}")), answered.clone(), closed.clone());
        let told = told.clone();
        clients.spawn(async move {
            let chat = user.opens("Hello").await;
            let mut said = vec!["Hello".to_owned()];
            let mut since = 0;
            for turn in 0.. {
                let (key, text) = (format!("k{turn}"), format!("message {turn}"));
                let reply = (format!("/api/conversations/{chat}/reply"), json!({ "body": text }));
                let poll = format!("/api/conversations/{chat}/poll?since={since}");
                let is_reply = turn % 5 == 0;
                let call = || async {
                    match is_reply {
                        true => user.call("POST", &reply.0, Some(&key), Some(&reply.1)).await,
                        false => user.call("GET", &poll, None, None).await,
                    }
                };
                let answer = match call().await {
                    Err(error) if !error.is_connect() => {
                        // The one connection that was kept alive has been closed: once more, on a new one.
                        closed.fetch_add(1, Ordering::Relaxed);
                        call().await
                    }
                    answer => answer,
                };
                match answer {
                    Ok(answer) => {
                        answered.fetch_add(1, Ordering::Relaxed);
                        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text);
                        since = answer.json["latestTimestamp"].as_i64().unwrap_or(since);
                        if is_reply {
                            said.push(text);
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    // Nobody listens any more.
                    Err(error) => {
                        assert!(error.is_connect(), "{error:?}");
                        let listened = told.get().is_some_and(|told| told.elapsed() > Duration::from_secs(4));
                        assert!(listened, "it listens for five seconds more: {error:?}");
                        break;
                    }
                }
            }
            (chat, said)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let idle = slow.call("GET", &format!("/api/conversations/{slow_chat}/poll"), None, None).await;
    let since = idle.expect("the server answers").expect(200)["latestTimestamp"].clone();
    let waiting = format!("/api/conversations/{slow_chat}/poll?since={since}&wait=30");
    let polling = tokio::spawn({
        let (slow, waiting) = (slow.clone(), waiting.clone());
        async move { slow.call("GET", &waiting, None, None).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let told = *told.get_or_init(Instant::now);
    server.terminate();
    polling.await.expect("it does not panic").expect("a long poll is answered").expect(200);
    assert!(told.elapsed() < Duration::from_secs(4), "at once, not after its 30 s: {:?}", told.elapsed());
    slow.call("GET", &waiting, None, None).await.expect("and so are later ones").expect(200);
    let ready = slow.call("GET", "/ready", None, None).await.expect("it still listens");
    assert_eq!(ready.status, 503, "so that nobody is sent here: {}", ready.text);
    let health = slow.call("GET", "/health", None, None).await.expect("it still listens");
    assert_eq!((health.status, &health.json["status"]), (200, &json!("draining")), "for who routes by it");
    assert_eq!(health.header("connection"), Some("close"), "who asks again is served elsewhere");

    // New connections are taken for five seconds; what is in flight then is finished.
    tokio::time::sleep(Duration::from_millis(3_500).saturating_sub(told.elapsed())).await;
    let late = server.user("slow");
    let reply = json!({ "body": "just before the end" });
    let path = format!("/api/conversations/{slow_chat}/reply");
    late.call("POST", &path, Some("k"), Some(&reply)).await.expect("what is in flight is finished").expect(201);
    assert!(told.elapsed() > Duration::from_secs(5), "after the listener was closed");

    let mut talks = Vec::new();
    while let Some(talk) = clients.join_next().await {
        talks.push(talk.expect("no request failed"));
    }
    let ended = loop {
        if let Some(ended) = server.ended() {
            break ended;
        }
        assert!(told.elapsed() < Duration::from_secs(30), "it goes in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ended.code(), Some(0));
    for (chat, said) in &talks {
        assert_eq!(server.sandbox.contact_parts(chat), *said, "each message once, whatever was cut off and sent again");
    }
    assert_eq!(server.sandbox.contact_parts(&slow_chat), ["Hello", "just before the end"]);
    let (answered, closed) = (answered.load(Ordering::Relaxed), closed.load(Ordering::Relaxed));
    assert!(answered > CLIENTS, "there was load: {answered}");
    assert!(closed <= CLIENTS, "at most the one kept connection of each: {closed}");
    println!(
        "SIGTERM under load: {answered} requests of {CLIENTS} clients, 0 failed, {closed} idle connections closed, exit code 0"
    );
}
