//! Message bodies: what is HTML becomes plain text and a safe subset of HTML, what is plain text stays what it is.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use ammonia::Builder;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};
use unicode_normalization::UnicodeNormalization;

#[cfg(test)]
mod tests;

/// Elements that stand on lines of their own.
const BLOCKS: [&str; 19] = [
    "address",
    "article",
    "blockquote",
    "div",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tr",
    "ul",
];
/// Elements whose content nobody is meant to read.
const UNREAD: [&str; 5] = ["script", "style", "title", "svg", "math"];
/// Elements that end without a tag that says so.
const ENDED_BY_OTHERS: [&str; 14] =
    ["p", "li", "td", "th", "tr", "tbody", "br", "img", "hr", "wbr", "col", "input", "meta", "link"];
/// How many other elements may be open at once.
const DEEPEST: usize = 100;
/// What [`clean_html`] leaves.
const ALLOWED: [&str; 14] =
    ["p", "br", "b", "strong", "i", "em", "u", "a", "ul", "ol", "li", "code", "pre", "blockquote"];

/// A body as plain text: line breaks for `<br>`, paragraphs and list items, entities decoded, a link as
/// `label (url)` unless the label says it already. Text without markup (notifications since 2.15) comes through as it
/// is, trimmed.
pub fn text_of(body: &str) -> String {
    if is_html(body) { walked(body, Links::WithTarget).text } else { plain(body) }
}

/// A body as the subset of HTML that a client may insert as it is: paragraphs, emphasis, lists, code, quotes, links.
/// Text without markup is wrapped as by [`html_of_plain`].
pub fn clean_html(body: &str) -> String {
    read(body).html
}

/// What a body is to a reader.
#[derive(Default)]
pub(super) struct Body {
    /// As [`text_of`].
    pub(super) text: String,
    /// As [`clean_html`].
    pub(super) html: String,
    /// The addresses of its pictures, in order.
    pub(super) pictures: Vec<String>,
}

/// All of it in one go.
pub(super) fn read(body: &str) -> Body {
    if !is_html(body) {
        let text = plain(body);
        return Body { html: html_of_plain(&text), text, pictures: Vec::new() };
    }
    let walk = walked(body, Links::WithTarget);
    // What is nested deeper than any letter costs a parser the square of its depth: of that, only the text.
    let html = if walk.deepest > DEEPEST { html_of_plain(&walk.text) } else { cleaned(body) };
    Body { text: walk.text, html, pictures: walk.pictures }
}

fn cleaned(html: &str) -> String {
    let cleaned = Builder::empty()
        .tags(ALLOWED.into())
        .clean_content_tags(UNREAD.into())
        .tag_attributes([("a", ["href"].into())].into())
        .url_schemes(["http", "https", "mailto"].into())
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank")
        .attribute_filter(|_, _, address| Some(without_blanks(address)))
        .clean(&with_paragraphs(html));
    cleaned.to_string().replace("<p></p>", "").trim().to_owned()
}

/// An address without what browsers overlook in it, and other readers stumble over (<https://url.spec.whatwg.org/#url-parsing>,
/// steps 1 and 3 of the basic URL parser).
fn without_blanks(address: &str) -> Cow<'_, str> {
    let address = address.trim_matches(|c| c <= ' ');
    match address.contains(['\t', '\n', '\r']) {
        true => address.replace(['\t', '\n', '\r'], "").into(),
        false => address.into(),
    }
}

/// Blocks that are not allowed become paragraphs, lest their words run together. What comes out is yet to be cleaned.
fn with_paragraphs(html: &str) -> String {
    let mut pieces = html.split('<');
    let mut renamed = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (slash, rest) = piece.strip_prefix('/').map_or(("<", piece), |rest| ("</", rest));
        let foreign = BLOCKS.iter().find(|name| !ALLOWED.contains(name) && is_tag(rest, name));
        renamed.push_str(slash);
        renamed.push_str(foreign.map_or("", |_| "p"));
        renamed.push_str(&rest[foreign.map_or(0, |name| name.len())..]);
    }
    renamed
}

/// A plain text as HTML: escaped, one `<br>` for each line break, in a `<p>`. Empty for an empty text.
pub fn html_of_plain(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut html = String::with_capacity(text.len() + 16);
    html.push_str("<p>");
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push_str("<br>"),
            c => html.push(c),
        }
    }
    html.push_str("</p>");
    html
}

/// A plain text in the form in which texts are compared: white space collapsed and trimmed, control characters
/// dropped, NFC. `normalised_html(&html_of_plain(x)) == normalised_text(x)` for every `x`.
pub fn normalised_text(text: &str) -> String {
    let visible: String = text.chars().filter(|c| c.is_whitespace() || !c.is_control()).collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    words.join(" ").nfc().collect()
}

/// As [`normalised_text`] for HTML, such as [`clean_html`] makes; of a link only the label counts, since Intercom
/// makes links of the addresses in a user's text.
pub fn normalised_html(html: &str) -> String {
    normalised_text(&walked(html, Links::LabelOnly).text)
}

/// Whether a body is markup rather than a text that mentions some: it closes an element, or has a void one.
fn is_html(body: &str) -> bool {
    const OTHERS: [&str; 8] = ["a", "span", "font", "s", "del", "html", "body", "td"];
    body.split('<').skip(1).any(|piece| match piece.strip_prefix('/') {
        Some(rest) => [&ALLOWED[..], &BLOCKS, &UNREAD, &OTHERS].into_iter().flatten().any(|name| is_tag(rest, name)),
        None => ["br", "img", "hr"].iter().any(|name| is_tag(piece, name)),
    })
}

/// Whether what follows a `<` is this tag.
fn is_tag(rest: &str, name: &str) -> bool {
    rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && rest[name.len()..].starts_with(|c: char| c == '>' || c == '/' || c.is_ascii_whitespace())
}

fn plain(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let visible = text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control());
    visible.collect::<String>().trim().to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    WithTarget,
    LabelOnly,
}

/// One pass over the tokens: no tree, so that no nesting is too deep.
struct Walk {
    links: Links,
    text: String,
    pictures: Vec<String>,
    /// The open `<a>`: its target and where its label begins.
    link: Option<(String, usize)>,
    /// The open lists: `Some(n)` counts an ordered one.
    lists: Vec<Option<u32>>,
    /// How many `<pre>` are open: in them white space counts.
    pre: usize,
    /// Where the text stood after a list item's marker: its first block starts on the same line.
    marker_to: Option<usize>,
    /// The element whose content is skipped.
    skipping: Option<String>,
    /// How often each element is open.
    open: HashMap<String, usize>,
    /// How many elements are open, and the most that ever were.
    depth: usize,
    deepest: usize,
}

struct Sink(RefCell<Walk>);

fn walked(html: &str, links: Links) -> Walk {
    let walk = Walk {
        links,
        text: String::new(),
        pictures: Vec::new(),
        link: None,
        lists: Vec::new(),
        pre: 0,
        marker_to: None,
        skipping: None,
        open: HashMap::new(),
        depth: 0,
        deepest: 0,
    };
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    let tokenizer = Tokenizer::new(Sink(RefCell::new(walk)), TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let mut walk = tokenizer.sink.0.into_inner();
    let lines: Vec<&str> = walk.text.split('\n').map(str::trim_end).collect();
    walk.text = lines.join("\n").trim().to_owned();
    walk
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut walk = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) if walk.skipping.is_none() => walk.characters(&text),
            Token::TagToken(tag) => return walk.tag(&tag),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Walk {
    fn characters(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' if self.pre == 0 => {
                    if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
                        self.text.push(' ');
                    }
                }
                '\u{a0}' => self.text.push(' '),
                c => self.text.push(c),
            }
        }
    }

    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let starts = tag.kind == TagKind::StartTag;
        if let Some(skipping) = &self.skipping {
            if !starts && skipping == name {
                self.skipping = None;
            }
            return TokenSinkResult::Continue;
        }
        self.count(name, starts);
        match name {
            "script" | "style" | "title" if starts => {
                self.skipping = Some(name.to_owned());
                return TokenSinkResult::RawData(RawKind::Rawtext);
            }
            _ if starts && UNREAD.contains(&name) && !tag.self_closing => self.skipping = Some(name.to_owned()),
            "br" => self.text.push('\n'),
            "li" if starts => self.list_item(),
            "img" if starts => self.pictures.extend(attribute(tag, "src")),
            "a" => self.link(tag, starts),
            "td" | "th" => self.characters(" "),
            _ if BLOCKS.contains(&name) => self.block(name, starts),
            _ => {}
        }
        TokenSinkResult::Continue
    }

    fn count(&mut self, name: &str, starts: bool) {
        if ENDED_BY_OTHERS.contains(&name) {
            return;
        }
        let open = self.open.entry(name.to_owned()).or_default();
        if starts {
            *open += 1;
            self.depth += 1;
            self.deepest = self.deepest.max(self.depth);
        } else if *open > 0 {
            *open -= 1;
            self.depth -= 1;
        }
    }

    fn block(&mut self, name: &str, starts: bool) {
        self.fresh_line();
        match (name, starts) {
            ("ul", true) => self.lists.push(None),
            ("ol", true) => self.lists.push(Some(0)),
            ("ul" | "ol", false) => drop(self.lists.pop()),
            ("pre", true) => self.pre += 1,
            ("pre", false) => self.pre = self.pre.saturating_sub(1),
            _ => {}
        }
    }

    fn list_item(&mut self) {
        self.fresh_line();
        match self.lists.last_mut() {
            Some(Some(count)) => {
                *count = count.saturating_add(1);
                self.text.push_str(&format!("{count}. "));
            }
            _ => self.text.push_str("- "),
        }
        self.marker_to = Some(self.text.len());
    }

    fn link(&mut self, tag: &Tag, starts: bool) {
        if starts {
            self.link = attribute(tag, "href").map(|target| (target, self.text.len()));
            return;
        }
        let Some((target, label_from)) = self.link.take() else { return };
        let label = self.text.get(label_from..).unwrap_or_default().trim();
        let worth_showing = is_address(&target) && bare(label) != bare(&target) && !label.is_empty();
        if self.links == Links::WithTarget && worth_showing {
            self.text.push_str(&format!(" ({target})"));
        }
    }

    fn fresh_line(&mut self) {
        let fresh = self.text.is_empty() || self.text.ends_with('\n') || self.marker_to == Some(self.text.len());
        if !fresh {
            self.text.push('\n');
        }
    }
}

fn attribute(tag: &Tag, name: &str) -> Option<String> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| attribute.value.trim().to_owned())
}

fn is_address(target: &str) -> bool {
    let scheme = target.split(':').next().unwrap_or_default().to_ascii_lowercase();
    matches!(scheme.as_str(), "http" | "https" | "mailto") && target.len() > scheme.len()
}

/// An address without what people leave out when they write one.
fn bare(address: &str) -> &str {
    let rest = ["https://", "http://", "mailto:", "tel:"].into_iter().find_map(|scheme| address.strip_prefix(scheme));
    rest.unwrap_or(address).trim_end_matches('/')
}
