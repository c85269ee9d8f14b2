//! A signed notification, as wrong as it may be, to what it changes in the mirror.

#![no_main]

use awchat::chat::mirror::{self, Origin, PutKind};
use awchat::chat::view::{self, Event};
use awchat::id::{ConversationId, UserId};
use awchat::intercom::wire;
use awchat::model::State;
use awchat::store::conversations::Conversation;
use awchat::store::messages::Known;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(notification) = serde_json::from_slice::<wire::Notification>(bytes) else { return Corpus::Reject };
    let Event::Conversation(snapshot) = view::event(&notification) else { return Corpus::Keep };
    let before = mirrored();
    for origin in [Origin::Webhook, Origin::Answer { asked_ms: 1, of: None }] {
        let plan = mirror::plan(&before, &[], &[], &snapshot, &origin);
        assert!(plan.put.iter().all(|put| put.kind == PutKind::New), "nothing was known");
        let known: Vec<Known> = plan.put.iter().map(known).collect();
        let again = mirror::plan(&before, &known, &[], &snapshot, &Origin::Webhook);
        let mut ids: Vec<&str> = plan.put.iter().map(|put| put.message.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        // Two different messages under one id would be an edit of it.
        if ids.len() == plan.put.len() {
            assert!(again.put.is_empty(), "the same webhook again changes a message");
        }
    }
    Corpus::Keep
});

fn known(put: &mirror::Put) -> Known {
    Known {
        id: put.message.id.clone(),
        fingerprint: put.fingerprint.clone(),
        redacted: put.message.redacted,
        opening: put.opening,
        polished: false,
    }
}

fn mirrored() -> Conversation {
    Conversation {
        id: ConversationId::parse("7").expect("an id"),
        user: UserId::parse("ada").expect("an id"),
        state: State::Open,
        snoozed_until: None,
        rated: false,
        rated_here: false,
        is_ticket: false,
        topic: None,
        source_hidden: false,
        hidden: false,
        whole_at: 0,
        whole_ms: 0,
        created_at: 1,
        updated_at: 1,
        truth_ms: 0,
        active_ms: 0,
        last_position: 1,
        read_position: 0,
        unread: 0,
        revision: 1,
    }
}
