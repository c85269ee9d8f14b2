//! Which part of a file is asked for: RFC 9110's `Range`, one range of bytes.

use std::io;

use axum::body::Bytes;
use futures_util::stream::{self, BoxStream, Stream, TryStreamExt};

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole file: 200.
    Whole,
    /// From the first byte to before the last: 206.
    Some(u64, u64),
    /// No byte of it is there: 416.
    Beyond,
}

/// The part that `range` asks for of a file of `len` bytes; `if_range` has the version that the client knows a part of.
/// What is no single range of bytes is no range: then the whole is asked for.
pub fn part(range: Option<&str>, if_range: Option<&str>, etag: &str, len: u64) -> Part {
    // A date is no strong validator here: there is no Last-Modified.
    let Some(range) = range.filter(|_| if_range.is_none_or(|known| known == etag)) else { return Part::Whole };
    let Some((unit, range)) = range.split_once('=') else { return Part::Whole };
    let Some((first, last)) = range.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return Part::Whole;
    };
    // Digits alone: parsing would take a sign. More than fit are more than there are.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), _) if first >= len && (last.is_empty() || number(last).is_some()) => Part::Beyond,
        (Some(first), Some(last)) => Part::Some(first, last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => Part::Some(first, len),
        (None, Some(0)) if first.is_empty() => Part::Beyond,
        (None, Some(count)) if first.is_empty() && len > 0 => Part::Some(len.saturating_sub(count), len),
        (None, Some(_)) if first.is_empty() => Part::Beyond,
        _ => Part::Whole,
    }
}

/// Of what comes, the bytes from the `first` to before the `end`th; nothing is asked for beyond.
pub(super) fn cut(
    chunks: BoxStream<'static, io::Result<Bytes>>,
    first: u64,
    end: u64,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((chunks, 0_u64), move |(mut chunks, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let Some(chunk) = chunks.try_next().await? else { return Err(io::Error::other("a file is shorter than told")) };
        let within = |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
        let kept = chunk.slice(within(first)..within(end));
        let at = at + chunk.len() as u64;
        Ok(Some((kept, (chunks, at))))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_part_is_cut_out_of_what_comes_and_no_more_is_asked_for() {
        let all: Vec<u8> = (0..100).collect();
        for piece in [1, 7, 100] {
            for (first, end) in [(0_usize, 100_usize), (0, 1), (99, 100), (6, 8), (7, 14), (50, 51)] {
                let pieces: Vec<_> = all.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                let needed = pieces.into_iter().take(end.div_ceil(piece));
                let endless = stream::iter(needed).chain(stream::pending()).boxed();
                let got: Vec<Bytes> = cut(endless, first as u64, end as u64).try_collect().await.expect("a part");
                assert_eq!(got.concat(), all[first..end], "{first} to {end}, in pieces of {piece}");
            }
        }
        let short = stream::iter([Ok(Bytes::from_static(b"short"))]).boxed();
        assert!(cut(short, 0, 6).try_collect::<Vec<_>>().await.is_err());
    }

    #[test]
    fn one_range_is_a_part_and_anything_else_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Part::Some(0, 1)),
            ("bytes=0-99", Part::Some(0, 100)),
            ("bytes=10-19", Part::Some(10, 20)),
            ("bytes=99-", Part::Some(99, 100)),
            ("bytes=0-", Part::Some(0, 100)),
            ("bytes=50-1000", Part::Some(50, 100)),
            ("bytes=50-18446744073709551615", Part::Some(50, 100)),
            ("bytes=50-99999999999999999999999", Part::Some(50, 100)),
            ("bytes=-1", Part::Some(99, 100)),
            ("bytes=-100", Part::Some(0, 100)),
            ("bytes=-99999999999999999999999", Part::Some(0, 100)),
            ("BYTES = 1-2", Part::Some(1, 3)),
            ("bytes=100-", Part::Beyond),
            ("bytes=100-200", Part::Beyond),
            ("bytes=99999999999999999999999-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=--1", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=1-b", Part::Whole),
            ("bytes=100-b", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(Some(range), None, "\"e\"", 100), expected, "{range}");
        }
        assert_eq!(part(None, None, "\"e\"", 100), Part::Whole);
        assert_eq!(part(Some("bytes=0-"), None, "\"e\"", 0), Part::Beyond);
    }

    #[test]
    fn a_part_of_another_version_is_the_whole() {
        for (known, expected) in [
            ("\"e\"", Part::Some(1, 2)),
            ("\"f\"", Part::Whole),
            ("W/\"e\"", Part::Whole),
            ("Sun, 06 Nov 1994", Part::Whole),
        ] {
            assert_eq!(part(Some("bytes=1-1"), Some(known), "\"e\"", 100), expected, "{known}");
        }
    }
}
