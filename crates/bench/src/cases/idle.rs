//! Idle polls: against a bare handler and the Express peer, and in a large database.

use sandbox::Sandbox;

use super::{folder, of_turns};
use crate::load::{self, Requests, median, quantile};
use crate::report::Row;
use crate::servers::{ALONE, Server, intercom, token};
use crate::{Effort, Result, fill};

const USERS: u32 = 1_000;
const CONNECTIONS: usize = 64;

/// This server, the bare handler and the peer in turns.
pub(crate) async fn compared(effort: Effort) -> Result<Vec<Row>> {
    let (home, beside) = (folder()?, folder()?);
    let intercom = intercom().await?;
    fill::fill(home.path(), USERS, USERS).await?;
    let server = Server::awchat(home.path(), &intercom, ALONE)?;
    let polls = fill::polls(1, USERS + 1, USERS)?;
    load::once(server.address, &polls, CONNECTIONS).await?;
    let bare = like(&server, beside.path(), &polls).await?;
    let peer = Server::express(&intercom)?;
    let peers = peer_polls(&intercom).await?;

    let (mut ours, mut bares, mut express) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.turns {
        ours.push(load::closed(server.address, &polls, CONNECTIONS, effort.turn).await?);
        bares.push(load::closed(bare.address, &polls, CONNECTIONS, effort.turn).await?);
        if let Some(peer) = &peer {
            express.push(load::closed(peer.address, &peers, CONNECTIONS, effort.turn).await?);
            intercom.forget_calls();
        }
    }
    let ratios =
        |others: &[f64]| median(&ours.iter().zip(others).map(|(ours, other)| ours / other).collect::<Vec<_>>());
    let (peak, spread) = median(&ours);
    let mut rows = vec![
        Row::new("idle poll: this server", peak, "requests/s").note(of_turns(effort, spread)),
        Row::new("idle poll: bare axum handler, same bytes", median(&bares).0, "requests/s")
            .note(of_turns(effort, median(&bares).1)),
    ];
    let (ratio, spread) = ratios(&bares);
    rows.push(Row::new("idle poll, to the bare handler", ratio, "×").at_least(0.85).note(of_turns(effort, spread)));
    if !express.is_empty() {
        let (rate, spread) = median(&express);
        rows.push(Row::new("idle poll: Express peer", rate, "requests/s").note(of_turns(effort, spread)));
        let (ratio, spread) = ratios(&express);
        rows.push(Row::new("idle poll, to the Express peer", ratio, "×").at_least(60.0).note(of_turns(effort, spread)));
    }

    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..effort.turns {
        for (to, all) in [(server.address, &mut ours), (bare.address, &mut bares)] {
            let mut took = load::open(to, &polls, CONNECTIONS, peak / 2.0, effort.turn).await?;
            all.push(quantile(&mut took, 0.99).as_secs_f64() * 1_000.0);
        }
    }
    let ratio = median(&ours.iter().zip(&bares).map(|(ours, bare)| ours / bare).collect::<Vec<_>>());
    rows.push(Row::new("idle poll at half its peak: p99", median(&ours).0, "ms").note("open loop"));
    rows.push(Row::new("the same, to the bare handler's", ratio.0, "×").at_most(2.0).note(of_turns(effort, ratio.1)));
    Ok(rows)
}

/// A bare handler that answers as the server answers the first poll.
async fn like(server: &Server, folder: &std::path::Path, polls: &Requests) -> Result<Server> {
    let head = String::from_utf8(polls[0].clone())?;
    let path = head.split(' ').nth(1).ok_or("a path")?;
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: ")).ok_or("a token")?;
    let answer = reqwest::Client::new()
        .get(format!("{}{path}", server.url()))
        .header("authorization", token)
        .send()
        .await?
        .error_for_status()?;
    let own = ["content-length", "date"];
    let headers = answer.headers().iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let headers: Vec<_> =
        headers.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned()))).collect::<Result<_>>()?;
    Server::bare(folder, &headers, &answer.text().await?)
}

/// The peer asks Intercom, so its conversation must be there.
async fn peer_polls(intercom: &Sandbox) -> Result<Requests> {
    let contact = intercom.add_contact(Some("ada"), None);
    let id = intercom.operator().starts(&contact, "Hello! How can I help?").await;
    Ok([fill::poll(&id, &token("ada")?, 0)].into())
}

/// A million conversations and a hundred thousand active users, and a thousand of each, in turns.
pub(crate) async fn large(effort: Effort) -> Result<Vec<Row>> {
    let (small, large) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let many = 100_000;
    fill::fill(small.path(), USERS, USERS).await?;
    fill::fill(large.path(), 10 * many, many).await?;
    let small = (Server::awchat(small.path(), &intercom, ALONE)?, fill::polls(1, USERS + 1, USERS)?);
    let large = (Server::awchat(large.path(), &intercom, ALONE)?, fill::polls(1, many + 1, many)?);
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    for (server, polls) in [&small, &large] {
        load::once(server.address, polls, CONNECTIONS).await?;
    }
    for _ in 0..effort.turns {
        for ((server, polls), rates) in [(&small, &mut of_small), (&large, &mut of_large)] {
            rates.push(load::closed(server.address, polls, CONNECTIONS, effort.turn).await?);
        }
    }
    let ratio = median(&of_large.iter().zip(&of_small).map(|(large, small)| large / small).collect::<Vec<_>>());
    let what = "idle poll: this server, 1,000,000 conversations, 100,000 active users";
    Ok(vec![
        Row::new(what, median(&of_large).0, "requests/s").note(of_turns(effort, median(&of_large).1)),
        Row::new("the same, to 1,000 conversations and users", ratio.0, "×")
            .at_least(0.9)
            .note(of_turns(effort, ratio.1)),
    ])
}
