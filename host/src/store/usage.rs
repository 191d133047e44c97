//! Bytes that each app keeps on disk, counted with each change and in the transaction that makes it.
//!
//! The count of an app is the sum over its rows, key and value: key-value data, calls, maps, their inputs and outputs,
//! [`INDEX_BYTES`] for what finds each call and map, and the size of each file that a call or map refers to. A file
//! that several refer to counts for each.
//!
//! | key in `usage` | value |
//! |---|---|
//! | name of an app | bytes, and values over [`LARGE_VALUE_BYTES`]: 8 bytes each, the highest first |
//! | `\0counted` | nothing: the rows above are exact |
//!
//! Invariants: a commit has the counts of what it changed, so no crash falls between the two; a change whose app cannot
//! be told takes the mark `\0counted` away, and the next start counts anew (`recount`).

mod changes;
mod owner;
mod recount;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub(super) use self::changes::{CountedRow, UsageChanges, rows as usage_rows};
pub(super) use self::owner::{app_of_record, file_row};
#[cfg(test)]
pub(super) use self::recount::counted;
pub(super) use self::recount::{is_counted, read, recount};
use super::table::Table;
use crate::ids::AppName;
use crate::storage::OverQuota;

/// Mark of exact counts.
const COUNTED: &[u8] = b"\0counted";
/// What the index of one call or map counts for.
const INDEX_BYTES: u64 = 256;
/// Bytes over which a value is read off the runtime's threads.
pub(super) const LARGE_VALUE_BYTES: usize = 64 << 10;

/// What one app keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppUsage {
    pub bytes: u64,
    /// Values of its buckets over `LARGE_VALUE_BYTES`.
    pub large_values: u64,
}

/// Committed counts of all apps, and the quota that holds for each.
#[derive(Debug)]
pub(super) struct Usage {
    by_app: Mutex<HashMap<Box<str>, AppUsage>>,
    quota_bytes: AtomicU64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { by_app: Mutex::default(), quota_bytes: AtomicU64::new(u64::MAX) }
    }
}

impl Usage {
    pub(super) fn quota_bytes(&self) -> u64 {
        self.quota_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_quota_bytes(&self, bytes: u64) {
        self.quota_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn of(&self, app: &str) -> AppUsage {
        self.by_app.lock().get(app).copied().unwrap_or_default()
    }

    /// Returns the apps that keep anything, by name.
    pub(super) fn all(&self) -> Vec<(Box<str>, AppUsage)> {
        let mut all: Vec<_> = self.by_app.lock().iter().map(|(app, usage)| (app.clone(), *usage)).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Takes over the counts of apps that a commit has changed.
    pub(super) fn commit(&self, changed: Vec<(Box<str>, AppUsage)>) {
        let mut by_app = self.by_app.lock();
        for (app, usage) in changed {
            match usage == AppUsage::default() {
                true => drop(by_app.remove(&app)),
                false => drop(by_app.insert(app, usage)),
            }
        }
    }

    /// Puts the counts of the database in the place of those in memory.
    pub(super) fn replace(&self, all: impl IntoIterator<Item = (Box<str>, AppUsage)>) {
        *self.by_app.lock() = all.into_iter().collect();
    }

    /// Returns the refusal of an app that is at its quota or above it.
    pub(super) fn over_quota(&self, app: &AppName) -> Option<OverQuota> {
        let (used_bytes, quota_bytes) = (self.of(app.as_str()).bytes, self.quota_bytes());
        (used_bytes >= quota_bytes).then(|| OverQuota { app: app.clone(), used_bytes, quota_bytes })
    }
}

impl AppUsage {
    fn encode(self) -> [u8; 16] {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&self.bytes.to_be_bytes());
        row[8..].copy_from_slice(&self.large_values.to_be_bytes());
        row
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (bytes, rest) = row.split_first_chunk()?;
        let large_values = u64::from_be_bytes(rest.try_into().ok()?);
        Some(Self { bytes: u64::from_be_bytes(*bytes), large_values })
    }
}

/// Table of the counts.
const TABLE: Table = Table::Usage;
