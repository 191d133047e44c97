//! Start of a host: its epoch, and the count of what an earlier one left open.

use std::collections::HashMap;
use std::ops::Bound;

use super::error::JournalError;
use super::layout::key;
use super::records::{app_of, read_open_app};
use super::{Owner, StoreJournal, rows};
use crate::clock::unix_ms;
use crate::ids::{AppName, HostId};
use crate::limits::OPEN_CALLS_PAGE_LEN;
use crate::storage::{Beat, Counts, Kind, LeaseHolder};
use crate::store::{Store, Table};

impl StoreJournal {
    pub(super) async fn take_up(&self) -> Result<LeaseHolder, JournalError> {
        let join = async || {
            self.load_quarantine().await?;
            let epoch = self.dir.store()?.raise_epoch().await?;
            // Nothing of an earlier start is written from here on.
            let (counts, newest) = self.read(|_, store| Ok((count_open(store)?, newest_id(store)?))).await?;
            self.counts.replace(counts);
            self.newest.replace(newest);
            Ok(LeaseHolder { owner: HostId::generate(), epoch })
        };
        self.holder.get_or_try_init(join).await.copied()
    }

    pub(super) async fn beat(&self) -> Result<Beat, JournalError> {
        if let Some(holder) = self.holder() {
            self.check_epoch(holder)?;
        }
        Ok(Beat { now_ms: unix_ms() })
    }
}

/// Counts the open calls and maps of each app. One whose app cannot be told is set aside when it is taken up.
fn count_open(store: &Store) -> Result<HashMap<AppName, Counts>, JournalError> {
    let mut by_app: HashMap<AppName, Counts> = HashMap::new();
    for (kind, prefix) in [(Kind::Call, key::OPEN_CALLS), (Kind::Map, key::OPEN_MAPS)] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = rows(store, Table::JournalIndex, prefix, after.as_deref(), OPEN_CALLS_PAGE_LEN)?;
            let Some((last, _)) = found.last() else { break };
            after = Some(last.clone());
            for (key, row) in found {
                let app = match (kind, key::id_of(&key)) {
                    (Kind::Call, Some(id)) => match read_open_app(row) {
                        Some(app) => Some(app),
                        None => app_of(store, Owner { kind, id })?,
                    },
                    (Kind::Map, Some(id)) => app_of(store, Owner { kind, id })?,
                    (_, None) => None,
                };
                let Some(app) = app else { continue };
                let counts = by_app.entry(app).or_default();
                match kind {
                    Kind::Call => counts.calls += 1,
                    Kind::Map => counts.maps += 1,
                }
            }
        }
    }
    Ok(by_app)
}

/// Returns the newest id of a call or map; 0 where there is none.
fn newest_id(store: &Store) -> Result<u128, JournalError> {
    let mut newest = 0;
    for table in [Table::Calls, Table::Maps] {
        let last = store.range(table, (Bound::Unbounded, Bound::Unbounded), 1, true)?;
        let id = last.first().and_then(|(key, _)| key.get(..16)?.try_into().ok());
        newest = newest.max(id.map_or(0, u128::from_be_bytes));
    }
    Ok(newest)
}
