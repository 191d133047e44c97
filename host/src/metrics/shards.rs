//! Shards of counters: threads add to different cache lines, and a scrape sums them up.
//!
//! One line that every thread writes costs each addition the way between the cores' caches, some 50 ns.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Shards at most, a power of two; threads beyond that share.
const SHARDS_MAX: usize = 16;

/// Counters of one kind, several times; their number is a power of two.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Line<T>]>);

/// Value on cache lines of its own; 128 bytes, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Sharded<T> {
    /// Returns the shard of this thread.
    pub fn local(&self) -> &T {
        // A mask: the division of `%` would take longer than the addition.
        &self.0[thread_number() & (self.0.len() - 1)].0
    }

    /// Returns all shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self((0..threads.next_power_of_two().min(SHARDS_MAX)).map(|_| Line::default()).collect())
    }
}

/// Returns the number of this thread, in the order of their first counts.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that ends has dropped it.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn counts_of_all_threads_are_in_the_sum() {
        let counts = Sharded::<AtomicU64>::default();
        thread::scope(|scope| {
            for _ in 0..2 * SHARDS_MAX {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        counts.local().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(), 32_000);
    }
}
