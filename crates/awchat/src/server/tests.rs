//! Slow, broken and leaving clients over real sockets.

#![expect(clippy::disallowed_methods, reason = "sockets live in real time")]

use std::time::Instant;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;

/// Tenths of the real deadlines, and less.
fn quick() -> EdgeSettings {
    EdgeSettings {
        head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(900),
        body_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        drain_timeout: Duration::from_millis(1500),
        ..EdgeSettings::default()
    }
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(settings: EdgeSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router(), settings, shutdown.clone()));
        Self { address, shutdown, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// The whole answer to `request` on a connection of its own.
    async fn ask(&self, request: &str) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request.as_bytes()).await.expect("sent");
        rest(&mut socket).await
    }
}

fn router() -> Router {
    let echo = async |request: Request| match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(body) => (StatusCode::OK, body.len().to_string()),
        Err(_) => (StatusCode::BAD_REQUEST, "slow".to_owned()),
    };
    let slow = async || {
        sleep(Duration::from_millis(600)).await;
        "slow answer"
    };
    let waiting = async |slot: Slot| {
        slot.wait();
        sleep(Duration::from_millis(200)).await;
        "waited, ok"
    };
    let events = async |slot: Slot| {
        slot.wait();
        Body::from_stream(stream::iter(["one", "", "three"]).then(async |event| {
            sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(event)
        }))
    };
    let endless = async |slot: Slot| {
        slot.wait();
        Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 64 * 1024])))
    };
    let quiet = async |slot: Slot| {
        slot.wait();
        Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>())
    };
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string();
    Router::new()
        .route("/health", get(async || "ok"))
        .route("/echo", post(echo))
        .route("/slow", get(slow))
        .route("/peer", get(peer))
        .route("/wait", get(waiting))
        .route("/events", get(events))
        .route("/endless", get(endless))
        .route("/quiet", get(quiet))
        .route("/huge", get(async || vec![b'x'; 32 * 1024 * 1024]))
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &str = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// What the server still sends until it closes the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(5), socket.read_to_end(&mut bytes)).await.expect("the server closes");
    // A reset is a way of closing too.
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer with the body `ok` and leaves the connection open.
async fn one_answer(socket: &mut TcpStream) -> String {
    until(socket, "ok").await
}

/// Reads as far as `end`.
async fn until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let count = timeout(Duration::from_secs(5), socket.read(&mut bytes)).await.expect("an answer comes");
        let count = count.expect("the connection holds");
        assert!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

/// Writes `piece` again and again until the server has closed the connection; how long that took.
async fn drip(mut socket: TcpStream, start: &str, piece: &str) -> (Duration, String) {
    let started = Instant::now();
    socket.write_all(start.as_bytes()).await.expect("sent");
    let (mut reader, mut writer) = socket.split();
    let mut bytes = Vec::new();
    let dripping = async {
        loop {
            sleep(Duration::from_millis(40)).await;
            if writer.write_all(piece.as_bytes()).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        _ = reader.read_to_end(&mut bytes) => {}
        () = dripping => {}
        () = sleep(Duration::from_secs(5)) => panic!("the server puts up with it"),
    }
    (started.elapsed(), String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn a_silent_client_and_a_half_sent_head_are_closed_while_others_are_served() {
    let server = Server::start(quick()).await;
    for start in ["", "GET /health HTTP/1.1\r\nhost: x\r\nx-half: "] {
        let mut socket = server.connect().await;
        let started = Instant::now();
        socket.write_all(start.as_bytes()).await.expect("sent");
        assert!(server.ask(LAST).await.ends_with("ok"), "others are served");
        assert!(!rest(&mut socket).await.contains("200"));
        assert!((250..800).contains(&started.elapsed().as_millis()), "{start:?} after {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_dripping_head_is_closed_at_the_heads_deadline() {
    let server = Server::start(quick()).await;
    let (after, _) = drip(server.connect().await, "GET /health HTTP/1.1\r\n", "x: y\r\n").await;
    assert!((250..800).contains(&after.as_millis()), "after {after:?}");
}

#[tokio::test]
async fn a_dripping_or_missing_body_is_closed_at_the_bodys_deadline() {
    let server = Server::start(quick()).await;
    let start = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n";
    for piece in ["x", ""] {
        let (after, answer) = drip(server.connect().await, start, piece).await;
        assert!((250..800).contains(&after.as_millis()), "after {after:?}");
        assert!(answer.contains("400"), "{answer}");
    }
    let chunked = "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let (after, _) = drip(server.connect().await, chunked, "1\r\nx\r\n").await;
    assert!((250..800).contains(&after.as_millis()), "after {after:?}");
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_cost_the_answer() {
    let server = Server::start(quick()).await;
    // Larger than what the sockets hold, and sent to its end before the answer is read.
    let head = "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n";
    let answer = server.ask(&format!("{head}{}{LAST}", "x".repeat(200_000))).await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.ends_with("ok"), "{answer}");
    // What never ends is not waited for.
    let endless = "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n";
    assert!(server.ask(endless).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /huge HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    sleep(Duration::from_millis(800)).await;
    assert!(server.ask(LAST).await.ends_with("ok"), "others are served");
    let received = rest(&mut socket).await;
    assert!(received.len() < 32 * 1024 * 1024, "only what was in flight arrives");
}

#[tokio::test]
async fn an_answer_that_is_read_arrives_whole() {
    let server = Server::start(quick()).await;
    let answer = server.ask("GET /huge HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.len() > 32 * 1024 * 1024);
}

#[tokio::test]
async fn a_poller_keeps_its_connection_longer_than_a_head_may_take() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(HEALTH.as_bytes()).await.expect("sent");
        assert!(one_answer(&mut socket).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_millis(450)).await;
    }
    // Half a head on a used connection gets the head's deadline, not the idle one's.
    let started = Instant::now();
    socket.write_all(b"GET /health").await.expect("sent");
    rest(&mut socket).await;
    assert!((250..800).contains(&started.elapsed().as_millis()), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    socket.write_all(HEALTH.as_bytes()).await.expect("sent");
    one_answer(&mut socket).await;
    let started = Instant::now();
    assert_eq!(rest(&mut socket).await, "");
    assert!((800..1500).contains(&started.elapsed().as_millis()), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_handler_is_no_slow_client() {
    let server = Server::start(quick()).await;
    let answer = server.ask("GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("slow answer"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(quick()).await;
    let body = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";
    let answer = server.ask(&format!("{HEALTH}{body}{LAST}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 3, "{answer}");
    assert!(answer.find("\r\n\r\n3").is_some_and(|at| at > answer.find("ok").unwrap_or(usize::MAX)), "{answer}");
}

#[tokio::test]
async fn a_huge_head_and_nonsense_are_refused() {
    let server = Server::start(quick()).await;
    let table = [
        (format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40 * 1024)), "431"),
        (format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(150)), "431"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in table {
        let answer = server.ask(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    assert!(server.ask(LAST).await.ends_with("ok"));
}

#[tokio::test]
async fn a_hundred_slow_clients_keep_nobody_waiting() {
    let server = Server::start(quick()).await;
    let mut slow = Vec::new();
    for at in 0..100 {
        let mut socket = server.connect().await;
        let start = if at % 2 == 0 { "GET /he" } else { "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n" };
        socket.write_all(start.as_bytes()).await.expect("sent");
        slow.push(socket);
    }
    let started = Instant::now();
    assert!(server.ask(LAST).await.ends_with("ok"));
    assert!(started.elapsed() < Duration::from_millis(200), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_network_has_its_share_of_connections() {
    let crowd = Crowd::default();
    let address = IpAddr::from([192, 0, 2, 1]);
    let first = crowd.enter(address, 2).expect("room");
    let second = crowd.enter(address, 2).expect("room");
    assert!(crowd.enter(address, 2).is_none());
    assert!(crowd.enter(IpAddr::from([192, 0, 2, 2]), 2).is_some(), "another's share is its own");
    drop(first);
    assert!(crowd.enter(address, 2).is_some());
    drop(second);
    assert!(crowd.0.lock().expect("no panic").is_empty(), "nothing stays behind");
}

#[tokio::test]
async fn a_full_server_serves_the_next_client_when_one_leaves() {
    let server = Server::start(EdgeSettings { max_connections: 1, ..quick() }).await;
    let mut first = server.connect().await;
    first.write_all(HEALTH.as_bytes()).await.expect("sent");
    one_answer(&mut first).await;
    let second = tokio::spawn({
        let address = server.address;
        async move {
            let mut socket = TcpStream::connect(address).await.expect("the kernel's queue takes it");
            socket.write_all(LAST.as_bytes()).await.expect("sent");
            rest(&mut socket).await
        }
    });
    sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.expect("answered").ends_with("ok"));
}

#[tokio::test]
async fn a_handler_sees_its_peer() {
    let server = Server::start(quick()).await;
    assert!(server.ask("GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ends_with("127.0.0.1"));
}

#[tokio::test]
async fn shutdown_finishes_requests_in_flight_and_closes_idle_connections_at_once() {
    let server = Server::start(quick()).await;
    let (mut idle, mut fresh, mut busy) = (server.connect().await, server.connect().await, server.connect().await);
    idle.write_all(HEALTH.as_bytes()).await.expect("sent");
    one_answer(&mut idle).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    sleep(Duration::from_millis(100)).await;

    let started = Instant::now();
    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut fresh).await, "");
    assert!(started.elapsed() < Duration::from_millis(250), "idle ones are closed after {:?}", started.elapsed());
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing new is accepted");
    let answer = rest(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("slow answer"), "{answer}");
    timeout(Duration::from_millis(200), server.serving).await.expect("and then it returns").expect("without a panic");
}

#[tokio::test]
async fn shutdown_cuts_off_what_takes_too_long() {
    let server = Server::start(EdgeSettings { drain_timeout: Duration::from_millis(100), ..quick() }).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    timeout(Duration::from_millis(400), server.serving).await.expect("it returns").expect("without a panic");
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn a_request_that_waits_leaves_hyper_and_takes_along_what_was_sent_ahead() {
    let settings = quick();
    let (http, clock) = (http(), Clock::system());
    let (shutdown, kill) = (CancellationToken::new(), CancellationToken::new());
    let connections =
        Connections { http, idle: None, router: router(), clock: clock.clone(), settings, shutdown, kill };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    for (request, leaves) in [
        ("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n", true),
        ("GET /events HTTP/1.1\r\nhost: x\r\nconnection: Keep-Alive\r\n\r\n", true),
        ("GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", false),
        ("GET /wait HTTP/1.0\r\n\r\n", false),
        ("HEAD /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", false),
        ("GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", false),
    ] {
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        client.write_all(request.as_bytes()).await.expect("sent");
        client.write_all(b"ahead").await.expect("sent");
        let (socket, peer) = listener.accept().await.expect("a connection");
        let phase = Phase::default();
        let socket = Watched::new(socket, phase.clone(), &connections.settings);
        let serving = timeout(Duration::from_secs(5), connections.serve(socket, peer, &phase));
        let left = serving.await.expect("in time");
        assert_eq!(left.is_some(), leaves, "{request}");
        if let Some((mut socket, _)) = left {
            let mut ahead = [0; 5];
            socket.read_exact(&mut ahead).await.expect("what was sent ahead");
            assert_eq!(&ahead, b"ahead");
        }
    }
}

#[tokio::test]
async fn a_request_that_waits_is_answered_in_its_turn_and_its_connection_goes_on() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    let wait = "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(format!("{HEALTH}{wait}{HEALTH}").as_bytes()).await.expect("sent");
    let mut all = one_answer(&mut socket).await;
    while all.matches("HTTP/1.1 200 OK\r\n").count() < 3 {
        all += &one_answer(&mut socket).await;
    }
    let [_, before, waited, after] = *all.split("HTTP/1.1 ").collect::<Vec<_>>() else { panic!("{all}") };
    assert!(before.ends_with("\r\n\r\nok") && after.ends_with("\r\n\r\nok"), "{all}");
    assert!(waited.ends_with("\r\n\r\nwaited, ok") && waited.contains("\r\ncontent-length: 10\r\n"), "{waited}");
    assert!(waited.contains("\r\ndate: ") && waited.contains(" GMT\r\n"), "{waited}");
    assert!(!waited.contains("connection: ") && !waited.contains("transfer-encoding: "), "{waited}");
    sleep(Duration::from_millis(450)).await;
    for _ in 0..2 {
        socket.write_all(wait.as_bytes()).await.expect("sent");
        assert!(one_answer(&mut socket).await.ends_with("\r\n\r\nwaited, ok"));
    }
    assert_eq!(rest(&mut socket).await, "", "idle, it is closed in the end");
}

#[tokio::test]
async fn what_was_asked_for_before_a_request_that_waits_arrives_whole() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    let requests = "GET /huge HTTP/1.1\r\nhost: x\r\n\r\nGET /wait HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(requests.as_bytes()).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    let all = until(&mut socket, "waited, ok").await;
    assert!(all.len() > 32 * 1024 * 1024, "{} bytes", all.len());
}

#[tokio::test]
async fn events_go_out_as_they_come() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let answer = until(&mut socket, "\r\n0\r\n\r\n").await;
    assert!(answer.contains("\r\ntransfer-encoding: chunked\r\n") && !answer.contains("content-length"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"), "{answer}");
    socket.write_all(HEALTH.as_bytes()).await.expect("sent");
    assert!(one_answer(&mut socket).await.starts_with("HTTP/1.1 200"));
    // Before the first event, that there is a stream.
    socket.write_all(b"GET /quiet HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    until(&mut socket, "\r\n\r\n").await;
}

#[tokio::test]
async fn events_that_nobody_reads_are_given_up() {
    let server = Server::start(quick()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    sleep(Duration::from_millis(800)).await;
    let received = rest(&mut socket).await;
    assert!(received.len() < 32 * 1024 * 1024, "only what was in flight arrives");
}

#[tokio::test]
async fn shutdown_ends_the_connections_of_requests_that_wait() {
    let server = Server::start(EdgeSettings { drain_timeout: Duration::from_millis(500), ..quick() }).await;
    let (mut waiting, mut quiet) = (server.connect().await, server.connect().await);
    waiting.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    quiet.write_all(b"GET /quiet HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    let answer = rest(&mut waiting).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("waited, ok"), "{answer}");
    timeout(Duration::from_millis(2000), server.serving).await.expect("it returns").expect("without a panic");
    assert!(rest(&mut quiet).await.ends_with("\r\n\r\n"), "cut off");
}

#[tokio::test]
async fn a_request_whose_client_hangs_up_is_given_up() {
    let (began, mut is_at_work) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Receiver<()>>(1);
    let working = async move |uri: hyper::Uri, slot: Slot| {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        if uri.path() == "/wait" {
            slot.wait();
        }
        let _ = began.send(dropped).await;
        std::future::pending::<()>().await;
        drop(held);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    // No deadline ends it.
    let router = Router::new().route("/wait", get(working.clone())).route("/work", get(working));
    let serving = tokio::spawn(serve(listener, router, EdgeSettings::default(), CancellationToken::new()));
    for (path, leaves) in [("/wait", true), ("/wait", false), ("/work", true), ("/work", false)] {
        let mut socket = TcpStream::connect(address).await.expect("the server listens");
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let given_up = is_at_work.recv().await.expect("the handler begins");
        if leaves {
            drop(socket);
            timeout(Duration::from_secs(5), given_up).await.expect("noticed").expect_err("dropped, not ended");
        } else {
            // What is sent ahead is no hanging up.
            socket.write_all(HEALTH.as_bytes()).await.expect("sent");
            timeout(Duration::from_millis(300), given_up).await.expect_err("still at work");
        }
    }
    serving.abort();
}
