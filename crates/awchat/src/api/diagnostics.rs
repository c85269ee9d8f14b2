//! Diagnostics: what a client tells of the device it runs on goes to the log, and nowhere else.
//!
//! Only what is on the list is kept, and only in its form: a number, a switch, or a few plain words, in which no
//! e-mail address, link with a query or token fits. Who sent it is not logged.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::extract::Json;
use crate::auth::User;
use crate::error::{Error, Result};

/// The largest body, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// The longest word that is kept, in bytes.
const WORD_BYTES: usize = 64;

/// The largest number that is kept: no telephone number, no time.
const LARGEST: f64 = 10_000_000.0;

pub(super) async fn report(_: User, Json(told): Json<Map<String, Value>, MAX_BYTES>) -> Result<StatusCode> {
    if told.values().any(|value| value.is_object() || value.is_array()) {
        return Err(Error::Validation(
            "the body must be flat: values are strings, numbers, booleans or null".to_owned(),
        ));
    }
    log(&Told(told));
    Ok(StatusCode::NO_CONTENT)
}

/// The list: a field of the log for each key of the body.
fn log(told: &Told) {
    tracing::info!(
        target: "awchat::diagnostics",
        app_build = told.word("appBuild"),
        app_version = told.word("appVersion"),
        browser = told.word("browser"),
        browser_version = told.word("browserVersion"),
        color_scheme = told.word("colorScheme"),
        device_model = told.word("deviceModel"),
        duration_ms = told.number("durationMs"),
        error_code = told.word("errorCode"),
        event = told.word("event"),
        failures = told.number("failures"),
        free_memory_mb = told.number("freeMemoryMb"),
        locale = told.word("locale"),
        network = told.word("network"),
        online = told.switch("online"),
        os = told.word("os"),
        os_version = told.word("osVersion"),
        pixel_ratio = told.number("pixelRatio"),
        platform = told.word("platform"),
        push_enabled = told.switch("pushEnabled"),
        queued = told.number("queued"),
        screen_height = told.number("screenHeight"),
        screen_width = told.number("screenWidth"),
        sdk_version = told.word("sdkVersion"),
        status = told.number("status"),
        telegram_platform = told.word("telegramPlatform"),
        telegram_version = told.word("telegramVersion"),
        time_zone = told.word("timeZone"),
        "diagnostics"
    );
}

struct Told(Map<String, Value>);

impl Told {
    /// `iPhone15,2`, `17.4.1`, `Europe/Berlin`: short, and of no more than a few words.
    fn word(&self, key: &str) -> Option<&str> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b" ._,:/+()-".contains(&b);
        let text = self.0.get(key)?.as_str()?;
        (text.len() <= WORD_BYTES && text.bytes().all(fits)).then_some(text)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64().filter(|number| number.abs() <= LARGEST)
    }

    fn switch(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(value: Value) -> Told {
        Told(value.as_object().expect("an object").clone())
    }

    #[test]
    fn a_word_is_short_and_plain() {
        for good in ["iPhone15,2", "17.4.1", "Europe/Berlin", "Chrome Mobile", "SM-G991B (Samsung)", "en_US", ""] {
            assert_eq!(told(json!({ "k": good })).word("k"), Some(good));
        }
        let long = "x".repeat(WORD_BYTES + 1);
        for bad in ["ada@example.com", "a\nb", "eyJ=", "<b>", "Ärger", "50%", "#1", &long] {
            assert_eq!(told(json!({ "k": bad })).word("k"), None, "{bad}");
        }
        assert_eq!(told(json!({ "k": 7 })).word("k"), None);
        assert_eq!(told(json!({ "k": null })).word("k"), None);
    }

    #[test]
    fn numbers_and_switches_are_that_and_nothing_else() {
        assert_eq!(told(json!({ "k": 1.5 })).number("k"), Some(1.5));
        assert_eq!(told(json!({ "k": "1" })).number("k"), None);
        assert_eq!(told(json!({ "k": 491_701_234_567_i64 })).number("k"), None);
        assert_eq!(told(json!({ "k": true })).switch("k"), Some(true));
        assert_eq!(told(json!({ "k": 1 })).switch("k"), None);
    }
}
