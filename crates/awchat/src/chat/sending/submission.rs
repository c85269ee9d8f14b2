//! A request's side of sending: it begins the work or joins it, and waits for its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::chat::Chat;
use crate::chat::draft::Draft;
use crate::chat::requests::{Identity, Outcome, Sent};
use crate::error::{Error, Result};
use crate::store::outbound::Told;

/// How long a request waits for its end before the client hears that it goes on.
const DEADLINE: Duration = Duration::from_secs(15);

/// A request that waits for the end of its work.
struct Waiting {
    outcome: watch::Receiver<Option<Outcome>>,
    /// The work was begun for it; whoever joins comes later.
    is_first: bool,
}

impl Chat {
    /// Sends a message, or finds out what became of it if it is the same request again.
    ///
    /// # Errors
    /// `Unavailable` when Intercom does not have it or nobody knows; `IdempotencyMismatch` when its key came
    /// with another payload; `Conflict` when its key is still at work after 15 s; `NotFound` when the
    /// conversation is gone; `Validation` when Intercom refuses the text.
    pub async fn submit(self: &Arc<Self>, draft: Draft) -> Result<Sent> {
        let identity = Identity::of(&draft);
        let (user, route, fingerprint) = (draft.user.clone(), draft.route(), draft.fingerprint());
        let has_key = draft.key.is_some();
        let Some(mut waiting) = self.join_or_start(draft) else { return Outcome::Mismatch.into() };
        tokio::select! {
            biased;
            end = waiting.end() => return end,
            () = self.clock.sleep(DEADLINE) => {}
        }
        if has_key {
            return Err(Error::Conflict);
        }
        if let Ok(row) = self.requests.tell(&identity) {
            // Durably: should the process die now, the message must not be sent once more unasked, and its retry must
            // find it.
            self.store.tell_outbound_open(&user, &route, &fingerprint, row.as_deref()).await?;
            return Outcome::Unavailable { retry_after_s: 1 }.into();
        }
        // It has just come to its end.
        waiting.end().await
    }

    /// The work on this request: that on the same one, or new. `None`: its key is at work with another payload.
    fn join_or_start(self: &Arc<Self>, draft: Draft) -> Option<Waiting> {
        let identity = Identity::of(&draft);
        let (outcome, end) = self.requests.join_or_begin(&identity, &draft.fingerprint())?;
        let Some(end) = end else { return Some(Waiting { outcome, is_first: false }) };
        let chat = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = chat.work_on(&draft, &identity).await.unwrap_or_else(|error| {
                // Nobody's row is refused or gone but an erased user's.
                if matches!(error, Error::NotFound | Error::Unauthorized(_)) {
                    return Outcome::Erased;
                }
                tracing::error!(cause = %error, source = ?std::error::Error::source(&error), "message not sent");
                match error {
                    Error::Overloaded { retry_after_s } => Outcome::Unavailable { retry_after_s },
                    _ => Outcome::Failed,
                }
            });
            chat.requests.end(&identity);
            end.send_replace(Some(outcome));
        });
        Some(Waiting { outcome, is_first: true })
    }

    /// Works on a request to its end; it is no longer at work when this returns well.
    async fn work_on(&self, draft: &Draft, identity: &Identity) -> Result<Outcome> {
        let mut outcome = self.send_or_find(draft, identity).await?;
        // Whoever else asked for it hears of it now: the same words without a key are another message from now on.
        if let (None, Outcome::Sent { row, told, .. }) = (&draft.key, &mut outcome)
            && self.requests.come_to_end(identity).is_some_and(|is_again| is_again || *told != Told::Nothing)
        {
            *told = if self.store.answered_outbound(row).await? { Told::Nothing } else { Told::Sent };
        }
        Ok(outcome)
    }
}

impl Waiting {
    /// What the request hears of its end; without one, whoever worked on it is gone.
    async fn end(&mut self) -> Result<Sent> {
        let end = self.outcome.wait_for(Option::is_some).await;
        match end.ok().and_then(|outcome| outcome.clone()).unwrap_or(Outcome::Failed) {
            // Another node has answered it, perhaps before this one came: then it is a new message with the same words,
            // and has to ask for that.
            Outcome::Sent { told: Told::Sent, .. } if !self.is_first => Outcome::Unavailable { retry_after_s: 1 },
            outcome => outcome,
        }
        .into()
    }
}
