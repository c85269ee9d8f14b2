//! Forms with a file: however a body is cut in pieces, the same comes of it.

#![no_main]

use std::sync::LazyLock;

use awchat::api::files::upload;
use awchat::config::Config;
use awchat::files::Files;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const MAX_BYTES: u64 = 1_000;

static WORLD: LazyLock<(Runtime, Files)> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("awchat-fuzz-{}", std::process::id()));
    let storage = format!("file://{}", folder.display());
    let setting = |name: &str| match name {
        "STORAGE_URL" => Some(storage.clone()),
        "SESSION_JWT_SECRETS" => Some("a-session-secret-for-fuzzing-0123456789".to_owned()),
        "FILE_URL_SECRETS" => Some("a-secret-of-files-for-fuzzing-0123456789".to_owned()),
        "INTERCOM_ACCESS_TOKEN" | "INTERCOM_CLIENT_SECRET" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        "INTERCOM_ADMIN_ID" => Some("1".to_owned()),
        _ => None,
    };
    let config = Config::from_lookup(&setting).expect("settings that hold");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    (runtime, Files::open(&config).expect("a folder"))
});

/// What is told of a form whose body comes in pieces of so many bytes: what came of the file, or why it is refused.
fn outcome(body: &[u8], piece: usize) -> Result<(u64, Option<String>), String> {
    let (runtime, files) = &*WORLD;
    let pieces: Vec<_> =
        body.chunks(piece).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let request = Request::post("/").header("content-type", "multipart/form-data; boundary=b");
    let request = request.body(Body::from_stream(stream::iter(pieces))).expect("a request");
    let received = runtime.block_on(upload::receive(files, request, MAX_BYTES));
    let upload = received.map_err(|error| format!("{error:?}"))?;
    Ok((upload.file.len(), upload.name))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, body)) = bytes.split_first() else { return };
    let whole = outcome(body, usize::MAX);
    let pieces = outcome(body, usize::from(piece).max(1));
    // Of two faults in one form the one or the other is told, as they arrive.
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "in pieces of {piece} bytes");
    if let Ok((len, _)) = whole {
        assert!(len <= MAX_BYTES && len <= body.len() as u64);
    }
});
