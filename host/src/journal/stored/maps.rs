//! Maps: a header, a progress, chunks of inputs with their leases, segments of outcomes.

use std::collections::BTreeMap;

use super::*;
use crate::journal::record::Entry;
use crate::journal::{DamagedRow, EntryKind, OutcomeCounts, chunk, segment};

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
        let mut ops = vec![put(Table::Maps, key::map_header(header.id), row(header))];
        let mut pending = Vec::new();
        let mut first = first;
        let _files = self.files.read().await;
        let mut stored = Vec::with_capacity(inputs.len());
        for input in inputs {
            stored.push(self.place(Write::New, header.id.as_bytes(), input, &mut ops).await?);
        }
        for inputs in chunk::split(stored) {
            let len = u32::try_from(inputs.len()).expect("a chunk is short");
            let lease = Lease { is_leased, len, ..Lease::default() }.held_by(self.holder());
            ops.push(put(Table::MapInputs, key::chunk(header.id, first), chunk::encode(&inputs)));
            ops.push(put(Table::MapPending, key::chunk(header.id, first), lease.encode()));
            pending.push(PendingChunk { first, lease });
            first += u64::from(len);
        }
        self.write_between(Write::New, APPEND, ops).await?;
        Ok(pending)
    }

    pub(super) async fn pending(
        &self,
        map: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PendingChunk>, JournalError> {
        self.read(move |_, store| {
            let after = after.map(|first| key::chunk(map, first));
            let mut pending = Vec::new();
            for (found, lease) in rows(store, Table::MapPending, map.as_bytes(), after.as_deref(), limit)? {
                let first = key::chunk_first(&found).ok_or(DamagedRow("a lease has no chunk"))?;
                pending.push(PendingChunk { first, lease: Lease::decode(lease)? });
            }
            Ok(pending)
        })
        .await
    }

    pub(super) async fn chunk(&self, map: MapId, first: u64) -> Result<Option<Chunk>, JournalError> {
        self.read(move |_, store| {
            let Some(inputs) = store.get(Table::MapInputs, &key::chunk(map, first))? else { return Ok(None) };
            let inputs = chunk::decode(inputs)?;
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
        let map = header.id;
        let mut ops = vec![put(Table::Maps, key::map_progress(map), row(progress))];
        let _files = self.files.read().await;
        for mut settled in chunks {
            for entry in &mut settled.entries {
                if let EntryKind::Done(stored) = &mut entry.kind
                    && let PayloadPlace::Inline(data) = &stored.at
                    && data.len() > files::INLINE_BYTES_MAX
                {
                    let payload = Payload { content_type: stored.content_type.clone(), data: data.clone() };
                    *stored = self.place(Write::Essential, map.as_bytes(), payload, &mut ops).await?;
                }
            }
            let number = match settled.replaces {
                Some(last) => {
                    ops.extend((1..=last).map(|n| delete(Table::MapResults, key::segment(map, settled.first, n))));
                    key::WHOLE_SEGMENT
                }
                None => settled.segment,
            };
            if !settled.entries.is_empty() {
                let value = segment::encode(settled.first, &settled.entries);
                ops.push(put(Table::MapResults, key::segment(map, settled.first, number), value));
            }
            if settled.is_whole {
                ops.push(delete(Table::MapPending, key::chunk(map, settled.first)));
            }
        }
        if let Some(at) = progress.ended_ms {
            ops.push(delete(Table::JournalIndex, key::open_map(map)));
            let ended = key::ended(&header.app, at, Kind::Map, *map.as_bytes());
            ops.push(put(Table::JournalIndex, ended, Vec::new()));
        }
        self.write_between(Write::Essential, SETTLE, ops).await
    }

    pub(super) async fn reset_failures(
        &self,
        before: &MapRecord,
        after: &MapRecord,
        first: u64,
    ) -> Result<(), JournalError> {
        let MapRecord { header, progress } = after;
        let map = header.id;
        let mut ops = self
            .read(move |_, store| {
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
                let inputs = store.get(Table::MapInputs, &key::chunk(map, first))?.unwrap_or_default();
                let len = u32::try_from(chunk::len(&inputs)?).unwrap_or(u32::MAX);
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
        self.read(move |_, store| map(store, id)).await
    }

    pub(super) async fn open_maps(&self, after: Option<MapId>, limit: usize) -> Result<Vec<MapRecord>, JournalError> {
        self.read(move |_, store| {
            let after = after.map(key::open_map);
            let mut maps = Vec::new();
            for (found, _) in rows(store, Table::JournalIndex, key::OPEN_MAPS, after.as_deref(), limit)? {
                let Some(id) = key::id_of(&found) else { continue };
                maps.extend(map(store, MapId::from_bytes(id))?);
            }
            Ok(maps)
        })
        .await
    }

    pub(super) async fn inputs(
        &self,
        map: MapId,
        index: u64,
    ) -> Result<Option<(u64, Vec<StoredPayload>)>, JournalError> {
        self.read(move |_, store| {
            let Some((first, inputs)) = chunk_of(store, map, index)? else { return Ok(None) };
            let inputs = chunk::decode(inputs)?;
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
        self.read(move |_, store| {
            let Some((first, inputs)) = chunk_of(store, map, index)? else { return Ok(None) };
            let len = chunk::len(&inputs)? as u64;
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
            let number = key::segment_number(&key).ok_or(DamagedRow("a segment has no number"))?;
            take(number, segment::decode(first, value)?);
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

pub(super) fn map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    // Both rows in one read, so that they fit each other.
    let mut found = rows(store, Table::Maps, id.as_bytes(), None, 2)?.into_iter();
    let (Some((_, header)), progress) = (found.next(), found.next()) else { return Ok(None) };
    let header: MapHeader = record(&header)?;
    let progress: MapProgress = progress.map(|(_, row)| record(&row)).transpose()?.unwrap_or_default();
    Ok(Some(MapRecord { header, progress }))
}
