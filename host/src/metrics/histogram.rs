//! Histogram of durations, without a lock: a count for each bucket, and the sum of the durations.
//!
//! `prometheus_client`'s own histogram is behind a mutex, which all calls of an app would meet.

use std::array;

use super::shards::{Count, Shard};

/// Upper bounds of the buckets in microseconds; the last bucket has none. From a call of a tiny function to one that
/// waits for other sites.
const BOUNDS_US: [u64; 21] = [
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Count; BUCKETS],
    sum_us: Count,
}

impl Histogram {
    /// Counts one duration, from the thread of `shard`.
    pub(crate) fn observe_us(&self, shard: Shard, us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(shard, 1);
        self.sum_us.add(shard, us);
    }

    /// Returns the counts of this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let buckets = array::from_fn(|bucket| self.buckets[bucket].get());
        Snapshot { buckets, sum_us: self.sum_us.get() }
    }
}

/// Counts of a histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Snapshot {
    /// Adds those of another histogram.
    pub(crate) fn add(&mut self, other: &Snapshot) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, other)| *own += other);
        self.sum_us += other.sum_us;
    }

    /// Returns upper bounds in seconds, each with the count of its own bucket.
    pub(crate) fn buckets(&self) -> [(f64, u64); BUCKETS] {
        let bound = |bucket: usize| BOUNDS_US.get(bucket).map_or(f64::INFINITY, |us| *us as f64 / 1e6);
        array::from_fn(|bucket| (bound(bucket), self.buckets[bucket]))
    }

    /// Returns the number of durations.
    pub(crate) fn count(&self) -> u64 {
        // The sum of the buckets, so that the two agree whatever is counted meanwhile.
        self.buckets.iter().sum()
    }

    /// Returns the sum of the durations.
    pub(crate) fn seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 25, 26, 1_000_000, 1_000_001, u64::from(u32::MAX)] {
            histogram.observe_us(Shard::shared(), us);
        }
        let snapshot = histogram.snapshot();
        let counted: Vec<(f64, u64)> = snapshot.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(25e-6, 2), (50e-6, 1), (1.0, 1), (2.5, 1), (f64::INFINITY, 1)]);
        assert_eq!(snapshot.count(), 6);
        assert_eq!(snapshot.seconds(), (51 + 2_000_001 + u64::from(u32::MAX)) as f64 / 1e6);
    }

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS_US.is_sorted_by(|one, next| one < next));
    }
}
