//! Slow, silent, greedy and malicious clients over real sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::Process;
use crate::harness::{World, p99, token, world};

// Slow clients.

const SLOW_CLIENTS: usize = 2_000;
/// No client keeps a connection for longer without doing its part.
const LONGEST: Duration = Duration::from_secs(10);
const DRIP: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Silent,
    HalfHead,
    DrippingHead,
    DrippingBody,
    UnreadAnswer,
}

const KINDS: [Slow; 5] = [Slow::Silent, Slow::HalfHead, Slow::DrippingHead, Slow::DrippingBody, Slow::UnreadAnswer];

#[tokio::test]
async fn slow_clients_are_gone_within_ten_seconds_and_keep_nobody_waiting() {
    let count = clients_that_fit();
    let sandbox = Sandbox::start(sandbox::Settings::default()).await.expect("the sandbox starts");
    let server = Process::start(&[], &sandbox).await;
    let gone = CancellationToken::new();
    let all = async {
        let ends = crowd(&server, count).await;
        gone.cancel();
        ends
    };
    let (ends, healths, late) = tokio::join!(all, healths(&server, &gone), lateness(&gone));

    let (health, answers) = (p99(healths.clone()), healths.len());
    println!(
        "{count} slow clients: /health meanwhile, {answers} times: p99 {health:?}; this test was late by {late:?}"
    );
    let longest = |kind: Slow| ends.iter().filter(|(own, _)| *own == kind).map(|(_, after)| *after).max();
    let longest = KINDS.map(|kind| (kind, longest(kind).expect("some of each kind")));
    println!("the last were gone after {longest:?}");
    // What the machine is late by is nobody's fault.
    let slack = late + healths.iter().max().copied().unwrap_or_default();
    assert!(longest.iter().all(|(_, after)| *after <= LONGEST + slack), "some may stay: {longest:?}");
    assert!(health < Duration::from_secs(2) + late, "others wait for {health:?}");
}

/// Slow clients, one after the other; how long each could stay.
async fn crowd(server: &Process, count: usize) -> Vec<(Slow, Duration)> {
    let address: SocketAddr = server.address.parse().expect("an address");
    let token: Arc<str> = token("ada", &Clock::system()).into();
    let mut staying = JoinSet::new();
    for at in 0..count {
        // An answer costs the server more than a silent client.
        let kind = if at % 100 == 99 { Slow::UnreadAnswer } else { KINDS[at % 4] };
        let (socket, token) = (connect(kind, address).await, token.clone());
        staying.spawn(async move { (kind, stay(kind, socket, &token).await) });
        if at % 100 == 0 {
            // Connections are taken in their order: no more than a hundred ever wait for that.
            health(&reqwest_client(), server).await;
        }
    }
    staying.join_all().await
}

/// As many as wanted, or as many as this machine allows files, which is said.
fn clients_that_fit() -> usize {
    const OTHERS: u64 = 500;
    let wanted = SLOW_CLIENTS as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(current.unwrap_or(u64::MAX));
    if current.is_some_and(|current| current < possible) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }).expect("the limit allows it");
    }
    if possible >= wanted {
        return SLOW_CLIENTS;
    }
    let count = usize::try_from(possible.saturating_sub(OTHERS)).unwrap_or(0);
    assert!(count >= 100, "ulimit -n is {possible}: too few for this test");
    eprintln!("!!! ONLY {count} of {SLOW_CLIENTS} slow clients: ulimit -Hn is {possible}");
    count
}

async fn connect(kind: Slow, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if kind == Slow::UnreadAnswer {
        socket.set_recv_buffer_size(4096).expect("a small buffer");
    }
    socket.connect(address).await.expect("the server listens")
}

/// Stays as long as the server puts up with it; how long that was.
async fn stay(kind: Slow, mut socket: TcpStream, token: &str) -> Duration {
    let connected = Instant::now();
    let (start, drip) = match kind {
        Slow::Silent => (String::new(), ""),
        Slow::HalfHead => ("GET /health HTTP/1.1\r\nhost: x\r\nx-half: ".to_owned(), ""),
        Slow::DrippingHead => ("GET /health HTTP/1.1\r\nhost: x\r\nx-drip: ".to_owned(), "x"),
        Slow::DrippingBody => {
            let head = format!(
                "POST /api/conversations/1/reply HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: 1000\r\n\r\n"
            );
            (head, "x")
        }
        Slow::UnreadAnswer => ("GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100), "G"),
    };
    socket.write_all(start.as_bytes()).await.expect("sent");
    while connected.elapsed() < 3 * LONGEST {
        // A socket that is closed at the other end answers a write with a reset.
        if matches!(socket.try_write(drip.as_bytes()), Err(error) if error.kind() != ErrorKind::WouldBlock) {
            break;
        }
        if kind == Slow::UnreadAnswer {
            sleep(DRIP).await;
        } else if let Ok(closed) = timeout(DRIP, until_closed(&mut socket)).await {
            return closed.duration_since(connected);
        }
    }
    connected.elapsed()
}

/// Reads until the server closes the connection.
async fn until_closed(socket: &mut TcpStream) -> Instant {
    let mut bytes = [0; 1024];
    while matches!(socket.read(&mut bytes).await, Ok(1..)) {}
    Instant::now()
}

/// How long `/health` takes, asked again and again.
async fn healths(server: &Process, until: &CancellationToken) -> Vec<Duration> {
    let http = reqwest_client();
    let mut took = Vec::new();
    while !until.is_cancelled() {
        took.push(health(&http, server).await);
        sleep(Duration::from_millis(20)).await;
    }
    took
}

async fn health(http: &reqwest::Client, server: &Process) -> Duration {
    let started = Instant::now();
    let answer = http.get(format!("http://{}/health", server.address)).send().await.expect("the server answers");
    assert_eq!(answer.status(), 200);
    started.elapsed()
}

fn reqwest_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}

/// How late this test's own timers are, at most: what it measures is as wrong.
async fn lateness(until: &CancellationToken) -> Duration {
    const NAP: Duration = Duration::from_millis(20);
    let mut worst = Duration::ZERO;
    while !until.is_cancelled() {
        let started = Instant::now();
        sleep(NAP).await;
        worst = worst.max(started.elapsed() - NAP);
    }
    worst
}

// Leaving.

#[tokio::test]
async fn long_polls_are_answered_at_once_when_the_server_goes() {
    // What is counted is not regained meanwhile: Redis, where there is one, does not go by the clock that stands still.
    let mut world = World::begin(&[("RATE_LIMIT_PER_MINUTE", "1"), ("RATE_LIMIT_BURST", "1000")], false).await;
    let chat = world.user("ada").opens("Hello").await;
    world.work().await;
    let ada = world.user("ada");
    let remaining = async || -> u32 {
        let answer = ada.get("/api/conversations").await;
        answer.header("ratelimit-remaining").and_then(|count| count.parse().ok()).expect("a number")
    };
    let before = remaining().await;
    let polls: Vec<_> = (0..20).map(|_| start_poll(&world, &chat)).collect();
    // They have come when they have been counted; the clock stands still, so that no poll's time is up.
    let counted = async {
        let mut asked = 1;
        while remaining().await + asked + 20 > before {
            asked += 1;
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), counted).await.expect("the polls come");
    assert!(polls.iter().all(|poll| !poll.is_finished()));
    let gone = world.shut_down();
    timeout(Duration::from_secs(10), gone).await.expect("nobody keeps the server");
    for poll in polls {
        let answer = poll.await.expect("no panic");
        assert_eq!(answer["messages"], json!([]));
        assert_eq!(answer["state"], "open");
    }
}

/// A poll that waits for half a minute on a clock that stands still.
fn start_poll(world: &World, chat: &str) -> tokio::task::JoinHandle<Value> {
    let url = format!("{}/api/conversations/{chat}/poll?wait=30&since={}", world.url, world.clock.now_s() + 1_000);
    let request = reqwest_client().get(url).bearer_auth(world.token("ada"));
    tokio::spawn(async move {
        let text = request.send().await.expect("an answer").text().await.expect("a whole body");
        serde_json::from_str(&text).expect("JSON")
    })
}

// Requests that two readers may understand differently.

/// Hidden in what may be another request's head or body; its answer would show that it was taken for a request.
const HIDDEN: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
/// Sent when the answers are in: its own says that no more are to come.
const LAST: &str = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// What the server answers on one connection, until it is closed: at the latest after one more request.
pub(crate) async fn raw(world: &World, request: &str) -> String {
    let address = world.url.strip_prefix("http://").expect("its address");
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answers = Vec::new();
    let talk = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut bytes).await {
            if answers.is_empty() {
                let _ = socket.write_all(LAST.as_bytes()).await;
            }
            answers.extend_from_slice(&bytes[..count]);
        }
    };
    timeout(Duration::from_secs(30), talk).await.expect("the server closes");
    String::from_utf8(answers).expect("text")
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer.split(' ').next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_request_whose_length_is_doubtful_is_refused_or_the_connections_last() {
    let world = world().await;
    let hidden = HIDDEN.len();
    let chunk = format!("{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let both = HIDDEN.len() + 5;
    let table = [
        (
            "content-length and chunked",
            format!("content-length: {both}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "chunked and content-length",
            format!("transfer-encoding: chunked\r\ncontent-length: {both}\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        ("a short content-length", format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{chunk}")),
        ("two lengths", format!("content-length: 0\r\ncontent-length: {hidden}\r\n\r\n{HIDDEN}")),
        ("two lengths, turned", format!("content-length: {hidden}\r\ncontent-length: 0\r\n\r\n{HIDDEN}")),
        ("a list of lengths", format!("content-length: 0, {hidden}\r\n\r\n{HIDDEN}")),
        ("the same twice in a list", format!("content-length: {hidden}, {hidden}\r\n\r\n{HIDDEN}")),
        ("a signed length", format!("content-length: +{hidden}\r\n\r\n{HIDDEN}")),
        ("a negative length", format!("content-length: -1\r\n\r\n{HIDDEN}")),
        ("a hexadecimal length", format!("content-length: 0x{hidden:x}\r\n\r\n{HIDDEN}")),
        ("an endless length", format!("content-length: 99999999999999999999999\r\n\r\n{HIDDEN}")),
        ("not chunked at last", format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("an unknown encoding", format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        (
            "two encodings",
            format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        ("a space in a name", format!("content-length: 0\r\ntransfer-encoding : chunked\r\n\r\n{chunk}")),
        ("a folded encoding", format!("transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("a folded header", format!("x: a\r\n b: c\r\ncontent-length: 0\r\n\r\n{HIDDEN}")),
        ("a length in a bare line", format!("x: a\ncontent-length: {hidden}\r\n\r\n{HIDDEN}")),
        ("an end by bare lines", format!("x: a\n\n{HIDDEN}")),
        ("a bare return", format!("x: a\rcontent-length: {hidden}\r\n\r\n{HIDDEN}")),
        ("a zero byte", format!("x: a\0b\r\ncontent-length: 0\r\n\r\n{HIDDEN}")),
        ("a chunk's bare line", format!("transfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n{HIDDEN}")),
        ("a bare line in a chunk's extension", format!("transfer-encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n{HIDDEN}")),
        ("a chunk longer than said", format!("transfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n{HIDDEN}")),
        (
            "a chunk's endless length",
            format!("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n{HIDDEN}"),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, rest) in table {
        let answers = raw(&world, &format!("POST /webhooks/intercom HTTP/1.1\r\nhost: x\r\n{rest}")).await;
        let told = statuses(&answers);
        if told.len() > 1 || !told.iter().all(|status| ["400", "401"].contains(status)) {
            wrong.push((name, told.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let old = format!("POST /webhooks/intercom HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    assert!(statuses(&raw(&world, &old).await).len() <= 1, "an encoding that the version does not know");
    // A connection is not lost for nothing.
    let plain = format!("POST /webhooks/intercom HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}{HIDDEN}");
    assert_eq!(statuses(&raw(&world, &plain).await), ["401", "200", "404"]);
}

#[tokio::test]
async fn nothing_that_a_client_sends_becomes_a_header_of_the_answer() {
    let world = World::begin(&[("CORS_ORIGINS", "https://app.example.com")], false).await;
    let token = world.token("ada");
    let chat = world.user("ada").opens("Hello").await;
    let injected = "%0d%0ainjected:%20yes%0d%0a%0d%0ainjected";
    for (path, headers) in [
        (format!("/api/conversations/{injected}"), String::new()),
        (format!("/api/conversations/{chat}{injected}/poll"), String::new()),
        (format!("/api/conversations/{chat}/poll?since={injected}&wait={injected}"), String::new()),
        (format!("/api/conversations?cursor={injected}&limit={injected}"), String::new()),
        (format!("/ready?scope={injected}"), String::new()),
        (format!("/{injected}?{injected}"), String::new()),
        ("/health".to_owned(), "x-request-id: injected\r\norigin: https://injected\r\n".to_owned()),
        ("/api/conversations".to_owned(), "idempotency-key: injected\r\nx-request-id: a\u{85}injected\r\n".to_owned()),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: injected\r\nauthorization: Bearer {token}\r\n{headers}\r\n");
        let answers = raw(&world, &request).await;
        assert!(!answers.contains("injected"), "{path}: {answers}");
        assert_eq!(statuses(&answers).len(), 2, "one answer, and one to the last request: {answers}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_in_the_one_shape() {
    let world = world().await;
    let long = |bytes: usize| "x".repeat(bytes);
    let many = |count: usize| "x: y\r\n".repeat(count);
    for (path, headers, status) in [
        (format!("/health?{}", long(4_000)), String::new(), "200"),
        (format!("/health?{}", long(4_096)), String::new(), "414"),
        (format!("/health?{}", long(20_000)), String::new(), "414"),
        ("/health".to_owned(), many(63), "200"),
        ("/health".to_owned(), many(64), "431"),
        ("/health".to_owned(), format!("x: {}\r\n", long(16_000)), "200"),
        ("/health".to_owned(), format!("x: {}\r\n", long(17_000)), "431"),
    ] {
        let answers = raw(&world, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert_eq!(statuses(&answers), [status, "404"], "{} bytes of path, {} of headers", path.len(), headers.len());
        if status != "200" {
            let (head, rest) = answers.split_once("\r\n\r\n").expect("a head");
            let told = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next().expect("a body");
            let told = told.expect("JSON");
            assert_eq!(told["error"], "bad_request", "{answers}");
            let id = told["requestId"].as_str().expect("an id");
            assert!(head.contains(&format!("x-request-id: {id}")) && head.contains("application/json"), "{head}");
        }
    }
    // Beyond that the server does not even read: it refuses without a body, and closes.
    for headers in [many(101), format!("x: {}\r\n", long(40_000))] {
        let answers = raw(&world, &format!("GET /health HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert_eq!(statuses(&answers), ["431"]);
    }
    let answers = raw(&world, &format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", long(70_000))).await;
    assert!(["414", "431"].contains(&statuses(&answers).join(" ").as_str()), "{answers}");
}
