//! One operation: how it is called, what it takes, what it answers.

use serde_norway::Value;

use super::schema;
use super::text::{at, escape, follow, list, map, markdown, reference, sentence, text};

const METHODS: [&str; 8] = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];

/// An operation of the document.
pub(super) struct Operation<'a> {
    /// Its operationId: its place on the page.
    pub(super) id: &'a str,
    /// Whose chapter it stands in.
    pub(super) tag: &'a str,
    /// What it does, in a few words.
    pub(super) summary: &'a str,
    /// All of it.
    pub(super) html: String,
}

/// Every operation, in the document's order.
pub(super) fn all(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in map(at(document, "/paths")) {
        for (method, operation) in METHODS.iter().filter_map(|method| Some((*method, item.get(*method)?))) {
            operations.push(Operation {
                id: text(operation, "/operationId"),
                tag: list(at(operation, "/tags")).find_map(Value::as_str).unwrap_or_default(),
                summary: text(operation, "/summary"),
                html: article(document, path, method, item, operation),
            });
        }
    }
    operations
}

fn article(document: &Value, path: &str, method: &str, item: &Value, operation: &Value) -> String {
    let security = operation.get("security").unwrap_or_else(|| at(document, "/security"));
    let is_open = list(security).next().is_none();
    let token = if is_open { "no token needed" } else { "<a href=\"#securitySchemes\">session token</a>" };
    let (id, summary) = (escape(text(operation, "/operationId")), escape(text(operation, "/summary")));
    let parameters: String = list(at(item, "/parameters"))
        .chain(list(at(operation, "/parameters")))
        .map(|parameter| self::parameter(follow(document, parameter)))
        .collect();
    let parameters = titled("Parameters", &parameters);
    let answers: String = map(at(operation, "/responses")).map(|(status, of)| answer(document, status, of)).collect();
    format!(
        "<article id=\"{id}\">\n<h3>{summary}</h3>\n<p class=\"call\"><span class=\"{method}\">{}</span> \
         <code>{}</code></p>\n<p class=\"meta\"><code>{id}</code>, {token}</p>\n{}{parameters}{}{}</article>\n",
        method.to_uppercase(),
        breakable(path),
        markdown(text(operation, "/description")),
        body(document, at(operation, "/requestBody")),
        titled("Answers", &answers),
    )
}

fn titled(title: &str, entries: &str) -> String {
    if entries.is_empty() { String::new() } else { format!("<h4>{title}</h4>\n<dl>\n{entries}</dl>\n") }
}

/// A long path may go on in the next line, at its slashes.
fn breakable(path: &str) -> String {
    escape(path).replace('/', "/<wbr>")
}

fn parameter(parameter: &Value) -> String {
    let required = at(parameter, "/required").as_bool() == Some(true);
    let required = if required { ", <em>required</em>" } else { "" };
    format!(
        "<dt><code>{}</code> in {}{required}, {}</dt>\n<dd>{}{}</dd>\n",
        escape(text(parameter, "/name")),
        escape(text(parameter, "/in")),
        schema::line(at(parameter, "/schema")),
        sentence(text(parameter, "/description")),
        parameter.get("example").map(|example| format!(" Such as {}.", schema::code(example))).unwrap_or_default(),
    )
}

fn body(document: &Value, body: &Value) -> String {
    let body = follow(document, body);
    if body.is_null() {
        return String::new();
    }
    let about = markdown(text(body, "/description"));
    let kinds: String = map(at(body, "/content")).map(|(kind, content)| media(document, kind, content, true)).collect();
    format!("<h4>Body</h4>\n{about}{kinds}")
}

/// One kind of content: its schema, its fields where it is to be written, and its examples.
fn media(document: &Value, kind: &str, content: &Value, with_fields: bool) -> String {
    let schema = at(content, "/schema");
    let line = if schema.is_null() { String::new() } else { format!(": {}", schema::line(schema)) };
    let meant = follow(document, schema);
    let is_named = reference(schema).is_some();
    let about = if with_fields && is_named { markdown(text(meant, "/description")) } else { String::new() };
    let fields = if with_fields || !is_named { schema::fields(meant) } else { String::new() };
    let examples: String = map(at(content, "/examples"))
        .map(|(_, example)| self::example(text(example, "/summary"), at(example, "/value")))
        .chain(content.get("example").map(|value| example("Example", value)))
        .collect();
    format!("<p class=\"media\"><code>{}</code>{line}</p>\n{about}{fields}{examples}", escape(kind))
}

fn example(title: &str, value: &Value) -> String {
    let title = if title.is_empty() { "Example" } else { title };
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("<details>\n<summary>{}</summary>\n<pre><code>{}</code></pre>\n</details>\n", escape(title), escape(&json))
}

/// A good answer with all it has; of a refusal, which is one of a few everywhere, what it means.
fn answer(document: &Value, status: &str, answer: &Value) -> String {
    let answer = follow(document, answer);
    let about = sentence(text(answer, "/description"));
    let status_html = escape(status);
    if !status.starts_with('2') && !status.starts_with('3') {
        let kinds = map(at(answer, "/content")).filter_map(|(_, content)| reference(at(content, "/schema")));
        let kinds: String = kinds.map(|name| format!(" <a href=\"#schema-{0}\">{0}</a>", escape(name))).collect();
        return format!("<dt><code>{status_html}</code>{kinds}</dt>\n<dd>{about}</dd>\n");
    }
    let kinds: String =
        map(at(answer, "/content")).map(|(kind, content)| media(document, kind, content, false)).collect();
    let headers: Vec<String> = map(at(answer, "/headers")).map(|(name, header)| self::header(name, header)).collect();
    let headers = match headers.is_empty() {
        true => String::new(),
        false => format!("<p class=\"headers\">Headers: {}</p>\n", headers.join(", ")),
    };
    format!("<dt><code>{status_html}</code></dt>\n<dd><p>{about}</p>\n{kinds}{headers}</dd>\n")
}

/// A header all answers share is described once; another one here.
fn header(name: &str, header: &Value) -> String {
    let shown = escape(name);
    match reference(header) {
        Some(target) => format!("<a href=\"#header-{}\"><code>{shown}</code></a>", escape(target)),
        None => format!("<code>{shown}</code> ({})", sentence(text(header, "/description")).trim_end_matches('.')),
    }
}
