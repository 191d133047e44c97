//! Lifecycle of a host's durable work: started, stopping, cut off; its tasks, and writes that are tried until they
//! succeed.
//!
//! Invariants: a task that was spawned is joined by `shut_down`; a stop and a cut-off are final.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::storage::{Answer, StorageError};
use crate::store::StoreError;

/// Wait before a failed read or write of the journal is tried again: a full disk gets room, a process its file handles
/// back.
pub const STORE_RETRY_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub struct Lifecycle {
    /// Nothing new begins: before `start`, and once the host stops.
    stopped: watch::Sender<bool>,
    /// Attempts under way end without an outcome: the next host makes them again.
    cut_off: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    retry_wait: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            stopped: watch::Sender::new(true),
            cut_off: watch::Sender::new(false),
            tasks: Mutex::default(),
            retry_wait: STORE_RETRY_WAIT,
        }
    }
}

impl Lifecycle {
    pub fn start(&self) {
        self.stopped.send_replace(false);
    }

    /// Nothing new begins from now on.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Ends the attempts under way. Their leases stay on disk, so the next host makes them again.
    pub fn cut_off(&self) {
        self.cut_off.send_replace(true);
    }

    /// Whether nothing new begins: not started yet, or stopped.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until nothing new begins.
    pub async fn stopped(&self) {
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Waits until attempts are cut off.
    pub async fn is_cut_off(&self) {
        let _ = self.cut_off.subscribe().wait_for(|cut_off| *cut_off).await;
    }

    /// Spawns a task that `join` waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // Finished tasks are dropped along the way.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits for all tasks, also for those that they spawn meanwhile.
    pub async fn join(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Repeats a write until it succeeds. `None` if the store has failed for good, the call or map is in quarantine, or
    /// the host stops first.
    pub async fn written<'a, T>(&self, write: impl Fn() -> Answer<'a, T>) -> Option<T> {
        let mut is_reported = false;
        loop {
            match write().await {
                Ok(value) => return Some(value),
                Err(error @ (StorageError::Store(StoreError::Poisoned { .. }) | StorageError::Fenced { .. })) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written");
                    return None;
                }
                // The journal has said why.
                Err(StorageError::Quarantined { .. }) => return None,
                Err(error) => {
                    if !std::mem::replace(&mut is_reported, true) {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "a write to the journal failed and is tried again; its data waits in memory"
                        );
                    }
                    if self.is_stopped() {
                        return None;
                    }
                    tokio::time::sleep(self.retry_wait).await;
                }
            }
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn full() -> StorageError {
        StoreError::Full { free_mib: Some(0) }.into()
    }

    #[tokio::test]
    async fn a_join_waits_for_tasks_of_tasks() {
        let lifecycle = Arc::new(Lifecycle::default());
        let ended = Arc::new(AtomicU32::new(0));
        let (inner, count) = (lifecycle.clone(), ended.clone());
        lifecycle.spawn(async move {
            tokio::task::yield_now().await;
            let inner_count = count.clone();
            inner.spawn(async move {
                tokio::task::yield_now().await;
                inner_count.fetch_add(1, Ordering::Relaxed);
            });
            count.fetch_add(1, Ordering::Relaxed);
        });
        lifecycle.join().await;
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_host_begins_nothing_before_its_start_and_after_its_stop() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.is_stopped());
        lifecycle.start();
        assert!(!lifecycle.is_stopped());
        lifecycle.stop();
        lifecycle.stopped().await;
        lifecycle.cut_off();
        lifecycle.is_cut_off().await;
    }

    #[tokio::test]
    async fn a_failed_write_is_tried_again_until_it_succeeds_or_the_host_stops() {
        let lifecycle = Lifecycle { retry_wait: Duration::ZERO, ..Lifecycle::default() };
        lifecycle.start();
        let tries = AtomicU32::new(0);
        let write = || -> Answer<'_, u32> {
            let number = tries.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { if number == 0 { Err(full()) } else { Ok(number) } })
        };
        assert_eq!(lifecycle.written(write).await, Some(1));
        lifecycle.stop();
        assert_eq!(lifecycle.written(|| Box::pin(async { Err::<(), _>(full()) })).await, None);
    }
}
