//! What goes, what stays, and what is no longer let in.

use super::*;
use crate::id::ContactId;
use crate::store::devices::Platform;
use crate::store::feedback::{NewComplaint, NewRating};
use crate::store::outbound::tests::row;
use crate::store::outbound::{Journal, Outbound};

const NOW_MS: i64 = 1_800_000_000_000;

async fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    (Store::open(&url).await.expect("a database"), folder)
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a user id")
}

async fn erase(store: &Store, user: &UserId) -> Erased {
    store.erase(user, NOW_MS, |contact| Ok(contact.unwrap_or_default())).await.expect("erased").expect("no other node")
}

async fn rows(store: &Store, sql: &'static str) -> Vec<String> {
    let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&store.read).await.expect("rows");
    rows.into_iter().map(|(text,)| text).collect()
}

#[tokio::test]
async fn a_request_under_way_leaves_nothing_of_an_erased_user_until_the_user_is_back() {
    let (store, _folder) = store().await;
    let ada = user("ada");
    erase(&store, &ada).await;
    let refused = |result: Result<()>| assert!(matches!(result, Err(Error::Unauthorized(_))), "{result:?}");
    let contact = ContactId::parse("c1").expect("a contact id");
    for back in [false, true] {
        if back {
            store.set_returned(&ada).await.expect("noted");
        }
        let rating = NewRating {
            id: "r",
            user: &ada,
            stars: 5,
            comment: None,
            ticket: None,
            conversation: None,
            key: None,
            fingerprint: "",
            created_ms: NOW_MS,
        };
        let complaint = NewComplaint {
            id: "c",
            user: &ada,
            category: "other",
            description: "",
            chat: None,
            dialog: None,
            key: None,
            fingerprint: "",
            created_ms: NOW_MS,
        };
        let sent = Outbound { user: ada.clone(), ..row("o", Journal::Sending) };
        // One after the other: there is one connection that writes.
        let mut tx = store.begin().await.expect("a transaction");
        let in_transaction = [
            tx.insert_outbound(&sent).await.map(drop),
            tx.insert_rating(&rating).await.map(drop),
            tx.insert_complaint(&complaint).await.map(drop),
        ];
        drop(tx);
        let at_once = [
            store.set_contact(&ada, &contact, NOW_MS).await,
            store.set_imported(&ada, NOW_MS).await,
            store.register_device(&ada, Platform::Mobile, "t", (None, true), NOW_MS).await.map(drop),
            store.want_notices(&ada, Some(false), None, None).await.map(drop),
        ];
        for result in in_transaction.into_iter().chain(at_once) {
            if back { result.expect("stored") } else { refused(result) }
        }
    }
}

#[tokio::test]
async fn an_erased_users_tickets_go_and_others_stay() {
    let (store, _folder) = store().await;
    for (id, user) in [("1", "ada"), ("2", "bob")] {
        for sql in [
            "insert into conversation (id, user_id, state, is_ticket, created_at, updated_at, active_ms)
             values ($1, $2, 'open', 1, 1, 1, 1)",
            "insert into ticket (conversation_id, number, title, status, label, labels, created_at, updated_at, newest_part)
             values ($1, '7', $2, 'resolved', 'Done', '{}', 1, 1, 1)",
            "insert into ticket_change (conversation_id, part_id, status, status_before, changed_at)
             values ($1, '9', 'resolved', $2, 1)",
        ] {
            sqlx::query(sql).bind(id).bind(user).execute(&store.write).await.expect("stored");
        }
    }
    erase(&store, &user("ada")).await;
    assert_eq!(rows(&store, "select title from ticket").await, ["bob"]);
    assert_eq!(rows(&store, "select conversation_id from ticket_change").await, ["2"]);
}

#[tokio::test]
async fn the_tombstone_knows_the_user_and_does_not_tell_the_id() {
    let (store, _folder) = store().await;
    erase(&store, &user("ada")).await;
    assert_eq!(
        store.erasure(&user("ada")).await.expect("read"),
        Some(Erasure { erased_ms: NOW_MS, returned: false, contact_gone: false })
    );
    assert_eq!(store.erasure(&user("bob")).await.expect("read"), None);
    let digests = rows(&store, "select digest from erasure").await;
    let plain = hex::encode(<Sha256 as sha2::Digest>::digest("ada"));
    assert!(digests.len() == 1 && digests[0].len() == 64 && digests[0] != plain, "{digests:?}");
    let (other, _folder) = self::store().await;
    erase(&other, &user("ada")).await;
    assert_ne!(rows(&other, "select digest from erasure").await, digests, "each database has its own key");
}

#[tokio::test]
async fn others_keep_what_looks_alike() {
    let (store, _folder) = store().await;
    // A user whose id reads like a conversation's, and another's job about that conversation.
    let seven = user("7");
    for kind in ["refresh", "erase"] {
        store.enqueue(kind, "7", "{}", 0, 0).await.expect("asked for");
    }
    store.enqueue("enrich", "7", "{}", 0, 0).await.expect("asked for");
    for (id, raw) in [("a", "{\"id\":\"7\"}"), ("b", "{\"id\":\"77\"}"), ("c", "{\"id\":\"_\"}")] {
        store.receive(id, "topic", raw, 0).await.expect("received");
    }
    erase(&store, &user("_")).await;
    erase(&store, &seven).await;
    assert_eq!(rows(&store, "select id from inbox where raw is not null").await, ["b"]);
    let jobs =
        rows(&store, "select kind from job where kind not in ('forget_contact', 'remove_files') order by kind").await;
    assert_eq!(jobs, ["erase", "refresh"]);
}
