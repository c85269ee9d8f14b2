//! Several servers with one PostgreSQL database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awchat::app::App;
use awchat::chat::contacts::Profile;
use awchat::chat::conversations::Start;
use awchat::chat::feedback::{Category, Complaint, Rate, Rated};
use awchat::chat::requests::Sent;
use awchat::clock::Clock;
use awchat::error::Error;
use awchat::id::{ContactId, ConversationId, FileId, UserId};
use awchat::store::files::{File, Inserted};
use awchat::store::outbound::{Journal, Kind as Message, Outbound, Told};
use awchat::store::{Store, Tx};
use awchat::worker;
use sandbox::{Fault, Kind};
use serde_json::json;
use sqlx::{AnyConnection, Connection, Executor};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, postgres};
use crate::harness::{Settings, World, eventually, live, world};
use crate::process::Server;
use crate::push;

/// `world`, and the handles of its server and of so many more on its database; `None` where there is no PostgreSQL: SQLite
/// has one process.
async fn nodes<const COUNT: usize>(world: impl Future<Output = World>) -> Option<(World, [App; COUNT])> {
    if !is_postgres() {
        return None;
    }
    let world = world.await;
    let mut nodes = vec![world.app.clone()];
    for _ in 1..COUNT {
        nodes.push(App::open(world.app.config.clone(), world.clock.clone()).await.expect("another server opens it"));
    }
    Some((world, nodes.try_into().expect("so many")))
}

fn is_postgres() -> bool {
    let is = postgres().is_some();
    if !is {
        println!("SKIPPED: SQLite has one server; scripts/postgres runs this");
    }
    is
}

/// Does the same so many times at once, at each node in turn; the ends.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    nodes: &[App],
    times: usize,
    what: impl Fn(App, usize) -> F,
) -> Vec<T> {
    let begin = Arc::new(tokio::sync::Barrier::new(times));
    let mut tasks = JoinSet::new();
    for at in 0..times {
        let (begin, work) = (Arc::clone(&begin), what(nodes[at % nodes.len()].clone(), at));
        tasks.spawn(async move {
            begin.wait().await;
            work.await
        });
    }
    tasks.join_all().await
}

/// A reply of Ada's.
async fn replies(app: &App, chat: &ConversationId, text: &str, key: &str) -> Result<Sent, Error> {
    let content = (Some(text.to_owned()), Vec::new());
    app.chat.reply(ada(), Profile::default(), chat.clone(), content, Some(key.to_owned())).await
}

/// The same until it is answered with success.
async fn replies_until_sent(app: &App, chat: &ConversationId, text: &str, key: &str) -> Sent {
    let began = Instant::now();
    loop {
        match replies(app, chat, text, key).await {
            Ok(sent) => return sent,
            Err(Error::Unavailable { .. } | Error::Conflict | Error::Overloaded { .. }) => {}
            Err(other) => panic!("{text}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{text} is never sent");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Time passes, and only these nodes say that they live.
async fn while_only_these_live(world: &World, nodes: &[&App], seconds: i64) -> usize {
    let mut took_up = 0;
    for _ in 0..seconds {
        world.clock.advance(1_000);
        for node in nodes {
            took_up += usize::from(node.chat.tend_nodes().await.expect("the database works"));
        }
    }
    took_up
}

/// What a query counts in a server's database.
pub(crate) async fn count(app: &App, sql: &'static str) -> i64 {
    let mut connection = AnyConnection::connect(app.config.database_url.expose()).await.expect("a connection");
    let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut connection).await.expect("counted");
    count
}

fn ada() -> UserId {
    UserId::parse("ada").expect("a user id")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_ratings_at_once_one_counts_and_of_nothing_five() {
    let Some((world, nodes)) = nodes::<3>(world()).await else { return };
    let id = world.user("ada").opens("hello").await;
    let conversation = ConversationId::parse(&id);
    let rate = |conversation: Option<ConversationId>| {
        move |app: App, _| {
            let rate = Rate { stars: 5, comment: None, ticket: None, conversation: conversation.clone() };
            async move { app.chat.rate(&ada(), &rate, None).await }
        }
    };
    let ends = at_once(&nodes, 32, rate(conversation)).await;
    let counted = ends.iter().filter(|end| matches!(end, Ok(Rated::Stored(_)))).count();
    let known = ends.iter().filter(|end| matches!(end, Ok(Rated::Duplicate))).count();
    assert_eq!((counted, known), (1, 31), "{ends:?}");

    let ends = at_once(&nodes, 32, rate(None)).await;
    let counted = ends.iter().filter(|end| matches!(end, Ok(Rated::Stored(_)))).count();
    let refused = ends.iter().filter(|end| matches!(end, Err(Error::RateLimited { .. }))).count();
    assert_eq!((counted, refused), (5, 27), "{ends:?}");
    println!("32 ratings at once over 3 nodes: 1 row, 31 told so; of nothing: 5 of 32");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_complaint_at_two_nodes_is_stored_once_and_all_are_told_so() {
    let Some((_world, nodes)) = nodes::<2>(world()).await else { return };
    let ends = at_once(&nodes, 16, |app, _| async move {
        let description = "Where is my money?".to_owned();
        let complaint = Complaint { category: Category::Funds, description, chat: None, dialog: None };
        app.chat.complain(&ada(), &complaint, Some("one")).await.map(|kept| kept.id)
    })
    .await;
    let ids: Result<BTreeSet<String>, Error> = ends.into_iter().collect();
    assert_eq!(ids.expect("each is answered").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_leased_once() {
    let Some((world, nodes)) = nodes::<2>(world()).await else { return };
    let now_ms = world.clock.now_ms();
    for subject in 0..100 {
        world.app.store.enqueue("nothing", &subject.to_string(), "{}", now_ms, now_ms).await.expect("asked for");
    }
    let taken = at_once(&nodes, 8, move |app, _| async move {
        let mut taken = Vec::new();
        while app.store.job_is_due(now_ms).await.expect("read") {
            let job = app.store.lease_job(now_ms, now_ms + 60_000).await.expect("the database works");
            taken.extend(job.map(|job| job.subject));
        }
        taken
    })
    .await;
    let all: Vec<String> = taken.into_iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (100, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_bring_the_schema_up_to_date_once() {
    if !is_postgres() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::blank(folder.path(), &postgres().expect("there is one")).await;
    for started in futures_util::future::join_all((0..4).map(|_| Store::open(&database.url))).await {
        started.expect("each has the schema");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_had_in_hand_is_taken_up_by_one_other() {
    let Some((world, [one, other, dead])) = nodes::<3>(world()).await else { return };
    let now_ms = world.clock.now_ms();
    one.store.enqueue("nothing", "at all", "{}", now_ms, now_ms).await.expect("asked for");
    let hook = json!({ "type": "notification_event", "topic": "conversation.admin.replied", "data": {} }).to_string();
    one.chat.receive("hook", "conversation.admin.replied", &hook).await.expect("stored");
    let hour_ms = 3_600_000;
    assert!(dead.store.lease_job(now_ms, now_ms + hour_ms).await.expect("leased").is_some());
    assert_eq!(dead.store.inbox_due(now_ms, now_ms + hour_ms, 10).await.expect("leased").len(), 1);
    assert!(worker::sweep(&dead).await.expect("swept"));

    let a_third = App::open(one.config.clone(), world.clock.clone()).await.expect("a server that starts");
    assert_eq!(while_only_these_live(&world, &[&one, &other, &a_third, &dead], 20).await, 0, "nobody has died");
    for node in [&one, &other, &a_third] {
        let now_ms = world.clock.now_ms();
        assert!(node.store.lease_job(now_ms, now_ms + 1).await.expect("looked").is_none(), "it is at work");
        assert!(node.store.inbox_due(now_ms, now_ms + 1, 10).await.expect("looked").is_empty(), "so it is");
        assert!(!worker::sweep(node).await.expect("looked"), "another one leads");
    }
    assert_eq!(while_only_these_live(&world, &[&one, &other, &a_third], 20).await, 1, "one takes it up");
    let now_ms = world.clock.now_ms();
    let job = other.store.lease_job(now_ms, now_ms + 1).await.expect("looked").expect("it is free");
    assert_eq!((job.subject.as_str(), job.attempt), ("at all", 2));
    assert_eq!(one.store.inbox_due(now_ms, now_ms + 1, 10).await.expect("looked").len(), 1);
    let swept = [worker::sweep(&one).await.expect("looked"), worker::sweep(&other).await.expect("looked")];
    assert_eq!(swept, [true, false], "one leads from now on");
    one.store.leave().await.expect("it goes");
    assert!(worker::sweep(&other).await.expect("swept"), "without a wait");
}

#[tokio::test]
async fn a_node_that_was_cut_off_waits_for_the_others_and_gives_up_its_lead() {
    let Some((world, [one, other, third])) = nodes::<3>(world()).await else { return };
    assert!(worker::sweep(&one).await.expect("swept"));
    world.clock.advance(60_000);
    assert!(worker::sweep(&other).await.expect("swept"), "nobody else seems alive");
    assert!(!one.chat.tend_nodes().await.expect("it is back"), "others may be back in a moment");
    assert!(!worker::sweep(&one).await.expect("looked"), "another one leads by now");
    assert_eq!(while_only_these_live(&world, &[&one, &other, &third], 20).await, 0, "and so they are");
}

/// What hangs goes on hanging until the server is killed.
const UNTIL_KILLED: Settings<'static> =
    &[("INTERCOM_TIMEOUT_MS", "30000"), ("SETTLE_MS", "1500"), ("BREAKER_OPEN_MS", "500")];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_was_sending_is_finished_by_another_once() {
    if !is_postgres() {
        return;
    }
    let mut server = Server::start(UNTIL_KILLED).await;
    let hang = |applied| Kind::Hang { ms: 60_000, applied };
    let mut under_way = JoinSet::new();
    let mut chats = Vec::new();
    for (applied, is_retried) in [(false, true), (true, true), (false, false), (true, false)] {
        let user = server.user("ada");
        let path = "/api/conversations";
        let key = format!("open-{applied}-{is_retried}");
        let opened = user.posts_until_201(path, &key, &json!({ "body": "Hello" })).await;
        let id = opened.json["id"].as_str().expect("an id").to_owned();
        let at = format!("/conversations/{id}/reply");
        server.sandbox.fault(Fault::new(hang(applied)).on("POST", &at).times(1));
        let reply = format!("/api/conversations/{id}/reply");
        under_way.spawn(async move { user.call("POST", &reply, Some("k"), Some(&json!({ "body": "once" }))).await });
        chats.push((ConversationId::parse(&id).expect("an id"), at, is_retried));
    }
    let is_asked = |at: &str| server.sandbox.calls().iter().any(|call| call.method == "POST" && call.path == at);
    for (_, at, _) in &chats {
        eventually("it is being sent", async || is_asked(at)).await;
    }
    server.set("INTERCOM_TIMEOUT_MS", "2000");
    let other = App::open(server.config(), Clock::system()).await.expect("another server");
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker::run(other.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.kill();
    let killed = Instant::now();
    while under_way.join_next().await.is_some() {}
    let mut asking = JoinSet::new();
    for (chat, _, is_retried) in chats.clone() {
        let other = other.clone();
        if is_retried {
            asking.spawn(async move { replies_until_sent(&other, &chat, "once", "k").await });
        }
    }
    asking.join_all().await;
    let is_there = |id: &ConversationId| server.sandbox.contact_parts(id.as_str()).len() > 1;
    for (chat, _, _) in &chats {
        eventually("it is sent", async || is_there(chat)).await;
    }
    let took = killed.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (chat, at, is_retried) in &chats {
        assert_eq!(server.sandbox.contact_parts(chat.as_str()), ["Hello", "once"], "{at}, retried: {is_retried}");
        let shown = other.chat.get(&ada(), chat).await.expect("read");
        assert_eq!(shown.messages.len(), 2, "{at}, retried: {is_retried}");
    }
    stop.cancel();
    working.await.expect("it ends");
    println!("4 replies in flight at a node that was killed: each once, {:.1} s after the kill", took.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_at_two_nodes_at_once_is_one_message_and_both_hear_of_it() {
    let Some((world, nodes)) = nodes::<2>(live()).await else { return };
    let id = world.user("ada").opens("Hello").await;
    let chat = ConversationId::parse(&id).expect("an id");
    let slow = Fault::new(Kind::Slow { ms: 700 }).on("POST", &format!("/conversations/{id}/reply"));
    world.sandbox.fault(slow);
    for key in [Some("k"), None] {
        // A webhook would wait for the contact too, and be taken for one who asks.
        world.sandbox.webhooks_settled().await;
        while count(&nodes[0], "select count(*) from inbox where raw is not null").await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Nobody's row is there before all have asked.
        let mut nobody = AnyConnection::connect(nodes[0].config.database_url.expose()).await.expect("a connection");
        let mut held = nobody.begin().await.expect("a transaction");
        held.execute("update contact set created_ms = created_ms where user_id = 'ada'").await.expect("held");
        let asking = at_once(&nodes, 6, |app, _| {
            let (chat, key) = (chat.clone(), key.map(str::to_owned));
            let content = (Some(format!("with {key:?}")), Vec::new());
            async move { app.chat.reply(ada(), Profile::default(), chat, content, key).await }
        });
        // Who writes to the journal begins with the user's contact.
        let waits = "select count(*) from pg_stat_activity where datname = current_database()
            and wait_event_type = 'Lock' and query like 'update contact set created_ms%'";
        let let_go = async {
            let began = Instant::now();
            while count(&nodes[0], waits).await < 2 {
                assert!(began.elapsed() < Duration::from_secs(4), "both nodes ask");
                tokio::task::yield_now().await;
            }
            held.rollback().await.expect("let go");
        };
        let (ends, ()) = tokio::join!(asking, let_go);
        let bodies: Result<BTreeSet<_>, Error> = ends.into_iter().map(|end| end.map(|sent| sent.body)).collect();
        assert_eq!(bodies.expect("each is answered").len(), 1, "{key:?}: byte for byte");
    }
    assert_eq!(world.sandbox.contact_parts(&id).len(), 3);
    let doubted = count(&nodes[0], "select count(*) from outbound where ambiguous = 1").await;
    assert_eq!(doubted, 0, "who is being answered elsewhere is waited for, not looked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_answered_at_one_node_are_new_words_though_an_older_request_for_them_ends_at_another() {
    let Some((world, nodes)) = nodes::<2>(world()).await else { return };
    let id = world.user("ada").opens("Hello").await;
    let chat = ConversationId::parse(&id).expect("an id");
    let at = format!("/conversations/{id}/reply");
    world.sandbox.fault(Fault::new(Kind::Slow { ms: 5_000 }).on("POST", &at).times(1));
    let says_ok = |app: &App| {
        let (app, chat) = (app.clone(), chat.clone());
        tokio::spawn(async move {
            app.chat.reply(ada(), Profile::default(), chat, (Some("ok".to_owned()), Vec::new()), None).await
        })
    };
    let first = says_ok(&nodes[0]);
    eventually("it is being sent", async || world.sandbox.calls().iter().any(|call| call.path == at)).await;
    let second = says_ok(&nodes[1]);
    while count(&nodes[0], "select count(*) from outbound where told = 3").await == 0 {
        tokio::task::yield_now().await;
    }
    // The other node looks again after a moment of a clock that stands still, and so does not see how it ends.
    first.await.expect("no panic").expect("sent");
    let answered = "select count(*) from outbound where told = 2";
    assert_eq!(count(&nodes[0], answered).await, 1, "the node that answers knows that others ask for it");
    world.clock.advance(15_000);
    drop(second.await.expect("no panic"));
    assert_eq!(count(&nodes[0], answered).await, 1, "nobody is told otherwise after that");
    says_ok(&nodes[1]).await.expect("no panic").expect("sent");
    assert_eq!(world.sandbox.contact_parts(&id), ["Hello", "ok", "ok"]);
}

/// A message of this user's in the journal; not committed.
async fn journalled(app: &App, user: &UserId) -> Tx {
    let id = awchat::id::random();
    let row = Outbound {
        user: user.clone(),
        conversation: ConversationId::parse("7"),
        kind: Message::Reply,
        route: "/reply".to_owned(),
        key: Some(id.clone()),
        fingerprint: id.clone(),
        content: id.clone(),
        body: "Hello".to_owned(),
        payload: "{}".to_owned(),
        state: Journal::Abandoned,
        attempts: 1,
        ambiguous: false,
        told: Told::Nothing,
        attempt_ms: 0,
        settle_until_ms: 0,
        part_id: None,
        response: None,
        created_ms: 0,
        id,
    };
    let mut tx = loop {
        match app.store.begin().await {
            // There are more senders than connections.
            Err(Error::Overloaded { .. }) => {}
            begun => break begun.expect("a transaction"),
        }
    };
    assert!(tx.insert_outbound(&row).await.expect("stored"));
    tx
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_messages_are_numbered_one_after_the_other_and_nobody_elses_wait_for_them() {
    const USERS: usize = 50;
    const EACH: usize = 20;
    let Some((_world, nodes)) = nodes::<2>(world()).await else { return };
    let users: Vec<UserId> = (0..USERS).map(|n| UserId::parse(&format!("user-{n}")).expect("a user id")).collect();
    for user in &users {
        let contact = ContactId::parse(&format!("contact-of-{user}")).expect("a contact id");
        nodes[0].store.set_contact(user, &contact, 0).await.expect("stored");
    }
    let held = journalled(&nodes[0], &users[0]).await;
    let began = Instant::now();
    let others = users[1..].to_vec();
    let took = at_once(&nodes, others.len(), move |app, at| {
        let user = others[at].clone();
        async move {
            let mut took = Vec::new();
            for _ in 0..EACH {
                let began = Instant::now();
                journalled(&app, &user).await.commit().await.expect("committed");
                took.push(began.elapsed());
            }
            took
        }
    });
    let took = tokio::time::timeout(Duration::from_secs(60), took).await.expect("others do not wait").concat();
    let sent = f64::from(u32::try_from(took.len()).expect("a few"));
    let (rate, longest) = (sent / began.elapsed().as_secs_f64(), took.iter().max().expect("some"));
    println!(
        "messages journalled by {} users at once while one's is not committed: {rate:.0}/s, the longest {longest:?}",
        USERS - 1
    );
    let second = tokio::spawn({
        let (app, user) = (nodes[1].clone(), users[0].clone());
        async move { journalled(&app, &user).await.commit().await.expect("committed") }
    });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while count(&nodes[0], waits).await == 0 {
        assert!(!second.is_finished(), "it waits for the first of the same user");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    held.commit().await.expect("committed");
    second.await.expect("no panic");
    let wrong = count(
        &nodes[0],
        "select count(*) from (select count(distinct seq) as n, min(seq) as least, max(seq) as most, count(*) as rows
           from outbound group by user_id) as of_user where n <> rows or least <> 1 or most <> rows",
    );
    assert_eq!(wrong.await, 0, "1, 2, 3 for each user");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_conversation_from_two_nodes_go_one_after_the_other() {
    let Some((world, nodes)) = nodes::<2>(live()).await else { return };
    let id = world.user("ada").opens("Hello").await;
    let chat = ConversationId::parse(&id).expect("an id");
    let ends = at_once(&nodes, 12, |app, at| {
        let chat = chat.clone();
        async move { replies_until_sent(&app, &chat, &format!("message {at}"), &format!("k{at}")).await }
    })
    .await;
    assert_eq!(ends.len(), 12);
    let (sent, all) = (world.sandbox.contact_parts(&id), 13);
    assert_eq!((sent.len(), sent.iter().collect::<BTreeSet<_>>().len()), (all, all), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_for_a_new_conversation_at_two_nodes_begins_one() {
    let Some((world, nodes)) = nodes::<2>(live()).await else { return };
    for round in 0..5 {
        let ends = at_once(&nodes, 4, |app, _| async move {
            let start = Start {
                text: Some(format!("Hello {round}")),
                topic: None,
                files: Vec::new(),
                meta: serde_json::Map::new(),
            };
            app.chat.start(ada(), Profile::default(), start, Some(format!("k{round}"))).await
        })
        .await;
        let bodies: Result<BTreeSet<_>, Error> = ends.into_iter().map(|end| end.map(|sent| sent.body)).collect();
        assert_eq!(bodies.expect("each is answered").len(), 1);
    }
    world.sandbox.webhooks_settled().await;
    let list = world.user("ada").get("/api/conversations").await.expect(200);
    assert_eq!(list["conversations"].as_array().map(Vec::len), Some(5), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_applied_by_one_node_whichever_received_it() {
    let Some((world, nodes)) = nodes::<2>(world()).await else { return };
    let id = world.user("ada").opens("Hello").await;
    world.work().await;
    let chat = ConversationId::parse(&id).expect("an id");
    world.operator().replies(&id, "On its way.").await;
    world.sandbox.webhooks_settled().await;
    assert!(nodes[1].chat.apply_inbox().await.expect("applied") > 0, "received at the first, applied at the second");
    let seen = nodes[0].chat.get(&ada(), &chat).await.expect("read");
    assert_eq!(seen.messages.last().map(|message| message.body.as_str()), Some("On its way."));

    world.work().await;
    for hook in 0..300 {
        nodes[hook % 2].chat.receive(&format!("hook {hook}"), "ping", "{}").await.expect("stored");
    }
    let now_ms = world.clock.now_ms();
    let taken = at_once(&nodes, 4, move |app, _| async move {
        let mut taken = Vec::new();
        loop {
            let some = app.store.inbox_due(now_ms, now_ms + 60_000, 16).await.expect("the database works");
            if some.is_empty() {
                return taken;
            }
            taken.extend(some.into_iter().map(|received| received.id));
            assert!(taken.len() <= 300, "each once");
        }
    })
    .await;
    let all: Vec<String> = taken.into_iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (300, 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_at_two_nodes_do_not_exceed_the_quota() {
    let Some((world, nodes)) = nodes::<2>(world()).await else { return };
    let now_ms = world.clock.now_ms();
    let ends = at_once(&nodes, 16, move |app, at| async move {
        let id = FileId::random();
        let file = File {
            object: id.as_str().to_owned(),
            id,
            name: "a.txt".to_owned(),
            content_type: "text/plain".to_owned(),
            bytes: 100,
            size: None,
            sha256: String::new(),
            key: None,
            fingerprint: at.to_string(),
            created_ms: now_ms,
        };
        app.store.insert_file(&ada(), &file, 500, 0).await.expect("the database works")
    })
    .await;
    assert_eq!(ends.iter().filter(|end| **end == Inserted::Stored).count(), 5, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_at_one_node_while_writing_at_another_leaves_nothing_and_nobody_waits_for_ever() {
    let Some((world, nodes)) = nodes::<2>(live()).await else { return };
    for round in 0..8 {
        let bob = UserId::parse(&format!("bob-{round}")).expect("a user id");
        let id = world.user(bob.as_str()).opens("Hello").await;
        let chat = ConversationId::parse(&id).expect("an id");
        let ends = at_once(&nodes, 6, |app, at| {
            let (bob, chat, id) = (bob.clone(), chat.clone(), id.clone());
            let operator = world.operator();
            async move {
                match at {
                    0 => app.chat.erase(&bob).await.map(drop),
                    1 => {
                        operator.replies(&id, "a word").await;
                        Ok(())
                    }
                    _ => {
                        let content = (Some(format!("word {at}")), Vec::new());
                        app.chat.reply(bob, Profile::default(), chat, content, None).await.map(drop)
                    }
                }
            }
        })
        .await;
        let broken: Vec<_> = ends.iter().filter(|end| matches!(end, Err(Error::Internal(_)))).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
    world.sandbox.webhooks_settled().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for table in [
        "select count(*) from outbound where user_id like 'bob-%'",
        "select count(*) from conversation where user_id like 'bob-%'",
        "select count(*) from message where conversation_id not in (select id from conversation)",
        "select count(*) from contact where user_id like 'bob-%'",
    ] {
        assert_eq!(count(&nodes[0], table).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_at_one_node_is_told_nothing_by_another_after_the_answer() {
    let Some((world, nodes)) = nodes::<2>(push::world()).await else { return };
    push::an_erasure_waits_for_what_is_on_its_way(&world, &nodes[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_goes_on_while_a_newer_one_adds_columns() {
    let Some((world, [node])) = nodes::<1>(world()).await else { return };
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    let said = async |text: &str| {
        ada.replies(&chat, text).await;
        world.operator().replies(&chat, "Yes?").await;
        world.work().await;
        ada.get("/api/conversations").await.expect(200);
        ada.get("/api/export").await.expect(200);
        ada.polls(&chat, 0).await;
    };
    said("before").await;
    let mut newer = AnyConnection::connect(node.config.database_url.expose()).await.expect("a connection");
    for table in ["conversation", "outbound", "message", "file", "remote_file", "ticket", "contact", "job", "inbox"] {
        let add = format!("alter table {table} add column added_later text");
        newer.execute(sqlx::AssertSqlSafe(add)).await.expect("a column more");
    }
    said("after").await;
}
