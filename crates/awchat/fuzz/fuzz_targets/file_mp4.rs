//! MP4 films: what is kept of them.

#![no_main]

use awchat::files::check::Kind;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus { awchat_fuzz::file(Kind::Mp4, bytes) });
