//! The parameters of queries, and ids in paths.

#![no_main]

use awchat::api::files::range::{self, Part};
use awchat::api::params;
use awchat::files::name;
use awchat::id::{ContactId, ConversationId, FileId, UserId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(seconds) = params::since(text) {
        // Microseconds, the finest there is, give no more than this.
        assert!((0..=i64::MAX / 1_000_000).contains(&seconds), "{text}: {seconds}");
    }
    if let Ok(wait) = params::wait(text) {
        assert!(wait.as_secs() <= 30, "{text}");
    }
    if let Ok(cursor) = params::cursor(text) {
        assert_eq!(params::cursor(&params::print_cursor(&cursor)).expect("our cursor"), cursor);
    }
    if let Some(id) = ConversationId::parse(text) {
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_digit()));
    }
    if let Some(id) = ContactId::parse(text) {
        assert!(!id.as_str().contains(['/', '.', '%', '?']));
    }
    for len in [0, 1, 100, u64::MAX] {
        if let Part::Some(first, end) = range::part(Some(text), None, "", len) {
            assert!(first < end && end <= len, "{text}: {first} to {end} of {len}");
        }
    }
    let header = name::content_disposition(true, &name::of_others(text));
    assert!(header.is_ascii() && !header.contains(['\r', '\n', '\0']) && header.matches('"').count() == 2, "{header}");
    if let Some(id) = FileId::parse(text) {
        assert!(!id.as_str().contains(['/', '.', '%', '?']));
    }
    if let Some(id) = UserId::parse(text) {
        assert!(!id.as_str().contains(['\n', '\0', ' ']));
    }
});
