//! View of the writer's transaction: reads for deciders, and writes for the writer.
//!
//! A table is opened at its first use and kept open for the whole group of writes: opening it for each change would
//! cost more than the change.

use std::cell::OnceCell;
use std::ops::{Bound, Deref};

use redb::{AccessGuard, ReadableTable, WriteTransaction};

use super::table::{Table, is_empty};

type Open<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// State of the database within the writer's transaction, every earlier write included.
pub(crate) struct View<'txn> {
    transaction: &'txn WriteTransaction,
    tables: [OnceCell<Open<'txn>>; Table::ALL.len()],
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
    pub(super) fn new(transaction: &'txn WriteTransaction) -> Self {
        Self { transaction, tables: [const { OnceCell::new() }; Table::ALL.len()] }
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

    /// Writes a value. Returns nothing of the earlier one.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.open_mut(table)?.insert(key, value)?;
        Ok(())
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), ViewError> {
        self.open_mut(table)?.remove(key)?;
        Ok(())
    }
}
