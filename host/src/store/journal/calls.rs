//! Calls: a row for what each is, one for its input, one for its output, and what finds it.

use std::ops::Bound;

use super::claims::Changes;
use super::records::{call, visible_call, visible_map};
use super::{ACCEPT, LEASE, SETTLE, StoreJournal, delete, keyed, parsed, put, read_keyed, row, rows};
use crate::call::{Payload, Priority};
use crate::ids::{AppName, CallId, FunctionId, FunctionName, MapId};
use crate::storage::chunk::{decode_one, encode_one};
use crate::storage::codec::{CodecError, Reader, put_bytes, put_u64};
use crate::storage::key::{self, Kind};
use crate::storage::{
    CallRecord, Idempotency, JournalError, KeyedRecord, ListEntry, OpenCall, Owner, Query, ScheduledRun, State,
};
use crate::store::{Decision, Op, Store, Table, Write};

impl StoreJournal {
    pub(super) async fn accept_call(
        &self,
        call: &CallRecord,
        input: Payload,
        idempotency: Option<&Idempotency>,
    ) -> Result<(), JournalError> {
        let mut changes = Changes::default();
        self.accept_with(call, input, idempotency, &mut changes).await?;
        self.commit(Write::New, ACCEPT, changes).await
    }

    /// Adds what keeps a new call.
    pub(super) async fn accept_with(
        &self,
        call: &CallRecord,
        input: Payload,
        idempotency: Option<&Idempotency>,
        changes: &mut Changes,
    ) -> Result<(), JournalError> {
        let id = call.id.as_bytes();
        let function = call.function_id();
        let input = self.place(Write::New, id, input, changes).await?;
        changes.ops.extend([
            put(Table::Calls, id.to_vec(), self.call_row(call)),
            put(Table::CallInputs, id.to_vec(), encode_one(&input)),
            put(Table::JournalIndex, key::open_call(call.id), open_row(call)),
            put(Table::JournalIndex, [key::of_function(&function, Kind::Call).as_slice(), id].concat(), Vec::new()),
        ]);
        if let Some(parent) = call.parent {
            changes.ops.push(put(Table::JournalIndex, key::child(parent, Kind::Call, *id), Vec::new()));
        }
        changes.ops.extend(idempotency.map(|idempotency| keyed(&function, idempotency, Kind::Call, id)));
        Ok(())
    }

    pub(super) async fn save_call(&self, call: &CallRecord, output: Option<Payload>) -> Result<(), JournalError> {
        self.refuse_quarantined(of(call.id))?;
        let id = call.id.as_bytes();
        let mut changes = Changes { ops: self.save_ops(call), ..Changes::default() };
        if let Some(output) = output {
            let output = self.place(Write::Essential, id, output, &mut changes).await?;
            changes.ops.push(put(Table::CallOutputs, id.to_vec(), encode_one(&output)));
        }
        self.commit(Write::Essential, if call.state == State::Leased { LEASE } else { SETTLE }, changes).await
    }

    /// Returns what writes the state of a call, without its output.
    pub(super) fn save_ops(&self, call: &CallRecord) -> Vec<Op> {
        let id = call.id.as_bytes();
        let mut ops = vec![put(Table::Calls, id.to_vec(), self.call_row(call))];
        if call.state == State::Waiting {
            ops.push(put(Table::JournalIndex, key::open_call(call.id), open_row(call)));
        }
        if call.state.is_terminal() {
            let at = call.ended_ms.unwrap_or(call.accepted_ms);
            ops.push(delete(Table::JournalIndex, key::open_call(call.id)));
            ops.push(put(Table::JournalIndex, key::ended(&call.app, at, Kind::Call, *id), Vec::new()));
            ops.extend(call.run.map(|number| end_run(call, number)));
        }
        ops
    }

    /// Returns the row of a call, with this host as the holder of its lease.
    fn call_row(&self, call: &CallRecord) -> Vec<u8> {
        let lease = self.holder().filter(|_| call.state == State::Leased);
        if lease == call.lease { row(call) } else { row(&CallRecord { lease, ..call.clone() }) }
    }

    pub(super) async fn call(&self, id: CallId) -> Result<Option<CallRecord>, JournalError> {
        self.read_of(of(id), move |_, store| visible_call(store, id)).await
    }

    pub(super) async fn call_payload(&self, table: Table, id: CallId) -> Result<Option<Payload>, JournalError> {
        let stored = self.read_of(of(id), move |_, store| {
            let found = store.get(table, id.as_bytes())?;
            found.map(|row| parsed(table, id.as_bytes(), decode_one(row))).transpose()
        });
        match stored.await? {
            Some(stored) => self.payload(stored).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn open_calls(&self, after: Option<CallId>, limit: usize) -> Result<Vec<OpenCall>, JournalError> {
        let mut after = after.map(key::open_call);
        // A page of which no call can be read is not the end.
        loop {
            let (open, damaged, last) = self
                .read(move |_, store| {
                    let found = rows(store, Table::JournalIndex, key::OPEN_CALLS, after.as_deref(), limit)?;
                    let last = found.last().map(|(found, _)| found.clone());
                    let (mut open, mut damaged) = (Vec::new(), Vec::new());
                    for (found, row) in found {
                        let Some(id) = key::id_of(&found).map(CallId::from_bytes) else { continue };
                        match read_open(id, row).or_else(|error| open_of_record(store, id, &error)) {
                            Ok(call) => open.push(call),
                            Err(JournalError::Damaged(row)) => damaged.push((id, *row)),
                            Err(error) => return Err(error),
                        }
                    }
                    Ok((open, damaged, last))
                })
                .await?;
            for (id, row) in damaged {
                self.set_aside(Some(of(id)), row).await?;
            }
            if !open.is_empty() || last.is_none() {
                return Ok(open);
            }
            after = last;
        }
    }

    pub(super) async fn keyed(&self, function: &FunctionId, name: &str) -> Result<Option<KeyedRecord>, JournalError> {
        let at = key::idempotency(function, name);
        let read = self.read(move |_, store| {
            let found = store.get(Table::JournalIndex, &at)?;
            found.map(|row| parsed(Table::JournalIndex, &at, read_keyed(row))).transpose()
        });
        match read.await {
            // The key is as if it was never used.
            Err(JournalError::Damaged(row)) => self.set_aside(None, *row).await.map(|()| None),
            result => result,
        }
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
        let quarantine = self.quarantine.clone();
        let (listed, damaged, next) = self
            .read(move |_, store| {
                let mut ids = Vec::new();
                for kind in [Kind::Call, Kind::Map] {
                    latest(store, &query, kind, &mut ids)?;
                }
                ids.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
                let more = ids.len() > query.limit;
                ids.truncate(query.limit);
                let next = if more { ids.last().map(|(id, _)| *id) } else { None };
                let (mut listed, mut damaged) = (Vec::new(), Vec::new());
                let owners = ids.into_iter().map(|(id, kind)| Owner { kind, id });
                for owner in owners.filter(|owner| !quarantine.contains(*owner)) {
                    match entry(store, owner) {
                        Ok(entry) => listed.extend(entry),
                        Err(JournalError::Damaged(row)) => damaged.push((owner, *row)),
                        Err(error) => return Err(error),
                    }
                }
                Ok((listed, damaged, next))
            })
            .await?;
        for (owner, row) in damaged {
            self.set_aside(Some(owner), row).await?;
        }
        Ok((listed, next))
    }
}

fn of(id: CallId) -> Owner {
    Owner { kind: Kind::Call, id: *id.as_bytes() }
}

/// Returns what a list shows of a call or map.
fn entry(store: &Store, Owner { kind, id }: Owner) -> Result<Option<ListEntry>, JournalError> {
    Ok(match kind {
        Kind::Call => visible_call(store, CallId::from_bytes(id))?.map(ListEntry::Call),
        Kind::Map => visible_map(store, MapId::from_bytes(id))?.map(ListEntry::Map),
    })
}

/// Ends the run that an ended call is, in the history. One that the history has forgotten does not come back.
fn end_run(call: &CallRecord, number: u64) -> Op {
    let key = key::schedule_run(&call.function_id(), number);
    let call = call.clone();
    let decide = Decision::new(size_of::<CallRecord>(), move |present| {
        let mut run: ScheduledRun = serde_json::from_slice(present?).ok()?;
        run.end(&call).then(|| row(&run).into())
    });
    Op::Update { table: Table::Schedules, key, decide }
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
    if let Some(number) = call.run {
        put_u64(&mut row, number);
    }
    row
}

fn read_open(id: CallId, row: Vec<u8>) -> Result<OpenCall, CodecError> {
    let mut reader = Reader::new(row);
    let named = |_| CodecError("an open call has no function");
    let app = AppName::new(&reader.text()?).map_err(named)?;
    let function = FunctionName::new(&reader.text()?).map_err(named)?;
    let priority = *Priority::ALL.get(usize::from(reader.byte()?)).ok_or(CodecError("an unknown priority"))?;
    let next_ms = Some(reader.u64()?).filter(|next_ms| *next_ms > 0);
    let run = if reader.is_empty() { None } else { Some(reader.u64()?) };
    Ok(OpenCall { id, function: FunctionId { app, function }, priority, next_ms, run })
}

/// Returns from its record what the index cannot tell of an open call; the index is damaged alone then.
fn open_of_record(store: &Store, id: CallId, error: &CodecError) -> Result<OpenCall, JournalError> {
    match call(store, id)? {
        Some(call) => Ok(OpenCall {
            id,
            function: call.function_id(),
            priority: call.priority,
            next_ms: call.next_ms,
            run: call.run,
        }),
        None => parsed(Table::JournalIndex, &key::open_call(id), Err(error)),
    }
}
