//! Setting aside of rows that cannot be read, their export, and their removal.

use std::borrow::Cow;

use super::error::JournalError;
use super::layout::key;
use super::layout::quarantine::{DamagedRow, Owner, QuarantinedRow};
use super::peek::decode_all;
use super::records::app_of;
use super::{StoreJournal, delete, put};
use crate::clock::unix_ms;
use crate::ids::{CallId, MapId};
use crate::limits::JOURNAL_STEP_ROWS_MAX;
use crate::storage::{Kind, StorageError};
use crate::store::{Entry as Row, Store, Table, Write};

const SET_ASIDE: [&str; 2] = ["journal.quarantine.before", "journal.quarantine.after"];

impl StoreJournal {
    pub(super) async fn load_quarantine(&self) -> Result<(), JournalError> {
        let keys = self.read(|_, store| Ok(store.keys(Table::Quarantine, b"", None, usize::MAX)?)).await?;
        if !keys.is_empty() {
            tracing::warn!(rows = keys.len(), "rows are in quarantine; `bireme doctor` shows them");
        }
        self.quarantine.load(&keys);
        Ok(())
    }

    /// Refuses a call or map in quarantine.
    pub(super) fn refuse_quarantined(&self, owner: Owner) -> Result<(), JournalError> {
        match self.quarantine.contains(owner) {
            true => Err(JournalError::Quarantined { owner }),
            false => Ok(()),
        }
    }

    /// Reads rows of one call or map. One that cannot be read puts it into quarantine.
    pub(super) async fn read_of<T: Send + 'static>(
        &self,
        owner: Owner,
        read: impl FnOnce(&Self, &Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.refuse_quarantined(owner)?;
        let read = self.read(read).await;
        self.damage_aside(owner, read).await
    }

    /// Puts a call or map into quarantine if a row of it cannot be read.
    pub(super) async fn damage_aside<T>(&self, owner: Owner, read: Result<T, JournalError>) -> Result<T, JournalError> {
        match read {
            Err(JournalError::Damaged(damaged)) => {
                self.set_aside(Some(owner), *damaged).await?;
                Err(JournalError::Quarantined { owner })
            }
            read => read,
        }
    }

    /// Moves a row to the quarantine, and takes its owner from what a host finds when it starts.
    pub(super) async fn set_aside(&self, owner: Option<Owner>, damaged: DamagedRow) -> Result<(), JournalError> {
        let app = match owner {
            Some(owner) => self.read(move |_, store| app_of(store, owner)).await?,
            None => None,
        };
        let open = owner.map(|Owner { kind, id }| match kind {
            Kind::Call => key::open_call(CallId::from_bytes(id)),
            Kind::Map => key::open_map(MapId::from_bytes(id)),
        });
        let state = (damaged.clone(), open, unix_ms());
        let aside = self.decide_between(Write::Relief, SET_ASIDE, 0, state, move |(damaged, open, at_ms), view| {
            let row = view.get(damaged.table, &damaged.key)?.map(|row| row.to_vec());
            let is_there = row.is_some();
            let aside = QuarantinedRow::of(owner, damaged, *at_ms, row.unwrap_or_default());
            let (aside_key, value) = aside.encode();
            // Another reader that met it was first.
            if !is_there && view.contains(Table::Quarantine, &aside_key)? {
                return Ok((Vec::new(), (false, false)));
            }
            let was_open = match open {
                Some(open) => view.contains(Table::JournalIndex, open)?,
                None => false,
            };
            let mut ops = vec![put(Table::Quarantine, aside_key, value), delete(damaged.table, damaged.key.clone())];
            ops.extend(open.clone().map(|open| delete(Table::JournalIndex, open)));
            Ok((vec![Cow::Owned(ops)], (true, was_open)))
        });
        let (is_new, was_open) = aside.await?;
        if is_new {
            self.note_aside(owner, &damaged);
        }
        if let (Some(owner), Some(app), true) = (owner, app, was_open) {
            self.counts.release(&app, owner.kind);
        }
        Ok(())
    }

    /// Takes note of a row that was moved.
    pub(super) fn note_aside(&self, owner: Option<Owner>, damaged: &DamagedRow) {
        self.quarantine.add(owner);
        match owner {
            Some(owner) => tracing::error!(%owner, error = %damaged, "set aside; it neither runs nor is shown"),
            None => tracing::error!(error = %damaged, "set aside"),
        }
    }

    /// Returns the rows in quarantine.
    pub(crate) fn quarantined_rows(&self) -> Result<Vec<QuarantinedRow>, StorageError> {
        Ok(decode_all(self.dir.store()?.entries(Table::Quarantine)?)?)
    }

    /// Hands every row in quarantine to `take`, and those that the same call or map still has elsewhere, a step at a
    /// time. For use without a host.
    pub(crate) fn export_quarantine<E: From<StorageError>>(
        &self,
        mut take: impl FnMut(&QuarantinedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.quarantined_rows()?;
        rows.iter().try_for_each(&mut take)?;
        let store = self.dir.store().map_err(StorageError::from)?;
        for (owner, first) in owners(&rows) {
            each_row_of(store, owner, |table, (key, row)| {
                take(&QuarantinedRow { table: table.name().to_owned(), key, row, ..first.clone() })
            })?;
        }
        Ok(())
    }

    /// Removes what is in quarantine, and all rows of the calls and maps there. For use without a host.
    pub(crate) async fn clear_quarantine(&self) -> Result<(), StorageError> {
        let rows = self.quarantined_rows()?;
        let store = self.dir.store()?;
        for (owner, _) in owners(&rows) {
            let mut ops = Vec::new();
            each_row_of(store, owner, |table, (key, _)| {
                ops.push(delete(table, key));
                Ok::<(), StorageError>(())
            })?;
            while !ops.is_empty() {
                let step = ops.split_off(ops.len().saturating_sub(JOURNAL_STEP_ROWS_MAX));
                store.submit(Write::Relief, step).await?;
            }
        }
        let keys = store.keys(Table::Quarantine, b"", None, usize::MAX)?;
        // Last: whoever is cut off before finds the same rows again.
        store.submit(Write::Relief, keys.into_iter().map(|key| delete(Table::Quarantine, key)).collect()).await?;
        self.quarantine.load(&[]);
        Ok(())
    }
}

/// Returns the owners among rows, each with its first row.
fn owners(rows: &[QuarantinedRow]) -> Vec<(Owner, &QuarantinedRow)> {
    let mut owners: Vec<(Owner, &QuarantinedRow)> = Vec::new();
    for row in rows {
        if let Some(owner) = row.owner.filter(|owner| owners.iter().all(|(known, _)| known != owner)) {
            owners.push((owner, row));
        }
    }
    owners
}

/// Hands each row of a call or map to `take`, those of the index included: its record may be what cannot be read, so
/// the index is read whole.
fn each_row_of<E: From<StorageError>>(
    store: &Store,
    owner: Owner,
    mut take: impl FnMut(Table, Row) -> Result<(), E>,
) -> Result<(), E> {
    let tables = [Table::Calls, Table::CallInputs, Table::CallOutputs].into_iter().chain([
        Table::Maps,
        Table::MapInputs,
        Table::MapPending,
        Table::MapResults,
    ]);
    for table in tables.filter(|table| (owner.kind == Kind::Call) == table.name().starts_with("call")) {
        each_row(store, table, &owner.id, |row| take(table, row))?;
    }
    each_row(store, Table::JournalIndex, b"", |row| match belongs_to(&row, &owner.id) {
        true => take(Table::JournalIndex, row),
        false => Ok(()),
    })
}

fn each_row<E: From<StorageError>>(
    store: &Store,
    table: Table,
    prefix: &[u8],
    mut take: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let keys = store.keys(table, prefix, after.as_deref(), JOURNAL_STEP_ROWS_MAX);
        let keys = keys.map_err(StorageError::from)?;
        let Some(last) = keys.last().cloned() else { return Ok(()) };
        for key in keys {
            let row = store.get(table, &key).map_err(StorageError::from)?;
            take((key, row.unwrap_or_default()))?;
        }
        after = Some(last);
    }
}

/// Whether a row of the index leads to, or from, a call or map. Ids are 122 random bits, so none stands elsewhere by
/// chance.
fn belongs_to((key, row): &Row, id: &[u8; 16]) -> bool {
    let begins = |from: usize| key.get(from..from + 16) == Some(id);
    key.ends_with(id) || row.get(1..17) == Some(id) || (matches!(key.first(), Some(b'c' | b'R')) && begins(1))
}
