//! What is told: a table on the terminal and in README.md, a chart in docs/.

use std::fmt::Write;
use std::fs;

use crate::servers::root;
use crate::{Effort, Result};

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// What came out.
    pub(crate) value: f64,
    /// How to write it.
    pub(crate) unit: &'static str,
    /// What must come out, and whether that is the least or the most.
    pub(crate) must: Option<Must>,
    /// How it came about: medians, spread.
    pub(crate) note: String,
}

/// What must come out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Must {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, must: None, note: String::new() }
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
        format!("| {} | {} {} | {must} | {met} | {} |", self.what, figure(self.value), self.unit, self.note)
    }
}

fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

const HEAD: &str = "| what | figure | must be | met | how |\n|---|---|---|---|---|";

/// The table, for the terminal.
pub(crate) fn print(rows: &[Row]) {
    println!("\n{HEAD}");
    rows.iter().for_each(|row| println!("{}", row.line()));
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// The table into README.md, between its marks, and the chart into docs/bench.svg.
pub(crate) fn write(rows: &[Row], effort: Effort) -> Result<()> {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path)?;
    let (before, rest) = readme.split_once(BEGIN).ok_or("README.md has no place for the table")?;
    let (_, after) = rest.split_once(END).ok_or("README.md's place for the table has no end")?;
    let mut table = format!("{HEAD}\n");
    rows.iter().for_each(|row| table.push_str(&(row.line() + "\n")));
    let how = format!("{} turns of {} s each, on {}", effort.turns, effort.turn.as_secs(), machine());
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{how}.\n{END}{after}"))?;
    fs::write(root().join("docs/bench.svg"), chart(rows))?;
    Ok(())
}

/// Processor, cores and memory.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0).div_ceil(1 << 20);
    format!("{} ({cores} cores, {gib} GiB), which the load comes from too", field(&read("/proc/cpuinfo"), "model name"))
}

/// Bars of all figures in requests per second.
fn chart(rows: &[Row]) -> String {
    let bars: Vec<&Row> = rows.iter().filter(|row| row.unit == "requests/s").collect();
    let most = bars.iter().map(|row| row.value).fold(1.0, f64::max);
    let height = 40 + bars.len() * 34;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"720\" height=\"{height}\" fill=\"#fff\"/>\n\
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
            row.what.trim_start_matches("idle poll: "),
            278.0 + width,
            y + 15,
            figure(row.value)
        );
    }
    svg + "</svg>\n"
}
