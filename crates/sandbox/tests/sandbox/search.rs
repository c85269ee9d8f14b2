//! Searches: filters, pages, lag, days.

use std::collections::BTreeSet;

use sandbox::{Fault, Kind, Settings};
use serde_json::{Value, json};

use crate::harness::{World, now_s, world, world_with};

fn ids(found: &Value, key: &str) -> Vec<String> {
    let list = found[key].as_array().expect("a list");
    list.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

async fn search(world: &World, filter: Value) -> Value {
    let found = world.post("/conversations/search", json!({ "query": filter })).await;
    assert_eq!(found.status, 200, "{}", found.body);
    found.body
}

#[tokio::test]
async fn conversations_are_found_by_contact_without_their_parts() {
    let world = world().await;
    let (contact, first) = world.opens("One").await;
    let other = world.sandbox.add_contact(Some("eve"), None);
    world.sandbox.operator().starts(&other, "Hello Eve").await;
    let found = search(&world, json!({ "field": "contact_ids", "operator": "=", "value": contact })).await;
    assert_eq!(ids(&found, "conversations"), std::slice::from_ref(&first));
    assert!(found["conversations"][0].get("conversation_parts").is_none());
    assert_eq!(
        (&found["type"], &found["total_count"], found["pages"].get("next")),
        (&json!("conversation.list"), &json!(1), None)
    );

    let closed = json!({ "operator": "AND", "value": [
        { "field": "contact_ids", "operator": "IN", "value": [contact, other] },
        { "operator": "OR", "value": [
            { "field": "state", "operator": "=", "value": "closed" },
            { "field": "id", "operator": "=", "value": first },
        ] },
    ] });
    assert_eq!(ids(&search(&world, closed).await, "conversations"), [first]);
    world.stop().await;
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let world = world().await;
    for number in 0..7 {
        world.opens(&number.to_string()).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let filter = json!({ "field": "open", "operator": "=", "value": true });
        let body = json!({ "query": filter, "pagination": { "per_page": 3, "starting_after": after } });
        let found = world.post("/conversations/search", body).await.body;
        seen.extend(ids(&found, "conversations"));
        assert_eq!((&found["total_count"], &found["pages"]["total_pages"]), (&json!(7), &json!(3)));
        after = found["pages"]["next"]["starting_after"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>().len()), (7, 7));
    world.stop().await;
}

#[tokio::test]
async fn bad_searches_are_refused_with_their_code() {
    let world = world().await;
    world.opens("One").await;
    let any = json!({ "field": "open", "operator": "=", "value": true });
    let many: Vec<Value> = (0..16).map(|_| any.clone()).collect();
    for (body, code) in [
        (json!({ "query": any, "pagination": { "per_page": 151 } }), "invalid_per_page"),
        (json!({ "query": { "field": "company_id", "operator": "=", "value": "1" } }), "invalid_field"),
        (json!({ "query": any, "pagination": { "starting_after": "?" } }), "parameter_invalid"),
        (json!({ "query": { "operator": "AND", "value": many } }), "parameter_invalid"),
        (json!({}), "parameter_invalid"),
    ] {
        let refused = world.post("/conversations/search", body.clone()).await;
        assert_eq!((refused.status, refused.body["errors"][0]["code"].as_str()), (400, Some(code)), "{body}");
    }
    let sort = json!({ "query": { "field": "role", "operator": "=", "value": "user" }, "sort": { "field": "name", "order": "up" } });
    assert_eq!(world.post("/contacts/search", sort).await.body["errors"][0]["code"], "invalid_sort_order");
    world.stop().await;
}

#[tokio::test]
async fn dates_are_compared_by_whole_days_unless_told_otherwise() {
    let world = world().await;
    world.opens("One").await;
    let since = |at: i64| json!({ "field": "updated_at", "operator": ">", "value": at });
    // Any moment of today finds what changed today, even if that was before.
    let later_today = now_s();
    assert_eq!(search(&world, since(later_today)).await["total_count"], 1);
    assert_eq!(search(&world, since(now_s() + 86_400)).await["total_count"], 0);
    // Contacts: "greater" begins with the next day.
    let query = json!({ "query": { "field": "created_at", "operator": ">", "value": now_s() - 60 } });
    let found = world.post("/contacts/search", query.clone()).await.body;
    assert!(now_s() % 86_400 < 120 || found["total_count"] == 0, "{found}");
    world.stop().await;

    let world = world_with(Settings { whole_day_dates: false, ..Settings::default() }).await;
    world.opens("One").await;
    assert_eq!(search(&world, since(now_s() + 5)).await["total_count"], 0);
    assert_eq!(search(&world, since(now_s() - 60)).await["total_count"], 1);
    world.stop().await;
}

#[tokio::test]
async fn a_lagging_search_sees_the_past_while_a_get_is_current() {
    let world = world().await;
    let (contact, old) = world.opens("Old").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let close = json!({ "message_type": "close", "type": "admin", "admin_id": "9000001" });
    world.post(&format!("/conversations/{old}/parts"), close).await;
    let (_, new) = world.opens("New").await;
    world.sandbox.fault(Fault::new(Kind::SearchLag { ms: 200 }));
    let mine = json!({ "field": "contact_ids", "operator": "=", "value": contact });
    let found = search(&world, mine.clone()).await;
    assert_eq!(ids(&found, "conversations"), std::slice::from_ref(&old), "the new one is not indexed yet");
    assert_eq!(found["conversations"][0]["state"], "open", "nor is the closing");
    assert_eq!(world.get(&format!("/conversations/{old}")).await.body["state"], "closed");
    assert_eq!(world.get(&format!("/conversations/{new}")).await.status, 200);
    world.sandbox.clear_faults();
    assert_eq!(search(&world, mine).await["total_count"], 2);
    world.stop().await;
}
