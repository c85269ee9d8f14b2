//! WebP: the chunks of a RIFF file that ends where it says.

use std::io::{Read, Seek};

use super::exif::{self, Fate};
use super::source::Source;
use super::{Clean, Kind, Piece, Plan, Refusal, refuse, require, sound_size, turned};

const MAX_FRAMES: u64 = 500;
/// What is looked at of an EXIF.
const EXIF_BYTES: u64 = 60 * 1024;
/// The flags of VP8X that tell of EXIF and XMP.
const EXIF_FLAG: u8 = 0x08;
const XMP_FLAG: u8 = 0x04;
const ANIMATION_FLAG: u8 = 0x02;

const TRUNCATED: &str = "WEBP: every chunk must be whole";
const NO_IMAGE: &str = "WEBP: must hold one image, or the frames of an animation";

#[derive(Clone, Copy)]
struct Chunk {
    kind: [u8; 4],
    at: u64,
    /// Of its content, without the byte that may fill it up.
    len: u64,
}

impl Chunk {
    fn content(&self) -> u64 {
        self.at + 8
    }

    fn end(&self) -> u64 {
        self.content() + self.len + self.len % 2
    }
}

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let told = source.array(4)?.map(u32::from_le_bytes);
    require(told.map(|told| u64::from(told) + 8) == Some(source.len()), "WEBP: RIFF's size must be the file's")?;
    let first = chunk(source, 12, source.len())?;
    let (size, pieces) = match &first.kind {
        b"VP8X" => extended(source, first)?,
        b"VP8 " | b"VP8L" => {
            let size = image(source, first)?;
            let mut plan = Plan::default();
            plan.keep(12, first.end() - 12)?;
            every_chunk(source, first.end())?;
            (size, plan)
        }
        _ => return refuse("WEBP: the first chunk must be VP8, VP8L or VP8X"),
    };
    let mut plan = Plan::default();
    if pieces.len() == source.len() - 12 {
        plan.keep(0, 12)?;
    } else {
        let riff = u32::try_from(pieces.len() + 4).map_err(|_| Refusal::Rule(TRUNCATED))?;
        plan.bytes([b"RIFF", riff.to_le_bytes().as_slice(), b"WEBP"].concat())?;
    }
    for piece in pieces.pieces {
        match piece {
            Piece::Keep { at, len } => plan.keep(at, len)?,
            other => plan.push(other)?,
        }
    }
    Ok(plan.done(Kind::Webp, Some(size)))
}

fn chunk<R: Read + Seek>(source: &mut Source<'_, R>, at: u64, end: u64) -> Result<Chunk, Refusal> {
    let Some([kind @ .., a, b, c, d]) = source.array::<8>(at)? else { return refuse(TRUNCATED) };
    let chunk = Chunk { kind, at, len: u64::from(u32::from_le_bytes([a, b, c, d])) };
    require(chunk.end() <= end, TRUNCATED)?;
    Ok(chunk)
}

/// What follows must be chunks, whatever they are.
fn every_chunk<R: Read + Seek>(source: &mut Source<'_, R>, mut at: u64) -> Result<(), Refusal> {
    while at < source.len() {
        at = chunk(source, at, source.len())?.end();
    }
    Ok(())
}

/// The size that an image's own header tells.
fn image<R: Read + Seek>(source: &mut Source<'_, R>, chunk: Chunk) -> Result<(u32, u32), Refusal> {
    if &chunk.kind == b"VP8L" {
        let Some([0x2f, a, b, c, d]) = source.array::<5>(chunk.content())?.filter(|_| chunk.len >= 5) else {
            return refuse("WEBP: VP8L must begin with its signature");
        };
        let bits = u32::from_le_bytes([a, b, c, d]);
        require(bits >> 29 == 0, "WEBP: VP8L must be version 0")?;
        return sound_size((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, 1);
    }
    let Some(header) = source.array::<10>(chunk.content())?.filter(|_| chunk.len >= 10) else {
        return refuse(TRUNCATED);
    };
    let [tag, _, _, 0x9d, 0x01, 0x2a, w, wide, h, high] = header else {
        return refuse("WEBP: VP8 must begin with a key frame");
    };
    require(tag & 1 == 0, "WEBP: VP8 must begin with a key frame")?;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    sound_size(side(w, wide), side(h, high), 1)
}

/// A file with more than the image: profile, transparency, animation, metadata.
fn extended<R: Read + Seek>(source: &mut Source<'_, R>, first: Chunk) -> Result<((u32, u32), Plan), Refusal> {
    let Some(header) = source.array::<10>(first.content())?.filter(|_| first.len == 10) else {
        return refuse("WEBP: VP8X must have 10 bytes");
    };
    let flags = header[0];
    let side = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]) + 1;
    let size = sound_size(side(4), side(7), 1)?;
    let is_animated = flags & ANIMATION_FLAG != 0;

    let mut plan = Plan::default();
    let (mut at, mut images, mut frames) = (first.end(), 0_u64, 0_u64);
    let (mut orientation, mut has_exif) = (None, false);
    while at < source.len() {
        let chunk = chunk(source, at, source.len())?;
        at = chunk.end();
        match &chunk.kind {
            b"ICCP" | b"ANIM" | b"ALPH" => {}
            b"VP8 " | b"VP8L" => {
                require(image(source, chunk)? == size, "WEBP: the image must have the size that VP8X tells")?;
                images += 1;
            }
            b"ANMF" => {
                frame(source, chunk, size)?;
                frames += 1;
                require(frames <= MAX_FRAMES, "WEBP: at most 500 frames")?;
            }
            b"EXIF" if !has_exif => {
                let (fate, turn) = metadata(source, chunk)?;
                orientation = turn;
                has_exif = fate != Fate::Go;
                match fate {
                    Fate::Stay => plan.keep(chunk.at, chunk.end() - chunk.at)?,
                    Fate::Shrink(least) => plan.bytes([b"EXIF\x1a\0\0\0", least.as_slice()].concat())?,
                    Fate::Go => {}
                }
                continue;
            }
            // XMP, and what nobody knows.
            _ => continue,
        }
        plan.keep(chunk.at, chunk.end() - chunk.at)?;
    }
    require((images, frames > 0) == if is_animated { (0, true) } else { (1, false) }, NO_IMAGE)?;
    sound_size(size.0, size.1, frames)?;

    let cleaned = flags & !(EXIF_FLAG | XMP_FLAG) | if has_exif { EXIF_FLAG } else { 0 };
    let mut whole = Plan::default();
    if cleaned == flags {
        whole.keep(first.at, first.end() - first.at)?;
    } else {
        whole.bytes([b"VP8X\x0a\0\0\0", [cleaned].as_slice(), &header[1..]].concat())?;
    }
    for piece in plan.pieces {
        match piece {
            Piece::Keep { at, len } => whole.keep(at, len)?,
            other => whole.push(other)?,
        }
    }
    Ok((turned(size, orientation), whole))
}

fn metadata<R: Read + Seek>(source: &mut Source<'_, R>, chunk: Chunk) -> Result<(Fate, Option<u8>), Refusal> {
    let len = usize::try_from(chunk.len.min(EXIF_BYTES)).map_err(|_| Refusal::Rule(TRUNCATED))?;
    let Some(tiff) = source.bytes(chunk.content(), len)? else { return refuse(TRUNCATED) };
    // Some write it as JPEG does.
    match tiff.strip_prefix(b"Exif\0\0") {
        Some(tiff) => Ok(exif::fate(tiff, u64::MAX)),
        None => Ok(exif::fate(tiff, chunk.len)),
    }
}

/// A frame's place, and the one image in it.
fn frame<R: Read + Seek>(source: &mut Source<'_, R>, frame: Chunk, canvas: (u32, u32)) -> Result<(), Refusal> {
    let Some(header) = source.array::<16>(frame.content())?.filter(|_| frame.len >= 16) else {
        return refuse(TRUNCATED);
    };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]);
    let (width, height) = (number(6) + 1, number(9) + 1);
    let fits = 2 * number(0) + width <= canvas.0 && 2 * number(3) + height <= canvas.1;
    require(fits, "WEBP: every frame must lie within the canvas")?;
    let end = frame.content() + frame.len;
    let (mut at, mut images) = (frame.content() + 16, 0);
    while at < end {
        let part = chunk(source, at, end)?;
        at = part.end();
        match &part.kind {
            b"ALPH" => {}
            b"VP8 " | b"VP8L" => {
                require(image(source, part)? == (width, height), "WEBP: a frame's image must have the frame's size")?;
                images += 1;
            }
            _ => return refuse("WEBP: a frame must hold nothing but its image"),
        }
    }
    require(images == 1, NO_IMAGE)
}
