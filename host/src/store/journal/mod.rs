//! The journal of a data directory: durable calls, maps and schedules as rows of the store.
//!
//! Invariants: a row is encoded before the write that puts it, off the writer's thread; whatever a write depends on is
//! looked at by a decider of the same transaction; counts and observers follow each commit, also where nobody waits for
//! its answer.

mod accept;
mod calls;
mod claims;
mod clock;
mod counts;
mod error;
mod expiry;
mod files;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod layout;
mod map_writes;
mod maps;
mod members;
mod peek;
mod quarantine;
#[cfg(test)]
mod quarantine_tests;
mod records;
#[cfg(test)]
mod rows;
mod schedules;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use self::claims::FileClaims;
use self::counts::{NewestId, OpenCounts};
use self::error::JournalError;
use self::layout::codec::{CodecError, Reader};
use self::layout::key;
use self::layout::quarantine::{DamagedRow, Quarantine};
use super::{Changes, Decider, Entry as Row, Op, Store, StoreDir, Table, View, ViewError, Write};
use crate::call::Payload;
use crate::clock::unix_ms;
use crate::failpoint;
use crate::ids::{AppName, CallId, FunctionId, MapId, Version};
use crate::storage::{
    Accept, Accepted, Answer, Append, Appended, Beat, CallRecord, CallSettle, Claimed, ClaimedChunk, ClockMark, Counts,
    Idempotency, Journal, KeyedRecord, Kind, LeaseHolder, ListEntry, MapMark, MapRecord, MapSettle, MapSettled,
    Members, Observer, OpenCall, Outcomes, PendingChunk, Query, ScheduleStep, ScheduledRun, Settled, StoredPayload,
    StoredSchedule, Timetable,
};
use crate::tasks::{blocking, to_the_end};

pub(crate) use self::layout::quarantine::{Owner, QuarantinedRow};
pub(crate) use self::peek::{Quarantined, peek_quarantine};

/// The fail points around each kind of step.
const ACCEPT: [&str; 2] = ["journal.accept.before", "journal.accept.after"];
const ADVANCE: [&str; 2] = ["journal.advance.before", "journal.advance.after"];
const APPEND: [&str; 2] = ["journal.append.before", "journal.append.after"];
const CLOSE: [&str; 2] = ["journal.close.before", "journal.close.after"];
const LEASE: [&str; 2] = ["journal.lease.before", "journal.lease.after"];
const SETTLE: [&str; 2] = ["journal.settle.before", "journal.settle.after"];

/// The journal of a data directory.
#[derive(Clone)]
pub(crate) struct StoreJournal {
    dir: Arc<StoreDir>,
    claims: Arc<FileClaims>,
    /// Held while ended maps are marked as expiring, and while one begins to run again.
    expiry: Arc<tokio::sync::Mutex<()>>,
    /// Set once the host has joined.
    holder: Arc<OnceCell<LeaseHolder>>,
    counts: Arc<OpenCounts>,
    newest: Arc<NewestId>,
    quarantine: Arc<Quarantine>,
    observer: Option<Arc<dyn Observer>>,
}

impl StoreJournal {
    pub(crate) fn new(dir: Arc<StoreDir>) -> Self {
        Self {
            dir,
            claims: Arc::default(),
            expiry: Arc::default(),
            holder: Arc::default(),
            counts: Arc::default(),
            newest: Arc::default(),
            quarantine: Arc::default(),
            observer: None,
        }
    }

    /// Makes a journal that tells an observer of its changes.
    pub(crate) fn observed(dir: Arc<StoreDir>, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..Self::new(dir) }
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(&**observer);
        }
    }

    /// Returns the holder of the leases that are written now.
    fn holder(&self) -> Option<LeaseHolder> {
        self.holder.get().copied()
    }

    /// Refuses a holder whose place another has taken.
    fn check_epoch(&self, holder: LeaseHolder) -> Result<(), JournalError> {
        Ok(self.dir.store()?.check_epoch(holder.epoch)?)
    }

    /// Writes between two points at which a test can have the process killed.
    async fn write_between(
        &self,
        write: Write,
        [before, after]: [&'static str; 2],
        ops: Vec<Op>,
    ) -> Result<(), JournalError> {
        failpoint::hit(before);
        let epoch = self.holder().map(|holder| holder.epoch);
        self.dir.store()?.commit(epoch, write, ops).await?;
        failpoint::hit(after);
        Ok(())
    }

    /// Writes new work between two points, within the share of all that has the same `line`.
    async fn write_within_share(
        &self,
        line: &str,
        [before, after]: [&'static str; 2],
        ops: Vec<Op>,
    ) -> Result<(), JournalError> {
        failpoint::hit(before);
        let epoch = self.holder().map(|holder| holder.epoch);
        self.dir.store()?.write_within_share(epoch, line, ops).await?;
        failpoint::hit(after);
        Ok(())
    }

    /// Decides within the transaction, as a [`Decider`] does, and writes between two points.
    async fn decide_between<S, T>(
        &self,
        write: Write,
        points: [&'static str; 2],
        bytes: usize,
        state: S,
        decide: impl for<'a> Fn(&'a S, &View<'_>) -> Result<(Changes<'a>, T), ViewError> + Send + Sync + 'static,
    ) -> Result<T, JournalError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (decider, decided) = Decider::new(bytes, state, decide);
        self.write_between(write, points, vec![Op::Decide(decider)]).await?;
        Ok(decided.take())
    }

    /// Reads off the runtime's threads: a row may have to come from disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self, &Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let this = self.clone();
        blocking(move || read(&this, this.dir.store()?)).await
    }
}

/// Reads a row, or says which one cannot be read.
fn parsed<T, E: std::fmt::Display>(table: Table, key: &[u8], read: Result<T, E>) -> Result<T, JournalError> {
    read.map_err(|error| {
        JournalError::Damaged(Box::new(DamagedRow { table, key: key.to_vec(), reason: error.to_string() }))
    })
}

/// Reads a record, or says which one cannot be read.
fn record<T: DeserializeOwned>(table: Table, key: &[u8], row: &[u8]) -> Result<T, JournalError> {
    parsed(table, key, serde_json::from_slice(row))
}

fn row<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys only")
}

fn put(table: Table, key: Vec<u8>, value: Vec<u8>) -> Op {
    Op::Put { table, key, value }
}

fn delete(table: Table, key: Vec<u8>) -> Op {
    Op::Delete { table, key }
}

/// Returns the bytes that changes count for among the waiting writes.
fn ops_bytes(ops: &[Op]) -> usize {
    ops.iter().map(Op::bytes).sum()
}

/// Returns rows whose keys begin with `prefix`, those behind `after`.
fn rows(
    store: &Store,
    table: Table,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Row>, JournalError> {
    let end = key::after(prefix);
    let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
    Ok(store.range(table, (start, Bound::Excluded(&end)), limit, false)?)
}

/// Keeps what was made with an idempotency key.
fn keyed(function: &FunctionId, idempotency: &Idempotency, kind: Kind, id: &[u8; 16]) -> Op {
    let tag = match kind {
        Kind::Call => 0,
        Kind::Map => 1,
    };
    let value = [&[tag], id.as_slice(), &idempotency.fingerprint].concat();
    put(Table::JournalIndex, key::idempotency(function, &idempotency.key), value)
}

fn read_keyed(row: Vec<u8>) -> Result<KeyedRecord, CodecError> {
    let mut reader = Reader::new(row);
    let kind = if reader.byte()? == 0 { Kind::Call } else { Kind::Map };
    let id = reader.take(16)?.as_ref().try_into().expect("it took as many");
    let fingerprint = reader.take(32)?.as_ref().try_into().expect("it took as many");
    Ok(KeyedRecord { kind, id, fingerprint })
}

/// Boxes an answer.
fn answer<'a, T>(work: impl Future<Output = Result<T, JournalError>> + Send + 'a) -> Answer<'a, T> {
    Box::pin(async move { Ok(work.await?) })
}

impl StoreJournal {
    /// Boxes the answer of a write that goes on though its caller is dropped, as the store's part of it does: counts
    /// and observers follow it.
    fn whole<T: Send + 'static, W>(&self, write: impl FnOnce(Self) -> W) -> Answer<'static, T>
    where
        W: Future<Output = Result<T, JournalError>> + Send + 'static,
    {
        answer(to_the_end(write(self.clone())))
    }
}

impl Journal for StoreJournal {
    fn now_ms(&self) -> u64 {
        unix_ms()
    }

    fn accept(&self, new: Vec<Accept>) -> Answer<'_, Vec<Accepted>> {
        self.whole(|this| async move { this.accept(new).await })
    }

    fn claim(&self, call: CallId, version: Option<Version>) -> Answer<'_, Claimed> {
        self.whole(move |this| async move { this.claim(call, version).await })
    }

    fn settle(&self, settle: CallSettle) -> Answer<'_, Settled> {
        self.whole(|this| async move { this.settle(settle).await })
    }

    fn call(&self, id: CallId) -> Answer<'_, Option<CallRecord>> {
        answer(self.call(id))
    }

    fn call_input(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        answer(self.call_payload(Table::CallInputs, id))
    }

    fn call_output(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        answer(self.call_payload(Table::CallOutputs, id))
    }

    fn held(&self, after: Option<CallId>, limit: usize) -> Answer<'_, Vec<OpenCall>> {
        answer(self.open_calls(after, limit))
    }

    fn held_maps(&self, after: Option<MapId>, limit: usize) -> Answer<'_, Vec<MapRecord>> {
        answer(self.open_maps(after, limit))
    }

    fn open(&self) -> Counts {
        self.counts.total()
    }

    fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Answer<'_, Vec<(Kind, [u8; 16])>> {
        answer(self.children(parent, after, limit))
    }

    fn list(&self, query: Query) -> Answer<'_, (Vec<ListEntry>, Option<[u8; 16]>)> {
        answer(self.list(query))
    }

    fn append(&self, append: Append) -> Answer<'_, Appended> {
        self.whole(|this| async move { this.append(append).await })
    }

    fn mark(&self, map: MapId, mark: MapMark) -> Answer<'_, Option<MapRecord>> {
        self.whole(move |this| async move { this.mark(map, mark).await })
    }

    fn pending(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<PendingChunk>> {
        answer(self.pending(map, after, limit))
    }

    fn claim_chunks(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<ClaimedChunk>> {
        answer(self.claim_chunks(map, after, limit))
    }

    fn settle_map(&self, settle: MapSettle) -> Answer<'_, MapSettled> {
        self.whole(|this| async move { this.settle_map(settle, unix_ms()).await })
    }

    fn reset_failures(&self, map: MapId, first: u64) -> Answer<'_, MapRecord> {
        self.whole(move |this| async move { this.reset_failures(map, first).await })
    }

    fn map(&self, id: MapId) -> Answer<'_, Option<MapRecord>> {
        answer(self.map(id))
    }

    fn inputs(&self, map: MapId, index: u64) -> Answer<'_, Option<(u64, Vec<StoredPayload>)>> {
        answer(self.inputs(map, index))
    }

    fn map_input(&self, map: MapId, index: u64) -> Answer<'_, Option<Payload>> {
        answer(self.map_input(map, index))
    }

    fn outcomes(&self, map: MapId, index: u64) -> Answer<'_, Option<Outcomes>> {
        answer(self.outcomes(map, index))
    }

    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload> {
        answer(self.payload(stored))
    }

    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool> {
        answer(self.expire(app, until_ms))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        answer(self.sweep())
    }

    fn clock(&self) -> Answer<'_, Option<ClockMark>> {
        answer(self.clock())
    }

    fn keep_clock(&self, mark: ClockMark) -> Answer<'_, ()> {
        self.whole(move |this| async move { this.keep_clock(mark).await })
    }

    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>> {
        answer(self.apps_with_ended())
    }

    fn quarantined(&self) -> usize {
        self.quarantine.rows()
    }
}

impl Timetable for StoreJournal {
    fn schedules(&self) -> Answer<'_, Vec<StoredSchedule>> {
        answer(self.schedules())
    }

    fn advance<'a>(&'a self, step: &'a ScheduleStep) -> Answer<'a, ()> {
        answer(self.advance(step))
    }

    fn runs<'a>(&'a self, function: &'a FunctionId) -> Answer<'a, Vec<ScheduledRun>> {
        answer(self.runs(function))
    }
}

impl Members for StoreJournal {
    fn join(&self) -> Answer<'_, LeaseHolder> {
        answer(self.take_up())
    }

    fn beat(&self) -> Answer<'_, Beat> {
        answer(self.beat())
    }
}
