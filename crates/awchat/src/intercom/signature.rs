//! The signature of a webhook: `X-Hub-Signature: sha1=` and the HMAC-SHA1 of the raw body under the app's client
//! secret (Intercom's "webhook notifications"). Pure.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

const SCHEME: &str = "sha1=";

/// The header's value for a raw body: `sha1=` and 40 lower-case hexadecimal digits.
pub fn sign(secret: &str, raw: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(raw);
    format!("{SCHEME}{}", hex::encode(mac.finalize().into_bytes()))
}

/// Whether `header` is the signature of `raw` under one of the secrets; several serve rotation. Takes the same time
/// for every header of the right length. An empty secret never verifies: anybody could sign with it.
pub fn verify(secrets: &[impl AsRef<str>], header: &str, raw: &[u8]) -> bool {
    let mut verified = subtle::Choice::from(0);
    for secret in secrets.iter().map(AsRef::as_ref).filter(|secret| !secret.is_empty()) {
        verified |= sign(secret, raw).as_bytes().ct_eq(header.as_bytes());
    }
    verified.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "client-secret";
    const BODY: &[u8] = br#"{"topic":"ping"}"#;
    const GOOD: &str = "sha1=83f283f5997678fbf9b02534c0762a8eacaf2d8d";

    #[test]
    fn signs_as_intercom_does() {
        assert_eq!(sign(SECRET, BODY), GOOD);
    }

    #[test]
    fn any_of_several_secrets_will_do() {
        assert!(verify(&[SECRET], GOOD, BODY));
        assert!(verify(&["new", SECRET], GOOD, BODY));
        assert!(verify(&[SECRET.to_owned(), "old".to_owned()], GOOD, BODY));
        assert!(!verify(&["new", "old"], GOOD, BODY));
    }

    #[test]
    fn nothing_verifies_without_a_secret() {
        assert!(!verify(&[] as &[&str], GOOD, BODY));
        assert!(!verify(&[""], &sign("", BODY), BODY));
    }

    #[test]
    fn only_the_exact_header_verifies() {
        let digits = GOOD.trim_start_matches(SCHEME);
        let sha256 = format!("sha256={digits}");
        let upper = format!("{SCHEME}{}", digits.to_uppercase());
        let spaced = format!(" {GOOD}");
        let longer = format!("{GOOD}0");
        for bad in ["", "sha1=", digits, &sha256, &upper, &spaced, &longer, &GOOD[..44], "SHA1=", &format!("{GOOD}\n")]
        {
            assert!(!verify(&[SECRET], bad, BODY), "{bad:?}");
        }
        assert!(!verify(&[SECRET], GOOD, br#"{"topic":"pinG"}"#));
        assert!(!verify(&[SECRET], GOOD, b""));
    }
}
