//! What there is to compare with: handlers that do nothing but answer, in a process of their own.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::{get, post};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::Result;

/// Answers every poll with the bytes of `answer` (a file with JSON: `headers`, pairs; `body`, a text), and keeps what is
/// uploaded. Prints where it listens.
pub(crate) async fn serve(answer: &str) -> Result<()> {
    let answer: Value = serde_json::from_str(&std::fs::read_to_string(answer)?)?;
    let mut headers = HeaderMap::new();
    for pair in answer["headers"].as_array().into_iter().flatten() {
        let (name, value) = (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let body = Bytes::from(answer["body"].as_str().unwrap_or_default().to_owned());
    let folder = tempfile::tempdir()?;
    let kept = folder.path().join("kept");
    let routes = Router::new()
        .route("/api/conversations/{id}/poll", get(move || std::future::ready((headers.clone(), body.clone()))))
        .route("/api/files/upload", post(async move |request: Request| keep(request, &kept).await.is_ok().to_string()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

/// Writes a body to the disk, and waits until it is there.
async fn keep(request: Request, path: &std::path::Path) -> Result<()> {
    let name = request.headers().get("authorization").map(|token| token.as_bytes().len()).unwrap_or_default();
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let path = path.with_extension(format!("{name}-{at}"));
    let mut file = File::create(&path).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        file.write_all(&piece?).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(tokio::fs::remove_file(path).await?)
}
