//! Promises of `expire`, `sweep` and `apps_with_ended`.

use super::super::{
    Accept, Accepted, CallRecord, ClockMark, ErrorKind, Idempotency, Kind, MapMark, Query, State, Storage,
};
use super::Engine;
use super::fixtures::*;
use crate::ids::MapId;

const STEPS_MAX: usize = 1_000;

/// Takes steps until there are no more.
async fn expire(storage: &Storage, name: &str, until_ms: u64) {
    for _ in 0..STEPS_MAX {
        if !storage.journal.expire(&app(name), until_ms).await.unwrap() {
            return;
        }
    }
    panic!("it takes steps for ever");
}

async fn assert_map_is_gone(storage: &Storage, map: MapId) {
    assert_eq!(storage.journal.map(map).await.unwrap(), None);
    assert_eq!(storage.journal.mark(map, MapMark::Close).await.unwrap(), None);
    assert_refused(storage.journal.reset_failures(map, 1).await, ErrorKind::Gone);
}

pub(crate) async fn what_has_expired_is_gone(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (record, map) = (leased(&storage).await, ended_map(&storage).await);
    end(&storage, &record, State::Done).await;
    expire(&storage, "app", u64::MAX).await;
    let storage = rejoined(engine, storage).await;
    assert_eq!(storage.journal.call(record.id).await.unwrap(), None);
    assert_eq!(storage.journal.call_input(record.id).await.unwrap(), None);
    assert_eq!(storage.journal.call_output(record.id).await.unwrap(), None);
    assert_map_is_gone(&storage, map).await;
    assert_eq!(storage.journal.inputs(map, 0).await.unwrap(), None);
    assert_eq!(storage.journal.outcomes(map, 0).await.unwrap(), None);
    assert_eq!(storage.journal.list(Query { limit: 10, ..Query::default() }).await.unwrap(), (Vec::new(), None));
    assert_eq!(storage.journal.apps_with_ended().await.unwrap(), []);
}

pub(crate) async fn what_ended_later_or_is_open_does_not_expire(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (early, late, open) = (leased(&storage).await, leased(&storage).await, leased(&storage).await);
    for (record, ended_ms) in [(&early, 999), (&late, 1_000)] {
        let to = CallRecord { ended_ms: Some(ended_ms), ..ended(record, State::Dead) };
        settle(&storage, record, to).await;
    }
    let other = call_of(&function("other", "f"));
    accept(&storage, accept_call(&other)).await;
    end(&storage, &claimed(&storage, other.id).await, State::Done).await;
    let (map, open_map) = (ended_map(&storage).await, running_map(&storage, 1).await);
    let ended_ms = map_record(&storage, map).await.progress.ended_ms.unwrap();
    expire(&storage, "app", 1_000).await;
    assert_eq!(storage.journal.call(early.id).await.unwrap(), None);
    for kept in [late.id, open.id, other.id] {
        assert_eq!(call_record(&storage, kept).await.id, kept);
    }
    expire(&storage, "app", ended_ms).await;
    map_record(&storage, map).await;
    expire(&storage, "app", ended_ms + 1).await;
    assert_map_is_gone(&storage, map).await;
    map_record(&storage, open_map).await;
    assert_eq!(call_record(&storage, open.id).await, open);
    call_record(&storage, other.id).await;
}

pub(crate) async fn an_idempotency_key_is_free_once_its_call_has_expired(engine: &impl Engine) {
    let storage = joined(engine).await;
    let keyed = |record: &CallRecord| {
        let idempotency = Some(Idempotency { key: "key".to_owned(), fingerprint: [7; 32] });
        Accept { idempotency, ..accept_call(record) }
    };
    let new = || CallRecord { idempotency_key: Some("key".to_owned()), ..call() };
    let (first, second) = (new(), new());
    assert_eq!(accept(&storage, keyed(&first)).await, Accepted::New);
    end(&storage, &claimed(&storage, first.id).await, State::Done).await;
    let found = accept(&storage, keyed(&second)).await;
    assert!(matches!(found, Accepted::Existing(found) if (found.kind, found.id) == (Kind::Call, *first.id.as_bytes())));
    expire(&storage, "app", u64::MAX).await;
    assert_eq!(accept(&storage, keyed(&second)).await, Accepted::New);
    call_record(&storage, second.id).await;
}

pub(crate) async fn a_map_that_runs_again_does_not_expire(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = ended_map(&storage).await;
    storage.journal.reset_failures(map, 1).await.unwrap();
    assert_eq!(storage.journal.apps_with_ended().await.unwrap(), []);
    expire(&storage, "app", u64::MAX).await;
    let record = map_record(&storage, map).await;
    assert_eq!((record.progress.done, record.progress.dead, record.progress.ended_ms), (1, 0, None));
    assert_eq!(storage.journal.claim_chunks(map, None, 10).await.unwrap().len(), 1);
    let again = settled(&storage, map, vec![whole(1, 0, vec![done(1)])]).await;
    assert!(again.progress.ended_ms.is_some());
    expire(&storage, "app", u64::MAX).await;
    assert_map_is_gone(&storage, map).await;
}

/// The first step may mark it or delete it.
pub(crate) async fn a_map_that_has_expired_does_not_run_again(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = ended_map(&storage).await;
    storage.journal.expire(&app("app"), u64::MAX).await.unwrap();
    assert_map_is_gone(&storage, map).await;
    assert_eq!(storage.journal.held_maps(None, 10).await.unwrap(), []);
}

pub(crate) async fn a_sweep_finishes_what_was_begun(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (map, open) = (ended_map(&storage).await, running_map(&storage, 1).await);
    storage.journal.expire(&app("app"), u64::MAX).await.unwrap();
    let storage = rejoined(engine, storage).await;
    storage.journal.sweep().await.unwrap();
    assert_map_is_gone(&storage, map).await;
    assert!(!storage.journal.expire(&app("app"), u64::MAX).await.unwrap(), "nothing is left");
    assert_eq!(storage.journal.map_input(open, 0).await.unwrap(), Some(inputs(1).remove(0)));
}

pub(crate) async fn apps_with_ended_work_are_found(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(storage.journal.apps_with_ended().await.unwrap(), []);
    ended_map(&storage).await;
    for name in ["b", "a", "b", "open"] {
        let record = call_of(&function(name, "f"));
        accept(&storage, accept_call(&record)).await;
        if name != "open" {
            end(&storage, &claimed(&storage, record.id).await, State::Failed).await;
        }
    }
    let mut found = storage.journal.apps_with_ended().await.unwrap();
    found.sort();
    assert_eq!(found, ["a", "app", "b"].map(app));
    expire(&storage, "b", u64::MAX).await;
    let mut found = storage.journal.apps_with_ended().await.unwrap();
    found.sort();
    assert_eq!(found, ["a", "app"].map(app));
}

pub(crate) async fn the_clock_that_a_host_keeps_is_where_the_next_goes_on(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(storage.journal.clock().await.unwrap(), None);
    let mark = ClockMark { trusted_ms: 1_700_000_000_000, held_ms: 7 };
    storage.journal.keep_clock(ClockMark { trusted_ms: 1, ..mark }).await.unwrap();
    storage.journal.keep_clock(mark).await.unwrap();
    let storage = rejoined(engine, storage).await;
    assert_eq!(storage.journal.clock().await.unwrap(), Some(mark));
}
