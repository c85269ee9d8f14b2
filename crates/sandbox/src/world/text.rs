//! A message's text in Intercom's two forms: HTML in REST answers, plain text in webhooks and with `display_as=plaintext`.

/// A body in both forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) html: String,
    pub(crate) text: String,
}

impl Body {
    /// What a contact wrote: never HTML, so it is escaped and wrapped.
    pub(crate) fn from_contact(text: &str) -> Self {
        Self { html: format!("<p>{}</p>", escape(text).replace('\n', "<br>")), text: text.to_owned() }
    }

    /// What a teammate or a bot wrote: HTML. Bare text gets its paragraph, as in the inbox.
    pub(crate) fn from_teammate(html: &str) -> Self {
        let html = if html.trim_start().starts_with('<') { html.to_owned() } else { format!("<p>{html}</p>") };
        Self { text: plain(&html), html }
    }

    /// What Intercom puts in the place of a redacted message.
    pub(crate) fn redacted() -> Self {
        Self::from_teammate("<p><i>This message was deleted</i></p>")
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// HTML as plain text: paragraphs and breaks become new lines, links `label (url)`, images nothing.
fn plain(html: &str) -> String {
    let mut out = String::new();
    let mut link: Option<(String, usize)> = None;
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        out.push_str(&unescape(&rest[..start]));
        let Some(len) = rest[start..].find('>') else {
            rest = "";
            break;
        };
        let tag = &rest[start + 1..start + len];
        rest = &rest[start + len + 1..];
        match tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap_or_default().to_ascii_lowercase().as_str() {
            "br" => out.push('\n'),
            "p" | "div" | "li" | "h1" | "h2" | "blockquote" if tag.starts_with('/') => out.push('\n'),
            "a" if tag.starts_with('/') => {
                if let Some((url, from)) = link.take()
                    && out.get(from..) != Some(url.as_str())
                {
                    out.push_str(&format!(" ({url})"));
                }
            }
            "a" => link = attribute(tag, "href").map(|url| (url, out.len())),
            _ => {}
        }
    }
    out.push_str(&unescape(rest));
    out.trim_end_matches('\n').to_owned()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| unescape(value))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let known = rest.find(';').filter(|&end| end < 12).and_then(|end| Some((entity(&rest[1..end])?, end)));
        let (character, len) = known.map_or(('&', 1), |(character, end)| (character, end + 1));
        out.push(character);
        rest = &rest[len..];
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contacts_text_is_escaped_and_wrapped() {
        let body = Body::from_contact("a <b>\n\"c\" & 'd'");
        assert_eq!(body.html, "<p>a &lt;b&gt;<br>&quot;c&quot; &amp; &#39;d&#39;</p>");
        assert_eq!(plain(&body.html), body.text, "both forms say the same");
    }

    #[test]
    fn a_teammates_html_reads_as_text() {
        let text = |html: &str| Body::from_teammate(html).text;
        assert_eq!(text("On its way."), "On its way.");
        assert_eq!(text("<p>One</p><p>Two<br/>three</p>"), "One\nTwo\nthree");
        assert_eq!(
            text("<p>See <a href=\"https://x.example/?a=1&amp;b=2\">this</a></p>"),
            "See this (https://x.example/?a=1&b=2)"
        );
        assert_eq!(
            text("<p><img src=\"https://x.example/i.png\">seen&nbsp;&#33; 5 &lt; 6 & 7</p>"),
            "seen\u{a0}! 5 < 6 & 7"
        );
        assert_eq!(text("<p>broken <b"), "broken ");
    }
}
