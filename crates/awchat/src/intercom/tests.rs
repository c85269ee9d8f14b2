//! The client against a scripted server: one answer per connection, in order; the requests are kept.

#![expect(clippy::disallowed_methods, reason = "the stand-in is a thread with real sockets")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use serde_json::json;

use super::contacts::{ContactPatch, CreateContact, NewContact, Refused};
use super::conversations::Redaction;
use super::*;
use crate::id::{ContactId, ConversationId, UserId};

const HANG: &str = "";

struct Script {
    intercom: Intercom,
    clock: Clock,
    requests: mpsc::Receiver<String>,
}

impl Script {
    /// A server that gives these answers; to [`HANG`] it never answers. Then it is gone.
    fn of<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("bound"));
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let (seen, requests) = mpsc::channel();
        thread::spawn(move || {
            let mut hung = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let _ = seen.send(request(&mut stream));
                if answer == HANG {
                    hung.push(stream);
                } else {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
            drop(listener);
            thread::sleep(Duration::from_secs(hung.len().min(1) as u64));
        });
        let clock = Clock::system();
        let intercom = Intercom::new(settings(base_url), clock.clone()).expect("the settings work");
        Self { intercom, clock, requests }
    }

    /// Method, path and body of the requests so far.
    fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn settings(base_url: String) -> Settings {
    Settings {
        base_url,
        access_token: "secret-token".to_owned(),
        admin_id: "991".to_owned(),
        timeout: Duration::from_millis(300),
        breaker_open: Duration::from_millis(100),
    }
}

fn request(stream: &mut TcpStream) -> String {
    let mut raw = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&raw).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            assert!(head.contains("authorization: bearer secret-token") && head.contains("intercom-version: 2.16"));
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let line: Vec<&str> = text.split_whitespace().take(2).collect();
                return format!("{} {body}", line.join(" ")).trim().to_owned();
            }
        }
        let read = stream.read(&mut chunk).expect("a request");
        assert!(read > 0, "the client hung up");
        raw.extend_from_slice(&chunk[..read]);
    }
}

fn answer(status: u16, body: serde_json::Value) -> String {
    with_headers(status, "", &body.to_string())
}

fn with_headers(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn refusal(status: u16, code: &str, message: &str) -> String {
    answer(status, json!({ "type": "error.list", "errors": [{ "code": code, "message": message }] }))
}

fn conversation() -> ConversationId {
    ConversationId::parse("499").expect("digits")
}

fn contact(id: &str) -> ContactId {
    ContactId::parse(id).expect("an id")
}

fn ada() -> UserId {
    UserId::parse("ada/1").expect("visible")
}

#[tokio::test]
async fn a_conversation_is_created_and_replied_to() {
    let script = Script::of([
        answer(200, json!({ "type": "user_message", "id": 4, "created_at": 7, "conversation_id": "499" })),
        answer(200, json!({ "id": "499", "conversation_parts": { "conversation_parts": [{ "id": 8 }] } })),
    ]);
    let files = ["https://x/a.png".to_owned()];
    let created = script.intercom.create(&contact("c1"), "hi", &files).await.expect("created");
    assert_eq!(
        (created.conversation_id, created.message_id.as_deref(), created.created_at),
        (conversation(), Some("4"), Some(7))
    );
    script.intercom.reply(&conversation(), &contact("c1"), "again", &[]).await.expect("replied");
    assert_eq!(
        script.requests(),
        [
            r#"POST /conversations {"attachment_urls":["https://x/a.png"],"body":"hi","from":{"id":"c1","type":"user"}}"#,
            r#"POST /conversations/499/reply {"body":"again","intercom_user_id":"c1","message_type":"comment","type":"user"}"#,
        ]
    );
}

#[tokio::test]
async fn every_end_of_a_write_is_told_by_its_effect() {
    let cases = [
        (refusal(404, "not_found", "User Ada Not Found"), "Intercom refused: 404 not_found"),
        (refusal(401, "unauthorized", "x"), "Intercom does not accept our credentials: 401"),
        (refusal(403, "api_plan_restricted", "x"), "Intercom does not accept our credentials: 403"),
        (with_headers(429, "Retry-After: 9\r\n", ""), "not sent to Intercom: throttled"),
        (with_headers(500, "", "<html>"), "Intercom's answer is unknown (answered: true)"),
        (with_headers(408, "", ""), "Intercom's answer is unknown (answered: true)"),
        (with_headers(302, "Location: /me\r\n", ""), "Intercom's answer is unknown (answered: true)"),
        (with_headers(200, "", "<html>"), "Intercom's answer is unknown (answered: true)"),
        ("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{".to_owned(), "Intercom's answer is unknown (answered: true)"),
        ("nonsense\r\n\r\n".to_owned(), "Intercom's answer is unknown (answered: false)"),
        (HANG.to_owned(), "Intercom's answer is unknown (answered: false)"),
    ];
    for (answer, expected) in cases {
        let script = Script::of([answer.clone()]);
        let error = script.intercom.create(&contact("c1"), "hi", &[]).await.expect_err("no success");
        assert_eq!(error.to_string(), expected, "{answer}");
        assert_eq!(script.requests().len(), 1, "never repeated: {answer}");
    }
}

#[tokio::test]
async fn no_connection_is_certainly_no_effect() {
    let script = Script::of([] as [String; 0]);
    thread::sleep(Duration::from_millis(50));
    let error = script.intercom.note(&conversation(), "x").await.expect_err("nobody there");
    assert!(matches!(error, CallError::NotApplied { reason: NotApplied::Unreachable, .. }), "{error}");
}

#[tokio::test]
async fn a_read_is_tried_again() {
    let script = Script::of([with_headers(503, "", ""), answer(200, json!({ "id": 499 }))]);
    let settings = Settings { timeout: Duration::from_secs(5), ..script.intercom.0.settings.clone() };
    let patient = Intercom::new(settings, script.clock.clone()).expect("the settings work");
    assert!(patient.conversation(&conversation(), Class::Refresh).await.expect("found").is_some());
    assert_eq!(script.requests(), ["GET /conversations/499", "GET /conversations/499"]);
}

#[tokio::test]
async fn a_throttled_client_waits_before_it_calls_again() {
    let script =
        Script::of([with_headers(429, "Retry-After: 9\r\nX-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 0\r\n", "")]);
    for _ in 0..2 {
        let error = script.intercom.reply(&conversation(), &contact("c1"), "hi", &[]).await.expect_err("throttled");
        let CallError::NotApplied { reason: NotApplied::Throttled, retry_after: Some(wait) } = error else {
            panic!("{error}");
        };
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(9));
    }
    assert_eq!(script.requests().len(), 1);
    assert!(script.intercom.gate().is_err());
    assert_eq!(script.intercom.status(), Status { circuit: Circuit::Closed, budget_left: Some(0.0) });
}

#[tokio::test]
async fn an_open_circuit_refuses_at_once_and_the_probe_closes_it() {
    let broken = (0..10).map(|_| with_headers(500, "", ""));
    let well = (0..4).map(|_| answer(200, json!({ "id": "1", "app": { "id_code": "abc" } })));
    let script = Script::of(broken.chain([with_headers(500, "", "")]).chain(well));
    for _ in 0..10 {
        script.intercom.create(&contact("c1"), "hi", &[]).await.expect_err("broken");
    }
    let Circuit::Open { reason: Reason::Failures, .. } = script.intercom.status().circuit else { panic!("open") };
    let error = script.intercom.create(&contact("c1"), "hi", &[]).await.expect_err("open");
    assert!(matches!(error, CallError::NotApplied { reason: NotApplied::CircuitOpen, retry_after: Some(_) }));
    assert_eq!(script.requests().len(), 10);

    let shutdown = CancellationToken::new();
    let probe = tokio::spawn({
        let (intercom, shutdown) = (script.intercom.clone(), shutdown.clone());
        async move { intercom.run_probe(shutdown).await }
    });
    while script.intercom.gate().is_err() {
        script.clock.sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(script.requests(), ["GET /me"; 4], "one probe failed, three went well");
    let me = script.intercom.me().await.expect("closed");
    assert_eq!(me.app.and_then(|app| app.id_code).as_ref().map(wire::Id::as_str), Some("abc"));
    shutdown.cancel();
    probe.await.expect("the probe ends");
}

#[tokio::test]
async fn refused_credentials_open_the_circuit_and_a_forbidden_chore_does_not() {
    let forbidden = |code: &str| refusal(403, code, "x");
    let codes = ["action_forbidden", "api_plan_restricted", "forbidden"];
    let script = Script::of(codes.map(forbidden));
    for expected in [Ok(()), Ok(()), Err(Reason::Auth)] {
        let error = script.intercom.note(&conversation(), "x").await.expect_err("forbidden");
        assert!(matches!(error, CallError::Auth { status: 403 }));
        let circuit = match script.intercom.status().circuit {
            Circuit::Open { reason, .. } => Err(reason),
            Circuit::Closed | Circuit::HalfOpen => Ok(()),
        };
        assert_eq!(circuit, expected);
    }
}

#[tokio::test]
async fn a_contact_is_found_through_merges() {
    let gone = |id: &str| with_headers(410, &format!("Link: </contacts/{id}>; rel=\"canonical\"\r\n"), "{}");
    let script = Script::of([gone("c1"), gone("c2"), answer(200, json!({ "id": "c2", "external_id": "bob" }))]);
    assert_eq!(script.intercom.ensure_contact(&ada(), None).await.expect("found").id, contact("c2"));
    assert_eq!(
        script.requests(),
        ["GET /contacts/find_by_external_id/ada%2F1", "GET /contacts/c1", "GET /contacts/c2"]
    );
}

#[tokio::test]
async fn a_contact_is_made_if_there_is_none() {
    let script = Script::of([refusal(404, "not_found", "x"), answer(200, json!({ "id": "c1" }))]);
    assert_eq!(script.intercom.ensure_contact(&ada(), Some("Ada")).await.expect("made").id, contact("c1"));
    assert_eq!(script.requests()[1], r#"POST /contacts {"external_id":"ada/1","name":"Ada","role":"user"}"#);
}

#[tokio::test]
async fn a_conflict_is_adopted_only_if_it_is_the_same_user() {
    let taken = |what: &str| {
        refusal(409, "conflict", &format!("{what} contact matching those details already exists with id=5da6f1"))
    };
    let found = |external_id: &str| answer(200, json!({ "id": "5da6f1", "external_id": external_id }));
    let missing = || refusal(404, "not_found", "x");

    let script = Script::of([missing(), taken("A"), found("ada/1")]);
    assert_eq!(script.intercom.ensure_contact(&ada(), None).await.expect("ours").id, contact("5da6f1"));

    let script = Script::of([missing(), taken("An archived"), answer(200, json!({})), found("ada/1")]);
    assert_eq!(script.intercom.ensure_contact(&ada(), None).await.expect("ours").id, contact("5da6f1"));
    assert_eq!(script.requests()[2], "POST /contacts/5da6f1/unarchive {}");

    for stranger in [found("bob"), answer(200, json!({ "id": "5da6f1" })), missing()] {
        let script = Script::of([missing(), taken("A"), stranger]);
        let error = script.intercom.ensure_contact(&ada(), None).await.expect_err("not ours");
        assert!(matches!(error, CallError::Rejected { status: 409, .. }), "{error}");
    }

    let script = Script::of([taken("A")]);
    let created =
        script.intercom.create_contact(NewContact { external_id: &ada(), name: None }).await.expect("an outcome");
    assert_eq!(created, CreateContact::Exists(contact("5da6f1")));
}

#[tokio::test]
async fn what_intercom_refuses_of_a_contact_is_left_out() {
    let script = Script::of([
        refusal(400, "parameter_invalid", "Custom attribute 'x' does not exist"),
        refusal(409, "conflict", "taken, id=c9"),
        answer(200, json!({ "id": "c1" })),
    ]);
    let patch = ContactPatch {
        name: Some("Ada".to_owned()),
        email: Some("ada@example.com".to_owned()),
        custom_attributes: [("x".to_owned(), json!("é".repeat(300))), ("y".to_owned(), json!({}))].into(),
        ..ContactPatch::default()
    };
    let refused = script.intercom.enrich_contact(&contact("c1"), &patch).await.expect("the name at least");
    assert_eq!(refused, [Refused::CustomAttributes, Refused::Email]);
    let requests = script.requests();
    assert!(requests[0].contains(&format!(r#"{{"x":"{}"}}"#, "é".repeat(255))));
    assert_eq!(requests[2], r#"PUT /contacts/c1 {"name":"Ada"}"#);
}

#[tokio::test]
async fn closing_what_is_closed_is_a_success() {
    let closed = |state: &str| answer(200, json!({ "id": "499", "state": state }));
    let script = Script::of([
        closed("closed"),
        refusal(422, "x", "x"),
        closed("closed"),
        refusal(422, "x", "x"),
        closed("open"),
    ]);
    script.intercom.close(&conversation()).await.expect("closed");
    script.intercom.close(&conversation()).await.expect("was closed");
    let error = script.intercom.close(&conversation()).await.expect_err("still open");
    assert!(matches!(error, CallError::Rejected { status: 422, .. }));
    assert_eq!(
        script.requests()[0],
        r#"POST /conversations/499/parts {"admin_id":"991","message_type":"close","type":"admin"}"#
    );
}

#[tokio::test]
async fn a_tag_is_looked_up_once_and_again_when_it_is_gone() {
    let tag = |id: u64| answer(200, json!({ "type": "tag", "id": id, "name": "csat_5" }));
    let script = Script::of([tag(1), tag(1), tag(1), refusal(404, "tag_not_found", "x"), tag(2), tag(2)]);
    for name in ["csat_5", "CSAT_5", "csat_5"] {
        script.intercom.tag(&conversation(), name).await.expect("tagged");
    }
    let requests = script.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.split(' ').nth(1).unwrap_or_default()).collect();
    let attach = "/conversations/499/tags";
    assert_eq!(paths, ["/tags", attach, attach, attach, "/tags", attach]);
    assert_eq!(requests[5], r#"POST /conversations/499/tags {"admin_id":"991","id":"2"}"#);
}

#[tokio::test]
async fn a_search_page_survives_odd_rows() {
    let script = Script::of([
        answer(
            200,
            json!({
                "conversations": [{ "id": "1" }, null, "odd", { "id": 2, "tags": 5, "contacts": [] }],
                "pages": { "next": { "starting_after": "abc" } },
            }),
        ),
        answer(200, json!({ "conversations": null, "pages": { "next": null } })),
    ]);
    let page = script.intercom.search_updated_since(1_700, None).await.expect("a page");
    assert_eq!((page.conversations.len(), page.next.as_deref()), (2, Some("abc")));
    let page = script.intercom.search_of_contact(&contact("c1"), Some("abc"), Class::Reconcile).await.expect("a page");
    assert_eq!((page.conversations.len(), page.next), (0, None));
    let requests = script.requests();
    assert!(requests[0].contains(r#"{"field":"updated_at","operator":">","value":1700}"#));
    assert!(requests[1].contains(r#""starting_after":"abc""#));
}

#[tokio::test]
async fn the_teammates_chores_take_refusals_that_change_nothing() {
    let fine = || answer(200, json!({}));
    let script = Script::of([refusal(422, "x", "Already assigned"), refusal(404, "x", "x"), fine(), fine()]);
    script.intercom.assign_team(&conversation(), "5").await.expect("assigned before");
    assert!(!script.intercom.redact(&conversation(), Redaction::Part("8")).await.expect("an outcome"));
    script.intercom.mark_read(&conversation()).await.expect("read");
    script.intercom.note(&conversation(), "<p>x</p>").await.expect("noted");
    assert_eq!(
        script.requests()[3],
        r#"POST /conversations/499/reply {"admin_id":"991","body":"<p>x</p>","message_type":"note","type":"admin"}"#
    );
}

#[test]
fn settings_that_cannot_work_are_refused_and_never_printed() {
    for bad in ["", "api.intercom.io", "ftp://x", "mailto:x"] {
        assert!(
            matches!(Intercom::new(settings(bad.to_owned()), Clock::manual(0)), Err(Misconfigured::BaseUrl)),
            "{bad}"
        );
    }
    let unsendable = Settings { access_token: "a\nb".to_owned(), ..settings("http://x".to_owned()) };
    assert!(matches!(Intercom::new(unsendable, Clock::manual(0)), Err(Misconfigured::AccessToken)));
    let intercom = Intercom::new(settings("http://x".to_owned()), Clock::manual(0)).expect("the settings work");
    assert!(!format!("{intercom:?}").contains("secret"));
}
