//! The contract itself: as JSON for programs, as a page for people.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use serde_norway::Value;

use super::docs;

/// The document that the binary carries, ready to be sent.
#[derive(Clone)]
pub(super) struct Contract {
    json: Bytes,
    page: Bytes,
    page_policy: HeaderValue,
}

impl Contract {
    /// Reads api/openapi.yaml.
    pub(super) fn of_the_binary() -> Self {
        let yaml = include_str!("../../../../api/openapi.yaml");
        let document: Value = serde_norway::from_str(yaml).expect("a test serves the document");
        let json = serde_json::to_vec(&document).expect("a test serves the document");
        Self { json: json.into(), page: docs::page(&document).into(), page_policy: docs::policy() }
    }
}

pub(super) async fn json(contract: Contract) -> impl IntoResponse {
    let json: (HeaderName, HeaderValue) = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([json], contract.json)
}

pub(super) async fn page(contract: Contract) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, contract.page_policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, contract.page)
}
