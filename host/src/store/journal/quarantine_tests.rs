//! Each kind of row, damaged: a host starts, everything else is as it was, and the row can be exported.

use std::sync::Arc;

use super::error::JournalError;
use super::layout::key;
use super::maps::{of, read_chunk};
use super::tests::{accept, append, call, create, ended_map, header, save};
use super::{Owner, Quarantined, QuarantinedRow, StoreJournal, peek_quarantine};
use crate::call::Payload;
use crate::ids::{CallId, MapId};
use crate::storage::{Accepted, CallRecord, Counts, Idempotency, Journal, Kind, ListEntry, Query, State, StorageError};
use crate::store::{Op, StoreDir, Table};

/// Ids of what a directory holds twice: what a test damages, and what must not notice.
struct Ids {
    open_call: CallId,
    ended_call: CallId,
    open_map: MapId,
    ended_map: MapId,
}

const EVERYTHING: usize = 100;

async fn fill(journal: &StoreJournal, name: &str) -> Ids {
    let mut open = call(State::Accepted);
    open.idempotency_key = Some(name.to_owned());
    let idempotency = Idempotency { key: name.to_owned(), fingerprint: [7; 32] };
    accept(journal, &open, Payload::json("1"), Some(idempotency)).await;
    let leased = call(State::Leased);
    accept(journal, &leased, Payload::json("1"), None).await;
    let ended = CallRecord { state: State::Done, ended_ms: Some(2_000), ..leased };
    save(journal, &ended, Some(Payload::json("2"))).await.unwrap();
    let open_map = header();
    create(journal, &open_map, None).await;
    append(journal, open_map.id, 0, vec![Payload::json("1")], true).await.unwrap();
    let ended_map = ended_map(journal).await.header.id;
    Ids { open_call: open.id, ended_call: ended.id, open_map: open_map.id, ended_map }
}

/// Rows of every kind, by what they are.
fn rows_of(ids: &Ids) -> Vec<(Table, Vec<u8>)> {
    let Ids { open_call, ended_call, open_map, ended_map } = ids;
    vec![
        (Table::Calls, open_call.as_bytes().to_vec()),
        (Table::Calls, ended_call.as_bytes().to_vec()),
        (Table::CallInputs, open_call.as_bytes().to_vec()),
        (Table::CallOutputs, ended_call.as_bytes().to_vec()),
        (Table::Maps, key::map_header(*open_map)),
        (Table::Maps, key::map_progress(*open_map)),
        (Table::Maps, key::map_header(*ended_map)),
        (Table::Maps, key::map_progress(*ended_map)),
        (Table::MapInputs, key::chunk(*open_map, 0)),
        (Table::MapInputs, key::chunk(*ended_map, 4)),
        (Table::MapPending, key::chunk(*open_map, 0)),
        (Table::MapResults, key::segment(*ended_map, 4, key::WHOLE_SEGMENT)),
    ]
}

/// Reads everything that a host reads of a call or map.
async fn read_all(journal: &StoreJournal, ids: &Ids) -> Result<(), JournalError> {
    for id in [ids.open_call, ids.ended_call] {
        journal.call(id).await?;
        journal.call_payload(Table::CallInputs, id).await?;
        journal.call_payload(Table::CallOutputs, id).await?;
    }
    for id in [ids.open_map, ids.ended_map] {
        journal.map(id).await?;
        for pending in journal.pending(id, None, EVERYTHING).await? {
            journal.read_of(of(id), move |_, store| read_chunk(store, id, pending.first)).await?;
        }
        for index in [0, 4, 8] {
            journal.inputs(id, index).await?;
            journal.outcomes(id, index).await?;
        }
    }
    Ok(())
}

/// Returns the ids in a list, in order, and those of what a host takes up.
async fn found(journal: &StoreJournal) -> (Vec<[u8; 16]>, Vec<[u8; 16]>) {
    let everything = Query { limit: EVERYTHING, ..Query::default() };
    let listed = journal.list(everything).await.unwrap().0.into_iter().map(|entry| match entry {
        ListEntry::Call(call) => *call.id.as_bytes(),
        ListEntry::Map(map) => *map.header.id.as_bytes(),
    });
    // One at a time: a page whose only row is damaged is not the end.
    let mut open = Vec::new();
    let mut after = None;
    while let Some(call) = journal.open_calls(after, 1).await.unwrap().pop() {
        after = Some(call.id);
        open.push(*call.id.as_bytes());
    }
    let mut after = None;
    while let Some(map) = journal.open_maps(after, 1).await.unwrap().pop() {
        after = Some(map.header.id);
        open.push(*map.header.id.as_bytes());
    }
    (listed.collect(), open)
}

/// Three bytes of a row are flipped, as by a bad disk.
async fn flip(dir: &StoreDir, table: Table, key: &[u8]) -> Vec<u8> {
    let store = dir.store().unwrap();
    let mut value = store.get(table, key).unwrap().expect("the fixture has such a row");
    value.iter_mut().take(3).for_each(|byte| *byte ^= 0xff);
    store.write(vec![Op::Put { table, key: key.to_vec(), value: value.clone() }]).await.unwrap();
    value
}

async fn damage(which: usize) {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let (victim, healthy) = {
        let journal = StoreJournal::new(dir.clone());
        (fill(&journal, "victim").await, fill(&journal, "healthy").await)
    };
    let (table, key) = rows_of(&victim).swap_remove(which);
    let flipped = flip(&dir, table, &key).await;
    let owner: [u8; 16] = key[..16].try_into().unwrap();
    let all = [
        *victim.open_call.as_bytes(),
        *victim.ended_call.as_bytes(),
        *victim.open_map.as_bytes(),
        *victim.ended_map.as_bytes(),
    ];
    let without = |ids: &[[u8; 16]]| !ids.contains(&owner);

    let journal = StoreJournal::new(dir.clone());
    journal.take_up().await.unwrap();
    found(&journal).await;
    // What a start does not read, the first use does.
    while let Err(error) = read_all(&journal, &victim).await {
        assert!(matches!(error, JournalError::Quarantined { owner: found } if found.id == owner), "{table:?}: {error}");
        if journal.quarantined() == 1 {
            break;
        }
    }
    assert_eq!(journal.quarantined(), 1, "{table:?}");

    // The same for the next host, which is told of it by the table alone.
    for journal in [journal, StoreJournal::new(dir.clone())] {
        journal.take_up().await.unwrap();
        let (listed, open) = found(&journal).await;
        assert!(without(&listed) && without(&open), "{table:?}");
        assert_eq!(listed.len(), 7, "{table:?}: the others are shown");
        let others = all.iter().filter(|id| **id != owner).filter(|id| listed.contains(*id));
        assert_eq!(others.count(), 3, "{table:?}");
        read_all(&journal, &healthy).await.unwrap();
        assert_eq!(journal.quarantined(), 1, "{table:?}: it is met once");
        let is_open = |id: &[u8; 16]| usize::from(*id != owner);
        let [calls, maps] = [victim.open_call.as_bytes(), victim.open_map.as_bytes()].map(|id| 1 + is_open(id));
        assert_eq!(journal.open(), Counts { calls, maps }, "{table:?}");
        while journal.expire(&"app".parse().unwrap(), 1).await.unwrap() {}
    }

    // Nothing that is still in memory writes to it.
    let journal = StoreJournal::new(dir.clone());
    journal.take_up().await.unwrap();
    let kind = if table.name().starts_with("call") { Kind::Call } else { Kind::Map };
    let refused = match kind {
        Kind::Call => {
            save(&journal, &CallRecord { id: CallId::from_bytes(owner), ..call(State::Done) }, None).await.map(drop)
        }
        Kind::Map => journal.claim_chunks(MapId::from_bytes(owner), None, 1).await.map(drop),
    };
    assert!(matches!(refused, Err(JournalError::Quarantined { .. })), "{table:?}");

    let mut exported = Vec::new();
    let export = |row: &QuarantinedRow| -> Result<(), StorageError> {
        exported.push(row.clone());
        Ok(())
    };
    journal.export_quarantine(export).unwrap();
    assert!(exported.iter().all(|row| row.owner == Some(Owner { kind, id: owner })), "{table:?}");
    assert_eq!((exported[0].table.as_str(), &exported[0].key, &exported[0].row), (table.name(), &key, &flipped));
    assert!(exported.len() > 2, "{table:?}: its other rows, too");
    journal.clear_quarantine().await.unwrap();
    let dump = crate::store::snapshot::dump(dir.store().unwrap());
    let text = owner.escape_ascii().to_string();
    assert!(!dump.contains(&text), "{table:?}: {dump}");
    let (listed, _) = found(&journal).await;
    assert_eq!((listed.len(), journal.quarantined()), (7, 0), "{table:?}");
    read_all(&journal, &healthy).await.unwrap();
    let process = std::process::id().to_string();
    assert_eq!(peek_quarantine(path.path()).unwrap(), Quarantined::InUse { process });
    drop((journal, dir));
    assert_eq!(peek_quarantine(path.path()).unwrap(), Quarantined::Rows(vec![]));
}

#[tokio::test]
async fn a_damaged_row_of_any_kind_is_set_aside_with_its_call_or_map_and_nothing_else() {
    for which in 0..12 {
        damage(which).await;
    }
}

/// The record has all that the row of the index has.
#[tokio::test]
async fn an_open_call_whose_index_alone_is_damaged_runs() {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let journal = StoreJournal::new(dir.clone());
    let mut waiting = call(State::Leased);
    accept(&journal, &waiting, Payload::json("1"), None).await;
    waiting = CallRecord { state: State::Waiting, next_ms: Some(9_000), ..waiting };
    save(&journal, &waiting, None).await.unwrap();
    let before = journal.open_calls(None, 9).await.unwrap();
    flip(&dir, Table::JournalIndex, &key::open_call(waiting.id)).await;
    assert_eq!(journal.open_calls(None, 9).await.unwrap(), before);
    journal.take_up().await.unwrap();
    assert_eq!((journal.quarantined(), journal.open().calls), (0, 1));
}

#[tokio::test]
async fn an_idempotency_key_whose_row_is_damaged_is_free_and_a_schedule_begins_anew() {
    let path = tempfile::tempdir().unwrap();
    let dir = Arc::new(StoreDir::new(path.path()));
    let journal = StoreJournal::new(dir.clone());
    let ids = fill(&journal, "key").await;
    let function = journal.call(ids.open_call).await.unwrap().unwrap().function_id();
    let store = dir.store().unwrap();
    let cut = |table: Table, key: Vec<u8>| Op::Put { table, key, value: b"{".to_vec() };
    store.write(vec![cut(Table::JournalIndex, key::idempotency(&function, "key"))]).await.unwrap();
    let idempotency = || Some(Idempotency { key: "key".to_owned(), fingerprint: [8; 32] });
    let [first, second] = [(); 2].map(|()| call(State::Accepted));
    assert_eq!(accept(&journal, &first, Payload::json("1"), idempotency()).await, Accepted::New);
    let existing = accept(&journal, &second, Payload::json("1"), idempotency()).await;
    assert!(matches!(existing, Accepted::Existing(keyed) if keyed.id == *first.id.as_bytes()), "{existing:?}");
    store.write(vec![cut(Table::Schedules, key::schedule(&function))]).await.unwrap();
    store.write(vec![cut(Table::Schedules, key::schedule_run(&function, 3))]).await.unwrap();
    assert_eq!(journal.schedules().await.unwrap().len(), 0);
    assert_eq!(journal.quarantined(), 3);
    assert_eq!(journal.schedules().await.unwrap().len(), 0);
    assert_eq!(journal.quarantined(), 3, "each is met once");
    assert!(journal.quarantined_rows().unwrap().iter().all(|row| row.owner.is_none() && row.row == b"{"));
}
