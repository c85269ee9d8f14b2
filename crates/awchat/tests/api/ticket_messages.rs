//! Replies to tickets and questions about them: what reaches Intercom under which faults, and what it opens again.

use std::time::Duration;

use sandbox::{Fault, Kind, Settings};
use serde_json::{Value, json};

use crate::harness::{Answer, World, bodies, world};

const SHORT: crate::harness::Settings<'static> = &[("INTERCOM_TIMEOUT_MS", "2000"), ("SETTLE_MS", "3000")];
const REPLY: &str = "/tickets/{id}/reply";

fn once(kind: Kind) -> Fault {
    Fault::new(kind).on("POST", REPLY).times(1)
}

fn error(status: u16, applied: bool) -> Kind {
    Kind::Error { status, applied, html: false }
}

/// An Intercom whose bot opens no ticket by itself.
async fn quiet(settings: crate::harness::Settings<'_>) -> World {
    let intercom = Settings { ticket_reopens_after: None, ..Settings::default() };
    World::begin_at(intercom, settings, false).await
}

/// Asks the API in ada's name, under a key, while the clock stands still.
async fn posts(world: &World, path: &str, key: &str, body: Value) -> Answer {
    world.user("ada").with("Idempotency-Key", key).post(path, body).await
}

fn reply_to(ticket: &str) -> String {
    format!("/api/tickets/{ticket}/reply")
}

fn clarify(ticket: &str) -> String {
    format!("/api/tickets/{ticket}/clarify")
}

/// The calls to Intercom with this method whose path ends so.
fn calls(world: &World, method: &str, end: &str) -> Vec<sandbox::Call> {
    let is_one = |call: &sandbox::Call| call.method == method && call.path.ends_with(end);
    world.sandbox.calls().into_iter().filter(is_one).collect()
}

#[track_caller]
fn unavailable(answer: Answer) -> u64 {
    let wait = answer.header("retry-after").and_then(|text| text.parse().ok());
    answer.expect_error(502, "service_unavailable");
    wait.expect("a 502 says when to come back")
}

fn notes(world: &World, conversation: &str) -> Vec<String> {
    let at_intercom = world.sandbox.conversation(conversation).expect("it");
    let parts = at_intercom["conversation_parts"]["conversation_parts"].as_array().expect("parts").clone();
    let notes = parts.iter().filter(|part| part["part_type"] == "note");
    notes.map(|part| part["body"].as_str().expect("a text").to_owned()).collect()
}

// Replies.

#[tokio::test]
async fn a_reply_reaches_the_ticket_and_comes_back_as_written() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    let sent = ada.post(&reply_to(&ticket), json!({ "body": "It came <b>today</b>" })).await.expect(201);
    assert_eq!((&sent["body"], &sent["author"]["type"]), (&json!("It came <b>today</b>"), &json!("user")));
    assert_eq!(calls(&world, "POST", &format!("/tickets/{ticket}/reply")).len(), 1);
    assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello", "It came <b>today</b>"]);
    for seconds in [0, 2] {
        world.pass(Duration::from_secs(seconds)).await;
        assert_eq!(bodies(&ada.ticket(&ticket).await), ["Hello", "It came <b>today</b>"]);
        assert_eq!(bodies(&ada.polls(&ticket, 0).await), ["Hello", "It came <b>today</b>"]);
        assert_eq!(ada.ticket(&ticket).await["messages"][1]["id"], sent["id"]);
    }
    // The conversation that it is takes words too.
    ada.replies(&ticket, "As a conversation").await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&ada.ticket(&ticket).await).last(), Some(&"As a conversation"));
}

#[tokio::test]
async fn a_reply_or_question_that_breaks_a_rule_is_refused_and_nothing_is_sent() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.sandbox.forget_calls();
    let long = "x".repeat(10_001);
    for (body, field) in [
        (json!({}), "body"),
        (json!({ "body": null }), "body"),
        (json!({ "body": " \n\t" }), "body"),
        (json!({ "body": long }), "body"),
        (json!({ "body": "a\u{0}b" }), "body"),
        (json!({ "body": 5 }), "body"),
        (json!({ "body": ["a"] }), "body"),
        (json!({ "body": "a", "attachmentIds": "f1" }), "attachmentIds"),
        (json!({ "body": "a", "attachmentIds": ["f1"] }), "attachmentIds"),
        (json!([]), "object"),
    ] {
        let message = ada.post(&reply_to(&ticket), body.clone()).await.expect_error(400, "validation_error");
        assert!(message.contains(field), "{message}: names {field}");
    }
    for body in [json!({ "body": long }), json!({ "body": "a\u{0}b" }), json!({ "body": 5 }), json!({ "body": {} })] {
        let message = ada.post(&clarify(&ticket), body).await.expect_error(400, "validation_error");
        assert!(message.contains("body"), "{message}");
    }
    for path in [reply_to(&ticket), clarify(&ticket)] {
        ada.call_raw("POST", &path, Some("{".into())).await.expect_error(400, "bad_request");
        let bad_key = world.user("ada").with("Idempotency-Key", "a b");
        bad_key.post(&path, json!({ "body": "x" })).await.expect_error(400, "validation_error");
        ada.call("DELETE", &path, None).await.expect_error(405, "method_not_allowed");
        world.nobody().post(&path, json!({ "body": "x" })).await.expect_error(401, "unauthorized");
    }
    for path in ["/api/tickets", "/api/tickets/search?q=1", "/api/tickets/1"] {
        world.nobody().get(path).await.expect_error(401, "unauthorized");
    }
    assert_eq!(world.calls(), 0);
    ada.post(&reply_to(&ticket), json!({ "body": "é".repeat(10_000) })).await.expect(201);
}

#[tokio::test]
async fn a_resolved_ticket_is_opened_by_its_users_reply_if_intercom_does_not_do_it() {
    let world = quiet(&[]).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.operator().moves_ticket(&ticket, "Merged with another request").await;
    world.pass(Duration::from_secs(2)).await;
    world.sandbox.forget_calls();
    ada.post(&reply_to(&ticket), json!({ "body": "Not at all" })).await.expect(201);
    world.work().await;
    assert!(calls(&world, "PUT", &ticket).is_empty(), "Intercom is given time to do it itself");
    world.pass(Duration::from_secs(3)).await;
    let opened = calls(&world, "PUT", &ticket);
    let [opened] = opened.as_slice() else { panic!("one: {opened:?}") };
    assert_eq!((&opened.body["open"], &opened.body["skip_notifications"]), (&json!(true), &json!(true)));
    let whole = ada.ticket(&ticket).await;
    // The first state in progress that is in use.
    assert_eq!((&whole["status"], &whole["statusLabel"]), (&json!("in_progress"), &json!("In progress")));
    assert_eq!(world.sandbox.ticket(&ticket).expect("it")["ticket_state"]["category"], "in_progress");
    assert_eq!(whole["timeline"].as_array().expect("a timeline").len(), 3);

    // An open one is left as it is.
    world.operator().moves_ticket(&ticket, "Waiting on bank").await;
    world.sandbox.forget_calls();
    ada.post(&reply_to(&ticket), json!({ "body": "And?" })).await.expect(201);
    world.pass(Duration::from_secs(3)).await;
    assert!(calls(&world, "PUT", &ticket).is_empty());
    assert_eq!(ada.ticket(&ticket).await["statusLabel"], "Waiting on bank");
}

#[tokio::test]
async fn a_resolved_ticket_that_intercom_opens_itself_is_left_to_it() {
    for told in [true, false] {
        let world = world().await;
        let ada = world.user("ada");
        let ticket = ada.has_ticket(&world, "Refund").await;
        world.operator().moves_ticket(&ticket, "Resolved").await;
        world.pass(Duration::from_secs(2)).await;
        if !told {
            world.sandbox.fault(Fault::new(Kind::Drop));
        }
        world.sandbox.forget_calls();
        ada.post(&reply_to(&ticket), json!({ "body": "Not at all" })).await.expect(201);
        world.sandbox.bot_reopens_tickets_now().await;
        world.pass(Duration::from_secs(3)).await;
        assert!(calls(&world, "PUT", &ticket).is_empty(), "webhooks {told}");
        assert_eq!(ada.ticket(&ticket).await["status"], "in_progress", "webhooks {told}");
    }
}

#[tokio::test]
async fn a_ticket_that_an_operator_resolves_anew_after_the_reply_stays_resolved() {
    let world = quiet(&[]).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.operator().moves_ticket(&ticket, "Resolved").await;
    world.pass(Duration::from_secs(2)).await;
    ada.post(&reply_to(&ticket), json!({ "body": "Thanks" })).await.expect(201);
    world.operator().moves_ticket(&ticket, "Merged with another request").await;
    world.sandbox.forget_calls();
    world.pass(Duration::from_secs(3)).await;
    assert!(calls(&world, "PUT", &ticket).is_empty());
    assert_eq!(ada.ticket(&ticket).await["statusLabel"], "Merged with another request");
}

#[tokio::test]
async fn opening_a_ticket_again_survives_intercoms_troubles() {
    let kinds = [error(503, false), error(503, true), Kind::LostAnswer, Kind::RateLimit { reset_after_s: 3 }];
    // Once: the same call is repeated. Three times: the job is.
    for (trouble, times) in kinds.iter().flat_map(|kind| [(kind, 1), (kind, 3)]) {
        let world = quiet(SHORT).await;
        let ada = world.user("ada");
        let ticket = ada.has_ticket(&world, "Refund").await;
        world.operator().moves_ticket(&ticket, "Resolved").await;
        world.pass(Duration::from_secs(2)).await;
        world.sandbox.fault(Fault::new(trouble.clone()).on("PUT", "/tickets/{id}").times(times));
        // Nobody tells of it: what the mirror has in the end, it asked for.
        world.sandbox.fault(Fault::new(Kind::Drop));
        ada.post(&reply_to(&ticket), json!({ "body": "Not at all" })).await.expect(201);
        for _ in 0..8 {
            world.pass(Duration::from_secs(10)).await;
        }
        let whole = ada.ticket(&ticket).await;
        assert_eq!(whole["status"], "in_progress", "{trouble:?}");
        assert_eq!(whole["timeline"].as_array().expect("a timeline").len(), 3, "{trouble:?}: once");
    }
}

#[tokio::test]
async fn a_reply_by_way_of_the_conversation_opens_a_resolved_ticket_too() {
    let world = quiet(&[]).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.operator().moves_ticket(&ticket, "Resolved").await;
    world.pass(Duration::from_secs(2)).await;
    ada.replies(&ticket, "Not at all").await;
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(ada.ticket(&ticket).await["status"], "in_progress");
}

#[tokio::test]
async fn a_reply_whose_answer_is_lost_is_found_at_once_and_is_one_message() {
    let world = quiet(SHORT).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    let mut expected = vec!["Hello".to_owned()];
    let kinds = [
        Kind::LostAnswer,
        Kind::TruncatedBody,
        error(500, true),
        error(408, true),
        Kind::Hang { ms: 2_500, applied: true },
    ];
    for (n, kind) in kinds.into_iter().enumerate() {
        world.sandbox.forget_calls();
        world.sandbox.fault(once(kind.clone()));
        let (key, body) = (format!("k{n}"), format!("message {n}"));
        let first = posts(&world, &reply_to(&ticket), &key, json!({ "body": body })).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{kind:?}: {}", first.text);
        let again = posts(&world, &reply_to(&ticket), &key, json!({ "body": body })).await;
        assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text), "{kind:?}");
        let other = posts(&world, &reply_to(&ticket), &key, json!({ "body": "other" })).await;
        other.expect_error(422, "idempotency_mismatch");
        expected.push(body);
        assert_eq!(calls(&world, "POST", "/reply").len(), 1, "{kind:?}");
        assert_eq!(world.sandbox.contact_parts(&ticket), expected, "{kind:?}");
        assert_eq!(bodies(&ada.ticket(&ticket).await), expected, "{kind:?}");
    }
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(bodies(&ada.polls(&ticket, 0).await), expected, "webhooks and refreshes add nothing");
}

#[tokio::test]
async fn a_reply_without_an_answer_is_told_and_sent_again_only_when_asked_for_and_settled() {
    let cases = [
        (Kind::ResetBeforeApply, 3),
        (Kind::Hang { ms: 2_500, applied: false }, 3),
        (error(500, false), 1),
        (error(503, false), 1),
    ];
    for (kind, settle_s) in cases {
        let world = quiet(SHORT).await;
        let ada = world.user("ada");
        let ticket = ada.has_ticket(&world, "Refund").await;
        world.sandbox.forget_calls();
        world.sandbox.fault(once(kind.clone()));
        let body = json!({ "body": "Hm" });
        assert_eq!(unavailable(posts(&world, &reply_to(&ticket), "k", body.clone()).await), settle_s, "{kind:?}");
        // Behind it, whichever way they come.
        assert!(unavailable(posts(&world, &reply_to(&ticket), "k2", json!({ "body": "Next" })).await) >= 1);
        let path = format!("/api/conversations/{ticket}/reply");
        assert!(unavailable(posts(&world, &path, "k3", json!({ "body": "Next" })).await) >= 1, "{kind:?}");
        assert_eq!(calls(&world, "POST", "/reply").len(), 1, "{kind:?}: not again while it may still come");
        for _ in 0..4 {
            world.pass(Duration::from_secs(settle_s)).await;
        }
        assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello"], "{kind:?}: nothing behind the user's back");
        let sent = posts(&world, &reply_to(&ticket), "k", body.clone()).await;
        assert_eq!((sent.status, sent.header("idempotent-replayed")), (201, None), "{kind:?}");
        world.pass(Duration::from_secs(3)).await;
        assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello", "Hm"], "{kind:?}");
        assert_eq!(bodies(&ada.ticket(&ticket).await), ["Hello", "Hm"], "{kind:?}");
    }
}

#[tokio::test]
async fn a_retry_of_a_reply_without_a_key_is_the_same_message_after_a_502_and_another_after_a_201() {
    let world = quiet(SHORT).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.sandbox.fault(once(Kind::ResetBeforeApply));
    let says = async || world.while_time_goes_by(ada.post(&reply_to(&ticket), json!({ "body": "ok" }))).await;
    unavailable(says().await);
    world.pass(Duration::from_secs(3)).await;
    let sent = says().await.expect(201);
    assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello", "ok"]);
    assert_ne!(says().await.expect(201)["id"], sent["id"]);
    assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello", "ok", "ok"]);
    world.sandbox.fault(once(Kind::AppliedLate { after_ms: 600_000, hang: false }));
    unavailable(says().await);
    world.sandbox.apply_late();
    assert_eq!(world.sandbox.contact_parts(&ticket).len(), 4);
    world.work().await;
    says().await.expect(201);
    assert_eq!(world.sandbox.contact_parts(&ticket).len(), 4, "it came late, and is the one that was asked for");
}

#[tokio::test]
async fn a_ticket_that_intercom_no_longer_has_is_not_found_from_then_on() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    world.sandbox.fault(Fault::new(Kind::Drop));
    world.operator().deletes(&ticket).await;
    let answer = world.while_time_goes_by(ada.post(&reply_to(&ticket), json!({ "body": "Still there?" }))).await;
    answer.expect_error(404, "not_found");
    world.work().await;
    ada.get(&format!("/api/tickets/{ticket}")).await.expect_error(404, "not_found");
    assert_eq!(ada.tickets("/api/tickets").await, Vec::<Value>::new());
}

// Questions about a ticket.

#[tokio::test]
async fn a_question_goes_into_the_latest_open_conversation_else_into_a_new_one() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    let (old, latest, closed) = (ada.opens("Old").await, ada.opens("Latest").await, ada.opens("Closed").await);
    ada.post(&format!("/api/conversations/{closed}/close"), json!({})).await.expect(200);
    world.operator().snoozes(&ada.opens("Snoozed").await, world.clock.now_s() + 3_600).await;
    world.pass(Duration::from_secs(2)).await;
    let asked = ada.post(&clarify(&ticket), json!({ "body": "What now?" })).await.expect(201);
    assert_eq!((&asked["conversationId"], &asked["message"]["body"]), (&json!(latest), &json!("What now?")));
    assert_eq!(asked.as_object().expect("an object").len(), 2);
    assert_eq!(world.sandbox.contact_parts(&latest), ["Latest", "What now?"]);
    assert_eq!(bodies(&ada.reads(&latest).await), ["Latest", "What now?"]);
    assert_eq!(world.sandbox.contact_parts(&ticket), ["Hello"], "the ticket is not touched");

    for chat in [&old, &latest] {
        ada.post(&format!("/api/conversations/{chat}/close"), json!({})).await.expect(200);
    }
    world.sandbox.forget_calls();
    // No body at all is enough.
    let begun = ada.call("POST", &clarify(&ticket), None).await.expect(201);
    let chat = begun["conversationId"].as_str().expect("an id");
    assert!(![&old, &latest, &closed, &ticket].contains(&&chat.to_owned()), "{begun}");
    let words = begun["message"]["body"].as_str().expect("words");
    let reference = ada.ticket(&ticket).await["reference"].as_str().expect("a reference").to_owned();
    assert!(words.starts_with(&format!("Ticket {reference}: ")), "{words}");
    assert_eq!(world.sandbox.contact_parts(chat), [words]);
    assert_eq!(bodies(&ada.reads(chat).await), [words]);
    for blank in [json!({}), json!({ "body": null }), json!({ "body": "  " })] {
        let again = ada.post(&clarify(&ticket), blank).await.expect(201);
        assert_eq!((&again["conversationId"], &again["message"]["body"]), (&json!(chat), &json!(words)));
    }
}

#[tokio::test]
async fn the_operators_find_a_note_that_links_the_ticket_and_the_user_does_not() {
    let world = World::begin(&[("INTERCOM_APP_ID", "abc123def")], false).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund <b>").await;
    let chat = ada.opens("Hi").await;
    ada.post(&clarify(&ticket), json!({ "body": "What now?" })).await.expect(201);
    world.sandbox.fault(Fault::new(Kind::LostAnswer).on("POST", &format!("/conversations/{chat}/reply")).times(1));
    for _ in 0..3 {
        world.pass(Duration::from_secs(3)).await;
    }
    let notes = notes(&world, &chat);
    let [note] = notes.as_slice() else { panic!("one note: {notes:?}") };
    let reference = ada.ticket(&ticket).await["reference"].as_str().expect("a reference").to_owned();
    for part in [&reference, &ticket, "Refund &lt;b&gt;", "/a/apps/abc123def/conversations/"] {
        assert!(note.contains(part), "{part} in {note}");
    }
    assert_eq!(bodies(&ada.reads(&chat).await), ["Hi", "What now?"]);
}

#[tokio::test]
async fn a_question_is_one_message_under_its_key_wherever_it_went() {
    let world = quiet(SHORT).await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    let path = clarify(&ticket);
    // It begins a conversation, which is then the latest open one.
    let first = posts(&world, &path, "k", json!({ "body": "What now?" })).await;
    let again = posts(&world, &path, "k", json!({ "body": "What now?" })).await;
    assert_eq!((first.status, again.header("idempotent-replayed"), &again.text), (201, Some("true"), &first.text));
    posts(&world, &path, "k", json!({ "body": "Other" })).await.expect_error(422, "idempotency_mismatch");
    let chat = first.json["conversationId"].as_str().expect("an id").to_owned();
    assert_eq!(world.sandbox.contact_parts(&chat), ["What now?"]);
    // Another address, another scope.
    posts(&world, &reply_to(&ticket), "k", json!({ "body": "What now?" })).await.expect(201);

    let newer = ada.opens("Newer").await;
    for (n, kind) in [Kind::LostAnswer, error(500, true)].into_iter().enumerate() {
        let to = format!("/conversations/{newer}/reply");
        world.sandbox.fault(Fault::new(kind.clone()).on("POST", &to).times(1));
        let (key, body) = (format!("found {n}").replace(' ', "-"), json!({ "body": format!("asked {n}") }));
        let found = posts(&world, &path, &key, body.clone()).await;
        assert_eq!((found.status, &found.json["conversationId"]), (201, &json!(newer)), "{kind:?}: {}", found.text);
        assert_eq!(posts(&world, &path, &key, body).await.text, found.text, "{kind:?}");
    }
    assert_eq!(world.sandbox.contact_parts(&newer), ["Newer", "asked 0", "asked 1"]);

    // Not applied: the retry goes where the first went, though another is the latest by then.
    world
        .sandbox
        .fault(Fault::new(Kind::ResetBeforeApply).on("POST", &format!("/conversations/{newer}/reply")).times(1));
    unavailable(posts(&world, &path, "late", json!({ "body": "Late" })).await);
    let latest = ada.opens("Latest").await;
    world.pass(Duration::from_secs(4)).await;
    let sent = posts(&world, &path, "late", json!({ "body": "Late" })).await;
    assert_eq!((sent.status, &sent.json["conversationId"]), (201, &json!(newer)), "{}", sent.text);
    assert_eq!(world.sandbox.contact_parts(&latest), ["Latest"]);
    assert_eq!(world.sandbox.contact_parts(&newer).last().map(String::as_str), Some("Late"));
}

#[tokio::test]
async fn a_question_that_begins_a_conversation_begins_one_whatever_became_of_the_answer() {
    for kind in [Kind::LostAnswer, error(503, true), Kind::ResetBeforeApply, error(503, false)] {
        let world = quiet(SHORT).await;
        let ada = world.user("ada");
        let ticket = ada.has_ticket(&world, "Refund").await;
        world.sandbox.fault(Fault::new(kind.clone()).on("POST", "/conversations").times(1));
        let asks = async || posts(&world, &clarify(&ticket), "k", json!({ "body": "What now?" })).await;
        let mut answer = asks().await;
        for _ in 0..4 {
            if answer.status == 201 {
                break;
            }
            unavailable(answer);
            world.pass(Duration::from_secs(4)).await;
            answer = asks().await;
        }
        let asked = answer.expect(201);
        let chat = asked["conversationId"].as_str().expect("an id");
        assert_eq!(world.sandbox.contact_parts(chat), ["What now?"], "{kind:?}");
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(world.sandbox.conversation_ids().len(), 2, "{kind:?}: the ticket and one more");
        assert_eq!(asks().await.expect(201), asked, "{kind:?}");
        assert_eq!(notes(&world, chat).len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_question_whose_conversation_is_gone_goes_into_another_when_it_is_asked_again() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.has_ticket(&world, "Refund").await;
    let chat = ada.opens("Hi").await;
    world.work().await;
    world.sandbox.fault(Fault::new(Kind::Drop));
    world.operator().deletes(&chat).await;
    world.sandbox.clear_faults();
    let asks = async || posts(&world, &clarify(&ticket), "k", json!({ "body": "What now?" })).await;
    assert!(unavailable(world.while_time_goes_by(asks()).await) >= 1);
    world.work().await;
    let asked = asks().await.expect(201);
    assert_ne!(asked["conversationId"], json!(chat));
    assert_eq!(world.sandbox.contact_parts(asked["conversationId"].as_str().expect("an id")), ["What now?"]);
}
