//! The Intercom contact that stands for a user: found or made once, then known.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Chat;
use crate::error::{Error, Result};
use crate::id::{ContactId, UserId};
use crate::intercom::contacts::ContactPatch;

/// What the session token says about a user, for the contact.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Display name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number.
    pub phone: Option<String>,
    /// Telegram user id.
    pub telegram_id: Option<String>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Profile(***)")
    }
}

impl Chat {
    /// The user's contact.
    ///
    /// # Errors
    /// `Unavailable` when it is not known and Intercom cannot be asked.
    pub async fn contact_of(&self, user: &UserId, profile: &Profile) -> Result<ContactId> {
        if let Some(contact) = self.known_contact(user).await? {
            return Ok(contact);
        }
        // One at a time: two first requests would make two contacts, of which Intercom refuses one.
        let _turn = self.turns.take(&format!("contact {user}")).await;
        if let Some(contact) = self.known_contact(user).await? {
            return Ok(contact);
        }
        if self.has_contact_of_before(user).await? {
            return Err(Error::Unavailable { retry_after_s: 10, cause: None });
        }
        let contact = self.intercom.ensure_contact(user, profile.name.as_deref()).await?;
        let now_ms = self.clock.now_ms();
        self.store.set_contact(user, &contact.id, now_ms).await?;
        if contact.is_new {
            self.store.set_imported(user, now_ms).await?;
        }
        Ok(contact.id)
    }

    async fn known_contact(&self, user: &UserId) -> Result<Option<ContactId>> {
        Ok(self.store.contact(user).await?.and_then(|contact| contact.contact_id))
    }

    /// Writes profile and context to the contact, unless they were the last thing written to it.
    pub(super) async fn enrich(
        &self,
        user: &UserId,
        profile: &Profile,
        meta: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<()> {
        let Some(contact) = self.store.contact(user).await? else { return Ok(()) };
        let written = serde_json::to_vec(&(profile, meta)).map_err(Error::internal)?;
        let fingerprint = hex::encode(Sha256::digest(written));
        if contact.enriched.as_ref() == Some(&fingerprint) {
            return Ok(());
        }
        let mut attributes: std::collections::BTreeMap<_, _> = meta.clone().into_iter().collect();
        if let Some(telegram) = &profile.telegram_id {
            attributes.insert("telegram_id".to_owned(), telegram.clone().into());
        }
        let patch = ContactPatch {
            name: profile.name.clone(),
            email: profile.email.clone(),
            phone: profile.phone.clone(),
            custom_attributes: attributes,
        };
        let Some(id) = contact.contact_id else { return Ok(()) };
        let refused = self.intercom.enrich_contact(&id, &patch).await?;
        if !refused.is_empty() {
            tracing::info!(?refused, "intercom did not take all of a contact's details");
        }
        self.store.set_enriched(user, &fingerprint).await
    }
}
