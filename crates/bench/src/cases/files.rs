//! Uploads, against a handler that does no more than keep the bytes.

use super::{folder, of_turns};
use crate::load::{self, Requests, median};
use crate::report::Row;
use crate::servers::{Server, intercom, token};
use crate::{Effort, Result};

const FILE_BYTES: usize = 8 << 20;
const CONNECTIONS: usize = 4;

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
        ours.push(load::closed(server.address, &requests, CONNECTIONS, effort.turn).await?);
        bares.push(load::closed(bare.address, &requests, CONNECTIONS, effort.turn).await?);
    }
    let ratio = median(&ours.iter().zip(&bares).map(|(ours, bare)| ours / bare).collect::<Vec<_>>());
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    let megabytes = median(&ours).0 * form.len() as f64 / 1e6;
    Ok(vec![
        Row::new("uploads of 8 MiB", megabytes, "MB/s").note(of_turns(effort, median(&ours).1)),
        Row::new("the same, to a handler that only writes them", ratio.0, "×")
            .at_least(0.6)
            .note(of_turns(effort, ratio.1)),
    ])
}
