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

/// The file store.
pub(crate) struct Files {
    base_url: String,
    secret: String,
    live_for: Duration,
    bytes: HashMap<String, (String, Bytes)>,
}

impl Files {
    pub(crate) fn new(base_url: &str, secret: &str, live_for: Duration) -> Self {
        Self { base_url: base_url.to_owned(), secret: secret.to_owned(), live_for, bytes: HashMap::new() }
    }

    pub(crate) fn keep(&mut self, name: &str, content_type: &str, bytes: Bytes) -> Attachment {
        let file = format!("{:016x}", rand::random::<u64>());
        self.fill(&file, content_type, bytes);
        Attachment { file, name: name.to_owned(), content_type: content_type.to_owned() }
    }

    pub(crate) fn fill(&mut self, file: &str, content_type: &str, bytes: Bytes) {
        self.bytes.insert(file.to_owned(), (content_type.to_owned(), bytes));
    }

    /// As it stands in `attachments[]`; the address is new on each call and lives for a while.
    pub(crate) fn render(&self, attachment: &Attachment, now_s: i64) -> Value {
        let expires = now_s + i64::try_from(self.live_for.as_secs()).unwrap_or(i64::MAX / 2);
        let signature = self.sign(&attachment.file, expires);
        let name = crate::http::encode_segment(&attachment.name);
        json!({
            "type": "upload",
            "name": attachment.name,
            "url": format!("{}/i/o/{}/{name}?expires={expires}&signature={signature}&req=0000", self.base_url, attachment.file),
            "content_type": attachment.content_type,
            "filesize": self.bytes.get(&attachment.file).map_or(0, |(_, bytes)| bytes.len()),
            "width": null,
            "height": null,
        })
    }

    /// The file, unless the address was tampered with or is too old.
    pub(crate) fn fetch(&self, file: &str, expires: i64, signature: &str, now_s: i64) -> Option<(String, Bytes)> {
        (signature == self.sign(file, expires) && now_s < expires).then(|| self.bytes.get(file).cloned())?
    }

    fn sign(&self, file: &str, expires: i64) -> String {
        crate::webhooks::signature(&self.secret, format!("{file}.{expires}").as_bytes()).replace("sha1=", "")
    }
}
