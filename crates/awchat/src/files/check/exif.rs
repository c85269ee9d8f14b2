//! Of EXIF only which way is up.

/// The length of the least EXIF that tells an orientation.
const LEAST_BYTES: usize = 26;
/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// What becomes of a file's EXIF.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It tells which way is up, and nothing else.
    Stay,
    /// It goes, and this least one comes in its place.
    Shrink([u8; LEAST_BYTES]),
    /// It goes.
    Go,
}

/// What becomes of an EXIF of `len` bytes that begins with `tiff`, and which way the picture is up, 1 to 8.
pub(super) fn fate(tiff: &[u8], len: u64) -> (Fate, Option<u8>) {
    let Some(orientation) = orientation(tiff) else { return (Fate::Go, None) };
    let least = [least(orientation, false), least(orientation, true)];
    if len == LEAST_BYTES as u64 && least.iter().any(|least| least == tiff) {
        return (Fate::Stay, Some(orientation));
    }
    match orientation {
        1 => (Fate::Go, None),
        turn => (Fate::Shrink(least[0]), Some(turn)),
    }
}

/// The orientation that the first directory tells, 1 to 8.
fn orientation(tiff: &[u8]) -> Option<u8> {
    let big = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let offset: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
    let directory = if big { u32::from_be_bytes(offset) } else { u32::from_le_bytes(offset) } as usize;
    let entries = usize::from(u16_at(directory)?);
    let is_it = |entry: &usize| u16_at(*entry) == Some(ORIENTATION) && u16_at(entry + 2) == Some(3);
    let entry = (0..entries).map(|n| directory + 2 + 12 * n).find(is_it)?;
    u16_at(entry + 8).and_then(|turn| u8::try_from(turn).ok()).filter(|turn| (1..=8).contains(turn))
}

/// A TIFF header and one directory with one entry.
fn least(orientation: u8, big: bool) -> [u8; LEAST_BYTES] {
    let mut tiff = [0; LEAST_BYTES];
    let mut put = |at: usize, bytes: &[u8]| tiff[at..at + bytes.len()].copy_from_slice(bytes);
    let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    put(0, if big { b"MM\0*" } else { b"II*\0" });
    let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    put(4, &long(8));
    put(8, &short(1));
    put(10, &short(ORIENTATION));
    put(12, &short(3));
    put(14, &long(1));
    put(18, &short(u16::from(orientation)));
    tiff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_exif_stays_and_a_longer_one_shrinks_to_it() {
        for big in [false, true] {
            for turn in 1..=8 {
                let tiff = least(turn, big);
                assert_eq!(fate(&tiff, 26), (Fate::Stay, Some(turn)));
                let mut longer = tiff.to_vec();
                longer.extend_from_slice(b"51 N 7 E");
                let expected = match turn {
                    1 => (Fate::Go, None),
                    turn => (Fate::Shrink(least(turn, false)), Some(turn)),
                };
                assert_eq!(fate(&longer, 34), expected);
            }
        }
    }

    #[test]
    fn what_is_no_exif_goes() {
        let mut far = least(6, false);
        far[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        for bad in
            [&[][..], b"II*", b"II*\0\x08\0\0\0", b"MM*\0\0\0\0\x08\0\x01", &least(9, false), &least(0, true), &far]
        {
            assert_eq!(fate(bad, bad.len() as u64), (Fate::Go, None));
        }
    }
}
