//! Leases and their fencing, over real directories.

use std::sync::Arc;

use super::StoreJournal;
use crate::call::{Payload, Principal};
use crate::ids::{CallId, MapId};
use crate::journal::{CallRecord, Journal, JournalError, Lease, LeaseHolder, MapHeader, PendingChunk, State};
use crate::store::StoreDir;

fn call(state: State) -> CallRecord {
    CallRecord {
        id: CallId::generate(),
        app: "app".parse().unwrap(),
        function: "function".parse().unwrap(),
        state,
        principal: Principal::default(),
        priority: Default::default(),
        accepted_ms: 1_000,
        ended_ms: None,
        lease: None,
        attempts: 1,
        lost: 0,
        next_ms: None,
        version: None,
        failure: None,
        failed_attempts: Default::default(),
        parent: None,
        depth: 0,
        idempotency_key: None,
        receipt: Default::default(),
    }
}

fn header() -> MapHeader {
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
