//! Memory, and the time until a server with much in its database answers.

use std::time::{Duration, Instant};

use super::folder;
use crate::load::rush::{self, Pace};
use crate::load::{self, Connection};
use crate::report::Row;
use crate::servers::{ALONE, Server, intercom, token};
use crate::{Result, fill};

/// Polls and streams that wait at once.
const OPEN: u32 = 10_000;
/// Conversations whose heads are counted, and who asks for them.
const HEADS: u32 = 100_000;
const ASKERS: u32 = 1_000;

/// Bytes of each, of so many.
#[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
fn each(after: u64, before: u64, count: u32) -> f64 {
    after.saturating_sub(before) as f64 / f64::from(count)
}

/// Idle, per waiting long poll and event stream, per head.
pub(crate) async fn memory() -> Result<Vec<Row>> {
    let intercom = intercom().await?;
    let home = folder()?;
    fill::fill(home.path(), HEADS, ASKERS).await?;
    let server = Server::awchat(home.path(), &intercom, ALONE)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = server.memory()?;
    // What a first poll of each user needs is not the heads'.
    let polls = fill::polls(1, HEADS + 1, ASKERS)?;
    rush::run(server.address, &polls[..ASKERS as usize].into(), 16, Pace::Once).await?;
    let before = server.memory()?;
    rush::run(server.address, &polls, 16, Pace::Once).await?;
    let after = server.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let mut rows = vec![
        Row::new("memory: idle", idle as f64 / 1e6, "MB").at_most(30.0),
        Row::new("memory: a head", each(after, before, HEADS - ASKERS), "bytes")
            .at_most(400.0)
            .note(format!("{HEADS} heads")),
    ];
    drop(server);
    let home = folder()?;
    fill::fill(home.path(), OPEN, OPEN).await?;
    for (what, waits) in [("a waiting long poll", true), ("an event stream", false)] {
        let server = Server::awchat(home.path(), &intercom, ALONE)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = server.memory()?;
        let mut open = Vec::new();
        for n in 0..OPEN {
            // Conversation n is user n's, but for the last, which is the first user's.
            let token = token(&format!("user-{n}"))?;
            let id = if n == 0 { OPEN } else { n };
            let request =
                if waits { fill::poll(&id.to_string(), &token, 30) } else { load::get("/api/events", &token) };
            let mut connection = Connection::open(server.address).await?;
            connection.send(&request).await?;
            open.push(connection);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let kb = each(server.memory()?, before, OPEN) / 1e3;
        rows.push(Row::new(format!("memory: {what}"), kb, "KB").at_most(12.0).note(format!("{OPEN} open")));
        drop(open);
    }
    Ok(rows)
}

/// With a million messages, from nothing to the first answer.
pub(crate) async fn start() -> Result<Vec<Row>> {
    let intercom = intercom().await?;
    let home = folder()?;
    fill::fill(home.path(), 1_000_000, 100_000).await?;
    // The first start puts in order what the filling left.
    drop(Server::awchat(home.path(), &intercom, ALONE)?);
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let server = Server::awchat(home.path(), &intercom, ALONE)?;
        let mut connection = Connection::open(server.address).await?;
        connection.exchange(&fill::poll("1", &token("user-1")?, 0)).await?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    let (ms, spread) = load::median(&took);
    let note = format!("median of {}, ± {:.0} %", took.len(), spread * 100.0);
    Ok(vec![Row::new("start to the first poll answered, 1,000,000 messages", ms, "ms").at_most(150.0).note(note)])
}
