//! A SQLite database is copied under load, lost, and restored from the copy: Intercom brings the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Fault, Kind};
use serde_json::json;
use sqlx::{AnyConnection, Connection};
use tokio::time::sleep;

use crate::database::postgres;
use crate::process::{Caller, Server};

const USERS: usize = 6;
const SWEEP: Duration = Duration::from_secs(1);
const SETTINGS: &[(&str, &str)] =
    &[("SWEEP_INTERVAL_MS", "1000"), ("INTERCOM_TIMEOUT_MS", "4000"), ("SETTLE_MS", "1000")];

/// A user who writes, message by message, each until it is answered with 201; what was said.
async fn writes(user: Caller, chat: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let path = format!("/api/conversations/{chat}/reply");
    let mut said = vec!["Hello".to_owned()];
    while !stop.load(Ordering::Relaxed) {
        let text = format!("message {}", said.len());
        user.posts_until_201(&path, &text.replace(' ', "-"), &json!({ "body": text })).await;
        said.push(text);
    }
    said
}

/// One number out of a database.
async fn number(database: &Path, query: &'static str) -> i64 {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=ro", database.display());
    let mut connection = AnyConnection::connect(&url).await.expect("a database");
    let (number,): (i64,) = sqlx::query_as(query).fetch_one(&mut connection).await.expect("a number");
    connection.close().await.expect("closed");
    number
}

/// The texts that Intercom has of a conversation, and how often.
fn counted(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    texts.into_iter().fold(BTreeMap::new(), |mut counted, text| {
        *counted.entry(text).or_default() += 1;
        counted
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_brings_all_back_and_sends_nothing_twice() {
    if postgres().is_some() {
        println!("SKIPPED: PostgreSQL has backups of its own");
        return;
    }
    let mut server = Server::start(SETTINGS).await;
    let (unlucky, mut chats) = (server.user("unlucky"), Vec::new());
    let lost = unlucky.opens("Hello").await;
    for n in 0..USERS {
        chats.push(server.user(&format!("user-{n}")).opens("Hello").await);
    }
    // The first sweep of a new database only sets its mark.
    sleep(SWEEP * 2).await;

    // Answers are slow, so that at any time some messages are under way; one message never arrives.
    server.sandbox.fault(
        Fault::new(Kind::Hang { ms: 20_000, applied: false }).on("POST", &format!("/conversations/{lost}/reply")),
    );
    server.sandbox.fault(Fault::new(Kind::Slow { ms: 150 }).on("POST", "*/reply"));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..USERS)
        .map(|n| tokio::spawn(writes(server.user(&format!("user-{n}")), chats[n].clone(), Arc::clone(&stop))))
        .collect();
    let gives_up = tokio::spawn({
        let (unlucky, path) = (unlucky.clone(), format!("/api/conversations/{lost}/reply"));
        async move { unlucky.call("POST", &path, None, Some(&json!({ "body": "never mind" }))).await }
    });
    let mut answered = Vec::new();
    for n in 0..10 {
        answered.push(format!("answer {n}"));
        server.sandbox.operator().replies(&chats[n % USERS], &format!("answer {n}")).await;
        sleep(Duration::from_millis(50)).await;
    }

    let copy = server.folder().join("copy.db");
    let began = Instant::now();
    let mut backup = server.command(&["backup", "copy.db"]);
    let printed = tokio::task::spawn_blocking(move || backup.output()).await.expect("it runs").expect("it runs");
    let took = began.elapsed();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    assert!(!gives_up.is_finished(), "the message that never arrives was under way");
    let intact = "select count(*) from pragma_integrity_check where integrity_check = 'ok'";
    assert_eq!(number(&copy, intact).await, 1);
    let in_hand = number(&copy, "select count(*) from outbound where state in ('sending', 'unknown')").await;
    let copied = number(&copy, "select count(*) from message").await;

    // The server goes on for a while, and then its disk is gone.
    gives_up.await.expect("it does not panic").expect("an answer").expect_error(502, "service_unavailable");
    for n in 10..30 {
        answered.push(format!("answer {n}"));
        server.sandbox.operator().replies(&chats[n % USERS], &format!("answer {n}")).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut said = Vec::new();
    for user in load {
        said.push(user.await.expect("each message is answered with 201"));
    }
    server.kill();
    server.sandbox.clear_faults();
    for name in ["awchat.db", "awchat.db-wal", "awchat.db-shm"] {
        let _ = std::fs::remove_file(server.folder().join(name));
    }
    std::fs::copy(&copy, server.folder().join("awchat.db")).expect("restored");
    server.up().await;

    let all: Vec<BTreeMap<String, usize>> = (0..USERS)
        .map(|n| counted(said[n].iter().cloned().chain(answered.iter().skip(n).step_by(USERS).cloned())))
        .collect();
    let restored = Instant::now();
    let users: Vec<Caller> = (0..USERS).map(|n| server.user(&format!("user-{n}"))).collect();
    loop {
        let mut shown = Vec::new();
        for (user, chat) in users.iter().zip(&chats) {
            shown.push(counted(user.reads(chat).await));
        }
        if shown == all {
            break;
        }
        assert!(restored.elapsed() < Duration::from_secs(60), "not all came back: {shown:#?}, of {all:#?}");
        sleep(Duration::from_millis(100)).await;
    }
    let back = restored.elapsed();
    // What would be sent again is sent once its time to settle is over.
    sleep(Duration::from_secs(8).saturating_sub(back)).await;
    assert_eq!(
        number(
            &server.folder().join("awchat.db"),
            "select count(*) from outbound where state in ('sending', 'unknown')"
        )
        .await,
        0
    );
    for (chat, said) in chats.iter().zip(&said) {
        assert_eq!(server.sandbox.contact_parts(chat), *said, "each once, in its order");
    }
    assert_eq!(server.sandbox.contact_parts(&lost), ["Hello"], "its user was told that it was not sent");
    let messages: usize = all.iter().flat_map(BTreeMap::values).sum();
    println!(
        "backup under load took {took:?}: integrity ok, {copied} messages, {in_hand} in hand; of {messages} at Intercom all were back {back:?} after the restore, 0 sent twice"
    );
    assert!(in_hand > 1, "it was made under load: {in_hand}");
}
