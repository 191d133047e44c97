//! The embedded database: one redb file, one writer with group commit. The only module that knows redb.
//!
//! Invariants:
//! - What was answered with `Ok` is on disk: the answer comes after fsync, never before. Of one write all changes are
//!   applied or none.
//! - A decider sees every write before it and none after it, those of its own group included: what it changes is
//!   exactly what it saw.
//! - Writes are applied in the order in which `submit` was called: what is committed is a prefix of what was submitted,
//!   less what was answered with an error. `write` submits once there is room for it, in the order of those who wait
//!   for room.
//! - A write of an epoch is refused (`Fenced`) if a later one was raised before it: epochs are compared in the order in
//!   which writes are applied. Between processes the lock of the directory is what keeps two from writing.
//! - A full disk costs the writes that met it (`Full`) and nothing else; the store goes on by itself once there is
//!   room.
//! - An fsync that failed is never tried again, because the kernel may have dropped what it could not write: the store
//!   is `Poisoned` from then on, and [`Store::failed`] tells whoever must stop the process.
//!
//! Limits: `WRITES_WAITING_BYTES_MAX` of writes wait, each counted as `WRITE_BYTES_MIN` at least, of one app
//! `WRITES_WAITING_APP_BYTES_MAX`; one commit takes as many as fit `COMMIT_BYTES_MAX`. Under `STORE_FREE_BYTES_MIN` of
//! free disk no new work is written, under `STORE_RESERVE_BYTES_MIN` nothing but what makes room; pages that are free
//! within the file count as free disk (`space`). One app keeps at most its quota (`usage`).

mod apps;
mod backend;
mod blobs;
mod compact;
#[cfg(test)]
mod conformance;
mod dir;
mod durable;
mod engine;
mod error;
mod file;
mod files;
mod format;
#[cfg(test)]
mod full_disk_tests;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod journal;
mod key_value;
mod lock;
mod medium;
mod op;
mod overlay;
mod peek;
mod quota;
mod read;
mod refusals;
mod reserve;
mod shares;
#[cfg(test)]
pub(crate) mod sim_disk;
#[cfg(test)]
pub(crate) mod snapshot;
mod space;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod usage;
mod view;
mod write;
mod writer;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

#[cfg(test)]
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

pub(crate) use compact::{FileSpace, OfflineDatabase, file_space};
pub(crate) use dir::{StoreDir, database_bytes, has_database};
pub(crate) use engine::engine;
pub(crate) use error::StoreError;
use file::{DatabaseFile, Health};
pub(crate) use files::Files;
pub(crate) use journal::{Quarantined, QuarantinedRow, StoreJournal, peek_quarantine};
pub(crate) use lock::DataLock;
pub(crate) use medium::{DiskFile, Medium};
pub use op::Op;
pub(crate) use op::{Changes, Decider};
pub(crate) use quota::over_quota;
use refusals::Refusals;
use shares::Shares;
pub(crate) use table::Entry;
pub use table::Table;
pub(crate) use usage::AppUsage;
use usage::Usage;
pub(crate) use view::{View, ViewError};
pub(crate) use write::Write;
use writer::{QueuedWrite, Writer};

use crate::ids::AppName;
use crate::metrics::StoreCounters;
use crate::storage::OverQuota;

const WRITES_WAITING_BYTES_MAX: usize = 64 << 20;
/// What a small write counts for, so that at most 1,024 wait.
const WRITE_BYTES_MIN: usize = 64 << 10;
const EPOCH: &[u8] = b"epoch";

/// An open database. Dropping it finishes the writes that were submitted.
pub struct Store {
    file: Arc<DatabaseFile>,
    queue: Option<mpsc::Sender<QueuedWrite>>,
    room: Arc<Semaphore>,
    /// The highest epoch that was raised here, whose writes and those without an epoch are taken.
    epoch: Arc<AtomicU64>,
    usage: Arc<Usage>,
    shares: Shares,
    refusals: Arc<Refusals>,
    writer: Option<JoinHandle<()>>,
}

/// The answer to a write, once it is on disk. Dropping it does not cancel the write.
#[must_use = "a write may fail"]
pub(crate) struct PendingWrite {
    answer: oneshot::Receiver<Result<(), StoreError>>,
    file: Arc<DatabaseFile>,
}

impl Future for PendingWrite {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Only a writer that panicked leaves no answer.
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(self.file.poisoned_by(None))))
    }
}

impl Store {
    /// Opens or creates the database file at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(DiskFile::new(path)), watch::Sender::new(None), Arc::default())
    }

    /// Opens or creates the database that lies on `medium`; `health` learns why it stopped for good.
    pub(crate) fn open_on(
        medium: Arc<dyn Medium>,
        health: Health,
        counters: Arc<StoreCounters>,
    ) -> Result<Self, StoreError> {
        let path = medium.path().to_owned();
        let file = Arc::new(DatabaseFile::open(medium, health)?);
        let (queue, waiting) = mpsc::channel();
        let (epoch, usage, refusals) = (Arc::<AtomicU64>::default(), Arc::<Usage>::default(), Arc::default());
        usage.replace(file.read(usage::read)?);
        let writer = Writer {
            file: file.clone(),
            latest_epoch: epoch.clone(),
            usage: usage.clone(),
            refusals: Arc::clone(&refusals),
            counters,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|source| StoreError::Directory { dir: path, source: Arc::new(source) })?;
        let (room, shares) = (Arc::new(Semaphore::new(WRITES_WAITING_BYTES_MAX)), Shares::default());
        Ok(Self { file, queue: Some(queue), room, epoch, usage, shares, refusals, writer: Some(writer) })
    }

    /// Counts what each app keeps, where that is not known exactly: at the first start over an older directory.
    /// `file_bytes` tells the size of a file. Reads all of the database then, and blocks.
    fn count_usage(&self, file_bytes: &dyn Fn(&[u8; 32]) -> Option<u64>) -> Result<(), StoreError> {
        if self.file.read(usage::is_counted)? {
            return Ok(());
        }
        let counts = Mutex::new(HashMap::new());
        let _lent = self.file.lend_reserve();
        self.file.write(|db| {
            *counts.lock() = usage::recount(db, file_bytes)?;
            Ok(())
        })?;
        self.usage.replace(counts.into_inner());
        Ok(())
    }

    /// Applies all of `ops`, or none, and returns once they are on disk. Waits for room among the waiting writes; from
    /// then on, cancelling the future does not cancel the write.
    pub async fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        self.write_in(None, ops).await
    }

    /// Writes as `write` does, unless a later epoch was raised.
    pub(crate) async fn write_in(&self, epoch: Option<u64>, ops: Vec<Op>) -> Result<(), StoreError> {
        let room = self.room.clone().acquire_many_owned(cost(&ops)).await.expect("nobody closes it");
        self.send(epoch, Write::New, ops, [Some(room), None]).await
    }

    /// Writes new work of an app as `write_in` does, within the app's share of the waiting writes. What has the same
    /// `line` waits for the same share.
    pub(crate) async fn write_within_share(
        &self,
        epoch: Option<u64>,
        line: &str,
        ops: Vec<Op>,
    ) -> Result<(), StoreError> {
        let share = self.shares.take(line, cost(&ops)).await;
        let room = self.room.clone().acquire_many_owned(cost(&ops)).await.expect("nobody closes it");
        self.send(epoch, Write::New, ops, [Some(room), Some(share)]).await
    }

    /// Returns the error of an app over its quota, and takes note of it for the log.
    pub(crate) fn refuse(&self, over: OverQuota) -> StoreError {
        let error = StoreError::from(over);
        self.refusals.note(&error);
        error
    }

    /// Takes note of a refusal for the log.
    pub(crate) fn note_refused(&self, error: &StoreError) {
        self.refusals.note(error);
    }

    /// Whether an app has a value that is read off the runtime's threads.
    pub(crate) fn has_large_values(&self, app: &AppName) -> bool {
        self.usage.of(app.as_str()).large_values > 0
    }

    /// Refuses an app that is at its quota or above it, before anything is done for its write.
    pub(crate) fn check_quota(&self, app: &AppName) -> Result<(), StoreError> {
        self.usage.over_quota(app).map_or(Ok(()), |over| Err(self.refuse(over)))
    }

    /// Raises the epoch of the database by one, on disk, and returns it: writes of earlier epochs are refused from then
    /// on.
    pub(crate) async fn raise_epoch(&self) -> Result<u64, StoreError> {
        let latest = self.epoch.clone();
        self.transact(None, Write::Relief, 0, move |view| {
            let present = view.get(Table::Host, EPOCH)?;
            let last = match present.as_deref().map(<[u8; 8]>::try_from) {
                Some(Ok(last)) => u64::from_be_bytes(last),
                // More than a count of starts can be, if the row is damaged.
                Some(Err(_)) => crate::clock::unix_ms(),
                None => 0,
            };
            let epoch = last.saturating_add(1);
            // On the writer's thread, so no write after this one is taken for an earlier epoch.
            latest.store(epoch, Ordering::Relaxed);
            let value = epoch.to_be_bytes().to_vec();
            Ok((vec![Op::Put { table: Table::Host, key: EPOCH.to_vec(), value }], epoch))
        })
        .await
    }

    /// Replaces the value of `key` by what `decide` makes of the present one, and returns its answer once that is on
    /// disk. `decide` runs as [`Decider`] says and holds `bytes` of memory; a value of `None` leaves the key as it is.
    /// Waits as `write` does.
    #[cfg(test)]
    pub(crate) async fn update<T: Send + 'static>(
        &self,
        table: Table,
        key: Vec<u8>,
        bytes: usize,
        decide: impl Fn(Option<&[u8]>) -> (Option<Bytes>, T) + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        self.transact(None, Write::New, key.len() + bytes, move |view| {
            let (value, answer) = decide(view.get(table, &key)?.as_deref());
            let put = value.map(|value| Op::Put { table, key: key.clone(), value: value.into() });
            Ok((put.into_iter().collect(), answer))
        })
        .await
    }

    /// Decides changes within the transaction, applies all of them or none, and returns the answer of `decide` once
    /// that is on disk. `decide` runs as [`Decider`] says and holds `bytes` of memory. New work waits as `write` does;
    /// essential work waits for no room. Refused if a later epoch than `epoch` was raised.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        epoch: Option<u64>,
        write: Write,
        bytes: usize,
        decide: impl Fn(&View<'_>) -> Result<(Vec<Op>, T), ViewError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let (decider, decided) = Decider::new(bytes, (), move |(), view| {
            let (ops, answer) = decide(view)?;
            Ok((vec![Cow::Owned(ops)], answer))
        });
        self.commit(epoch, write, vec![Op::Decide(decider)]).await?;
        Ok(decided.take())
    }

    /// Applies all of `ops`, or none, and returns once they are on disk; waits and refuses as `transact`.
    pub(crate) async fn commit(&self, epoch: Option<u64>, write: Write, ops: Vec<Op>) -> Result<(), StoreError> {
        match write {
            Write::New => self.write_in(epoch, ops).await,
            Write::Essential | Write::Relief => self.submit_in(epoch, write, ops).await,
        }
    }

    /// Refuses an epoch if a later one was raised.
    pub(crate) fn check_epoch(&self, epoch: u64) -> Result<(), StoreError> {
        let latest = self.epoch.load(Ordering::Relaxed);
        if epoch < latest { Err(StoreError::Fenced { epoch, latest }) } else { Ok(()) }
    }

    /// Takes `ops` in, before anything that is submitted later. New work is refused (`Busy`) where too much waits;
    /// essential writes are taken beyond that bound, since the work behind them is bounded by itself.
    pub(crate) fn submit(&self, write: Write, ops: Vec<Op>) -> PendingWrite {
        self.submit_in(None, write, ops)
    }

    /// Submits as `submit` does, unless a later epoch was raised.
    pub(crate) fn submit_in(&self, epoch: Option<u64>, write: Write, ops: Vec<Op>) -> PendingWrite {
        let room = self.room.clone().try_acquire_many_owned(cost(&ops)).ok();
        if room.is_none() && write == Write::New {
            let waiting_bytes = WRITES_WAITING_BYTES_MAX - self.room.available_permits();
            let (done, answer) = oneshot::channel();
            let _ = done.send(Err(StoreError::Busy { waiting_mib: (waiting_bytes >> 20) as u64 }));
            return PendingWrite { answer, file: self.file.clone() };
        }
        self.send(epoch, write, ops, [room, None])
    }

    /// Leaves the file as it opens at once, though the process ends without closing it.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        self.send(None, Write::Essential, Vec::new(), [None, None]).await
    }

    fn send(
        &self,
        epoch: Option<u64>,
        write: Write,
        ops: Vec<Op>,
        room: [Option<OwnedSemaphorePermit>; 2],
    ) -> PendingWrite {
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("only drop takes the sender");
        // A writer that panicked takes no more, and drops the sender of the answer.
        let _ = queue.send(QueuedWrite { epoch, write, ops, room, done });
        PendingWrite { answer, file: self.file.clone() }
    }
}

fn cost(ops: &[Op]) -> u32 {
    let bytes: usize = ops.iter().map(Op::bytes).sum();
    bytes.clamp(WRITE_BYTES_MIN, WRITES_WAITING_BYTES_MAX) as u32
}

/// Waits until there is a reason.
async fn failure(mut health: watch::Receiver<Option<StoreError>>) -> StoreError {
    match health.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()) {
        Some(reason) => reason,
        // Whoever could have failed is gone.
        None => std::future::pending().await,
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the channel ends the loop after what it holds.
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        // Whatever a test has done, the counts are those of a count from scratch.
        #[cfg(test)]
        if !std::thread::panicking()
            && self.file.poisoned().is_none()
            && let Ok((mut counts, true)) = self.file.read(usage::counted)
        {
            counts.retain(|_, usage| *usage != AppUsage::default());
            let kept: HashMap<_, _> = self.usage.all().into_iter().collect();
            assert_eq!(kept, counts, "the counts of what apps keep have drifted");
        }
    }
}
