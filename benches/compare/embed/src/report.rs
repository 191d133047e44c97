//! Report for people.

use std::fs;

use crate::workload::{self, Ids, Workload};

/// Figures of one engine on one workload.
pub struct Row {
    pub workload: String,
    pub engine: String,
    /// Texts a second, round by round.
    pub per_s: Vec<f64>,
    pub cpu_ms_text: f64,
}

/// Says what was run on what.
pub fn head(passages: &[Ids], workloads: &[Workload], rounds: usize, cpus: &str) {
    let lens: Vec<f64> = passages.iter().map(|ids| ids.len() as f64).collect();
    println!("{}, CPUs {cpus}, load average {} at start", cpu_name(), load());
    println!("{rounds} rounds in turns; `128x8` is batches of 8 texts of 128 tokens");
    println!(
        "mixed: {} passages of The Rust Programming Language, median {} tokens, {} to {}; in batches of 32 as they come,",
        passages.len(),
        median(&lens),
        lens.iter().copied().fold(f64::INFINITY, f64::min),
        lens.iter().copied().fold(0.0, f64::max)
    );
    println!(
        "padded to the longest by those that pad: {:.2} tokens for each one ({:.2} when sorted by length beforehand)",
        padding(workloads, workload::MIXED),
        padding(workloads, workload::MIXED_SORTED)
    );
}

/// The tokens of a padded batch for each token of its texts.
fn padding(workloads: &[Workload], name: &str) -> f64 {
    let (mut padded, mut tokens) = (0, 0);
    for batch in workloads.iter().filter(|workload| workload.name == name).flat_map(|workload| &workload.batches) {
        padded += batch.len() * batch.iter().map(Vec::len).max().unwrap_or(0);
        tokens += batch.iter().map(Vec::len).sum::<usize>();
    }
    padded as f64 / tokens as f64
}

/// Prints the rows, with the median, least and most over the rounds.
pub fn table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.engine.len()).max().unwrap_or(0);
    println!(
        "{:<13} {:<width$} {:>9} {:>9} {:>9} {:>12}",
        "workload", "engine", "texts/s", "least", "most", "CPU ms/text"
    );
    for row in rows {
        let least = row.per_s.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.per_s.iter().copied().fold(0.0, f64::max);
        let (workload, engine, middle, cpu) = (&row.workload, &row.engine, median(&row.per_s), row.cpu_ms_text);
        println!("{workload:<13} {engine:<width$} {middle:>9.1} {least:>9.1} {most:>9.1} {cpu:>12.2}");
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

pub fn threads(count: usize) -> String {
    if count == 1 { "one thread".to_owned() } else { format!("{count} threads") }
}

/// The load average of the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    name.map_or("unknown CPU", |(_, name)| name).to_owned()
}
