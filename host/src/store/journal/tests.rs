//! Leases and their fencing, and retention, over real directories and a simulated one.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::StoreJournal;
use super::error::JournalError;
use super::files::INLINE_BYTES_MAX;
use super::layout::key;
use crate::call::{Failure, FailureCode, Payload, Principal, Receipt};
use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::limits::JOURNAL_STEP_FILES_MAX;
use crate::storage::{
    Accept, Accepted, Append, Appended, CallRecord, CallSettle, ChunkUpdate, Claimed, ClaimedChunk, Counts, Entry,
    EntryKind, ErrorKind, Idempotency, Journal, Kind, Lease, LeaseHolder, LeaseToken, MapHeader, MapMark, MapRecord,
    MapSettle, MapSettled, Members, NewRecord, PendingChunk, ProgressDelta, Query, Settled, State, StorageError,
    StoredPayload,
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
        accepted: 0,
        is_closed: false,
        is_cancelled: false,
        parent: None,
        depth: 0,
        idempotency_key: None,
    }
}

/// Request for a call, in any number.
pub(super) fn new_call(record: &CallRecord, input: Payload, idempotency: Option<Idempotency>) -> Accept {
    let record = NewRecord::Call(Box::new(record.clone()), input);
    Accept { record, idempotency, parent_map: None, open_max: usize::MAX }
}

fn new_map(header: &MapHeader, idempotency: Option<Idempotency>) -> Accept {
    Accept { record: NewRecord::Map(Box::new(header.clone())), idempotency, parent_map: None, open_max: usize::MAX }
}

async fn accept_one(journal: &StoreJournal, new: Accept) -> Result<Accepted, JournalError> {
    Ok(journal.accept(vec![new]).await?.remove(0))
}

pub(super) async fn accept(
    journal: &StoreJournal,
    record: &CallRecord,
    input: Payload,
    idempotency: Option<Idempotency>,
) -> Accepted {
    accept_one(journal, new_call(record, input, idempotency)).await.unwrap()
}

pub(super) async fn create(journal: &StoreJournal, header: &MapHeader, idempotency: Option<Idempotency>) {
    assert_eq!(accept_one(journal, new_map(header, idempotency)).await.unwrap(), Accepted::New);
}

/// Writes the state of a call that nobody runs.
pub(super) async fn save(
    journal: &StoreJournal,
    record: &CallRecord,
    output: Option<Payload>,
) -> Result<Settled, JournalError> {
    journal.settle(CallSettle { record: Box::new(record.clone()), lease: None, output }).await
}

pub(super) async fn append(
    journal: &StoreJournal,
    map: MapId,
    at: u64,
    inputs: Vec<Payload>,
    is_leased: bool,
) -> Result<Vec<PendingChunk>, JournalError> {
    match journal.append(Append { map, at, inputs, is_leased }).await? {
        Appended::Kept { chunks, .. } => Ok(chunks),
        other => panic!("not kept: {other:?}"),
    }
}

fn json(text: &str) -> Payload {
    Payload::json(text.to_owned())
}

#[track_caller]
fn is_fenced<T: std::fmt::Debug>(result: Result<T, impl Into<StorageError>>, holder: LeaseHolder, latest: u64) {
    let error = result.expect_err("not refused").into();
    let epochs = format!("(epoch {latest}, this one has {})", holder.epoch);
    assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains(&epochs), "{error}");
}

fn open(path: &std::path::Path) -> (Arc<StoreDir>, StoreJournal) {
    let dir = Arc::new(StoreDir::new(path));
    (dir.clone(), StoreJournal::new(dir))
}

#[tokio::test]
async fn each_start_has_the_next_epoch_and_every_lease_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let mut owners = Vec::new();
    for epoch in 1..=3 {
        let (_dir, journal) = open(dir.path());
        // Both at once, and once more.
        let (first, second) = tokio::join!(journal.join(), journal.join());
        let holder = first.unwrap();
        assert_eq!(holder.epoch, epoch);
        assert_eq!((second.unwrap(), journal.join().await.unwrap()), (holder, holder), "asked again");
        assert!(!owners.contains(&holder.owner));
        owners.push(holder.owner);

        let mut leased = call(State::Leased);
        accept(&journal, &leased, json("1"), None).await;
        let found = journal.call(leased.id).await.unwrap().unwrap();
        assert_eq!(found, CallRecord { lease: Some(holder), ..leased.clone() });
        leased = CallRecord { state: State::Done, ended_ms: Some(2_000), ..found };
        let lease = Some(LeaseToken { holder, attempt: 1 });
        let settle = CallSettle { record: Box::new(leased.clone()), lease, output: Some(json("2")) };
        assert_eq!(journal.settle(settle).await.unwrap(), Settled::Kept);
        assert_eq!(journal.call(leased.id).await.unwrap().unwrap().lease, None, "what has ended is not leased");

        let header = header();
        create(&journal, &header, None).await;
        let appended = append(&journal, header.id, 0, vec![json("1")], true).await.unwrap();
        let lease = Lease { is_leased: true, lost: 0, len: 1, holder: Some(holder) };
        assert_eq!(appended, [PendingChunk { first: 0, lease }]);
        assert_eq!(journal.pending(header.id, None, 10).await.unwrap(), appended);
    }
}

/// Two hosts over one database, as after a lock that did not keep them apart: the first may read, and writes nothing.
#[tokio::test]
async fn writes_of_a_host_are_refused_once_another_has_taken_the_journal_up() {
    let path = tempfile::tempdir().unwrap();
    let (dir, first) = open(path.path());
    let second = StoreJournal::new(dir.clone());
    let holder = first.join().await.unwrap();
    first.beat().await.unwrap();
    let (leased, header) = (call(State::Leased), header());
    accept(&first, &leased, json("1"), None).await;
    create(&first, &header, None).await;
    append(&first, header.id, 0, vec![json("1")], true).await.unwrap();

    let latest = second.join().await.unwrap().epoch;
    assert!(latest > holder.epoch);
    let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..leased.clone() };
    let lease = Some(LeaseToken { holder, attempt: 1 });
    let settle = CallSettle { record: Box::new(ended.clone()), lease, output: Some(json("2")) };
    let settle_map = MapSettle { map: header.id, chunks: vec![], delta: ProgressDelta::default(), is_drained: false };
    is_fenced(first.beat().await, holder, latest);
    is_fenced(first.settle(settle).await, holder, latest);
    is_fenced(first.claim(leased.id, None).await, holder, latest);
    is_fenced(first.claim_chunks(header.id, None, 9).await, holder, latest);
    is_fenced(first.settle_map(settle_map, 1).await, holder, latest);
    is_fenced(first.mark(header.id, MapMark::Close).await, holder, latest);
    is_fenced(append(&first, header.id, 1, vec![json("1")], true).await, holder, latest);
    is_fenced(accept_one(&first, new_call(&call(State::Accepted), json("1"), None)).await, holder, latest);
    assert_eq!(first.open(), Counts { calls: 1, maps: 1 }, "the count of what was refused is given back");

    let found = first.call(leased.id).await.unwrap().unwrap();
    assert_eq!(found.state, State::Leased, "nothing of what was refused was kept");
    assert_eq!(save(&second, &ended, Some(json("2"))).await.unwrap(), Settled::Kept);
    assert_eq!(second.claim_chunks(header.id, None, 9).await.unwrap()[0].lease.lost, 1);
}

#[tokio::test]
async fn a_settle_under_a_lost_lease_is_refused_and_changes_nothing() {
    let path = tempfile::tempdir().unwrap();
    let (dir, journal) = open(path.path());
    let holder = journal.join().await.unwrap();
    let mut record = call(State::Leased);
    record.run = Some(1);
    accept(&journal, &record, json("1"), None).await;
    let before = snapshot::dump(dir.store().unwrap());
    let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..record.clone() };
    let large = Payload::json(vec![b'1'; INLINE_BYTES_MAX + 1]);
    let other = LeaseHolder { epoch: holder.epoch + 1, ..holder };
    for lease in [LeaseToken { holder, attempt: 2 }, LeaseToken { holder: other, attempt: 1 }] {
        let output = Some(large.clone());
        let settle = CallSettle { record: Box::new(ended.clone()), lease: Some(lease), output };
        assert_eq!(journal.settle(settle).await.unwrap(), Settled::Fenced, "{lease:?}");
        assert_eq!(snapshot::dump(dir.store().unwrap()), before);
        assert_eq!(dir.files().unwrap().digests().unwrap(), [[0; 32]; 0], "its output goes, too");
    }
    assert_eq!(journal.open().calls, 1);

    let lease = LeaseToken { holder, attempt: 1 };
    let settle =
        |record: &CallRecord| CallSettle { record: Box::new(record.clone()), lease: Some(lease), output: None };
    let waiting = CallRecord { state: State::Waiting, next_ms: Some(1), ..record.clone() };
    assert_eq!(journal.settle(settle(&waiting)).await.unwrap(), Settled::Kept);
    assert_eq!(journal.settle(settle(&waiting)).await.unwrap(), Settled::Kept, "an answer that was lost");
    assert_eq!(journal.settle(settle(&ended)).await.unwrap(), Settled::Fenced, "its attempt had ended");
    let cancelled = CallRecord { state: State::Cancelled, ended_ms: Some(3_000), ..waiting };
    assert_eq!(save(&journal, &cancelled, None).await.unwrap(), Settled::Kept);
    let found = Settled::Ended(Box::new(cancelled));
    assert_eq!(journal.settle(settle(&ended)).await.unwrap(), found);
    assert_eq!(save(&journal, &ended, None).await.unwrap(), found, "the first end holds");
    assert_eq!(journal.open().calls, 0);
    let gone = save(&journal, &CallRecord { id: CallId::generate(), ..ended }, None).await;
    assert!(matches!(gone, Err(JournalError::Expired)), "{gone:?}");
}

#[tokio::test]
async fn a_claim_leases_the_next_attempt_once_and_counts_what_another_start_lost() {
    let path = tempfile::tempdir().unwrap();
    let (dir, first) = open(path.path());
    let holder = first.join().await.unwrap();
    let record = CallRecord { attempts: 0, ..call(State::Accepted) };
    accept(&first, &record, json("1"), None).await;
    let leased = CallRecord { state: State::Leased, attempts: 1, lease: Some(holder), ..record.clone() };
    let claimed = Claimed::Leased(Box::new(leased.clone()));
    // Both at once: one of them finds the lease of the other, which is its own.
    let (one, other) = tokio::join!(first.claim(record.id, None), first.claim(record.id, None));
    assert_eq!((one.unwrap(), other.unwrap()), (claimed.clone(), claimed.clone()));
    assert_eq!(first.call(record.id).await.unwrap(), Some(leased.clone()));

    // A cancel that is submitted while the record is read, as a rule: whichever is first, the cancel holds.
    let waiting = call(State::Accepted);
    accept(&first, &waiting, json("1"), None).await;
    let cancelled = CallRecord { state: State::Cancelled, ended_ms: Some(2_000), ..waiting.clone() };
    let (claim, cancel) = tokio::join!(first.claim(waiting.id, None), save(&first, &cancelled, None));
    let claim = claim.unwrap();
    assert!(matches!(&claim, Claimed::Ended | Claimed::Leased(_)), "{claim:?}");
    assert_eq!(cancel.unwrap(), Settled::Kept);
    assert_eq!(first.call(waiting.id).await.unwrap(), Some(cancelled));
    assert_eq!(first.claim(waiting.id, None).await.unwrap(), Claimed::Ended);

    let second = StoreJournal::new(dir);
    let next = second.join().await.unwrap();
    let taken = CallRecord { attempts: 2, lost: 1, lease: Some(next), ..leased };
    assert_eq!(second.claim(record.id, None).await.unwrap(), Claimed::Leased(Box::new(taken.clone())));
    let waiting = CallRecord { state: State::Waiting, next_ms: Some(u64::MAX), lease: None, ..taken };
    save(&second, &waiting, None).await.unwrap();
    assert_eq!(second.claim(record.id, None).await.unwrap(), Claimed::Later { at_ms: u64::MAX });
    save(&second, &CallRecord { state: State::Dead, ended_ms: Some(2_000), ..waiting }, None).await.unwrap();
    assert_eq!(second.claim(record.id, None).await.unwrap(), Claimed::Ended);
    assert_eq!(second.claim(CallId::generate(), None).await.unwrap(), Claimed::Ended);
}

#[tokio::test]
async fn nothing_is_accepted_under_a_parent_that_is_cancelled_before_or_at_the_same_time() {
    let path = tempfile::tempdir().unwrap();
    let (_dir, journal) = open(path.path());
    journal.join().await.unwrap();
    let parent = call(State::Accepted);
    accept(&journal, &parent, json("1"), None).await;
    let map = header();
    create(&journal, &map, None).await;
    let of_call = |state| CallRecord { parent: Some(parent.id), ..call(state) };
    let of_map = || Accept { parent_map: Some(map.id), ..new_call(&of_call(State::Accepted), json("1"), None) };
    assert_eq!(accept(&journal, &of_call(State::Leased), json("1"), None).await, Accepted::New);
    assert_eq!(accept_one(&journal, of_map()).await.unwrap(), Accepted::New);

    let cancelled = CallRecord { state: State::Cancelled, ended_ms: Some(2_000), ..parent.clone() };
    let child = of_call(State::Leased);
    // Submitted in this order, and decided in it.
    let (ended, child) = tokio::join!(save(&journal, &cancelled, None), accept(&journal, &child, json("1"), None));
    assert_eq!((ended.unwrap(), child), (Settled::Kept, Accepted::ParentCancelled));
    let (marked, child) = tokio::join!(journal.mark(map.id, MapMark::Cancel), accept_one(&journal, of_map()));
    assert!(marked.unwrap().unwrap().header.is_cancelled);
    assert_eq!(child.unwrap(), Accepted::ParentCancelled);
    let header = MapHeader { parent: Some(parent.id), ..header() };
    assert_eq!(accept_one(&journal, new_map(&header, None)).await.unwrap(), Accepted::ParentCancelled);
    // A call without a record is cancelled by nobody.
    let orphan = CallRecord { parent: Some(CallId::generate()), ..call(State::Accepted) };
    assert_eq!(accept(&journal, &orphan, json("1"), None).await, Accepted::New);
    assert_eq!(journal.open(), Counts { calls: 3, maps: 1 }, "what is refused is not counted");
    assert_eq!(journal.children(parent.id, None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_requests_with_one_key_make_one_call_in_one_batch_or_at_once() {
    let path = tempfile::tempdir().unwrap();
    let (_dir, journal) = open(path.path());
    journal.join().await.unwrap();
    let keyed = |key: &str| {
        let idempotency = Idempotency { key: key.to_owned(), fingerprint: [7; 32] };
        let record = CallRecord { idempotency_key: Some(key.to_owned()), ..call(State::Accepted) };
        (record.id, new_call(&record, json("1"), Some(idempotency)))
    };
    let is_of = |accepted: &Accepted, id: CallId| match accepted {
        Accepted::Existing(keyed) => (keyed.kind, keyed.id, keyed.fingerprint) == (Kind::Call, *id.as_bytes(), [7; 32]),
        _ => false,
    };
    let ((first, one), (_, other)) = (keyed("at once"), keyed("at once"));
    let (one, other) = tokio::join!(accept_one(&journal, one.clone()), accept_one(&journal, other));
    assert_eq!(one.unwrap(), Accepted::New);
    assert!(is_of(&other.unwrap(), first));

    let ((first, one), (_, other), (_, third)) = (keyed("batch"), keyed("batch"), keyed("third"));
    let answers = journal.accept(vec![one.clone(), other, third]).await.unwrap();
    assert!(answers[0] == Accepted::New && is_of(&answers[1], first) && answers[2] == Accepted::New, "{answers:?}");
    // The same once more, after an answer that was lost.
    assert_eq!(accept_one(&journal, one).await.unwrap(), Accepted::New);
    assert_eq!(journal.open().calls, 3);
    assert_eq!(journal.open_calls(None, 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn counts_of_open_work_come_back_from_disk_and_bound_each_app() {
    let path = tempfile::tempdir().unwrap();
    let bounded = |new: Accept, open_max| Accept { open_max, ..new };
    let other = || CallRecord { app: "other".parse().unwrap(), ..call(State::Accepted) };
    let ended_map = {
        let (_dir, journal) = open(path.path());
        journal.join().await.unwrap();
        let calls = (0..3).map(|_| new_call(&call(State::Accepted), json("1"), None));
        let maps = (0..2).map(|_| new_map(&header(), None));
        let new = calls.chain(maps).chain([new_call(&other(), json("1"), None)]);
        let answers = journal.accept(new.map(|new| bounded(new, 2)).collect()).await.unwrap();
        let too_many = Accepted::TooMany { open: 2 };
        let new = || Accepted::New;
        assert_eq!(
            answers,
            [new(), new(), too_many, new(), new(), new()],
            "one that is refused costs the others nothing"
        );
        assert_eq!(journal.open(), Counts { calls: 3, maps: 2 });
        let ended = ended_map(&journal).await;
        assert_eq!(journal.open(), Counts { calls: 3, maps: 2 });
        ended
    };
    let (_dir, journal) = open(path.path());
    assert_eq!(journal.open(), Counts::default());
    journal.join().await.unwrap();
    assert_eq!(journal.open(), Counts { calls: 3, maps: 2 });
    let third = bounded(new_call(&call(State::Accepted), json("1"), None), 2);
    assert_eq!(accept_one(&journal, third.clone()).await.unwrap(), Accepted::TooMany { open: 2 });
    let held = journal.open_calls(None, 9).await.unwrap();
    let one = held.iter().find(|call| call.function.app == app()).unwrap();
    let record = journal.call(one.id).await.unwrap().unwrap();
    save(&journal, &CallRecord { state: State::Dead, ended_ms: Some(2_000), ..record }, None).await.unwrap();
    assert_eq!(accept_one(&journal, third).await.unwrap(), Accepted::New);
    journal.reset_failures(ended_map.header.id, 0).await.unwrap();
    journal.reset_failures(ended_map.header.id, CHUNK).await.unwrap();
    assert_eq!(journal.open(), Counts { calls: 3, maps: 3 }, "a map that runs again is open once");
}

#[tokio::test]
async fn inputs_are_appended_where_a_map_ends_until_it_is_closed() {
    let path = tempfile::tempdir().unwrap();
    let (dir, journal) = open(path.path());
    let header = header();
    create(&journal, &header, None).await;
    let input = |at| Append { map: header.id, at, inputs: vec![json("1"), json("2")], is_leased: false };
    let kept = journal.append(input(0)).await.unwrap();
    assert!(matches!(kept, Appended::Kept { header, chunks } if header.accepted == 2 && chunks.len() == 1));
    for at in [0, 1, 3] {
        assert_eq!(journal.append(input(at)).await.unwrap(), Appended::Gap { accepted: 2 });
    }
    // Both at once: one of them is in the place of the other.
    let (one, other) = tokio::join!(journal.append(input(2)), journal.append(input(2)));
    assert!(matches!(one.unwrap(), Appended::Kept { .. }));
    assert_eq!(other.unwrap(), Appended::Gap { accepted: 4 });
    let closed = journal.mark(header.id, MapMark::Close).await.unwrap().unwrap();
    assert_eq!((closed.header.accepted, closed.header.is_closed), (4, true));
    let before = snapshot::dump(dir.store().unwrap());
    let large = Payload::json(vec![b'1'; INLINE_BYTES_MAX + 1]);
    let refused = journal.append(Append { inputs: vec![large], ..input(4) }).await.unwrap();
    assert_eq!(refused, Appended::Closed(Box::new(closed.header)));
    assert_eq!(snapshot::dump(dir.store().unwrap()), before);
    assert_eq!(dir.files().unwrap().digests().unwrap(), [[0; 32]; 0], "the file of a refused input goes");
    assert_eq!(journal.mark(MapId::generate(), MapMark::Close).await.unwrap(), None);
    let gone = journal.append(Append { map: MapId::generate(), ..input(0) }).await;
    assert!(matches!(gone, Err(JournalError::Expired)), "{gone:?}");
}

#[tokio::test]
async fn outcomes_are_written_once_by_the_holder_of_their_chunks_until_the_map_has_ended() {
    let path = tempfile::tempdir().unwrap();
    let (dir, journal) = open(path.path());
    let holder = journal.join().await.unwrap();
    let map = header().id;
    create(&journal, &MapHeader { id: map, ..header() }, None).await;
    append(&journal, map, 0, vec![json("1"), json("2")], false).await.unwrap();
    let delta = |done, failed| ProgressDelta { done, failed, ..ProgressDelta::default() };
    let chunk = |segment, entries| ChunkUpdate { segment, entries, ..ChunkUpdate::default() };
    let settle = |delta, chunk: ChunkUpdate, is_drained| MapSettle { map, chunks: vec![chunk], delta, is_drained };
    let first = settle(delta(1, 0), chunk(1, vec![done(0)]), false);
    let before = snapshot::dump(dir.store().unwrap());
    assert_eq!(journal.settle_map(first.clone(), 1).await.unwrap(), MapSettled::Fenced, "nobody has its lease");
    assert_eq!(snapshot::dump(dir.store().unwrap()), before);

    let lease = Lease { is_leased: true, lost: 0, len: 2, holder: Some(holder) };
    let claimed = journal.claim_chunks(map, None, 9).await.unwrap();
    let [ClaimedChunk { lease: found, chunk: Some(read), .. }] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!((*found, read.inputs.len()), (lease, 2));
    assert_eq!(journal.claim_chunks(map, None, 9).await.unwrap(), claimed, "an answer that was lost");

    for _ in 0..2 {
        let settled = journal.settle_map(first.clone(), 1).await.unwrap();
        assert!(matches!(settled, MapSettled::Kept(map) if map.progress.done == 1), "once, also if it is sent twice");
    }
    journal.mark(map, MapMark::Close).await.unwrap();
    let whole = ChunkUpdate { replaces: Some(1), is_whole: true, ..chunk(2, vec![done(0), failed(1)]) };
    let last = settle(delta(0, 1), whole, false);
    for _ in 0..2 {
        let MapSettled::Kept(ended) = journal.settle_map(last.clone(), ENDED_MS).await.unwrap() else { panic!() };
        assert_eq!((ended.progress.done, ended.progress.failed, ended.progress.ended_ms), (1, 1, Some(ENDED_MS)));
    }
    assert_eq!(journal.open().maps, 0);
    let late = settle(delta(1, 0), chunk(3, vec![done(1)]), true);
    assert!(matches!(journal.settle_map(late, 9_000).await.unwrap(), MapSettled::Ended(_)));
    let marked = journal.mark(map, MapMark::Cancel).await.unwrap().unwrap();
    assert!(!marked.header.is_cancelled, "it stays as it ended");

    // Its failure runs again, and the segment of the whole chunk is written anew.
    journal.reset_failures(map, 0).await.unwrap();
    assert_eq!(journal.claim_chunks(map, None, 9).await.unwrap().len(), 1);
    let whole = ChunkUpdate { replaces: Some(0), is_whole: true, ..chunk(1, vec![done(0), done(1)]) };
    let MapSettled::Kept(ended) = journal.settle_map(settle(delta(1, 0), whole, false), 1).await.unwrap() else {
        panic!("it is leased")
    };
    assert_eq!((ended.progress.done, ended.progress.failed), (2, 0));
    assert_eq!(journal.outcomes(map, 0).await.unwrap().unwrap().counts.done, 2);
}

#[tokio::test]
async fn a_cancelled_map_ends_once_nothing_of_it_runs() {
    let path = tempfile::tempdir().unwrap();
    let (_dir, journal) = open(path.path());
    journal.join().await.unwrap();
    let header = header();
    create(&journal, &header, None).await;
    append(&journal, header.id, 0, vec![json("1")], true).await.unwrap();
    journal.mark(header.id, MapMark::Cancel).await.unwrap();
    let settle = |is_drained| {
        let delta = ProgressDelta::default();
        journal.settle_map(MapSettle { map: header.id, chunks: vec![], delta, is_drained }, ENDED_MS)
    };
    assert!(matches!(settle(false).await.unwrap(), MapSettled::Kept(map) if map.progress.ended_ms.is_none()));
    assert!(matches!(settle(true).await.unwrap(), MapSettled::Kept(map) if map.progress.ended_ms.is_some()));
    assert!(matches!(settle(true).await.unwrap(), MapSettled::Ended(map) if map.cancelled() == 1));
    assert_eq!((journal.open().maps, journal.open_maps(None, 9).await.unwrap().len()), (0, 0));
}

/// A caller that goes away does not undo what is on its way to the disk, and the counts know it.
#[tokio::test]
async fn an_accept_whose_caller_is_gone_is_counted() {
    let path = tempfile::tempdir().unwrap();
    let (_dir, journal) = open(path.path());
    journal.join().await.unwrap();
    let mut accepted = Journal::accept(&journal, vec![new_call(&call(State::Accepted), json("1"), None)]);
    let is_waiting = std::future::poll_fn(|cx| Poll::Ready(accepted.as_mut().poll(cx).is_pending())).await;
    assert!(is_waiting);
    drop(accepted);
    while journal.open_calls(None, 9).await.unwrap().is_empty() || journal.open().calls == 0 {
        tokio::task::yield_now().await;
    }
    // One that was written after it is counted after it.
    accept(&journal, &call(State::Accepted), json("1"), None).await;
    assert_eq!(journal.open().calls, 2);
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
    let map = header();
    create(journal, &map, None).await;
    for first in (0..CHUNKS).map(|chunk| chunk * CHUNK) {
        append(journal, map.id, first, vec![json("1"); CHUNK as usize], true).await.unwrap();
    }
    journal.mark(map.id, MapMark::Close).await.unwrap();
    let updates = (0..CHUNKS).map(|chunk| chunk * CHUNK).map(|first| ChunkUpdate {
        first,
        entries: [failed(first)].into_iter().chain((first + 1..first + CHUNK).map(done)).collect(),
        replaces: Some(0),
        is_whole: true,
        ..ChunkUpdate::default()
    });
    let delta = ProgressDelta { done: 9, failed: 3, ..ProgressDelta::default() };
    let settle = MapSettle { map: map.id, chunks: updates.collect(), delta, is_drained: false };
    match journal.settle_map(settle, ENDED_MS).await.unwrap() {
        MapSettled::Kept(record) if record.progress.ended_ms == Some(ENDED_MS) => *record,
        other => panic!("not ended: {other:?}"),
    }
}

/// Takes the failures of one chunk back, as `retry-failed` does.
async fn reset(journal: &StoreJournal, record: &mut MapRecord, first: u64) -> Result<(), JournalError> {
    let failed = record.progress.failed;
    *record = journal.reset_failures(record.header.id, first).await?;
    assert_eq!((record.progress.failed, record.progress.ended_ms), (failed - 1, None));
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
    accept(&journal, &ended, Payload::json(vec![b'1'; INLINE_BYTES_MAX + 1]), Some(idempotency.clone())).await;
    ended = CallRecord { state: State::Done, ended_ms: Some(ENDED_MS), ..ended };
    save(&journal, &ended, Some(Payload::json("2"))).await.unwrap();

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
    let refused = reset(&journal, &mut map, 0).await;
    assert!(matches!(refused, Err(JournalError::Expired)), "{refused:?}");

    // A request that has the freed key meanwhile keeps it.
    let next = CallRecord { id: CallId::generate(), state: State::Accepted, ended_ms: None, ..ended.clone() };
    let freed = accept(&journal, &next, Payload::json("1"), Some(idempotency.clone())).await;
    assert_eq!(freed, Accepted::New, "the key is free");
    journal.sweep().await.unwrap();
    let again = CallRecord { id: CallId::generate(), ..next.clone() };
    let existing = accept(&journal, &again, Payload::json("1"), Some(idempotency)).await;
    assert!(matches!(existing, Accepted::Existing(keyed) if keyed.id == *next.id.as_bytes()), "{existing:?}");
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
        accept(&journal, &record, large(), None).await;
        record = CallRecord { state: State::Done, ended_ms: Some(u64::MAX), ..record };
        save(&journal, &record, Some(Payload::json("2"))).await.unwrap();
        let header = header();
        create(&journal, &header, None).await;
        append(&journal, header.id, 0, vec![large()], true).await.unwrap();
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
    // The removal begins on a thread of its own, which nothing tells of.
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
