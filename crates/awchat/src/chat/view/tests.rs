//! What may be seen, what may not, and that nothing is too odd.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn notified(topic: &str, item: Value) -> Event {
    let data = Some(wire::NotificationData { item });
    event(&wire::Notification { topic: Some(topic.to_owned()), data, ..Default::default() })
}

fn view(conversation: Value) -> Snapshot {
    snapshot(&parsed(&conversation).expect("an object is a conversation")).expect("it has an id")
}

/// The messages of a conversation that has only this part.
fn messages_of(part: Value) -> Vec<Seen> {
    view(json!({ "id": 1, "created_at": 5, "conversation_parts": { "conversation_parts": [part] } })).messages
}

fn part(part_type: &str, author: &str, body: Value) -> Value {
    json!({
        "id": "7", "part_type": part_type, "body": body, "created_at": 9,
        "author": { "type": author, "id": "3", "name": "Jo" },
    })
}

#[test]
fn a_user_sees_what_the_allow_list_allows() {
    let always = ["comment", "quick_reply"];
    let with_words = [
        "open",
        "close",
        "assignment",
        "assign_and_reopen",
        "assign_and_unsnooze",
        "snoozed",
        "unsnoozed",
        "timer_unsnooze",
    ];
    let never = [
        "note",
        "note_and_reopen",
        "away_mode_assignment",
        "balanced_assignment",
        "default_assignment",
        "participant_added",
        "participant_removed",
        "merged_primary_conversation",
        "entity_linked",
        "conversation_rating_changed",
        "conversation_rating_remark_added",
        "conversation_attribute_updated_by_admin",
        "conversation_attribute_updated_by_user",
        "conversation_attribute_updated_by_workflow",
        "ticket_attribute_updated_by_admin",
        "attribute_collector",
        "attribute_collected",
        "conversation_tags_updated",
        "title_changed",
        "priority_changed",
        "custom_action_started",
        "custom_action_finished",
        "operator_workflow_event",
        "conversation_sla_applied_by_admin",
        "language_detection_details",
        "call_summary",
        "ticket_state_updated_by_admin",
        "ticket_state_updated_by_user",
        "channel_and_reply_time_expectation",
        "",
        "source",
        "Comment",
        "brand_new_in_2027",
    ];
    for (part_types, shown) in [(&always[..], true), (&with_words, true), (&never[..31], false), (&never[32..], false)]
    {
        for part_type in part_types {
            for author in ["user", "lead", "contact", "admin", "bot", "team"] {
                let messages = messages_of(part(part_type, author, json!("<p>words</p>")));
                assert_eq!(messages.len(), usize::from(shown), "{part_type} by {author}");
            }
            assert!(messages_of(part(part_type, "operator_of_2027", json!("<p>words</p>"))).is_empty());
            for nothing in [json!(null), json!(""), json!("<p> </p>"), json!(7)] {
                assert!(messages_of(part(part_type, "admin", nothing)).is_empty(), "{part_type} without words");
            }
        }
    }
}

#[test]
fn files_alone_are_a_message() {
    let mut part = part("close", "admin", json!(null));
    part["attachments"] =
        json!([{ "name": "a.pdf", "url": "https://downloads.intercomcdn.com/i/o/1/a.pdf?expires=1" }]);
    let [seen] = messages_of(part).try_into().expect("one message");
    assert_eq!(seen.message.attachments[0].name, "a.pdf");
}

#[test]
fn a_quick_reply_without_words_shows_its_options() {
    let mut part = part("quick_reply", "bot", json!(null));
    part["metadata"] = json!({ "quick_reply_options": [{ "text": "Yes & no" }, { "text": "<b>No</b>" }, {}] });
    let [seen] = messages_of(part.clone()).try_into().expect("one message");
    assert_eq!(seen.message.body, "Yes & no\n<b>No</b>");
    part["body"] = json!("<p>Which?</p>");
    assert_eq!(messages_of(part)[0].message.body, "Which?");
}

#[test]
fn authors_are_told_apart_and_keep_their_addresses() {
    let cases = [
        (json!({ "type": "lead", "id": "c1", "name": "Ada" }), AuthorKind::User, Some("Ada")),
        (
            json!({ "type": "admin", "name": "John Doe", "email": "j@example.com" }),
            AuthorKind::Operator,
            Some("John Doe"),
        ),
        (json!({ "type": "admin", "name": "j@example.com" }), AuthorKind::Operator, None),
        (json!({ "type": "admin", "name": "John <j@example.com>" }), AuthorKind::Operator, None),
        (json!({ "type": "admin", "name": "Jo @ Acme" }), AuthorKind::Operator, Some("Jo @ Acme")),
        (json!({ "type": "admin", "name": "Fin", "from_ai_agent": true }), AuthorKind::Bot, Some("Fin")),
        (json!({ "type": "bot", "name": " " }), AuthorKind::Bot, None),
        (json!({ "type": "team" }), AuthorKind::Operator, None),
    ];
    for (author, kind, name) in cases {
        let mut part = part("comment", "", json!("hi"));
        part["author"] = author.clone();
        let seen = messages_of(part).pop().expect("visible");
        assert_eq!((seen.message.author.kind, seen.message.author.name.as_deref()), (kind, name), "{author}");
        assert_eq!(seen.author_contact.is_some(), kind == AuthorKind::User, "{author}");
    }
    for (avatar, expected) in [
        (json!("https://static.intercomassets.com/a.png"), Some("https://static.intercomassets.com/a.png")),
        (json!({ "type": "avatar", "image_url": "https://x/a.png" }), Some("https://x/a.png")),
        (json!({ "image_url": null }), None),
        (json!("javascript:alert(1)"), None),
        (json!(["https://x/a.png"]), None),
    ] {
        let mut part = part("comment", "admin", json!("hi"));
        part["author"]["avatar"] = avatar;
        assert_eq!(messages_of(part)[0].message.author.avatar_url.as_deref(), expected);
    }
}

#[test]
fn what_was_taken_back_comes_empty() {
    let mut part = part("comment", "admin", json!("<p><i>This message was deleted</i></p>"));
    part["redacted"] = json!(true);
    part["attachments"] = json!([{ "name": "a.pdf", "url": "https://x/a.pdf" }]);
    let message = messages_of(part).pop().expect("still there").message;
    assert_eq!((message.redacted, &*message.body, &*message.html, message.attachments.len()), (true, "", "", 0));
}

#[test]
fn pictures_in_the_text_are_attachments_once() {
    let mut part = part(
        "comment",
        "admin",
        json!(
            "<p>See <img src=\"https://x/i/a.png?expires=2\"> and <IMG SRC='https://x/i/b%20c.JPG'>\
         <img src=\"https://x/i/b%20c.JPG?again\"><img src=\"data:image/png;base64,AA\"></p>"
        ),
    );
    part["attachments"] = json!([
        { "name": "a.png", "url": "https://x/i/a.png?expires=1", "content_type": "image/png", "filesize": 12, "width": 3 },
        { "name": "no address" },
    ]);
    let message = messages_of(part).pop().expect("visible").message;
    let ids: Vec<_> = message.attachments.iter().map(|file| (&*file.id, &*file.name, &*file.content_type)).collect();
    let conversation = ConversationId::parse("1").expect("an id");
    let of_part = |index| crate::id::FileId::of_part(&conversation, "7", index);
    let (first, third) = (of_part(0), of_part(2));
    assert_eq!(ids, [(first.as_str(), "a.png", "image/png"), (third.as_str(), "b%20c.JPG", "image/jpeg")]);
    assert_eq!(message.body, "See  and".replace("  ", " "));
}

#[test]
fn a_snapshot_is_in_order_and_tolerant() {
    let comment = |id: Value, at: i64| json!({ "id": id, "part_type": "comment", "body": "x", "created_at": at, "author": { "type": "user" } });
    let seen = view(json!({
        "id": 215_472_621_202_693_i64, "created_at": 1, "updated_at": "yesterday", "state": "snoozed", "snoozed_until": 99,
        "source": { "id": "400", "body": "<p>first</p>", "author": { "type": "user", "id": "c1" }, "app_package_code": "x" },
        "contacts": { "contacts": [{ "id": "c1", "external_id": "ada" }, 5, { "id": "../me" }] },
        "tags": { "tags": [{ "name": "vip" }, { "name": "CSAT&#95;5" }] },
        "ticket": { "id": 215_472_621_202_693_i64 },
        "conversation_parts": { "total_count": 9, "conversation_parts":
            [comment(json!("100"), 3), comment(json!(99), 3), "odd", comment(json!("5"), 2), comment(json!(null), 2)] },
    }));
    let order: Vec<_> = seen.messages.iter().map(|seen| &*seen.message.id).collect();
    assert_eq!(order, ["400", "5", "99", "100"]);
    assert!(seen.messages[0].is_source && seen.messages[0].from_api && !seen.messages[1].from_api);
    assert_eq!(seen.messages[0].author_contact, ContactId::parse("c1"));
    assert_eq!((seen.state, seen.snoozed_until, seen.updated_at), (Some(State::Snoozed), Some(99), 1));
    assert_eq!((seen.rated_by_tag, seen.is_ticket, seen.total_parts), (Some(true), true, Some(9)));
    assert_eq!((seen.contacts.len(), seen.users), (1, vec!["ada".to_owned()]));

    let bare = view(json!({ "id": "1", "ticket": null, "tags": null }));
    assert_eq!((bare.state, bare.rated_by_tag, bare.is_ticket, bare.total_parts), (None, None, false, None));
    assert_eq!(view(json!({ "id": "1", "tags": { "tags": [{ "name": "not csat" }] } })).rated_by_tag, Some(false));
    for id in [json!(null), json!("last"), json!(-1), json!(1.5), json!({})] {
        assert_eq!(snapshot(&parsed(&json!({ "id": id })).expect("tolerant")), None);
    }
}

#[test]
fn topics_become_events() {
    let id = |id: &str| ConversationId::parse(id).expect("digits");
    let contact = |id: &str| ContactId::parse(id).expect("an id");
    let cases = [
        ("ping", json!({ "type": "ping" }), Event::Ignored),
        ("conversation.deleted", json!({ "conversation_id": "5" }), Event::Deleted(id("5"))),
        ("conversation.deleted", json!({}), Event::Ignored),
        ("conversation.admin.noted", json!({ "id": "5" }), Event::Ignored),
        ("conversation.brand.new", json!({ "id": "5" }), Event::Ignored),
        ("conversation.user.created", json!("odd"), Event::Ignored),
        ("conversation_part.tag.created", json!({ "id": 5 }), Event::Refresh(id("5"))),
        ("ticket.created", json!({ "id": "5", "ticket_id": "77" }), Event::Refresh(id("5"))),
        ("ticket.admin.replied", json!({ "ticket": { "id": "5" }, "id": "8" }), Event::Refresh(id("5"))),
        ("ticket.closed", json!({ "ticket": { "id": 5 } }), Event::Refresh(id("5"))),
        ("ticket.resolved", json!({ "ticket": null, "id": "5" }), Event::Refresh(id("5"))),
        ("ticket.note.created", json!({ "ticket": { "id": "5" } }), Event::Ignored),
        ("ticket.created", json!({ "id": "search" }), Event::Ignored),
        ("contact.deleted", json!({ "id": "c1" }), Event::ContactGone(contact("c1"))),
        ("contact.archived", json!({ "id": "c1", "created_at": "2026-01-10" }), Event::ContactGone(contact("c1"))),
        (
            "contact.merged",
            json!({ "id": "c1", "external_id": "ada", "merged_from": { "id": "c0" } }),
            Event::ContactMerged { survivor: contact("c1"), from: Some(contact("c0")), user: Some("ada".to_owned()) },
        ),
        (
            "contact.merged",
            json!({ "id": "c1" }),
            Event::ContactMerged { survivor: contact("c1"), from: None, user: None },
        ),
    ];
    for (topic, item, expected) in cases {
        if let Event::Refresh(id) | Event::Deleted(id) = &expected {
            let notification = parsed(&json!({ "topic": topic, "data": { "item": item } })).expect("an envelope");
            assert_eq!(subject(&notification).as_ref(), Some(id), "{topic} {item}");
        }
        assert_eq!(notified(topic, item.clone()), expected, "{topic} {item}");
    }
    assert!(matches!(
        notified("conversation.admin.closed", json!({ "id": "5", "state": "closed" })),
        Event::Conversation(_)
    ));
}

#[test]
fn real_notifications_show_messages_and_nothing_internal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/intercom/webhook-samples");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: the notifications are not in {}", folder.display());
        return;
    };
    let mut bodies = Vec::new();
    for file in files {
        let path = file.expect("readable").path();
        let raw = std::fs::read(&path).expect("readable");
        let notification: wire::Notification = serde_json::from_slice(&raw).expect("a notification");
        let event = event(&notification);
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let ignored = ["ping", "noted", "note.created"].iter().any(|word| name.contains(word));
        assert_eq!(event == Event::Ignored, ignored, "{name}");
        let Event::Conversation(seen) = event else { continue };
        assert_eq!(subject(&notification).as_ref(), Some(&seen.id), "{name}");
        // One captured ticket names its contact by Intercom's id alone.
        assert!(!seen.contacts.is_empty() && (!seen.users.is_empty() || name.contains("pre-2.15")), "{name}");
        let is_ticket = name.contains("ticket.");
        assert_eq!((seen.is_ticket, seen.ticket.is_some()), (is_ticket, is_ticket), "{name}");
        assert_eq!((seen.state.is_some(), seen.messages.iter().any(|seen| seen.is_source)), (!is_ticket, !is_ticket));
        let out =
            serde_json::to_string(&seen.messages.iter().map(|seen| &seen.message).collect::<Vec<_>>()).expect("JSON");
        for secret in ["@", "fraud team", "internal", "9608799", "reply as soon", "operator+"] {
            assert!(!out.contains(secret), "{name} shows {secret}");
        }
        bodies.extend(seen.messages.into_iter().map(|seen| seen.message.body));
    }
    for words in ["helklo", "aMSIJJO", "Give the team a way to reach you:", "Hey! How can I help?", "mathew", "asfsf"] {
        assert!(bodies.iter().any(|body| body == words), "nobody says {words}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let id = prop_oneof![Just(json!("12")), Just(json!(12)), Just(json!("last")), any::<i64>().prop_map(|n| json!(n))];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        id,
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("comment")),
        Just(json!("admin")),
        Just(json!("<p>x</p>")),
    ];
    let key = prop::sample::select(vec![
        "id",
        "type",
        "part_type",
        "author",
        "body",
        "source",
        "contacts",
        "conversation_parts",
        "attachments",
        "url",
        "tags",
        "name",
        "ticket",
        "conversation_id",
        "created_at",
        "metadata",
        "quick_reply_options",
        "merged_from",
        "avatar",
        "user",
        "redacted",
        "state",
        "image_url",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..10).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_notification_is_too_odd(
        topic in prop_oneof![
            Just("conversation.admin.replied"), Just("conversation.deleted"), Just("ticket.created"),
            Just("contact.merged"), Just("contact.deleted"), Just("conversation_part.redacted"),
        ],
        item in any_json(),
    ) {
        notified(topic, item);
    }

    #[test]
    fn no_envelope_is_too_odd(envelope in any_json()) {
        if let Some(notification) = parsed::<wire::Notification>(&envelope) {
            event(&notification);
        }
    }
}
