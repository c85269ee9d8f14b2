//! The contract itself.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, header};

use crate::app::App;
use crate::error::{Error, Result};

/// The document as JSON, made once at the start.
#[derive(Clone, Debug)]
pub struct Document(Bytes);

impl Document {
    /// Reads the document that the binary carries.
    ///
    /// # Errors
    /// When it is not YAML; a test would have said so.
    pub fn load() -> Result<Arc<Self>> {
        let yaml: serde_json::Value =
            serde_norway::from_str(include_str!("../../../../api/openapi.yaml")).map_err(Error::internal)?;
        Ok(Arc::new(Self(yaml.to_string().into())))
    }
}

pub(super) async fn document(State(app): State<App>) -> ([(header::HeaderName, HeaderValue); 1], Bytes) {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], app.openapi.0.clone())
}
