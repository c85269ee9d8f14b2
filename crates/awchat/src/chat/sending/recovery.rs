//! What becomes of a message whose request is over and whose fate is not known: looked for until it is.

use std::time::Duration;

use super::turn;
use crate::chat::requests::Identity;
use crate::chat::{Chat, journal, view};
use crate::error::{Error, Result};
use crate::intercom::Class;
use crate::store::outbound::{Journal, Outbound, Told};

/// How often a message that another node is sending is looked at.
const ELSEWHERE: Duration = Duration::from_millis(50);

impl Chat {
    /// A job: looks again for a message whose fate is unknown. `Some`: and again after so many milliseconds.
    pub async fn settle(&self, id: &str) -> Result<Option<i64>> {
        let Some(row) = self.store.outbound(id).await? else { return Ok(None) };
        let _turn = self.turns.take(&turn(&row.user, row.conversation.as_ref())).await;
        let row = self.advance(id, |row| row).await?;
        self.store.stay_if_due(self.clock.now_ms()).await?;
        if row.state != Journal::Unknown {
            return Ok(None);
        }
        let row = self.resolve(row).await?;
        Ok(journal::blocks(&row).then(|| journal::next_look_ms(&row, self.clock.now_ms())))
    }

    /// At the start, and whenever a node has died: what it was sending is unknown, and is looked for at once.
    pub async fn recover(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        // Another node may only have been slow: then its request goes out as late as one can.
        let dead_ms = if self.store.serves_many() { i64::MAX } else { now_ms };
        for row in self.store.outbound_orphans(now_ms).await? {
            self.orphaned(&row, dead_ms).await?;
        }
        for row in self.store.outbound_open().await? {
            if row.state == Journal::Unknown {
                self.store.enqueue("settle", &row.id, "{}", now_ms, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Renews this node's life; where others have died, one node takes up what they had in hand. Whether it was this one.
    pub async fn tend_nodes(&self) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        self.store.stay(now_ms).await?;
        if !self.store.misses_nodes(now_ms).await? || !self.store.leads_in("recovery", now_ms).await? {
            return Ok(false);
        }
        tracing::warn!("another node has died; its work is taken up");
        self.store.free_leases(now_ms).await?;
        self.recover().await?;
        self.store.forget_dead_nodes(now_ms).await?;
        self.received.notify_one();
        self.work.notify_one();
        Ok(true)
    }

    /// Now and then: what has been `sending` for longer than anybody can be at it is looked for as well.
    pub async fn recover_forgotten(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for row in self.store.outbound_open().await? {
            if journal::is_forgotten(&row, now_ms, self.patience()) {
                self.orphaned(&row, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Waits until no other node is sending the row, for the request that asks for it if one does; the row then. A client
    /// whose patience ends first hears so.
    pub(super) async fn left_by_others(&self, mut row: Outbound, of: Option<&Identity>) -> Result<Outbound> {
        while row.state == Journal::Sending && self.store.is_sent_elsewhere(&row.id, self.clock.now_ms()).await? {
            self.clock.sleep(ELSEWHERE).await;
            let asked = of.map(|identity| (identity, self.requests.asked(identity)));
            row = self.store.outbound(&row.id).await?.ok_or(Error::NotFound)?;
            if let Some((identity, asked)) = asked.filter(|_| row.told != Told::Sent) {
                self.requests.is_unanswered(identity, asked);
            }
        }
        Ok(row)
    }

    /// A new conversation has no id to ask for: the user's latest ones are read instead.
    pub(super) async fn look_for_new_conversations(&self, row: &Outbound) -> Result<()> {
        let Some(contact) = self.store.contact(&row.user).await?.and_then(|contact| contact.contact_id) else {
            return Ok(());
        };
        let page = self.intercom.search_of_contact(&contact, None, Class::Reconcile).await?;
        for conversation in page.conversations {
            let Some(snapshot) = view::snapshot(&conversation) else { continue };
            let recent = snapshot.created_at >= row.created_ms.div_euclid(1000) - 60;
            if recent && self.store.conversation(&row.user, &snapshot.id).await?.is_none() {
                self.refresh(&snapshot.id, Class::Reconcile).await?;
            }
        }
        Ok(())
    }

    async fn orphaned(&self, row: &Outbound, now_ms: i64) -> Result<Outbound> {
        tracing::warn!(row = row.id, "nobody is sending this message any more; looking for it");
        self.advance(&row.id, |now| journal::orphaned_as_seen(row, now, now_ms, self.patience())).await
    }
}
