//! The boundary: the one point that every impure import passes (HTTP, inference, other functions, key-value,
//! configuration, clocks, random numbers).
//!
//! It counts crossings, times those that may take long, and tells them to the call's timeline. A recorder for replay
//! belongs here: it would see each crossing and its result. Two sources of change bypass it, in wasmtime's own code:
//! the seed of `wasi:random/insecure-seed`, drawn with each store, and the time at which a timer's pollable becomes
//! ready.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::timeline::{HostCall, Timeline};
use crate::call::{HostCalls, HostCallsOfKind};

/// The kind of import that crosses the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    Clock,
    Config,
    Function,
    Http,
    Inference,
    KeyValue,
    Random,
}

/// The boundary of one call: crossings and their time, by kind of import.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    clock: ImportCounter,
    config: ImportCounter,
    functions: ImportCounter,
    http: ImportCounter,
    inference: ImportCounter,
    key_value: ImportCounter,
    random: ImportCounter,
    /// Locked for some nanoseconds at each event.
    pub(super) task: Mutex<GuestTask>,
}

/// The task that polls the guest.
#[derive(Debug, Default)]
pub(super) struct GuestTask {
    /// What the guest's wall time is spent on.
    pub timeline: Timeline,
    /// Waker of the task; taken by the first wake-up after a poll.
    pub waker: Option<Waker>,
}

impl GuestTask {
    /// Ends the timeline, and lets go of the task: it holds the call, which must not hold it in turn.
    pub(super) fn end(&mut self, now: Instant) {
        self.timeline.end(now);
        self.waker = None;
    }
}

#[derive(Debug, Default)]
struct ImportCounter {
    crossings: AtomicU64,
    nanos: AtomicU64,
}

impl Boundary {
    /// Crosses for a result that is there at once.
    pub(crate) fn cross<T>(&self, import: Import, answer: impl FnOnce() -> T) -> T {
        let _crossing = self.enter(import);
        answer()
    }

    /// Crosses for a result that takes time. Dropping the future ends the crossing.
    pub(crate) async fn cross_async<T>(&self, import: Import, answer: impl Future<Output = T>) -> T {
        let _crossing = self.enter(import);
        answer.await
    }

    /// Returns the crossings so far: their count, and for slow kinds their wall time in µs.
    pub(crate) fn crossings(&self) -> HostCalls {
        HostCalls {
            clock: self.clock.sum(),
            config: self.config.sum(),
            functions: self.functions.sum(),
            http: self.http.sum(),
            inference: self.inference.sum(),
            key_value: self.key_value.sum(),
            random: self.random.sum(),
        }
    }

    /// Begins or ends a wait for a part of a response's body, which is no crossing.
    pub(super) fn set_awaits_body(&self, is_awaited: bool) {
        let mut task = self.task.lock();
        match is_awaited {
            true => task.timeline.begin_call(HostCall::Http, Instant::now()),
            false => task.timeline.end_call(HostCall::Http, Instant::now()),
        }
    }

    /// Notes that the guest can go on, and wakes its task.
    pub(super) fn wake(&self) {
        let now = Instant::now();
        let mut task = self.task.lock();
        task.timeline.wake(now);
        let waker = task.waker.take();
        drop(task);
        waker.into_iter().for_each(Waker::wake);
    }

    fn enter(&self, import: Import) -> Crossing<'_> {
        tracing::trace!(?import, "host call");
        // Timing a clock read would double its cost.
        let (counter, call) = match import {
            Import::Clock => (&self.clock, None),
            Import::Config => (&self.config, None),
            Import::Random => (&self.random, None),
            Import::Function => (&self.functions, Some(HostCall::Functions)),
            Import::Http => (&self.http, Some(HostCall::Http)),
            Import::Inference => (&self.inference, Some(HostCall::Inference)),
            Import::KeyValue => (&self.key_value, Some(HostCall::KeyValue)),
        };
        counter.crossings.fetch_add(1, Ordering::Relaxed);
        let timed = call.map(|call| {
            let now = Instant::now();
            self.task.lock().timeline.begin_call(call, now);
            (call, now)
        });
        Crossing { boundary: self, counter, timed }
    }
}

impl ImportCounter {
    fn sum(&self) -> HostCallsOfKind {
        HostCallsOfKind {
            count: self.crossings.load(Ordering::Relaxed),
            wall_us: self.nanos.load(Ordering::Relaxed) / 1_000,
        }
    }
}

/// A crossing under way; timed until it is dropped.
struct Crossing<'a> {
    boundary: &'a Boundary,
    counter: &'a ImportCounter,
    timed: Option<(HostCall, Instant)>,
}

impl Drop for Crossing<'_> {
    fn drop(&mut self) {
        if let Some((call, since)) = self.timed {
            let now = Instant::now();
            self.boundary.task.lock().timeline.end_call(call, now);
            let nanos = u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX);
            self.counter.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself_and_slow_ones_are_timed() {
        let boundary = Boundary::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let pause = std::time::Duration::from_millis(2);
        runtime.block_on(boundary.cross_async(Import::Http, async { tokio::time::sleep(pause).await }));
        boundary.cross(Import::Clock, || std::thread::sleep(pause));
        // Dropped while under way.
        let given_up = boundary.cross_async(Import::Inference, std::future::pending::<()>());
        runtime.block_on(async { assert!(tokio::time::timeout(pause, given_up).await.is_err()) });

        let crossings = boundary.crossings();
        assert_eq!((crossings.http.count, crossings.clock.count, crossings.inference.count), (1, 1, 1));
        assert!(crossings.http.wall_us >= 2_000 && crossings.inference.wall_us >= 1_000, "{crossings:?}");
        assert_eq!((crossings.clock.wall_us, crossings.random), (0, HostCallsOfKind::default()));
    }
}
