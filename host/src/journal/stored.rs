//! The journal on `store`.

mod calls;
mod expiry;
mod files;
mod maps;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::Reader;
use super::key::{self, Kind};
use super::record::{CallRecord, MapHeader, MapProgress, MapRecord};
use super::{
    Answer, Chunk, ChunkUpdate, Idempotency, Journal, JournalError, KeyedRecord, Lease, LeaseHolder, ListEntry,
    OpenCall, Outcomes, PayloadPlace, PendingChunk, Query, StoredPayload,
};
use crate::call::Payload;
use crate::failpoint;
use crate::ids::{AppName, CallId, FunctionId, HostId, MapId};
use crate::store::{Entry as Row, Op, Store, StoreDir, Table, Write};
use crate::tasks::blocking;

/// The fail points around each kind of step.
const ACCEPT: [&str; 2] = ["journal.accept.before", "journal.accept.after"];
const APPEND: [&str; 2] = ["journal.append.before", "journal.append.after"];
const CLOSE: [&str; 2] = ["journal.close.before", "journal.close.after"];
const LEASE: [&str; 2] = ["journal.lease.before", "journal.lease.after"];
const SETTLE: [&str; 2] = ["journal.settle.before", "journal.settle.after"];
const EXPIRE: [&str; 2] = ["journal.expire.before", "journal.expire.after"];

/// The journal of a data directory.
#[derive(Clone)]
pub struct StoreJournal {
    dir: Arc<StoreDir>,
    /// Shared from the writing of a file to the commit of its reference; held alone while files are removed.
    files: Arc<tokio::sync::RwLock<()>>,
    /// Set once the journal was taken up.
    holder: Arc<OnceLock<LeaseHolder>>,
}

impl StoreJournal {
    pub fn new(dir: Arc<StoreDir>) -> Self {
        Self { dir, files: Arc::default(), holder: Arc::default() }
    }

    async fn take_up(&self) -> Result<LeaseHolder, JournalError> {
        if let Some(holder) = self.holder.get() {
            return Ok(*holder);
        }
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

    /// Reads off the runtime's threads: a row may have to come from disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self, &Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let this = self.clone();
        blocking(move || read(&this, this.dir.store()?)).await
    }
}

fn record<T: DeserializeOwned>(row: &[u8]) -> Result<T, JournalError> {
    serde_json::from_slice(row).map_err(|source| JournalError::Record { source: Arc::new(source) })
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

fn read_keyed(row: Vec<u8>) -> Result<KeyedRecord, JournalError> {
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
        Box::pin(self.accept_call(record, input, idempotency))
    }

    fn save_call<'a>(&'a self, record: &'a CallRecord, output: Option<Payload>) -> Answer<'a, ()> {
        Box::pin(self.save_call(record, output))
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

    fn create_map<'a>(&'a self, header: &'a MapHeader, idempotency: Option<&'a Idempotency>) -> Answer<'a, ()> {
        Box::pin(self.create_map(header, idempotency))
    }

    fn save_map<'a>(&'a self, header: &'a MapHeader) -> Answer<'a, ()> {
        Box::pin(self.save_map(header))
    }

    fn append<'a>(
        &'a self,
        header: &'a MapHeader,
        first: u64,
        inputs: Vec<Payload>,
        is_leased: bool,
    ) -> Answer<'a, Vec<PendingChunk>> {
        Box::pin(self.append(header, first, inputs, is_leased))
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
        Box::pin(self.settle(header, progress, chunks))
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
        Box::pin(self.reset_failures(before, after, first))
    }

    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload> {
        Box::pin(self.payload(stored))
    }

    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool> {
        Box::pin(self.expire(app, until_ms))
    }

    fn sweep_files(&self) -> Answer<'_, ()> {
        Box::pin(self.sweep_files())
    }

    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>> {
        Box::pin(self.apps_with_ended())
    }
}
