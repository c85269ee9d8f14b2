//! Event streams: all of a user's changes, nobody else's, without a gap.

use std::collections::HashMap;
use std::time::Duration;

use sandbox::{Fault, Kind};
use serde_json::{Value, json};

use crate::harness::{Client, World, bodies, document, live, world};

/// After which Intercom has been asked what a webhook of the same second left open.
const SECONDS: Duration = Duration::from_secs(3);

/// An open stream.
struct Stream {
    response: reqwest::Response,
    /// What has come of the next event.
    begun: String,
    /// The id of the newest event.
    last: Option<String>,
}

/// One event; a heartbeat has no kind.
#[derive(Debug)]
struct Told {
    kind: String,
    data: Value,
}

impl Stream {
    /// Begins, or goes on after the event of this id.
    async fn open(client: Client<'_>, last: Option<&str>) -> Self {
        let client = match last {
            Some(id) => client.with("last-event-id", id),
            None => client,
        };
        let response = client.opens_stream("/api/events").await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { response, begun: String::new(), last: last.map(ToOwned::to_owned) }
    }

    /// A new stream of this user, after its first event.
    async fn begin(world: &World, user: &str) -> Self {
        let mut stream = Self::open(world.user(user), None).await;
        stream.expect("resync").await;
        stream
    }

    /// Leaves, and comes back to where it was.
    async fn again(self, client: Client<'_>) -> Self {
        let last = self.last.clone();
        drop(self);
        Self::open(client, last.as_deref()).await
    }

    /// The next event or heartbeat; `None` at the stream's end.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.begun.split_once("\n\n") {
                let told = parse(event);
                self.last = field(event, "id").map(ToOwned::to_owned).or(self.last.take());
                self.begun = rest.to_owned();
                return Some(told);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.response.chunk()).await;
            let chunk = chunk.expect("something comes in time").expect("the stream does not break off")?;
            self.begun.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
    }

    /// What the next event says, which must be of this kind; a few heartbeats are passed over.
    async fn expect(&mut self, kind: &str) -> Value {
        for _ in 0..3 {
            let told = self.next().await.unwrap_or_else(|| panic!("the stream has ended; expected {kind}"));
            if !told.kind.is_empty() {
                assert_eq!(told.kind, kind, "{told:?}");
                return told.data;
            }
        }
        panic!("nothing but heartbeats; expected {kind}");
    }

    /// Takes in changes until this one of the conversation.
    async fn until(&mut self, conversation: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let change = self.expect("change").await;
            if change["id"] == *conversation && is_it(&change) {
                return change;
            }
        }
    }
}

fn field<'a>(event: &'a str, name: &str) -> Option<&'a str> {
    event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
}

/// Checked against the document.
fn parse(event: &str) -> Told {
    let kind = field(event, "event").unwrap_or_default().to_owned();
    let data = field(event, "data").map_or(Value::Null, |data| serde_json::from_str(data).expect("JSON"));
    let schema = match kind.as_str() {
        "change" => Some("Change"),
        "end" => Some("StreamEnd"),
        "resync" | "" => None,
        other => panic!("no such event is documented: {other}"),
    };
    if let Some(Err(problems)) = schema.map(|name| document().check_schema(name, &data)) {
        panic!("against the document: {problems:#?}\n{data}");
    }
    Told { kind, data }
}

#[tokio::test]
async fn whatever_changes_of_the_users_own_is_told() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let (chat, other, bobs) = (ada.opens("Hello").await, ada.opens("Hi").await, bob.opens("Hey").await);
    let ticket = ada.has_ticket(&world, "A card").await;
    let mut stream = Stream::begin(&world, "ada").await;
    world.operator().replies(&bobs, "For bob").await;
    world.operator().replies(&chat, "For ada").await;
    world.work().await;
    let change = stream.expect("change").await;
    assert_eq!((&change["id"], bodies(&change)), (&json!(chat), vec!["For ada"]), "nothing of bob's");
    assert_eq!((&change["unreadCount"], &change["ticket"]), (&json!(1), &Value::Null));

    ada.replies(&chat, "Thanks").await;
    assert_eq!(
        bodies(&stream.until(&chat, |change| !bodies(change).is_empty()).await),
        ["Thanks"],
        "her other devices"
    );
    ada.post(&format!("/api/conversations/{chat}/read"), json!({})).await.expect(200);
    stream.until(&chat, |change| change["unreadCount"] == 0).await;
    world.operator().closes(&other, None).await;
    world.pass(SECONDS).await;
    assert!(bodies(&stream.until(&other, |change| change["state"] == "closed").await).is_empty());
    world.operator().moves_ticket(&ticket, "Resolved").await;
    world.pass(SECONDS).await;
    let change = stream.until(&ticket, |change| change["ticket"]["status"] == "resolved").await;
    assert!(change["ticket"]["reference"].as_str().is_some_and(|reference| reference.starts_with("AW-")), "{change}");
    ada.post("/api/csat", json!({ "stars": 5, "conversationId": other })).await.expect(201);
    stream.until(&other, |change| change["rated"] == true).await;

    let mut bobs_stream = Stream::begin(&world, "bob").await;
    world.operator().replies(&bobs, "Again").await;
    world.work().await;
    assert_eq!(bodies(&bobs_stream.expect("change").await), ["Again"]);
}

#[tokio::test]
async fn who_comes_back_is_told_every_message_between_once_as_it_is_now() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let other = ada.opens("Hi").await;
    let stream = Stream::begin(&world, "ada").await;
    for text in ["1", "2"] {
        world.operator().replies(&chat, text).await;
        world.work().await;
    }
    world.operator().closes(&other, None).await;
    world.pass(SECONDS).await;
    let third = world.operator().replies(&chat, "3").await;
    world.work().await;
    world.operator().redacts(&chat, &third).await;
    world.pass(Duration::from_secs(5)).await;

    let mut stream = stream.again(world.user("ada")).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(stream.expect("change").await);
    }
    let seen: Vec<_> = told.iter().map(|change| (change["id"] == *chat, bodies(change))).collect();
    assert_eq!(seen[..3], [(true, vec!["1"]), (true, vec!["2"]), (false, vec![])], "in order");
    assert_eq!(told[2]["state"], "closed");
    let third_now = &told[3]["messages"][0];
    assert_eq!((&third_now["id"], &third_now["redacted"]), (&json!(third), &json!(true)), "as it is now");
    let polled = ada.polls(&chat, told[0]["latestTimestamp"].as_i64().expect("a position")).await;
    assert_eq!(bodies(&polled).len(), 2, "a poll from what was told misses nothing: {polled}");
    // That was all: what comes next is new.
    let mut stream = stream.again(world.user("ada")).await;
    world.operator().replies(&chat, "4").await;
    world.work().await;
    assert_eq!(bodies(&stream.expect("change").await), ["4"]);
}

#[tokio::test]
async fn formatting_that_comes_later_is_no_change() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let mut stream = Stream::begin(&world, "ada").await;
    world.operator().replies(&chat, "<p>Plain <b>bold</b></p>").await;
    world.pass(Duration::from_secs(5)).await;
    world.operator().closes(&chat, None).await;
    world.pass(SECONDS).await;
    assert_eq!(stream.expect("change").await["state"], "open");
    assert_eq!(stream.expect("change").await["state"], "closed", "nothing came between");
}

/// A client whose connection breaks now and then; what it has taken in, it has.
async fn follows(world: &World, chats: &[String], messages: usize, breaks: f64) -> (usize, usize) {
    let mut stream = Stream::open(world.user("ada"), Some("nothing")).await;
    stream.expect("resync").await;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut reconnects = 0;
    for chat in chats {
        let whole = world.user("ada").reads(chat).await;
        bodies(&whole).iter().for_each(|body| *seen.entry((*body).to_owned()).or_default() += 1);
    }
    while seen.keys().filter(|body| body.starts_with('m')).count() < messages {
        if awchat::id::chance() < breaks {
            stream = stream.again(world.user("ada")).await;
            reconnects += 1;
        }
        let change = stream.expect("change").await;
        bodies(&change).iter().for_each(|body| *seen.entry((*body).to_owned()).or_default() += 1);
    }
    (seen.values().filter(|times| **times > 1).count(), reconnects)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_messages_on_streams_that_break_are_each_told_once() {
    const MESSAGES: usize = 300;
    let world = live().await;
    let mut chats = Vec::new();
    for n in 0..3 {
        chats.push(world.user("ada").opens(&format!("Hello {n}")).await);
    }
    world.sandbox.webhooks_settled().await;
    world.sandbox.fault(Fault::new(Kind::Double).with_probability(0.2, 1));
    world.sandbox.fault(Fault::new(Kind::Reorder).with_probability(0.2, 2));
    let operator = async {
        // The streams are open by then: what they load at first, they load once.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for n in 0..MESSAGES {
            world.operator().replies(&chats[n % chats.len()], &format!("m{n}")).await;
        }
    };
    let (first, second, third, ()) = tokio::join!(
        follows(&world, &chats, MESSAGES, 0.0),
        follows(&world, &chats, MESSAGES, 0.1),
        follows(&world, &chats, MESSAGES, 0.5),
        operator,
    );
    world.sandbox.webhooks_settled().await;
    let twice = first.0 + second.0 + third.0;
    println!(
        "event streams: 3 clients, {} reconnects, {MESSAGES} messages: 0 missed, {twice} twice",
        second.1 + third.1
    );
    assert_eq!(twice, 0);
    assert!(third.1 > 20, "the streams did break: {}", third.1);
}

#[tokio::test]
async fn who_is_too_far_behind_loads_everything_anew() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let stream = Stream::begin(&world, "ada").await;
    // Each is applied before the next comes: many that come at once may be one change.
    for n in 0..260 {
        world.operator().replies(&chat, &n.to_string()).await;
        world.sandbox.webhooks_settled().await;
        world.app.chat.apply_inbox().await.expect("applied");
    }
    let mut stream = stream.again(world.user("ada")).await;
    stream.expect("resync").await;
    world.operator().replies(&chat, "And then").await;
    world.work().await;
    assert_eq!(bodies(&stream.expect("change").await), ["And then"], "from there on it goes on");
}

#[tokio::test]
async fn what_is_gone_or_of_another_time_is_a_reason_to_load_everything() {
    let world = world().await;
    let ada = world.user("ada");
    let (chat, other) = (ada.opens("Hello").await, ada.opens("Hi").await);
    let mut stream = Stream::begin(&world, "ada").await;
    let before = stream.last.clone().expect("an id");
    world.operator().deletes(&chat).await;
    world.work().await;
    stream.expect("resync").await;
    world.operator().replies(&other, "Still here").await;
    world.work().await;
    assert_eq!(bodies(&stream.expect("change").await), ["Still here"]);
    let (epoch, seq) = before.split_once('-').expect("two numbers");
    let from_the_future = format!("{epoch}-{}", seq.parse::<i64>().expect("a number") + 1_000);
    let of_another_database = format!("{}1-{seq}", &epoch[..epoch.len() - 1]);
    for last in [before.as_str(), &from_the_future, &of_another_database, "x", "-1", "1-", "99999999999999999999-1"] {
        Stream::open(world.user("ada"), Some(last)).await.expect("resync").await;
    }
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_lives_and_ends_with_its_token() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let token = world.token("ada");
    let began_s = world.clock.now_s();
    let mut stream = Stream::begin(&world, "ada").await;
    let mut beats = 0;
    let end = loop {
        let told = tokio::select! {
            told = stream.next() => told.expect("an event before the end"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                world.clock.advance(21_000);
                continue;
            }
        };
        match told.kind.as_str() {
            "" => beats += 1,
            _ => break told,
        }
    };
    assert_eq!((end.kind.as_str(), &end.data), ("end", &json!({ "reason": "token" })));
    assert!(stream.next().await.is_none(), "the answer is over");
    let lived_s = world.clock.now_s() - began_s;
    assert!((3_600..3_700).contains(&lived_s), "{lived_s}");
    assert!(beats > 100, "{beats} heartbeats in an hour");
    world.nobody().bearing(&token).get("/api/events").await.expect_error(401, "unauthorized");
    // A message that comes when the token is over is not told.
    let mut stream = Stream::begin(&world, "ada").await;
    world.clock.advance(3_700_000);
    world.operator().replies(&chat, "Too late").await;
    world.work().await;
    stream.expect("end").await;
}

#[tokio::test]
async fn a_ninth_stream_ends_the_oldest() {
    let world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(Stream::begin(&world, "ada").await);
    }
    let _others = Stream::begin(&world, "bob").await;
    streams.push(Stream::begin(&world, "ada").await);
    assert_eq!(streams[0].expect("end").await["reason"], "replaced");
    world.operator().replies(&chat, "Hi").await;
    world.work().await;
    for stream in &mut streams[1..] {
        assert_eq!(bodies(&stream.expect("change").await), ["Hi"]);
    }
}

#[tokio::test]
async fn an_erased_users_stream_ends_and_its_place_means_nothing_afterwards() {
    let world = world().await;
    let ada = world.user("ada");
    ada.opens("Hello").await;
    let mut stream = Stream::begin(&world, "ada").await;
    ada.call("DELETE", "/api/me", None).await.expect(204);
    assert_eq!(stream.expect("end").await["reason"], "token");
    let last = stream.last.clone().expect("an id");
    world.clock.advance(60_000);
    let mut back = Stream::open(world.user("ada"), Some(&last)).await;
    back.expect("resync").await;
    assert_ne!(back.last.as_deref(), Some(last.as_str()));
}

#[tokio::test]
async fn a_server_that_goes_ends_its_streams() {
    let mut world = world().await;
    let chat = world.user("ada").opens("Hello").await;
    let mut stream = Stream::begin(&world, "ada").await;
    world.operator().replies(&chat, "Hi").await;
    world.work().await;
    stream.expect("change").await;
    tokio::time::timeout(Duration::from_secs(10), world.shut_down()).await.expect("it does not wait for streams");
    assert_eq!(stream.expect("end").await["reason"], "shutdown");
    assert!(stream.next().await.is_none());
}
