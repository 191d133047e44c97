//! From a line to an airport, or to what is wrong with it.

use bireme_sdk::prelude::*;

use crate::{Chunk, Cleaned};

/// The columns.
pub const HEAD: &str = "iata,name,city,state,country,latitude,longitude";

/// One airport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Airport {
    pub code: String,
    pub name: String,
    pub city: String,
    pub state: String,
    pub country: String,
    pub latitude: f64,
    pub longitude: f64,
}

/// A line that is none of an airport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// Its number in the file, the head being 1.
    pub line: u64,
    pub problem: Problem,
}

/// Error in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Problem {
    Columns { found: usize },
    Missing { column: String },
    NotANumber { column: String, value: String },
    OutOfRange { column: String, value: f64 },
}

/// Cleans the lines of a chunk. Blank ones are skipped.
pub fn lines(chunk: &Chunk) -> Cleaned {
    let mut cleaned = Cleaned { airports: Vec::new(), rejected: Vec::new() };
    for (text, line) in chunk.text.lines().zip(chunk.first_line..) {
        match airport(text) {
            Some(Ok(airport)) => cleaned.airports.push(airport),
            Some(Err(problem)) => cleaned.rejected.push(Rejected { line, problem }),
            None => {}
        }
    }
    cleaned
}

/// Each line is read by itself, so that a quote which does not end costs one line and not the rest of the file.
fn airport(line: &str) -> Option<Result<Airport, Problem>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(line.as_bytes());
    let record = reader.records().next()?.unwrap_or_default();
    let columns: Vec<&str> = HEAD.split(',').collect();
    if record.len() != columns.len() {
        return Some(Err(Problem::Columns { found: record.len() }));
    }
    let text = |position: usize| match record.get(position) {
        // The file's word for nothing.
        None | Some("" | "NA") => Err(Problem::Missing { column: columns[position].to_owned() }),
        Some(text) => Ok(text.to_owned()),
    };
    let number = |position: usize, limit: f64| {
        let (column, text) = (columns[position].to_owned(), text(position)?);
        match text.parse::<f64>() {
            Ok(value) if value.abs() <= limit => Ok(value),
            Ok(value) if value.is_finite() => Err(Problem::OutOfRange { column, value }),
            _ => Err(Problem::NotANumber { column, value: text }),
        }
    };
    let read = || {
        Ok(Airport {
            code: text(0)?,
            name: text(1)?,
            city: text(2)?,
            state: text(3)?,
            country: text(4)?,
            latitude: number(5, 90.0)?,
            longitude: number(6, 180.0)?,
        })
    };
    Some(read())
}
