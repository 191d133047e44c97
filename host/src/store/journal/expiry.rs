//! Retention: a call or map that ended long enough ago is marked as expiring, and then deleted in small steps.
//!
//! - One that is expiring is answered for as if it was deleted, and stays so: the mark is on disk before anything goes,
//!   and a host that died in between leaves what the next one finishes.
//! - A map expires or runs again, never both: its mark and `reset_failures` exclude each other (`expiry`), and each
//!   looks first for what the other has done.
//! - One step deletes at most [`JOURNAL_STEP_ROWS_MAX`] rows in its commit and [`JOURNAL_STEP_FILES_MAX`] files after
//!   it, and holds no lock meanwhile.

use std::ops::Bound;

use super::error::JournalError;
use super::files::unreference;
use super::layout::key;
use super::layout::quarantine::Owner;
use super::records::{call, header};
use super::{StoreJournal, delete, put, rows};
use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::limits::{JOURNAL_STEP_FILES_MAX, JOURNAL_STEP_ROWS_MAX};
use crate::storage::Kind;
use crate::store::{Op, Store, Table, Write};

/// The fail points around each kind of step.
const MARK: [&str; 2] = ["journal.expiring.before", "journal.expiring.after"];
const EXPIRE: [&str; 2] = ["journal.expire.before", "journal.expire.after"];

impl StoreJournal {
    pub(super) async fn apps_with_ended(&self) -> Result<Vec<AppName>, JournalError> {
        self.read(|_, store| {
            let mut apps: Vec<AppName> = Vec::new();
            let (mut from, end) = (b"e".to_vec(), b"f".to_vec());
            loop {
                let between = (Bound::Included(from.as_slice()), Bound::Excluded(end.as_slice()));
                let found = store.range(Table::JournalIndex, between, 1, false)?;
                let Some((found, _)) = found.into_iter().next() else { return Ok(apps) };
                let name = found[1..].split(|byte| *byte == 0).next().unwrap_or_default();
                let Some(app) = std::str::from_utf8(name).ok().and_then(|name| AppName::new(name).ok()) else {
                    return Ok(apps);
                };
                from = key::after(&key::ended_of(&app));
                apps.push(app);
            }
        })
        .await
    }

    /// Deletes a step of what is expiring; if nothing is, marks what has ended before `until_ms`. Returns whether it
    /// did either.
    pub(super) async fn expire(&self, app: &AppName, until_ms: u64) -> Result<bool, JournalError> {
        Ok(self.delete_step().await? || self.mark_expiring(app, until_ms).await?)
    }

    /// Finishes what a host that died has left: what was expiring, and files without a row.
    pub(super) async fn sweep(&self) -> Result<(), JournalError> {
        while self.delete_step().await? {}
        self.sweep_files().await
    }

    async fn mark_expiring(&self, app: &AppName, until_ms: u64) -> Result<bool, JournalError> {
        let start = key::ended_of(app);
        // From what is read to what is committed, no map begins to run again.
        let _expiry = self.expiry.lock().await;
        let (ops, damaged) = self
            .read(move |_, store| {
                let end = [start.as_slice(), &until_ms.to_be_bytes()].concat();
                let between = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                let (mut ops, mut damaged) = (Vec::new(), Vec::new());
                for (found, _) in store.range(Table::JournalIndex, between, JOURNAL_STEP_ROWS_MAX, false)? {
                    let kind = if found.get(start.len() + 8) == Some(&b'm') { Kind::Map } else { Kind::Call };
                    if let Some(id) = key::id_of(&found) {
                        match delete_idempotency(store, kind, id) {
                            Ok(op) => {
                                ops.extend(op);
                                ops.push(put(Table::JournalIndex, key::expiring(kind, id), Vec::new()));
                            }
                            Err(JournalError::Damaged(row)) => damaged.push((Owner { kind, id }, *row)),
                            Err(error) => return Err(error),
                        }
                    }
                    ops.push(delete(Table::JournalIndex, found));
                }
                Ok((ops, damaged))
            })
            .await?;
        for (owner, row) in damaged {
            self.set_aside(Some(owner), row).await?;
        }
        let is_any = !ops.is_empty();
        if is_any {
            self.write_between(Write::Relief, MARK, ops).await?;
        }
        Ok(is_any)
    }

    async fn delete_step(&self) -> Result<bool, JournalError> {
        let Step { ops, digests } = self
            .read(|_, store| {
                let mut step = Step::default();
                for (found, _) in rows(store, Table::JournalIndex, key::EXPIRING, None, JOURNAL_STEP_ROWS_MAX)? {
                    if step.delete_owner(store, &found)? == Progress::StepIsFull {
                        break;
                    }
                }
                Ok(step)
            })
            .await?;
        let is_any = !ops.is_empty();
        if is_any {
            self.write_between(Write::Relief, EXPIRE, ops).await?;
            self.remove_files(digests).await?;
        }
        Ok(is_any)
    }
}

/// Frees the idempotency key of what is marked with the same commit: a later request may have it.
fn delete_idempotency(store: &Store, kind: Kind, id: [u8; 16]) -> Result<Option<Op>, JournalError> {
    let (function, name) = match kind {
        Kind::Call => match call(store, CallId::from_bytes(id))? {
            Some(call) => (call.function_id(), call.idempotency_key),
            None => return Ok(None),
        },
        Kind::Map => match header(store, MapId::from_bytes(id))? {
            Some(header) => (header.function_id(), header.idempotency_key),
            None => return Ok(None),
        },
    };
    Ok(name.map(|name| delete(Table::JournalIndex, key::idempotency(&function, &name))))
}

/// Passes over a record that cannot be read: what is left of it in the index leads nowhere.
fn readable<T>(record: Result<Option<T>, JournalError>) -> Result<Option<T>, JournalError> {
    match record {
        Err(JournalError::Damaged(_)) => Ok(None),
        record => record,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    OwnerIsGone,
    StepIsFull,
}

/// Changes of one step, and the files that may go after its commit.
#[derive(Default)]
struct Step {
    ops: Vec<Op>,
    digests: Vec<[u8; 32]>,
}

impl Step {
    fn rows_left(&self) -> usize {
        JOURNAL_STEP_ROWS_MAX.saturating_sub(self.ops.len())
    }

    /// Deletes as much as fits of the call or map of a mark; the mark goes last, with the record.
    fn delete_owner(&mut self, store: &Store, mark: &[u8]) -> Result<Progress, JournalError> {
        let owner = key::expiring_kind(mark).zip(key::id_of(mark));
        if let Some((kind, id)) = owner {
            let is_emptied = match kind {
                Kind::Call => self.delete_children(store, CallId::from_bytes(id))?,
                Kind::Map => self.delete_chunks(store, MapId::from_bytes(id))?,
            };
            if !is_emptied || !self.delete_files(store, &id)? {
                return Ok(Progress::StepIsFull);
            }
            match kind {
                Kind::Call => self.delete_call(store, CallId::from_bytes(id))?,
                Kind::Map => self.delete_map(store, MapId::from_bytes(id))?,
            }
        }
        self.ops.push(delete(Table::JournalIndex, mark.to_vec()));
        Ok(if self.rows_left() == 0 { Progress::StepIsFull } else { Progress::OwnerIsGone })
    }

    /// Deletes keys that begin with `prefix`; returns whether those were all.
    fn delete_rows(&mut self, store: &Store, table: Table, prefix: &[u8]) -> Result<bool, JournalError> {
        let limit = self.rows_left();
        let found = store.keys(table, prefix, None, limit)?;
        let is_all = found.len() < limit;
        self.ops.extend(found.into_iter().map(|key| delete(table, key)));
        Ok(is_all)
    }

    fn delete_children(&mut self, store: &Store, id: CallId) -> Result<bool, JournalError> {
        self.delete_rows(store, Table::JournalIndex, &key::children(id))
    }

    fn delete_chunks(&mut self, store: &Store, id: MapId) -> Result<bool, JournalError> {
        for table in [Table::MapResults, Table::MapPending, Table::MapInputs] {
            if !self.delete_rows(store, table, id.as_bytes())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn delete_files(&mut self, store: &Store, owner: &[u8; 16]) -> Result<bool, JournalError> {
        // Each reference is two rows.
        let limit = (self.rows_left() / 2).min(JOURNAL_STEP_FILES_MAX - self.digests.len());
        let (digests, is_all) = unreference(store, owner, limit, &mut self.ops)?;
        self.digests.extend(digests);
        Ok(is_all)
    }

    fn delete_call(&mut self, store: &Store, id: CallId) -> Result<(), JournalError> {
        let bytes = id.as_bytes();
        let tables = [Table::Calls, Table::CallInputs, Table::CallOutputs];
        self.ops.extend(tables.map(|table| delete(table, bytes.to_vec())));
        let Some(call) = readable(call(store, id))? else { return Ok(()) };
        self.delete_index(Kind::Call, *bytes, &call.function_id(), call.parent);
        Ok(())
    }

    fn delete_map(&mut self, store: &Store, id: MapId) -> Result<(), JournalError> {
        self.ops.extend([key::map_header(id), key::map_progress(id)].map(|key| delete(Table::Maps, key)));
        let Some(header) = readable(header(store, id))? else { return Ok(()) };
        self.delete_index(Kind::Map, *id.as_bytes(), &header.function_id(), header.parent);
        Ok(())
    }

    fn delete_index(&mut self, kind: Kind, id: [u8; 16], function: &FunctionId, parent: Option<CallId>) {
        let of_function = [key::of_function(function, kind).as_slice(), &id].concat();
        self.ops.push(delete(Table::JournalIndex, of_function));
        self.ops.extend(parent.map(|parent| delete(Table::JournalIndex, key::child(parent, kind, id))));
    }
}
