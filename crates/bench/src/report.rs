//! What is told: a table on the terminal and in README.md, a chart in docs/.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::servers::root;
use crate::{Effort, Result};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// What came out.
    pub(crate) value: f64,
    /// How to write it.
    pub(crate) unit: String,
    /// What must come out, and whether that is the least or the most.
    pub(crate) must: Option<Must>,
    /// How it came about: medians, spread.
    pub(crate) note: String,
}

/// What must come out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Must {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { what: what.into(), value, unit: unit.to_owned(), must: None, note: String::new() }
    }

    pub(crate) fn at_least(self, least: f64) -> Self {
        Self { must: Some(Must::AtLeast(least)), ..self }
    }

    pub(crate) fn at_most(self, most: f64) -> Self {
        Self { must: Some(Must::AtMost(most)), ..self }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn is_met(&self) -> Option<bool> {
        self.must.map(|must| match must {
            Must::AtLeast(least) => self.value >= least,
            Must::AtMost(most) => self.value <= most,
        })
    }

    fn line(&self) -> String {
        let must = match self.must {
            Some(Must::AtLeast(least)) => format!("≥ {}", figure(least)),
            Some(Must::AtMost(most)) => format!("≤ {}", figure(most)),
            None => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        // What is missed by little must not look like what is met.
        let mut told = figure(self.value);
        if self.is_met() == Some(false) && must.ends_with(&format!(" {told}")) {
            told = format!("{}", self.value);
        }
        let space = if self.unit.is_empty() { "" } else { " " };
        format!("| {} | {told}{space}{} | {must} | {met} | {} |", self.what, self.unit, self.note)
    }
}

/// Three digits that mean something, or all of a whole number.
fn figure(value: f64) -> String {
    let text = match value.abs() {
        0.0 => return "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let whole = text.split('.').next().unwrap_or_default();
    match whole.len() {
        5.. => format!("{},{}", &text[..whole.len() - 3], &text[whole.len() - 3..]),
        _ => text.strip_suffix(".0").unwrap_or(&text).trim_end_matches(".00").to_owned(),
    }
}

const HEAD: &str = "| what | figure | must be | met | how |\n|---|---|---|---|---|";

/// The table, for the terminal.
pub(crate) fn print(rows: &[Row]) {
    println!("\n{HEAD}");
    rows.iter().for_each(|row| println!("{}", row.line()));
}

/// What a case came to.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    rows: Vec<Row>,
    effort: Effort,
    commit: String,
}

fn place_of(case: &str) -> PathBuf {
    root().join("target/bench").join(case).with_extension("json")
}

/// Keeps what a case came to for the table.
pub(crate) fn keep(case: &str, rows: Vec<Row>, effort: Effort) -> Result<()> {
    let place = place_of(case);
    fs::create_dir_all(place.parent().ok_or("a folder")?)?;
    Ok(fs::write(place, serde_json::to_string(&Kept { rows, effort, commit: commit()? })?)?)
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// Nothing is kept of this case.
pub(crate) fn forget(case: &str) {
    // There may have been nothing.
    let _ = fs::remove_file(place_of(case));
}

/// The table of what was kept into README.md, between its marks, and the chart into docs/bench.svg.
pub(crate) fn write(cases: &[&str]) -> Result<()> {
    let mut kept: Vec<Kept> = Vec::new();
    let mut missing = Vec::new();
    for case in cases {
        match fs::read_to_string(place_of(case)) {
            Ok(text) => kept.push(serde_json::from_str(&text)?),
            Err(_) => missing.push(*case),
        }
    }
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path)?;
    let (before, rest) = readme.split_once(BEGIN).ok_or("README.md has no place for the table")?;
    let (_, after) = rest.split_once(END).ok_or("README.md's place for the table has no end")?;
    let mut commits: Vec<&str> = kept.iter().map(|kept| &*kept.commit).collect();
    commits.dedup();
    let mut efforts: Vec<String> = kept
        .iter()
        .map(|kept| format!("{} turns of {} s each", kept.effort.turns, kept.effort.turn.as_secs()))
        .collect();
    efforts.dedup();
    let mut how = format!("{}, at {}, on {}", efforts.join(" or "), commits.join(" and "), machine());
    if !missing.is_empty() {
        how.push_str(&format!("; not measured: {}", missing.join(", ")));
    }
    let rows: Vec<Row> = kept.into_iter().flat_map(|kept| kept.rows).collect();
    let mut table = format!("{HEAD}\n");
    rows.iter().for_each(|row| table.push_str(&(row.line() + "\n")));
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{how}.\n{END}{after}"))?;
    Ok(fs::write(root().join("docs/bench.svg"), chart(&rows))?)
}

/// The commit that is measured; what is not committed is told.
fn commit() -> Result<String> {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).current_dir(root()).output();
    let name = git.map(|git| String::from_utf8_lossy(&git.stdout).trim().to_owned()).unwrap_or_default();
    Ok(if name.is_empty() { "no commit".to_owned() } else { format!("`{name}`") })
}

/// Processor, cores, memory and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0).div_ceil(1 << 20);
    let (processor, kernel) = (field(&read("/proc/cpuinfo"), "model name"), read("/proc/sys/kernel/osrelease"));
    let kernel = kernel.trim();
    format!("{processor} ({cores} cores, {gib} GiB, Linux {kernel}), which the load comes from too")
}

/// Bars of all figures in requests per second.
fn chart(rows: &[Row]) -> String {
    let bars: Vec<&Row> = rows.iter().filter(|row| row.unit == "requests/s").collect();
    let most = bars.iter().map(|row| row.value).fold(1.0, f64::max);
    let height = 40 + bars.len() * 34;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Idle polls per second</title>\n<rect width=\"720\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-weight=\"bold\">Idle polls per second</text>\n"
    );
    for (at, row) in bars.iter().enumerate() {
        let (y, width) = (40 + at * 34, row.value / most * 330.0);
        let color = if row.what.contains("this server") { "#2563eb" } else { "#94a3b8" };
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{}\">{}</text><rect x=\"270\" y=\"{y}\" width=\"{width:.1}\" height=\"22\" \
             fill=\"{color}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            y + 15,
            label(&row.what),
            278.0 + width,
            y + 15,
            figure(row.value)
        );
    }
    svg + "</svg>\n"
}

/// A bar's name, which is short.
fn label(what: &str) -> &str {
    let what = what.trim_start_matches("idle poll: ");
    what.strip_prefix("this server, ").unwrap_or(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_figure_is_told_as_it_is() {
        let row =
            |value| Row::new("idle poll, to the bare handler", value, "×").at_least(0.85).note("median of 5, ± 3 %");
        assert_eq!(row(0.9).line(), "| idle poll, to the bare handler | 0.90 × | ≥ 0.85 | yes | median of 5, ± 3 % |");
        assert_eq!(
            row(0.7).line(),
            "| idle poll, to the bare handler | 0.70 × | ≥ 0.85 | **no** | median of 5, ± 3 % |"
        );
        // What is missed by little is not rounded to what is met.
        assert_eq!(
            row(0.849).line(),
            "| idle poll, to the bare handler | 0.849 × | ≥ 0.85 | **no** | median of 5, ± 3 % |"
        );
        assert_eq!(Row::new("start", 149.6, "ms").at_most(150.0).line(), "| start | 150 ms | ≤ 150 | yes |  |");
        assert_eq!(
            Row::new("idle poll: this server", 51_234.4, "requests/s").line(),
            "| idle poll: this server | 51,234 requests/s |  |  |  |"
        );
        assert!(Row::new("calls", f64::NAN, "").at_most(1.0).line().contains("**no**"));
    }

    #[test]
    fn the_chart_has_a_bar_for_each_rate() {
        let rows = [
            Row::new("idle poll: this server", 50_000.0, "requests/s"),
            Row::new("idle poll: Express peer", 500.0, "requests/s"),
            Row::new("start", 100.0, "ms"),
        ];
        let svg = chart(&rows);
        assert_eq!(svg.matches("height=\"22\"").count(), 2);
        assert!(svg.contains("width=\"330.0\"") && svg.contains("width=\"3.3\"") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn the_machine_is_named() {
        let machine = machine();
        assert!(machine.contains("cores") && machine.contains("Linux"), "{machine}");
    }
}
