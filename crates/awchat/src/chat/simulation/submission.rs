//! `sending/submission`, step by step: the same names in the same order.

use super::sending::{Answer, Chat, unavailable};
use super::{Fault, Mutation, Result};
use crate::chat::draft::Draft;
use crate::chat::requests::{Identity, Outcome, Waiting};
use crate::store::outbound::Told;

impl Chat {
    pub(super) async fn submit(&self, draft: Draft) -> Answer {
        let identity = Identity::of(&draft);
        let (user, route, fingerprint) = (draft.user.clone(), draft.route(), draft.fingerprint());
        let has_key = draft.key.is_some();
        let Some(mut waiting) = self.join_or_start(draft) else { return Answer::Outcome(Outcome::Mismatch) };
        if let Some(end) = self.end_of(&waiting, self.world.options.deadline_ms).await {
            return Answer::Outcome(end);
        }
        if has_key {
            return Answer::Conflict;
        }
        if self.world.mutation == Mutation::ToldAtDeadline {
            return Answer::Outcome(unavailable());
        }
        if let Ok(row) = self.memory.requests.tell(&identity, &mut waiting) {
            let told = self.tell_outbound_open(&user, &route, &fingerprint, row.as_deref()).await;
            return Answer::Outcome(told.map_or(Outcome::Failed, |()| unavailable()));
        }
        Answer::Outcome(self.end_of(&waiting, i64::MAX).await.unwrap_or(Outcome::Failed))
    }

    async fn end_of(&self, waiting: &Waiting, longest_ms: i64) -> Option<Outcome> {
        let until_ms = self.world.time.now_ms().saturating_add(longest_ms);
        while waiting.outcome.borrow().is_none() && self.world.time.now_ms() < until_ms {
            self.world.time.sleep(25).await;
        }
        waiting.outcome.borrow().clone().map(|end| waiting.hears(end))
    }

    fn join_or_start(&self, draft: Draft) -> Option<Waiting> {
        let identity = Identity::of(&draft);
        let (waiting, end) = self.memory.requests.join_or_begin(&identity, &draft.fingerprint())?;
        let Some(end) = end else { return Some(waiting) };
        let chat = self.clone();
        self.world.time.spawn(Some(self.node), async move {
            let outcome = chat.work_on(&draft, &identity).await.unwrap_or_else(|fault| {
                if fault != Fault::Database {
                    chat.world.violate(format!("a request ended in 500 for {fault:?}"));
                }
                Outcome::Failed
            });
            chat.memory.requests.end(&identity);
            end.send_replace(Some(outcome));
        });
        Some(waiting)
    }

    async fn work_on(&self, draft: &Draft, identity: &Identity) -> Result<Outcome> {
        let mut outcome = self.send_or_find(draft, identity).await?;
        if let (None, Outcome::Sent { row, told, new_from, .. }) = (&draft.key, &mut outcome)
            && self.memory.requests.come_to_end(identity).is_some_and(|is_again| is_again || *told != Told::Nothing)
            && !self.answered_outbound(row).await?
        {
            *new_from = Some(self.memory.requests.new_from(identity));
        }
        Ok(outcome)
    }
}
