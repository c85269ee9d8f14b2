//! Files on messages: the user's own on their way to Intercom, an operator's on their way here.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::io;

use super::draft::Attached;
use super::{Chat, view};
use crate::error::{Error, Result};
use crate::files::check::Kind;
use crate::files::link::Disposition;
use crate::files::name;
use crate::files::storage::Key;
use crate::id::{FileId, UserId};
use crate::intercom::Class;
use crate::intercom::downloads::MAX_BYTES;
use crate::model::{Attachment, Message};
use crate::store::Tx;
use crate::store::files::{File, RemoteFile};
use crate::store::outbound::Outbound;

/// How long an address is used that does not say how long it holds, in milliseconds.
const UNSAID_MS: i64 = 60_000;
/// An address is not used in its last moments, in milliseconds.
const MARGIN_MS: i64 = 60_000;

/// Files that are removed before asking for more.
const FILES_AT_ONCE: i64 = 100;

/// Where a file is at Intercom, for a while.
#[derive(Clone, Debug)]
pub(super) struct Source {
    url: String,
    until_ms: i64,
}

/// A file on an operator's message, as it comes.
pub struct Content {
    /// As it is shown.
    pub name: String,
    /// One of ours, or bytes of unknown kind.
    pub content_type: String,
    /// Bytes, where told.
    pub len: Option<u64>,
    /// The bytes.
    pub chunks: BoxStream<'static, io::Result<Bytes>>,
}

impl Chat {
    /// What the user's message holds besides its words, and what Intercom is sent for them.
    ///
    /// # Errors
    /// `Validation` unless all files are the user's own.
    pub(super) async fn attached(
        &self,
        user: &UserId,
        text: Option<String>,
        ids: &[FileId],
    ) -> Result<(Option<String>, Attached)> {
        if ids.is_empty() {
            return Ok((text, Attached::default()));
        }
        let mut files = Vec::with_capacity(ids.len());
        for id in ids {
            files.push(attachment(self.store.file(user, id).await?.ok_or_else(no_such_file)?));
        }
        // Intercom takes no message without words.
        let shown = if text.is_none() { Some(String::new()) } else { None };
        let names = files.iter().map(|file: &Attachment| file.name.as_str()).collect::<Vec<_>>().join(", ");
        Ok((Some(text.unwrap_or(names)), Attached { files, shown, is_folded: false }))
    }

    /// Addresses at which Intercom fetches the files of a message.
    pub(super) fn urls(&self, row: &Outbound) -> Vec<String> {
        let now_s = self.clock.now_s();
        let ids = files_of(row).files.into_iter().filter_map(|file| FileId::parse(&file.id));
        ids.map(|id| self.files.links().link(&id, Disposition::Inline, now_s).url).collect()
    }

    /// The row with its files as links in the words: for an Intercom that does not take them. `None` if it has none, or
    /// they are there already.
    pub(super) fn folded(&self, row: &Outbound) -> Option<Outbound> {
        let mut opening = super::draft::opening(row).ok().filter(|opening| !opening.attached.files.is_empty())?;
        if opening.attached.is_folded {
            return None;
        }
        let now_s = self.clock.now_s();
        let line = |file: &Attachment| {
            let id = FileId::parse(&file.id)?;
            Some(format!("{}: {}", file.name, self.files.links().lasting(&id, now_s).url))
        };
        let links: Vec<String> = opening.attached.files.iter().filter_map(line).collect();
        let words = opening.attached.shown.get_or_insert_with(|| row.body.clone());
        let body = format!("{words}\n{}", links.join("\n")).trim().to_owned();
        opening.attached.is_folded = true;
        let payload = serde_json::to_string(&opening).ok()?;
        Some(Outbound { content: super::mirror::content(&body), body, payload, ..row.clone() })
    }

    /// Removes the objects of files that were given up, and then the files.
    pub async fn remove_files(&self) -> Result<()> {
        loop {
            let gone = self.store.files_gone(FILES_AT_ONCE).await?;
            for (id, object) in &gone {
                if let Some(key) = Key::parse(object) {
                    self.files.storage().remove(&key).await.map_err(Error::internal)?;
                }
                self.store.forget_file(id).await?;
            }
            if gone.is_empty() {
                return Ok(());
            }
        }
    }

    /// A message as a client gets it: with addresses that hold for a day.
    pub(super) fn shown(&self, mut message: Message) -> Message {
        let now_s = self.clock.now_s();
        for file in &mut message.attachments {
            if let Some(id) = FileId::parse(&file.id) {
                let is_inline = Kind::of_content_type(&file.content_type).is_some_and(Kind::is_shown_inline);
                let disposition = if is_inline { Disposition::Inline } else { Disposition::Attachment };
                file.url = self.files.links().link(&id, disposition, now_s).url;
            }
        }
        message
    }

    /// All of them.
    pub(super) fn all_shown(&self, messages: Vec<Message>) -> Vec<Message> {
        messages.into_iter().map(|message| self.shown(message)).collect()
    }

    /// A file on an operator's message, fetched from where Intercom has it now.
    ///
    /// # Errors
    /// `NotFound` when Intercom no longer has it, `Unavailable` when it cannot be had.
    pub async fn attachment(&self, file: &RemoteFile) -> Result<Content> {
        let url = self.source(file).await?;
        let unavailable = |cause| Error::Unavailable { retry_after_s: 1, cause: Some(Box::new(cause)) };
        let answer = self.downloads.fetch(&url).await.map_err(|failed| {
            // It may have moved: the next one asks where to.
            self.sources.remove(&file.id);
            unavailable(failed)
        })?;
        let told = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = known_type(told).or_else(|| known_type(&file.content_type));
        let len = answer.content_length();
        let mut left = MAX_BYTES;
        let chunks = answer.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| io::Error::other(error.without_url()))?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| io::Error::other("a file is too large"))?;
            Ok(chunk)
        });
        Ok(Content {
            name: name::of_others(&file.name),
            content_type: content_type.unwrap_or("application/octet-stream").to_owned(),
            len,
            chunks: chunks.boxed(),
        })
    }

    /// Where Intercom has the file: its addresses hold for half an hour, so it is asked when one is needed.
    async fn source(&self, file: &RemoteFile) -> Result<String> {
        let now_ms = self.clock.now_ms();
        let known = || self.sources.get(&file.id).filter(|source| source.until_ms > now_ms).map(|source| source.url);
        if let Some(url) = known() {
            return Ok(url);
        }
        // One question for all pictures of a conversation that are wanted at once.
        let _turn = self.turns.take(&format!("files {}", file.conversation)).await;
        if let Some(url) = known() {
            return Ok(url);
        }
        let conversation =
            self.intercom.conversation(&file.conversation, Class::Refresh).await?.ok_or(Error::NotFound)?;
        let snapshot = view::snapshot(&conversation).ok_or(Error::NotFound)?;
        for found in snapshot.messages.into_iter().flat_map(|seen| seen.message.attachments) {
            if let Some(id) = FileId::parse(&found.id) {
                let until_ms = holds_until_ms(&found.url, now_ms);
                self.sources.insert(id, Source { url: found.url, until_ms });
            }
        }
        known().ok_or(Error::NotFound)
    }
}

/// Gives the row its files, in the transaction that begins its attempt; `false` if one is on another message.
pub(super) async fn attach(tx: &mut Tx, row: &Outbound) -> Result<bool> {
    let files: Vec<String> = files_of(row).files.into_iter().map(|file| file.id).collect();
    tx.attach_files(&row.user, &row.id, &files).await
}

/// What goes with a row's message.
pub(super) fn files_of(row: &Outbound) -> Attached {
    super::draft::opening(row).map(|opening| opening.attached).unwrap_or_default()
}

/// What a client asked to attach is not there for it: unknown, somebody else's, or on another message.
pub(super) fn no_such_file() -> Error {
    Error::Validation("attachmentIds: no such file, or on another message".to_owned())
}

fn attachment(file: File) -> Attachment {
    Attachment {
        id: file.id.as_str().to_owned(),
        name: file.name,
        content_type: file.content_type,
        size: Some(file.bytes),
        width: file.size.map(|(width, _)| width),
        height: file.size.map(|(_, height)| height),
        url: String::new(),
    }
}

/// One of our types, parameters left out.
fn known_type(told: &str) -> Option<&'static str> {
    let essence = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_it = |kind: &Kind| kind.content_type().split(';').next() == Some(essence.as_str());
    Kind::ALL.into_iter().find(is_it).map(Kind::content_type)
}

/// Until when an address of Intercom's is used: it says so itself.
fn holds_until_ms(url: &str, now_ms: i64) -> i64 {
    let url = url::Url::parse(url).ok();
    let expires = url.and_then(|url| url.query_pairs().find(|(name, _)| name == "expires")?.1.parse::<i64>().ok());
    match expires {
        // Once, even if it is short-lived.
        Some(expires) => (expires.saturating_mul(1000) - MARGIN_MS).max(now_ms + 1),
        None => now_ms + UNSAID_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_used_while_it_says_that_it_holds() {
        let now_ms = 1_000_000;
        for (url, expected) in [
            ("https://x/a.png?expires=2000&signature=y", 1_940_000),
            ("https://x/a.png?expires=1010", now_ms + 1),
            ("https://x/a.png", now_ms + UNSAID_MS),
            ("https://x/a.png?expires=soon", now_ms + UNSAID_MS),
            ("nonsense", now_ms + UNSAID_MS),
        ] {
            assert_eq!(holds_until_ms(url, now_ms), expected, "{url}");
        }
    }

    #[test]
    fn a_foreign_type_is_one_of_ours_or_none() {
        for (told, known) in [
            ("image/png", Some("image/png")),
            ("IMAGE/PNG; charset=x", Some("image/png")),
            ("text/plain", Some("text/plain; charset=utf-8")),
            ("text/html", None),
            ("image/svg+xml", None),
            ("", None),
        ] {
            assert_eq!(known_type(told), known, "{told}");
        }
    }
}
