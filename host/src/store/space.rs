//! Space within the database's file: pages that redb has freed and the disk still holds. A file does not shrink when
//! rows are deleted, so on a full disk these are the room for new ones.
//!
//! Measuring reads every page, so it is done where the answer decides something, and seldom: each measurement takes at
//! most a part in [`DUTY`] of the time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::table::Table;

/// Longest part of the time that measuring takes: one in so many.
const DUTY: u32 = 20;
const REST_MIN: Duration = Duration::from_millis(250);
/// Pages of redb's own tables, which it does not count.
const SYSTEM_BYTES: u64 = 1 << 20;

/// Last measurement, and what was written since.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    free_bytes: u64,
    /// When, and for how long, it was measured.
    measured: Option<(Instant, Duration)>,
    is_stale: bool,
}

impl Space {
    /// Returns the free bytes of the last measurement, less what was written since; none before the first.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let state = self.0.lock();
        state.measured.map(|_| state.free_bytes)
    }

    /// Whether a measurement would tell more, and the last one is long enough ago.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.measured.is_none_or(|(at, took)| state.is_stale && now - at >= (took * DUTY).max(REST_MIN))
    }

    /// Takes note of a commit that wrote `bytes`: it used free pages, and freed others.
    pub(super) fn written(&self, bytes: u64) {
        let mut state = self.0.lock();
        state.free_bytes = state.free_bytes.saturating_sub(bytes);
        state.is_stale = true;
    }

    /// Takes note of a commit that found no room.
    pub(super) fn exhausted(&self) {
        let mut state = self.0.lock();
        (state.free_bytes, state.is_stale) = (0, false);
    }

    pub(super) fn measured(&self, free_bytes: u64, began: Instant) {
        *self.0.lock() = State { free_bytes, measured: Some((Instant::now(), began.elapsed())), is_stale: false };
    }
}

/// Returns the bytes of pages in use. Reads all of them.
pub(super) fn used_bytes(db: &Database) -> Result<u64, redb::Error> {
    let transaction = db.begin_read()?;
    let mut bytes = SYSTEM_BYTES;
    for table in Table::ALL {
        let stats = transaction.open_table(table.definition())?.stats()?;
        bytes += stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_measured_again_after_a_write_and_a_rest() {
        let (space, now) = (Space::default(), Instant::now());
        assert!(space.is_due(now) && space.free_bytes().is_none());
        space.measured(1_000, now);
        let later = Instant::now() + REST_MIN * 100;
        assert!(!space.is_due(later), "nothing was written");
        space.written(300);
        assert_eq!(space.free_bytes(), Some(700));
        assert!(space.is_due(later) && !space.is_due(Instant::now()), "it rests between two");
        space.exhausted();
        assert!(!space.is_due(later) && space.free_bytes() == Some(0), "until something is written");
    }
}
