//! The part of a durable map that is in memory: chunks whose inputs run, wait for another attempt, or have an outcome that is not
//! on disk yet. A plain decider.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use crate::call::Payload;
use crate::journal::{Chunk, ChunkUpdate, Entry, EntryKind};

/// Inputs that can begin at once, under which another chunk is wanted.
const READY_LOW: usize = 1_024;
/// Inputs in memory, most of which wait for another attempt, over which no further chunk is taken.
const LOADED_MAX: usize = 65_536;
/// Bytes of chunks in memory over which no further one is taken.
const BYTES_MAX: usize = 32 << 20;
/// Bytes of outcomes up to which a chunk is written again as one segment when it is whole.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// An input that is handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    pub index: u64,
    pub input: Payload,
    /// The attempt that begins, from 1, whatever became of those before it.
    pub attempt: u32,
    /// Attempts that failed, which count against the retries.
    pub failed: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Window {
    chunks: BTreeMap<u64, Loaded>,
    ready: VecDeque<u64>,
    later: BinaryHeap<Reverse<(u64, u64)>>,
    loaded: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Loaded {
    /// Those that have no outcome yet.
    inputs: Vec<Option<Payload>>,
    bytes: usize,
    /// Inputs whose outcome is not written.
    unsettled: usize,
    segments: u32,
    /// Outcomes that were written, as long as they are few bytes.
    written: Option<Vec<Entry>>,
    written_bytes: usize,
    /// Times that a host died over this chunk.
    lost: u32,
    /// Failed attempts, of the inputs that have any.
    failed: HashMap<u64, u32>,
}

impl Window {
    /// Whether another chunk should be loaded.
    pub fn wants_more(&self) -> bool {
        self.ready.len() < READY_LOW && self.loaded < LOADED_MAX && self.bytes < BYTES_MAX
    }

    pub fn contains(&self, first: u64) -> bool {
        self.chunks.contains_key(&first)
    }

    /// Takes a chunk in whose lease was lost `lost` times.
    pub fn load(&mut self, chunk: Chunk, lost: u32) {
        let Chunk { first, inputs, entries, is_stripped, segments } = chunk;
        let bytes = inputs.iter().map(|input| input.bytes() as usize).sum();
        let mut loaded = Loaded {
            unsettled: inputs.len(),
            inputs: inputs.into_iter().map(Some).collect(),
            bytes,
            segments,
            written: Some(Vec::new()),
            written_bytes: 0,
            lost,
            failed: HashMap::new(),
        };
        let mut later = HashMap::new();
        for entry in entries {
            let Some(slot) = loaded.inputs.get_mut((entry.index - first) as usize) else { continue };
            match &entry.kind {
                EntryKind::Retry { failed, next_ms, .. } => {
                    loaded.failed.insert(entry.index, *failed);
                    later.insert(entry.index, *next_ms);
                }
                // What an input was first is what it stays.
                _ if slot.take().is_some() => {
                    loaded.unsettled -= 1;
                    loaded.keep(entry);
                }
                _ => {}
            }
        }
        if is_stripped {
            loaded.written = None;
        }
        for (index, _) in (first..).zip(&loaded.inputs).filter(|(_, input)| input.is_some()) {
            match later.get(&index) {
                Some(next_ms) => self.later.push(Reverse((*next_ms, index))),
                None => self.ready.push_back(index),
            }
        }
        self.loaded += loaded.unsettled;
        self.bytes += bytes;
        self.chunks.insert(first, loaded);
    }

    /// Hands out the next input to run.
    pub fn lease(&mut self, now_ms: u64) -> Option<Leased> {
        self.wake(now_ms);
        loop {
            let index = self.ready.pop_front()?;
            let Some((first, chunk)) = self.chunks.range_mut(..=index).next_back() else { continue };
            // One that has its outcome by now does not begin.
            let Some(Some(input)) = chunk.inputs.get((index - first) as usize) else { continue };
            let failed = chunk.failed.get(&index).copied().unwrap_or(0);
            return Some(Leased { index, input: input.clone(), attempt: 1 + failed + chunk.lost, failed });
        }
    }

    /// An input that was handed out did not begin: it is the next.
    pub fn put_back(&mut self, index: u64) {
        self.ready.push_front(index);
    }

    /// An input that was handed out failed and begins again at `next_ms`.
    pub fn retry(&mut self, index: u64, failed: u32, next_ms: u64) {
        if let Some((_, chunk)) = self.chunks.range_mut(..=index).next_back() {
            chunk.failed.insert(index, failed);
            self.later.push(Reverse((next_ms, index)));
        }
    }

    /// Returns how many could begin now.
    pub fn ready(&mut self, now_ms: u64) -> usize {
        self.wake(now_ms);
        self.ready.len()
    }

    /// Returns when the next of those that wait may begin.
    pub fn next_ms(&self) -> Option<u64> {
        self.later.peek().map(|Reverse((next_ms, _))| *next_ms)
    }

    /// Returns what to write for these outcomes and retries, and forgets the chunks that they make whole.
    pub fn settle(&mut self, entries: Vec<Entry>) -> Vec<ChunkUpdate> {
        let mut by_chunk: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            if let Some((first, _)) = self.chunks.range(..=entry.index).next_back() {
                by_chunk.entry(*first).or_default().push(entry);
            }
        }
        by_chunk.into_iter().filter_map(|(first, entries)| self.settle_chunk(first, entries)).collect()
    }

    fn settle_chunk(&mut self, first: u64, entries: Vec<Entry>) -> Option<ChunkUpdate> {
        let chunk = self.chunks.get_mut(&first)?;
        let outcomes = entries.iter().filter(|entry| entry.is_outcome());
        let mut settled = 0;
        for entry in outcomes {
            if let Some(slot) = chunk.inputs.get_mut((entry.index - first) as usize) {
                settled += usize::from(slot.take().is_some());
            }
            chunk.keep(entry.clone());
        }
        chunk.unsettled -= settled;
        self.loaded -= settled;
        let is_whole = chunk.unsettled == 0;
        chunk.segments += 1;
        let segment = chunk.segments;
        if !is_whole {
            return Some(ChunkUpdate { first, entries, segment, replaces: None, is_whole });
        }
        let chunk = self.chunks.remove(&first)?;
        self.bytes -= chunk.bytes;
        Some(match chunk.written {
            Some(mut all) => {
                all.sort_unstable_by_key(|entry| entry.index);
                ChunkUpdate { first, entries: all, segment, replaces: Some(segment - 1), is_whole }
            }
            None => ChunkUpdate { first, entries, segment, replaces: None, is_whole },
        })
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some(Reverse((next_ms, index))) = self.later.peek().copied() {
            if next_ms > now_ms {
                break;
            }
            self.later.pop();
            self.ready.push_back(index);
        }
    }
}

impl Loaded {
    /// Keeps an outcome for the segment of the whole chunk.
    fn keep(&mut self, entry: Entry) {
        self.written_bytes += entry.row_bytes();
        if self.written_bytes > WHOLE_BYTES_MAX {
            self.written = None;
        } else if let Some(written) = &mut self.written {
            written.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::{Failure, FailureCode, Receipt};
    use crate::journal::StoredPayload;

    fn chunk(first: u64, len: u64) -> Chunk {
        let inputs = (first..first + len).map(|index| Payload::json(index.to_string())).collect();
        Chunk { first, inputs, entries: Vec::new(), is_stripped: false, segments: 0 }
    }

    fn done(index: u64, bytes: usize) -> Entry {
        let output = Payload::json(vec![b'1'; bytes]);
        Entry { index, attempt: 1, kind: EntryKind::Done(StoredPayload::inline(output)), receipt: Receipt::default() }
    }

    fn retry(index: u64, failed: u32, next_ms: u64) -> Entry {
        let failure = Failure::new(FailureCode::Failed, "no");
        Entry {
            index,
            attempt: failed,
            kind: EntryKind::Retry { failed, next_ms, failure },
            receipt: Receipt::default(),
        }
    }

    #[test]
    fn a_small_chunk_ends_as_one_segment_and_a_large_one_as_it_is() {
        let mut window = Window::default();
        window.load(chunk(10, 2), 0);
        assert_eq!(window.lease(0).map(|leased| leased.index), Some(10));
        let first = window.settle(vec![done(11, 1)]);
        assert_eq!((first[0].segment, first[0].replaces, first[0].is_whole), (1, None, false));
        let whole = window.settle(vec![done(10, 1)]);
        assert_eq!((whole[0].replaces, whole[0].is_whole), (Some(1), true));
        assert_eq!(whole[0].entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [10, 11]);
        assert!(!window.contains(10));

        window.load(chunk(0, 2), 0);
        window.settle(vec![done(0, WHOLE_BYTES_MAX)]);
        let whole = window.settle(vec![done(1, 1)]);
        assert_eq!((whole[0].segment, whole[0].replaces, whole[0].entries.len()), (2, None, 1));
    }

    #[test]
    fn a_chunk_that_is_found_goes_on_where_it_was() {
        let mut window = Window::default();
        let entries = vec![done(0, 1), retry(1, 1, 50), retry(1, 2, 70), done(0, 9)];
        window.load(Chunk { entries, segments: 3, ..chunk(0, 3) }, 2);
        let leased = window.lease(0).unwrap();
        assert_eq!((leased.index, leased.attempt, leased.failed), (2, 3, 0));
        assert_eq!((window.lease(69), window.next_ms()), (None, Some(70)));
        let leased = window.lease(70).unwrap();
        assert_eq!((leased.index, leased.attempt, leased.failed), (1, 5, 2));
        let settled = window.settle(vec![done(1, 1), done(2, 1)]);
        assert_eq!((settled[0].replaces, settled[0].entries.len()), (Some(3), 3));
        // The first outcome of input 0 is the one that holds.
        assert_eq!(settled[0].entries[0], done(0, 1));
    }

    #[test]
    fn it_wants_no_more_than_it_can_hold() {
        let mut window = Window::default();
        let mut first = 0;
        while window.wants_more() {
            window.load(chunk(first, 1_000), 0);
            first += 1_000;
        }
        assert_eq!(first, 2_000);
        let mut window = Window::default();
        window.load(Chunk { inputs: vec![Payload::json(vec![b'1'; BYTES_MAX])], ..chunk(0, 0) }, 0);
        assert!(!window.wants_more());
    }

    proptest! {
        /// Whatever fails, is put back or ends in whatever order: each input has one outcome, and each chunk becomes whole once.
        #[test]
        fn each_input_ends_once(lens in proptest::collection::vec(1_u64..20, 1..6), picks in proptest::collection::vec(any::<u16>(), 50)) {
            let mut window = Window::default();
            let mut first = 0;
            for len in &lens {
                window.load(chunk(first, *len), 0);
                first += len;
            }
            let (mut now, mut running, mut ended, mut whole) = (0, Vec::new(), Vec::new(), 0);
            let mut picks = picks.into_iter().cycle();
            let mut pick = move || picks.next().unwrap() as usize;
            let mut steps = 0;
            while ended.len() < first as usize {
                now += 1;
                steps += 1;
                running.extend(window.lease(now));
                if running.is_empty() { continue; }
                let leased = running.swap_remove(pick() % running.len());
                match pick() % 4 {
                    // So that it ends whatever was drawn.
                    0 if steps < 5_000 => window.put_back(leased.index),
                    1 if steps < 5_000 => {
                        window.settle(vec![retry(leased.index, leased.failed + 1, now + 3)]);
                        window.retry(leased.index, leased.failed + 1, now + 3);
                    }
                    _ => {
                        ended.push(leased.index);
                        whole += window.settle(vec![done(leased.index, 1)]).iter().filter(|settled| settled.is_whole).count();
                    }
                }
            }
            ended.sort_unstable();
            prop_assert_eq!(ended, (0..first).collect::<Vec<_>>());
            prop_assert_eq!(whole, lens.len());
            prop_assert_eq!((window.loaded, window.bytes, window.chunks.len()), (0, 0, 0));
        }
    }
}
