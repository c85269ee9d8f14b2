//! Uploads, against a handler that does no more than keep the bytes.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{folder, of_turns};
use crate::load::{self, Connection, Requests, median};
use crate::report::Row;
use crate::servers::{Server, intercom, token};
use crate::{Effort, Result};

const FILE_BYTES: usize = 8 << 20;
const CONNECTIONS: usize = 4;
/// Uploads of a turn, per connection: what is kept must fit on the disk.
const UPLOADS: usize = 8;

/// The same forms, to the server and to the bare handler, which both have them on the disk when they answer.
pub(crate) async fn uploads(effort: Effort) -> Result<Vec<Row>> {
    let (home, beside) = (folder()?, folder()?);
    let intercom = intercom().await?;
    let server = Server::awchat(home.path(), &intercom, &[])?;
    let bare = Server::bare(beside.path(), &[], "")?;
    let line = "Everything that was said, line by line, to be kept as it is.\n";
    let text = line.repeat(FILE_BYTES / line.len());
    let form = format!(
        "--limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"log.txt\"\r\ncontent-type: text/plain\r\n\r\n\
         {text}\r\n--limit--\r\n"
    );
    let kind = "multipart/form-data; boundary=limit";
    let requests: Requests = (0..CONNECTIONS)
        .map(|n| Ok(load::post("/api/files/upload", &token(&format!("user-{n}"))?, kind, form.as_bytes())))
        .collect::<Result<_>>()?;
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..effort.turns {
        ours.push(turn(&server, &requests).await?);
        bares.push(turn(&bare, &requests).await?);
    }
    let ratio = median(&ours.iter().zip(&bares).map(|(ours, bare)| ours / bare).collect::<Vec<_>>());
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    let [ours, bares] = [ours, bares].map(|uploads| (median(&uploads).0 * form.len() as f64 / 1e6, median(&uploads).1));
    let note = |spread| format!("{CONNECTIONS} connections, fsync before the answer; {}", of_turns(effort, spread));
    Ok(vec![
        Row::new("uploads of 8 MiB: this server", ours.0, "MB/s").note(note(ours.1)),
        Row::new("uploads of 8 MiB: a handler that only writes them", bares.0, "MB/s").note(note(bares.1)),
        Row::new("uploads, to that handler", ratio.0, "×").at_least(0.6).note(of_turns(effort, ratio.1)),
    ])
}

/// Uploads per second.
async fn turn(server: &Server, requests: &Requests) -> Result<f64> {
    let mut clients = JoinSet::new();
    let (to, began) = (server.address, Instant::now());
    for at in 0..CONNECTIONS {
        let requests = requests.clone();
        clients.spawn(async move {
            let mut connection = Connection::open(to).await?;
            for _ in 0..UPLOADS {
                connection.exchange(&requests[at]).await?;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few uploads")]
    Ok((CONNECTIONS * UPLOADS) as f64 / began.elapsed().as_secs_f64())
}
