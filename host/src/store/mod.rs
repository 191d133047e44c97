//! The embedded database: one redb file, one writer with group commit. The only module that knows redb.
//!
//! Invariants: `write` returns after fsync, never before; all operations of one `write` are applied or none; a failed
//! commit poisons the writer (an fsync error must not be retried: the page cache may have dropped what it could not
//! write), after which every write fails with `Poisoned`.
//!
//! Limits: `WRITES_WAITING_MAX` writes of `WRITES_WAITING_BYTES_MAX` together wait; one commit takes as many of them as fit `COMMIT_BYTES_MAX`.

mod backend;
mod dir;
mod lock;

use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use backend::{Faults, Watched};

use crate::failpoint;

pub use dir::StoreDir;
pub use lock::DataLock;

const WRITES_WAITING_MAX: usize = 1_024;
const WRITES_WAITING_BYTES_MAX: usize = 64 << 20;
const COMMIT_BYTES_MAX: usize = 32 << 20;
/// Pages that redb may keep in memory.
const CACHE_BYTES: usize = 64 << 20;

/// A table: ordered byte strings to byte strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Guests' key-value data (`kv`).
    KeyValue,
    /// What was deployed, stopped and rolled back (`deploy`).
    Deployments,
    /// Durable calls (`journal`): what each is and where it stands.
    Calls,
    /// Their inputs.
    CallInputs,
    /// Their outputs.
    CallOutputs,
    /// What finds calls and maps by something else than their id (`journal::key`).
    JournalIndex,
    /// Durable maps (`journal`): what each is and where it stands.
    Maps,
    /// Their inputs, in chunks.
    MapInputs,
    /// Chunks of which not every input has its outcome, and their leases.
    MapPending,
    /// Their outcomes, in segments.
    MapResults,
}

impl Table {
    const ALL: [Table; 10] = [
        Table::KeyValue,
        Table::Deployments,
        Table::Calls,
        Table::CallInputs,
        Table::CallOutputs,
        Table::JournalIndex,
        Table::Maps,
        Table::MapInputs,
        Table::MapPending,
        Table::MapResults,
    ];

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        match self {
            Table::KeyValue => TableDefinition::new("key-value"),
            Table::Deployments => TableDefinition::new("deployments"),
            Table::Calls => TableDefinition::new("calls"),
            Table::CallInputs => TableDefinition::new("call-inputs"),
            Table::CallOutputs => TableDefinition::new("call-outputs"),
            Table::JournalIndex => TableDefinition::new("journal-index"),
            Table::Maps => TableDefinition::new("maps"),
            Table::MapInputs => TableDefinition::new("map-inputs"),
            Table::MapPending => TableDefinition::new("map-pending"),
            Table::MapResults => TableDefinition::new("map-results"),
        }
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One change.
#[derive(Debug)]
pub enum Op {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    Delete { table: Table, key: Vec<u8> },
}

impl Op {
    fn table(&self) -> Table {
        match self {
            Op::Put { table, .. } | Op::Delete { table, .. } => *table,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
        }
    }
}

/// A database that cannot serve.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot open the database `{}`", path.display())]
    Open { path: PathBuf, source: Arc<redb::DatabaseError> },
    #[error("cannot use the data directory `{}`", dir.display())]
    Directory { dir: PathBuf, source: Arc<std::io::Error> },
    #[error("the data directory `{}` is in use by process {holder}; stop it or give another with --data DIR", dir.display())]
    InUse { dir: PathBuf, holder: String },
    #[error("the database cannot be read")]
    Read { source: Arc<redb::Error> },
    #[error("the database could not commit; is the disk full?")]
    Commit { source: Arc<redb::Error> },
    #[error("an earlier commit failed, so nothing more is written; restart bireme once the disk is well")]
    Poisoned,
}

impl StoreError {
    /// Whether there is no room now and may be later.
    pub fn is_full(&self) -> bool {
        false
    }
}

fn read_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Read { source: Arc::new(error.into()) }
}

struct Write {
    ops: Vec<Op>,
    /// Room among the waiting writes, given back once this one is committed.
    _room: Option<OwnedSemaphorePermit>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// An open database. Dropping it finishes the writes that were accepted.
pub struct Store {
    db: Arc<Database>,
    writes: Option<mpsc::Sender<Write>>,
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or creates the database file at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || -> Result<Database, redb::DatabaseError> {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let file = Watched::new(Box::new(FileBackend::new(file)?), Arc::new(Faults::default()));
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)
        };
        let db = open().map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
        // Reading needs the tables to exist.
        commit(&db, &[], true).map_err(|source| StoreError::Commit { source })?;

        let db = Arc::new(db);
        let (writes, queue) = mpsc::channel(WRITES_WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let db = db.clone();
                move || write_loop(&db, queue)
            })
            .map_err(|source| StoreError::Directory { dir: path.to_owned(), source: Arc::new(source) })?;
        Ok(Self {
            db,
            writes: Some(writes),
            room: Arc::new(Semaphore::new(WRITES_WAITING_BYTES_MAX)),
            writer: Some(writer),
        })
    }

    /// Applies all of `ops`, or none, and returns once they are on disk. Cancelling the future does not cancel the write.
    pub async fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let writes = self.writes.as_ref().expect("only drop takes the sender");
        let bytes = ops.iter().map(Op::bytes).sum::<usize>().min(WRITES_WAITING_BYTES_MAX);
        let room = self.room.clone().acquire_many_owned(bytes as u32).await.map_err(|_| StoreError::Poisoned)?;
        writes.send(Write { ops, _room: Some(room), done }).await.map_err(|_| StoreError::Poisoned)?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// Returns the value under `key`. Blocks while it is read and copied: some milliseconds for the largest.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.db.begin_read().map_err(read_error)?;
        let table = read.open_table(table.definition()).map_err(read_error)?;
        Ok(table.get(key).map_err(read_error)?.map(|value| value.value().to_vec()))
    }

    /// Returns whether `key` has a value.
    pub fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let read = self.db.begin_read().map_err(read_error)?;
        let table = read.open_table(table.definition()).map_err(read_error)?;
        Ok(table.get(key).map_err(read_error)?.is_some())
    }

    /// Returns all keys and values of a table, in order. For small tables, at start.
    pub fn entries(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        let read = self.db.begin_read().map_err(read_error)?;
        let table = read.open_table(table.definition()).map_err(read_error)?;
        let mut entries = Vec::new();
        for entry in table.range::<&[u8]>(..).map_err(read_error)? {
            let (key, value) = entry.map_err(read_error)?;
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }

    /// Returns up to `limit` keys with `prefix`, in order, those behind `after` if it is given. Reads no more than these.
    pub fn keys(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let read = self.db.begin_read().map_err(read_error)?;
        let table = read.open_table(table.definition()).map_err(read_error)?;
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut keys = Vec::new();
        for entry in table.range::<&[u8]>((start, Bound::Unbounded)).map_err(read_error)?.take(limit) {
            let (key, _) = entry.map_err(read_error)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_vec());
        }
        Ok(keys)
    }

    /// Returns up to `limit` entries between two keys, in order or, with `reverse`, from the last one on. Reads no more than these.
    pub fn range(
        &self,
        table: Table,
        between: (Bound<&[u8]>, Bound<&[u8]>),
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        let read = self.db.begin_read().map_err(read_error)?;
        let table = read.open_table(table.definition()).map_err(read_error)?;
        let mut range = table.range::<&[u8]>(between).map_err(read_error)?;
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(entry) = (if reverse { range.next_back() } else { range.next() }) else { break };
            let (key, value) = entry.map_err(read_error)?;
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the channel ends the loop after what it holds.
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_loop(db: &Database, mut queue: mpsc::Receiver<Write>) {
    let mut group = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        let mut bytes: usize = first.ops.iter().map(Op::bytes).sum();
        group.push(first);
        while bytes < COMMIT_BYTES_MAX {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.ops.iter().map(Op::bytes).sum::<usize>();
            group.push(next);
        }
        failpoint::hit("store.commit.before");
        let result = commit(db, &group, false).map_err(|source| StoreError::Commit { source });
        failpoint::hit("store.commit.after");
        let failed = result.is_err();
        for write in group.drain(..) {
            let _ = write.done.send(result.clone());
        }
        if failed {
            // Dropping the receiver makes every later write `Poisoned`.
            return;
        }
    }
}

/// Applies the group in one transaction; `creates` says that all tables shall exist afterwards.
fn commit(db: &Database, group: &[Write], creates: bool) -> Result<(), Arc<redb::Error>> {
    let apply = || -> Result<(), redb::Error> {
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        for table in Table::ALL {
            let mut ops = group.iter().flat_map(|write| &write.ops).filter(|op| op.table() == table).peekable();
            // Opening a table for writing touches its page; most groups are of one table.
            if ops.peek().is_none() && !creates {
                continue;
            }
            let mut open = transaction.open_table(table.definition())?;
            for op in ops {
                match op {
                    Op::Put { key, value, .. } => drop(open.insert(key.as_slice(), value.as_slice())?),
                    Op::Delete { key, .. } => drop(open.remove(key.as_slice())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    };
    apply().map_err(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Op {
        Op::Put { table: Table::KeyValue, key: key.into(), value: value.into() }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        {
            let store = Store::open(&path).unwrap();
            let writes = (0..100).map(|i| store.write(vec![put(&format!("k{i:03}"), "v")]));
            for result in futures_util::future::join_all(writes).await {
                result.unwrap();
            }
            store.write(vec![Op::Delete { table: Table::KeyValue, key: b"k007".to_vec() }]).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get(Table::KeyValue, b"k042").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(store.get(Table::KeyValue, b"k007").unwrap(), None);
        assert_eq!(store.keys(Table::KeyValue, b"k0", None, 1_000).unwrap().len(), 99);
        assert_eq!(
            store.keys(Table::KeyValue, b"k0", Some(b"k097"), 10).unwrap(),
            [b"k098".to_vec(), b"k099".to_vec()]
        );
        assert_eq!(store.keys(Table::KeyValue, b"k09", None, 2).unwrap(), [b"k090".to_vec(), b"k091".to_vec()]);
    }
}
