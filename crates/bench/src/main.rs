//! `make bench`: starts everything on loopback, compares in turns, and writes what it found into README.md and docs/.
//!
//! `bench` runs all cases and writes the table; `bench CASE…` runs these and keeps what came out, and `bench table`
//! writes the table of what was kept. `BENCH_SECONDS` is how long one turn takes, `BENCH_TURNS` how many there are.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod cases;
mod fill;
mod load;
mod report;
mod servers;

/// As the server's: the sandbox takes memory in many small pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What may go wrong in a bench: anything, and then it ends.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long and how often is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Effort {
    /// One turn.
    turn: Duration,
    /// Turns of each.
    turns: usize,
}

impl Effort {
    fn read() -> Self {
        let number =
            |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        let turns = usize::try_from(number("BENCH_TURNS", 5)).unwrap_or(5);
        Self { turn: Duration::from_secs(number("BENCH_SECONDS", 4)), turns }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if awchat::server::raise_descriptors().is_err() {
        eprintln!("the limit of file descriptors stays as it is");
    }
    match &arguments[..] {
        ["table"] => report::write(&cases::NAMES),
        [] => {
            let measured = measure(&cases::NAMES).await;
            report::write(&cases::NAMES)?;
            measured
        }
        names => measure(names).await,
    }
}

/// Runs these cases, prints what comes out, and keeps it. One that fails is said, and does not keep the others.
async fn measure(names: &[&str]) -> Result<()> {
    let effort = Effort::read();
    let mut failed = Vec::new();
    for name in names {
        eprintln!("{name} ...");
        report::forget(name);
        match cases::run(name, effort).await {
            Ok(rows) => {
                report::print(&rows);
                report::keep(name, rows, effort)?;
            }
            Err(why) => {
                eprintln!("{name} FAILED: {why}");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}
