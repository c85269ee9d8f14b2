//! The order of a user's changes across all conversations: what an event stream goes on from.

use super::conversations::{Conversation, Row, conversation_columns};
use super::{Store, Tx};
use crate::error::Result;
use crate::id::{ConversationId, UserId};

/// How far a user's changes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Stream {
    /// When the counting began, Unix milliseconds: numbers from another beginning mean nothing.
    pub epoch: i64,
    /// The newest change's number.
    pub seq: i64,
    /// From this number on, changes tell everything; before it, something vanished.
    pub floor: i64,
}

/// A change of a user's conversation.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The conversation as it is now.
    pub conversation: Conversation,
    /// The change's number.
    pub seq: i64,
    /// No later one of the conversation is known.
    pub is_newest: bool,
}

#[derive(sqlx::FromRow)]
struct ChangedRow {
    #[sqlx(flatten)]
    conversation: Row,
    seq: i64,
    change: i64,
}

impl Store {
    /// How far the user's changes have come; the counting begins where there was none.
    ///
    /// # Errors
    /// For an erased user who has not come back, as for the tokens of that time.
    pub async fn stream(&self, user: &UserId, now_ms: i64) -> Result<Stream> {
        let known: Option<Stream> = sqlx::query_as("select epoch, seq, floor from stream where user_id = $1")
            .bind(user.as_str())
            .fetch_optional(&self.read)
            .await?;
        if let Some(stream) = known {
            return Ok(stream);
        }
        let mut tx = self.begin().await?;
        tx.refuse_erased(user).await?;
        let stream = sqlx::query_as(
            "insert into stream (user_id, epoch, seq, floor) values ($1, $2, 0, 0)
             on conflict (user_id) do update set seq = stream.seq returning epoch, seq, floor",
        )
        .bind(user.as_str())
        .bind(now_ms)
        .fetch_one(tx.conn())
        .await?;
        tx.commit().await?;
        Ok(stream)
    }

    /// The user's first change after number `seq`. One that later ones of the same conversation have taken back, such
    /// as a state, is passed over; one that brought messages which are still as it left them is not.
    pub async fn change_after(&self, user: &UserId, seq: i64) -> Result<Option<Changed>> {
        let row: Option<ChangedRow> = sqlx::query_as(concat!(
            "select ",
            conversation_columns!(),
            ", seq, coalesce((select min(m.seq) from message m where m.conversation_id = c.id and m.seq > $2),
               c.seq) as change
             from conversation c where c.user_id = $1 and c.seq > $2 and c.hidden = 0 order by change limit 1"
        ))
        .bind(user.as_str())
        .bind(seq)
        .fetch_optional(&self.read)
        .await?;
        let Some(ChangedRow { conversation, seq, change }) = row else { return Ok(None) };
        Ok(Some(Changed { conversation: conversation.try_into()?, seq: change, is_newest: seq == change }))
    }

    /// The greatest position that a change gave; `None` if it brought no message.
    pub async fn position_of_change(&self, user: &UserId, id: &ConversationId, seq: i64) -> Result<Option<i64>> {
        let (position,): (Option<i64>,) = sqlx::query_as(
            "select max(m.position) from message m join conversation c on c.id = m.conversation_id
             where m.conversation_id = $1 and c.user_id = $2 and m.seq = $3",
        )
        .bind(id.as_str())
        .bind(user.as_str())
        .bind(seq)
        .fetch_one(&self.read)
        .await?;
        Ok(position)
    }
}

impl Tx {
    /// Gives a change of the user's conversation the next number, and with it the messages whose position is beyond
    /// `after`. The last thing in a transaction: it locks the user's row, and no conversation may be locked after that.
    pub async fn number_change(&mut self, user: &UserId, id: &ConversationId, after: i64, now_ms: i64) -> Result<()> {
        let (seq,): (i64,) = sqlx::query_as(
            "insert into stream (user_id, epoch, seq, floor) values ($1, $2, 1, 0)
             on conflict (user_id) do update set seq = stream.seq + 1 returning seq",
        )
        .bind(user.as_str())
        .bind(now_ms)
        .fetch_one(self.conn())
        .await?;
        sqlx::query("update conversation set seq = $2 where id = $1")
            .bind(id.as_str())
            .bind(seq)
            .execute(self.conn())
            .await?;
        sqlx::query("update message set seq = $3 where conversation_id = $1 and position > $2")
            .bind(id.as_str())
            .bind(after)
            .bind(seq)
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Something of the user's vanished: what was told before is no longer all right. As [`Tx::number_change`], the last
    /// thing in a transaction.
    pub async fn number_loss(&mut self, user: &UserId, now_ms: i64) -> Result<()> {
        sqlx::query(
            "insert into stream (user_id, epoch, seq, floor) values ($1, $2, 1, 1)
             on conflict (user_id) do update set seq = stream.seq + 1, floor = stream.seq + 1",
        )
        .bind(user.as_str())
        .bind(now_ms)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
