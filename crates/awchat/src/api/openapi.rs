//! The contract itself.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;

/// The document that the binary carries, as JSON.
pub(super) fn document() -> Bytes {
    let yaml = include_str!("../../../../api/openapi.yaml");
    let document: serde_json::Value = serde_norway::from_str(yaml).expect("a test serves the document");
    document.to_string().into()
}

pub(super) async fn serve(document: Bytes) -> impl IntoResponse {
    let json: (HeaderName, HeaderValue) = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([json], document)
}
