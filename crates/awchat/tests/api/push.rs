//! Notices: what reaches telephones and chats, in which words, and what does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use awchat::app::App;
use awchat::model::Look;
use awchat::push::AskLooks;
use awchat::store::devices::Platform;
use awchat::{auth, config::Secret, id::UserId};
use sandbox::{Fault, InitData, Kind, NewTicket, Platform as ReadOn, To};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::child::Process;
use crate::harness::{self, Client, SECRET, World, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// A world with telephones, whose clock stands still.
pub(crate) async fn world() -> World {
    World::with_phones(&[], false).await
}

/// A user whose session token names a Telegram user.
pub(crate) fn telegram_token(sub: &str, telegram_id: i64, clock: &awchat::clock::Clock) -> String {
    let sub = UserId::parse(sub).expect("a user id");
    let extra = json!({ "telegram_id": telegram_id }).as_object().expect("an object").clone();
    auth::mint(&Secret::new(SECRET), &sub, 3600, clock, extra)
}

pub(crate) fn in_telegram<'a>(world: &'a World, sub: &str, telegram_id: i64) -> Client<'a> {
    world.nobody().bearing(&telegram_token(sub, telegram_id, &world.clock))
}

/// Registers a telephone; the device's id.
pub(crate) async fn has_phone(user: &Client<'_>, token: &str, locale: &str) -> String {
    let body = json!({ "platform": "mobile", "token": token, "locale": locale });
    let answer = user.post("/api/devices/register", body).await.expect(200);
    answer["id"].as_str().expect("an id").to_owned()
}

/// Registers the Telegram user of the session; the device's id.
pub(crate) async fn has_chat(user: &Client<'_>, telegram_id: i64, locale: &str) -> String {
    let body = json!({ "platform": "tma", "token": telegram_id.to_string(), "locale": locale });
    let answer = user.post("/api/devices/register", body).await.expect(200);
    answer["id"].as_str().expect("an id").to_owned()
}

/// What stands on a telephone.
fn screen(world: &World, token: &str) -> Vec<String> {
    world.sandbox.phones().screen(token).into_iter().map(|shown| shown.body).collect()
}

/// How many messages FCM was asked to send to a telephone.
fn asked(world: &World, token: &str) -> usize {
    world.sandbox.phones().sent_to(token).len()
}

#[tokio::test]
async fn an_operators_answer_reaches_the_telephone_and_says_nothing_of_its_words() {
    let world = world().await;
    let (ada, phones) = (world.user("ada"), world.sandbox.phones());
    let chat = ada.opens("Where is my refund?").await;
    has_phone(&ada, "fcm:android", "en-GB").await;
    has_phone(&ada, "fcm:iphone", "ru-RU").await;
    phones.set_platform("fcm:iphone", ReadOn::Iphone);
    let part = world.operator().replies(&chat, "Secret words").await;
    world.work().await;

    let shown = phones.screen("fcm:android");
    let [android] = shown.as_slice() else { panic!("one notice: {shown:?}") };
    assert_eq!((android.title.as_str(), android.body.as_str()), ("Support", "You have a new message from support"));
    let data = |name: &str| android.data.get(name).map(String::as_str);
    assert_eq!((data("type"), data("conversationId"), data("v")), (Some("chat"), Some(chat.as_str()), Some("1")));
    assert_eq!(data("messageId"), Some(part.as_str()));
    assert_eq!(screen(&world, "fcm:iphone"), ["Вам пришло новое сообщение от поддержки"]);
    assert_eq!((phones.badge("fcm:android"), phones.badge("fcm:iphone")), (Some(1), Some(1)));
    let all = serde_json::to_string(&phones.sent()).expect("JSON");
    assert!(!all.contains("Secret") && !all.contains("refund") && !all.contains("ada"), "{all}");

    let other = ada.opens("Another matter").await;
    world.operator().replies(&other, "More words").await;
    world.work().await;
    assert_eq!(phones.badge("fcm:iphone"), Some(2), "over all conversations");
    assert_eq!(screen(&world, "fcm:android").len(), 2, "one for each conversation");
    world.pass(Duration::from_secs(6)).await;
    world.operator().replies(&chat, "And more").await;
    world.work().await;
    assert_eq!(screen(&world, "fcm:android").len(), 2, "the newer takes the older one's place");
    assert!(screen(&world, "fcm:android").contains(&"You have 2 new messages from support".to_owned()));
    assert_eq!(phones.badge("fcm:iphone"), Some(3));
}

#[tokio::test]
async fn an_operators_answer_reaches_the_chat_with_a_button_that_opens_it() {
    let world = world().await;
    let (ada, phones) = (in_telegram(&world, "ada", 42), world.sandbox.phones());
    let chat = ada.opens("Where is my refund?").await;
    has_chat(&ada, 42, "ru").await;
    world.operator().replies(&chat, "Secret words").await;
    world.work().await;
    let messages = phones.chat(42);
    let [message] = messages.as_slice() else { panic!("one message: {messages:?}") };
    assert_eq!(message.text, "Вам пришло новое сообщение от поддержки");
    assert_eq!(message.buttons, [("Открыть".to_owned(), format!("https://app.example.com/chat?conversation={chat}"))]);
}

#[tokio::test]
async fn what_is_said_within_five_seconds_is_told_as_one() {
    let world = world().await;
    let (ada, phones) = (in_telegram(&world, "ada", 42), world.sandbox.phones());
    let chat = ada.opens("Hello").await;
    has_chat(&ada, 42, "en").await;
    has_phone(&ada, "fcm:one", "en").await;
    world.operator().replies(&chat, "1").await;
    world.work().await;
    for text in ["2", "3", "4"] {
        world.operator().replies(&chat, text).await;
        world.work().await;
    }
    assert_eq!((phones.chat(42).len(), asked(&world, "fcm:one")), (1, 1));
    world.pass(Duration::from_secs(5)).await;
    let texts: Vec<String> = phones.chat(42).into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["You have a new message from support", "You have 3 new messages from support"]);
    assert_eq!(screen(&world, "fcm:one"), ["You have 4 new messages from support"], "the first one's place is taken");
    assert_eq!(asked(&world, "fcm:one"), 2);
}

#[tokio::test]
async fn notes_own_words_edits_and_what_was_taken_back_are_not_told() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:one", "en").await;
    world.operator().notes(&chat, "Between us").await;
    ada.replies(&chat, "Anybody there?").await;
    world.operator().closes(&chat, None).await;
    world.operator().tags(&chat, "vip").await;
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0);
    // Nobody is told of what went again before anybody could be.
    world.sandbox.phones().take_down(sandbox::Service::Fcm);
    let part = world.operator().replies(&chat, "Wrong window").await;
    world.work().await;
    world.operator().redacts(&chat, &part).await;
    world.work().await;
    world.sandbox.phones().bring_up(sandbox::Service::Fcm);
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0);
}

#[tokio::test]
async fn what_a_user_does_not_want_or_has_read_is_not_told() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:one", "en").await;
    let switch = |on: bool| json!({ "chatMessages": on });
    ada.call("PUT", "/api/settings/notifications", Some(switch(false))).await.expect(200);
    world.operator().replies(&chat, "1").await;
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0);

    // The switch counts when it is the notice's turn, not when it is written.
    world.sandbox.phones().take_down(sandbox::Service::Fcm);
    ada.call("PUT", "/api/settings/notifications", Some(switch(true))).await.expect(200);
    world.operator().replies(&chat, "2").await;
    world.work().await;
    ada.call("PUT", "/api/settings/notifications", Some(switch(false))).await.expect(200);
    world.sandbox.phones().bring_up(sandbox::Service::Fcm);
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0);

    ada.call("PUT", "/api/settings/notifications", Some(switch(true))).await.expect(200);
    world.sandbox.phones().take_down(sandbox::Service::Fcm);
    world.operator().replies(&chat, "3").await;
    world.work().await;
    ada.post(&format!("/api/conversations/{chat}/read"), json!({})).await.expect(200);
    world.sandbox.phones().bring_up(sandbox::Service::Fcm);
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0, "read meanwhile");
    world.operator().replies(&chat, "4").await;
    world.work().await;
    assert_eq!(screen(&world, "fcm:one"), ["You have a new message from support"]);
}

#[tokio::test]
async fn who_looks_at_the_conversation_is_not_told_and_who_has_just_left_is() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:one", "en").await;
    ada.polls(&chat, 0).await;
    world.operator().replies(&chat, "1").await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(asked(&world, "fcm:one"), 0, "a poll is due any moment");
    ada.polls(&chat, 0).await;
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0, "it was shown");

    ada.polls(&chat, 0).await;
    world.operator().replies(&chat, "2").await;
    world.work().await;
    assert_eq!(asked(&world, "fcm:one"), 0);
    world.pass(Duration::from_secs(16)).await;
    assert_eq!(asked(&world, "fcm:one"), 1, "the app was closed just before it came");
    let other = ada.opens("Another matter").await;
    ada.polls(&other, 0).await;
    world.pass(MINUTE).await;
    ada.polls(&other, 0).await;
    world.operator().replies(&chat, "3").await;
    world.work().await;
    assert_eq!(asked(&world, "fcm:one"), 2, "who looks elsewhere is told");
}

#[tokio::test]
async fn a_long_poll_that_waits_is_a_look() {
    let world = world().await;
    let ada = world.user("ada");
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:one", "en").await;
    let since = ada.polls(&chat, 0).await["latestTimestamp"].as_i64().expect("a position");
    let path = format!("/api/conversations/{chat}/poll?since={since}&wait=30");
    let poll = ada.get(&path);
    let operator = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.clock.advance(20_000);
        world.operator().replies(&chat, "1").await;
        world.work().await;
    };
    let (answer, ()) = tokio::join!(poll, operator);
    assert_eq!(answer.expect(200)["messages"].as_array().map(Vec::len), Some(1));
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), 0);
}

#[tokio::test]
async fn history_and_what_comes_late_is_not_told() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    // Bob has talked to support before the app had a chat.
    let contact = world.sandbox.add_contact(Some("bob"), None);
    let before = world.operator().starts(&contact, "Welcome").await;
    world.operator().replies(&before, "A young word of before").await;
    world.work().await;
    has_phone(&bob, "fcm:bob", "en").await;
    world.clock.advance(10_000);
    bob.get("/api/conversations").await.expect(200);
    world.pass(MINUTE).await;
    assert_eq!(bob.reads(&before).await["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(asked(&world, "fcm:bob"), 0, "a first visit is no news");

    // Webhooks are lost; a sweep finds one message while it is young, another when it is old.
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:ada", "en").await;
    world.app.chat.sweep().await.expect("a first sweep");
    world.sandbox.send_webhooks_to("http://127.0.0.1:9/nowhere");
    world.operator().replies(&chat, "Young").await;
    world.pass(MINUTE).await;
    world.app.chat.sweep().await.expect("a sweep");
    world.work().await;
    assert_eq!(asked(&world, "fcm:ada"), 1, "a minute late is better than never");
    let known = ada.reads(&chat).await["messages"].as_array().map(Vec::len);
    world.operator().replies(&chat, "Old").await;
    world.clock.advance(16 * 60_000);
    let id = awchat::id::ConversationId::parse(&chat).expect("an id");
    world.app.chat.refresh(&id, awchat::intercom::Class::Sweep).await.expect("as a sweep asks for it");
    world.work().await;
    assert_eq!(ada.reads(&chat).await["messages"].as_array().map(Vec::len), known.map(|count| count + 1));
    assert_eq!(asked(&world, "fcm:ada"), 1, "what is a quarter of an hour old is told nobody");
}

#[tokio::test]
async fn a_tickets_new_status_is_told_and_what_its_user_has_caused_is_not() {
    let world = world().await;
    let ada = world.user("ada");
    let ticket = ada.opens("My card is gone").await;
    has_phone(&ada, "fcm:one", "en").await;
    world.operator().converts(&ticket, NewTicket::default()).await;
    world.pass(MINUTE).await;
    let before = asked(&world, "fcm:one");
    world.operator().moves_ticket(&ticket, "Resolved").await;
    world.work().await;
    let told = world.sandbox.phones().sent_to("fcm:one");
    assert_eq!(told.len(), before + 1);
    let message = &told.last().expect("a message").body["message"];
    assert_eq!(message["notification"]["body"], "The status of your request has changed");
    assert_eq!(message["data"]["type"], "ticket");
    assert_eq!(message["android"]["collapse_key"], "ticket");
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), before + 1, "once");

    ada.post(&format!("/api/tickets/{ticket}/reply"), json!({ "body": "Still gone" })).await.expect(201);
    // Opened within the minute in which it counts as the user's doing, however slow this machine is.
    world.pass(Duration::from_secs(5)).await;
    world.pass(MINUTE).await;
    assert_eq!(ada.get(&format!("/api/tickets/{ticket}")).await.expect(200)["status"], "in_progress");
    assert_eq!(asked(&world, "fcm:one"), before + 1, "the user's own reply has opened it");

    ada.call("PUT", "/api/settings/notifications", Some(json!({ "ticketUpdates": false }))).await.expect(200);
    world.operator().moves_ticket(&ticket, "Resolved").await;
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:one"), before + 1);
}

#[tokio::test]
async fn a_preview_carries_the_words_where_the_company_wants_it() {
    let world = World::with_phones(&[("PUSH_PREVIEW", "on")], false).await;
    let ada = in_telegram(&world, "ada", 42);
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:one", "en").await;
    has_chat(&ada, 42, "en").await;
    world.operator().replies(&chat, "<p>On its <b>way</b>.</p>").await;
    world.work().await;
    assert_eq!(screen(&world, "fcm:one"), ["On its way."]);
    assert_eq!(world.sandbox.phones().chat(42)[0].text, "On its way.");
}

#[tokio::test]
async fn a_telephone_that_moves_to_another_user_shows_nothing_of_the_first() {
    let world = world().await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let chat = ada.opens("Hello").await;
    has_phone(&ada, "fcm:shared", "en").await;
    world.sandbox.phones().take_down(sandbox::Service::Fcm);
    world.operator().replies(&chat, "1").await;
    world.work().await;
    has_phone(&bob, "fcm:shared", "en").await;
    world.sandbox.phones().bring_up(sandbox::Service::Fcm);
    world.pass(MINUTE).await;
    world.operator().replies(&chat, "2").await;
    world.pass(MINUTE).await;
    assert_eq!(asked(&world, "fcm:shared"), 0);
    let bobs = bob.opens("Hello").await;
    world.operator().replies(&bobs, "1").await;
    world.work().await;
    assert_eq!(screen(&world, "fcm:shared").len(), 1, "its new user is told");
}

/// FCM and Telegram take their time over what `teller` sends, and show it then: who erases a user waits for that.
pub(crate) async fn an_erasure_waits_for_what_is_on_its_way(world: &World, teller: &App) {
    let phones = world.sandbox.phones();
    for (platform, path, to) in [
        (Platform::Mobile, "/v1/projects/{id}/messages:send", To::Phone("fcm:one".to_owned())),
        (Platform::Tma, "/{bot}/sendMessage", To::Chat(42)),
    ] {
        let sub = format!("user-{platform:?}");
        let user = in_telegram(world, &sub, 42);
        let chat = user.opens("Hello").await;
        match platform {
            Platform::Mobile => has_phone(&user, "fcm:one", "en").await,
            Platform::Tma => has_chat(&user, 42, "en").await,
        };
        world.operator().replies(&chat, "a word").await;
        world.sandbox.webhooks_settled().await;
        world.app.chat.apply_inbox().await.expect("applied");
        world.sandbox.clear_faults();
        world.sandbox.fault(Fault::new(Kind::AppliedLate { after_ms: 500, hang: true }).on("POST", path));
        let telling = tokio::spawn({
            let teller = teller.clone();
            async move {
                let nobody: AskLooks = Arc::new(|_, _| Box::pin(async { Look::default() }));
                teller.push.tell(platform, &nobody, &CancellationToken::new()).await
            }
        });
        teller.store.stay(world.clock.now_ms()).await.expect("it is alive");
        eventually("it is being told", async || world.sandbox.faults().iter().any(|fault| fault.hits > 0)).await;
        let began = Instant::now();
        world.while_time_goes_by(user.call("DELETE", "/api/me", None)).await.expect(204);
        let (took, told) = (began.elapsed(), phones.sent_to(to.clone()).len());
        assert_eq!(told, 1, "what was on its way has landed: {platform:?}");
        assert!(telling.await.expect("no panic").expect("told"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("an erasure waits for what is on its way, {platform:?}: {} ms", took.as_millis());
        assert_eq!(phones.sent_to(to).len(), told, "and nothing comes after the answer: {platform:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_told_nothing_after_the_answer() {
    let world = world().await;
    an_erasure_waits_for_what_is_on_its_way(&world, &world.app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fcm_and_telegram_devices_register_and_the_log_says_once_that_pushes_are_off() {
    let sandbox = harness::intercom(Default::default()).await;
    let process = Process::start(&[], &sandbox).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let token = harness::token("ada", &awchat::clock::Clock::system());
    for n in 0..3 {
        let body = json!({ "platform": "mobile", "token": format!("fcm:{n}") }).to_string();
        let request = http.post(format!("http://{}/api/devices/register", process.address)).bearer_auth(&token);
        let request = request.header("content-type", "application/json").body(body).build().expect("a request");
        harness::exchange(&http, request).await.expect("an answer").expect(200);
    }
    let log = process.end();
    assert_eq!(log.matches("pushes are off").count(), 1, "{log}");
}

#[test]
fn an_account_that_cannot_be_used_stops_the_server_and_names_its_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("account.json");
    for text in [None, Some("{}"), Some("not JSON")] {
        if let Some(text) = text {
            std::fs::write(&file, text).expect("written");
        }
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_awchat"))
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .envs([
                ("LISTEN_ADDR", "127.0.0.1:0"),
                ("SESSION_JWT_SECRETS", SECRET),
                ("INTERCOM_ACCESS_TOKEN", "an-access-token-0123456789abcdef"),
                ("INTERCOM_CLIENT_SECRET", "a-client-secret-0123456789abcdef"),
                ("INTERCOM_ADMIN_ID", "1"),
                ("FILE_URL_SECRETS", "a-file-secret-for-tests-0123456789abcdef"),
            ])
            .env("FCM_SERVICE_ACCOUNT_FILE", &file)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("FCM_SERVICE_ACCOUNT_FILE"), "{text:?}: {said}");
    }
}

#[tokio::test]
async fn a_mini_app_gets_a_session_for_its_telegram_user() {
    let world = world().await;
    let (now_s, bot) = (world.clock.now_s(), world.sandbox.phones().bot_token());
    let ask =
        async |init_data: String| world.nobody().post("/api/session/telegram", json!({ "initData": init_data })).await;
    let data = |at_s: i64| InitData::of(42, at_s).sign_with_hash_alone(&bot);
    let session = ask(data(now_s - 3_600)).await.expect(200);
    assert_eq!(session["expiresAt"], now_s + 900);
    let ada = world.nobody().bearing(session["token"].as_str().expect("a token"));
    has_chat(&ada, 42, "en").await;
    let chat = ada.opens("Hello").await;
    assert!(world.sandbox.contact_by_external_id("tg:42").is_some());
    world.operator().replies(&chat, "1").await;
    world.work().await;
    assert_eq!(world.sandbox.phones().chat(42).len(), 1);
    let now_s = world.clock.now_s();
    for bad in
        [data(now_s - 3_601), data(now_s + 61), InitData::of(42, now_s).sign_with_hash_alone("1:other"), String::new()]
    {
        ask(bad).await.expect_error(401, "unauthorized");
    }
    let genuine = data(now_s);
    for at in (0..genuine.len()).step_by(7) {
        let mut changed = genuine.clone().into_bytes();
        changed[at] ^= 1;
        ask(String::from_utf8(changed).expect("ASCII")).await.expect_error(401, "unauthorized");
    }
    let body: Value = json!({ "initData": 7 });
    world.nobody().post("/api/session/telegram", body).await.expect_error(400, "validation_error");
    let without = harness::world().await;
    let body = json!({ "initData": data(now_s) });
    without.nobody().post("/api/session/telegram", body).await.expect_error(404, "not_found");
}
