//! View of the writer's transaction: reads for deciders, and writes for the writer.
//!
//! A table is opened at its first use and kept open for the whole group of writes: opening it for each change would
//! cost more than the change.

use std::cell::OnceCell;
use std::ops::{Bound, Deref};

use redb::{AccessGuard, ReadableTable, WriteTransaction};

use super::table::{Table, is_empty};
use super::usage::{AppUsage, CountedRow, Usage, UsageChanges, app_of_record, usage_rows};
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

    /// Returns what an app keeps, with the changes of this transaction.
    pub(super) fn used_bytes(&self, app: &AppName) -> u64 {
        self.changes.bytes(self.usage, app.as_str())
    }

    pub(super) fn quota_bytes(&self) -> u64 {
        self.usage.quota_bytes()
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
