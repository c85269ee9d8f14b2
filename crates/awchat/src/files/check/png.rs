//! PNG: chunks with their checksums, up to the end of the image.

use std::io::{Read, Seek};

use super::exif::{self, Fate};
use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require, sound_size, turned};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const MAX_FRAMES: u32 = 200;
/// What is looked at of an EXIF.
const EXIF_BYTES: u64 = 60 * 1024;

const TRUNCATED: &str = "PNG: every chunk must be whole, and the last must be IEND";

/// Where a chunk stands and what it is.
struct Chunk {
    kind: [u8; 4],
    /// Where its length stands.
    at: u64,
    /// Of its content.
    len: u64,
}

impl Chunk {
    fn content(&self) -> u64 {
        self.at + 8
    }

    fn end(&self) -> u64 {
        self.at + 12 + self.len
    }
}

/// What has been seen of an image.
#[derive(Default)]
struct Seen {
    size: Option<(u32, u32)>,
    orientation: Option<u8>,
    palette: bool,
    data: Data,
    frames: u32,
    told_frames: Option<u32>,
}

#[derive(Default, PartialEq)]
enum Data {
    #[default]
    Before,
    Within,
    After,
}

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    require(source.head(8)? == SIGNATURE, "PNG: must begin with the eight bytes of its signature")?;
    let mut plan = Plan::default();
    plan.keep(0, 8)?;
    let mut seen = Seen::default();
    let mut at = 8;
    loop {
        let chunk = chunk(source, at)?;
        require((at == 8) == (&chunk.kind == b"IHDR"), "PNG: IHDR must be the first chunk, and come once")?;
        let first_or_within = seen.data != Data::After;
        match &chunk.kind {
            b"IDAT" => {
                require(first_or_within, "PNG: the chunks of image data must follow one another")?;
                seen.data = Data::Within;
            }
            _ if seen.data == Data::Within => seen.data = Data::After,
            _ => {}
        }
        at = chunk.end();
        take(source, &mut plan, &mut seen, &chunk)?;
        if &chunk.kind == b"IEND" {
            break;
        }
    }
    require(seen.data != Data::Before, "PNG: must hold image data")?;
    let size = seen.size.ok_or(Refusal::Rule(TRUNCATED))?;
    let frames = u64::from(seen.frames.max(seen.told_frames.unwrap_or(0)));
    let size = sound_size(size.0, size.1, frames)?;
    Ok(plan.done(Kind::Png, Some(turned(size, seen.orientation))))
}

/// The chunk at `at`, its checksum verified.
fn chunk<R: Read + Seek>(source: &mut Source<'_, R>, at: u64) -> Result<Chunk, Refusal> {
    let Some([a, b, c, d, kind @ ..]) = source.array::<8>(at)? else { return refuse(TRUNCATED) };
    let len = u64::from(u32::from_be_bytes([a, b, c, d]));
    require(kind.iter().all(u8::is_ascii_alphabetic), "PNG: a chunk's type must be four letters")?;
    let chunk = Chunk { kind, at, len };
    require(len < 1 << 31 && chunk.end() <= source.len(), TRUNCATED)?;
    let mut crc = crc32fast::Hasher::new();
    let (mut from, end) = (at + 4, chunk.end() - 4);
    while from < end {
        let rest = source.rest(from)?;
        let part = &rest[..rest.len().min(usize::try_from(end - from).unwrap_or(usize::MAX))];
        if part.is_empty() {
            return refuse(TRUNCATED);
        }
        crc.update(part);
        from += part.len() as u64;
    }
    let told = source.array(end)?.map(u32::from_be_bytes);
    require(told == Some(crc.finalize()), "PNG: every chunk's checksum must hold")?;
    Ok(chunk)
}

fn take<R: Read + Seek>(
    source: &mut Source<'_, R>,
    plan: &mut Plan,
    seen: &mut Seen,
    chunk: &Chunk,
) -> Result<(), Refusal> {
    match &chunk.kind {
        b"IHDR" => seen.size = Some(header(source, chunk)?),
        b"PLTE" => {
            let fits = chunk.len.is_multiple_of(3) && (3..=768).contains(&chunk.len) && !seen.palette;
            require(fits && seen.data == Data::Before, "PNG: one palette of 1 to 256 colours, before the image data")?;
            seen.palette = true;
        }
        b"IEND" => require(chunk.len == 0, "PNG: IEND must be empty")?,
        b"IDAT" => {}
        b"acTL" => {
            let told = source.array(chunk.content())?.map(u32::from_be_bytes);
            require(chunk.len == 8 && seen.told_frames.is_none(), "PNG: an animation must be described once")?;
            require(told.is_some_and(|frames| (1..=MAX_FRAMES).contains(&frames)), "PNG: at most 200 frames")?;
            seen.told_frames = told;
        }
        b"fcTL" => {
            seen.frames += 1;
            require(seen.frames <= MAX_FRAMES, "PNG: at most 200 frames")?;
            frame(source, chunk, seen.size)?;
        }
        b"eXIf" => {
            let len = usize::try_from(chunk.len.min(EXIF_BYTES)).map_err(|_| Refusal::Rule(TRUNCATED))?;
            let Some(tiff) = source.bytes(chunk.content(), len)? else { return refuse(TRUNCATED) };
            let (fate, turn) = exif::fate(tiff, chunk.len);
            seen.orientation = seen.orientation.or(turn);
            return match fate {
                Fate::Stay => plan.keep(chunk.at, chunk.end() - chunk.at),
                Fate::Shrink(least) => plan.bytes(written(*b"eXIf", &least)),
                Fate::Go => Ok(()),
            };
        }
        // How colours are meant, transparency, and the frames of an animation.
        b"tRNS" | b"cHRM" | b"gAMA" | b"iCCP" | b"sBIT" | b"sRGB" | b"cICP" | b"mDCV" | b"cLLI" | b"bKGD" | b"hIST"
        | b"pHYs" | b"sPLT" | b"fdAT" => {}
        // Texts, times, and what nobody knows: a capital letter says that the image cannot be shown without it.
        [first, ..] if first.is_ascii_uppercase() => {
            return refuse("PNG: must have no critical chunks of unknown kind");
        }
        _ => return Ok(()),
    }
    plan.keep(chunk.at, chunk.end() - chunk.at)
}

fn header<R: Read + Seek>(source: &mut Source<'_, R>, chunk: &Chunk) -> Result<(u32, u32), Refusal> {
    require(chunk.len == 13, "PNG: IHDR must have 13 bytes")?;
    let Some(header) = source.array::<13>(chunk.content())? else { return refuse(TRUNCATED) };
    let [a, b, c, d, e, f, g, h, depth, colour, compression, filter, interlace] = header;
    let is_known = match colour {
        0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
        3 => matches!(depth, 1 | 2 | 4 | 8),
        2 | 4 | 6 => matches!(depth, 8 | 16),
        _ => false,
    };
    require(is_known, "PNG: colour type and bit depth must be a known pair")?;
    require(
        (compression, filter, interlace <= 1) == (0, 0, true),
        "PNG: compression, filter, interlace must be known",
    )?;
    sound_size(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]), 1)
}

/// A frame must lie within the image.
fn frame<R: Read + Seek>(source: &mut Source<'_, R>, chunk: &Chunk, image: Option<(u32, u32)>) -> Result<(), Refusal> {
    const RULE: &str = "PNG: every frame must lie within the image";
    let (Some(bytes), Some(image), 26) = (source.array::<20>(chunk.content())?, image, chunk.len) else {
        return refuse(RULE);
    };
    let number = |at: usize| u64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    let (width, height) = (number(4), number(8));
    let fits = number(12) + width <= u64::from(image.0) && number(16) + height <= u64::from(image.1);
    require(width > 0 && height > 0 && fits, RULE)
}

/// A chunk as it stands in a file.
fn written(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&kind);
    crc.update(content);
    let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), kind.as_slice(), content, &crc.finalize().to_be_bytes()].concat()
}
