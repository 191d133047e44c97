//! Chunks of a durable map that are open: what to write of each as its inputs end. Pure.
//!
//! Each batch of outcomes is a segment of its chunk. A chunk whose outcomes are few bytes is written again as one
//! segment when all of its inputs have ended.

use std::collections::BTreeMap;

use crate::dispatch::map::Input;
use crate::storage::{Chunk, ChunkUpdate, Entry, EntryKind, PayloadPlace, StoredPayload};

/// Bytes of outcomes up to which a chunk is written again as one segment.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// By first input.
    open: BTreeMap<u64, OpenChunk>,
    written_bytes: usize,
}

#[derive(Debug)]
struct OpenChunk {
    /// Inputs whose outcome is not written.
    unsettled: usize,
    segments: u32,
    /// Outcomes that were written, as long as they are few bytes.
    written: Option<Vec<Entry>>,
    written_bytes: usize,
}

impl Chunks {
    /// Returns the bytes of outcomes that are kept for the segment of a whole chunk.
    pub(crate) fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// Opens a chunk whose lease was lost `lost` times. Returns its inputs without an outcome, with the time of those
    /// that wait for a retry.
    pub(crate) fn open(&mut self, chunk: Chunk, lost: u32, now_ms: u64) -> Vec<(Input<StoredPayload>, Option<u64>)> {
        let Chunk { first, inputs, entries, is_stripped, segments } = chunk;
        let mut open = OpenChunk { unsettled: inputs.len(), segments, written: Some(Vec::new()), written_bytes: 0 };
        let mut inputs: Vec<_> =
            (first..).zip(inputs).map(|(index, body)| Some((input(index, body, lost), None))).collect();
        for entry in entries {
            let Some(slot) = inputs.get_mut((entry.index - first) as usize) else { continue };
            match (&entry.kind, &mut *slot) {
                (EntryKind::Retry { failed, next_ms, .. }, Some((input, at_ms))) => {
                    // One that still waits did not run when the host ended.
                    let is_waiting = *next_ms > now_ms;
                    input.attempts = if is_waiting { entry.attempt } else { failed + lost };
                    (input.failed, *at_ms) = (*failed, Some(*next_ms));
                }
                // The first outcome of an input is the one that holds.
                (EntryKind::Done(_) | EntryKind::Failed(_) | EntryKind::Dead(_), Some(_)) => {
                    *slot = None;
                    open.unsettled -= 1;
                    open.keep(entry);
                }
                (_, None) => {}
            }
        }
        if is_stripped {
            open.forget();
        }
        self.written_bytes += open.written_bytes;
        self.open.insert(first, open);
        inputs.into_iter().flatten().collect()
    }

    /// Returns what to write for these outcomes and retries, and closes the chunks that they make whole. At most one
    /// outcome of an input comes here.
    pub(crate) fn settle(&mut self, entries: &[Entry]) -> Vec<ChunkUpdate> {
        let mut by_chunk: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            if let Some((first, _)) = self.open.range(..=entry.index).next_back() {
                by_chunk.entry(*first).or_default().push(entry.clone());
            }
        }
        by_chunk.into_iter().filter_map(|(first, entries)| self.settle_chunk(first, entries)).collect()
    }

    fn settle_chunk(&mut self, first: u64, entries: Vec<Entry>) -> Option<ChunkUpdate> {
        let chunk = self.open.get_mut(&first)?;
        self.written_bytes -= chunk.written_bytes;
        for outcome in entries.iter().filter(|entry| entry.is_outcome()) {
            chunk.unsettled -= 1;
            chunk.keep(outcome.clone());
        }
        chunk.segments += 1;
        let segment = chunk.segments;
        if chunk.unsettled > 0 {
            self.written_bytes += chunk.written_bytes;
            return Some(ChunkUpdate { first, entries, segment, replaces: None, is_whole: false });
        }
        let chunk = self.open.remove(&first)?;
        Some(match chunk.written {
            Some(mut all) => {
                all.sort_unstable_by_key(|entry| entry.index);
                ChunkUpdate { first, entries: all, segment, replaces: Some(segment - 1), is_whole: true }
            }
            None => ChunkUpdate { first, entries, segment, replaces: None, is_whole: true },
        })
    }
}

impl OpenChunk {
    /// Keeps an outcome for the segment of the whole chunk.
    fn keep(&mut self, entry: Entry) {
        let Some(written) = &mut self.written else { return };
        self.written_bytes += entry.row_bytes();
        written.push(entry);
        if self.written_bytes > WHOLE_BYTES_MAX {
            self.forget();
        }
    }

    /// Its outcomes are too many bytes to be written again.
    fn forget(&mut self) {
        (self.written, self.written_bytes) = (None, 0);
    }
}

/// Returns an input whose chunk was lost `lost` times. A large one stays in its file until it runs.
fn input(index: u64, body: StoredPayload, lost: u32) -> Input<StoredPayload> {
    let waiting_bytes = body.row_bytes() as u64;
    let file_bytes = match &body.at {
        PayloadPlace::Inline(_) => 0,
        PayloadPlace::File { bytes, .. } => *bytes,
    };
    Input { index, body, waiting_bytes, running_bytes: waiting_bytes + file_bytes, attempts: lost, failed: 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::{Failure, FailureCode, Payload, Receipt};

    fn chunk(first: u64, len: u64) -> Chunk {
        let inputs =
            (first..first + len).map(|index| StoredPayload::inline(Payload::json(index.to_string()))).collect();
        Chunk { first, inputs, entries: Vec::new(), is_stripped: false, segments: 0 }
    }

    fn done(index: u64, bytes: usize) -> Entry {
        let output = Payload::json(vec![b'1'; bytes]);
        Entry { index, attempt: 1, kind: EntryKind::Done(StoredPayload::inline(output)), receipt: Receipt::default() }
    }

    fn retry(index: u64, attempt: u32, failed: u32, next_ms: u64) -> Entry {
        let failure = Failure::new(FailureCode::Failed, "no");
        Entry { index, attempt, kind: EntryKind::Retry { failed, next_ms, failure }, receipt: Receipt::default() }
    }

    #[test]
    fn a_small_chunk_ends_as_one_segment_and_a_large_one_as_it_is() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.open(chunk(10, 2), 0, 0).len(), 2);
        let first = chunks.settle(&[done(11, 1), retry(10, 1, 1, 5)]);
        assert_eq!(
            (first[0].segment, first[0].replaces, first[0].is_whole, first[0].entries.len()),
            (1, None, false, 2)
        );
        let whole = chunks.settle(&[done(10, 1)]);
        assert_eq!((whole[0].replaces, whole[0].is_whole), (Some(1), true));
        assert_eq!(whole[0].entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [10, 11]);
        assert!(chunks.open.is_empty());

        chunks.open(chunk(0, 2), 0, 0);
        chunks.settle(&[done(0, WHOLE_BYTES_MAX)]);
        let whole = chunks.settle(&[done(1, 1)]);
        assert_eq!((whole[0].segment, whole[0].replaces, whole[0].entries.len()), (2, None, 1));
        assert_eq!(chunks.written_bytes(), 0);
    }

    #[test]
    fn a_chunk_that_is_found_goes_on_where_it_was() {
        let mut chunks = Chunks::default();
        let entries = vec![done(0, 1), retry(1, 1, 1, 50), retry(1, 3, 2, 70), done(0, 9), retry(3, 2, 1, 30)];
        let found = chunks.open(Chunk { entries, segments: 3, ..chunk(0, 4) }, 2, 60);
        let found: Vec<_> =
            found.iter().map(|(input, at_ms)| (input.index, input.attempts, input.failed, *at_ms)).collect();
        // Input 1 still waits, so it did not run when the host ended; input 3 may have.
        assert_eq!(found, [(1, 3, 2, Some(70)), (2, 2, 0, None), (3, 3, 1, Some(30))]);
        let settled = chunks.settle(&[done(1, 1), done(2, 1), done(3, 1)]);
        assert_eq!((settled[0].replaces, settled[0].entries.len()), (Some(3), 4));
        assert_eq!(settled[0].entries[0], done(0, 1), "the first outcome of an input holds");
    }

    proptest! {
        /// Whatever batches the inputs of some chunks end in: each outcome is written, and each chunk becomes whole
        /// once.
        #[test]
        fn each_outcome_is_written_and_each_chunk_is_whole_once(
            lens in proptest::collection::vec(1_u64..20, 1..6),
            picks in proptest::collection::vec((any::<u16>(), any::<bool>()), 120),
        ) {
            let mut chunks = Chunks::default();
            let (mut open, mut first) = (Vec::new(), 0);
            for len in &lens {
                open.extend(chunks.open(chunk(first, *len), 0, 0).into_iter().map(|(input, _)| input.index));
                first += len;
            }
            let (mut batch, mut written, mut whole) = (Vec::new(), vec![false; first as usize], 0);
            for (pick, is_last) in picks.into_iter().chain(std::iter::once((0, true))).cycle() {
                if !open.is_empty() {
                    batch.push(done(open.swap_remove(pick as usize % open.len()), 1));
                }
                if is_last {
                    for settled in chunks.settle(&std::mem::take(&mut batch)) {
                        whole += usize::from(settled.is_whole);
                        settled.entries.iter().for_each(|entry| written[entry.index as usize] = true);
                    }
                    if open.is_empty() {
                        break;
                    }
                }
            }
            prop_assert!(written.iter().all(|written| *written));
            prop_assert_eq!((whole, chunks.open.len(), chunks.written_bytes()), (lens.len(), 0, 0));
        }
    }
}
