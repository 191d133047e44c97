//! `bireme export`: outcomes of a map, or all calls and maps, as JSON Lines or Parquet.

mod parquet;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::parquet::{Column, ParquetFile};
use super::address::Address;
use super::client::Client;
use super::paths;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::output;
use crate::codes::Code;

/// Calls per page.
const PAGE_LEN: usize = 1_000;

/// Write the outcomes of a map, or without an id all durable calls and maps, to a file for analysis.
///
/// Of a map: index, state, attempt, output (JSON text), error_code, error_message and what the attempt cost, one row
/// for each outcome that there is. Of calls and maps: id, kind, function, state, times, attempts, failure and cost.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme export ID -o outcomes.parquet\n  bireme export ID | jq .output\n  bireme export -o calls.parquet"
)]
pub struct Export {
    #[command(flatten)]
    address: Address,
    /// The id of a map.
    id: Option<String>,
    /// The file to write; standard output (JSON Lines only) without it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format, unless the file's name says it (`.parquet`, `.jsonl`).
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

    fn row(&mut self, row: &Value) -> Result<(), Exit> {
        match self {
            Sink::Lines(lines) => Ok(writeln!(lines, "{row}")?),
            Sink::Parquet(file) => file.row(row),
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
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
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
    let mut rows = 0;
    let mut is_whole = false;
    for line in BufReader::with_capacity(1 << 18, stream).lines() {
        let unreadable = |why: String| Exit::new(Code::BadOutput, format!("an outcome cannot be exported: {why}"));
        let line: Value = serde_json::from_str(&line?).map_err(|error| unreadable(error.to_string()))?;
        if line["index"].is_null() && !line["error"].is_null() {
            return Err(unreadable(line["error"].to_string()));
        }
        if line["index"].is_u64() {
            sink.row(&outcome(&line))?;
            rows += 1;
        }
        is_whole |= line["summary"].is_object();
    }
    if is_whole { Ok(rows) } else { Err(Exit::new(Code::NoHost, "the host's answer broke off")) }
}

fn outcome(line: &Value) -> Value {
    let output = (!line["output"].is_null() || line["state"] == "done").then(|| line["output"].to_string());
    let mut row = json!({
        "index": line["index"],
        "state": line["state"],
        "attempt": line["attempt"],
        "output": output,
        "error_code": line["error"]["code"],
        "error_message": line["error"]["message"],
    });
    costs(&mut row, &line["receipt"]);
    row
}

fn costs(row: &mut Value, receipt: &Value) {
    for (name, _) in COSTS {
        row[name] = receipt[name].clone();
    }
}

/// Writes all calls and maps, newest first.
fn calls(client: &Client, sink: &mut Sink) -> Result<u64, Exit> {
    let (mut rows, mut before) = (0, None::<String>);
    loop {
        let mut query = vec![("limit", PAGE_LEN.to_string())];
        query.extend(before.take().map(|before| ("before", before)));
        let page = client.send("GET", "/api/v1/calls", &query)?;
        for call in page["calls"].as_array().into_iter().flatten() {
            let of_map = &call["counts"];
            let is_map = call["kind"] == "map";
            let mut row = json!({
                "id": call["id"],
                "kind": call["kind"],
                "function": call["function"],
                "state": call["state"],
                "accepted_ms": if is_map { &call["created_ms"] } else { &call["accepted_ms"] },
                "ended_ms": call["ended_ms"],
                "attempts": if is_map { &call["receipt"]["attempts"] } else { &call["attempts"] },
                "inputs": if is_map { of_map["accepted"].clone() } else { json!(1) },
                "error_code": call["failure"]["code"],
                "error_message": call["failure"]["message"],
            });
            costs(&mut row, &call["receipt"]);
            sink.row(&row)?;
            rows += 1;
        }
        match page["next"].as_str() {
            Some(next) => before = Some(next.to_owned()),
            None => return Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_one_row_of_its_columns() {
        let line = json!({ "index": 3, "state": "done", "attempt": 1, "output": null, "receipt": { "cpu_us": 7 } });
        let row = outcome(&line);
        assert_eq!((&row["output"], &row["cpu_us"], &row["error_code"]), (&json!("null"), &json!(7), &Value::Null));
        let line = json!({ "index": 4, "state": "dead", "attempt": 4, "error": { "code": "failed", "message": "no" } });
        let row = outcome(&line);
        assert_eq!((&row["output"], &row["error_message"]), (&Value::Null, &json!("no")));
        let columns = row.as_object().unwrap();
        assert!(OUTCOME.iter().chain(&COSTS).all(|(name, _)| columns.contains_key(*name)));
    }
}
