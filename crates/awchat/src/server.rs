//! Accepts connections, serves them within deadlines, and drains them when it is time to go.
//!
//! Sockets live in real time: the deadlines here run on the machine's clock, whatever clock the rest runs on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::api::admission::Slot;
use crate::api::idle::{self, Idle};
use crate::app::App;
use crate::clock::Clock;
use crate::limits::network;
use crate::{api, worker};

mod body;
mod rarely;
mod waiting;
mod watched;

use body::{Answer, Leftover, Timed};
use rarely::Rarely;
use waiting::{Exit, Leaving, Waiting};
use watched::{Phase, Watched};

/// hyper refuses a larger head with a bare 431. `api::respond` refuses from half of it on, with our own body.
const HYPER_HEAD_BYTES: usize = 32 * 1024;
/// What a connection may buffer of requests and answers.
const BUFFER_BYTES: usize = 64 * 1024;
/// The pause after a failed accept: without file descriptors, trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Deadlines and numbers of connections.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// From a connection's start, or from the first byte of a later request, until its head is whole.
    pub head_timeout: Duration,
    /// From an answer's end until the next request's head; pollers come each 2.5 to 15 seconds.
    pub idle_timeout: Duration,
    /// Until a body is whole; what is larger than 64 KiB gets a second more for each further 16 KiB.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub write_timeout: Duration,
    /// How long requests in flight may go on after shutdown began.
    pub drain_timeout: Duration,
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Connections at once of one client network (v4 address, v6 /64); further ones are closed.
    /// Loopback and trusted proxies may have any number.
    pub max_connections_per_address: u32,
    /// Peers that speak for many clients.
    pub trusted_proxies: Vec<IpNet>,
    /// Once it is set, the answer to each further request is the last of its connection: who asks again finds another
    /// node.
    pub draining: Arc<AtomicBool>,
}

impl Default for EdgeSettings {
    /// A second below ten, so that a slow client is gone within ten.
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(9),
            write_timeout: Duration::from_secs(9),
            drain_timeout: Duration::from_secs(20),
            max_connections: 20_000,
            max_connections_per_address: 64,
            trusted_proxies: Vec::new(),
            draining: Arc::default(),
        }
    }
}

/// Runs the whole server until `shutdown`: `/ready` says no and long polls answer at once; requests in flight and
/// messages that are being sent come to their end; the database is closed. A load balancer looks at `/ready` before it
/// sends elsewhere: for `unready_for` new connections are still taken.
pub async fn run(listener: TcpListener, app: App, shutdown: CancellationToken, unready_for: Duration) {
    let router = api::router(app.clone());
    run_with(listener, app, router, shutdown, unready_for).await;
}

/// As [`run`], with routes of the caller's beside the API's.
pub async fn run_with(
    listener: TcpListener,
    app: App,
    router: Router,
    shutdown: CancellationToken,
    unready_for: Duration,
) {
    let tasks = TaskTracker::new();
    let stop_working = CancellationToken::new();
    tasks.spawn(worker::run(app.clone(), stop_working.clone()));
    tasks.close();
    let (neighbours, stop_talking) = (TaskTracker::new(), CancellationToken::new());
    neighbours.spawn({
        let (app, stop_talking) = (app.clone(), stop_talking.clone());
        async move { app.chat.keep_in_touch(stop_talking).await }
    });
    neighbours.close();
    answer(listener, &app, router, shutdown, unready_for).await;
    stop_working.cancel();
    tasks.wait().await;
    // The last of what was done is told too.
    stop_talking.cancel();
    neighbours.wait().await;
    app.store.close().await;
}

/// Answers Prometheus on a listener of its own until `shutdown`.
pub async fn measure(listener: TcpListener, app: App, shutdown: CancellationToken) {
    serve(listener, api::metrics::router(app), EdgeSettings::default(), shutdown).await;
}

/// Answers requests until `shutdown`, as [`run`] does, but nothing happens without a request: for tests that do the
/// work when they choose.
pub async fn answer(
    listener: TcpListener,
    app: &App,
    router: Router,
    shutdown: CancellationToken,
    unready_for: Duration,
) {
    let trusted_proxies = app.config.trusted_proxies.clone();
    let draining = Arc::new(AtomicBool::new(false));
    let settings = EdgeSettings { trusted_proxies, draining: Arc::clone(&draining), ..EdgeSettings::default() };
    let stop_accepting = CancellationToken::new();
    let serving = serve_quickly(listener, Some(Idle::new(app.clone())), router, settings, stop_accepting.clone());
    let leaving = async {
        shutdown.cancelled().await;
        draining.store(true, Ordering::Relaxed);
        app.draining.cancel();
        app.clock.sleep(unready_for).await;
        stop_accepting.cancel();
    };
    tokio::join!(serving, leaving);
    app.chat.finish().await;
}

/// Serves `router` on `listener` until `shutdown`; then accepts nothing more, closes idle connections, lets requests
/// in flight finish for `drain_timeout`, and returns. Handlers see the peer as `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, router: Router, settings: EdgeSettings, shutdown: CancellationToken) {
    serve_quickly(listener, None, router, settings, shutdown).await;
}

/// As [`serve`], idle polls answered by `idle` where it can.
async fn serve_quickly(
    listener: TcpListener,
    idle: Option<Idle>,
    router: Router,
    settings: EdgeSettings,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let crowd = Crowd::default();
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    let clock = Clock::system();
    let http = http();
    let connections = Arc::new(Connections { http, idle, router, clock: clock.clone(), settings, shutdown, kill });
    while let Some((socket, peer, slot)) = connections.next(&listener, &slots).await {
        let Some(seat) = connections.seat(&crowd, peer.ip()) else { continue };
        let connections = connections.clone();
        tasks.spawn(async move {
            connections.run(socket, peer).await;
            drop((seat, slot));
        });
    }
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = clock.sleep(connections.settings.drain_timeout) => {
            tracing::warn!(connections = tasks.len(), "requests in flight are cut off");
            connections.kill.cancel();
            tasks.wait().await;
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // The number of headers stays hyper's default of 100, which costs no allocation; `api::respond` refuses more than 64.
    // `Watched` keeps the deadlines: hyper's one, for idling and for a half-sent head, is a new timer for each request.
    http.header_read_timeout(None);
    // It also notices who hangs up.
    http.half_close(true);
    http.max_header_size(HYPER_HEAD_BYTES).max_buf_size(BUFFER_BYTES);
    http
}

/// What every connection shares.
struct Connections {
    http: http1::Builder,
    idle: Option<Idle>,
    router: Router,
    clock: Clock,
    settings: EdgeSettings,
    /// Finish what is in flight.
    shutdown: CancellationToken,
    /// Stop at once.
    kill: CancellationToken,
}

impl Connections {
    /// The next connection, once there is room for it; `None` when it is time to go.
    async fn next(
        &self,
        listener: &TcpListener,
        slots: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((socket, peer)) => return Some((socket, peer, slot)),
                    Err(error) if is_the_clients(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "a connection cannot be accepted");
                        self.clock.sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            accepted = accept => accepted,
        }
    }

    fn seat(&self, crowd: &Crowd, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let many = address.is_loopback() || self.settings.trusted_proxies.iter().any(|proxy| proxy.contains(&address));
        let limit = if many { u32::MAX } else { self.settings.max_connections_per_address };
        crowd.enter(network(address), limit)
    }

    async fn run(&self, socket: TcpStream, peer: SocketAddr) {
        // Answers are small and written whole: nothing is gained by holding them back.
        let _ = socket.set_nodelay(true);
        let phase = Phase::default();
        let mut socket = Watched::new(socket, phase.clone(), &self.settings);
        let serving = async {
            // In a box, which is gone while a request waits.
            while let Some((mut left, waiting)) = Box::pin(self.serve(socket, peer, &phase)).await {
                let (now_ms, is_last) = (|| self.clock.now_ms(), || self.shutdown.is_cancelled());
                match waiting::answer(&mut left, waiting, now_ms, is_last).await {
                    Ok(false) => socket = left,
                    Ok(true) => return left.shutdown().await.unwrap_or(()),
                    Err(_) => return,
                }
            }
        };
        let killed = pin!(self.kill.cancelled());
        tokio::select! {
            () = serving => {}
            () = Rarely::new(killed) => {}
        }
    }

    /// Serves a connection until it is over, or a request of it waits: that one, and the socket.
    async fn serve(&self, socket: Watched, peer: SocketAddr, phase: &Phase) -> Option<(Watched, Waiting)> {
        let exit = Exit::default();
        let service = service_fn(|request| self.answer(request, peer, phase, &exit));
        let mut connection = self.http.serve_connection(TokioIo::new(socket), service);
        let going = pin!(self.shutdown.cancelled());
        let mut going = Rarely::new(going);
        let mut is_told = false;
        let over = poll_fn(|cx| {
            loop {
                if Pin::new(&mut connection).poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                // Not before the answers to earlier requests are written.
                if exit.is_wanted() && !phase.owes() {
                    return Poll::Ready(false);
                }
                if is_told || Pin::new(&mut going).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                is_told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        });
        if over.await {
            return None;
        }
        let left = connection.into_parts();
        Some((left.io.into_inner().reading_again(&left.read_buf), exit.take()?))
    }

    fn answer<'a>(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        phase: &Phase,
        exit: &'a Exit,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<'a> {
        let busy = phase.busy();
        let (parts, body) = request.into_parts();
        let is_whole = body.is_end_stream();
        let is_last = self.settings.draining.load(Ordering::Relaxed);
        let idle = self.idle.as_ref().filter(|_| is_whole && !is_last);
        let counted = match idle.and_then(|idle| idle.answer(&parts)) {
            Some(idle::Answer::Now(answer)) => {
                return Either::Left(ready(Ok(answer.map(|body| Answer::whole(body, busy)))));
            }
            Some(idle::Answer::Counted(answer)) => Some(answer),
            None => None,
        };
        let left = (!is_whole).then(Leftover::default);
        let body = match &left {
            None => Body::empty(),
            Some(left) => Body::new(Timed::new(body, self.settings.body_timeout, left.clone())),
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(ConnectInfo(peer));
        let slot = (is_whole && waiting::may_leave(&request)).then(Slot::default);
        if let Some(slot) = &slot {
            request.extensions_mut().insert(slot.clone());
        }
        let mut router = self.router.clone();
        let answer = async move {
            if let Some(counted) = counted
                && let Some(answer) = counted.await
            {
                return answer.map(|body| Answer::whole(body, busy));
            }
            // A router is always ready.
            let Ok(mut answer) = router.call(request).await;
            if let Some(left) = left {
                left.discard().await;
            }
            if is_last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer.map(|body| Answer::new(body, busy))
        };
        Either::Right(Leaving::new(Box::pin(answer), slot, exit).map(Ok))
    }
}

/// Errors of accept that only say that a client has gone again.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}

/// How many connections each network has.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// One connection of a network, until it is dropped.
struct Seat {
    crowd: Crowd,
    network: IpAddr,
}

impl Crowd {
    fn enter(&self, network: IpAddr, limit: u32) -> Option<Seat> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// As many connections as the system lets us have: each needs a file descriptor, and the usual limit is for programs that
/// use `select`.
///
/// # Errors
/// The limit that stays as it is, where the system does not raise it.
pub fn raise_descriptors() -> Result<(), Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).map_err(|_| limit.current)
}

#[cfg(test)]
mod tests;
