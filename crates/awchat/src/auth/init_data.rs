//! Telegram's `initData`: what a Mini App hands over as proof of who uses it. Pure: time is handed in.
//!
//! Telegram signs all of it with the bot's token (its "validating data received via the Mini App"), and most of it, for
//! third parties, with a key of its own. The former decides where it is given. Any change of a single byte is refused:
//! also one that would decode to the same, such as `%7b` for `%7B`.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// More than any client sends.
const MAX_BYTES: usize = 4096;
/// How far Telegram's clock may be ahead of ours, in seconds.
const AHEAD_S: i64 = 60;
/// Telegram's own key. The one of its test environment is left out: there, anybody can be anybody.
const TELEGRAM: [u8; 32] = [
    0xe7, 0xbf, 0x03, 0xa2, 0xfa, 0x46, 0x02, 0xaf, 0x45, 0x80, 0x70, 0x3d, 0x88, 0xdd, 0xa5, 0xbb, 0x59, 0xf3, 0x2e,
    0xd8, 0xb0, 0x2a, 0x56, 0xc1, 0x87, 0xfe, 0x7d, 0x34, 0xca, 0xed, 0x24, 0x2d,
];

/// Who uses the Mini App, as Telegram says.
#[derive(Clone, PartialEq, Eq)]
pub struct Proved {
    /// The Telegram user id, as digits.
    pub id: String,
    /// What the user is called there.
    pub name: Option<String>,
    /// The bot may write to the user.
    pub allows_write: bool,
}

impl std::fmt::Debug for Proved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proved(***)")
    }
}

/// The Telegram user who used the bot's Mini App at most `max_age_s` seconds before `now_s` (Unix).
///
/// # Errors
/// What is wrong with it, in words for the developer of the client.
pub fn user(raw: &str, bot_token: &Secret, now_s: i64, max_age_s: i64) -> Result<Proved, &'static str> {
    let mut fields = fields(raw).ok_or("is malformed")?;
    let genuine = match fields.remove("hash") {
        Some(hash) => bool::from(signature(&fields, bot_token).as_bytes().ct_eq(hash.as_bytes())),
        None => {
            let signature = fields.remove("signature").ok_or("has no hash")?;
            is_signed_by_telegram(&fields, &signature, bot_token)
        }
    };
    if !genuine {
        return Err("is not signed for this bot");
    }
    let signed_s: i64 = fields.get("auth_date").and_then(|text| text.parse().ok()).ok_or("has no auth_date")?;
    if signed_s > now_s.saturating_add(AHEAD_S) {
        return Err("is from the future");
    }
    if signed_s < now_s.saturating_sub(max_age_s) {
        return Err("is too old");
    }
    let user: Option<Map<String, Value>> = fields.get("user").and_then(|json| serde_json::from_str(json).ok());
    let user = user.ok_or("names no user")?;
    let id = user.get("id").and_then(Value::as_u64).ok_or("names no user")?.to_string();
    let allows_write = user.get("allows_write_to_pm") == Some(&Value::Bool(true));
    let names = ["first_name", "last_name"].into_iter().filter_map(|name| user.get(name)?.as_str());
    let name = names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ");
    Ok(Proved { id, name: Some(name).filter(|name| !name.is_empty()), allows_write })
}

/// Each field once, decoded.
fn fields(raw: &str) -> Option<BTreeMap<String, String>> {
    if raw.len() > MAX_BYTES {
        return None;
    }
    let mut fields = BTreeMap::new();
    for pair in raw.split('&') {
        let (name, value) = pair.split_once('=')?;
        if fields.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(fields)
}

/// Without control characters: a line break would make two fields of one where they are signed.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => 16 * digit(rest.next()?)? + digit(rest.next()?)?,
            b'+' => b' ',
            b'!'..=b'~' => byte,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// Of the one way in which Telegram writes it.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether Telegram has signed it for the bot, whose id stands before the colon of its token.
fn is_signed_by_telegram(fields: &BTreeMap<String, String>, signature: &str, bot_token: &Secret) -> bool {
    let Some((bot_id, _)) = bot_token.expose().split_once(':') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let message = format!("{bot_id}:WebAppData\n{}", lines(fields));
    UnparsedPublicKey::new(&ED25519, TELEGRAM).verify(message.as_bytes(), &signature).is_ok()
}

/// What is signed: a line a field, in the order of their names.
fn lines(fields: &BTreeMap<String, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
}

/// Lower-case hexadecimal digits.
fn signature(fields: &BTreeMap<String, String>, bot_token: &Secret) -> String {
    let key = hmac(b"WebAppData", bot_token.expose().as_bytes());
    hex::encode(hmac(&key, lines(fields).as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Published by Telegram Mini Apps, with the tokens of bots that are gone: init-data-node's and
    /// init-data-golang's examples. The second has the newer `signature`, which is a field like any other here.
    const VECTORS: [(&str, &str, i64); 2] = [
        (
            "5768337691:AAH5YkoiEuPk8-FZa32hStHTqXiLPtAEhx8",
            "query_id=AAHdF6IQAAAAAN0XohDhrOrc&user=%7B%22id%22%3A279058397%2C%22first_name%22%3A%22Vladislav%22%2C\
             %22last_name%22%3A%22Kibenko%22%2C%22username%22%3A%22vdkfrost%22%2C%22language_code%22%3A%22ru%22%2C\
             %22is_premium%22%3Atrue%7D&auth_date=1662771648\
             &hash=c501b71e775f74ce10e377dea85a7ea24ecd640b223ea86dfe453e0eaed2e2b2",
            1_662_771_648,
        ),
        (
            "7342037359:AAHI25ES9xCOMPokpYoz-p8XVrZUdygo2J4",
            "user=%7B%22id%22%3A279058397%2C%22first_name%22%3A%22Vladislav%20%2B%20-%20%3F%20%5C%2F%22%2C\
             %22last_name%22%3A%22Kibenko%22%2C%22username%22%3A%22vdkfrost%22%2C%22language_code%22%3A%22ru%22%2C\
             %22is_premium%22%3Atrue%2C%22allows_write_to_pm%22%3Atrue%2C%22photo_url%22%3A%22https%3A%5C%2F%5C%2Ft.me\
             %5C%2Fi%5C%2Fuserpic%5C%2F320%5C%2F4FPEE4tmP3ATHa57u6MqTDih13LTOiMoKoLDRG4PnSA.svg%22%7D\
             &chat_instance=8134722200314281151&chat_type=private&auth_date=1733509682\
             &signature=TYJxVcisqbWjtodPepiJ6ghziUL94-KNpG8Pau-X7oNNLNBM72APCpi_RKiUlBvcqo5L-LAxIc3dnTzcZX_PDg\
             &hash=a433d8f9847bd6addcc563bff7cc82c89e97ea0d90c11fe5729cae6796a36d73",
            1_733_509_682,
        ),
    ];
    const DAY_S: i64 = 86_400;

    fn signed(fields: &[(&str, &str)], bot_token: &str) -> String {
        let map = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let hash = signature(&map, &Secret::new(bot_token));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields).append_pair("hash", &hash);
        query.finish()
    }

    #[test]
    fn the_published_examples_are_genuine() {
        for (bot_token, raw, at_s) in VECTORS {
            assert_eq!(user(raw, &Secret::new(bot_token), at_s, DAY_S).map(|of| of.id), Ok("279058397".to_owned()));
            let other = Secret::new(VECTORS.iter().find(|(token, ..)| *token != bot_token).expect("another").0);
            assert_eq!(user(raw, &other, at_s, DAY_S), Err("is not signed for this bot"));
        }
    }

    /// Without the bot's own signature, as third parties check it.
    fn for_third_parties() -> (Secret, String, i64) {
        let (bot_token, raw, at_s) = VECTORS[1];
        let pairs: Vec<&str> = raw.split('&').filter(|pair| !pair.starts_with("hash=")).collect();
        let bot_id = bot_token.split(':').next().expect("an id");
        (Secret::new(format!("{bot_id}:its-secret-part-has-changed")), pairs.join("&"), at_s)
    }

    #[test]
    fn without_the_bots_signature_telegrams_own_counts() {
        let (bot, raw, at_s) = for_third_parties();
        let proved = user(&raw, &bot, at_s, DAY_S).expect("the published example is genuine");
        assert_eq!((proved.id.as_str(), proved.allows_write), ("279058397", true));
        assert_eq!(proved.name.as_deref(), Some("Vladislav + - ? / Kibenko"));
        let other = Secret::new("5768337691:its-secret-part-has-changed");
        assert_eq!(user(&raw, &other, at_s, DAY_S), Err("is not signed for this bot"));
        assert_eq!(user(&raw, &bot, at_s + DAY_S + 1, DAY_S), Err("is too old"));
        for at in 0..raw.len() {
            for flip in 0..7 {
                let mut changed = raw.as_bytes().to_vec();
                changed[at] ^= 1 << flip;
                let changed = String::from_utf8(changed).expect("ASCII");
                assert!(user(&changed, &bot, at_s, DAY_S).is_err(), "{changed}");
            }
        }
        let wrong_hash = format!("{raw}&hash={}", "0".repeat(64));
        assert_eq!(user(&wrong_hash, &bot, at_s, DAY_S), Err("is not signed for this bot"), "the bot's decides");
    }

    #[test]
    fn the_order_of_the_fields_does_not_matter() {
        for (bot_token, raw, at_s) in VECTORS {
            let mut pairs: Vec<&str> = raw.split('&').collect();
            pairs.reverse();
            assert!(user(&pairs.join("&"), &Secret::new(bot_token), at_s, DAY_S).is_ok());
        }
    }

    #[test]
    fn it_holds_from_a_minute_before_its_time_to_its_greatest_age() {
        let (bot_token, raw, at_s) = VECTORS[0];
        let at = |now_s| user(raw, &Secret::new(bot_token), now_s, DAY_S).map(|_| ());
        assert_eq!(at(at_s - AHEAD_S - 1), Err("is from the future"));
        assert_eq!(at(at_s - AHEAD_S), Ok(()));
        assert_eq!(at(at_s + DAY_S), Ok(()));
        assert_eq!(at(at_s + DAY_S + 1), Err("is too old"));
    }

    #[test]
    fn what_is_signed_and_yet_no_proof_is_refused() {
        let now = "1700000000";
        let check = |fields: &[(&str, &str)]| {
            user(&signed(fields, "1:t"), &Secret::new("1:t"), 1_700_000_000, 60).map(|of| of.id)
        };
        assert_eq!(check(&[("auth_date", now), ("user", r#"{"id":7}"#)]), Ok("7".to_owned()));
        assert_eq!(check(&[("user", r#"{"id":7}"#)]), Err("has no auth_date"));
        assert_eq!(check(&[("auth_date", "soon"), ("user", r#"{"id":7}"#)]), Err("has no auth_date"));
        assert_eq!(check(&[("auth_date", "18446744073709551615"), ("user", "{}")]), Err("has no auth_date"));
        for user in ["", "7", "{}", r#"{"id":"7"}"#, r#"{"id":-7}"#, r#"{"id":7.5}"#, "[7]"] {
            assert!(check(&[("auth_date", now), ("user", user)]).is_err(), "{user}");
        }
        assert_eq!(check(&[("auth_date", now)]), Err("names no user"));
        // Two fields signed as one, or one as two.
        assert_eq!(check(&[("auth_date", "1700000000\nuser={\"id\":7}")]), Err("is malformed"));
        let twice = signed(&[("auth_date", now), ("user", r#"{"id":7}"#)], "1:t") + "&user=%7B%22id%22%3A8%7D";
        assert_eq!(user(&twice, &Secret::new("1:t"), 1_700_000_000, 60), Err("is malformed"));
        let long = signed(&[("auth_date", now), ("user", r#"{"id":7}"#), ("x", &"x".repeat(MAX_BYTES))], "1:t");
        assert_eq!(user(&long, &Secret::new("1:t"), 1_700_000_000, 60), Err("is malformed"));
        for raw in ["", "hash", "hash=", "&", "a=%", "a=%4", "a=%GG", "a=%FF", "a=b c", "hash=a&hash=a"] {
            assert!(user(raw, &Secret::new("1:t"), 1_700_000_000, 60).is_err(), "{raw}");
        }
    }

    #[test]
    fn another_byte_anywhere_is_refused() {
        for (bot_token, raw, at_s) in VECTORS {
            let token = Secret::new(bot_token);
            for at in 0..raw.len() {
                for flip in 0..7 {
                    let mut changed = raw.as_bytes().to_vec();
                    changed[at] ^= 1 << flip;
                    let changed = String::from_utf8(changed).expect("ASCII");
                    assert!(user(&changed, &token, at_s, DAY_S).is_err(), "{changed}");
                }
                let shorter = format!("{}{}", &raw[..at], &raw[at + 1..]);
                assert!(user(&shorter, &token, at_s, DAY_S).is_err(), "{shorter}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_other_byte_at_any_place_is_refused(vector in 0..2_usize, at in any::<prop::sample::Index>(), to in any::<char>()) {
            let (bot_token, raw, at_s) = VECTORS[vector];
            let at = at.index(raw.len());
            prop_assume!(raw.as_bytes()[at] != u8::try_from(to).unwrap_or(0));
            let changed = format!("{}{to}{}", &raw[..at], &raw[at + 1..]);
            prop_assert!(user(&changed, &Secret::new(bot_token), at_s, DAY_S).is_err(), "{}", changed);
        }

        #[test]
        fn any_text_is_checked_without_a_panic(raw in "\\PC*|[a-z=&%+0-9A-F]*") {
            prop_assert!(user(&raw, &Secret::new("1:t"), 1_700_000_000, 60).is_err());
        }
    }
}
