//! The operator's page: who sees it, what it shows, and that nothing users write does anything there.

use std::time::Duration;

use reqwest::redirect::Policy;
use sandbox::{Fault, Kind};
use serde_json::json;

use crate::harness::{Answer, Client, World, exchange, world};

const TOKEN: &str = "an-admin-token-for-tests";

/// A world with the page.
async fn world_with_page() -> World {
    World::begin(&[("ADMIN_TOKEN", TOKEN)], false).await
}

/// A browser, or a program, that follows no redirect by itself.
async fn call(world: &World, method: &str, path: &str, headers: &[(&str, &str)], form: Option<&str>) -> Answer {
    let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let mut request = http.request(method.parse().expect("a method"), format!("{}{path}", world.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(form) = form {
        request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
    }
    exchange(&http, request.build().expect("a request")).await.expect("an answer")
}

/// The page, as a program with the token gets it.
async fn page(world: &World, query: &str) -> String {
    let bearer = format!("Bearer {TOKEN}");
    let answer = call(world, "GET", &format!("/admin{query}"), &[("authorization", &bearer)], None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

#[track_caller]
fn leads_to(answer: &Answer, path: &str) {
    assert_eq!((answer.status, answer.header("location")), (303, Some(path)));
}

async fn complains(user: &Client<'_>, category: &str, description: &str) {
    user.post("/api/complaints", json!({ "category": category, "description": description })).await.expect(201);
}

#[tokio::test]
async fn without_a_token_in_the_settings_there_is_no_page() {
    let world = world().await;
    let unknown = call(&world, "GET", "/nowhere", &[], None).await;
    for path in ["/admin", "/admin/login", "/admin/style.css", "/admin/data"] {
        let answer = call(&world, "GET", path, &[("authorization", "Bearer ")], None).await;
        assert_eq!((answer.status, &answer.json["error"]), (unknown.status, &unknown.json["error"]), "{path}");
    }
    call(&world, "POST", "/admin/login", &[], Some("token=")).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn the_form_takes_the_token_and_gives_a_cookie_for_a_working_day() {
    let world = world_with_page().await;
    leads_to(&call(&world, "GET", "/admin", &[], None).await, "/admin/login");
    let form = call(&world, "GET", "/admin/login", &[], None).await;
    assert!(form.status == 200 && form.text.contains(r#"type="password""#) && !form.text.contains("not the token"));

    for wrong in ["token=", "token=wrong", "token=an-admin-token-for-test", "other=an-admin-token-for-tests", ""] {
        let answer = call(&world, "POST", "/admin/login", &[], Some(wrong)).await;
        leads_to(&answer, "/admin/login?wrong=1");
        assert_eq!(answer.header("set-cookie"), None, "{wrong}");
    }
    assert!(call(&world, "GET", "/admin/login?wrong=1", &[], None).await.text.contains("not the token"));

    let answer = call(&world, "POST", "/admin/login", &[], Some(&format!("token={TOKEN}"))).await;
    leads_to(&answer, "/admin");
    let set = answer.header("set-cookie").expect("a cookie").to_owned();
    let (pair, rules) = set.split_once("; ").expect("rules");
    assert_eq!(rules, "Path=/admin; Max-Age=43200; HttpOnly; SameSite=Strict");
    assert!(!set.contains(TOKEN), "the token itself is in no browser");
    let seen = |cookie: String| {
        let world = &world;
        async move { call(world, "GET", "/admin", &[("cookie", &cookie)], None).await }
    };
    assert_eq!(seen(format!("theme=dark; {pair}")).await.status, 200);
    let last = if pair.ends_with('0') { '1' } else { '0' };
    leads_to(&seen(format!("{}{last}", &pair[..pair.len() - 1])).await, "/admin/login");
    let (name, value) = pair.split_once('=').expect("a pair");
    let (until, signature) = value.split_once('.').expect("a time");
    let later = until.parse::<i64>().expect("a time") + 1;
    leads_to(&seen(format!("{name}={later}.{signature}")).await, "/admin/login");

    let out = call(&world, "POST", "/admin/logout", &[("cookie", pair)], None).await;
    leads_to(&out, "/admin/login");
    assert!(
        out.header("set-cookie").is_some_and(|set| set.starts_with("awchat_admin=; ") && set.contains("Max-Age=0"))
    );

    world.clock.advance(12 * 3_600_000 - 1_000);
    assert_eq!(seen(pair.to_owned()).await.status, 200);
    world.clock.advance(1_000);
    leads_to(&seen(pair.to_owned()).await, "/admin/login");
}

#[tokio::test]
async fn behind_tls_the_cookie_stays_there() {
    let world = World::begin(&[("ADMIN_TOKEN", TOKEN), ("SERVER_URL", "https://chat.example.com")], false).await;
    let answer = call(&world, "POST", "/admin/login", &[], Some(&format!("token={TOKEN}"))).await;
    assert!(answer.header("set-cookie").is_some_and(|set| set.ends_with("; Secure")));
}

#[tokio::test]
async fn the_header_takes_the_admin_token_and_no_other() {
    let world = world_with_page().await;
    assert!(page(&world, "").await.contains("No complaints."));
    let users = world.token("ada");
    for wrong in ["Bearer wrong", "Bearer ", "Bearer", TOKEN, &format!("Basic {TOKEN}"), &format!("Bearer {users}")] {
        let answer = call(&world, "GET", "/admin", &[("authorization", wrong)], None).await;
        answer.expect_error(401, "unauthorized");
    }
    // And it is no session of the API.
    world.nobody().bearing(TOKEN).get("/api/conversations").await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn who_guesses_is_told_to_wait() {
    let world = World::begin(&[("ADMIN_TOKEN", TOKEN), ("TRUSTED_PROXIES", "127.0.0.1/32")], false).await;
    let from = ("x-forwarded-for", "203.0.113.7");
    for at in 0..100 {
        let answer = match at % 2 {
            0 => call(&world, "GET", "/admin", &[from, ("authorization", "Bearer guess")], None).await,
            _ => call(&world, "POST", "/admin/login", &[from], Some("token=guess")).await,
        };
        assert_ne!(answer.status, 429, "guess {at}");
    }
    let header = call(&world, "GET", "/admin", &[from, ("authorization", "Bearer guess")], None).await;
    assert!(header.header("retry-after").is_some());
    header.expect_error(429, "rate_limited");
    call(&world, "POST", "/admin/login", &[from], Some("token=guess")).await.expect_error(429, "rate_limited");
    let elsewhere = ("x-forwarded-for", "203.0.113.8");
    leads_to(&call(&world, "POST", "/admin/login", &[elsewhere], Some("token=guess")).await, "/admin/login?wrong=1");
}

#[tokio::test]
async fn browsers_keep_nothing_of_it_and_run_nothing_in_it() {
    let world = world_with_page().await;
    let bearer = format!("Bearer {TOKEN}");
    let cookieless = call(&world, "POST", "/admin/login", &[], Some("token=wrong")).await;
    for path in ["/admin", "/admin/login", "/admin/style.css"] {
        let answer = call(&world, "GET", path, &[("authorization", &bearer)], None).await;
        for answer in [&answer, &cookieless] {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            let policy = answer.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
            assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        }
        for inline in ["<script", "style=\"", "<style", "onclick", "javascript:", "http://", "https://"] {
            assert!(!answer.text.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn what_users_write_is_text_on_the_page() {
    let world = world_with_page().await;
    let attack = r#"<script>alert("1")</script><img src=x onerror='alert(2)'>"#;
    let mallory = world.user("<b>mallory</b>");
    let body = json!({ "body": "Hello", "reason": { "main": "<i>topic</i>" } });
    let chat = mallory.post("/api/conversations", body).await.expect(201)["id"].clone();
    mallory.post("/api/csat", json!({ "stars": 1, "comment": attack, "conversationId": chat })).await.expect(201);
    let complaint =
        json!({ "category": "other", "description": attack, "chatId": "\"><u>chat", "dialogId": "<s>dialog" });
    mallory.post("/api/complaints", complaint).await.expect(201);
    let query = format!("?text={}", "%22%3E%3Cscript%3E");
    for page in [page(&world, "").await, page(&world, &query).await] {
        for tag in ["<script", "<img", "<b>", "<i>", "<u>", "<s>"] {
            assert!(!page.contains(tag), "{tag} on the page");
        }
    }
    let page = page(&world, "").await;
    for shown in
        ["&lt;script&gt;alert(&quot;1&quot;)", "&lt;b&gt;mallory", "&lt;i&gt;topic", "&lt;u&gt;chat", "&lt;s&gt;dialog"]
    {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
}

#[tokio::test]
async fn complaints_are_newest_first_and_can_be_filtered() {
    let world = world_with_page().await;
    let ada = world.user("ada");
    complains(&ada, "funds", "Die ÄNDERUNG ist falsch").await;
    world.clock.advance(40 * 86_400_000);
    let ada = world.user("ada");
    complains(&ada, "security", "The first of today").await;
    world.clock.advance(60_000);
    complains(&ada, "funds", "The second of today").await;

    let at = |page: &str, text: &str| page.find(text).unwrap_or(usize::MAX);
    let month = page(&world, "").await;
    assert!(at(&month, "The second") < at(&month, "The first") && !month.contains("falsch"));
    let all = page(&world, "?days=90").await;
    assert!(at(&all, "The first") < at(&all, "ist falsch") && at(&all, "ist falsch") < usize::MAX);
    let funds = page(&world, "?days=90&category=funds").await;
    assert!(funds.contains("The second") && funds.contains("falsch") && !funds.contains("The first"));
    assert!(funds.contains(r#"<option value="funds" selected>Funds (2)"#), "{funds}");
    let words = page(&world, "?days=90&text=%C3%A4nderung").await;
    assert!(words.contains("falsch") && !words.contains("of today"), "capital letters of every language");
    let nonsense = page(&world, "?days=-1&category=weather&text=&before=x").await;
    assert!(nonsense.contains("The second") && !nonsense.contains("falsch"));
}

#[tokio::test]
async fn older_complaints_are_a_link_away() {
    let world = world_with_page().await;
    let ada = world.user("ada");
    for at in 0..53 {
        complains(&ada, "other", &format!("Complaint {at:03}")).await;
    }
    let mut seen = Vec::new();
    let (mut query, mut pages) = (String::new(), 0);
    loop {
        let page = page(&world, &query).await;
        pages += 1;
        let found = page.split("Complaint ").skip(1).filter_map(|rest| rest.get(..3)?.parse::<u32>().ok());
        seen.extend(found);
        let Some((before, _)) = page.split_once("\">Older") else { break };
        query = before.rsplit_once("/admin").expect("a link").1.replace("&amp;", "&");
    }
    seen.sort_unstable();
    assert_eq!((pages, seen), (2, (0..53).collect()));
}

#[tokio::test]
async fn ratings_are_shown_over_time_and_by_topic() {
    let world = world_with_page().await;
    let ada = world.user("ada");
    assert!(page(&world, "").await.contains("No ratings in this time."));
    for (topic, stars) in [("Payments", 5), ("Payments", 4), ("Cards", 1)] {
        let body = json!({ "body": "Hello", "reason": { "main": topic } });
        let chat = ada.post("/api/conversations", body).await.expect(201)["id"].clone();
        ada.post("/api/csat", json!({ "stars": stars, "conversationId": chat })).await.expect(201);
    }
    ada.post("/api/csat", json!({ "stars": 3 })).await.expect(201);
    let page = page(&world, "?days=7").await;
    for shown in [
        "<strong>3.3</strong> of 5 on average, 4 ratings",
        r#"<svg class="columns" viewBox="0 0 70 4""#,
        "4 ratings, 3.3 on average",
        r#"<th scope="row">Payments</th><td>4.5</td><td>2</td>"#,
        r#"<th scope="row">Cards</th><td>1.0</td><td>1</td>"#,
        r#"<th scope="row">Without a topic</th><td>3.0</td><td>1</td>"#,
    ] {
        assert!(page.contains(shown), "{shown} is not on\n{page}");
    }
}

#[tokio::test]
async fn the_servers_troubles_are_shown() {
    let world = world_with_page().await;
    let ada = world.user("ada");
    ada.opens("Hello").await;
    world.app.chat.sweep().await.expect("a sweep");
    world.work().await;
    let well = page(&world, "").await;
    for shown in ["Connected", "0 s ago", "% left"] {
        assert!(well.contains(shown), "{shown} is not on\n{well}");
    }
    assert!(!well.contains("▲"), "{well}");

    world.sandbox.fault(Fault::new(Kind::Error { status: 401, applied: false, html: false }));
    world.user("bob").post("/api/conversations", json!({ "body": "Hello?" })).await.expect(502);
    ada.post("/api/csat", json!({ "stars": 3, "conversationId": world.sandbox.conversation_ids()[0] }))
        .await
        .expect(201);
    world.clock.advance(i64::try_from(Duration::from_secs(600).as_millis()).expect("a sane time"));
    let ill = page(&world, "").await;
    for shown in ["Down: token refused", "1, oldest 10 min", "10 min ago", "▲"] {
        assert!(ill.contains(shown), "{shown} is not on\n{ill}");
    }
}
