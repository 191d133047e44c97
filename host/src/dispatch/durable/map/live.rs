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

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::backing::{Batch, JournalBacking};
use crate::budgets::Reservation;
use crate::dispatch::call::Origin;
use crate::dispatch::durable::core::Core;
use crate::dispatch::durable::error::DurableError;
use crate::dispatch::durable::lifecycle::STORE_RETRY_WAIT;
use crate::dispatch::map::{Backing, Engine, Runners, State, Target};
use crate::ids::{AppName, FunctionId, MapId};
use crate::limits::MAP_FEED_IDLE;
use crate::storage::{
    CHUNK_BYTES_MAX, Entry, EntryKind, ErrorKind, MapHeader, MapMark, MapRecord, MapSettled, StorageError,
};
use crate::{failpoint, tasks};

/// Chunks that are read and leased at a time.
const LOAD_LEN: usize = 4;
/// Batches that a slow reader of outcomes may be behind before it reads from disk.
const BATCHES_BEHIND_MAX: usize = 16;
/// Bytes up to which the maps of an app go on, whatever those of others hold.
const APP_BYTES_MIN: u64 = 8 << 20;
/// Wait of a map without memory before it asks again: its app may have given some back.
const MEMORY_RETRY_WAIT: Duration = Duration::from_millis(250);
/// Wait before a map is read again whose own tasks were interrupted.
const RELOAD_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct LiveMap {
    pub core: Arc<Core>,
    pub id: MapId,
    function: FunctionId,
    pub engine: Arc<Engine<JournalBacking>>,
    /// Held by one append at a time: their chunks are taken in in their order.
    pub appending: tokio::sync::Mutex<()>,
    /// When the last inputs came, or the map was taken up.
    fed_at: Mutex<Instant>,
    /// The latest outcomes, as they are written. An empty batch: some are on disk that were in no batch.
    batches: broadcast::Sender<Arc<Vec<Entry>>>,
    /// The map as it is on disk.
    progress: watch::Sender<MapRecord>,
}

/// A reader's place: outcomes as they are written, and the map as it is on disk.
pub(crate) type Subscription = (broadcast::Receiver<Arc<Vec<Entry>>>, watch::Receiver<MapRecord>);

/// Reason for which a map is read again.
enum Interruption {
    Panic(String),
    /// Its outcomes were refused: another host has leased their inputs.
    Fenced,
}

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
    pub(crate) fn new(core: &Arc<Core>, record: MapRecord) -> Arc<Self> {
        let MapHeader { id, depth, priority, .. } = record.header;
        let principal = record.header.principal.clone();
        let function = record.header.function_id();
        let target = Target::Deployed { function: function.clone(), map: id };
        let origin = Origin { depth, priority, spawner_map: Some(id), is_durable: true, ..Origin::outside(principal) };
        let state = JournalBacking::state(core, record.clone());
        Arc::new(Self {
            core: core.clone(),
            id,
            function,
            engine: Engine::new(core.runner.clone(), target, origin, state),
            appending: tokio::sync::Mutex::default(),
            fed_at: Mutex::new(Instant::now()),
            batches: broadcast::Sender::new(BATCHES_BEHIND_MAX),
            progress: watch::Sender::new(record),
        })
    }

    /// Returns the header if the map takes inputs.
    pub(crate) fn open_header(&self) -> Result<MapHeader, DurableError> {
        let why = match &self.engine.lock().backing.header {
            header if header.is_cancelled => "was cancelled",
            header if header.is_closed => "was closed",
            header => return Ok(header.clone()),
        };
        Err(DurableError::Closed { id: self.id, why })
    }

    /// Notes that inputs came.
    pub(crate) fn fed(&self) {
        *self.fed_at.lock() = Instant::now();
    }

    /// Returns when the map closes for lack of inputs; `None` if it is closed.
    fn closes_at(&self) -> Option<Instant> {
        self.open_header().is_ok().then(|| *self.fed_at.lock() + MAP_FEED_IDLE)
    }

    /// Closes a map that got no input for `MAP_FEED_IDLE`, so that maps which their clients forgot do not fill up
    /// `OPEN_MAPS_PER_APP_MAX`.
    async fn close_idle(&self) {
        let _appending = self.appending.lock().await;
        if self.closes_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        tracing::info!(map = %self.id, "an open map got no input for {MAP_FEED_IDLE:?} and is closed");
        match self.core.journal.mark(self.id, MapMark::Close).await {
            Ok(Some(record)) => self.follow(&record.header),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(map = %self.id, error = &error as &dyn std::error::Error, "an open map cannot be closed");
                self.fed();
            }
        }
    }

    pub(crate) fn app(&self) -> &AppName {
        &self.function.app
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.engine.lock().backing.progress.ended_ms.is_some()
    }

    /// Takes over a header as the journal has it, and wakes both tasks.
    pub(crate) fn follow(&self, header: &MapHeader) {
        self.change(|state| state.backing.follow(header));
        self.engine.settled.notify_one();
    }

    /// Changes the state, shows what is on disk of it, and wakes the runners.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State<JournalBacking>)) {
        {
            let mut state = self.engine.lock();
            change(&mut state);
            self.progress.send_replace(state.backing.record());
        }
        self.engine.wake.notify_one();
    }

    /// Begins nothing more and ends once the calls under way are written.
    pub(crate) fn stop(&self) {
        self.engine.lock().backing.stop();
        self.engine.wake.notify_one();
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        (self.batches.subscribe(), self.progress.subscribe())
    }

    /// Runs and writes until the map has ended, or the host. After a panic, or if another host has leased inputs of the
    /// map, it goes on with what is on disk.
    pub(crate) async fn run_to_its_end(self: &Arc<Self>) {
        while let Err(interruption) = self.run_and_write().await {
            match interruption {
                Interruption::Panic(panic) => {
                    tracing::error!(map = %self.id, panic, "the host met a bug of its own while it ran a map");
                }
                Interruption::Fenced => {
                    tracing::warn!(map = %self.id, "another host has leased inputs of a map; it is read again");
                }
            }
            tokio::time::sleep(RELOAD_WAIT).await;
            if !self.reload().await {
                return;
            }
        }
    }

    async fn run_and_write(self: &Arc<Self>) -> Result<(), Interruption> {
        // The writer ends last: it writes what the runners have done.
        let mut runs = tokio::spawn(self.clone().run());
        let ended = tasks::caught(self.write_all(&mut runs)).await;
        let ended = ended.map_err(Interruption::Panic).flatten();
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
                Err(error) if matches!(error.kind(), ErrorKind::Gone | ErrorKind::Fenced) => return false,
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
        let _appending = self.appending.lock().await;
        let Some(record) = self.core.journal.map(self.id).await? else { return Ok(false) };
        let has_ended = record.progress.ended_ms.is_some();
        self.outcomes_missed();
        self.change(|state| {
            let before = std::mem::replace(state, JournalBacking::state(&self.core, record));
            // It may have been closed or cancelled since it was read.
            state.backing.follow(&before.backing.header);
        });
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
            let closes_at = self.closes_at();
            let is_short_of_memory = is_refused || self.cannot_run();
            let is_idle = tokio::select! {
                () = self.engine.changed(), if !has_failed => false,
                () = sleep_until(closes_at.unwrap_or_else(Instant::now)), if closes_at.is_some() => true,
                () = freed, if is_short_of_memory => false,
                () = tokio::time::sleep(MEMORY_RETRY_WAIT), if is_short_of_memory => false,
                _ = deployed.changed() => false,
                _ = ended.wait_for(|record| record.progress.ended_ms.is_some()) => false,
                () = tokio::time::sleep(STORE_RETRY_WAIT), if has_failed => false,
            };
            if is_idle {
                self.close_idle().await;
            }
        }
    }

    /// Whether inputs are ready and none runs, because the first of them has no room.
    fn cannot_run(&self) -> bool {
        let is_stuck = {
            let window = &self.engine.lock().window;
            window.running() == 0 && window.ready() > 0
        };
        is_stuck && self.core.calls_max(&self.function).is_some()
    }

    fn load_failed(&self, error: &StorageError) -> Loaded {
        match error.kind() {
            ErrorKind::Gone => {}
            ErrorKind::Fenced => self.core.lifecycle.fenced(error),
            _ => {
                // Of want of room the engine tells, once a minute.
                if error.kind() != ErrorKind::Full {
                    let cause = error as &dyn std::error::Error;
                    tracing::error!(map = %self.id, error = cause, "inputs of a map cannot be read");
                }
                return Loaded::Failed;
            }
        }
        self.stop();
        Loaded::Some
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
        let leased = self.core.journal.claim_chunks(self.id, after, len).await?;
        let mut state = self.engine.lock();
        let State { window, backing, .. } = &mut *state;
        if leased.is_empty() {
            // Something may have been appended since it was read.
            backing.has_more = backing.header.accepted != accepted;
            return Ok(if backing.has_more { Loaded::Some } else { Loaded::Nothing });
        }
        backing.load(window, leased, reserved);
        Ok(Loaded::Some)
    }

    /// Reserves memory for chunks, and returns how many it is for. Whatever others hold, a map that has no input may
    /// have one chunk, as long as the maps of its app hold little.
    fn reserve(&self, is_empty: bool) -> Option<(usize, Reservation)> {
        let memory = &self.core.map_memory;
        let mut reserved = memory.reservation((&self.function.app).into());
        let bytes = (LOAD_LEN * CHUNK_BYTES_MAX) as u64;
        if reserved.try_set(bytes.min(memory.request_max())) {
            Some((LOAD_LEN, reserved))
        } else {
            let may_exceed = reserved.held() < APP_BYTES_MIN && reserved.may_exceed(CHUNK_BYTES_MAX as u64);
            (is_empty && may_exceed).then_some((1, reserved))
        }
    }

    /// Writes outcomes as they come, until the map has ended and `runs` with it, whose panic it returns.
    async fn write_all(&self, runs: &mut JoinHandle<Result<(), String>>) -> Result<(), Interruption> {
        let mut has_runners = true;
        loop {
            while let Some(mut batch) = self.batch(has_runners) {
                let core = &self.core;
                failpoint::panic_at("map.settle");
                match core.lifecycle.written(|| core.journal.settle_map(batch.settle.clone())).await {
                    Some(MapSettled::Kept(record)) => {
                        // An end that the journal does not see is not asked for without a pause.
                        let is_in_vain = batch.entries.is_empty() && record.progress.ended_ms.is_none();
                        self.batch_written(batch, *record);
                        if is_in_vain {
                            tokio::time::sleep(STORE_RETRY_WAIT).await;
                        }
                    }
                    // By the same write, whose answer was lost; or without these outcomes, which are not to be shown.
                    Some(MapSettled::Ended(record)) => {
                        self.outcomes_missed();
                        batch.entries.clear();
                        self.batch_written(batch, *record);
                    }
                    Some(MapSettled::Fenced) => return Err(Interruption::Fenced),
                    None => return Ok(()),
                }
            }
            if !has_runners {
                return Ok(());
            }
            tokio::select! {
                () = self.engine.settled.notified() => {}
                ended = &mut *runs => {
                    // Not joined where the runtime ends.
                    ended.unwrap_or(Ok(())).map_err(Interruption::Panic)?;
                    has_runners = false;
                }
            }
        }
    }

    /// Lets readers look on disk for outcomes that were written, and are in no batch.
    fn outcomes_missed(&self) {
        let _ = self.batches.send(Arc::default());
    }

    fn batch(&self, has_runners: bool) -> Option<Batch> {
        self.engine.lock().backing.batch(has_runners)
    }

    fn batch_written(&self, mut batch: Batch, record: MapRecord) {
        let entries = Arc::new(std::mem::take(&mut batch.entries));
        if !entries.is_empty() {
            // Sent before the end is shown: a reader that sees the end looks for no more. There may be no reader.
            let _ = self.batches.send(entries.clone());
        }
        self.change(|State { window, backing, .. }| backing.batch_written(window, batch, record));
        for entry in entries.iter() {
            if let EntryKind::Failed(failure) | EntryKind::Dead(failure) = &entry.kind {
                self.engine.log_failure(self.id.call(entry.index), failure);
            }
        }
    }
}
