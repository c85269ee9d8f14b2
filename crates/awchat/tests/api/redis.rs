//! Several servers that share a database and a Redis, which comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use awchat::app::App;
use awchat::clock::Clock;
use awchat::config::Secret;
use awchat::{api, server};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::flush;
use crate::database::postgres;
use crate::harness::{self, Answer, Settings, World, bodies, p99};
use crate::nodes::count;
use crate::push::has_phone;

/// How soon a message that is stored is seen at every node, where Redis is there.
const SOON: Duration = Duration::from_millis(50);
/// And where it is not: a head's age, and what a busy machine adds.
const LATER: Duration = Duration::from_millis(1_500);
/// A machine that is busy with something else slows a round, but hardly all of them.
const ROUNDS: usize = 5;

/// A server without a worker beside a [`World`]'s: it answers, and whatever else is done is done by the other.
struct Node {
    url: String,
    app: App,
    http: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

/// A world, other nodes of the same installation, and the way of all of them to Redis.
struct Cluster {
    world: World,
    nodes: Vec<Node>,
    wire: Wire,
}

impl Cluster {
    /// A world and `others` beside it; `None` where the run has not both PostgreSQL and Redis.
    async fn begin(others: usize, settings: Settings<'_>) -> Option<Self> {
        let (Some(_), Some(redis)) = (postgres(), harness::redis()) else {
            println!("SKIPPED: several servers need PostgreSQL and Redis; scripts/postgres scripts/redis run this");
            return None;
        };
        let wire = Wire::to(redis.strip_prefix("redis://").expect("an address without a password")).await;
        let settings: Vec<_> = settings.iter().copied().chain([("REDIS_URL", wire.url.as_str())]).collect();
        let world = World::with_phones(&settings, true).await;
        let nodes = join_all((0..others).map(|_| Node::beside(&world, &wire.url))).await;
        let cluster = Self { world, nodes, wire };
        cluster.in_touch().await;
        Some(cluster)
    }

    /// The addresses of all nodes, the world's first.
    fn urls(&self) -> Vec<String> {
        [self.world.url.clone()].into_iter().chain(self.nodes.iter().map(|node| node.url.clone())).collect()
    }

    /// Waits until every node uses Redis, and hears the others.
    async fn in_touch(&self) {
        let apps: Vec<&App> = [&self.world.app].into_iter().chain(self.nodes.iter().map(|node| &node.app)).collect();
        let count = u32::try_from(apps.len()).expect("a few");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !apps.iter().all(|app| app.shared.is_up() == Some(true) && app.shared.nodes() == count) {
            assert!(Instant::now() < deadline, "the nodes do not find each other");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Node {
    async fn beside(world: &World, redis: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let config = awchat::config::Config { redis_url: Some(Secret::new(redis)), ..world.app.config.clone() };
        let app = App::open(config, Clock::system()).await.expect("another server opens the database");
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn({
            let (app, shutdown) = (app.clone(), shutdown.clone());
            async move {
                let router = api::router(app.clone());
                tokio::join!(
                    server::answer(listener, &app, router, shutdown.clone(), Duration::ZERO),
                    app.chat.keep_in_touch(shutdown.clone())
                );
            }
        });
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { url, app, http, shutdown, serving }
    }

    async fn gets(&self, user: &str, path: &str) -> Answer {
        gets(&self.http, &self.url, user, path).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.serving.abort();
    }
}

async fn gets(http: &reqwest::Client, url: &str, user: &str, path: &str) -> Answer {
    let token = harness::token(user, &Clock::system());
    let request = http.get(format!("{url}{path}")).bearer_auth(token).build().expect("a request");
    harness::exchange(http, request).await.expect("the server answers")
}

/// What becomes of a connection to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections end, and new ones end at once.
    Cut,
    /// Nothing comes through any more, and nothing ends.
    Hung,
}

/// A way to Redis that can be cut.
struct Wire {
    url: String,
    way: Arc<watch::Sender<Way>>,
    carrying: JoinHandle<()>,
}

impl Wire {
    async fn to(redis: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("a bound address"));
        let (way, redis) = (Arc::new(watch::Sender::new(Way::Open)), redis.to_owned());
        let carrying = tokio::spawn({
            let way = Arc::clone(&way);
            async move {
                let mut lines = JoinSet::new();
                while let Ok((near, _)) = listener.accept().await {
                    if *way.borrow() == Way::Cut {
                        continue;
                    }
                    let far = TcpStream::connect(&redis).await.expect("Redis is there");
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    let (there, back) =
                        (carry(near_in, far_out, way.subscribe()), carry(far_in, near_out, way.subscribe()));
                    lines.spawn(async move {
                        tokio::select! {
                            () = there => {}
                            () = back => {}
                        }
                    });
                }
            }
        });
        Self { url, way, carrying }
    }

    fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 16_384];
    loop {
        let Ok(now) = way.wait_for(|way| *way != Way::Hung).await.map(|way| *way) else { return };
        if now == Way::Cut {
            return;
        }
        tokio::select! {
            _ = way.changed() => {}
            read = from.read(&mut bytes) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => if to.write_all(&bytes[..count]).await.is_err() { return },
            }
        }
    }
}

/// How much later a change is seen by who waits at `there` than by who waits at the world's own server, which the
/// webhook comes to; and the position after it.
async fn lag(cluster: &Cluster, there: &str, chat: &str, since: i64, text: &str) -> (Duration, i64) {
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=20");
    let poll = async |url: &str| {
        let answer = gets(&cluster.nodes[0].http, url, "ada", &path).await.expect(200);
        (Instant::now(), answer)
    };
    let operator = async {
        sleep(Duration::from_millis(20)).await;
        cluster.world.operator().replies(chat, text).await;
    };
    let ((here, first), (there, second), _) = tokio::join!(poll(&cluster.world.url), poll(there), operator);
    assert_eq!((bodies(&first), bodies(&second)), (vec![text], vec![text]));
    let latest = second["latestTimestamp"].as_i64().expect("a position");
    (there.saturating_duration_since(here), latest)
}

/// The best p99 of some rounds; ends early once it is within `enough`.
async fn lags(
    cluster: &Cluster,
    there: &str,
    (chat, since): (&str, &mut i64),
    count: usize,
    enough: Duration,
) -> Duration {
    let mut best = Duration::MAX;
    for round in 0..ROUNDS {
        let mut lags = Vec::new();
        for n in 0..count {
            let (took, latest) = lag(cluster, there, chat, *since, &format!("{round} {n} {since}")).await;
            *since = latest;
            lags.push(took);
        }
        best = best.min(p99(lags));
        if best <= enough {
            break;
        }
    }
    best
}

async fn chat_of(cluster: &Cluster) -> (String, i64) {
    let ada = cluster.world.user("ada");
    let chat = ada.opens("Hello").await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
    (chat, since)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_requests_at_three_nodes_fill_one_bucket() {
    // The bucket gains one request in ten seconds.
    const BURST: usize = 60;
    let limits = [("RATE_LIMIT_PER_MINUTE", "6"), ("RATE_LIMIT_BURST", "60")];
    let Some(cluster) = Cluster::begin(2, &limits).await else { return };
    let urls = cluster.urls();
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        let (began, user) = (Instant::now(), format!("ada-{round}"));
        let ask = |at: usize| gets(&cluster.nodes[0].http, &urls[at % urls.len()], &user, "/api/conversations");
        // As many at once as a user's devices might have.
        answers = stream::iter(0..3 * BURST).map(ask).buffer_unordered(9).collect::<Vec<_>>().await;
        let gained = usize::try_from(began.elapsed().as_secs() / 10).expect("a short time");
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        println!("rate limit of {BURST} at 3 nodes: {passed} of {} passed, {gained} gained meanwhile", answers.len());
        if (BURST..=BURST + gained + 1).contains(&passed) {
            break;
        }
        assert!(round + 1 < ROUNDS, "{passed} passed");
    }
    let passed = answers.iter().filter(|answer| answer.status == 200);
    let left: BTreeSet<i64> = passed.map(|answer| number(answer, "ratelimit-remaining")).collect();
    assert!(left.len() >= BURST - 1 && left.first() == Some(&0), "each request finds one less: {left:?}");
    for refused in answers.into_iter().filter(|answer| answer.status != 200) {
        assert!((1..=10).contains(&number(&refused, "retry-after")));
        assert!((590..=600).contains(&number(&refused, "ratelimit-reset")));
        refused.expect_error(429, "rate_limited");
    }
    // A new conversation weighs five, and others have buckets of their own.
    let answer = cluster.world.user("bob").post("/api/conversations", json!({ "body": "Hello" })).await;
    assert_eq!(number(&answer, "ratelimit-remaining"), 55);
}

fn number(answer: &Answer, header: &str) -> i64 {
    answer.header(header).and_then(|value| value.parse().ok()).expect("a number in a header")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_when_the_webhook_came_to_another_node() {
    let Some(cluster) = Cluster::begin(1, &[]).await else { return };
    let (chat, mut since) = chat_of(&cluster).await;
    let (own, other) = (&cluster.world.url, &cluster.nodes[0].url);
    // How far apart two are that wait at one server: what a busy machine makes of any two answers.
    let apart = lags(&cluster, own, (&chat, &mut since), 100, Duration::MAX).await;
    let enough = SOON.max(apart * 4);
    let with = lags(&cluster, other, (&chat, &mut since), 100, enough).await;
    cluster.wire.set(Way::Cut);
    let without = lags(&cluster, other, (&chat, &mut since), 5, LATER).await;
    cluster.wire.set(Way::Open);
    cluster.in_touch().await;
    let again = lags(&cluster, other, (&chat, &mut since), 100, enough).await;
    println!(
        "a message is seen at the other node: p99 {with:?} later with Redis, {without:?} without, {again:?} again; two at one node are {apart:?} apart"
    );
    assert!(with <= enough && again <= enough, "{with:?}, {again:?}");
    assert!(without <= LATER, "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_tells_what_came_to_another_node() {
    let Some(cluster) = Cluster::begin(1, &[]).await else { return };
    let (chat, _) = chat_of(&cluster).await;
    let node = &cluster.nodes[0];
    let request = node.http.get(format!("{}/api/events", node.url));
    let token = harness::token("ada", &Clock::system());
    let mut stream = request.bearer_auth(token).send().await.expect("the stream opens");
    let mut told = String::new();
    // Without a wake-up it looks every twenty seconds.
    for way in [Way::Open, Way::Cut, Way::Open] {
        cluster.wire.set(way);
        let mut best = Duration::MAX;
        for round in 0..ROUNDS {
            let text = format!("while {way:?}, {round} after {}", told.len());
            cluster.world.operator().replies(&chat, &text).await;
            let began = Instant::now();
            while !told.contains(&text) {
                let piece = tokio::time::timeout(Duration::from_secs(40), stream.chunk()).await.expect("told in time");
                told.push_str(&String::from_utf8_lossy(&piece.expect("the stream goes on").expect("and does not end")));
            }
            best = best.min(began.elapsed());
            if best < LATER * 2 {
                break;
            }
        }
        println!("a message is on the other node's event stream after {best:?}, Redis being {way:?}");
        assert!(best < LATER * 2, "{best:?}");
    }
}

/// While somebody asks at all nodes, all is answered, whatever becomes of Redis.
#[tokio::test(flavor = "multi_thread")]
async fn without_redis_all_is_answered_and_with_it_again() {
    let Some(cluster) = Cluster::begin(2, &[]).await else { return };
    let (chat, _) = chat_of(&cluster).await;
    let all_well = async |during: &str, redis: &str, patience: Duration| {
        let (urls, until) = (cluster.urls(), Instant::now() + patience);
        loop {
            let mut told = Vec::new();
            for (url, node) in urls.iter().zip([None, Some(0), Some(1)]) {
                let http = &cluster.nodes[node.unwrap_or(0)].http;
                let path = format!("/api/conversations/{chat}/poll?since=0");
                let mut poll = gets(http, url, "ada", &path).await;
                for _ in 1..ROUNDS {
                    if poll.took >= Duration::from_secs(2) {
                        poll = gets(http, url, "ada", &path).await;
                    }
                }
                assert!(poll.took < Duration::from_secs(2), "{during}: {:?}", poll.took);
                assert!(poll.header("ratelimit-remaining").is_some());
                poll.expect(200);
                let ready = gets(http, url, "ada", "/ready").await.expect(200);
                told.push(ready["checks"]["redis"].as_str().map(str::to_owned));
            }
            if told.iter().all(|told| told.as_deref() == Some(redis)) {
                return;
            }
            assert!(Instant::now() < until, "{during}: {told:?}");
        }
    };
    all_well("at first", "ok", Duration::from_secs(5)).await;
    for way in [Way::Cut, Way::Hung, Way::Cut] {
        cluster.wire.set(way);
        all_well(&format!("{way:?}"), "down", Duration::from_secs(10)).await;
        let began = Instant::now();
        cluster.wire.set(Way::Open);
        all_well("back", "ok", Duration::from_secs(20)).await;
        cluster.in_touch().await;
        println!("Redis {way:?} and back: used again by three nodes after {:?}", began.elapsed());
    }
    flush(&harness::redis().expect("this run has one")).await;
    all_well("flushed", "ok", Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_node_gives_its_share() {
    let limits = [("RATE_LIMIT_PER_MINUTE", "6"), ("RATE_LIMIT_BURST", "60")];
    let Some(cluster) = Cluster::begin(2, &limits).await else { return };
    cluster.wire.set(Way::Cut);
    let is_down = |app: &App| app.shared.is_up() == Some(false);
    let all_down = async || is_down(&cluster.world.app) && cluster.nodes.iter().all(|node| is_down(&node.app));
    within(Duration::from_secs(10), all_down).await;
    for url in cluster.urls() {
        let answers = join_all((0..40).map(|_| gets(&cluster.nodes[0].http, &url, "ada", "/api/conversations"))).await;
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        assert!((20..=21).contains(&passed), "a third of 60: {passed}");
    }
}

/// Pollers at random nodes, an operator who writes, and a Redis that is cut, hangs and is flushed.
#[tokio::test(flavor = "multi_thread")]
async fn who_polls_at_any_node_sees_each_message_once_and_never_goes_back() {
    const MESSAGES: usize = 120;
    let Some(cluster) = Cluster::begin(2, &[]).await else { return };
    let cluster = Arc::new(cluster);
    let (chat, since) = chat_of(&cluster).await;
    let mut pollers = JoinSet::new();
    for seed in 0..6_usize {
        let (cluster, chat) = (Arc::clone(&cluster), chat.clone());
        pollers.spawn(async move { polls_around(&cluster, &chat, since, seed, MESSAGES).await });
    }
    for n in 0..MESSAGES {
        match n {
            20 | 60 => cluster.wire.set(Way::Cut),
            80 => cluster.wire.set(Way::Hung),
            30 | 70 | 90 => cluster.wire.set(Way::Open),
            50 | 100 => flush(&harness::redis().expect("this run has one")).await,
            _ => {}
        }
        cluster.world.operator().replies(&chat, &format!("message {n}")).await;
        sleep(Duration::from_millis(30)).await;
    }
    let (mut polls, mut missed, mut twice) = (0, 0, 0);
    for (seen, count) in pollers.join_all().await {
        polls += count;
        missed += MESSAGES - seen.len();
        twice += seen.values().filter(|times| **times > 1).count();
    }
    println!(
        "6 pollers at 3 nodes, {MESSAGES} messages, {polls} polls, Redis cut, hung, flushed: {missed} missed, {twice} twice"
    );
    assert_eq!((missed, twice), (0, 0));
}

/// Polls at one node after the other, mostly with `wait`, until all is seen; how often each message was, and the polls.
async fn polls_around(
    cluster: &Cluster,
    chat: &str,
    mut since: i64,
    seed: usize,
    messages: usize,
) -> (BTreeMap<String, usize>, usize) {
    let (urls, mut seen, mut polls) = (cluster.urls(), BTreeMap::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen.len() < messages && Instant::now() < deadline {
        polls += 1;
        let url = &urls[(seed + polls * (1 + seed % 2)) % urls.len()];
        let path = format!("/api/conversations/{chat}/poll?since={since}&wait={}", (seed + polls) % 3);
        let answer = gets(&cluster.nodes[0].http, url, "ada", &path).await.expect(200);
        let latest = answer["latestTimestamp"].as_i64().expect("a position");
        assert!(latest >= since, "{latest} is behind {since}, which another node has told");
        since = latest;
        for text in bodies(&answer) {
            *seen.entry(text.to_owned()).or_insert(0) += 1;
        }
    }
    (seen, polls)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_or_gone_or_erased_at_one_node_is_so_at_the_other() {
    let Some(cluster) = Cluster::begin(1, &[]).await else { return };
    let node = &cluster.nodes[0];
    let (chat, since) = chat_of(&cluster).await;
    let path = format!("/api/conversations/{chat}/poll?since={since}");
    // Both know the conversation now; the other node alone has looked at it.
    let (_, since) = lag(&cluster, &node.url, &chat, since, "On its way").await;
    let idle = format!("/api/conversations/{chat}/poll?since={since}");
    assert_eq!(node.gets("ada", &idle).await.expect(200)["unreadCount"], 1);
    cluster.world.user("ada").post(&format!("/api/conversations/{chat}/read"), json!({})).await.expect(200);
    within(SOON * 20, async || node.gets("ada", &idle).await.expect(200)["unreadCount"] == json!(0)).await;
    assert_eq!(node.gets("bob", &path).await.status, 404, "another user's, also from memory");
    for way in [Way::Open, Way::Cut] {
        // The token that the other node has verified, and remembers, ends with its user.
        let (user, token) = (format!("{way:?}"), harness::token(&format!("{way:?}"), &Clock::system()));
        let status = async || {
            // Only reads what is not there: nothing but the token says that its user is gone.
            let request = node.http.get(format!("{}/api/settings/notifications", node.url)).bearer_auth(&token);
            let answer = harness::exchange(&node.http, request.build().expect("a request")).await;
            answer.expect("the server answers").status
        };
        assert_eq!(status().await, 200);
        cluster.wire.set(way);
        cluster.world.user(&user).bearing(&token).call("DELETE", "/api/me", None).await.expect(204);
        within(Duration::from_secs(4), async || status().await == 401).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_one_node_is_not_told_by_another() {
    let Some(cluster) = Cluster::begin(1, &[]).await else { return };
    // At the world's own server nobody ever polls.
    let chat = cluster.world.user("ada").opens("Hello").await;
    let begun = cluster.nodes[0].gets("ada", &format!("/api/conversations/{chat}/poll?since=0")).await.expect(200);
    let mut since = begun["latestTimestamp"].as_i64().expect("a position");
    has_phone(&cluster.world.user("ada"), "fcm:one", "en").await;
    let told = || cluster.world.sandbox.phones().sent_to("fcm:one").len();
    // The world's own server alone has a worker, and tells devices.
    for n in 0..3 {
        (_, since) = poll_elsewhere(&cluster, &chat, since, &format!("word {n}")).await;
    }
    within(Duration::from_secs(20), async || count(&cluster.world.app, "select count(*) from notice").await == 0).await;
    assert_eq!(told(), 0, "they were shown");
    cluster.wire.set(Way::Cut);
    within(Duration::from_secs(10), async || cluster.world.app.shared.is_up() == Some(false)).await;
    let (began, _) = poll_elsewhere(&cluster, &chat, since, "and without Redis").await;
    within(Duration::from_secs(20), async || told() == 1).await;
    println!(
        "3 messages shown by polls at another node: no push; without Redis one, after {} ms",
        began.elapsed().as_millis()
    );
}

/// An operator's message while the user's long poll waits at another node, which shows it; when it was shown, and its
/// position.
async fn poll_elsewhere(cluster: &Cluster, chat: &str, since: i64, text: &str) -> (Instant, i64) {
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=20");
    let operator = async {
        sleep(Duration::from_millis(300)).await;
        cluster.world.operator().replies(chat, text).await;
    };
    let (shown, _) = tokio::join!(cluster.nodes[0].gets("ada", &path), operator);
    let shown = shown.expect(200);
    assert_eq!(bodies(&shown), [text]);
    (Instant::now(), shown["latestTimestamp"].as_i64().expect("a position"))
}

async fn within(patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < until, "not within {patience:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
