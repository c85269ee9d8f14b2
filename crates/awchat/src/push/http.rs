//! What FCM and Telegram are asked over: the client, and what any answer has.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::clock;

/// Google's own libraries wait as long; less than 10 s would repeat what was done.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_ANSWER_BYTES: usize = 64 * 1024;

/// A client that follows no redirect.
///
/// # Errors
/// When the machine has none to give.
pub(super) fn client() -> Result<reqwest::Client, &'static str> {
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    http.build().map_err(|_| "cannot be used: there is no HTTP client")
}

/// The `Retry-After` header: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at_ms = clock::parse_http_date(text)?;
    Some(Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0)))
}

/// An answer's body, and whether that is all of it: it can break off, or be longer than any of theirs is.
pub(super) async fn body(mut answer: reqwest::Response) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER_BYTES => body.extend_from_slice(&chunk),
            Ok(None) => return (body, true),
            Ok(Some(_)) | Err(_) => return (body, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_in_seconds_or_as_a_date() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
            retry_after(&headers, 784_111_770_000).map(|wait| wait.as_secs())
        };
        assert_eq!(of("60"), Some(60));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        assert_eq!(of("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), 0), None);
    }
}
