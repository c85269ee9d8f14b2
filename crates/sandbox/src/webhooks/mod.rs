//! Webhooks: what a notification looks like, how it is signed, and how it gets delivered.

mod delivery;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

pub use delivery::Delivery;
pub(crate) use delivery::{Hooks, post};

/// As Intercom names itself when it calls.
const USER_AGENT: &str = "intercom-parrot-service-client/1.0";

/// The value of `X-Hub-Signature`: `sha1=` and the hex HMAC-SHA1 of the raw body, keyed with the app's client secret.
#[must_use]
pub fn signature(client_secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(client_secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha1={}", hex::encode(mac.finalize().into_bytes()))
}

/// The envelope of a notification, as of version 2.16.
pub(crate) fn envelope(app_id: &str, topic: &str, item: Value, now_s: i64) -> Value {
    json!({
        "type": "notification_event",
        "app_id": app_id,
        "data": { "type": "notification_event_data", "item": item },
        "links": {},
        "id": format!("notif_{}", crate::http::uuid()),
        "topic": topic,
        "delivery_status": "pending",
        "delivery_attempts": 1,
        "delivered_at": 0,
        "first_sent_at": now_s,
        "created_at": now_s,
        "self": null,
    })
}

/// The test notification: it has no id.
pub(crate) fn ping(app_id: &str, now_s: i64) -> Value {
    let item = json!({ "type": "ping", "message": "something something interzen" });
    let mut json = envelope(app_id, "ping", item, now_s);
    (json["id"], json["delivery_status"]) = (Value::Null, Value::Null);
    json
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_known_vector_is_signed_right() {
        let signature = super::signature("client-secret", br#"{"topic":"ping"}"#);
        assert_eq!(signature, "sha1=83f283f5997678fbf9b02534c0762a8eacaf2d8d");
    }
}
