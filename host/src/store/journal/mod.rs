//! The journal on `store`.

mod calls;
mod claims;
mod expiry;
mod files;
mod maps;
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
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::claims::{Changes, FileClaims};
use super::codec::{CodecError, Reader};
use super::key::{self, Kind};
use super::quarantine::Quarantine;
use super::record::{CallRecord, MapHeader, MapProgress, MapRecord};
use super::{
    Answer, Chunk, ChunkUpdate, DamagedRow, Idempotency, Journal, JournalError, KeyedRecord, LeaseHolder, ListEntry,
    Observer, OpenCall, Outcomes, PendingChunk, Query, ScheduleStep, ScheduledRun, StoredPayload, StoredSchedule,
};
use crate::call::Payload;
use crate::failpoint;
use crate::ids::{AppName, CallId, FunctionId, HostId, MapId};
use crate::store::{Entry as Row, Op, Store, StoreDir, Table, Write};
use crate::tasks::blocking;

pub use self::peek::peek_quarantine;

/// The fail points around each kind of step.
const ACCEPT: [&str; 2] = ["journal.accept.before", "journal.accept.after"];
const ADVANCE: [&str; 2] = ["journal.advance.before", "journal.advance.after"];
const APPEND: [&str; 2] = ["journal.append.before", "journal.append.after"];
const CLOSE: [&str; 2] = ["journal.close.before", "journal.close.after"];
const LEASE: [&str; 2] = ["journal.lease.before", "journal.lease.after"];
const SETTLE: [&str; 2] = ["journal.settle.before", "journal.settle.after"];

/// The journal of a data directory.
#[derive(Clone)]
pub struct StoreJournal {
    dir: Arc<StoreDir>,
    claims: Arc<FileClaims>,
    /// Held while ended maps are marked as expiring, and while one begins to run again.
    expiry: Arc<tokio::sync::Mutex<()>>,
    /// Set once the journal was taken up.
    holder: Arc<OnceLock<LeaseHolder>>,
    quarantine: Arc<Quarantine>,
    observer: Option<Arc<dyn Observer>>,
}

impl StoreJournal {
    pub fn new(dir: Arc<StoreDir>) -> Self {
        Self {
            dir,
            claims: Arc::default(),
            expiry: Arc::default(),
            holder: Arc::default(),
            quarantine: Arc::default(),
            observer: None,
        }
    }

    /// Makes a journal that tells an observer of its changes.
    pub fn observed(dir: Arc<StoreDir>, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..Self::new(dir) }
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(&**observer);
        }
    }

    async fn take_up(&self) -> Result<LeaseHolder, JournalError> {
        if let Some(holder) = self.holder.get() {
            return Ok(*holder);
        }
        self.load_quarantine().await?;
        let holder = LeaseHolder { owner: HostId::generate(), epoch: self.dir.store()?.raise_epoch().await? };
        Ok(*self.holder.get_or_init(|| holder))
    }

    /// Returns the holder of the leases that are written now.
    fn holder(&self) -> Option<LeaseHolder> {
        self.holder.get().copied()
    }

    /// Writes between two points at which a test can have the process killed.
    async fn write_between(
        &self,
        write: Write,
        [before, after]: [&'static str; 2],
        ops: Vec<Op>,
    ) -> Result<(), JournalError> {
        failpoint::hit(before);
        let store = self.dir.store()?;
        let epoch = self.holder().map(|holder| holder.epoch);
        match write {
            Write::New => store.write_in(epoch, ops).await?,
            Write::Essential => store.submit_in(epoch, write, ops).await?,
        }
        failpoint::hit(after);
        Ok(())
    }

    /// Commits changes, with which the claims on their files end.
    async fn commit(&self, write: Write, points: [&'static str; 2], changes: Changes) -> Result<(), JournalError> {
        let Changes { ops, claims: _claims } = changes;
        self.write_between(write, points, ops).await
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

impl Journal for StoreJournal {
    fn take_up(&self) -> Answer<'_, LeaseHolder> {
        Box::pin(self.take_up())
    }

    fn accept_call<'a>(
        &'a self,
        record: &'a CallRecord,
        input: Payload,
        idempotency: Option<&'a Idempotency>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.accept_call(record, input, idempotency).await?;
            self.observe(|observer| observer.call_changed(record));
            Ok(())
        })
    }

    fn save_call<'a>(&'a self, record: &'a CallRecord, output: Option<Payload>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.save_call(record, output).await?;
            self.observe(|observer| {
                observer.call_changed(record);
                // The same commit ends the run.
                if record.run.is_some() && record.state.is_terminal() {
                    observer.schedule_changed(&record.function_id());
                }
            });
            Ok(())
        })
    }

    fn call(&self, id: CallId) -> Answer<'_, Option<CallRecord>> {
        Box::pin(self.call(id))
    }

    fn call_input(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        Box::pin(self.call_payload(Table::CallInputs, id))
    }

    fn call_output(&self, id: CallId) -> Answer<'_, Option<Payload>> {
        Box::pin(self.call_payload(Table::CallOutputs, id))
    }

    fn open_calls(&self, after: Option<CallId>, limit: usize) -> Answer<'_, Vec<OpenCall>> {
        Box::pin(self.open_calls(after, limit))
    }

    fn keyed<'a>(&'a self, function: &'a FunctionId, key: &'a str) -> Answer<'a, Option<KeyedRecord>> {
        Box::pin(self.keyed(function, key))
    }

    fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Answer<'_, Vec<(Kind, [u8; 16])>> {
        Box::pin(self.children(parent, after, limit))
    }

    fn list(&self, query: Query) -> Answer<'_, (Vec<ListEntry>, Option<[u8; 16]>)> {
        Box::pin(self.list(query))
    }

    fn advance_schedules<'a>(&'a self, step: &'a ScheduleStep) -> Answer<'a, ()> {
        Box::pin(async move {
            self.advance_schedules(step).await?;
            self.observe(|observer| {
                step.begun.iter().for_each(|(call, _)| observer.call_changed(call));
                step.interrupted.iter().for_each(|call| observer.call_changed(call));
                step.functions().for_each(|function| observer.schedule_changed(function));
            });
            Ok(())
        })
    }

    fn schedules(&self) -> Answer<'_, Vec<StoredSchedule>> {
        Box::pin(self.schedules())
    }

    fn schedule_runs<'a>(&'a self, function: &'a FunctionId) -> Answer<'a, Vec<ScheduledRun>> {
        Box::pin(self.schedule_runs(function))
    }

    fn create_map<'a>(&'a self, header: &'a MapHeader, idempotency: Option<&'a Idempotency>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.create_map(header, idempotency).await?;
            self.observe(|observer| observer.map_changed(header.id));
            Ok(())
        })
    }

    fn save_map<'a>(&'a self, header: &'a MapHeader) -> Answer<'a, ()> {
        Box::pin(async move {
            self.save_map(header).await?;
            self.observe(|observer| observer.map_changed(header.id));
            Ok(())
        })
    }

    fn append<'a>(
        &'a self,
        header: &'a MapHeader,
        first: u64,
        inputs: Vec<Payload>,
        is_leased: bool,
    ) -> Answer<'a, Vec<PendingChunk>> {
        Box::pin(async move {
            let pending = self.append(header, first, inputs, is_leased).await?;
            self.observe(|observer| observer.map_changed(header.id));
            Ok(pending)
        })
    }

    fn pending(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<PendingChunk>> {
        Box::pin(self.pending(map, after, limit))
    }

    fn chunk(&self, map: MapId, first: u64) -> Answer<'_, Option<Chunk>> {
        Box::pin(self.chunk(map, first))
    }

    fn lease<'a>(&'a self, map: MapId, chunks: &'a [PendingChunk]) -> Answer<'a, ()> {
        Box::pin(self.lease(map, chunks))
    }

    fn settle<'a>(
        &'a self,
        header: &'a MapHeader,
        progress: &'a MapProgress,
        chunks: Vec<ChunkUpdate>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.settle(header, progress, chunks).await?;
            self.observe(|observer| observer.map_changed(header.id));
            Ok(())
        })
    }

    fn map(&self, id: MapId) -> Answer<'_, Option<MapRecord>> {
        Box::pin(self.map(id))
    }

    fn open_maps(&self, after: Option<MapId>, limit: usize) -> Answer<'_, Vec<MapRecord>> {
        Box::pin(self.open_maps(after, limit))
    }

    fn inputs(&self, map: MapId, index: u64) -> Answer<'_, Option<(u64, Vec<StoredPayload>)>> {
        Box::pin(self.inputs(map, index))
    }

    fn map_input(&self, map: MapId, index: u64) -> Answer<'_, Option<Payload>> {
        Box::pin(self.map_input(map, index))
    }

    fn outcomes(&self, map: MapId, index: u64) -> Answer<'_, Option<Outcomes>> {
        Box::pin(self.outcomes(map, index))
    }

    fn reset_failures<'a>(&'a self, before: &'a MapRecord, after: &'a MapRecord, first: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            self.reset_failures(before, after, first).await?;
            self.observe(|observer| observer.map_changed(after.header.id));
            Ok(())
        })
    }

    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload> {
        Box::pin(self.payload(stored))
    }

    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool> {
        Box::pin(self.expire(app, until_ms))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(self.sweep())
    }

    fn quarantined(&self) -> usize {
        self.quarantine.rows()
    }

    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>> {
        Box::pin(self.apps_with_ended())
    }
}
