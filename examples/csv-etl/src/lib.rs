//! Cleans a CSV file of airports and sums it up by state.
//!
//! `etl` takes the whole file as bytes, cuts it between lines and cleans the chunks in parallel, each in a sandbox of
//! its own. A line that is wrong is told by its number and its reason; it stops nothing.
//!
//! ```sh
//! bireme run examples/csv-etl::etl @airports.csv
//! ```

mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bireme_sdk::prelude::*;

pub use crate::rows::{Airport, Problem, Rejected};

/// Lines of one chunk: a call costs far less than cleaning so many.
const CHUNK_LINES: usize = 500;
/// Rejected lines that a report lists; all are counted.
const REJECTED_LEN_MAX: usize = 1_000;

/// Consecutive lines of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chunk {
    /// The first line's number, the head being 1.
    pub first_line: u64,
    pub text: String,
}

/// A chunk, cleaned.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cleaned {
    pub airports: Vec<Airport>,
    pub rejected: Vec<Rejected>,
}

/// Contents of the file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub airports: u64,
    pub rejected_count: u64,
    /// The first of them, by line.
    pub rejected: Vec<Rejected>,
    pub states: BTreeMap<String, State>,
    /// Chunks that could not be cleaned at all, by their first line.
    pub failed: BTreeMap<u64, String>,
}

/// The airports of one state.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    pub airports: u64,
    pub northernmost: String,
    pub latitude_max: f64,
}

/// Cleans some lines of the file.
#[function(timeout = "10s", memory = "64MiB")]
pub fn clean(chunk: Chunk) -> Cleaned {
    rows::lines(&chunk)
}

/// Cleans a whole file and sums it up.
#[function(timeout = "2m", memory = "256MiB")]
pub fn etl(file: Bytes) -> Result<Report> {
    let text = file.text().map_err(|error| Failure::terminal(error).context("the file is not UTF-8"))?;
    let chunks = chunks(text)?;
    let mut report = Report::default();
    let mut cleaned = clean::map(chunks.iter().cloned()).keep_going();
    for Cleaned { airports, rejected } in cleaned.by_ref() {
        report.airports += airports.len() as u64;
        report.rejected_count += rejected.len() as u64;
        let room = REJECTED_LEN_MAX - report.rejected.len();
        report.rejected.extend(rejected.into_iter().take(room));
        airports.into_iter().for_each(|airport| report.add(airport));
    }
    report.failed = cleaned
        .failures()
        .iter()
        .map(|(index, failure)| (chunks[*index as usize].first_line, failure.to_string()))
        .collect();
    log::info!("cleaned", chunks = chunks.len(), airports = report.airports, rejected = report.rejected_count);
    Ok(report)
}

/// Cuts a file behind its head. No field of this file spans lines.
fn chunks(text: &str) -> Result<Vec<Chunk>> {
    let text = text.trim_start_matches('\u{feff}');
    let (head, rows) = text.split_once('\n').unwrap_or((text, ""));
    if head.trim_end() != rows::HEAD {
        return Err(Failure::terminal(format!("the head is `{}`, not `{}`", head.trim_end(), rows::HEAD)));
    }
    let lines: Vec<&str> = rows.split_inclusive('\n').collect();
    let chunks = lines.chunks(CHUNK_LINES).zip(0_u64..);
    Ok(chunks.map(|(lines, i)| Chunk { first_line: 2 + i * CHUNK_LINES as u64, text: lines.concat() }).collect())
}

impl Report {
    fn add(&mut self, airport: Airport) {
        let state = self.states.entry(airport.state).or_default();
        if state.airports == 0 || airport.latitude > state.latitude_max {
            state.latitude_max = airport.latitude;
            state.northernmost = airport.name;
        }
        state.airports += 1;
    }
}
