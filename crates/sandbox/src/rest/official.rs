//! Holds requests against Intercom's official description.

use std::sync::Arc;

use serde_json::Value;

use crate::exchange::Request;
use crate::openapi::Document;

/// What is right although the description does not have it: (part of the sentence, why).
const EXCEPTIONS: [(&str, &str); 2] = [
    (
        "property \"language_override\" is not documented",
        "writable since 2.15 says the reference; the description forgot it",
    ),
    (
        "request body at /custom_attributes/",
        "the guide allows flat numbers and booleans; the description knows text and integers",
    ),
];

/// What of a request does not fit, one sentence each. Without a description only the headers are looked at.
pub(crate) fn violations(document: Option<&Arc<Document>>, request: &Request) -> Vec<String> {
    let mut found = header_violations(request);
    if let Some(document) = document {
        let body = (!request.body.is_null()).then_some(&request.body);
        let sentences =
            document.check_request(&request.method, &request.path_and_query(), body).err().unwrap_or_default();
        let excepted = |sentence: &String| EXCEPTIONS.iter().any(|(part, _)| sentence.contains(part));
        found.extend(sentences.into_iter().filter(|sentence| !excepted(sentence)));
    }
    found
}

fn header_violations(request: &Request) -> Vec<String> {
    let name = format!("{} {}", request.method, request.path);
    let mut found = Vec::new();
    match request.version.as_deref() {
        Some(crate::http::VERSION) => {}
        Some(other) => found.push(format!("{name}: Intercom-Version is {other}, not {}", crate::http::VERSION)),
        None => found.push(format!("{name}: Intercom-Version is missing")),
    }
    let is_json = request.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    if !request.raw.is_empty() && !is_json {
        found.push(format!("{name}: Content-Type is not application/json"));
    }
    if !request.raw.is_empty() && matches!(request.body, Value::Null) {
        found.push(format!("{name}: the body is not JSON"));
    }
    found
}
