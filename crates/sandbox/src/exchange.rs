//! One request and one answer, as plain data.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::phones::Gate;

/// A request, read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) accept: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) raw: Bytes,
    /// Null when there is no body, or none that is JSON.
    pub(crate) body: Value,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// What becomes of a request in the end.
pub(crate) struct Reply {
    /// None: the connection is broken.
    answer: Option<Answer>,
    after_ms: u64,
    gate: Option<Arc<Gate>>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer: Some(answer), after_ms: 0, gate: None }
    }
}

impl Reply {
    /// No answer, after a silence.
    pub(crate) fn broken_after(ms: u64) -> Self {
        Self { answer: None, after_ms: ms, gate: None }
    }

    /// An answer that waits at a gate, if there is one.
    pub(crate) fn held(answer: Answer, gate: Option<Arc<Gate>>) -> Self {
        Self { answer: Some(answer), after_ms: 0, gate }
    }

    /// Waits until it is due.
    pub(crate) async fn when_due(self) -> Option<Answer> {
        if let Some(gate) = self.gate {
            gate.pass().await;
        }
        if self.after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.after_ms)).await;
        }
        self.answer
    }
}

impl Request {
    /// The path's segments, decoded.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.split('/').skip(1).map(crate::openapi::decode).collect()
    }

    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        crate::openapi::query_pairs(&self.query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// The body's field of that name, or null.
    pub(crate) fn field(&self, name: &str) -> &Value {
        self.body.get(name).unwrap_or(&Value::Null)
    }

    /// A text field, if it is there and not blank.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.field(name).as_str().filter(|text| !text.trim().is_empty())
    }

    /// An id: text or a number, as Intercom takes both.
    pub(crate) fn id(&self, name: &str) -> Option<String> {
        match self.field(name) {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json; charset=utf-8", body.to_string().into_bytes())
    }

    pub(crate) fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), content_type: content_type.to_owned(), body: body.into() }
    }

    /// An `error.list`, as Intercom refuses.
    pub(crate) fn refusal(status: u16, code: &str, message: impl Into<String>) -> Self {
        let error = json!({ "code": code, "message": message.into(), "field": null });
        Self::json(status, &json!({ "type": "error.list", "request_id": crate::http::uuid(), "errors": [error] }))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
