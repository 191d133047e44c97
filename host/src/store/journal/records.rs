//! Records of calls and maps, read from a store.

use super::{record, rows};
use crate::ids::{CallId, MapId};
use crate::storage::key::{self, Kind};
use crate::storage::{CallRecord, JournalError, MapHeader, MapProgress, MapRecord};
use crate::store::{Store, Table};

/// Returns the record of a call.
pub fn call(store: &Store, id: CallId) -> Result<Option<CallRecord>, JournalError> {
    let found = store.get(Table::Calls, id.as_bytes())?;
    found.map(|row| record(Table::Calls, id.as_bytes(), &row)).transpose()
}

/// Returns the record of a call that is not about to be deleted.
pub fn visible_call(store: &Store, id: CallId) -> Result<Option<CallRecord>, JournalError> {
    let Some(call) = call(store, id)? else { return Ok(None) };
    let is_deleted = call.state.is_terminal() && is_expiring(store, Kind::Call, *id.as_bytes())?;
    Ok((!is_deleted).then_some(call))
}

/// Returns the header of a map.
pub fn header(store: &Store, id: MapId) -> Result<Option<MapHeader>, JournalError> {
    let at = key::map_header(id);
    store.get(Table::Maps, &at)?.map(|row| record(Table::Maps, &at, &row)).transpose()
}

/// Returns a map that is not about to be deleted.
pub fn visible_map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    let Some(map) = map(store, id)? else { return Ok(None) };
    let is_deleted = map.progress.ended_ms.is_some() && is_expiring(store, Kind::Map, *id.as_bytes())?;
    Ok((!is_deleted).then_some(map))
}

/// Returns a map, also one that is about to be deleted.
pub fn map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    // Both rows in one read, so that they fit each other.
    let mut found = rows(store, Table::Maps, id.as_bytes(), None, 2)?.into_iter();
    let (Some((at, header)), progress) = (found.next(), found.next()) else { return Ok(None) };
    let header: MapHeader = record(Table::Maps, &at, &header)?;
    let progress = progress.map(|(at, row)| record::<MapProgress>(Table::Maps, &at, &row)).transpose()?;
    Ok(Some(MapRecord { header, progress: progress.unwrap_or_default() }))
}

/// Whether a call or map that is marked is answered for as if it was deleted.
pub fn is_expiring(store: &Store, kind: Kind, id: [u8; 16]) -> Result<bool, JournalError> {
    Ok(store.contains(Table::JournalIndex, &key::expiring(kind, id))?)
}
