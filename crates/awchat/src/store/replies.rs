//! Ordinary replies, many in one statement: their rows of the journal before they are sent, and what their answers leave.
//!
//! Nobody here waits for what others hold: a reply whose user's contact or conversation is locked is left out, and goes
//! alone. So many rows can be locked at once, in any order.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::conversations::{Conversation, Row, conversation_columns};
use super::messages::{Stored, attachments};
use super::outbound::{Outbound, Told};
use super::{Store, Tx, flag};
use crate::error::Result;
use crate::id::{ContactId, ConversationId, UserId};

/// A reply that Intercom has: what of it is stored.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The journal's row, as it is to be.
    pub row: &'a Outbound,
    /// The message.
    pub message: Stored<'a>,
    /// The conversation as it is then, and the message's position, which is its last one.
    pub conversation: &'a Conversation,
}

impl Store {
    /// Stores rows of replies that are about to be sent, all in one commit. Those that are stored then, each with the
    /// contact as which it goes; whatever is in the way of one (it may be the same request again, since `since_ms` if it
    /// has no key) leaves it out.
    pub async fn insert_replies(&self, new: &[Outbound], since_ms: i64) -> Result<Vec<(String, ContactId)>> {
        let mut tx = self.begin_shared().await?;
        let contacts = tx.contacts_unheld(new).await?;
        let of = |row: &&Outbound| contacts.contains_key(row.user.as_str());
        let ready: Vec<&Outbound> = new.iter().filter(of).collect();
        if ready.is_empty() {
            tx.withdraw().await?;
            return Ok(Vec::new());
        }
        let stored = tx.insert_ready(&ready, since_ms).await?;
        tx.commit().await?;
        let with_contact = |row: &&Outbound| {
            let is_stored = stored.contains(&row.id);
            is_stored.then(|| Some((row.id.clone(), contacts.get(row.user.as_str())?.clone()))).flatten()
        };
        Ok(ready.iter().filter_map(with_contact).collect())
    }
}

impl Tx {
    /// The contacts of these rows' users, held until the end: nobody erases one of them or numbers messages of theirs
    /// meanwhile. Without those whom somebody else holds, and those who have none.
    async fn contacts_unheld(&mut self, rows: &[Outbound]) -> Result<BTreeMap<String, ContactId>> {
        let sql = format!(
            "select user_id, contact_id from contact where user_id in ({}) and contact_id is not null{}",
            parameters(1, rows.len()),
            self.unheld()
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for row in rows {
            query = query.bind(row.user.as_str());
        }
        let found: Vec<(String, String)> = query.fetch_all(self.conn()).await?;
        Ok(found.into_iter().filter_map(|(user, contact)| Some((user, ContactId::parse(&contact)?))).collect())
    }

    /// The ids of those that are stored. What each is held against is looked up for it by key: no plan that was made for a
    /// small table reads all of a large one.
    async fn insert_ready(&mut self, new: &[&Outbound], since_ms: i64) -> Result<Vec<String>> {
        const WIDTH: usize = 17;
        let sql = format!(
            "with new (id, nth, user_id, conversation_id, kind, route, idem_key, fingerprint, content, body, payload,
               state, attempts, attempt_ms, created_ms, sender, digest) as (values {})
             insert into outbound (id, seq, user_id, conversation_id, kind, route, idem_key, fingerprint, content, body,
               payload, state, attempts, ambiguous, told, attempt_ms, created_ms, sender)
             select n.id, coalesce((select max(o.seq) from outbound o where o.user_id = n.user_id), 0) + n.nth,
               n.user_id, n.conversation_id, n.kind, n.route, n.idem_key, n.fingerprint, n.content, n.body, n.payload,
               n.state, n.attempts, 0, 0, n.attempt_ms, n.created_ms, n.sender
             from new n
             where (select c.user_id from conversation c where c.id = n.conversation_id and c.hidden = 0) = n.user_id
               and coalesce((select e.returned from erasure e where e.digest = n.digest), 1) = 1
               and (n.idem_key is not null or not exists (
                 select 1 from outbound o
                 where o.user_id = n.user_id and o.route = n.route and o.fingerprint = n.fingerprint and (
                   o.state in ('sending', 'unknown')
                   or (o.state in ('abandoned', 'sent') and o.told in (1, 3) and o.attempt_ms >= $1))))
             on conflict do nothing returning id",
            values(2, new.len(), WIDTH)
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(since_ms);
        let mut numbered: BTreeMap<&UserId, i64> = BTreeMap::new();
        for row in new {
            let nth = numbered.entry(&row.user).or_default();
            *nth += 1;
            query = query
                .bind(&row.id)
                .bind(*nth)
                .bind(row.user.as_str())
                .bind(row.conversation.as_ref().map(|id| id.as_str().to_owned()))
                .bind(row.kind.as_str())
                .bind(&row.route)
                .bind(row.key.clone())
                .bind(&row.fingerprint)
                .bind(&row.content)
                .bind(&row.body)
                .bind(&row.payload)
                .bind(row.state.as_str())
                .bind(row.attempts)
                .bind(row.attempt_ms)
                .bind(row.created_ms)
                .bind(self.node().to_owned())
                .bind(self.tombstones().of_user(&row.user));
        }
        let stored: Vec<(String,)> = query.fetch_all(self.conn()).await?;
        Ok(stored.into_iter().map(|(id,)| id).collect())
    }

    /// These conversations, locked until the end, without those that somebody else holds.
    pub async fn mirrored_unheld(&mut self, ids: &[&ConversationId]) -> Result<Vec<Conversation>> {
        let sql = format!(
            "select {} from conversation where id in ({}){}",
            conversation_columns!(),
            parameters(1, ids.len()),
            self.unheld()
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for id in ids {
            query = query.bind(id.as_str());
        }
        let rows: Vec<Row> = query.fetch_all(self.conn()).await?;
        rows.into_iter().map(Conversation::try_from).collect()
    }

    /// Binds the journal's rows to their messages; what the clients of those that are bound now were told. One that
    /// somebody was faster with is left out.
    pub async fn bind_replies(&mut self, replies: &[Answered<'_>]) -> Result<BTreeMap<String, Told>> {
        let sql = format!(
            "with bound (row_id, part, answer) as (values {})
             update outbound set state = 'sent', part_id = bound.part, response = bound.answer from bound
             where outbound.id = bound.row_id and outbound.state in ('sending', 'unknown') and outbound.part_id is null
             returning id, told",
            values(1, replies.len(), 3)
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for Answered { row, .. } in replies {
            query = query.bind(&row.id).bind(row.part_id.clone()).bind(row.response.clone());
        }
        let bound: Vec<(String, i64)> = query.fetch_all(self.conn()).await?;
        Ok(bound.into_iter().filter_map(|(id, told)| Some((id, Told::parse(told)?))).collect())
    }

    /// Stores the messages, each at the last position of its conversation and with the next number of its user's changes,
    /// and what the conversations have become. As [`Tx::number_change`], the last thing in a transaction. `false`: one of
    /// the messages is here already, and all must be taken back.
    pub async fn put_replies(&mut self, replies: &[Answered<'_>], now_ms: i64) -> Result<bool> {
        let mut numbers = self.number_changes(replies, now_ms).await?;
        let number = |reply: &Answered<'_>| {
            let next = numbers.get_mut(reply.conversation.user.as_str())?;
            *next += 1;
            Some(*next)
        };
        let numbered: Vec<i64> = replies.iter().filter_map(number).collect();
        if numbered.len() < replies.len() || self.put_messages(replies, &numbered).await? < replies.len() as u64 {
            return Ok(false);
        }
        self.change_conversations(replies, &numbered).await?;
        Ok(true)
    }

    /// By user, the number before the first of these changes.
    async fn number_changes(&mut self, replies: &[Answered<'_>], now_ms: i64) -> Result<BTreeMap<String, i64>> {
        // In one order at every node: who waits for a user's row holds none that comes after it.
        let mut counts: BTreeMap<&UserId, i64> = BTreeMap::new();
        for reply in replies {
            *counts.entry(&reply.conversation.user).or_default() += 1;
        }
        let sql = format!(
            "insert into stream (user_id, epoch, seq, floor) values {}
             on conflict (user_id) do update set seq = stream.seq + excluded.seq returning user_id, seq",
            values(1, counts.len(), 4)
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for (user, count) in &counts {
            query = query.bind(user.as_str()).bind(now_ms).bind(*count).bind(0_i64);
        }
        let numbers: Vec<(String, i64)> = query.fetch_all(self.conn()).await?;
        let count = |user: &str| counts.iter().find(|(own, _)| own.as_str() == user).map_or(0, |(_, count)| *count);
        Ok(numbers.into_iter().map(|(user, last)| (user.clone(), last - count(&user))).collect())
    }

    async fn put_messages(&mut self, replies: &[Answered<'_>], numbers: &[i64]) -> Result<u64> {
        const WIDTH: usize = 17;
        let sql = format!(
            "insert into message (conversation_id, id, position, arrived, opening, author, author_name, avatar_url,
               body, html, attachments, created_at, redacted, hidden, fingerprint, polished, seq)
             values {} on conflict do nothing",
            values(1, replies.len(), WIDTH)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (Answered { message: stored, conversation, .. }, number) in replies.iter().zip(numbers) {
            let message = stored.message;
            query = query
                .bind(conversation.id.as_str())
                .bind(&message.id)
                .bind(conversation.last_position)
                .bind(conversation.last_position)
                .bind(flag(stored.opening))
                .bind(message.author.kind.as_str())
                .bind(message.author.name.clone())
                .bind(message.author.avatar_url.clone())
                .bind(&message.body)
                .bind(&message.html)
                .bind(attachments(message)?)
                .bind(message.created_at)
                .bind(flag(message.redacted))
                .bind(flag(stored.hidden))
                .bind(stored.fingerprint)
                .bind(flag(stored.polished))
                .bind(*number);
        }
        Ok(query.execute(self.conn()).await?.rows_affected())
    }

    /// Writes what an ordinary reply may change of a conversation. It leaves the number of unread messages as it is.
    async fn change_conversations(&mut self, replies: &[Answered<'_>], numbers: &[i64]) -> Result<()> {
        let sql = format!(
            "with changed (its_id, now_state, until, now_rated, at, truth, active, position, number, now_revision)
               as (values {})
             update conversation set state = changed.now_state, snoozed_until = changed.until,
               rated = changed.now_rated, updated_at = changed.at, truth_ms = changed.truth, active_ms = changed.active,
               last_position = changed.position, seq = changed.number, revision = changed.now_revision
             from changed where conversation.id = changed.its_id",
            values(1, replies.len(), 10)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (Answered { conversation, .. }, number) in replies.iter().zip(numbers) {
            query = query
                .bind(conversation.id.as_str())
                .bind(conversation.state.as_str())
                .bind(conversation.snoozed_until)
                .bind(flag(conversation.rated))
                .bind(conversation.updated_at)
                .bind(conversation.truth_ms)
                .bind(conversation.active_ms)
                .bind(conversation.last_position)
                .bind(*number)
                .bind(conversation.revision);
        }
        query.execute(self.conn()).await?;
        Ok(())
    }
}

/// So many parameters from `$first` on.
fn parameters(first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}

/// So many rows of parameters from `$first` on.
fn values(first: usize, count: usize, width: usize) -> String {
    let rows: Vec<String> = (0..count).map(|row| format!("({})", parameters(first + row * width, width))).collect();
    rows.join(", ")
}

#[cfg(test)]
mod tests;
