//! Tickets over REST: created, converted, moved, replied to, searched for.

use std::time::Duration;

use sandbox::{Fault, Kind, NewTicket, Settings};
use serde_json::{Value, json};

use crate::harness::{World, reply, world_with};

const PAYMENT: &str = "2979330";
const ACCOUNT: &str = "2979331";
const LEDGER: &str = "2979332";

/// A sandbox whose bot never reopens anything by itself.
async fn quiet() -> World {
    world_with(Settings { ticket_reopens_after: None, ..Settings::default() }).await
}

async fn creates(world: &World, contact: &str, of: &str) -> Value {
    let body = json!({
        "ticket_type_id": of, "contacts": [{ "id": contact }], "skip_notifications": true,
        "ticket_attributes": { "_default_title_": "Card refused", "_default_description_": "Twice today" },
    });
    let made = world.post("/tickets", body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    made.body
}

/// The id of the state contacts read as `label`.
pub(crate) async fn state(world: &World, label: &str) -> String {
    let all = world.get("/ticket_states").await.body;
    let states = all["data"].as_array().expect("a list");
    let found = states.iter().find(|state| state["external_label"] == label).expect("a state");
    found["id"].as_str().expect("an id").to_owned()
}

fn id(of: &Value) -> &str {
    of["id"].as_str().expect("an id")
}

/// (type, from, to, author's type) of each change of state.
pub(crate) fn timeline(ticket: &Value) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = ticket["ticket_parts"]["ticket_parts"].as_array().expect("parts");
    let moves = parts.iter().filter(|part| text(&part["part_type"]).starts_with("ticket_state_updated_by_"));
    moves
        .map(|part| {
            let by = text(&part["part_type"]).replace("ticket_state_updated_by_", "");
            [by, text(&part["previous_ticket_state"]), text(&part["ticket_state"]), text(&part["author"]["type"])]
        })
        .collect()
}

pub(crate) fn step(by: &str, from: &str, to: &str, author: &str) -> [String; 4] {
    [by, from, to, author].map(str::to_owned)
}

#[tokio::test]
async fn a_new_ticket_is_a_conversation_under_the_same_id() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let made = creates(&world, &contact, PAYMENT).await;
    let id = id(&made).to_owned();
    assert_ne!(made["ticket_id"], made["id"], "the number people read is another one");
    assert_eq!(
        (&made["category"], &made["is_shared"], &made["open"]),
        (&json!("Customer"), &json!(true), &json!(true))
    );
    assert_eq!(made["ticket_attributes"]["_default_title_"], "Card refused");
    assert_eq!(made["ticket_attributes"]["Fraud score"], Value::Null);
    assert_eq!(made["contacts"]["contacts"], json!([{ "type": "contact", "id": contact, "external_id": "ada" }]));
    assert_eq!(made["previous_ticket_state_id"], Value::Null);
    assert_eq!(timeline(&made), [step("admin", "submitted", "submitted", "admin")]);
    assert!(made["ticket_parts"]["ticket_parts"][0].get("body").is_none(), "nulls are left out");
    let fields = made["ticket_type"]["ticket_type_attributes"]["data"].as_array().expect("a list");
    let shown: Vec<(&str, bool)> = fields
        .iter()
        .map(|one| (one["name"].as_str().unwrap_or_default(), one["visible_to_contacts"] == true))
        .collect();
    assert!(shown.contains(&("Transaction", true)) && shown.contains(&("Fraud score", false)), "{shown:?}");

    let talk = world.get(&format!("/conversations/{id}")).await.body;
    assert_eq!((&talk["id"], &talk["source"]["body"]), (&json!(id), &json!("")));
    assert_eq!(talk["ticket"]["id"].as_u64().map(|number| number.to_string()), Some(id.clone()), "a number here");
    assert_eq!(
        (&talk["ticket"]["state"], &talk["ticket"]["ticket_type"]),
        (&json!("submitted"), &json!("Payment problem"))
    );

    let tag = world.post("/tags", json!({ "name": "csat_5" })).await.body["id"].clone();
    let path = format!("/tickets/{id}/tags");
    assert_eq!(world.post(&path, json!({ "id": tag, "admin_id": "9000001" })).await.status, 200);
    let talk = world.get(&format!("/conversations/{id}")).await.body;
    assert_eq!(talk["tags"]["tags"][0]["name"], "csat_5");
    let path = format!("{path}/{}", tag.as_str().expect("an id"));
    assert_eq!(world.send("DELETE", &path, Value::Null).await.status, 400, "DELETE needs its body");
    assert_eq!(world.send("DELETE", &path, json!({ "admin_id": "9000001" })).await.status, 200);
    let talk = world.get(&format!("/conversations/{id}")).await.body;
    assert_eq!(talk["tags"]["tags"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn a_contact_replies_by_either_path_and_the_part_is_the_same() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let id = id(&creates(&world, &contact, PAYMENT).await).to_owned();
    let path = format!("/tickets/{id}/reply");
    let one = world.post(&path, reply(&contact, "One")).await;
    assert_eq!(
        (one.status, &one.body["type"], &one.body["part_type"]),
        (200, &json!("ticket_part"), &json!("comment"))
    );
    assert_eq!((&one.body["body"], &one.body["author"]["type"]), (&json!("<p>One</p>"), &json!("user")));
    assert_eq!(world.replies(&contact, &id, "Two").await.status, 200);
    let note = json!({ "message_type": "note", "type": "admin", "admin_id": "9000001", "body": "internal" });
    assert_eq!(world.post(&path, note).await.body["part_type"], "note");

    let ids = |list: &Value| -> Vec<Value> {
        list.as_array().expect("parts").iter().map(|part| part["id"].clone()).collect()
    };
    let ticket = world.get(&format!("/tickets/{id}")).await.body;
    let talk = world.get(&format!("/conversations/{id}")).await.body;
    let of_ticket = ids(&ticket["ticket_parts"]["ticket_parts"]);
    assert_eq!(of_ticket, ids(&talk["conversation_parts"]["conversation_parts"]));
    assert_eq!((of_ticket.len(), &of_ticket[1]), (4, &one.body["id"]));

    let files = json!([{ "content_type": "text/plain", "data": "eA==", "name": "x.txt" }]);
    let mut with_files = reply(&contact, "Three");
    with_files["attachment_files"] = files;
    assert_eq!(world.post(&path, with_files.clone()).await.status, 400, "no files for contacts on this path");
    assert_eq!(world.post(&format!("/conversations/{id}/reply"), with_files).await.status, 200);
    let stranger = world.sandbox.add_contact(Some("eve"), None);
    assert_eq!(world.post(&path, reply(&stranger, "mine!")).await.status, 404);
    assert_eq!(world.post(&path, reply(&contact, "  ")).await.status, 400);
    world.stop().await;
}

#[tokio::test]
async fn teammates_tickets_are_no_conversations_and_take_no_replies() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let made = creates(&world, &contact, LEDGER).await;
    let id = id(&made).to_owned();
    assert_eq!((&made["category"], &made["is_shared"]), (&json!("Back-office"), &json!(false)));
    assert_eq!(world.get(&format!("/conversations/{id}")).await.status, 404);
    assert_eq!(world.replies(&contact, &id, "Hello?").await.status, 404);
    let path = format!("/tickets/{id}/reply");
    let refused = world.post(&path, reply(&contact, "Hello?")).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (400, &json!("parameter_mismatch")));
    assert_eq!(refused.body["errors"][0]["message"], "User replies are not allowed on Backoffice tickets");
    let said = |kind: &str| json!({ "message_type": kind, "type": "admin", "admin_id": "9000001", "body": "x" });
    assert_eq!(world.post(&path, said("comment")).await.status, 400);
    assert_eq!(world.post(&path, said("note")).await.status, 200);
    let all = json!({ "query": { "field": "contact_ids", "operator": "=", "value": contact } });
    assert_eq!(world.post("/conversations/search", all).await.body["total_count"], 0);
    let shared = world.send("PUT", &format!("/tickets/{id}"), json!({ "is_shared": true })).await.body;
    assert_eq!(shared["is_shared"], true);
    world.stop().await;
}

#[tokio::test]
async fn a_ticket_moves_between_states_of_its_type_only() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let (bank, working) = (state(&world, "Waiting on bank").await, state(&world, "In progress").await);
    let (resolved, old) = (state(&world, "Resolved").await, state(&world, "With level 2").await);
    let id_of = id(&creates(&world, &contact, PAYMENT).await).to_owned();
    let path = format!("/tickets/{id_of}");
    let moves = |to: &str| json!({ "ticket_state_id": to, "open": true, "skip_notifications": true });

    let moved = world.send("PUT", &path, moves(&bank)).await;
    assert_eq!(moved.status, 200, "{}", moved.body);
    let now = &moved.body["ticket_state"];
    assert_eq!((&now["category"], &now["external_label"]), (&json!("in_progress"), &json!("Waiting on bank")));
    assert_ne!(now["internal_label"], now["external_label"]);
    let same = world.send("PUT", &path, moves(&bank)).await;
    assert_eq!(
        (same.status, same.body["errors"][0]["message"].as_str()),
        (400, Some("Cannot transition ticket to the same state"))
    );
    world.send("PUT", &path, moves(&working)).await;
    let moved = world.send("PUT", &path, moves(&resolved)).await.body;
    assert_eq!((&moved["previous_ticket_state_id"], &moved["open"]), (&json!(working), &json!(true)));
    assert_eq!(
        timeline(&moved),
        [
            step("admin", "submitted", "submitted", "admin"),
            step("admin", "submitted", "in_progress", "admin"),
            step("admin", "in_progress", "in_progress", "admin"),
            step("admin", "in_progress", "resolved", "admin"),
        ]
    );

    let account = id(&creates(&world, &contact, ACCOUNT).await).to_owned();
    for (ticket, wrong) in [(&account, bank.as_str()), (&id_of, old.as_str()), (&id_of, "1"), (&id_of, "open")] {
        let refused = world.send("PUT", &format!("/tickets/{ticket}"), moves(wrong)).await;
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["code"]),
            (400, &json!("ticket_state_id_invalid")),
            "{wrong}"
        );
    }
    let refused = world.send("PUT", &path, json!({ "assignee_id": "1", "ticket_state_id": bank })).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (404, &json!("assignee_not_found")));
    assert_eq!(
        world.get(&path).await.body["ticket_state"]["category"],
        "resolved",
        "a refused request changes nothing"
    );
    world.stop().await;
}

#[tokio::test]
async fn states_and_types_are_listed_with_each_other() {
    let world = quiet().await;
    let states = world.get("/ticket_states").await.body;
    let of = |label: &str| {
        let all = states["data"].as_array().expect("a list");
        all.iter().find(|state| state["external_label"] == label).cloned().expect("a state")
    };
    assert_eq!(
        (&of("In progress")["category"], &of("Waiting on bank")["category"]),
        (&json!("in_progress"), &json!("in_progress"))
    );
    assert_eq!((&of("With level 2")["archived"], &of("Resolved")["archived"]), (&json!(true), &json!(false)));
    let names = |state: &Value| state["ticket_types"]["data"].as_array().expect("a list").len();
    assert_eq!((names(&of("Waiting on bank")), names(&of("Resolved"))), (1, 4));
    let types = world.get("/ticket_types").await.body;
    let categories: Vec<&Value> = types["data"].as_array().expect("a list").iter().map(|of| &of["category"]).collect();
    assert_eq!(categories, ["Customer", "Customer", "Back-office", "Tracker"]);
    let one = world.get(&format!("/ticket_types/{ACCOUNT}")).await.body;
    assert_eq!(one["ticket_states"]["data"].as_array().map(Vec::len), Some(4));
    assert_eq!(world.get("/ticket_types/1").await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn a_conversation_becomes_a_ticket_once_and_keeps_its_parts() {
    let world = quiet().await;
    let (contact, id) = world.opens("My card was refused").await;
    world.replies(&contact, &id, "Twice").await;
    assert_eq!(world.get(&format!("/tickets/{id}")).await.body["errors"][0]["code"], "ticket_not_found");
    let path = format!("/conversations/{id}/convert");
    let wrong = world.post(&path, json!({ "ticket_type_id": LEDGER })).await;
    assert_eq!(
        (wrong.status, wrong.body["errors"][0]["message"].as_str()),
        (400, Some("Ticket type is not a customer ticket type"))
    );
    let bank = state(&world, "Waiting on bank").await;
    let body =
        json!({ "ticket_type_id": PAYMENT, "ticket_state_id": bank, "attributes": { "_default_title_": "Card" } });
    let made = world.post(&path, body.clone()).await;
    assert_eq!((made.status, &made.body["id"]), (200, &json!(id)), "{}", made.body);
    assert_eq!(made.body["ticket_state"]["external_label"], "Waiting on bank");
    let kinds: Vec<&str> = made.body["ticket_parts"]["ticket_parts"]
        .as_array()
        .expect("parts")
        .iter()
        .map(|part| part["part_type"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["comment", "ticket_state_updated_by_admin", "ticket_state_updated_by_admin"]);
    assert_eq!(world.post(&path, body).await.status, 400);
    let talk = world.get(&format!("/conversations/{id}?display_as=plaintext")).await.body;
    assert_eq!((&talk["source"]["body"], &talk["ticket"]["title"]), (&json!("My card was refused"), &json!("Card")));
    world.stop().await;
}

#[tokio::test]
async fn attributes_must_be_the_types_and_leave_a_trace() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let id = id(&creates(&world, &contact, PAYMENT).await).to_owned();
    let path = format!("/tickets/{id}");
    let refused = world.send("PUT", &path, json!({ "ticket_attributes": { "Ledger": "x" } })).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (400, &json!("parameter_invalid")));
    let change = json!({ "ticket_attributes": { "Transaction": "T-1", "_default_title_": "New title" } });
    let changed = world.send("PUT", &path, change.clone()).await.body;
    assert_eq!(changed["ticket_attributes"]["Transaction"], "T-1");
    let again = world.send("PUT", &path, change).await.body;
    assert_eq!(again["ticket_parts"]["total_count"], 3, "what does not change leaves none");
    let parts = &changed["ticket_parts"]["ticket_parts"];
    assert_eq!(
        (&parts[1]["part_type"], &parts[2]["part_type"]),
        (&json!("ticket_attribute_updated_by_admin"), &json!("title_changed"))
    );
    let data = &parts[1]["updated_attribute_data"];
    assert_eq!((&data["attribute"]["label"], &data["value"]["label"]), (&json!("Transaction"), &json!("T-1")));
    world.stop().await;
}

#[tokio::test]
async fn bad_creations_are_refused() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), Some("ada@example.com"));
    let other = world.sandbox.add_contact(Some("eve"), None);
    for (body, status) in [
        (json!({ "contacts": [{ "id": contact }] }), 400),
        (json!({ "ticket_type_id": "1", "contacts": [{ "id": contact }] }), 400),
        (json!({ "ticket_type_id": PAYMENT, "contacts": [] }), 400),
        (json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": contact }, { "id": other }] }), 400),
        (json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": "0123456789abcdef01234567" }] }), 404),
        (json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": contact }], "ticket_attributes": { "x": 1 } }), 400),
        (json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": contact }], "conversation_to_link_id": "7" }), 400),
        (
            json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": contact }], "assignment": { "admin_assignee_id": "1" } }),
            404,
        ),
    ] {
        assert_eq!(world.post("/tickets", body.clone()).await.status, status, "{body}");
    }
    assert_eq!(world.sandbox.ticket_ids(), Vec::<String>::new());
    let by_email = json!({ "ticket_type_id": PAYMENT, "contacts": [{ "email": "new@example.com" }], "created_at": 1_700_000_000,
        "assignment": { "admin_assignee_id": "9000002", "team_assignee_id": "7000001" } });
    let made = world.post("/tickets", by_email).await.body;
    assert_eq!(
        (&made["created_at"], &made["admin_assignee_id"], &made["team_assignee_id"]),
        (&json!(1_700_000_000), &json!(9_000_002), &json!(7_000_001))
    );
    assert_eq!(world.send("DELETE", &format!("/tickets/{}", id(&made)), Value::Null).await.body["deleted"], true);
    assert_eq!(world.get(&format!("/tickets/{}", id(&made))).await.status, 404);
    world.stop().await;
}

async fn found(world: &World, filter: Value) -> Vec<String> {
    let answer = world.post("/tickets/search", json!({ "query": filter })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["tickets"].as_array().expect("a list").iter().map(|one| id(one).to_owned()).collect()
}

#[tokio::test]
async fn tickets_are_found_by_contact_category_state_and_attribute() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    let mine = id(&creates(&world, &contact, PAYMENT).await).to_owned();
    let ledger = id(&creates(&world, &contact, LEDGER).await).to_owned();
    let other = world.sandbox.add_contact(Some("eve"), None);
    creates(&world, &other, PAYMENT).await;
    world.opens("no ticket").await;
    world.send("PUT", &format!("/tickets/{mine}"), json!({ "ticket_state_id": state(&world, "Resolved").await })).await;
    let is = |field: &str, value: Value| json!({ "field": field, "operator": "=", "value": value });
    let both = |second: Value| json!({ "operator": "AND", "value": [is("contact_ids", json!(contact)), second] });
    assert_eq!(found(&world, both(is("category", json!("request")))).await, std::slice::from_ref(&mine));
    assert_eq!(found(&world, both(is("category", json!("task")))).await, std::slice::from_ref(&ledger));
    assert_eq!(found(&world, both(is("category", json!("Customer")))).await, Vec::<String>::new());
    assert_eq!(found(&world, both(is("state", json!("resolved")))).await, std::slice::from_ref(&mine));
    assert_eq!(found(&world, is("open", json!(true))).await.len(), 3, "resolved is not closed");
    assert_eq!(found(&world, is("ticket_type_id", json!(LEDGER))).await, [ledger]);
    let since = json!({ "field": "updated_at", "operator": ">", "value": crate::harness::now_s() - 60 });
    assert_eq!(found(&world, since).await.len(), 3);
    world.send("PUT", &format!("/tickets/{mine}"), json!({ "ticket_attributes": { "Transaction": "T-1" } })).await;
    assert_eq!(found(&world, is("ticket_attribute.8514185", json!("T-1"))).await, [mine]);
    for field in ["ticket_id", "company_id", "ticket_attribute.1"] {
        let refused = world.post("/tickets/search", json!({ "query": is(field, json!("1")) })).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (400, &json!("invalid_field")), "{field}");
    }
    world.stop().await;
}

#[tokio::test]
async fn tickets_are_paged_by_cursor_whole_and_in_no_order_asked_for() {
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    for _ in 0..5 {
        creates(&world, &contact, PAYMENT).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let body = json!({
            "query": { "field": "contact_ids", "operator": "=", "value": contact },
            "sort": { "field": "created_at", "order": "ascending" },
            "pagination": { "per_page": 2, "starting_after": after },
        });
        let page = world.post("/tickets/search", body).await.body;
        assert_eq!((&page["type"], &page["total_count"]), (&json!("ticket.list"), &json!(5)));
        let tickets = page["tickets"].as_array().expect("a list");
        assert!(tickets.iter().all(|one| one["ticket_parts"]["total_count"] == 1));
        seen.extend(tickets.iter().map(|one| id(one).to_owned()));
        after = page["pages"]["next"]["starting_after"].clone();
        if after.is_null() {
            break;
        }
    }
    let mut newest_first = world.sandbox.ticket_ids();
    newest_first.reverse();
    assert_eq!(seen, newest_first);
    world.stop().await;
}

#[tokio::test]
async fn a_lagging_search_knows_an_older_state_and_fewer_parts() {
    let world = quiet().await;
    let (contact, talk) = world.opens("Hello").await;
    let old = id(&creates(&world, &contact, PAYMENT).await).to_owned();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let resolved = state(&world, "Resolved").await;
    world.send("PUT", &format!("/tickets/{old}"), json!({ "ticket_state_id": resolved })).await;
    world.sandbox.operator().converts(&talk, NewTicket::default()).await;
    world.sandbox.fault(Fault::new(Kind::SearchLag { ms: 200 }));
    let mine = json!({ "query": { "field": "contact_ids", "operator": "=", "value": contact } });
    let lagging = world.post("/tickets/search", mine.clone()).await.body;
    assert_eq!(lagging["total_count"], 1, "the conversation is no ticket yet: {lagging}");
    assert_eq!(lagging["tickets"][0]["ticket_state"]["category"], "submitted");
    assert_eq!(lagging["tickets"][0]["ticket_parts"]["total_count"], 1);
    let talks = world.post("/conversations/search", mine.clone()).await.body;
    let ticket_of = |id: &str| {
        let list = talks["conversations"].as_array().expect("a list");
        list.iter().find(|one| one["id"] == id).expect("found")["ticket"].clone()
    };
    assert!(ticket_of(&talk).is_null() && ticket_of(&old).is_object());
    assert_eq!(world.get(&format!("/tickets/{old}")).await.body["ticket_state"]["category"], "resolved");
    world.sandbox.clear_faults();
    assert_eq!(world.post("/tickets/search", mine).await.body["total_count"], 2);
    world.stop().await;
}

#[tokio::test]
async fn faults_strike_tickets_as_they_strike_conversations() {
    for (kind, applied) in
        [(Kind::Refuse, false), (Kind::LostAnswer, true), (Kind::RateLimit { reset_after_s: 3 }, false)]
    {
        let world = quiet().await;
        let contact = world.sandbox.add_contact(Some("ada"), None);
        let id = id(&creates(&world, &contact, PAYMENT).await).to_owned();
        world.sandbox.fault(Fault::new(kind.clone()).on("POST", "/tickets/{id}/reply").times(1));
        let result = world.try_send("POST", &format!("/tickets/{id}/reply"), reply(&contact, "One")).await;
        assert!(result.is_err() || result.is_ok_and(|answer| answer.status == 429), "{kind:?}");
        assert_eq!(world.sandbox.contact_parts(&id).len(), usize::from(applied), "{kind:?}");
        world.stop().await;
    }
    let world = quiet().await;
    let contact = world.sandbox.add_contact(Some("ada"), None);
    world.sandbox.fault(Fault::new(Kind::LostAnswer).on("POST", "/tickets").times(1));
    let body = json!({ "ticket_type_id": PAYMENT, "contacts": [{ "id": contact }] });
    assert!(world.try_send("POST", "/tickets", body).await.is_err());
    assert_eq!(world.sandbox.ticket_ids().len(), 1, "made, and nobody told");
    world.stop().await;
}
