//! The widget as the binary carries it. Needs the web build (`npm ci`), as does the widget.

use reqwest::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH};
use reqwest::{Client, StatusCode};

use crate::harness::{World, world};

const LOADER: &str = "/widget/v1/aw-chat.js";

#[tokio::test]
async fn the_page_may_run_its_own_script_and_be_framed_by_the_apps_that_may_call() {
    let world = World::begin(&[("CORS_ORIGINS", "https://app.example.com")], false).await;
    let page = world.nobody().get("/widget/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{}", page.text);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'"), "{policy}");
    assert!(policy.contains("frame-ancestors 'self'") && policy.contains("https://app.example.com"), "{policy}");
    for inline in [" style=", "<style", "onclick", "<script>"] {
        assert!(!page.text.contains(inline), "{inline}");
    }
    assert!(page.text.contains("src=\"v1/page.js\""), "{}", page.text);
}

#[tokio::test]
async fn any_page_may_load_the_script_and_what_it_names_is_kept_for_good() {
    let world = world().await;
    let loader = world.nobody().get(LOADER).await;
    assert_eq!((loader.status, loader.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(loader.header("cross-origin-resource-policy"), Some("cross-origin"));
    assert!(loader.header("cache-control").is_some_and(|rule| rule.starts_with("public, max-age=300,")));
    let chunk = loader.text.split("./c/").nth(1).and_then(|rest| rest.split(['`', '"', '\'']).next()).expect("a chunk");
    let chunk = reqwest::get(format!("{}/widget/v1/c/{chunk}", world.url)).await.expect("an answer");
    assert_eq!(chunk.status(), StatusCode::OK);
    assert!(chunk.headers()[CACHE_CONTROL].to_str().expect("text").contains("immutable"));
}

#[tokio::test]
async fn a_file_is_sent_as_small_as_the_client_takes_it_and_once() {
    let world = world().await;
    let http = Client::new();
    let get = |encoding: &'static str| http.get(format!("{}{LOADER}", world.url)).header(ACCEPT_ENCODING, encoding);
    let mut sizes = Vec::new();
    for (accepted, sent) in [("gzip, br", Some("br")), ("gzip", Some("gzip")), ("", None)] {
        let answer = get(accepted).send().await.expect("an answer");
        let encoding = answer.headers().get(CONTENT_ENCODING).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(encoding.as_deref(), sent);
        assert_eq!(answer.headers()["vary"], "accept-encoding");
        let tag = answer.headers()[ETAG].clone();
        sizes.push(answer.bytes().await.expect("a body").len());
        let again = get(accepted).header(IF_NONE_MATCH, tag).send().await.expect("an answer");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(again.bytes().await.expect("no body").is_empty());
    }
    assert!(sizes[0] < sizes[1] && sizes[1] < sizes[2] && sizes[0] > 1000, "{sizes:?}");
}

#[tokio::test]
async fn nothing_but_the_widget_is_there() {
    let world = world().await;
    for path in [
        "/widget/v1/aw-chat.js.br",
        "/widget/index.html",
        "/widget/v1/none.js",
        "/widget/types/aw-chat.d.ts",
        "/widget/../package.json",
        "/widget/v1/%2e%2e/%2e%2e/package.json",
        "/widget/%2fetc/passwd",
    ] {
        world.nobody().get(path).await.expect_error(404, "not_found");
    }
}
