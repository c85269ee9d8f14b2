//! Pure: what nodes tell each other, and who of them has been heard.
//!
//! Words are for those who listen; Redis keeps none of them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::id::{ConversationId, UserId};
use crate::model::{Head, Look};

/// A node says that it is there this often, milliseconds …
pub const BEAT_MS: u64 = 250;
/// … and one that was not heard for this long is gone, with what it had yet to say.
const SILENCE_MS: i64 = 1_500;

/// What a node tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// A conversation is like this after a commit.
    Changed {
        /// Which.
        id: ConversationId,
        /// What an idle poll needs of it.
        #[serde(flatten)]
        head: Head,
    },
    /// A conversation is gone.
    Gone {
        /// Which.
        id: ConversationId,
        /// Whose it was.
        user: UserId,
    },
    /// A user was erased.
    Erased,
    /// Does this user look at this conversation?
    Looks {
        /// The question's name.
        ask: String,
        /// At which.
        id: ConversationId,
        /// Who.
        user: UserId,
    },
    /// The answer to that.
    Look {
        /// The question's name.
        ask: String,
        /// As the node knows that answers.
        look: Look,
    },
    /// The node is there.
    Here,
    /// The node goes, and has said everything.
    Bye,
}

impl Word {
    /// Whether who does not hear it misses a change.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Gone { .. } | Self::Erased)
    }
}

/// A word, and who says it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) node: String,
    #[serde(flatten)]
    pub(super) word: Word,
}

/// The nodes that are heard, this one among them.
#[derive(Debug)]
pub(super) struct Peers {
    own: String,
    began_ms: i64,
    /// When each was heard last, Unix milliseconds.
    heard_ms: HashMap<String, i64>,
}

impl Peers {
    /// Nobody was heard yet.
    pub(super) fn new(own: &str, now_ms: i64) -> Self {
        Self { own: own.to_owned(), began_ms: now_ms, heard_ms: HashMap::new() }
    }

    /// Notes that `said` was heard; what it says, if it is not this node's own.
    pub(super) fn hear(&mut self, said: Said, now_ms: i64) -> Option<Word> {
        let is_own = said.node == self.own;
        if said.word == Word::Bye {
            self.heard_ms.remove(&said.node);
        } else {
            self.heard_ms.insert(said.node, now_ms);
        }
        (!is_own).then_some(said.word)
    }

    /// Whether this node hears itself: what it says is heard, and what is said is heard by it.
    pub(super) fn hears_itself(&self) -> bool {
        self.heard_ms.contains_key(&self.own)
    }

    /// Whether this node has not heard itself for too long, so that it hears nobody.
    pub(super) fn is_deaf(&self, now_ms: i64) -> bool {
        now_ms - self.heard_ms.get(&self.own).unwrap_or(&self.began_ms) > SILENCE_MS
    }

    /// Forgets other nodes that have fallen silent without a word; whether there were any.
    pub(super) fn forget_silent(&mut self, now_ms: i64) -> bool {
        let before = self.heard_ms.len();
        self.heard_ms.retain(|node, heard_ms| *node == self.own || now_ms - *heard_ms <= SILENCE_MS);
        self.heard_ms.len() < before
    }

    /// How many there are, at least one.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.heard_ms.len()).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    fn said(node: &str, word: Word) -> Said {
        Said { node: node.to_owned(), word }
    }

    #[test]
    fn a_word_is_the_same_on_the_other_side() {
        let (id, user) = (ConversationId::parse("17").expect("an id"), UserId::parse("ada").expect("a user"));
        let head = Head {
            user: user.clone(),
            position: 10,
            state: State::Snoozed,
            snoozed_until: Some(99),
            rated: true,
            unread: 2,
            revision: 7,
        };
        let changed = Word::Changed { id: id.clone(), head };
        let gone = Word::Gone { id: id.clone(), user: user.clone() };
        let asked = Word::Looks { ask: "1".to_owned(), id, user };
        let answered = Word::Look { ask: "1".to_owned(), look: Look { waiting: true, polled_ms: 5, shown: 3 } };
        for word in [changed, gone, Word::Erased, asked, answered, Word::Here, Word::Bye] {
            let said = said("a", word);
            let text = serde_json::to_string(&said).expect("JSON");
            assert_eq!(serde_json::from_str::<Said>(&text).expect("read"), said, "{text}");
        }
        assert!(serde_json::from_str::<Said>(r#"{"node":"a","word":"sing"}"#).is_err());
    }

    #[test]
    fn a_node_hears_the_others_and_knows_that_it_is_heard() {
        let mut peers = Peers::new("a", 0);
        assert_eq!(peers.hear(said("b", Word::Erased), 10), Some(Word::Erased));
        assert!(!peers.hears_itself());
        assert_eq!(peers.hear(said("a", Word::Erased), 20), None, "its own words are no news");
        assert!(peers.hears_itself());
        assert_eq!(peers.count(), 2);
        assert!(!peers.is_deaf(20 + SILENCE_MS) && peers.is_deaf(21 + SILENCE_MS));
    }

    #[test]
    fn who_never_hears_itself_is_deaf_before_long() {
        let peers = Peers::new("a", 5);
        assert!(!peers.is_deaf(5 + SILENCE_MS) && peers.is_deaf(6 + SILENCE_MS));
    }

    #[test]
    fn who_falls_silent_is_missed_and_who_says_bye_is_not() {
        let mut peers = Peers::new("a", 0);
        for node in ["a", "b", "c"] {
            peers.hear(said(node, Word::Here), 0);
        }
        peers.hear(said("c", Word::Bye), 10);
        assert!(!peers.forget_silent(SILENCE_MS));
        assert!(peers.forget_silent(SILENCE_MS + 1), "b said no bye");
        assert!(!peers.forget_silent(SILENCE_MS + 2));
        assert_eq!(peers.count(), 1);
    }
}
