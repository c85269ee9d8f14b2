//! PDF: its first line and its last. What is between is nobody's business here: it is never parsed, only downloaded.

use std::io::{Read, Seek};

use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require};

/// Where the end must be told.
const TAIL_BYTES: u64 = 1024;
const END: &[u8] = b"%%EOF";

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let is_known = match source.head(9)? {
        [b'%', b'P', b'D', b'F', b'-', b'1', b'.', b'0'..=b'7', after] => after.is_ascii_whitespace() || *after == b'%',
        [b'%', b'P', b'D', b'F', b'-', b'2', b'.', b'0', after] => after.is_ascii_whitespace() || *after == b'%',
        _ => false,
    };
    require(is_known, "PDF: must begin with %PDF-1.0 to 1.7 or 2.0")?;
    let from = source.len().saturating_sub(TAIL_BYTES);
    let tail = source.bytes(from, usize::try_from(source.len() - from).unwrap_or(0))?.unwrap_or_default();
    let Some(found) = tail.windows(END.len()).rposition(|window| window == END) else {
        return refuse("PDF: %%EOF must stand in the last 1024 bytes");
    };
    let behind = &tail[found + END.len()..];
    // White space may end it; whatever else stands there is no part of it.
    let blank = behind.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0).count();
    let mut plan = Plan::default();
    plan.keep(0, from + (found + END.len() + blank) as u64)?;
    Ok(plan.done(Kind::Pdf, None))
}
