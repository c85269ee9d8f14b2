//! Files: upload, download, attachments both ways.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use awchat::config::{Config, Storage};
use awchat::files::storage::Key;
use awchat::id::UserId;
use awchat::{files, worker};
use futures_util::TryStreamExt;
use sandbox::{Fault, Kind, Upload};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Client, World, bucket, eventually, world};

/// A file that `scripts/fixtures` made.
fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures").join(name);
    std::fs::read(path).expect("scripts/fixtures makes the files that these tests need")
}

/// All files of a folder that `scripts/fixtures` made, by name.
fn fixtures(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures").join(folder);
    let entries = std::fs::read_dir(path).expect("scripts/fixtures makes the files that these tests need");
    let names = entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned());
    names.map(|name| (name.clone(), fixture(&format!("{folder}/{name}")))).collect()
}

/// The path and query of a signed address.
fn path_of(url: &Value) -> String {
    let url = url.as_str().expect("an address");
    format!("/files/{}", url.split_once("/files/").expect("a signed address").1)
}

async fn uploaded(client: &Client<'_>, name: &str, bytes: &[u8]) -> Value {
    client.uploads(name, bytes).await.expect(201)
}

fn id(file: &Value) -> &str {
    file["id"].as_str().expect("an id")
}

/// Names of the objects of the storage; in a directory also of files on their way there.
pub(crate) async fn stored(config: &Config) -> Vec<String> {
    let Storage::Local(root) = &config.files.storage else {
        let bucket = files::storage::Storage::open(&config.files.storage).expect("a bucket");
        let all = bucket.older_than(Duration::ZERO, i64::MAX).await.expect("a list");
        return all.map_ok(|key| key.as_str().to_owned()).try_collect().await.expect("listed");
    };
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    found
}

/// How many there are.
async fn count(world: &World) -> usize {
    stored(&world.app.config).await.len()
}

// ---- up ----

#[tokio::test]
async fn every_kind_of_file_goes_up_and_comes_back_as_what_it_is() {
    let world = world().await;
    let ada = world.user("ada");
    for (name, given, shown, content_type, how) in [
        ("clean/magick.jpg", "photo.jpg", "photo.jpg", "image/jpeg", "inline"),
        ("clean/pillow.png", "invoice.exe", "invoice.exe.png", "image/png", "inline"),
        ("clean/ffmpeg-animated.gif", "wave.gif", "wave.gif", "image/gif", "inline"),
        ("clean/cwebp.webp", "a.webp", "a.webp", "image/webp", "inline"),
        ("clean/magick-3.bmp", "a.bmp", "a.bmp", "image/bmp", "inline"),
        ("clean/chromium.pdf", "receipt.pdf", "receipt.pdf", "application/pdf", "attachment"),
        ("clean/x264.mp4", "film.mp4", "film.mp4", "video/mp4", "inline"),
        ("clean/crlf.txt", "page.html", "page.html.txt", "text/plain; charset=utf-8", "attachment"),
    ] {
        let bytes = fixture(name);
        let file = uploaded(&ada, given, &bytes).await;
        assert_eq!((&file["name"], &file["contentType"]), (&json!(shown), &json!(content_type)));
        assert_eq!(file["size"], bytes.len());
        let by_owner = ada.get(&format!("/api/files/{}", id(&file))).await;
        let by_address = world.nobody().get(&path_of(&file["url"])).await;
        for answer in [by_owner, by_address] {
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(answer.bytes == bytes, "{name} comes back changed");
            let header = |name| answer.header(name).unwrap_or_default().to_owned();
            assert_eq!(header("content-type"), content_type);
            assert_eq!(header("content-disposition"), format!("{how}; filename=\"{shown}\""));
            assert_eq!(header("content-length"), bytes.len().to_string());
            assert_eq!(header("etag"), format!("\"{}\"", hex::encode(Sha256::digest(&bytes))));
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("content-security-policy"), "default-src 'none'; sandbox");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cache-control"), "private, no-store");
            assert_eq!(header("accept-ranges"), "bytes");
        }
    }
}

#[tokio::test]
async fn what_a_photo_tells_of_its_maker_is_not_kept() {
    let world = world().await;
    let ada = world.user("ada");
    let photo = fixture("accepted/camera-Apple.jpg");
    let file = uploaded(&ada, "home.jpg", &photo).await;
    let kept = world.nobody().get(&path_of(&file["url"])).await.bytes;
    let holds = |bytes: &[u8], words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    for words in [&b"iPhone"[..], b"Essen", b"Somebody", b"made at home"] {
        assert!(holds(&photo, words) && !holds(&kept, words), "{}", String::from_utf8_lossy(words));
    }
    assert_eq!(file["size"], kept.len());
    assert_eq!(count(&world).await, 1, "what arrived is not kept beside it");
}

#[tokio::test]
async fn files_of_many_makers_are_taken_and_clean_ones_come_back_as_they_were() {
    let world = world().await;
    let ada = world.user("ada");
    let (clean, others) = (fixtures("clean"), fixtures("accepted"));
    let mut makers: BTreeMap<String, usize> = BTreeMap::new();
    let all = clean.iter().map(|file| (file, true)).chain(others.iter().map(|file| (file, false)));
    for ((name, bytes), is_clean) in all {
        let file = uploaded(&ada, name, bytes).await;
        let kept = ada.get(&format!("/api/files/{}", id(&file))).await;
        assert_eq!((kept.status, &file["name"]), (200, &json!(name)));
        let is_same = Sha256::digest(&kept.bytes) == Sha256::digest(bytes);
        assert!(is_same || !is_clean, "{name} comes back changed");
        *makers.entry(file["contentType"].to_string()).or_default() += 1;
    }
    assert_eq!(makers.len(), 8, "{makers:?}");
    assert!(makers.values().all(|count| *count >= 3), "{makers:?}");
    println!(
        "{} files of 8 types taken, each type of 3 makers or more; {} without metadata come back the same by SHA-256",
        clean.len() + others.len(),
        clean.len()
    );
}

#[tokio::test]
async fn other_files_are_refused_whatever_they_are_called() {
    let world = world().await;
    let ada = world.user("ada");
    let refused = fixtures("refused");
    let foreign = refused.iter().map(|(name, bytes)| (name.clone(), "photo.jpg".to_owned(), bytes.clone()));
    // A text that is cut off is a text.
    let whole = fixtures("clean").into_iter().filter(|(name, _)| !name.ends_with(".txt"));
    let cut_off = whole.map(|(name, bytes)| (format!("half of {name}"), name, bytes[..bytes.len() / 2].to_vec()));
    let bad: Vec<_> = foreign.chain(cut_off).collect();
    for (what, name, bytes) in &bad {
        let message = ada.uploads(name, bytes).await.expect_error(400, "validation_error");
        let is_rule = message.starts_with("file: ") && ["must", "may"].iter().any(|word| message.contains(word));
        assert!(is_rule, "{what}: {message}");
    }
    for (name, rule) in [
        ("script.svg", "TXT: must not be a page"),
        ("archive.zip", "TXT:"),
        ("picture.heic", "MP4: must not be HEIC"),
        ("film.mov", "MP4: must not be HEIC, AVIF or QuickTime"),
        ("empty.txt", "TXT: must not be empty"),
    ] {
        let message = ada.uploads("photo.jpg", &refused[name]).await.expect_error(400, "validation_error");
        assert!(message.contains(rule), "{name}: {message}");
    }
    assert_eq!(count(&world).await, 0);
    assert!(bad.len() >= 60, "{}", bad.len());
    println!("{} bad files under good names: each 400 validation_error, naming its rule", bad.len());
}

#[tokio::test]
async fn a_form_has_one_file_and_little_else() {
    let world = world().await;
    let ada = world.user("ada");
    let part = |name: &str, content: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.txt\"\r\n\r\n{content}\r\n")
    };
    let file = part("file", "hello");
    let long_head = format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"\r\nx: {}\r\n\r\nhello\r\n--b--\r\n",
        "x".repeat(9_000)
    );
    let endless_head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"\r\nx: {}", "x".repeat(300_000));
    for (form, status) in [
        (format!("{file}--b--\r\n"), 201),
        (format!("{}{file}{}--b--", part("note", "x"), part("note", "y")), 201),
        (format!("{}{file}--b--\r\n", part("note", "x").repeat(7)), 201),
        (format!("{}{file}--b--\r\n", part("note", "x").repeat(8)), 400),
        (format!("{file}{file}--b--\r\n"), 400),
        (format!("{}--b--\r\n", part("document", "hello")), 400),
        (format!("{}{file}--b--\r\n", part("note", &"x".repeat(65_537))), 400),
        ("--b--\r\n".to_owned(), 400),
        (String::new(), 400),
        ("hello".to_owned(), 400),
        (file.clone(), 400),
        (long_head, 400),
        (endless_head, 400),
        (format!("{}--b--\r\n", part("file", "")), 400),
    ] {
        let answer = ada.sends_form("b", form.clone().into()).await;
        assert_eq!(answer.status, status, "{} {}", &form[..form.len().min(400)], answer.text);
    }
    ada.sends_form(&"b".repeat(71), format!("{file}--b--").into()).await.expect_error(400, "bad_request");
    ada.post("/api/files/upload", json!({ "file": "hello" })).await.expect_error(400, "bad_request");
    world.nobody().uploads("a.txt", b"hello").await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn the_largest_file_is_exact_to_the_byte() {
    const MIB: usize = 1024 * 1024;
    let world = World::begin(&[("MAX_FILE_MB", "1")], false).await;
    let ada = world.user("ada");
    let file = uploaded(&ada, "a.txt", &vec![b'x'; MIB]).await;
    assert_eq!(file["size"], MIB);
    let refused = ada.uploads("a.txt", &vec![b'x'; MIB + 1]).await.expect_error(400, "validation_error");
    assert_eq!(refused, "file: at most 1048576 bytes");
    // A length that tells of far too much is refused unread; one that lies is not believed.
    let head = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n";
    let endless = futures_util::stream::iter(0..)
        .map(move |n| Ok::<_, std::io::Error>(if n == 0 { head.to_owned() } else { "x".repeat(10_000) }));
    use futures_util::StreamExt;
    let answer = ada.sends_form("b", reqwest::Body::wrap_stream(endless.take(1_000))).await;
    answer.expect_error(400, "validation_error");
    let token = world.token("ada");
    let address = world.url.strip_prefix("http://").expect("an address");
    for length in [1_048_576 + 65_537, 99_999_999_999_u64] {
        let mut socket = TcpStream::connect(address).await.expect("the server listens");
        let request = format!(
            "POST /api/files/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\
             content-type: multipart/form-data; boundary=b\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("an answer before the body");
        assert_eq!(&answer, b"HTTP/1.1 400", "{length}");
    }
    assert_eq!(count(&world).await, 1, "nothing is left of what was refused");
}

/// An upload that has begun, and what has arrived of its file.
async fn begins(world: &World, file: &[u8]) -> TcpStream {
    let address = world.url.strip_prefix("http://").expect("an address");
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST /api/files/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 20000000\r\n\
         content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n",
        world.token("ada")
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(file).await.expect("sent");
    socket
}

#[tokio::test]
async fn a_user_has_two_uploads_at_once_and_a_client_that_goes_leaves_nothing() {
    let world = world().await;
    let arriving = [begins(&world, &[b'x'; 100_000]).await, begins(&world, b"x").await];
    let has_place = || world.app.files.place(&UserId::parse("ada").expect("an id")).is_ok();
    eventually("two uploads arrive", async || !has_place()).await;
    let refused = world.user("ada").uploads("a.txt", b"hello").await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.expect_error(429, "rate_limited");
    // In a directory they can be seen; beside a bucket they have no name.
    let named = if bucket().is_none() { 2 } else { 0 };
    eventually("both can be seen, or none", async || count(&world).await == named).await;
    uploaded(&world.user("bob"), "a.txt", b"hello").await;
    drop(arriving);
    eventually("the two are gone", async || count(&world).await == 1 && has_place()).await;
    uploaded(&world.user("ada"), "a.txt", b"hello").await;
}

#[tokio::test]
async fn a_form_that_drips_is_given_up_within_ten_seconds() {
    let world = world().await;
    let mut socket = begins(&world, &[b'x'; 20_000]).await;
    let began = Instant::now();
    let mut answer = String::new();
    let mut reading = std::pin::pin!(async {
        let (mut from, mut to) = socket.split();
        let drips = async {
            while to.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            std::future::pending().await
        };
        tokio::select! { read = from.read_to_string(&mut answer) => read, read = drips => read }
    });
    // A connection's time is real: what is at hand of an answer is there before the connection ends.
    let _cut_off = tokio::time::timeout(Duration::from_secs(60), &mut reading).await.expect("it ends");
    assert!((8..30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    eventually("nothing is left", async || count(&world).await == 0).await;
}

#[tokio::test]
async fn a_form_that_comes_too_slowly_is_given_up_at_its_deadline() {
    // Where one can see what has arrived of a file.
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}", folder.path().display());
    let world = World::begin(&[("STORAGE_URL", &url)], false).await;
    let arrived = || {
        let mut entries = std::fs::read_dir(folder.path().join("incoming")).expect("a folder");
        entries.next().map_or(0, |entry| entry.expect("an entry").metadata().map_or(0, |file| file.len()))
    };
    // Enough for the connection to have earned more time than the form has: 30 s, and 1 s for each 64 KiB of 20 MiB.
    let mut socket = begins(&world, &vec![b'x'; 8_000_000]).await;
    eventually("most has arrived", async || arrived() > 7_000_000).await;
    world.clock.advance(349_000);
    socket.write_all(&[b'x'; 500_000]).await.expect("it is still taken");
    eventually("the rest has arrived", async || arrived() > 8_300_000).await;
    world.clock.advance(2_000);
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
    eventually("nothing is left", async || count(&world).await == 0).await;
}

#[tokio::test]
async fn a_user_uploads_so_much_in_a_day() {
    let world = World::begin(&[("USER_QUOTA_MB", "1"), ("MAX_FILE_MB", "1")], false).await;
    let ada = world.user("ada");
    let most = vec![b'x'; 700_000];
    uploaded(&ada, "a.txt", &most).await;
    let refused = ada.uploads("a.txt", &most).await;
    let wait: i64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    refused.expect_error(429, "rate_limited");
    assert_eq!(count(&world).await, 1, "what is over the quota is not kept");
    uploaded(&world.user("bob"), "a.txt", &most).await;
    uploaded(&ada, "a.txt", &vec![b'x'; 1_048_576 - 700_000]).await;
    ada.uploads("a.txt", b"x").await.expect_error(429, "rate_limited");
    world.clock.advance(wait * 1000 + 1_000);
    uploaded(&world.user("ada"), "a.txt", &most).await;
}

#[tokio::test]
async fn the_same_upload_again_is_the_same_file() {
    let world = world().await;
    let ada = || world.user("ada").with("idempotency-key", "photo-1");
    let first = ada().uploads("a.txt", b"hello").await;
    let again = ada().uploads("a.txt", b"hello").await;
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(first.text, again.text, "byte for byte");
    first.expect(201);
    ada().uploads("a.txt", b"other").await.expect_error(422, "idempotency_mismatch");
    ada().uploads("b.txt", b"hello").await.expect_error(422, "idempotency_mismatch");
    let bobs = world.user("bob").with("idempotency-key", "photo-1").uploads("a.txt", b"hello").await;
    assert_eq!(bobs.header("idempotent-replayed"), None, "his own");
    assert_eq!(count(&world).await, 2);
}

#[tokio::test]
async fn an_upload_counts_for_five() {
    // Redis has a clock of its own, which does not stand still.
    let limits = [("RATE_LIMIT_PER_MINUTE", "60"), ("RATE_LIMIT_BURST", "10"), ("REDIS_URL", "")];
    let world = World::begin(&limits, false).await;
    let ada = world.user("ada");
    let answer = ada.uploads("a.txt", b"hello").await;
    assert_eq!(answer.header("ratelimit-remaining"), Some("5"));
    ada.uploads("a.txt", b"hello").await.expect(201);
    ada.uploads("a.txt", b"hello").await.expect_error(429, "rate_limited");
}

// ---- down ----

#[tokio::test]
async fn a_part_of_a_file_is_sent_alone() {
    let world = world().await;
    let ada = world.user("ada");
    let bytes: Vec<u8> = (b'a'..=b'z').cycle().take(200_000).collect();
    let file = uploaded(&ada, "a.txt", &bytes).await;
    let paths = [format!("/api/files/{}", id(&file)), path_of(&file["url"])];
    for path in &paths {
        let part = async |range: &str| world.user("ada").with("range", range).get(path).await;
        for (range, first, end) in [
            ("bytes=0-0", 0, 1),
            ("bytes=100000-", 100_000, 200_000),
            ("bytes=-10", 199_990, 200_000),
            ("bytes=199999-999999999", 199_999, 200_000),
        ] {
            let answer = part(range).await;
            assert_eq!(answer.status, 206, "{range}");
            let told = format!("bytes {first}-{}/200000", end - 1);
            assert_eq!(answer.header("content-range"), Some(told.as_str()));
            assert_eq!(answer.header("content-length"), Some((end - first).to_string().as_str()));
            assert!(answer.bytes == bytes[first..end], "{range}");
        }
        for range in ["bytes=0-1,3-4", "bytes=9-1", "lines=1-2"] {
            assert_eq!(part(range).await.status, 200, "{range}");
        }
        let beyond = part("bytes=200000-").await;
        assert_eq!(beyond.header("content-range"), Some("bytes */200000"));
        beyond.expect_error(416, "bad_request");
        let etag = world.user("ada").get(path).await.header("etag").expect("an etag").to_owned();
        let known = async |etag: &str| {
            world.user("ada").with("range", "bytes=0-0").with("if-range", etag).get(path).await.status
        };
        assert_eq!((known(&etag).await, known("\"other\"").await), (206, 200));
    }
    let head = world.nobody().call("HEAD", &paths[1], None).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("200000"));
}

#[tokio::test]
async fn a_file_is_its_owners_alone_and_anothers_is_an_unknown_one() {
    let world = world().await;
    let adas = uploaded(&world.user("ada"), "a.txt", b"hello").await;
    let mut answers = Vec::new();
    for id in [id(&adas), "AAAAAAAAAAAAAAAAAAAAAA", "1", "..%2f..%2fetc%2fpasswd", "%00", &"A".repeat(30)] {
        for accept in ["*/*", "application/json"] {
            let answer = world.user("bob").with("accept", accept).get(&format!("/api/files/{id}")).await;
            let mut told = answer.json.clone();
            told["requestId"] = Value::Null;
            let names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
            answers.push((answer.status, told, names));
        }
    }
    assert_eq!(answers[0].0, 404);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let address = world.user("ada").with("accept", "application/json").get(&format!("/api/files/{}", id(&adas))).await;
    let address = address.expect(200);
    assert_eq!((&address["name"], &address["contentType"]), (&json!("a.txt"), &json!("text/plain; charset=utf-8")));
    assert_eq!(world.nobody().get(&path_of(&address["url"])).await.text, "hello");
    let expires_at = address["expiresAt"].as_i64().expect("a time");
    assert!(expires_at >= world.clock.now_s() + 86_400);
}

#[tokio::test]
async fn an_address_that_does_not_hold_is_one_answer_whatever_is_wrong() {
    let world = world().await;
    let ada = world.user("ada");
    let file = uploaded(&ada, "a.txt", b"hello").await;
    let other = uploaded(&ada, "b.txt", b"other").await;
    let good = path_of(&file["url"]);
    let (path, t) = good.split_once("?t=").expect("a query");
    let others_t = path_of(&other["url"]).split_once("?t=").expect("a query").1.to_owned();
    let flipped = format!("{}{}", &t[..50], if t.ends_with('A') { "E" } else { "A" });
    let mut bad = vec![
        path.to_owned(),
        format!("{path}?t="),
        format!("{path}?t={others_t}"),
        format!("{path}?t={flipped}"),
        format!("{path}?t={t}&t={t}"),
        format!("{path}?T={t}"),
        format!("/files/AAAAAAAAAAAAAAAAAAAAAA?t={t}"),
        format!("/files/1?t={t}"),
        format!("/files/%2e%2e%2fpasswd?t={t}"),
        format!("/files/%ff?t={t}"),
    ];
    bad.extend(
        (0..51)
            .map(|at| format!("{path}?t={}{}{}", &t[..at], if &t[at..=at] == "x" { "y" } else { "x" }, &t[at + 1..])),
    );
    let told = |answer: Answer| {
        let mut json = answer.json.clone();
        json["requestId"] = Value::Null;
        (answer.status, json, answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>())
    };
    let first = told(world.nobody().get(&bad[0]).await);
    assert_eq!((first.0, &first.1["error"]), (401, &json!("unauthorized")));
    for path in &bad {
        assert_eq!(told(world.nobody().get(path).await), first, "{path}");
        assert_eq!(told(world.user("ada").get(path).await), first, "a session changes nothing: {path}");
    }
    assert_eq!(world.nobody().get(&good).await.text, "hello");
    world.clock.advance(26 * 3_600_000);
    assert_eq!(told(world.nobody().get(&good).await), first, "its time is up");
}

// ---- what nobody has any more ----

#[tokio::test]
async fn a_file_that_no_message_has_goes_after_a_day() {
    let world = world().await;
    let ada = world.user("ada");
    let loose = uploaded(&ada, "a.txt", b"loose").await;
    let kept = uploaded(&ada, "b.txt", b"kept").await;
    let chat = ada.opens("Hello").await;
    let path = format!("/api/conversations/{chat}/reply");
    ada.post(&path, json!({ "attachmentIds": [id(&kept)] })).await.expect(201);
    world.clock.advance(23 * 3_600_000);
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 2);
    world.clock.advance(2 * 3_600_000);
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 1);
    // The journal forgets the message after two days, the file stays with it.
    world.clock.advance(72 * 3_600_000);
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 1);
    let ada = world.user("ada");
    ada.get(&format!("/api/files/{}", id(&loose))).await.expect_error(404, "not_found");
    assert_eq!(ada.get(&format!("/api/files/{}", id(&kept))).await.text, "kept");
}

#[tokio::test]
async fn an_object_that_a_crash_left_without_a_row_goes_after_an_hour() {
    let world = world().await;
    uploaded(&world.user("ada"), "a.txt", b"hello").await;
    let storage = world.app.files.storage();
    let orphan = Key::parse("v1/0123456789abcdef/0123456789abcdef0123456789abcdef").expect("a key");
    let mut left_behind = storage.incoming().expect("a file");
    left_behind.file().write_all(b"left behind").expect("written");
    storage.keep(&orphan, left_behind).await.expect("kept");
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 2, "its row may be on the way");
    world.clock.advance(3_700_000);
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 1);
    assert!(storage.read(&orphan, 0..1).await.is_err());
}

#[tokio::test]
async fn files_go_with_their_user() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let file = uploaded(&ada, "a.txt", b"on a message").await;
    reply(&ada, &chat, json!({ "attachmentIds": [id(&file)] })).await.expect(201);
    uploaded(&ada, "b.txt", b"on none").await;
    let bobs = uploaded(&world.user("bob"), "c.txt", b"another's").await;
    assert_eq!(ada.call("DELETE", "/api/me", None).await.status, 204);
    world.work().await;
    assert_eq!(count(&world).await, 1);
    world.nobody().get(&path_of(&file["url"])).await.expect_error(404, "not_found");
    assert_eq!(world.nobody().get(&path_of(&bobs["url"])).await.text, "another's");
}

// ---- on messages of users ----

async fn reply(client: &Client<'_>, chat: &str, body: Value) -> Answer {
    client.post(&format!("/api/conversations/{chat}/reply"), body).await
}

/// The newest part of the conversation at Intercom.
fn last_part(world: &World, chat: &str) -> Value {
    let conversation = world.sandbox.conversation(chat).expect("a conversation");
    let parts = conversation["conversation_parts"]["conversation_parts"].as_array().expect("parts");
    parts.last().expect("a part").clone()
}

#[tokio::test]
async fn a_picture_reaches_the_operators_and_is_shown_as_it_was_sent() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let photo = fixture("clean/pillow.png");
    let file = uploaded(&ada, "photo.png", &photo).await;
    let sent = reply(&ada, &chat, json!({ "body": "See?", "attachmentIds": [id(&file)] })).await.expect(201);
    assert_eq!(sent["body"], "See?");
    let attachment = &sent["attachments"][0];
    assert_eq!((&attachment["id"], &attachment["name"]), (&file["id"], &json!("photo.png")));
    assert_eq!((&attachment["width"], &attachment["height"]), (&json!(160), &json!(120)));
    assert_eq!(attachment["size"], photo.len());
    assert!(world.nobody().get(&path_of(&attachment["url"])).await.bytes == photo);

    // Intercom fetches it from where we say.
    let part = last_part(&world, &chat);
    let url = part["attachments"][0]["url"].as_str().expect("an address").to_owned();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut fetched = Vec::new();
    for _ in 0..500 {
        let answer = http.get(&url).send().await.expect("an answer");
        fetched = answer.bytes().await.expect("a body").to_vec();
        if !fetched.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fetched == photo, "{} bytes", fetched.len());
    let arrived = last_part(&world, &chat)["attachments"][0].clone();
    assert_eq!((&arrived["name"], &arrived["content_type"]), (&json!("photo.png"), &json!("image/png")));

    // Whatever Intercom calls it: neither its webhook nor its answer shows it anew, or otherwise.
    let latest = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
    world.pass(Duration::from_secs(5)).await;
    let poll = ada.polls(&chat, 0).await;
    assert_eq!(poll["latestTimestamp"], latest);
    let message = &poll["messages"][1];
    assert_eq!((&message["body"], &message["attachments"][0]["id"]), (&json!("See?"), &file["id"]));
    assert_eq!(message["attachments"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_message_may_be_files_alone() {
    let world = world().await;
    let ada = world.user("ada");
    let (photo, scan) = (fixture("clean/pillow.png"), fixture("clean/least.pdf"));
    let first = uploaded(&ada, "photo.png", &photo).await;
    let second = uploaded(&ada, "scan.pdf", &scan).await;
    let chat = ada.post("/api/conversations", json!({ "attachmentIds": [id(&first)] })).await.expect(201);
    assert_eq!((&chat["messages"][0]["body"], &chat["messages"][0]["html"]), (&json!(""), &json!("")));
    assert_eq!(chat["messages"][0]["attachments"][0]["id"], first["id"]);
    let chat = chat["id"].as_str().expect("an id").to_owned();
    let sent = reply(&ada, &chat, json!({ "body": "  ", "attachmentIds": [id(&second)] })).await.expect(201);
    assert_eq!((&sent["body"], &sent["attachments"][0]["name"]), (&json!(""), &json!("scan.pdf")));
    assert_eq!(world.sandbox.contact_parts(&chat), ["photo.png", "scan.pdf"], "Intercom wants words");
    world.pass(Duration::from_secs(5)).await;
    let read = ada.reads(&chat).await;
    let shown: Vec<_> = read["messages"].as_array().expect("messages").iter().map(|message| &message["body"]).collect();
    assert_eq!(shown, ["", ""]);
    assert_eq!(read["messages"][1]["attachments"][0]["id"], second["id"]);
    let list = ada.get("/api/conversations").await.expect(200);
    let last = &list["conversations"][0]["lastMessage"]["attachments"][0];
    assert!(world.nobody().get(&path_of(&last["url"])).await.bytes == scan);
}

#[tokio::test]
async fn a_file_goes_with_one_message_of_its_owner() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let (adas, bobs) = (ada.opens("Hello").await, bob.opens("Hello").await);
    let file = uploaded(&ada, "a.txt", b"hello").await;
    let with = |ids: Value| json!({ "body": "See?", "attachmentIds": ids });
    let refused = async |client: &Client<'_>, chat: &str, ids: Value| {
        let message = reply(client, chat, with(ids)).await.expect_error(400, "validation_error");
        assert!(message.starts_with("attachmentIds: "), "{message}");
        message
    };
    let foreign = refused(&bob, &bobs, json!([id(&file)])).await;
    let unknown = refused(&bob, &bobs, json!(["AAAAAAAAAAAAAAAAAAAAAA"])).await;
    assert_eq!(foreign, unknown, "told apart nowhere");
    refused(&ada, &adas, json!(["../../etc/passwd"])).await;
    refused(&ada, &adas, json!([id(&file), id(&file)])).await;
    refused(&ada, &adas, json!(vec!["AAAAAAAAAAAAAAAAAAAAAA"; 11])).await;
    let keyed = world.user("ada").with("idempotency-key", "k");
    let sent = reply(&keyed, &adas, with(json!([id(&file)]))).await;
    let again = reply(&keyed, &adas, with(json!([id(&file)]))).await;
    assert_eq!(sent.text, again.text);
    sent.expect(201);
    reply(&keyed, &adas, json!({ "body": "See?" })).await.expect_error(422, "idempotency_mismatch");
    refused(&ada, &adas, json!([id(&file)])).await;
    let other = uploaded(&ada, "b.txt", b"other").await;
    refused(&ada, &adas, json!([id(&other), id(&file)])).await;
    reply(&ada, &adas, with(json!([id(&other)]))).await.expect(201);
    assert_eq!(world.sandbox.contact_parts(&adas), ["Hello", "See?", "See?"]);
    assert_eq!(world.sandbox.contact_parts(&bobs), ["Hello"]);
}

#[tokio::test]
async fn files_of_a_message_that_never_went_may_go_with_another() {
    let world = World::begin(&[("INTERCOM_TIMEOUT_MS", "300")], false).await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let file = uploaded(&ada, "a.txt", b"hello").await;
    let body = |text: &str| json!({ "body": text, "attachmentIds": [id(&file)] });
    world.sandbox.fault(Fault::new(Kind::Refuse).on("POST", &format!("/conversations/{chat}/reply")));
    let first = world.user("ada").with("idempotency-key", "first");
    world.while_time_goes_by(reply(&first, &chat, body("one"))).await.expect_error(502, "service_unavailable");
    world.sandbox.clear_faults();
    world.clock.advance(60_000);
    reply(&world.user("ada"), &chat, body("two")).await.expect(201);
    let message = reply(&first, &chat, body("one")).await.expect_error(400, "validation_error");
    assert!(message.starts_with("attachmentIds: "), "{message}");
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "two"]);
}

#[tokio::test]
async fn files_that_intercom_does_not_take_become_links_in_the_words_that_operators_read() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let file = uploaded(&ada, "scan.pdf", &fixture("clean/least.pdf")).await;
    let path = format!("/conversations/{chat}/reply");
    world
        .sandbox
        .fault(Fault::new(Kind::Error { status: 422, applied: false, html: false }).on("POST", &path).times(1));
    let sent = reply(&ada, &chat, json!({ "body": "See?", "attachmentIds": [id(&file)] })).await.expect(201);
    assert_eq!((&sent["body"], &sent["attachments"][0]["id"]), (&json!("See?"), &file["id"]));
    let words = world.sandbox.contact_parts(&chat).pop().expect("a message");
    let link = words.split_once("scan.pdf: ").expect("a link").1.trim();
    assert!(words.starts_with("See?"), "{words}");
    world.clock.advance(300 * 24 * 3_600_000);
    let opened = world.nobody().get(&path_of(&json!(link))).await;
    assert_eq!(opened.status, 200, "people open it when they come to it");
    assert!(opened.header("content-disposition").is_some_and(|how| how.starts_with("attachment")));
    world.clock.advance(-300 * 24 * 3_600_000);
    world.pass(Duration::from_secs(5)).await;
    let read = ada.reads(&chat).await;
    assert_eq!(read["messages"][1]["body"], "See?", "the links are not the user's words");
    assert_eq!(read["messages"][1]["attachments"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_picture_whose_answer_was_lost_is_found_and_is_sent_once() {
    let world = World::begin(&[("INTERCOM_TIMEOUT_MS", "300")], false).await;
    let ada = world.user("ada").with("idempotency-key", "k");
    let chat = world.user("ada").opens("Hello").await;
    let file = uploaded(&world.user("ada"), "photo.png", &fixture("clean/pillow.png")).await;
    world.sandbox.fault(Fault::new(Kind::LostAnswer).on("POST", &format!("/conversations/{chat}/reply")).times(1));
    let body = json!({ "attachmentIds": [id(&file)] });
    let sent = world.while_time_goes_by(reply(&ada, &chat, body.clone())).await.expect(201);
    assert_eq!((&sent["body"], &sent["attachments"][0]["id"]), (&json!(""), &file["id"]));
    reply(&ada, &chat, body).await.expect(201);
    assert_eq!(world.sandbox.contact_parts(&chat), ["Hello", "photo.png"]);
}

#[tokio::test]
async fn files_of_a_message_that_was_taken_back_go() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let file = uploaded(&ada, "a.txt", b"hello").await;
    let sent = reply(&ada, &chat, json!({ "body": "See?", "attachmentIds": [id(&file)] })).await.expect(201);
    world.operator().redacts(&chat, sent["id"].as_str().expect("an id")).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(ada.reads(&chat).await["messages"][1]["attachments"], json!([]));
    world.nobody().get(&path_of(&file["url"])).await.expect_error(404, "not_found");
    worker::keep_house(&world.app).await.expect("the house is kept");
    assert_eq!(count(&world).await, 0);
}

// ---- on messages of operators ----

fn picture(bytes: &[u8]) -> Upload {
    Upload { name: "receipt.png".into(), content_type: "image/png".into(), data: bytes.to_vec() }
}

#[tokio::test]
async fn an_operators_file_is_shown_for_as_long_as_the_message_is() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let photo = fixture("clean/pillow.png");
    world.operator().replies_with(&chat, "Here", vec![picture(&photo)]).await;
    world.pass(Duration::from_secs(5)).await;
    let first = ada.reads(&chat).await["messages"][1]["attachments"][0].clone();
    assert_eq!((&first["name"], &first["contentType"]), (&json!("receipt.png"), &json!("image/png")));
    assert!(first["url"].as_str().is_some_and(|url| url.starts_with(&world.url)), "ours, not Intercom's: {first}");
    // Intercom's addresses hold for half an hour, ours are asked anew.
    for hours in [0, 3, 100] {
        world.clock.advance(hours * 3_600_000);
        let ada = world.user("ada");
        let now = ada.reads(&chat).await["messages"][1]["attachments"][0].clone();
        assert_eq!(now["id"], first["id"]);
        for answer in
            [world.nobody().get(&path_of(&now["url"])).await, ada.get(&format!("/api/files/{}", id(&now))).await]
        {
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(answer.bytes == photo);
            assert_eq!(answer.header("content-type"), Some("image/png"));
            assert_eq!(answer.header("content-disposition"), Some("inline; filename=\"receipt.png\""));
            assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; sandbox"));
        }
    }
    let bob = world.user("bob");
    bob.get(&format!("/api/files/{}", id(&first))).await.expect_error(404, "not_found");
    let json = world.user("ada").with("accept", "application/json").get(&format!("/api/files/{}", id(&first))).await;
    assert_eq!(json.expect(200)["name"], "receipt.png");
}

#[tokio::test]
async fn a_part_of_an_operators_film_is_sent_alone() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let film = fixture("clean/x264.mp4");
    let upload = Upload { name: "film.mp4".into(), content_type: "video/mp4".into(), data: film.clone() };
    world.operator().replies_with(&chat, "Here", vec![upload]).await;
    world.pass(Duration::from_secs(5)).await;
    let file = ada.reads(&chat).await["messages"][1]["attachments"][0].clone();
    for path in [path_of(&file["url"]), format!("/api/files/{}", id(&file))] {
        for (range, first, end) in [("bytes=0-1", 0, 2), ("bytes=-10", film.len() - 10, film.len())] {
            let answer = world.user("ada").with("range", range).get(&path).await;
            let told = format!("bytes {first}-{}/{}", end - 1, film.len());
            assert_eq!((answer.status, answer.header("content-range")), (206, Some(told.as_str())), "{range}");
            assert!(answer.bytes == film[first..end], "{range}");
        }
        let beyond = world.user("ada").with("range", "bytes=99999999-").get(&path).await;
        beyond.expect_error(416, "bad_request");
        let other = world.user("ada").with("range", "bytes=0-1").with("if-range", "\"x\"").get(&path).await;
        assert_eq!((other.status, other.bytes.len()), (200, film.len()), "nobody knows whether it is the same one");
    }
}

#[tokio::test]
async fn pictures_of_one_conversation_are_one_question_to_intercom() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let photo = fixture("clean/pillow.png");
    for _ in 0..3 {
        world.operator().replies_with(&chat, "", vec![picture(&photo), picture(&photo)]).await;
    }
    world.pass(Duration::from_secs(5)).await;
    let read = ada.reads(&chat).await;
    world.sandbox.forget_calls();
    let mut ids = Vec::new();
    for message in &read["messages"].as_array().expect("messages")[1..] {
        for file in message["attachments"].as_array().expect("files") {
            assert!(world.nobody().get(&path_of(&file["url"])).await.bytes == photo);
            ids.push(file["id"].to_string());
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), world.calls()), (6, 1));
}

#[tokio::test]
async fn a_picture_in_an_operators_words_is_a_file_from_intercoms_hosts_alone() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let inside = world.url.clone();
    let html =
        format!("<p>See <img src=\"{inside}/ready?picture.png\"> and <img src=\"http://169.254.169.254/a.png\"></p>");
    world.operator().replies(&chat, &html).await;
    world.pass(Duration::from_secs(5)).await;
    let files = ada.reads(&chat).await["messages"][1]["attachments"].clone();
    assert_eq!(files.as_array().map(Vec::len), Some(2));
    for file in files.as_array().expect("files") {
        let answer = world.nobody().get(&path_of(&file["url"])).await;
        answer.expect_error(502, "service_unavailable");
    }
}

#[tokio::test]
async fn an_operators_page_is_downloaded_and_never_shown() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let page = Upload {
        name: "page.html\r\nx: y".into(),
        content_type: "text/html".into(),
        data: b"<script>alert(1)</script>".to_vec(),
    };
    world.operator().replies_with(&chat, "Here", vec![page]).await;
    world.pass(Duration::from_secs(5)).await;
    let file = ada.reads(&chat).await["messages"][1]["attachments"][0].clone();
    let answer = world.nobody().get(&path_of(&file["url"])).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    assert!(answer.header("content-disposition").is_some_and(|how| how.starts_with("attachment; ")));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn while_intercom_is_down_an_operators_file_says_when_to_come_again() {
    let world = World::begin(&[("INTERCOM_TIMEOUT_MS", "300")], false).await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.operator().replies_with(&chat, "Here", vec![picture(b"x")]).await;
    world.pass(Duration::from_secs(5)).await;
    let file = ada.reads(&chat).await["messages"][1]["attachments"][0].clone();
    world.sandbox.fault(Fault::new(Kind::Refuse));
    let answer = world.while_time_goes_by(world.nobody().get(&path_of(&file["url"]))).await;
    assert!(answer.header("retry-after").is_some());
    answer.expect_error(502, "service_unavailable");
    world.sandbox.clear_faults();
    world.operator().deletes(&chat).await;
    world.pass(Duration::from_secs(60)).await;
    let gone = world.nobody().get(&path_of(&file["url"])).await;
    gone.expect_error(404, "not_found");
}
