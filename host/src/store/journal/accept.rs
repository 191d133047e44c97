//! Acceptance of calls and maps: everything is encoded first, and a decider of the same transaction looks at the
//! idempotency key, the parent and the bound.

use std::borrow::Cow;
use std::sync::Arc;

use super::claims::Prepared;
use super::counts::{NewestId, OpenCounts, Reservation};
use super::error::JournalError;
use super::layout::chunk::encode_one;
use super::layout::key;
use super::layout::quarantine::{DamagedRow, QuarantinedRow};
use super::records::{CancelView, LeaseView};
use super::{ACCEPT, StoreJournal, keyed, ops_bytes, put, read_keyed, row};
use crate::call::Payload;
use crate::clock::unix_ms;
use crate::ids::{AppName, CallId, MapId};
use crate::storage::{Accept, Accepted, CallRecord, Idempotency, Kind, MapHeader, MapProgress, NewRecord, State};
use crate::store::{Changes, Decider, Op, Table, View, ViewError, Write, over_quota};

/// A call or map that is ready to be kept.
struct Candidate {
    id: [u8; 16],
    /// Its record.
    at: (Table, Vec<u8>),
    kind: Kind,
    app: AppName,
    ops: Vec<Op>,
    /// Row of its idempotency key.
    key: Option<Vec<u8>>,
    parent: Option<Parent>,
    open_max: usize,
    counts: Arc<OpenCounts>,
    newest: Arc<NewestId>,
}

/// Record by which the parent was cancelled, or was not.
enum Parent {
    Call(CallId),
    Map(Vec<u8>),
}

/// Answer of a candidate's decider.
struct Verdict {
    accepted: Accepted,
    /// Count of what is written; none where nothing is.
    reservation: Option<Reservation>,
    /// Row of the idempotency key that could not be read, and gave way.
    damaged: Option<DamagedRow>,
}

impl Verdict {
    fn unwritten(accepted: Accepted) -> Self {
        Self { accepted, reservation: None, damaged: None }
    }
}

impl Parent {
    /// A parent without a record, or with one that cannot be read, was not cancelled.
    fn is_cancelled(&self, view: &View<'_>) -> Result<bool, ViewError> {
        Ok(match self {
            Self::Call(id) => view.get(Table::Calls, id.as_bytes())?.is_some_and(|row| {
                serde_json::from_slice(&row).is_ok_and(|call: LeaseView| call.state == State::Cancelled)
            }),
            Self::Map(header) => view
                .get(Table::Maps, header)?
                .is_some_and(|row| serde_json::from_slice(&row).is_ok_and(|map: CancelView| map.is_cancelled)),
        })
    }
}

fn decide<'a>(new: &'a Candidate, view: &View<'_>) -> Result<(Changes<'a>, Verdict), ViewError> {
    let unwritten = |accepted| Ok((Vec::new(), Verdict::unwritten(accepted)));
    // The same accept again, after an answer that was lost.
    if !new.newest.passes(new.id) && view.contains(new.at.0, &new.at.1)? {
        return unwritten(Accepted::New);
    }
    let mut damaged = None;
    if let Some(key) = &new.key
        && let Some(row) = view.get(Table::JournalIndex, key)?
    {
        match read_keyed(row.to_vec()) {
            Ok(keyed) => return unwritten(Accepted::Existing(keyed)),
            // The key is as if it was never used.
            Err(error) => {
                let reason = error.to_string();
                damaged = Some((DamagedRow { table: Table::JournalIndex, key: key.clone(), reason }, row.to_vec()));
            }
        }
    }
    if let Some(parent) = &new.parent
        && parent.is_cancelled(view)?
    {
        return unwritten(Accepted::ParentCancelled);
    }
    let mut changes: Changes<'a> = vec![Cow::Borrowed(&new.ops)];
    if let Some(over) = over_quota(view, &new.app, &changes)? {
        return unwritten(Accepted::OverQuota(over));
    }
    let reservation = match new.counts.reserve(&new.app, new.kind, new.open_max) {
        Ok(reservation) => Some(reservation),
        Err(open) => return unwritten(Accepted::TooMany { open }),
    };
    let damaged = damaged.map(|(damaged, row)| {
        let (key, value) = QuarantinedRow::of(None, &damaged, unix_ms(), row).encode();
        changes.push(Cow::Owned(vec![put(Table::Quarantine, key, value)]));
        damaged
    });
    Ok((changes, Verdict { accepted: Accepted::New, reservation, damaged }))
}

impl StoreJournal {
    pub(super) async fn accept(&self, new: Vec<Accept>) -> Result<Vec<Accepted>, JournalError> {
        // A write of nothing would ask for a checkpoint.
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ops, mut waiting) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
        let mut line: Option<AppName> = None;
        for Accept { record, idempotency, parent_map, open_max } in new {
            let mut prepared = Prepared::default();
            let idempotency = idempotency.as_ref();
            let app = match &record {
                NewRecord::Call(call, _) => &call.app,
                NewRecord::Map(header) => &header.app,
            };
            line.get_or_insert_with(|| app.clone());
            let (record, candidate) = match record {
                NewRecord::Call(mut call, input) => {
                    call.lease = self.holder().filter(|_| call.state == State::Leased);
                    self.call_ops(&call, input, idempotency, &mut prepared).await?;
                    let candidate = Candidate {
                        id: *call.id.as_bytes(),
                        at: (Table::Calls, call.id.as_bytes().to_vec()),
                        kind: Kind::Call,
                        app: call.app.clone(),
                        ops: prepared.ops,
                        key: idempotency.map(|idempotency| key::idempotency(&call.function_id(), &idempotency.key)),
                        parent: parent(call.parent, parent_map),
                        open_max,
                        counts: self.counts.clone(),
                        newest: self.newest.clone(),
                    };
                    (Observed::Call(call), candidate)
                }
                NewRecord::Map(header) => {
                    let candidate = Candidate {
                        id: *header.id.as_bytes(),
                        at: (Table::Maps, key::map_header(header.id)),
                        kind: Kind::Map,
                        app: header.app.clone(),
                        ops: map_ops(&header, idempotency),
                        key: idempotency.map(|idempotency| key::idempotency(&header.function_id(), &idempotency.key)),
                        parent: parent(header.parent, parent_map),
                        open_max,
                        counts: self.counts.clone(),
                        newest: self.newest.clone(),
                    };
                    (Observed::Map(header.id), candidate)
                }
            };
            let (decider, decided) = Decider::new(ops_bytes(&candidate.ops), candidate, decide);
            ops.push(Op::Decide(decider));
            waiting.push((record, decided, prepared.claims));
        }
        self.write_within_share(line.as_ref().map_or("", AppName::as_str), ACCEPT, ops).await?;
        let (mut answers, mut unused) = (Vec::with_capacity(waiting.len()), Vec::new());
        for (record, decided, claims) in waiting {
            let Verdict { accepted, reservation, damaged } = decided.take();
            if let Accepted::OverQuota(over) = &accepted {
                self.dir.store()?.refuse(over.clone());
            }
            answers.push(accepted);
            if let Some(damaged) = damaged {
                self.note_aside(None, &damaged);
            }
            match reservation {
                Some(reservation) => {
                    reservation.keep();
                    self.observe(|observer| match &record {
                        Observed::Call(call) => observer.call_changed(call),
                        Observed::Map(id) => observer.map_changed(*id),
                    });
                }
                None => unused.extend(claims),
            }
        }
        self.remove_unused(unused).await;
        Ok(answers)
    }

    /// Adds what keeps a new call.
    pub(super) async fn call_ops(
        &self,
        call: &CallRecord,
        input: Payload,
        idempotency: Option<&Idempotency>,
        prepared: &mut Prepared,
    ) -> Result<(), JournalError> {
        let id = call.id.as_bytes();
        let function = call.function_id();
        let input = self.place(Write::New, id, input, prepared).await?;
        prepared.ops.extend([
            put(Table::Calls, id.to_vec(), self.call_row(call)),
            put(Table::CallInputs, id.to_vec(), encode_one(&input)),
            put(Table::JournalIndex, key::open_call(call.id), super::calls::open_row(call)),
            put(Table::JournalIndex, [key::of_function(&function, Kind::Call).as_slice(), id].concat(), Vec::new()),
        ]);
        if let Some(parent) = call.parent {
            prepared.ops.push(put(Table::JournalIndex, key::child(parent, Kind::Call, *id), Vec::new()));
        }
        prepared.ops.extend(idempotency.map(|idempotency| keyed(&function, idempotency, Kind::Call, id)));
        Ok(())
    }
}

/// Record as an observer is told of it.
enum Observed {
    Call(Box<CallRecord>),
    Map(MapId),
}

fn parent(parent: Option<CallId>, map: Option<MapId>) -> Option<Parent> {
    match map {
        Some(map) => Some(Parent::Map(key::map_header(map))),
        None => parent.map(Parent::Call),
    }
}

fn map_ops(header: &MapHeader, idempotency: Option<&Idempotency>) -> Vec<Op> {
    let (id, function) = (header.id.as_bytes(), header.function_id());
    let mut ops = vec![
        put(Table::Maps, key::map_header(header.id), row(header)),
        put(Table::Maps, key::map_progress(header.id), row(&MapProgress::default())),
        put(Table::JournalIndex, key::open_map(header.id), Vec::new()),
        put(Table::JournalIndex, [key::of_function(&function, Kind::Map).as_slice(), id].concat(), Vec::new()),
    ];
    if let Some(parent) = header.parent {
        ops.push(put(Table::JournalIndex, key::child(parent, Kind::Map, *id), Vec::new()));
    }
    ops.extend(idempotency.map(|idempotency| keyed(&function, idempotency, Kind::Map, id)));
    ops
}
