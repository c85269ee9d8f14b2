//! BMP: a header, a palette, and rows where the header says.

use std::io::{Read, Seek};

use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require, sound_size};

/// The header of the file, before the image's own.
const FILE_HEADER: u64 = 14;
const LAST_VERSION: u32 = 124;
/// What rounds the file up.
const PADDING: u64 = 3;

const TRUNCATED: &str = "BMP: header, palette and rows must fit the file";

/// What the image's header tells.
struct Header {
    /// Its own length.
    len: u32,
    width: u32,
    height: u32,
    bits: u16,
    compression: u32,
    data_bytes: u32,
    colours: u32,
}

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let Some([_, _, told @ .., _, _, _, _, a, b, c, d]) = source.array::<14>(0)? else { return refuse(TRUNCATED) };
    let told: [u8; 4] = told;
    let told = u64::from(u32::from_le_bytes(told));
    let offset = u64::from(u32::from_le_bytes([a, b, c, d]));
    let header = header(source)?;
    let size = sound_size(header.width, header.height, 1)?;

    let palette = FILE_HEADER + u64::from(header.len) + masks_bytes(&header);
    let rows = palette + palette_bytes(&header)?;
    require(rows <= offset && offset < source.len(), TRUNCATED)?;
    let end = offset + data_bytes(&header)?;
    require(end <= source.len(), TRUNCATED)?;

    let profile = if header.len == LAST_VERSION { profile(source)? } else { Profile::None };
    let mut end = match profile {
        Profile::Embedded { end: after } => end.max(after),
        _ => end,
    };
    let spare = source.len() - end;
    if spare <= PADDING && source.is_zero(end, source.len())? {
        end = source.len();
    }

    let mut plan = Plan::default();
    plan.keep(0, 2)?;
    // Where something goes, the length that the header tells goes with it.
    let len = u32::try_from(end).map_err(|_| Refusal::Rule(TRUNCATED))?;
    if end < source.len() && told != end {
        plan.bytes(len.to_le_bytes().to_vec())?
    } else {
        plan.keep(2, 4)?
    }
    match profile {
        // The path of a file on the maker's machine: the image counts as sRGB.
        Profile::Linked => {
            plan.keep(6, 64)?;
            plan.bytes(b"BGRs".to_vec())?;
            plan.keep(74, 52)?;
            plan.zeros(8)?;
            plan.keep(134, rows - 134)?;
        }
        _ => plan.keep(6, rows - 6)?,
    }
    // Nothing has a place between palette and rows.
    if source.is_zero(rows, offset)? {
        plan.keep(rows, offset - rows)?
    } else {
        plan.zeros(offset - rows)?
    }
    plan.keep(offset, end - offset)?;
    Ok(plan.done(Kind::Bmp, Some(size)))
}

fn header<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Header, Refusal> {
    let Some(len) = source.array(FILE_HEADER)?.map(u32::from_le_bytes) else { return refuse(TRUNCATED) };
    require(matches!(len, 12 | 40 | 52 | 56 | 64 | 108 | 124), "BMP: the image's header must be of a known version")?;
    let Some(bytes) = source.bytes(FILE_HEADER, len as usize)? else { return refuse(TRUNCATED) };
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (planes, header) = if len == 12 {
        let (width, height, bits) = (u16_at(4).into(), u16_at(6).into(), u16_at(10));
        (u16_at(8), Header { len, width, height, bits, compression: 0, data_bytes: 0, colours: 0 })
    } else {
        // A negative height counts rows from the top.
        let height = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]).unsigned_abs();
        let (width, bits, compression) = (u32_at(4), u16_at(14), u32_at(16));
        (u16_at(12), Header { len, width, height, bits, compression, data_bytes: u32_at(20), colours: u32_at(32) })
    };
    require(planes == 1, "BMP: must have one plane")?;
    require(matches!(header.bits, 1 | 4 | 8 | 16 | 24 | 32), "BMP: pixels must have 1, 4, 8, 16, 24 or 32 bits")?;
    let is_known = match header.compression {
        0 => true,
        1 => header.bits == 8,
        2 => header.bits == 4,
        3 | 6 => matches!(header.bits, 16 | 32) && len != 64,
        _ => false,
    };
    require(is_known, "BMP: rows must be plain or run-length encoded")?;
    Ok(header)
}

/// Which bits are which colour; later versions have that in the header.
fn masks_bytes(header: &Header) -> u64 {
    match (header.len, header.compression) {
        (40, 3) => 12,
        (40, 6) => 16,
        _ => 0,
    }
}

fn palette_bytes(header: &Header) -> Result<u64, Refusal> {
    let entry = if header.len == 12 { 3 } else { 4 };
    let most = if header.bits <= 8 { 1 << header.bits } else { 256 };
    require(header.colours <= most, "BMP: at most 256 colours, and no more than the bits can name")?;
    let colours = if header.colours == 0 && header.bits <= 8 { most } else { header.colours };
    Ok(u64::from(colours) * entry)
}

fn data_bytes(header: &Header) -> Result<u64, Refusal> {
    if matches!(header.compression, 1 | 2) {
        require(header.data_bytes > 0, "BMP: run-length encoded rows must tell their length")?;
        return Ok(header.data_bytes.into());
    }
    let row = (u64::from(header.width) * u64::from(header.bits)).div_ceil(32) * 4;
    Ok(row * u64::from(header.height))
}

enum Profile {
    None,
    /// In the file, up to here.
    Embedded {
        end: u64,
    },
    /// Elsewhere on the maker's machine.
    Linked,
}

fn profile<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Profile, Refusal> {
    let Some(kind) = source.array::<4>(FILE_HEADER + 56)? else { return refuse(TRUNCATED) };
    let Some([a, b, c, d, len @ ..]) = source.array::<8>(FILE_HEADER + 112)? else { return refuse(TRUNCATED) };
    match &kind {
        b"KNIL" => Ok(Profile::Linked),
        b"DEBM" => {
            let end = FILE_HEADER + u64::from(u32::from_le_bytes([a, b, c, d])) + u64::from(u32::from_le_bytes(len));
            require(end <= source.len(), TRUNCATED)?;
            Ok(Profile::Embedded { end })
        }
        _ => Ok(Profile::None),
    }
}
