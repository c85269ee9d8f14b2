//! What more nodes and more conversations cost: in an optimised build, with PostgreSQL and Redis. With DURABLE=1,
//! PostgreSQL is as in production.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor, Row};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Engines, redis_us};
use crate::harness;
use crate::process::{Caller, Server, cpu_ticks};

/// What grows with nothing may still grow by this, for no two measurements are alike.
const ALIKE_NODES: f64 = 1.1;
const ALIKE_SIZES: f64 = 1.3;

const ROUNDS: usize = 5;
const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
/// Conversations that one round asks for: another sample of them each time, where there are more.
const SAMPLE: u64 = 1_000;
const REPLIES: usize = 300;

fn is_asked_for() -> bool {
    let is = std::env::var_os("AWCHAT_SOAK").is_some();
    if !is {
        println!("SKIPPED: a measurement takes minutes and an optimised build; make soak has both");
    }
    is
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What the measurements ran on, as it is told with them.
async fn ran_on(engines: &Engines) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut connection = AnyConnection::connect(&format!("{}/postgres", engines.postgres)).await.expect("PostgreSQL");
    let asked = "select 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')
        || ', shared_buffers ' || current_setting('shared_buffers')";
    let told: String = connection.fetch_one(asked).await.expect("settings").get(0);
    connection.close().await.expect("closed");
    let build = if cfg!(debug_assertions) { "debug" } else { "optimised" };
    format!("{build}, on {cores} cores, which the load comes from too; {told}")
}

/// Somebody who asks without holding the answer against the document: that costs more than the answer.
struct Idler {
    http: reqwest::Client,
    path: String,
    token: String,
}

impl Idler {
    /// One whose polls find nothing new.
    async fn of(user: &Caller, sub: &str) -> Self {
        let chat = user.opens("Hello").await;
        let poll = user.call("GET", &format!("/api/conversations/{chat}/poll?since=0"), None, None).await;
        let since = poll.expect("an answer").expect(200)["latestTimestamp"].clone();
        let path = format!("/api/conversations/{chat}/poll?since={since}");
        Self { http: client(), path, token: harness::token(sub, &Clock::system()) }
    }

    async fn polls(&self, url: &str) {
        let asked = self.http.get(format!("{url}{}", self.path)).bearer_auth(&self.token).send().await;
        let answer = asked.expect("the server answers");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("all of it");
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}

/// What polls came to.
#[derive(Clone, Copy)]
struct Polled {
    /// In a second.
    rate: f64,
    /// The nodes' processor time for one, in µs.
    nodes_us: f64,
    /// Redis's.
    redis_us: f64,
}

/// Polls at these nodes for a while, each client at one of them, with this pause from one's beginning to the next's.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn polled(nodes: &[&Server], idlers: &[Arc<Idler>], redis: &str, pause: Duration, time: Duration) -> Polled {
    let ticks = || nodes.iter().map(|node| node.cpu_ticks()).sum::<u64>();
    let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (redis_before, before, began) = (redis_us(redis).await, ticks(), Instant::now());
    let mut asking = JoinSet::new();
    for (at, idler) in idlers.iter().enumerate() {
        let (idler, url) = (Arc::clone(idler), nodes[at % nodes.len()].url().to_owned());
        let (stop, polls) = (Arc::clone(&stop), Arc::clone(&polls));
        asking.spawn(async move {
            let mut due = tokio::time::Instant::now();
            while !stop.load(Ordering::Relaxed) {
                idler.polls(&url).await;
                polls.fetch_add(1, Ordering::Relaxed);
                due += pause;
                tokio::time::sleep_until(due).await;
            }
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    asking.join_all().await;
    let (took, used, polls) = (began.elapsed(), ticks() - before, polls.load(Ordering::Relaxed) as f64);
    Polled {
        rate: polls / took.as_secs_f64(),
        nodes_us: used as f64 * 10_000.0 / polls,
        redis_us: (redis_us(redis).await - redis_before) / polls,
    }
}

/// As many clients at each node, however many nodes there are: what one poll costs must not depend on that. And as many
/// polls as go through, by as many clients in all, which says nothing of more machines: the nodes share the processors. What
/// that alone costs, three servers tell that are no nodes of each other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_costs_as_much_at_three_nodes_as_at_one() {
    if !is_asked_for() {
        return;
    }
    const AT_EACH: usize = 16;
    /// 800 polls a second at each node: so few that nobody waits for a processor.
    const PAUSE: Duration = Duration::from_millis(20);
    let cluster = Cluster::of(3, &[]).await;
    let engines = cluster.engines().expect("engines");
    println!("{}", ran_on(engines).await);
    // Servers that have nothing to do with others but their engines.
    let strangers = [engines.server(&[]).await, engines.server(&[]).await, engines.server(&[]).await];
    let (mut idlers, mut others) = (Vec::new(), Vec::new());
    for n in 0..3 * AT_EACH {
        let sub = format!("user-{n}");
        idlers.push(Arc::new(Idler::of(&cluster.user(&sub), &sub).await));
        others.push(Arc::new(Idler::of(&strangers[n % 3].user(&sub), &sub).await));
    }
    let nodes: Vec<&Server> = cluster.servers.iter().collect();
    let strangers: Vec<&Server> = strangers.iter().collect();
    let mut all = [
        Turns::of("1 node", &nodes[..1], &idlers),
        Turns::of("2 nodes", &nodes[..2], &idlers),
        Turns::of("3 nodes", &nodes[..3], &idlers),
        Turns::of("3 strangers", &strangers, &others),
    ];
    for turns in &all {
        // Each node learns of each conversation.
        polled(turns.nodes, turns.idlers, &engines.redis, Duration::ZERO, Duration::from_secs(2)).await;
    }
    for _ in 0..ROUNDS {
        for turns in &mut all {
            let some = &turns.idlers[..turns.nodes.len() * AT_EACH];
            turns.calm.push(polled(turns.nodes, some, &engines.redis, PAUSE, Duration::from_secs(6)).await);
            let time = Duration::from_secs(4);
            turns.rush.push(polled(turns.nodes, turns.idlers, &engines.redis, Duration::ZERO, time).await);
        }
    }
    let of = |rounds: &[Polled], figure: fn(&Polled) -> f64| median(rounds.iter().map(figure).collect());
    for Turns { name, calm, rush, .. } in &all {
        for rounds in [calm, rush] {
            println!(
                "idle polls at {name}: {:.0} a second, {:.1} µs of their processor time each, {:.1} of Redis's",
                of(rounds, |polled| polled.rate),
                of(rounds, |polled| polled.nodes_us),
                of(rounds, |polled| polled.redis_us),
            );
        }
    }
    // Round by round, so that what the machine does beside it is in both.
    let to = |these: &[Polled], others: &[Polled]| {
        median(these.iter().zip(others).map(|(these, others)| these.nodes_us / others.nodes_us).collect())
    };
    let [one, _, three, strangers] = &all;
    println!(
        "a poll at three nodes costs {:.2} of one at one node; as fast as they go, {:.2}",
        to(&three.calm, &one.calm),
        to(&three.rush, &one.rush)
    );
    let (calm, rush) = (to(&three.calm, &strangers.calm), to(&three.rush, &strangers.rush));
    println!("and of one at three strangers, {calm:.2}; as fast as they go, {rush:.2}");
    assert!(calm <= ALIKE_NODES, "{calm}");
}

/// The turns of some servers.
struct Turns<'a> {
    name: &'static str,
    nodes: &'a [&'a Server],
    idlers: &'a [Arc<Idler>],
    calm: Vec<Polled>,
    rush: Vec<Polled>,
}

impl<'a> Turns<'a> {
    fn of(name: &'static str, nodes: &'a [&'a Server], idlers: &'a [Arc<Idler>]) -> Self {
        Self { name, nodes, idlers, calm: Vec::new(), rush: Vec::new() }
    }
}

/// What is not the same in a copy of one of the template's rows, by table; `n` counts the copies.
const COPIED: [(&str, &[(&str, &str)]); 4] = [
    ("contact", &[("user_id", "'filler-' || n"), ("contact_id", "'contact-' || n")]),
    ("conversation", &[("id", CHAT), ("user_id", "'filler-' || n")]),
    ("message", &[("conversation_id", CHAT)]),
    ("outbound", &[("id", "id || n"), ("user_id", "'filler-' || n"), ("conversation_id", CHAT)]),
];
const CHAT: &str = "'9' || lpad(cast(n as text), 14, '0')";

/// Copies the template's rows of a table, so many times.
async fn copy(database: &str, (table, changed): (&str, &[(&str, &str)]), size: u64) {
    let mut connection = AnyConnection::connect(database).await.expect("a connection");
    let columns =
        format!("select cast(column_name as text) from information_schema.columns where table_name = '{table}'");
    let columns = connection.fetch_all(sqlx::AssertSqlSafe(columns)).await.expect("columns");
    let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
    let copied = columns
        .iter()
        .map(|column| changed.iter().find(|(name, _)| name == column).map_or(column.as_str(), |(_, value)| *value));
    let template = match table {
        "message" => "conversation_id = (select id from conversation where user_id = 'template')",
        _ => "user_id = 'template'",
    };
    let copy = format!(
        "insert into {table} ({}) select {} from {table}, generate_series(1, {size}) as n where {template}",
        columns.join(", "),
        copied.collect::<Vec<_>>().join(", ")
    );
    connection.execute(sqlx::AssertSqlSafe(copy)).await.expect("copies");
    connection.close().await.expect("closed");
}

/// Fills a server's database; how large it is then, in bytes.
async fn fill(database: &str, size: u64) -> i64 {
    let mut filling = JoinSet::new();
    for of in COPIED {
        let database = database.to_owned();
        filling.spawn(async move { copy(&database, of, size).await });
    }
    filling.join_all().await;
    let mut connection = AnyConnection::connect(database).await.expect("a connection");
    // As autovacuum does in time; and what is on its way to the disk is there before anything is measured.
    for told in ["vacuum analyze", "checkpoint"] {
        connection.execute(told).await.expect("done");
    }
    let bytes = connection.fetch_one("select pg_database_size(current_database())").await.expect("a size").get(0);
    connection.close().await.expect("closed");
    bytes
}

/// The processor time that PostgreSQL has used for who is connected to a database, in ticks of 10 ms.
async fn postgres_ticks(database: &str) -> u64 {
    let mut connection = AnyConnection::connect(database).await.expect("a connection");
    let others = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let pids = connection.fetch_all(others).await.expect("pids");
    connection.close().await.expect("closed");
    pids.iter().map(|row| cpu_ticks(row.get::<i32, _>(0).unsigned_abs())).sum()
}

/// The duration that 50 and that 99 of 100 stay below, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Took {
    p50: f64,
    p99: f64,
}

impl Took {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        Self { p50: ms(all[all.len() / 2]), p99: ms(harness::p99(all)) }
    }
}

/// What is timed.
const WHAT: [&str; 3] = ["a poll with news", "an idle poll", "a reply"];

/// A server with so many conversations.
struct Sized {
    size: u64,
    server: Server,
    /// Who replies, and where.
    chats: Vec<(Caller, String)>,
    rounds: [Vec<Took>; 3],
    /// PostgreSQL's processor time for a poll with news and an idle one behind it, and for a reply: ms.
    postgres: [Vec<f64>; 2],
}

impl Sized {
    async fn of(size: u64, engines: &Engines) -> Self {
        let server = engines.server(&[]).await;
        let url = server.config().database_url.expose().to_owned();
        let template = server.user("template");
        let chat = template.opens("Hello").await;
        let reply = format!("/api/conversations/{chat}/reply");
        template.posts_until_201(&reply, "k", &json!({ "body": "Anybody there?" })).await;
        let mut chats = Vec::new();
        for n in 0..20 {
            let user = server.user(&format!("user-{n}"));
            let chat = user.opens("Hello").await;
            chats.push((user, chat));
        }
        let began = Instant::now();
        let bytes = fill(&url, size).await;
        println!(
            "{size} conversations of two messages: {} MB, {:.1} s",
            bytes / 1_000_000,
            began.elapsed().as_secs_f64()
        );
        Self { size, server, chats, rounds: Default::default(), postgres: Default::default() }
    }

    /// With nothing in memory: polls with `since=0` of conversations all over the table, which the database answers,
    /// each with an idle one behind it; and replies.
    async fn round(&mut self, nth: u64) {
        self.server.kill();
        self.server.up().await;
        for at in 0..60 {
            self.reply(at, &format!("first-{nth}-{at}")).await;
        }
        let (http, url, step) = (client(), self.server.url(), self.size / SAMPLE);
        let (mut cold, mut idle, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let database = self.server.config().database_url.expose().to_owned();
        let began = postgres_ticks(&database).await;
        for at in 0..SAMPLE {
            let n = 1 + at * 7_919 % SAMPLE * step + nth * 37 % step;
            let token = harness::token(&format!("filler-{n}"), &Clock::system());
            let mut since = Value::from(0);
            for took in [&mut cold, &mut idle] {
                let path = format!("/api/conversations/9{n:014}/poll?since={since}");
                let asked = http.get(format!("{url}{path}")).bearer_auth(&token);
                let began = Instant::now();
                let text = asked.send().await.expect("an answer").text().await.expect("all of it");
                took.push(began.elapsed());
                let poll: Value = serde_json::from_str(&text).expect("JSON");
                let messages = poll["messages"].as_array().map(Vec::len);
                assert_eq!(messages, Some(if since == 0 { 2 } else { 0 }), "{text}");
                since = poll["latestTimestamp"].clone();
            }
        }
        let polled = postgres_ticks(&database).await;
        for at in 0..REPLIES {
            replies.push(self.reply(at, &format!("{nth}-{at}")).await);
        }
        let replied = postgres_ticks(&database).await;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each_ms = |ticks: u64, of: usize| ticks as f64 * 10.0 / of as f64;
        self.postgres[0].push(each_ms(polled - began, idle.len()));
        self.postgres[1].push(each_ms(replied - polled, REPLIES));
        for (rounds, took) in self.rounds.iter_mut().zip([cold, idle, replies]) {
            rounds.push(Took::of(took));
        }
    }

    async fn reply(&self, at: usize, key: &str) -> Duration {
        let (user, chat) = &self.chats[at % self.chats.len()];
        let path = format!("/api/conversations/{chat}/reply");
        let answer = user.call("POST", &path, Some(key), Some(&json!({ "body": "A word" }))).await.expect("an answer");
        let took = answer.took;
        answer.expect(201);
        took
    }
}

/// A server and a database of each size, in turns.
#[tokio::test(flavor = "multi_thread")]
async fn polls_and_replies_take_as_long_beside_a_million_conversations() {
    if !is_asked_for() {
        return;
    }
    let engines = Engines::start().await;
    println!("{}", ran_on(&engines).await);
    let mut all = Vec::new();
    for size in SIZES {
        all.push(Sized::of(size, &engines).await);
    }
    for nth in 0..ROUNDS as u64 {
        for sized in &mut all {
            sized.round(nth).await;
        }
    }
    for sized in &all {
        let [polls, replies] = sized.postgres.clone().map(median);
        println!(
            "{} conversations: PostgreSQL's processor time is {polls:.2} ms for a poll with news and {replies:.2} ms for a reply",
            sized.size
        );
    }
    let mut too_much = Vec::new();
    for (at, what) in WHAT.into_iter().enumerate() {
        for sized in &all {
            let p50 = median(sized.rounds[at].iter().map(|took| took.p50).collect());
            let p99 = median(sized.rounds[at].iter().map(|took| took.p99).collect());
            println!("{} conversations: {what}: p50 {p50:.2} ms, p99 {p99:.2} ms", sized.size);
        }
        let few = &all[0].rounds[at];
        for many in &all[1..] {
            // Round by round, so that what the machine does beside it is in both.
            let grown = |of: fn(&Took) -> f64| {
                median(few.iter().zip(&many.rounds[at]).map(|(few, many)| of(many) / of(few)).collect())
            };
            let (p50, p99) = (grown(|took| took.p50), grown(|took| took.p99));
            println!("{what}, with {} to with {}: p50 {p50:.2}, p99 {p99:.2}", many.size, SIZES[0]);
            if p99 > ALIKE_SIZES {
                too_much.push(format!("{what} beside {}: {p99:.2}", many.size));
            }
        }
    }
    assert!(too_much.is_empty(), "p99 grows by more than {ALIKE_SIZES}: {too_much:?}");
}
