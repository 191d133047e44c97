//! A durable map that has not ended: inputs go to disk as they come, run over a window of them, and their outcomes go
//! back to disk in batches.
//!
//! It has two tasks. One loads chunks and starts runners; the other writes outcomes. While a write is on its way to the
//! disk the next batch gathers, so batches are as large as the disk is slow.
//!
//! Invariants: a chunk is leased on disk before its inputs run; an outcome is shown once it is on disk.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::backing::{Batch, JournalBacking};
use crate::dispatch::call::Origin;
use crate::dispatch::durable::core::Core;
use crate::dispatch::durable::error::DurableError;
use crate::dispatch::durable::lifecycle::STORE_RETRY_WAIT;
use crate::dispatch::map::{Backing, Engine, Reservation, Runners, State, Target};
use crate::ids::{FunctionId, MapId};
use crate::storage::{CHUNK_BYTES_MAX, Entry, EntryKind, Kind, MapHeader, MapRecord, PendingChunk, StorageError};
use crate::{failpoint, tasks};

/// Chunks that are read and leased at a time.
const LOAD_LEN: usize = 4;
/// Batches that a slow reader of outcomes may be behind before it reads from disk.
const BATCHES_BEHIND_MAX: usize = 16;
/// Wait after a panic of a map's own tasks.
const PANIC_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub struct LiveMap {
    pub core: Arc<Core>,
    pub id: MapId,
    function: FunctionId,
    pub engine: Arc<Engine<JournalBacking>>,
    /// Held while its header is written.
    pub header_lock: tokio::sync::Mutex<()>,
    /// The latest outcomes, as they are written.
    batches: broadcast::Sender<Arc<Vec<Entry>>>,
    /// The map as it is on disk.
    progress: watch::Sender<MapRecord>,
}

/// A reader's place: outcomes as they are written, and the map as it is on disk.
pub type Subscription = (broadcast::Receiver<Arc<Vec<Entry>>>, watch::Receiver<MapRecord>);

/// Result of a look for more inputs.
enum Loaded {
    Some,
    /// There are none, or no more are wanted.
    Nothing,
    /// The budget has no room.
    Refused,
    Failed,
}

impl LiveMap {
    pub fn new(core: &Arc<Core>, record: MapRecord) -> Arc<Self> {
        let MapHeader { id, depth, priority, .. } = record.header;
        let principal = record.header.principal.clone();
        let function = record.header.function_id();
        let target = Target::Deployed { function: function.clone(), map: id };
        let origin = Origin { depth, priority, is_durable: true, ..Origin::outside(principal) };
        let state = JournalBacking::state(core, record.clone());
        Arc::new(Self {
            core: core.clone(),
            id,
            function,
            engine: Engine::new(core.runner.clone(), target, origin, state),
            header_lock: tokio::sync::Mutex::default(),
            batches: broadcast::Sender::new(BATCHES_BEHIND_MAX),
            progress: watch::Sender::new(record),
        })
    }

    /// Returns the header if the map takes inputs.
    pub fn open_header(&self) -> Result<MapHeader, DurableError> {
        let why = match &self.engine.lock().backing.header {
            header if header.is_cancelled => "was cancelled",
            header if header.is_closed => "was closed",
            header => return Ok(header.clone()),
        };
        Err(DurableError::Closed { id: self.id, why })
    }

    pub fn header(&self) -> MapHeader {
        self.engine.lock().backing.header.clone()
    }

    pub fn is_ended(&self) -> bool {
        self.engine.lock().backing.progress.ended_ms.is_some()
    }

    /// Takes over a header that was written, and wakes both tasks.
    pub fn set_header(&self, header: MapHeader) {
        self.change(|state| state.backing.header = header);
        self.engine.settled.notify_one();
    }

    /// Changes the state, shows what is on disk of it, and wakes the runners.
    pub fn change(&self, change: impl FnOnce(&mut State<JournalBacking>)) {
        {
            let mut state = self.engine.lock();
            change(&mut state);
            self.progress.send_replace(state.backing.record());
        }
        self.engine.wake.notify_one();
    }

    /// Begins nothing more and ends once the calls under way are written.
    pub fn stop(&self) {
        self.engine.lock().backing.stop();
        self.engine.wake.notify_one();
    }

    pub fn subscribe(&self) -> Subscription {
        (self.batches.subscribe(), self.progress.subscribe())
    }

    /// Runs and writes until the map has ended, or the host. After a panic it goes on with what is on disk.
    pub async fn run_to_its_end(self: &Arc<Self>) {
        while let Err(panic) = self.run_and_write().await {
            tracing::error!(map = %self.id, panic, "the host met a bug of its own while it ran a map");
            tokio::time::sleep(PANIC_WAIT).await;
            if !self.reload().await {
                return;
            }
        }
    }

    async fn run_and_write(self: &Arc<Self>) -> Result<(), String> {
        // The writer ends last: it writes what the runners have done.
        let mut runs = tokio::spawn(self.clone().run());
        let ended = tasks::caught(self.write_all(&mut runs)).await.and_then(|ended| ended);
        if ended.is_err() && !runs.is_finished() {
            self.engine.lock().backing.is_broken = true;
            self.engine.wake.notify_one();
            let _ = runs.await;
        }
        ended
    }

    /// Puts what is on disk in the place of what is in memory. Returns whether the map goes on.
    async fn reload(&self) -> bool {
        while !self.core.lifecycle.is_stopped() {
            match self.try_reload().await {
                Ok(goes_on) => return goes_on,
                Err(StorageError::Quarantined { .. }) => return false,
                Err(error) => {
                    tracing::error!(map = %self.id, error = &error as &dyn std::error::Error, "a map cannot be read");
                    tokio::time::sleep(STORE_RETRY_WAIT).await;
                }
            }
        }
        false
    }

    async fn try_reload(&self) -> Result<bool, StorageError> {
        // Inputs that are accepted meanwhile are either read here, or come after.
        let _header = self.header_lock.lock().await;
        let Some(record) = self.core.journal.map(self.id).await? else { return Ok(false) };
        let has_ended = record.progress.ended_ms.is_some();
        if has_ended && !self.is_ended() {
            self.core.open.release(&self.function.app, Kind::Map);
        }
        self.change(|state| *state = JournalBacking::state(&self.core, record));
        Ok(!has_ended)
    }

    /// Loads chunks and runs their inputs, until the map is cancelled, stopped or has ended, or the host cuts its calls
    /// off. Returns once no runner is left.
    async fn run(self: Arc<Self>) -> Result<(), String> {
        let mut runners = Runners::new(self.engine.clone());
        let ended = tasks::caught(async {
            tokio::select! {
                () = self.drive(&mut runners) => {}
                () = self.core.lifecycle.is_cut_off() => self.stop(),
            }
        })
        .await;
        runners.abort().await;
        ended
    }

    async fn drive(&self, runners: &mut Runners<JournalBacking>) {
        let mut deployed = self.core.runner.apps.changes();
        let mut ended = self.progress.subscribe();
        loop {
            let (is_over, is_stopped) = {
                let state = self.engine.lock();
                (state.backing.is_over(), state.backing.is_stopped)
            };
            if is_over {
                return;
            }
            if is_stopped {
                // Calls under way end by themselves; nothing new begins.
                return runners.join().await;
            }
            // Listens before it asks, so that no wake-up is lost.
            let mut freed = pin!(self.core.map_memory.freed());
            freed.as_mut().enable();
            let loaded = self.load().await.unwrap_or_else(|error| self.load_failed(&error));
            runners.start();
            let (is_refused, has_failed) = match loaded {
                Loaded::Some => continue,
                Loaded::Nothing => (false, false),
                Loaded::Refused => (true, false),
                Loaded::Failed => (false, true),
            };
            tokio::select! {
                () = self.engine.changed(), if !has_failed => {}
                () = freed, if is_refused => {}
                _ = deployed.changed() => {}
                _ = ended.wait_for(|record| record.progress.ended_ms.is_some()) => {}
                () = tokio::time::sleep(STORE_RETRY_WAIT), if has_failed => {}
            }
        }
    }

    fn load_failed(&self, error: &StorageError) -> Loaded {
        if let StorageError::Quarantined { .. } = error {
            self.core.open.release(&self.function.app, Kind::Map);
            self.stop();
            return Loaded::Some;
        }
        tracing::error!(map = %self.id, error = error as &dyn std::error::Error, "inputs of a map cannot be read");
        Loaded::Failed
    }

    /// Reads and leases chunks if more are wanted, the app is deployed and the budget has room.
    async fn load(&self) -> Result<Loaded, StorageError> {
        if self.core.calls_max(&self.function).is_none() {
            return Ok(Loaded::Nothing);
        }
        let (after, accepted, len, reserved) = {
            let state = self.engine.lock();
            if !state.backing.wants_more(&state.window) {
                return Ok(Loaded::Nothing);
            }
            let Some((len, reserved)) = self.reserve(state.window.is_empty()) else { return Ok(Loaded::Refused) };
            (state.backing.loaded, state.backing.header.accepted, len, reserved)
        };
        let journal = &self.core.journal;
        let found = journal.pending(self.id, after, len).await?;
        if found.is_empty() {
            let mut state = self.engine.lock();
            // Something may have been appended since it was read.
            let has_more = state.backing.header.accepted != accepted;
            state.backing.has_more = has_more;
            return Ok(if has_more { Loaded::Some } else { Loaded::Nothing });
        }
        // Read before they are leased: an attempt that cannot begin is none.
        let mut chunks = Vec::with_capacity(found.len());
        for pending in &found {
            chunks.push(journal.chunk(self.id, pending.first).await?);
        }
        let leases: Vec<PendingChunk> =
            found.iter().map(|pending| PendingChunk { first: pending.first, lease: pending.lease.taken() }).collect();
        if self.core.lifecycle.written(|| journal.lease(self.id, &leases)).await.is_none() {
            return Ok(Loaded::Nothing);
        }
        let mut state = self.engine.lock();
        let State { window, backing, .. } = &mut *state;
        backing.load(window, leases.into_iter().zip(chunks), reserved);
        Ok(Loaded::Some)
    }

    /// Reserves memory for chunks, and returns how many it is for. Whatever others hold, a map that has no input may
    /// have one chunk.
    fn reserve(&self, is_empty: bool) -> Option<(usize, Reservation)> {
        let memory = &self.core.map_memory;
        let mut reserved = memory.reservation();
        let bytes = (LOAD_LEN * CHUNK_BYTES_MAX) as u64;
        if reserved.try_set(bytes.min(memory.step_max())) {
            Some((LOAD_LEN, reserved))
        } else {
            is_empty.then_some((1, reserved))
        }
    }

    /// Writes outcomes as they come, until the map has ended and `runs` with it, whose panic it returns.
    async fn write_all(&self, runs: &mut JoinHandle<Result<(), String>>) -> Result<(), String> {
        let mut has_runners = true;
        loop {
            while let Some(batch) = self.batch(has_runners) {
                let core = &self.core;
                failpoint::panic_at("map.settle");
                // A cancel comes before the end or finds the map ended, not between the disk and the memory of it.
                let _header = match batch.progress.ended_ms {
                    Some(_) => Some(self.header_lock.lock().await),
                    None => None,
                };
                let settle = || core.journal.settle(&batch.header, &batch.progress, batch.chunks.clone());
                if core.lifecycle.written(settle).await.is_none() {
                    return Ok(());
                }
                self.batch_written(batch);
            }
            if !has_runners {
                return Ok(());
            }
            tokio::select! {
                () = self.engine.settled.notified() => {}
                ended = &mut *runs => {
                    // Not joined where the runtime ends.
                    ended.unwrap_or(Ok(()))?;
                    has_runners = false;
                }
            }
        }
    }

    fn batch(&self, has_runners: bool) -> Option<Batch> {
        self.engine.lock().backing.batch(has_runners)
    }

    fn batch_written(&self, mut batch: Batch) {
        let entries = Arc::new(std::mem::take(&mut batch.entries));
        // Sent before the end is shown: a reader that sees the end looks for no more. There may be no reader.
        let _ = self.batches.send(entries.clone());
        if batch.progress.ended_ms.is_some() {
            self.core.open.release(&self.function.app, Kind::Map);
        }
        self.change(|State { window, backing, .. }| backing.batch_written(window, batch));
        for entry in entries.iter() {
            if let EntryKind::Failed(failure) | EntryKind::Dead(failure) = &entry.kind {
                self.engine.log_failure(self.id.call(entry.index), failure);
            }
        }
    }
}
