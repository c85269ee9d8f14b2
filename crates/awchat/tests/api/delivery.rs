//! No operator's message is missed, whatever becomes of the webhooks and of the server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sandbox::{Fault, Kind};

use crate::process::{Caller, Server};

const SWEEP: Duration = Duration::from_secs(2);
/// The server is told to sweep every two seconds, so that "within one sweep and ten seconds" is soon.
const SETTINGS: &[(&str, &str)] = &[("SWEEP_INTERVAL_MS", "2000"), ("INTERCOM_TIMEOUT_MS", "3000")];

/// One conversation as its user's app sees it, by polls that echo `latestTimestamp`.
struct Watcher {
    user: Caller,
    chat: String,
    since: i64,
    seen: HashMap<String, u32>,
}

impl Watcher {
    /// Polls once; a server that is down or starting is asked again next time.
    async fn polls(&mut self) {
        let path = format!("/api/conversations/{}/poll?since={}", self.chat, self.since);
        let Ok(answer) = self.user.call("GET", &path, None, None).await else { return };
        if answer.status != 200 {
            return;
        }
        for message in answer.json["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if message["author"]["type"] != "user" {
                *self.seen.entry(message["body"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        self.since = answer.json["latestTimestamp"].as_i64().unwrap_or(self.since);
    }
}

/// How often operators' messages were missed, shown twice, or never said.
fn count(watchers: &[Watcher], said: &[Vec<String>]) -> (usize, usize, usize) {
    let (mut missed, mut twice, mut forged) = (0, 0, 0);
    for (watcher, said) in watchers.iter().zip(said) {
        missed += said.iter().filter(|text| !watcher.seen.contains_key(*text)).count();
        twice += watcher.seen.values().filter(|times| **times > 1).count();
        forged += watcher.seen.keys().filter(|text| !said.contains(text)).count();
    }
    (missed, twice, forged)
}

/// `messages` of operators in ten conversations while webhooks fail as `faults` say and the server dies `kills` times;
/// then everything must be there within one sweep and ten seconds.
async fn deliver(faults: Vec<Fault>, messages: usize, kills: usize) -> (usize, usize, usize) {
    const CHATS: usize = 10;
    let mut server = Server::start(SETTINGS).await;
    let mut watchers = Vec::new();
    for n in 0..CHATS {
        let user = server.user(&format!("user-{n}"));
        let chat = user.opens("Hello").await;
        watchers.push(Watcher { user, chat, since: 0, seen: HashMap::new() });
    }
    // The first sweep of a new database only sets its mark.
    tokio::time::sleep(SWEEP).await;
    for fault in faults {
        server.sandbox.fault(fault);
    }
    let mut said = vec![Vec::new(); CHATS];
    let a_part = messages / (kills + 1);
    for n in 0..messages {
        let text = format!("message {n}");
        server.sandbox.operator().replies(&watchers[n % CHATS].chat, &text).await;
        said[n % CHATS].push(text);
        if n % 7 == 0 {
            watchers[n % CHATS].polls().await;
        }
        if n % a_part == a_part - 1 && n + 1 < messages {
            server.kill();
            server.up().await;
        }
    }
    server.sandbox.release_delayed_webhooks().await;
    let ended = Instant::now();
    while count(&watchers, &said).0 > 0 && ended.elapsed() < SWEEP + Duration::from_secs(10) {
        for watcher in &mut watchers {
            watcher.polls().await;
        }
    }
    // What comes twice comes now.
    tokio::time::sleep(SWEEP).await;
    for watcher in &mut watchers {
        watcher.polls().await;
    }
    count(&watchers, &said)
}

fn size(short: (usize, usize), long: (usize, usize)) -> (usize, usize) {
    if std::env::var_os("AWCHAT_SOAK").is_some() { long } else { short }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_messages_survive_bad_webhooks_and_dead_servers() {
    let (messages, kills) = size((1_000, 2), (10_000, 5));
    let faults = vec![
        Fault::new(Kind::Drop).with_probability(0.1, 1),
        Fault::new(Kind::Double).with_probability(0.2, 2),
        Fault::new(Kind::Reorder).with_probability(0.2, 3),
        Fault::new(Kind::Late { ms: 1_500 }).with_probability(0.1, 4),
        Fault::new(Kind::Forge).with_probability(0.05, 5),
    ];
    let (missed, twice, forged) = deliver(faults, messages, kills).await;
    assert_eq!((missed, twice, forged), (0, 0, 0));
    println!(
        "{messages} operator messages, webhooks lost, doubled, disordered, late and forged, {kills} kills: {missed} missed, {twice} twice, {forged} forged shown"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_webhooks_off_altogether_the_sweep_alone_delivers() {
    let (messages, kills) = size((200, 1), (2_000, 2));
    let (missed, twice, forged) = deliver(vec![Fault::new(Kind::Drop)], messages, kills).await;
    assert_eq!((missed, twice, forged), (0, 0, 0));
    println!("{messages} operator messages, no webhook at all, {kills} kills: {missed} missed, {twice} twice");
}
