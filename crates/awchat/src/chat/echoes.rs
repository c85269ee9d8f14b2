//! Webhooks that say again what an answer has said: Intercom tells of a message that was sent from here as of any other.
//!
//! Such a one has nothing to add: what it says is durable already, so it is acknowledged and not even stored. It is one only
//! if the mirror would have made nothing of it right after the answer; later still less, for a hint may always be missing.

use std::time::Duration;

use quick_cache::sync::Cache;

use super::Chat;
use super::mirror::{self, Origin, Put};
use super::sending::posting;
use super::view::{self, Event, Snapshot};
use crate::id::ConversationId;
use crate::intercom::wire;
use crate::store::conversations::Conversation;
use crate::store::messages::Known;

/// Answers that are remembered: their webhooks come within seconds.
const REMEMBERED: usize = 4_096;

/// The topic of a message that a user has written, anywhere.
const REPLIED: &str = "conversation.user.replied";
/// How long such a webhook waits for the answer to a message that is on its way: they come at the same time. Intercom
/// prefers those who take its webhooks within half a second.
const WAIT: Duration = Duration::from_millis(150);

/// What answers have left, by conversation and message, until their webhooks come.
#[derive(Debug)]
pub(super) struct Echoes(Cache<(ConversationId, String), Left>);

/// The conversation as the answer has left it, and the message.
#[derive(Clone, Debug)]
struct Left {
    conversation: Conversation,
    known: Known,
}

impl Default for Echoes {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Echoes {
    /// An answer has been applied: a webhook will say the same.
    pub(super) fn expect(&self, conversation: Conversation, put: &Put) {
        let known = Known {
            id: put.message.id.clone(),
            fingerprint: put.fingerprint.clone(),
            redacted: put.message.redacted,
            opening: put.opening,
            polished: true,
        };
        self.0.insert((conversation.id.clone(), known.id.clone()), Left { conversation, known });
    }

    /// Whether a webhook says nothing that its message's answer has not said. Once: what comes a second time is looked at.
    pub(super) fn take(&self, snapshot: Snapshot) -> bool {
        let Some(snapshot) = snapshot.of_one_message() else { return false };
        let [seen] = &snapshot.messages[..] else { return false };
        let key = (snapshot.id.clone(), seen.message.id.clone());
        let Some(Left { conversation, known }) = self.0.get(&key) else { return false };
        let plan = mirror::plan(&conversation, &[known], &[], &snapshot, &Origin::Webhook);
        let is_echo = plan.is_empty() && !plan.ask && snapshot.ticket.is_none();
        if is_echo {
            self.0.remove(&key);
        }
        is_echo
    }
}

impl Chat {
    /// Whether a webhook says nothing but what the answer to a message that was sent from here has said.
    pub async fn is_echo(&self, notification: &wire::Notification) -> bool {
        let Some(id) = view::subject(notification).filter(|_| notification.topic.as_deref() == Some(REPLIED)) else {
            return false;
        };
        // Whether its turn has come or not: what is known then counts.
        let _ = tokio::time::timeout(WAIT, self.turns.take(&posting(&id))).await;
        match view::event(notification) {
            Event::Conversation(snapshot) => self.echoes.take(*snapshot),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::sync::first;
    use crate::id::UserId;

    fn said(state: &str, at: i64, redacted: bool) -> Snapshot {
        let author = json!({ "type": "user", "id": "c" });
        let part = json!({ "id": "9", "part_type": "comment", "body": "words", "created_at": at, "author": author,
            "redacted": redacted });
        let conversation = json!({ "id": "7", "state": state, "created_at": 1, "updated_at": at,
            "source": { "id": "8", "body": "Hello", "author": author },
            "conversation_parts": { "conversation_parts": [part] } });
        view::snapshot(&serde_json::from_value(conversation).expect("a conversation")).expect("with an id")
    }

    #[test]
    fn only_a_webhook_that_says_what_the_answer_has_said_is_an_echo_and_only_once() {
        let answer = said("open", 100, false);
        let user = UserId::parse("ada").expect("a user id");
        let conversation = first(&answer, user, None, false, 100_000);
        let [_, seen] = &answer.messages[..] else { panic!("the opening message and another") };
        let put = Put {
            message: seen.message.clone(),
            fingerprint: mirror::fingerprint(&seen.message),
            opening: false,
            kind: mirror::PutKind::New,
            hidden: false,
            binds: None,
        };
        let echoes = Echoes::default();
        assert!(!echoes.take(answer.clone()), "nothing was said yet");
        echoes.expect(conversation, &put);
        assert!(!echoes.take(said("closed", 100, false)), "an operator has closed it");
        assert!(!echoes.take(said("open", 100, true)), "it was taken back");
        assert!(echoes.take(answer.clone()));
        assert!(!echoes.take(answer));
    }
}
