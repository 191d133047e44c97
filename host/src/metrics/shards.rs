//! Counts that many threads add to: each of the first threads has a shard of its own, and a scrape sums them up.
//!
//! A thread adds to its own shard by a load and a store, about 1 ns; an atomic addition takes some 10 ns, and some 50
//! ns where several threads write the same cache line. Threads beyond the shards share the last one, by atomic
//! additions.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::tasks;

/// Shards at most: a function's then take 8 KiB.
const SHARDS_MAX: usize = 64;

/// Values of one kind, one for each shard.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[Line<T>]>);

/// Value on cache lines of its own; 128 bytes, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// Number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

/// Shard of the calling thread, which keeps it to itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    index: usize,
    /// Whether no other thread adds to it.
    is_own: bool,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl Shard {
    /// Returns the shard of this thread.
    pub(crate) fn here() -> Self {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: Shard = Shard::of_thread(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        // A thread that ends has dropped it.
        SHARD.try_with(|shard| *shard).unwrap_or_else(|_| Self::shared())
    }

    /// Returns the shard that any thread may add to.
    pub(crate) fn shared() -> Self {
        Self::of_thread(usize::MAX)
    }

    fn of_thread(number: usize) -> Self {
        let last = shards() - 1;
        Self { index: number.min(last), is_own: number < last, _stays_on_its_thread: PhantomData }
    }
}

/// Returns the number of shards, which never changes.
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    // One for each thread of the runtime, the main thread, and those that share.
    *SHARDS.get_or_init(|| tasks::cores().saturating_add(2).min(SHARDS_MAX))
}

impl<T> Sharded<T> {
    /// Returns the value of a shard.
    pub(crate) fn at(&self, shard: Shard) -> &T {
        &self.0[shard.index].0
    }

    /// Returns the values of all shards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }

    /// Sums up one count of all shards.
    pub(crate) fn sum(&self, count: impl Fn(&T) -> &Count) -> u64 {
        self.iter().map(|value| count(value).get()).sum()
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self((0..shards()).map(|_| Line::default()).collect())
    }
}

impl Count {
    /// Adds from the thread of `shard`, in whose value this count is.
    pub(crate) fn add(&self, shard: Shard, number: u64) {
        if shard.is_own {
            self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
        } else {
            self.0.fetch_add(number, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn counts_of_all_threads_are_in_the_sum() {
        let counts = Sharded::<Count>::default();
        std::thread::scope(|scope| {
            // More than there are shards, so that some share.
            for _ in 0..2 * SHARDS_MAX {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let shard = Shard::here();
                        counts.at(shard).add(shard, 1);
                    }
                });
            }
        });
        assert_eq!(counts.sum(|count| count), 2_000 * SHARDS_MAX as u64);
    }

    #[test]
    fn no_two_threads_have_one_shard_of_their_own() {
        let last = shards() - 1;
        let own: Vec<usize> = (0..2 * SHARDS_MAX).map(Shard::of_thread).filter(|s| s.is_own).map(|s| s.index).collect();
        assert_eq!(own, (0..last).collect::<Vec<_>>());
        assert!(!Shard::shared().is_own && Shard::shared().index == last);
    }
}
