//! Maps: a header, a progress, chunks of inputs with their leases, segments of outcomes.

use std::collections::BTreeMap;

use super::*;
use crate::journal::record::Entry;
use crate::journal::{Damaged, Reset, What, chunk, segment};

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
        self.write_between(ACCEPT, ops).await
    }

    pub(super) async fn save_map(&self, header: &MapHeader) -> Result<(), JournalError> {
        self.write_between(CLOSE, vec![put(Table::Maps, key::map_header(header.id), row(header))]).await
    }

    pub(super) async fn append(
        &self,
        header: &MapHeader,
        first: u64,
        inputs: Vec<Payload>,
        is_leased: bool,
    ) -> Result<Vec<Pending>, JournalError> {
        let mut ops = vec![put(Table::Maps, key::map_header(header.id), row(header))];
        let mut pending = Vec::new();
        let mut first = first;
        for inputs in chunk::split(inputs.into_iter().map(Stored::inline).collect()) {
            let len = u32::try_from(inputs.len()).expect("a chunk is short");
            let lease = Lease { is_leased, lost: 0, len };
            ops.push(put(Table::MapInputs, key::chunk(header.id, first), chunk::encode(&inputs)));
            ops.push(put(Table::MapPending, key::chunk(header.id, first), lease.encode()));
            pending.push(Pending { first, lease });
            first += u64::from(len);
        }
        self.write_between(APPEND, ops).await?;
        Ok(pending)
    }

    pub(super) async fn pending(
        &self,
        map: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(move |_, store| {
            let after = after.map(|first| key::chunk(map, first));
            let mut pending = Vec::new();
            for (found, lease) in rows(store, Table::MapPending, map.as_bytes(), after.as_deref(), limit)? {
                let first = key::chunk_first(&found).ok_or(Damaged("a lease has no chunk"))?;
                pending.push(Pending { first, lease: Lease::decode(lease)? });
            }
            Ok(pending)
        })
        .await
    }

    pub(super) async fn chunk(&self, map: MapId, first: u64) -> Result<Option<Chunk>, JournalError> {
        let read = self
            .read(move |_, store| {
                let Some(inputs) = store.get(Table::MapInputs, &key::chunk(map, first))? else { return Ok(None) };
                let (entries, segments) = entries(store, map, first)?;
                Ok(Some((chunk::decode(inputs)?, entries, segments)))
            })
            .await?;
        let Some((stored, entries, segments)) = read else { return Ok(None) };
        let mut inputs = Vec::with_capacity(stored.len());
        for input in stored {
            inputs.push(self.payload(input).await?);
        }
        Ok(Some(Chunk { first, inputs, entries, segments }))
    }

    pub(super) async fn lease(&self, map: MapId, chunks: &[Pending]) -> Result<(), JournalError> {
        let ops = chunks.iter().map(|pending| {
            put(Table::MapPending, key::chunk(map, pending.first), pending.lease.encode())
        });
        self.write_between(LEASE, ops.collect()).await
    }

    pub(super) async fn settle(
        &self,
        header: &MapHeader,
        progress: &MapProgress,
        chunks: Vec<Settled>,
    ) -> Result<(), JournalError> {
        let map = header.id;
        let mut ops = vec![put(Table::Maps, key::map_progress(map), row(progress))];
        for settled in chunks {
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
        self.write_between(SETTLE, ops).await
    }

    pub(super) async fn reset_failures(
        &self,
        before: &MapRecord,
        after: &MapRecord,
        reset: Reset,
    ) -> Result<(), JournalError> {
        let MapRecord { header, progress } = after;
        let Reset { first, kept, segments, lease } = reset;
        let map = header.id;
        let mut ops = vec![
            put(Table::Maps, key::map_header(map), row(header)),
            put(Table::Maps, key::map_progress(map), row(progress)),
            put(Table::JournalIndex, key::open_map(map), Vec::new()),
            put(Table::MapPending, key::chunk(map, first), lease.encode()),
        ];
        ops.extend((0..=segments).map(|n| delete(Table::MapResults, key::segment(map, first, n))));
        if !kept.is_empty() {
            let value = segment::encode(first, &kept);
            ops.push(put(Table::MapResults, key::segment(map, first, key::WHOLE_SEGMENT), value));
        }
        if let Some(at) = before.progress.ended_ms {
            ops.push(delete(Table::JournalIndex, key::ended(&header.app, at, Kind::Map, *map.as_bytes())));
        }
        self.write(ops).await
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

    pub(super) async fn map_input(&self, map: MapId, index: u64) -> Result<Option<Payload>, JournalError> {
        let stored = self
            .read(move |_, store| {
                let Some((first, inputs)) = chunk_of(store, map, index)? else { return Ok(None) };
                let offset = usize::try_from(index - first).unwrap_or(usize::MAX);
                Ok(chunk::decode(inputs)?.into_iter().nth(offset))
            })
            .await?;
        match stored {
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
            let (entries, segments) = entries(store, map, first)?;
            // The first outcome of an input is the one that holds.
            let mut by_index = BTreeMap::new();
            for entry in entries {
                if !matches!(entry.what, What::Retry { .. }) {
                    by_index.entry(entry.index).or_insert(entry);
                }
            }
            Ok(Some(Outcomes { first, len, entries: by_index.into_values().collect(), segments }))
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

/// Returns the entries of a chunk, oldest first, and the highest number of a segment.
fn entries(store: &Store, map: MapId, first: u64) -> Result<(Vec<Entry>, u32), JournalError> {
    let prefix = key::chunk(map, first);
    let mut read = Vec::new();
    let mut last = 0;
    // As many segments as the chunk has inputs, each with its retries, is the most there can be.
    for (found, value) in rows(store, Table::MapResults, &prefix, None, usize::MAX)? {
        last = key::segment_number(&found).unwrap_or(0).max(last);
        read.extend(segment::decode(first, value)?);
    }
    Ok((read, last))
}

pub(super) fn map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    // Both rows in one read, so that they fit each other.
    let mut found = rows(store, Table::Maps, id.as_bytes(), None, 2)?.into_iter();
    let (Some((_, header)), progress) = (found.next(), found.next()) else { return Ok(None) };
    let header: MapHeader = record(&header)?;
    let progress: MapProgress = progress.map(|(_, row)| record(&row)).transpose()?.unwrap_or_default();
    Ok(Some(MapRecord { header, progress }))
}
