//! Somebody who sends notices: the calls of a proper client, on a clock that moves when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sandbox::{Phones, Sandbox, Settings};
use serde_json::{Value, json};

use crate::harness::Reply;

pub(crate) const START_MS: i64 = 1_800_000_000_000;
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(crate) struct Sender {
    pub(crate) sandbox: Sandbox,
    pub(crate) phones: Phones,
    /// FCM's access token.
    pub(crate) token: String,
    now_ms: Arc<AtomicI64>,
    client: reqwest::Client,
}

/// A sender with an access token.
pub(crate) async fn sender() -> Sender {
    let mut sender = sender_without_token().await;
    let answer = sender.assert(&sender.assertion(&sender.claims())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    sender.token = answer.body["access_token"].as_str().expect("a token").to_owned();
    sender
}

pub(crate) async fn sender_without_token() -> Sender {
    let sandbox = Sandbox::start(Settings::default()).await.expect("a free port");
    let phones = sandbox.phones();
    let now_ms = Arc::new(AtomicI64::new(START_MS));
    let clock = Arc::clone(&now_ms);
    sandbox.go_by(move || clock.load(Ordering::SeqCst));
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client");
    Sender { sandbox, phones, token: String::new(), now_ms, client }
}

impl Sender {
    pub(crate) fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst).div_euclid(1000)
    }

    /// The claims of a good assertion.
    pub(crate) fn claims(&self) -> Value {
        let account = self.phones.service_account();
        let (iss, aud) = (&account["client_email"], &account["token_uri"]);
        json!({ "iss": iss, "scope": SCOPE, "aud": aud, "iat": self.now_s(), "exp": self.now_s() + 3600 })
    }

    /// An assertion with those claims, signed as it should be.
    pub(crate) fn assertion(&self, claims: &Value) -> String {
        let account = self.phones.service_account();
        let pem = account["private_key"].as_str().expect("a key");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key in PEM");
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &key).expect("signed")
    }

    pub(crate) async fn assert(&self, assertion: &str) -> Reply {
        self.form(&format!("grant_type={}&assertion={assertion}", GRANT_TYPE.replace(':', "%3A"))).await
    }

    /// Sends a form to the service account's `token_uri`.
    pub(crate) async fn form(&self, form: &str) -> Reply {
        let account = self.phones.service_account();
        let request = self.client.post(account["token_uri"].as_str().expect("an address"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        answer(request).await.expect("an answer")
    }

    pub(crate) async fn try_push_to(&self, project: &str, body: &Value) -> reqwest::Result<Reply> {
        let address = format!("{}/v1/projects/{project}/messages:send", self.sandbox.url());
        answer(self.client.post(address).bearer_auth(&self.token).json(body)).await
    }

    pub(crate) async fn try_push(&self, message: &Value) -> reqwest::Result<Reply> {
        self.try_push_to("sandbox-project", &json!({ "message": message })).await
    }

    /// Sends a message to FCM.
    pub(crate) async fn push(&self, message: &Value) -> Reply {
        self.try_push(message).await.expect("an answer")
    }

    pub(crate) async fn try_bot(&self, token: &str, method: &str, body: &Value) -> reqwest::Result<Reply> {
        answer(self.client.post(format!("{}/bot{token}/{method}", self.sandbox.url())).json(body)).await
    }

    /// Calls the Bot API's `sendMessage`.
    pub(crate) async fn tell(&self, body: &Value) -> Reply {
        self.try_bot(&self.phones.bot_token(), "sendMessage", body).await.expect("an answer")
    }

    /// The sandbox's own routes.
    pub(crate) async fn own(&self, method: &str, path: &str, body: &Value) -> Reply {
        let request = self.client.request(method.parse().expect("a method"), format!("{}{path}", self.sandbox.url()));
        answer(if body.is_null() { request } else { request.json(body) }).await.expect("an answer")
    }

    pub(crate) async fn stop(self) {
        self.sandbox.stop().await;
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await?;
    Ok(Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}
