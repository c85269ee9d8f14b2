//! What clients are told of the server's settings.

use serde_json::json;

use crate::harness::{World, world};

#[tokio::test]
async fn a_client_is_told_what_it_may_pick_and_upload() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("topics.json");
    let topics = json!([{ "main": "Cards", "labels": { "ru": "Карты" }, "subs": [{ "sub": "Lost", "labels": {} }] }]);
    std::fs::write(&path, topics.to_string()).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let settings = [("TOPICS_FILE", path), ("MAX_FILE_MB", "3"), ("MAX_FILES_PER_MSG", "2")];
    let world = World::begin(&settings, false).await;
    let config = world.user("ada").get("/api/config").await.expect(200);
    assert_eq!(config["topics"], topics);
    assert_eq!(
        (config["files"]["maxBytes"].as_u64(), config["files"]["maxPerMessage"].as_u64()),
        (Some(3 << 20), Some(2))
    );
    // Every topic that is offered is one that a conversation can begin with.
    let reason =
        json!({ "reason": { "main": config["topics"][0]["main"], "sub": config["topics"][0]["subs"][0]["sub"] } });
    world.user("ada").post("/api/conversations", reason).await.expect(201);
    // And every category is one that a complaint can have.
    for category in config["complaintCategories"].as_array().expect("a list") {
        let complaint = json!({ "category": category, "description": "Nobody has answered." });
        world.user("ada").post("/api/complaints", complaint).await.expect(201);
    }
}

#[tokio::test]
async fn the_longest_wait_that_is_told_is_taken() {
    let world = world().await;
    let ada = world.user("ada");
    let id = ada.opens("Hello").await;
    let config = ada.get("/api/config").await.expect(200);
    assert_eq!(config["topics"], json!([]));
    let longest = config["poll"]["maxWaitSeconds"].as_u64().expect("seconds");
    ada.get(&format!("/api/conversations/{id}/poll?since=0&wait={longest}")).await.expect(200);
    let longer = format!("/api/conversations/{id}/poll?since=0&wait={}", longest + 1);
    ada.get(&longer).await.expect_error(400, "validation_error");
}
