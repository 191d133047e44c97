//! Format of the file: its number, and the migration of older ones.
//!
//! Format 1 has no number: the tables `key-value` and `deployments`. Format 2 has the table `format`, and the
//! journal's. Format 3 has holders of leases, marks of what is being deleted, scheduled runs that are calls, and the
//! quarantine: rows that an older bireme would run twice, or show. Format 4 has the table `usage`, which an older
//! bireme would leave behind what it writes; `usage` fills it once the file is open. Rows of older formats are read as
//! they are. An older bireme ignores the table `expiring-values`: what expires is absent there.
//! `docs/decisions/store-format.md` says what raises the number and how a version's fixture is made.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, TableDefinition, TableError, TableHandle};

use super::error::StoreError;
use super::table::Table;
use crate::failpoint;

/// The format that this version reads and writes.
pub(super) const FORMAT: u32 = 4;

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("format");
const KEY: &[u8] = b"number";

/// Brings a database that was just opened, or made, to the present format. Changes nothing where it has it.
pub(super) fn prepare(db: &Database, path: &Path) -> Result<(), StoreError> {
    let read = || -> Result<(u32, bool), redb::Error> {
        let transaction = db.begin_read()?;
        let names: HashSet<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
        let is_complete = Table::ALL.iter().all(|table| names.contains(table.name()));
        Ok((number(&transaction)?, is_complete))
    };
    let (found, is_complete) =
        read().map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    if found > FORMAT {
        return Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    if found == FORMAT && is_complete {
        return Ok(());
    }
    failpoint::hit("store.migrate.before");
    migrate(db).map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    failpoint::hit("store.migrate.after");
    if found < FORMAT && found > 0 {
        tracing::info!(from = found, to = FORMAT, "the data directory has a new format");
    }
    Ok(())
}

/// Returns the number that stands in the file; 1 where none does.
fn number(transaction: &redb::ReadTransaction) -> Result<u32, redb::Error> {
    let table = match transaction.open_table(TABLE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(1),
        Err(error) => return Err(error.into()),
    };
    let value = table.get(KEY)?;
    let number = value.and_then(|value| value.value().try_into().ok().map(u32::from_be_bytes));
    number.ok_or_else(|| redb::Error::Corrupted("the table `format` holds no number".to_owned()))
}

/// All steps in one transaction, so that no crash leaves a file between two formats.
fn migrate(db: &Database) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // 1 to 2, 2 to 3, and 3 to 4: tables that were not there before. Reading needs them to exist.
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    failpoint::hit("store.migrate.tables");
    transaction.open_table(TABLE)?.insert(KEY, FORMAT.to_be_bytes().as_slice())?;
    failpoint::hit("store.migrate.number");
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
pub(super) fn set_number(db: &Database, number: u32) {
    let transaction = db.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert(KEY, number.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::store::Store;

    /// What this snapshot shows is in the data directories of users (`docs/decisions/store-format.md`).
    #[test]
    fn tables_and_the_number_are_on_disk_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        drop(Store::open(&path).unwrap());
        let db = Database::open(&path).unwrap();
        let transaction = db.begin_read().unwrap();
        let mut names: Vec<String> = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        names.sort();
        expect![[r#"
            call-inputs
            call-outputs
            calls
            deployments
            expiring-values
            format
            host
            journal-index
            key-value
            map-inputs
            map-pending
            map-results
            maps
            quarantine
            schedules
            usage"#]]
        .assert_eq(&names.join("\n"));
        let table = TableDefinition::<&[u8], &[u8]>::new("format");
        let number = transaction.open_table(table).unwrap().get(&b"number"[..]).unwrap().unwrap();
        assert_eq!(number.value(), [0, 0, 0, 4]);
    }
}
