//! Messages both ways: what they cost at Intercom, and how long they take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::folder;
use crate::load::{self, Connection, quantile};
use crate::report::Row;
use crate::servers::{Postgres, Server, intercom, own_processor, token};
use crate::{Effort, Result};

/// Somebody with a conversation.
pub(super) struct User {
    pub(super) token: String,
    conversation: String,
}

impl User {
    /// Begins a conversation.
    async fn new(client: &reqwest::Client, server: &Server, sub: &str) -> Result<Self> {
        let token = token(sub)?;
        let request = client.post(format!("{}/api/conversations", server.url())).bearer_auth(&token);
        let answer = request.json(&json!({ "body": "Hello" })).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        let conversation = answer["id"].as_str().ok_or("an id")?.to_owned();
        Ok(Self { token, conversation })
    }

    fn reply(&self, body: &str) -> Vec<u8> {
        let path = format!("/api/conversations/{}/reply", self.conversation);
        load::post(&path, &self.token, "application/json", json!({ "body": body }).to_string().as_bytes())
    }
}

pub(super) async fn users(server: &Server, count: usize) -> Result<Vec<User>> {
    let (client, mut users) = (reqwest::Client::new(), Vec::new());
    for n in 0..count {
        users.push(User::new(&client, server, &format!("user-{n}")).await?);
    }
    Ok(users)
}

/// Lets what messages cause come to its end.
pub(super) async fn settle(intercom: &Sandbox) {
    intercom.webhooks_settled().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred calls")]
fn each(calls: usize, messages: usize) -> f64 {
    calls as f64 / messages as f64
}

/// What polls and messages cost of Intercom's rate limit.
pub(crate) async fn calls() -> Result<Vec<Row>> {
    const MESSAGES: usize = 200;
    const POLLS: usize = 5_000;
    let home = folder()?;
    let intercom = intercom().await?;
    let server = Server::awchat(home.path(), &intercom, &[])?;
    let users = users(&server, 10).await?;
    settle(&intercom).await;
    intercom.forget_calls();
    let mut connection = Connection::open(server.address).await?;
    for n in 0..POLLS {
        let user = &users[n % users.len()];
        // From the future: nothing is new.
        let path = format!("/api/conversations/{}/poll?since=99999999999", user.conversation);
        connection.exchange(&load::get(&path, &user.token)).await?;
    }
    let of_polls = intercom.calls().len();
    intercom.forget_calls();
    for n in 0..MESSAGES {
        connection.exchange(&users[n % users.len()].reply(&format!("message {n}"))).await?;
    }
    let of_users = intercom.calls().len();
    settle(&intercom).await;
    let followed = intercom.calls().len() - of_users;
    intercom.forget_calls();
    for n in 0..MESSAGES {
        intercom.operator().replies(&users[n % users.len()].conversation, &format!("answer {n}")).await;
    }
    settle(&intercom).await;
    let of_operators = intercom.calls().len();
    Ok(vec![
        Row::new("Intercom calls per idle poll", each(of_polls, POLLS), "").at_most(0.0).note(format!("{POLLS} polls")),
        Row::new("Intercom calls per user's message", each(of_users, MESSAGES), "").at_most(1.1),
        Row::new("follow-up calls per user's message", each(followed, MESSAGES), ""),
        Row::new("Intercom calls per operator's message", each(of_operators, MESSAGES), "").at_most(1.0),
    ])
}

/// When each of the operator's messages was begun, by its words.
pub(super) type Said = Arc<Mutex<HashMap<String, Instant>>>;
type Heard = Arc<Mutex<Vec<Duration>>>;

/// Takes the times of all messages, `said-N.`, that are in a part of an answer.
fn hear(part: &[u8], said: &Said, heard: &Heard) {
    let text = String::from_utf8_lossy(part);
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    // A message is there as text and as HTML; once is enough.
    for (at, _) in text.match_indices("\"body\":\"said-") {
        let name: String = text[at + 8..].chars().take_while(|c| *c != '.').collect();
        if let Some(at) = said.get(&name) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(at.elapsed());
        }
    }
}

/// How many messages the operator says in a second.
pub(super) const PER_SECOND: u64 = 100;

/// The operator says `said-N.` to one user after the other, each in its time, however long the one before takes.
pub(super) async fn speak(intercom: &Sandbox, users: &[User], messages: u64, said: &Said) -> Result<()> {
    let (began, mut speaking) = (Instant::now(), JoinSet::new());
    for n in 0..messages {
        tokio::time::sleep_until((began + Duration::from_millis(n * 1_000 / PER_SECOND)).into()).await;
        let name = format!("said-{n}");
        said.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Instant::now());
        let operator = intercom.operator();
        let conversation = users[usize::try_from(n)? % users.len()].conversation.clone();
        speaking.spawn(async move { operator.replies(&conversation, &format!("{name}.")).await });
    }
    speaking.join_all().await;
    Ok(())
}

/// From the operator's message to the long poll and the event stream that wait for it, at a hundred a second.
pub(crate) async fn webhooks(effort: Effort) -> Result<Vec<Row>> {
    let home = folder()?;
    let intercom = intercom().await?;
    let server = Server::awchat(home.path(), &intercom, &[])?;
    let users = users(&server, 50).await?;
    settle(&intercom).await;
    let (said, polled, streamed) = (Said::default(), Heard::default(), Heard::default());
    let mut listening = JoinSet::new();
    let to = server.address;
    for user in &users {
        let (token, id) = (user.token.clone(), user.conversation.clone());
        listening.spawn({
            let (said, heard) = (said.clone(), polled.clone());
            async move {
                let mut connection = Connection::open(to).await?;
                let mut since = 0_i64;
                loop {
                    let path = format!("/api/conversations/{id}/poll?since={since}&wait=30");
                    let answer = connection.exchange(&load::get(&path, &token)).await?;
                    hear(answer, &said, &heard);
                    let answer: Value = serde_json::from_slice(answer)?;
                    since = answer["latestTimestamp"].as_i64().unwrap_or(since);
                }
                #[expect(unreachable_code, reason = "says what the task fails with")]
                std::io::Result::Ok(())
            }
        });
        listening.spawn({
            let (said, heard, token) = (said.clone(), streamed.clone(), user.token.clone());
            async move {
                let mut connection = Connection::open(to).await?;
                connection.send(&load::get("/api/events", &token)).await?;
                let mut come = Vec::new();
                loop {
                    come.extend_from_slice(connection.next().await?);
                    // An event may come in pieces.
                    if let Some(end) = come.windows(2).rposition(|two| two == b"\n\n") {
                        hear(&come[..end], &said, &heard);
                        come.drain(..end);
                    }
                }
                #[expect(unreachable_code, reason = "says what the task fails with")]
                std::io::Result::Ok(())
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let messages = PER_SECOND * effort.turn.as_secs().max(1) * 2;
    speak(&intercom, &users, messages, &said).await?;
    let count = |heard: &Heard| heard.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    let deadline = Instant::now() + Duration::from_secs(30);
    while (count(&polled) < messages || count(&streamed) < messages) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    listening.abort_all();
    let mut rows = Vec::new();
    for (who, heard) in [("long poll", polled), ("event stream", streamed)] {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if (heard.len() as u64) < messages {
            return Err(format!("{} of {messages} messages came by {who}", heard.len()).into());
        }
        let p50 = quantile(&mut heard, 0.5).as_secs_f64() * 1_000.0;
        let p99 = quantile(&mut heard, 0.99).as_secs_f64() * 1_000.0;
        let note = format!("p50 {p50:.1} ms, {messages} messages at {PER_SECOND}/s");
        rows.push(
            Row::new(format!("operator's message to the waiting {who}: p99"), p99, "ms").at_most(30.0).note(note),
        );
    }
    Ok(rows)
}

/// How much longer a reply takes than Intercom itself, and how many there can be.
pub(crate) async fn replies(effort: Effort) -> Result<Vec<Row>> {
    let home = folder()?;
    let intercom = intercom().await?;
    let server = Server::awchat(home.path(), &intercom, &[])?;
    let users = users(&server, 64).await?;
    settle(&intercom).await;
    let straight = intercom.url().trim_start_matches("http://").parse()?;
    let bearer = sandbox::Settings::default().access_token;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut through, mut direct) = (Connection::open(server.address).await?, Connection::open(straight).await?);
    for n in 0..50 * effort.turns {
        let user = &users[n % users.len()];
        let began = Instant::now();
        through.exchange(&user.reply(&format!("through {n}"))).await?;
        ours.push(began.elapsed());
        let contact = format!("user-{}", n % users.len());
        let body =
            json!({ "message_type": "comment", "type": "user", "user_id": contact, "body": format!("direct {n}") });
        let path = format!("/conversations/{}/reply", user.conversation);
        let request = load::post(&path, &bearer, "application/json", body.to_string().as_bytes());
        let began = Instant::now();
        direct.exchange(&request).await?;
        theirs.push(began.elapsed());
    }
    let ms = |samples: &mut [Duration]| quantile(samples, 0.5).as_secs_f64() * 1_000.0;
    let (ours, theirs) = (ms(&mut ours), ms(&mut theirs));
    let rate = sustained(&server, None, users, effort).await?;
    Ok(vec![
        Row::new("reply: what it adds to the sandbox's own time, p50", ours - theirs, "ms")
            .at_most(10.0)
            .note(format!("{ours:.1} ms through, {theirs:.1} ms direct")),
        rate.at_least(170.0),
    ])
}

/// How many replies there can be on PostgreSQL, where it is installed.
pub(crate) async fn replies_on_postgres(effort: Effort) -> Result<Vec<Row>> {
    let Some(postgres) = Postgres::start()? else { return Ok(Vec::new()) };
    let home = folder()?;
    let intercom = intercom().await?;
    let server = Server::awchat(home.path(), &intercom, &[("DATABASE_URL", &postgres.url)])?;
    let users = users(&server, 128).await?;
    settle(&intercom).await;
    let rate = sustained(&server, Some(&postgres), users, effort).await?;
    Ok(vec![Row { what: "replies sustained, PostgreSQL".to_owned(), ..rate }.at_least(1_000.0)])
}

/// Replies per second when each user writes again as soon as the last message was taken, and whose processor time each
/// takes.
async fn sustained(server: &Server, postgres: Option<&Postgres>, users: Vec<User>, effort: Effort) -> Result<Row> {
    let turns = u32::try_from(effort.turns)?;
    let spent = || {
        let of_postgres = postgres.map_or(Ok(Duration::ZERO), Postgres::processor)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>([server.processor()?, of_postgres, own_processor()?])
    };
    let (before, began, time, to) = (spent()?, Instant::now(), effort.turn * turns, server.address);
    let count = users.len();
    let mut sending = JoinSet::new();
    for user in users {
        sending.spawn(async move {
            let mut connection = Connection::open(to).await?;
            let mut sent = 0_u32;
            while began.elapsed() < time {
                connection.exchange(&user.reply(&format!("as fast as it goes {sent}"))).await?;
                sent += 1;
            }
            std::io::Result::Ok(sent)
        });
    }
    let mut all = 0;
    while let Some(sent) = sending.join_next().await {
        all += sent??;
    }
    let (took, after) = (began.elapsed().as_secs_f64(), spent()?);
    let each_ms = |n: usize| after[n].saturating_sub(before[n]).as_secs_f64() * 1_000.0 / f64::from(all.max(1));
    let of_postgres = postgres.map_or_else(String::new, |_| format!("PostgreSQL's {:.2}, ", each_ms(1)));
    let note = format!(
        "{count} users for {took:.0} s; of processor time, each takes {:.2} ms of the server's, {of_postgres}{:.2} of the \
         sandbox's and the load's",
        each_ms(0),
        each_ms(2)
    );
    Ok(Row::new("replies sustained, SQLite", f64::from(all) / took, "replies/s").note(note))
}
