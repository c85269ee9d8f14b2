//! Texts without the one character that no database text can have.

use std::borrow::Cow;

/// JSON without NUL characters, which no database text can have; in JSON they are always escaped.
pub fn without_nul(json: &[u8]) -> Cow<'_, [u8]> {
    const NUL: &[u8] = b"\\u0000";
    if !json.windows(NUL.len()).any(|escape| escape == NUL) {
        return Cow::Borrowed(json);
    }
    let (mut kept, mut rest) = (Vec::with_capacity(json.len()), json);
    while let Some(byte) = rest.first() {
        // What is escaped goes together: a backslash that is one itself begins nothing.
        let taken = if *byte == b'\\' { rest.len().min(2) } else { 1 };
        if rest.starts_with(NUL) {
            rest = &rest[NUL.len()..];
            continue;
        }
        kept.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_characters_go_and_what_only_looks_like_one_stays() {
        for (json, expected) in [
            (r#"{"a":"b\u0000c\u0000"}"#, r#"{"a":"bc"}"#),
            (r#"{"a":"b\\u0000c"}"#, r#"{"a":"b\\u0000c"}"#),
            (r#"{"a":"\\\u0000\"\u0001"}"#, r#"{"a":"\\\"\u0001"}"#),
        ] {
            assert_eq!(without_nul(json.as_bytes()), expected.as_bytes(), "{json}");
        }
    }
}
