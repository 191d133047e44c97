//! Leases and their fencing, and retention, over real directories and a simulated one.

use std::sync::Arc;
use std::time::Duration;

use super::StoreJournal;
use super::files::INLINE_BYTES_MAX;
use crate::call::{Failure, FailureCode, Payload, Principal, Receipt};
use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::limits::JOURNAL_STEP_FILES_MAX;
use crate::storage::{
    CallRecord, ChunkUpdate, Entry, EntryKind, Idempotency, Journal, JournalError, Lease, LeaseHolder, MapHeader,
    MapProgress, MapRecord, PendingChunk, Query, State, StoredPayload, key,
};
use crate::store::sim_disk::Disk;
use crate::store::{Op, StoreDir, Table, Write, snapshot};

pub(super) fn call(state: State) -> CallRecord {
    let function = FunctionId { app: app(), function: "function".parse().unwrap() };
    CallRecord { state, attempts: 1, ..CallRecord::new(&function, Principal::default(), 1_000) }
}

pub(super) fn header() -> MapHeader {
    MapHeader {
        id: MapId::generate(),
        app: "app".parse().unwrap(),
        function: "function".parse().unwrap(),
        principal: Principal::default(),
        priority: Default::default(),
        created_ms: 1_000,
        accepted: 1,
        is_closed: false,
        is_cancelled: false,
        parent: None,
        depth: 0,
        idempotency_key: None,
    }
}

#[track_caller]
fn is_fenced<T: std::fmt::Debug>(result: Result<T, JournalError>, holder: LeaseHolder, latest: u64) {
    match result {
        Err(JournalError::Fenced { epoch, latest: found }) => assert_eq!((epoch, found), (holder.epoch, latest)),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_start_has_the_next_epoch_and_every_lease_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let mut owners = Vec::new();
    for epoch in 1..=3 {
        let journal = StoreJournal::new(Arc::new(StoreDir::new(dir.path())));
        let holder = Journal::take_up(&journal).await.unwrap();
        assert_eq!(holder.epoch, epoch);
        assert_eq!(Journal::take_up(&journal).await.unwrap(), holder, "asked again");
        assert!(!owners.contains(&holder.owner));
        owners.push(holder.owner);

        let mut leased = call(State::Leased);
        journal.accept_call(&leased, Payload::json("1"), None).await.unwrap();
        let found = journal.call(leased.id).await.unwrap().unwrap();
        assert_eq!(found, CallRecord { lease: Some(holder), ..leased.clone() });
        leased = CallRecord { state: State::Done, ended_ms: Some(2_000), ..found };
        journal.save_call(&leased, Some(Payload::json("2"))).await.unwrap();
        assert_eq!(journal.call(leased.id).await.unwrap().unwrap().lease, None, "what has ended is not leased");

        let header = header();
        journal.create_map(&header, None).await.unwrap();
        let appended = journal.append(&header, 0, vec![Payload::json("1")], true).await.unwrap();
        let lease = Lease { is_leased: true, lost: 0, len: 1, holder: Some(holder) };
        assert_eq!(appended, [PendingChunk { first: 0, lease }]);
        assert_eq!(journal.pending(header.id, None, 10).await.unwrap(), appended);
    }
}

/// Two hosts over one database, as after a lock that did not keep them apart: the first may read, and writes nothing.
#[tokio::test]
async fn writes_of_a_host_are_refused_once_another_has_taken_the_journal_up() {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let (first, second) = (StoreJournal::new(dir.clone()), StoreJournal::new(dir.clone()));
    let holder = Journal::take_up(&first).await.unwrap();
    let (leased, header) = (call(State::Leased), header());
    first.accept_call(&leased, Payload::json("1"), None).await.unwrap();
    first.create_map(&header, None).await.unwrap();
    let pending = first.append(&header, 0, vec![Payload::json("1")], true).await.unwrap();

    let latest = Journal::take_up(&second).await.unwrap().epoch;
    assert!(latest > holder.epoch);
    let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..leased.clone() };
    is_fenced(first.save_call(&ended, Some(Payload::json("2"))).await, holder, latest);
    is_fenced(first.lease(header.id, &pending).await, holder, latest);
    is_fenced(first.settle(&header, &Default::default(), Vec::new()).await, holder, latest);
    is_fenced(first.save_map(&header).await, holder, latest);
    is_fenced(first.append(&header, 1, vec![Payload::json("1")], true).await, holder, latest);
    is_fenced(first.accept_call(&call(State::Accepted), Payload::json("1"), None).await, holder, latest);

    let found = first.call(leased.id).await.unwrap().unwrap();
    assert_eq!(found.state, State::Leased, "nothing of what was refused was kept");
    second.save_call(&ended, Some(Payload::json("2"))).await.unwrap();
    second.lease(header.id, &pending).await.unwrap();
}

#[tokio::test]
async fn an_epoch_that_cannot_be_read_is_followed_by_a_higher_one_than_any_before() {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let store = dir.store().unwrap();
    assert_eq!(store.raise_epoch().await.unwrap(), 1);
    let damaged = crate::store::Op::Put { table: crate::store::Table::Host, key: b"epoch".to_vec(), value: vec![7] };
    store.write(vec![damaged]).await.unwrap();
    let raised = store.raise_epoch().await.unwrap();
    assert!(raised > 1_000_000_000_000, "{raised}");
    assert_eq!(store.raise_epoch().await.unwrap(), raised + 1);
}

fn done(index: u64) -> Entry {
    let kind = EntryKind::Done(StoredPayload::inline(Payload::json(index.to_string())));
    Entry { index, attempt: 1, kind, receipt: Receipt::default() }
}

fn failed(index: u64) -> Entry {
    let kind = EntryKind::Failed(Failure::new(FailureCode::Failed, "no"));
    Entry { index, attempt: 1, kind, receipt: Receipt::default() }
}

const ENDED_MS: u64 = 2_000;
/// Inputs of a chunk of the map below.
const CHUNK: u64 = 4;
const CHUNKS: u64 = 3;

/// A map that has ended, of several chunks, in each of which the first input failed.
pub(super) async fn ended_map(journal: &StoreJournal) -> MapRecord {
    let mut header = header();
    journal.create_map(&header, None).await.unwrap();
    let progress = MapProgress { done: 9, failed: 3, ended_ms: Some(ENDED_MS), ..MapProgress::default() };
    for first in (0..CHUNKS).map(|chunk| chunk * CHUNK) {
        (header.accepted, header.is_closed) = (first + CHUNK, first + CHUNK == CHUNK * CHUNKS);
        journal.append(&header, first, vec![Payload::json("1"); CHUNK as usize], true).await.unwrap();
    }
    let updates = (0..CHUNKS).map(|chunk| chunk * CHUNK).map(|first| ChunkUpdate {
        first,
        entries: [failed(first)].into_iter().chain((first + 1..first + CHUNK).map(done)).collect(),
        replaces: Some(0),
        is_whole: true,
        ..ChunkUpdate::default()
    });
    journal.settle(&header, &progress, updates.collect()).await.unwrap();
    MapRecord { header, progress }
}

/// Takes the failures of one chunk back, as `retry-failed` does.
async fn reset(journal: &StoreJournal, record: &mut MapRecord, first: u64) -> Result<(), JournalError> {
    let mut after = record.clone();
    after.progress.failed -= 1;
    after.progress.ended_ms = None;
    journal.reset_failures(record, &after, first).await?;
    *record = after;
    Ok(())
}

fn app() -> AppName {
    "app".parse().unwrap()
}

/// Every interleaving of a retry's steps (three chunks) with retention's: `before` are its steps ahead of each of the
/// retry's.
async fn interleave(before: [usize; 3]) {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let journal = StoreJournal::new(dir.clone());
    let mut record = ended_map(&journal).await;
    let id = record.header.id;
    let mut retried = Ok(());
    for (chunk, steps) in (0..CHUNKS).zip(before) {
        for _ in 0..steps {
            journal.expire(&app(), ENDED_MS + 1).await.unwrap();
        }
        retried = reset(&journal, &mut record, chunk * CHUNK).await;
        if retried.is_err() {
            break;
        }
    }
    while journal.expire(&app(), ENDED_MS + 1).await.unwrap() {}
    match retried {
        Ok(()) => {
            assert_eq!(before[0], 0, "it ran again before retention looked");
            assert_eq!(journal.map(id).await.unwrap(), Some(record));
            assert_eq!(journal.pending(id, None, 10).await.unwrap().len(), 3);
            for index in 0..CHUNK * CHUNKS {
                let outcomes = journal.outcomes(id, index).await.unwrap().unwrap();
                let found = outcomes.entries.first().is_some_and(|entry| entry.index == index);
                assert_eq!(found, index % CHUNK != 0, "{before:?}: input {index}");
            }
        }
        Err(error) => {
            assert!(matches!(error, JournalError::Expired), "{before:?}: {error}");
            assert_eq!(snapshot::dump(dir.store().unwrap()), "", "{before:?}");
        }
    }
}

#[tokio::test]
async fn a_map_runs_again_or_is_deleted_whole_however_the_two_meet() {
    for before in (0..4).flat_map(|a| (0..4).flat_map(move |b| (0..4).map(move |c| [a, b, c]))) {
        interleave(before).await;
    }
}

#[tokio::test]
async fn what_is_marked_as_expiring_is_gone_for_readers_and_the_next_host_finishes_it() {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let journal = StoreJournal::new(dir.clone());
    let mut map = ended_map(&journal).await;
    let mut ended = call(State::Accepted);
    ended.idempotency_key = Some("key".to_owned());
    let idempotency = Idempotency { key: "key".to_owned(), fingerprint: [7; 32] };
    journal.accept_call(&ended, Payload::json(vec![b'1'; INLINE_BYTES_MAX + 1]), Some(&idempotency)).await.unwrap();
    ended = CallRecord { state: State::Done, ended_ms: Some(ENDED_MS), ..ended };
    journal.save_call(&ended, Some(Payload::json("2"))).await.unwrap();

    assert!(!journal.expire(&app(), ENDED_MS).await.unwrap(), "nothing is old enough");
    assert!(journal.expire(&app(), ENDED_MS + 1).await.unwrap());
    drop(journal);
    drop(dir);

    let dir = Arc::new(StoreDir::new(path.path()));
    let journal = StoreJournal::new(dir.clone());
    let is_whole = snapshot::dump(dir.store().unwrap()).contains("[map-results]");
    assert!(is_whole, "only the marks are on disk");
    assert_eq!(journal.map(map.header.id).await.unwrap(), None);
    assert_eq!(journal.call(ended.id).await.unwrap(), None);
    let everything = Query { limit: 10, ..Query::default() };
    assert_eq!(journal.list(everything).await.unwrap(), (vec![], None));
    assert_eq!(journal.keyed(&ended.function_id(), "key").await.unwrap(), None, "the key is free");
    let refused = reset(&journal, &mut map, 0).await;
    assert!(matches!(refused, Err(JournalError::Expired)), "{refused:?}");

    // A request that has the freed key meanwhile keeps it.
    let next = CallRecord { id: CallId::generate(), state: State::Accepted, ended_ms: None, ..ended.clone() };
    journal.accept_call(&next, Payload::json("1"), Some(&idempotency)).await.unwrap();
    journal.sweep().await.unwrap();
    assert_eq!(journal.keyed(&next.function_id(), "key").await.unwrap().unwrap().id, *next.id.as_bytes());
    assert_eq!(journal.call(next.id).await.unwrap(), Some(next));
    assert_eq!(dir.files().unwrap().digests().unwrap(), [[0; 32]; 0]);
    assert_eq!(dir.store().unwrap().keys(Table::MapResults, b"", None, 1).unwrap().len(), 0);
}

/// 5,000 results in files of their own, on a disk that hangs over a removal: nobody else waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_of_thousands_of_files_stops_no_write() {
    const FILES: usize = 5_000;
    let disk = Disk::new(1);
    let dir = Arc::new(StoreDir::simulated(&disk).unwrap());
    let journal = StoreJournal::new(dir.clone());
    let map = ended_map(&journal).await.header.id;
    // Files are as small as they can be here; a row refers to each.
    let (store, files) = (dir.store().unwrap(), dir.files().unwrap());
    for number in 0..FILES / 100 {
        let digests = (0..100).map(|i| files.keep(Write::New, format!("{number}/{i}").as_bytes()).unwrap());
        let ops = digests.flat_map(|digest| {
            [key::file(&digest, map.as_bytes()), key::file_of(map.as_bytes(), &digest)].map(|key| Op::Put {
                table: Table::JournalIndex,
                key,
                value: Vec::new(),
            })
        });
        store.write(ops.collect()).await.unwrap();
    }
    let large = || Payload::json(vec![b'1'; INLINE_BYTES_MAX + 1]);
    let write = async || {
        let mut record = call(State::Leased);
        journal.accept_call(&record, large(), None).await.unwrap();
        record = CallRecord { state: State::Done, ended_ms: Some(u64::MAX), ..record };
        journal.save_call(&record, Some(Payload::json("2"))).await.unwrap();
        let header = header();
        journal.create_map(&header, None).await.unwrap();
        journal.append(&header, 0, vec![large()], true).await.unwrap();
        record.id
    };

    disk.hold_removals(true);
    let expiry = tokio::spawn({
        let (journal, disk) = (journal.clone(), disk.clone());
        async move {
            let mut removed = vec![0];
            while journal.expire(&app(), ENDED_MS + 1).await.unwrap() {
                removed.push(disk.removals().1);
            }
            removed
        }
    });
    while disk.removals().0 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The removal hangs, and each kind of write is made meanwhile; one has a file, too.
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(write().await);
    }
    assert_eq!(disk.removals(), (1, 0), "one at a time, and it hangs still");
    disk.hold_removals(false);
    while !expiry.is_finished() {
        calls.push(write().await);
    }
    let removed = expiry.await.unwrap();
    let mut steps = removed.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.all(|removed| removed <= JOURNAL_STEP_FILES_MAX as u64), "{removed:?}");
    assert_eq!((disk.removals().1, journal.map(map).await.unwrap()), (FILES as u64, None));
    for id in calls {
        assert_eq!(journal.call_payload(Table::CallInputs, id).await.unwrap(), Some(large()));
    }
}
