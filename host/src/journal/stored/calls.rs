//! Calls: a row for what each is, one for its input, one for its output, and what finds it.

use super::*;
use crate::call::Priority;
use crate::ids::FunctionName;
use crate::journal::chunk::{decode_one, encode_one};
use crate::journal::codec::{put_bytes, put_u64};
use crate::journal::{DamagedRow, State};

impl StoreJournal {
    pub(super) async fn accept_call(
        &self,
        call: &CallRecord,
        input: Payload,
        idempotency: Option<&Idempotency>,
    ) -> Result<(), JournalError> {
        let id = call.id.as_bytes();
        let function = call.function_id();
        let _files = self.files.read().await;
        let mut ops = Vec::new();
        let input = self.place(Write::New, id, input, &mut ops).await?;
        ops.extend([
            put(Table::Calls, id.to_vec(), self.call_row(call)),
            put(Table::CallInputs, id.to_vec(), encode_one(&input)),
            put(Table::JournalIndex, key::open_call(call.id), open_row(call)),
            put(Table::JournalIndex, [key::of_function(&function, Kind::Call).as_slice(), id].concat(), Vec::new()),
        ]);
        if let Some(parent) = call.parent {
            ops.push(put(Table::JournalIndex, key::child(parent, Kind::Call, *id), Vec::new()));
        }
        ops.extend(idempotency.map(|idempotency| keyed(&function, idempotency, Kind::Call, id)));
        self.write_between(Write::New, ACCEPT, ops).await
    }

    pub(super) async fn save_call(&self, call: &CallRecord, output: Option<Payload>) -> Result<(), JournalError> {
        let id = call.id.as_bytes();
        let mut ops = vec![put(Table::Calls, id.to_vec(), self.call_row(call))];
        let _files = self.files.read().await;
        if let Some(output) = output {
            let output = self.place(Write::Essential, id, output, &mut ops).await?;
            ops.push(put(Table::CallOutputs, id.to_vec(), encode_one(&output)));
        }
        if call.state == State::Waiting {
            ops.push(put(Table::JournalIndex, key::open_call(call.id), open_row(call)));
        }
        if call.state.is_terminal() {
            let at = call.ended_ms.unwrap_or(call.accepted_ms);
            ops.push(delete(Table::JournalIndex, key::open_call(call.id)));
            ops.push(put(Table::JournalIndex, key::ended(&call.app, at, Kind::Call, *id), Vec::new()));
        }
        self.write_between(Write::Essential, if call.state == State::Leased { LEASE } else { SETTLE }, ops).await
    }

    /// Returns the row of a call, with this host as the holder of its lease.
    fn call_row(&self, call: &CallRecord) -> Vec<u8> {
        let lease = self.holder().filter(|_| call.state == State::Leased);
        if lease == call.lease { row(call) } else { row(&CallRecord { lease, ..call.clone() }) }
    }

    pub(super) async fn call(&self, id: CallId) -> Result<Option<CallRecord>, JournalError> {
        self.read(move |_, store| store.get(Table::Calls, id.as_bytes())?.map(|found| record(&found)).transpose()).await
    }

    pub(super) async fn call_payload(&self, table: Table, id: CallId) -> Result<Option<Payload>, JournalError> {
        let stored =
            self.read(move |_, store| Ok(store.get(table, id.as_bytes())?.map(decode_one).transpose()?)).await?;
        match stored {
            Some(stored) => self.payload(stored).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn open_calls(&self, after: Option<CallId>, limit: usize) -> Result<Vec<OpenCall>, JournalError> {
        self.read(move |_, store| {
            let after = after.map(key::open_call);
            let found = rows(store, Table::JournalIndex, key::OPEN_CALLS, after.as_deref(), limit)?;
            found.into_iter().map(|(found, row)| read_open(&found, row)).collect()
        })
        .await
    }

    pub(super) async fn keyed(&self, function: &FunctionId, name: &str) -> Result<Option<KeyedRecord>, JournalError> {
        let at = key::idempotency(function, name);
        self.read(move |_, store| store.get(Table::JournalIndex, &at)?.map(read_keyed).transpose()).await
    }

    pub(super) async fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Result<Vec<(Kind, [u8; 16])>, JournalError> {
        self.read(move |_, store| {
            let prefix = key::children(parent);
            let after = after.map(|(kind, id)| key::child(parent, kind, id));
            let found = rows(store, Table::JournalIndex, &prefix, after.as_deref(), limit)?;
            let read = found.iter().filter_map(|(found, _)| {
                let kind = if found.get(prefix.len()) == Some(&b'm') { Kind::Map } else { Kind::Call };
                Some((kind, key::id_of(found)?))
            });
            Ok(read.collect())
        })
        .await
    }

    pub(super) async fn list(&self, query: Query) -> Result<(Vec<ListEntry>, Option<[u8; 16]>), JournalError> {
        self.read(move |_, store| {
            let mut ids = Vec::new();
            for kind in [Kind::Call, Kind::Map] {
                latest(store, &query, kind, &mut ids)?;
            }
            ids.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
            let more = ids.len() > query.limit;
            ids.truncate(query.limit);
            let next = if more { ids.last().map(|(id, _)| *id) } else { None };
            let mut listed = Vec::new();
            for (id, kind) in ids {
                match kind {
                    Kind::Call => {
                        let found = store.get(Table::Calls, &id)?;
                        listed.extend(found.map(|found| record(&found).map(ListEntry::Call)).transpose()?);
                    }
                    Kind::Map => listed.extend(super::maps::map(store, MapId::from_bytes(id))?.map(ListEntry::Map)),
                }
            }
            Ok((listed, next))
        })
        .await
    }
}

/// Adds the ids of the newest of one kind that a query wants, one more than it wants.
fn latest(store: &Store, query: &Query, kind: Kind, ids: &mut Vec<([u8; 16], Kind)>) -> Result<(), JournalError> {
    let limit = query.limit.saturating_add(1);
    let mut take = |table: Table, prefix: &[u8], id_at: usize| -> Result<(), JournalError> {
        let end = match &query.before {
            Some(before) => [prefix, before].concat(),
            None if prefix.is_empty() => vec![u8::MAX; 17],
            None => key::after(prefix),
        };
        // A map has two rows, of which the one that ends with `h` is its first.
        let per_id = if table == Table::Maps { 2 } else { 1 };
        let found = store.range(table, (Bound::Included(prefix), Bound::Excluded(&end)), limit * per_id, true)?;
        let of_one = found.iter().filter(|(found, _)| table != Table::Maps || found.last() == Some(&b'h'));
        ids.extend(of_one.filter_map(|(found, _)| Some((found.get(id_at..id_at + 16)?.try_into().ok()?, kind))));
        Ok(())
    };
    let Some(app) = &query.app else {
        let table = if kind == Kind::Call { Table::Calls } else { Table::Maps };
        return take(table, &[], 0);
    };
    if let Some(function) = &query.function {
        let prefix = key::of_function(&FunctionId { app: app.clone(), function: function.clone() }, kind);
        return take(Table::JournalIndex, &prefix, prefix.len());
    }
    // The newest of each of its functions, which are few.
    let prefix = key::of_app(app, kind);
    let end = key::after(&prefix);
    let mut from = prefix.clone();
    loop {
        let found = store.range(Table::JournalIndex, (Bound::Included(&from), Bound::Excluded(&end)), 1, false)?;
        let Some((found, _)) = found.into_iter().next() else { return Ok(()) };
        let Some(len) = found[prefix.len()..].iter().position(|byte| *byte == 0) else { return Ok(()) };
        let of_function = &found[..prefix.len() + len + 1];
        take(Table::JournalIndex, of_function, of_function.len())?;
        from = key::after(of_function);
    }
}

/// What a host that starts must know of a call, without reading the call.
fn open_row(call: &CallRecord) -> Vec<u8> {
    let mut row = Vec::new();
    put_bytes(&mut row, call.app.as_str().as_bytes());
    put_bytes(&mut row, call.function.as_str().as_bytes());
    row.push(Priority::ALL.iter().position(|priority| *priority == call.priority).unwrap_or_default() as u8);
    put_u64(&mut row, call.next_ms.unwrap_or_default());
    row
}

fn read_open(found: &[u8], row: Vec<u8>) -> Result<OpenCall, JournalError> {
    let id = key::id_of(found).ok_or(DamagedRow("an open call has no id"))?;
    let mut reader = Reader::new(row);
    let named = |_| DamagedRow("an open call has no function");
    let app = AppName::new(&reader.text()?).map_err(named)?;
    let function = FunctionName::new(&reader.text()?).map_err(named)?;
    let priority = *Priority::ALL.get(usize::from(reader.byte()?)).ok_or(DamagedRow("an unknown priority"))?;
    let next_ms = Some(reader.u64()?).filter(|next_ms| *next_ms > 0);
    Ok(OpenCall { id: CallId::from_bytes(id), function: FunctionId { app, function }, priority, next_ms })
}
