//! What clients asked for, while it is being worked on, and how it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::draft::Draft;
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::store::erasure::ERASED;

/// The answer to a message that Intercom has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The body, the same bytes for the same request.
    pub body: Arc<str>,
    /// It was given before.
    pub replayed: bool,
}

/// How sending ended, in words that several waiting requests can share.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Sent {
        sent: Sent,
        row: String,
    },
    Mismatch,
    NotFound,
    Refused,
    /// Its user was erased meanwhile.
    Erased,
    /// A file is not the user's, or on another message.
    NoSuchFile,
    Unavailable {
        retry_after_s: u64,
    },
    Failed,
}

impl From<Outcome> for Result<Sent> {
    fn from(outcome: Outcome) -> Self {
        Err(match outcome {
            Outcome::Sent { sent, .. } => return Ok(sent),
            Outcome::Mismatch => Error::IdempotencyMismatch,
            Outcome::NotFound => Error::NotFound,
            Outcome::Refused => Error::Validation("body: refused by the support desk".to_owned()),
            Outcome::Erased => Error::Unauthorized(ERASED),
            Outcome::NoSuchFile => super::attachments::no_such_file(),
            Outcome::Unavailable { retry_after_s } => Error::Unavailable { retry_after_s, cause: None },
            Outcome::Failed => Error::internal("a message could not be sent, see above"),
        })
    }
}

/// The requests that are being worked on: the same one, come again, waits for the first.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<HashMap<Identity, AtWork>>);

/// A request that is being worked on.
#[derive(Debug)]
struct AtWork {
    fingerprint: String,
    /// Where its end will be told.
    outcome: watch::Receiver<Option<Outcome>>,
    /// Who waited for it has heard 502: it is not begun any more, and if it was, the same words without a key are a
    /// retry of it.
    told: bool,
    /// Somebody had heard 502 of it, and asked again.
    was_told: bool,
}

/// What makes two requests one: the key in its scope, or without a key the words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    user: UserId,
    route: String,
    key_or_fingerprint: String,
}

/// Where a request's end will be told, and, for whoever began it, by whom.
pub(super) type Joined = (watch::Receiver<Option<Outcome>>, Option<watch::Sender<Option<Outcome>>>);

impl Requests {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, AtWork>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody heard 502 of a request; `false` if it is no longer at work.
    pub(super) fn tell(&self, identity: &Identity) -> bool {
        let mut requests = self.lock();
        let Some(at_work) = requests.get_mut(identity) else { return false };
        (at_work.told, at_work.was_told) = (true, true);
        true
    }

    pub(super) fn is_told(&self, identity: &Identity) -> bool {
        self.lock().get(identity).is_some_and(|at_work| at_work.told)
    }

    /// The request is no longer at work, unless somebody ever heard 502 of it: then the answer is whether the last
    /// one who waited did.
    pub(super) fn end_unless_told(&self, identity: &Identity) -> Option<bool> {
        let mut requests = self.lock();
        let told = requests.get(identity).filter(|at_work| at_work.was_told).map(|at_work| at_work.told);
        if told.is_none() {
            requests.remove(identity);
        }
        told
    }

    pub(super) fn end(&self, identity: &Identity) {
        self.lock().remove(identity);
    }

    /// Joins the same request if it is at work, else begins it: then the sender of its end is with it. `None`: its key is
    /// at work with another payload.
    pub(super) fn join_or_begin(&self, identity: &Identity, fingerprint: &str) -> Option<Joined> {
        let mut requests = self.lock();
        if let Some(at_work) = requests.get_mut(identity) {
            // Whoever heard 502 of it asks again.
            at_work.told = false;
            return (at_work.fingerprint == fingerprint).then(|| (at_work.outcome.clone(), None));
        }
        let (end, outcome) = watch::channel(None);
        let (fingerprint, told) = (fingerprint.to_owned(), false);
        requests.insert(identity.clone(), AtWork { fingerprint, outcome: outcome.clone(), told, was_told: false });
        Some((outcome, Some(end)))
    }
}

impl Identity {
    pub(super) fn of(draft: &Draft) -> Self {
        let key_or_fingerprint = draft.key.clone().unwrap_or_else(|| draft.fingerprint());
        Self { user: draft.user.clone(), route: draft.route(), key_or_fingerprint }
    }
}
