//! Is a file what it may be? Each type's structure is walked from its first byte to its last: name and claimed type
//! count for nothing. What a picture or film tells of its maker (EXIF, XMP, IPTC, comments) and what hides behind its
//! end is left out; a file without any of that stays as it is, byte for byte.
//!
//! Nothing is decoded, inflated or held: a check reads through a window of 64 KiB and answers which ranges to keep.

use std::io::{self, Read, Seek, SeekFrom, Write};

mod bmp;
mod exif;
mod gif;
mod jpeg;
mod mp4;
mod pdf;
mod png;
mod source;
mod txt;
mod webp;

use source::Source;

/// The largest width and height, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most pixels of all frames together.
pub const MAX_PIXELS: u64 = 50_000_000;
/// The most pieces: more metadata than this is no picture's.
const MAX_PIECES: usize = 2_000;
/// What is copied at once.
const COPY_BYTES: usize = 64 * 1024;

/// The types that may be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JPEG image.
    Jpeg,
    /// A PNG image, animated or not.
    Png,
    /// A GIF image.
    Gif,
    /// A WebP image.
    Webp,
    /// A Windows bitmap.
    Bmp,
    /// A PDF document.
    Pdf,
    /// An MP4 film.
    Mp4,
    /// Plain text in UTF-8.
    Txt,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::Gif, Self::Webp, Self::Bmp, Self::Pdf, Self::Mp4, Self::Txt];

    /// What it is served as.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Pdf => "application/pdf",
            Self::Mp4 => "video/mp4",
            Self::Txt => "text/plain; charset=utf-8",
        }
    }

    /// The type that is served as `content_type`.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.content_type() == content_type)
    }

    /// How a name of such a file may end, the usual way first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Self::Png => &["png", "apng"],
            Self::Gif => &["gif"],
            Self::Webp => &["webp"],
            Self::Bmp => &["bmp", "dib"],
            Self::Pdf => &["pdf"],
            Self::Mp4 => &["mp4", "m4v"],
            Self::Txt => &["txt", "log"],
        }
    }

    /// Whether a browser may show it in place: anything else is only ever downloaded.
    pub fn is_shown_inline(self) -> bool {
        self.is_image() || self == Self::Mp4
    }

    /// Whether it is a picture.
    pub fn is_image(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Gif | Self::Webp | Self::Bmp)
    }
}

/// A file that may be kept, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clean {
    /// What it is.
    pub kind: Kind,
    /// Width and height in pixels as it is shown, of pictures and films.
    pub size: Option<(u32, u32)>,
    /// What to keep, in order.
    pub pieces: Vec<Piece>,
}

/// A part of the file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the file as they are.
    Keep {
        /// Where they begin.
        at: u64,
        /// How many.
        len: u64,
    },
    /// A few bytes that stand for others.
    Bytes(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
}

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It breaks this rule.
    #[error("{0}")]
    Rule(&'static str),
    /// It could not be read.
    #[error("the file cannot be read")]
    Unreadable(#[from] io::Error),
}

impl Clean {
    /// Whether the file stays as it is.
    pub fn is_identical(&self, len: u64) -> bool {
        matches!(self.pieces.as_slice(), [Piece::Keep { at: 0, len: kept }] if *kept == len)
    }

    /// Writes what is kept of `file`.
    ///
    /// # Errors
    /// When one cannot be read or the other not be written.
    pub fn write(&self, file: &mut (impl Read + Seek), out: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        for piece in &self.pieces {
            let mut left = match piece {
                Piece::Keep { at, len } => {
                    file.seek(SeekFrom::Start(*at))?;
                    *len
                }
                Piece::Bytes(bytes) => {
                    out.write_all(bytes)?;
                    continue;
                }
                Piece::Zeros(len) => {
                    buffer.fill(0);
                    *len
                }
            };
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                if matches!(piece, Piece::Keep { .. }) {
                    file.read_exact(&mut buffer[..now])?;
                }
                out.write_all(&buffer[..now])?;
                left -= now as u64;
            }
        }
        Ok(())
    }
}

/// What of a file may be kept.
///
/// # Errors
/// The rule that it breaks.
pub fn check<R: Read + Seek>(file: &mut R) -> Result<Clean, Refusal> {
    let mut source = Source::new(file)?;
    let kind = kind_of(source.head(16)?);
    let clean = match kind {
        Kind::Jpeg => jpeg::check(&mut source),
        Kind::Png => png::check(&mut source),
        Kind::Gif => gif::check(&mut source),
        Kind::Webp => webp::check(&mut source),
        Kind::Bmp => bmp::check(&mut source),
        Kind::Pdf => pdf::check(&mut source),
        Kind::Mp4 => mp4::check(&mut source),
        Kind::Txt => txt::check(&mut source),
    };
    match clean {
        // Two letters begin many a text.
        Err(Refusal::Rule(rule)) if kind == Kind::Bmp => txt::check(&mut source).map_err(|_| Refusal::Rule(rule)),
        clean => clean,
    }
}

/// What the first bytes promise. What promises nothing can only be text.
fn kind_of(head: &[u8]) -> Kind {
    match head {
        [0xff, 0xd8, 0xff, ..] => Kind::Jpeg,
        [0x89, b'P', b'N', b'G', ..] => Kind::Png,
        [b'G', b'I', b'F', b'8', ..] => Kind::Gif,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Kind::Webp,
        [b'B', b'M', ..] => Kind::Bmp,
        [b'%', b'P', b'D', b'F', b'-', ..] => Kind::Pdf,
        [0, _, _, _, b'f', b't', b'y', b'p', ..] => Kind::Mp4,
        _ => Kind::Txt,
    }
}

/// The pieces of a file, put together from its beginning.
#[derive(Debug, Default)]
struct Plan {
    pieces: Vec<Piece>,
}

impl Plan {
    fn keep(&mut self, at: u64, len: u64) -> Result<(), Refusal> {
        match self.pieces.last_mut() {
            _ if len == 0 => Ok(()),
            Some(Piece::Keep { at: before, len: kept }) if *before + *kept == at => {
                *kept += len;
                Ok(())
            }
            _ => self.push(Piece::Keep { at, len }),
        }
    }

    fn bytes(&mut self, bytes: Vec<u8>) -> Result<(), Refusal> {
        self.push(Piece::Bytes(bytes))
    }

    fn zeros(&mut self, len: u64) -> Result<(), Refusal> {
        if len == 0 { Ok(()) } else { self.push(Piece::Zeros(len)) }
    }

    fn push(&mut self, piece: Piece) -> Result<(), Refusal> {
        if self.pieces.len() >= MAX_PIECES {
            return refuse("the file must not be made of metadata");
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn len(&self) -> u64 {
        let len = |piece: &Piece| match piece {
            Piece::Keep { len, .. } | Piece::Zeros(len) => *len,
            Piece::Bytes(bytes) => bytes.len() as u64,
        };
        self.pieces.iter().map(len).sum()
    }

    fn done(self, kind: Kind, size: Option<(u32, u32)>) -> Clean {
        Clean { kind, size, pieces: self.pieces }
    }
}

fn refuse<T>(rule: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Rule(rule))
}

fn require(holds: bool, rule: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(rule) }
}

/// A picture of nothing, or one that fills the memory of whoever shows it, is refused.
fn sound_size(width: u32, height: u32, frames: u64) -> Result<(u32, u32), Refusal> {
    require(width > 0 && height > 0, "an image must be 1 pixel wide and high or more")?;
    require(width <= MAX_SIDE && height <= MAX_SIDE, "an image must be at most 16384 pixels wide and high")?;
    let pixels = u64::from(width) * u64::from(height) * frames.max(1);
    require(pixels <= MAX_PIXELS, "an image must have at most 50 million pixels, all frames counted")?;
    Ok((width, height))
}

/// The size as it is shown: orientations 5 to 8 lie on their side.
fn turned((width, height): (u32, u32), orientation: Option<u8>) -> (u32, u32) {
    if orientation.is_some_and(|turn| turn >= 5) { (height, width) } else { (width, height) }
}

#[cfg(test)]
mod tests;
