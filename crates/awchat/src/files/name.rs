//! Names of files: what people call them, made safe to show, to send in a header and to save.

use super::check::Kind;

/// The longest name, in bytes.
const MAX_BYTES: usize = 120;

/// A name that shows itself as it is, fits a header and ends as its kind does: `invoice.exe` that is a PDF becomes
/// `invoice.exe.pdf`.
pub fn of_upload(given: Option<&str>, kind: Kind) -> String {
    let given = given.unwrap_or_default();
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| is_harmless(*c)).collect();
    let clean = clean.trim().trim_matches('.').trim();
    let clean = if clean.is_empty() { "file" } else { clean };
    let (stem, end) = match clean.rsplit_once('.') {
        Some((stem, end)) if kind.extensions().iter().any(|own| end.eq_ignore_ascii_case(own)) => (stem, end),
        _ => (clean, kind.extensions()[0]),
    };
    format!("{}.{end}", cut(stem, MAX_BYTES - end.len() - 1))
}

/// Somebody else's name, made harmless.
pub fn of_others(given: &str) -> String {
    let clean: String = given.chars().filter(|c| is_harmless(*c) && *c != '/' && *c != '\\').collect();
    let clean = clean.trim();
    if clean.is_empty() { "file".to_owned() } else { cut(clean, MAX_BYTES).to_owned() }
}

/// RFC 6266: `inline; filename="receipt.pdf"`, and for what is no ASCII a second form beside it.
pub fn content_disposition(is_inline: bool, name: &str) -> String {
    let how = if is_inline { "inline" } else { "attachment" };
    let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    if ascii == name {
        return format!("{how}; filename=\"{ascii}\"");
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        // RFC 8187's attr-char.
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(byte.into()),
            b'!' | b'#' | b'$' | b'&' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{how}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

/// No control characters, no quotes, nothing that turns the reading direction or is not seen.
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '"' | '<' | '>' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_harmless_and_ends_as_its_kind() {
        for (given, kind, name) in [
            (Some("receipt.pdf"), Kind::Pdf, "receipt.pdf"),
            (Some("Photo.JPEG"), Kind::Jpeg, "Photo.JPEG"),
            (Some("invoice.exe"), Kind::Pdf, "invoice.exe.pdf"),
            (Some("a.html"), Kind::Txt, "a.html.txt"),
            (Some("../../etc/passwd"), Kind::Txt, "passwd.txt"),
            (Some("C:\\Users\\Ada\\Desktop\\me.png"), Kind::Png, "me.png"),
            (Some("a\r\nSet-Cookie: x\".png"), Kind::Png, "aSet-Cookie: x.png"),
            (Some("photo\u{202e}gpj.exe"), Kind::Jpeg, "photogpj.exe.jpg"),
            (Some("Quittung für Öl.pdf"), Kind::Pdf, "Quittung für Öl.pdf"),
            (Some("..."), Kind::Gif, "file.gif"),
            (Some(""), Kind::Gif, "file.gif"),
            (None, Kind::Mp4, "file.mp4"),
        ] {
            assert_eq!(of_upload(given, kind), name, "{given:?}");
        }
        let long = of_upload(Some(&format!("{}.png", "ü".repeat(300))), Kind::Png);
        assert!(long.len() <= MAX_BYTES && long.ends_with("ü.png"), "{long}");
        assert_eq!(of_others("a/b\n.docx"), "ab.docx");
        assert_eq!(of_others("\u{0}"), "file");
    }

    #[test]
    fn a_header_holds_any_name() {
        for (name, header) in [
            ("a b.png", "inline; filename=\"a b.png\""),
            ("100%.png", "inline; filename=\"100_.png\"; filename*=UTF-8''100%25.png"),
            ("für.png", "inline; filename=\"f_r.png\"; filename*=UTF-8''f%C3%BCr.png"),
            ("a\\b'(1).png", "inline; filename=\"a_b'(1).png\"; filename*=UTF-8''a%5Cb%27%281%29.png"),
        ] {
            assert_eq!(content_disposition(true, name), header);
        }
        assert!(content_disposition(false, "x.txt").starts_with("attachment; "));
    }
}
