//! Google's token endpoint: which assertions buy an access token, and for how long.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sandbox::{Counts, Fault, Kind, Service};
use serde_json::{Value, json};

use crate::sender::{sender, sender_without_token};

#[tokio::test]
async fn an_assertion_by_the_service_account_buys_a_token() {
    let sender = sender_without_token().await;
    let account = sender.phones.service_account();
    assert_eq!(account["type"], "service_account");
    assert_eq!(account["token_uri"], format!("{}/token", sender.sandbox.url()));
    let answer = sender.assert(&sender.assertion(&sender.claims())).await;
    assert_eq!(
        (answer.status, &answer.body["token_type"], &answer.body["expires_in"]),
        (200, &json!("Bearer"), &json!(3599))
    );
    assert!(answer.body["access_token"].as_str().is_some_and(|token| token.starts_with("ya29.")));
    assert_eq!(sender.phones.counts(), Counts { google: 1, fcm: 0, telegram: 0 });
    sender.stop().await;
}

#[tokio::test]
async fn every_claim_counts() {
    let sender = sender_without_token().await;
    let now_s = sender.now_s();
    for (claim, value, error, why) in [
        ("iss", json!("somebody@example.com"), "invalid_grant", "account not found"),
        ("scope", json!("https://www.googleapis.com/auth/drive"), "invalid_scope", "Invalid OAuth scope"),
        ("scope", Value::Null, "invalid_scope", "Invalid OAuth scope"),
        ("aud", json!("https://oauth2.googleapis.com/token"), "invalid_grant", "audience"),
        ("exp", json!(now_s + 3601), "invalid_grant", "60 minutes"),
        ("exp", json!(now_s - 301), "invalid_grant", "60 minutes"),
        ("exp", Value::Null, "invalid_grant", "60 minutes"),
        ("iat", json!(now_s + 301), "invalid_grant", "60 minutes"),
        ("iat", json!("now"), "invalid_grant", "60 minutes"),
    ] {
        let mut claims = sender.claims();
        claims[claim] = value;
        let answer = sender.assert(&sender.assertion(&claims)).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!(error)), "{claims}");
        let said = answer.body["error_description"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{claims}: {said}");
    }
    sender.stop().await;
}

#[tokio::test]
async fn nobody_else_can_sign() {
    let sender = sender_without_token().await;
    let good = sender.assertion(&sender.claims());
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key");
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der.as_ref());
    let kind = "PRIVATE KEY";
    let pem = format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
    let other = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key");
    let by_another = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &sender.claims(), &other).expect("signed");
    let by_secret = EncodingKey::from_secret(b"guessed");
    let by_secret = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &sender.claims(), &by_secret).expect("signed");
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    let mut late = sender.claims();
    late["exp"] = json!(sender.now_s() + 3599);
    let claims_of_another = sender.assertion(&late).rsplit_once('.').expect("three parts").0.to_owned();
    let swapped = format!("{claims_of_another}.{}", good.rsplit_once('.').expect("three parts").1);
    for forged in [&by_another, &by_secret, &format!("{signed}."), &swapped, "a.b.c", "nothing"] {
        let answer = sender.assert(forged).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_grant")), "{forged}: {}", answer.body);
    }
    assert_eq!(sender.assert(&good).await.status, 200);
    sender.stop().await;
}

#[tokio::test]
async fn the_form_must_be_the_grants() {
    let sender = sender_without_token().await;
    let assertion = sender.assertion(&sender.claims());
    for (form, error) in [
        (format!("grant_type=client_credentials&assertion={assertion}"), "unsupported_grant_type"),
        (format!("assertion={assertion}"), "unsupported_grant_type"),
        ("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer".to_owned(), "invalid_request"),
    ] {
        let answer = sender.form(&form).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!(error)), "{form}");
    }
    let as_json = sender.own("POST", "/token", &json!({ "assertion": assertion })).await;
    assert_eq!((as_json.status, &as_json.body["error"]), (400, &json!("invalid_request")));
    assert_eq!(sender.own("GET", "/token", &Value::Null).await.status, 405);
    sender.stop().await;
}

#[tokio::test]
async fn it_can_refuse_go_down_and_be_slow() {
    let sender = sender_without_token().await;
    sender.phones.refuse_assertions(true);
    let refused = sender.assert(&sender.assertion(&sender.claims())).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_grant")));
    sender.phones.refuse_assertions(false);

    sender.phones.take_down(Service::Google);
    let account = sender.phones.service_account();
    let address = account["token_uri"].as_str().expect("an address");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(client.post(address).send().await.is_err());
    sender.phones.bring_up(Service::Google);

    sender
        .sandbox
        .fault(Fault::new(Kind::Error { status: 503, applied: false, html: false }).on("POST", "/token").times(1));
    let (first, second) = (sender.assertion(&sender.claims()), sender.assertion(&sender.claims()));
    assert_eq!(sender.assert(&first).await.status, 503);
    assert_eq!(sender.assert(&second).await.status, 200);
    assert_eq!(sender.phones.counts().google, 4);
    sender.stop().await;
}

#[tokio::test]
async fn a_token_ends_by_the_clock_or_when_revoked() {
    let sender = sender().await;
    let message = json!({ "token": "t1", "notification": { "title": "Hello" } });
    sender.pass(3_598_999);
    assert_eq!(sender.push(&message).await.status, 200);
    sender.pass(1);
    let expired = sender.push(&message).await;
    assert_eq!((expired.status, &expired.body["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    assert_eq!(expired.body["error"]["details"][0]["reason"], "ACCESS_TOKEN_EXPIRED");
    sender.stop().await;

    let sender = crate::sender::sender().await;
    sender.phones.revoke_access_tokens();
    assert_eq!(sender.push(&message).await.status, 401);
    sender.stop().await;

    let sender = sender_without_token().await;
    sender.phones.access_tokens_live_for(Duration::from_secs(2));
    assert_eq!(sender.assert(&sender.assertion(&sender.claims())).await.body["expires_in"], 2);
    sender.stop().await;
}
