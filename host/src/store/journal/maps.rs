//! Maps: a header, a progress, chunks of inputs with their leases, segments of outcomes. Their reading.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use super::error::JournalError;
use super::layout::quarantine::Owner;
use super::layout::{chunk, key, lease, segment};
use super::records::{map, visible_map};
use super::{StoreJournal, parsed, rows};
use crate::call::Payload;
use crate::ids::MapId;
use crate::storage::{
    Chunk, Entry, EntryKind, Kind, MapRecord, OutcomeCounts, Outcomes, PayloadPlace, PendingChunk, StoredPayload,
};
use crate::store::{Store, Table};

/// Bytes of outcomes of one chunk that are in memory at a time.
const READ_BYTES_MAX: usize = 2 << 20;
/// Segments that are read at a time; one is about a mebibyte at most.
const SEGMENTS_LEN: usize = 4;

impl StoreJournal {
    pub(super) async fn pending(
        &self,
        map: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PendingChunk>, JournalError> {
        self.read_of(of(map), move |_, store| {
            let found = read_pending(store, map, after, limit)?;
            Ok(found.into_iter().map(|(pending, _)| pending).collect())
        })
        .await
    }

    pub(super) async fn map(&self, id: MapId) -> Result<Option<MapRecord>, JournalError> {
        self.read_of(of(id), move |_, store| visible_map(store, id)).await
    }

    pub(super) async fn open_maps(&self, after: Option<MapId>, limit: usize) -> Result<Vec<MapRecord>, JournalError> {
        let mut after = after.map(key::open_map);
        // A page of which no map can be read is not the end.
        loop {
            let (maps, damaged, last) = self
                .read(move |_, store| {
                    let found = rows(store, Table::JournalIndex, key::OPEN_MAPS, after.as_deref(), limit)?;
                    let last = found.last().map(|(found, _)| found.clone());
                    let (mut maps, mut damaged) = (Vec::new(), Vec::new());
                    for id in found.iter().filter_map(|(found, _)| key::id_of(found)).map(MapId::from_bytes) {
                        match map(store, id) {
                            Ok(map) => maps.extend(map),
                            Err(JournalError::Damaged(row)) => damaged.push((id, *row)),
                            Err(error) => return Err(error),
                        }
                    }
                    Ok((maps, damaged, last))
                })
                .await?;
            for (id, row) in damaged {
                self.set_aside(Some(of(id)), row).await?;
            }
            if !maps.is_empty() || last.is_none() {
                return Ok(maps);
            }
            after = last;
        }
    }

    pub(super) async fn inputs(
        &self,
        map: MapId,
        index: u64,
    ) -> Result<Option<(u64, Vec<StoredPayload>)>, JournalError> {
        self.read_of(of(map), move |_, store| {
            let Some((first, inputs)) = chunk_of(store, map, index)? else { return Ok(None) };
            let inputs = parsed(Table::MapInputs, &key::chunk(map, first), chunk::decode(inputs))?;
            Ok((index - first < inputs.len() as u64).then_some((first, inputs)))
        })
        .await
    }

    pub(super) async fn map_input(&self, map: MapId, index: u64) -> Result<Option<Payload>, JournalError> {
        let Some((first, inputs)) = self.inputs(map, index).await? else { return Ok(None) };
        match inputs.into_iter().nth((index - first) as usize) {
            Some(stored) => self.payload(stored).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn outcomes(&self, map: MapId, index: u64) -> Result<Option<Outcomes>, JournalError> {
        self.read_of(of(map), move |_, store| {
            let Some((first, inputs)) = chunk_of(store, map, index)? else { return Ok(None) };
            let len = parsed(Table::MapInputs, &key::chunk(map, first), chunk::len(&inputs))? as u64;
            if index >= first + len {
                return Ok(None);
            }
            let mut outcomes =
                Outcomes { first, len, entries: Vec::new(), until: first + len, counts: OutcomeCounts::default() };
            let (mut by_index, mut bytes, mut ended) = (BTreeMap::new(), 0, HashSet::new());
            each_segment(store, map, first, |_, entries| {
                for entry in entries {
                    // The first outcome of an input holds.
                    if !entry.is_outcome() || !ended.insert(entry.index) {
                        continue;
                    }
                    outcomes.counts.add(&entry.kind);
                    if entry.index >= index && entry.index < outcomes.until {
                        bytes += entry.row_bytes();
                        by_index.insert(entry.index, entry);
                    }
                }
                // The nearest are kept, one at least.
                while bytes > READ_BYTES_MAX && by_index.len() > 1 {
                    if let Some((cut, entry)) = by_index.pop_last() {
                        bytes -= entry.row_bytes();
                        outcomes.until = cut;
                    }
                }
            })?;
            outcomes.entries = by_index.into_values().collect();
            Ok(Some(outcomes))
        })
        .await
    }
}

/// Returns the leases of chunks that are not whole, each with its row.
pub(super) fn read_pending(
    store: &Store,
    map: MapId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(PendingChunk, Vec<u8>)>, JournalError> {
    let after = after.map(|first| key::chunk(map, first));
    let mut pending = Vec::new();
    for (found, row) in rows(store, Table::MapPending, map.as_bytes(), after.as_deref(), limit)? {
        let Some(first) = key::chunk_first(&found) else { continue };
        let lease = parsed(Table::MapPending, &found, lease::decode(row.clone()))?;
        pending.push((PendingChunk { first, lease }, row));
    }
    Ok(pending)
}

/// Returns a chunk with its outcomes so far; none if its inputs are gone.
pub(super) fn read_chunk(store: &Store, map: MapId, first: u64) -> Result<Option<Chunk>, JournalError> {
    let at = key::chunk(map, first);
    let Some(inputs) = store.get(Table::MapInputs, &at)? else { return Ok(None) };
    let inputs = parsed(Table::MapInputs, &at, chunk::decode(inputs))?;
    let mut chunk = Chunk { first, inputs, entries: Vec::new(), is_stripped: false, segments: 0 };
    let mut bytes = 0;
    each_segment(store, map, first, |number, entries| {
        chunk.segments = chunk.segments.max(number);
        bytes += entries.iter().map(Entry::row_bytes).sum::<usize>();
        chunk.entries.extend(entries);
        if bytes > READ_BYTES_MAX || chunk.is_stripped {
            chunk.is_stripped = true;
            chunk.entries.iter_mut().for_each(strip);
        }
    })?;
    Ok(Some(chunk))
}

/// Returns the row of the chunk that `index` is in, if the map has come so far.
fn chunk_of(store: &Store, map: MapId, index: u64) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
    let (start, end) = (key::chunk(map, 0), key::chunk(map, index));
    let found = store.range(Table::MapInputs, (Bound::Included(&start), Bound::Included(&end)), 1, true)?;
    Ok(found.into_iter().next().and_then(|(found, inputs)| Some((key::chunk_first(&found)?, inputs))))
}

/// Hands the segments of a chunk to `take`, the oldest first.
pub(super) fn each_segment(
    store: &Store,
    map: MapId,
    first: u64,
    mut take: impl FnMut(u32, Vec<Entry>),
) -> Result<(), JournalError> {
    let prefix = key::chunk(map, first);
    let mut after = None;
    loop {
        let found = rows(store, Table::MapResults, &prefix, after.as_deref(), SEGMENTS_LEN)?;
        let is_last = found.len() < SEGMENTS_LEN;
        for (key, value) in found {
            let number = key::segment_number(&key).unwrap_or_default();
            take(number, parsed(Table::MapResults, &key, segment::decode(first, value))?);
            after = Some(key);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Empties an output that only has to be known of.
fn strip(entry: &mut Entry) {
    if let EntryKind::Done(stored) = &mut entry.kind {
        stored.at = PayloadPlace::Inline(bytes::Bytes::new());
    }
}

pub(super) fn of(id: MapId) -> Owner {
    Owner { kind: Kind::Map, id: *id.as_bytes() }
}
