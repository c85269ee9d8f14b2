//! What becomes of a message whose request is over and whose fate is not known: looked for until it is.

use super::turn;
use crate::chat::Chat;
use crate::chat::journal;
use crate::error::Result;
use crate::store::outbound::{Journal, Outbound};

impl Chat {
    /// A job: looks again for a message whose fate is unknown. `Some`: and again after so many milliseconds.
    pub async fn settle(&self, id: &str) -> Result<Option<i64>> {
        let Some(row) = self.store.outbound(id).await? else { return Ok(None) };
        let _turn = self.turns.take(&turn(&row.user, row.conversation.as_ref())).await;
        let row = self.advance(id, |row| row).await?;
        if row.state != Journal::Unknown {
            return Ok(None);
        }
        let row = self.resolve(row).await?;
        Ok(journal::blocks(&row).then(|| journal::next_look_ms(&row, self.clock.now_ms())))
    }

    /// At the start: what a dead process was sending is unknown, and is looked for at once.
    pub async fn recover(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for row in self.store.outbound_open().await? {
            if row.state == Journal::Sending {
                self.orphaned(&row, now_ms).await?;
            }
            self.store.enqueue("settle", &row.id, "{}", now_ms, now_ms).await?;
        }
        Ok(())
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

    async fn orphaned(&self, row: &Outbound, now_ms: i64) -> Result<Outbound> {
        tracing::warn!(row = row.id, "nobody is sending this message any more; looking for it");
        self.advance(&row.id, |now| journal::orphaned_as_seen(row, now, now_ms, self.patience())).await
    }
}
