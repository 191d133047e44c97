//! Reading: each call sees one state of the database, and blocks while it reads and copies.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::Store;
use super::error::StoreError;
use super::table::{Entry, Table, is_empty};

pub(super) type Open = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// One state of the database, for reads of several tables.
pub(super) struct Snapshot(ReadTransaction);

impl Snapshot {
    pub(super) fn open(&self, table: Table) -> Result<Open, redb::Error> {
        Ok(self.0.open_table(table.definition())?)
    }
}

impl Store {
    fn read<T>(&self, table: Table, read: impl Fn(&Open) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.file.read(|db| {
            let transaction = db.begin_read()?;
            read(&transaction.open_table(table.definition())?)
        })
    }

    /// Reads several tables in one state of the database.
    pub(super) fn at_once<T>(&self, read: impl Fn(&Snapshot) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.file.read(|db| read(&Snapshot(db.begin_read()?)))
    }

    /// Reads as `at_once` does, if that takes no wait; `None` if it would.
    pub(super) fn at_once_now<T>(
        &self,
        read: impl Fn(&Snapshot) -> Result<T, redb::Error>,
    ) -> Option<Result<T, StoreError>> {
        self.file.try_read(|db| read(&Snapshot(db.begin_read()?)))
    }

    /// Returns the value under `key`. Some milliseconds for the largest.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(table, |table| Ok(table.get(key)?.map(|value| value.value().to_vec())))
    }

    /// Returns whether `key` has a value.
    pub(crate) fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.read(table, |table| Ok(table.get(key)?.is_some()))
    }

    /// Returns all keys and values of a table, in order. For small tables, at start.
    pub(crate) fn entries(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        self.range(table, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)
    }

    /// Returns up to `limit` keys with `prefix`, in order, those behind `after` if it is given. Reads no more than
    /// these.
    pub(crate) fn keys(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        self.read(table, |table| {
            let mut keys = Vec::new();
            for entry in table.range::<&[u8]>((start, Bound::Unbounded))?.take(limit) {
                let (key, _) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                keys.push(key.value().to_vec());
            }
            Ok(keys)
        })
    }

    /// Returns up to `limit` entries between two keys, in order or, with `reverse`, from the last one on. Reads no more
    /// than these. Bounds that hold nothing between them give none.
    pub(crate) fn range(
        &self,
        table: Table,
        between: (Bound<&[u8]>, Bound<&[u8]>),
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        if is_empty(between) {
            return Ok(Vec::new());
        }
        self.read(table, |table| {
            let mut range = table.range::<&[u8]>(between)?;
            let mut entries = Vec::new();
            while entries.len() < limit {
                let Some(entry) = (if reverse { range.next_back() } else { range.next() }) else { break };
                let (key, value) = entry?;
                entries.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(entries)
        })
    }
}
