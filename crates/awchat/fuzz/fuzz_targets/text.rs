//! Bodies of messages: to plain text, to clean HTML, to what is compared.

#![no_main]

use awchat::chat::view::{clean_html, html_of_plain, normalised_html, normalised_text, text_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    text_of(text);
    harmless(&clean_html(text));
    let html = html_of_plain(text);
    harmless(&html);
    // What we send comes back as HTML: it is found again only if this holds.
    assert_eq!(normalised_html(&html), normalised_text(text), "{html:?}");
    normalised_html(text);
});

/// A client may insert it as it is.
fn harmless(html: &str) {
    const ALLOWED: [&str; 14] =
        ["p", "br", "b", "strong", "i", "em", "u", "a", "ul", "ol", "li", "code", "pre", "blockquote"];
    for tag in html.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').unwrap_or_else(|| panic!("an open tag: {html:?}"));
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        assert!(ALLOWED.contains(&name), "<{name}> in {html:?}");
        let is_link = name == "a" && !inside.starts_with('/');
        assert!(is_link || !inside.trim_end_matches(" /").contains(' '), "attributes: {html:?}");
        if let Some((_, target)) = inside.split_once("href=\"") {
            let safe = ["http:", "https:", "mailto:"].iter().any(|scheme| target.to_lowercase().starts_with(scheme));
            assert!(safe, "{target:?}");
        }
    }
}
