//! What users say of the support. It is kept here and needs no Intercom; a rating is also told there, by jobs.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Chat;
use super::nodes::Committing;
use crate::error::{Error, Result};
use crate::id::{self, ConversationId, UserId};
use crate::store::Tx;
use crate::store::conversations::Conversation;
use crate::store::feedback::{Earlier, NewComplaint, NewRating};

/// A user's rating of a ticket, a conversation, both, or of the service as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// 1 to 5.
    pub stars: u8,
    /// In the user's words.
    pub comment: Option<String>,
    /// Decides whether it is a rating given before, where it is named.
    pub ticket: Option<ConversationId>,
    /// Decides it otherwise.
    pub conversation: Option<ConversationId>,
}

/// A complaint.
#[derive(Clone, Debug, Serialize)]
pub struct Complaint {
    /// What kind of complaint.
    pub category: Category,
    /// In the user's words.
    pub description: String,
    /// The chat it is about; must be the user's own where it is a conversation's id.
    pub chat: Option<String>,
    /// What else it is about; the same holds.
    pub dialog: Option<String>,
}

/// What a complaint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Category {
    /// Money.
    Funds,
    /// An account's safety.
    Security,
    /// How an operator behaved.
    Operator,
    /// Something does not work.
    Technical,
    /// Anything else.
    Other,
}

/// What became of a rating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rated {
    /// It counts.
    Stored(Kept),
    /// The user has rated this before.
    Duplicate,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// It was stored by an earlier request with the same key.
    pub replayed: bool,
}

/// Ratings of nothing in particular that a user may give in a day.
const OF_NOTHING: usize = 5;
const DAY_MS: i64 = 24 * 3_600_000;

impl Chat {
    /// Stores a rating, marks what it counts for as rated, and asks for it to be told at Intercom: in one transaction,
    /// so that the next poll knows, and an outage only delays the telling.
    ///
    /// # Errors
    /// What is named and not the user's is not found; a sixth rating of nothing within a day is one too many.
    pub async fn rate(&self, user: &UserId, rate: &Rate, key: Option<&str>) -> Result<Rated> {
        for id in rate.subjects() {
            let is_ticket = self.owned(user, id).await?.is_ticket;
            if rate.ticket.as_ref() == Some(id) && !is_ticket {
                return Err(Error::NotFound);
            }
        }
        let now_ms = self.clock.now_ms();
        let (id, fingerprint) = (id::random(), fingerprint(rate)?);
        let mut tx = self.store.begin().await?;
        if let Some(key) = key
            && let Some(kept) = replayed(tx.rating_of_key(user, key).await?, &fingerprint)?
        {
            return Ok(Rated::Stored(kept));
        }
        if rate.subjects().next().is_none() {
            tx.lock_user(user, now_ms).await?;
            spare(&tx.ratings_of_nothing(user, now_ms - DAY_MS, OF_NOTHING as i64).await?, now_ms)?;
        }
        let new = NewRating {
            id: &id,
            user,
            stars: rate.stars,
            comment: rate.comment.as_deref(),
            ticket: rate.ticket.as_ref(),
            conversation: rate.conversation.as_ref(),
            key,
            fingerprint: &fingerprint,
            created_ms: now_ms,
        };
        if !tx.insert_rating(&new).await? {
            // The same request at once, at another node: it has just been stored.
            let earlier = match key {
                Some(key) => replayed(tx.rating_of_key(user, key).await?, &fingerprint)?,
                None => None,
            };
            return earlier.map(Rated::Stored).ok_or(Error::Conflict);
        }
        let mut rated = Vec::new();
        for (at, subject) in rate.subjects().enumerate() {
            if tx.rate(user, subject, &id).await? {
                rated.push(mark_rated(&mut tx, user, subject, rate.comment.is_some(), now_ms).await?);
            } else if at == 0 {
                return Ok(Rated::Duplicate);
            }
        }
        for conversation in &rated {
            tx.number_change(user, &conversation.id, conversation.last_position, now_ms).await?;
        }
        let committing: Vec<_> = rated.iter().map(|rated| self.committing(&rated.id)).collect();
        tx.commit().await?;
        committing.into_iter().for_each(Committing::done);
        rated.iter().for_each(|conversation| self.publish(conversation));
        self.work.notify_one();
        Ok(Rated::Stored(Kept { id, replayed: false }))
    }

    /// Stores a complaint, for people to read on this side: Intercom is not told.
    ///
    /// # Errors
    /// What it names is not found where it is a conversation's id and not the user's.
    pub async fn complain(&self, user: &UserId, complaint: &Complaint, key: Option<&str>) -> Result<Kept> {
        for named in [&complaint.chat, &complaint.dialog].into_iter().flatten() {
            if let Some(id) = ConversationId::parse(named) {
                self.owned(user, &id).await?;
            }
        }
        let (id, fingerprint) = (id::random(), fingerprint(complaint)?);
        let mut tx = self.store.begin().await?;
        if let Some(key) = key
            && let Some(kept) = replayed(tx.complaint_of_key(user, key).await?, &fingerprint)?
        {
            return Ok(kept);
        }
        let new = NewComplaint {
            id: &id,
            user,
            category: complaint.category.as_str(),
            description: &complaint.description,
            chat: complaint.chat.as_deref(),
            dialog: complaint.dialog.as_deref(),
            key,
            fingerprint: &fingerprint,
            created_ms: self.clock.now_ms(),
        };
        if !tx.insert_complaint(&new).await? {
            let earlier = match key {
                Some(key) => replayed(tx.complaint_of_key(user, key).await?, &fingerprint)?,
                None => None,
            };
            return earlier.ok_or(Error::Conflict);
        }
        tx.commit().await?;
        Ok(Kept { id, replayed: false })
    }
}

impl Category {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Funds, Self::Security, Self::Operator, Self::Technical, Self::Other];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Funds => "funds",
            Self::Security => "security",
            Self::Operator => "operator",
            Self::Technical => "technical",
            Self::Other => "other",
        }
    }
}

impl TryFrom<String> for Category {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let rule = "must be funds, security, operator, technical or other";
        Self::ALL.into_iter().find(|own| own.as_str() == text).ok_or(rule)
    }
}

impl Rate {
    /// What is rated, the one that decides first, each once: a ticket is the conversation with its id.
    fn subjects(&self) -> impl Iterator<Item = &ConversationId> {
        let conversation = self.conversation.iter().filter(|id| self.ticket.as_ref() != Some(id));
        self.ticket.iter().chain(conversation)
    }
}

/// The same request again has the same.
fn fingerprint(request: &impl Serialize) -> Result<String> {
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(request).map_err(Error::internal)?)))
}

fn replayed(earlier: Option<Earlier>, fingerprint: &str) -> Result<Option<Kept>> {
    match earlier {
        None => Ok(None),
        Some(earlier) if earlier.fingerprint == fingerprint => Ok(Some(Kept { id: earlier.id, replayed: true })),
        Some(_) => Err(Error::IdempotencyMismatch),
    }
}

/// Whether there is room for one more rating of nothing; `given`: the day's newest, newest first.
fn spare(given: &[i64], now_ms: i64) -> Result<()> {
    match given.last() {
        Some(oldest_ms) if given.len() >= OF_NOTHING => {
            let wait_ms = (oldest_ms + DAY_MS - now_ms).max(1).unsigned_abs();
            Err(Error::RateLimited { retry_after_s: wait_ms.div_ceil(1000) })
        }
        _ => Ok(()),
    }
}

async fn mark_rated(
    tx: &mut Tx,
    user: &UserId,
    id: &ConversationId,
    with_comment: bool,
    now_ms: i64,
) -> Result<Conversation> {
    let mine = tx.mirrored(id).await?.filter(|conversation| conversation.user == *user);
    let mut conversation = mine.ok_or(Error::NotFound)?;
    if !conversation.rated {
        tx.next_position(id, now_ms).await?;
    }
    conversation.rated = true;
    conversation.rated_here = true;
    tx.enqueue("csat_tag", id.as_str(), "{}", now_ms, now_ms).await?;
    if with_comment {
        tx.enqueue("csat_note", id.as_str(), "{}", now_ms, now_ms).await?;
    }
    tx.update_conversation(&conversation).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_ratings_of_nothing_fit_in_any_24_hours() {
        let now_ms = 10 * DAY_MS;
        let given = |count: i64| (1..=count).map(|at| now_ms - at * 3_600_000).collect::<Vec<_>>();
        spare(&given(0), now_ms).expect("room");
        spare(&given(4), now_ms).expect("room");
        let refused = spare(&given(5), now_ms).expect_err("no room");
        assert_eq!(refused.retry_after_s(), Some(19 * 3600), "until the oldest of them is a day old");
    }

    #[test]
    fn what_is_rated_is_named_once_and_the_ticket_first() {
        let id = |text: &str| ConversationId::parse(text);
        let named = |ticket, conversation| {
            let rate = Rate { stars: 5, comment: None, ticket, conversation };
            rate.subjects().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(named(None, None).is_empty());
        assert_eq!(named(id("1"), None), ["1"]);
        assert_eq!(named(None, id("2")), ["2"]);
        assert_eq!(named(id("1"), id("2")), ["1", "2"]);
        assert_eq!(named(id("1"), id("1")), ["1"]);
    }
}
