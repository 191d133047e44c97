//! Look at the quarantine of a directory without a host, and the reading of its rows.

use std::path::Path;

use crate::storage::quarantine::QuarantinedRow;
use crate::storage::{DamagedRow, JournalError};
use crate::store::{self, Entry as Row, Table};

/// Returns the rows in quarantine of a directory that no host has, without changing anything.
pub fn peek_quarantine(dir: &Path) -> Result<Vec<QuarantinedRow>, JournalError> {
    decode_all(store::peek(&dir.join("store.redb"), Table::Quarantine)?)
}

pub fn decode_all(entries: Vec<Row>) -> Result<Vec<QuarantinedRow>, JournalError> {
    let decode = |(key, value): Row| {
        QuarantinedRow::decode(&key, value).map_err(|error| {
            let damaged = DamagedRow { table: Table::Quarantine, key, reason: error.to_string() };
            JournalError::Damaged(Box::new(damaged))
        })
    };
    entries.into_iter().map(decode).collect()
}
