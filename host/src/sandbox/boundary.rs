//! The one point that every impure import passes: HTTP, inference, other functions, key-value, clocks, random.
//!
//! It counts. It is also where a recorder belongs: whoever can see each crossing and its result can replay a call without
//! network or GPU. Two sources of change pass elsewhere, in wasmtime's own code: the seed of `wasi:random/insecure-seed`, drawn
//! with each store, and when a timer's pollable is ready.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is crossed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    Clock,
    Function,
    Http,
    Inference,
    KeyValue,
    Random,
}

/// The boundary of one call.
#[derive(Debug, Default)]
pub struct Boundary {
    crossings: AtomicU64,
}

impl Boundary {
    /// Crosses for something that answers at once.
    pub fn cross<T>(&self, import: Import, answer: impl FnOnce() -> T) -> T {
        self.count(import);
        answer()
    }

    /// Crosses for something that takes time. Dropping the future gives the crossing up.
    pub async fn cross_async<T>(&self, import: Import, answer: impl Future<Output = T>) -> T {
        self.count(import);
        answer.await
    }

    fn count(&self, import: Import) {
        tracing::trace!(?import, "host call");
        self.crossings.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often the call crossed.
    pub fn crossings(&self) -> u64 {
        self.crossings.load(Ordering::Relaxed)
    }
}
