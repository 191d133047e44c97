//! The one point that every impure import passes: HTTP, inference, other functions, key-value, configuration, clocks, random.
//!
//! It counts, and times what may take long. It is also where a recorder belongs: whoever can see each crossing and its result
//! can replay a call without network or GPU. Two sources of change pass elsewhere, in wasmtime's own code: the seed of
//! `wasi:random/insecure-seed`, drawn with each store, and when a timer's pollable is ready.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::call::{HostCalls, HostCallsOfKind};

/// What is crossed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    Clock,
    Config,
    Function,
    Http,
    Inference,
    KeyValue,
    Random,
}

/// The boundary of one call.
#[derive(Debug, Default)]
pub struct Boundary {
    clock: ImportCounter,
    config: ImportCounter,
    functions: ImportCounter,
    http: ImportCounter,
    inference: ImportCounter,
    key_value: ImportCounter,
    random: ImportCounter,
}

#[derive(Debug, Default)]
struct ImportCounter {
    crossings: AtomicU64,
    nanos: AtomicU64,
}

impl Boundary {
    /// Crosses for something that answers at once.
    pub fn cross<T>(&self, import: Import, answer: impl FnOnce() -> T) -> T {
        let _crossing = self.enter(import);
        answer()
    }

    /// Crosses for something that takes time. Dropping the future gives the crossing up.
    pub async fn cross_async<T>(&self, import: Import, answer: impl Future<Output = T>) -> T {
        let _crossing = self.enter(import);
        answer.await
    }

    /// Returns how often the call crossed so far, and what that took.
    pub fn crossings(&self) -> HostCalls {
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

    fn enter(&self, import: Import) -> Crossing<'_> {
        tracing::trace!(?import, "host call");
        let kind = match import {
            Import::Clock => &self.clock,
            Import::Config => &self.config,
            Import::Function => &self.functions,
            Import::Http => &self.http,
            Import::Inference => &self.inference,
            Import::KeyValue => &self.key_value,
            Import::Random => &self.random,
        };
        kind.crossings.fetch_add(1, Ordering::Relaxed);
        // Reading a clock to time the reading of a clock would double it.
        let since = (!matches!(import, Import::Clock | Import::Config | Import::Random)).then(Instant::now);
        Crossing { kind, since }
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

/// A crossing under way; timed until it ends or is given up.
struct Crossing<'a> {
    kind: &'a ImportCounter,
    since: Option<Instant>,
}

impl Drop for Crossing<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.kind.nanos.fetch_add(nanos, Ordering::Relaxed);
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
        // Given up after it began.
        let given_up = boundary.cross_async(Import::Inference, std::future::pending::<()>());
        runtime.block_on(async { assert!(tokio::time::timeout(pause, given_up).await.is_err()) });

        let crossings = boundary.crossings();
        assert_eq!((crossings.http.count, crossings.clock.count, crossings.inference.count), (1, 1, 1));
        assert!(crossings.http.wall_us >= 2_000 && crossings.inference.wall_us >= 1_000, "{crossings:?}");
        assert_eq!((crossings.clock.wall_us, crossings.random), (0, HostCallsOfKind::default()));
    }
}
