//! Google's OAuth2 for service accounts: an assertion signed with the account's key buys an access token for a while.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys;
use crate::exchange::{Answer, Request};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const WHOLE_CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The longest an assertion may hold.
const MAX_LIFE_S: i64 = 3600;
/// How far clocks may be apart.
const SKEW_S: i64 = 300;
const NOT_NOW: &str = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and \
                       exp values in the JWT claim.";

/// The service account and the tokens it was given.
#[derive(Debug)]
pub(crate) struct Google {
    pub(crate) project: String,
    /// Where assertions are taken, which is also their audience.
    pub(crate) token_uri: String,
    /// How long an access token holds, in seconds.
    pub(crate) tokens_live_for_s: i64,
    /// While set, every assertion is refused with `invalid_grant`.
    pub(crate) refuses: bool,
    /// When each token ends, in Unix milliseconds.
    tokens: BTreeMap<String, i64>,
}

/// What an access token is worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    Holds,
    Expired,
    Unknown,
}

/// Why an assertion is refused: `error` and `error_description`.
type Refusal = (&'static str, String);

impl Google {
    pub(crate) fn new(project: &str, base_url: &str) -> Self {
        Self {
            project: project.to_owned(),
            token_uri: format!("{base_url}/token"),
            tokens_live_for_s: 3599,
            refuses: false,
            tokens: BTreeMap::new(),
        }
    }

    pub(crate) fn client_email(&self) -> String {
        format!("push@{}.iam.gserviceaccount.com", self.project)
    }

    /// The file that the Firebase console would give out.
    pub(crate) fn service_account(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": "0123456789abcdef0123456789abcdef01234567",
            "private_key": keys::service_account_pem(),
            "client_email": self.client_email(),
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_uri,
            "universe_domain": "googleapis.com",
        })
    }

    /// `POST /token`.
    pub(crate) fn answer(&mut self, request: &Request, now_ms: i64) -> Answer {
        if request.method != "POST" {
            return refusal(405, "invalid_request", "Only POST is supported.");
        }
        match self.grant(request, now_ms) {
            Ok(token) => {
                let body =
                    json!({ "access_token": token, "expires_in": self.tokens_live_for_s, "token_type": "Bearer" });
                Answer::json(200, &body).with("cache-control", "no-store")
            }
            Err((error, why)) => refusal(400, error, &why),
        }
    }

    fn grant(&mut self, request: &Request, now_ms: i64) -> Result<String, Refusal> {
        if !request.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            return Err(("invalid_request", "The body must be a form.".to_owned()));
        }
        let form = crate::openapi::query_pairs(&String::from_utf8_lossy(&request.raw));
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match field("grant_type") {
            Some(GRANT_TYPE) => {}
            given => {
                return Err(("unsupported_grant_type", format!("Invalid grant_type: {}", given.unwrap_or_default())));
            }
        }
        let assertion = field("assertion").ok_or(("invalid_request", "Missing parameter: assertion".to_owned()))?;
        self.check(assertion, now_ms.div_euclid(1000))?;
        if self.refuses {
            return Err(("invalid_grant", "Invalid grant: account not found".to_owned()));
        }
        let token = format!("ya29.sandbox-{:032x}", rand::random::<u128>());
        self.tokens.retain(|_, ends_ms| *ends_ms > now_ms - 24 * 3_600_000);
        self.tokens.insert(token.clone(), now_ms + self.tokens_live_for_s * 1000);
        Ok(token)
    }

    fn check(&self, assertion: &str, now_s: i64) -> Result<(), Refusal> {
        let invalid = |why: &str| ("invalid_grant", why.to_owned());
        let (signed, signature) = assertion.rsplit_once('.').ok_or(invalid("Invalid JWT: not three parts."))?;
        let (header, claims) = signed.split_once('.').ok_or(invalid("Invalid JWT: not three parts."))?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("Invalid JWT: not base64url."));
        let json = |part: &str| {
            serde_json::from_slice::<Value>(&decoded(part)?).map_err(|_| invalid("Invalid JWT: not JSON."))
        };
        let (header, claims) = (json(header)?, json(claims)?);
        if header["alg"] != "RS256" {
            return Err(invalid("Invalid JWT: the algorithm must be RS256."));
        }
        if claims["iss"] != self.client_email().as_str() {
            return Err(invalid("Invalid grant: account not found"));
        }
        if !keys::service_account_signed(signed.as_bytes(), &decoded(signature)?) {
            return Err(invalid("Invalid JWT Signature."));
        }
        if claims["aud"] != self.token_uri.as_str() {
            return Err(invalid("Invalid JWT: Failed audience check."));
        }
        let scopes = claims["scope"].as_str().unwrap_or_default();
        if !scopes.split(' ').any(|scope| [SCOPE, WHOLE_CLOUD].contains(&scope)) {
            return Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided.".to_owned()));
        }
        let (Some(iat), Some(exp)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
            return Err(invalid(NOT_NOW));
        };
        let in_time = iat <= now_s + SKEW_S && exp > now_s - SKEW_S && exp > iat && exp - iat <= MAX_LIFE_S;
        if in_time { Ok(()) } else { Err(invalid(NOT_NOW)) }
    }

    pub(crate) fn bearer(&self, token: &str, now_ms: i64) -> Bearer {
        match self.tokens.get(token) {
            None => Bearer::Unknown,
            Some(ends_ms) if *ends_ms <= now_ms => Bearer::Expired,
            Some(_) => Bearer::Holds,
        }
    }

    /// Ends all access tokens before their time.
    pub(crate) fn revoke_all(&mut self) {
        self.tokens.clear();
    }
}

fn refusal(status: u16, error: &str, why: &str) -> Answer {
    Answer::json(status, &json!({ "error": error, "error_description": why }))
}
