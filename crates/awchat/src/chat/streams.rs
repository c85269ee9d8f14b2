//! Event streams: everything of a user's that changes, in order and without a gap.
//!
//! Nothing is queued for a stream. It has a place in the user's changes ([`Cursor`]), and whenever its reader takes more,
//! what comes next is read from the database. So a slow reader costs no memory and misses nothing: it is behind, and
//! where it is too far behind, it is told to load everything anew.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::Chat;
use super::conversations::Poll;
use super::tickets;
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::model::Head;
use crate::store::streams::Changed;

/// Streams of one user at once; one more ends the oldest, which may well be a connection that died unseen.
pub const OF_USER: usize = 8;
/// Streams at once.
const MOST: usize = 20_000;
/// Who is more changes behind loads everything anew.
const MOST_BEHIND: i64 = 256;
/// As is who would get more messages of one conversation at once.
const MOST_MESSAGES: usize = 200;

/// How far a stream has told its user's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which counting `seq` belongs to.
    epoch: i64,
    /// The number of the change that was told last.
    seq: i64,
}

/// A conversation or ticket that changed, as it is now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Intercom's id.
    pub id: ConversationId,
    /// The messages that this change brought, new or edited, and the live state.
    #[serde(flatten)]
    pub poll: Poll,
    /// As the list of tickets shows it; `None` for a conversation that is none.
    pub ticket: Option<tickets::Summary>,
}

/// What a stream tells next.
#[derive(Clone, Debug)]
pub enum News {
    /// Load everything anew: what changes from here on will be told.
    Resync,
    /// This changed.
    Change(Box<Change>),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl Cursor {
    /// A cursor that was printed; `None` if it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('-')?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { epoch: number(epoch)?, seq: number(seq)? })
    }
}

impl Chat {
    /// Takes a place among the open streams.
    ///
    /// # Errors
    /// When there are too many of all users together.
    pub fn listen(&self, user: &UserId) -> Result<Listener> {
        self.streams.enter(user).ok_or(Error::Overloaded { retry_after_s: 5 })
    }

    /// How many streams are open.
    pub fn listeners(&self) -> usize {
        self.streams.lock().open
    }

    /// What the user is to be told after `cursor`, which moves on; `None`: nothing yet. Without a cursor, or with one
    /// that leads nowhere, the user must load everything.
    ///
    /// # Errors
    /// When the database fails; the cursor stays.
    pub async fn next_news(&self, user: &UserId, cursor: &mut Option<Cursor>) -> Result<Option<News>> {
        let stream = self.store.stream(user, self.clock.now_ms()).await?;
        let newest = Cursor { epoch: stream.epoch, seq: stream.seq };
        let leads_on = |cursor: &Cursor| {
            let told = stream.floor..=stream.seq;
            cursor.epoch == stream.epoch && told.contains(&cursor.seq) && stream.seq - cursor.seq <= MOST_BEHIND
        };
        let Some(last) = cursor.filter(leads_on) else {
            *cursor = Some(newest);
            return Ok(Some(News::Resync));
        };
        if last == newest {
            return Ok(None);
        }
        let Some(changed) = self.store.change_after(user, last.seq).await? else {
            *cursor = Some(newest);
            return Ok(None);
        };
        let Changed { conversation, seq, is_newest } = changed;
        let most = MOST_MESSAGES as i64 + 1;
        let messages = self.store.messages_of_change(user, &conversation.id, seq, most).await?;
        if messages.len() > MOST_MESSAGES {
            *cursor = Some(newest);
            return Ok(Some(News::Resync));
        }
        let mut head = Head::from(&conversation);
        if !is_newest && let Some(position) = self.store.position_of_change(user, &conversation.id, seq).await? {
            // Not further than what is told: a poll from here would otherwise miss what is not told yet.
            head.position = position;
        }
        let ticket = match conversation.is_ticket {
            true => self.store.ticket(user, &conversation.id).await?.map(|owned| self.summary(&owned)),
            false => None,
        };
        *cursor = Some(Cursor { seq, ..newest });
        let poll = Poll::of(&head, self.all_shown(messages));
        Ok(Some(News::Change(Box::new(Change { id: conversation.id, poll, ticket }))))
    }
}

/// Who listens, so that a commit wakes those whom it concerns.
#[derive(Debug, Default)]
pub struct Streams(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    users: HashMap<UserId, OfUser>,
    /// Over all users.
    open: usize,
}

/// One user's streams.
#[derive(Debug, Default)]
struct OfUser {
    /// Sent to when something changed; holds the number of the oldest stream that may stay.
    news: watch::Sender<u64>,
    /// The numbers of the open streams, oldest first.
    open: VecDeque<u64>,
    /// The next one's number.
    next: u64,
}

/// An open stream's place; given back when it is dropped.
#[derive(Debug)]
pub struct Listener {
    streams: Arc<Streams>,
    user: UserId,
    number: u64,
    news: watch::Receiver<u64>,
}

impl Streams {
    /// Something of the user's changed, or the user is gone: whoever listens looks.
    pub fn wake(&self, user: &UserId) {
        if let Some(of_user) = self.lock().users.get(user) {
            of_user.news.send_modify(|_| {});
        }
    }

    /// Anything may have changed: all who listen look.
    pub fn wake_all(&self) {
        self.lock().users.values().for_each(|of_user| of_user.news.send_modify(|_| {}));
    }

    fn enter(self: &Arc<Self>, user: &UserId) -> Option<Listener> {
        let mut all = self.lock();
        if all.open >= MOST {
            return None;
        }
        all.open += 1;
        let of_user = all.users.entry(user.clone()).or_default();
        let number = of_user.next;
        of_user.next += 1;
        of_user.open.push_back(number);
        if of_user.open.len() > OF_USER {
            of_user.open.pop_front();
            let oldest = of_user.open.front().copied().unwrap_or(number);
            of_user.news.send_replace(oldest);
        }
        let news = of_user.news.subscribe();
        Some(Listener { streams: self.clone(), user: user.clone(), number, news })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Whether newer streams of the user have taken this one's place. What changes after this is awaited by
    /// [`Listener::news`], so ask before looking for news.
    pub fn is_replaced(&mut self) -> bool {
        *self.news.borrow_and_update() > self.number
    }

    /// Waits until there may be news.
    pub async fn news(&mut self) {
        // The sender is there as long as this place is taken.
        let _ = self.news.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        all.open -= 1;
        let Some(of_user) = all.users.get_mut(&self.user) else { return };
        of_user.open.retain(|number| *number != self.number);
        // The sender goes with the last one that listens to it, a replaced one included.
        if of_user.open.is_empty() && of_user.news.receiver_count() <= 1 {
            all.users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).expect("a user id")
    }

    #[test]
    fn a_cursor_is_read_as_it_was_printed_and_nothing_else_is() {
        let cursor = Cursor { epoch: 1_800_000_000_000, seq: 17 };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for bad in ["", "-", "1", "1-", "-1", "1-2-3", "1--2", "+1-2", "a-1", "1-99999999999999999999", "1 -2"] {
            assert_eq!(Cursor::parse(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_commit_wakes_its_users_streams_and_no_others() {
        let streams = Arc::new(Streams::default());
        let mut ada = streams.enter(&user("ada")).expect("room");
        let mut bob = streams.enter(&user("bob")).expect("room");
        assert!(!ada.is_replaced() && !bob.is_replaced());
        streams.wake(&user("ada"));
        ada.news().await;
        assert!(bob.news.has_changed().is_ok_and(|changed| !changed));
    }

    #[test]
    fn one_stream_too_many_takes_the_oldest_ones_place() {
        let streams = Arc::new(Streams::default());
        let mut open: Vec<_> = (0..OF_USER).map(|_| streams.enter(&user("ada")).expect("room")).collect();
        assert!(open.iter_mut().all(|listener| !listener.is_replaced()));
        drop(open.remove(3));
        open.push(streams.enter(&user("ada")).expect("room"));
        assert!(open.iter_mut().all(|listener| !listener.is_replaced()), "one had gone");
        open.push(streams.enter(&user("ada")).expect("room"));
        let replaced: Vec<_> = open.iter_mut().map(Listener::is_replaced).collect();
        assert_eq!(replaced.iter().position(|replaced| *replaced), Some(0));
        assert_eq!(replaced.iter().filter(|replaced| **replaced).count(), 1);
    }

    #[test]
    fn what_is_closed_is_forgotten() {
        let streams = Arc::new(Streams::default());
        let open: Vec<_> = (0..2 * OF_USER).map(|_| streams.enter(&user("ada")).expect("room")).collect();
        assert_eq!(streams.lock().open, 2 * OF_USER);
        drop(open);
        let all = streams.lock();
        assert_eq!((all.open, all.users.len()), (0, 0));
    }

    #[test]
    fn there_is_room_for_so_many_streams_and_no_more() {
        let streams = Arc::new(Streams::default());
        let mut open: Vec<_> = (0..MOST).map(|n| streams.enter(&user(&format!("user-{n}"))).expect("room")).collect();
        assert!(streams.enter(&user("ada")).is_none());
        open.pop();
        assert!(streams.enter(&user("ada")).is_some());
    }
}
