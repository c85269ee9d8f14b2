//! What webhooks missed: the sweep over what changed at Intercom, a user's first visit, and the rare question about
//! a conversation that somebody watches.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::view::{self, Snapshot};
use super::{Chat, heads::Place};
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::intercom::Class;
use crate::store::conversations::Conversation;

/// A refresh job that the sweep asked for.
pub(super) const SWEPT: &str = "{\"swept\":true}";
/// The mark of the last sweep that came to its end, Unix seconds.
const MARK: &str = "sweep";
/// Sweeps overlap: Intercom's index lags.
const OVERLAP_S: i64 = 300;
/// No search has more pages than this: 150,000 conversations.
const MAX_PAGES: usize = 1_000;
/// How far apart the two clocks may be where seconds are compared with milliseconds.
const CLOCK_DIFFERENCE_MS: i64 = 500;
/// What is read of a user's history before the first list is answered; the rest follows.
const AT_ONCE: usize = 10;
const AT_ONCE_TIME: Duration = Duration::from_secs(4);
/// Watched conversations that wait to be asked about; beyond, the sweep is enough.
const WATCHED: usize = 1_024;

/// Conversations that are polled and quiet.
#[derive(Debug)]
pub(super) struct Watched(Mutex<Vec<ConversationId>>);

impl Watched {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn push(&self, id: &ConversationId) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WATCHED {
            waiting.push(id.clone());
        }
    }

    fn pop(&self) -> Option<ConversationId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Chat {
    /// Looks at every conversation that changed at Intercom since the last sweep that came to its end, and asks for a
    /// refresh of those of our users that the mirror does not have whole; how many. The first sweep of a new database
    /// only sets the mark: a user's first visit brings what was before.
    ///
    /// # Errors
    /// When Intercom or the database fails: the mark stays, and the next sweep looks again.
    pub async fn sweep(&self) -> Result<usize> {
        let began_s = self.clock.now_s();
        let Some(mark_s) = self.store.mark(MARK).await? else {
            self.store.set_mark(MARK, began_s).await?;
            return Ok(0);
        };
        let since_s = mark_s - OVERLAP_S;
        let (mut cursors, mut seen, mut asked) = (HashSet::new(), HashSet::new(), 0);
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let page = self.intercom.search_updated_since(since_s, cursor.as_deref()).await?;
            for snapshot in page.conversations.iter().filter_map(view::snapshot) {
                // Intercom searches by the day, and rows repeat from page to page.
                if snapshot.updated_at >= since_s && seen.insert(snapshot.id.clone()) && self.lacks(&snapshot).await? {
                    let now_ms = self.clock.now_ms();
                    self.store.enqueue("refresh", snapshot.id.as_str(), SWEPT, now_ms, now_ms).await?;
                    asked += 1;
                }
            }
            cursor = page.next;
            match &cursor {
                Some(next) if cursors.insert(next.clone()) => {}
                _ => break,
            }
        }
        self.store.set_mark(MARK, began_s).await?;
        self.work.notify_one();
        Ok(asked)
    }

    /// When the last sweep that came to its end began, Unix milliseconds.
    pub async fn swept_ms(&self) -> Result<Option<i64>> {
        Ok(self.store.mark(MARK).await?.map(|mark_s| mark_s.saturating_mul(1000)))
    }

    /// Whether it is one of our users' and the mirror may lack something of it.
    async fn lacks(&self, found: &Snapshot) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        Ok(match tx.mirrored(&found.id).await? {
            Some(mirrored) => !is_whole(&mirrored, found.updated_at),
            None => match tx.user_of(&found.contacts, &found.users).await? {
                Some(user) => !tx.stays_erased(&user, &found.id, found.created_at).await?,
                None => false,
            },
        })
    }

    /// Takes over a user's conversations from before the first visit. Once done, it costs one look into the database.
    ///
    /// # Errors
    /// When the database fails. When Intercom fails, what is here is here, and the next visit tries again.
    pub async fn take_over(&self, user: &UserId) -> Result<()> {
        if self.is_taken_over(user).await? {
            return Ok(());
        }
        let _turn = self.turns.take(&format!("import {user}")).await;
        if self.is_taken_over(user).await? {
            return Ok(());
        }
        match self.take_over_now(user).await {
            Err(Error::Unavailable { .. }) => Ok(()),
            done => done,
        }
    }

    async fn is_taken_over(&self, user: &UserId) -> Result<bool> {
        Ok(self.store.contact(user).await?.is_some_and(|contact| contact.imported_ms.is_some()))
    }

    async fn take_over_now(&self, user: &UserId) -> Result<()> {
        if self.has_contact_of_before(user).await? {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let Some(contact) = self.intercom.find_contact(user).await? else {
            return self.store.set_imported(user, now_ms).await;
        };
        self.store.set_contact(user, &contact.id, now_ms).await?;
        let (mut found, mut cursors, mut cursor): (Vec<Snapshot>, HashSet<String>, _) = Default::default();
        for _ in 0..MAX_PAGES {
            let cursor_now: Option<String> = cursor;
            let page = self.intercom.search_of_contact(&contact.id, cursor_now.as_deref(), Class::Reconcile).await?;
            found.extend(page.conversations.iter().filter_map(view::snapshot));
            cursor = page.next;
            match &cursor {
                Some(next) if cursors.insert(next.clone()) => {}
                _ => break,
            }
        }
        found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.updated_at));
        for snapshot in &found {
            self.store.enqueue("refresh", snapshot.id.as_str(), "{}", now_ms, now_ms).await?;
        }
        self.store.set_imported(user, now_ms).await?;
        // The jobs bring it all; the newest are worth a short wait.
        let newest = async {
            for snapshot in found.iter().take(AT_ONCE) {
                let _ = self.refresh(&snapshot.id, Class::Reconcile).await;
            }
        };
        tokio::select! {
            () = newest => {}
            () = self.clock.sleep(AT_ONCE_TIME) => {}
        }
        self.work.notify_one();
        Ok(())
    }

    /// Somebody polls this conversation: if it has been quiet for a while, Intercom will be asked whether it is.
    pub(super) fn watch(&self, id: &ConversationId, place: &Place) {
        if place.is_quiet(self.clock.now_ms()) {
            self.watched.push(id);
            self.work.notify_one();
        }
    }

    /// Asks Intercom about one watched conversation; `false` if none waits.
    pub async fn ask_about_watched(&self) -> Result<bool> {
        let Some(id) = self.watched.pop() else { return Ok(false) };
        match self.refresh(&id, Class::Sweep).await {
            Ok(super::sync::Applied::Changed { .. }) => self.count_repair(),
            Ok(_) | Err(Error::Unavailable { .. }) => {}
            Err(other) => return Err(other),
        }
        Ok(true)
    }

    /// How often a sweep or a look at a watched conversation found what no webhook had brought.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    pub(super) fn count_repair(&self) {
        let repairs = self.repairs.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(repairs, "found what no webhook had brought");
    }
}

/// Whether nothing can have happened up to `updated_at` that is not here: what is here was asked for when that
/// second was over.
pub(super) fn is_whole(mirrored: &Conversation, updated_at: i64) -> bool {
    let second_over_ms = (updated_at + 1) * 1000 + CLOCK_DIFFERENCE_MS;
    updated_at <= mirrored.whole_at && mirrored.whole_ms >= second_over_ms
}
