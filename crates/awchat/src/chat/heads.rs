//! What an idle poll needs of each conversation, in memory, and the wake-ups for those who wait.
//!
//! A head is published after the commit that changed its conversation, by the revision that commit gave it:
//! an older head never replaces a newer one, so a slow reader of the database cannot undo a writer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};
use tokio::sync::Notify;

use super::trust::{AsOf, SPREAD, Trust};
use crate::clock::Clock;
use crate::id::{self, ConversationId, UserId};
use crate::model::{Head, Look};
use crate::store::conversations::Conversation;

impl From<&Conversation> for Head {
    fn from(conversation: &Conversation) -> Self {
        Self {
            user: conversation.user.clone(),
            position: conversation.last_position,
            state: conversation.state,
            snoozed_until: conversation.snoozed_until,
            rated: conversation.rated,
            unread: conversation.unread,
            revision: conversation.revision,
        }
    }
}

/// Without news, Intercom is asked about a polled conversation after this long, then after twice as long …
const FIRST_GAP_MS: i64 = 15_000;
/// … up to this.
const LAST_GAP_MS: i64 = 240_000;

/// The heads of the conversations in use; bounded, the least useful go first, never one that somebody waits on.
#[derive(Debug)]
pub struct Heads(Cache<ConversationId, Arc<Place>, UnitWeighter, DefaultHashBuilder, KeepWaitedFor>);

/// Where one conversation's head stands.
#[derive(Debug)]
pub struct Place {
    known: RwLock<Known>,
    changed: Notify,
    /// When Intercom should be asked about a conversation that is polled, Unix milliseconds.
    ask_ms: AtomicI64,
    /// After how long without news the next time, milliseconds.
    gap_ms: AtomicI64,
    looks: Looks,
}

/// A head, and when the database was last seen to say no more.
#[derive(Debug, Default)]
struct Known {
    head: Option<Head>,
    as_of: AsOf,
}

/// Whether somebody looks at a conversation.
#[derive(Debug, Default)]
struct Looks {
    /// Polls that wait for news.
    waiting: AtomicI64,
    /// When the last poll came or was answered, Unix milliseconds.
    polled_ms: AtomicI64,
    /// Up to which position polls were answered.
    shown: AtomicI64,
}

/// A poll that waits for news, until it is dropped: a client that hangs up looks no longer.
pub struct Waiting<'a>(&'a AtomicI64);

impl<'a> Waiting<'a> {
    /// Counts itself, until it is dropped.
    pub fn counted_in(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
struct KeepWaitedFor;

impl Lifecycle<ConversationId, Arc<Place>> for KeepWaitedFor {
    type RequestState = ();

    fn is_pinned(&self, _: &ConversationId, place: &Arc<Place>) -> bool {
        Arc::strong_count(place) > 1
    }
}

impl Heads {
    /// Room for about `capacity` heads.
    pub fn new(capacity: usize) -> Self {
        let hash = DefaultHashBuilder::default();
        Self(Cache::with(capacity, capacity as u64, UnitWeighter, hash, KeepWaitedFor))
    }

    /// The conversation's place, made where it is missing. Whoever reads the database for a head takes the
    /// place first: while it is held it stays, so a head published meanwhile is not lost.
    pub fn place(&self, id: &ConversationId) -> Arc<Place> {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(Place::empty()));
        let Ok(place) = self.0.get_or_insert_with(id, fresh);
        place
    }

    /// The conversation's place, if it has one.
    pub fn known(&self, id: &ConversationId) -> Option<Arc<Place>> {
        self.0.get(id)
    }

    /// Forgets a head that may be an old one: the next poll reads what is so.
    pub fn doubt(&self, id: &ConversationId) {
        self.0.remove(id);
    }

    /// Publishes a head read from a commit, unless a newer one is here, and wakes who waits for it.
    pub fn publish(&self, id: &ConversationId, head: Head) -> Arc<Place> {
        let place = self.place(id);
        place.set(head);
        place
    }

    /// Publishes a head that another node tells of, where anybody here wants to know.
    pub fn hear(&self, id: &ConversationId, head: Head) {
        if let Some(place) = self.0.get(id) {
            place.set(head);
        }
    }

    /// How many heads are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the user looks at the conversation, as [`Place::looks`]; not, where nobody has polled it.
    pub fn looks(&self, user: &UserId, id: &ConversationId) -> Look {
        let place = self.0.get(id).filter(|place| place.head().is_some_and(|head| head.user == *user));
        place.map(|place| place.looks()).unwrap_or_default()
    }

    /// Drops the place of a conversation that turned out not to be there.
    pub fn drop_if_empty(&self, id: &ConversationId) {
        self.0.remove_if(id, |place| place.head().is_none());
    }

    /// Forgets a conversation that is gone, and wakes who waits for it.
    pub fn remove(&self, id: &ConversationId) {
        if let Some((_, place)) = self.0.remove(id) {
            place.clear();
        }
    }
}

impl Place {
    fn empty() -> Self {
        let (ask_ms, gap_ms) = (AtomicI64::new(0), AtomicI64::new(FIRST_GAP_MS));
        Self { known: RwLock::default(), changed: Notify::new(), ask_ms, gap_ms, looks: Looks::default() }
    }

    /// A poll has come.
    pub fn looked_at(&self, now_ms: i64) -> Waiting<'_> {
        self.looks.polled_ms.fetch_max(now_ms, Ordering::Relaxed);
        Waiting::counted_in(&self.looks.waiting)
    }

    /// A poll was answered: its client has everything up to `position`.
    pub fn shown(&self, position: i64, now_ms: i64) {
        self.looks.polled_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.looks.shown.fetch_max(position, Ordering::Relaxed);
    }

    /// Whether somebody looks, as the polls here tell.
    pub fn looks(&self) -> Look {
        let Looks { waiting, polled_ms, shown } = &self.looks;
        Look {
            waiting: waiting.load(Ordering::Relaxed) > 0,
            polled_ms: polled_ms.load(Ordering::Relaxed),
            shown: shown.load(Ordering::Relaxed),
        }
    }

    /// Somebody polls: whether Intercom should be asked, since there has been no news for 15 s, then 30 s and so on
    /// to four minutes. True for one poll of many.
    pub fn is_quiet(&self, now_ms: i64) -> bool {
        let due_ms = self.ask_ms.load(Ordering::Relaxed);
        if now_ms < due_ms {
            return false;
        }
        let gap_ms = self.gap_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(gap_ms);
        let first = due_ms == 0;
        let won = self.ask_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won && !first {
            self.gap_ms.store((gap_ms * 2).min(LAST_GAP_MS), Ordering::Relaxed);
        }
        won && !first
    }

    /// The head as it is now; `None` once the conversation is gone.
    pub fn head(&self) -> Option<Head> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    /// The head, unless the database may say more by now.
    pub fn sound(&self, trust: &Trust, now_ms: i64) -> Option<Head> {
        self.with_sound(trust, now_ms, |head| Some(head.clone()))
    }

    /// What `tell` says of a head that the database does not belie.
    pub fn with_sound<T>(&self, trust: &Trust, now_ms: i64, tell: impl FnOnce(&Head) -> Option<T>) -> Option<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.head.as_ref().filter(|_| trust.holds(known.as_of, now_ms)).and_then(tell)
    }

    /// Sets the head, unless a newer one is here, and wakes who waits.
    pub fn set(&self, head: Head) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.head.as_ref().is_none_or(|current| current.revision < head.revision) {
            known.head = Some(head);
            drop(known);
            // News: the wait begins anew with the next poll.
            self.gap_ms.store(FIRST_GAP_MS, Ordering::Relaxed);
            self.ask_ms.store(0, Ordering::Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// Sets the head that was read from the database, whose reading began at `as_of`; the newest that is known.
    pub fn confirm(&self, head: Head, as_of: AsOf) -> Head {
        self.set(head.clone());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.as_of = known.as_of.max(as_of);
        known.head.clone().unwrap_or(head)
    }

    /// The conversation is gone, or was never there.
    pub fn clear(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).head = None;
        self.changed.notify_waiters();
    }

    /// Waits until the head's position is beyond `position`, the conversation is gone, the head cannot be trusted any
    /// more, or `wait` is over; the head then.
    pub async fn beyond(&self, position: i64, wait: Duration, clock: &Clock, trust: &Trust) -> Option<Head> {
        let until_ms = clock.now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let mut deadline = Box::pin(clock.sleep(wait));
        let mut is_shaken = false;
        loop {
            let (changed, shaken) = (self.changed.notified(), trust.shaken());
            tokio::pin!(changed, shaken);
            // Registered before looking: a change between the look and the wait is not missed.
            changed.as_mut().enable();
            shaken.as_mut().enable();
            match self.head() {
                Some(head) if head.position <= position => {}
                other => return other,
            }
            if !is_shaken && self.sound(trust, clock.now_ms()).is_none() {
                return self.head();
            }
            tokio::select! {
                () = &mut changed => {}
                () = &mut shaken, if !is_shaken => {
                    // All who wait are: they do not ask the database all at once.
                    let left_ms = u64::try_from(until_ms.saturating_sub(clock.now_ms())).unwrap_or(0);
                    let soon = SPREAD.mul_f64(id::chance()).min(Duration::from_millis(left_ms));
                    deadline = Box::pin(clock.sleep(soon));
                    is_shaken = true;
                }
                () = &mut deadline => return self.head(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    fn head(position: i64, revision: i64) -> Head {
        let user = UserId::parse("ada").expect("a user id");
        Head { user, position, state: State::Open, snoozed_until: None, rated: false, unread: 0, revision }
    }

    fn id(text: &str) -> ConversationId {
        ConversationId::parse(text).expect("a conversation id")
    }

    #[test]
    fn an_older_head_never_replaces_a_newer_one() {
        let heads = Heads::new(10);
        heads.publish(&id("1"), head(20, 2));
        let place = heads.publish(&id("1"), head(10, 1));
        assert_eq!(place.head(), Some(head(20, 2)));
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_its_conversation_moves() {
        let (heads, clock) = (Heads::new(10), Clock::manual(0));
        let place = heads.publish(&id("1"), head(10, 1));
        let waiter = tokio::spawn({
            let clock = clock.clone();
            async move { place.beyond(10, Duration::from_secs(30), &clock, &Trust::new(true)).await }
        });
        tokio::task::yield_now().await;
        heads.publish(&id("1"), head(11, 2));
        assert_eq!(waiter.await.expect("the waiter ends"), Some(head(11, 2)));
    }

    #[tokio::test]
    async fn a_waiter_is_told_that_its_conversation_is_gone() {
        let (heads, clock) = (Heads::new(10), Clock::manual(0));
        let place = heads.publish(&id("1"), head(10, 1));
        heads.remove(&id("1"));
        assert_eq!(place.beyond(10, Duration::from_secs(30), &clock, &Trust::new(true)).await, None);
    }

    #[test]
    fn a_polled_conversation_is_asked_about_ever_more_rarely_until_there_is_news() {
        let heads = Heads::new(10);
        let place = heads.publish(&id("1"), head(10, 1));
        let asked = |from_s: i64, to_s: i64| -> Vec<i64> {
            (from_s..to_s).filter(|second| place.is_quiet(1_000_000 + second * 1000)).collect()
        };
        assert_eq!(asked(0, 300), [15, 30, 60, 120, 240]);
        heads.publish(&id("1"), head(11, 2));
        assert_eq!(asked(300, 350), [315, 330]);
    }

    #[test]
    fn a_full_cache_keeps_what_is_waited_for() {
        let heads = Heads::new(4);
        let held = heads.publish(&id("1"), head(10, 1));
        for other in 2..200 {
            heads.publish(&id(&other.to_string()), head(10, 1));
        }
        let again = heads.publish(&id("1"), head(11, 2));
        assert!(Arc::ptr_eq(&held, &again), "the waiter's place is still the one that is published to");
    }
}
