//! Does this request, or this answer, fit an OpenAPI document? Used for Intercom's description here, and for our own elsewhere.

mod paths;
mod schema;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde_json::Value;

pub(crate) use paths::{decode, query_pairs};

use paths::Routes;
use schema::{Schemas, pointer_to};

/// An OpenAPI 3.0 or 3.1 document, ready to check traffic against. Only local `$ref`s are followed.
///
/// Schemas are compiled when first needed and kept, so that loading stays cheap and checking gets faster.
pub struct Document {
    root: Value,
    routes: Routes,
    schemas: Schemas,
}

impl Document {
    /// Reads a YAML or JSON file.
    ///
    /// # Errors
    /// When the file cannot be read, or is no OpenAPI document.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::from_yaml(&std::fs::read_to_string(path)?)
    }

    /// As [`Document::load`], but read once per process: many sandboxes in one test binary share the parsed document and its
    /// compiled schemas.
    ///
    /// # Errors
    /// As [`Document::load`].
    pub fn shared(path: &Path) -> io::Result<Arc<Self>> {
        // The only process-wide state of this crate: a cache of a file that does not change while tests run.
        static LOADED: LazyLock<Mutex<HashMap<PathBuf, Arc<Document>>>> = LazyLock::new(Mutex::default);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = loaded.get(path) {
            return Ok(Arc::clone(document));
        }
        let document = Arc::new(Self::load(path)?);
        loaded.insert(path.to_owned(), Arc::clone(&document));
        Ok(document)
    }

    /// Reads a YAML (or JSON) text.
    ///
    /// # Errors
    /// When the text is no OpenAPI document.
    pub fn from_yaml(text: &str) -> io::Result<Self> {
        let mut root = schema::parse(text).map_err(invalid)?;
        let version = root.get("openapi").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !version.starts_with("3.") {
            return Err(invalid("no `openapi: 3.x` at the top"));
        }
        if version.starts_with("3.0") {
            schema::modernise(&mut root);
        }
        let routes = Routes::of(&root);
        let schemas = Schemas::new(root.clone()).map_err(invalid)?;
        Ok(Self { root, routes, schemas })
    }

    /// Every operation, as (METHOD, path template).
    pub fn operations(&self) -> Vec<(String, String)> {
        self.routes.operations()
    }

    /// Checks a request: its path, method, query parameters and JSON body. Header parameters are not looked at.
    ///
    /// A body property or a query parameter that the document does not list is an error too, unless it says
    /// `additionalProperties`: that is how typing mistakes look.
    ///
    /// # Errors
    /// One sentence for each thing that does not fit.
    pub fn check_request(&self, method: &str, path_and_query: &str, body: Option<&Value>) -> Result<(), Vec<String>> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let name = format!("{method} {path}");
        let operation = self.operation(method, path).map_err(|sentence| vec![sentence])?;
        let mut found = self.check_parameters(&operation, query);
        found.extend(self.check_request_body(&operation, body));
        report(&name, found)
    }

    /// Checks an answer: whether its status, content type, required headers and JSON body are documented for the operation. A
    /// `default` or `4XX` response counts. `body` is what the answer holds, if it is JSON.
    ///
    /// # Errors
    /// One sentence for each thing that does not fit.
    pub fn check_response(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: Option<&str>,
        headers: &[(String, String)],
        body: Option<&Value>,
    ) -> Result<(), Vec<String>> {
        let path = path.split('?').next().unwrap_or_default();
        let name = format!("{method} {path} -> {status}");
        let operation = self.operation(method, path).map_err(|sentence| vec![sentence])?;
        let range = format!("{}XX", status / 100);
        let responses = self.at(&pointer_to(&operation.pointer, &["responses"]));
        let documented =
            [status.to_string(), range, "default".to_owned()].into_iter().find(|key| responses.get(key).is_some());
        let Some(key) = documented else {
            return report(&name, vec!["this status is not documented".to_owned()]);
        };
        let pointer = self.follow(pointer_to(&operation.pointer, &["responses", &key]));
        let mut found = self.missing_headers(&pointer, headers);
        found.extend(self.check_content(&pointer, content_type, body));
        report(&name, found)
    }

    /// Checks a value against the schema of this name, for what travels otherwise than as a body.
    ///
    /// # Errors
    /// One sentence for each thing that does not fit.
    pub fn check_schema(&self, name: &str, value: &Value) -> Result<(), Vec<String>> {
        let pointer = pointer_to("", &["components", "schemas", name]);
        if self.at(&pointer).is_null() {
            return report(name, vec!["this schema is not documented".to_owned()]);
        }
        report(name, self.schemas.check(&pointer, value, "value"))
    }

    fn operation(&self, method: &str, path: &str) -> Result<paths::Operation, String> {
        self.routes.find(method, path).map_err(|why| format!("{method} {path}: {why}"))
    }

    fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The place a pointer means, once its `$ref`s are followed.
    fn follow(&self, mut pointer: String) -> String {
        while let Some(target) = self.at(&pointer).get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'))
        {
            pointer = target.to_owned();
        }
        pointer
    }

    fn check_request_body(&self, operation: &paths::Operation, body: Option<&Value>) -> Vec<String> {
        let pointer = self.follow(pointer_to(&operation.pointer, &["requestBody"]));
        let documented = self.at(&pointer);
        let required = documented.get("required").and_then(Value::as_bool).unwrap_or(false);
        let schema = pointer_to(&pointer, &["content", "application/json", "schema"]);
        match body {
            None if required => vec!["the request body is missing".to_owned()],
            None => Vec::new(),
            Some(_) if documented.is_null() => vec!["a request body is not documented".to_owned()],
            Some(_) if self.at(&schema).is_null() => Vec::new(),
            Some(body) => {
                let mut found = self.schemas.check(&schema, body, "request body");
                found.extend(self.unknown_properties(&schema, body));
                found
            }
        }
    }

    fn unknown_properties(&self, schema: &str, body: &Value) -> Vec<String> {
        let (Some(known), Some(body)) = (schema::listed_properties(&self.root, schema), body.as_object()) else {
            return Vec::new();
        };
        let unknown = body.keys().filter(|name| !known.contains(name.as_str()));
        unknown.map(|name| format!("request body: property \"{name}\" is not documented")).collect()
    }

    fn check_parameters(&self, operation: &paths::Operation, query: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut documented = BTreeSet::new();
        let given: Vec<(String, String)> = paths::query_pairs(query);
        for pointer in self.parameters(operation) {
            let parameter = self.at(&pointer);
            let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
            let values: Vec<&str> = match parameter.get("in").and_then(Value::as_str) {
                Some("query") => given.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect(),
                Some("path") => {
                    operation.values.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect()
                }
                _ => continue,
            };
            documented.insert(name.to_owned());
            if values.is_empty() && parameter.get("required").and_then(Value::as_bool).unwrap_or(false) {
                found.push(format!("parameter \"{name}\" is missing"));
            }
            let schema = pointer_to(&pointer, &["schema"]);
            if !self.at(&schema).is_null() {
                found.extend(values.iter().flat_map(|value| self.schemas.check_text(&schema, value, name)));
            }
        }
        let unknown = given.iter().filter(|(name, _)| !documented.contains(name));
        found.extend(unknown.map(|(name, _)| format!("query parameter \"{name}\" is not documented")));
        found
    }

    /// Pointers to the parameters of an operation, those of its path included.
    fn parameters(&self, operation: &paths::Operation) -> Vec<String> {
        [&operation.pointer, &operation.path_pointer]
            .into_iter()
            .flat_map(|owner| {
                let list = pointer_to(owner, &["parameters"]);
                let count = self.at(&list).as_array().map_or(0, Vec::len);
                (0..count).map(move |index| pointer_to(&list, &[&index.to_string()]))
            })
            .map(|pointer| self.follow(pointer))
            .collect()
    }

    fn missing_headers(&self, response: &str, headers: &[(String, String)]) -> Vec<String> {
        let pointer = pointer_to(response, &["headers"]);
        let Some(documented) = self.at(&pointer).as_object() else { return Vec::new() };
        let mut found = Vec::new();
        for name in documented.keys() {
            let header = self.at(&self.follow(pointer_to(&pointer, &[name]))).clone();
            let required = header.get("required").and_then(Value::as_bool).unwrap_or(false);
            if required && !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                found.push(format!("header \"{name}\" is missing"));
            }
        }
        found
    }

    fn check_content(&self, response: &str, content_type: Option<&str>, body: Option<&Value>) -> Vec<String> {
        let pointer = pointer_to(response, &["content"]);
        let Some(documented) = self.at(&pointer).as_object().filter(|content| !content.is_empty()) else {
            return body.map(|_| "a body is not documented".to_owned()).into_iter().collect();
        };
        let Some(content_type) = content_type else { return vec!["there is no content type".to_owned()] };
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let range = format!("{}/*", media.split('/').next().unwrap_or_default());
        let keys = [media.as_str(), range.as_str(), "*/*"];
        let Some(key) = keys.into_iter().find(|key| documented.contains_key(*key)) else {
            return vec![format!("content type \"{media}\" is not documented")];
        };
        let schema = pointer_to(&pointer, &[key, "schema"]);
        let is_json = media == "application/json" || media.ends_with("+json");
        match body {
            Some(body) if !self.at(&schema).is_null() => self.schemas.check(&schema, body, "body"),
            None if is_json => vec!["there is no JSON body".to_owned()],
            _ => Vec::new(),
        }
    }
}

fn report(name: &str, found: Vec<String>) -> Result<(), Vec<String>> {
    if found.is_empty() { Ok(()) } else { Err(found.into_iter().map(|what| format!("{name}: {what}")).collect()) }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
