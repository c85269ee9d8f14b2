//! Signed addresses of files: whatever is changed, it is no longer one.

#![no_main]

use std::sync::LazyLock;

use awchat::config::Secret;
use awchat::files::link::{Disposition, Links};
use awchat::id::FileId;
use libfuzzer_sys::fuzz_target;

const NOW_S: i64 = 1_800_000_000;
const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

static SIGNED: LazyLock<(Links, String)> = LazyLock::new(|| {
    let links = Links::new("https://x", &[Secret::new("a-secret-of-files-for-fuzzing-0123456789")]);
    let id = FileId::parse(ID).expect("an id");
    let url = links.link(&id, Disposition::Inline, NOW_S).url;
    let t = url.split_once("?t=").expect("a signed address").1.to_owned();
    (links, t)
});

fuzz_target!(|text: &str| {
    let (links, good) = &*SIGNED;
    let (id, t) = text.split_once(' ').unwrap_or((ID, text));
    if links.verify(id, t, NOW_S).is_some() {
        assert_eq!((id, t), (ID, good.as_str()), "nobody signed this");
    }
    // The genuine one, changed as the text says.
    let changed: Vec<u8> =
        good.bytes().zip(text.bytes().chain(std::iter::repeat(0))).map(|(own, by)| own ^ (by % 128)).collect();
    if let Ok(changed) = std::str::from_utf8(&changed) {
        assert_eq!(links.verify(ID, changed, NOW_S).is_some(), changed == good, "{changed}");
    }
});
