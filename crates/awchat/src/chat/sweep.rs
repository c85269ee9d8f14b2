//! What webhooks missed: the sweep over conversations and tickets that changed at Intercom, a user's first visit, and the rare question about
//! a conversation that somebody watches.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::view::{self, Snapshot, ticket::ticket};
use super::{Chat, heads::Place};
use crate::error::{Error, Result};
use crate::id::{ContactId, ConversationId, UserId};
use crate::intercom::tickets::TicketPage;
use crate::intercom::{CallError, Class};

/// A refresh job that the sweep asked for.
pub(super) const SWEPT: &str = "{\"swept\":true}";
/// What Intercom searches.
#[derive(Clone, Copy)]
enum Kind {
    Conversations,
    Tickets,
}

/// Whose, or which.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// What changed at or after this time, Unix seconds.
    Since(i64),
    /// What is this contact's.
    Of(&'a ContactId),
}

/// How far a search has been read.
#[derive(Default)]
struct Pages {
    seen: usize,
    cursors: HashSet<String>,
    cursor: Option<String>,
}

impl Kind {
    /// The mark of the last sweep that came to its end, Unix seconds.
    fn mark(self) -> &'static str {
        match self {
            Self::Conversations => "sweep",
            Self::Tickets => "sweep of tickets",
        }
    }
}

/// Sweeps overlap: Intercom's index lags.
const OVERLAP_S: i64 = 300;
/// No search has more pages than this: 150,000 conversations.
const MAX_PAGES: usize = 1_000;
/// How far apart the clocks of two machines of Intercom's may be.
const CLOCK_DIFFERENCE_MS: i64 = 250;
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
    /// Looks at every conversation and ticket that changed at Intercom since the last sweep that came to its end, and
    /// asks for a refresh of those of our users that the mirror does not have whole; how many. The first sweep of a new
    /// database only sets the marks: a user's first visit brings what was before.
    ///
    /// # Errors
    /// When Intercom or the database fails: the mark stays, and the next sweep looks again.
    pub async fn sweep(&self) -> Result<usize> {
        let mut asked = HashSet::new();
        for kind in [Kind::Conversations, Kind::Tickets] {
            self.sweep_over(kind, &mut asked).await?;
        }
        self.work.notify_one();
        Ok(asked.len())
    }

    /// When the last sweep that came to its end began, Unix milliseconds.
    pub async fn swept_ms(&self) -> Result<Option<i64>> {
        Ok(self.store.mark(Kind::Conversations.mark()).await?.map(|mark_s| mark_s.saturating_mul(1000)))
    }

    async fn sweep_over(&self, kind: Kind, asked: &mut HashSet<ConversationId>) -> Result<()> {
        let began_s = self.clock.now_s();
        let Some(mark_s) = self.store.mark(kind.mark()).await? else {
            return self.store.set_mark(kind.mark(), began_s).await;
        };
        let since_s = mark_s - OVERLAP_S;
        let (mut pages, mut seen) = (Pages::default(), HashSet::new());
        while let Some(found) = self.next_page(kind, Wanted::Since(since_s), &mut pages).await? {
            for snapshot in found {
                // Intercom searches by the day, and rows repeat from page to page.
                let is_new = changed_at(&snapshot) >= since_s && seen.insert(snapshot.id.clone());
                if is_new && self.lacks(&snapshot).await? {
                    let now_ms = self.clock.now_ms();
                    self.store.enqueue("refresh", snapshot.id.as_str(), SWEPT, now_ms, now_ms).await?;
                    asked.insert(snapshot.id);
                }
            }
        }
        self.store.set_mark(kind.mark(), began_s).await
    }

    /// The next page of a search; `None` after the last.
    async fn next_page(&self, kind: Kind, wanted: Wanted<'_>, pages: &mut Pages) -> Result<Option<Vec<Snapshot>>> {
        if pages.seen > 0 && pages.cursor.is_none() || pages.seen == MAX_PAGES {
            return Ok(None);
        }
        let (found, next) = self.search(kind, wanted, pages.cursor.as_deref()).await?;
        pages.seen += 1;
        // One that was there before would lead round in a circle.
        pages.cursor = next.filter(|next| pages.cursors.insert(next.clone()));
        Ok(Some(found))
    }

    /// One page of a search, and where the next begins.
    async fn search(
        &self,
        kind: Kind,
        wanted: Wanted<'_>,
        cursor: Option<&str>,
    ) -> Result<(Vec<Snapshot>, Option<String>)> {
        let intercom = &self.intercom;
        Ok(match kind {
            Kind::Conversations => {
                let page = match wanted {
                    Wanted::Since(unix_s) => intercom.search_updated_since(unix_s, cursor).await?,
                    Wanted::Of(contact) => intercom.search_of_contact(contact, cursor, Class::Reconcile).await?,
                };
                (page.conversations.iter().filter_map(view::snapshot).collect(), page.next)
            }
            Kind::Tickets => {
                let page = match wanted {
                    Wanted::Since(unix_s) => intercom.search_tickets_updated_since(unix_s, cursor).await,
                    Wanted::Of(contact) => intercom.search_tickets_of_contact(contact, cursor).await,
                };
                let page = match page {
                    Err(CallError::Rejected { status, .. } | CallError::Auth { status }) => {
                        tracing::debug!(status, "the workspace or its token has no tickets");
                        TicketPage::default()
                    }
                    page => page?,
                };
                (page.tickets.iter().filter_map(|found| ticket(found, &[])).collect(), page.next)
            }
        })
    }

    /// Whether it is one of our users' and the mirror may lack something of it, or has what it must not have.
    async fn lacks(&self, found: &Snapshot) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        let Some(mirrored) = tx.mirrored(&found.id).await? else {
            return Ok(match tx.user_of(&found.contacts, &found.users).await? {
                Some(user) if is_shown(found) => !tx.stays_erased(&user, &found.id, found.created_at).await?,
                _ => false,
            });
        };
        Ok(match &found.ticket {
            None => !is_whole(mirrored.whole_at, mirrored.whole_ms, found.updated_at),
            Some(seen) => tx
                .mirrored_ticket(&found.id)
                .await?
                .is_none_or(|(ticket, _)| !is_whole(ticket.whole_at, ticket.whole_ms, seen.ticket.updated_at)),
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
        let mut found = BTreeMap::new();
        for kind in [Kind::Conversations, Kind::Tickets] {
            let mut pages = Pages::default();
            while let Some(page) = self.next_page(kind, Wanted::Of(&contact.id), &mut pages).await? {
                let shown = page.into_iter().filter(is_shown);
                found.extend(shown.map(|shown| (shown.id.clone(), changed_at(&shown))));
            }
        }
        let mut found: Vec<(ConversationId, i64)> = found.into_iter().collect();
        found.sort_by_key(|(_, changed_at)| std::cmp::Reverse(*changed_at));
        for (id, _) in &found {
            self.store.enqueue("refresh", id.as_str(), "{}", now_ms, now_ms).await?;
        }
        self.store.set_imported(user, now_ms).await?;
        // The jobs bring it all; the newest are worth a short wait.
        let newest = async {
            for (id, _) in found.iter().take(AT_ONCE) {
                let _ = self.refresh(id, Class::Reconcile).await;
            }
        };
        tokio::select! {
            () = newest => {}
            () = self.clock.sleep(AT_ONCE_TIME) => {}
        }
        self.work.notify_one();
        Ok(())
    }

    /// Somebody polls this conversation: if it has been quiet for a while, Intercom will be asked whether it is. No bell
    /// is rung: of a hundred thousand users who poll, there are thousands each second.
    pub(super) fn watch(&self, id: &ConversationId, place: &Place) {
        if place.is_quiet(self.clock.now_ms()) {
            self.watched.push(id);
        }
    }

    /// Asks Intercom about one watched conversation; `false` if none waits, or if Intercom cannot be asked: then about
    /// none for now.
    pub async fn ask_about_watched(&self) -> Result<bool> {
        let Some(id) = self.watched.pop() else { return Ok(false) };
        match self.refresh(&id, Class::Sweep).await {
            Ok(applied) => {
                if matches!(applied, super::sync::Applied::Changed) {
                    self.count_repair();
                }
                Ok(true)
            }
            Err(Error::Unavailable { .. }) => Ok(false),
            Err(other) => Err(other),
        }
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

fn is_shown(found: &Snapshot) -> bool {
    found.ticket.as_ref().is_none_or(|ticket| ticket.is_shown)
}

/// When it last changed: a ticket has times of its own.
fn changed_at(found: &Snapshot) -> i64 {
    found.ticket.as_ref().map_or(found.updated_at, |seen| seen.ticket.updated_at)
}

/// Whether nothing can have happened up to `updated_at` that is not here: what is here (up to `whole_at`) was asked for
/// when that second was over. All by Intercom's clock.
pub(super) fn is_whole(whole_at: i64, whole_ms: i64, updated_at: i64) -> bool {
    let second_over_ms = (updated_at + 1) * 1000 + CLOCK_DIFFERENCE_MS;
    updated_at <= whole_at && whole_ms >= second_over_ms
}
