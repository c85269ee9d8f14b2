//! Telegram's `initData`: what a Mini App hands over as proof of who uses it. Pure: time is handed in.
//!
//! Telegram signs all of it with the bot's token (its "validating data received via the Mini App"). Any change of a
//! single byte is refused: also one that would decode to the same, such as `%7b` for `%7B`.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// More than any client sends.
const MAX_BYTES: usize = 4096;
/// How far Telegram's clock may be ahead of ours, in seconds.
const AHEAD_S: i64 = 60;

/// The Telegram user who used the bot's Mini App at most `max_age_s` seconds before `now_s` (Unix), as digits.
///
/// # Errors
/// What is wrong with it, in words for the developer of the client.
pub fn user(raw: &str, bot_token: &Secret, now_s: i64, max_age_s: i64) -> Result<String, &'static str> {
    let mut fields = fields(raw).ok_or("is malformed")?;
    let hash = fields.remove("hash").ok_or("has no hash")?;
    if !bool::from(signature(&fields, bot_token).as_bytes().ct_eq(hash.as_bytes())) {
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
    let id = user.and_then(|user| user.get("id")?.as_u64());
    id.map(|id| id.to_string()).ok_or("names no user")
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

/// Lower-case hexadecimal digits.
fn signature(fields: &BTreeMap<String, String>, bot_token: &Secret) -> String {
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let key = hmac(b"WebAppData", bot_token.expose().as_bytes());
    hex::encode(hmac(&key, lines.join("\n").as_bytes()))
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
            assert_eq!(user(raw, &Secret::new(bot_token), at_s, DAY_S), Ok("279058397".to_owned()));
            let other = Secret::new(VECTORS.iter().find(|(token, ..)| *token != bot_token).expect("another").0);
            assert_eq!(user(raw, &other, at_s, DAY_S), Err("is not signed for this bot"));
        }
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
        let check = |fields: &[(&str, &str)]| user(&signed(fields, "1:t"), &Secret::new("1:t"), 1_700_000_000, 60);
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
