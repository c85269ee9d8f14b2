//! What of a ticket may be seen, its timeline, and every shape of notification that is known.

use serde_json::{Value, json};

use super::*;
use crate::model::AuthorKind;

const T: i64 = 1_800_000_000;

fn whole() -> Value {
    json!({
        "type": "ticket", "id": "42", "ticket_id": "123", "category": "Customer", "is_shared": false, "open": true,
        "ticket_attributes": { "_default_title_": "Refund", "_default_description_": " It <b>never</b> came ",
            "Root cause": "CANARY" },
        "ticket_state": { "id": "7", "category": "in_progress", "internal_label": "CANARY-internal",
            "external_label": "We are at it" },
        "ticket_type": { "id": "5", "category": "Customer", "ticket_type_attributes": { "data": [
            { "name": "_default_title_", "visible_to_contacts": true },
            { "name": "_default_description_", "visible_to_contacts": true },
            { "name": "Root cause", "visible_to_contacts": true }] } },
        "contacts": { "contacts": [{ "type": "contact", "id": "c1", "external_id": "ada" }] },
        "created_at": T, "updated_at": T + 60,
        "ticket_parts": { "ticket_parts": [
            { "id": "1", "part_type": "ticket_state_updated_by_admin", "ticket_state": "submitted",
                "previous_ticket_state": "submitted", "created_at": T, "author": { "type": "admin", "id": "9" } },
            { "id": "3", "part_type": "note", "body": "CANARY", "created_at": T + 2,
                "author": { "type": "admin", "id": "9", "email": "olga@example.com" } },
            { "id": "2", "part_type": "comment", "body": "<p>Hello</p>", "created_at": T + 1,
                "author": { "type": "admin", "id": "9", "name": "Olga", "email": "olga@example.com" } },
            { "id": "4", "part_type": "ticket_state_updated_by_workflow", "ticket_state": "in_progress",
                "previous_ticket_state": "submitted", "created_at": T + 60, "author": { "type": "bot" } }] },
    })
}

fn view(ticket: &Value) -> Snapshot {
    read(ticket, &[]).expect("a ticket")
}

fn read(value: &Value, states: &[wire::TicketState]) -> Option<Snapshot> {
    ticket(&parsed(value).expect("an object is a ticket"), states)
}

fn shown(ticket: &Value) -> TicketView {
    view(ticket).ticket.expect("it is one")
}

fn of(ticket: &Value) -> Ticket {
    shown(ticket).ticket
}

fn with(pointer: &str, value: Value) -> Value {
    let mut ticket = whole();
    *ticket.pointer_mut(pointer).expect("a place") = value;
    ticket
}

fn change(part_id: &str, before: Status, status: Status, at: i64) -> Change {
    Change { part_id: part_id.to_owned(), status, before: Some(before), at }
}

fn kept(status: Status, label: &str, labels: &[(Status, &str)]) -> Ticket {
    Ticket {
        number: "123".to_owned(),
        title: None,
        description: None,
        status,
        label: label.to_owned(),
        labels: labels.iter().map(|(status, label)| (*status, (*label).to_owned())).collect(),
        created_at: T,
        updated_at: T,
        newest_part: 1,
        whole_at: 0,
        whole_ms: 0,
    }
}

#[test]
fn a_ticket_shows_what_contacts_may_see_and_nothing_else() {
    let snapshot = view(&whole());
    let ticket = snapshot.ticket.clone().expect("it is one").ticket;
    assert_eq!(
        (ticket.title.as_deref(), ticket.description.as_deref()),
        (Some("Refund"), Some("It <b>never</b> came"))
    );
    assert_eq!((ticket.status, ticket.label.as_str()), (Status::InProgress, "We are at it"));
    assert_eq!((snapshot.contacts.len(), snapshot.users.as_slice()), (1, &["ada".to_owned()][..]));
    let told: Vec<_> = snapshot.messages.iter().map(|seen| seen.message.body.as_str()).collect();
    assert_eq!(told, ["Hello"]);
    assert_eq!(snapshot.messages[0].message.author.kind, AuthorKind::Operator);
    let all = format!("{snapshot:?}");
    assert!(!all.contains("CANARY") && !all.contains("example.com"), "{all}");
    // Of the conversation that it is, a ticket knows neither state nor times.
    assert_eq!((snapshot.state, snapshot.updated_at), (None, 0));
    assert_eq!((snapshot.clone().alone().state, snapshot.alone().updated_at), (Some(State::Open), T + 60));
}

#[test]
fn an_attribute_that_contacts_may_not_see_is_none() {
    for hidden in [json!(false), json!(null), json!("true")] {
        let ticket = of(&with("/ticket_type/ticket_type_attributes/data/0/visible_to_contacts", hidden.clone()));
        assert_eq!((ticket.title, ticket.description.is_some()), (None, true), "{hidden}");
    }
    for odd in [json!({}), json!([]), json!("x"), json!(null), json!({ "data": null })] {
        let ticket = of(&with("/ticket_type/ticket_type_attributes", odd.clone()));
        assert_eq!((ticket.title, ticket.description), (None, None), "{odd}");
    }
    for nothing in [json!(null), json!(" "), json!(5), json!({ "url": "x" })] {
        assert_eq!(of(&with("/ticket_attributes/_default_title_", nothing)).title, None);
    }
}

#[test]
fn customer_tickets_and_shared_ones_are_shown_and_others_not() {
    for (category, is_shared, is_seen) in [
        (json!("Customer"), json!(false), true),
        (json!("Back-office"), json!(false), false),
        (json!("Back-office"), json!(true), true),
        (json!("Tracker"), json!(null), false),
        (json!("Tracker"), json!(true), true),
        (json!("brand new"), json!("true"), false),
    ] {
        let mut ticket = with("/category", category.clone());
        ticket["is_shared"] = is_shared.clone();
        assert_eq!(shown(&ticket).is_shown, is_seen, "{category} {is_shared}");
    }
    assert!(shown(&with("/category", json!(null))).is_shown, "its type says so");
    let mut unknown = with("/category", json!(null));
    unknown["ticket_type"]["category"] = json!(null);
    assert!(!shown(&unknown).is_shown);
}

#[test]
fn a_state_is_read_in_the_words_of_every_version() {
    let old = with("/ticket_state", json!("waiting_on_customer"));
    assert_eq!((of(&old).status, of(&old).label.as_str()), (Status::WaitingOnCustomer, "Waiting on you"));
    let mut old = old;
    old["ticket_state_external_label"] = json!("Your turn");
    old["ticket_state_internal_label"] = json!("CANARY");
    assert_eq!(of(&old).label, "Your turn");
    let unknown = with("/ticket_state", json!({ "category": "paused", "external_label": " " }));
    assert_eq!((of(&unknown).status, of(&unknown).label.as_str()), (Status::InProgress, "In progress"));
    for nothing in [json!(null), json!({}), json!(7)] {
        assert!(read(&with("/ticket_state", nothing), &[]).is_none());
    }
    for number in [json!(null), json!("12a"), json!(""), json!("1".repeat(21))] {
        assert!(read(&with("/ticket_id", number), &[]).is_none());
    }
    assert_eq!(of(&with("/ticket_id", json!(77))).number, "77");
}

#[test]
fn the_timeline_keeps_the_beginning_and_drops_what_changes_nothing() {
    use Status::{InProgress, Resolved, Submitted};
    let changes = vec![
        change("5", InProgress, InProgress, T + 50),
        change("1", Submitted, Submitted, T),
        change("10", InProgress, Resolved, T + 60),
        change("9", Submitted, InProgress, T + 9),
        change("2", Submitted, Submitted, T + 1),
    ];
    let now = kept(Resolved, "All done", &[(Submitted, "We have it"), (Resolved, "Done")]);
    let steps = timeline(changes.clone(), &now);
    let told: Vec<_> = steps.iter().map(|step| (step.status, step.label.as_str(), step.at)).collect();
    let expected = [(Submitted, "We have it", T), (InProgress, "In progress", T + 9), (Resolved, "All done", T + 60)];
    assert_eq!(told, expected);
    let mut others = changes;
    others.reverse();
    assert_eq!(timeline(others, &now), steps, "in whatever order they come");
}

#[test]
fn within_a_second_the_order_is_that_of_intercoms_numbers() {
    use Status::{InProgress, Submitted, WaitingOnCustomer};
    let changes = vec![change("10", InProgress, WaitingOnCustomer, T), change("9", Submitted, InProgress, T)];
    let steps = timeline(changes, &kept(WaitingOnCustomer, "Your turn", &[]));
    assert_eq!(steps.iter().map(|step| step.status).collect::<Vec<_>>(), [InProgress, WaitingOnCustomer]);
}

#[test]
fn a_ticket_without_changes_began_as_it_is_and_the_label_is_never_another_states() {
    use Status::{Resolved, Submitted};
    let steps = timeline(Vec::new(), &kept(Resolved, "Done", &[]));
    assert_eq!(steps, [Step { status: Resolved, label: "Done".to_owned(), at: T }]);
    // The change to the state it is in has not come yet.
    let steps = timeline(vec![change("1", Submitted, Submitted, T)], &kept(Resolved, "Done", &[]));
    assert_eq!(steps, [Step { status: Submitted, label: "Submitted".to_owned(), at: T }]);
}

/// A workspace's states: two of one category, one archived, one of another type of ticket.
fn states() -> Vec<wire::TicketState> {
    let types = json!({ "data": [{ "id": "5" }, { "id": 6 }] });
    let state = |id: &str, category: &str, label: &str, archived: bool, types: &Value| {
        json!({ "id": id, "category": category, "external_label": label, "internal_label": "CANARY",
            "archived": archived, "ticket_types": types })
    };
    let all = json!([
        state("1", "in_progress", "Old", true, &types),
        state("2", "in_progress", "Others", false, &json!({ "data": [{ "id": "99" }] })),
        state("3", "in_progress", "Triage", false, &types),
        state("4", "in_progress", "With the bank", false, &types),
        state("5", "submitted", "We have it", false, &types),
    ]);
    parsed(&all).expect("states")
}

#[test]
fn labels_and_the_state_to_open_with_are_those_of_its_type() {
    let ticket = read(&whole(), &states()).and_then(|snapshot| snapshot.ticket).expect("a ticket").ticket;
    let labels: Vec<_> = ticket.labels.iter().map(|(status, label)| (*status, label.as_str())).collect();
    assert_eq!(labels, [(Status::Submitted, "We have it"), (Status::InProgress, "Triage")]);
    let opens = |ticket: &Value, states: &[wire::TicketState]| reopened_state(&parsed(ticket).expect("one"), states);
    assert_eq!(opens(&whole(), &states()).as_deref(), Some("3"));
    assert_eq!(opens(&whole(), &states()[4..]).as_deref(), Some("5"), "else the first submitted");
    assert_eq!(opens(&whole(), &[]), None);
    let mut named = whole();
    named["ticket_type"]["ticket_states"] = json!({ "data": [{ "id": "8", "category": "in_progress" }] });
    assert_eq!(opens(&named, &states()).as_deref(), Some("8"), "what the type itself names comes first");
}

#[test]
fn a_ticket_resolved_anew_since_the_reply_is_left_alone() {
    let mut ticket = shown(&whole());
    for (at, part, after) in [(T + 60, "3", true), (T + 60, "5", false), (T + 61, "1", false), (T + 59, "99", true)] {
        assert_eq!(was_changed_after(&ticket, at, part), after, "{at} {part}");
    }
    ticket.changes.clear();
    assert!(!was_changed_after(&ticket, 0, "1"));
}

#[test]
fn a_ticket_adds_to_its_conversation_what_that_lacks() {
    let conversation = json!({ "id": "42", "state": "closed", "created_at": T, "updated_at": T + 90,
        "ticket": { "id": 42 }, "tags": { "tags": [] },
        "source": { "id": "50", "body": "<p>Hi</p>", "author": { "type": "user", "id": "c1" } },
        "contacts": { "contacts": [{ "id": "c1" }] },
        "conversation_parts": { "conversation_parts": [{ "id": "2", "part_type": "comment", "body": "<p>Hello</p>",
            "created_at": T + 1, "author": { "type": "admin", "id": "9" } }] } });
    let conversation = super::super::snapshot(&parsed(&conversation).expect("one")).expect("it has an id");
    let mut ticket = whole();
    ticket["tags"] = json!({ "tags": [{ "name": "CSAT 5" }] });
    ticket["ticket_parts"]["ticket_parts"].as_array_mut().expect("parts").push(json!({ "id": "8",
        "part_type": "comment", "body": "More", "created_at": T + 5, "author": { "type": "user", "id": "c1" } }));
    let both = conversation.with_ticket(view(&ticket));
    let told: Vec<_> = both.messages.iter().map(|seen| seen.message.body.as_str()).collect();
    assert_eq!(told, ["Hi", "Hello", "More"]);
    assert_eq!((both.state, both.updated_at, both.rated_by_tag), (Some(State::Closed), T + 90, Some(true)));
    assert!(both.is_ticket && both.ticket.is_some());
}

#[test]
fn a_notification_is_read_in_all_its_shapes() {
    let told = |topic: &str, item: Value| event(topic, &item);
    let part = json!({ "id": "2", "part_type": "comment" });
    for item in [
        whole(),
        json!({ "type": "ticket_ticket_part", "ticket": whole(), "ticket_part": part }),
        json!({ "id": "2", "ticket": whole() }),
    ] {
        match told("ticket.admin.replied", item) {
            Event::Conversation(snapshot) => assert_eq!(*snapshot, view(&whole())),
            other => panic!("{other:?}"),
        }
    }
    let id = ConversationId::parse("42").expect("an id");
    let attached = json!({ "ticket": { "id": 42, "state": "submitted", "ticket_type": "Tickets",
        "ticket_custom_state_admin_label": "CANARY" }, "contact": { "id": "c1" } });
    assert_eq!(told("ticket.contact.attached", attached), Event::Refresh(id.clone()));
    let translated = json!({ "ticket": whole(), "ticket_part": part });
    assert_eq!(told("ticket.admin.replied.translated", translated), Event::Refresh(id));
    for nothing in [json!(null), json!({}), json!({ "ticket": "42" }), json!([])] {
        assert_eq!(told("ticket.created", nothing), Event::Ignored);
    }
}
