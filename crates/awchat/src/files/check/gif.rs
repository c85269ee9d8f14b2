//! GIF: blocks up to the trailer.

use std::io::{Read, Seek};

use super::source::Source;
use super::{Clean, Kind, MAX_SIDE, Plan, Refusal, refuse, require, sound_size};

const MAX_FRAMES: u32 = 500;
const MAX_FRAME_PIXELS: u64 = 200_000_000;

const TRUNCATED: &str = "GIF: every block must be whole, and the last must be the trailer";

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    require(matches!(source.head(6)?, b"GIF87a" | b"GIF89a"), "GIF: must be version 87a or 89a")?;
    let Some([w, wide, h, high, flags, _, _]) = source.array::<7>(6)? else { return refuse(TRUNCATED) };
    let size = sound_size(side(w, wide), side(h, high), 1)?;
    let mut plan = Plan::default();
    let mut at = 13 + table_bytes(flags);
    require(at <= source.len(), TRUNCATED)?;
    plan.keep(0, at)?;
    let (mut frames, mut pixels) = (0, 0);
    loop {
        let begins = at;
        match source.array(at)? {
            None => return refuse(TRUNCATED),
            Some([0x3b]) => {
                plan.keep(at, 1)?;
                break;
            }
            Some([0x2c]) => {
                let Some([w, wide, h, high, flags]) = source.array::<5>(at + 5)? else { return refuse(TRUNCATED) };
                let (width, height) = (side(w, wide), side(h, high));
                require(width <= MAX_SIDE && height <= MAX_SIDE, "GIF: a frame's sides must be at most 16384 pixels")?;
                (frames, pixels) = (frames + 1, pixels + u64::from(width) * u64::from(height));
                require(frames <= MAX_FRAMES, "GIF: at most 500 frames")?;
                require(pixels <= MAX_FRAME_PIXELS, "GIF: at most 200 million pixels in all frames")?;
                at += 10 + table_bytes(flags);
                let code_size = source.array(at)?;
                require(code_size.is_some_and(|[bits]| (1..=11).contains(&bits)), "GIF: code sizes are 1 to 11 bits")?;
                at = blocks_end(source, at + 1)?;
                plan.keep(begins, at - begins)?;
            }
            Some([0x21]) => {
                let Some([label]) = source.array(at + 1)? else { return refuse(TRUNCATED) };
                at = blocks_end(source, at + 2)?;
                let stays = match label {
                    0xf9 => at - begins == 8,
                    0xff => is_needed(source, begins, at)?,
                    _ => false,
                };
                if stays {
                    plan.keep(begins, at - begins)?;
                }
            }
            Some(_) => return refuse("GIF: only images and extensions may stand before the trailer"),
        }
    }
    require(frames > 0, "GIF: must hold an image")?;
    Ok(plan.done(Kind::Gif, Some(size)))
}

fn side(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

/// The length of the colour table that these flags tell of.
fn table_bytes(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where the chain of blocks that begins at `at` is over.
fn blocks_end<R: Read + Seek>(source: &mut Source<'_, R>, mut at: u64) -> Result<u64, Refusal> {
    loop {
        match source.array(at)? {
            None => return refuse(TRUNCATED),
            Some([0]) => return Ok(at + 1),
            Some([len]) => at += 1 + u64::from(len),
        }
    }
}

/// Of applications' extensions: how often an animation is repeated, and the colour profile.
fn is_needed<R: Read + Seek>(source: &mut Source<'_, R>, at: u64, end: u64) -> Result<bool, Refusal> {
    let Some([11, name @ ..]) = source.array::<12>(at + 2)? else { return Ok(false) };
    // Behind the name: a block of three bytes and the end.
    let repeats = end - at == 19 && matches!(source.array::<2>(at + 14)?, Some([3, 1]));
    Ok(match &name {
        b"NETSCAPE2.0" | b"ANIMEXTS1.0" => repeats,
        b"ICCRGBG1012" => true,
        _ => false,
    })
}
