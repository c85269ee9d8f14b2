//! Schemas in words: a line for a value, a list of fields for an object.

use serde_norway::Value;

use super::text::{at, escape, json, list, map, reference, sentence, text};

/// A schema on its own: what it is, and its fields.
pub(super) fn whole(schema: &Value) -> String {
    format!("<p>{}</p>\n{}", line(schema), fields(schema))
}

/// What a value is, and which rules it keeps.
pub(super) fn line(schema: &Value) -> String {
    let rules = rules(schema);
    let kind = kind(schema);
    if rules.is_empty() { kind } else { format!("{kind} <span class=\"rules\">{rules}</span>") }
}

fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        let kinds: Vec<String> = list(at(schema, &format!("/{choice}"))).map(kind).collect();
        if !kinds.is_empty() {
            return kinds.join(if choice == "allOf" { " and " } else { " or " });
        }
    }
    let names: Vec<&str> = match at(schema, "/type") {
        Value::String(name) => vec![name],
        names => list(names).filter_map(Value::as_str).collect(),
    };
    let named = |name: &&str| match (*name, at(schema, "/items")) {
        ("array", items) if !items.is_null() => format!("array of {}", line(items)),
        ("object", _) if at(schema, "/additionalProperties").is_mapping() => {
            format!("object of {}", line(at(schema, "/additionalProperties")))
        }
        _ => escape(name),
    };
    let names: Vec<String> = names.iter().map(named).collect();
    if names.is_empty() { "anything".to_owned() } else { names.join(" or ") }
}

/// The constraints, each as a person would say it.
fn rules(schema: &Value) -> String {
    let mut rules = Vec::new();
    let values: Vec<String> = list(at(schema, "/enum")).chain(schema.get("const")).map(code).collect();
    if !values.is_empty() {
        rules.push(values.join(" | "));
    }
    let bounds = [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " long"),
        ("minItems", "maxItems", " of them"),
        ("minProperties", "maxProperties", " of them"),
    ];
    for (least, most, unit) in bounds {
        match (schema.get(least), schema.get(most)) {
            (Some(least), Some(most)) => rules.push(format!("{} to {}{unit}", json(least), json(most))),
            (Some(least), None) => rules.push(format!("at least {}{unit}", json(least))),
            (None, Some(most)) => rules.push(format!("at most {}{unit}", json(most))),
            (None, None) => {}
        }
    }
    if at(schema, "/uniqueItems").as_bool() == Some(true) {
        rules.push("no two alike".to_owned());
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        rules.push(format!("<code>{}</code>", escape(pattern)));
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        rules.push(escape(format));
    }
    if let Some(default) = schema.get("default") {
        rules.push(format!("default {}", code(default)));
    }
    rules.join(", ")
}

/// A value as it is written.
pub(super) fn code(value: &Value) -> String {
    let shown = value.as_str().map_or_else(|| json(value), str::to_owned);
    format!("<code>{}</code>", escape(&shown))
}

/// The fields of an object, or of the objects in an array; nothing for any other schema.
pub(super) fn fields(schema: &Value) -> String {
    let items = at(schema, "/items");
    let object = if items.get("properties").is_some() { items } else { schema };
    let required: Vec<&str> = list(at(object, "/required")).filter_map(Value::as_str).collect();
    let field = |(name, field): (&str, &Value)| {
        let always = if required.contains(&name) { " <em>required</em>" } else { "" };
        let about = sentence(text(field, "/description"));
        let (name, line, below) = (escape(name), line(field), fields(field));
        format!("<dt><code>{name}</code> {line}{always}</dt>\n<dd>{about}{below}</dd>\n")
    };
    let fields: String = map(at(object, "/properties")).map(field).collect();
    if fields.is_empty() { fields } else { format!("<dl>\n{fields}</dl>\n") }
}
