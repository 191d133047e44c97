//! The one writer: it takes what waits, commits it as one transaction, and answers all of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::StoreError;
use super::file::{DatabaseFile, WriteFailure};
use super::op::Op;
use super::view::{View, ViewError};
use crate::failpoint;
use crate::limits::{STORE_FREE_BYTES_MIN, STORE_RESERVE_BYTES_MIN};
use crate::metrics::StoreCounters;

const COMMIT_BYTES_MAX: usize = 32 << 20;
/// Rest after the last commit, after which a checkpoint is written.
const CHECKPOINT_REST: Duration = Duration::from_millis(250);

/// How much of the disk a write may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// New work: refused while less than [`STORE_FREE_BYTES_MIN`] is free.
    New,
    /// What work that runs already must leave behind, its results above all: refused below [`STORE_RESERVE_BYTES_MIN`].
    Essential,
}

impl Write {
    pub(super) fn has_room(self, free_bytes: u64) -> bool {
        match self {
            Self::New => free_bytes >= STORE_FREE_BYTES_MIN,
            Self::Essential => free_bytes >= STORE_RESERVE_BYTES_MIN,
        }
    }
}

/// A write that waits for its commit.
pub(super) struct QueuedWrite {
    /// The epoch of its host; none for what no host has to itself.
    pub(super) epoch: Option<u64>,
    pub(super) write: Write,
    pub(super) ops: Vec<Op>,
    /// Room among the waiting writes, given back once this one is answered.
    pub(super) room: Option<OwnedSemaphorePermit>,
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

/// Commits what comes, in its order, until every sender is gone.
pub(super) fn write_loop(
    file: &DatabaseFile,
    latest_epoch: &AtomicU64,
    queue: &Receiver<QueuedWrite>,
    counters: &StoreCounters,
) {
    let _guard = PoisonOnPanic(file);
    // Opening the file may have repaired it.
    let mut is_checkpointed = false;
    loop {
        let first = match is_checkpointed {
            true => queue.recv().ok(),
            false => match queue.recv_timeout(CHECKPOINT_REST) {
                Err(RecvTimeoutError::Timeout) => {
                    checkpoint(file);
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
        commit_group(file, latest_epoch.load(Ordering::Relaxed), group, counters);
        is_checkpointed = false;
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

fn commit_group(file: &DatabaseFile, latest: u64, group: Vec<QueuedWrite>, counters: &StoreCounters) {
    if let Some(poisoned) = file.poisoned() {
        return group.into_iter().for_each(|queued| queued.answer(Err(poisoned.clone())));
    }
    let free_bytes = file.free_bytes();
    let refusal = |queued: &QueuedWrite| match queued.epoch {
        Some(epoch) if epoch < latest => Some(StoreError::Fenced { epoch, latest }),
        _ if !queued.write.has_room(free_bytes) => Some(StoreError::Full { free_mib: Some(free_bytes >> 20) }),
        _ => None,
    };
    let mut taken = Vec::with_capacity(group.len());
    for queued in group {
        match refusal(&queued) {
            Some(error) => queued.answer(Err(error)),
            None => taken.push(queued),
        }
    }
    let group = taken;
    if group.is_empty() {
        return;
    }
    failpoint::hit("store.commit.before");
    let begun = Instant::now();
    let result = file.write(|db| commit(db, &group)).map_err(|failed| match failed {
        WriteFailure::NoRoom => StoreError::Full { free_mib: None },
        WriteFailure::Refused(source) => StoreError::Commit { source },
        WriteFailure::Exhausted(error) | WriteFailure::Poisoned(error) => error,
    });
    counters.count_commit(begun.elapsed(), result.is_ok());
    failpoint::hit("store.commit.after");
    // A write of nothing asks for a checkpoint.
    if result.is_ok() && group.iter().any(|queued| queued.ops.is_empty()) {
        checkpoint(file);
    }
    group.into_iter().for_each(|queued| queued.answer(result.clone()));
}

/// Applies the group in one transaction, in the order of its writes. A group that changes nothing (deciders that
/// decided so) needs no commit: what they saw is on disk since an earlier one.
fn commit(db: &Database, group: &[QueuedWrite]) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut is_changed = false;
    let mut view = View::new(&transaction);
    for op in group.iter().flat_map(|queued| &queued.ops) {
        is_changed |= apply(&mut view, op).map_err(|ViewError(error)| error)?;
    }
    // Its tables are closed before the transaction ends.
    drop(view);
    match is_changed {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_may_use_what_new_work_may_not() {
        let cases = [
            (u64::MAX, true, true),
            (STORE_FREE_BYTES_MIN, true, true),
            (STORE_FREE_BYTES_MIN - 1, false, true),
            (STORE_RESERVE_BYTES_MIN, false, true),
            (STORE_RESERVE_BYTES_MIN - 1, false, false),
            (0, false, false),
        ];
        for (free_bytes, new, essential) in cases {
            assert_eq!(Write::New.has_room(free_bytes), new, "{free_bytes}");
            assert_eq!(Write::Essential.has_room(free_bytes), essential, "{free_bytes}");
        }
    }
}
