//! Maps, their writing: everything is encoded first, and a decider of the same transaction reads the header, the
//! progress and the leases that it depends on.

use std::borrow::Cow;

use super::claims::Prepared;
use super::error::JournalError;
use super::files::INLINE_BYTES_MAX;
use super::layout::{chunk, key, lease, segment};
use super::maps::{each_segment, of, read_chunk, read_pending};
use super::records::{header, map_within, visible_map};
use super::{APPEND, CLOSE, LEASE, SETTLE, StoreJournal, delete, ops_bytes, parsed, put, record, row};
use crate::call::Payload;
use crate::ids::MapId;
use crate::storage::{
    Append, Appended, ChunkUpdate, ClaimedChunk, Entry, EntryKind, Kind, Lease, LeaseHolder, MapHeader, MapMark,
    MapRecord, MapSettle, MapSettled, OutcomeCounts, PayloadPlace, PendingChunk, ProgressDelta,
};
use crate::store::{Changes, Decider, Op, StoreError, Table, View, ViewError, Write, over_quota};

/// Inputs to append, encoded.
struct Appending {
    header: Vec<u8>,
    at: u64,
    len: u64,
    ops: Vec<Op>,
}

impl Appending {
    fn decide(&self, view: &View<'_>) -> Result<(Changes<'_>, Result<Appended, JournalError>), ViewError> {
        let Some(present) = view.get(Table::Maps, &self.header)? else {
            return Ok((Vec::new(), Err(JournalError::Expired)));
        };
        let header = match record::<MapHeader>(Table::Maps, &self.header, &present) {
            Ok(header) => header,
            Err(error) => return Ok((Vec::new(), Err(error))),
        };
        if header.is_closed || header.is_cancelled {
            return Ok((Vec::new(), Ok(Appended::Closed(Box::new(header)))));
        }
        if header.accepted != self.at {
            return Ok((Vec::new(), Ok(Appended::Gap { accepted: header.accepted })));
        }
        let header = MapHeader { accepted: header.accepted.saturating_add(self.len), ..header };
        let counted = put(Table::Maps, self.header.clone(), row(&header));
        let changes = vec![Cow::Owned(vec![counted]), Cow::Borrowed(&self.ops[..])];
        if let Some(over) = over_quota(view, &header.app, &changes)? {
            return Ok((Vec::new(), Err(StoreError::from(over).into())));
        }
        Ok((changes, Ok(Appended::Kept { header: Box::new(header), chunks: Vec::new() })))
    }
}

/// Outcomes to write, encoded.
struct Settling {
    map: MapId,
    holder: Option<LeaseHolder>,
    chunks: Vec<SettlingChunk>,
    delta: ProgressDelta,
    is_drained: bool,
    now_ms: u64,
    ops: Vec<Op>,
}

struct SettlingChunk {
    /// Row of its lease.
    pending: Vec<u8>,
    /// Row of its new segment; none without an outcome or retry.
    segment: Option<Vec<u8>>,
    /// The segment takes the place of all.
    is_replacement: bool,
}

/// Answer of a settle's decider.
struct Verdict {
    settled: MapSettled,
    is_written: bool,
    has_ended: bool,
}

impl Settling {
    fn decide(&self, view: &View<'_>) -> Result<(Changes<'_>, Result<Verdict, JournalError>), ViewError> {
        let unwritten = |settled| Verdict { settled, is_written: false, has_ended: false };
        let mut map = match map_within(view, self.map)? {
            Ok(Some(map)) => map,
            Ok(None) => return Ok((Vec::new(), Err(JournalError::Expired))),
            Err(error) => return Ok((Vec::new(), Err(error))),
        };
        for chunk in &self.chunks {
            // The whole settle was written before, and its answer lost.
            if chunk.is_written(view)? {
                return Ok((Vec::new(), Ok(unwritten(MapSettled::Kept(Box::new(map))))));
            }
        }
        if map.progress.ended_ms.is_some() {
            return Ok((Vec::new(), Ok(unwritten(MapSettled::Ended(Box::new(map))))));
        }
        for chunk in &self.chunks {
            match chunk.holder(view)? {
                Ok(Some(holder)) if holder == self.holder => {}
                Ok(_) => return Ok((Vec::new(), Ok(unwritten(MapSettled::Fenced)))),
                Err(error) => return Ok((Vec::new(), Err(error))),
            }
        }
        let ProgressDelta { done, failed, dead, retried, receipt } = &self.delta;
        let progress = &mut map.progress;
        progress.done += done;
        progress.failed += failed;
        progress.dead += dead;
        progress.retried += retried;
        progress.receipt.add(receipt);
        let has_all = map.header.is_closed && progress.settled() >= map.header.accepted;
        let has_ended = has_all || (map.header.is_cancelled && self.is_drained);
        progress.ended_ms = has_ended.then_some(self.now_ms);
        let mut made = vec![put(Table::Maps, key::map_progress(self.map), row(progress))];
        if has_ended {
            let ended = key::ended(&map.header.app, self.now_ms, Kind::Map, *self.map.as_bytes());
            made.push(delete(Table::JournalIndex, key::open_map(self.map)));
            made.push(put(Table::JournalIndex, ended, Vec::new()));
        }
        let verdict = Verdict { settled: MapSettled::Kept(Box::new(map)), is_written: true, has_ended };
        Ok((vec![Cow::Owned(made), Cow::Borrowed(&self.ops[..])], Ok(verdict)))
    }
}

impl SettlingChunk {
    /// Returns whether its outcomes are there. A segment that takes the place of all may be there from before, as long
    /// as the chunk is pending: some of its failures were taken back.
    fn is_written(&self, view: &View<'_>) -> Result<bool, ViewError> {
        let Some(segment) = &self.segment else { return Ok(false) };
        let is_whole = !self.is_replacement || !view.contains(Table::MapPending, &self.pending)?;
        Ok(is_whole && view.contains(Table::MapResults, segment)?)
    }

    /// Returns the holder of its lease; none if nobody has leased it.
    fn holder(&self, view: &View<'_>) -> Result<Result<Option<Option<LeaseHolder>>, JournalError>, ViewError> {
        let Some(row) = view.get(Table::MapPending, &self.pending)? else { return Ok(Ok(None)) };
        let lease = parsed(Table::MapPending, &self.pending, lease::decode(row.to_vec()));
        Ok(lease.map(|lease| lease.is_leased.then_some(lease.holder)))
    }
}

impl StoreJournal {
    pub(super) async fn append(&self, append: Append) -> Result<Appended, JournalError> {
        let Append { map, at, inputs, is_leased } = append;
        self.refuse_quarantined(of(map))?;
        let mut prepared = Prepared::default();
        let mut stored = Vec::with_capacity(inputs.len());
        for input in inputs {
            stored.push(self.place(Write::New, map.as_bytes(), input, &mut prepared).await?);
        }
        let holder = self.holder().filter(|_| is_leased);
        let (len, mut first, mut pending) = (stored.len() as u64, at, Vec::new());
        for inputs in chunk::split(stored) {
            let len = u32::try_from(inputs.len()).expect("a chunk is short");
            let lease = Lease { is_leased, len, holder, ..Lease::default() };
            prepared.ops.push(put(Table::MapInputs, key::chunk(map, first), chunk::encode(&inputs)));
            prepared.ops.push(put(Table::MapPending, key::chunk(map, first), lease::encode(lease)));
            pending.push(PendingChunk { first, lease });
            first = first.saturating_add(u64::from(len));
        }
        let Prepared { ops, claims } = prepared;
        let bytes = ops_bytes(&ops);
        let appending = Appending { header: key::map_header(map), at, len, ops };
        let (decider, appended) = Decider::new(bytes, appending, Appending::decide);
        let line = map.to_string();
        self.write_within_share(&line, APPEND, vec![Op::Decide(decider)]).await?;
        let appended = appended.take();
        if let Err(JournalError::Store(error)) = &appended {
            self.dir.store()?.note_refused(error);
        }
        match self.damage_aside(of(map), appended).await {
            Ok(Appended::Kept { header, .. }) => {
                self.observe(|observer| observer.map_changed(map));
                Ok(Appended::Kept { header, chunks: pending })
            }
            refused => {
                self.remove_unused(claims).await;
                refused
            }
        }
    }

    pub(super) async fn mark(&self, map: MapId, mark: MapMark) -> Result<Option<MapRecord>, JournalError> {
        self.refuse_quarantined(of(map))?;
        let marked = self.decide_between(Write::Relief, CLOSE, 0, (map, mark), |(map, mark), view| {
            let mut found = match map_within(view, *map)? {
                Ok(Some(found)) => found,
                none => return Ok((Vec::new(), none.map(|_| (None, false)))),
            };
            if found.progress.ended_ms.is_some() {
                let is_expiring = view.contains(Table::JournalIndex, &key::expiring(Kind::Map, *map.as_bytes()))?;
                return Ok((Vec::new(), Ok(((!is_expiring).then_some(found), false))));
            }
            let header = &mut found.header;
            let before = (header.is_closed, header.is_cancelled);
            match mark {
                // A cancelled map takes no inputs anyway.
                MapMark::Close => header.is_closed |= !header.is_cancelled,
                MapMark::Cancel => header.is_cancelled = true,
            }
            let is_changed = (header.is_closed, header.is_cancelled) != before;
            let changes = match is_changed {
                true => vec![Cow::Owned(vec![put(Table::Maps, key::map_header(*map), row(header))])],
                false => Vec::new(),
            };
            Ok((changes, Ok((Some(found), is_changed))))
        });
        let marked = marked.await?;
        let (found, is_changed) = self.damage_aside(of(map), marked).await?;
        if is_changed {
            self.observe(|observer| observer.map_changed(map));
        }
        Ok(found)
    }

    pub(super) async fn claim_chunks(
        &self,
        map: MapId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ClaimedChunk>, JournalError> {
        let holder = self.take_up().await?;
        loop {
            // Read before they are leased: an attempt that cannot begin is none.
            let found = self.read_of(of(map), move |_, store| {
                if let Some(header) = header(store, map)? {
                    // Nothing more is begun that would leave results.
                    store.check_quota(&header.app)?;
                }
                let pending = read_pending(store, map, after, limit)?.into_iter();
                let read = pending.map(|(pending, row)| Ok((pending, row, read_chunk(store, map, pending.first)?)));
                read.collect::<Result<Vec<_>, JournalError>>()
            });
            let (mut claimed, mut expected, mut ops) = (Vec::new(), Vec::new(), Vec::new());
            for (PendingChunk { first, lease: before }, present, chunk) in found.await? {
                let lease = before.taken_by(holder);
                if lease != before {
                    let key = key::chunk(map, first);
                    ops.push(put(Table::MapPending, key.clone(), lease::encode(lease)));
                    expected.push((key, present));
                }
                claimed.push(ClaimedChunk { first, lease, chunk });
            }
            if ops.is_empty() {
                self.check_epoch(holder)?;
                return Ok(claimed);
            }
            let bytes = 2 * ops_bytes(&ops);
            let is_leased = self.decide_between(Write::Essential, LEASE, bytes, (expected, ops), |state, view| {
                let (expected, ops) = state;
                for (key, expected) in expected {
                    if view.get(Table::MapPending, key)?.is_none_or(|present| *present != **expected) {
                        return Ok((Vec::new(), false));
                    }
                }
                Ok((vec![Cow::Borrowed(&ops[..])], true))
            });
            if is_leased.await? {
                return Ok(claimed);
            }
        }
    }

    /// Writes outcomes and retries of a map, which ends at `now_ms` if it ends.
    pub(super) async fn settle_map(&self, settle: MapSettle, now_ms: u64) -> Result<MapSettled, JournalError> {
        let MapSettle { map, chunks, delta, is_drained } = settle;
        self.refuse_quarantined(of(map))?;
        let (mut prepared, mut settling) = (Prepared::default(), Vec::with_capacity(chunks.len()));
        for mut update in chunks {
            for entry in &mut update.entries {
                if let EntryKind::Done(stored) = &mut entry.kind
                    && let PayloadPlace::Inline(data) = &stored.at
                    && data.len() > INLINE_BYTES_MAX
                {
                    let payload = Payload { content_type: stored.content_type.clone(), data: data.clone() };
                    *stored = self.place(Write::Essential, map.as_bytes(), payload, &mut prepared).await?;
                }
            }
            settling.push(chunk_ops(map, &update, &mut prepared.ops));
        }
        let Prepared { ops, claims } = prepared;
        let bytes = ops_bytes(&ops);
        let (holder, chunks) = (self.holder(), settling);
        let settling = Settling { map, holder, chunks, delta, is_drained, now_ms, ops };
        // The end of a cancelled map keeps nothing.
        let write = if settling.chunks.is_empty() { Write::Relief } else { Write::Essential };
        let verdict = self.decide_between(write, SETTLE, bytes, settling, Settling::decide).await?;
        let verdict = self.damage_aside(of(map), verdict).await;
        if !verdict.as_ref().is_ok_and(|verdict| verdict.is_written) {
            self.remove_unused(claims).await;
        }
        let Verdict { settled, is_written, has_ended } = verdict?;
        if let MapSettled::Kept(record) = &settled
            && has_ended
        {
            self.counts.release(&record.header.app, Kind::Map);
        }
        if is_written {
            self.observe(|observer| observer.map_changed(map));
        }
        Ok(settled)
    }

    pub(super) async fn reset_failures(&self, map: MapId, first: u64) -> Result<MapRecord, JournalError> {
        // From what is read to what is committed, the map is not marked as expiring.
        let _expiry = self.expiry.lock().await;
        loop {
            let read = self.read_of(of(map), move |_, store| {
                let Some(before) = visible_map(store, map)? else { return Err(JournalError::Expired) };
                let at = key::chunk(map, first);
                let Some(inputs) = store.get(Table::MapInputs, &at)? else { return Ok((before, None)) };
                let len = parsed(Table::MapInputs, &at, chunk::len(&inputs))? as u64;
                let (mut ops, mut counts) = (Vec::new(), OutcomeCounts::default());
                each_segment(store, map, first, |number, entries| {
                    let at = key::segment(map, first, number);
                    ops.extend(without_failures(first, entries, at, &mut counts));
                })?;
                if counts.are_all_done(len) {
                    return Ok((before, None));
                }
                // One that is not whole was cancelled. It begins anew too: no host died over the lease that it has.
                let lease = Lease { len: u32::try_from(len).unwrap_or(u32::MAX), ..Lease::default() };
                ops.push(put(Table::MapPending, at, lease::encode(lease)));
                Ok((before, Some((ops, counts))))
            });
            let (before, reset) = read.await?;
            let Some((mut ops, counts)) = reset else { return Ok(before) };
            let mut after = before.clone();
            after.progress.failed = after.progress.failed.saturating_sub(counts.failed);
            after.progress.dead = after.progress.dead.saturating_sub(counts.dead);
            after.progress.ended_ms = None;
            (after.header.is_cancelled, after.header.is_closed) = (false, true);
            ops.push(put(Table::Maps, key::map_header(map), row(&after.header)));
            ops.push(put(Table::Maps, key::map_progress(map), row(&after.progress)));
            ops.push(put(Table::JournalIndex, key::open_map(map), Vec::new()));
            if let Some(at) = before.progress.ended_ms {
                ops.push(delete(Table::JournalIndex, key::ended(&after.header.app, at, Kind::Map, *map.as_bytes())));
            }
            let (bytes, had_ended) = (ops_bytes(&ops), before.progress.ended_ms.is_some());
            let is_reset = self.decide_between(Write::Essential, SETTLE, bytes, (before, ops), move |state, view| {
                let (before, ops) = state;
                let is_as_read = matches!(map_within(view, map)?, Ok(Some(present)) if present == *before);
                Ok((if is_as_read { vec![Cow::Borrowed(&ops[..])] } else { Vec::new() }, is_as_read))
            });
            // Otherwise its caller marked it meanwhile.
            if is_reset.await? {
                if had_ended {
                    self.counts.recover(&after.header.app, Kind::Map);
                }
                self.observe(|observer| observer.map_changed(map));
                return Ok(after);
            }
        }
    }
}

/// Adds what writes the outcomes of one chunk.
fn chunk_ops(map: MapId, update: &ChunkUpdate, ops: &mut Vec<Op>) -> SettlingChunk {
    let ChunkUpdate { first, entries, segment, replaces, is_whole } = update;
    if let Some(last) = replaces {
        ops.extend((1..=*last).map(|number| delete(Table::MapResults, key::segment(map, *first, number))));
    }
    let number = if replaces.is_some() { key::WHOLE_SEGMENT } else { *segment };
    let at = (!entries.is_empty()).then(|| key::segment(map, *first, number));
    ops.extend(at.clone().map(|at| put(Table::MapResults, at, segment::encode(*first, entries))));
    let pending = key::chunk(map, *first);
    if *is_whole {
        ops.push(delete(Table::MapPending, pending.clone()));
    }
    SettlingChunk { pending, segment: at, is_replacement: replaces.is_some() }
}

/// Counts the outcomes of a segment, and returns what takes its failures and retries back.
fn without_failures(first: u64, entries: Vec<Entry>, at: Vec<u8>, counts: &mut OutcomeCounts) -> Option<Op> {
    let len = entries.len();
    for entry in &entries {
        counts.add(&entry.kind);
    }
    let kept: Vec<Entry> = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::Done(_))).collect();
    match kept.len() {
        0 => Some(delete(Table::MapResults, at)),
        kept_len if kept_len < len => Some(put(Table::MapResults, at, segment::encode(first, &kept))),
        _ => None,
    }
}
