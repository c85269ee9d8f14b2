//! A user's conversations: list, start, get, poll, read, close, reply.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Chat;
use super::contacts::Profile;
use super::draft::{Draft, Opening, Wish};
use super::heads::{Place, Waiting};
use super::requests::Sent;
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId, UserId};
use crate::intercom::{CallError, Class};
use crate::model::{Head, Message, State, Topic};
use crate::store;
use crate::store::conversations::{Conversation, ListCursor};

/// A conversation in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Intercom's id.
    pub id: ConversationId,
    /// Open, closed or snoozed.
    pub state: State,
    /// Unix seconds, while it is snoozed.
    pub snoozed_until: Option<i64>,
    /// It was rated.
    pub rated: bool,
    /// What it was begun about.
    pub topic: Option<Topic>,
    /// The newest message.
    pub last_message: Option<Message>,
    /// Messages not from the user and not read.
    pub unread_count: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
}

/// A whole conversation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// All messages in reading order.
    pub messages: Vec<Message>,
    /// The greatest position: where a poll goes on.
    pub latest_timestamp: i64,
    /// The user's rating.
    pub rating: Option<Rating>,
}

/// A user's rating of a conversation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rating {
    /// 1 to 5.
    pub stars: u8,
    /// In the user's words.
    pub comment: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// Latest activity first.
    pub conversations: Vec<Summary>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<ListCursor>,
    /// Over all conversations, not only this page's.
    pub unread_total: i64,
}

/// The answer to a poll.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// Messages with a position beyond the client's, oldest first.
    pub messages: Vec<Message>,
    /// The greatest position.
    pub latest_timestamp: i64,
    /// Open, closed or snoozed.
    pub state: State,
    /// Unix seconds, while it is snoozed.
    pub snoozed_until: Option<i64>,
    /// It was rated.
    pub rated: bool,
    /// Messages not from the user and not read.
    pub unread_count: i64,
}

/// A conversation in which nothing has changed since its user's last poll.
pub struct Still {
    place: Arc<Place>,
    poll: Poll,
    now_ms: i64,
}

/// What a user asks for when beginning a conversation: at least one of text, topic and files.
#[derive(Clone, Debug)]
pub struct Start {
    /// The first message.
    pub text: Option<String>,
    /// What it is about.
    pub topic: Option<Topic>,
    /// The files on the first message.
    pub files: Vec<FileId>,
    /// Context about the user's device and place.
    pub meta: serde_json::Map<String, serde_json::Value>,
}

impl Summary {
    /// The summary of a stored conversation.
    pub fn of(conversation: &Conversation, last_message: Option<Message>) -> Self {
        Self {
            id: conversation.id.clone(),
            state: conversation.state,
            snoozed_until: conversation.snoozed_until,
            rated: conversation.rated,
            topic: conversation.topic.clone(),
            last_message,
            unread_count: conversation.unread,
            created_at: conversation.created_at,
            updated_at: conversation.updated_at.max(conversation.active_ms.div_euclid(1000)),
        }
    }
}

impl Full {
    /// A conversation with its messages.
    pub fn of(summary: Summary, messages: Vec<Message>, latest_timestamp: i64) -> Self {
        Self { summary, messages, latest_timestamp, rating: None }
    }
}

impl Poll {
    pub(super) fn of(head: &Head, messages: Vec<Message>) -> Self {
        Self {
            messages,
            latest_timestamp: head.position,
            state: head.state,
            snoozed_until: head.snoozed_until,
            rated: head.rated,
            unread_count: head.unread,
        }
    }
}

impl From<store::feedback::Rating> for Rating {
    fn from(rating: store::feedback::Rating) -> Self {
        Self { stars: rating.stars, comment: rating.comment, created_at: rating.created_ms.div_euclid(1000) }
    }
}

impl Topic {
    /// The line that opens a conversation at Intercom when the user wrote nothing.
    pub(super) fn line(&self) -> String {
        match &self.sub {
            Some(sub) => format!("Topic: {} › {sub}", self.main),
            None => format!("Topic: {}", self.main),
        }
    }
}

impl Chat {
    /// The user's conversations, latest activity first.
    pub async fn list(&self, user: &UserId, after: Option<&ListCursor>, limit: usize) -> Result<Page> {
        self.take_over(user).await?;
        let ask = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut rows = self.store.conversations(user, after, ask).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next = last.map(|(row, _)| ListCursor { at: row.active_ms, id: row.id.clone() });
        let conversations = rows.into_iter();
        let conversations =
            conversations.map(|(row, newest)| Summary::of(&row, newest.map(|last| self.shown(last)))).collect();
        Ok(Page { conversations, next, unread_total: self.store.unread_total(user).await? })
    }

    /// Begins a conversation; the answer is a [`Full`].
    pub async fn start(
        self: &Arc<Self>,
        user: UserId,
        profile: Profile,
        start: Start,
        key: Option<String>,
    ) -> Result<Sent> {
        let line = start.topic.as_ref().map(Topic::line);
        let source_hidden = start.text.is_none() && start.files.is_empty();
        let (text, attached) = self.attached(&user, start.text, &start.files).await?;
        let body = text.or(line).ok_or(Error::NotFound)?;
        let opening = Opening {
            topic: start.topic,
            source_hidden,
            meta: start.meta,
            profile: profile.clone(),
            clarifies: None,
            attached,
        };
        self.submit(Draft { user, profile, conversation: None, wish: Wish::Talk, key, body, opening }).await
    }

    /// One whole conversation.
    pub async fn get(&self, user: &UserId, id: &ConversationId) -> Result<Full> {
        let conversation = self.owned(user, id).await?;
        let messages = self.all_shown(self.store.messages(user, id).await?);
        let summary = Summary::of(&conversation, messages.last().cloned());
        let rating = self.store.rating(user, id).await?.map(Rating::from);
        Ok(Full { rating, ..Full::of(summary, messages, conversation.last_position) })
    }

    /// The user's conversation; one from before the first visit is looked for first.
    pub(super) async fn owned(&self, user: &UserId, id: &ConversationId) -> Result<Conversation> {
        if let Some(conversation) = self.store.conversation(user, id).await? {
            return Ok(conversation);
        }
        self.take_over(user).await?;
        self.store.conversation(user, id).await?.ok_or(Error::NotFound)
    }

    /// The answer to an idle poll: nothing beyond position `since`, as memory alone can tell. `None` does not say that
    /// there is anything. Give it to [`Chat::tell_still`] if the user is told so.
    pub fn still(&self, user: &UserId, id: &ConversationId, since: i64) -> Option<Still> {
        let place = self.heads.known(id)?;
        let now_ms = self.clock.now_ms();
        let poll = place.with_sound(&self.trust, now_ms, |head| {
            let is_known = head.position == since || (head.position < since && self.trust.is_alone());
            (is_known && head.user == *user).then(|| Poll::of(head, Vec::new()))
        })?;
        Some(Still { place, poll, now_ms })
    }

    /// The user is told that nothing has changed, and is known to look.
    pub fn tell_still(&self, id: &ConversationId, Still { place, poll, now_ms }: Still) -> Poll {
        self.watch(id, &place);
        place.shown(poll.latest_timestamp, now_ms);
        poll
    }

    /// Messages beyond position `since` and the live state; waits up to `wait` for something to change.
    pub async fn poll(&self, user: &UserId, id: &ConversationId, since: i64, wait: Duration) -> Result<Poll> {
        if wait.is_zero()
            && let Some(still) = self.still(user, id, since)
        {
            return Ok(self.tell_still(id, still));
        }
        let place = self.heads.place(id);
        let mut head = match self.head(user, id, &place, since).await {
            Ok(head) => head,
            Err(error) => {
                drop(place);
                self.heads.drop_if_empty(id);
                return Err(error);
            }
        };
        self.watch(id, &place);
        let looking = place.looked_at(self.clock.now_ms());
        let _waiting = (head.position <= since && !wait.is_zero()).then(|| Waiting::counted_in(&self.long_polls));
        let until_ms = self.clock.now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        while head.position <= since {
            let left_ms = until_ms.saturating_sub(self.clock.now_ms());
            let Some(left) = u64::try_from(left_ms).ok().filter(|left_ms| *left_ms > 0) else { break };
            let rest = self.trust.rest(Duration::from_millis(left));
            head = place.beyond(since, rest, &self.clock, &self.trust).await.ok_or(Error::NotFound)?;
            if head.position <= since {
                head = self.head(user, id, &place, since).await?;
            }
        }
        if head.position <= since {
            place.shown(head.position, self.clock.now_ms());
            return Ok(Poll::of(&head, Vec::new()));
        }
        let messages = Box::pin(self.store.messages_since(user, id, since, head.position)).await?;
        let messages = self.all_shown(messages);
        place.shown(head.position, self.clock.now_ms());
        drop(looking);
        Ok(Poll::of(&head, messages))
    }

    /// The conversation's head, from memory where that will do. What another node has changed may be on its way, so a
    /// client that knows more or less than this node is answered from the database: no answer goes back behind one of
    /// another node's.
    async fn head(&self, user: &UserId, id: &ConversationId, place: &Place, since: i64) -> Result<Head> {
        match place.sound(&self.trust, self.clock.now_ms()) {
            Some(head) if head.user != *user => return Err(Error::NotFound),
            Some(head) if self.trust.is_alone() || head.position == since => return Ok(head),
            _ => {}
        }
        let as_of = self.trust.as_of(self.clock.now_ms());
        // In a box, as all that a poll rarely does: it would take its room in each poll that waits.
        match Box::pin(self.owned(user, id)).await {
            Ok(conversation) => Ok(place.confirm(Head::from(&conversation), as_of)),
            Err(error) => {
                if matches!(error, Error::NotFound) && place.head().is_some_and(|head| head.user == *user) {
                    place.clear();
                }
                Err(error)
            }
        }
    }

    /// The user has seen everything.
    pub async fn mark_read(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        self.owned(user, id).await?;
        let now_ms = self.clock.now_ms();
        let committing = self.committing(id);
        let read = self.store.mark_read(user, id, now_ms).await?;
        committing.done();
        if let Some(read) = read {
            self.publish(&read);
        }
        self.store.enqueue("read", id.as_str(), "{}", now_ms, now_ms).await?;
        self.work.notify_one();
        Ok(())
    }

    /// The user ends the conversation; whether to ask for a rating.
    pub async fn close(&self, user: &UserId, id: &ConversationId) -> Result<bool> {
        let conversation = self.owned(user, id).await?;
        if conversation.state != State::Closed {
            match self.intercom.close(id).await {
                // It is gone, or a ticket that is no conversation.
                Err(CallError::Rejected { status: 404, .. }) => {
                    self.ask_for(id).await?;
                    return Err(Error::NotFound);
                }
                closed => closed?,
            }
            // Closed it is; should reading it back fail, the webhook or the job brings the state.
            if self.refresh(id, Class::Write).await.is_err() {
                self.ask_for(id).await?;
            }
            let now_ms = self.clock.now_ms();
            self.store.enqueue("closed", id.as_str(), "{}", now_ms, now_ms).await?;
            self.work.notify_one();
        }
        Ok(!conversation.rated)
    }

    /// Sends a message; the answer is a [`Message`].
    pub async fn reply(
        self: &Arc<Self>,
        user: UserId,
        profile: Profile,
        id: ConversationId,
        content: (Option<String>, Vec<FileId>),
        key: Option<String>,
    ) -> Result<Sent> {
        // Nobody's conversation becomes another's. Whether it is still there is seen as the message is stored.
        let head = self.heads.known(&id).and_then(|place| place.head());
        if head.is_none_or(|head| head.user != user) {
            self.owned(&user, &id).await?;
        }
        self.say(user, profile, (id, Wish::Talk), content, key).await
    }

    /// Sends words, files or both into what is the user's own.
    pub(super) async fn say(
        self: &Arc<Self>,
        user: UserId,
        profile: Profile,
        (id, wish): (ConversationId, Wish),
        (text, files): (Option<String>, Vec<FileId>),
        key: Option<String>,
    ) -> Result<Sent> {
        let (body, attached) = self.attached(&user, text, &files).await?;
        let body = body.ok_or_else(|| Error::Validation("body: required".to_owned()))?;
        let opening = Opening { attached, ..Opening::default() };
        self.submit(Draft { user, profile, conversation: Some(id), wish, key, body, opening }).await
    }
}
