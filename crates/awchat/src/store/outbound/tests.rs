//! The journal's rows as the database keeps them.

use super::*;

pub(in crate::store) fn row(id: &str, state: Journal) -> Outbound {
    Outbound {
        id: id.to_owned(),
        user: UserId::parse("ada").expect("a user id"),
        conversation: ConversationId::parse("7"),
        kind: Kind::Reply,
        route: "/reply".to_owned(),
        key: Some(id.to_owned()),
        fingerprint: id.to_owned(),
        content: id.to_owned(),
        body: id.to_owned(),
        payload: "{}".to_owned(),
        state,
        attempts: 1,
        ambiguous: false,
        told: Told::Nothing,
        attempt_ms: 0,
        settle_until_ms: 0,
        part_id: None,
        response: None,
        created_ms: 0,
    }
}

#[tokio::test]
async fn a_conversation_has_one_message_on_its_way_and_a_second_is_an_outcome_not_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&format!("sqlite://{}/test.db", folder.path().display())).await.expect("a database");
    let mut tx = store.begin().await.expect("a transaction");
    assert!(tx.insert_outbound(&row("a", Journal::Abandoned)).await.expect("stored"));
    assert!(tx.insert_outbound(&row("b", Journal::Sending)).await.expect("stored"));
    tx.commit().await.expect("committed");

    for refused in [row("c", Journal::Sending), row("a", Journal::Abandoned)] {
        let mut tx = store.begin().await.expect("a transaction");
        assert!(!tx.insert_outbound(&refused).await.expect("an outcome"), "{}", refused.id);
    }
    let mut tx = store.begin().await.expect("a transaction");
    let again = Outbound { state: Journal::Sending, ..tx.outbound("a").await.expect("read").expect("there") };
    assert!(!tx.resume_outbound(&again).await.expect("an outcome"));
    drop(tx);

    let mut tx = store.begin().await.expect("a transaction");
    let ended = Outbound { state: Journal::Rejected, ..row("b", Journal::Sending) };
    tx.update_outbound(&ended).await.expect("written");
    assert!(tx.resume_outbound(&again).await.expect("an outcome"));
    tx.commit().await.expect("committed");
    assert_eq!(store.outbound("a").await.expect("read").expect("there").state, Journal::Sending);
}

#[tokio::test]
async fn a_users_messages_are_numbered_in_their_order_after_those_from_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    sqlx::any::install_default_drivers();
    let old = sqlx::AnyPool::connect(&format!("{url}?mode=rwc")).await.expect("a database");
    let mut before = sqlx::migrate!();
    before.migrations = before.migrations[..9].to_vec().into();
    before.run(&old).await.expect("the schema of before");
    sqlx::query(
        "insert into outbound (id, seq, user_id, conversation_id, kind, route, fingerprint, content, body, payload,
           state, attempts, attempt_ms, created_ms)
         values ('a', 57, 'ada', '7', 'reply', '', '', '', '', '', 'abandoned', 1, 0, 0)",
    )
    .execute(&old)
    .await
    .expect("a message of before");
    old.close().await;

    let store = Store::open(&url).await.expect("it is brought up to date");
    let of_bob = |id| Outbound { user: UserId::parse("bob").expect("a user id"), ..row(id, Journal::Abandoned) };
    for new in [row("b", Journal::Abandoned), of_bob("c"), row("d", Journal::Abandoned), of_bob("e")] {
        let mut tx = store.begin().await.expect("a transaction");
        assert!(tx.insert_outbound(&new).await.expect("stored"));
        tx.commit().await.expect("committed");
    }
    let numbers: Vec<(String, i64)> = sqlx::query_as("select id, seq from outbound order by user_id, seq")
        .fetch_all(&store.read)
        .await
        .expect("read");
    let numbers: Vec<(&str, i64)> = numbers.iter().map(|(id, seq)| (id.as_str(), *seq)).collect();
    assert_eq!(numbers, [("a", 57), ("b", 58), ("d", 59), ("c", 1), ("e", 2)]);
}
