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
