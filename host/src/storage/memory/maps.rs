//! Maps of an engine in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{
    Append, Appended, CHUNK_BYTES_MAX, CHUNK_LEN_MAX, Chunk, ChunkUpdate, ClaimedChunk, Entry, EntryKind, Lease,
    MapMark, MapRecord, MapSettle, MapSettled, OutcomeCounts, Outcomes, PayloadPlace, PendingChunk, StorageError,
    StoredPayload,
};
use super::state::{Map, MapChunk, Party, StartNumber, State, gone};
use crate::call::Payload;
use crate::ids::MapId;

/// Number of the segment that has replaced others.
const WHOLE_SEGMENT: u32 = 0;
/// Bytes of outcomes of one chunk that are read at a time.
const READ_BYTES_MAX: usize = 2 << 20;

impl State {
    /// Returns a map that does not count as deleted.
    pub(crate) fn visible_map(&self, id: MapId) -> Option<&Map> {
        self.maps.get(&id).filter(|map| !map.is_expiring)
    }

    fn map_mut(&mut self, id: MapId) -> Result<&mut Map, StorageError> {
        self.maps.get_mut(&id).filter(|map| !map.is_expiring).ok_or_else(gone)
    }

    pub(crate) fn append(&mut self, me: StartNumber, append: Append) -> Result<Appended, StorageError> {
        self.check(me)?;
        let holder = append.is_leased.then(|| self.holder(me)).transpose()?;
        let map = self.map_mut(append.map)?;
        let header = &mut map.record.header;
        if header.is_closed || header.is_cancelled {
            return Ok(Appended::Closed(Box::new(header.clone())));
        }
        if append.at != header.accepted {
            return Ok(Appended::Gap { accepted: header.accepted });
        }
        let mut chunks = Vec::new();
        for inputs in split(append.inputs) {
            let (first, len) = (header.accepted, inputs.len() as u32);
            let lease = Lease { is_leased: append.is_leased, lost: 0, len, holder };
            header.accepted += u64::from(len);
            map.chunks.insert(first, MapChunk { inputs, lease: Some(lease), segments: BTreeMap::new() });
            chunks.push(PendingChunk { first, lease });
        }
        Ok(Appended::Kept { header: Box::new(header.clone()), chunks })
    }

    pub(crate) fn mark(
        &mut self,
        me: StartNumber,
        id: MapId,
        mark: MapMark,
    ) -> Result<Option<MapRecord>, StorageError> {
        self.check(me)?;
        let Ok(map) = self.map_mut(id) else { return Ok(None) };
        if map.record.progress.ended_ms.is_none() {
            match mark {
                // Closing adds nothing to a cancel.
                MapMark::Close if map.record.header.is_cancelled => {}
                MapMark::Close => map.record.header.is_closed = true,
                MapMark::Cancel => map.record.header.is_cancelled = true,
            }
        }
        Ok(Some(map.record.clone()))
    }

    pub(crate) fn pending(&self, id: MapId, after: Option<u64>, limit: usize) -> Vec<PendingChunk> {
        let chunks = self.visible_map(id).into_iter().flat_map(|map| &map.chunks);
        let pending = chunks.filter_map(|(first, chunk)| Some(PendingChunk { first: *first, lease: chunk.lease? }));
        pending.filter(|chunk| after.is_none_or(|after| chunk.first > after)).take(limit).collect()
    }

    pub(crate) fn claim_chunks(
        &mut self,
        me: StartNumber,
        id: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ClaimedChunk>, StorageError> {
        self.check(me)?;
        let holder = self.holder(me)?;
        let mut pending = self.pending(id, after, usize::MAX);
        pending.retain(|chunk| self.party(me, chunk.lease.holder) != Party::Another);
        pending.truncate(limit);
        let map = self.map_mut(id)?;
        let claim = |PendingChunk { first, lease }: PendingChunk| {
            let lease = lease.taken_by(holder);
            let chunk = map.chunks.get_mut(&first)?;
            chunk.lease = Some(lease);
            Some(ClaimedChunk { first, lease, chunk: Some(chunk.read(first)) })
        };
        Ok(pending.into_iter().filter_map(claim).collect())
    }

    pub(crate) fn settle_map(&mut self, me: StartNumber, settle: MapSettle) -> Result<MapSettled, StorageError> {
        self.check(me)?;
        let now_ms = self.now_ms;
        let MapSettle { map: id, chunks, delta, is_drained } = settle;
        let map = self.visible_map(id).ok_or_else(gone)?;
        let record = || Box::new(map.record.clone());
        if !chunks.is_empty()
            && chunks.iter().all(|update| map.chunks.get(&update.first).is_some_and(|chunk| chunk.has(update)))
        {
            return Ok(MapSettled::Kept(record()));
        }
        if map.record.progress.ended_ms.is_some() {
            return Ok(MapSettled::Ended(record()));
        }
        let holder_of = |first: u64| map.chunks.get(&first)?.lease?.holder;
        if chunks.iter().any(|update| self.party(me, holder_of(update.first)) != Party::Myself) {
            return Ok(MapSettled::Fenced);
        }
        let map = self.map_mut(id)?;
        for update in chunks {
            map.chunks.get_mut(&update.first).ok_or_else(gone)?.update(update);
        }
        let progress = &mut map.record.progress;
        progress.done += delta.done;
        progress.failed += delta.failed;
        progress.dead += delta.dead;
        progress.retried += delta.retried;
        progress.receipt.add(&delta.receipt);
        map.end_if_over(now_ms, is_drained);
        Ok(MapSettled::Kept(Box::new(map.record.clone())))
    }

    pub(crate) fn reset_failures(&mut self, me: StartNumber, id: MapId, first: u64) -> Result<MapRecord, StorageError> {
        self.check(me)?;
        let map = self.map_mut(id)?;
        let Some(chunk) = map.chunks.get_mut(&first) else { return Ok(map.record.clone()) };
        let counts = chunk.counts();
        // A chunk that is not whole was cancelled, and begins anew too.
        if chunk.lease.is_some() || counts.failed + counts.dead > 0 {
            chunk.segments.values_mut().for_each(|entries| {
                entries.retain(|entry| matches!(entry.kind, EntryKind::Done(_)));
            });
            chunk.segments.retain(|_, entries| !entries.is_empty());
            chunk.lease = Some(Lease { len: chunk.inputs.len() as u32, ..Lease::default() });
            let MapRecord { header, progress } = &mut map.record;
            progress.failed -= counts.failed;
            progress.dead -= counts.dead;
            progress.ended_ms = None;
            (header.is_cancelled, header.is_closed) = (false, true);
        }
        Ok(map.record.clone())
    }

    pub(crate) fn inputs(&self, id: MapId, index: u64) -> Option<(u64, Vec<StoredPayload>)> {
        let (first, chunk) = self.visible_map(id)?.chunk_of(index)?;
        Some((first, chunk.inputs.clone()))
    }

    pub(crate) fn map_input(&self, id: MapId, index: u64) -> Option<Payload> {
        let (first, chunk) = self.visible_map(id)?.chunk_of(index)?;
        chunk.inputs.get((index - first) as usize).map(payload)
    }

    pub(crate) fn outcomes(&self, id: MapId, index: u64) -> Option<Outcomes> {
        let (first, chunk) = self.visible_map(id)?.chunk_of(index)?;
        let len = chunk.inputs.len() as u64;
        let (mut entries, mut until, mut bytes) = (Vec::new(), first + len, 0);
        for entry in chunk.outcomes().into_values().filter(|entry| entry.index >= index) {
            bytes += entry.row_bytes();
            // One at least.
            if bytes > READ_BYTES_MAX && !entries.is_empty() {
                until = entry.index;
                break;
            }
            entries.push(entry.clone());
        }
        Some(Outcomes { first, len, entries, until, counts: chunk.counts() })
    }
}

impl Map {
    /// Ends a closed map with its last outcome, and a cancelled map once nothing of it runs.
    fn end_if_over(&mut self, now_ms: u64, is_drained: bool) {
        let MapRecord { header, progress } = &mut self.record;
        let is_complete = header.is_closed && progress.settled() == header.accepted;
        if is_complete || (header.is_cancelled && is_drained) {
            progress.ended_ms = Some(now_ms);
        }
    }

    fn chunk_of(&self, index: u64) -> Option<(u64, &MapChunk)> {
        let (first, chunk) = self.chunks.range(..=index).next_back()?;
        (index < first + chunk.inputs.len() as u64).then_some((*first, chunk))
    }
}

impl MapChunk {
    fn read(&self, first: u64) -> Chunk {
        let mut entries: Vec<Entry> = self.segments.values().flatten().cloned().collect();
        let is_stripped = entries.iter().map(Entry::row_bytes).sum::<usize>() > READ_BYTES_MAX;
        for entry in entries.iter_mut().filter(|_| is_stripped) {
            if let EntryKind::Done(stored) = &mut entry.kind {
                stored.at = PayloadPlace::Inline(Bytes::new());
            }
        }
        let segments = self.segments.keys().last().copied().unwrap_or_default();
        Chunk { first, inputs: self.inputs.clone(), entries, is_stripped, segments }
    }

    /// Whether an update was written before.
    fn has(&self, update: &ChunkUpdate) -> bool {
        match update.replaces {
            None => self.segments.contains_key(&update.segment),
            // A chunk that is whole was replaced by the update that made it so.
            Some(_) if update.is_whole => self.lease.is_none() && self.segments.contains_key(&WHOLE_SEGMENT),
            Some(last) => {
                last > 0 && self.segments.contains_key(&WHOLE_SEGMENT) && self.segments.range(1..=last).next().is_none()
            }
        }
    }

    fn update(&mut self, update: ChunkUpdate) {
        let number = match update.replaces {
            Some(last) => {
                self.segments.retain(|number, _| *number == WHOLE_SEGMENT || *number > last);
                WHOLE_SEGMENT
            }
            None => update.segment,
        };
        if !update.entries.is_empty() {
            self.segments.insert(number, update.entries);
        }
        if update.is_whole {
            self.lease = None;
        }
    }

    /// Returns the outcomes by input; of several, the first.
    fn outcomes(&self) -> BTreeMap<u64, &Entry> {
        let mut outcomes = BTreeMap::new();
        for entry in self.segments.values().flatten().filter(|entry| entry.is_outcome()) {
            outcomes.entry(entry.index).or_insert(entry);
        }
        outcomes
    }

    fn counts(&self) -> OutcomeCounts {
        let mut counts = OutcomeCounts::default();
        for entry in self.outcomes().values() {
            counts.add(&entry.kind);
        }
        counts
    }
}

/// Splits inputs into chunks, in order. No chunk is empty.
fn split(inputs: Vec<Payload>) -> Vec<Vec<StoredPayload>> {
    let mut chunks: Vec<Vec<StoredPayload>> = Vec::new();
    let mut bytes = 0;
    for input in inputs.into_iter().map(StoredPayload::inline) {
        if chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LEN_MAX || bytes >= CHUNK_BYTES_MAX) {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += input.row_bytes();
        chunks.last_mut().expect("one was pushed").push(input);
    }
    chunks
}

/// Returns the bytes of a payload: all are inline.
pub(crate) fn payload(stored: &StoredPayload) -> Payload {
    let PayloadPlace::Inline(data) = &stored.at else { panic!("this engine has no files: {stored:?}") };
    Payload { content_type: stored.content_type.clone(), data: data.clone() }
}
