//! A file, read through a window.

use std::io::{self, Read, Seek, SeekFrom};

/// What is held of a file.
const WINDOW_BYTES: usize = 64 * 1024;

/// A file, read through a window: wherever one asks, in any order.
pub(super) struct Source<'a, R> {
    file: &'a mut R,
    len: u64,
    start: u64,
    window: Vec<u8>,
}

impl<'a, R: Read + Seek> Source<'a, R> {
    pub(super) fn new(file: &'a mut R) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, len, start: 0, window: Vec::new() })
    }

    /// The file's length, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The first bytes, at most so many.
    pub(super) fn head(&mut self, count: usize) -> io::Result<&[u8]> {
        let count = usize::try_from(self.len).unwrap_or(usize::MAX).min(count);
        self.fill(0, count)?;
        Ok(&self.window[..count])
    }

    /// `count` bytes from `at` on, at most 64 KiB; `None` if the file ends before.
    pub(super) fn bytes(&mut self, at: u64, count: usize) -> io::Result<Option<&[u8]>> {
        debug_assert!(count <= WINDOW_BYTES, "{count} bytes do not fit the window");
        if at.checked_add(count as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        self.fill(at, count)?;
        let from = usize::try_from(at - self.start).map_err(io::Error::other)?;
        Ok(Some(&self.window[from..from + count]))
    }

    /// `N` bytes from `at` on; `None` if the file ends before.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.bytes(at, N)?.and_then(|bytes| bytes.try_into().ok()))
    }

    /// What is at hand from `at` on: 1 byte or more, and none only at the file's end.
    pub(super) fn rest(&mut self, at: u64) -> io::Result<&[u8]> {
        if at >= self.len {
            return Ok(&[]);
        }
        self.fill(at, 1)?;
        let from = usize::try_from(at - self.start).map_err(io::Error::other)?;
        Ok(&self.window[from..])
    }

    /// Whether all bytes from `at` to before `end` are zero.
    pub(super) fn is_zero(&mut self, at: u64, end: u64) -> io::Result<bool> {
        let mut at = at;
        while at < end {
            let rest = self.rest(at)?;
            let part = &rest[..rest.len().min(usize::try_from(end - at).unwrap_or(usize::MAX))];
            if part.is_empty() || part.iter().any(|byte| *byte != 0) {
                return Ok(part.is_empty());
            }
            at += part.len() as u64;
        }
        Ok(true)
    }

    /// Moves the window unless it has these bytes already; the caller knows that they are there.
    fn fill(&mut self, at: u64, count: usize) -> io::Result<()> {
        let end = self.start + self.window.len() as u64;
        if at >= self.start && at + count as u64 <= end {
            return Ok(());
        }
        let size = usize::try_from(self.len - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        self.file.seek(SeekFrom::Start(at))?;
        self.window.resize(size, 0);
        self.start = at;
        self.file.read_exact(&mut self.window).inspect_err(|_| self.window.clear())?;
        Ok(())
    }
}
