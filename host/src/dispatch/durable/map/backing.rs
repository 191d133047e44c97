//! Backing of a map in the journal: open chunks, outcomes that are not written yet, and what the journal has of the
//! map.

use std::sync::Arc;

use super::chunks::Chunks;
use crate::budgets::Reservation;
use crate::call::Payload;
use crate::dispatch::durable::core::Core;
use crate::dispatch::map::{Backing, Ended, Engine, Input, State, Unreadable, Window};
use crate::storage::{
    Chunk, ClaimedChunk, Entry, EntryKind, MapHeader, MapProgress, MapRecord, MapSettle, PayloadPlace, PendingChunk,
    ProgressDelta, StoredPayload,
};

/// Inputs that can begin at once, under which more chunks are wanted.
const READY_LOW: usize = 1_024;
/// Inputs in memory, most of which wait for a retry, over which no further chunk is taken.
const LOADED_MAX: usize = 65_536;
/// Bytes of waiting inputs over which no further chunk is taken.
const WAITING_BYTES_MAX: u64 = 32 << 20;
/// Bytes of outcomes that stop the runners until some are written.
const UNWRITTEN_BYTES_MAX: u64 = 32 << 20;
/// Bytes of outcomes that one write takes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub(crate) struct JournalBacking {
    core: Arc<Core>,
    /// As the latest answers of the journal have it.
    pub header: MapHeader,
    /// As the last write of outcomes left it.
    pub progress: MapProgress,
    chunks: Chunks,
    /// Bytes that `chunks` holds.
    written: Reservation,
    /// First input of the last chunk that was loaded or passed over.
    pub loaded: Option<u64>,
    /// Whether there may be pending chunks behind that one.
    pub has_more: bool,
    unwritten: Vec<Unwritten>,
    /// Nothing new begins, and the tasks end.
    pub is_stopped: bool,
    /// A task panicked: runners end, and the map is read again.
    pub is_broken: bool,
}

/// An outcome that is not on disk, or a retry with its input.
struct Unwritten {
    entry: Entry,
    retry: Option<(Input<StoredPayload>, u64)>,
}

/// Outcomes that are written together.
pub(crate) struct Batch {
    pub entries: Vec<Entry>,
    pub settle: MapSettle,
    retries: Vec<(Input<StoredPayload>, u64)>,
    bytes: u64,
}

impl JournalBacking {
    /// Returns the state of a map that is read from the journal, with nothing loaded.
    pub(crate) fn state(core: &Arc<Core>, MapRecord { header, progress }: MapRecord) -> State<Self> {
        let memory = core.map_memory.reservation((&header.app).into());
        let backing = Self {
            core: core.clone(),
            // A map that was just made has nothing on disk.
            has_more: header.accepted > progress.settled(),
            header,
            progress,
            chunks: Chunks::default(),
            written: memory.another(),
            loaded: None,
            unwritten: Vec::new(),
            is_stopped: core.lifecycle.is_stopped(),
            is_broken: false,
        };
        State::new(Window::new(memory, UNWRITTEN_BYTES_MAX, false), backing)
    }

    pub(crate) fn record(&self) -> MapRecord {
        MapRecord { header: self.header.clone(), progress: self.progress.clone() }
    }

    /// Takes over a header. Answers may come in another order than the changes that they tell of.
    pub(crate) fn follow(&mut self, header: &MapHeader) {
        self.found(header.accepted);
        self.header.is_closed |= header.is_closed;
        self.header.is_cancelled |= header.is_cancelled;
    }

    /// The journal has this many inputs: those of an append whose answer was lost, too.
    pub(crate) fn found(&mut self, accepted: u64) {
        if accepted > self.header.accepted {
            (self.header.accepted, self.has_more) = (accepted, true);
        }
    }

    /// Whether calls under way are of no use any more.
    pub(crate) fn is_over(&self) -> bool {
        self.header.is_cancelled || self.is_broken || self.progress.ended_ms.is_some()
    }

    /// Returns room for new inputs that begin at once, if none are on disk before them and the budget has room.
    pub(crate) fn reserve_new(&self, window: &Window<StoredPayload>, inputs: &[Payload]) -> Option<Reservation> {
        if self.has_more || !self.is_open() || !has_room(window) {
            return None;
        }
        let mut reserved = self.written.another();
        let bytes = inputs.iter().map(Payload::bytes).sum();
        reserved.try_set(bytes).then_some(reserved)
    }

    /// Takes in new inputs that were leased as they were written.
    pub(crate) fn load_new(
        &mut self,
        window: &mut Window<StoredPayload>,
        pending: Vec<PendingChunk>,
        inputs: Vec<Payload>,
        reserved: Reservation,
    ) {
        let mut inputs = inputs.into_iter().map(StoredPayload::inline);
        let chunks = pending.into_iter().map(|PendingChunk { first, lease }| {
            let inputs = inputs.by_ref().take(lease.len as usize).collect();
            let chunk = Some(Chunk { first, inputs, entries: Vec::new(), is_stripped: false, segments: 0 });
            ClaimedChunk { first, lease, chunk }
        });
        self.load(window, chunks, reserved);
    }

    /// Takes in chunks that are leased, in the order of their inputs. One that was taken in before is passed over.
    pub(crate) fn load(
        &mut self,
        window: &mut Window<StoredPayload>,
        leased: impl IntoIterator<Item = ClaimedChunk>,
        reserved: Reservation,
    ) {
        let mut loaded = Vec::new();
        for ClaimedChunk { first, lease, chunk } in leased {
            if self.loaded.is_some_and(|last| first <= last) {
                continue;
            }
            self.loaded = Some(first);
            if let Some(chunk) = chunk {
                loaded.extend(self.chunks.open(chunk, lease.lost, self.core.now_ms()));
            }
        }
        self.written.set(self.chunks.written_bytes() as u64);
        window.load(loaded, reserved);
    }

    /// Takes what is to be written next, if anything is. A write without outcomes ends the map: one that was closed
    /// after its last outcome, or is cancelled and runs nothing any more.
    pub(crate) fn batch(&mut self, has_runners: bool) -> Option<Batch> {
        let mut bytes = 0;
        let fits = |unwritten: &&Unwritten| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += if fits { unwritten.entry.row_bytes() } else { 0 };
            fits
        };
        let len = self.unwritten.iter().take_while(fits).count();
        let (mut entries, mut retries) = (Vec::with_capacity(len), Vec::new());
        for Unwritten { entry, retry } in self.unwritten.drain(..len) {
            entries.push(entry);
            retries.extend(retry);
        }
        let Self { header, progress, .. } = self;
        let is_drained = !has_runners && self.unwritten.is_empty();
        let is_done = header.is_closed && progress.settled() == header.accepted;
        let ends = progress.ended_ms.is_none() && (is_done || header.is_cancelled && is_drained);
        if entries.is_empty() && !ends {
            return None;
        }
        let mut delta = ProgressDelta::default();
        for entry in &entries {
            match entry.kind {
                EntryKind::Done(_) => delta.done += 1,
                EntryKind::Failed(_) => delta.failed += 1,
                EntryKind::Dead(_) => delta.dead += 1,
                EntryKind::Retry { .. } => delta.retried += 1,
            }
            delta.receipt.add(&entry.receipt);
        }
        let map = header.id;
        let chunks = self.chunks.settle(&entries);
        self.written.set(self.chunks.written_bytes() as u64);
        let settle = MapSettle { map, chunks, delta, is_drained };
        Some(Batch { entries, settle, retries, bytes: bytes as u64 })
    }

    /// A batch is on disk, in the map as it is now: its retries may begin, and its outcomes leave memory.
    pub(crate) fn batch_written(&mut self, window: &mut Window<StoredPayload>, batch: Batch, record: MapRecord) {
        let Batch { retries, bytes, .. } = batch;
        self.follow(&record.header);
        self.progress = record.progress;
        window.take(bytes);
        for (input, at_ms) in retries {
            window.retry(input, at_ms);
        }
    }

    /// Hands an outcome or a retry to the writer. Returns whether the writer has to be woken.
    fn keep(&mut self, window: &mut Window<StoredPayload>, ended: Ended<StoredPayload>) -> bool {
        let Ended { mut input, result, receipt, retry, .. } = ended;
        input.attempts += 1;
        let (kind, at_ms) = match (result, retry) {
            (Ok(payload), _) => (EntryKind::Done(StoredPayload::inline(payload)), None),
            (Err(failure), Some(delay)) => {
                input.failed += 1;
                let next_ms = self.core.now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
                (EntryKind::Retry { failed: input.failed, next_ms, failure }, Some(next_ms))
            }
            (Err(failure), None) if failure.code.is_retryable() => (EntryKind::Dead(failure), None),
            (Err(failure), None) => (EntryKind::Failed(failure), None),
        };
        let entry = Entry { index: input.index, attempt: input.attempts, kind, receipt };
        let bytes = entry.row_bytes() as u64;
        let retry = match at_ms {
            Some(at_ms) => {
                window.hold(bytes);
                Some((input, at_ms))
            }
            None => {
                window.end(&input, bytes);
                None
            }
        };
        self.unwritten.push(Unwritten { entry, retry });
        self.unwritten.len() == 1
    }
}

/// Whether more inputs are wanted in memory.
fn has_room(window: &Window<StoredPayload>) -> bool {
    window.ready() < READY_LOW && window.len() < LOADED_MAX && window.waiting_bytes() < WAITING_BYTES_MAX
}

impl Backing for JournalBacking {
    type Body = StoredPayload;

    const IS_DURABLE: bool = true;

    fn now_ms(&self) -> u64 {
        self.core.now_ms()
    }

    fn is_open(&self) -> bool {
        !self.is_stopped && !self.is_broken && !self.header.is_cancelled
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn wants_more(&self, window: &Window<StoredPayload>) -> bool {
        self.has_more && has_room(window)
    }

    async fn take_payload(engine: &Engine<Self>, body: &mut StoredPayload) -> Result<Payload, Unreadable> {
        if let PayloadPlace::Inline(data) = &body.at {
            return Ok(Payload { content_type: body.content_type.clone(), data: data.clone() });
        }
        let (core, map) = {
            let state = engine.lock();
            (state.backing.core.clone(), state.backing.header.id)
        };
        core.journal.payload(body.clone()).await.map_err(|error| {
            tracing::error!(%map, error = &error as &dyn std::error::Error, "an input of a map cannot be read");
            Unreadable
        })
    }

    fn return_payload(_: &mut StoredPayload, _: Payload) {}

    fn settle(engine: &Engine<Self>, ended: Ended<StoredPayload>) {
        let wakes = {
            let mut state = engine.lock();
            let State { window, backing, .. } = &mut *state;
            backing.keep(window, ended)
        };
        if wakes {
            engine.settled.notify_one();
        }
    }
}
