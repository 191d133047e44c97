//! Segment: the outcomes and retries of some inputs of one chunk, in one row.
//!
//! Each batch of outcomes is a segment of its chunk; when the chunk is whole and small, one segment takes the place of
//! all.

use super::chunk::put_json;
use super::codec::{CodecError, Reader, put_stored, put_u64};
use crate::call::{Failure, Receipt, WallParts};
use crate::storage::{Entry, EntryKind};

const FORMAT: u8 = 1;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const DEAD: u8 = 2;
const RETRY: u8 = 3;

const PLAIN_RECEIPT: u8 = 0;
const WHOLE_RECEIPT: u8 = 1;

/// Writes entries of the chunk that begins at `first`.
pub(crate) fn encode(first: u64, entries: &[Entry]) -> Vec<u8> {
    let mut row = Vec::with_capacity(entries.iter().map(Entry::row_bytes).sum::<usize>() + 8);
    row.push(FORMAT);
    put_u64(&mut row, entries.len() as u64);
    for entry in entries {
        put_u64(&mut row, entry.index - first);
        put_u64(&mut row, u64::from(entry.attempt));
        match &entry.kind {
            EntryKind::Done(stored) => {
                row.push(DONE);
                put_stored(&mut row, stored);
            }
            EntryKind::Failed(failure) => {
                row.push(FAILED);
                put_json(&mut row, failure);
            }
            EntryKind::Dead(failure) => {
                row.push(DEAD);
                put_json(&mut row, failure);
            }
            EntryKind::Retry { failed, next_ms, failure } => {
                row.push(RETRY);
                put_u64(&mut row, u64::from(*failed));
                put_u64(&mut row, *next_ms);
                put_json(&mut row, failure);
            }
        }
        put_receipt(&mut row, &entry.receipt);
    }
    row
}

/// Reads the entries of a row.
pub(crate) fn decode(first: u64, row: Vec<u8>) -> Result<Vec<Entry>, CodecError> {
    let mut reader = Reader::new(row);
    if reader.byte()? != FORMAT {
        return Err(CodecError("a segment is of an unknown format"));
    }
    let len = reader.u64()?;
    let mut entries = Vec::new();
    for _ in 0..len {
        let index = first.checked_add(reader.u64()?).ok_or(CodecError("an index is too large"))?;
        let attempt = reader.u32()?;
        let kind = match reader.byte()? {
            DONE => EntryKind::Done(reader.stored()?),
            FAILED => EntryKind::Failed(failure(&mut reader)?),
            DEAD => EntryKind::Dead(failure(&mut reader)?),
            RETRY => EntryKind::Retry { failed: reader.u32()?, next_ms: reader.u64()?, failure: failure(&mut reader)? },
            _ => return Err(CodecError("an unknown kind of outcome")),
        };
        entries.push(Entry { index, attempt, kind, receipt: receipt(&mut reader)? });
    }
    if reader.is_empty() { Ok(entries) } else { Err(CodecError("a segment is followed by more")) }
}

fn failure(reader: &mut Reader) -> Result<Failure, CodecError> {
    serde_json::from_slice(&reader.bytes()?).map_err(|_| CodecError("a failure cannot be read"))
}

/// Most receipts are a few small numbers. The parts of the wall clock would be as many again, for each of perhaps
/// millions of inputs: their sum is in the map's progress, and rows leave them out.
fn put_receipt(row: &mut Vec<u8>, receipt: &Receipt) {
    let receipt = &Receipt { wall_parts: WallParts::default(), ..receipt.clone() };
    let Receipt { attempts, queue_us, wall_us, instantiate_us, cpu_us, memory_peak_bytes, .. } = receipt.clone();
    let plain =
        Receipt { attempts, queue_us, wall_us, instantiate_us, cpu_us, memory_peak_bytes, ..Receipt::default() };
    if plain == *receipt {
        row.push(PLAIN_RECEIPT);
        let numbers = [u64::from(attempts), queue_us, wall_us, instantiate_us, cpu_us, memory_peak_bytes];
        numbers.into_iter().for_each(|number| put_u64(row, number));
    } else {
        row.push(WHOLE_RECEIPT);
        put_json(row, receipt);
    }
}

fn receipt(reader: &mut Reader) -> Result<Receipt, CodecError> {
    match reader.byte()? {
        PLAIN_RECEIPT => Ok(Receipt {
            attempts: reader.u32()?,
            queue_us: reader.u64()?,
            wall_us: reader.u64()?,
            instantiate_us: reader.u64()?,
            cpu_us: reader.u64()?,
            memory_peak_bytes: reader.u64()?,
            ..Receipt::default()
        }),
        WHOLE_RECEIPT => serde_json::from_slice(&reader.bytes()?).map_err(|_| CodecError("a receipt cannot be read")),
        _ => Err(CodecError("a receipt is of an unknown format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{FailureCode, Payload};
    use crate::storage::StoredPayload;

    #[test]
    fn entries_are_read_as_they_were_written() {
        let failure = Failure { causes: vec!["why".to_owned()], ..Failure::new(FailureCode::Failed, "no") };
        let mut whole = Receipt { attempts: 2, cpu_us: 1 << 40, ..Receipt::default() };
        whole.host_calls.http.count = 3;
        let plain = Receipt { attempts: 1, memory_peak_bytes: 1 << 20, ..Receipt::default() };
        let kind = [
            EntryKind::Done(StoredPayload::inline(Payload::json("1"))),
            EntryKind::Failed(failure.clone()),
            EntryKind::Dead(failure.clone()),
            EntryKind::Retry { failed: 3, next_ms: u64::MAX, failure },
        ];
        let entries: Vec<Entry> = (1_000..)
            .zip(kind)
            .map(|(index, kind)| Entry {
                index,
                attempt: 7,
                kind,
                receipt: if index % 2 == 0 { plain.clone() } else { whole.clone() },
            })
            .collect();
        let row = encode(1_000, &entries);
        assert_eq!(decode(1_000, row.clone()), Ok(entries));
        for cut in 0..row.len() {
            assert!(decode(1_000, row[..cut].to_vec()).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_small_outcome_takes_few_bytes() {
        let mut receipt = Receipt {
            attempts: 1,
            queue_us: 5,
            instantiate_us: 9,
            cpu_us: 20,
            memory_peak_bytes: 1_114_112,
            ..Receipt::default()
        };
        receipt.end_attempt(60);
        let entry = |index| Entry {
            index,
            attempt: 1,
            kind: EntryKind::Done(StoredPayload::inline(Payload::json("12345678"))),
            receipt: receipt.clone(),
        };
        let entries: Vec<_> = (0..1_000).map(entry).collect();
        let row = encode(0, &entries);
        assert!(row.len() < 26 * entries.len());
        let read = decode(0, row).unwrap().remove(0).receipt;
        assert_eq!((read.wall_us, read.wall_parts), (60, WallParts::default()));
    }
}
