//! Rows of the database, for the targets in `fuzz/`.

use std::path::Path;

use super::dir::DATABASE_FILE;
use super::peek::peek;
use super::table::Table;

pub use super::journal::fuzzing::{KINDS, kind_of, reread};

/// Name of a table, key and value.
pub type Row = (&'static str, Vec<u8>, Vec<u8>);

/// Returns the rows of a data directory, by the names of their tables, and changes nothing.
pub fn rows(data: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for table in Table::ALL {
        let found =
            peek(&data.join(DATABASE_FILE), table).map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        rows.extend(found.into_iter().map(|(key, value)| (table.name(), key, value)));
    }
    Ok(rows)
}
