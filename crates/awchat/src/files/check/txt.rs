//! Plain text: UTF-8 that begins like nothing else.

use std::io::{Read, Seek};

use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require};

const UTF8: &str = "TXT: must be UTF-8";
const LONGEST_CHARACTER: usize = 4;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a page, a drawing, a script or a document begins, in small letters; behind a tag's name its end or a blank.
const STARTS: [&str; 13] = [
    "<?xml",
    "<?php",
    "<!doctype",
    "<!--",
    "<%",
    "<svg",
    "#!",
    "%!ps",
    "{\\rtf",
    "@echo off",
    "from mime",
    "mime-version:",
    "<![cdata[",
];
const TAGS: [&str; 19] = [
    "html", "head", "script", "iframe", "h1", "div", "font", "table", "a", "style", "title", "b", "body", "br", "p",
    "img", "meta", "link", "object",
];

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let len = source.len();
    require(len > 0, "TXT: must not be empty")?;
    require(!is_markup(source.head(1024)?), "TXT: must not be a page, a drawing, a script or another format")?;
    let mut at = 0;
    while at < len {
        // A character that the window cuts off is whole in the next.
        source.bytes(at, usize::try_from(len - at).unwrap_or(usize::MAX).min(LONGEST_CHARACTER))?;
        let rest = source.rest(at)?;
        require(
            rest.chunks(64).all(|bytes| bytes.iter().fold(true, |all, byte| all & is_printable(*byte))),
            "TXT: must have no control characters but tab and line ends",
        )?;
        let whole = match std::str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
            Err(_) => return refuse(UTF8),
        };
        at += whole as u64;
    }
    let mut plan = Plan::default();
    plan.keep(0, len)?;
    Ok(plan.done(Kind::Txt, None))
}

fn is_printable(byte: u8) -> bool {
    byte >= 0x20 || matches!(byte, b'\t' | b'\r' | b'\n' | 0x0c)
}

fn is_markup(head: &[u8]) -> bool {
    let text = head.strip_prefix(BOM).unwrap_or(head).trim_ascii_start();
    let text = text[..text.len().min(32)].to_ascii_lowercase();
    let is_tag = |tag: &&str| {
        let rest = text.strip_prefix(b"<").and_then(|rest| rest.strip_prefix(tag.as_bytes()));
        rest.is_some_and(|rest| {
            rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
        })
    };
    STARTS.iter().any(|start| text.starts_with(start.as_bytes())) || TAGS.iter().any(is_tag)
}
