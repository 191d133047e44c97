//! Durable maps: inputs go to disk as they come, calls run over a window of them, outcomes go back to disk in batches.
//!
//! A map that has not ended has two tasks. One loads chunks and runs their inputs; the other writes what came of them. While a
//! write is on its way to the disk the next batch gathers, so batches are as large as the disk is slow.

mod requests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::core::{Core, Options, depth_below};
use super::error::DurableError;
use super::idempotency::fingerprint;
use super::lifecycle::STORE_RETRY_WAIT;
use super::window::{Leased, Window};
use crate::call::{CallResult, Failure, FailureCode, Payload, Receipt};
use crate::clock::unix_ms;
use crate::dispatch::apps::find_function;
use crate::dispatch::call::{Attempted, Call, Origin, check};
use crate::dispatch::retry;
use crate::ids::{FunctionId, MapId};
use crate::journal::{
    Chunk, ChunkUpdate, Entry, EntryKind, Idempotency, JournalError, KeyedRecord, Kind, MapHeader, MapProgress,
    MapRecord, PendingChunk, StoredPayload,
};
use crate::limits::MAP_INPUTS_MAX;
use crate::sandbox::{FunctionRef, Siblings};
use crate::{failpoint, tasks};

/// Chunks that are read and leased at a time.
const LOAD_LEN: usize = 4;
/// Bytes of outcomes that one write takes, and that stop the runners while they wait for it.
const BATCH_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES_MAX: usize = 32 << 20;
/// Batches that a slow reader of outcomes may be behind before it reads from disk.
const BATCHES_BEHIND_MAX: usize = 16;
/// How long a runner that found no slot waits before it asks again.
const SLOT_WAIT: Duration = Duration::from_millis(50);
/// Wait after a panic of a runner, or of a map's own tasks.
const PANIC_WAIT: Duration = Duration::from_secs(1);

/// The durable maps of a host.
pub struct Maps {
    pub(super) core: Arc<Core>,
    /// Maps that have not ended.
    live: DashMap<MapId, Arc<LiveMap>>,
    /// Held while a map that has ended is begun anew.
    retrying: tokio::sync::Mutex<()>,
}

/// A map that has not ended.
pub struct LiveMap {
    core: Arc<Core>,
    id: MapId,
    function: FunctionId,
    /// Its calls under way, so that those that ask a model form batches.
    siblings: Arc<Siblings>,
    /// Held while its header is written.
    header: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Notified when there may be something to run, or to write.
    run: Notify,
    write: Notify,
    /// Notified when outcomes were written, so that runners go on.
    room: Notify,
    /// The latest outcomes, as they are written.
    batches: broadcast::Sender<Arc<Vec<Entry>>>,
    /// EntryKind is on disk.
    progress: watch::Sender<MapRecord>,
}

struct State {
    header: MapHeader,
    progress: MapProgress,
    window: Window,
    /// The first input of the last chunk that was loaded or passed over.
    loaded: Option<u64>,
    /// Chunks behind that may be pending.
    has_more: bool,
    runners: usize,
    /// Outcomes and retries that are not written.
    buffer: Vec<Entry>,
    buffer_bytes: usize,
    /// Nothing new begins, and the tasks end.
    is_stopped: bool,
    /// A task panicked: runners end, and the map is read again.
    is_broken: bool,
}

impl State {
    fn of(MapRecord { header, progress }: MapRecord, is_stopped: bool) -> Self {
        Self {
            // A map that was just made has nothing on disk.
            has_more: header.accepted > progress.settled(),
            header,
            progress,
            window: Window::default(),
            loaded: None,
            runners: 0,
            buffer: Vec::new(),
            buffer_bytes: 0,
            is_stopped,
            is_broken: false,
        }
    }
}

impl LiveMap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the header if the map takes inputs.
    fn open_header(&self) -> Result<MapHeader, DurableError> {
        let state = self.state();
        let why = match &state.header {
            header if header.is_cancelled => "was cancelled",
            header if header.is_closed => "was closed",
            header => return Ok(header.clone()),
        };
        Err(DurableError::Closed { id: self.id, why })
    }

    fn publish(&self, state: &State) {
        self.progress.send_replace(MapRecord { header: state.header.clone(), progress: state.progress.clone() });
    }

    /// Begins nothing more and ends once what is under way is written.
    pub(super) fn stop(&self) {
        self.state().is_stopped = true;
        self.run.notify_one();
        self.write.notify_one();
    }

    pub(super) fn subscribe(&self) -> (broadcast::Receiver<Arc<Vec<Entry>>>, watch::Receiver<MapRecord>) {
        (self.batches.subscribe(), self.progress.subscribe())
    }

    /// Runs and writes until the map has ended, or the host. After a panic it goes on with what is on disk.
    async fn run_to_its_end(self: &Arc<Self>) {
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
            self.state().is_broken = true;
            self.run.notify_one();
            let _ = runs.await;
        }
        ended
    }

    /// Puts what is on disk in the place of what is in memory. Returns whether the map goes on.
    async fn reload(&self) -> bool {
        while !self.core.lifecycle.is_stopped() {
            // Inputs that are accepted meanwhile are either read here, or come after.
            let _header = self.header.lock().await;
            match self.core.journal.map(self.id).await {
                Ok(Some(record)) => {
                    let has_ended = record.progress.ended_ms.is_some();
                    if has_ended && self.state().progress.ended_ms.is_none() {
                        self.core.open.release(&self.function.app, Kind::Map);
                    }
                    let mut state = self.state();
                    *state = State::of(record, self.core.lifecycle.is_stopped());
                    self.publish(&state);
                    return !has_ended;
                }
                Ok(None) => return false,
                Err(error) => {
                    tracing::error!(map = %self.id, error = &error as &dyn std::error::Error, "a map cannot be read");
                    tokio::time::sleep(STORE_RETRY_WAIT).await;
                }
            }
        }
        false
    }

    /// Loads chunks and runs their inputs, until the map is cancelled, stopped or has ended. Returns once no runner is
    /// left.
    async fn run(self: Arc<Self>) -> Result<(), String> {
        let mut runners = JoinSet::new();
        let ended = tasks::caught(self.start_runners(&mut runners)).await;
        // Cancels their calls.
        runners.shutdown().await;
        ended
    }

    async fn start_runners(self: &Arc<Self>, runners: &mut JoinSet<()>) {
        let mut deployed = self.core.runner.apps.changes();
        let mut ended = self.progress.subscribe();
        loop {
            let (is_over, is_stopped) = {
                let state = self.state();
                (state.header.is_cancelled || state.progress.ended_ms.is_some() || state.is_broken, state.is_stopped)
            };
            if is_over {
                break;
            }
            if is_stopped {
                // Those under way end by themselves; nothing new begins.
                while runners.join_next().await.is_some() {}
                break;
            }
            let (has_loaded, again) = match self.load().await {
                Ok(has_loaded) => (has_loaded, None),
                Err(error) => {
                    tracing::error!(map = %self.id, error = &error as &dyn std::error::Error, "inputs of a map cannot be read");
                    (false, Some(STORE_RETRY_WAIT))
                }
            };
            while runners.try_join_next().is_some() {}
            let now = unix_ms();
            let (start, next_ms) = {
                let mut state = self.state();
                let max = self.core.calls_max(&self.function).unwrap_or(0);
                let start = state.window.ready(now).min(max.saturating_sub(state.runners));
                state.runners += start;
                (start, state.window.next_ms())
            };
            for _ in 0..start {
                let place = RunnerPlace(self.clone());
                runners.spawn(async move {
                    let map = &place.0;
                    let priority = map.state().header.priority;
                    let run = async {
                        let runner = map.core.runner.throttle().task(priority, map.clone().runner());
                        if let Err(panic) = tasks::caught(runner).await {
                            tracing::error!(map = %map.id, panic, "the host met a bug of its own while it ran a map");
                            // The input is the next again, and may meet the same bug.
                            tokio::time::sleep(PANIC_WAIT).await;
                        }
                    };
                    tokio::select! {
                        () = run => {}
                        () = map.core.lifecycle.is_cut_off() => {}
                    }
                });
            }
            if has_loaded {
                continue;
            }
            let until =
                next_ms.map_or(Duration::from_secs(3_600), |at_ms| Duration::from_millis(at_ms.saturating_sub(now)));
            let until = again.map_or(until, |again| until.min(again));
            tokio::select! {
                () = self.run.notified(), if again.is_none() => {}
                _ = deployed.changed() => {}
                _ = ended.wait_for(|record| record.progress.ended_ms.is_some()) => {}
                () = tokio::time::sleep(until) => {}
            }
        }
    }

    /// Reads and leases chunks if more are wanted; returns whether there were any.
    async fn load(&self) -> Result<bool, JournalError> {
        let (after, accepted) = {
            let state = self.state();
            if !state.has_more || !state.window.wants_more() {
                return Ok(false);
            }
            (state.loaded, state.header.accepted)
        };
        let journal = &self.core.journal;
        let found = journal.pending(self.id, after, LOAD_LEN).await?;
        if found.is_empty() {
            let mut state = self.state();
            // Something may have been appended since it was read.
            state.has_more = state.header.accepted != accepted;
            return Ok(state.has_more);
        }
        // Read before they are leased: an attempt that cannot begin is none.
        let mut chunks = Vec::with_capacity(found.len());
        for pending in &found {
            chunks.push(journal.chunk(self.id, pending.first).await?);
        }
        let leases: Vec<PendingChunk> =
            found.iter().map(|pending| PendingChunk { first: pending.first, lease: pending.lease.taken() }).collect();
        if self.core.lifecycle.written(|| journal.lease(self.id, &leases)).await.is_none() {
            return Ok(false);
        }
        for (PendingChunk { first, lease }, chunk) in leases.into_iter().zip(chunks) {
            let mut state = self.state();
            if let Some(chunk) = chunk.filter(|_| !state.window.contains(first)) {
                state.window.load(chunk, lease.lost);
            }
            state.loaded = Some(first);
        }
        Ok(true)
    }

    /// Runs inputs one after the other until there is none.
    async fn runner(self: Arc<Self>) {
        while let Some(leased) = self.lease() {
            let Leased { index, input, attempt, failed } = leased;
            let mut receipt = Receipt::default();
            let begun = Begun { map: &self, index: Some(index) };
            failpoint::panic_at("map.leased");
            let attempted = self.attempt(index, input, attempt, &mut receipt).await;
            let result = match attempted {
                Ok(Attempted::Ended(result)) => result,
                Ok(Attempted::NoSlot(_)) => {
                    drop(begun);
                    if self.core.runner.is_closed() {
                        self.stop();
                        continue;
                    }
                    // Runners begin again when the app is back.
                    if self.core.runner.apps.get(self.function.app.as_str()).is_none() {
                        break;
                    }
                    tokio::time::sleep(SLOT_WAIT).await;
                    continue;
                }
                Err(failure) => Err(failure),
            };
            if result.is_err() && self.core.runner.is_closed() {
                // The host ends; the next one goes on.
                self.stop();
                continue;
            }
            self.ended(index, attempt, failed, result, receipt);
            begun.ended();
            self.has_room().await;
        }
    }

    /// Takes the next input, or leaves.
    fn lease(&self) -> Option<Leased> {
        let mut state = self.state();
        let leased = match &*state {
            State { is_stopped: true, .. } | State { header: MapHeader { is_cancelled: true, .. }, .. } => None,
            _ => state.window.lease(unix_ms()),
        };
        // Before the inputs run out, so that runners need not wait for the next chunk.
        if leased.is_some() && state.has_more && state.window.wants_more() {
            self.run.notify_one();
        }
        leased
    }

    async fn attempt(
        &self,
        index: u64,
        input: Payload,
        attempt: u32,
        receipt: &mut Receipt,
    ) -> Result<Attempted, Failure> {
        let runner = &self.core.runner;
        if runner.is_closed() {
            return Ok(Attempted::NoSlot(Failure::new(FailureCode::Unavailable, "the host is shutting down")));
        }
        let Some(program) = runner.apps.get(self.function.app.as_str()) else {
            let message = format!("`{}` is not deployed", self.function.app);
            return Ok(Attempted::NoSlot(Failure::new(FailureCode::Unavailable, message)));
        };
        let function = find_function(&program, self.function.function.as_str())?;
        let origin = {
            let MapHeader { principal, depth, priority, .. } = &self.state().header;
            Origin { depth: *depth, priority: *priority, is_durable: true, ..Origin::outside(principal.clone()) }
        };
        let siblings = Some(self.siblings.clone());
        check(&function, &input)?;
        let call = Call { id: self.id.call(index), function, input, origin, siblings };
        let _running = self.siblings.run();
        let _live = runner.enter(&call);
        Ok(runner.attempt(&call, attempt, receipt).await)
    }

    /// Decides what came of an attempt and hands it to the writer.
    fn ended(&self, index: u64, attempt: u32, failed: u32, result: CallResult, receipt: Receipt) {
        let mut state = self.state();
        let kind = match result {
            Ok(payload) => EntryKind::Done(StoredPayload::inline(payload)),
            Err(failure) => {
                let policy = self.core.runner.apps.retries(&self.function);
                match retry::delay(&failure, failed + 1, &policy, rand::random()) {
                    Some(delay) => {
                        let next_ms = unix_ms() + delay.as_millis() as u64;
                        EntryKind::Retry { failed: failed + 1, next_ms, failure }
                    }
                    None if failure.code.is_retryable() => EntryKind::Dead(failure),
                    None => EntryKind::Failed(failure),
                }
            }
        };
        let entry = Entry { index, attempt, kind, receipt };
        state.buffer_bytes += entry.row_bytes();
        state.buffer.push(entry);
        if state.buffer.len() == 1 {
            self.write.notify_one();
        }
    }

    /// Waits while more is unwritten than may be.
    async fn has_room(&self) {
        loop {
            let room = self.room.notified();
            if self.state().buffer_bytes < BUFFER_BYTES_MAX {
                return;
            }
            room.await;
        }
    }

    /// Writes outcomes as they come, until the map has ended and `runs` with it, whose panic it returns.
    async fn write_all(&self, runs: &mut JoinHandle<Result<(), String>>) -> Result<(), String> {
        let mut has_runners = true;
        loop {
            while let Some((entries, header, progress, settled)) = self.batch(has_runners) {
                let core = &self.core;
                failpoint::panic_at("map.settle");
                // A cancel comes before the end or finds the map ended, not between the disk and the memory of it.
                let _header = match progress.ended_ms {
                    Some(_) => Some(self.header.lock().await),
                    None => None,
                };
                let written = core.lifecycle.written(|| core.journal.settle(&header, &progress, settled.clone())).await;
                if written.is_none() {
                    return Ok(());
                }
                self.is_written(entries, progress);
            }
            if !has_runners {
                return Ok(());
            }
            tokio::select! {
                () = self.write.notified() => {}
                ended = &mut *runs => {
                    // Not joined where the runtime ends.
                    ended.unwrap_or(Ok(()))?;
                    has_runners = false;
                }
            }
        }
    }

    /// Takes what is to be written next, if anything is.
    fn batch(&self, has_runners: bool) -> Option<(Vec<Entry>, MapHeader, MapProgress, Vec<ChunkUpdate>)> {
        let mut state = self.state();
        let mut bytes = 0;
        let len = state.buffer.iter().take_while(|entry| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += entry.row_bytes();
            fits
        });
        let len = len.count();
        let entries: Vec<Entry> = state.buffer.drain(..len).collect();
        state.buffer_bytes -= entries.iter().map(Entry::row_bytes).sum::<usize>();
        let mut progress = state.progress.clone();
        for entry in &entries {
            match entry.kind {
                EntryKind::Done(_) => progress.done += 1,
                EntryKind::Failed(_) => progress.failed += 1,
                EntryKind::Dead(_) => progress.dead += 1,
                EntryKind::Retry { .. } => progress.retried += 1,
            }
            progress.receipt.add(&entry.receipt);
        }
        let header = state.header.clone();
        let is_done = header.is_closed && progress.settled() == header.accepted;
        let is_cancelled = header.is_cancelled && !has_runners && state.buffer.is_empty();
        if progress.ended_ms.is_none() && (is_done || is_cancelled) {
            progress.ended_ms = Some(unix_ms());
        } else if entries.is_empty() {
            return None;
        }
        let settled = state.window.settle(entries.clone());
        Some((entries, header, progress, settled))
    }

    fn is_written(&self, entries: Vec<Entry>, progress: MapProgress) {
        let entries = Arc::new(entries);
        // Before the end is told, for who hears of that looks for no more. Nobody may be there to hear it.
        let _ = self.batches.send(entries.clone());
        {
            let mut state = self.state();
            for entry in entries.iter() {
                if let EntryKind::Retry { failed, next_ms, .. } = entry.kind {
                    state.window.retry(entry.index, failed, next_ms);
                }
            }
            state.progress = progress;
            if state.progress.ended_ms.is_some() {
                self.core.open.release(&self.function.app, Kind::Map);
            }
            self.publish(&state);
        }
        self.room.notify_waiters();
        self.run.notify_one();
        let failed = entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Failed(failure) | EntryKind::Dead(failure) => Some((entry.index, failure)),
            _ => None,
        });
        for (index, failure) in failed {
            self.core.log_failure(self.id.call(index), &self.function, failure);
        }
    }
}

/// A runner's place among those of its map, given back when dropped.
struct RunnerPlace(Arc<LiveMap>);

impl Drop for RunnerPlace {
    fn drop(&mut self) {
        self.0.state().runners -= 1;
        // There may be inputs that came after the runner looked.
        self.0.run.notify_one();
    }
}

/// An input that a runner has; it is the next again if the runner ends without an outcome.
struct Begun<'a> {
    map: &'a LiveMap,
    index: Option<u64>,
}

impl Begun<'_> {
    fn ended(mut self) {
        self.index = None;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.map.state().window.put_back(index);
        }
    }
}
