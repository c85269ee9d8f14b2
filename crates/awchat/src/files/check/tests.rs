//! Files of many makers: what is kept of them is what was asked for. `scripts/fixtures` makes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

mod refused;

/// What is kept of a file, or the rule that it breaks.
fn cleaned(bytes: &[u8]) -> Result<(Clean, Vec<u8>), String> {
    let mut file = Cursor::new(bytes);
    let clean = check(&mut file).map_err(|refusal| refusal.to_string())?;
    let mut kept = Vec::new();
    clean.write(&mut file, &mut kept).expect("what was checked can be read");
    Ok((clean, kept))
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures").join(name)
}

/// The files of a folder, by name. None is a failure: what these tests show, they show by them.
fn fixtures(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(name)).expect("scripts/fixtures makes the files that these tests need");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("a file");
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file can be read"))
    };
    let files: BTreeMap<_, _> = entries.map(read).collect();
    assert!(!files.is_empty(), "scripts/fixtures makes the files that these tests need");
    files
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder(name)).expect("scripts/fixtures makes the files that these tests need")
}

fn kind_of_name(name: &str) -> Kind {
    let end = name.rsplit('.').next().unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.extensions().contains(&end)).expect("a name with a known end")
}

/// What `command` prints.
fn printed(command: &str, arguments: &[&str], files: &[PathBuf]) -> String {
    let output = Command::new(command).args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| panic!("{command}, which scripts/setup-tests installs: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_file_without_metadata_stays_as_it_is() {
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, bytes) in fixtures("clean") {
        let kind = kind_of_name(&name);
        let (clean, kept) = cleaned(&bytes).unwrap_or_else(|rule| panic!("{name}: {rule}"));
        assert_eq!(clean.kind, kind, "{name}");
        assert!(clean.is_identical(bytes.len() as u64), "{name}: {:?} of {}", clean.pieces, bytes.len());
        assert_eq!(Sha256::digest(&kept), Sha256::digest(&bytes), "{name}");
        let is_seen = kind.is_image() || kind == Kind::Mp4;
        assert_eq!(clean.size, is_seen.then_some((160, 120)), "{name}");
        *makers.entry(kind.content_type()).or_default() += 1;
    }
    assert_eq!(makers.len(), Kind::ALL.len(), "{makers:?}");
    assert!(makers.values().all(|count| *count >= 3), "three or more of each: {makers:?}");
}

#[test]
fn metadata_is_gone_and_the_picture_the_same() {
    let scratch = tempfile::tempdir().expect("a folder");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (name, bytes) in fixtures("accepted") {
        let (clean, kept) = cleaned(&bytes).unwrap_or_else(|rule| panic!("{name}: {rule}"));
        assert_eq!(clean.kind, kind_of_name(&name), "{name}");
        let (again, same) = cleaned(&kept).unwrap_or_else(|rule| panic!("{name}, cleaned: {rule}"));
        assert!(again.is_identical(kept.len() as u64) && same == kept, "{name}: once is enough: {:?}", again.pieces);
        assert_eq!(again.size, clean.size, "{name}");
        let path = scratch.path().join(&name);
        fs::write(&path, &kept).expect("written");
        before.push(folder("accepted").join(&name));
        after.push(path);
    }

    let groups = ["-a", "-u", "-G1", "-s", "-ee"];
    let (told, left) = (printed("exiftool", &groups, &before), printed("exiftool", &groups, &after));
    for secret in [
        "GPSLatitude",
        "GPSCoordinates",
        "Make ",
        "Model ",
        "Software ",
        "SerialNumber",
        "Artist",
        "Author",
        "City",
        "Creator ",
        "By-line",
        "Comment",
        "[XMP",
        "[IPTC",
        "Title ",
        "AndroidVersion",
        "DateTimeOriginal",
        " Description ",
    ] {
        assert!(told.contains(secret), "{secret} is in none of the files: the test shows nothing");
        let line = left.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is still there");
    }
    for words in ["at home", "Somebody", "Essen", "+51.5"] {
        let holds =
            |path: &PathBuf| fs::read(path).expect("a file").windows(words.len()).any(|w| w == words.as_bytes());
        assert_eq!(after.iter().find(|path| holds(path)), None, "{words}");
    }

    // Which way is up stays, and so does every pixel.
    for (name, orientation) in
        [("camera-Apple.jpg", 6), ("camera-samsung.jpg", 3), ("camera-Canon.png", 8), ("pillow-turned.webp", 6)]
    {
        let path = [scratch.path().join(name)];
        assert_eq!(
            printed("exiftool", &["-n", "-s3", "-Orientation"], &path).trim(),
            orientation.to_string(),
            "{name}"
        );
        let sides = if orientation >= 5 { (120, 160) } else { (160, 120) };
        assert_eq!(cleaned(&fixture(&format!("accepted/{name}"))).expect("clean").0.size, Some(sides), "{name}");
    }
    assert_eq!(cleaned(&fixture("accepted/turned.mp4")).expect("clean").0.size, Some((120, 160)));
    for (before, after) in before.iter().zip(&after) {
        if before.extension().is_some_and(|end| end == "mp4") {
            let frames = |path: &Path| {
                let path = path.to_string_lossy();
                let arguments = ["-loglevel", "error", "-i", &path, "-map", "0:v", "-map", "0:a?", "-f", "md5", "-"];
                printed("ffmpeg", &arguments, &[])
            };
            assert_eq!(frames(before), frames(after), "{}", before.display());
        } else {
            let pixels =
                |path: &PathBuf| printed("identify", &["-quiet", "-format", "%# "], std::slice::from_ref(path));
            assert_eq!(pixels(before), pixels(after), "{}", before.display());
        }
    }
    println!("{} files with metadata: gone by exiftool, the pictures the same", after.len());
}

#[test]
fn what_hides_behind_the_end_is_left_behind() {
    let archive = fixture("refused/archive.zip");
    for name in ["magick.jpg", "magick.png", "magick.gif", "magick-3.bmp", "least.pdf"] {
        let whole = fixture(&format!("clean/{name}"));
        for hidden in [archive.as_slice(), b"<script>alert(1)</script>", b"<?php system($_GET[0]); ?>"] {
            let (clean, kept) = cleaned(&[&whole, hidden].concat()).unwrap_or_else(|rule| panic!("{name}: {rule}"));
            assert!(!clean.is_identical((whole.len() + hidden.len()) as u64));
            assert!(kept == whole, "{name} has {} bytes more than before", kept.len() - whole.len());
        }
    }
}

#[test]
fn a_large_file_is_read_through_a_small_window() {
    /// Counts what is asked for at once.
    struct Counted(Cursor<Vec<u8>>, usize);
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1.max(buffer.len());
            self.0.read(buffer)
        }
    }
    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let text = "Zwölf Boxkämpfer jagen Viktor. ".repeat(600_000);
    let mut file = Counted(Cursor::new(text.into_bytes()), 0);
    let clean = check(&mut file).expect("a text");
    clean.write(&mut file, &mut io::sink()).expect("written");
    assert_eq!(file.1, 64 * 1024);
}

#[test]
fn many_small_lies_are_refused_before_they_fill_the_memory() {
    let whole = fixture("clean/magick.jpg");
    let many = [&whole[..2], &b"\xff\xfe\0\x02\xff\xdd\0\x04\0\0".repeat(10_000), &whole[2..]].concat();
    assert_eq!(cleaned(&many).expect_err("refused"), "the file must not be made of metadata");
}

/// All that is accepted.
fn good() -> Vec<Vec<u8>> {
    let small = |bytes: &Vec<u8>| bytes.len() < 120_000;
    fixtures("clean").into_values().chain(fixtures("accepted").into_values()).filter(small).collect()
}

/// Whatever it is given: an answer, and what is kept is kept again as it is.
fn holds(bytes: &[u8]) {
    if let Ok((clean, kept)) = cleaned(bytes) {
        let (again, same) = cleaned(&kept).unwrap_or_else(|rule| panic!("{:?}, cleaned: {rule}", clean.kind));
        assert!(same == kept, "{:?}: once must be enough: {:?}, then {:?}", clean.kind, clean.pieces, again.pieces);
        assert!(kept.len() <= bytes.len(), "{:?} grew", clean.kind);
        if let Some((width, height)) = clean.size {
            assert!(width <= MAX_SIDE && height <= MAX_SIDE && u64::from(width) * u64::from(height) <= MAX_PIXELS);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_refused_or_cleaned_for_good(
        file in proptest::sample::select(good()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
        near_the_beginning in any::<bool>(),
    ) {
        let mut bytes = file;
        for (at, value, how) in changes {
            let at = at.index(if near_the_beginning { bytes.len().min(400) } else { bytes.len() });
            match how {
                0 => bytes[at] = value,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, value),
                _ => bytes[at] ^= 1 << (value % 8),
            }
        }
        holds(&bytes);
    }
}
