//! A sandbox, a client as strict as the server's, and a receiver of webhooks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::{Sandbox, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where a checkout may have Intercom's description; tests of it are skipped without.
pub(crate) fn description() -> Option<PathBuf> {
    let given = std::env::var_os("INTERCOM_OPENAPI").map(PathBuf::from);
    given
        .or_else(|| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("api.intercom.io-2.16.yaml")))
        .filter(|path| path.exists())
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    client: reqwest::Client,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) async fn world() -> World {
    world_with(Settings::default()).await
}

pub(crate) async fn world_with(settings: Settings) -> World {
    let settings = Settings { description: description(), ..settings };
    let sandbox = Sandbox::start(settings).await.expect("a free port");
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().expect("a client");
    World { sandbox, client }
}

impl World {
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let request = self.client.request(method, format!("{}{path}", self.sandbox.url()));
        request.bearer_auth("sandbox-token").header("intercom-version", "2.16").header("accept", "application/json")
    }

    pub(crate) async fn try_send(&self, method: &str, path: &str, body: Value) -> reqwest::Result<Reply> {
        let request = self.request(method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        Ok(Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        self.try_send(method, path, body).await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, body).await
    }

    /// A conversation the contact `ada` opens; her contact is created if need be. (contact, conversation).
    pub(crate) async fn opens(&self, text: &str) -> (String, String) {
        let contact = match self.sandbox.contact_by_external_id("ada") {
            Some(known) => known["id"].as_str().expect("an id").to_owned(),
            None => self.sandbox.add_contact(Some("ada"), Some("ada@example.com")),
        };
        let body = json!({ "from": { "type": "user", "id": contact }, "body": text });
        let message = self.post("/conversations", body).await;
        assert_eq!(message.status, 200, "{}", message.body);
        (contact, message.body["conversation_id"].as_str().expect("an id").to_owned())
    }

    pub(crate) async fn replies(&self, contact: &str, conversation: &str, text: &str) -> Reply {
        self.post(&format!("/conversations/{conversation}/reply"), reply(contact, text)).await
    }

    pub(crate) async fn stop(self) {
        self.sandbox.stop().await;
    }
}

pub(crate) fn reply(contact: &str, text: &str) -> Value {
    json!({ "message_type": "comment", "type": "user", "intercom_user_id": contact, "body": text })
}

pub(crate) fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("fits")
}

/// What a receiver got: method, signature header, body.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) signature: Option<String>,
    pub(crate) raw: Vec<u8>,
    pub(crate) json: Value,
}

/// A receiver of webhooks that answers as told.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
    task: Arc<tokio::task::JoinHandle<()>>,
}

impl Receiver {
    /// Answers with these statuses in turn, then with 200.
    pub(crate) async fn answering(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/webhooks/intercom", listener.local_addr().expect("an address"));
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let statuses = Arc::new(Mutex::new(statuses.iter().rev().copied().collect::<Vec<u16>>()));
        let (seen, next) = (Arc::clone(&got), Arc::clone(&statuses));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, next) = (Arc::clone(&seen), Arc::clone(&next));
                tokio::spawn(async move { receive(stream, &seen, &next).await });
            }
        });
        Self { url, got, statuses, task: Arc::new(task) }
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("no panics").clone()
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.got().iter().map(|got| got.json["topic"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The newest part's body, or the opening message's, of each notification.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |got: &Got| {
            let item = &got.json["data"]["item"];
            let part = &item["conversation_parts"]["conversation_parts"][0]["body"];
            part.as_str().or_else(|| item["source"]["body"].as_str()).unwrap_or_default().to_owned()
        };
        self.got().iter().map(text).collect()
    }

    pub(crate) fn answers(&self, status: u16) {
        self.statuses.lock().expect("no panics").push(status);
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

/// Just enough of HTTP/1.1: one request a connection.
async fn receive(mut stream: TcpStream, seen: &Mutex<Vec<Got>>, statuses: &Mutex<Vec<u16>>) {
    let mut bytes = Vec::new();
    let (head, body_start, length) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
            break (head, end + 4, length);
        }
    };
    while bytes.len() < body_start + length {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(&chunk[..read]);
    }
    let raw = bytes[body_start..].to_vec();
    let json = serde_json::from_slice(&raw).unwrap_or_default();
    let method = head.split(' ').next().unwrap_or_default().to_owned();
    seen.lock().expect("no panics").push(Got { method, signature: header(&head, "x-hub-signature"), raw, json });
    let status = statuses.lock().expect("no panics").pop().unwrap_or(200);
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok();
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}
