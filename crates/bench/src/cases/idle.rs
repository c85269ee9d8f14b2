//! Idle polls: against a bare handler and the Express peer, with metrics, with traces, and in a large database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use sandbox::Sandbox;
use tokio::net::TcpListener;

use super::{folder, of_turns};
use crate::load::rush::{self, Pace, Rush};
use crate::load::{self, Connection, Requests, median, quantile};
use crate::report::Row;
use crate::servers::{ALONE, Server, free_port, intercom, token};
use crate::{Effort, Result, fill};

const USERS: u32 = 1_000;
const CONNECTIONS: usize = 64;

/// The turns of one of those who are compared.
#[derive(Default)]
struct Turns {
    /// Requests per second.
    rates: Vec<f64>,
    /// Processor time of its process per request, microseconds.
    costs_us: Vec<f64>,
}

impl Turns {
    /// One more: as many requests as go through.
    async fn take(&mut self, server: &Server, requests: &Requests, effort: Effort) -> Result<()> {
        let before = server.processor()?;
        let rush = rush::run(server.address, requests, CONNECTIONS, Pace::Closed(effort.turn)).await?;
        let took = server.processor()?.saturating_sub(before);
        self.rates.push(rush.rate());
        self.costs_us.push(each_us(took, &rush));
        Ok(())
    }

    fn rate(&self) -> f64 {
        median(&self.rates).0
    }

    /// Its row, with what each request costs the process beside it.
    fn row(&self, what: &str, effort: Effort) -> Row {
        let (rate, spread) = median(&self.rates);
        let cost_us = median(&self.costs_us).0;
        let note = format!("{}; {cost_us:.1} µs of processor time each", of_turns(effort, spread));
        Row::new(what, rate, "requests/s").note(note)
    }

    /// How many times the requests per second of `other`, turn by turn: median and spread.
    fn to(&self, other: &Self) -> (f64, f64) {
        median(&ratios(&self.rates, &other.rates))
    }
}

fn ratios(these: &[f64], others: &[f64]) -> Vec<f64> {
    these.iter().zip(others).map(|(this, other)| this / other).collect()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn each_us(took: Duration, rush: &Rush) -> f64 {
    took.as_secs_f64() * 1e6 / rush.answered.max(1) as f64
}

/// This server, the bare handler and the peer in turns.
pub(crate) async fn compared(effort: Effort) -> Result<Vec<Row>> {
    let (home, beside) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let (server, polls) = filled(home.path(), &intercom, &[]).await?;
    let bare = like(&server, beside.path(), &polls).await?;
    let peer = Server::express(&intercom)?;
    let peers = peer_polls(&intercom).await?;

    let (mut ours, mut bares, mut express) = (Turns::default(), Turns::default(), Turns::default());
    for _ in 0..effort.turns {
        ours.take(&server, &polls, effort).await?;
        bares.take(&bare, &polls, effort).await?;
        if let Some(peer) = &peer {
            express.take(peer, &peers, effort).await?;
            intercom.forget_calls();
        }
    }
    drop(peer);
    let (ratio, spread) = ours.to(&bares);
    let cost = median(&ratios(&bares.costs_us, &ours.costs_us));
    let mut rows = vec![
        ours.row("idle poll: this server", effort),
        bares.row("idle poll: bare axum handler, same bytes", effort),
        Row::new("idle poll, to the bare handler", ratio, "×").at_least(0.85).note(of_turns(effort, spread)),
        Row::new("the same, by processor time alone", cost.0, "×").note(of_turns(effort, cost.1)),
    ];
    if !express.rates.is_empty() {
        rows.push(express.row("idle poll: Express peer", effort));
        let (ratio, spread) = ours.to(&express);
        rows.push(Row::new("idle poll, to the Express peer", ratio, "×").at_least(60.0).note(of_turns(effort, spread)));
    }

    let per_second = ours.rate() / 2.0;
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    // Whatever else the machine does for some milliseconds is in the p99 of that turn: more and shorter ones tell it from what
    // the server does.
    let short = Effort { turn: effort.turn / 2, turns: effort.turns * 4 };
    for _ in 0..short.turns {
        for (server, all) in [(&server, &mut ours), (&bare, &mut bares)] {
            let pace = Pace::Open { per_second, time: short.turn };
            let mut rush = rush::run(server.address, &polls, CONNECTIONS, pace).await?;
            all.push(quantile(&mut rush.took, 0.99).as_secs_f64() * 1_000.0);
        }
    }
    let ratio = median(&ratios(&ours, &bares));
    let (ours, bares) = (median(&ours).0, median(&bares).0);
    let note = format!("bare handler {bares:.2} ms; both at {per_second:.0} requests/s, open loop");
    rows.push(Row::new("idle poll at half its peak: p99", ours, "ms").note(note));
    rows.push(Row::new("the same, to the bare handler's", ratio.0, "×").at_most(2.0).note(of_turns(short, ratio.1)));
    Ok(rows)
}

/// What it costs that a Prometheus looks, each second.
pub(crate) async fn measured(effort: Effort) -> Result<Vec<Row>> {
    let (home, beside) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let (server, polls) = filled(home.path(), &intercom, &[]).await?;
    let metrics = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let (watched, _) = filled(beside.path(), &intercom, &[("METRICS_ADDR", &metrics.to_string())]).await?;
    let (mut without, mut with) = (Turns::default(), Turns::default());
    for _ in 0..effort.turns {
        without.take(&server, &polls, effort).await?;
        let mut prometheus = Connection::open(metrics).await?;
        let looking = tokio::spawn(async move {
            loop {
                prometheus.exchange(&load::get("/metrics", "")).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            #[expect(unreachable_code, reason = "says what the task fails with")]
            std::io::Result::Ok(())
        });
        with.take(&watched, &polls, effort).await?;
        if looking.is_finished() {
            looking.await??;
        } else {
            looking.abort();
        }
    }
    let (ratio, spread) = with.to(&without);
    Ok(vec![Row::new("idle poll with metrics read each second, to without", ratio, "×").note(of_turns(effort, spread))])
}

/// What it costs idle polls that a collector is set, and those that their callers trace.
pub(crate) async fn traced(effort: Effort) -> Result<Vec<Row>> {
    let (home, beside) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let (server, polls) = filled(home.path(), &intercom, &[]).await?;
    let (collector, batches) = collector().await?;
    let (traced, _) = filled(beside.path(), &intercom, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)]).await?;
    let parent: &[u8] = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let by_callers: Requests = polls.iter().map(|poll| [&poll[..poll.len() - 2], parent].concat()).collect();
    let (mut without, mut with, mut each) = (Turns::default(), Turns::default(), Turns::default());
    for _ in 0..effort.turns {
        without.take(&server, &polls, effort).await?;
        with.take(&traced, &polls, effort).await?;
        each.take(&traced, &by_callers, effort).await?;
    }
    if batches.load(Ordering::Relaxed) == 0 {
        return Err("the collector got nothing".into());
    }
    let row = |what: &str, turns: &Turns| {
        let (ratio, spread) = turns.to(&without);
        let cost = median(&ratios(&turns.costs_us, &without.costs_us)).0;
        Row::new(what, ratio, "×").note(format!("{}; {cost:.2} × the processor time", of_turns(effort, spread)))
    };
    Ok(vec![
        row("idle poll with a collector of traces, to without", &with),
        row("the same, each traced by its caller", &each),
    ])
}

/// A collector of traces, which takes whatever comes; its address, and how many batches it has taken.
async fn collector() -> Result<(String, Arc<AtomicUsize>)> {
    let batches: Arc<AtomicUsize> = Arc::default();
    let taken = Arc::clone(&batches);
    let take = async move |_: axum::body::Bytes| {
        taken.fetch_add(1, Ordering::Relaxed);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((url, batches))
}

/// A server with a thousand conversations of as many users, each polled once, and those polls.
async fn filled(home: &Path, intercom: &Sandbox, settings: &[(&str, &str)]) -> Result<(Server, Requests)> {
    fill::fill(home, USERS, USERS).await?;
    let server = Server::awchat(home, intercom, &[ALONE, settings].concat())?;
    let polls = fill::polls(1, USERS + 1, USERS)?;
    rush::run(server.address, &polls, CONNECTIONS, Pace::Once).await?;
    Ok((server, polls))
}

/// A bare handler that answers as the server answers the first poll.
async fn like(server: &Server, folder: &Path, polls: &Requests) -> Result<Server> {
    let poll = || ask(server, &polls[0]);
    let answer = poll().await?;
    let own = ["content-length", "date"];
    let headers = answer.headers().iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let headers: Vec<_> =
        headers.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned()))).collect::<Result<_>>()?;
    let bare = Server::bare(folder, &headers, &answer.text().await?)?;
    let (mut ours, mut theirs) = (poll().await?, ask(&bare, &polls[0]).await?);
    // What changes from answer to answer: the time, the request, what is left of the limit.
    for name in ["date", "x-request-id", "ratelimit-remaining", "ratelimit-reset"] {
        let (ours, theirs) = (ours.headers_mut().remove(name), theirs.headers_mut().remove(name));
        if ours.map(|value| value.len()) != theirs.map(|value| value.len()) {
            return Err(format!("{name} differs").into());
        }
    }
    if ours.headers() != theirs.headers() || ours.bytes().await? != theirs.bytes().await? {
        return Err("the bare handler's answer is not the server's".into());
    }
    Ok(bare)
}

/// Sends a poll by an ordinary client.
async fn ask(server: &Server, poll: &[u8]) -> Result<reqwest::Response> {
    let head = std::str::from_utf8(poll)?;
    let path = head.split(' ').nth(1).ok_or("a path")?;
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: ")).ok_or("a token")?;
    let request = reqwest::Client::new().get(format!("{}{path}", server.url())).header("authorization", token);
    Ok(request.send().await?.error_for_status()?)
}

/// The peer asks Intercom, so its conversation must be there.
async fn peer_polls(intercom: &Sandbox) -> Result<Requests> {
    let contact = intercom.add_contact(Some("ada"), None);
    let id = intercom.operator().starts(&contact, "Hello! How can I help?").await;
    Ok([fill::poll(&id, &token("ada")?, 0)].into())
}

/// A million conversations and a hundred thousand active users, and a thousand of each, in turns.
pub(crate) async fn large(effort: Effort) -> Result<Vec<Row>> {
    let (few, many) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let (few, few_polls) = filled(few.path(), &intercom, &[]).await?;
    let users = 100 * USERS;
    fill::fill(many.path(), 10 * users, users).await?;
    let many = Server::awchat(many.path(), &intercom, ALONE)?;
    let many_polls = fill::polls(1, users + 1, users)?;
    rush::run(many.address, &many_polls, CONNECTIONS, Pace::Once).await?;
    // As much of the load's memory is used for few, so that it takes as long to send them.
    let few_polls: Requests = few_polls.iter().cycle().take(many_polls.len()).cloned().collect();
    let (mut of_few, mut of_many) = (Turns::default(), Turns::default());
    for _ in 0..effort.turns {
        of_few.take(&few, &few_polls, effort).await?;
        of_many.take(&many, &many_polls, effort).await?;
    }
    let (ratio, spread) = of_many.to(&of_few);
    Ok(vec![
        of_many.row("idle poll: this server, 1,000,000 conversations, 100,000 active users", effort),
        Row::new("the same, to 1,000 conversations and users", ratio, "×").at_least(0.9).note(of_turns(effort, spread)),
    ])
}
