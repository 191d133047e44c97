//! Owners and weights of rows: plain functions of a row's table, key and value.

use std::borrow::Cow;

use serde::Deserialize;

use super::{INDEX_BYTES, LARGE_VALUE_BYTES};
use crate::store::table::Table;

/// Owner of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    App(&'a str),
    /// Id of a call or map, whose record has the app.
    Record(&'a [u8; 16]),
}

/// Weight of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub bytes: u64,
    pub large_values: u64,
}

/// The only field of a call's record, or a map's header, that is needed here.
#[derive(Deserialize)]
struct AppView<'a> {
    #[serde(borrow)]
    app: Cow<'a, str>,
}

/// Returns the app in the record of a call, or the header of a map.
pub(crate) fn app_of_record(row: &[u8]) -> Option<Box<str>> {
    serde_json::from_slice::<AppView<'_>>(row).ok().map(|view| view.app.into())
}

/// Whether a row tells the app of its call or map.
pub(super) fn is_record(table: Table, key: &[u8]) -> bool {
    table == Table::Calls || (table == Table::Maps && key.last() == Some(&b'h'))
}

/// Returns the owner of a row; none of a row that is not counted.
pub(super) fn owner(table: Table, key: &[u8]) -> Option<Owner<'_>> {
    match table {
        Table::KeyValue => app_before_nul(key),
        Table::ExpiringValues => match key.split_first()? {
            (b'v', key) => app_before_nul(key),
            (b't', key) => app_before_nul(key.get(8..)?),
            _ => None,
        },
        Table::Calls
        | Table::CallInputs
        | Table::CallOutputs
        | Table::Maps
        | Table::MapInputs
        | Table::MapPending
        | Table::MapResults => key.first_chunk().map(Owner::Record),
        Table::JournalIndex => key.strip_prefix(b"R")?.first_chunk().map(Owner::Record),
        Table::Deployments | Table::Schedules | Table::Host | Table::Quarantine | Table::Usage => None,
    }
}

fn app_before_nul(key: &[u8]) -> Option<Owner<'_>> {
    let nul = key.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&key[..nul]).ok().map(Owner::App)
}

/// Returns the weight of a row that has an owner.
pub(super) fn weight(table: Table, key: &[u8], value: &[u8]) -> Weight {
    let row_bytes = (key.len() + value.len()) as u64;
    let is_large = value.len() > LARGE_VALUE_BYTES && matches!(table, Table::KeyValue | Table::ExpiringValues);
    let bytes = match table {
        Table::JournalIndex => file_bytes(value).unwrap_or_default(),
        _ if is_record(table, key) => row_bytes + INDEX_BYTES,
        _ => row_bytes,
    };
    Weight { bytes, large_values: u64::from(is_large) }
}

/// Returns the row of a reference to a file.
pub(crate) fn file_row(bytes: u64) -> Vec<u8> {
    bytes.to_be_bytes().to_vec()
}

/// Returns the size in such a row; none in one of format 3 or before.
pub(super) fn file_bytes(row: &[u8]) -> Option<u64> {
    row.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_owner_that_its_key_names() {
        let id = [7; 16];
        let cases: [(Table, Vec<u8>, Option<Owner<'_>>); 9] = [
            (Table::KeyValue, b"app\0bucket\0key".to_vec(), Some(Owner::App("app"))),
            (Table::KeyValue, b"app".to_vec(), None),
            (Table::ExpiringValues, b"vapp\0b\0k".to_vec(), Some(Owner::App("app"))),
            (Table::ExpiringValues, b"t\0\0\0\0\0\0\0\x01app\0b\0k".to_vec(), Some(Owner::App("app"))),
            (Table::Calls, id.to_vec(), Some(Owner::Record(&id))),
            (Table::MapResults, [&id[..], b"12345678"].concat(), Some(Owner::Record(&id))),
            (Table::JournalIndex, [b"R", &id[..], &[1; 32]].concat(), Some(Owner::Record(&id))),
            (Table::JournalIndex, [b"oc", &id[..]].concat(), None),
            (Table::Deployments, b"app\0".to_vec(), None),
        ];
        for (table, key, expected) in &cases {
            assert_eq!(owner(*table, key), *expected, "{table:?}");
        }
    }

    #[test]
    fn a_file_weighs_its_size_and_a_record_its_index_too() {
        let weight = |table, key: &[u8], value: &[u8]| weight(table, key, value);
        assert_eq!(weight(Table::JournalIndex, b"R", &file_row(300_000)).bytes, 300_000);
        assert_eq!(weight(Table::JournalIndex, b"R", b"").bytes, 0, "as format 3 has it");
        assert_eq!(weight(Table::Calls, b"id", b"{}").bytes, 4 + INDEX_BYTES);
        assert_eq!(weight(Table::Maps, b"idh", b"{}").bytes, 5 + INDEX_BYTES);
        assert_eq!(weight(Table::Maps, b"idp", b"{}").bytes, 5);
        let large = vec![0; LARGE_VALUE_BYTES + 1];
        assert_eq!(weight(Table::KeyValue, b"", &large).large_values, 1);
        assert_eq!(weight(Table::MapInputs, b"", &large).large_values, 0);
    }
}
