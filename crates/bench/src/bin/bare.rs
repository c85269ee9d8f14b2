//! What there is to compare with: handlers that do nothing but answer, in a program of their own, as it comes: without the
//! allocator that the server and the load have.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Answers every poll with the bytes of the file that it is given (JSON: `headers`, pairs; `body`, a text), and keeps what is
/// uploaded, in its folder. Prints where it listens.
#[tokio::main]
async fn main() -> Result<()> {
    let answer = std::env::args().nth(1).ok_or("a file with an answer")?;
    let folder = Path::new(&answer).parent().ok_or("a file in a folder")?;
    let answer: Value = serde_json::from_str(&std::fs::read_to_string(&answer)?)?;
    let mut headers = HeaderMap::new();
    for pair in answer["headers"].as_array().into_iter().flatten() {
        let (name, value) = (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let body = Bytes::from(answer["body"].as_str().unwrap_or_default().to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    // As the server does.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, routes(headers, body, folder)).await?;
    Ok(())
}

/// The bare handlers.
fn routes(headers: HeaderMap, body: Bytes, folder: &Path) -> Router {
    let (folder, count) = (PathBuf::from(folder), std::sync::Arc::new(AtomicU64::new(0)));
    let next = move || folder.join(format!("kept-{}", count.fetch_add(1, Ordering::Relaxed)));
    Router::new()
        .route("/api/conversations/{id}/poll", get(move || std::future::ready((headers.clone(), body.clone()))))
        .route(
            "/api/files/upload",
            post(async move |request: Request| keep(request, &next()).await.is_ok().to_string()),
        )
}

/// Writes a body to the disk, and waits until it is there.
async fn keep(request: Request, path: &Path) -> Result<()> {
    let mut file = File::create(path).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        file.write_all(&piece?).await?;
    }
    file.flush().await?;
    Ok(file.sync_all().await?)
}
