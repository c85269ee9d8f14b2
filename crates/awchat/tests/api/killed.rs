//! kill -9 at every step of a message's way to Intercom: it gets there exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Fault, Kind, NewTicket, Sandbox};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, Cluster};
use crate::database;
use crate::harness::{Answer, Settings, eventually};
use crate::process::{Caller, Server};

const PATIENCE: Settings<'static> =
    &[("INTERCOM_TIMEOUT_MS", "2000"), ("SETTLE_MS", "1500"), ("BREAKER_OPEN_MS", "500")];
/// What hangs goes on hanging until the server is killed, however slow the machine.
const UNTIL_KILLED: Settings<'static> =
    &[("INTERCOM_TIMEOUT_MS", "30000"), ("SETTLE_MS", "1500"), ("BREAKER_OPEN_MS", "500")];
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

/// A message in its user's only conversation, which may be a ticket.
#[derive(Clone)]
struct Message {
    text: String,
    user: Caller,
    chat: String,
    /// `conversations` or `tickets`, here and at Intercom.
    of: &'static str,
}

impl Message {
    async fn of(server: &Server, n: usize, text: String) -> Self {
        let user = server.user(&format!("user-{n}"));
        let chat = user.opens("Hello").await;
        Self { text, user, chat, of: "conversations" }
    }

    /// The same in a ticket.
    async fn in_ticket(self, server: &Server) -> Self {
        server.sandbox.operator().converts(&self.chat, NewTicket::default()).await;
        let path = format!("/api/tickets/{}", self.chat);
        let known = async {
            while self.user.call("GET", &path, None, None).await.expect("an answer").status != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), known).await.expect("it becomes a ticket");
        Self { of: "tickets", ..self }
    }

    /// Where it is sent to at Intercom.
    fn at(&self) -> String {
        format!("/{}/{}/reply", self.of, self.chat)
    }

    /// What goes wrong with the attempts to send it, one after the other.
    fn suffers(&self, server: &Server, attempts: &[Kind]) {
        for kind in attempts {
            server.sandbox.fault(Fault::new(kind.clone()).on("POST", &self.at()).times(1));
        }
    }

    fn path(&self) -> String {
        format!("/api/{}/{}/reply", self.of, self.chat)
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

/// Kills the server and starts it again, with less patience.
async fn killed_and_restarted(server: &mut Server) {
    server.kill();
    server.set("INTERCOM_TIMEOUT_MS", "2000");
    server.up().await;
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
    let mut server = Server::start(UNTIL_KILLED).await;
    let (mut retried, mut left) = (Vec::new(), Vec::new());
    let mut under_way = JoinSet::new();
    for (n, (step, attempts, look_hangs)) in STEPS.into_iter().enumerate() {
        for (m, retries) in [true, false, true, false].into_iter().enumerate() {
            let of = if m < 2 { "conversation" } else { "ticket" };
            let text = format!("{step}, retried {retries}, in a {of}");
            let mut message = Message::of(&server, n * 4 + m, text).await;
            if of == "ticket" {
                message = message.in_ticket(&server).await;
            }
            message.suffers(&server, attempts);
            if look_hangs {
                let path = format!("/conversations/{}", message.chat);
                server.sandbox.fault(Fault::new(HUNG).on("GET", &path));
            }
            if retries { &mut retried } else { &mut left }.push((message, look_hangs));
        }
    }
    for (message, _) in retried.iter().chain(&left) {
        under_way.spawn(message.clone().sent_once());
    }
    for (message, look_hangs) in retried.iter().chain(&left) {
        let look = ("GET", format!("/conversations/{}", message.chat));
        let (method, path) = if *look_hangs { look } else { ("POST", message.at()) };
        eventually(&message.text, async || asked(&server, method, &path) > 0).await;
    }
    server.kill();
    server.sandbox.clear_faults();
    while let Some(answer) = under_way.join_next().await {
        let answer = answer.expect("it does not panic");
        assert!(answer.is_err(), "nobody was answered: {answer:?}");
    }
    killed_and_restarted(&mut server).await;

    let mut answers = JoinSet::new();
    for (message, _) in retried {
        answers.spawn(async move { (message.clone(), message.retried().await) });
    }
    let answered = answers.join_all().await;
    for (message, _) in &left {
        eventually(&message.text, async || message.at_intercom(&server).len() > 1).await;
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
    let mut server = Server::start(UNTIL_KILLED).await;
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
        eventually(&message.text, async || asked(&server, "POST", &path(message)) == 1).await;
    }
    killed_and_restarted(&mut server).await;
    eventually("it is sent once more", async || asked(&server, "POST", &path(&messages[0])) == 2).await;
    killed_and_restarted(&mut server).await;
    for message in &messages {
        eventually(&message.text, async || message.at_intercom(&server).len() > 1).await;
    }
    quiet(&server).await;
    for message in &messages {
        message.is_there_once(&server, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_conversation_survives_a_kill_at_every_step() {
    let mut server = Server::start(UNTIL_KILLED).await;
    let find = "/contacts/find_by_external_id/{id}";
    // Where each is when the server dies: what the request to begin it suffers, and what hangs. What hangs in a read
    // hangs for shorter, and so comes last.
    let steps: [(&str, Option<Kind>, (&str, &str)); 5] = [
        ("not-applied", Some(HUNG), ("POST", "/conversations")),
        ("applied", Some(HUNG_APPLIED), ("POST", "/conversations")),
        ("looking-for-the-applied", Some(Kind::LostAnswer), ("POST", SEARCH)),
        ("looking-for-the-not-applied", Some(Kind::ResetBeforeApply), ("POST", SEARCH)),
        ("finding-the-contact", None, ("GET", find)),
    ];
    let mut under_way = JoinSet::new();
    for (name, post, hung) in &steps {
        server.sandbox.clear_faults();
        server.sandbox.forget_calls();
        if let Some(kind) = post {
            server.sandbox.fault(Fault::new(kind.clone()).on("POST", "/conversations"));
        }
        server.sandbox.fault(Fault::new(HUNG).on("POST", SEARCH));
        if hung.1 == find {
            server.sandbox.fault(Fault::new(HUNG).on(hung.0, find));
        }
        for retries in [true, false] {
            let user = server.user(&format!("{name}-{retries}"));
            let body = json!({ "body": name, "reason": { "main": "Deposits" } });
            under_way.spawn(async move { user.call("POST", "/api/conversations", Some("k"), Some(&body)).await });
        }
        let at_the_step = |call: &&sandbox::Call| {
            call.method == hung.0
                && (call.path == hung.1 || (hung.1 == find && call.path.starts_with("/contacts/find")))
        };
        eventually(name, async || server.sandbox.calls().iter().filter(at_the_step).count() >= 2).await;
    }
    server.kill();
    server.sandbox.clear_faults();
    while let Some(answer) = under_way.join_next().await {
        let answer = answer.expect("it does not panic");
        assert!(answer.is_err(), "nobody was answered: {answer:?}");
    }
    killed_and_restarted(&mut server).await;

    for (name, _, _) in &steps {
        let body = json!({ "body": name, "reason": { "main": "Deposits" } });
        let user = server.user(&format!("{name}-true"));
        let first = user.posts_until_201("/api/conversations", "k", &body).await;
        let again = user.posts_until_201("/api/conversations", "k", &body).await;
        assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text), "{name}");
    }
    // All but the one whose user was not even known to Intercom yet are begun without being asked for again.
    let expected = steps.len() * 2 - 1;
    eventually("all are begun", async || server.sandbox.conversation_ids().len() >= expected).await;
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

// Replies under random kills and everything that can go wrong at Intercom, at once.

/// One run of it.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Behind haproxy, if there are several.
    nodes: usize,
    users: usize,
    replies: usize,
    /// Of any node.
    kills: usize,
    /// How often Redis is emptied.
    flushes: usize,
    /// How often PostgreSQL is stopped and started again, every other time as by a crash.
    restarts: usize,
    seed: u64,
}

impl Run {
    /// One server and nothing else that dies.
    fn alone(users: usize, replies: usize, kills: usize) -> Self {
        Self { nodes: 1, users, replies, kills, flushes: 0, restarts: 0, seed: seed() }
    }

    /// What happens, in an order that the dice decide.
    fn troubles(&self, dice: &mut Dice) -> Vec<Trouble> {
        let restarts = [Trouble::Restart("immediate"), Trouble::Restart("fast")].into_iter().cycle();
        let mut troubles: Vec<_> = std::iter::repeat_n(Trouble::Kill, self.kills)
            .chain(std::iter::repeat_n(Trouble::Flush, self.flushes))
            .chain(restarts.take(self.restarts))
            .collect();
        for at in (1..troubles.len()).rev() {
            troubles.swap(at, dice.index(at + 1));
        }
        troubles
    }
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Kill,
    Flush,
    Restart(&'static str),
}

/// What goes wrong with requests to send a reply, and how often.
const MIX: [(Kind, f64); 7] = [
    (Kind::Refuse, 0.03),
    (Kind::RateLimit { reset_after_s: 1 }, 0.03),
    (Kind::ResetBeforeApply, 0.02),
    (Kind::LostAnswer, 0.03),
    (Kind::AppliedLate { after_ms: 200, hang: false }, 0.01),
    (UNAVAILABLE, 0.03),
    (Kind::Error { status: 503, applied: true, html: false }, 0.02),
];

/// What came of one user's replies: ids and texts.
#[derive(Clone, Debug, Default)]
struct Evidence {
    /// What was acknowledged with 201, in the order in which it was sent.
    acknowledged: Vec<(String, String)>,
    /// What Intercom has, in its order.
    at_intercom: Vec<(String, String)>,
    /// What a client that echoes `latestTimestamp` was shown, in that order.
    shown: Vec<(String, String)>,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    lost: usize,
    doubled: usize,
    out_of_order: usize,
    shown_twice: usize,
    missed: usize,
}

/// Holds what was acknowledged against what Intercom has and what was shown.
fn check(evidence: &Evidence) -> Verdict {
    let Evidence { acknowledged, at_intercom, shown } = evidence;
    let count = |list: &[(String, String)], one: &(String, String)| list.iter().filter(|other| *other == one).count();
    // A part that two messages were acknowledged with stands for one of them.
    let mut places: Vec<usize> = Vec::new();
    for message in acknowledged {
        let place = at_intercom.iter().position(|part| part == message);
        places.extend(place.filter(|place| !places.contains(place)));
    }
    Verdict {
        lost: acknowledged.len() - places.len(),
        doubled: at_intercom.len() - places.len(),
        out_of_order: places.windows(2).filter(|two| two[0] > two[1]).count(),
        // Again, or beside what was acknowledged.
        shown_twice: shown
            .iter()
            .enumerate()
            .filter(|(at, one)| count(&shown[..*at], one) > 0 || count(acknowledged, one) == 0)
            .count(),
        missed: acknowledged.iter().filter(|one| count(shown, one) == 0).count(),
    }
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.shown_twice += other.shown_twice;
        self.missed += other.missed;
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lost, doubled, out_of_order, shown_twice, missed } = self;
        write!(
            f,
            "{lost} lost, {doubled} doubled, {out_of_order} out of order, {shown_twice} shown twice, {missed} missed"
        )
    }
}

#[test]
fn the_checker_sees_each_kind_of_mistake() {
    let messages = |ids: &str| ids.chars().map(|id| (id.to_string(), "ok".to_owned())).collect::<Vec<_>>();
    let none = Verdict::default();
    for (acknowledged, at_intercom, shown, verdict) in [
        ("abc", "abc", "abc", none),
        ("abc", "ac", "abc", Verdict { lost: 1, ..none }),
        ("aac", "ac", "ac", Verdict { lost: 1, ..none }),
        ("abc", "abcx", "abc", Verdict { doubled: 1, ..none }),
        ("abc", "abbc", "abc", Verdict { doubled: 1, ..none }),
        ("abc", "acb", "abc", Verdict { out_of_order: 1, ..none }),
        ("abc", "abc", "abcb", Verdict { shown_twice: 1, ..none }),
        ("abc", "abcx", "abxc", Verdict { doubled: 1, shown_twice: 1, ..none }),
        ("abc", "abc", "ac", Verdict { missed: 1, ..none }),
    ] {
        let evidence = Evidence {
            acknowledged: messages(acknowledged),
            at_intercom: messages(at_intercom),
            shown: messages(shown),
        };
        assert_eq!(check(&evidence), verdict, "{acknowledged} {at_intercom} {shown}");
    }
}

/// A small generator (splitmix64): the same seed makes the same choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }
}

/// Sends a user's replies one after the other, each until it is acknowledged; a third of them are the same words.
async fn sends(
    user: Caller,
    chat: String,
    replies: usize,
    mut dice: Dice,
    done: Arc<AtomicUsize>,
) -> Vec<(String, String)> {
    let path = format!("/api/conversations/{chat}/reply");
    let mut acknowledged = Vec::new();
    for n in 0..replies {
        let text = if dice.below(10) < 3 { "ok".to_owned() } else { format!("message {n}") };
        let answer = user.posts_until_201(&path, &format!("key-{n}"), &json!({ "body": text })).await.json;
        assert_eq!(answer["body"], *text);
        acknowledged.push((answer["id"].as_str().expect("an id").to_owned(), text));
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Polls as a client does, echoing `latestTimestamp`, each time at any of `urls`, until after `enough` nothing new comes;
/// what it was shown.
async fn polls(
    user: Caller,
    urls: Vec<String>,
    chat: String,
    is_long: bool,
    mut dice: Dice,
    enough: CancellationToken,
) -> Vec<(String, String)> {
    let (mut since, mut shown) = (0, Vec::new());
    loop {
        let was_enough = enough.is_cancelled();
        let wait = if is_long && !was_enough { 5 } else { 0 };
        let path = format!("/api/conversations/{chat}/poll?since={since}&wait={wait}");
        let answered = user.at(&urls[dice.index(urls.len())]).call("GET", &path, None, None).await;
        // Where all of it is one process, there is an answer or none. Else the database may be away or late, or all nodes
        // be away.
        let is_one = urls.len() == 1 && database::postgres().is_none();
        let refused = |poll: &Answer| !is_one && matches!(poll.status, 502 | 503);
        if let Some(poll) = answered.ok().filter(|poll| !refused(poll)) {
            assert_eq!(poll.status, 200, "{}", poll.text);
            let messages = poll.json["messages"].as_array().expect("messages");
            if was_enough && messages.is_empty() {
                return shown;
            }
            for message in messages {
                let text = |name: &str| message[name].as_str().expect("a text").to_owned();
                shown.push((text("id"), text("body")));
            }
            let latest = poll.json["latestTimestamp"].as_i64().expect("a position");
            assert!(latest >= since, "{latest} is behind {since}");
            since = latest;
        }
        tokio::time::sleep(Duration::from_millis(if is_long { 10 } else { 1_000 })).await;
    }
}

/// The parts of a conversation that its user wrote.
fn parts_of_the_user(sandbox: &Sandbox, chat: &str) -> Vec<(String, String)> {
    let conversation = sandbox.conversation(chat).expect("the conversation");
    let parts = conversation["conversation_parts"]["conversation_parts"].as_array().expect("parts").clone();
    let texts = sandbox.contact_parts(chat);
    let ids = parts.iter().filter(|part| part["author"]["type"] == "user").map(|part| &part["id"]);
    // The opening message is no part.
    ids.zip(&texts[1..]).map(|(id, text)| (id.as_str().expect("an id").to_owned(), text.clone())).collect()
}

async fn run(run: Run, faults: Vec<Fault>) -> Verdict {
    let began = Instant::now();
    println!("{run:?}; to replay: AWCHAT_SEED={}", run.seed);
    let mut dice = Dice(run.seed);
    let mut cluster = match run.nodes {
        1 => Cluster::of_one(PATIENCE).await,
        nodes => Cluster::of(nodes, PATIENCE).await,
    };
    let sandbox = cluster.servers[0].sandbox.clone();
    let (done, enough) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let mut talks = Vec::new();
    for n in 0..run.users {
        let user = cluster.user(&format!("user-{n}"));
        talks.push((user.opens("Hello").await, user));
    }
    for fault in faults {
        sandbox.fault(fault);
    }
    let (mut senders, mut pollers) = (Vec::new(), Vec::new());
    for (n, (chat, user)) in talks.iter().enumerate() {
        let replies = run.replies / run.users + usize::from(n < run.replies % run.users);
        let choices = Dice(dice.below(u64::MAX));
        senders.push(tokio::spawn(sends(user.clone(), chat.clone(), replies, choices, done.clone())));
        let device = cluster.user(&format!("user-{n}"));
        let (urls, choices) = (cluster.urls(), Dice(dice.below(u64::MAX)));
        pollers.push(tokio::spawn(polls(device, urls, chat.clone(), n % 2 == 0, choices, enough.clone())));
    }
    let troubles = run.troubles(&mut dice);
    for (nth, trouble) in troubles.iter().enumerate() {
        // Somewhere in its share of the work, at any moment.
        let share = run.replies / troubles.len();
        let from = nth * share + dice.index(share * 9 / 10);
        let soon = Duration::from_micros(dice.below(50_000));
        let down = Duration::from_millis(dice.below(500));
        while done.load(Ordering::Relaxed) < from && !senders.iter().all(|sender| sender.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(soon).await;
        match trouble {
            Trouble::Kill => {
                let server = dice.index(run.nodes);
                cluster.servers[server].kill();
                tokio::time::sleep(down).await;
                cluster.servers[server].up().await;
            }
            Trouble::Flush => cluster.engines().expect("several nodes").flush_redis().await,
            Trouble::Restart(mode) => cluster.engines().expect("several nodes").restart_postgres(mode).await,
        }
    }
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.push(sender.await.expect("every reply is acknowledged in the end"));
    }
    quiet(&cluster.servers[0]).await;
    enough.cancel();
    let mut verdict = Verdict::default();
    for (((chat, _), poller), acknowledged) in talks.iter().zip(pollers).zip(acknowledged) {
        let mut shown = poller.await.expect("the poller does not panic");
        assert_eq!(shown.remove(0).1, "Hello");
        let evidence = Evidence { acknowledged, at_intercom: parts_of_the_user(&sandbox, chat), shown };
        let found = check(&evidence);
        if found != Verdict::default() {
            println!("{chat}: {found}\n{evidence:?}");
        }
        verdict += found;
    }
    let hits: u32 = sandbox.faults().iter().map(|fault| fault.hits).sum();
    let Run { nodes, users, replies, kills, flushes, restarts, seed } = run;
    let engines = match nodes {
        1 => String::new(),
        _ => format!("{flushes} Redis flushes, {restarts} PostgreSQL restarts, "),
    };
    println!(
        "replies under kill -9: {replies} by {users} users at {nodes} nodes, {kills} kills, {engines}{hits} faults, seed {seed}: {verdict}; {} s",
        began.elapsed().as_secs()
    );
    verdict
}

/// The seed to replay, or any.
fn seed() -> u64 {
    let any = || u64::from_str_radix(&awchat::id::random()[..8], 16).expect("hexadecimal");
    std::env::var("AWCHAT_SEED").map_or_else(|_| any(), |text| text.parse().expect("AWCHAT_SEED is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_under_random_kills_and_all_faults_at_once_are_each_sent_and_shown_once() {
    let one = match std::env::var("AWCHAT_SOAK") {
        Ok(_) => Run::alone(50, 10_000, 20),
        Err(_) => Run::alone(50, 1_000, 5),
    };
    assert_eq!(run(one, all_faults(one.seed)).await, Verdict::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_at_three_nodes_whose_neighbours_die_too_are_each_sent_and_shown_once() {
    if !cluster::is_asked_for() {
        return;
    }
    let one = match std::env::var("AWCHAT_SOAK") {
        Ok(_) => Run { nodes: 3, flushes: 3, restarts: 2, ..Run::alone(50, 10_000, 20) },
        Err(_) => Run { nodes: 3, flushes: 1, restarts: 1, ..Run::alone(50, 1_000, 5) },
    };
    assert_eq!(run(one, all_faults(one.seed)).await, Verdict::default());
}

/// All that can go wrong with a reply at Intercom, each now and then.
fn all_faults(seed: u64) -> Vec<Fault> {
    let mix = MIX.into_iter().zip(seed..);
    mix.map(|((kind, share), seed)| {
        Fault::new(kind).on("POST", "/conversations/{id}/reply").with_probability(share, seed)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_is_seen_to_fail_when_intercom_doubles_a_message() {
    // With this seed nobody says the same words twice: of equal words, nothing tells the double from the next message.
    let one = Run { seed: 11, ..Run::alone(3, 15, 0) };
    let double = Fault::new(Kind::DoubleApply).on("POST", "/conversations/{id}/reply").after(7).times(1);
    assert_eq!(run(one, vec![double]).await, Verdict { doubled: 1, shown_twice: 1, ..Verdict::default() });
}
