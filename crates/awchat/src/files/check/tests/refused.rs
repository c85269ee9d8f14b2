//! What must not come in, and the rule that each names.

use super::*;

/// `bytes` with `patch` at `at`.
fn patched(bytes: &[u8], at: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

/// Where `what` stands first.
fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).expect("it is there")
}

/// A PNG's chunk.
fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(kind);
    crc.update(content);
    let len = u32::try_from(content.len()).expect("a small chunk");
    [&len.to_be_bytes(), kind.as_slice(), content, &crc.finalize().to_be_bytes()].concat()
}

fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunks.concat()].concat()
}

fn header(width: u32, height: u32, rest: [u8; 5]) -> Vec<u8> {
    chunk(b"IHDR", &[width.to_be_bytes().as_slice(), &height.to_be_bytes(), &rest].concat())
}

/// A GIF of so many frames of 1 × 1, or of `side` × `side`.
fn gif(frames: usize, side: u16) -> Vec<u8> {
    let side = side.to_le_bytes();
    let frame = [&[0x2c, 0, 0, 0, 0], side.as_slice(), &side, &[0, 2, 1, 0x44, 0]].concat();
    [b"GIF89a".as_slice(), &side, &side, &[0, 0, 0], &frame.repeat(frames), &[0x3b]].concat()
}

fn mp4_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 8).expect("a small box");
    [&len.to_be_bytes(), kind.as_slice(), content].concat()
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    let len = u32::try_from(chunks.len() + 4).expect("a small file");
    [b"RIFF", len.to_le_bytes().as_slice(), b"WEBP", chunks].concat()
}

fn riff_chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("a small chunk");
    [kind.as_slice(), &len.to_le_bytes(), content, &[0][..content.len() % 2]].concat()
}

/// A lossless image's header.
fn vp8l(width: u32, height: u32) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14;
    riff_chunk(b"VP8L", &[&[0x2f], bits.to_le_bytes().as_slice(), &[0; 3]].concat())
}

fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
    riff_chunk(b"VP8X", &[&[flags, 0, 0, 0], &width[..3], &height[..3]].concat())
}

fn anmf(x: u8, width: u32, image: &[u8]) -> Vec<u8> {
    let side = (width - 1).to_le_bytes();
    riff_chunk(b"ANMF", &[&[x, 0, 0, 0, 0, 0], &side[..3], &side[..3], &[0; 4], image].concat())
}

fn refuses(cases: &[(&str, Vec<u8>, &str)]) {
    for (what, bytes, rule) in cases {
        match cleaned(bytes) {
            Err(told) => assert!(told.contains(rule), "{what}: must name {rule:?}, not {told:?}"),
            Ok((clean, _)) => panic!("{what} passes as {:?}", clean.kind),
        }
    }
    println!("{} such files refused, each naming its rule", cases.len());
}

#[test]
fn other_files_are_refused_whatever_they_are_called() {
    let files = fixtures("refused");
    let mut cases = Vec::new();
    for (name, bytes) in &files {
        let rule = match name.as_str() {
            "empty.txt" => "TXT: must not be empty",
            "text.latin1" => "TXT: must be UTF-8",
            "picture.avif" | "picture.heic" | "picture-in-mp4.heic" | "film.mov" => "MP4: must not be HEIC, AVIF or",
            "sound.m4a" => "MP4: must not be sound alone",
            "drawing.svg" | "script.svg" | "short.svg" | "page.html" | "late.html" | "script.html" | "script.sh"
            | "text.rtf" | "page.ps" => "TXT: must not be a page",
            _ => "TXT: must ",
        };
        cases.push((name.as_str(), bytes.clone(), rule));
    }
    refuses(&cases);
    assert!(files.len() >= 30, "only {}", files.len());
}

#[test]
fn every_kind_refuses_what_is_cut_off() {
    for (name, bytes) in fixtures("clean") {
        if name.ends_with(".txt") {
            continue;
        }
        for keep in [bytes.len() / 2, bytes.len() * 9 / 10] {
            assert!(cleaned(&bytes[..keep]).is_err(), "{name}: {keep} of {} bytes", bytes.len());
        }
        // One byte is what some can spare: a PDF's line end, a bitmap's last padding, the rest of a free box.
        assert!(cleaned(&bytes[..12]).is_err(), "{name}: its first twelve bytes");
    }
}

#[test]
fn jpegs_that_lie() {
    let good = fixture("clean/magick.jpg");
    let (frame, scan) = (find(&good, b"\xff\xc0"), find(&good, b"\xff\xda"));
    let size =
        |height: u16, width: u16| patched(&good, frame + 5, &[height.to_be_bytes(), width.to_be_bytes()].concat());
    let with = |at: usize, extra: &[u8]| [&good[..at], extra, &good[at..]].concat();
    let scan_header = &good[scan..scan + 14];
    refuses(&[
        ("without its end", good[..good.len() - 2].to_vec(), "JPEG: every segment must be whole"),
        ("50 megapixels and more", size(16_000, 16_000), "50 million pixels"),
        ("too wide", size(1, 16_385), "16384 pixels"),
        ("no height", size(0, 160), "1 pixel wide and high"),
        ("lossless", patched(&good, frame + 1, &[0xc3]), "JPEG: must be baseline or progressive"),
        ("arithmetic", patched(&good, frame + 1, &[0xc9]), "JPEG: must be baseline or progressive"),
        ("two sizes", with(frame, &good[frame..frame + 19]), "JPEG: the image's size must be told once"),
        ("no size", [&good[..frame], &good[frame + 19..]].concat(), "JPEG: the image's size must be told before"),
        ("no image", [&good[..scan], &[0xff, 0xd9]].concat(), "JPEG: must hold an image"),
        ("another beginning", with(2, b"\xff\xd8"), "JPEG: only segments may stand between scans"),
        ("bytes between segments", with(frame, b"PK\x03\x04"), "JPEG: a marker must follow each segment"),
        ("a length of one", with(2, b"\xff\xfe\0\x01"), "JPEG: a segment's length must count itself"),
        (
            "a segment beyond the end",
            with(2, b"\xff\xfe\xff\xff")[..1000].to_vec(),
            "JPEG: every segment must be whole",
        ),
        ("five components", patched(&good, frame + 9, &[5]), "JPEG: 1 to 4 components"),
        ("three bits", patched(&good, frame + 4, &[3]), "JPEG: samples must have 8 or 12 bits"),
        ("an unknown segment", with(2, b"\xff\xf0\0\x02"), "JPEG: must have no segments of unknown kind"),
        ("a thousand scans", with(scan, &[scan_header, b"a"].concat().repeat(1_000)), "JPEG: at most 100 scans"),
    ]);
}

#[test]
fn pngs_that_lie() {
    let good = fixture("clean/pillow.png");
    let rgb = [8, 2, 0, 0, 0];
    let one = header(1, 1, rgb);
    let (data, end) = (chunk(b"IDAT", b"x"), chunk(b"IEND", b""));
    let animated = |frames: u32, control: &[u8]| {
        let animation = chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat());
        png(&[header(16_000, 3_000, rgb), animation, chunk(b"fcTL", control), data.clone(), end.clone()])
    };
    let within = [&[0; 7], [1].as_slice(), &[0; 3], &[1], &[0; 14]].concat();
    let outside = [&[0; 7], [1].as_slice(), &[0; 3], &[1], &[0xff; 14]].concat();
    let with = |extra: &[Vec<u8>]| png(&[std::slice::from_ref(&one), extra, &[data.clone(), end.clone()]].concat());
    let checksum = "PNG: every chunk's checksum must hold";
    refuses(&[
        ("line ends changed", patched(&good, 4, b"\n\n\x1a\n"), "PNG: must begin with the eight bytes"),
        ("no end", good[..good.len() - 12].to_vec(), "PNG: every chunk must be whole"),
        ("a wrong checksum", patched(&good, 29, &[0]), checksum),
        ("a byte of the image changed", patched(&good, good.len() - 30, &[good[good.len() - 30] ^ 1]), checksum),
        ("a chunk beyond the end", patched(&good, 33, &[0x7f]), "PNG: every chunk must be whole"),
        ("a length below zero", patched(&good, 33, &[0xff; 4]), "PNG: every chunk must be whole"),
        ("no letters", patched(&good, 37, b"ID<T"), "PNG: a chunk's type must be four letters"),
        ("no header", png(&[data.clone(), end.clone()]), "PNG: IHDR must be the first chunk"),
        ("two headers", with(std::slice::from_ref(&one)), "PNG: IHDR must be the first chunk, and come once"),
        ("no image", png(&[one.clone(), end.clone()]), "PNG: must hold image data"),
        ("too many pixels", png(&[header(16_000, 16_000, rgb), data.clone(), end.clone()]), "50 million pixels"),
        ("too wide", png(&[header(u32::MAX, 1, rgb), data.clone(), end.clone()]), "16384 pixels"),
        ("no pixel", png(&[header(0, 1, rgb), data.clone(), end.clone()]), "1 pixel wide"),
        ("four bits of red", png(&[header(1, 1, [4, 2, 0, 0, 0])]), "PNG: colour type and bit depth"),
        ("another filter", png(&[header(1, 1, [8, 2, 0, 9, 0])]), "PNG: compression, filter, interlace"),
        ("Apple's own", with(&[chunk(b"CgBI", b"\0")]), "PNG: must have no critical chunks of unknown kind"),
        (
            "data in two places",
            with(&[data.clone(), chunk(b"tEXt", b"a")]),
            "PNG: the chunks of image data must follow",
        ),
        ("an end with content", png(&[one.clone(), data.clone(), chunk(b"IEND", b"x")]), "PNG: IEND must be empty"),
        ("a palette of 257", with(&[chunk(b"PLTE", &[0; 771])]), "PNG: one palette of 1 to 256 colours"),
        ("201 frames", animated(201, &within), "PNG: at most 200 frames"),
        ("two frames of 48 megapixels", animated(2, &within), "50 million pixels, all frames counted"),
        ("a frame outside", animated(1, &outside), "PNG: every frame must lie within the image"),
    ]);
}

#[test]
fn gifs_that_lie() {
    let good = fixture("clean/pillow.gif");
    let frame = find(&good, b"\x2c\0\0\0\0\xa0\0");
    assert!(cleaned(&gif(500, 1)).is_ok() && cleaned(&gif(4, 7_000)).is_ok());
    refuses(&[
        ("another version", patched(&good, 4, b"8a"), "GIF: must be version 87a or 89a"),
        ("no trailer", good[..good.len() - 1].to_vec(), "GIF: every block must be whole"),
        ("501 frames", gif(501, 1), "GIF: at most 500 frames"),
        ("200 megapixels and more", gif(5, 7_000), "GIF: at most 200 million pixels"),
        ("a huge canvas", patched(&gif(1, 1), 6, &[0xff; 4]), "16384 pixels"),
        ("a huge frame", patched(&good, frame + 5, &[0xff; 4]), "GIF: a frame's sides"),
        ("no pixel", patched(&good, 6, &[0; 2]), "1 pixel wide"),
        ("no frame", gif(0, 1), "GIF: must hold an image"),
        (
            "a program between blocks",
            [&good[..frame], b"MZ", &good[frame..]].concat(),
            "GIF: only images and extensions",
        ),
        ("codes of 200 bits", patched(&gif(1, 1), 23, &[200]), "GIF: code sizes are 1 to 11 bits"),
    ]);
}

#[test]
fn webps_that_lie() {
    let good = fixture("clean/pillow.webp");
    let two = |flags| riff(&[vp8x(flags, 9, 9), vp8l(9, 9), vp8l(9, 9)].concat());
    let film = |frames: &[u8]| riff(&[vp8x(2, 4_000, 4_000).as_slice(), frames].concat());
    assert!(cleaned(&film(&anmf(0, 9, &vp8l(9, 9)))).is_ok());
    refuses(&[
        ("with a tail", [good.as_slice(), b"PK\x03\x04"].concat(), "WEBP: RIFF's size must be the file's"),
        ("cut off", good[..good.len() - 2].to_vec(), "WEBP: RIFF's size must be the file's"),
        ("a chunk beyond the end", patched(&good, 16, &[0xff; 3]), "WEBP: every chunk must be whole"),
        ("another first chunk", patched(&good, 12, b"EXIF"), "WEBP: the first chunk must be"),
        ("no key frame", patched(&good, 23, b"abc"), "WEBP: VP8 must begin with a key frame"),
        ("an inter frame", patched(&good, 20, &[good[20] | 1]), "WEBP: VP8 must begin with a key frame"),
        ("too many pixels", riff(&vp8l(16_000, 16_000)), "50 million pixels"),
        ("lossless without its sign", riff(&patched(&vp8l(9, 9), 8, b"x")), "WEBP: VP8L must begin with"),
        ("lossless of version 7", riff(&patched(&vp8l(9, 9), 12, &[0xff])), "WEBP: VP8L must be version 0"),
        ("another size inside", riff(&[vp8x(0, 9, 9), vp8l(10, 9)].concat()), "WEBP: the image must have the size"),
        ("a huge canvas", riff(&[vp8x(0, 1 << 24, 1), vp8l(9, 9)].concat()), "16384 pixels"),
        ("two images", two(0), "WEBP: must hold one image"),
        ("a film of images", two(2), "WEBP: must hold one image"),
        ("no image", riff(&vp8x(0, 9, 9)), "WEBP: must hold one image"),
        ("a frame outside", film(&anmf(255, 4_000, &vp8l(4_000, 4_000))), "WEBP: every frame must lie within"),
        ("frames of 64 megapixels", film(&anmf(0, 9, &vp8l(9, 9)).repeat(4)), "50 million pixels, all frames"),
        ("501 frames", film(&anmf(0, 9, &vp8l(9, 9)).repeat(501)), "WEBP: at most 500 frames"),
        ("a frame with more", film(&anmf(0, 9, &riff_chunk(b"PK\x03\x04", b"zip"))), "WEBP: a frame must hold nothing"),
        ("a frame of another size", film(&anmf(0, 9, &vp8l(8, 9))), "WEBP: a frame's image must have the frame's size"),
        ("an empty frame", film(&anmf(0, 9, b"")), "WEBP: must hold one image"),
    ]);
}

#[test]
fn bitmaps_that_lie() {
    let good = fixture("clean/magick-3.bmp");
    let rule = "BMP: header, palette and rows must fit the file";
    refuses(&[
        ("an unknown version", patched(&good, 14, &[41]), "BMP: the image's header must be of a known version"),
        ("two planes", patched(&good, 26, &[2]), "BMP: must have one plane"),
        ("two bits", patched(&good, 28, &[2]), "BMP: pixels must have 1, 4, 8"),
        ("a JPEG inside", patched(&good, 30, &[4]), "BMP: rows must be plain or run-length encoded"),
        ("more rows than there are", patched(&good, 22, &[200]), rule),
        ("rows beyond the end", patched(&good, 10, &[0xff, 0xff]), rule),
        ("rows in the header", patched(&good, 10, &[20, 0]), rule),
        ("too many pixels", patched(&good, 18, &[0, 0x3e, 0, 0, 0, 0x3e, 0, 0]), "50 million pixels"),
        ("too high from the top", patched(&good, 22, &i32::MIN.to_le_bytes()), "16384 pixels"),
        ("a million colours", patched(&good, 46, &[0, 0, 16]), "BMP: at most 256 colours"),
        ("a program", b"BM\0\0\0\0MZ\x90\0\x03\0\0\0".to_vec(), "BMP: "),
        (
            "runs without a length",
            patched(&fixture("clean/magick-rle.bmp"), 34, &[0; 4]),
            "BMP: run-length encoded rows",
        ),
    ]);
}

#[test]
fn films_that_lie() {
    let good = fixture("clean/x264.mp4");
    let brand = mp4_box(b"ftyp", b"isom\0\0\x02\0isomiso2");
    let with = |boxes: &[u8]| [brand.as_slice(), boxes].concat();
    let deep = (0..9).fold(Vec::new(), |inner, _| mp4_box(b"edts", &inner));
    let rule = "MP4: the boxes must cover the file exactly";
    let url = find(&good, b"url ");
    let huge = patched(&brand_first(&good), 3, &[0xf0]);
    refuses(&[
        ("with a tail", [good.as_slice(), b"PK\x03\x04"].concat(), rule),
        ("cut off", good[..good.len() - 1].to_vec(), rule),
        ("a box beyond the end", with(b"\xff\xff\xff\xffmdat"), rule),
        ("a box of 4 bytes", with(b"\0\0\0\x04mdat"), rule),
        ("a size that wraps around", with(b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff"), rule),
        ("a box to the end within another", with(&mp4_box(b"moov", b"\0\0\0\0trak")), rule),
        ("no brand", patched(&good, 4, b"ftyq"), "TXT: "),
        ("a brand of 512 bytes", huge, "MP4: must begin with a box ftyp"),
        (
            "an unknown brand",
            [mp4_box(b"ftyp", b"3gp4\x00\x00\x00\x003gp4").as_slice(), &good[32..]].concat(),
            "MP4: must be of a known",
        ),
        ("HEIC under mp42", patched(&good, 16, b"heic"), "MP4: must not be HEIC"),
        ("QuickTime beside isom", patched(&good, 20, b"qt  "), "MP4: must not be HEIC"),
        ("two brands", [good.as_slice(), &brand].concat(), "MP4: must have one box ftyp"),
        ("no film", with(&mp4_box(b"mdat", b"x")), "MP4: must have one box moov"),
        ("two films", [good.as_slice(), &mp4_box(b"moov", b"")].concat(), "MP4: must have one box moov"),
        ("no data", with(&mp4_box(b"moov", b"")), "MP4: must hold the film's data"),
        (
            "no pictures",
            with(&[mp4_box(b"moov", b""), mp4_box(b"mdat", b"x")].concat()),
            "MP4: must have a track of pictures",
        ),
        ("too deep", with(&mp4_box(b"moov", &deep)), "MP4: boxes must not lie deeper than 8"),
        ("10,001 boxes", with(&mp4_box(b"free", b"").repeat(10_001)), "MP4: at most 10,000 boxes"),
        ("data from elsewhere", patched(&good, url + 7, &[0]), "MP4: the film's data must be in the file itself"),
        ("too wide", patched(&good, find(&good, b"avc1\0\0\0\0\0\0") + 28, &[0xff, 0xff]), "16384 pixels"),
    ]);
}

fn brand_first(good: &[u8]) -> Vec<u8> {
    [b"\0\0\x02\0".as_slice(), &good[4..32], &[b'i'; 480], &good[32..]].concat()
}

#[test]
fn documents_and_texts_that_lie() {
    let good = fixture("clean/least.pdf");
    let late = [good.as_slice(), &[b'x'; 1_100]].concat();
    refuses(&[
        ("a PDF behind other bytes", [b"\0", good.as_slice()].concat(), "TXT: "),
        ("a PDF behind a line", [b"hello\r\n\x01", good.as_slice()].concat(), "TXT: "),
        ("a PDF of version 3", patched(&good, 5, b"3"), "PDF: must begin with %PDF-1.0 to 1.7 or 2.0"),
        ("a PDF of version 1.9", patched(&good, 5, b"1.9"), "PDF: must begin with %PDF-1.0 to 1.7 or 2.0"),
        ("a PDF without an end", good[..good.len() - 7].to_vec(), "PDF: %%EOF must stand in the last 1024 bytes"),
        ("a PDF that ends early", late, "PDF: %%EOF must stand in the last 1024 bytes"),
        ("half a character", b"caf\xc3".to_vec(), "TXT: must be UTF-8"),
        ("a character too long", b"\xc0\xaf".to_vec(), "TXT: must be UTF-8"),
        ("a surrogate", b"\xed\xa0\x80".to_vec(), "TXT: must be UTF-8"),
        ("a bell", b"ding\x07".to_vec(), "TXT: must have no control characters"),
        ("a page behind a mark", b"\xef\xbb\xbf <html>".to_vec(), "TXT: must not be a page"),
        ("a picture tag", b"<img src=x onerror=alert(1)>".to_vec(), "TXT: must not be a page"),
        ("a bad character beyond the window", [&[b'a'; 70_000][..], b"\xff"].concat(), "TXT: must be UTF-8"),
    ]);
}
