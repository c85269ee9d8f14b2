//! Contacts: found, created, in conflict, merged, archived, deleted.

use serde_json::json;

use crate::harness::world;

#[tokio::test]
async fn a_second_contact_with_the_same_external_id_is_a_conflict_that_names_the_first() {
    let world = world().await;
    let first = world.post("/contacts", json!({ "role": "user", "external_id": "u-1", "name": "Ada" })).await;
    assert_eq!(first.status, 200);
    let id = first.body["id"].as_str().expect("an id");
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");

    let second = world.post("/contacts", json!({ "role": "user", "external_id": "u-1" })).await;
    assert_eq!(second.status, 409);
    assert_eq!(second.body["errors"][0]["code"], "conflict");
    let message = format!("A contact matching those details already exists with id={id}");
    assert_eq!(second.body["errors"][0]["message"], message);
    world.stop().await;
}

#[tokio::test]
async fn an_email_of_another_contact_is_a_conflict_too() {
    let world = world().await;
    let other = world.sandbox.add_contact(Some("u-1"), Some("ada@example.com"));
    let created =
        world.post("/contacts", json!({ "role": "user", "external_id": "u-2", "email": "ADA@example.com" })).await;
    assert_eq!(
        (created.status, created.body["errors"][0]["message"].as_str().is_some_and(|m| m.ends_with(&other))),
        (409, true)
    );

    let mine = world.sandbox.add_contact(Some("u-2"), None);
    let updated = world.send("PUT", &format!("/contacts/{mine}"), json!({ "email": "ada@example.com" })).await;
    assert_eq!(updated.status, 409);
    world.stop().await;
}

#[tokio::test]
async fn an_archived_contact_is_invisible_but_in_the_way_until_unarchived() {
    let world = world().await;
    let id = world.sandbox.add_contact(Some("u-1"), None);
    world.sandbox.archive_contact(&id);
    assert_eq!(world.get("/contacts/find_by_external_id/u-1").await.status, 404);
    let query = json!({ "query": { "field": "external_id", "operator": "=", "value": "u-1" } });
    assert_eq!(world.post("/contacts/search", query).await.body["total_count"], 0);

    let conflict = world.post("/contacts", json!({ "external_id": "u-1" })).await;
    let message = format!("An archived contact matching those details already exists with id={id}");
    assert_eq!(conflict.body["errors"][0]["message"], message);
    let back = world.post(&format!("/contacts/{id}/unarchive"), json!(null)).await;
    assert_eq!(back.body, json!({ "type": "contact", "id": id, "external_id": "u-1", "archived": false }));
    assert_eq!(world.get("/contacts/find_by_external_id/u-1").await.body["id"], id);
    world.stop().await;
}

#[tokio::test]
async fn a_merged_contact_answers_410_with_a_link_to_the_surviving_one() {
    let world = world().await;
    let (old, conversation) = world.opens("Hello").await;
    let new = world.sandbox.add_contact(Some("ada-2"), None);
    world.sandbox.merge_contact(&old, &new);
    for path in [format!("/contacts/{old}"), "/contacts/find_by_external_id/ada".to_owned()] {
        let gone = world.get(&path).await;
        assert_eq!((gone.status, &gone.body["errors"][0]["code"]), (410, &json!("contact_merged")));
        assert_eq!(gone.headers["link"], format!("</contacts/{new}>; rel=\"canonical\""));
    }
    let moved = world.sandbox.conversation(&conversation).expect("still there");
    assert_eq!(moved["contacts"]["contacts"], json!([{ "type": "contact", "id": new, "external_id": "ada-2" }]));
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_contact_is_not_found_anywhere() {
    let world = world().await;
    let (contact, conversation) = world.opens("Hello").await;
    world.sandbox.delete_contact(&contact);
    assert_eq!(world.get(&format!("/contacts/{contact}")).await.status, 404);
    let refused = world.replies(&contact, &conversation, "still me").await;
    assert_eq!((refused.status, &refused.body["errors"][0]["message"]), (404, &json!("User Not Found")));
    let start = json!({ "from": { "type": "user", "id": contact }, "body": "again" });
    assert_eq!(world.post("/conversations", start).await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn a_contact_deleted_by_the_api_is_gone_and_stays_in_the_way_of_its_external_id_unless_it_has_another() {
    let world = world().await;
    let (first, second) = (world.sandbox.add_contact(Some("u-1"), None), world.sandbox.add_contact(Some("u-2"), None));
    let renamed = world.send("PUT", &format!("/contacts/{second}"), json!({ "external_id": "u-2-gone" })).await;
    assert_eq!((renamed.status, &renamed.body["external_id"]), (200, &json!("u-2-gone")));
    for (id, external_id) in [(&first, "u-1"), (&second, "u-2-gone")] {
        let path = format!("/contacts/{id}");
        let deleted = world.send("DELETE", &path, json!(null)).await;
        assert_eq!(deleted.body, json!({ "type": "contact", "id": id, "external_id": external_id, "deleted": true }));
        assert_eq!(world.get(&path).await.status, 404);
        assert_eq!(world.send("DELETE", &path, json!(null)).await.status, 404);
        assert_eq!(world.get(&format!("/contacts/find_by_external_id/{external_id}")).await.status, 404);
    }
    let conflict = world.post("/contacts", json!({ "external_id": "u-1" })).await;
    assert!(conflict.body["errors"][0]["message"].as_str().is_some_and(|text| text.starts_with("An archived contact")));
    assert_eq!(world.post(&format!("/contacts/{first}/unarchive"), json!(null)).await.status, 400);
    assert_eq!(world.post("/contacts", json!({ "external_id": "u-2" })).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn an_unknown_custom_attribute_refuses_the_whole_request() {
    let world = world().await;
    let body = json!({ "external_id": "u-1", "custom_attributes": { "plan": "gold" } });
    let refused = world.post("/contacts", body.clone()).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (400, &json!("parameter_invalid")));
    assert_eq!(refused.body["errors"][0]["message"], "Custom attribute 'plan' does not exist");
    assert!(world.sandbox.contact_by_external_id("u-1").is_none());

    let define = json!({ "name": "plan", "model": "contact", "data_type": "string" });
    assert_eq!(world.post("/data_attributes", define.clone()).await.status, 200);
    assert_eq!(world.post("/data_attributes", define).await.status, 400);
    assert_eq!(world.get("/data_attributes?model=contact").await.body["data"][0]["name"], "plan");
    assert_eq!(world.post("/contacts", body).await.body["custom_attributes"]["plan"], "gold");
    world.stop().await;
}

#[tokio::test]
async fn an_external_id_may_hold_any_character() {
    let world = world().await;
    let id = world.sandbox.add_contact(Some("tg:1/ä?"), None);
    assert_eq!(world.get("/contacts/find_by_external_id/tg%3A1%2F%C3%A4%3F").await.body["id"], id);
    world.stop().await;
}

#[tokio::test]
async fn bad_details_are_refused() {
    let world = world().await;
    for body in [
        json!({ "name": "nobody" }),
        json!({ "external_id": "u", "phone": "0171 1" }),
        json!({ "external_id": "u", "email": "nonsense" }),
        json!({ "external_id": "u", "email_verified": true }),
        json!({ "external_id": 7 }),
        json!({ "external_id": "u", "role": "king" }),
    ] {
        assert_eq!(world.post("/contacts", body.clone()).await.status, 400, "{body}");
    }
    world.stop().await;
}
