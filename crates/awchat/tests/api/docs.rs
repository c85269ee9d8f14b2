//! The contract as a page.

use crate::harness::world;

#[tokio::test]
async fn the_page_has_every_operation_schema_and_parameter_of_the_document() {
    let world = world().await;
    let document = world.nobody().get("/openapi.json").await.expect(200);
    let page = world.nobody().get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let has = |text: String| assert!(page.text.contains(&text), "{text}");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        has(path.replace('/', "/<wbr>"));
        for operation in item.as_object().expect("a path item").values() {
            let Some(id) = operation["operationId"].as_str() else { continue };
            has(format!("<article id=\"{id}\">"));
            has(format!("href=\"#{id}\""));
            for status in operation["responses"].as_object().expect("responses").keys() {
                has(format!("<dt><code>{status}</code>"));
            }
            operations += 1;
        }
    }
    let components = document["components"].as_object().expect("components");
    for name in components["schemas"].as_object().expect("schemas").keys() {
        has(format!("id=\"schema-{name}\""));
    }
    for parameter in components["parameters"].as_object().expect("parameters").values() {
        has(format!("<dt><code>{}</code> in ", parameter["name"].as_str().expect("a name")));
    }
    assert!(operations >= 12, "{operations}");
    println!("/docs: {operations} operations, {} KiB", page.text.len() / 1024);
}

#[tokio::test]
async fn every_link_within_the_page_leads_somewhere() {
    let world = world().await;
    let page = world.nobody().get("/docs").await.text;
    let targets: Vec<&str> = between(&page, " href=\"#", '"');
    let places: std::collections::HashSet<&str> = between(&page, " id=\"", '"').into_iter().collect();
    assert_eq!(places.len(), between(&page, " id=\"", '"').len(), "no id is given twice");
    let lost: Vec<_> = targets.iter().filter(|target| !places.contains(*target)).collect();
    assert!(targets.len() > 50 && lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn the_page_loads_nothing_and_runs_nothing_and_its_policy_says_so() {
    let world = world().await;
    let page = world.nobody().get("/docs").await;
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    for word in ["<script", "<link", "<img", "<iframe", " src=", " style=", "@import", "url("] {
        assert!(!page.text.contains(word), "{word}");
    }
    // The policy allows the page's own style by its digest, so the two cannot drift apart.
    let style = between(&page.text, "<style>", '<');
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style[0].as_bytes());
    let digest = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, digest.as_ref());
    assert!(policy.contains(&format!("'sha256-{digest}'")), "{policy}");
}

/// What stands between `start` and the next `end`, each time.
fn between<'a>(text: &'a str, start: &str, end: char) -> Vec<&'a str> {
    text.match_indices(start).filter_map(|(at, _)| text[at + start.len()..].split(end).next()).collect()
}
