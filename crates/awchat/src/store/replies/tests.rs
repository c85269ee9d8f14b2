//! What goes together, and what is left out of it.

use super::*;
use crate::model::{Author, AuthorKind, Message, State};
use crate::store::outbound::tests::row;
use crate::store::outbound::{Journal, Told};

const NOW_MS: i64 = 1_800_000_000_000;

/// A database in which each of these users has a contact and a conversation of the same number.
async fn store(users: &[(&str, &str)]) -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&format!("sqlite://{}/test.db", folder.path().display())).await.expect("a database");
    for (user, id) in users {
        let contact = ContactId::parse(&format!("contact-{user}")).expect("a contact id");
        store.set_contact(&named(user), &contact, 0).await.expect("stored");
        let mut tx = store.begin().await.expect("a transaction");
        assert!(tx.insert_conversation(&conversation(user, id)).await.expect("stored"));
        tx.commit().await.expect("committed");
    }
    (store, folder)
}

fn named(user: &str) -> UserId {
    UserId::parse(user).expect("a user id")
}

fn conversation(user: &str, id: &str) -> Conversation {
    Conversation {
        id: ConversationId::parse(id).expect("a conversation id"),
        user: named(user),
        state: State::Open,
        snoozed_until: None,
        rated: false,
        rated_here: false,
        is_ticket: false,
        topic: None,
        source_hidden: false,
        created_at: 0,
        hidden: false,
        updated_at: 0,
        truth_ms: 0,
        whole_at: 0,
        whole_ms: 0,
        active_ms: 0,
        last_position: 7,
        read_position: 0,
        unread: 0,
        revision: 0,
    }
}

fn reply(id: &str, user: &str, conversation: &str) -> Outbound {
    let conversation = ConversationId::parse(conversation);
    Outbound { user: named(user), conversation, key: None, attempt_ms: NOW_MS, ..row(id, Journal::Sending) }
}

async fn stored(store: &Store, new: &[Outbound]) -> Vec<String> {
    let stored = store.insert_replies(new, NOW_MS - 600_000).await.expect("stored");
    stored.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn what_is_in_the_way_of_one_reply_leaves_the_others_alone() {
    let (store, _folder) = store(&[("ada", "1"), ("bob", "2"), ("cid", "3"), ("dan", "4"), ("eve", "5")]).await;
    let mut tx = store.begin().await.expect("a transaction");
    // Bob's last message has no answer yet; Cid was told 502 of the same words, and Eve of others with this key.
    let told = |row| Outbound { told: Told::Unavailable, state: Journal::Abandoned, ..row };
    let keyed = |row| Outbound { key: Some("key".to_owned()), ..row };
    for before in [
        Outbound { fingerprint: "other".to_owned(), ..reply("before-b", "bob", "2") },
        Outbound { fingerprint: "c".to_owned(), ..told(reply("before-c", "cid", "3")) },
        keyed(told(reply("before-e", "eve", "5"))),
    ] {
        assert!(tx.insert_outbound(&before).await.expect("stored"));
    }
    tx.commit().await.expect("committed");
    let all = [
        reply("a", "ada", "1"),
        reply("b", "bob", "2"),
        reply("c", "cid", "3"),
        // Somebody else's conversation, one that is not there, and a user without a contact.
        reply("d", "dan", "1"),
        reply("d-2", "dan", "99"),
        reply("n", "nobody", "1"),
        keyed(reply("e", "eve", "5")),
    ];
    assert_eq!(stored(&store, &all).await, ["a"]);
    assert_eq!(stored(&store, &[reply("a-2", "ada", "1")]).await, [""; 0], "the first is on its way");
    assert_eq!(stored(&store, &[keyed(reply("d", "dan", "4"))]).await, ["d"]);
}

#[tokio::test]
async fn a_user_who_was_erased_sends_nothing() {
    let (store, _folder) = store(&[("ada", "1"), ("bob", "2")]).await;
    store.erase(&named("ada"), NOW_MS, |_| Ok("{}".to_owned())).await.expect("erased").expect("at once");
    // Found again by a webhook that was under way; the tombstone still stands.
    sqlx::query("insert into contact (user_id, contact_id, created_ms) values ('ada', 'again', 0)")
        .execute(&store.write)
        .await
        .expect("a contact");
    let mut tx = store.begin().await.expect("a transaction");
    assert!(tx.insert_conversation(&conversation("ada", "3")).await.expect("stored"));
    tx.commit().await.expect("committed");
    assert_eq!(stored(&store, &[reply("a", "ada", "3"), reply("b", "bob", "2")]).await, ["b"]);
}

#[tokio::test]
async fn replies_of_one_user_are_numbered_one_after_the_other_and_so_are_the_changes_they_make() {
    let (store, _folder) = store(&[("ada", "1"), ("ada", "2"), ("bob", "3")]).await;
    let rows = [reply("a", "ada", "1"), reply("b", "bob", "3"), reply("a-2", "ada", "2")];
    assert_eq!(stored(&store, &rows).await, ["a", "b", "a-2"]);
    let numbers: Vec<(String, i64)> =
        sqlx::query_as("select id, seq from outbound order by id").fetch_all(&store.read).await.expect("read");
    assert_eq!(numbers, [("a".to_owned(), 1), ("a-2".to_owned(), 2), ("b".to_owned(), 1)]);

    let author = Author { kind: AuthorKind::User, name: None, avatar_url: None };
    let message = |id: &str| Message {
        id: id.to_owned(),
        author: author.clone(),
        body: "words".to_owned(),
        html: "<p>words</p>".to_owned(),
        attachments: Vec::new(),
        created_at: NOW_MS / 1000,
        redacted: false,
    };
    let sent: Vec<(Outbound, Message, Conversation)> = rows
        .into_iter()
        .map(|row| {
            let id = row.conversation.clone().expect("a reply");
            let before = conversation(row.user.as_str(), id.as_str());
            let part = format!("part-{}", row.id);
            let after = Conversation { last_position: before.next_position(NOW_MS), revision: 1, ..before };
            let row = Outbound { part_id: Some(part.clone()), response: Some("{}".to_owned()), ..row };
            (row, message(&part), after)
        })
        .collect();
    let replies = || -> Vec<Answered<'_>> {
        let stored = |message| Stored { message, fingerprint: "", opening: false, hidden: false, polished: true };
        let of = sent.iter();
        of.map(|(row, message, conversation)| Answered { row, message: stored(message), conversation }).collect()
    };
    let mut tx = store.begin().await.expect("a transaction");
    assert_eq!(tx.bind_replies(&replies()).await.expect("bound").len(), 3);
    assert!(tx.put_replies(&replies(), NOW_MS).await.expect("stored"));
    tx.commit().await.expect("committed");
    let mut tx = store.begin().await.expect("a transaction");
    assert!(tx.bind_replies(&replies()).await.expect("an outcome").is_empty(), "each is bound once");
    assert!(!tx.put_replies(&replies(), NOW_MS).await.expect("an outcome"), "and its message is here once");
    drop(tx);

    let changes: Vec<(String, i64, i64)> = sqlx::query_as(
        "select c.id, c.seq, c.last_position from conversation c
         join message m on m.conversation_id = c.id and m.seq = c.seq and m.position = c.last_position order by c.id",
    )
    .fetch_all(&store.read)
    .await
    .expect("read");
    let at = NOW_MS / 1000;
    assert_eq!(changes, [("1".to_owned(), 1, at), ("2".to_owned(), 2, at), ("3".to_owned(), 1, at)]);
    assert_eq!(store.stream(&named("ada"), NOW_MS).await.expect("a stream").seq, 2);
    let row = store.outbound("a-2").await.expect("read").expect("there");
    assert_eq!((row.state, row.part_id.as_deref()), (Journal::Sent, Some("part-a-2")));
}
