//! What clients asked for, while it is being worked on, and how it ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::draft::Draft;
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::store::erasure::ERASED;
use crate::store::outbound::{Outbound, Told};

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
        /// What others who asked for it can have been told.
        told: Told,
        /// Another node has answered it, perhaps before the requests from this one on came: what they say is new then.
        new_from: Option<usize>,
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

impl From<Outcome> for crate::error::Result<Sent> {
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
    /// The row that it works on, once there is one.
    row: Option<String>,
    /// Where its end will be told.
    outcome: watch::Receiver<Option<Outcome>>,
    /// How many wait for its end.
    waiting: Arc<AtomicUsize>,
    /// Somebody who waited for it has heard 502.
    refused: bool,
    /// Others can have heard 502 of its row, or hear it yet: whoever waited for it before, or for the one it repeats.
    is_again: bool,
    /// It is at its end, and whoever waits for it hears of it: nobody is told 502 any more.
    has_ended: bool,
    /// How many have asked for it.
    asked: usize,
    /// How many of them had when nobody had been told 201 of its row.
    asked_before: usize,
}

/// The request is no longer at work.
#[derive(Debug)]
pub(super) struct Ended;

/// What makes two requests one: the key in its scope, or without a key the words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    user: UserId,
    route: String,
    key_or_fingerprint: String,
}

/// A request that waits for the end of its work.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    /// How many asked for it before.
    place: usize,
    /// Until it hears 502, or its client hangs up.
    seat: Option<Seat>,
}

/// One of those who wait, until it is dropped.
#[derive(Debug)]
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn new(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For whoever begins a request: where its end is to be told.
pub(super) type End = watch::Sender<Option<Outcome>>;

impl Waiting {
    /// What the request hears of its end.
    pub(super) fn hears(&self, end: Outcome) -> Outcome {
        match end {
            Outcome::Sent { new_from: Some(first), .. } if self.place >= first => {
                Outcome::Unavailable { retry_after_s: 1 }
            }
            end => end,
        }
    }
}

impl AtWork {
    /// The newest of those who asked for it.
    fn waiting(&self) -> Waiting {
        Waiting { outcome: self.outcome.clone(), place: self.asked - 1, seat: Some(Seat::new(&self.waiting)) }
    }

    /// All who waited for it have heard 502, or hung up after others did: it is not begun any more, and if it was, the same
    /// words without a key are a retry of it.
    fn is_told(&self) -> bool {
        self.refused && self.waiting.load(Ordering::Relaxed) == 0
    }
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, AtWork>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that who waits so hears 502 of a request; the row that it works on, if it has one. `Err`: it is no longer at
    /// work.
    pub(super) fn tell(&self, identity: &Identity, waiting: &mut Waiting) -> Result<Option<String>, Ended> {
        let mut requests = self.lock();
        let at_work = requests.get_mut(identity).filter(|at_work| !at_work.has_ended).ok_or(Ended)?;
        (at_work.refused, at_work.is_again) = (true, true);
        waiting.seat = None;
        Ok(at_work.row.clone())
    }

    /// The request works on this row from now on, that of an earlier one if it `is_again`. `false`: who waited for it
    /// has heard 502, and it must leave the row alone, which can be its retry's at another node.
    pub(super) fn take_on(&self, identity: &Identity, row: &str, is_again: bool) -> bool {
        let mut requests = self.lock();
        let Some(at_work) = requests.get_mut(identity).filter(|at_work| !at_work.is_told()) else { return false };
        at_work.row = Some(row.to_owned());
        at_work.is_again |= is_again;
        true
    }

    pub(super) fn is_told(&self, identity: &Identity) -> bool {
        self.lock().get(identity).is_some_and(AtWork::is_told)
    }

    /// How many have asked for it so far.
    pub(super) fn asked(&self, identity: &Identity) -> usize {
        self.lock().get(identity).map_or(0, |at_work| at_work.asked)
    }

    /// After so many had asked for it, nobody had been told 201 of its row: neither had they.
    pub(super) fn is_unanswered(&self, identity: &Identity, asked: usize) {
        if let Some(at_work) = self.lock().get_mut(identity) {
            at_work.asked_before = asked;
        }
    }

    /// Nobody has been told 201 of this row: neither have those who ask for it here by now.
    pub(super) fn is_row_unanswered(&self, row: &Outbound) {
        let identity = Identity::of_row(row);
        self.is_unanswered(&identity, self.asked(&identity));
    }

    /// Of those who asked for it, who came first of those who can have been told 201 of its row before.
    pub(super) fn new_from(&self, identity: &Identity) -> usize {
        self.lock().get(identity).map_or(0, |at_work| at_work.asked_before).max(1)
    }

    /// The request is at its end, and who waits for it hears of it; whether others can have heard 502 of its row, or
    /// hear it yet. `None`: the last one who waited did, and nobody hears of the end.
    pub(super) fn come_to_end(&self, identity: &Identity) -> Option<bool> {
        let mut requests = self.lock();
        let at_work = requests.get_mut(identity).filter(|at_work| !at_work.is_told())?;
        at_work.has_ended = true;
        Some(at_work.is_again)
    }

    pub(super) fn end(&self, identity: &Identity) {
        self.lock().remove(identity);
    }

    /// Joins the same request if it is at work, else begins it: then its end is to be told. `None`: its key is at work with
    /// another payload.
    pub(super) fn join_or_begin(&self, identity: &Identity, fingerprint: &str) -> Option<(Waiting, Option<End>)> {
        let mut requests = self.lock();
        if let Some(at_work) = requests.get_mut(identity) {
            if at_work.fingerprint != fingerprint {
                return None;
            }
            at_work.asked += 1;
            return Some((at_work.waiting(), None));
        }
        let (end, outcome) = watch::channel(None);
        let at_work = AtWork {
            fingerprint: fingerprint.to_owned(),
            row: None,
            outcome,
            waiting: Arc::default(),
            refused: false,
            is_again: false,
            has_ended: false,
            asked: 1,
            asked_before: 0,
        };
        let waiting = at_work.waiting();
        requests.insert(identity.clone(), at_work);
        Some((waiting, Some(end)))
    }
}

impl Identity {
    pub(super) fn of(draft: &Draft) -> Self {
        let key_or_fingerprint = draft.key.clone().unwrap_or_else(|| draft.fingerprint());
        Self { user: draft.user.clone(), route: draft.route(), key_or_fingerprint }
    }

    fn of_row(row: &Outbound) -> Self {
        let key_or_fingerprint = row.key.clone().unwrap_or_else(|| row.fingerprint.clone());
        Self { user: row.user.clone(), route: row.route.clone(), key_or_fingerprint }
    }
}
