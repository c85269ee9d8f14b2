//! Uploads in a process of its own: killed in the middle, and many at once.

use std::time::{Duration, Instant};

use awchat::app::App;
use awchat::clock::Clock;
use awchat::worker;

use crate::files::stored;
use crate::harness::{bucket, world};
use crate::process::Server;

/// A document of so many bytes, another for each `n`.
fn document(n: usize, bytes: usize) -> Vec<u8> {
    let (head, end) = (format!("%PDF-1.7\n%{n:08}\n"), "\n%%EOF\n");
    [head.as_bytes(), &vec![b' '; bytes - head.len() - end.len()], end.as_bytes()].concat()
}

/// What this run keeps files in.
fn kept_in() -> String {
    bucket().map_or_else(|| "a directory".to_owned(), |bucket| format!("S3, {bucket}"))
}

#[tokio::test]
async fn files_are_kept_where_this_run_says() {
    let world = world().await;
    let is_bucket = matches!(world.app.config.files.storage, awchat::config::Storage::S3 { .. });
    assert_eq!(is_bucket, bucket().is_some());
    // One that goes to a bucket as it is, one that is exactly a part, and one of several.
    let part = 5 * 1024 * 1024;
    for (n, bytes) in [(1, 1_000), (2, part), (3, 2 * part + 1)] {
        let whole = document(n, bytes);
        let file = world.user("ada").uploads("a.txt", &whole).await.expect(201);
        let path = format!("/api/files/{}", file["id"].as_str().expect("an id"));
        assert!(world.user("ada").get(&path).await.bytes == whole, "{bytes} bytes come back changed");
        let end = world.user("ada").with("range", "bytes=-100").get(&path).await;
        assert!(end.status == 206 && end.bytes == whole[bytes - 100..], "{bytes} bytes: {}", end.status);
    }
    assert_eq!(stored(&world.app.config).await.len(), 3);
    println!("files are kept in {}", kept_in());
}

/// The files of ada that have a row; from the `from`th on, each is looked at: it is there, and whole.
async fn whole_files(server: &Server, from: usize, bytes: usize) -> usize {
    let ada = server.user("ada");
    let export = ada.call("GET", "/api/export", None, None).await.expect("the server answers").expect(200);
    let files = export["files"].as_array().expect("files");
    for file in files.iter().skip(from) {
        let path = format!("/api/files/{}", file["id"].as_str().expect("an id"));
        let answer = ada.call("GET", &path, None, None).await.expect("the server answers");
        let n = answer.text.get(10..18).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{}", answer.status));
        assert!(answer.status == 200 && answer.bytes == document(n, bytes), "upload {n}: {}", answer.status);
    }
    files.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_during_an_upload_no_row_is_without_its_object_and_what_has_no_row_is_swept() {
    const KILLS: u32 = 10;
    // In a bucket it is more than a part, so that a kill may fall between two.
    const BYTES: usize = 6_000_000;
    let mut server = Server::start(&[]).await;
    let began = Instant::now();
    server.user("ada").uploads("upload-0", &document(0, BYTES)).await.expect("the server answers").expect(201);
    let usual = began.elapsed();
    let mut unanswered = 0;
    for n in 1..=KILLS {
        let (ada, key, bytes) = (server.user("ada"), format!("upload-{n}"), document(n as usize, BYTES));
        let uploading = tokio::spawn(async move { ada.uploads(&key, &bytes).await });
        // From soon after it began until about when it is answered.
        tokio::time::sleep(usual * n / KILLS).await;
        server.kill();
        unanswered += usize::from(uploading.await.expect("no panic").is_err());
        server.up().await;
        whole_files(&server, n as usize, BYTES).await;
        let retry = server.user("ada").uploads(&format!("upload-{n}"), &document(n as usize, BYTES)).await;
        retry.expect("the server answers").expect(201);
    }
    let files = KILLS as usize + 1;
    assert_eq!(whole_files(&server, 0, BYTES).await, files, "each is there once");
    assert!(unanswered > 0, "no kill came during an upload");
    server.kill();
    // Two hours later.
    let clock = Clock::manual(Clock::system().now_ms() + 2 * 3_600_000);
    let app = App::open(server.config(), clock).await.expect("the server opens its database");
    let left = stored(&app.config).await.len() - files;
    worker::keep_house(&app).await.expect("the house is kept");
    assert_eq!(stored(&app.config).await.len(), files, "what has no row is gone, and nothing else");
    println!(
        "{KILLS} kills during uploads, {unanswered} of them unanswered: 0 rows without their object, every file once \
         after the retry, {left} left behind and swept ({})",
        kept_in()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_at_once_take_little_memory() {
    const MIB: usize = 1024 * 1024;
    // What uploads may take together, whatever they bring.
    const MOST_KIB: u64 = 64 * 1024;
    let soak = std::env::var_os("AWCHAT_SOAK").is_some();
    // Eight of them together are more than that.
    let (uploads, bytes) = if soak { (50, 20 * MIB) } else { (10, 12 * MIB) };
    let server = Server::start(&[]).await;
    let idle_kib = server.held_kib();
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..uploads {
        let user = server.user(&format!("user-{}", n / 2));
        clients.spawn(async move {
            let body = document(n, bytes);
            let mut turned_away = 0_usize;
            loop {
                match user.uploads(&format!("k{n}"), &body).await {
                    Ok(answer) if answer.status == 201 => return turned_away,
                    Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text),
                    // The connection of an upload that is not taken is closed.
                    Err(error) => assert!(!error.is_connect() && !error.is_timeout(), "{error:?}"),
                }
                turned_away += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let turned_away: usize = clients.join_all().await.into_iter().sum();
    let took = began.elapsed();
    let more_kib = server.peak_kib().saturating_sub(idle_kib);
    let mib = uploads * bytes / MIB;
    println!(
        "{uploads} uploads of {} MiB at once: peak memory {:.1} MiB above idle ({:.1} MiB); {mib} MiB in {:.1} s, {:.0} \
         MiB/s; 8 taken at a time, told {turned_away} times to come again ({})",
        bytes / MIB,
        more_kib as f64 / 1024.0,
        idle_kib as f64 / 1024.0,
        took.as_secs_f64(),
        mib as f64 / took.as_secs_f64(),
        kept_in()
    );
    assert!(more_kib <= MOST_KIB, "{more_kib} KiB: it holds files");
}
