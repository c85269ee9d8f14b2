//! In touch with the other nodes: what they change becomes heads here, and wakes who waits.
//!
//! A word that others may not have heard (Redis was gone, or this node could not say it) is counted in the database,
//! where each node looks once a second: whoever finds a new count trusts no head from before.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Chat;
use crate::error::Result;
use crate::id::{ConversationId, UserId};
use crate::model::Head;
use crate::shared::Heard;
use crate::shared::wakes::Word;
use crate::store::conversations::Conversation;

/// The mark that counts words that others may not have heard.
const UNHEARD: &str = "unheard";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A commit under way that changes a conversation. Unless its end is heard of, the head is forgotten, here and at other
/// nodes: a commit whose answer is lost may have been done.
pub(super) struct Committing<'a>(Option<(&'a Chat, &'a ConversationId)>);

impl Committing<'_> {
    /// It is done, and the head will be published.
    pub(super) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let Some((chat, id)) = self.0 else { return };
        chat.heads.doubt(id);
        if !chat.trust.is_alone() {
            chat.shared.set_unheard();
        }
    }
}

impl Chat {
    /// Tells whoever waits for news of a conversation as a commit has left it, here and at other nodes.
    pub(super) fn publish(&self, conversation: &Conversation) {
        let head = Head::from(conversation);
        if !self.trust.is_alone() {
            self.shared.say(Word::Changed { id: conversation.id.clone(), head: head.clone() });
        }
        self.heads.publish(&conversation.id, head);
        self.streams.wake(&conversation.user);
    }

    /// A commit that changes this conversation begins.
    pub(super) fn committing<'a>(&'a self, id: &'a ConversationId) -> Committing<'a> {
        Committing(Some((self, id)))
    }

    /// How long a wait of `left` may rest before the database is asked whether another node has changed something.
    pub fn rest(&self, left: Duration) -> Duration {
        self.trust.rest(left)
    }

    /// Forgets a conversation that is gone, here and at other nodes.
    pub(super) fn forget(&self, id: &ConversationId, user: &UserId) {
        self.heads.remove(id);
        self.streams.wake(user);
        if !self.trust.is_alone() {
            self.shared.say(Word::Gone { id: id.clone(), user: user.clone() });
        }
    }

    /// Other nodes look at their users' tokens anew: at once, or within two seconds where they do not hear.
    pub(super) fn tell_of_erasure(&self) {
        if !self.trust.is_alone() {
            self.shared.say(Word::Erased);
            self.shared.set_unheard();
        }
    }

    /// Speaks and listens to the other nodes, until `shutdown`; the last words are said then.
    pub async fn keep_in_touch(&self, shutdown: CancellationToken) {
        tokio::join!(self.shared.run(shutdown.clone(), |heard| self.hear(heard)), self.look_for_unheard(&shutdown));
        // What could not be said at the very end.
        if let Err(error) = self.tell_of_unheard().await {
            tracing::warn!(cause = ?error, "other nodes learn of the last changes a little later");
        }
    }

    fn hear(&self, heard: Heard) {
        match heard {
            Heard::Word(Word::Changed { id, head }) => {
                self.streams.wake(&head.user);
                self.heads.hear(&id, head);
            }
            Heard::Word(Word::Gone { id, user }) => {
                self.heads.remove(&id);
                self.streams.wake(&user);
            }
            Heard::Word(Word::Erased) => self.store.note_erasure(),
            Heard::Word(Word::Looks { ask, id, user }) => self.tell_of_look(ask, &id, &user),
            Heard::Word(Word::Look { ask, look }) => self.questions.answer(&ask, look),
            Heard::Word(Word::Here | Word::Bye) => {}
            Heard::InTouch => self.trust.set_in_touch(true),
            Heard::OutOfTouch => {
                if self.trust.is_in_touch() {
                    self.trust.set_in_touch(false);
                    // They rested on the touch; from now on they look by themselves.
                    self.streams.wake_all();
                }
            }
            Heard::Missed => self.miss(),
        }
    }

    fn miss(&self) {
        self.trust.miss();
        self.streams.wake_all();
        self.store.note_erasure();
    }

    async fn look_for_unheard(&self, shutdown: &CancellationToken) {
        let mut known = None;
        while !self.trust.is_alone() && !shutdown.is_cancelled() {
            if let Err(error) = self.tell_of_unheard().await {
                tracing::debug!(cause = ?error, "tried again in a second");
            }
            // While the database does not answer, nothing in it changes that could be missed.
            if let Ok(count) = self.store.mark(UNHEARD).await
                && known.replace(count).is_some_and(|known| known != count)
            {
                self.miss();
            }
            tokio::select! {
                () = self.clock.sleep(LOOK) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn tell_of_unheard(&self) -> Result<()> {
        if self.trust.is_alone() || !self.shared.take_unheard() {
            return Ok(());
        }
        let told = self.store.count_up(UNHEARD).await;
        if told.is_err() {
            self.shared.set_unheard();
        }
        told
    }
}
