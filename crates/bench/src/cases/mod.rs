//! The cases, each a function from nothing to its rows of the table.

use tempfile::TempDir;

use crate::report::Row;
use crate::{Effort, Result};

mod chat;
mod files;
mod idle;
mod memory;

/// Runs the cases whose names contain one of `wanted`; all, if none is named.
pub(crate) async fn run(wanted: &[String], effort: Effort) -> Result<Vec<Row>> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let mut rows = Vec::new();
    macro_rules! case {
        ($name:literal, $run:expr) => {
            if is_wanted($name) {
                eprintln!("{} ...", $name);
                rows.extend($run.await?);
            }
        };
    }
    case!("idle poll", idle::compared(effort));
    case!("large database", idle::large(effort));
    case!("calls to Intercom", chat::calls());
    case!("webhook", chat::webhooks(effort));
    case!("replies", chat::replies(effort));
    case!("memory", memory::memory());
    case!("start", memory::start());
    case!("uploads", files::uploads(effort));
    Ok(rows)
}

/// A folder that goes with the case.
fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(crate::servers::root().join("target"))?)
}

/// `so many ± spread`, for the table.
fn of_turns(effort: Effort, spread: f64) -> String {
    format!("median of {}, ± {:.0} %", effort.turns, spread * 100.0)
}
