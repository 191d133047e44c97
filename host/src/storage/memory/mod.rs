//! Engine in memory, for tests: the semantics of the traits on plain collections, and faults drawn from a seed.
//!
//! A [`Memory`] is what several hosts share; [`Memory::host`] makes one start of a host. A start is fenced by `fence`,
//! and by the `join` of a later start of a host of the same name. Its clock follows tokio's, also where that is paused.
//!
//! Decided here, where the traits leave it open: a fenced start writes nothing at all, no values and blobs either; a
//! call that another living host runs is `Later`, and its chunks are not claimed.

mod calls;
mod data;
mod faults;
mod maps;
mod schedules;
mod state;
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fmt::{Debug, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

pub(crate) use self::faults::Faults;
use self::faults::{Course, Draws, Operation};
use self::maps::payload;
use self::state::{MemoryError, StartNumber, State};
use super::conformance::Engine;
use super::{
    Accept, Accepted, Answer, AppRecord, Append, Appended, Apps, Beat, Blobs, CallRecord, CallSettle, Claimed,
    ClaimedChunk, ClockMark, Counts, Increment, Incremented, Journal, KeyPage, KeyQuery, KeyValue, Kind, LeaseHolder,
    ListEntry, MapMark, MapRecord, MapSettle, MapSettled, Members, OpenCall, Outcomes, PendingChunk, Place, Pushed,
    Query, ScheduleStep, ScheduledRun, Settled, Storage, StorageError, StoredPayload, StoredSchedule, Timetable,
};
use crate::call::Payload;
use crate::ids::{AppName, CallId, FunctionId, MapId, Version};

/// Time of the engine at its start, in milliseconds since 1970.
const BASE_MS: u64 = 1_800_000_000_000;
/// Operations that the log keeps, the latest.
const LOG_LEN_MAX: usize = 500;
/// Characters of an answer in the log.
const LOG_ANSWER_CHARS_MAX: usize = 300;

/// Engine that several hosts share.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Shared>);

struct Shared {
    started: Instant,
    state: Mutex<State>,
    draws: Mutex<Draws>,
    log: Mutex<VecDeque<String>>,
}

/// One start of a host.
struct Host {
    shared: Arc<Shared>,
    me: StartNumber,
}

impl Memory {
    /// Makes an empty engine without faults.
    pub(crate) fn new() -> Self {
        Self::with_faults(Faults::default(), 0)
    }

    /// Makes an empty engine with faults that are drawn from `seed`.
    pub(crate) fn with_faults(faults: Faults, seed: u64) -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            state: Mutex::default(),
            draws: Mutex::new(Draws::new(faults, seed)),
            log: Mutex::default(),
        }))
    }

    /// Makes a start of the host with this name.
    pub(crate) fn host(&self, name: &str) -> Storage {
        let me = self.0.state.lock().start(name);
        let host = Arc::new(Host { shared: self.0.clone(), me });
        Storage {
            members: host.clone(),
            journal: host.clone(),
            timetable: host.clone(),
            apps: host.clone(),
            key_value: host.clone(),
            blobs: host,
        }
    }

    /// Fences the starts of a host: nothing that they write is kept any more, and their leases are lost.
    pub(crate) fn fence(&self, name: &str) {
        self.0.state.lock().fence(name);
        self.0.note(format!("{name} was fenced"));
    }

    /// Has other faults from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.draws.lock().faults = faults;
    }

    /// Returns the latest writes in the order in which they were applied, for the message of a test that failed.
    pub(crate) fn log(&self) -> String {
        self.0.log.lock().iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        BASE_MS + self.started.elapsed().as_millis() as u64
    }

    fn note(&self, line: String) {
        let mut log = self.log.lock();
        if log.len() == LOG_LEN_MAX {
            log.pop_front();
        }
        log.push_back(line);
    }
}

impl Host {
    /// Applies an operation to the state, on the course that is drawn for it.
    async fn run<T: Debug>(
        &self,
        operation: Operation,
        name: &str,
        apply: impl FnOnce(&mut State, StartNumber) -> Result<T, StorageError> + Send,
    ) -> Result<T, StorageError> {
        let course = self.shared.draws.lock().course(operation);
        let Course { before, after, is_fencing, error, is_applied } = course;
        if !before.is_zero() {
            sleep(before).await;
        }
        let answer = is_applied.then(|| {
            let mut state = self.shared.state.lock();
            state.now_ms = self.shared.now_ms();
            if is_fencing {
                state.starts[self.me.0].is_fenced = true;
            }
            let answer = apply(&mut state, self.me);
            if operation != Operation::Read {
                let mut line = format!("+{} ms, ", state.now_ms - BASE_MS);
                let host = &state.starts[self.me.0].host;
                let written = write!(line, "{host}#{}: {name}: {error:?} {answer:?}", self.me.0);
                written.expect("a string takes everything");
                self.shared.note(line.chars().take(LOG_ANSWER_CHARS_MAX).collect());
            }
            answer
        });
        if !after.is_zero() {
            sleep(after).await;
        }
        match (answer, error) {
            // A start that is fenced learns of it, whatever else is lost.
            (Some(Err(fenced)), _) => Err(fenced),
            (_, Some(kind)) => Err(MemoryError::Simulated.of(kind)),
            (Some(answer), None) => answer,
            (None, None) => Err(MemoryError::Simulated.of(super::ErrorKind::Unknown)),
        }
    }

    fn read<'a, T: Debug + Send + 'a>(&'a self, read: impl FnOnce(&State) -> T + Send + 'a) -> Answer<'a, T> {
        Box::pin(self.run(Operation::Read, "read", |state, _| Ok(read(state))))
    }

    fn write<'a, T: Debug + Send + 'a>(
        &'a self,
        operation: Operation,
        name: impl Debug + Send + 'a,
        write: impl FnOnce(&mut State, StartNumber) -> Result<T, StorageError> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move { self.run(operation, &format!("{name:?}"), write).await })
    }
}

impl Engine for Memory {
    async fn fresh(&self) -> Storage {
        self.host("host")
    }

    async fn restart(&self, _earlier: Storage) -> Storage {
        self.host("host")
    }

    async fn overtake(&self, _earlier: &Storage) -> Storage {
        self.host("host")
    }
}

use Operation::{Add, Write as Change};

impl Members for Host {
    fn join(&self) -> Answer<'_, LeaseHolder> {
        self.write(Change, "join", |state, me| state.join(me))
    }

    fn beat(&self) -> Answer<'_, Beat> {
        self.write(Change, "beat", |state, me| {
            state.check(me)?;
            state.holder(me)?;
            Ok(Beat { now_ms: state.now_ms })
        })
    }
}

impl Journal for Host {
    fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    fn accept(&self, new: Vec<Accept>) -> Answer<'_, Vec<Accepted>> {
        self.write(Add, new.clone(), |state, me| state.accept(me, new))
    }

    fn claim(&self, call: CallId, version: Option<Version>) -> Answer<'_, Claimed> {
        self.write(Change, ("claim", call), move |state, me| state.claim(me, call, version))
    }

    fn settle(&self, settle: CallSettle) -> Answer<'_, Settled> {
        let name = ("settle", settle.record.id, settle.record.state, settle.lease.map(|lease| lease.attempt));
        self.write(Change, name, |state, me| state.settle(me, settle))
    }

    fn call(&self, id: CallId) -> Answer<'_, Option<CallRecord>> {
        self.read(move |state| state.visible_call(id).map(|call| call.record.clone()))
    }

    fn call_input(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        self.read(move |state| state.visible_call(id).map(|call| payload(&call.input)))
    }

    fn call_output(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        self.read(move |state| state.visible_call(id)?.output.as_ref().map(payload))
    }

    fn held(&self, after: Option<CallId>, limit: usize) -> Answer<'_, Vec<OpenCall>> {
        self.read(move |state| state.held(self.me, after, limit))
    }

    fn held_maps(&self, after: Option<MapId>, limit: usize) -> Answer<'_, Vec<MapRecord>> {
        self.read(move |state| state.held_maps(after, limit))
    }

    fn open(&self) -> Counts {
        self.shared.state.lock().open()
    }

    fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Answer<'_, Vec<(Kind, [u8; 16])>> {
        self.read(move |state| state.children(parent, after, limit))
    }

    fn list(&self, query: Query) -> Answer<'_, (Vec<ListEntry>, Option<[u8; 16]>)> {
        self.read(move |state| state.list(&query))
    }

    fn append(&self, append: Append) -> Answer<'_, Appended> {
        let name = ("append", append.map, append.at, append.inputs.len());
        self.write(Add, name, |state, me| state.append(me, append))
    }

    fn mark(&self, map: MapId, mark: MapMark) -> Answer<'_, Option<MapRecord>> {
        self.write(Change, (mark, map), move |state, me| state.mark(me, map, mark))
    }

    fn pending(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<PendingChunk>> {
        self.read(move |state| state.pending(map, after, limit))
    }

    fn claim_chunks(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<ClaimedChunk>> {
        let name = ("claim chunks", map, after, limit);
        self.write(Change, name, move |state, me| state.claim_chunks(me, map, after, limit))
    }

    fn settle_map(&self, settle: MapSettle) -> Answer<'_, MapSettled> {
        self.write(Change, settle.clone(), |state, me| state.settle_map(me, settle))
    }

    fn reset_failures(&self, map: MapId, first: u64) -> Answer<'_, MapRecord> {
        self.write(Change, ("reset failures", map, first), move |state, me| state.reset_failures(me, map, first))
    }

    fn map(&self, id: MapId) -> Answer<'_, Option<MapRecord>> {
        self.read(move |state| state.visible_map(id).map(|map| map.record.clone()))
    }

    fn inputs(&self, map: MapId, index: u64) -> Answer<'_, Option<(u64, Vec<StoredPayload>)>> {
        self.read(move |state| state.inputs(map, index))
    }

    fn map_input(&self, map: MapId, index: u64) -> Answer<'_, Option<Payload>> {
        self.read(move |state| state.map_input(map, index))
    }

    fn outcomes(&self, map: MapId, index: u64) -> Answer<'_, Option<Outcomes>> {
        self.read(move |state| state.outcomes(map, index))
    }

    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload> {
        self.read(move |_| payload(&stored))
    }

    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool> {
        self.write(Change, ("expire", app, until_ms), move |state, me| state.expire(me, app, until_ms))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        self.write(Change, "sweep", |state, me| state.sweep(me))
    }

    fn clock(&self) -> Answer<'_, Option<ClockMark>> {
        self.read(|state| state.clock)
    }

    fn keep_clock(&self, mark: ClockMark) -> Answer<'_, ()> {
        self.write(Change, "clock", move |state, _| {
            state.clock = Some(mark);
            Ok(())
        })
    }

    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>> {
        self.read(State::apps_with_ended)
    }

    fn quarantined(&self) -> usize {
        0
    }
}

impl Timetable for Host {
    fn schedules(&self) -> Answer<'_, Vec<StoredSchedule>> {
        self.read(State::schedules)
    }

    fn advance<'a>(&'a self, step: &'a ScheduleStep) -> Answer<'a, ()> {
        self.write(Add, step, |state, me| state.advance(me, step))
    }

    fn runs<'a>(&'a self, function: &'a FunctionId) -> Answer<'a, Vec<ScheduledRun>> {
        self.read(|state| state.runs(function))
    }
}

impl Apps for Host {
    fn records(&self) -> Answer<'_, Vec<(AppName, AppRecord)>> {
        self.read(State::records)
    }

    fn push<'a>(&'a self, app: &'a AppName, record: &'a AppRecord, displaced: &'a [u64]) -> Answer<'a, Pushed> {
        let name = ("push", app, record.number);
        self.write(Add, name, move |state, me| state.push(me, app, record, displaced))
    }
}

impl KeyValue for Host {
    fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    fn get<'a>(&'a self, place: Place<'a>) -> Answer<'a, Option<Bytes>> {
        self.read(move |state| state.value(place).cloned())
    }

    fn exists<'a>(&'a self, place: Place<'a>) -> Answer<'a, bool> {
        self.read(move |state| state.value(place).is_some())
    }

    fn get_many<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        keys: &'a [String],
        bytes_max: usize,
    ) -> Answer<'a, Option<Vec<Option<Bytes>>>> {
        let places: Vec<_> = keys.iter().map(|key| Place { app, bucket, key }).collect();
        self.read(move |state| state.get_many(&places, bytes_max))
    }

    fn set<'a>(&'a self, place: Place<'a>, value: Bytes, expires_ms: Option<u64>) -> Answer<'a, ()> {
        self.write(Add, ("set", place, expires_ms), move |state, me| state.set(me, place, value, expires_ms))
    }

    fn set_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, values: Vec<(String, Bytes)>) -> Answer<'a, ()> {
        self.write(Add, ("set many", app, bucket), move |state, me| {
            values.into_iter().try_for_each(|(key, value)| state.set(me, Place { app, bucket, key: &key }, value, None))
        })
    }

    fn delete<'a>(&'a self, place: Place<'a>) -> Answer<'a, ()> {
        self.write(Change, ("delete", place), move |state, me| state.delete(me, place))
    }

    fn delete_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, keys: &'a [String]) -> Answer<'a, ()> {
        self.write(Change, ("delete many", app, bucket), move |state, me| {
            keys.iter().try_for_each(|key| state.delete(me, Place { app, bucket, key }))
        })
    }

    fn keys<'a>(&'a self, query: KeyQuery<'a>) -> Answer<'a, KeyPage> {
        self.read(move |state| state.keys(query))
    }

    fn buckets<'a>(&'a self, app: &'a AppName, after: Option<&'a str>, len_max: usize) -> Answer<'a, KeyPage> {
        self.read(move |state| state.buckets(app, after, len_max))
    }

    fn swap<'a>(&'a self, place: Place<'a>, expected: Option<Bytes>, value: Bytes) -> Answer<'a, bool> {
        self.write(Add, ("swap", place), move |state, me| state.swap(me, place, expected.as_ref(), value))
    }

    fn increment<'a>(&'a self, place: Place<'a>, increment: Increment) -> Answer<'a, Incremented> {
        self.write(Add, ("increment", place), move |state, me| state.increment(me, place, increment))
    }

    fn expire(&self) -> Answer<'_, bool> {
        self.write(Change, "expire values", |state, me| state.expire_values(me))
    }
}

impl Blobs for Host {
    fn put<'a>(&'a self, digest: &'a [u8; 32], bytes: Bytes) -> Answer<'a, ()> {
        self.write(Add, "put blob", move |state, me| state.put_blob(me, digest, bytes))
    }

    fn get<'a>(&'a self, digest: &'a [u8; 32]) -> Answer<'a, Bytes> {
        Box::pin(self.run(Operation::Read, "blob", |state, _| state.blob(digest)))
    }

    fn sweep<'a>(&'a self, kept: &'a HashSet<[u8; 32]>) -> Answer<'a, ()> {
        self.write(Change, "sweep blobs", move |state, me| state.sweep_blobs(me, kept))
    }
}
