//! Whether a user looks at a conversation, at whichever node: a poll is known where it came to, so whoever is about to
//! tell a device asks the others. Polls cost nothing for it. Without Redis nobody can be asked, and the device is told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Chat;
use crate::id::{self, ConversationId, UserId};
use crate::model::Look;
use crate::shared::wakes::Word;

/// How long the others have to answer, which takes them milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// Questions to the other nodes that wait for answers, by name.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<String, UnboundedSender<Look>>>);

/// One of them, until it is dropped.
struct Question<'a> {
    name: String,
    answers: UnboundedReceiver<Look>,
    of: &'a Questions,
}

impl Questions {
    fn begin(&self) -> Question<'_> {
        let (answer, answers) = unbounded_channel();
        let name = id::random();
        self.all().insert(name.clone(), answer);
        Question { name, answers, of: self }
    }

    /// Another node's answer; nobody may wait for it any more, or it is to another node's question.
    pub(super) fn answer(&self, name: &str, look: Look) {
        if let Some(question) = self.all().get(name) {
            let _ = question.send(look);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// What so many nodes answer, as one.
    async fn answered(&mut self, by: u32) -> Look {
        let mut all = Look::default();
        for _ in 0..by {
            all = all.or(self.answers.recv().await.unwrap_or_default());
        }
        all
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.of.all().remove(&self.name);
    }
}

impl Chat {
    /// Whether the user looks at the conversation, here or at another node; one that does not answer soon is not waited
    /// for.
    pub async fn looks(&self, user: &UserId, id: &ConversationId) -> Look {
        let here = self.heads.looks(user, id);
        let others = self.shared.nodes().saturating_sub(1);
        if here.waiting || others == 0 || !self.trust.is_in_touch() {
            return here;
        }
        let mut question = self.questions.begin();
        self.shared.say(Word::Looks { ask: question.name.clone(), id: id.clone(), user: user.clone() });
        tokio::select! {
            there = question.answered(others) => here.or(there),
            () = self.clock.sleep(PATIENCE) => here,
        }
    }

    /// Another node asks.
    pub(super) fn tell_of_look(&self, ask: String, id: &ConversationId, user: &UserId) {
        self.shared.say(Word::Look { ask, look: self.heads.looks(user, id) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_count_together_and_only_for_their_question() {
        let questions = Questions::default();
        let (mut one, other) = (questions.begin(), questions.begin());
        questions.answer(&one.name, Look { waiting: true, polled_ms: 1, shown: 0 });
        questions.answer(&other.name, Look { waiting: false, polled_ms: 9, shown: 9 });
        questions.answer("nobody's", Look::default());
        questions.answer(&one.name, Look { waiting: false, polled_ms: 2, shown: 3 });
        assert_eq!(one.answered(2).await, Look { waiting: true, polled_ms: 2, shown: 3 });
        drop((one, other));
        assert!(questions.all().is_empty(), "nothing is kept of them");
    }
}
