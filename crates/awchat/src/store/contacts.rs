//! Which Intercom contact stands for which user.

use super::{Store, Tx};
use crate::error::Result;
use crate::id::{ContactId, UserId};

/// What is kept about a user's contact.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Intercom's id; `None`: it had no contact for this user when it was asked.
    pub contact_id: Option<ContactId>,
    /// Fingerprint of what was last written to the contact.
    pub enriched: Option<String>,
    /// When the user's earlier conversations were taken over, Unix milliseconds.
    pub imported_ms: Option<i64>,
}

impl Store {
    /// The user's contact, if we know it.
    pub async fn contact(&self, user: &UserId) -> Result<Option<Contact>> {
        let row: Option<(Option<String>, Option<String>, Option<i64>)> =
            sqlx::query_as("select contact_id, enriched, imported_ms from contact where user_id = $1")
                .bind(user.as_str())
                .fetch_optional(&self.read)
                .await?;
        Ok(row.map(|(contact, enriched, imported_ms)| Contact {
            contact_id: contact.as_deref().and_then(ContactId::parse),
            enriched,
            imported_ms,
        }))
    }

    /// Remembers the user's contact; a contact that stood for somebody else moves.
    pub async fn set_contact(&self, user: &UserId, contact: &ContactId, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.refuse_erased(user).await?;
        sqlx::query("update contact set contact_id = null where contact_id = $1 and user_id <> $2")
            .bind(contact.as_str())
            .bind(user.as_str())
            .execute(tx.conn())
            .await?;
        sqlx::query(
            "insert into contact (user_id, contact_id, created_ms) values ($1, $2, $3)
             on conflict (user_id) do update set contact_id = excluded.contact_id",
        )
        .bind(user.as_str())
        .bind(contact.as_str())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
        tx.commit().await
    }

    /// Forgets a contact that is gone at Intercom; the next use finds or makes one.
    pub async fn forget_contact(&self, contact: &ContactId) -> Result<()> {
        sqlx::query("update contact set contact_id = null where contact_id = $1")
            .bind(contact.as_str())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Remembers what was written to the user's contact.
    pub async fn set_enriched(&self, user: &UserId, fingerprint: &str) -> Result<()> {
        sqlx::query("update contact set enriched = $2 where user_id = $1")
            .bind(user.as_str())
            .bind(fingerprint)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Remembers that the user's earlier conversations are here, or that there are none.
    pub async fn set_imported(&self, user: &UserId, now_ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.refuse_erased(user).await?;
        sqlx::query(
            "insert into contact (user_id, imported_ms, created_ms) values ($1, $2, $2)
             on conflict (user_id) do update set imported_ms = excluded.imported_ms",
        )
        .bind(user.as_str())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
        tx.commit().await
    }
}

impl Tx {
    /// Keeps other transactions that do the same for this user waiting until the end of this one: what is counted
    /// then is still so many when one more is added.
    pub async fn lock_user(&mut self, user: &UserId, now_ms: i64) -> Result<()> {
        sqlx::query(
            "insert into contact (user_id, created_ms) values ($1, $2)
             on conflict (user_id) do update set created_ms = contact.created_ms",
        )
        .bind(user.as_str())
        .bind(now_ms)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// The first of our users that one of these contacts or external ids stands for.
    pub async fn user_of(&mut self, contacts: &[ContactId], external_ids: &[String]) -> Result<Option<UserId>> {
        for contact in contacts {
            let row: Option<(String,)> = sqlx::query_as("select user_id from contact where contact_id = $1")
                .bind(contact.as_str())
                .fetch_optional(self.conn())
                .await?;
            if let Some(user) = row.and_then(|(user,)| UserId::parse(&user)) {
                return Ok(Some(user));
            }
        }
        // A contact that was merged or made anew has another id; the external id is ours. Only users that
        // have been here count: a lead's external id is Intercom's own invention.
        for external in external_ids {
            let row: Option<(String,)> = sqlx::query_as("select user_id from contact where user_id = $1")
                .bind(external)
                .fetch_optional(self.conn())
                .await?;
            if let Some(user) = row.and_then(|(user,)| UserId::parse(&user)) {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
