//! Every kind of row of the journal as it is on disk.
//!
//! What these snapshots show is in the data directories of users. A change of one is a change of the format, which
//! `docs/decisions/store-format.md` says how to make.

use expect_test::{Expect, expect};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::files::INLINE_BYTES_MAX;
use super::layout::lease;
use super::maps::read_chunk;
use super::tests::{accept, append, create, save};
use super::*;
use crate::call::{Failure, FailureCode, HostCallsOfKind, InferenceReceipt, Principal, Priority, Receipt, WallParts};
use crate::ids::Version;
use crate::storage::{
    Chunk, ChunkUpdate, Entry, EntryKind, FailedAttempt, Lease, MapHeader, MapProgress, PayloadPlace, ProgressDelta,
    State,
};
use crate::store::snapshot;

const FILE_LEN: usize = INLINE_BYTES_MAX + 1;

/// Ids that can be read in a snapshot.
fn call_id() -> CallId {
    CallId::from_bytes(*b"the id of a call")
}

fn parent_id() -> CallId {
    CallId::from_bytes(*b"id of its parent")
}

fn map_id() -> MapId {
    MapId::from_bytes(*b"an id of one map")
}

/// The journal of a new directory.
fn journal() -> (TempDir, StoreJournal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = StoreJournal::new(Arc::new(StoreDir::new(dir.path())));
    (dir, journal)
}

fn failure() -> Failure {
    Failure { causes: vec!["a cause".to_owned()], ..Failure::new(FailureCode::MemoryLimit, "a message") }
}

/// A receipt without a field that is its default.
fn receipt() -> Receipt {
    let mut receipt = Receipt {
        attempts: 1,
        queue_us: 2,
        wall_us: 3,
        instantiate_us: 4,
        cpu_us: 5,
        wall_parts: WallParts {
            instantiate_us: 1,
            guest_us: 2,
            cpu_wait_us: 3,
            functions_us: 4,
            http_us: 5,
            inference_us: 6,
            key_value_us: 7,
            idle_us: 8,
            between_attempts_us: 9,
            other_us: 10,
        },
        group_inputs: 6,
        memory_peak_bytes: 7,
        log_dropped_bytes: 8,
        inference: InferenceReceipt {
            requests: 9,
            tokens: 10,
            wait_us: 11,
            batch_rows: 12,
            batches: 13,
            device_us: 14,
            device: Some("cpu".to_owned()),
        },
        ..Receipt::default()
    };
    for (kind, count) in receipt.host_calls.kinds_mut().into_iter().zip(1..) {
        *kind = HostCallsOfKind { count, wall_us: 10 * count };
    }
    receipt
}

/// A call without a field that is its default.
fn call() -> CallRecord {
    CallRecord {
        id: call_id(),
        app: "app".parse().unwrap(),
        function: "function".parse().unwrap(),
        state: State::Waiting,
        principal: Principal::Operator,
        priority: Priority::Low,
        accepted_ms: 1_000,
        ended_ms: Some(2_000),
        lease: None,
        attempts: 3,
        lost: 1,
        next_ms: Some(3_000),
        version: Some(Version::of_digest(&[0xab; 32])),
        failure: Some(failure()),
        failed_attempts: [FailedAttempt { attempt: 2, at_ms: 1_500, failure: failure() }].into(),
        parent: Some(parent_id()),
        depth: 2,
        run: None,
        idempotency_key: Some("key".to_owned()),
        receipt: receipt(),
    }
}

fn header() -> MapHeader {
    MapHeader {
        id: map_id(),
        app: "app".parse().unwrap(),
        function: "function".parse().unwrap(),
        principal: Principal::Operator,
        priority: Priority::High,
        created_ms: 1_000,
        accepted: 6,
        is_closed: true,
        is_cancelled: true,
        parent: Some(parent_id()),
        depth: 1,
        idempotency_key: Some("key".to_owned()),
    }
}

fn progress(ended_ms: Option<u64>) -> MapProgress {
    MapProgress { done: 2, failed: 1, dead: 1, retried: 5, ended_ms, receipt: receipt() }
}

/// The header before inputs came and marks were set.
fn new_header() -> MapHeader {
    MapHeader { accepted: 0, is_closed: false, is_cancelled: false, ..header() }
}

/// Additions that make `progress` of nothing.
fn delta() -> ProgressDelta {
    ProgressDelta { done: 2, failed: 1, dead: 1, retried: 5, receipt: receipt() }
}

async fn settle(journal: &StoreJournal, delta: ProgressDelta, chunk: ChunkUpdate) {
    let settle = MapSettle { map: map_id(), chunks: vec![chunk], delta, is_drained: false };
    let settled = journal.settle_map(settle, 1_500).await.unwrap();
    assert!(matches!(settled, MapSettled::Kept(_)), "{settled:?}");
}

fn keyed_record(journal: &StoreJournal, function: &FunctionId) -> KeyedRecord {
    let row = journal.dir.store().unwrap().get(Table::JournalIndex, &key::idempotency(function, "key")).unwrap();
    read_keyed(row.unwrap()).unwrap()
}

fn idempotency() -> Idempotency {
    Idempotency { key: "key".to_owned(), fingerprint: [b'f'; 32] }
}

fn text(data: &'static str) -> Payload {
    Payload { content_type: "text/plain".to_owned(), data: data.into() }
}

fn large(byte: u8) -> Payload {
    Payload::json(vec![byte; FILE_LEN])
}

fn entries() -> Vec<Entry> {
    let plain = Receipt { attempts: 1, queue_us: 2, wall_us: 3, instantiate_us: 4, cpu_us: 5, ..Receipt::default() };
    let plain = Receipt { memory_peak_bytes: 1 << 20, ..plain };
    let kind = [
        EntryKind::Done(StoredPayload::inline(Payload::json("16"))),
        EntryKind::Failed(failure()),
        EntryKind::Dead(failure()),
        EntryKind::Retry { failed: 2, next_ms: 5_000, failure: failure() },
        EntryKind::Done(StoredPayload::inline(large(b'2'))),
    ];
    let entry = |(index, kind)| {
        let receipt = match index {
            0 => Receipt { wall_parts: WallParts::default(), ..receipt() },
            _ => plain.clone(),
        };
        Entry { index, attempt: 3, kind, receipt }
    };
    (0..).zip(kind).map(entry).collect()
}

/// Entries as they are read: large outputs are in files.
fn entries_in_files() -> Vec<Entry> {
    let mut entries = entries();
    let digest = Sha256::digest(vec![b'2'; FILE_LEN]).into();
    let at = PayloadPlace::File { digest, bytes: FILE_LEN as u64 };
    entries[4].kind = EntryKind::Done(StoredPayload { content_type: "application/json".to_owned(), at });
    entries
}

/// Checks the rows of a journal, and returns another journal that has read them.
async fn check(dir: &TempDir, journal: &StoreJournal, expected: Expect) -> (TempDir, StoreJournal) {
    let text = snapshot::dump(journal.dir.store().unwrap());
    expected.assert_eq(&text);
    let (other_dir, other) = self::journal();
    snapshot::fill(other.dir.store().unwrap(), &text).await;
    // Files are as their digests say.
    let results = dir.path().join("results");
    if results.exists() {
        std::fs::rename(results, other_dir.path().join("results")).unwrap();
    }
    (other_dir, other)
}

#[tokio::test]
async fn a_call_that_is_open_is_on_disk_as_it_was() {
    let (dir, journal) = journal();
    let call = call();
    accept(&journal, &call, text("an input"), Some(idempotency())).await;
    let (_dir, read) = check(
        &dir,
        &journal,
        expect![[r#"
        [calls]
        the id of a call → {"id":"74686520-6964-206f-6620-612063616c6c","app":"app",|
            "function":"function","state":"waiting","priority":"low","accepted_ms":1000,"ended_ms":2000,|
            "attempts":3,"lost":1,"next_ms":3000,"version":"abababababab","failure":{"code":"memory-limit",|
            "message":"a message","causes":["a cause"]},"failed_attempts":[{"attempt":2,"at_ms":1500,|
            "failure":{"code":"memory-limit","message":"a message","causes":["a cause"]}}],|
            "parent":"6964206f-6620-6974-7320-706172656e74","depth":2,"idempotency_key":"key",|
            "receipt":{"attempts":1,"queue_us":2,"wall_us":3,"instantiate_us":4,"cpu_us":5,|
            "wall_parts":{"instantiate_us":1,"guest_us":2,"cpu_wait_us":3,"functions_us":4,"http_us":5,|
            "inference_us":6,"key_value_us":7,"idle_us":8,"between_attempts_us":9,"other_us":10},|
            "group_inputs":6,"memory_peak_bytes":7,"host_calls":{"clock":{"count":1,"wall_us":10},|
            "config":{"count":2,"wall_us":20},"functions":{"count":3,"wall_us":30},"http":{"count":4,|
            "wall_us":40},"inference":{"count":5,"wall_us":50},"key_value":{"count":6,"wall_us":60},|
            "random":{"count":7,"wall_us":70}},"log_dropped_bytes":8,"inference":{"requests":9,"tokens":10,|
            "wait_us":11,"batch_rows":12,"batches":13,"device_us":14,"device":"cpu"}}}|
        [call-inputs]
        the id of a call → \x01\x01\x0atext/plain\x08an input|
        [journal-index]
        cid of its parentcthe id of a call → |
        fcapp\x00function\x00the id of a call → |
        i\x00\xf9'j)\x80\xf7\x18}DC\x19;\xda\x0a\x90\x1bO\xa8*\xe8\xb4\x8c\x16_\xf9z[R\x82#\xf1 → \x00the |
            id of a callffffffffffffffffffffffffffffffff|
        octhe id of a call → \x03app\x08function\x02\xb8\x17|
    "#]],
    )
    .await;

    assert_eq!(read.call(call_id()).await.unwrap(), Some(call.clone()));
    assert_eq!(read.call_payload(Table::CallInputs, call_id()).await.unwrap(), Some(text("an input")));
    let open = OpenCall {
        id: call_id(),
        function: call.function_id(),
        priority: Priority::Low,
        next_ms: Some(3_000),
        run: None,
    };
    assert_eq!(read.open_calls(None, 10).await.unwrap(), [open]);
    let keyed = KeyedRecord { kind: Kind::Call, id: *call_id().as_bytes(), fingerprint: [b'f'; 32] };
    assert_eq!(keyed_record(&read, &call.function_id()), keyed);
    assert_eq!(read.children(parent_id(), None, 10).await.unwrap(), [(Kind::Call, *call_id().as_bytes())]);
    let (app, function) = (Some(call.app.clone()), Some(call.function.clone()));
    let (listed, next) = read.list(Query { app, function, before: None, limit: 10 }).await.unwrap();
    assert_eq!((listed, next), (vec![ListEntry::Call(call)], None));
}

#[tokio::test]
async fn a_call_that_has_ended_is_on_disk_as_it_was() {
    let (dir, journal) = journal();
    // As few fields as there can be.
    let mut call = CallRecord {
        state: State::Leased,
        priority: Priority::Normal,
        ended_ms: None,
        lost: 0,
        next_ms: None,
        version: None,
        failure: None,
        failed_attempts: Default::default(),
        parent: None,
        depth: 0,
        idempotency_key: None,
        receipt: Receipt::default(),
        ..call()
    };
    accept(&journal, &call, large(b'1'), None).await;
    (call.state, call.ended_ms) = (State::Done, Some(2_000));
    save(&journal, &call, Some(Payload::json("42"))).await.unwrap();
    let (_dir, read) = check(
        &dir,
        &journal,
        expect![[r#"
        [calls]
        the id of a call → {"id":"74686520-6964-206f-6620-612063616c6c","app":"app",|
            "function":"function","state":"done","accepted_ms":1000,"ended_ms":2000,"attempts":3,|
            "receipt":{"attempts":0,"queue_us":0,"wall_us":0,"instantiate_us":0,"cpu_us":0,|
            "memory_peak_bytes":0,"log_dropped_bytes":0}}|
        [call-inputs]
        the id of a call → \x01\x02\x10application/json\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\|
            x82\x98\x90\xbb\xa3\xeem\x8e\xa8\xa7y\xd7&\x90\x0b\x81\x80\x10|
        [call-outputs]
        the id of a call → \x01\x00\x0242|
        [journal-index]
        Rthe id of a call\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\x82\x98\x90\xbb\xa3\xeem\x8e\xa8|
            \xa7y\xd7&\x90\x0b → \x00\x00\x00\x00\x00\x04\x00\x01|
        eapp\x00\x00\x00\x00\x00\x00\x00\x07\xd0cthe id of a call → |
        fcapp\x00function\x00the id of a call → |
        r\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\x82\x98\x90\xbb\xa3\xeem\x8e\xa8\xa7y\xd7&\x90\x|
            0bthe id of a call → |
    "#]],
    )
    .await;

    assert_eq!(read.call(call_id()).await.unwrap(), Some(call.clone()));
    assert_eq!(read.call_payload(Table::CallInputs, call_id()).await.unwrap(), Some(large(b'1')));
    assert_eq!(read.call_payload(Table::CallOutputs, call_id()).await.unwrap(), Some(Payload::json("42")));
    assert_eq!(read.open_calls(None, 10).await.unwrap(), []);
    assert_eq!(read.apps_with_ended().await.unwrap(), [call.app.clone()]);
    // All of it is found when it is deleted.
    while read.expire(&call.app, 2_001).await.unwrap() {}
    assert_eq!(snapshot::dump(read.dir.store().unwrap()), "");
    assert_eq!(read.dir.files().unwrap().digests().unwrap(), [[0; 32]; 0]);
}

#[tokio::test]
async fn a_map_that_is_open_is_on_disk_as_it_was() {
    let (dir, journal) = journal();
    let (header, progress) = (header(), progress(None));
    create(&journal, &new_header(), Some(idempotency())).await;
    let inputs = vec![Payload::json("1"), text("two"), large(b'1'), Payload::json("4"), Payload::json("5")];
    append(&journal, map_id(), 0, inputs.clone(), true).await.unwrap();
    append(&journal, map_id(), 5, vec![Payload::json("6")], false).await.unwrap();
    let lost = PendingChunk { first: 5, lease: Lease { is_leased: true, lost: 2, len: 1, holder: None } };
    let leased = put(Table::MapPending, key::chunk(map_id(), 5), lease::encode(lost.lease));
    journal.dir.store().unwrap().write(vec![leased]).await.unwrap();
    let settled = ChunkUpdate { first: 0, entries: entries(), segment: 1, ..ChunkUpdate::default() };
    settle(&journal, delta(), settled).await;
    journal.mark(map_id(), MapMark::Close).await.unwrap();
    let marked = journal.mark(map_id(), MapMark::Cancel).await.unwrap().unwrap();
    assert_eq!(marked.header, header);
    let (_dir, read) = check(
        &dir,
        &journal,
        expect![[r#"
        [journal-index]
        Ran id of one map\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\x82\x98\x90\xbb\xa3\xeem\x8e\xa8|
            \xa7y\xd7&\x90\x0b → \x00\x00\x00\x00\x00\x04\x00\x01|
        Ran id of one map\xb2\xcc\x13\x05\x8fs\xb5\x8d\xf84\xe1\x06gX.\xba\x837]\xd3_!\xdcBf\xe6\x84\xd7\xd0|
            {\x0b\xee → \x00\x00\x00\x00\x00\x04\x00\x01|
        cid of its parentman id of one map → |
        fmapp\x00function\x00an id of one map → |
        i\x00\xf9'j)\x80\xf7\x18}DC\x19;\xda\x0a\x90\x1bO\xa8*\xe8\xb4\x8c\x16_\xf9z[R\x82#\xf1 → \x01an i|
            d of one mapffffffffffffffffffffffffffffffff|
        oman id of one map → |
        r\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\x82\x98\x90\xbb\xa3\xeem\x8e\xa8\xa7y\xd7&\x90\x|
            0ban id of one map → |
        r\xb2\xcc\x13\x05\x8fs\xb5\x8d\xf84\xe1\x06gX.\xba\x837]\xd3_!\xdcBf\xe6\x84\xd7\xd0{\x0b\xeean id o|
            f one map → |
        [maps]
        an id of one maph → {"id":"616e2069-6420-6f66-206f-6e65206d6170","app":"app",|
            "function":"function","priority":"high","created_ms":1000,"accepted":6,"is_closed":true,|
            "is_cancelled":true,"parent":"6964206f-6620-6974-7320-706172656e74","depth":1,|
            "idempotency_key":"key"}|
        an id of one mapp → {"done":2,"failed":1,"dead":1,"retried":5,"receipt":{"attempts":1,|
            "queue_us":2,"wall_us":3,"instantiate_us":4,"cpu_us":5,"wall_parts":{"instantiate_us":1,|
            "guest_us":2,"cpu_wait_us":3,"functions_us":4,"http_us":5,"inference_us":6,"key_value_us":7,|
            "idle_us":8,"between_attempts_us":9,"other_us":10},"group_inputs":6,"memory_peak_bytes":7,|
            "host_calls":{"clock":{"count":1,"wall_us":10},"config":{"count":2,"wall_us":20},|
            "functions":{"count":3,"wall_us":30},"http":{"count":4,"wall_us":40},"inference":{"count":5,|
            "wall_us":50},"key_value":{"count":6,"wall_us":60},"random":{"count":7,"wall_us":70}},|
            "log_dropped_bytes":8,"inference":{"requests":9,"tokens":10,"wait_us":11,"batch_rows":12,|
            "batches":13,"device_us":14,"device":"cpu"}}}|
        [map-inputs]
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x00 → \x01\x05\x00\x011\x01\x0atext/plain\x03two\x02\|
            x10application/json\x04\xe2\xaabS\x04\xb0>p\xbe@\x9f\xe9\x92\xc9u\x98\x82\x98\x90\xbb\xa3\xeem\x8e\x|
            a8\xa7y\xd7&\x90\x0b\x81\x80\x10\x00\x014\x00\x015|
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x05 → \x01\x01\x00\x016|
        [map-pending]
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x00 → \x01\x01\x00\x05|
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x05 → \x01\x01\x02\x01|
        [map-results]
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01 → \x01\x05\x00\x03\x00\x00\x0216\|
            x01\xf4\x03{"attempts":1,"queue_us":2,"wall_us":3,"instantiate_us":4,"cpu_us":5,"group_inputs":6,|
            "memory_peak_bytes":7,"host_calls":{"clock":{"count":1,"wall_us":10},"config":{"count":2,|
            "wall_us":20},"functions":{"count":3,"wall_us":30},"http":{"count":4,"wall_us":40},|
            "inference":{"count":5,"wall_us":50},"key_value":{"count":6,"wall_us":60},"random":{"count":7,|
            "wall_us":70}},"log_dropped_bytes":8,"inference":{"requests":9,"tokens":10,"wait_us":11,|
            "batch_rows":12,"batches":13,"device_us":14,"device":"cpu"}}\x01\x03\x01B{"code":"memory-limit",|
            "message":"a message",|
            "causes":["a cause"]}\x00\x01\x02\x03\x04\x05\x80\x80@\x02\x03\x02B{"code":"memory-limit",|
            "message":"a message",|
            "causes":["a cause"]}\x00\x01\x02\x03\x04\x05\x80\x80@\x03\x03\x03\x02\x88'B{"code":"memory-limit",|
            "message":"a message",|
            "causes":["a cause"]}\x00\x01\x02\x03\x04\x05\x80\x80@\x04\x03\x00\x02\x10application/json\xb2\xcc\x|
            13\x05\x8fs\xb5\x8d\xf84\xe1\x06gX.\xba\x837]\xd3_!\xdcBf\xe6\x84\xd7\xd0{\x0b\xee\x81\x80\x10\x00\x|
            01\x02\x03\x04\x05\x80\x80@|
    "#]],
    )
    .await;

    let map = MapRecord { header: header.clone(), progress };
    assert_eq!(read.map(map_id()).await.unwrap(), Some(map.clone()));
    assert_eq!(read.open_maps(None, 10).await.unwrap(), std::slice::from_ref(&map));
    let keyed = KeyedRecord { kind: Kind::Map, id: *map_id().as_bytes(), fingerprint: [b'f'; 32] };
    assert_eq!(keyed_record(&read, &header.function_id()), keyed);
    assert_eq!(read.children(parent_id(), None, 10).await.unwrap(), [(Kind::Map, *map_id().as_bytes())]);
    let (app, function) = (Some(header.app.clone()), Some(header.function.clone()));
    let (listed, next) = read.list(Query { app, function, before: None, limit: 10 }).await.unwrap();
    assert_eq!((listed, next), (vec![ListEntry::Map(map)], None));
    let leased = PendingChunk { first: 0, lease: Lease { is_leased: true, lost: 0, len: 5, holder: None } };
    assert_eq!(read.pending(map_id(), None, 10).await.unwrap(), [leased, lost]);
    let chunk = read_chunk(read.dir.store().unwrap(), map_id(), 0).unwrap().unwrap();
    for (stored, input) in chunk.inputs.iter().zip(&inputs) {
        assert_eq!(read.payload(stored.clone()).await.unwrap(), *input);
    }
    let found =
        Chunk { inputs: chunk.inputs.clone(), first: 0, entries: entries_in_files(), is_stripped: false, segments: 1 };
    assert_eq!((chunk.inputs.len(), chunk), (inputs.len(), found));
    let output = read.payload(match &entries_in_files()[4].kind {
        EntryKind::Done(stored) => stored.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(output.await.unwrap(), large(b'2'));
}

#[tokio::test]
async fn a_map_that_has_ended_is_on_disk_as_it_was() {
    let (dir, journal) = journal();
    let header = header();
    create(&journal, &new_header(), None).await;
    append(&journal, map_id(), 0, vec![Payload::json("1"), Payload::json("2")], true).await.unwrap();
    // As if more inputs had come.
    let marked = put(Table::Maps, key::map_header(map_id()), row(&header));
    journal.dir.store().unwrap().write(vec![marked]).await.unwrap();
    let done: Vec<Entry> = entries_in_files().into_iter().filter(|entry| entry.index % 4 == 0).collect();
    let settled =
        |segment, entries: &[Entry]| ChunkUpdate { segment, entries: entries.to_vec(), ..ChunkUpdate::default() };
    settle(&journal, delta(), settled(1, &done[..1])).await;
    let whole = ChunkUpdate { replaces: Some(1), is_whole: true, ..settled(0, &done) };
    let (delta, chunks) = (ProgressDelta::default(), vec![whole]);
    let end = MapSettle { map: map_id(), chunks, delta, is_drained: true };
    journal.settle_map(end, 2_000).await.unwrap();
    let (_dir, read) = check(
        &dir,
        &journal,
        expect![[r#"
        [journal-index]
        cid of its parentman id of one map → |
        eapp\x00\x00\x00\x00\x00\x00\x00\x07\xd0man id of one map → |
        fmapp\x00function\x00an id of one map → |
        [maps]
        an id of one maph → {"id":"616e2069-6420-6f66-206f-6e65206d6170","app":"app",|
            "function":"function","priority":"high","created_ms":1000,"accepted":6,"is_closed":true,|
            "is_cancelled":true,"parent":"6964206f-6620-6974-7320-706172656e74","depth":1,|
            "idempotency_key":"key"}|
        an id of one mapp → {"done":2,"failed":1,"dead":1,"retried":5,"ended_ms":2000,|
            "receipt":{"attempts":1,"queue_us":2,"wall_us":3,"instantiate_us":4,"cpu_us":5,|
            "wall_parts":{"instantiate_us":1,"guest_us":2,"cpu_wait_us":3,"functions_us":4,"http_us":5,|
            "inference_us":6,"key_value_us":7,"idle_us":8,"between_attempts_us":9,"other_us":10},|
            "group_inputs":6,"memory_peak_bytes":7,"host_calls":{"clock":{"count":1,"wall_us":10},|
            "config":{"count":2,"wall_us":20},"functions":{"count":3,"wall_us":30},"http":{"count":4,|
            "wall_us":40},"inference":{"count":5,"wall_us":50},"key_value":{"count":6,"wall_us":60},|
            "random":{"count":7,"wall_us":70}},"log_dropped_bytes":8,"inference":{"requests":9,"tokens":10,|
            "wait_us":11,"batch_rows":12,"batches":13,"device_us":14,"device":"cpu"}}}|
        [map-inputs]
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x00 → \x01\x02\x00\x011\x00\x012|
        [map-results]
        an id of one map\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00 → \x01\x02\x00\x03\x00\x00\x0216\|
            x01\xf4\x03{"attempts":1,"queue_us":2,"wall_us":3,"instantiate_us":4,"cpu_us":5,"group_inputs":6,|
            "memory_peak_bytes":7,"host_calls":{"clock":{"count":1,"wall_us":10},"config":{"count":2,|
            "wall_us":20},"functions":{"count":3,"wall_us":30},"http":{"count":4,"wall_us":40},|
            "inference":{"count":5,"wall_us":50},"key_value":{"count":6,"wall_us":60},"random":{"count":7,|
            "wall_us":70}},"log_dropped_bytes":8,"inference":{"requests":9,"tokens":10,"wait_us":11,|
            "batch_rows":12,"batches":13,"device_us":14,|
            "device":"cpu"}}\x04\x03\x00\x02\x10application/json\xb2\xcc\x13\x05\x8fs\xb5\x8d\xf84\xe1\x06gX.\xb|
            a\x837]\xd3_!\xdcBf\xe6\x84\xd7\xd0{\x0b\xee\x81\x80\x10\x00\x01\x02\x03\x04\x05\x80\x80@|
    "#]],
    )
    .await;

    let map = MapRecord { header: header.clone(), progress: progress(Some(2_000)) };
    assert_eq!(read.map(map_id()).await.unwrap(), Some(map));
    assert_eq!(read.open_maps(None, 10).await.unwrap(), []);
    assert_eq!(read.pending(map_id(), None, 10).await.unwrap(), []);
    assert_eq!(read_chunk(read.dir.store().unwrap(), map_id(), 0).unwrap().unwrap().entries, done);
    assert_eq!(read.apps_with_ended().await.unwrap(), [header.app]);
}

fn check_names<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(values: &[T], expected: Expect) {
    let json = serde_json::to_string(values).unwrap().replace(',', "\n");
    expected.assert_eq(&json);
    assert_eq!(serde_json::from_str::<Vec<T>>(&json.replace('\n', ",")).unwrap(), values);
}

/// The names that stand in rows. Failures are in the rows of calls, and in segments.
#[test]
fn names_on_disk_are_what_they_were() {
    check_names(
        &State::ALL,
        expect![[r#"
        ["accepted"
        "leased"
        "waiting"
        "done"
        "failed"
        "dead"
        "cancelled"]"#]],
    );
    check_names(
        &Priority::ALL,
        expect![[r#"
        ["high"
        "normal"
        "low"]"#]],
    );
    check_names(
        &FailureCode::ALL,
        expect![[r#"
        ["failed"
        "terminal"
        "invalid-input"
        "unknown-function"
        "timeout"
        "memory-limit"
        "crashed"
        "input-too-large"
        "output-too-large"
        "overloaded"
        "depth-exceeded"
        "cancelled"
        "unavailable"]"#]],
    );
}
