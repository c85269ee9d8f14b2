//! `initData` as Telegram gives it to a Mini App: who the user is, signed for the bot and for everybody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::keys;
use crate::http::encode_segment;

/// What a Mini App would be told. [`InitData::sign`] makes it the text that the app sends on.
#[derive(Clone, Debug)]
pub struct InitData {
    pairs: Vec<(String, String)>,
}

impl InitData {
    /// Of that user, at that time in Unix seconds. The user may write to the bot.
    #[must_use]
    pub fn of(user: i64, auth_date_s: i64) -> Self {
        let user = json!({ "id": user, "first_name": "Ada", "language_code": "en", "allows_write_to_pm": true });
        Self::with_user(&user, auth_date_s)
    }

    /// Of a user with fields of the test's own.
    #[must_use]
    pub fn with_user(user: &Value, auth_date_s: i64) -> Self {
        Self { pairs: Vec::new() }.with("user", &user.to_string()).with("auth_date", &auth_date_s.to_string())
    }

    /// With one more field, such as `start_param`; one that is there is replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.pairs.retain(|(known, _)| known != name);
        self.pairs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signed for the bot whose token this is: with `signature` (by the key whose public half is [`InitData::public_key`]) and
    /// `hash`.
    #[must_use]
    pub fn sign(self, bot_token: &str) -> String {
        let bot = bot_token.split(':').next().unwrap_or_default();
        let message = format!("{bot}:WebAppData\n{}", self.check_string());
        let signature = URL_SAFE_NO_PAD.encode(keys::telegram_signs(message.as_bytes()));
        self.with("signature", &signature).sign_with_hash_alone(bot_token)
    }

    /// Signed as before there was `signature`: with `hash` only.
    #[must_use]
    pub fn sign_with_hash_alone(self, bot_token: &str) -> String {
        let secret = hmac(b"WebAppData", bot_token.as_bytes());
        let hash = hex::encode(hmac(&secret, self.check_string().as_bytes()));
        let pairs = self.with("hash", &hash).pairs;
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", encode_segment(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The public key that `signature` holds against, in the place of Telegram's own.
    #[must_use]
    pub fn public_key() -> [u8; 32] {
        keys::telegram_public()
    }

    fn check_string(&self) -> String {
        let mut lines: Vec<String> = self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// Published in the documentation of Telegram Mini Apps.
    #[test]
    fn the_published_examples_are_signed_as_published() {
        let user = r#"{"id":279058397,"first_name":"Vladislav","last_name":"Kibenko","username":"vdkfrost","language_code":"ru","is_premium":true}"#;
        let old = InitData { pairs: Vec::new() }
            .with("query_id", "AAHdF6IQAAAAAN0XohDhrOrc")
            .with("user", user)
            .with("auth_date", "1662771648");
        let signed = old.sign_with_hash_alone("5768337691:AAH5YkoiEuPk8-FZa32hStHTqXiLPtAEhx8");
        let hash = "c501b71e775f74ce10e377dea85a7ea24ecd640b223ea86dfe453e0eaed2e2b2";
        assert!(signed.ends_with(&format!("&hash={hash}")), "{signed}");
        assert!(signed.starts_with("query_id=AAHdF6IQAAAAAN0XohDhrOrc&user=%7B%22id%22%3A279058397%2C"), "{signed}");

        let user = r#"{"id":279058397,"first_name":"Vladislav + - ? \/","last_name":"Kibenko","username":"vdkfrost","language_code":"ru","is_premium":true,"allows_write_to_pm":true,"photo_url":"https:\/\/t.me\/i\/userpic\/320\/4FPEE4tmP3ATHa57u6MqTDih13LTOiMoKoLDRG4PnSA.svg"}"#;
        let new = InitData { pairs: Vec::new() }
            .with("user", user)
            .with("chat_instance", "8134722200314281151")
            .with("chat_type", "private")
            .with("auth_date", "1733584787")
            .with(
                "signature",
                "zL-ucjNyREiHDE8aihFwpfR9aggP2xiAo3NSpfe-p7IbCisNlDKlo7Kb6G4D0Ao2mBrSgEk4maLSdv6MLIlADQ",
            );
        let signed = new.sign_with_hash_alone("7342037359:AAFZehRPBRs8Seg40oDjTMIW8uTGPuW1zfQ");
        let hash = "2174df5b000556d044f3f020384e879c8efcab55ddea2ced4eb752e93e7080d6";
        assert!(signed.ends_with(&format!("&hash={hash}")), "{signed}");
    }

    #[test]
    fn the_signature_holds_against_the_public_key() {
        let signed = InitData::of(42, 1_700_000_000).with("start_param", "c_1").sign("123:secret");
        let pairs = crate::openapi::query_pairs(&signed);
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).expect(name);
        let user = value("user");
        let message = format!("123:WebAppData\nauth_date=1700000000\nstart_param=c_1\nuser={user}");
        let signature = URL_SAFE_NO_PAD.decode(value("signature")).expect("base64url");
        let key = UnparsedPublicKey::new(&ED25519, InitData::public_key());
        key.verify(message.as_bytes(), &signature).expect("signed");
        assert!(key.verify(message.replace("=c_1", "=c_2").as_bytes(), &signature).is_err());
    }
}
