//! Pure: what FCM's answers mean. `error.details` decides, by its type, and the status where there are none.

use std::time::Duration;

use serde::Deserialize;

/// Where FCM asks for a pause and does not say how long.
const QUOTA_PAUSE: Duration = Duration::from_secs(60);

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// FCM has it.
    Sent,
    /// The token is nobody's any more.
    TokenGone,
    /// The token is of another project's app.
    TokenForeign,
    /// The message, the project or its keys are wrong: trying again changes nothing, and no token is to blame.
    Refused(&'static str),
    /// The access token does not hold.
    Unauthenticated,
    /// To be tried again.
    Later {
        /// Not sooner than this, if FCM said so.
        after: Option<Duration>,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Refusal,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
    status: String,
    details: Vec<Detail>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(rename = "errorCode")]
    code: String,
    #[serde(rename = "fieldViolations")]
    violations: Vec<Violation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Violation {
    field: String,
}

/// What an answer means; `retry_after` is its header.
pub fn outcome(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    if (200..300).contains(&status) {
        return Outcome::Sent;
    }
    let Body { error } = serde_json::from_slice(body).unwrap_or_default();
    let of_fcm = error.details.iter().find(|detail| detail.kind.ends_with("google.firebase.fcm.v1.FcmError"));
    let code = of_fcm.map_or("", |detail| detail.code.as_str());
    match (code, status) {
        ("UNREGISTERED", _) => Outcome::TokenGone,
        ("SENDER_ID_MISMATCH", _) => Outcome::TokenForeign,
        ("THIRD_PARTY_AUTH_ERROR", _) => Outcome::Refused("APNs refuses the project's key: THIRD_PARTY_AUTH_ERROR"),
        ("INVALID_ARGUMENT", _) | (_, 400) if names_the_token(&error, of_fcm.is_some()) => Outcome::TokenGone,
        ("INVALID_ARGUMENT", _) | (_, 400) => Outcome::Refused("the message is wrong: INVALID_ARGUMENT"),
        ("QUOTA_EXCEEDED", _) | (_, 429) => Outcome::Later { after: retry_after.or(Some(QUOTA_PAUSE)) },
        ("UNAVAILABLE" | "INTERNAL", _) | (_, 408 | 500..) => Outcome::Later { after: retry_after },
        (_, 401) => Outcome::Unauthenticated,
        (_, 403) => Outcome::Refused("the service account may not send: PERMISSION_DENIED"),
        (_, 404) if error.status == "NOT_FOUND" || error.status.is_empty() => {
            Outcome::Refused("no such project: NOT_FOUND")
        }
        _ => Outcome::Refused("an answer that is not known"),
    }
}

/// Whether a 400 is about the token alone: anything else is our own mistake.
fn names_the_token(error: &Refusal, is_fcms: bool) -> bool {
    let mut violations = error.details.iter().flat_map(|detail| &detail.violations).peekable();
    match violations.peek() {
        Some(_) => violations.all(|violation| violation.field == "message.token"),
        None => is_fcms && error.message.contains("not a valid FCM registration token"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FCM: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    const BAD: &str = "type.googleapis.com/google.rpc.BadRequest";

    fn of(status: u16, name: &str, message: &str, details: Value) -> Outcome {
        let body = json!({ "error": { "code": status, "message": message, "status": name, "details": details } });
        outcome(status, None, body.to_string().as_bytes())
    }

    fn fcm(status: u16, name: &str, code: &str) -> Outcome {
        of(status, name, "Some words.", json!([{ "@type": FCM, "errorCode": code }]))
    }

    #[test]
    fn each_code_has_its_meaning() {
        let pause = Outcome::Later { after: Some(QUOTA_PAUSE) };
        let later = Outcome::Later { after: None };
        assert_eq!(outcome(200, None, b"{\"name\":\"projects/p/messages/0:1\"}"), Outcome::Sent);
        assert_eq!(fcm(404, "NOT_FOUND", "UNREGISTERED"), Outcome::TokenGone);
        assert_eq!(fcm(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Outcome::TokenForeign);
        assert!(matches!(fcm(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Outcome::Refused(_)));
        assert_eq!(fcm(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), pause);
        assert_eq!(fcm(503, "UNAVAILABLE", "UNAVAILABLE"), later);
        assert_eq!(fcm(500, "INTERNAL", "INTERNAL"), later);
        assert!(matches!(of(404, "NOT_FOUND", "Requested entity was not found.", json!([])), Outcome::Refused(_)));
        assert!(matches!(of(403, "PERMISSION_DENIED", "Denied.", json!([])), Outcome::Refused(_)));
        assert_eq!(of(401, "UNAUTHENTICATED", "Invalid credentials.", json!([])), Outcome::Unauthenticated);
        assert_eq!(of(429, "RESOURCE_EXHAUSTED", "Slow down.", json!([])), pause);
    }

    #[test]
    fn only_a_400_that_is_about_the_token_costs_the_token() {
        let message = "The registration token is not a valid FCM registration token";
        let of_fcm = json!({ "@type": FCM, "errorCode": "INVALID_ARGUMENT" });
        let violation = |field: &str| json!({ "@type": BAD, "fieldViolations": [{ "field": field }] });
        let gone = |message: &str, details: Value| of(400, "INVALID_ARGUMENT", message, details) == Outcome::TokenGone;
        assert!(gone(message, json!([of_fcm])));
        assert!(gone("Invalid registration token", json!([of_fcm, violation("message.token")])));
        assert!(!gone("Request contains an invalid argument.", json!([of_fcm])));
        assert!(!gone("Invalid value at 'message.data'", json!([violation("message.data[0].value")])));
        assert!(!gone(message, json!([of_fcm, violation("message.data[0].value")])));
        assert!(!gone(message, json!([])), "without FCM's own word");
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept() {
        let asked = Some(Duration::from_secs(7));
        for status in [429, 500, 503] {
            assert_eq!(outcome(status, asked, b"{}"), Outcome::Later { after: asked }, "{status}");
        }
    }

    #[test]
    fn what_is_no_answer_of_fcm_costs_no_token() {
        for (status, body) in [(404, &b"<html>"[..]), (400, b""), (403, b"null"), (302, b"{}"), (400, b"{\"error\":7}")]
        {
            assert!(matches!(outcome(status, None, body), Outcome::Refused(_)), "{status}");
        }
        assert_eq!(outcome(502, None, b"<html>"), Outcome::Later { after: None });
    }
}
