//! Durable calls and maps: accepted once they are on disk, run until they have ended, also over restarts of the host.
//!
//! `call_queue` decides which call runs next, and `call_driver` acts on it; a map is the engine of `dispatch::map`
//! over the journal. The runner makes each attempt, like that of any other call; between attempts a call is no more
//! than an entry in a queue.
//!
//! Invariants: no attempt begins before its lease is on disk; nobody sees an outcome before it is on disk; of several
//! ends of one call the first that is written holds.

mod call_driver;
mod call_outcome;
mod call_queue;
mod call_waiters;
mod calls;
mod core;
mod descendants;
mod error;
mod guests;
mod idempotency;
mod lifecycle;
mod map;
mod results;
mod retention;
mod runs;
mod trusted_clock;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::calls::Calls;
use self::core::Core;
pub use self::core::Options;
use self::descendants::Descendants;
pub(crate) use self::error::DurableError;
pub(super) use self::guests::Guests;
use self::map::Maps;
pub(crate) use self::results::Results;
pub use self::results::ResultsOrder;
pub use self::retention::Retention;
use self::retention::Sweeper;
use self::runs::Runs;
use super::runner::Runner;
use crate::budgets::ByteBudget;
use crate::call::Payload;
use crate::ids::{CallId, MapId};
use crate::limits::OPEN_CALLS_PAGE_LEN;
use crate::sandbox::FunctionRef;
use crate::storage::{
    CallRecord, Entry, ListEntry, MapHeader, MapMark, MapRecord, Query, Storage, StorageError, StoredPayload, Timetable,
};

/// Open maps that are read at a time when a host starts.
const MAPS_PAGE_LEN: usize = 4_096;

/// The durable calls and maps of one host.
pub struct Durable {
    core: Arc<Core>,
    calls: Arc<Calls>,
    maps: Arc<Maps>,
    runs: Runs,
    descendants: Descendants,
    guests: Arc<Guests>,
}

impl Durable {
    /// Nothing runs before `start`.
    pub(super) fn new(runner: Arc<Runner>, map_memory: ByteBudget, storage: &Storage) -> Arc<Self> {
        let core = Core::new(runner, map_memory, storage);
        let (calls, maps) = (Arc::new(Calls::new(core.clone())), Arc::new(Maps::new(core.clone())));
        let runs = Runs::new(core.clone(), calls.driver().clone());
        let descendants = Descendants { core: core.clone(), calls: calls.clone(), maps: maps.clone() };
        let guests =
            Guests { core: core.clone(), calls: calls.clone(), maps: maps.clone(), descendants: descendants.clone() };
        Arc::new(Self { core, calls, maps, runs, descendants, guests: Arc::new(guests) })
    }

    /// Resumes the calls and maps that an earlier host left open, and begins; deletes ended ones as `retention` says.
    /// Returns how many calls and maps were resumed.
    pub async fn start(&self, retention: Retention) -> Result<(usize, usize), StorageError> {
        self.core.join().await?;
        let calls = self.recover_calls().await?;
        self.core.lifecycle.start();
        let maps = self.recover_maps().await?;
        self.calls.start();
        let sweeper = Sweeper { core: self.core.clone(), retention };
        self.core.lifecycle.spawn(sweeper.run());
        let core = self.core.clone();
        self.core.lifecycle.spawn(async move { core.lifecycle.beat(&*core.members).await });
        Ok((calls, maps))
    }

    async fn recover_calls(&self) -> Result<usize, StorageError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = || self.core.journal.held(after, OPEN_CALLS_PAGE_LEN);
            let open = self.core.lifecycle.answered(page).await?;
            let Some(last) = open.last() else { return Ok(count) };
            after = Some(last.id);
            let open = self.runs.recover(open);
            count += open.len();
            self.calls.driver().accepted(open);
        }
    }

    async fn recover_maps(&self) -> Result<usize, StorageError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = || self.core.journal.held_maps(after, MAPS_PAGE_LEN);
            let open = self.core.lifecycle.answered(page).await?;
            let Some(last) = open.last() else { return Ok(count) };
            after = Some(last.header.id);
            count += open.len();
            for mut record in open {
                // A map of a call that ended with the last host: nobody gives it more inputs.
                let MapHeader { id, is_closed, is_cancelled, parent, .. } = record.header;
                if parent.is_some() && !is_closed && !is_cancelled {
                    record = self.maps.mark(id, MapMark::Close).await?.unwrap_or(record);
                }
                self.maps.take_up(record);
            }
        }
    }

    /// Ends the attempts under way. Their leases stay on disk, so the next host makes them again.
    pub(crate) fn cut_off(&self) {
        self.core.lifecycle.cut_off();
    }

    /// Waits until another host has taken the place of this one, and returns the engine's refusal.
    pub(crate) async fn is_fenced(&self) -> StorageError {
        self.core.lifecycle.is_fenced().await
    }

    /// Waits until nothing is under way that could still be written. Called once the dispatcher takes no more calls.
    pub(crate) async fn shut_down(&self) {
        self.core.lifecycle.stop();
        self.maps.stop();
        self.core.lifecycle.join().await;
    }

    /// Whether nothing new begins: not started yet, or stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.core.lifecycle.is_stopped()
    }

    /// Returns the guests' side of it.
    pub(super) fn guests(&self) -> Arc<Guests> {
        self.guests.clone()
    }

    /// Returns calls and maps, newest first, and where to go on.
    pub(crate) async fn list(&self, query: Query) -> Result<(Vec<ListEntry>, Option<[u8; 16]>), DurableError> {
        Ok(self.core.journal.list(query).await?)
    }

    /// Returns how many calls wait to begin, and how many maps have not ended. An estimate, for metrics.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.calls.waiting(), self.core.journal.open().maps)
    }

    /// Returns how far the engine's clock is ahead of the time that retention goes by; zero unless it has jumped.
    pub(crate) fn clock_ahead(&self) -> Duration {
        Duration::from_millis(self.core.clock_ahead_ms.load(Ordering::Relaxed))
    }

    /// Returns how many rows of the journal are in quarantine.
    pub(crate) fn quarantined(&self) -> usize {
        self.core.journal.quarantined()
    }
}

/// Calls.
impl Durable {
    /// Keeps a call and begins it as soon as there is room. Returns once it is on disk; a second request with the same
    /// key returns the same call.
    pub async fn spawn(
        &self,
        function: &FunctionRef,
        input: Payload,
        options: Options,
    ) -> Result<CallRecord, DurableError> {
        self.calls.spawn(function, input, options).await
    }

    /// Returns a call, once it has ended or after `wait`.
    pub(crate) async fn get(&self, id: CallId, wait: Duration) -> Result<CallRecord, DurableError> {
        self.calls.get(id, wait).await
    }

    /// Cancels a call wherever it is, and its descendants. Returns how it ended: one that had ended before stays as it
    /// was.
    pub(crate) async fn cancel(&self, id: CallId) -> Result<CallRecord, DurableError> {
        self.descendants.cancel_call(id).await
    }

    /// Returns the input of a call.
    pub(crate) async fn input(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        self.calls.input(id).await
    }

    /// Returns the output of a call that is done.
    pub(crate) async fn output(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        self.calls.output(id).await
    }
}

/// Runs of schedules.
impl Durable {
    pub(super) fn timetable(&self) -> &Arc<dyn Timetable> {
        &self.core.timetable
    }

    /// Returns the time of the engine, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.core.now_ms()
    }

    /// Returns the runs; see `Runs`.
    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }
}

/// Maps.
impl Durable {
    /// Makes a map. Its inputs come with `append`.
    pub async fn create_map(&self, function: &FunctionRef, options: Options) -> Result<MapRecord, DurableError> {
        self.maps.create_map(function, options).await
    }

    /// Keeps inputs, of which the first is input `from`; see `Maps::append`.
    pub async fn append(&self, id: MapId, from: Option<u64>, inputs: Vec<Payload>) -> Result<u64, DurableError> {
        self.maps.append(id, from, inputs).await
    }

    /// Ends the inputs of a map: no more will come.
    pub async fn close_map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.maps.close_map(id).await
    }

    /// Cancels the open inputs of a map, and their descendants. A map that has ended stays as it was.
    pub(crate) async fn cancel_map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.descendants.cancel_map(id).await
    }

    /// Runs the inputs without a result again, of a map that has ended. Returns how many there are.
    pub(crate) async fn retry_failed(&self, id: MapId) -> Result<u64, DurableError> {
        self.maps.retry_failed(id).await
    }

    /// Returns a map as it is on disk.
    pub(crate) async fn map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.maps.map(id).await
    }

    /// Returns a map, once it has ended or after `wait`.
    pub(crate) async fn wait_for_map(&self, id: MapId, wait: Duration) -> Result<MapRecord, DurableError> {
        if let Some((_, mut progress)) = self.maps.subscribe(id).filter(|_| !wait.is_zero()) {
            let ended = progress.wait_for(|record| record.progress.ended_ms.is_some());
            // The state is read from disk below, ended or not.
            drop(tokio::time::timeout(wait, ended).await);
        }
        self.maps.map(id).await
    }

    /// Returns one input of a map.
    pub(crate) async fn map_input(&self, id: MapId, index: u64) -> Result<Option<Payload>, DurableError> {
        self.maps.map_input(id, index).await
    }

    /// Returns the outcome of one input, if it has one.
    pub(crate) async fn outcome(&self, id: MapId, index: u64) -> Result<Option<Entry>, DurableError> {
        self.maps.outcome(id, index).await
    }

    /// Returns the outcomes of a map from input `from` on.
    pub async fn results(
        &self,
        id: MapId,
        from: u64,
        order: ResultsOrder,
        follows: bool,
    ) -> Result<Results, DurableError> {
        self.maps.results(id, from, order, follows).await
    }

    /// Returns the bytes of an output.
    pub(crate) async fn payload(&self, stored: StoredPayload) -> Result<Payload, DurableError> {
        self.maps.payload(stored).await
    }
}
