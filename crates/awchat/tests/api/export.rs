//! `awchat export`: ratings and complaints as files, beside the server that runs.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{World, world};

/// Runs the command in a folder without a `.env`.
fn export(world: &World, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    Command::new(env!("CARGO_BIN_EXE_awchat"))
        .arg("export")
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("DATABASE_URL", world.app.config.database_url.expose())
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

fn printed(world: &World, arguments: &[&str]) -> String {
    let output = export(world, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn ratings_and_complaints_are_printed_while_the_server_runs() {
    let world = world().await;
    let ada = world.user("ada");
    let body = json!({ "body": "Hello", "reason": { "main": "Payments", "sub": "Refund" } });
    let chat = ada.post("/api/conversations", body).await.expect(201)["id"].as_str().expect("an id").to_owned();
    assert_eq!(printed(&world, &["complaints", "--format", "json"]), "[]\n");
    let rating = json!({ "stars": 4, "comment": "=1+1, \"quick\"", "conversationId": chat });
    let id = ada.post("/api/csat", rating).await.expect(201)["id"].as_str().expect("an id").to_owned();
    world.clock.advance(1_000);
    ada.post("/api/csat", json!({ "stars": 5 })).await.expect(201);

    let csv = printed(&world, &["csat"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(lines[0], "id,createdAt,stars,comment,ticketId,conversationId,topicMain,topicSub,userId");
    let ends = format!(",4,\"'=1+1, \"\"quick\"\"\",,{chat},Payments,Refund,ada");
    assert!(lines[1].starts_with(&format!("{id},20")) && lines[1].ends_with(&ends), "{csv}");

    let all: Value = serde_json::from_str(&printed(&world, &["csat", "--format", "json"])).expect("JSON");
    assert_eq!((all.as_array().map(Vec::len), &all[0]["comment"]), (Some(2), &json!("=1+1, \"quick\"")));
    let since = all[1]["createdAt"].as_str().expect("a time");
    let newer = printed(&world, &["csat", "--format", "jsonl", "--since", since]);
    let newer: Vec<Value> = newer.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(newer, [all[1].clone()]);
    assert_eq!(printed(&world, &["csat", "--format", "jsonl", "--since", "2100-01-01"]), "");
}

#[tokio::test]
async fn an_export_has_every_row_once_however_many_there_are() {
    let world = world().await;
    let users: Vec<String> = (0..6).map(|at| format!("user-{at}")).collect();
    for user in &users {
        let user = world.user(user);
        // Many at the same moment: the page's end falls between rows of one time.
        for at in 0..201 {
            let body = json!({ "category": "other", "description": format!("Complaint number {at}") });
            user.post("/api/complaints", body).await.expect(201);
        }
    }
    let printed = printed(&world, &["complaints", "--format", "jsonl"]);
    let mut ids: Vec<&str> = printed.lines().map(|line| &line[..40]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((printed.lines().count(), ids.len()), (1206, 1206));
}

#[tokio::test]
async fn what_cannot_be_exported_is_said() {
    let world = world().await;
    for (arguments, said) in [
        (&["csat", "--since", "yesterday"][..], "--since"),
        (&["csat", "--format", "xml"], "csv, json, jsonl"),
        (&["messages"], "csat, complaints"),
        (&[], "Usage"),
    ] {
        let output = export(&world, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}
