//! Count from scratch: at the first start over a directory of an older format, and after a change whose app could not
//! be told.

use std::collections::HashMap;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};

use super::owner::{self, Owner};
use super::{AppUsage, COUNTED, TABLE};
use crate::failpoint;
use crate::store::table::Table;

/// Tables whose rows belong to a call or map, after those that tell its app.
const OF_RECORDS: [Table; 7] = [
    Table::Calls,
    Table::Maps,
    Table::CallInputs,
    Table::CallOutputs,
    Table::MapInputs,
    Table::MapPending,
    Table::MapResults,
];

/// Whether the counts in a database are exact.
pub(crate) fn is_counted(db: &Database) -> Result<bool, redb::Error> {
    Ok(db.begin_read()?.open_table(TABLE.definition())?.get(COUNTED)?.is_some())
}

/// Reads the counts in a database; a row that cannot be read counts nothing.
pub(crate) fn read(db: &Database) -> Result<Vec<(Box<str>, AppUsage)>, redb::Error> {
    let mut counts = Vec::new();
    for row in db.begin_read()?.open_table(TABLE.definition())?.iter()? {
        let (key, value) = row?;
        let app = std::str::from_utf8(key.value()).ok().filter(|app| !app.starts_with('\0'));
        counts.extend(app.zip(AppUsage::decode(value.value())).map(|(app, usage)| (app.into(), usage)));
    }
    Ok(counts)
}

/// Counts every row anew, in one transaction: a crash leaves the directory to be counted again. References of format 3
/// and before get the size of their file, as `file_bytes` tells it.
pub(crate) fn recount(
    db: &Database,
    file_bytes: &dyn Fn(&[u8; 32]) -> Option<u64>,
) -> Result<HashMap<Box<str>, AppUsage>, redb::Error> {
    failpoint::hit("store.count.before");
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    size_references(&transaction, file_bytes)?;
    let counts = count(&transaction)?;
    {
        let mut table = transaction.open_table(TABLE.definition())?;
        table.retain(|_, _| false)?;
        for (app, usage) in &counts {
            table.insert(app.as_bytes(), usage.encode().as_slice())?;
        }
        table.insert(COUNTED, b"".as_slice())?;
    }
    failpoint::hit("store.count.rows");
    transaction.commit()?;
    failpoint::hit("store.count.after");
    Ok(counts)
}

/// Returns what a count from scratch finds, and whether the rows say that theirs is exact.
#[cfg(test)]
pub(crate) fn counted(db: &Database) -> Result<(HashMap<Box<str>, AppUsage>, bool), redb::Error> {
    let is_exact = is_counted(db)?;
    let transaction = db.begin_write()?;
    let counts = count(&transaction)?;
    transaction.abort()?;
    Ok((counts, is_exact))
}

/// Writes the sizes of files into references without one.
fn size_references(
    transaction: &WriteTransaction,
    file_bytes: &dyn Fn(&[u8; 32]) -> Option<u64>,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(Table::JournalIndex.definition())?;
    let mut unsized_rows = Vec::new();
    for row in table.range(b"R".as_slice()..b"S".as_slice())? {
        let (key, value) = row?;
        if owner::file_bytes(value.value()).is_none() {
            unsized_rows.push(key.value().to_vec());
        }
    }
    for key in unsized_rows {
        let digest = key.len().checked_sub(32).and_then(|at| key[at..].first_chunk());
        if let Some(bytes) = digest.and_then(file_bytes) {
            table.insert(key.as_slice(), owner::file_row(bytes).as_slice())?;
        }
    }
    Ok(())
}

/// Returns what each app keeps. Rows whose app cannot be told count for none.
fn count(transaction: &WriteTransaction) -> Result<HashMap<Box<str>, AppUsage>, redb::Error> {
    let (mut counts, mut apps, mut by_record) = (Counts::default(), Vec::<Box<str>>::new(), HashMap::new());
    for table in [Table::KeyValue, Table::ExpiringValues].into_iter().chain(OF_RECORDS).chain([Table::JournalIndex]) {
        let open = transaction.open_table(table.definition())?;
        let rows = match table {
            Table::JournalIndex => open.range(b"R".as_slice()..b"S".as_slice())?,
            _ => open.iter()?,
        };
        for row in rows {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let Some(owner) = owner::owner(table, key) else { continue };
            let weight = owner::weight(table, key, value);
            let app = match owner {
                Owner::App(app) => app,
                Owner::Record(id) => {
                    if owner::is_record(table, key)
                        && let Some(app) = owner::app_of_record(value)
                    {
                        by_record.insert(*id, index_of(&mut apps, app));
                    }
                    match by_record.get(id) {
                        Some(index) => &apps[*index as usize],
                        None => continue,
                    }
                }
            };
            counts.add(app, weight);
        }
    }
    Ok(counts.0)
}

/// Returns the place of an app among those seen; apps are few beside calls.
fn index_of(apps: &mut Vec<Box<str>>, app: Box<str>) -> u32 {
    let at = apps.iter().position(|seen| *seen == app).unwrap_or_else(|| {
        apps.push(app);
        apps.len() - 1
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Counts(HashMap<Box<str>, AppUsage>);

impl Counts {
    fn add(&mut self, app: &str, weight: owner::Weight) {
        if !self.0.contains_key(app) {
            self.0.insert(app.into(), AppUsage::default());
        }
        if let Some(usage) = self.0.get_mut(app) {
            usage.bytes = usage.bytes.saturating_add(weight.bytes);
            usage.large_values += weight.large_values;
        }
    }
}
