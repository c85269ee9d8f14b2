//! JSON Schema inside an OpenAPI document: reading it, bringing 3.0 up to date, compiling and checking.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{Draft, Registry, Validator};
use serde_json::{Map, Value, json};

/// The address the document gets in the registry, so that its local `$ref`s resolve.
const BASE: &str = "urn:openapi:document";
/// A sentence about a big body would otherwise hold the whole body.
const MAX_SENTENCE_CHARS: usize = 300;

pub(super) struct Schemas {
    registry: Registry<'static>,
    compiled: Mutex<HashMap<String, Result<Arc<Validator>, String>>>,
}

impl Schemas {
    pub(super) fn new(root: Value) -> Result<Self, String> {
        let registry = Registry::new().draft(Draft::Draft202012).add(BASE, root).map_err(|e| e.to_string())?;
        let registry = registry.prepare().map_err(|e| e.to_string())?;
        Ok(Self { registry, compiled: Mutex::default() })
    }

    /// Sentences on what of `value` does not fit the schema at `pointer`; none if it fits.
    pub(super) fn check(&self, pointer: &str, value: &Value, what: &str) -> Vec<String> {
        match self.validator(pointer) {
            Err(why) => vec![format!("{what}: the schema at {pointer} is unusable: {why}")],
            Ok(validator) => {
                let sentence = |error: jsonschema::ValidationError<'_>| {
                    let place = error.instance_path().to_string();
                    let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                    shorten(&format!("{what}{place}: {error}"))
                };
                validator.iter_errors(value).map(sentence).collect()
            }
        }
    }

    /// As [`Schemas::check`] for a parameter, which is text that may mean a number or a boolean.
    pub(super) fn check_text(&self, pointer: &str, text: &str, name: &str) -> Vec<String> {
        let meant = serde_json::from_str::<Value>(text).ok().filter(|v| v.is_number() || v.is_boolean());
        let fits = meant.is_some_and(|value| self.check(pointer, &value, name).is_empty());
        if fits { Vec::new() } else { self.check(pointer, &json!(text), &format!("parameter \"{name}\"")) }
    }

    fn validator(&self, pointer: &str) -> Result<Arc<Validator>, String> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(pointer) {
            return known.clone();
        }
        let reference = json!({ "$ref": format!("{BASE}#{}", as_fragment(pointer)) });
        let options = jsonschema::options().with_draft(Draft::Draft202012).with_registry(&self.registry);
        // `format` is an annotation, as 2020-12 has it: Intercom calls a 24-digit hex id a `uuid`, and a number a `date-time`.
        let built = options.should_validate_formats(false).build(&reference);
        let result = built.map(Arc::new).map_err(|error| error.to_string());
        compiled.insert(pointer.to_owned(), result.clone());
        result
    }
}

/// Parses YAML. Keys that YAML reads as numbers (`200:`) become text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    match serde_norway::from_str::<Value>(text) {
        Ok(value) => Ok(value),
        Err(_) => {
            let value: serde_norway::Value = serde_norway::from_str(text).map_err(|error| error.to_string())?;
            Ok(with_text_keys(value))
        }
    }
}

fn with_text_keys(value: serde_norway::Value) -> Value {
    use serde_norway::Value as Yaml;
    match value {
        Yaml::Mapping(map) => {
            let key = |key: Yaml| match key {
                Yaml::String(text) => text,
                other => with_text_keys(other).to_string(),
            };
            Value::Object(map.into_iter().map(|(name, value)| (key(name), with_text_keys(value))).collect())
        }
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(with_text_keys).collect()),
        Yaml::Tagged(tagged) => with_text_keys(tagged.value),
        scalar => serde_json::to_value(scalar).unwrap_or(Value::Null),
    }
}

/// Turns OpenAPI 3.0 into what JSON Schema 2020-12 understands: `nullable` and the boolean `exclusiveMinimum`.
pub(super) fn modernise(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(modernise),
        Value::Object(map) => {
            for (key, child) in map.iter_mut() {
                match key.as_str() {
                    // Samples are data: a `nullable` in them means nothing.
                    "example" | "examples" | "default" | "enum" => {}
                    // Here the keys are names, and may be called `example`.
                    "properties" => child.as_object_mut().into_iter().flatten().for_each(|(_, child)| modernise(child)),
                    _ => modernise(child),
                }
            }
            modernise_bound(map, "exclusiveMinimum", "minimum");
            modernise_bound(map, "exclusiveMaximum", "maximum");
            if map.get("nullable").is_some_and(Value::is_boolean) && map.remove("nullable") == Some(Value::Bool(true)) {
                allow_null(map);
            }
        }
        _ => {}
    }
}

fn allow_null(map: &mut Map<String, Value>) {
    let combined = ["$ref", "allOf", "anyOf", "oneOf", "not"].into_iter().any(|key| map.contains_key(key));
    if combined {
        let schema = Value::Object(std::mem::take(map));
        map.insert("anyOf".to_owned(), json!([schema, { "type": "null" }]));
        return;
    }
    if let Some(only) = map.get("type").filter(|kind| kind.is_string()).cloned() {
        map.insert("type".to_owned(), json!([only, "null"]));
    }
    if let Some(Value::Array(values)) = map.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

fn modernise_bound(map: &mut Map<String, Value>, exclusive: &str, inclusive: &str) {
    match map.get(exclusive) {
        Some(Value::Bool(true)) => {
            map.remove(exclusive);
            if let Some(bound) = map.remove(inclusive) {
                map.insert(exclusive.to_owned(), bound);
            }
        }
        Some(Value::Bool(false)) => {
            map.remove(exclusive);
        }
        _ => {}
    }
}

/// The names of all properties that the schema at `pointer` lists, over all its branches; None if it allows any.
pub(super) fn listed_properties(root: &Value, pointer: &str) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let closed = collect(root, root.pointer(pointer)?, &mut names, 0);
    (closed && !names.is_empty()).then_some(names)
}

fn collect(root: &Value, schema: &Value, names: &mut BTreeSet<String>, depth: usize) -> bool {
    const TOO_DEEP: usize = 16;
    if depth > TOO_DEEP {
        return false;
    }
    if ["additionalProperties", "patternProperties"].into_iter().any(|key| schema.get(key).is_some_and(|v| v != false))
    {
        return false;
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        names.extend(properties.keys().cloned());
    }
    let target =
        schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|p| root.pointer(p));
    let branches = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    target.into_iter().chain(branches).all(|branch| collect(root, branch, names, depth + 1))
}

/// `parent` and the unescaped names below it, as a JSON pointer.
pub(super) fn pointer_to(parent: &str, names: &[&str]) -> String {
    let escaped = names.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    std::iter::once(parent.to_owned()).chain(escaped).collect()
}

/// A JSON pointer as it may stand in a URI: a path template has braces.
fn as_fragment(pointer: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    pointer.bytes().map(escape).collect()
}

fn shorten(sentence: &str) -> String {
    if sentence.chars().count() <= MAX_SENTENCE_CHARS {
        return sentence.to_owned();
    }
    let start: String = sentence.chars().take(MAX_SENTENCE_CHARS / 2).collect();
    let tail: Vec<char> = sentence.chars().rev().take(MAX_SENTENCE_CHARS / 2).collect();
    format!("{start} … {}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nullable_becomes_the_null_type() {
        let mut schema = json!({"properties": {
            "example": {"type": "string", "nullable": true, "enum": ["a"]},
            "other": {"$ref": "#/x", "nullable": true},
            "never": {"type": "integer", "nullable": false, "minimum": 1, "exclusiveMinimum": true},
        }});
        modernise(&mut schema);
        assert_eq!(
            schema,
            json!({"properties": {
                "example": {"type": ["string", "null"], "enum": ["a", null]},
                "other": {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]},
                "never": {"type": "integer", "exclusiveMinimum": 1},
            }})
        );
    }

    #[test]
    fn number_keys_are_read_as_text() {
        assert_eq!(parse("responses:\n  200:\n    a: 1\n").expect("yaml"), json!({"responses": {"200": {"a": 1}}}));
    }

    #[test]
    fn properties_are_listed_over_all_branches() {
        let root = json!({"s": {"oneOf": [{"$ref": "#/a"}, {"properties": {"y": {}}}]}, "a": {"properties": {"x": {}}},
            "open": {"properties": {"x": {}}, "additionalProperties": true}});
        let names = listed_properties(&root, "/s").expect("closed");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(listed_properties(&root, "/open"), None);
    }
}
