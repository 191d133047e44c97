//! Poll throttle: polls the tasks of batch work through a gate, so that other work finds a free thread.
//!
//! For tasks of the runtime alone, never for a future inside one: what has been let in must be polled soon, or it
//! keeps a place that it does not use.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::low_priority_gate::{LowPriorityGate, TaskId};
use crate::call::{Priority, micros};
use parking_lot::{Mutex, MutexGuard};

/// A poll of this length is one of a guest that computes. Before the next one the runtime looks at its sockets and
/// timers, which it otherwise does every 61 polls.
const LONG_POLL: Duration = Duration::from_micros(200);
/// How exactly it is noted when others were active.
const NOTED_EVERY_US: u64 = 1_000;

/// The gate, and the time of the last activity that was not batch work.
pub(crate) struct PollThrottle {
    gate: Mutex<LowPriorityGate<Waker>>,
    since: Instant,
    /// Microseconds from `since` to the last poll of what is not batch work; 0 before the first one.
    active_us: AtomicU64,
}

impl PollThrottle {
    /// For a runtime with so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { gate: Mutex::new(LowPriorityGate::new(threads)), since: Instant::now(), active_us: AtomicU64::new(0) }
    }

    /// Polls a task's future: batch work through the gate, all other as it is.
    pub(crate) async fn task<T>(&self, priority: Priority, future: impl Future<Output = T>) -> T {
        if priority != Priority::Low {
            return future.await;
        }
        let mut future = pin!(future);
        let task = self.lock().name();
        let place = Place { throttle: self, task };
        let mut owes_yield = false;
        poll_fn(|context| {
            if std::mem::take(&mut owes_yield) {
                defer(context.waker());
                return Poll::Pending;
            }
            let idle = self.idle();
            if !self.lock().enter(task, idle, || context.waker().clone()) {
                return Poll::Pending;
            }
            let begun = Instant::now();
            let polled = future.as_mut().poll(context);
            let is_long = begun.elapsed() >= LONG_POLL;
            owes_yield = is_long && polled.is_pending();
            place.leave(is_long);
            polled
        })
        .await
    }

    /// Polls a call's future and notes that somebody who is not batch work is active, unless `is_waiting` says at the
    /// start of a poll that it only collects what batch-like work of its own has done.
    pub(crate) async fn track_activity<T>(
        &self,
        priority: Priority,
        is_waiting: impl Fn() -> bool,
        future: impl Future<Output = T>,
    ) -> T {
        if priority == Priority::Low {
            return future.await;
        }
        let mut future = pin!(future);
        poll_fn(|context| {
            if !is_waiting() {
                self.note();
            }
            future.as_mut().poll(context)
        })
        .await
    }

    fn note(&self) {
        let now = self.now_us();
        // The line of memory is shared by all threads, so it is written as seldom as will do.
        if now.saturating_sub(self.active_us.load(Ordering::Relaxed)) >= NOTED_EVERY_US {
            self.active_us.store(now, Ordering::Relaxed);
        }
    }

    /// Returns how long ago somebody was active.
    fn idle(&self) -> Duration {
        match self.active_us.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            active => Duration::from_micros(self.now_us().saturating_sub(active)),
        }
    }

    /// Never 0.
    fn now_us(&self) -> u64 {
        // The first poll of all must count, however soon it comes.
        micros(self.since.elapsed()) + NOTED_EVERY_US
    }

    fn lock(&self) -> MutexGuard<'_, LowPriorityGate<Waker>> {
        self.gate.lock()
    }
}

/// A task's place, wherever it stands. Dropped with the task.
struct Place<'a> {
    throttle: &'a PollThrottle,
    task: TaskId,
}

impl Place<'_> {
    /// Lets the next ones in; after a long poll, once the runtime has looked at everything else.
    fn leave(&self, is_long: bool) {
        let idle = self.throttle.idle();
        let woken = self.throttle.lock().leave(self.task, idle);
        for waker in woken {
            if is_long { defer(&waker) } else { waker.wake() }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

/// Wakes once the thread has run what it has, and looked at its sockets and timers; at once where that is not the
/// runtime's.
fn defer(waker: &Waker) {
    let mut context = Context::from_waker(waker);
    if pin!(tokio::task::yield_now()).poll(&mut context).is_ready() {
        waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::task::JoinSet;

    use super::*;

    /// Yields so many times, and counts how many others do at the same time.
    async fn work(throttle: Arc<PollThrottle>, steps: usize, inside: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
        let mut left = steps;
        let steps = poll_fn(|context| {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        });
        throttle.task(Priority::Low, steps).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_are_polled_than_may_be_and_all_end() {
        let throttle = Arc::new(PollThrottle::new(2));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            tasks.spawn(work(throttle.clone(), 200, inside.clone(), most.clone()));
        }
        tasks.join_all().await;
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn tasks_that_are_cancelled_anywhere_hold_nobody_up() {
        let throttle = Arc::new(PollThrottle::new(1));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for round in 0..50 {
            let mut cancelled = JoinSet::new();
            let mut kept = JoinSet::new();
            for _ in 0..8 {
                cancelled.spawn(work(throttle.clone(), usize::MAX, inside.clone(), most.clone()));
                kept.spawn(work(throttle.clone(), 20, inside.clone(), most.clone()));
            }
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            cancelled.abort_all();
            kept.join_all().await;
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_gives_its_place_back() {
        let throttle = Arc::new(PollThrottle::new(1));
        let panics = throttle.clone();
        let panicked = tokio::spawn(async move { panics.task(Priority::Low, async { panic!("no more oars") }).await });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(throttle.task(Priority::Low, async { 7 }).await, 7);
    }

    #[test]
    fn what_is_not_batch_work_counts_as_active() {
        let throttle = PollThrottle::new(2);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(throttle.track_activity(Priority::Low, || false, async {}));
        runtime.block_on(throttle.track_activity(Priority::High, || true, async {}));
        assert_eq!(throttle.idle(), Duration::MAX);
        runtime.block_on(throttle.track_activity(Priority::Normal, || false, async {}));
        assert!(throttle.idle() < Duration::MAX);
    }
}
