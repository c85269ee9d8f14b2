//! Many small requests over connections that stay, by threads that do nothing else: epoll, without a runtime.
//!
//! The load shares the processors with whom it measures, so what a request costs here counts.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::Requests;
use crate::Result;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each connection asks again as soon as it is answered, for so long: what goes through.
    Closed(Duration),
    /// Each request once, as fast as it goes.
    Once,
    /// At a rate of its own, whatever became of the ones before: how long answers take.
    Open {
        /// Requests.
        per_second: f64,
        /// Requests are due for so long.
        time: Duration,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rush {
    /// Answers.
    pub(crate) answered: u64,
    /// From the first request to the last answer.
    pub(crate) time: Duration,
    /// [`Pace::Open`]: how long each answer took, from when its request was due.
    pub(crate) took: Vec<Duration>,
}

impl Rush {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let answered = self.answered as f64;
        answered / self.time.as_secs_f64()
    }
}

/// Sends `requests` in turn over so many connections. Anything but a 2xx with a length ends it as an error.
pub(crate) async fn run(to: SocketAddr, requests: &Requests, connections: usize, pace: Pace) -> Result<Rush> {
    // One thread keeps a rate best; to see how much goes, each processor may be asked for all it has.
    let threads = match pace {
        Pace::Open { .. } => 1,
        Pace::Closed(_) | Pace::Once => std::thread::available_parallelism()?.get().min(connections),
    };
    let mut running = Vec::new();
    for thread in 0..threads {
        let requests = requests.clone();
        let (lanes, pace) = ((thread..connections).step_by(threads), pace);
        running.push(tokio::task::spawn_blocking(move || {
            let lanes = lanes.map(|at| Lane::open(to, at * requests.len() / connections)).collect::<Result<_>>()?;
            Thread::new(lanes, &requests, (thread, threads))?.run(pace)
        }));
    }
    let mut all = Rush::default();
    for thread in running {
        let part = thread.await??;
        all.answered += part.answered;
        all.time = all.time.max(part.time);
        all.took.extend(part.took);
    }
    Ok(all)
}

/// One connection, with at most one request on it.
struct Lane {
    socket: TcpStream,
    read: Vec<u8>,
    filled: usize,
    /// The request that comes next, where each connection goes its own round.
    next: usize,
    /// When the request on it was due, since the beginning.
    due: Duration,
}

impl Lane {
    fn open(to: SocketAddr, first: usize) -> Result<Self> {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, read: vec![0; 16 * 1024], filled: 0, next: first, due: Duration::ZERO })
    }

    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.filled = 0;
        // It is smaller than any socket's buffer, and nothing else is in that.
        match self.socket.write(request)? {
            all if all == request.len() => Ok(()),
            part => Err(format!("{part} of {} bytes of a request fit", request.len()).into()),
        }
    }

    /// Takes what has come; whether the answer is whole.
    fn receive(&mut self) -> Result<bool> {
        match self.socket.read(&mut self.read[self.filled..]) {
            Ok(0) => return Err("a connection was closed, or an answer is longer than expected".into()),
            Ok(more) => self.filled += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let read = &self.read[..self.filled];
        let Some(head) = memmem::find(read, b"\r\n\r\n") else { return Ok(false) };
        if !read.starts_with(b"HTTP/1.1 2") {
            return Err(format!("refused: {}", String::from_utf8_lossy(read)).into());
        }
        let length = length(&read[..head]).ok_or("an answer without a length")?;
        Ok(self.filled >= head + 4 + length)
    }
}

/// What `Content-Length` says; its spelling differs.
fn length(head: &[u8]) -> Option<usize> {
    let at = memmem::find(head, b"ontent-length: ").or_else(|| memmem::find(head, b"ontent-Length: "))?;
    let digits = head[at + "ontent-length: ".len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

/// A thread's share of the load.
struct Thread<'a> {
    lanes: Vec<Lane>,
    requests: &'a Requests,
    poller: rustix::fd::OwnedFd,
    /// Which of how many it is.
    part: (usize, usize),
    began: Instant,
    rush: Rush,
}

impl<'a> Thread<'a> {
    fn new(lanes: Vec<Lane>, requests: &'a Requests, part: (usize, usize)) -> Result<Self> {
        // A request is sent when it is due, not 50 µs later.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (at, lane) in lanes.iter().enumerate() {
            epoll::add(&poller, &lane.socket, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
        }
        Ok(Self { lanes, requests, poller, part, began: Instant::now(), rush: Rush::default() })
    }

    fn run(mut self, pace: Pace) -> Result<Rush> {
        match pace {
            Pace::Closed(time) => self.closed(time)?,
            Pace::Once => self.once()?,
            Pace::Open { per_second, time } => self.open(per_second, time)?,
        }
        self.rush.time = self.began.elapsed();
        Ok(self.rush)
    }

    fn closed(&mut self, time: Duration) -> Result<()> {
        let mut busy = self.lanes.len();
        for at in 0..busy {
            self.go_round(at)?;
        }
        while busy > 0 {
            let answered = self.answered(None)?;
            let is_over = self.began.elapsed() >= time;
            for at in answered {
                if is_over {
                    busy -= 1;
                } else {
                    self.go_round(at)?;
                }
            }
        }
        Ok(())
    }

    fn go_round(&mut self, at: usize) -> Result<()> {
        let lane = &mut self.lanes[at];
        let request = &self.requests[lane.next];
        lane.next = (lane.next + 1) % self.requests.len();
        lane.send(request)
    }

    fn once(&mut self) -> Result<()> {
        let requests = self.requests;
        let mut left = requests.iter().skip(self.part.0).step_by(self.part.1);
        let mut free: Vec<usize> = (0..self.lanes.len()).collect();
        loop {
            while let Some(at) = free.pop() {
                let Some(request) = left.next() else {
                    free.push(at);
                    break;
                };
                self.lanes[at].send(request)?;
            }
            if free.len() == self.lanes.len() {
                return Ok(());
            }
            free.extend(self.answered(None)?);
        }
    }

    fn open(&mut self, per_second: f64, time: Duration) -> Result<()> {
        let mut free: VecDeque<usize> = (0..self.lanes.len()).collect();
        let mut sent = 0_u32;
        let due = |request: u32| Duration::from_secs_f64(f64::from(request) / per_second);
        loop {
            // What finds no connection free is sent late, and has been due all the while.
            while due(sent) < time && due(sent) <= self.began.elapsed() {
                let Some(at) = free.pop_front() else { break };
                self.lanes[at].due = due(sent);
                self.lanes[at].send(&self.requests[sent as usize % self.requests.len()])?;
                sent += 1;
            }
            let is_over = due(sent) >= time;
            if is_over && free.len() == self.lanes.len() {
                return Ok(());
            }
            let wait = (!is_over && !free.is_empty()).then(|| due(sent).saturating_sub(self.began.elapsed()));
            for at in self.answered(wait)? {
                self.rush.took.push(self.began.elapsed().saturating_sub(self.lanes[at].due));
                free.push_back(at);
            }
        }
    }

    /// Waits, at most for so long; the lanes whose answer is whole.
    fn answered(&mut self, wait: Option<Duration>) -> Result<Vec<usize>> {
        let mut events = Vec::with_capacity(self.lanes.len());
        let wait = wait.map(Timespec::try_from).transpose()?;
        match epoll::wait(&self.poller, spare_capacity(&mut events), wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut answered = Vec::with_capacity(events.len());
        for event in events {
            let at = usize::try_from(event.data.u64())?;
            if self.lanes[at].receive()? {
                answered.push(at);
            }
        }
        self.rush.answered += answered.len() as u64;
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::get;

    /// A handler in this process, and a request for it.
    async fn bare() -> (SocketAddr, Requests) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("an address");
        let polls = axum::routing::get(|| std::future::ready("{}"));
        let routes = axum::Router::new().route("/api/conversations/{id}/poll", polls);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (to, [get("/api/conversations/1/poll?since=1", "token")].into())
    }

    #[tokio::test]
    async fn what_is_due_is_sent_and_counted_once() {
        let (to, requests) = bare().await;
        let time = Duration::from_millis(100);
        let open = run(to, &requests, 4, Pace::Open { per_second: 1_000.0, time }).await.expect("answers");
        assert_eq!((open.answered, open.took.len()), (100, 100));
        assert!(open.time >= Duration::from_millis(99), "{:?}", open.time);
        let requests: Requests = vec![requests[0].clone(); 7].into();
        assert_eq!(run(to, &requests, 4, Pace::Once).await.expect("answers").answered, 7);
        let closed = run(to, &requests, 4, Pace::Closed(time)).await.expect("answers");
        assert!(closed.answered >= 4 && closed.rate() > 0.0, "{closed:?}");
    }

    #[tokio::test]
    async fn a_server_that_stands_still_makes_all_that_was_due_late() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let stalling = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            for stall in [0, 0, 0, 60, 0, 0, 0, 0, 0, 0] {
                assert!(socket.read(&mut [0; 1024]).expect("a request") > 0);
                std::thread::sleep(Duration::from_millis(stall));
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("an answer");
            }
        });
        let requests: Requests = [get("/", "token")].into();
        let pace = Pace::Open { per_second: 100.0, time: Duration::from_millis(100) };
        let rush = run(to, &requests, 1, pace).await.expect("answers");
        stalling.join().expect("all were answered");
        // Ten milliseconds apart: the one that stalled, and those that were due meanwhile.
        let late = rush.took.iter().filter(|took| **took >= Duration::from_millis(15)).count();
        assert!(late >= 4, "{:?}", rush.took);
    }

    #[tokio::test]
    async fn a_refusal_is_no_answer() {
        let (to, _) = bare().await;
        let requests: Requests = [get("/elsewhere", "token")].into();
        let refused = run(to, &requests, 1, Pace::Once).await.expect_err("404");
        assert!(refused.to_string().starts_with("refused: HTTP/1.1 404"), "{refused}");
    }

    #[test]
    fn a_length_is_read_in_either_spelling() {
        for head in ["HTTP/1.1 200 OK\r\ncontent-length: 117\r\nx: y", "HTTP/1.1 200 OK\r\nContent-Length: 117"] {
            assert_eq!(length(head.as_bytes()), Some(117), "{head}");
        }
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"), None);
    }
}
