//! What of a change is told to the user's devices: written in the transaction that stores it, sent by `push`.
//!
//! An operator's message and a ticket's new status, as they happen. Never a note (it is not in the mirror), the user's
//! own words, what was taken over on a first visit, or what a sweep found that is old.

use super::Chat;
use super::mirror::{Origin, Put, PutKind};
use crate::error::Result;
use crate::id::{ConversationId, UserId};
use crate::model::{AuthorKind, Status};
use crate::store::Tx;
use crate::store::conversations::Conversation;
use crate::store::devices::Platform;
use crate::store::notices::{Kind, News};
use crate::store::tickets::Change;

/// What is older when it comes is told nobody.
const FRESH_S: i64 = 15 * 60;
/// How far Intercom's clock may be ahead of ours where a message is held against a first visit.
const CLOCK_DIFFERENCE_S: i64 = 5;
/// A ticket that is open again this soon after a word of its user's is so because of that.
const OWN_DOING_S: i64 = 60;

/// Something that devices are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    kind: Kind,
    reason: String,
    position: i64,
    /// Unix seconds.
    at: i64,
}

/// How a change came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming<'a> {
    /// By webhook, or as an answer.
    pub(super) origin: &'a Origin,
    /// The conversation was not in the mirror before.
    pub(super) is_new: bool,
    /// Now, Unix milliseconds.
    pub(super) now_ms: i64,
}

/// An operator's message, stored at `position`.
pub(super) fn of_message(put: &Put, position: i64) -> Option<Told> {
    let tells =
        put.kind == PutKind::New && !put.hidden && !put.message.redacted && put.message.author.kind != AuthorKind::User;
    tells.then(|| Told { kind: Kind::Chat, reason: put.message.id.clone(), position, at: put.message.created_at })
}

/// A new status of a ticket; `None` where the user sees the same as before.
fn of_change(change: &Change, position: i64) -> Option<Told> {
    let differs = change.before != Some(change.status);
    differs.then(|| Told { kind: Kind::Ticket, reason: change.part_id.clone(), position, at: change.at })
}

/// Whether it happened just now. What was there before the user's first visit is history, however young, unless
/// somebody told us of it.
fn is_fresh(at: i64, coming: &Coming<'_>, first_visit_ms: Option<i64>) -> bool {
    let is_young = coming.now_ms.div_euclid(1000) - at < FRESH_S;
    let may_be_history = coming.is_new && *coming.origin != Origin::Webhook;
    is_young
        && (!may_be_history
            || first_visit_ms.is_some_and(|visit_ms| at > visit_ms.div_euclid(1000) + CLOCK_DIFFERENCE_S))
}

impl Chat {
    /// Writes notices of what is new in a conversation; whether any device is to be told.
    pub(super) async fn notify(
        &self,
        tx: &mut Tx,
        now: &Conversation,
        messages: Vec<Told>,
        changes: &[Change],
        coming: &Coming<'_>,
    ) -> Result<bool> {
        if now.hidden || self.settings.notified.is_empty() || messages.is_empty() && changes.is_empty() {
            return Ok(false);
        }
        let visit_ms = if coming.is_new { tx.first_visit_ms(&now.user).await? } else { None };
        let mut written = false;
        for told in messages.iter().filter(|told| is_fresh(told.at, coming, visit_ms)) {
            written |= self.put_notice(tx, (&now.user, &now.id), told, coming.now_ms).await?;
        }
        for change in changes.iter().filter(|change| is_fresh(change.at, coming, visit_ms)) {
            let Some(told) = of_change(change, now.last_position) else { continue };
            let reopened = change.before == Some(Status::Resolved);
            if !reopened || !tx.user_wrote_since(&now.id, change.at - OWN_DOING_S).await? {
                written |= self.put_notice(tx, (&now.user, &now.id), &told, coming.now_ms).await?;
            }
        }
        Ok(written)
    }

    async fn put_notice(
        &self,
        tx: &mut Tx,
        (user, conversation): (&UserId, &ConversationId),
        told: &Told,
        now_ms: i64,
    ) -> Result<bool> {
        let news = News { user, conversation, kind: told.kind, reason: &told.reason, position: told.position };
        Ok(tx.add_notices(&news, &self.settings.notified, now_ms).await? > 0)
    }

    /// Waits until devices of this platform may have to be told something.
    pub async fn noticed(&self, platform: Platform) {
        match platform {
            Platform::Mobile => self.noticed.0.notified().await,
            Platform::Tma => self.noticed.1.notified().await,
        }
    }

    pub(super) fn ring_push(&self) {
        self.noticed.0.notify_one();
        self.noticed.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Author, Message};

    const NOW_S: i64 = 1_800_000_000;

    fn put(author: AuthorKind, kind: PutKind, hidden: bool, redacted: bool) -> Put {
        let author = Author { kind: author, name: None, avatar_url: None };
        let message = Message {
            id: "7".to_owned(),
            author,
            body: String::new(),
            html: String::new(),
            attachments: Vec::new(),
            created_at: NOW_S,
            redacted,
        };
        Put { message, fingerprint: String::new(), opening: false, kind, hidden, binds: None }
    }

    #[test]
    fn only_what_others_wrote_and_is_new_is_told() {
        use AuthorKind::{Bot, Operator, User};
        for (author, kind, hidden, redacted, told) in [
            (Operator, PutKind::New, false, false, true),
            (Bot, PutKind::New, false, false, true),
            (User, PutKind::New, false, false, false),
            (Operator, PutKind::Edit, false, false, false),
            (Operator, PutKind::Polish, false, false, false),
            (Operator, PutKind::New, true, false, false),
            (Operator, PutKind::New, false, true, false),
        ] {
            let put = put(author, kind, hidden, redacted);
            assert_eq!(of_message(&put, 9).is_some(), told, "{author:?} {kind:?} {hidden} {redacted}");
        }
    }

    #[test]
    fn a_change_that_shows_the_same_status_is_not_told() {
        let told = |before| {
            let change = Change { part_id: "1".to_owned(), status: Status::InProgress, before, at: NOW_S };
            of_change(&change, 9).is_some()
        };
        assert!(told(Some(Status::Submitted)) && told(None));
        assert!(!told(Some(Status::InProgress)));
    }

    #[test]
    fn history_and_what_is_old_is_not_fresh() {
        let answer = Origin::Answer { asked_ms: NOW_S * 1000, of: None };
        let visit_ms = (NOW_S - 60) * 1000;
        for (age_s, origin, is_new, visit_ms, fresh) in [
            (0, &Origin::Webhook, false, None, true),
            (FRESH_S - 1, &answer, false, None, true),
            (FRESH_S, &Origin::Webhook, false, None, false),
            (0, &Origin::Webhook, true, None, true),
            (0, &answer, true, None, false),
            (54, &answer, true, Some(visit_ms), true),
            (55, &answer, true, Some(visit_ms), false),
            (-5, &answer, false, None, true),
        ] {
            let coming = Coming { origin, is_new, now_ms: NOW_S * 1000 };
            assert_eq!(is_fresh(NOW_S - age_s, &coming, visit_ms), fresh, "{age_s} {origin:?} {is_new} {visit_ms:?}");
        }
    }
}
