//! `bireme export`: outcomes of a map, or all calls and maps, as JSON Lines or Parquet.

mod parquet;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use self::parquet::{Column, ParquetFile};
use super::address::Address;
use super::client::{Answer, Client};
use super::outcome_line::OutcomeLine;
use super::{paths, time};
use crate::api::{CallList, CallOrMap, MapOutcomeState};
use crate::call::{Failure, Receipt};
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::output;
use crate::codes::Code;
use crate::ids::CallId;

/// Calls per page.
const PAGE_LEN: usize = 1_000;

/// Write the outcomes of a map to a file for analysis; without an id, all durable calls and maps.
///
/// For a map, one row for each outcome: index, state, attempt, output (JSON text), error_code, error_message and cost
/// of the attempt. For calls and maps: id, kind, function, state, times, attempts, failure and cost.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme export ID -o outcomes.parquet\n  bireme export ID | jq .output\n  bireme export -o calls.parquet"
)]
pub(crate) struct Export {
    #[command(flatten)]
    address: Address,
    /// The id of a map; a unique prefix of at least 8 digits is enough.
    id: Option<String>,
    /// The file to write; standard output (JSON Lines only) without it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format; by default that of the file's name (`.parquet`, `.jsonl`).
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Parquet,
}

const COSTS: [Column; 5] =
    [("queue_us", true), ("wall_us", true), ("instantiate_us", true), ("cpu_us", true), ("memory_peak_bytes", true)];

const OUTCOME: [Column; 6] = [
    ("index", true),
    ("state", false),
    ("attempt", true),
    ("output", false),
    ("error_code", false),
    ("error_message", false),
];

const CALL: [Column; 10] = [
    ("id", false),
    ("kind", false),
    ("function", false),
    ("state", false),
    ("accepted_ms", true),
    ("ended_ms", true),
    ("attempts", true),
    ("inputs", true),
    ("error_code", false),
    ("error_message", false),
];

/// Row of an outcome.
#[derive(Serialize)]
struct OutcomeRow<'a> {
    index: u64,
    state: Option<MapOutcomeState>,
    attempt: Option<u32>,
    /// JSON text.
    output: Option<&'a str>,
    #[serde(flatten)]
    error: ErrorColumns,
    #[serde(flatten)]
    costs: Costs,
}

/// Row of a call or map.
#[derive(Serialize)]
struct CallRow<'a> {
    id: String,
    kind: &'static str,
    function: &'a str,
    state: String,
    accepted_ms: u64,
    ended_ms: Option<u64>,
    attempts: u32,
    inputs: u64,
    #[serde(flatten)]
    error: ErrorColumns,
    #[serde(flatten)]
    costs: Costs,
}

#[derive(Default, Serialize)]
struct ErrorColumns {
    error_code: Option<&'static str>,
    error_message: Option<String>,
}

/// Columns of a receipt, in the order of `COSTS`.
#[derive(Default, Serialize)]
struct Costs {
    queue_us: Option<u64>,
    wall_us: Option<u64>,
    instantiate_us: Option<u64>,
    cpu_us: Option<u64>,
    memory_peak_bytes: Option<u64>,
}

impl From<Failure> for ErrorColumns {
    fn from(failure: Failure) -> Self {
        Self { error_code: Some(failure.code.as_str()), error_message: Some(failure.message) }
    }
}

impl From<&Receipt> for Costs {
    fn from(receipt: &Receipt) -> Self {
        Self {
            queue_us: Some(receipt.queue_us),
            wall_us: Some(receipt.wall_us),
            instantiate_us: Some(receipt.instantiate_us),
            cpu_us: Some(receipt.cpu_us),
            memory_peak_bytes: Some(receipt.memory_peak_bytes),
        }
    }
}

/// Destination of rows.
enum Sink {
    Lines(Box<dyn Write>),
    Parquet(Box<ParquetFile>),
}

impl Sink {
    /// Opens the file, or standard output.
    fn open(path: Option<&Path>, format: Format, columns: Vec<Column>) -> Result<Self, Exit> {
        let file = |path: &Path| {
            File::create(path)
                .map_err(|error| Exit::new(Code::Io, format!("cannot write `{}`: {error}", path.display())))
        };
        match (format, path) {
            (Format::Jsonl, None) => Ok(Sink::Lines(Box::new(std::io::stdout().lock()))),
            (Format::Jsonl, Some(path)) => Ok(Sink::Lines(Box::new(BufWriter::new(file(path)?)))),
            (Format::Parquet, Some(path)) => Ok(Sink::Parquet(Box::new(ParquetFile::new(file(path)?, columns)?))),
            (Format::Parquet, None) => Err(Exit::usage("Parquet goes to a file: -o FILE.parquet")),
        }
    }

    fn row(&mut self, row: &impl Serialize) -> Result<(), Exit> {
        match self {
            Sink::Lines(lines) => {
                serde_json::to_writer(&mut *lines, row).map_err(std::io::Error::from)?;
                Ok(lines.write_all(b"\n")?)
            }
            Sink::Parquet(file) => file.row(&serde_json::to_value(row).map_err(std::io::Error::from)?),
        }
    }

    fn finish(self) -> Result<(), Exit> {
        match self {
            Sink::Lines(mut lines) => Ok(lines.flush()?),
            Sink::Parquet(file) => file.finish(),
        }
    }
}

impl Export {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let by_name = self.output.as_ref().and_then(|path| match path.extension()?.to_str()? {
            "parquet" => Some(Format::Parquet),
            _ => Some(Format::Jsonl),
        });
        let format = self.format.or(by_name).unwrap_or(Format::Jsonl);
        let columns: &[Column] = if self.id.is_some() { &OUTCOME } else { &CALL };
        // Written to a temporary file and renamed, so the target is never partial.
        let partial = self.output.as_ref().map(|path| path.with_added_extension("partial"));
        let mut sink = Sink::open(partial.as_deref(), format, [columns, &COSTS].concat())?;
        let rows = match &self.id {
            Some(id) => outcomes(&client, id, &mut sink),
            None => calls(&client, &mut sink),
        };
        let rows = match rows.and_then(|rows| sink.finish().map(|()| rows)) {
            Ok(rows) => rows,
            // The reader of standard output has closed it.
            Err(exit) if exit.code == Code::Io && exit.message.contains("roken pipe") => return Ok(()),
            Err(exit) => {
                if let Some(partial) = &partial {
                    let _ = std::fs::remove_file(partial);
                }
                return Err(exit);
            }
        };
        if let (Some(partial), Some(path)) = (&partial, &self.output) {
            File::open(partial)?.sync_all()?;
            std::fs::rename(partial, path)?;
            if global.json {
                output::line(&json!({ "rows": rows, "path": path }).to_string());
            } else {
                output::note(&format!("{} rows in {}", output::count(rows), path.display()));
            }
        }
        Ok(())
    }
}

/// Writes the outcomes of a map.
fn outcomes(client: &Client, id: &str, sink: &mut Sink) -> Result<u64, Exit> {
    let stream = client.stream(&paths::map(id, "/results")?, &[])?;
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let (mut rows, mut is_whole, mut text) = (0, false, String::new());
    while reader.read_line(&mut text)? > 0 {
        let unreadable = |why: &str| Exit::new(Code::BadOutput, format!("an outcome cannot be exported: {why}"));
        let unparsed = |error: serde_json::Error| unreadable(&error.to_string());
        let line: OutcomeLine<'_> = serde_json::from_str(&text).map_err(unparsed)?;
        if let Some(error) = line.stream_error().map_err(unparsed)? {
            return Err(unreadable(&error.message));
        }
        if let Some(row) = outcome_row(&line).map_err(unparsed)? {
            sink.row(&row)?;
            rows += 1;
        }
        is_whole |= line.summary().map_err(unparsed)?.is_some();
        text.clear();
    }
    if is_whole { Ok(rows) } else { Err(Exit::new(Code::NoHost, "the host's answer broke off")) }
}

/// Returns the row of an outcome; none of another line.
fn outcome_row<'a>(line: &OutcomeLine<'a>) -> serde_json::Result<Option<OutcomeRow<'a>>> {
    let Some(index) = line.index else { return Ok(None) };
    let error = line.failure()?.map(ErrorColumns::from).unwrap_or_default();
    let costs = line.receipt()?.as_ref().map(Costs::from).unwrap_or_default();
    let (state, attempt, output) = (line.state, line.attempt, line.output());
    Ok(Some(OutcomeRow { index, state, attempt, output, error, costs }))
}

/// Writes all calls and maps, newest first.
fn calls(client: &Client, sink: &mut Sink) -> Result<u64, Exit> {
    let (mut rows, mut before) = (0, None);
    loop {
        let mut query = vec![("limit", PAGE_LEN.to_string())];
        query.extend(before.map(|before: CallId| ("before", before.to_string())));
        let page: Answer<CallList> = client.send("GET", "/api/v1/calls", &query)?;
        for entry in &page.document.calls {
            sink.row(&call_row(entry))?;
            rows += 1;
        }
        before = page.document.next;
        if before.is_none() {
            return Ok(rows);
        }
    }
}

fn call_row(entry: &CallOrMap) -> CallRow<'_> {
    match entry {
        CallOrMap::Call(call) => CallRow {
            id: call.id.to_string(),
            kind: "call",
            function: &call.function,
            state: call.state.to_string(),
            accepted_ms: time::newer_or(call.created_ms, call.accepted_ms),
            ended_ms: call.ended_ms,
            attempts: call.attempts,
            inputs: 1,
            error: call.failure.clone().map(ErrorColumns::from).unwrap_or_default(),
            costs: (&call.receipt).into(),
        },
        CallOrMap::Map(map) => CallRow {
            id: map.id.to_string(),
            kind: "map",
            function: &map.function,
            state: map.state.to_string(),
            accepted_ms: map.created_ms,
            ended_ms: map.ended_ms,
            attempts: map.receipt.attempts,
            inputs: map.counts.accepted,
            error: ErrorColumns::default(),
            costs: (&map.receipt).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn row(line: &str) -> Value {
        let line: OutcomeLine<'_> = serde_json::from_str(line).unwrap();
        serde_json::to_value(outcome_row(&line).unwrap().unwrap()).unwrap()
    }

    fn columns(row: &Value) -> Vec<&str> {
        row.as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn expected(columns: &[Column]) -> Vec<&'static str> {
        let mut names: Vec<&str> = columns.iter().chain(&COSTS).map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn an_outcome_is_one_row_of_its_columns() {
        let done = row(r#"{"index":3,"state":"done","attempt":1,"output":null,"receipt":{"cpu_us":7}}"#);
        assert_eq!((&done["output"], &done["cpu_us"], &done["error_code"]), (&json!("null"), &json!(7), &Value::Null));
        let dead = row(r#"{"index":4,"state":"dead","attempt":4,"error":{"code":"failed","message":"no"}}"#);
        assert_eq!((&dead["output"], &dead["error_message"]), (&Value::Null, &json!("no")));
        assert_eq!(columns(&done), expected(&OUTCOME));
        assert_eq!(columns(&dead), expected(&OUTCOME));
    }

    #[test]
    fn a_call_is_one_row_of_its_columns() {
        let call = json!({
            "id": "0199c0de-0000-7000-8000-000000000000", "kind": "call", "app": "hello", "function": "hello::add",
            "state": "dead", "principal": "operator", "priority": "normal", "created_ms": 5, "attempts": 4,
            "failure": { "code": "timeout", "message": "too long" },
        });
        let row = serde_json::to_value(call_row(&serde_json::from_value(call).unwrap())).unwrap();
        assert_eq!((&row["accepted_ms"], &row["error_code"]), (&json!(5), &json!("timeout")));
        assert_eq!(columns(&row), expected(&CALL));
    }
}
