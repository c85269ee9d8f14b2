//! `make bench`: starts everything on loopback, compares in turns, and writes what it found into README.md and docs/.
//!
//! `bench` runs all cases, `bench NAME…` those whose names contain one of these. `BENCH_SECONDS` is how long one turn
//! takes, `BENCH_TURNS` how many there are; a shorter run says so in the table.

use std::error::Error;
use std::time::Duration;

mod bare;
mod cases;
mod fill;
mod load;
mod report;
mod servers;

/// What may go wrong in a bench: anything, and then it ends.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
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
    if let [kind, answer] = &arguments[..]
        && kind == "bare"
    {
        return bare::serve(answer).await;
    }
    let effort = Effort::read();
    let rows = cases::run(&arguments, effort).await?;
    report::print(&rows);
    // A part of the cases is for the eye alone.
    if arguments.is_empty() {
        report::write(&rows, effort)?;
    }
    Ok(())
}
