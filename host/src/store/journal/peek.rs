//! Look at the quarantine of a directory without a host, and the reading of its rows.

use std::path::Path;

use super::error::JournalError;
use super::layout::quarantine::{DamagedRow, QuarantinedRow};
use crate::storage::StorageError;
use crate::store::dir::DATABASE_FILE;
use crate::store::peek::peek;
use crate::store::{DataLock, Entry as Row, StoreError, Table};

/// Quarantine of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Quarantined {
    Rows(Vec<QuarantinedRow>),
    /// A host has the directory; it looks after its quarantine itself.
    InUse {
        /// Id of its process.
        process: String,
    },
}

/// Returns the rows in quarantine of a directory, without changing anything in its database. Has the directory's lock
/// meanwhile. One without a database has no rows.
pub(crate) fn peek_quarantine(data: &Path) -> Result<Quarantined, StorageError> {
    let path = data.join(DATABASE_FILE);
    if !path.exists() {
        return Ok(Quarantined::Rows(Vec::new()));
    }
    let _lock = match DataLock::take(data) {
        Err(StoreError::InUse { holder, .. }) => return Ok(Quarantined::InUse { process: holder }),
        lock => lock?,
    };
    Ok(Quarantined::Rows(decode_all(peek(&path, Table::Quarantine)?)?))
}

pub(crate) fn decode_all(entries: Vec<Row>) -> Result<Vec<QuarantinedRow>, JournalError> {
    let decode = |(key, value): Row| {
        QuarantinedRow::decode(&key, value).map_err(|error| {
            let damaged = DamagedRow { table: Table::Quarantine, key, reason: error.to_string() };
            JournalError::Damaged(Box::new(damaged))
        })
    };
    entries.into_iter().map(decode).collect()
}
