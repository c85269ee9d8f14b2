//! Databases as they are after years: rows that never went over HTTP.

use std::path::Path;

use awchat::store::Store;
use sqlx::Connection;

use crate::Result;
use crate::load::{self, Requests};
use crate::servers::{database, token};

/// The position that every filled conversation stands at.
const POSITION: i64 = 1_700_000_000;

/// Fills a new database in `folder`: so many conversations, each with one message, of so many users in turn.
pub(crate) async fn fill(folder: &Path, conversations: u32, users: u32) -> Result<()> {
    let url = database(folder);
    let store = Store::open(&url).await?;
    store.close().await;
    drop(store);
    let mut rows = sqlx::AnyConnection::connect(&url).await?;
    let numbers = format!("with recursive n(i) as (select 1 union all select i + 1 from n where i < {conversations})");
    for sql in [
        "pragma synchronous = off".to_owned(),
        format!(
            "insert into contact (user_id, contact_id, imported_ms, created_ms)
             with recursive n(i) as (select 0 union all select i + 1 from n where i < {users} - 1)
             select 'user-' || i, 'contact-' || i, 1, 1 from n"
        ),
        format!(
            "insert into conversation (id, user_id, state, created_at, updated_at, active_ms, last_position)
             {numbers} select cast(i as text), 'user-' || (i % {users}), 'open', {POSITION}, {POSITION},
             {POSITION}000, {POSITION} from n"
        ),
        format!(
            "insert into message (conversation_id, id, position, arrived, author, body, html, attachments, created_at,
               fingerprint, polished)
             {numbers} select cast(i as text), cast(i as text), {POSITION}, {POSITION}, 'user', 'Where is my refund?',
             '<p>Where is my refund?</p>', '[]', {POSITION}, '', 1 from n"
        ),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut rows).await?;
    }
    Ok(rows.close().await?)
}

/// Idle polls of the filled conversations `from..to`, each by its own user.
pub(crate) fn polls(from: u32, to: u32, users: u32) -> Result<Requests> {
    let tokens: Vec<String> = (0..users.min(to)).map(|user| token(&format!("user-{user}"))).collect::<Result<_>>()?;
    Ok((from..to).map(|id| poll(&id.to_string(), &tokens[(id % users) as usize], 0)).collect())
}

/// A poll with nothing new; one that waits so many seconds for it.
pub(crate) fn poll(id: &str, token: &str, wait_s: u32) -> Vec<u8> {
    let wait = if wait_s > 0 { format!("&wait={wait_s}") } else { String::new() };
    load::get(&format!("/api/conversations/{id}/poll?since={POSITION}{wait}"), token)
}
