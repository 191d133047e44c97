//! The one writer: it takes what waits, commits it as one transaction, and answers all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{Database, Durability};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::StoreError;
use super::file::DatabaseFile;
use super::op::Op;
use super::refusals::Refusals;
use super::usage::{AppUsage, Usage};
use super::view::{View, ViewError};
use super::write::Write;
use crate::failpoint;
use crate::metrics::StoreCounters;

const COMMIT_BYTES_MAX: usize = 32 << 20;
/// Rest after the last commit, after which a checkpoint is written.
const CHECKPOINT_REST: Duration = Duration::from_millis(250);

/// A write that waits for its commit.
pub(super) struct QueuedWrite {
    /// The epoch of its host; none for what no host has to itself.
    pub(super) epoch: Option<u64>,
    pub(super) write: Write,
    pub(super) ops: Vec<Op>,
    /// Room among the waiting writes and, of an app's, in its share of them: given back once this one is answered.
    pub(super) room: [Option<OwnedSemaphorePermit>; 2],
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

impl QueuedWrite {
    pub(super) fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }

    fn answer(self, result: Result<(), StoreError>) {
        // Before the answer, so that who waited for it finds the room.
        drop(self.room);
        let _ = self.done.send(result);
    }
}

/// Stops the store if the writer panics: those that wait learn it, and so does whoever can stop the host.
struct PoisonOnPanic<'a>(&'a DatabaseFile);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned_by(None);
        }
    }
}

/// The writer's side of a store.
pub(super) struct Writer {
    pub(super) file: Arc<DatabaseFile>,
    pub(super) latest_epoch: Arc<AtomicU64>,
    pub(super) usage: Arc<Usage>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) counters: Arc<StoreCounters>,
}

impl Writer {
    /// Commits what comes, in its order, until every sender is gone.
    pub(super) fn run(&self, queue: &Receiver<QueuedWrite>) {
        let _guard = PoisonOnPanic(&self.file);
        // Opening the file may have repaired it.
        let mut is_checkpointed = false;
        loop {
            let first = match is_checkpointed {
                true => queue.recv().ok(),
                false => match queue.recv_timeout(CHECKPOINT_REST) {
                    Err(RecvTimeoutError::Timeout) => {
                        checkpoint(&self.file);
                        self.file.refill_reserve();
                        is_checkpointed = true;
                        continue;
                    }
                    first => first.ok(),
                },
            };
            let Some(first) = first else { return };
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < COMMIT_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.bytes();
                group.push(next);
            }
            self.commit_group(group);
            is_checkpointed = false;
        }
    }

    fn commit_group(&self, group: Vec<QueuedWrite>) {
        if let Some(poisoned) = self.file.poisoned() {
            return group.into_iter().for_each(|queued| queued.answer(Err(poisoned.clone())));
        }
        let group = self.admitted(group);
        if group.is_empty() {
            return;
        }
        let has_relief = group.iter().any(|queued| queued.write == Write::Relief);
        let lent = has_relief.then(|| self.file.lend_reserve());
        failpoint::hit("store.commit.before");
        let result = self.commit(&group);
        failpoint::hit("store.commit.after");
        // A write of nothing asks for a checkpoint.
        if result.is_ok() && group.iter().any(|queued| queued.ops.is_empty()) {
            checkpoint(&self.file);
        }
        let is_full = matches!(result, Err(StoreError::Full { .. }));
        // What makes room must not fail with what takes it.
        let (relief, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|queued| is_full && queued.write == Write::Relief);
        let relief_result = match is_full && !relief.is_empty() && !others.is_empty() {
            true => self.commit(&relief),
            false => result.clone(),
        };
        drop(lent);
        others.into_iter().for_each(|queued| self.answer(queued, result.clone()));
        relief.into_iter().for_each(|queued| self.answer(queued, relief_result.clone()));
    }

    /// Answers the writes of a group that are refused as they are, and returns the others.
    fn admitted(&self, group: Vec<QueuedWrite>) -> Vec<QueuedWrite> {
        let latest = self.latest_epoch.load(Ordering::Relaxed);
        let disk_bytes = self.file.free_bytes();
        let has_room = |free_bytes| group.iter().all(|queued: &QueuedWrite| queued.write.has_room(free_bytes));
        let free_bytes = if has_room(disk_bytes) { disk_bytes } else { self.file.room_bytes() };
        let refusal = |queued: &QueuedWrite| match queued.epoch {
            Some(epoch) if epoch < latest => Some(StoreError::Fenced { epoch, latest }),
            _ if !queued.write.has_room(free_bytes) => Some(StoreError::Full { free_mib: Some(free_bytes >> 20) }),
            _ => None,
        };
        let mut admitted = Vec::with_capacity(group.len());
        for queued in group {
            match refusal(&queued) {
                Some(error) => self.answer(queued, Err(error)),
                None => admitted.push(queued),
            }
        }
        admitted
    }

    fn answer(&self, queued: QueuedWrite, result: Result<(), StoreError>) {
        if let Err(error) = &result {
            self.refusals.note(error);
        }
        queued.answer(result);
    }

    /// Commits a group as one transaction.
    fn commit(&self, group: &[QueuedWrite]) -> Result<(), StoreError> {
        let begun = Instant::now();
        let changed = Mutex::new(Vec::new());
        let result = self.file.write(|db| {
            *changed.lock() = commit(db, &self.usage, group)?;
            Ok(())
        });
        self.counters.count_commit(begun.elapsed(), result.is_ok());
        result.map_err(StoreError::from)?;
        self.usage.commit(changed.into_inner());
        Ok(())
    }
}

/// Commits the state of redb's page allocator, with which the file opens at once after the process was killed; without
/// it redb reads all of the file first. Twice the fsyncs of a plain commit, so not with each
/// (`docs/decisions/quick-repair.md`).
fn checkpoint(file: &DatabaseFile) {
    if file.poisoned().is_some() || !Write::Essential.has_room(file.free_bytes()) {
        return;
    }
    // One that fails costs nobody's write; what is wrong with the file stops the store as ever.
    let _ = file.write(|db| {
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        Ok(transaction.commit()?)
    });
}

/// Applies the group in one transaction, in the order of its writes, and returns the new counts of the apps that it
/// changed. A group that changes nothing (deciders that decided so) needs no commit: what they saw is on disk since an
/// earlier one.
fn commit(db: &Database, usage: &Usage, group: &[QueuedWrite]) -> Result<Vec<(Box<str>, AppUsage)>, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut is_changed = false;
    let mut view = View::new(&transaction, usage);
    for op in group.iter().flat_map(|queued| &queued.ops) {
        is_changed |= apply(&mut view, op).map_err(|ViewError(error)| error)?;
    }
    let changed = if is_changed { view.keep_usage().map_err(|ViewError(error)| error)? } else { Vec::new() };
    // Its tables are closed before the transaction ends.
    drop(view);
    match is_changed {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(changed)
}

/// Applies one change. Returns whether there was any.
fn apply(view: &mut View<'_>, op: &Op) -> Result<bool, ViewError> {
    match op {
        Op::Put { table, key, value } => view.put(*table, key, value)?,
        Op::Delete { table, key } => view.delete(*table, key)?,
        Op::Decide(decider) => {
            let mut is_changed = false;
            for op in decider.decide(view)?.iter().flat_map(|ops| ops.iter()) {
                is_changed |= apply(view, op)?;
            }
            return Ok(is_changed);
        }
    }
    Ok(true)
}
