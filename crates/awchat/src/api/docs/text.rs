//! Reading the document, and writing HTML.

use pulldown_cmark::{Event, Options, Parser, html};
use serde_norway::Value;

/// What stands at a JSON pointer without escapes; null where nothing does.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    let steps = pointer.split('/').skip(1);
    steps.fold(value, |value, step| value.get(step).unwrap_or(&Value::Null))
}

/// The text at a pointer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}

/// The named members of an object, in the document's order.
pub(super) fn map(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_mapping().into_iter().flatten().filter_map(|(name, value)| Some((name.as_str()?, value)))
}

/// The members of an array.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

/// The last name of a reference, such as `NotFound` of `#/components/responses/NotFound`.
pub(super) fn reference(value: &Value) -> Option<&str> {
    value.get("$ref")?.as_str()?.rsplit('/').next()
}

/// The value, or what it refers to.
pub(super) fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
        Some(pointer) => follow(document, at(document, pointer)),
        None => value,
    }
}

/// A value as JSON on one line.
pub(super) fn json(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Text as HTML, in an attribute too.
pub(super) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// Markdown as HTML; HTML within it is shown as it is written.
pub(super) fn markdown(text: &str) -> String {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        other => other,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

/// As [`markdown`], a single paragraph without its tags.
pub(super) fn sentence(text: &str) -> String {
    let html = markdown(text);
    let inside = html.trim_end().strip_prefix("<p>").and_then(|html| html.strip_suffix("</p>"));
    inside.filter(|inside| !inside.contains("<p>")).map(str::to_owned).unwrap_or(html)
}
