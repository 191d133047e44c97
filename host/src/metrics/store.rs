//! Counters of the store's commits.

use std::fmt;
use std::time::Duration;

use super::families::{Families, Source};
use super::histogram::Histogram;
use super::shards::{Count, Shard};
use crate::call::micros;

/// See the module.
#[derive(Debug, Default)]
pub struct StoreCounters {
    commits: Histogram,
    commits_failed: Count,
}

impl StoreCounters {
    /// Counts a commit that ended after `elapsed`.
    pub(crate) fn count_commit(&self, elapsed: Duration, is_committed: bool) {
        if is_committed {
            self.commits.observe_us(Shard::shared(), micros(elapsed));
        } else {
            self.commits_failed.add(Shard::shared(), 1);
        }
    }
}

impl Source for StoreCounters {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let commits = self.commits.snapshot();
        families.counters(
            "store_commits",
            "Commits of the database, each of one or more writes",
            [([], commits.count())],
        )?;
        let failed = self.commits_failed.get();
        families.counters("store_commits_failed", "Commits that failed, and their writes with them", [([], failed)])?;
        families.histograms("store_commit_duration_seconds", "Time of a commit, fsync included", [([], commits)])
    }
}
