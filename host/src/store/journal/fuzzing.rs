//! Codecs of the journal's rows, for the targets in `fuzz/`.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{open_row, read_open};
use super::layout::codec::CodecError;
use super::layout::quarantine::QuarantinedRow;
use super::layout::{chunk, key, lease, segment};
use super::{read_keyed, record};
use crate::ids::CallId;
use crate::storage::{AppRecord, CallRecord, Entry, MapHeader, MapProgress, ScheduleState, ScheduledRun};
use crate::store::Table;

/// Reads a row, writes what was read, and reads it again. Both must be equal.
type Reread = fn(&[u8]) -> Result<(), String>;

/// Kinds of rows.
pub const KINDS: [(&str, Reread); 13] = [
    ("call", json::<CallRecord>),
    ("map-header", json::<MapHeader>),
    ("map-progress", json::<MapProgress>),
    ("schedule", json::<ScheduleState>),
    ("run", json::<ScheduledRun>),
    ("app", json::<AppRecord>),
    ("chunk", |row| both(row, chunk::decode, |inputs| chunk::encode(inputs))),
    ("payload", |row| both(row, chunk::decode_one, chunk::encode_one)),
    ("lease", |row| both(row, lease::decode, |lease| lease::encode(*lease))),
    ("segment", |row| both(row, entries, |entries| segment::encode(FIRST, entries))),
    ("quarantine", quarantined),
    ("open-call", open),
    ("key", keys),
];

/// Index of the chunk that segments are of.
const FIRST: u64 = 3;

/// Rereads a row of the kind at `place`.
pub fn reread(place: usize, row: &[u8]) -> Result<(), String> {
    KINDS[place % KINDS.len()].1(row)
}

/// Returns the place among `KINDS` of a row that a host wrote, with the bytes that are read; none for other rows.
pub fn kind_of(table: &str, key: &[u8], row: &[u8]) -> Option<(u8, Vec<u8>)> {
    let name = match table {
        "calls" => "call",
        "maps" if key.last() == Some(&b'h') => "map-header",
        "maps" => "map-progress",
        "schedules" if key.last() == Some(&0) => "schedule",
        "schedules" => "run",
        "deployments" => "app",
        "map-inputs" => "chunk",
        "call-inputs" | "call-outputs" => "payload",
        "map-pending" => "lease",
        "map-results" => "segment",
        "journal-index" if key.starts_with(key::OPEN_CALLS) => "open-call",
        _ => return None,
    };
    let place = KINDS.iter().position(|(kind, _)| *kind == name)?;
    Some((place as u8, row.to_vec()))
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(row: &[u8]) -> Result<(), String> {
    let said = |error: super::error::JournalError| format!("{:#}", anyhow::Error::from(error));
    let read: T = record(Table::Calls, b"key", row).map_err(said)?;
    let again: T = record(Table::Calls, b"key", &super::row(&read)).expect("what was written is read");
    assert_eq!(again, read, "a record that was read is another one when written");
    Ok(())
}

fn both<T: PartialEq + Debug, E: Debug + ToString>(
    row: &[u8],
    decode: impl Fn(Vec<u8>) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<(), String> {
    let read = decode(row.to_vec()).map_err(|error| error.to_string())?;
    let again = decode(encode(&read)).expect("what was written is read");
    assert_eq!(again, read, "a row that was read is another one when written");
    Ok(())
}

/// Entries without the parts of their wall time, which rows leave out.
fn entries(row: Vec<u8>) -> Result<Vec<Entry>, CodecError> {
    let mut entries = segment::decode(FIRST, row)?;
    entries.iter_mut().for_each(|entry| entry.receipt.wall_parts = Default::default());
    Ok(entries)
}

/// A byte with the length of the key, the key, the row.
fn quarantined(bytes: &[u8]) -> Result<(), String> {
    let (len, rest) = bytes.split_first().ok_or("no length")?;
    let (key, row) = rest.split_at_checked(usize::from(*len)).ok_or("a short key")?;
    let read = QuarantinedRow::decode(key, row.to_vec()).map_err(|error| error.to_string())?;
    let (key, value) = read.encode();
    assert_eq!(QuarantinedRow::decode(&key, value).expect("what was written is read"), read);
    Ok(())
}

fn open(row: &[u8]) -> Result<(), String> {
    let id = CallId::from_bytes([7; 16]);
    let read = read_open(id, row.to_vec()).map_err(|error| error.to_string())?;
    let mut call = CallRecord::new(&read.function, crate::call::Principal::Operator, 0);
    (call.priority, call.next_ms, call.run) = (read.priority, read.next_ms, read.run);
    let again = read_open(id, open_row(&call)).expect("what was written is read");
    assert_eq!(format!("{again:?}"), format!("{read:?}"), "an open call that was read is another one when written");
    Ok(())
}

/// Keys of rows and values of the index, which a damaged file may give in any form.
fn keys(key: &[u8]) -> Result<(), String> {
    let _ = (
        key::chunk_first(key),
        key::segment_number(key),
        key::expiring_kind(key),
        key::digest_of(key),
        key::id_of(key),
    );
    let _ = (read_keyed(key.to_vec()).is_ok(), super::records::read_open_app(key.to_vec()), chunk::len(key).is_ok());
    let after = key::after(key);
    assert!(after.is_empty() || after.as_slice() > key, "the end of a range lies before its start");
    let (function, number) = key::read_schedule(key).ok_or("the key of no schedule")?;
    let again = match number {
        Some(number) => key::schedule_run(&function, number),
        None => key::schedule(&function),
    };
    assert_eq!(again, key, "the key of a schedule is another one when written");
    Ok(())
}
