//! Signed addresses: `/files/{id}?t=...` says who may have a file, and until when, without a look at the database.
//!
//! `t` is 38 bytes as 51 characters of base64url: version, key, end (Unix seconds), and an HMAC-SHA256 over all that
//! and the file's id. What cannot be verified is told apart nowhere.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::Secret;
use crate::id::FileId;

/// How long an address holds at least, in seconds: Intercom may fetch late.
const HOLDS_S: i64 = 24 * 3600;
/// How long one holds that people open from a message, in seconds.
const HOLDS_LONG_S: i64 = 365 * 24 * 3600;
/// All addresses made within this time are alike, so that a browser keeps what it has; in seconds.
const ALIKE_S: i64 = 3600;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"awchat/file/v1";
const BYTES: usize = 38;

/// Whether a browser may show a file in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Where its kind allows it.
    Inline,
    /// It is only ever downloaded.
    Attachment,
}

impl Disposition {
    const ALL: [Self; 2] = [Self::Inline, Self::Attachment];

    fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Attachment => "attachment",
        }
    }
}

/// A signed address and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The whole address.
    pub url: String,
    /// Unix seconds.
    pub expires_at: i64,
}

/// Signs addresses and verifies them.
#[derive(Clone)]
pub struct Links {
    base_url: String,
    /// The first signs, all are accepted.
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: u8,
    secret: Vec<u8>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Links({} keys)", self.keys.len())
    }
}

impl Links {
    /// Addresses below `base_url`, signed by the first of `secrets`.
    pub fn new(base_url: &str, secrets: &[Secret]) -> Self {
        let key = |secret: &Secret| {
            let secret = secret.expose().as_bytes().to_vec();
            // By what it is, not by its place: the list grows at its front.
            Key { id: Sha256::digest(&secret)[0], secret }
        };
        Self { base_url: base_url.trim_end_matches('/').to_owned(), keys: secrets.iter().map(key).collect() }
    }

    /// An address for somebody who fetches it soon.
    pub fn link(&self, id: &FileId, disposition: Disposition, now_s: i64) -> Link {
        self.until(id, disposition, (now_s.div_euclid(ALIKE_S) + 1) * ALIKE_S + HOLDS_S)
    }

    /// An address for people who find it in a message.
    pub fn lasting(&self, id: &FileId, now_s: i64) -> Link {
        self.until(id, Disposition::Attachment, now_s + HOLDS_LONG_S)
    }

    fn until(&self, id: &FileId, disposition: Disposition, expires_at: i64) -> Link {
        let end = u32::try_from(expires_at).unwrap_or(u32::MAX);
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[2..6].copy_from_slice(&end.to_be_bytes());
        if let Some(key) = self.keys.first() {
            bytes[1] = key.id;
            bytes[6..].copy_from_slice(&mac(&key.secret, id.as_str(), end, disposition));
        }
        let url = format!("{}/files/{id}?t={}", self.base_url, URL_SAFE_NO_PAD.encode(bytes));
        Link { url, expires_at: end.into() }
    }

    /// How the file may be shown, if `t` holds for this id now. It takes as long whatever is wrong.
    pub fn verify(&self, id: &str, t: &str, now_s: i64) -> Option<Disposition> {
        // Strict: one text for each 38 bytes, so that no other `t` is as good.
        let decoded = URL_SAFE_NO_PAD.decode(t).ok().and_then(|bytes| <[u8; BYTES]>::try_from(bytes).ok());
        let is_whole = decoded.is_some();
        let bytes = decoded.unwrap_or([0; BYTES]);
        let end = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        let unknown = [Key { id: bytes[1], secret: LABEL.to_vec() }];
        let known: Vec<&Key> = self.keys.iter().filter(|key| key.id == bytes[1]).collect();
        let is_known = !known.is_empty();
        let keys = if is_known { known } else { unknown.iter().collect() };
        let mut found = None;
        for disposition in Disposition::ALL {
            let holds = keys
                .iter()
                .fold(Choice::from(0), |holds, key| holds | mac(&key.secret, id, end, disposition).ct_eq(&bytes[6..]));
            if bool::from(holds) {
                found = Some(disposition);
            }
        }
        found.filter(|_| is_whole && is_known && bytes[0] == VERSION && now_s < i64::from(end))
    }

    /// Which folder a user's objects lie in: nobody learns from it who the user is.
    pub fn owner_tag(&self, owner: &str) -> String {
        let secret = self.keys.first().map_or(LABEL, |key| key.secret.as_slice());
        let mut mac = hmac(secret);
        mac.update(b"awchat/file/owner\0");
        mac.update(owner.as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..8])
    }
}

fn hmac(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

fn mac(secret: &[u8], id: &str, end: u32, disposition: Disposition) -> [u8; 32] {
    let mut mac = hmac(secret);
    for part in [LABEL, b"\0", id.as_bytes(), b"\0", end.to_string().as_bytes(), b"\0", disposition.as_str().as_bytes()]
    {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_800_000_000;

    fn links(secrets: &[&str]) -> Links {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Links::new("https://chat.example.com/base/", &secrets)
    }

    fn id() -> FileId {
        FileId::parse("AAAAAAAAAAAAAAAAAAAAAA").expect("an id")
    }

    fn t(link: &Link) -> &str {
        link.url.split_once("?t=").expect("a query").1
    }

    #[test]
    fn an_address_holds_for_its_file_until_its_end() {
        let links = links(&["a-secret-of-files-0123456789-0123456789"]);
        for disposition in Disposition::ALL {
            let link = links.link(&id(), disposition, NOW_S);
            assert!(link.url.starts_with("https://chat.example.com/base/files/AAAAAAAAAAAAAAAAAAAAAA?t="), "{link:?}");
            assert_eq!(t(&link).len(), 51);
            assert!((NOW_S + HOLDS_S..=NOW_S + HOLDS_S + ALIKE_S).contains(&link.expires_at));
            assert_eq!(links.verify(id().as_str(), t(&link), link.expires_at - 1), Some(disposition));
            assert_eq!(links.verify(id().as_str(), t(&link), link.expires_at), None, "its time is up");
            assert_eq!(links.verify("AAAAAAAAAAAAAAAAAAAAAB", t(&link), NOW_S), None, "another file");
            assert_eq!(links.link(&id(), disposition, NOW_S / ALIKE_S * ALIKE_S), link, "alike for an hour");
        }
    }

    #[test]
    fn every_change_of_one_character_is_noticed() {
        let links = links(&["a-secret-of-files-0123456789-0123456789"]);
        let link = links.link(&id(), Disposition::Inline, NOW_S);
        let good = t(&link);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ";
        let mut tried = 0;
        for at in 0..good.len() {
            for other in alphabet.iter().filter(|other| **other != good.as_bytes()[at]) {
                let mut changed = good.as_bytes().to_vec();
                changed[at] = *other;
                let changed = String::from_utf8(changed).expect("text");
                assert_eq!(links.verify(id().as_str(), &changed, NOW_S), None, "{changed}");
                tried += 1;
            }
            let shorter = format!("{}{}", &good[..at], &good[at + 1..]);
            assert_eq!(links.verify(id().as_str(), &shorter, NOW_S), None);
        }
        for bad in ["", "A", &format!("{good}A"), &format!("{good}="), &good.to_lowercase(), &"A".repeat(51)] {
            assert_eq!(links.verify(id().as_str(), bad, NOW_S), None, "{bad}");
        }
        println!("{tried} changes of one character of `t`: all refused");
    }

    #[test]
    fn keys_are_rotated_at_the_front() {
        let (old, new) = ("an-old-secret-of-files-0123456789-0123", "a-new-secret-of-files-0123456789-0123");
        let before = links(&[old]);
        let link = before.link(&id(), Disposition::Inline, NOW_S);
        let accepts = |secrets: &[&str]| links(secrets).verify(id().as_str(), t(&link), NOW_S).is_some();
        assert!(accepts(&[old]) && accepts(&[new, old]) && !accepts(&[new]));
        let both = links(&[new, old]);
        assert!(links(&[new]).verify(id().as_str(), t(&both.link(&id(), Disposition::Inline, NOW_S)), NOW_S).is_some());
    }

    #[test]
    fn an_unknown_key_is_no_key() {
        // What a forger knows is the label.
        let forger = links(&["awchat/file/v1"]);
        let link = forger.link(&id(), Disposition::Inline, NOW_S);
        let ours = links(&["a-secret-of-files-0123456789-0123456789"]);
        assert_ne!(forger.keys[0].id, ours.keys[0].id);
        assert_eq!(ours.verify(id().as_str(), t(&link), NOW_S), None);
    }
}
