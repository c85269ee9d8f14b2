//! A sandbox with a little life in it, to look at the operator's page: `cargo run -p sandbox --example inbox`.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sandbox::{Fault, Kind, NewTicket, Platform, Sandbox, Settings, Upload};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sandbox = Sandbox::start(Settings { listen: ([127, 0, 0, 1], 4010).into(), ..Settings::default() }).await?;
    let operator = sandbox.operator();
    for (name, question) in
        [("ada", "My transfer has been pending since Monday."), ("grace", "Can I change my e-mail?")]
    {
        let contact = sandbox.add_contact(Some(name), None);
        let chat = operator.starts(&contact, "Hello! How can I help?").await;
        operator.adds_part(&chat, "comment", Some(question), "user").await;
        operator.notes(&chat, "Knows us since 2019, <b>be kind</b>.").await;
        operator.replies(&chat, "Let me look at that <b>at once</b>.").await;
        let receipt =
            Upload { name: "receipt.txt".into(), content_type: "text/plain".into(), data: b"42 EUR".to_vec() };
        operator.replies_with(&chat, "", vec![receipt]).await;
        if name == "grace" {
            operator.closes(&chat, None).await;
        }
    }
    let joan = sandbox.add_contact(Some("joan"), None);
    let refund = NewTicket {
        title: "Refund has not arrived".into(),
        description: "Ordered on Monday, returned on Tuesday.".into(),
        ..NewTicket::default()
    };
    let refund = operator.creates_ticket(&joan, refund).await;
    operator.adds_part(&refund, "comment", Some("Is there any news?"), "user").await;
    operator.moves_ticket(&refund, "Waiting on bank").await;
    operator.replies(&refund, "We wait for the bank.").await;
    let ledger = NewTicket {
        ticket_type: Some("Ledger check".into()),
        title: "Where did 42 EUR go?".into(),
        ..NewTicket::default()
    };
    operator.creates_ticket(&joan, ledger).await;
    sandbox.fault(Fault::new(Kind::Slow { ms: 500 }).with_probability(0.2, 1));
    ring(&sandbox).await.map_err(std::io::Error::other)?;
    println!("{}/operator", sandbox.url());
    tokio::signal::ctrl_c().await
}

/// Notices on two phones and in a chat, sent as any server would send them.
async fn ring(sandbox: &Sandbox) -> reqwest::Result<()> {
    let phones = sandbox.phones();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let token = access_token(&client, &phones.service_account()).await?;
    phones.set_platform("iphone-of-grace", Platform::Iphone);
    let send = format!("{}/v1/projects/{}/messages:send", sandbox.url(), phones.project());
    for (phone, conversation, count) in
        [("android-of-ada", "c1", 1), ("iphone-of-grace", "c2", 1), ("iphone-of-grace", "c3", 2)]
    {
        let message = json!({
            "token": phone,
            "notification": { "title": "Support", "body": "You have a new message." },
            "data": { "conversationId": conversation },
            "android": { "notification": { "tag": conversation, "notification_count": count } },
            "apns": { "headers": { "apns-collapse-id": conversation }, "payload": { "aps": { "badge": count } } },
        });
        client.post(&send).bearer_auth(&token).json(&json!({ "message": message })).send().await?.error_for_status()?;
    }
    let open = json!({ "inline_keyboard": [[{ "text": "Open", "web_app": { "url": "https://app.example/#c4" } }]] });
    let told = json!({ "chat_id": 42, "text": "You have a new message.", "reply_markup": open });
    let tell = format!("{}/bot{}/sendMessage", sandbox.url(), phones.bot_token());
    client.post(tell).json(&told).send().await?.error_for_status()?;
    Ok(())
}

async fn access_token(client: &reqwest::Client, account: &Value) -> reqwest::Result<String> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "iss": account["client_email"],
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": account["token_uri"],
        "iat": now_s,
        "exp": now_s + 3600,
    });
    let key =
        EncodingKey::from_rsa_pem(account["private_key"].as_str().unwrap_or_default().as_bytes()).expect("its key");
    let assertion = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).expect("signed");
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    let request = client.post(account["token_uri"].as_str().unwrap_or_default());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
}
