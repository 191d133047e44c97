//! Calls: a row for what each is, one for its input, one for its output, and what finds it.

use std::borrow::Cow;
use std::ops::Bound;

use super::claims::Prepared;
use super::error::JournalError;
use super::layout::chunk::{decode_one, encode_one};
use super::layout::codec::{CodecError, Reader, put_bytes, put_u64};
use super::layout::key;
use super::layout::quarantine::Owner;
use super::records::{LeaseView, call, visible_call, visible_map};
use super::{LEASE, SETTLE, StoreJournal, delete, ops_bytes, parsed, put, record, row, rows};
use crate::call::{Payload, Priority};
use crate::clock::unix_ms;
use crate::ids::{AppName, CallId, FunctionId, FunctionName, MapId, Version};
use crate::storage::{
    CallRecord, CallSettle, Claimed, Kind, LeaseHolder, LeaseToken, ListEntry, OpenCall, Query, ScheduledRun, Settled,
    State,
};
use crate::store::{Decider, Op, Store, Table, View, ViewError, Write};

/// Wait of a call whose app keeps as much as it may.
const QUOTA_WAIT_MS: u64 = 10_000;

/// Answer of a settle's decider.
enum Verdict {
    Kept,
    /// The same settle was written before.
    KeptBefore,
    Fenced,
    Ended(Vec<u8>),
    Gone,
}

/// A call's new state, and the lease under which it is written.
struct Settling {
    key: Vec<u8>,
    /// This start of the host: a token of an earlier one is worth nothing.
    me: Option<LeaseHolder>,
    lease: Option<LeaseToken>,
    /// The first puts the call's record.
    ops: Vec<Op>,
}

impl Settling {
    fn decide(&self, view: &View<'_>) -> Result<Result<Verdict, JournalError>, ViewError> {
        let Some(present) = view.get(Table::Calls, &self.key)? else { return Ok(Ok(Verdict::Gone)) };
        let LeaseView { state, attempts, lease } = match record(Table::Calls, &self.key, &present) {
            Ok(view) => view,
            Err(error) => return Ok(Err(error)),
        };
        let is_held = match self.lease {
            Some(token) => {
                let is_mine = lease == Some(token.holder) && lease == self.me;
                state == State::Leased && is_mine && attempts == token.attempt
            }
            None => true,
        };
        Ok(Ok(match &self.ops[..] {
            _ if state.is_terminal() => Verdict::Ended(present.to_vec()),
            _ if is_held => Verdict::Kept,
            // After an answer that was lost.
            [Op::Put { value, .. }, ..] if *value == *present => Verdict::KeptBefore,
            _ => Verdict::Fenced,
        }))
    }
}

impl StoreJournal {
    pub(super) async fn claim(&self, id: CallId, version: Option<Version>) -> Result<Claimed, JournalError> {
        let holder = self.take_up().await?;
        loop {
            let found = self.read_of(of(id), move |_, store| {
                let row = store.get(Table::Calls, id.as_bytes())?;
                row.map(|row| Ok((record::<CallRecord>(Table::Calls, id.as_bytes(), &row)?, row))).transpose()
            });
            let Some((mut call, present)) = found.await? else { return Ok(Claimed::Ended) };
            match call.state {
                _ if call.state.is_terminal() => return Ok(Claimed::Ended),
                State::Waiting => {
                    if let Some(at_ms) = call.next_ms.filter(|at_ms| *at_ms > unix_ms()) {
                        return Ok(Claimed::Later { at_ms });
                    }
                }
                // Claimed before, and the answer lost.
                State::Leased if call.lease == Some(holder) => {
                    self.check_epoch(holder)?;
                    return Ok(Claimed::Leased(Box::new(call)));
                }
                // The last attempt was under way when its host died.
                State::Leased => call.lost += 1,
                _ => {}
            }
            if self.dir.store()?.check_quota(&call.app).is_err() {
                // An attempt would leave a result.
                return Ok(Claimed::Later { at_ms: unix_ms() + QUOTA_WAIT_MS });
            }
            call.state = State::Leased;
            call.attempts += 1;
            (call.lease, call.next_ms, call.version) = (Some(holder), None, version.clone());
            let key = id.as_bytes().to_vec();
            let ops = [put(Table::Calls, key.clone(), row(&call))];
            let bytes = present.len() + ops_bytes(&ops);
            let claimed = self.decide_between(Write::Essential, LEASE, bytes, (key, present, ops), |state, view| {
                let (key, expected, ops) = state;
                let is_as_read = view.get(Table::Calls, key)?.is_some_and(|present| *present == **expected);
                Ok((if is_as_read { vec![Cow::Borrowed(&ops[..])] } else { Vec::new() }, is_as_read))
            });
            // Otherwise somebody cancelled it meanwhile, or has the lease.
            if claimed.await? {
                self.observe(|observer| observer.call_changed(&call));
                return Ok(Claimed::Leased(Box::new(call)));
            }
        }
    }

    pub(super) async fn settle(&self, settle: CallSettle) -> Result<Settled, JournalError> {
        let CallSettle { record: call, lease, output } = settle;
        let owner = of(call.id);
        self.refuse_quarantined(owner)?;
        let id = call.id.as_bytes();
        let mut prepared = Prepared { ops: self.save_ops(&call), ..Prepared::default() };
        if let Some(output) = output {
            let output = self.place(Write::Essential, id, output, &mut prepared).await?;
            prepared.ops.push(put(Table::CallOutputs, id.to_vec(), encode_one(&output)));
        }
        let Prepared { ops, claims } = prepared;
        let (bytes, settling) = (ops_bytes(&ops), Settling { key: id.to_vec(), me: self.holder(), lease, ops });
        // The end of a cancelled call keeps nothing.
        let write = if call.state == State::Cancelled { Write::Relief } else { Write::Essential };
        let verdict = self.decide_between(write, SETTLE, bytes, settling, |settling, view| {
            let verdict = settling.decide(view)?;
            let is_kept = matches!(verdict, Ok(Verdict::Kept));
            Ok((if is_kept { vec![Cow::Borrowed(&settling.ops[..])] } else { Vec::new() }, verdict))
        });
        let verdict = verdict.await?;
        let settled = match self.damage_aside(owner, verdict).await? {
            Verdict::Kept => {
                if call.state.is_terminal() {
                    self.counts.release(&call.app, Kind::Call);
                }
                self.observe(|observer| {
                    observer.call_changed(&call);
                    // The same commit ends the run.
                    if call.run.is_some() && call.state.is_terminal() {
                        observer.schedule_changed(&call.function_id());
                    }
                });
                return Ok(Settled::Kept);
            }
            Verdict::KeptBefore => Ok(Settled::Kept),
            Verdict::Fenced => Ok(Settled::Fenced),
            Verdict::Ended(row) => {
                let ended = record(Table::Calls, id, &row);
                Ok(Settled::Ended(Box::new(self.damage_aside(owner, ended).await?)))
            }
            Verdict::Gone => Err(JournalError::Expired),
        };
        self.remove_unused(claims).await;
        settled
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
    pub(super) fn call_row(&self, call: &CallRecord) -> Vec<u8> {
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
    let bytes = key.len() + size_of::<CallRecord>();
    let (decider, _) = Decider::new(bytes, (key, call), |(key, call), view| {
        let present = view.get(Table::Schedules, key)?;
        let run = present.and_then(|present| serde_json::from_slice::<ScheduledRun>(&present).ok());
        let ended = run.and_then(|mut run| run.end(call).then(|| put(Table::Schedules, key.clone(), row(&run))));
        Ok((vec![Cow::Owned(ended.into_iter().collect())], ()))
    });
    Op::Decide(decider)
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

/// Returns what a host that starts must know of a call, without reading the call.
pub(super) fn open_row(call: &CallRecord) -> Vec<u8> {
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

pub(super) fn read_open(id: CallId, row: Vec<u8>) -> Result<OpenCall, CodecError> {
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
