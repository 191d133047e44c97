//! Promises of what is open, of children and of lists.

use super::super::{
    CallRecord, Counts, Kind, ListEntry, MapHeader, MapMark, MapSettle, OpenCall, Query, State, Storage,
};
use super::Engine;
use super::fixtures::*;
use crate::ids::CallId;

async fn held(storage: &Storage, after: Option<CallId>, limit: usize) -> Vec<CallId> {
    storage.journal.held(after, limit).await.unwrap().iter().map(|call| call.id).collect()
}

pub(crate) async fn what_is_open_is_held_and_counted(engine: &impl Engine) {
    let storage = joined(engine).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(accepted(&storage).await);
    }
    let ids: Vec<_> = calls.iter().map(|call| call.id).collect();
    assert_eq!(held(&storage, None, 10).await, ids);
    assert_eq!(held(&storage, None, 2).await, ids[..2]);
    assert_eq!(held(&storage, Some(ids[1]), 10).await, ids[2..]);
    assert_eq!(held(&storage, Some(ids[3]), 10).await, []);
    let [leased, ends] = [claimed(&storage, ids[0]).await, claimed(&storage, ids[1]).await];
    settle(&storage, &leased, waiting(&leased, 5)).await;
    end(&storage, &ends, State::Failed).await;
    assert_eq!(held(&storage, None, 10).await, [ids[0], ids[2], ids[3]]);
    let waits = storage.journal.held(None, 1).await.unwrap().remove(0);
    let CallRecord { id, priority, .. } = calls[0].clone();
    assert_eq!(waits, OpenCall { id, function: function("app", "f"), priority, next_ms: Some(5), run: None });

    let maps = [open_map(&storage).await, running_map(&storage, 1).await, ended_map(&storage).await];
    let found = storage.journal.held_maps(None, 10).await.unwrap();
    assert_eq!(found, [map_record(&storage, maps[0]).await, map_record(&storage, maps[1]).await]);
    let behind = storage.journal.held_maps(Some(maps[0]), 1).await.unwrap();
    assert_eq!(behind, [map_record(&storage, maps[1]).await]);
    assert_eq!(storage.journal.open(), Counts { calls: 3, maps: 2 });
}

pub(crate) async fn what_is_open_is_held_after_a_restart(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (accepted, leased_then, ended) = (accepted(&storage).await, leased(&storage).await, leased(&storage).await);
    end(&storage, &ended, State::Done).await;
    let map = running_map(&storage, 1).await;
    ended_map(&storage).await;
    let cancelled = running_map(&storage, 1).await;
    mark(&storage, cancelled, MapMark::Cancel).await;
    let storage = rejoined(engine, storage).await;
    assert_eq!(held(&storage, None, 10).await, [accepted.id, leased_then.id]);
    let maps = storage.journal.held_maps(None, 10).await.unwrap();
    assert_eq!(maps.iter().map(|map| map.header.id).collect::<Vec<_>>(), [map, cancelled]);
    assert_eq!(storage.journal.open(), Counts { calls: 2, maps: 2 });
    end(&storage, &claimed(&storage, leased_then.id).await, State::Done).await;
    settle_map(&storage, MapSettle { is_drained: true, ..map_settle(cancelled, Vec::new()) }).await;
    assert_eq!(storage.journal.open(), Counts { calls: 1, maps: 1 });
}

pub(crate) async fn children_are_listed_behind_a_cursor(engine: &impl Engine) {
    let storage = joined(engine).await;
    let parent = leased(&storage).await.id;
    let calls: [CallRecord; 3] = std::array::from_fn(|_| CallRecord { parent: Some(parent), ..call() });
    let maps: [MapHeader; 2] = std::array::from_fn(|_| MapHeader { parent: Some(parent), ..map() });
    for new in maps.iter().map(accept_map).chain(calls.iter().map(accept_call)) {
        accept(&storage, new).await;
    }
    let calls = calls.iter().map(|call| (Kind::Call, *call.id.as_bytes()));
    let all: Vec<_> = calls.chain(maps.iter().map(|map| (Kind::Map, *map.id.as_bytes()))).collect();
    let children = async |after, limit| storage.journal.children(parent, after, limit).await.unwrap();
    assert_eq!(children(None, 10).await, all);
    assert_eq!(children(None, 2).await, all[..2]);
    assert_eq!(children(Some(all[1]), 2).await, all[2..4]);
    assert_eq!(children(Some(all[4]), 2).await, []);
    assert_eq!(storage.journal.children(CallId::generate(), None, 10).await.unwrap(), []);
}

fn ids(entries: &[ListEntry]) -> Vec<[u8; 16]> {
    let id = |entry: &ListEntry| match entry {
        ListEntry::Call(call) => *call.id.as_bytes(),
        ListEntry::Map(map) => *map.header.id.as_bytes(),
    };
    entries.iter().map(id).collect()
}

/// Lists all pages of `limit`, as ids.
async fn listed(storage: &Storage, query: Query) -> Vec<[u8; 16]> {
    let (mut all, mut before) = (Vec::new(), None);
    for _ in 0..100 {
        let (page, next) = storage.journal.list(Query { before, ..query.clone() }).await.unwrap();
        assert!(page.len() <= query.limit);
        all.extend(ids(&page));
        before = next;
        if next.is_none() {
            return all;
        }
    }
    panic!("a list without an end: {query:?}");
}

pub(crate) async fn a_list_is_newest_first_and_goes_on_where_it_stopped(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(storage.journal.list(Query { limit: 2, ..Query::default() }).await.unwrap(), (Vec::new(), None));
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(*accepted(&storage).await.id.as_bytes());
        made.push(*open_map(&storage).await.as_bytes());
    }
    made.reverse();
    let (page, next) = storage.journal.list(Query { limit: 4, ..Query::default() }).await.unwrap();
    assert_eq!((ids(&page), next), (made[..4].to_vec(), Some(made[3])));
    assert!(matches!((&page[0], &page[1]), (ListEntry::Map(_), ListEntry::Call(_))));
    for limit in [1, 2, 5, 6, 7] {
        assert_eq!(listed(&storage, Query { limit, ..Query::default() }).await, made, "pages of {limit}");
    }
}

pub(crate) async fn a_list_is_filtered_by_app_and_function(engine: &impl Engine) {
    let storage = joined(engine).await;
    let functions = [function("app", "f"), function("app", "g"), function("ap", "f"), function("apps", "f")];
    let mut made = Vec::new();
    for function in functions.iter().chain(&functions) {
        let (call, map) = (call_of(function), map_of(function));
        accept(&storage, accept_call(&call)).await;
        accept(&storage, accept_map(&map)).await;
        made.push((function.clone(), *call.id.as_bytes()));
        made.push((function.clone(), *map.id.as_bytes()));
    }
    made.reverse();
    for limit in [1, 3, 100] {
        for function in &functions {
            let of_app = made.iter().filter(|(made, _)| made.app == function.app).map(|(_, id)| *id);
            let app = Some(function.app.clone());
            let query = Query { app, limit, ..Query::default() };
            assert_eq!(listed(&storage, query.clone()).await, of_app.collect::<Vec<_>>());
            let of_function = made.iter().filter(|(made, _)| made == function).map(|(_, id)| *id);
            let query = Query { function: Some(function.function.clone()), ..query };
            assert_eq!(listed(&storage, query).await, of_function.collect::<Vec<_>>());
        }
    }
}
