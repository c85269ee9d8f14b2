//! Identifiers that were checked once, and the only place that asks chance.
//!
//! Texts of up to 23 bytes lie in them, not behind them: who compares them does not look elsewhere in memory.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

/// The app's own user id: the session token's `sub`, Intercom's `external_id`. 1–128 visible characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(SmolStr);

/// Intercom's conversation id: 1–20 decimal digits, so that it can never name another route in a path. A ticket's too: a
/// Customer ticket is a conversation of the same id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId(SmolStr);

/// Intercom's contact id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContactId(SmolStr);

/// Our id of a registered device.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(SmolStr);

/// A file's id: 22–26 characters of base64url. Ours are 128 random bits, those of operators' attachments a digest of
/// their place.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(SmolStr);

impl FileId {
    /// `None` unless `text` matches `^[A-Za-z0-9_-]{22,26}$`.
    pub fn parse(text: &str) -> Option<Self> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        ((22..=26).contains(&text.len()) && text.bytes().all(safe)).then(|| Self(text.into()))
    }

    /// A new one.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks chance")]
    pub fn random() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>()).into())
    }

    /// That of the file at `index` on a message at Intercom: the same whenever it is seen.
    pub fn of_part(conversation: &ConversationId, message: &str, index: usize) -> Self {
        let digest = Sha256::digest(format!("awchat/attachment/v1 {conversation} {message} {index}"));
        Self(URL_SAFE_NO_PAD.encode(&digest[..16]).into())
    }
}

impl UserId {
    /// `None` unless `text` has 1–128 characters, none of them a control character or white space.
    pub fn parse(text: &str) -> Option<Self> {
        let visible = |c: char| !c.is_control() && !c.is_whitespace();
        let count = text.chars().take(129).count();
        ((1..=128).contains(&count) && text.chars().all(visible)).then(|| Self(text.into()))
    }
}

impl ConversationId {
    /// `None` unless `text` matches `^[0-9]{1,20}$`: `last`, `search` and `redact` are live routes at Intercom.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Self(text.into()))
    }
}

impl ContactId {
    /// `None` unless `text` has 1–64 ASCII letters, digits, `-` or `_`: it goes into paths.
    pub fn parse(text: &str) -> Option<Self> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        ((1..=64).contains(&text.len()) && text.bytes().all(safe)).then(|| Self(text.into()))
    }
}

impl DeviceId {
    /// `None` unless `text` looks like what [`random`] makes.
    pub fn parse(text: &str) -> Option<Self> {
        let ours = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(ours)).then(|| Self(text.into()))
    }
}

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(concat!("not a ", stringify!($name))))
            }
        }
    };
}

text_id!(UserId);
text_id!(ConversationId);
text_id!(ContactId);
text_id!(DeviceId);
text_id!(FileId);

/// A new random id: 128 bits as 32 hexadecimal characters.
#[expect(clippy::disallowed_methods, reason = "the one place that asks chance")]
pub fn random() -> String {
    hex::encode(rand::rng().random::<[u8; 16]>())
}

/// A random number in `0.0..1.0`, for jitter.
#[expect(clippy::disallowed_methods, reason = "the one place that asks chance")]
pub fn chance() -> f64 {
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_id_is_digits_only() {
        for good in ["1", "0", "499", "215472621202693", "12345678901234567890"] {
            assert!(ConversationId::parse(good).is_some(), "{good}");
        }
        for bad in ["", "last", "search", "redact", "../1", "1/2", "1 ", "+1", "١", "123456789012345678901"] {
            assert!(ConversationId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_file_id_is_safe_in_a_path_and_new_each_time() {
        let id = FileId::random();
        assert_eq!(FileId::parse(id.as_str()).as_ref(), Some(&id));
        assert_ne!(id, FileId::random());
        let conversation = ConversationId::parse("1").expect("an id");
        let of_part = |index| FileId::of_part(&conversation, "2", index);
        assert!(of_part(0) == of_part(0) && of_part(0) != of_part(1) && FileId::parse(of_part(0).as_str()).is_some());
        for bad in ["", &"A".repeat(21), &"A".repeat(27), "../../../../../etc/passwd", "AAAAAAAAAAAAAAAAAAAAA%"] {
            assert!(FileId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_user_id_is_visible_and_short() {
        assert!(UserId::parse("user-42@example.com").is_some());
        assert!(UserId::parse(&"é".repeat(128)).is_some());
        for bad in ["", " ", "a b", "a\nb", "a\u{0}"] {
            assert!(UserId::parse(bad).is_none(), "{bad:?}");
        }
        assert!(UserId::parse(&"x".repeat(129)).is_none());
    }
}
