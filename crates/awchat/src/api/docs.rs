//! The contract as a page: written here from the document, without a script and without anything from elsewhere.

use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_norway::Value;
use sha2::{Digest, Sha256};

mod operation;
mod schema;
mod text;

use text::{at, escape, map, markdown, text};

const STYLE: &str = include_str!("docs/style.css");

/// What the page may do: show itself in its own style, and nothing else.
pub(super) fn policy() -> HeaderValue {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
}

/// The whole page.
pub(super) fn page(document: &Value) -> String {
    let title = escape(text(document, "/info/title"));
    let version = escape(text(document, "/info/version"));
    let about = markdown(text(document, "/info/description"));
    let (contents, chapters): (Vec<_>, Vec<_>) = chapters(document).into_iter().map(Chapter::rendered).unzip();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} {version}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<nav aria-label=\"Contents\">\n<p><a href=\"#top\">{title}</a></p>\n\
         <ul>\n{}</ul>\n</nav>\n<main id=\"top\">\n<h1>{title} <small>{version}</small></h1>\n{about}\
         <p>For programs: <a href=\"openapi.json\"><code>/openapi.json</code></a>.</p>\n{}</main>\n</body>\n</html>\n",
        contents.concat(),
        chapters.concat(),
    )
}

/// A heading, what the table of contents has below it, and its content.
struct Chapter {
    id: String,
    name: String,
    entries: Vec<(String, String)>,
    html: String,
}

impl Chapter {
    /// Its part of the table of contents, and the chapter.
    fn rendered(self) -> (String, String) {
        let entry = |(id, name): &(String, String)| format!("<li><a href=\"#{id}\">{name}</a></li>\n");
        let below: String = self.entries.iter().map(entry).collect();
        let Self { id, name, html, .. } = self;
        (
            format!("<li><a href=\"#{id}\">{name}</a>\n<ul>\n{below}</ul>\n</li>\n"),
            format!("<section id=\"{id}\">\n<h2>{name}</h2>\n{html}</section>\n"),
        )
    }
}

/// A chapter for each tag, then what they speak of.
fn chapters(document: &Value) -> Vec<Chapter> {
    let operations = operation::all(document);
    let tags = at(document, "/tags").as_sequence().into_iter().flatten();
    let of_tag = |tag: &Value| {
        let name = text(tag, "/name");
        let own: Vec<_> = operations.iter().filter(|operation| operation.tag == name).collect();
        let articles: String = own.iter().map(|operation| operation.html.as_str()).collect();
        Chapter {
            id: format!("tag-{}", escape(name)),
            name: escape(name),
            entries: own.iter().map(|own| (escape(own.id), escape(own.summary))).collect(),
            html: markdown(text(tag, "/description")) + &articles,
        }
    };
    let parts = [
        ("securitySchemes", "scheme", "Session token", false),
        ("schemas", "schema", "Schemas", true),
        ("headers", "header", "Headers", true),
    ];
    tags.map(of_tag).chain(parts.map(|part| components(document, part))).collect()
}

/// A chapter of one kind of component: its place in the document, how its ids begin, its heading, and whether the
/// contents list what it has.
fn components(document: &Value, (place, prefix, heading, listed): (&str, &str, &str, bool)) -> Chapter {
    let (mut entries, mut html) = (Vec::new(), String::new());
    for (name, component) in map(at(document, &format!("/components/{place}"))) {
        let (id, name) = (format!("{prefix}-{}", escape(name)), escape(name));
        let about = markdown(text(component, "/description"));
        let shape = match place {
            "schemas" => schema::whole(component),
            "headers" => format!("<p>{}</p>\n", schema::line(at(component, "/schema"))),
            _ => format!("<p><code>Authorization: Bearer</code> {}</p>\n", escape(text(component, "/bearerFormat"))),
        };
        html += &format!("<article id=\"{id}\">\n<h3>{name}</h3>\n{about}{shape}</article>\n");
        if listed {
            entries.push((id, name));
        }
    }
    Chapter { id: place.to_owned(), name: heading.to_owned(), entries, html }
}

#[cfg(test)]
mod tests;
