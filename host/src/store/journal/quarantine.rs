//! Setting aside of rows that cannot be read, their export, and their removal.

use super::peek::decode_all;
use super::{StoreJournal, delete, put};
use crate::clock::unix_ms;
use crate::ids::{CallId, MapId};
use crate::limits::JOURNAL_STEP_ROWS_MAX;
use crate::storage::key::{self, Kind};
use crate::storage::quarantine::QuarantinedRow;
use crate::storage::{DamagedRow, JournalError, Owner};
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
        match self.read(read).await {
            Err(JournalError::Damaged(damaged)) => {
                self.set_aside(Some(owner), *damaged).await?;
                Err(JournalError::Quarantined { owner })
            }
            result => result,
        }
    }

    /// Moves a row to the quarantine, and takes its owner from what a host finds when it starts.
    pub(super) async fn set_aside(&self, owner: Option<Owner>, damaged: DamagedRow) -> Result<(), JournalError> {
        let DamagedRow { table, key, reason } = damaged.clone();
        let row = self.read({
            let key = key.clone();
            move |_, store| Ok(store.get(table, &key)?)
        });
        let row = row.await?.unwrap_or_default();
        let aside =
            QuarantinedRow { owner, table: table.name().to_owned(), key: key.clone(), at_ms: unix_ms(), reason, row };
        let (aside_key, value) = aside.encode();
        let mut ops = vec![put(Table::Quarantine, aside_key, value), delete(table, key)];
        ops.extend(owner.map(|Owner { kind, id }| {
            let open = match kind {
                Kind::Call => key::open_call(CallId::from_bytes(id)),
                Kind::Map => key::open_map(MapId::from_bytes(id)),
            };
            delete(Table::JournalIndex, open)
        }));
        self.write_between(Write::Essential, SET_ASIDE, ops).await?;
        self.quarantine.add(owner);
        match owner {
            Some(owner) => tracing::error!(%owner, error = %damaged, "set aside; it neither runs nor is shown"),
            None => tracing::error!(error = %damaged, "set aside"),
        }
        Ok(())
    }

    /// Returns the rows in quarantine.
    pub fn quarantined_rows(&self) -> Result<Vec<QuarantinedRow>, JournalError> {
        decode_all(self.dir.store()?.entries(Table::Quarantine)?)
    }

    /// Hands every row in quarantine to `take`, and those that the same call or map still has elsewhere, a step at a
    /// time. For use without a host.
    pub fn export_quarantine<E: From<JournalError>>(
        &self,
        mut take: impl FnMut(&QuarantinedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.quarantined_rows()?;
        rows.iter().try_for_each(&mut take)?;
        let store = self.dir.store().map_err(JournalError::from)?;
        for (owner, first) in owners(&rows) {
            each_row_of(store, owner, |table, (key, row)| {
                take(&QuarantinedRow { table: table.name().to_owned(), key, row, ..first.clone() })
            })?;
        }
        Ok(())
    }

    /// Removes what is in quarantine, and all rows of the calls and maps there. For use without a host.
    pub async fn clear_quarantine(&self) -> Result<(), JournalError> {
        let rows = self.quarantined_rows()?;
        let store = self.dir.store()?;
        for (owner, _) in owners(&rows) {
            let mut ops = Vec::new();
            each_row_of(store, owner, |table, (key, _)| {
                ops.push(delete(table, key));
                Ok::<(), JournalError>(())
            })?;
            while !ops.is_empty() {
                let step = ops.split_off(ops.len().saturating_sub(JOURNAL_STEP_ROWS_MAX));
                store.submit(Write::Essential, step).await?;
            }
        }
        let keys = store.keys(Table::Quarantine, b"", None, usize::MAX)?;
        // Last: whoever is cut off before finds the same rows again.
        store.submit(Write::Essential, keys.into_iter().map(|key| delete(Table::Quarantine, key)).collect()).await?;
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
fn each_row_of<E: From<JournalError>>(
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

fn each_row<E: From<JournalError>>(
    store: &Store,
    table: Table,
    prefix: &[u8],
    mut take: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let keys = store.keys(table, prefix, after.as_deref(), JOURNAL_STEP_ROWS_MAX);
        let keys = keys.map_err(JournalError::from)?;
        let Some(last) = keys.last().cloned() else { return Ok(()) };
        for key in keys {
            let row = store.get(table, &key).map_err(JournalError::from)?;
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
