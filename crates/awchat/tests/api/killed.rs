//! kill -9 at every step of a message's way to Intercom: it gets there exactly once.

use std::time::Duration;

use sandbox::{Fault, Kind};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Settings};
use crate::process::{Caller, Server, eventually};

const PATIENCE: Settings<'static> =
    &[("INTERCOM_TIMEOUT_MS", "2000"), ("SETTLE_MS", "1500"), ("BREAKER_OPEN_MS", "500")];
/// Longer than any of it.
const FOR_EVER: u64 = 60_000;
const HUNG: Kind = Kind::Hang { ms: FOR_EVER, applied: false };
const HUNG_APPLIED: Kind = Kind::Hang { ms: FOR_EVER, applied: true };
const SEARCH: &str = "/conversations/search";
const UNAVAILABLE: Kind = Kind::Error { status: 503, applied: false, html: false };

/// Where a message is when the server dies: what becomes of each attempt to send it, and whether the look for it hangs.
type Step = (&'static str, &'static [Kind], bool);

const STEPS: [Step; 7] = [
    ("sending, not applied", &[HUNG], false),
    ("sending, applied", &[HUNG_APPLIED], false),
    ("sending, its answer on the way", &[Kind::Slow { ms: FOR_EVER }], false),
    ("sending, applied after the kill", &[Kind::AppliedLate { after_ms: 1_200, hang: true }], false),
    ("looking for one that was applied", &[Kind::LostAnswer], true),
    ("looking for one that was not applied", &[Kind::ResetBeforeApply], true),
    ("looking for one that was refused", &[UNAVAILABLE], true),
];

/// A message in its user's only conversation.
#[derive(Clone)]
struct Message {
    text: String,
    user: Caller,
    chat: String,
}

impl Message {
    async fn of(server: &Server, n: usize, text: String) -> Self {
        let user = server.user(&format!("user-{n}"));
        let chat = user.opens("Hello").await;
        Self { text, user, chat }
    }

    /// What goes wrong with the attempts to send it, one after the other.
    fn suffers(&self, server: &Server, attempts: &[Kind]) {
        for kind in attempts {
            let path = format!("/conversations/{}/reply", self.chat);
            server.sandbox.fault(Fault::new(kind.clone()).on("POST", &path).times(1));
        }
    }

    fn path(&self) -> String {
        format!("/api/conversations/{}/reply", self.chat)
    }

    fn body(&self) -> Value {
        json!({ "body": self.text })
    }

    /// Sends it once; there may be no answer.
    async fn sent_once(self) -> reqwest::Result<Answer> {
        self.user.call("POST", &self.path(), Some("k"), Some(&self.body())).await
    }

    async fn retried(self) -> Answer {
        self.user.posts_until_201(&self.path(), "k", &self.body()).await
    }

    fn at_intercom(&self, server: &Server) -> Vec<String> {
        server.sandbox.contact_parts(&self.chat)
    }

    /// It is at Intercom and in the chat once, and its key replays it.
    async fn is_there_once(&self, server: &Server, first: Option<&Answer>) {
        let what = &self.text;
        assert_eq!(self.at_intercom(server), ["Hello", what], "{what}");
        assert_eq!(self.user.reads(&self.chat).await, ["Hello", what], "{what}");
        let replayed = self.clone().retried().await;
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{what}");
        if let Some(first) = first {
            assert_eq!(replayed.text, first.text, "{what}: byte for byte");
        }
        assert_eq!(self.at_intercom(server).len(), 2, "{what}");
    }
}

/// How often this was asked of the sandbox.
fn asked(server: &Server, method: &str, path: &str) -> usize {
    server.sandbox.calls().iter().filter(|call| call.method == method && call.path == path).count()
}

/// What was on its way is done, and no more comes.
async fn quiet(server: &Server) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.sandbox.webhooks_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_survives_a_kill_at_every_step_with_and_without_a_retry() {
    let mut server = Server::start(PATIENCE).await;
    let (mut retried, mut left) = (Vec::new(), Vec::new());
    let mut under_way = JoinSet::new();
    for (n, (step, attempts, look_hangs)) in STEPS.into_iter().enumerate() {
        for retries in [true, false] {
            let text = format!("{step}, retried {retries}");
            let message = Message::of(&server, n * 2 + usize::from(retries), text).await;
            message.suffers(&server, attempts);
            if look_hangs {
                let path = format!("/conversations/{}", message.chat);
                server.sandbox.fault(Fault::new(HUNG).on("GET", &path).times(1));
            }
            if retries { &mut retried } else { &mut left }.push((message, look_hangs));
        }
    }
    for (message, _) in retried.iter().chain(&left) {
        under_way.spawn(message.clone().sent_once());
    }
    for (message, look_hangs) in retried.iter().chain(&left) {
        let (method, rest) = if *look_hangs { ("GET", "") } else { ("POST", "/reply") };
        let path = format!("/conversations/{}{rest}", message.chat);
        eventually(&message.text, || asked(&server, method, &path) > 0).await;
    }
    server.kill();
    while let Some(answer) = under_way.join_next().await {
        let answer = answer.expect("it does not panic");
        assert!(answer.is_err(), "nobody was answered: {answer:?}");
    }
    server.up().await;

    let mut answers = JoinSet::new();
    for (message, _) in retried {
        answers.spawn(async move { (message.clone(), message.retried().await) });
    }
    let answered = answers.join_all().await;
    for (message, _) in &left {
        eventually(&message.text, || message.at_intercom(&server).len() > 1).await;
    }
    quiet(&server).await;
    for (message, answer) in &answered {
        message.is_there_once(&server, Some(answer)).await;
    }
    for (message, _) in &left {
        message.is_there_once(&server, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_the_answer_changes_nothing() {
    let mut server = Server::start(PATIENCE).await;
    let sent = Message::of(&server, 0, "answered with 201".into()).await;
    let told = Message::of(&server, 1, "answered with 502, and left at that".into()).await;
    let asked_for = Message::of(&server, 2, "answered with 502, and retried".into()).await;
    for message in [&told, &asked_for] {
        message.suffers(&server, &[Kind::ResetBeforeApply]);
        message.clone().sent_once().await.expect("an answer").expect_error(502, "service_unavailable");
    }
    let first = sent.clone().retried().await;
    server.kill();
    server.up().await;
    let second = asked_for.clone().retried().await;
    quiet(&server).await;
    sent.is_there_once(&server, Some(&first)).await;
    asked_for.is_there_once(&server, Some(&second)).await;
    assert_eq!(told.at_intercom(&server), ["Hello"], "nothing is sent behind the user's back");
    assert_eq!(asked(&server, "POST", &format!("/conversations/{}/reply", told.chat)), 1);
    told.clone().retried().await;
    told.is_there_once(&server, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_reply_outlives_a_second_kill_and_intercoms_troubles_without_a_retry() {
    let mut server = Server::start(PATIENCE).await;
    let troubles: [(&str, &[Kind]); 6] = [
        ("killed again while it is sent once more", &[HUNG, HUNG]),
        ("sent once more, and the answer is lost", &[HUNG, Kind::LostAnswer]),
        ("sent once more into a reset", &[HUNG, Kind::ResetBeforeApply]),
        ("sent once more into a 503", &[HUNG, UNAVAILABLE, UNAVAILABLE]),
        ("sent once more into a throttling", &[HUNG, Kind::RateLimit { reset_after_s: 3 }]),
        ("sent once more into refused credentials", &[HUNG, Kind::Error { status: 401, applied: false, html: false }]),
    ];
    let mut messages = Vec::new();
    let mut under_way = JoinSet::new();
    for (n, (text, attempts)) in troubles.into_iter().enumerate() {
        let message = Message::of(&server, n, text.to_owned()).await;
        message.suffers(&server, attempts);
        under_way.spawn(message.clone().sent_once());
        messages.push(message);
    }
    let path = |message: &Message| format!("/conversations/{}/reply", message.chat);
    for message in &messages {
        eventually(&message.text, || asked(&server, "POST", &path(message)) == 1).await;
    }
    server.kill();
    server.up().await;
    eventually("it is sent once more", || asked(&server, "POST", &path(&messages[0])) == 2).await;
    server.kill();
    server.up().await;
    for message in &messages {
        eventually(&message.text, || message.at_intercom(&server).len() > 1).await;
    }
    quiet(&server).await;
    for message in &messages {
        message.is_there_once(&server, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_conversation_survives_a_kill_at_every_step() {
    let mut server = Server::start(PATIENCE).await;
    let find = "/contacts/find_by_external_id/{id}";
    // Where each is when the server dies: what the request to begin it suffers, and what hangs.
    let steps: [(&str, Option<Kind>, (&str, &str)); 5] = [
        ("finding-the-contact", None, ("GET", find)),
        ("not-applied", Some(HUNG), ("POST", "/conversations")),
        ("applied", Some(HUNG_APPLIED), ("POST", "/conversations")),
        ("looking-for-the-applied", Some(Kind::LostAnswer), ("POST", SEARCH)),
        ("looking-for-the-not-applied", Some(Kind::ResetBeforeApply), ("POST", SEARCH)),
    ];
    let mut under_way = JoinSet::new();
    for (name, post, hung) in &steps {
        for retries in [true, false] {
            let user = server.user(&format!("{name}-{retries}"));
            server.sandbox.clear_faults();
            if let Some(kind) = post {
                server.sandbox.fault(Fault::new(kind.clone()).on("POST", "/conversations").times(1));
            }
            if post.is_none() || hung.1 == SEARCH {
                server.sandbox.fault(Fault::new(HUNG).on(hung.0, hung.1).times(1));
            }
            server.sandbox.forget_calls();
            let body = json!({ "body": name, "reason": { "main": "Deposits" } });
            under_way.spawn(async move { user.call("POST", "/api/conversations", Some("k"), Some(&body)).await });
            let at_the_step = |call: &sandbox::Call| {
                call.method == hung.0 && (call.path == hung.1 || call.path.starts_with("/contacts/find_by_"))
            };
            eventually(name, || server.sandbox.calls().iter().any(at_the_step)).await;
        }
    }
    server.sandbox.clear_faults();
    server.kill();
    while let Some(answer) = under_way.join_next().await {
        assert!(answer.expect("it does not panic").is_err(), "nobody was answered");
    }
    server.up().await;

    for (name, _, _) in &steps {
        let body = json!({ "body": name, "reason": { "main": "Deposits" } });
        let user = server.user(&format!("{name}-true"));
        let first = user.posts_until_201("/api/conversations", "k", &body).await;
        let again = user.posts_until_201("/api/conversations", "k", &body).await;
        assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text), "{name}");
    }
    // All but the one whose user was not even known to Intercom yet are begun without being asked for again.
    let expected = steps.len() * 2 - 1;
    eventually("all are begun", || server.sandbox.conversation_ids().len() >= expected).await;
    quiet(&server).await;
    assert_eq!(server.sandbox.conversation_ids().len(), expected);
    for (name, _, _) in &steps {
        for retries in [true, false] {
            let user = server.user(&format!("{name}-{retries}"));
            let list = user.call("GET", "/api/conversations", None, None).await.expect("an answer").expect(200);
            let chats: Vec<_> = list["conversations"].as_array().expect("a list").iter().collect();
            let begun = usize::from(retries || *name != "finding-the-contact");
            assert_eq!(chats.len(), begun, "{name}, retried {retries}");
            for chat in chats {
                let id = chat["id"].as_str().expect("an id");
                assert_eq!(chat["topic"]["main"], "Deposits", "{name}, retried {retries}");
                assert_eq!(server.sandbox.contact_parts(id), [*name], "retried {retries}");
            }
        }
    }
}
