//! The cases, each a function from nothing to its rows of the table.

use tempfile::TempDir;

use crate::report::Row;
use crate::{Effort, Result};

mod chat;
mod files;
mod idle;
mod memory;
mod push;

/// The cases, in the table's order.
pub(crate) const NAMES: [&str; 12] = [
    "idle", "metrics", "traces", "large", "calls", "webhooks", "pushes", "replies", "postgres", "memory", "start",
    "uploads",
];

/// Runs one of them.
pub(crate) async fn run(name: &str, effort: Effort) -> Result<Vec<Row>> {
    match name {
        "idle" => idle::compared(effort).await,
        "metrics" => idle::measured(effort).await,
        "traces" => idle::traced(effort).await,
        "large" => idle::large(effort).await,
        "calls" => chat::calls().await,
        "webhooks" => chat::webhooks(effort).await,
        "pushes" => push::pushes(effort).await,
        "replies" => chat::replies(effort).await,
        "postgres" => chat::replies_on_postgres(effort).await,
        "memory" => memory::memory().await,
        "start" => memory::start().await,
        "uploads" => files::uploads(effort).await,
        other => Err(format!("{other}: there are the cases {}", NAMES.join(", ")).into()),
    }
}

/// A folder that goes with the case.
fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(crate::servers::root().join("target"))?)
}

/// `so many ± spread`, for the table.
fn of_turns(effort: Effort, spread: f64) -> String {
    format!("median of {}, ± {:.0} %", effort.turns, spread * 100.0)
}
