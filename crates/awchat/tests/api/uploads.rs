//! Uploads in a process of its own: killed in the middle, and many at once.

use std::path::Path;
use std::time::Duration;

use crate::harness::World;
use crate::process::Server;

/// A text of so many bytes, another for each `n`.
fn text(n: usize, bytes: usize) -> Vec<u8> {
    format!("{n:08}\n").into_bytes().into_iter().cycle().take(bytes).collect()
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .map(|entry| entry.expect("an entry").path())
            .map(|path| if path.is_dir() { count(&path) } else { 1 })
            .sum()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_killed_is_there_once_after_the_retry() {
    const KILLS: usize = 10;
    const BYTES: usize = 400_000;
    let mut server = Server::start(&[]).await;
    let mut ids = Vec::new();
    for n in 0..KILLS {
        let (ada, key, bytes) = (server.user("ada"), format!("upload-{n}"), text(n, BYTES));
        let uploading = tokio::spawn({
            let (ada, key, bytes) = (ada.clone(), key.clone(), bytes.clone());
            async move { ada.uploads(&key, &bytes).await }
        });
        // From before it has arrived until after it was answered.
        tokio::time::sleep(Duration::from_millis(n as u64 * 25)).await;
        server.kill();
        let _ = uploading.await.expect("no panic");
        server.up().await;
        let answer = server.user("ada").uploads(&key, &bytes).await.expect("the server answers").expect(201);
        ids.push(answer["id"].as_str().expect("an id").to_owned());
    }
    let ada = server.user("ada");
    for (n, id) in ids.iter().enumerate() {
        let answer = ada.call("GET", &format!("/api/files/{id}"), None, None).await.expect("the server answers");
        assert!(answer.status == 200 && answer.bytes == text(n, BYTES), "upload {n}: {}", answer.status);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), KILLS, "each is a file of its own");
    // What a kill leaves is swept an hour later; one kill leaves one object and one half-written file at most.
    let left = count(&server.files()) - KILLS;
    assert!(left <= 2 * KILLS, "{left} left behind");
    println!("{KILLS} kills during uploads: every file whole and once after the retry, {left} orphans for the sweep");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_at_once_take_little_memory() {
    let soak = std::env::var_os("AWCHAT_SOAK").is_some();
    let (uploads, bytes) = if soak { (50, 20 * 1024 * 1024) } else { (24, 4 * 1024 * 1024) };
    let server = Server::start(&[("RATE_LIMIT_BURST", "100000"), ("RATE_LIMIT_PER_MINUTE", "600000")]).await;
    // What the process takes once it has taken one.
    server.user("warm").uploads("k", &text(0, bytes)).await.expect("the server answers").expect(201);
    let before_kib = server.held_kib();
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..uploads {
        let user = server.user(&format!("user-{}", n / 2));
        clients.spawn(async move {
            let body = text(n, bytes);
            let mut turned_away = 0_usize;
            loop {
                match user.uploads(&format!("k{n}"), &body).await {
                    Ok(answer) if answer.status == 201 => return turned_away,
                    Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text),
                    // The connection of an upload that is not taken is closed.
                    Err(error) => assert!(!error.is_connect(), "{error:?}"),
                }
                turned_away += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let turned_away: usize = clients.join_all().await.into_iter().sum();
    let more_kib = server.peak_kib().saturating_sub(before_kib);
    println!(
        "{uploads} uploads of {} MiB at once: 8 taken at a time ({turned_away} told to come again), {more_kib} KiB more memory, {} for each",
        bytes / 1024 / 1024,
        more_kib / 8
    );
    assert!(more_kib < 24 * 1024, "{more_kib} KiB: it holds files");
}

#[tokio::test]
async fn a_bucket_keeps_files_as_a_directory_does() {
    let Ok(endpoint) = std::env::var("AWCHAT_TEST_S3") else {
        eprintln!("SKIPPED: nothing is kept in a bucket: AWCHAT_TEST_S3 names no S3 server that takes any key");
        return;
    };
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let made = http.put(format!("{endpoint}/chat-files")).send().await.expect("the S3 server answers");
    assert!(made.status().is_success(), "{}", made.status());
    let settings = [
        ("STORAGE_URL", "s3://chat-files/deep/er"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    let world = World::begin(&settings, false).await;
    let ada = world.user("ada");
    // One that goes in one piece, and one that goes in several.
    for (n, bytes) in [(1, 1_000), (2, 12_000_000)] {
        let whole = text(n, bytes);
        let file = ada.uploads("a.txt", &whole).await.expect(201);
        let path = format!("/api/files/{}", file["id"].as_str().expect("an id"));
        assert!(ada.get(&path).await.bytes == whole);
        let part = world.user("ada").with("range", "bytes=500-599").get(&path).await;
        assert_eq!(part.status, 206);
        assert!(part.bytes == whole[500..600]);
    }
    let storage = world.app.files.storage();
    let objects = storage.older_than(Duration::ZERO, world.clock.now_ms() + 60_000).await.expect("listed");
    assert_eq!(objects.len(), 2);
    world.clock.advance(25 * 3_600_000);
    awchat::worker::keep_house(&world.app).await.expect("the house is kept");
    let objects = storage.older_than(Duration::ZERO, world.clock.now_ms()).await.expect("listed");
    assert_eq!(objects, [], "no message has them");
    println!("S3 at {endpoint}: files kept, read whole and in part, and removed");
}
