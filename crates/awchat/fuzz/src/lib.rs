//! What the fuzzers of files have in common.

use std::io::Cursor;

use awchat::files::check::{Kind, MAX_PIXELS, MAX_SIDE, check};
use libfuzzer_sys::Corpus;

/// Bytes that begin as a file of this kind does: an answer, and what is kept of them is kept again as it is.
pub fn file(kind: Kind, bytes: &[u8]) -> Corpus {
    let mut bytes = bytes.to_vec();
    begin(kind, &mut bytes);
    let Some((size, kept)) = cleaned(kind, bytes.clone()) else { return Corpus::Keep };
    let (again, same) = cleaned(kind, kept.clone()).expect("what was clean once is clean");
    assert!(same == kept, "once is enough");
    assert_eq!(again, size);
    assert!(kept.len() <= bytes.len(), "it grew");
    if let Some((width, height)) = size {
        assert!(width <= MAX_SIDE && height <= MAX_SIDE && u64::from(width) * u64::from(height) <= MAX_PIXELS);
    }
    Corpus::Keep
}

type Size = Option<(u32, u32)>;

fn cleaned(kind: Kind, bytes: Vec<u8>) -> Option<(Size, Vec<u8>)> {
    let mut file = Cursor::new(bytes);
    let clean = check(&mut file).ok()?;
    assert!(clean.kind == kind || clean.kind == Kind::Txt, "{:?}", clean.kind);
    let mut kept = Vec::new();
    clean.write(&mut file, &mut kept).expect("what was checked can be read");
    Some((clean.size, kept))
}

/// Most bytes begin like nothing, and most checksums are wrong: the fuzzer need not find out both.
fn begin(kind: Kind, bytes: &mut [u8]) {
    let (at, start): (usize, &[u8]) = match kind {
        Kind::Jpeg => (0, b"\xff\xd8\xff"),
        Kind::Png => (0, b"\x89PNG\r\n\x1a\n"),
        Kind::Gif => (0, b"GIF89a"),
        Kind::Webp => (8, b"WEBP"),
        Kind::Bmp => (0, b"BM"),
        Kind::Pdf => (0, b"%PDF-1.7"),
        Kind::Mp4 => (4, b"ftyp"),
        Kind::Txt => (0, b""),
    };
    if let Some(place) = bytes.get_mut(at..at + start.len()) {
        place.copy_from_slice(start);
    }
    match kind {
        Kind::Webp if bytes.len() >= 8 => {
            bytes[..4].copy_from_slice(b"RIFF");
            let len = u32::try_from(bytes.len() - 8).expect("a small file");
            bytes[4..8].copy_from_slice(&len.to_le_bytes());
        }
        Kind::Mp4 if bytes.len() >= 4 => bytes[0] = 0,
        Kind::Png => repair(bytes),
        _ => {}
    }
}

fn repair(png: &mut [u8]) {
    let mut at = 8;
    while let Some([a, b, c, d]) = png.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if end + 4 > png.len() {
            break;
        }
        let sum = crc32fast::hash(&png[at + 4..end]).to_be_bytes();
        png[end..end + 4].copy_from_slice(&sum);
        at = end + 4;
    }
}
