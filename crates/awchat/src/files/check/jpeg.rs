//! JPEG: markers and segments up to the end of the image.

use std::io::{Read, Seek};

use super::exif::{self, Fate};
use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require, sound_size, turned};

/// A picture loads in a dozen scans; thousands are there to keep its decoder busy.
const MAX_SCANS: u32 = 100;

const TRUNCATED: &str = "JPEG: every segment must be whole, and the image must end with its end marker";

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let mut plan = Plan::default();
    plan.keep(0, 2)?;
    let (mut at, mut size, mut orientation, mut scans) = (2, None, None, 0);
    loop {
        let begins = at;
        let marker = marker(source, &mut at)?;
        match marker {
            0xd9 => {
                plan.keep(begins, at - begins)?;
                break;
            }
            // Nothing else stands without a length.
            0x00..=0x01 | 0xd0..=0xd8 | 0xff => return refuse("JPEG: only segments may stand between scans"),
            _ => {}
        }
        let Some(length) = source.array(at)?.map(u16::from_be_bytes) else { return refuse(TRUNCATED) };
        require(length >= 2, "JPEG: a segment's length must count itself")?;
        let content = at + 2;
        let count = usize::from(length) - 2;
        at += u64::from(length);
        let Some(bytes) = source.bytes(content, count)? else { return refuse(TRUNCATED) };
        let whole = (begins, at - begins);
        match marker {
            // Baseline, extended and progressive: what every browser shows.
            0xc0..=0xc2 => {
                require(size.is_none(), "JPEG: the image's size must be told once")?;
                size = Some(frame(bytes)?);
                plan.keep(whole.0, whole.1)?;
            }
            0xc3 | 0xc5..=0xc7 | 0xc8..=0xcb | 0xcd..=0xcf => return refuse("JPEG: must be baseline or progressive"),
            // Tables, restart interval, number of lines.
            0xc4 | 0xdb | 0xdc | 0xdd => plan.keep(whole.0, whole.1)?,
            0xda => {
                require(size.is_some(), "JPEG: the image's size must be told before its data")?;
                scans += 1;
                require(scans <= MAX_SCANS, "JPEG: at most 100 scans")?;
                at = entropy_coded(source, at)?;
                plan.keep(begins, at - begins)?;
            }
            0xe0 if is_jfif(bytes) => keep_jfif(&mut plan, bytes, whole)?,
            0xe1 if bytes.starts_with(b"Exif\0\0") => {
                let (fate, turn) = exif::fate(&bytes[6..], (count - 6) as u64);
                orientation = orientation.or(turn);
                match fate {
                    Fate::Stay => plan.keep(whole.0, whole.1)?,
                    Fate::Shrink(least) => plan.bytes([b"\xff\xe1\0\x22Exif\0\0", least.as_slice()].concat())?,
                    Fate::Go => {}
                }
            }
            0xe2 if bytes.starts_with(b"ICC_PROFILE\0") => plan.keep(whole.0, whole.1)?,
            // How colours are coded: without it they come out wrong.
            0xee if bytes.starts_with(b"Adobe") && count == 12 => plan.keep(whole.0, whole.1)?,
            // Applications' own segments and comments.
            0xe0..=0xef | 0xfe => {}
            _ => return refuse("JPEG: must have no segments of unknown kind"),
        }
    }
    require(scans > 0, "JPEG: must hold an image")?;
    let size = size.ok_or(Refusal::Rule("JPEG: must tell the image's size"))?;
    Ok(plan.done(Kind::Jpeg, Some(turned(size, orientation))))
}

/// The marker at `at`, which moves behind it; fill bytes may stand before.
fn marker<R: Read + Seek>(source: &mut Source<'_, R>, at: &mut u64) -> Result<u8, Refusal> {
    let Some([0xff]) = source.array(*at)? else {
        return refuse(if *at >= source.len() { TRUNCATED } else { "JPEG: a marker must follow each segment" });
    };
    loop {
        *at += 1;
        match source.array(*at)? {
            None => return refuse(TRUNCATED),
            Some([0xff]) => {}
            Some([marker]) => {
                *at += 1;
                return Ok(marker);
            }
        }
    }
}

fn frame(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let [precision, high, low, wide, narrow, components, rest @ ..] = bytes else { return refuse(TRUNCATED) };
    require(matches!(precision, 8 | 12), "JPEG: samples must have 8 or 12 bits")?;
    let fits = (1..=4).contains(components) && rest.len() == 3 * usize::from(*components);
    require(fits, "JPEG: 1 to 4 components, each described")?;
    let side = |high: &u8, low: &u8| u32::from(u16::from_be_bytes([*high, *low]));
    sound_size(side(wide, narrow), side(high, low), 1)
}

/// Where the data that begins at `at` is over: at the next marker that is no restart.
fn entropy_coded<R: Read + Seek>(source: &mut Source<'_, R>, mut at: u64) -> Result<u64, Refusal> {
    loop {
        let rest = source.rest(at)?;
        if rest.is_empty() {
            return refuse(TRUNCATED);
        }
        let Some(found) = rest.iter().position(|byte| *byte == 0xff) else {
            at += rest.len() as u64;
            continue;
        };
        at += found as u64;
        match source.array(at)? {
            Some([_, 0x00 | 0xd0..=0xd7]) => at += 2,
            // A fill byte.
            Some([_, 0xff]) => at += 1,
            Some([_, _]) => return Ok(at),
            None => return refuse(TRUNCATED),
        }
    }
}

fn is_jfif(bytes: &[u8]) -> bool {
    bytes.starts_with(b"JFIF\0") && bytes.len() >= 14
}

/// Without its small picture, which may show what was cut away from the large one.
fn keep_jfif(plan: &mut Plan, bytes: &[u8], (at, len): (u64, u64)) -> Result<(), Refusal> {
    if bytes.len() == 14 && bytes[12..14] == [0, 0] {
        return plan.keep(at, len);
    }
    plan.bytes([b"\xff\xe0\0\x10", &bytes[..12], &[0, 0]].concat())
}
