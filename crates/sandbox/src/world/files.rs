//! Attachments: bytes kept in memory behind signed addresses that expire, as Intercom's do.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

/// A file on a message.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) content_type: String,
}

/// An address given to us in `attachment_urls`, to be fetched like Intercom does.
pub(crate) struct Download {
    pub(crate) file: String,
    pub(crate) url: String,
}

/// What is there of a file; a download tells more than its address did.
struct Stored {
    name: Option<String>,
    content_type: String,
    bytes: Bytes,
}

/// The file store.
pub(crate) struct Files {
    base_url: String,
    secret: String,
    live_for: Duration,
    stored: HashMap<String, Stored>,
}

impl Files {
    pub(crate) fn new(base_url: &str, secret: &str, live_for: Duration) -> Self {
        Self { base_url: base_url.to_owned(), secret: secret.to_owned(), live_for, stored: HashMap::new() }
    }

    pub(crate) fn keep(&mut self, name: &str, content_type: &str, bytes: Bytes) -> Attachment {
        let file = format!("{:016x}", rand::random::<u64>());
        self.fill(&file, None, content_type, bytes);
        Attachment { file, name: name.to_owned(), content_type: content_type.to_owned() }
    }

    pub(crate) fn fill(&mut self, file: &str, name: Option<String>, content_type: &str, bytes: Bytes) {
        self.stored.insert(file.to_owned(), Stored { name, content_type: content_type.to_owned(), bytes });
    }

    /// As it stands in `attachments[]`; the address is new on each call and lives for a while.
    pub(crate) fn render(&self, attachment: &Attachment, now_s: i64) -> Value {
        let expires = now_s + i64::try_from(self.live_for.as_secs()).unwrap_or(i64::MAX / 2);
        let signature = self.sign(&attachment.file, expires);
        let stored = self.stored.get(&attachment.file);
        let name = stored.and_then(|stored| stored.name.as_ref()).unwrap_or(&attachment.name);
        let segment = crate::http::encode_segment(name);
        json!({
            "type": "upload",
            "name": name,
            "url": format!("{}/i/o/{}/{segment}?expires={expires}&signature={signature}&req=0000", self.base_url, attachment.file),
            "content_type": stored.map_or(&attachment.content_type, |stored| &stored.content_type),
            "filesize": stored.map_or(0, |stored| stored.bytes.len()),
            "width": null,
            "height": null,
        })
    }

    /// The file, unless the address was tampered with or is too old.
    pub(crate) fn fetch(&self, file: &str, expires: i64, signature: &str, now_s: i64) -> Option<(String, Bytes)> {
        let holds = signature == self.sign(file, expires) && now_s < expires;
        let stored = self.stored.get(file).filter(|_| holds)?;
        Some((stored.content_type.clone(), stored.bytes.clone()))
    }

    fn sign(&self, file: &str, expires: i64) -> String {
        crate::webhooks::signature(&self.secret, format!("{file}.{expires}").as_bytes()).replace("sha1=", "")
    }
}
