//! A user's right to be forgotten: here at once and for good, at Intercom as soon as it can be reached.
//!
//! What comes back from Intercom afterwards, by webhook, sweep or a first visit, finds nobody it belongs to. A user
//! who returns begins anew: with a token from after the erasure, and with conversations begun after it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Chat;
use super::view;
use crate::error::{Error, Result};
use crate::id::{ContactId, UserId};
use crate::intercom::wire;
use crate::store::jobs::Job;

/// The kind of job by which the command line asks a running server to erase the user that is its subject.
pub const JOB: &str = "erase";

/// What the job that has Intercom delete a contact needs; it goes with the job.
#[derive(Serialize, Deserialize)]
struct Forget {
    user: String,
    contact: Option<String>,
}

/// Contacts of one external id: a second one is odd, a third one is a loop.
const CONTACTS: usize = 3;
/// What another node is telling a device lands within so many looks: a request of 10 s.
const LANDINGS: usize = 200;
const LANDING: Duration = Duration::from_millis(50);
/// A reader in SQLite's way is gone after this time.
const READERS_MS: i64 = 5_000;

impl Chat {
    /// Erases the user: when this returns, nothing of the user is left in the database, nothing comes back, and no other
    /// node is telling a device of the user's anything.
    ///
    /// # Errors
    /// When the database fails; then nothing was done. `Overloaded` when another node's push takes too long to land; then
    /// the user's devices are told nothing more, and all else is as it was.
    pub async fn erase(&self, user: &UserId) -> Result<()> {
        let payload = |contact| {
            let forget = Forget { user: user.as_str().to_owned(), contact };
            serde_json::to_string(&forget).map_err(Error::internal)
        };
        let mut landing = 0;
        let erased = loop {
            if let Some(erased) = self.store.erase(user, self.clock.now_ms(), payload).await? {
                break erased;
            }
            match landing {
                // So that nothing more takes off.
                0 => self.store.forget_devices(user).await?,
                LANDINGS.. => return Err(Error::Overloaded { retry_after_s: 5 }),
                _ => {}
            }
            landing += 1;
            self.clock.sleep(LANDING).await;
        };
        for conversation in &erased.conversations {
            self.forget(conversation, user);
        }
        self.streams.wake(user);
        self.tell_of_erasure();
        tracing::info!("a user was erased");
        self.work.notify_one();
        self.scrub_now().await
    }

    /// What was deleted leaves SQLite's write-ahead log; a little later where somebody is reading.
    pub(super) async fn scrub_now(&self) -> Result<()> {
        if !self.store.scrub().await? {
            let now_ms = self.clock.now_ms();
            self.store.enqueue("scrub", "database", "{}", now_ms.saturating_add(READERS_MS), now_ms).await?;
        }
        Ok(())
    }

    /// A job: the command line asks a running server for an erasure this way.
    pub(super) async fn erase_as_job(&self, subject: &str) -> Result<Option<i64>> {
        if let Some(user) = UserId::parse(subject) {
            self.erase(&user).await?;
        }
        Ok(None)
    }

    /// A job: Intercom forgets the user's contact. Until then the user cannot write, for the message would go to the
    /// contact that is being deleted.
    pub(super) async fn forget_contact(&self, job: &Job) -> Result<Option<i64>> {
        let forget: Forget = serde_json::from_str(&job.payload).map_err(Error::internal)?;
        if let Some(contact) = forget.contact.as_deref().and_then(ContactId::parse) {
            self.intercom.delete_contact(&contact).await?;
        }
        if let Some(user) = UserId::parse(&forget.user)
            && self.has_contact_of_before(&user).await?
        {
            self.forget_contacts_named(&user).await?;
            self.store.set_contact_gone(&user).await?;
        }
        Ok(None)
    }

    /// Those that the user's id finds: one that was never asked for here, or that is not the one that was known.
    async fn forget_contacts_named(&self, user: &UserId) -> Result<()> {
        for _ in 0..CONTACTS {
            let Some(contact) = self.intercom.find_contact(user).await? else { return Ok(()) };
            self.intercom.delete_contact(&contact.id).await?;
        }
        Err(Error::internal("a contact was deleted at Intercom and is still found"))
    }

    /// Whether the user was erased and Intercom has not yet deleted the contact of that time.
    pub(super) async fn has_contact_of_before(&self, user: &UserId) -> Result<bool> {
        Ok(self.store.erasure(user).await?.is_some_and(|erasure| !erasure.contact_gone))
    }

    /// Whether a webhook is about a conversation of an erased user: then its words are not even stored.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_of_erased(&self, notification: &wire::Notification) -> Result<bool> {
        match view::subject(notification) {
            Some(id) => self.store.is_erased(&id).await,
            None => Ok(false),
        }
    }

    /// A job: what was deleted leaves SQLite's write-ahead log.
    pub(super) async fn scrub(&self) -> Result<Option<i64>> {
        Ok((!self.store.scrub().await?).then_some(READERS_MS))
    }
}
