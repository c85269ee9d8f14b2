//! Rows of files: what users uploaded, and what is on messages of operators.

use super::{Store, Tx};
use crate::error::{Error, Result};
use crate::id::{ConversationId, FileId, UserId};

/// A file that a user has uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// Where its object is.
    pub object: String,
    /// As it is shown.
    pub name: String,
    /// MIME type.
    pub content_type: String,
    /// Its length.
    pub bytes: i64,
    /// Width and height in pixels.
    pub size: Option<(i64, i64)>,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
    /// Of the request that made it.
    pub fingerprint: String,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A file on a message of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its id.
    pub id: FileId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The message.
    pub message: String,
    /// As it is shown.
    pub name: String,
    /// MIME type, as Intercom has it.
    pub content_type: String,
}

/// What became of a file that should be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored.
    Stored,
    /// There is one with its key.
    KeyTaken,
    /// It would be more than the user may upload in a day.
    OverQuota,
}

/// A file's columns by name: `*` would fail on PostgreSQL while a newer version adds one.
macro_rules! columns {
    () => {
        "id, object, name, content_type, bytes, width, height, sha256, idem_key, fingerprint, created_ms"
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    object: String,
    name: String,
    content_type: String,
    bytes: i64,
    width: Option<i64>,
    height: Option<i64>,
    sha256: String,
    idem_key: Option<String>,
    fingerprint: String,
    created_ms: i64,
}

#[derive(sqlx::FromRow)]
struct RemoteRow {
    id: String,
    conversation_id: String,
    message_id: String,
    name: String,
    content_type: String,
}

impl TryFrom<Row> for File {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let id = FileId::parse(&row.id).ok_or_else(|| Error::internal("a file's row is damaged"))?;
        Ok(Self {
            id,
            object: row.object,
            name: row.name,
            content_type: row.content_type,
            bytes: row.bytes,
            size: row.width.zip(row.height),
            sha256: row.sha256,
            key: row.idem_key,
            fingerprint: row.fingerprint,
            created_ms: row.created_ms,
        })
    }
}

impl TryFrom<RemoteRow> for RemoteFile {
    type Error = Error;

    fn try_from(row: RemoteRow) -> Result<Self> {
        let damaged = || Error::internal("a file's row is damaged");
        Ok(Self {
            id: FileId::parse(&row.id).ok_or_else(damaged)?,
            conversation: ConversationId::parse(&row.conversation_id).ok_or_else(damaged)?,
            message: row.message_id,
            name: row.name,
            content_type: row.content_type,
        })
    }
}

impl Store {
    /// The user's file; `None` if it is unknown, gone or somebody else's.
    pub async fn file(&self, user: &UserId, id: &FileId) -> Result<Option<File>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from file where id = $1 and user_id = $2 and state = 'ready'"
        ))
        .bind(id.as_str())
        .bind(user.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.map(File::try_from).transpose()
    }

    /// The file, whoever owns it: for who holds a signed address of it.
    pub async fn signed_file(&self, id: &FileId) -> Result<Option<File>> {
        let row: Option<Row> =
            sqlx::query_as(concat!("select ", columns!(), " from file where id = $1 and state = 'ready'"))
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await?;
        row.map(File::try_from).transpose()
    }

    /// The file that the user uploaded with this key.
    pub async fn file_by_key(&self, user: &UserId, key: &str) -> Result<Option<File>> {
        let row: Option<Row> = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from file where user_id = $1 and idem_key = $2 and state = 'ready'"
        ))
        .bind(user.as_str())
        .bind(key)
        .fetch_optional(&self.read)
        .await?;
        row.map(File::try_from).transpose()
    }

    /// What the user has uploaded since `since_ms`, in bytes, and when the first of it came.
    pub async fn uploaded_since(&self, user: &UserId, since_ms: i64) -> Result<(i64, Option<i64>)> {
        Ok(sqlx::query_as(
            "select cast(coalesce(sum(bytes), 0) as bigint), cast(min(created_ms) as bigint) from file
             where user_id = $1 and created_ms > $2",
        )
        .bind(user.as_str())
        .bind(since_ms)
        .fetch_one(&self.read)
        .await?)
    }

    /// Stores a file whose object is there, unless the user has uploaded too much since `since_ms`.
    pub async fn insert_file(&self, user: &UserId, new: &File, quota_bytes: i64, since_ms: i64) -> Result<Inserted> {
        let mut tx = self.begin().await?;
        // What is counted below is still so much when this is added: uploads of one user end one after the other.
        tx.lock_user(user, new.created_ms).await?;
        tx.refuse_erased(user).await?;
        let done = sqlx::query(
            "insert into file (id, user_id, state, object, name, content_type, bytes, width, height, sha256, idem_key,
               fingerprint, created_ms)
             values ($1, $2, 'ready', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing",
        )
        .bind(new.id.as_str())
        .bind(user.as_str())
        .bind(&new.object)
        .bind(&new.name)
        .bind(&new.content_type)
        .bind(new.bytes)
        .bind(new.size.map(|(width, _)| width))
        .bind(new.size.map(|(_, height)| height))
        .bind(&new.sha256)
        .bind(new.key.clone())
        .bind(&new.fingerprint)
        .bind(new.created_ms)
        .execute(tx.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(Inserted::KeyTaken);
        }
        let (bytes,): (i64,) = sqlx::query_as(
            "select cast(coalesce(sum(bytes), 0) as bigint) from file where user_id = $1 and created_ms > $2",
        )
        .bind(user.as_str())
        .bind(since_ms)
        .fetch_one(tx.conn())
        .await?;
        if bytes > quota_bytes {
            return Ok(Inserted::OverQuota);
        }
        tx.commit().await?;
        Ok(Inserted::Stored)
    }

    /// Whether any row has this object.
    pub async fn has_object(&self, object: &str) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("select cast(1 as bigint) from file where object = $1")
            .bind(object)
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some())
    }

    /// Gives up files that no message has, uploaded before `before_ms`; those of a message on its way stay.
    pub async fn give_up_loose_files(&self, before_ms: i64) -> Result<()> {
        sqlx::query(
            "update file set state = 'gone' where message_id is null and state = 'ready' and created_ms < $1
             and not exists (select 1 from outbound where outbound.id = file.outbound_id)",
        )
        .bind(before_ms)
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Files given up, by id and object.
    pub async fn files_gone(&self, limit: i64) -> Result<Vec<(String, String)>> {
        Ok(sqlx::query_as("select id, object from file where state = 'gone' order by created_ms limit $1")
            .bind(limit)
            .fetch_all(&self.read)
            .await?)
    }

    /// Forgets a file whose object is removed.
    pub async fn forget_file(&self, id: &str) -> Result<()> {
        sqlx::query("delete from file where id = $1 and state = 'gone'").bind(id).execute(&self.write).await?;
        Ok(())
    }

    /// A file on a message of an operator to the user; `None` if it is unknown or in somebody else's conversation.
    pub async fn remote_file(&self, user: &UserId, id: &FileId) -> Result<Option<RemoteFile>> {
        let row: Option<RemoteRow> = sqlx::query_as(
            "select f.id, f.conversation_id, f.message_id, f.name, f.content_type from remote_file f join conversation c on c.id = f.conversation_id
             where f.id = $1 and c.user_id = $2 and c.hidden = 0",
        )
        .bind(id.as_str())
        .bind(user.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.map(RemoteFile::try_from).transpose()
    }

    /// The same, to whomever: for who holds a signed address of it.
    pub async fn signed_remote_file(&self, id: &FileId) -> Result<Option<RemoteFile>> {
        let row: Option<RemoteRow> =
            sqlx::query_as("select id, conversation_id, message_id, name, content_type from remote_file where id = $1")
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await?;
        row.map(RemoteFile::try_from).transpose()
    }
}

impl Tx {
    /// Gives the user's files to a row of the journal; `false`, and nothing must be committed, if one of them is
    /// unknown, somebody else's or on another message.
    pub async fn attach_files(&mut self, user: &UserId, outbound: &str, files: &[String]) -> Result<bool> {
        for id in files {
            let done = sqlx::query(
                "update file set outbound_id = $3 where id = $1 and user_id = $2 and state = 'ready'
                 and message_id is null and (outbound_id is null or outbound_id = $3)",
            )
            .bind(id)
            .bind(user.as_str())
            .bind(outbound)
            .execute(self.conn())
            .await?;
            if done.rows_affected() != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes them back from a row that certainly never became a message.
    pub async fn release_files(&mut self, outbound: &str) -> Result<()> {
        sqlx::query("update file set outbound_id = null where outbound_id = $1 and message_id is null")
            .bind(outbound)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Notes the message that the row's files are on.
    pub async fn bind_files(&mut self, outbound: &str, conversation: &ConversationId, message: &str) -> Result<()> {
        sqlx::query("update file set conversation_id = $2, message_id = $3 where outbound_id = $1")
            .bind(outbound)
            .bind(conversation.as_str())
            .bind(message)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Gives up the files of a message that was taken back.
    pub async fn give_up_files(&mut self, conversation: &ConversationId, message: &str) -> Result<()> {
        sqlx::query("update file set state = 'gone' where conversation_id = $1 and message_id = $2")
            .bind(conversation.as_str())
            .bind(message)
            .execute(self.conn())
            .await?;
        sqlx::query("delete from remote_file where conversation_id = $1 and message_id = $2")
            .bind(conversation.as_str())
            .bind(message)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Gives up the files of a conversation that is gone.
    pub async fn give_up_conversation(&mut self, conversation: &ConversationId) -> Result<()> {
        sqlx::query("update file set state = 'gone' where conversation_id = $1")
            .bind(conversation.as_str())
            .execute(self.conn())
            .await?;
        sqlx::query("delete from remote_file where conversation_id = $1")
            .bind(conversation.as_str())
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Notes a file on a message of an operator.
    pub async fn put_remote_file(&mut self, file: &RemoteFile) -> Result<()> {
        sqlx::query(
            "insert into remote_file (id, conversation_id, message_id, name, content_type) values ($1, $2, $3, $4, $5)
             on conflict (id) do update set name = excluded.name, content_type = excluded.content_type",
        )
        .bind(file.id.as_str())
        .bind(file.conversation.as_str())
        .bind(&file.message)
        .bind(&file.name)
        .bind(&file.content_type)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
