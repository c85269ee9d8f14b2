//! What a query's parameters mean: text in, a checked value out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::store::conversations::ListCursor;

/// The longest wait of a poll, in seconds.
pub const LONGEST_WAIT_S: u64 = 30;

/// A poll's `since` as a position, in seconds. A client may echo `latestTimestamp` as it is, times 1,000 or times
/// 1,000,000.
///
/// # Errors
/// [`Error::Validation`]
pub fn since(text: &str) -> Result<i64> {
    let number: i64 =
        text.parse().map_err(|_| Error::Validation("since: must be a whole number, 0 or more".to_owned()))?;
    match number {
        ..0 => Err(Error::Validation("since: must be a whole number, 0 or more".to_owned())),
        0..100_000_000_000 => Ok(number),
        100_000_000_000..100_000_000_000_000 => Ok(number / 1_000),
        _ => Ok(number / 1_000_000),
    }
}

/// How long a poll may wait.
///
/// # Errors
/// [`Error::Validation`]
pub fn wait(text: &str) -> Result<Duration> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= LONGEST_WAIT_S);
    let seconds = seconds.ok_or_else(|| Error::Validation(format!("wait: must be 0 to {LONGEST_WAIT_S} seconds")))?;
    Ok(Duration::from_secs(seconds))
}

/// How many entries a page has.
///
/// # Errors
/// [`Error::Validation`]
pub fn limit(asked: Option<usize>) -> Result<usize> {
    let limit = asked.unwrap_or(20);
    Some(limit)
        .filter(|limit| (1..=100).contains(limit))
        .ok_or_else(|| Error::Validation("limit: must be 1 to 100".to_owned()))
}

/// Where a list goes on.
pub fn print_cursor(cursor: &ListCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", cursor.at, cursor.id))
}

/// A cursor that [`print_cursor`] made.
///
/// # Errors
/// [`Error::Validation`]
pub fn cursor(text: &str) -> Result<ListCursor> {
    let parsed = || {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (at, id) = std::str::from_utf8(&bytes).ok()?.split_once('.')?;
        Some(ListCursor { at: at.parse().ok()?, id: ConversationId::parse(id)? })
    };
    parsed().ok_or_else(|| Error::Validation("cursor: not one of ours".to_owned()))
}

/// The longest text that tickets are searched by, in characters.
const QUERY_CHARS: usize = 32;

/// What `q` asks for, as the beginning of a ticket's number: `AW-12`, `aw-12` and `12` ask for `12`, the prefix alone
/// for every ticket. `None`: no reference is like that.
///
/// # Errors
/// [`Error::Validation`]
pub fn ticket_number<'a>(text: &'a str, prefix: &str) -> Result<Option<&'a str>> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > QUERY_CHARS || text.chars().any(char::is_control) {
        return Err(Error::Validation(format!("q: must be 1 to {QUERY_CHARS} visible characters")));
    }
    let begins_with =
        |text: &str, start: &str| text.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start));
    let number = match text.get(prefix.len()..).filter(|_| begins_with(text, prefix)) {
        Some(rest) => rest.strip_prefix('-').unwrap_or(rest),
        None if begins_with(prefix, text) => "",
        None => text,
    };
    Ok(Some(number).filter(|number| number.bytes().all(|b| b.is_ascii_digit())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_in_any_case_with_and_without_its_prefix() {
        for (text, number) in [
            ("AW-123", Some("123")),
            ("aw-123", Some("123")),
            (" Aw-1 ", Some("1")),
            ("aw123", Some("123")),
            ("123", Some("123")),
            ("a", Some("")),
            ("AW", Some("")),
            ("aw-", Some("")),
            ("b", None),
            ("-1", None),
            ("AX-1", None),
            ("12x", None),
            ("١٢", None),
            ("éw-1", None),
            ("%", None),
        ] {
            assert_eq!(ticket_number(text, "AW").expect(text), number, "{text}");
        }
        for bad in ["", "  ", "1\u{0}2", &"1".repeat(33)] {
            assert!(ticket_number(bad, "AW").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn since_is_read_in_seconds_milliseconds_and_microseconds() {
        for (text, seconds) in [
            ("0", 0),
            ("1719750000", 1_719_750_000),
            ("1719750000000", 1_719_750_000),
            ("1719750000999", 1_719_750_000),
            ("1719750000000000", 1_719_750_000),
            ("99999999999", 99_999_999_999),
            ("100000000000", 100_000_000),
            ("99999999999999", 99_999_999_999),
            ("100000000000000", 100_000_000),
        ] {
            assert_eq!(since(text).expect(text), seconds, "{text}");
        }
        for bad in ["", "-1", "1.5", "abc", "1e3", " 1", "9999999999999999999999"] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_nothing_else_is_one() {
        let id = ConversationId::parse("42").expect("an id");
        let ours = ListCursor { at: 1_719_750_000_123, id };
        assert_eq!(cursor(&print_cursor(&ours)).expect("our cursor"), ours);
        for bad in ["", "x", "MTIz", "MS5sYXN0"] {
            assert!(cursor(bad).is_err(), "{bad}");
        }
    }
}
