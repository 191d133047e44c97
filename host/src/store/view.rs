//! View of the writer's transaction: reads for deciders, and writes for the writer.
//!
//! A table is opened at its first use and kept open for the whole group of writes: opening it for each change would
//! cost more than the change.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::{Bound, Deref};

use redb::{AccessGuard, ReadableTable, WriteTransaction};

use super::op::Op;
use super::table::{Table, is_empty};
use super::usage::{AppUsage, CountedRow, OverQuota, Usage, UsageChanges, app_of_record, usage_rows};
use crate::ids::AppName;

type Open<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// State of the database within the writer's transaction, every earlier write included.
pub(crate) struct View<'txn> {
    transaction: &'txn WriteTransaction,
    tables: [OnceCell<Open<'txn>>; Table::ALL.len()],
    usage: &'txn Usage,
    changes: UsageChanges,
}

/// Read that failed within a transaction. A decider passes it on, and the whole transaction fails with it.
#[derive(Debug)]
pub(crate) struct ViewError(pub(super) redb::Error);

impl<E: Into<redb::Error>> From<E> for ViewError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Key or value of a row, in redb's memory.
pub(crate) struct RowBytes<'a>(AccessGuard<'a, &'static [u8]>);

impl Deref for RowBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.value()
    }
}

impl<'txn> View<'txn> {
    pub(super) fn new(transaction: &'txn WriteTransaction, usage: &'txn Usage) -> Self {
        let tables = [const { OnceCell::new() }; Table::ALL.len()];
        Self { transaction, tables, usage, changes: UsageChanges::default() }
    }

    /// Returns the value under `key`.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<RowBytes<'_>>, ViewError> {
        Ok(self.open(table)?.get(key)?.map(RowBytes))
    }

    /// Returns whether `key` has a value.
    pub(crate) fn contains(&self, table: Table, key: &[u8]) -> Result<bool, ViewError> {
        Ok(self.open(table)?.get(key)?.is_some())
    }

    /// Returns the last row between two keys.
    pub(crate) fn last(
        &self,
        table: Table,
        between: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<Option<(RowBytes<'_>, RowBytes<'_>)>, ViewError> {
        if is_empty(between) {
            return Ok(None);
        }
        let row = self.open(table)?.range::<&[u8]>(between)?.next_back().transpose()?;
        Ok(row.map(|(key, value)| (RowBytes(key), RowBytes(value))))
    }

    fn open(&self, table: Table) -> Result<&Open<'txn>, ViewError> {
        let cell = &self.tables[table as usize];
        if cell.get().is_none() {
            let _ = cell.set(self.transaction.open_table(table.definition())?);
        }
        Ok(cell.get().expect("it was set above"))
    }

    fn open_mut(&mut self, table: Table) -> Result<&mut Open<'txn>, ViewError> {
        self.open(table)?;
        Ok(self.tables[table as usize].get_mut().expect("it was opened above"))
    }

    /// Writes a value, and counts it. Returns nothing of the earlier one.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        let before = self.open_mut(table)?.insert(key, value)?.map(|old| CountedRow::of(table, key, old.value()));
        self.changes.count(table, key, before, Some(CountedRow::of(table, key, value)));
        Ok(())
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), ViewError> {
        let before = self.open_mut(table)?.remove(key)?.map(|old| CountedRow::of(table, key, old.value()));
        self.changes.count(table, key, before, None);
        Ok(())
    }

    /// Returns the refusal of changes that would take an app over its quota. What keeps no more than before is never
    /// refused.
    pub(crate) fn over_quota(&self, app: &AppName, changes: &[Cow<'_, [Op]>]) -> Result<Option<OverQuota>, ViewError> {
        let (used_bytes, quota_bytes) = (self.changes.bytes(self.usage, app.as_str()), self.usage.quota_bytes());
        let added: u64 = changes.iter().flat_map(|ops| ops.iter()).map(|op| op.bytes() as u64).sum();
        // The exact growth takes a look at each row that is replaced, so it is asked for near the quota alone.
        if used_bytes.saturating_add(added) <= quota_bytes {
            return Ok(None);
        }
        let mut growth = 0_i64;
        for op in changes.iter().flat_map(|ops| ops.iter()) {
            growth = growth.saturating_add(self.growth(op)?);
        }
        let fits = growth <= 0 || used_bytes.saturating_add_signed(growth) <= quota_bytes;
        Ok((!fits).then(|| OverQuota { app: app.clone(), used_bytes, quota_bytes }))
    }

    /// Returns how many bytes a change adds to what its app keeps.
    fn growth(&self, op: &Op) -> Result<i64, ViewError> {
        let bytes = |table, key: &[u8]| -> Result<u64, ViewError> {
            Ok(self.get(table, key)?.map_or(0, |row| CountedRow::of(table, key, &row).bytes()))
        };
        Ok(match op {
            Op::Put { table, key, value } => {
                let after = CountedRow::of(*table, key, value).bytes();
                after.cast_signed().saturating_sub(bytes(*table, key)?.cast_signed())
            }
            Op::Delete { table, key } => -bytes(*table, key)?.cast_signed(),
            Op::Decide(decider) => {
                let mut growth = 0_i64;
                for op in decider.decide(self)?.iter().flat_map(|ops| ops.iter()) {
                    growth = growth.saturating_add(self.growth(op)?);
                }
                growth
            }
        })
    }

    /// Writes the counts of what has changed, and returns them. Last in the transaction.
    pub(super) fn keep_usage(&mut self) -> Result<Vec<(Box<str>, AppUsage)>, ViewError> {
        for id in self.changes.unknown() {
            let header = [id.as_slice(), b"h"].concat();
            let record = match self.get(Table::Calls, &id)? {
                Some(record) => Some(record),
                None => self.get(Table::Maps, &header)?,
            };
            if let Some(app) = record.and_then(|record| app_of_record(&record)) {
                self.changes.learn(id, app);
            }
        }
        let totals = self.changes.totals(self.usage);
        for (key, row) in usage_rows(&totals, self.changes.unknown().is_empty()) {
            match row {
                Some(row) => drop(self.open_mut(Table::Usage)?.insert(key.as_slice(), row.as_slice())?),
                None => drop(self.open_mut(Table::Usage)?.remove(key.as_slice())?),
            }
        }
        Ok(totals)
    }
}
