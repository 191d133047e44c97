//! Look into a database file without a host: nothing of it is changed, repaired or migrated.

use std::path::Path;
use std::sync::Arc;

use redb::{Builder, ReadableDatabase, ReadableTable, TableError};

use super::error::StoreError;
use super::overlay::Overlay;
use super::table::{Entry, Table};

/// Returns all rows of a table; none where there is no database, or one of a format without that table. A file whose
/// last host was killed while it wrote is repaired in memory.
pub(crate) fn peek(path: &Path, table: Table) -> Result<Vec<Entry>, StoreError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = || -> Result<Vec<Entry>, redb::Error> {
        let db = Builder::new().create_with_backend(Overlay::open(path)?)?;
        let table = match db.begin_read()?.open_table(table.definition()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let entries =
            table.iter()?.map(|entry| entry.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())));
        Ok(entries.collect::<Result<_, _>>()?)
    };
    read().map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })
}
