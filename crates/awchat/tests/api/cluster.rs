//! Several servers as processes of their own, behind haproxy as `deploy/haproxy.cfg` sets it up, with a PostgreSQL and a
//! Redis that are theirs alone: those may be started again and emptied.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Fault, Kind};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::database::{Database, at_server, postgres};
use crate::harness::{self, Settings};
use crate::process::{Caller, Server, free_port};

/// A PostgreSQL and a Redis server that end with this value.
pub(crate) struct Engines {
    /// Such as `postgres://awchat@127.0.0.1:5432`.
    pub(crate) postgres: String,
    /// Such as `redis://127.0.0.1:6379`.
    pub(crate) redis: String,
    restart: PathBuf,
    /// Waits for the end of its input, and ends both then.
    keeper: Child,
}

impl Engines {
    /// Those of `scripts/postgres` and `scripts/redis`.
    ///
    /// # Panics
    /// When they do not start.
    pub(crate) async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let tells = r#"echo "$AWCHAT_TEST_DATABASE $AWCHAT_TEST_REDIS $AWCHAT_TEST_DATABASE_RESTART"; exec cat"#;
        let mut keeper = Command::new(root.join("scripts/postgres"))
            .args(["scripts/redis", "sh", "-c", tells])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/postgres runs");
        let mut lines = BufReader::new(keeper.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let told = lines.find(|line| line.starts_with("postgres://")).expect("PostgreSQL and Redis start");
        let [postgres, redis, restart] = told.split(' ').collect::<Vec<_>>().try_into().expect("three words");
        let engines = Self { postgres: postgres.to_owned(), redis: redis.to_owned(), restart: restart.into(), keeper };
        // As operators are told to leave it: what is committed survives the server's crash.
        let durable = "alter role awchat set synchronous_commit = on".to_owned();
        at_server(&engines.postgres, durable).await.expect("a setting");
        engines
    }

    /// A server with a database of its own here; it makes the schema itself.
    pub(crate) async fn server(&self, settings: Settings<'_>) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::blank(folder.path(), &self.postgres).await;
        let settings: Vec<_> = settings.iter().copied().chain([("REDIS_URL", self.redis.as_str())]).collect();
        Server::start_in(folder, database, &settings).await
    }

    /// Stops PostgreSQL in a mode of `pg_ctl`'s (`fast`, or `immediate`, as a crash does) and starts it again.
    pub(crate) async fn restart_postgres(&self, mode: &str) {
        let mut restart = Command::new(&self.restart);
        restart.arg(mode).stdout(Stdio::null());
        let done = tokio::task::spawn_blocking(move || restart.status()).await.expect("it does not panic");
        assert!(done.expect("pg_ctl runs").success(), "PostgreSQL starts again");
    }

    /// Empties Redis.
    pub(crate) async fn flush_redis(&self) {
        flush(&self.redis).await;
    }
}

/// The processor time that a Redis server has used so far, in microseconds.
pub(crate) async fn redis_us(redis: &str) -> f64 {
    let mut redis = TcpStream::connect(redis.strip_prefix("redis://").expect("an address")).await.expect("Redis");
    redis.write_all(b"INFO cpu\r\nQUIT\r\n").await.expect("told");
    let mut answer = String::new();
    redis.read_to_string(&mut answer).await.expect("an answer");
    let used = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
    let used = ["used_cpu_sys:", "used_cpu_user:"].map(|name| used(name).expect("Redis tells"));
    used.iter().sum::<f64>() * 1e6
}

impl Drop for Engines {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Empties a Redis server.
pub(crate) async fn flush(redis: &str) {
    let mut redis = TcpStream::connect(redis.strip_prefix("redis://").expect("an address")).await.expect("Redis");
    redis.write_all(b"SCRIPT FLUSH\r\nFLUSHALL\r\n").await.expect("told");
    let mut answer = [0; 10];
    redis.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"+OK\r\n+OK\r\n");
}

/// Debian's haproxy; it ends with this value.
pub(crate) struct Haproxy {
    url: String,
    process: Child,
    _folder: TempDir,
}

impl Haproxy {
    /// Before these servers, with the file that is shipped: but for where it and they listen, and for how many clients.
    ///
    /// # Panics
    /// When it is not installed, or does not take the file.
    pub(crate) fn before(servers: &[Server]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut file = include_str!("../../../../deploy/haproxy.cfg").to_owned();
        let mut fill_in = |shipped: &str, here: &str| {
            assert_eq!(file.matches(shipped).count(), 1, "deploy/haproxy.cfg has one line `{shipped}`");
            file = file.replace(shipped, here);
        };
        let node = |(n, server): (usize, &Server)| {
            format!("server node-{n} {}", server.url().strip_prefix("http://").expect("plain HTTP"))
        };
        let nodes: Vec<String> = servers.iter().enumerate().map(node).collect();
        fill_in("maxconn 60000", "maxconn 2000");
        fill_in("bind :8080", &format!("bind {address}"));
        fill_in("server-template node- 16 awchat:8080 resolvers names init-addr none", &nodes.join("\n  "));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, file).expect("a file");
        let process = Command::new("haproxy").args(["-q", "-db", "-f"]).arg(&path).stdin(Stdio::null()).spawn();
        let process = process.expect("haproxy is installed; scripts/setup-tests does that");
        Self { url: format!("http://{address}"), process, _folder: folder }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Servers and what is around them.
pub(crate) struct Cluster {
    /// Each may be killed, told to go and started again.
    pub(crate) servers: Vec<Server>,
    // In the order of their ends: first who uses, then what is used.
    around: Option<(Haproxy, Engines)>,
}

impl Cluster {
    /// One server with nothing before it, and the database of the run.
    pub(crate) async fn of_one(settings: Settings<'_>) -> Self {
        Self { servers: vec![Server::start(settings).await], around: None }
    }

    /// So many behind haproxy; Intercom's webhooks go through it, too.
    pub(crate) async fn of(count: usize, settings: Settings<'_>) -> Self {
        let engines = Engines::start().await;
        let mut servers = vec![engines.server(settings).await];
        for _ in 1..count {
            servers.push(servers[0].beside().await);
        }
        let haproxy = Haproxy::before(&servers);
        servers[0].sandbox.send_webhooks_to(format!("{}/webhooks/intercom", haproxy.url));
        let cluster = Self { servers, around: Some((haproxy, engines)) };
        cluster.is_reached().await;
        cluster
    }

    async fn is_reached(&self) {
        let began = Instant::now();
        let asked = self.user("nobody");
        while !asked.call("GET", "/health", None, None).await.is_ok_and(|answer| answer.status == 200) {
            assert!(began.elapsed() < Duration::from_secs(10), "no server is reached");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// PostgreSQL and Redis.
    pub(crate) fn engines(&self) -> Option<&Engines> {
        self.around.as_ref().map(|(_, engines)| engines)
    }

    /// Everywhere that it can be asked: where everybody should, and past that at each server.
    pub(crate) fn urls(&self) -> Vec<String> {
        let before = self.around.iter().map(|(haproxy, _)| haproxy.url.clone());
        before.chain(self.servers.iter().map(|server| server.url().to_owned())).collect()
    }

    /// A user, signed in, who asks where everybody should.
    pub(crate) fn user(&self, sub: &str) -> Caller {
        self.servers[0].user(sub).at(&self.urls()[0])
    }
}

/// Whether this run is to have several servers.
pub(crate) fn is_asked_for() -> bool {
    let is = postgres().is_some() && harness::redis().is_some() || std::env::var_os("AWCHAT_SOAK").is_some();
    if !is {
        println!(
            "SKIPPED: several servers need PostgreSQL, Redis and haproxy; scripts/postgres scripts/redis run this"
        );
    }
    is
}

/// What many clients did meanwhile.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    polls: AtomicUsize,
    replies: AtomicUsize,
    others: AtomicUsize,
}

/// A client who does all kinds of things without a pause, and takes no failure; what was said.
async fn uses(user: Caller, load: Arc<Load>, n: usize) -> (String, Vec<String>) {
    let (chat, mut said, mut since) = (user.opens("Hello").await, vec!["Hello".to_owned()], 0);
    while !load.stop.load(Ordering::Relaxed) {
        for wait in [0, 0, 1, 0, 3] {
            let path = format!("/api/conversations/{chat}/poll?since={since}&wait={wait}");
            let poll = user.call("GET", &path, None, None).await.expect("no connection fails").expect(200);
            let latest = poll["latestTimestamp"].as_i64().expect("a position");
            assert!(latest >= since, "{latest} is behind {since}");
            since = latest;
            load.polls.fetch_add(1, Ordering::Relaxed);
        }
        let text = format!("message {}", said.len());
        let path = format!("/api/conversations/{chat}/reply");
        // Half of them without a key: it is not sent again by anybody.
        let key = n.is_multiple_of(2).then_some(text.replace(' ', "-"));
        let reply = user.call("POST", &path, key.as_deref(), Some(&json!({ "body": text }))).await;
        reply.expect("no connection fails").expect(201);
        said.push(text);
        load.replies.fetch_add(1, Ordering::Relaxed);
        for (method, path) in
            [("GET", "/api/conversations".to_owned()), ("POST", format!("/api/conversations/{chat}/read"))]
        {
            let body = (method == "POST").then(|| json!({}));
            let answer = user.call(method, &path, None, body.as_ref()).await.expect("no connection fails");
            answer.expect(200);
            load.others.fetch_add(1, Ordering::Relaxed);
        }
    }
    (chat, said)
}

/// Whether a server says of itself that it can do its work.
async fn is_ready(server: &Server) -> bool {
    let ready = server.user("nobody").call("GET", "/ready", None, None).await;
    ready.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_nodes_are_restarted_in_turn_no_request_fails() {
    if !is_asked_for() {
        return;
    }
    const CLIENTS: usize = 12;
    let rounds = if std::env::var_os("AWCHAT_SOAK").is_some() { 4 } else { 1 };
    let mut cluster = Cluster::of(3, &[]).await;
    // Some messages are on their way for long, whenever a node is told to go.
    let slow = Fault::new(Kind::Slow { ms: 2_000 }).on("POST", "/conversations/{id}/reply").with_probability(0.05, 1);
    cluster.servers[0].sandbox.fault(slow);
    let (load, mut clients) = (Arc::<Load>::default(), JoinSet::new());
    for n in 0..CLIENTS {
        clients.spawn(uses(cluster.user(&format!("user-{n}")), Arc::clone(&load), n));
    }
    sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    for _ in 0..rounds {
        for server in &mut cluster.servers {
            server.terminate();
            let told = Instant::now();
            let code = loop {
                if let Some(ended) = server.ended() {
                    break ended.code();
                }
                assert!(told.elapsed() < Duration::from_secs(40), "it goes in time");
                sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(code, Some(0));
            server.up().await;
            while !is_ready(server).await {
                assert!(told.elapsed() < Duration::from_secs(60), "it is ready in time");
                sleep(Duration::from_millis(50)).await;
            }
            // haproxy has seen it, too.
            sleep(Duration::from_millis(1_500)).await;
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    for (chat, said) in clients.join_all().await {
        assert_eq!(cluster.servers[0].sandbox.contact_parts(&chat), said, "each message once");
    }
    let count = |what: &AtomicUsize| what.load(Ordering::Relaxed);
    let (polls, replies, others) = (count(&load.polls), count(&load.replies), count(&load.others));
    assert!(replies > CLIENTS, "there was load: {replies}");
    println!(
        "3 nodes behind haproxy, each told to go and started again {rounds} times within {} s: {polls} polls, {replies} replies, {others} others of {CLIENTS} clients: 0 failed",
        began.elapsed().as_secs()
    );
}
