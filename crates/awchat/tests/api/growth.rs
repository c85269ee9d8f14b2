//! What more nodes and more conversations cost: in an optimised build, with PostgreSQL and Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::harness;
use crate::process::Caller;

/// What grows with nothing may still grow by this, for no two measurements are alike.
const ALIKE_NODES: f64 = 1.1;
const ALIKE_SIZES: f64 = 1.3;

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

/// Somebody who asks without holding the answer against the document: that costs more than the answer.
struct Idler {
    http: reqwest::Client,
    path: String,
    token: String,
}

impl Idler {
    /// One whose polls find nothing new.
    async fn of(cluster: &Cluster, sub: &str) -> Self {
        let user = cluster.user(sub);
        let chat = user.opens("Hello").await;
        let poll = user.call("GET", &format!("/api/conversations/{chat}/poll?since=0"), None, None).await;
        let since = poll.expect("an answer").expect(200)["latestTimestamp"].clone();
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let path = format!("/api/conversations/{chat}/poll?since={since}");
        Self { http, path, token: harness::token(sub, &Clock::system()) }
    }

    async fn polls(&self, url: &str) {
        let asked = self.http.get(format!("{url}{}", self.path)).bearer_auth(&self.token).send().await;
        let answer = asked.expect("the server answers");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("all of it");
    }
}

/// Polls at the first `nodes` of a cluster for a while; polls per second, and the nodes' processor time for one, in µs.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn polled(cluster: &Cluster, idlers: &[Arc<Idler>], nodes: usize, time: Duration) -> (f64, f64) {
    let ticks = || cluster.servers[..nodes].iter().map(crate::process::Server::cpu_ticks).sum::<u64>();
    let (stop, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (before, began, mut asking) = (ticks(), Instant::now(), JoinSet::new());
    for (at, idler) in idlers.iter().enumerate() {
        let (idler, url) = (Arc::clone(idler), cluster.servers[at % nodes].url().to_owned());
        let (stop, polls) = (Arc::clone(&stop), Arc::clone(&polls));
        asking.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                idler.polls(&url).await;
                polls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    asking.join_all().await;
    let (took, used, polls) = (began.elapsed(), ticks() - before, polls.load(Ordering::Relaxed) as f64);
    (polls / took.as_secs_f64(), used as f64 * 10_000.0 / polls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_costs_as_much_at_three_nodes_as_at_one() {
    if !is_asked_for() {
        return;
    }
    let cluster = Cluster::of(3, &[]).await;
    let mut idlers = Vec::new();
    for n in 0..48 {
        idlers.push(Arc::new(Idler::of(&cluster, &format!("user-{n}")).await));
    }
    let mut rounds: [Vec<(f64, f64)>; 3] = Default::default();
    for nodes in 1..=3 {
        // Each node learns of each conversation.
        polled(&cluster, &idlers, nodes, Duration::from_secs(2)).await;
    }
    for _ in 0..5 {
        for nodes in 1..=3 {
            rounds[nodes - 1].push(polled(&cluster, &idlers, nodes, Duration::from_secs(6)).await);
        }
    }
    let figures = rounds.map(|rounds| {
        let (rates, costs) = rounds.into_iter().unzip();
        (median(rates), median(costs))
    });
    for (nodes, (rate, cost)) in (1..).zip(figures) {
        println!("idle polls at {nodes} nodes: {rate:.0} a second, {cost:.1} µs of the nodes' processor time each");
    }
    let grown = figures[2].1 / figures[0].1;
    println!("a poll at three nodes costs {grown:.2} of one at one node");
    assert!(grown <= ALIKE_NODES, "{grown}");
}

/// Copies of the template's rows, for conversations `from` to `to`.
fn copies(from: u64, to: u64) -> [String; 4] {
    let copy = |table: &str, changed: &str| {
        format!(
            "insert into {table} select row.* from {table} as template, generate_series({from}, {to}) as n,
               lateral jsonb_populate_record(template, jsonb_build_object({changed})) as row
             where {}",
            match table {
                "message" => "template.conversation_id = (select id from conversation where user_id = 'template')",
                _ => "template.user_id = 'template'",
            }
        )
    };
    let (id, user) = ("'9' || lpad(cast(n as text), 14, '0')", "'filler-' || n");
    [
        copy("contact", &format!("'user_id', {user}, 'contact_id', 'contact-' || n")),
        copy("conversation", &format!("'id', {id}, 'user_id', {user}")),
        copy("message", &format!("'conversation_id', {id}")),
        copy("outbound", &format!("'id', template.id || n, 'seq', -n, 'user_id', {user}, 'conversation_id', {id}")),
    ]
}

async fn fill(database: &str, from: u64, to: u64) {
    let mut filling = JoinSet::new();
    for copy in copies(from, to) {
        let database = database.to_owned();
        filling.spawn(async move {
            let mut connection = AnyConnection::connect(&database).await.expect("a connection");
            connection.execute(sqlx::AssertSqlSafe(copy)).await.expect("copies");
            connection.close().await.expect("closed");
        });
    }
    filling.join_all().await;
    let mut connection = AnyConnection::connect(database).await.expect("a connection");
    connection.execute("vacuum analyze").await.expect("as autovacuum does in time");
    connection.close().await.expect("closed");
}

/// The duration that 50 and that 99 of 100 stay below.
#[derive(Clone, Copy, Debug)]
struct Took {
    p50: Duration,
    p99: Duration,
}

impl Took {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self { p50: all[all.len() / 2], p99: harness::p99(all) }
    }

    /// What the machine does beside it slows a round, but hardly all of them.
    fn best(rounds: &[Self]) -> Self {
        let least = |of: fn(&Self) -> Duration| rounds.iter().map(of).min().expect("rounds");
        Self { p50: least(|took| took.p50), p99: least(|took| took.p99) }
    }
}

/// Polls with `since=0` of any of `size` conversations, which the database answers; and replies.
async fn round(cluster: &Cluster, size: u64, chats: &[(Caller, String)], nth: usize) -> (Took, Took, Took) {
    let (url, http) = (cluster.servers[0].url(), reqwest::Client::builder().no_proxy().build().expect("a client"));
    let (mut cold, mut idle, mut replies) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..2_000_u64 {
        // A step that has no factor in common with any size: all over the table.
        let n = 1 + (at + nth as u64 * 2_000) * 7_919 % size;
        let token = harness::token(&format!("filler-{n}"), &Clock::system());
        let mut since = Value::from(0);
        for took in [&mut cold, &mut idle] {
            let asked = http.get(format!("{url}/api/conversations/9{n:014}/poll?since={since}")).bearer_auth(&token);
            let began = Instant::now();
            let text = asked.send().await.expect("an answer").text().await.expect("all of it");
            took.push(began.elapsed());
            let poll: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(poll["messages"].as_array().map(Vec::len), Some(if since == 0 { 2 } else { 0 }), "{text}");
            since = poll["latestTimestamp"].clone();
        }
    }
    for at in 0..400 {
        let (user, chat) = &chats[at % chats.len()];
        let path = format!("/api/conversations/{chat}/reply");
        let key = format!("{size}-{nth}-{at}");
        let answer = user.call("POST", &path, Some(&key), Some(&json!({ "body": "A word" }))).await.expect("an answer");
        replies.push(answer.took);
        answer.expect(201);
    }
    (Took::of(cold), Took::of(idle), Took::of(replies))
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_replies_take_as_long_beside_a_million_conversations() {
    if !is_asked_for() {
        return;
    }
    let cluster = Cluster::of(1, &[]).await;
    let database = cluster.servers[0].config().database_url.expose().to_owned();
    let template = cluster.user("template").at(cluster.servers[0].url());
    let chat = template.opens("Hello").await;
    template
        .posts_until_201(&format!("/api/conversations/{chat}/reply"), "k", &json!({ "body": "Anybody there?" }))
        .await;
    let mut chats = Vec::new();
    for n in 0..20 {
        let user = cluster.user(&format!("user-{n}")).at(cluster.servers[0].url());
        chats.push((user.clone(), user.opens("Hello").await));
    }
    let mut figures = Vec::new();
    let mut filled = 0;
    for size in [1_000_u64, 100_000, 1_000_000] {
        let began = Instant::now();
        fill(&database, filled + 1, size).await;
        filled = size;
        println!("{size} conversations: there after {:.1} s more", began.elapsed().as_secs_f64());
        let mut rounds = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..5 {
            let (cold, idle, replies) = round(&cluster, size, &chats, nth).await;
            rounds.0.push(cold);
            rounds.1.push(idle);
            rounds.2.push(replies);
        }
        let best = [Took::best(&rounds.0), Took::best(&rounds.1), Took::best(&rounds.2)];
        for (what, took) in ["a poll with news", "an idle poll", "a reply"].into_iter().zip(best) {
            println!("{size} conversations: {what}: p50 {:?}, p99 {:?}", took.p50, took.p99);
        }
        figures.push(best);
    }
    for (what, at) in ["a poll with news", "an idle poll", "a reply"].into_iter().zip(0..) {
        let grown = figures[2][at].p99.as_secs_f64() / figures[0][at].p99.as_secs_f64();
        println!("{what}: p99 with a million is {grown:.2} of that with a thousand");
        assert!(grown <= ALIKE_SIZES, "{what}: {grown}");
    }
}
