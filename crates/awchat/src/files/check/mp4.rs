//! MP4: boxes that cover the file. What tells of the maker becomes free space where it stands, for the film's data is
//! found by its place in the file.

use std::io::{Read, Seek};

use super::source::Source;
use super::{Clean, Kind, Plan, Refusal, refuse, require, sound_size};

const MAX_BOXES: u32 = 10_000;
const MAX_DEPTH: u32 = 8;

const BRANDS: [&[u8; 4]; 15] = [
    b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9", b"mp41", b"mp42", b"avc1",
    b"M4V ", b"dash", b"MSNV",
];
/// Pictures and Apple's own films, whatever else they claim to be.
const FOREIGN: [&[u8; 4]; 8] = [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"qt  "];
/// Sound alone.
const AUDIO: [&[u8; 4]; 3] = [b"M4A ", b"M4B ", b"M4P "];

const TRUNCATED: &str = "MP4: the boxes must cover the file exactly";

/// A box: the word itself is Rust's.
#[derive(Clone, Copy)]
struct Atom {
    kind: [u8; 4],
    at: u64,
    /// Where its content begins.
    content: u64,
    end: u64,
}

/// What has been seen of a film.
#[derive(Default)]
struct Film {
    boxes: u32,
    movies: u32,
    has_data: bool,
    track: Track,
    size: Option<(u32, u32)>,
}

/// What has been seen of the track that is being walked.
#[derive(Default)]
struct Track {
    is_video: bool,
    shown: Option<(u32, u32)>,
    coded: Option<(u32, u32)>,
}

pub(super) fn check<R: Read + Seek>(source: &mut Source<'_, R>) -> Result<Clean, Refusal> {
    let first = atom(source, 0, source.len(), false)?;
    brands(source, first)?;
    let mut plan = Plan::default();
    let mut film = Film { boxes: 1, ..Film::default() };
    plan.keep(0, first.end)?;
    walk(source, &mut plan, &mut film, (first.end, source.len()), 1)?;
    require(film.movies == 1, "MP4: must have one box moov")?;
    require(film.has_data, "MP4: must hold the film's data")?;
    let size = film.size.ok_or(Refusal::Rule("MP4: must have a track of pictures, with its size"))?;
    Ok(plan.done(Kind::Mp4, Some(size)))
}

/// The box at `at`, which must be over by `end`; `may_be_open`: it may be the file's last.
fn atom<R: Read + Seek>(source: &mut Source<'_, R>, at: u64, end: u64, may_be_open: bool) -> Result<Atom, Refusal> {
    let Some([a, b, c, d, kind @ ..]) = source.array::<8>(at)? else { return refuse(TRUNCATED) };
    let (header, size) = match u32::from_be_bytes([a, b, c, d]) {
        // It goes on to the end, which only the last one of the file can.
        0 if may_be_open => (8, end - at),
        1 => match source.array(at + 8)? {
            Some(size) => (16, u64::from_be_bytes(size)),
            None => return refuse(TRUNCATED),
        },
        size => (8, size.into()),
    };
    let over = at.checked_add(size).filter(|over| size >= header && *over <= end);
    Ok(Atom { kind, at, content: at + header, end: over.ok_or(Refusal::Rule(TRUNCATED))? })
}

fn brands<R: Read + Seek>(source: &mut Source<'_, R>, first: Atom) -> Result<(), Refusal> {
    let len = first.end - first.at;
    let sound = &first.kind == b"ftyp" && (16..=256).contains(&len) && len.is_multiple_of(4) && first.content == 8;
    require(sound, "MP4: must begin with a box ftyp of 16 to 256 bytes")?;
    let Some(bytes) = source.bytes(8, usize::try_from(len - 8).unwrap_or(0))? else { return refuse(TRUNCATED) };
    let words: Vec<&[u8]> = bytes.chunks_exact(4).collect();
    let is_one_of = |list: &[&[u8; 4]], brand: &[u8]| list.iter().any(|known| known.as_slice() == brand);
    // The second word is the first's version.
    let (major, compatible) = (words[0], &words[2..]);
    let all = || compatible.iter().copied().chain([major]);
    require(!all().any(|brand| is_one_of(&FOREIGN, brand)), "MP4: must not be HEIC, AVIF or QuickTime")?;
    require(!is_one_of(&AUDIO, major), "MP4: must not be sound alone")?;
    require(all().any(|brand| is_one_of(&BRANDS, brand)), "MP4: must be of a known brand")
}

fn walk<R: Read + Seek>(
    source: &mut Source<'_, R>,
    plan: &mut Plan,
    film: &mut Film,
    (mut at, end): (u64, u64),
    depth: u32,
) -> Result<(), Refusal> {
    require(depth <= MAX_DEPTH, "MP4: boxes must not lie deeper than 8")?;
    while at < end {
        let atom = atom(source, at, end, depth == 1)?;
        at = atom.end;
        film.boxes += 1;
        require(film.boxes <= MAX_BOXES, "MP4: at most 10,000 boxes")?;
        match &atom.kind {
            b"ftyp" => return refuse("MP4: must have one box ftyp"),
            // Free space, and what tells of the maker, of the place, of anything that is no film.
            b"free" | b"skip" | b"wide" => blank(source, plan, atom)?,
            b"udta" | b"meta" if is_hollow(source, atom, depth)? => plan.keep(atom.at, atom.end - atom.at)?,
            b"udta" | b"meta" | [b'u', b'u', b'i', b'd'] | b"loci" | b"XMP_" | [0xa9, ..] => free(plan, atom)?,
            b"moov" | b"moof" | b"mdat" | b"mfra" | b"sidx" | b"ssix" | b"styp" | b"pdin" | b"prft" if depth == 1 => {
                film.movies += u32::from(&atom.kind == b"moov");
                film.has_data |= &atom.kind == b"mdat" && atom.end > atom.content;
                match &atom.kind {
                    b"moov" | b"moof" | b"mfra" => into(source, plan, film, atom, depth)?,
                    _ => plan.keep(atom.at, atom.end - atom.at)?,
                }
            }
            _ if depth == 1 => free(plan, atom)?,
            b"trak" => {
                film.track = Track::default();
                into(source, plan, film, atom, depth)?;
                film.tracked()?;
            }
            b"edts" | b"mdia" | b"minf" | b"dinf" | b"stbl" | b"mvex" | b"traf" => {
                into(source, plan, film, atom, depth)?;
            }
            kind => {
                match kind {
                    b"hdlr" => film.track.is_video |= source.array(atom.content + 8)? == Some(*b"vide"),
                    b"tkhd" => film.track.shown = shown(source, atom)?,
                    b"stsd" => film.track.coded = coded(source, atom)?,
                    b"dref" => within(source, atom)?,
                    _ => {}
                }
                plan.keep(atom.at, atom.end - atom.at)?;
            }
        }
    }
    Ok(())
}

fn into<R: Read + Seek>(
    source: &mut Source<'_, R>,
    plan: &mut Plan,
    film: &mut Film,
    atom: Atom,
    depth: u32,
) -> Result<(), Refusal> {
    plan.keep(atom.at, atom.content - atom.at)?;
    walk(source, plan, film, (atom.content, atom.end), depth + 1)
}

impl Film {
    /// A track is over.
    fn tracked(&mut self) -> Result<(), Refusal> {
        let Track { is_video: true, shown, coded } = self.track else { return Ok(()) };
        let Some(coded) = coded else { return Ok(()) };
        sound_size(coded.0, coded.1, 1)?;
        let shown = shown.filter(|(width, height)| *width > 0 && *height > 0).unwrap_or(coded);
        let shown = sound_size(shown.0, shown.1, 1)?;
        self.size.get_or_insert(shown);
        Ok(())
    }
}

/// Makes free space of a box; one that has no room for the word keeps what it has.
fn free(plan: &mut Plan, atom: Atom) -> Result<(), Refusal> {
    plan.keep(atom.at, 4)?;
    plan.bytes(b"free".to_vec())?;
    plan.keep(atom.at + 8, atom.content - atom.at - 8)?;
    plan.zeros(atom.end - atom.content)
}

/// Whether a box for metadata has none in it: some makers leave it empty.
fn is_hollow<R: Read + Seek>(source: &mut Source<'_, R>, atom: Atom, depth: u32) -> Result<bool, Refusal> {
    let mut at = match &atom.kind {
        _ if depth > MAX_DEPTH => return Ok(false),
        b"udta" => atom.content,
        b"meta" if atom.end - atom.content >= 4 => atom.content + 4,
        b"ilst" => return Ok(atom.content == atom.end),
        // Behind the kind and the maker of the handler: its name.
        b"hdlr" => return Ok(source.is_zero((atom.content + 16).min(atom.end), atom.end)?),
        _ => return Ok(false),
    };
    while at < atom.end {
        let Some([a, b, c, d, kind @ ..]) = source.array::<8>(at)? else { return Ok(false) };
        let end = at + u64::from(u32::from_be_bytes([a, b, c, d]));
        let inside = Atom { kind, at, content: at + 8, end };
        if end < inside.content || end > atom.end || !is_hollow(source, inside, depth + 1)? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// Free space stays, what somebody wrote there goes.
fn blank<R: Read + Seek>(source: &mut Source<'_, R>, plan: &mut Plan, atom: Atom) -> Result<(), Refusal> {
    if source.is_zero(atom.content, atom.end)? {
        return plan.keep(atom.at, atom.end - atom.at);
    }
    plan.keep(atom.at, atom.content - atom.at)?;
    plan.zeros(atom.end - atom.content)
}

/// The size that a track is shown in, from its header.
fn shown<R: Read + Seek>(source: &mut Source<'_, R>, atom: Atom) -> Result<Option<(u32, u32)>, Refusal> {
    let Some([version]) = source.array(atom.content)? else { return Ok(None) };
    let matrix = atom.content + if version == 1 { 52 } else { 40 };
    if matrix + 44 > atom.end {
        return refuse("MP4: a track's header must be whole");
    }
    let Some(bytes) = source.array::<44>(matrix)? else { return Ok(None) };
    let side = |at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    // Turned by a quarter: what went to the right goes down.
    let is_turned = bytes[..4] == [0; 4] && bytes[4..8] != [0; 4];
    let (width, height) = (side(36), side(40));
    Ok(Some(if is_turned { (height, width) } else { (width, height) }))
}

/// The size of the pictures as they are coded, from their description.
fn coded<R: Read + Seek>(source: &mut Source<'_, R>, atom: Atom) -> Result<Option<(u32, u32)>, Refusal> {
    let entry = atom.content + 8;
    if entry + 36 > atom.end {
        return Ok(None);
    }
    let Some([w, wide, h, high]) = source.array::<4>(entry + 32)? else { return Ok(None) };
    Ok(Some((u32::from(u16::from_be_bytes([w, wide])), u32::from(u16::from_be_bytes([h, high])))))
}

/// The film's data must be in the file: a player would fetch them from elsewhere.
fn within<R: Read + Seek>(source: &mut Source<'_, R>, atom: Atom) -> Result<(), Refusal> {
    const RULE: &str = "MP4: the film's data must be in the file itself";
    let (mut at, mut entries) = (atom.content + 8, 0_u32);
    while at < atom.end {
        let Some([a, b, c, d, kind @ .., _, _, _, flag]) = source.array::<12>(at)? else { return refuse(TRUNCATED) };
        let kind: [u8; 4] = kind;
        let size = u32::from_be_bytes([a, b, c, d]);
        entries += 1;
        require(entries <= 64 && size >= 12 && matches!(&kind, b"url " | b"urn ") && flag & 1 == 1, RULE)?;
        at += u64::from(size);
    }
    require(at == atom.end, RULE)
}
