//! A user's own data: handed out, and erased for good.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use awchat::clock::Clock;
use awchat::config::Secret;
use awchat::{auth, id};
use reqwest::StatusCode;
use sandbox::{Fault, Kind, Sandbox, Service};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};

use crate::child::Process;
use crate::database;
use crate::harness::{self, Client, SECRET, Settings, bodies, eventually, world};

/// Every word of a user that gets into the server, each told apart.
const CANARIES: [(&str, &str); 15] = [
    ("user id", "canary-sub-1138"),
    ("name", "Canaryname"),
    ("email", "canary.mail@example.com"),
    ("phone", "+15550001138"),
    ("topic", "Canarytopic"),
    ("meta", "canary-meta"),
    ("key", "canary-key"),
    ("first message", "canary-first-words"),
    ("reply", "canary-reply-words"),
    ("operator's answer", "canary-operator-words"),
    ("comment", "canary-comment"),
    ("complaint", "canary-complaint"),
    ("device token", "canary-device-token"),
    ("file's name", "canary-file-name"),
    ("file", "canary-file-words"),
];

fn canary(name: &str) -> &'static str {
    CANARIES.iter().find(|(known, _)| *known == name).expect("a known canary").1
}

/// Tells which canaries are where: in which file, table of PostgreSQL's or object of the bucket.
async fn found(process: &Process) -> Vec<String> {
    let mut found = in_files(process.folder());
    if database::postgres().is_some() {
        found.extend(in_tables(process.setting("DATABASE_URL")).await);
    }
    if let Some(bucket) = harness::bucket() {
        found.extend(in_objects(&bucket, process.setting("STORAGE_URL")).await);
    }
    found
}

fn told(bytes: &[u8], place: &str) -> Vec<String> {
    let there = CANARIES.iter().filter(|(_, word)| has(bytes, word));
    there.map(|(name, word)| format!("{name} ({word}) in {place}")).collect()
}

/// The rows that anybody can read. In its files PostgreSQL overwrites what is gone when it likes.
async fn in_tables(database: &str) -> Vec<String> {
    let (mut found, mut connection) = (Vec::new(), AnyConnection::connect(database).await.expect("a connection"));
    let tables = "select cast(table_name as text) from information_schema.tables where table_schema = 'public'";
    let tables: Vec<(String,)> = sqlx::query_as(tables).fetch_all(&mut connection).await.expect("tables");
    assert!(tables.len() > 10, "{tables:?}");
    for (table,) in tables {
        let rows = sqlx::AssertSqlSafe(format!("select cast(t as text) from {table} t"));
        let rows: Vec<(String,)> = sqlx::query_as(rows).fetch_all(&mut connection).await.expect("rows");
        found.extend(rows.iter().flat_map(|(row,)| told(row.as_bytes(), &table)));
    }
    connection.close().await.expect("closed");
    found
}

/// What the server keeps in the bucket, below its `s3://name/prefix`.
async fn in_objects(bucket: &str, storage: &str) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let prefix = storage.splitn(4, '/').last().expect("a prefix");
    // The server for tests wants to see a signature, and does not look at it.
    let signed = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request";
    let get = async |url: String| {
        let answer = http.get(url).header("authorization", signed).send().await.expect("S3 answers");
        answer.bytes().await.expect("all of it")
    };
    let list = get(format!("{bucket}?list-type=2&prefix={prefix}")).await;
    let (list, mut found) = (String::from_utf8_lossy(&list).into_owned(), Vec::new());
    for key in list.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        found.extend(told(&get(format!("{bucket}/{key}")).await, key));
    }
    found
}

fn in_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            found.extend(told(&fs::read(&path).unwrap_or_default(), &path.display().to_string()));
        }
    }
    found
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// A client of a real process.
struct Caller {
    http: reqwest::Client,
    url: String,
    token: String,
    key: &'static str,
    sent: AtomicUsize,
}

impl Caller {
    fn of(process: &Process, sub: &str, details: Value) -> Self {
        let key = if sub == canary("user id") { canary("key") } else { "key" };
        let sub = id::UserId::parse(sub).expect("a user id");
        let details = details.as_object().cloned().unwrap_or_default();
        let token = auth::mint(&Secret::new(SECRET), &sub, 3600, &Clock::system(), details);
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { http, url: format!("http://{}", process.address), token, key, sent: AtomicUsize::new(0) }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.http.request(method.parse().expect("a method"), format!("{}{path}", self.url));
        let key = format!("{}-{}", self.key, self.sent.fetch_add(1, Ordering::Relaxed));
        request = request.bearer_auth(&self.token).header("Idempotency-Key", key);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = harness::exchange(&self.http, request.build().expect("a request")).await.expect("an answer");
        (StatusCode::from_u16(answer.status).expect("a status"), answer.json)
    }

    async fn does(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, json) = self.call(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {json}");
        json
    }

    /// Uploads a text; its id.
    async fn uploads(&self, name: &str, text: &str) -> String {
        let head = format!("--limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}.txt\"\r\n\r\n");
        let request = self.http.post(format!("{}/api/files/upload", self.url)).bearer_auth(&self.token);
        let request = request.header("content-type", "multipart/form-data; boundary=limit");
        let request = request.body(format!("{head}{text}\r\n--limit--\r\n"));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json::<Value>().await.expect("JSON")["id"].as_str().expect("an id").to_owned()
    }

    /// Leaves all canaries.
    async fn sings(&self, sandbox: &Sandbox) -> String {
        let open = json!({
            "body": canary("first message"),
            "reason": { "main": canary("topic") },
            "meta": { "note": canary("meta") },
        });
        let chat = self.does("POST", "/api/conversations", open).await["id"].as_str().expect("an id").to_owned();
        let path = format!("/api/conversations/{chat}");
        self.does("POST", &format!("{path}/reply"), json!({ "body": canary("reply") })).await;
        let operator = sandbox.operator();
        operator.replies(&chat, canary("operator's answer")).await;
        eventually("the operator's answer is here", async || {
            self.does("GET", &path, Value::Null).await.to_string().contains(canary("operator's answer"))
        })
        .await;
        let rating = json!({ "stars": 1, "comment": canary("comment"), "conversationId": chat });
        self.does("POST", "/api/csat", rating).await;
        let complaint = json!({ "category": "operator", "description": canary("complaint"), "chatId": chat });
        self.does("POST", "/api/complaints", complaint).await;
        let device = json!({ "platform": "mobile", "token": canary("device token") });
        self.does("POST", "/api/devices/register", device).await;
        operator.replies(&chat, canary("operator's answer")).await;
        eventually("a notice waits", async || {
            let export = self.does("GET", "/api/export", Value::Null).await;
            export["notices"].as_array().is_some_and(|notices| !notices.is_empty())
        })
        .await;
        let file = self.uploads(canary("file's name"), canary("file")).await;
        self.does("POST", &format!("{path}/reply"), json!({ "attachmentIds": [file] })).await;
        self.does("PUT", "/api/settings/notifications", json!({ "chatMessages": false })).await;
        chat
    }
}

const SOON: Settings<'static> = &[("SETTLE_MS", "1000"), ("INTERCOM_TIMEOUT_MS", "2000")];

#[tokio::test(flavor = "multi_thread")]
async fn of_an_erased_user_no_word_is_left_in_any_file_or_log() {
    let sandbox = harness::intercom(Default::default()).await;
    let folder = tempfile::tempdir().expect("a folder for the service account");
    let phones = harness::phone_settings(&sandbox, folder.path());
    let phones = phones.iter().map(|(name, value)| (*name, value.as_str()));
    sandbox.phones().take_down(Service::Fcm);
    let settings: Vec<_> = SOON.iter().copied().chain(phones).collect();
    let mut process = Process::start(&settings, &sandbox).await;
    sandbox.send_webhooks_to(format!("http://{}/webhooks/intercom", process.address));
    let details = json!({ "name": canary("name"), "email": canary("email"), "phone": canary("phone") });
    let user = Caller::of(&process, canary("user id"), details);
    let chat = user.sings(&sandbox).await;
    // Neighbours, before and after, so that the words lie between others' in the database's pages.
    for n in 0..40 {
        let other = Caller::of(&process, &format!("neighbour-{n}"), Value::Null);
        let words = "neighbour ".repeat(1 + n * 3);
        let chat = other.does("POST", "/api/conversations", json!({ "body": words })).await["id"].clone();
        let path = format!("/api/conversations/{}/reply", chat.as_str().expect("an id"));
        other.does("POST", &path, json!({ "body": words })).await;
        if n % 10 == 0 {
            let again = format!("{} {}", canary("reply"), "x".repeat(n * 100));
            user.does("POST", "/api/conversations", json!({ "body": again })).await;
        }
    }
    sandbox.webhooks_settled().await;
    let before = found(&process).await;
    for (name, word) in CANARIES {
        assert!(before.iter().any(|line| line.starts_with(&format!("{name} ("))), "{name} was never here: {word}");
    }
    let export = user.does("GET", "/api/export", Value::Null).await.to_string();
    for (name, word) in CANARIES.iter().filter(|(name, _)| !["key", "file"].contains(name)) {
        assert!(export.contains(word), "the export lacks the {name}: {export}");
    }

    let (status, _) = user.call("DELETE", "/api/me", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    // What names the user at Intercom is needed until the contact is deleted there, and objects go after their rows; all
    // else is gone already.
    let at_once = found(&process).await;
    assert!(at_once.iter().all(|line| line.starts_with("user id (") || line.starts_with("file (")), "{at_once:#?}");
    eventually("the contact is deleted", async || sandbox.contact_by_external_id(canary("user id")).is_none()).await;
    let (status, _) = user.call("GET", "/api/conversations", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the token went with the user");
    eventually("nothing is left", async || {
        let left = found(&process).await;
        if !left.is_empty() {
            println!("still there: {left:?}");
        }
        left.is_empty()
    })
    .await;
    sandbox.operator().replies(&chat, "an answer to nobody").await;
    sandbox.webhooks_settled().await;
    assert_eq!(found(&process).await, Vec::<String>::new(), "what Intercom still tells of the user is not stored");

    let neighbour = Caller::of(&process, "neighbour-7", Value::Null);
    let list = neighbour.does("GET", "/api/conversations", Value::Null).await;
    assert_eq!(list["conversations"].as_array().map(Vec::len), Some(1), "others keep theirs");
    let log = process.stop();
    assert!(log.contains("a user was erased"), "{log}");
    let logged: Vec<_> = CANARIES.iter().filter(|(_, word)| log.contains(word)).collect();
    assert!(logged.is_empty(), "{logged:?} in the log");
    assert_eq!(found(&process).await, Vec::<String>::new());
    println!("erasure: {} kinds of words of a user: 0 in tables, log of writes, files and logs", CANARIES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_exports_and_erases_with_and_without_a_running_server() {
    let sandbox = harness::intercom(Default::default()).await;
    let mut process = Process::start(SOON, &sandbox).await;
    for (user, is_running) in [("ada", true), ("bob", false)] {
        let caller = Caller::of(&process, user, Value::Null);
        if is_running {
            for name in ["ada", "bob"] {
                let own = Caller::of(&process, name, Value::Null);
                own.does("POST", "/api/conversations", json!({ "body": format!("words of {name}") })).await;
            }
        } else {
            process.stop();
        }
        let printed = process.command(&["export", "--user", user]);
        assert!(printed.status.success(), "{printed:?}");
        let export: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        assert_eq!(bodies(&export["conversations"][0]), [format!("words of {user}")]);
        let erased = process.command(&["erase", "--user", user]);
        assert!(erased.status.success(), "{erased:?}");
        assert!(String::from_utf8_lossy(&erased.stdout).starts_with("erased: "), "{erased:?}");
        let export: Value = serde_json::from_slice(&process.command(&["export", "--user", user]).stdout).expect("JSON");
        assert_eq!(export["conversations"], json!([]));
        eventually("the contact is deleted", async || sandbox.contact_by_external_id(user).is_none()).await;
        if is_running {
            let (status, _) = caller.call("GET", "/api/conversations", Value::Null).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "what the server remembers of tokens went too");
        }
    }
}

async fn erase(client: &Client<'_>) {
    let answer = client.call("DELETE", "/api/me", None).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
}

async fn ids(client: &Client<'_>) -> Vec<String> {
    let list = client.get("/api/conversations").await.expect(200);
    let all = list["conversations"].as_array().expect("a list").iter();
    all.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn an_export_has_all_of_the_users_and_nothing_of_another() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let chat = ada.opens("from ada").await;
    bob.opens("from bob").await;
    world.operator().replies(&chat, "to ada").await;
    world.pass(Duration::from_secs(3)).await;
    let rating = json!({ "stars": 4, "comment": "fine", "conversationId": chat });
    ada.post("/api/csat", rating).await.expect(201);
    ada.post("/api/complaints", json!({ "category": "other", "description": "long enough" })).await.expect(201);
    ada.post("/api/devices/register", json!({ "platform": "mobile", "token": "t-1" })).await.expect(200);
    let answer = ada.get("/api/export").await;
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"export.json\""));
    let export = answer.expect(200);
    assert_eq!(export["user"]["id"], "ada");
    assert_eq!(export["user"]["contactId"], world.sandbox.contact_by_external_id("ada").expect("a contact")["id"]);
    assert_eq!(bodies(&export["conversations"][0]), ["from ada", "to ada"]);
    assert_eq!(export["conversations"][0]["rating"]["stars"], 4);
    assert_eq!(export["handedIn"][0]["body"], "from ada");
    assert_eq!(export["ratings"][0]["comment"], "fine");
    assert_eq!(export["complaints"][0]["description"], "long enough");
    assert_eq!(export["devices"][0]["token"], "t-1");
    assert!(!export.to_string().contains("bob"), "{export}");
    let nothing = world.user("eve").get("/api/export").await.expect(200);
    for list in ["conversations", "handedIn", "ratings", "complaints", "devices"] {
        assert_eq!(nothing[list], json!([]), "{list}");
    }
}

#[tokio::test]
async fn neither_webhook_nor_sweep_nor_first_visit_brings_an_erased_user_back() {
    let world = world().await;
    let ada = world.user("ada");
    let bob = world.user("bob");
    let (old, bobs) = (ada.opens("old words").await, bob.opens("of bob").await);
    world.work().await;
    world.while_time_goes_by(world.app.chat.sweep()).await.expect("Intercom answers");
    // Intercom is slow to forget: what it has is still there to be found.
    world
        .sandbox
        .fault(Fault::new(Kind::Error { status: 503, applied: false, html: false }).on("DELETE", "/contacts/*"));
    world.sandbox.fault(Fault::new(Kind::Error { status: 503, applied: false, html: false }).on("PUT", "/contacts/*"));
    erase(&ada).await;
    ada.get("/api/conversations").await.expect_error(401, "unauthorized");

    world.clock.advance(60_000);
    let back = world.user("ada");
    for look in 0..3 {
        assert_eq!(ids(&back).await, Vec::<String>::new(), "look {look}");
        back.get(&format!("/api/conversations/{old}")).await.expect_error(404, "not_found");
        world.operator().replies(&old, "to nobody").await;
        world.work().await;
        world.while_time_goes_by(world.app.chat.sweep()).await.expect("Intercom answers");
        world.work().await;
        if look == 1 {
            world.sandbox.clear_faults();
            world.pass(Duration::from_secs(700)).await;
            assert!(world.sandbox.contact_by_external_id("ada").is_none());
        }
    }
    // The company's own system makes the contact anew, and moves the old conversation to it.
    let again = world.sandbox.add_contact(Some("ada"), None);
    let former = world.sandbox.conversation(&old).expect("Intercom keeps it")["contacts"]["contacts"][0]["id"].clone();
    world.sandbox.merge_contact(former.as_str().expect("an id"), &again);
    world.work().await;
    let fresh = back.opens("new words").await;
    world.while_time_goes_by(world.app.chat.sweep()).await.expect("Intercom answers");
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(ids(&back).await, std::slice::from_ref(&fresh));
    world.operator().replies(&fresh, "welcome back").await;
    world.work().await;
    assert_eq!(bodies(&back.reads(&fresh).await), ["new words", "welcome back"]);
    assert_eq!(ids(&bob).await, [bobs]);
}

#[tokio::test]
async fn while_intercom_is_down_the_erasure_holds_and_the_contact_goes_later() {
    let world = world().await;
    let ada = world.user("ada");
    ada.opens("old words").await;
    world.work().await;
    let old = world.sandbox.contact_by_external_id("ada").expect("a contact")["id"].clone();
    world.sandbox.fault(Fault::new(Kind::Refuse));
    erase(&ada).await;
    world.clock.advance(60_000);
    let back = world.user("ada");
    for _ in 0..3 {
        assert_eq!(ids(&back).await, Vec::<String>::new());
        back.post("/api/conversations", json!({ "body": "too early" })).await.expect_error(502, "service_unavailable");
        world.pass(Duration::from_secs(30)).await;
    }
    assert!(world.sandbox.contact_by_external_id("ada").is_some(), "Intercom was down");
    world.sandbox.clear_faults();
    world.pass(Duration::from_secs(700)).await;
    assert!(world.sandbox.contact_by_external_id("ada").is_none(), "Intercom is up again");
    let fresh = back.opens("new words").await;
    let new = world.sandbox.contact_by_external_id("ada").expect("a contact")["id"].clone();
    assert_ne!(new, old);
    assert_eq!(world.sandbox.conversation(&fresh).expect("it is there")["contacts"]["contacts"][0]["id"], new);
}

#[tokio::test]
async fn tokens_from_before_an_erasure_end_with_it_and_later_ones_hold() {
    let world = world().await;
    let now_s = world.clock.now_s();
    let sub = id::UserId::parse("ada").expect("a user id");
    let issued = |lifetime| auth::mint(&Secret::new(SECRET), &sub, lifetime, &world.clock, serde_json::Map::new());
    let (first, second) = (issued(80_000), issued(7_000));
    world.nobody().bearing(&first).get("/api/conversations").await.expect(200);
    erase(&world.nobody().bearing(&second)).await;
    let refused = async |token: &str| {
        let answer = world.nobody().bearing(token).get("/api/conversations").await;
        assert!(answer.expect_error(401, "unauthorized").contains("erased"));
    };
    for token in [&first, &second] {
        refused(token).await;
    }
    world.clock.advance(30_000);
    refused(&issued(60)).await;
    world.clock.advance(1_000);
    world.nobody().bearing(&issued(60)).get("/api/conversations").await.expect(200);
    refused(&first).await;

    // One that does not say when it was issued is taken for an old one for as long as those may live.
    let forever = crate::identity::unissued("ada", now_s + 1_000_000);
    refused(&forever).await;
    world.clock.advance(86_400_000);
    world.nobody().bearing(&forever).get("/api/conversations").await.expect(200);
}

#[tokio::test]
async fn a_long_poll_ends_with_its_user() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    world.work().await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=30");
    let (polled, ()) = tokio::join!(ada.get(&path), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        erase(&ada).await;
    });
    polled.expect_error(404, "not_found");
}
