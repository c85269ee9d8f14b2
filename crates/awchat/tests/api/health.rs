//! Health: is the process up, and can it do its work?

use serde_json::json;

use crate::harness::world;

#[tokio::test]
async fn a_healthy_server_is_up_and_ready() {
    let world = world().await;
    let nobody = world.nobody();
    assert_eq!(nobody.get("/health").await.expect(200)["status"], "ok");
    let ready = nobody.get("/ready").await.expect(200);
    let checks = ["database", "intercom"].map(|name| ready["checks"][name].as_str());
    assert_eq!(checks, [Some("ok"), Some("ok")]);
    assert_eq!(world.calls(), 0, "neither asks Intercom");
    nobody.get("/ready?scope=galaxy").await.expect_error(400, "validation_error");
}

#[tokio::test]
async fn a_server_whose_token_intercom_refuses_is_up_but_not_ready() {
    let world = crate::harness::World::begin(&[("INTERCOM_ACCESS_TOKEN", "a-wrong-token")], false).await;
    let ada = world.user("ada");
    let answer = ada.post("/api/conversations", json!({ "body": "Hello" })).await;
    assert!(answer.header("retry-after").is_some());
    answer.expect_error(502, "service_unavailable");
    let nobody = world.nobody();
    assert_eq!(nobody.get("/health").await.expect(200)["status"], "ok");
    assert_eq!(nobody.get("/ready").await.expect(503)["checks"]["intercom"], "auth");
    // What needs no Intercom is there: for a load balancer that asks for that.
    assert_eq!(nobody.get("/ready?scope=local").await.expect(200)["status"], "ok");
}
