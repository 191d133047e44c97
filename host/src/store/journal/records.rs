//! Records of calls and maps, read from a store or within a decider.

use serde::Deserialize;

use super::error::JournalError;
use super::layout::codec::Reader;
use super::layout::key;
use super::{Owner, record, rows};
use crate::ids::{AppName, CallId, MapId};
use crate::storage::{CallRecord, Kind, LeaseHolder, MapHeader, MapProgress, MapRecord, State};
use crate::store::{Store, Table, View, ViewError};

/// Fields of a call's record by which a decider tells who may write it; the others are passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct LeaseView {
    pub state: State,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default)]
    pub lease: Option<LeaseHolder>,
}

/// The flag of a map's header that a decider needs of a parent.
#[derive(Debug, Deserialize)]
pub(crate) struct CancelView {
    #[serde(default)]
    pub is_cancelled: bool,
}

/// Returns the record of a call.
pub(crate) fn call(store: &Store, id: CallId) -> Result<Option<CallRecord>, JournalError> {
    let found = store.get(Table::Calls, id.as_bytes())?;
    found.map(|row| record(Table::Calls, id.as_bytes(), &row)).transpose()
}

/// Returns the record of a call that is not about to be deleted.
pub(crate) fn visible_call(store: &Store, id: CallId) -> Result<Option<CallRecord>, JournalError> {
    let Some(call) = call(store, id)? else { return Ok(None) };
    let is_deleted = call.state.is_terminal() && is_expiring(store, Kind::Call, *id.as_bytes())?;
    Ok((!is_deleted).then_some(call))
}

/// Returns the header of a map.
pub(crate) fn header(store: &Store, id: MapId) -> Result<Option<MapHeader>, JournalError> {
    let at = key::map_header(id);
    store.get(Table::Maps, &at)?.map(|row| record(Table::Maps, &at, &row)).transpose()
}

/// Returns a map that is not about to be deleted.
pub(crate) fn visible_map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    let Some(map) = map(store, id)? else { return Ok(None) };
    let is_deleted = map.progress.ended_ms.is_some() && is_expiring(store, Kind::Map, *id.as_bytes())?;
    Ok((!is_deleted).then_some(map))
}

/// Returns a map, also one that is about to be deleted.
pub(crate) fn map(store: &Store, id: MapId) -> Result<Option<MapRecord>, JournalError> {
    // Both rows in one read, so that they fit each other.
    let mut found = rows(store, Table::Maps, id.as_bytes(), None, 2)?.into_iter();
    let (Some((at, header)), progress) = (found.next(), found.next()) else { return Ok(None) };
    let header: MapHeader = record(Table::Maps, &at, &header)?;
    let progress = progress.map(|(at, row)| record::<MapProgress>(Table::Maps, &at, &row)).transpose()?;
    Ok(Some(MapRecord { header, progress: progress.unwrap_or_default() }))
}

/// Returns a map as the transaction has it.
pub(crate) fn map_within(view: &View<'_>, id: MapId) -> Result<Result<Option<MapRecord>, JournalError>, ViewError> {
    let (header_at, progress_at) = (key::map_header(id), key::map_progress(id));
    let (header, progress) = (view.get(Table::Maps, &header_at)?, view.get(Table::Maps, &progress_at)?);
    let read = || -> Result<Option<MapRecord>, JournalError> {
        let Some(header) = header else { return Ok(None) };
        let header: MapHeader = record(Table::Maps, &header_at, &header)?;
        let progress = progress.map(|row| record::<MapProgress>(Table::Maps, &progress_at, &row)).transpose()?;
        Ok(Some(MapRecord { header, progress: progress.unwrap_or_default() }))
    };
    Ok(read())
}

/// Returns whether a call or map that is marked is answered for as if it was deleted.
pub(crate) fn is_expiring(store: &Store, kind: Kind, id: [u8; 16]) -> Result<bool, JournalError> {
    Ok(store.contains(Table::JournalIndex, &key::expiring(kind, id))?)
}

/// Returns the app of an open call, by its row in the index.
pub(super) fn read_open_app(row: Vec<u8>) -> Option<AppName> {
    AppName::new(&Reader::new(row).text().ok()?).ok()
}

/// Returns the app of a call or map that is open, as far as it can be told: those are the ones that are counted.
pub(super) fn app_of(store: &Store, Owner { kind, id }: Owner) -> Result<Option<AppName>, JournalError> {
    let app = match kind {
        Kind::Call => {
            let row = store.get(Table::JournalIndex, &key::open_call(CallId::from_bytes(id)))?;
            match row.and_then(read_open_app) {
                Some(app) => Ok(Some(app)),
                None => call(store, CallId::from_bytes(id)).map(|call| call.map(|call| call.app)),
            }
        }
        Kind::Map => header(store, MapId::from_bytes(id)).map(|header| header.map(|header| header.app)),
    };
    match app {
        Err(JournalError::Damaged(_)) => Ok(None),
        app => app,
    }
}
