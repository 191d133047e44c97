//! Lifecycle of a host's durable work: started, stopping, cut off; its tasks, its heartbeat, and requests to the engine
//! that are repeated.
//!
//! Invariants: a task that was spawned is joined by `shut_down`; a stop and a cut-off are final.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::storage::{Answer, ErrorKind, Members, StorageError};

/// Wait before a failed read or write of the journal is tried again: a full disk gets room, a process its file handles
/// back.
pub(crate) const STORE_RETRY_WAIT: Duration = Duration::from_secs(1);
/// Interval of heartbeats. Short, for a host whose place was taken works in vain until the next one tells it; a beat is
/// a small write at most.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Phase of a host's durable work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    /// Nothing new begins.
    Stopped,
}

/// See the module.
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Attempts under way end without an outcome: the next host makes them again.
    cut_off: watch::Sender<bool>,
    /// Error by which the engine fenced this host off.
    fenced: watch::Sender<Option<StorageError>>,
    tasks: Mutex<JoinSet<()>>,
    retry_wait: Duration,
    beat_wait: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            cut_off: watch::Sender::new(false),
            fenced: watch::Sender::new(None),
            tasks: Mutex::default(),
            retry_wait: STORE_RETRY_WAIT,
            beat_wait: HEARTBEAT,
        }
    }
}

impl Lifecycle {
    pub(crate) fn start(&self) {
        self.phase.send_if_modified(|phase| {
            let starts = *phase == Phase::Starting;
            *phase = if starts { Phase::Running } else { *phase };
            starts
        });
    }

    /// Nothing new begins from now on.
    pub(crate) fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Ends the attempts under way. Their leases stay on disk, so the next host makes them again.
    pub(crate) fn cut_off(&self) {
        self.cut_off.send_replace(true);
    }

    /// Whether nothing new begins: not started yet, or stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Waits until the host stops.
    pub(crate) async fn stopped(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits until attempts are cut off.
    pub(crate) async fn is_cut_off(&self) {
        let _ = self.cut_off.subscribe().wait_for(|cut_off| *cut_off).await;
    }

    /// Spawns a task that `join` waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // Finished tasks are dropped along the way.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits for all tasks, also for those that they spawn meanwhile.
    pub(crate) async fn join(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Sends heartbeats until the host stops.
    pub(crate) async fn beat(&self, members: &dyn Members) {
        loop {
            tokio::select! {
                () = self.stopped() => return,
                () = tokio::time::sleep(self.beat_wait) => {}
            }
            match members.beat().await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Fenced => return self.fenced(&error),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a heartbeat of this host got no answer");
                }
            }
        }
    }

    /// Another start has taken this one's place: its leases are that one's, and nothing that it does counts any more.
    pub(crate) fn fenced(&self, error: &StorageError) {
        if self.phase.send_replace(Phase::Stopped) != Phase::Stopped {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "another host has taken the place of this one; its durable work ends here and goes on there"
            );
        }
        self.cut_off();
        self.fenced.send_replace(Some(error.clone()));
    }

    /// Waits until another start has taken this one's place, and returns the engine's refusal. The process must end:
    /// it can keep no promise any more.
    pub(crate) async fn is_fenced(&self) -> StorageError {
        let mut fenced = self.fenced.subscribe();
        let error = fenced.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        match error {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Repeats a request to the engine while its answer is lost, until the host stops.
    pub(crate) async fn answered<'a, T>(&self, request: impl Fn() -> Answer<'a, T>) -> Result<T, StorageError> {
        loop {
            match request().await {
                Err(error) if error.kind() == ErrorKind::Unknown && !self.has_stopped() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "an answer was lost; it is asked for again"
                    );
                    tokio::time::sleep(self.retry_wait).await;
                }
                answer => return answer,
            }
        }
    }

    /// Repeats a write until it succeeds. `None` if the call or map is gone, another host has taken the place of this
    /// one, or the host stops first.
    pub(crate) async fn written<'a, T>(&self, write: impl Fn() -> Answer<'a, T>) -> Option<T> {
        let mut is_reported = false;
        loop {
            let error = match write().await {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Fenced => {
                    self.fenced(&error);
                    return None;
                }
                // The engine has said why.
                ErrorKind::Gone => return None,
                ErrorKind::Refused | ErrorKind::Full | ErrorKind::Unknown => {}
            }
            if !std::mem::replace(&mut is_reported, true) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a write to the journal failed and is tried again; its data waits in memory"
                );
            }
            if self.has_stopped() {
                return None;
            }
            tokio::time::sleep(self.retry_wait).await;
        }
    }

    fn has_stopped(&self) -> bool {
        *self.phase.borrow() == Phase::Stopped
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::storage::{Beat, LeaseHolder};

    /// Answers with these kinds of errors in turn, then with the number of the request.
    fn failing(kinds: &[ErrorKind]) -> impl Fn() -> Answer<'static, usize> {
        let (kinds, requests) = (kinds.to_vec(), AtomicUsize::new(0));
        move || {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            let error = kinds.get(number).map(|kind| StorageError::new(*kind, std::fmt::Error));
            Box::pin(async move { error.map_or(Ok(number), Err) })
        }
    }

    fn starting() -> Lifecycle {
        Lifecycle { retry_wait: Duration::ZERO, beat_wait: Duration::ZERO, ..Lifecycle::default() }
    }

    fn running() -> Lifecycle {
        let lifecycle = starting();
        lifecycle.start();
        lifecycle
    }

    #[tokio::test]
    async fn a_join_waits_for_tasks_of_tasks() {
        let lifecycle = Arc::new(Lifecycle::default());
        let ended = Arc::new(AtomicUsize::new(0));
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
        let lifecycle = running();
        let fails = [ErrorKind::Full, ErrorKind::Unknown, ErrorKind::Refused];
        assert_eq!(lifecycle.written(failing(&fails)).await, Some(3));
        assert_eq!(lifecycle.written(failing(&[ErrorKind::Gone])).await, None);
        assert!(!lifecycle.is_stopped());
        lifecycle.stop();
        assert_eq!(lifecycle.written(failing(&[ErrorKind::Full])).await, None);
    }

    #[tokio::test]
    async fn only_a_lost_answer_is_asked_for_again_also_before_the_start() {
        for lifecycle in [starting(), running()] {
            assert_eq!(lifecycle.answered(failing(&[ErrorKind::Unknown; 2])).await.unwrap(), 2);
            let full = lifecycle.answered(failing(&[ErrorKind::Full])).await;
            assert_eq!(full.unwrap_err().kind(), ErrorKind::Full);
            lifecycle.stop();
            assert!(lifecycle.answered(failing(&[ErrorKind::Unknown])).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_host_whose_place_was_taken_stops_and_cuts_its_attempts_off() {
        let lifecycle = running();
        assert_eq!(lifecycle.written(failing(&[ErrorKind::Fenced])).await, None);
        assert!(lifecycle.is_stopped());
        lifecycle.is_cut_off().await;
        assert_eq!(lifecycle.is_fenced().await.kind(), ErrorKind::Fenced);
        lifecycle.start();
        assert!(lifecycle.is_stopped(), "a stop is final");
    }

    struct Beats(Box<dyn Fn() -> Answer<'static, usize> + Send + Sync>);

    impl Members for Beats {
        fn join(&self) -> Answer<'_, LeaseHolder> {
            Box::pin(async { Err(StorageError::new(ErrorKind::Refused, std::fmt::Error)) })
        }

        fn beat(&self) -> Answer<'_, Beat> {
            let beat = self.0();
            Box::pin(async move { beat.await.map(|_| Beat { now_ms: 0 }) })
        }
    }

    #[tokio::test]
    async fn a_heartbeat_goes_on_after_a_lost_answer_and_ends_the_work_once_it_is_fenced() {
        let lifecycle = running();
        lifecycle.beat(&Beats(Box::new(failing(&[ErrorKind::Unknown, ErrorKind::Fenced])))).await;
        lifecycle.is_cut_off().await;
        assert!(lifecycle.is_stopped());
    }
}
