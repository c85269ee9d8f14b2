//! The keys of the stand-ins. None of them opens anything outside this process.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Where the key pair that signs `initData` in Telegram's place comes from: not a secret, so that all processes agree.
const TELEGRAM_SEED: [u8; 32] = *b"sandbox: telegram signs nothing!";

/// The service account's key. Made when first asked for, once a process: it takes longer than a whole test.
static SERVICE_ACCOUNT: LazyLock<ServiceAccountKey> = LazyLock::new(ServiceAccountKey::generate);

struct ServiceAccountKey {
    pem: String,
    public: Vec<u8>,
}

impl ServiceAccountKey {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("chance is at hand");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key just made can be written down");
        Self { pem: pem(der.as_ref()), public: pair.public_key().as_ref().to_vec() }
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    let kind = "PRIVATE KEY";
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// The service account's private key, PKCS#8 in PEM.
pub(crate) fn service_account_pem() -> &'static str {
    &SERVICE_ACCOUNT.pem
}

/// Whether the service account signed this message (RS256).
pub(crate) fn service_account_signed(message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &SERVICE_ACCOUNT.public);
    key.verify(message, signature).is_ok()
}

/// Telegram's signature of a message (Ed25519).
pub(crate) fn telegram_signs(message: &[u8]) -> Vec<u8> {
    telegram().sign(message).as_ref().to_vec()
}

/// The public key of [`telegram_signs`].
pub(crate) fn telegram_public() -> [u8; 32] {
    telegram().public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
}

fn telegram() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&TELEGRAM_SEED).expect("any 32 bytes are a seed")
}
