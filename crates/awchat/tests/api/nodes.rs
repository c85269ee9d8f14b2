//! Several servers with one PostgreSQL database.

use std::collections::BTreeSet;
use std::sync::Arc;

use awchat::app::App;
use awchat::chat::feedback::{Category, Complaint, Rate, Rated};
use awchat::error::Error;
use awchat::id::UserId;
use tokio::task::JoinSet;

use crate::database::postgres;
use crate::harness::{World, world};

/// Two servers' handles on one database; `None` where there is no PostgreSQL: SQLite has one process.
async fn two() -> Option<(World, [App; 2])> {
    if postgres().is_none() {
        println!("SKIPPED: SQLite has one server; scripts/postgres runs this");
        return None;
    }
    let world = world().await;
    let other = App::open(world.app.config.clone(), world.clock.clone()).await.expect("a second server opens it");
    let nodes = [world.app.clone(), other];
    Some((world, nodes))
}

/// Does the same so many times at once, at either node in turn; the ends.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    nodes: &[App; 2],
    times: usize,
    what: impl Fn(App) -> F,
) -> Vec<T> {
    let begin = Arc::new(tokio::sync::Barrier::new(times));
    let mut tasks = JoinSet::new();
    for at in 0..times {
        let (begin, work) = (Arc::clone(&begin), what(nodes[at % 2].clone()));
        tasks.spawn(async move {
            begin.wait().await;
            work.await
        });
    }
    tasks.join_all().await
}

fn ada() -> UserId {
    UserId::parse("ada").expect("a user id")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_ratings_at_once_one_counts_and_of_nothing_five() {
    let Some((world, nodes)) = two().await else { return };
    let id = world.user("ada").opens("hello").await;
    let conversation = awchat::id::ConversationId::parse(&id);
    let rate = |conversation: Option<awchat::id::ConversationId>| {
        move |app: App| {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_complaint_at_two_nodes_is_stored_once_and_all_are_told_so() {
    let Some((_world, nodes)) = two().await else { return };
    let ends = at_once(&nodes, 16, |app| async move {
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
    let Some((world, nodes)) = two().await else { return };
    let now_ms = world.clock.now_ms();
    for subject in 0..100 {
        world.app.store.enqueue("nothing", &subject.to_string(), "{}", now_ms, now_ms).await.expect("asked for");
    }
    let taken = at_once(&nodes, 8, move |app| async move {
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
