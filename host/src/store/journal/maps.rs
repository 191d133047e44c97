//! Maps: a header, a progress, chunks of inputs with their leases, segments of outcomes.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::claims::Changes;
use super::files::INLINE_BYTES_MAX;
use super::records::{map, visible_map};
use super::{ACCEPT, APPEND, CLOSE, LEASE, SETTLE, StoreJournal, delete, keyed, parsed, put, row, rows};
use crate::call::Payload;
use crate::ids::MapId;
use crate::storage::key::{self, Kind};
use crate::storage::record::Entry;
use crate::storage::{
    Chunk, ChunkUpdate, EntryKind, Idempotency, JournalError, Lease, MapHeader, MapProgress, MapRecord, OutcomeCounts,
    Outcomes, Owner, PayloadPlace, PendingChunk, StoredPayload, chunk, segment,
};
use crate::store::{Store, Table, Write};

/// Bytes of outcomes of one chunk that are in memory at a time.
const READ_BYTES_MAX: usize = 2 << 20;
/// Segments that are read at a time; one is about a mebibyte at most.
const SEGMENTS_LEN: usize = 4;

impl StoreJournal {
    pub(super) async fn create_map(
        &self,
        header: &MapHeader,
        idempotency: Option<&Idempotency>,
    ) -> Result<(), JournalError> {
        let (id, function) = (header.id.as_bytes(), header.function_id());
        let mut ops = vec![
            put(Table::Maps, key::map_header(header.id), row(header)),
            put(Table::Maps, key::map_progress(header.id), row(&MapProgress::default())),
            put(Table::JournalIndex, key::open_map(header.id), Vec::new()),
            put(Table::JournalIndex, [key::of_function(&function, Kind::Map).as_slice(), id].concat(), Vec::new()),
        ];
        if let Some(parent) = header.parent {
            ops.push(put(Table::JournalIndex, key::child(parent, Kind::Map, *id), Vec::new()));
        }
        ops.extend(idempotency.map(|idempotency| keyed(&function, idempotency, Kind::Map, id)));
        self.write_between(Write::New, ACCEPT, ops).await
    }

    pub(super) async fn save_map(&self, header: &MapHeader) -> Result<(), JournalError> {
        self.refuse_quarantined(of(header.id))?;
        self.write_between(Write::Essential, CLOSE, vec![put(Table::Maps, key::map_header(header.id), row(header))])
            .await
    }

    pub(super) async fn append(
        &self,
        header: &MapHeader,
        first: u64,
        inputs: Vec<Payload>,
        is_leased: bool,
    ) -> Result<Vec<PendingChunk>, JournalError> {
        self.refuse_quarantined(of(header.id))?;
        let mut changes = Changes::default();
        changes.ops.push(put(Table::Maps, key::map_header(header.id), row(header)));
        let mut pending = Vec::new();
        let mut first = first;
        let mut stored = Vec::with_capacity(inputs.len());
        for input in inputs {
            stored.push(self.place(Write::New, header.id.as_bytes(), input, &mut changes).await?);
        }
        for inputs in chunk::split(stored) {
            let len = u32::try_from(inputs.len()).expect("a chunk is short");
            let lease = Lease { is_leased, len, ..Lease::default() }.held_by(self.holder());
            changes.ops.push(put(Table::MapInputs, key::chunk(header.id, first), chunk::encode(&inputs)));
            changes.ops.push(put(Table::MapPending, key::chunk(header.id, first), lease.encode()));
            pending.push(PendingChunk { first, lease });
            first += u64::from(len);
        }
        self.commit(Write::New, APPEND, changes).await?;
        Ok(pending)
    }

    pub(super) async fn pending(
        &self,
        map: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PendingChunk>, JournalError> {
        self.read_of(of(map), move |_, store| {
            let after = after.map(|first| key::chunk(map, first));
            let mut pending = Vec::new();
            for (found, lease) in rows(store, Table::MapPending, map.as_bytes(), after.as_deref(), limit)? {
                let Some(first) = key::chunk_first(&found) else { continue };
                pending.push(PendingChunk { first, lease: parsed(Table::MapPending, &found, Lease::decode(lease))? });
            }
            Ok(pending)
        })
        .await
    }

    pub(super) async fn chunk(&self, map: MapId, first: u64) -> Result<Option<Chunk>, JournalError> {
        self.read_of(of(map), move |_, store| {
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
        })
        .await
    }

    pub(super) async fn lease(&self, map: MapId, chunks: &[PendingChunk]) -> Result<(), JournalError> {
        self.refuse_quarantined(of(map))?;
        let ops = chunks.iter().map(|pending| {
            let lease = pending.lease.held_by(self.holder());
            put(Table::MapPending, key::chunk(map, pending.first), lease.encode())
        });
        self.write_between(Write::Essential, LEASE, ops.collect()).await
    }

    pub(super) async fn settle(
        &self,
        header: &MapHeader,
        progress: &MapProgress,
        chunks: Vec<ChunkUpdate>,
    ) -> Result<(), JournalError> {
        self.refuse_quarantined(of(header.id))?;
        let map = header.id;
        let mut changes = Changes::default();
        changes.ops.push(put(Table::Maps, key::map_progress(map), row(progress)));
        for mut settled in chunks {
            for entry in &mut settled.entries {
                if let EntryKind::Done(stored) = &mut entry.kind
                    && let PayloadPlace::Inline(data) = &stored.at
                    && data.len() > INLINE_BYTES_MAX
                {
                    let payload = Payload { content_type: stored.content_type.clone(), data: data.clone() };
                    *stored = self.place(Write::Essential, map.as_bytes(), payload, &mut changes).await?;
                }
            }
            let number = match settled.replaces {
                Some(last) => {
                    changes
                        .ops
                        .extend((1..=last).map(|n| delete(Table::MapResults, key::segment(map, settled.first, n))));
                    key::WHOLE_SEGMENT
                }
                None => settled.segment,
            };
            if !settled.entries.is_empty() {
                let value = segment::encode(settled.first, &settled.entries);
                changes.ops.push(put(Table::MapResults, key::segment(map, settled.first, number), value));
            }
            if settled.is_whole {
                changes.ops.push(delete(Table::MapPending, key::chunk(map, settled.first)));
            }
        }
        if let Some(at) = progress.ended_ms {
            changes.ops.push(delete(Table::JournalIndex, key::open_map(map)));
            let ended = key::ended(&header.app, at, Kind::Map, *map.as_bytes());
            changes.ops.push(put(Table::JournalIndex, ended, Vec::new()));
        }
        self.commit(Write::Essential, SETTLE, changes).await
    }

    pub(super) async fn reset_failures(
        &self,
        before: &MapRecord,
        after: &MapRecord,
        first: u64,
    ) -> Result<(), JournalError> {
        let MapRecord { header, progress } = after;
        let map = header.id;
        // From what is read to what is committed, the map is not marked as expiring.
        let _expiry = self.expiry.lock().await;
        let mut ops = self
            .read_of(of(map), move |_, store| {
                if visible_map(store, map)?.is_none() {
                    return Err(JournalError::Expired);
                }
                let mut ops = Vec::new();
                each_segment(store, map, first, |number, entries| {
                    let kept: Vec<Entry> =
                        entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Done(_))).cloned().collect();
                    let at = key::segment(map, first, number);
                    if kept.is_empty() {
                        ops.push(delete(Table::MapResults, at));
                    } else if kept.len() < entries.len() {
                        ops.push(put(Table::MapResults, at, segment::encode(first, &kept)));
                    }
                })?;
                let at = key::chunk(map, first);
                let inputs = store.get(Table::MapInputs, &at)?.unwrap_or_default();
                let len = u32::try_from(parsed(Table::MapInputs, &at, chunk::len(&inputs))?).unwrap_or(u32::MAX);
                let lease = Lease { len, ..Lease::default() };
                ops.push(put(Table::MapPending, key::chunk(map, first), lease.encode()));
                Ok(ops)
            })
            .await?;
        ops.push(put(Table::Maps, key::map_header(map), row(header)));
        ops.push(put(Table::Maps, key::map_progress(map), row(progress)));
        ops.push(put(Table::JournalIndex, key::open_map(map), Vec::new()));
        if let Some(at) = before.progress.ended_ms {
            ops.push(delete(Table::JournalIndex, key::ended(&header.app, at, Kind::Map, *map.as_bytes())));
        }
        self.write_between(Write::Essential, SETTLE, ops).await
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
            let (mut by_index, mut bytes) = (BTreeMap::new(), 0);
            each_segment(store, map, first, |_, entries| {
                for entry in entries {
                    match entry.kind {
                        EntryKind::Done(_) => outcomes.counts.done += 1,
                        EntryKind::Failed(_) => outcomes.counts.failed += 1,
                        EntryKind::Dead(_) => outcomes.counts.dead += 1,
                        EntryKind::Retry { .. } => continue,
                    }
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

/// Returns the row of the chunk that `index` is in, if the map has come so far.
fn chunk_of(store: &Store, map: MapId, index: u64) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
    let (start, end) = (key::chunk(map, 0), key::chunk(map, index));
    let found = store.range(Table::MapInputs, (Bound::Included(&start), Bound::Included(&end)), 1, true)?;
    Ok(found.into_iter().next().and_then(|(found, inputs)| Some((key::chunk_first(&found)?, inputs))))
}

/// Hands the segments of a chunk to `take`, the oldest first.
fn each_segment(
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

fn of(id: MapId) -> Owner {
    Owner { kind: Kind::Map, id: *id.as_bytes() }
}
