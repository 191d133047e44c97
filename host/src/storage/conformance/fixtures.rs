//! Parameters of the promises, and steps that many of them begin with.

use std::fmt::Debug;

use super::super::{
    Accept, Accepted, Append, Appended, CallRecord, CallSettle, ChunkUpdate, Claimed, Entry, EntryKind, ErrorKind,
    LeaseToken, MapHeader, MapMark, MapRecord, MapSettle, MapSettled, NewRecord, PendingChunk, ProgressDelta, Settled,
    State, Storage, StorageError, StoredPayload,
};
use super::Engine;
use crate::call::{Failure, FailureCode, Payload, Principal, Receipt};
use crate::ids::{AppName, CallId, FunctionId, MapId, Version};

pub(crate) fn app(name: &str) -> AppName {
    name.parse().expect("a name")
}

pub(crate) fn function(app: &str, name: &str) -> FunctionId {
    FunctionId { app: self::app(app), function: name.parse().expect("a name") }
}

pub(crate) fn version(digit: u8) -> Version {
    Version::of_digest(&[digit; 32])
}

/// Makes an engine and joins it.
pub(crate) async fn joined(engine: &impl Engine) -> Storage {
    let storage = engine.fresh().await;
    storage.members.join().await.expect("the first start joins");
    storage
}

/// Ends a start, and joins with the next one.
pub(crate) async fn rejoined(engine: &impl Engine, earlier: Storage) -> Storage {
    let storage = engine.restart(earlier).await;
    storage.members.join().await.expect("the next start joins");
    storage
}

pub(crate) fn call_of(function: &FunctionId) -> CallRecord {
    CallRecord::new(function, Principal::Operator, 1_000)
}

/// A new call of `app::f`.
pub(crate) fn call() -> CallRecord {
    call_of(&function("app", "f"))
}

pub(crate) fn map_of(function: &FunctionId) -> MapHeader {
    MapHeader {
        id: MapId::generate(),
        app: function.app.clone(),
        function: function.function.clone(),
        principal: Principal::Operator,
        priority: Default::default(),
        created_ms: 1_000,
        accepted: 0,
        is_closed: false,
        is_cancelled: false,
        parent: None,
        depth: 0,
        idempotency_key: None,
    }
}

/// A new map of `app::f`.
pub(crate) fn map() -> MapHeader {
    map_of(&function("app", "f"))
}

pub(crate) fn accept_call(record: &CallRecord) -> Accept {
    let record = NewRecord::Call(Box::new(record.clone()), Payload::json("1"));
    Accept { record, idempotency: None, parent_map: None, open_max: 1_000 }
}

pub(crate) fn accept_map(header: &MapHeader) -> Accept {
    let record = NewRecord::Map(Box::new(header.clone()));
    Accept { record, idempotency: None, parent_map: None, open_max: 1_000 }
}

pub(crate) async fn accept(storage: &Storage, new: Accept) -> Accepted {
    let answers = storage.journal.accept(vec![new]).await.expect("it is accepted");
    let [answer] = &answers[..] else { panic!("one answer to one: {answers:?}") };
    answer.clone()
}

/// Has a new call of `app::f`, accepted and not begun.
pub(crate) async fn accepted(storage: &Storage) -> CallRecord {
    let record = call();
    assert_eq!(accept(storage, accept_call(&record)).await, Accepted::New);
    record
}

/// Has a new call of `app::f`, leased.
pub(crate) async fn leased(storage: &Storage) -> CallRecord {
    let record = accepted(storage).await;
    claimed(storage, record.id).await
}

pub(crate) async fn claimed(storage: &Storage, id: CallId) -> CallRecord {
    match storage.journal.claim(id, Some(version(1))).await.expect("it is claimed") {
        Claimed::Leased(record) => *record,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn token(record: &CallRecord) -> Option<LeaseToken> {
    Some(LeaseToken { holder: record.lease.expect("it is leased"), attempt: record.attempts })
}

pub(crate) fn ended(record: &CallRecord, state: State) -> CallRecord {
    let failure = (state != State::Done).then(|| Failure::new(FailureCode::Failed, "no"));
    CallRecord { state, ended_ms: Some(2_000), failure, lease: None, ..record.clone() }
}

pub(crate) fn waiting(record: &CallRecord, next_ms: u64) -> CallRecord {
    CallRecord { state: State::Waiting, next_ms: Some(next_ms), lease: None, ..record.clone() }
}

/// Settles a call under the lease of `record`.
pub(crate) async fn settle(storage: &Storage, record: &CallRecord, to: CallRecord) -> Settled {
    let output = (to.state == State::Done).then(|| Payload::json("2"));
    let settle = CallSettle { record: Box::new(to), lease: token(record), output };
    storage.journal.settle(settle).await.expect("it is settled")
}

pub(crate) async fn end(storage: &Storage, record: &CallRecord, state: State) {
    assert_eq!(settle(storage, record, ended(record, state)).await, Settled::Kept);
}

/// Has a new map of `app::f`.
pub(crate) async fn open_map(storage: &Storage) -> MapId {
    let header = map();
    assert_eq!(accept(storage, accept_map(&header)).await, Accepted::New);
    header.id
}

pub(crate) fn inputs(count: u64) -> Vec<Payload> {
    (0..count).map(|index| Payload::json(index.to_string())).collect()
}

pub(crate) async fn append(storage: &Storage, map: MapId, at: u64, inputs: Vec<Payload>, is_leased: bool) -> Appended {
    storage.journal.append(Append { map, at, inputs, is_leased }).await.expect("the engine takes inputs")
}

pub(crate) async fn kept(
    storage: &Storage,
    map: MapId,
    at: u64,
    inputs: Vec<Payload>,
    is_leased: bool,
) -> Vec<PendingChunk> {
    match append(storage, map, at, inputs, is_leased).await {
        Appended::Kept { chunks, .. } => chunks,
        other => panic!("{other:?}"),
    }
}

/// Has a map with one leased chunk of `count` inputs.
pub(crate) async fn running_map(storage: &Storage, count: u64) -> MapId {
    let map = open_map(storage).await;
    kept(storage, map, 0, inputs(count), true).await;
    map
}

pub(crate) fn done(index: u64) -> Entry {
    done_with(index, Payload::json(format!("\"{index}\"")))
}

pub(crate) fn done_with(index: u64, output: Payload) -> Entry {
    let kind = EntryKind::Done(StoredPayload::inline(output));
    Entry { index, attempt: 1, kind, receipt: Receipt::default() }
}

pub(crate) fn dead(index: u64) -> Entry {
    let kind = EntryKind::Dead(Failure::new(FailureCode::Failed, "no"));
    Entry { index, attempt: 1, kind, receipt: Receipt::default() }
}

pub(crate) fn retry(index: u64, next_ms: u64) -> Entry {
    let kind = EntryKind::Retry { failed: 1, next_ms, failure: Failure::new(FailureCode::Failed, "no") };
    Entry { index, attempt: 1, kind, receipt: Receipt::default() }
}

pub(crate) fn segment(first: u64, segment: u32, entries: Vec<Entry>) -> ChunkUpdate {
    ChunkUpdate { first, entries, segment, replaces: None, is_whole: false }
}

/// Outcomes of all of a chunk, which replace the segments up to `last`.
pub(crate) fn whole(first: u64, last: u32, entries: Vec<Entry>) -> ChunkUpdate {
    ChunkUpdate { first, entries, segment: last + 1, replaces: Some(last), is_whole: true }
}

/// Adds up the entries that are new. Without one it is zero: a settle that has no chunk cannot be told from its
/// repetition.
pub(crate) fn delta(entries: &[Entry]) -> ProgressDelta {
    let count = |is_it: fn(&EntryKind) -> bool| entries.iter().filter(|entry| is_it(&entry.kind)).count() as u64;
    ProgressDelta {
        done: count(|kind| matches!(kind, EntryKind::Done(_))),
        failed: count(|kind| matches!(kind, EntryKind::Failed(_))),
        dead: count(|kind| matches!(kind, EntryKind::Dead(_))),
        retried: count(|kind| matches!(kind, EntryKind::Retry { .. })),
        receipt: Receipt { attempts: entries.len() as u32, wall_us: 10 * entries.len() as u64, ..Receipt::default() },
    }
}

/// Makes a settle of updates whose entries are all new.
pub(crate) fn map_settle(map: MapId, chunks: Vec<ChunkUpdate>) -> MapSettle {
    let entries: Vec<Entry> = chunks.iter().flat_map(|chunk| chunk.entries.clone()).collect();
    MapSettle { map, chunks, delta: delta(&entries), is_drained: false }
}

pub(crate) async fn settle_map(storage: &Storage, settle: MapSettle) -> MapSettled {
    storage.journal.settle_map(settle).await.expect("the map is settled")
}

/// Settles a map; returns it as it is then.
pub(crate) async fn settled(storage: &Storage, map: MapId, chunks: Vec<ChunkUpdate>) -> MapRecord {
    match settle_map(storage, map_settle(map, chunks)).await {
        MapSettled::Kept(record) => *record,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn mark(storage: &Storage, map: MapId, mark: MapMark) -> MapRecord {
    storage.journal.mark(map, mark).await.expect("the map is marked").expect("there is such a map")
}

pub(crate) async fn map_record(storage: &Storage, map: MapId) -> MapRecord {
    storage.journal.map(map).await.expect("the map is read").expect("there is such a map")
}

pub(crate) async fn call_record(storage: &Storage, id: CallId) -> CallRecord {
    storage.journal.call(id).await.expect("the call is read").expect("there is such a call")
}

/// Has a map that has ended: input 0 is done, input 1 dead, each a chunk of its own.
pub(crate) async fn ended_map(storage: &Storage) -> MapId {
    let map = open_map(storage).await;
    kept(storage, map, 0, inputs(1), true).await;
    kept(storage, map, 1, inputs(1), true).await;
    mark(storage, map, MapMark::Close).await;
    let record = settled(storage, map, vec![whole(0, 0, vec![done(0)]), whole(1, 0, vec![dead(1)])]).await;
    assert!(record.progress.ended_ms.is_some());
    map
}

#[track_caller]
pub(crate) fn assert_refused<T: Debug>(answer: Result<T, StorageError>, kind: ErrorKind) {
    match answer {
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
        Ok(answer) => panic!("{answer:?} instead of {kind:?}"),
    }
}
