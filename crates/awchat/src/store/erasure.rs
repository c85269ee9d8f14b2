//! Erased users: everything of theirs goes in one transaction, and a tombstone stays that keeps it away.
//!
//! The tombstone holds digests, keyed with a secret of the database: it recognises an id, and does not tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::{Any, Executor};

use super::writer::Writer;
use super::{Store, Tx};
use crate::error::{Error, Result};
use crate::id::{self, ConversationId, UserId};

/// What is known of an erased user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When, Unix milliseconds.
    pub erased_ms: i64,
    /// The user has come back since, with a later token.
    pub returned: bool,
    /// Intercom has deleted the user's contact.
    pub contact_gone: bool,
}

/// What went with a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The conversations.
    pub conversations: Vec<ConversationId>,
}

/// Makes digests, and counts the erasures of this process.
#[derive(Clone)]
pub(super) struct Tombstones {
    key: Arc<str>,
    erasures: Arc<AtomicU64>,
}

impl std::fmt::Debug for Tombstones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tombstones(***)")
    }
}

impl Tombstones {
    /// With the database's key, made where there is none yet.
    pub(super) async fn open(write: &Writer) -> Result<Self> {
        sqlx::query("insert into digest_key (name, value) values ('erasure', $1) on conflict (name) do nothing")
            .bind(format!("{}{}", id::random(), id::random()))
            .execute(write)
            .await?;
        Self::read(write).await
    }

    /// With the database's key.
    pub(super) async fn read(database: impl Executor<'_, Database = Any>) -> Result<Self> {
        let (key,): (String,) =
            sqlx::query_as("select value from digest_key where name = 'erasure'").fetch_one(database).await?;
        Ok(Self { key: key.into(), erasures: Arc::default() })
    }

    fn digest(&self, kind: &str, id: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).expect("a key of any length will do");
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(id.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    pub(super) fn of_user(&self, user: &UserId) -> String {
        self.digest("user", user.as_str())
    }

    fn of_conversation(&self, id: &ConversationId) -> String {
        self.digest("conversation", id.as_str())
    }
}

/// Everything that is a user's, `$1`, but for what needs more than an id: messages and tickets before the conversations
/// that they are found by, and jobs before both and before the journal.
const OF_USER: [&str; 16] = [
    "delete from job where kind = 'enrich' and subject = $1",
    "delete from job where kind = 'settle' and subject in (select id from outbound where user_id = $1)",
    "delete from job where kind not in ('enrich', 'settle', 'erase', 'forget_contact')
       and subject in (select id from conversation where user_id = $1)",
    "delete from outbound where user_id = $1",
    "delete from message where conversation_id in (select id from conversation where user_id = $1)",
    "delete from ticket where conversation_id in (select id from conversation where user_id = $1)",
    "delete from ticket_change where conversation_id in (select id from conversation where user_id = $1)",
    "delete from remote_file where conversation_id in (select id from conversation where user_id = $1)",
    "delete from conversation where user_id = $1",
    // The row stays until its object is gone, and tells nothing of the user.
    "update file set state = 'gone', user_id = '', name = '', content_type = '', sha256 = '', fingerprint = '',
       idem_key = null, outbound_id = null, message_id = null, conversation_id = null where user_id = $1",
    "delete from csat_subject where user_id = $1",
    "delete from csat where user_id = $1",
    "delete from complaint where user_id = $1",
    "delete from device where user_id = $1",
    "delete from notification_settings where user_id = $1",
    "delete from stream where user_id = $1",
];

impl Store {
    /// Whether, and when, the user was erased.
    pub async fn erasure(&self, user: &UserId) -> Result<Option<Erasure>> {
        erasure(&mut *self.read.acquire().await?, &self.tombstones.of_user(user)).await
    }

    /// How many users this process has erased: whoever remembers something of users looks whether it has grown.
    pub fn erasures(&self) -> u64 {
        self.tombstones.erasures.load(Ordering::Acquire)
    }

    /// A user was erased by another process, or may have been.
    pub fn note_erasure(&self) {
        self.tombstones.erasures.fetch_add(1, Ordering::AcqRel);
    }

    /// A secret that all processes of this database know, and nobody else; one for each purpose.
    pub fn secret_for(&self, purpose: &str) -> String {
        self.tombstones.digest("secret", purpose)
    }

    /// The user is back, with a token from after the erasure: what is theirs is stored again.
    pub async fn set_returned(&self, user: &UserId) -> Result<()> {
        sqlx::query("update erasure set returned = 1 where digest = $1")
            .bind(self.tombstones.of_user(user))
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Intercom has no contact of the user any more.
    pub async fn set_contact_gone(&self, user: &UserId) -> Result<()> {
        sqlx::query("update erasure set contact_gone = 1 where digest = $1")
            .bind(self.tombstones.of_user(user))
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Erases the user: every row goes, webhooks about the user lose their text, a tombstone is set, and a job is asked
    /// for that has Intercom delete the contact; `job` writes its payload, given Intercom's id of the contact. `None`:
    /// another node is telling a device of the user's something, and nothing was done.
    pub async fn erase(
        &self,
        user: &UserId,
        now_ms: i64,
        job: impl Fn(Option<String>) -> Result<String> + Send,
    ) -> Result<Option<Erased>> {
        let mut tx = self.begin().await?;
        // In the order in which all others lock rows: contact, conversations, journal, jobs. On PostgreSQL, an answer that
        // is being applied would else leave its messages behind, or wait for what waits for it.
        let contact: Option<(Option<String>,)> =
            sqlx::query_as("delete from contact where user_id = $1 returning contact_id")
                .bind(user.as_str())
                .fetch_optional(tx.conn())
                .await?;
        let rows: Vec<(String,)> =
            sqlx::query_as("update conversation set state = state where user_id = $1 returning id")
                .bind(user.as_str())
                .fetch_all(tx.conn())
                .await?;
        let conversations: Vec<ConversationId> = rows.iter().filter_map(|(id,)| ConversationId::parse(id)).collect();
        sqlx::query("update outbound set state = state where user_id = $1")
            .bind(user.as_str())
            .execute(tx.conn())
            .await?;
        let contact = contact.and_then(|(contact,)| contact);
        if tx.forget_notices_of(user, now_ms).await? {
            tx.withdraw().await?;
            return Ok(None);
        }
        for sql in OF_USER {
            sqlx::query(sql).bind(user.as_str()).execute(tx.conn()).await?;
        }
        let named = conversations.iter().map(ConversationId::as_str).chain([user.as_str()]).chain(contact.as_deref());
        for name in named {
            tx.silence_inbox(name).await?;
        }
        for conversation in &conversations {
            sqlx::query("insert into erased_conversation (digest) values ($1) on conflict (digest) do nothing")
                .bind(self.tombstones.of_conversation(conversation))
                .execute(tx.conn())
                .await?;
        }
        let digest = self.tombstones.of_user(user);
        sqlx::query(
            "insert into erasure (digest, erased_ms) values ($1, $2)
             on conflict (digest) do update set erased_ms = excluded.erased_ms, returned = 0, contact_gone = 0",
        )
        .bind(&digest)
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
        tx.enqueue("remove_files", "storage", "{}", now_ms, now_ms).await?;
        tx.enqueue("forget_contact", &id::random(), &job(contact)?, now_ms, now_ms).await?;
        tx.commit().await?;
        self.tombstones.erasures.fetch_add(1, Ordering::Release);
        Ok(Some(Erased { conversations }))
    }

    /// Whether the conversation was a user's who was erased.
    pub async fn is_erased(&self, id: &ConversationId) -> Result<bool> {
        let row: Option<(String,)> = sqlx::query_as("select digest from erased_conversation where digest = $1")
            .bind(self.tombstones.of_conversation(id))
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some())
    }

    /// Lets what was deleted go from SQLite's write-ahead log too; from its pages it went when it was deleted. `false`:
    /// somebody was reading, and it is to be tried again.
    pub async fn scrub(&self) -> Result<bool> {
        Ok(self.write.checkpoint().await?)
    }
}

impl Tx {
    /// Lets nothing of the user be stored who was erased and has not come back: a request that was under way when it
    /// happened would leave the user's traces behind. Until the end of the transaction nobody erases the user either.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], as for the tokens of that time.
    pub(super) async fn refuse_erased(&mut self, user: &UserId) -> Result<()> {
        let digest = self.tombstones().of_user(user);
        self.hold_contact(user).await?;
        match erasure(self.conn(), &digest).await? {
            Some(Erasure { returned: false, .. }) => Err(Error::Unauthorized(ERASED)),
            _ => Ok(()),
        }
    }

    /// Locks what is kept of the user's contact, if anything is: an erasure begins with it.
    pub(super) async fn hold_contact(&mut self, user: &UserId) -> Result<()> {
        sqlx::query("update contact set created_ms = created_ms where user_id = $1")
            .bind(user.as_str())
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Whether a conversation at Intercom, which is not here yet, belongs to what was erased of this user. If not, the
    /// user is not erased before it is here.
    pub async fn stays_erased(&mut self, user: &UserId, id: &ConversationId, created_at: i64) -> Result<bool> {
        self.hold_contact(user).await?;
        let (user, conversation) = (self.tombstones().of_user(user), self.tombstones().of_conversation(id));
        let Some(erasure) = erasure(self.conn(), &user).await? else { return Ok(false) };
        if created_at < erasure.erased_ms.div_euclid(1000) {
            return Ok(true);
        }
        // Intercom's clock may be ahead of ours: those that were here are known.
        let known: Option<(String,)> = sqlx::query_as("select digest from erased_conversation where digest = $1")
            .bind(conversation)
            .fetch_optional(self.conn())
            .await?;
        Ok(known.is_some())
    }

    /// Takes their text from the webhooks that name `name` and wait to be applied.
    async fn silence_inbox(&mut self, name: &str) -> Result<()> {
        let json = serde_json::to_string(name).map_err(Error::internal)?;
        let pattern = json.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        sqlx::query("update inbox set raw = null where raw is not null and raw like $1 escape '!'")
            .bind(format!("%{pattern}%"))
            .execute(self.conn())
            .await?;
        Ok(())
    }
}

/// What whoever still holds an erased user's token is told.
pub const ERASED: &str = "the user was erased; a session token from after that is needed";

async fn erasure(connection: &mut sqlx::AnyConnection, digest: &str) -> Result<Option<Erasure>> {
    let row: Option<(i64, i64, i64)> =
        sqlx::query_as("select erased_ms, returned, contact_gone from erasure where digest = $1")
            .bind(digest)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(erased_ms, returned, contact_gone)| Erasure {
        erased_ms,
        returned: returned != 0,
        contact_gone: contact_gone != 0,
    }))
}

#[cfg(test)]
mod tests;
