//! A request's side of sending: it begins the work or joins it, and waits for its end.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::chat::Chat;
use crate::chat::draft::Draft;
use crate::chat::requests::{Identity, Outcome, Sent, Waiting};
use crate::error::{Error, Result};
use crate::store::outbound::Told;
use crate::traces;

/// How long a request waits for its end before the client hears that it goes on.
const DEADLINE: Duration = Duration::from_secs(15);

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
            end = end_of(&mut waiting) => return end,
            () = self.clock.sleep(DEADLINE) => {}
        }
        if has_key {
            return Err(Error::Conflict);
        }
        if let Ok(row) = self.requests.tell(&identity, &mut waiting) {
            // Durably: should the process die now, the message must not be sent once more unasked, and its retry must
            // find it.
            self.store.tell_outbound_open(&user, &route, &fingerprint, row.as_deref()).await?;
            return Outcome::Unavailable { retry_after_s: 1 }.into();
        }
        // It has just come to its end.
        end_of(&mut waiting).await
    }

    /// The work on this request: that on the same one, or new. `None`: its key is at work with another payload.
    fn join_or_start(self: &Arc<Self>, draft: Draft) -> Option<Waiting> {
        let identity = Identity::of(&draft);
        let (waiting, end) = self.requests.join_or_begin(&identity, &draft.fingerprint())?;
        let Some(end) = end else { return Some(waiting) };
        let chat = Arc::clone(self);
        let sending = async move {
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
        };
        self.tasks.spawn(sending.instrument(traces::begun("send message")));
        Some(waiting)
    }

    /// Works on a request to its end; it is no longer at work when this returns well.
    async fn work_on(&self, draft: &Draft, identity: &Identity) -> Result<Outcome> {
        let mut outcome = self.send_or_find(draft, identity).await?;
        // Whoever else asked for it hears of it now: the same words without a key are another message from now on.
        if let (None, Outcome::Sent { row, told, new_from, .. }) = (&draft.key, &mut outcome)
            && self.requests.come_to_end(identity).is_some_and(|is_again| is_again || *told != Told::Nothing)
            && !self.store.answered_outbound(row).await?
        {
            *new_from = Some(self.requests.new_from(identity));
        }
        Ok(outcome)
    }
}

/// What the request hears of its end; without one, whoever worked on it is gone.
async fn end_of(waiting: &mut Waiting) -> Result<Sent> {
    let end = waiting.outcome.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    waiting.hears(end.unwrap_or(Outcome::Failed)).into()
}
