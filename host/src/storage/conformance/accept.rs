//! Promises of `Journal::accept`.

use super::super::{
    Accept, Accepted, CallRecord, CallSettle, Idempotency, KeyedRecord, Kind, MapMark, NewRecord, State,
};
use super::Engine;
use super::fixtures::*;
use crate::call::Payload;
use crate::ids::CallId;

fn keyed(accept: Accept, key: &str) -> Accept {
    Accept { idempotency: Some(Idempotency { key: key.to_owned(), fingerprint: [7; 32] }), ..accept }
}

fn of_key(record: &CallRecord) -> Accepted {
    Accepted::Existing(KeyedRecord { kind: Kind::Call, id: *record.id.as_bytes(), fingerprint: [7; 32] })
}

pub(crate) async fn a_new_call_is_kept_with_its_input(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (record, map) = (accepted(&storage).await, open_map(&storage).await);
    assert_eq!(call_record(&storage, record.id).await, record);
    assert_eq!(storage.journal.call_input(record.id).await.unwrap(), Some(Payload::json("1")));
    assert_eq!(storage.journal.call_output(record.id).await.unwrap(), None);
    assert_eq!(map_record(&storage, map).await.progress, Default::default());
    assert_eq!(storage.journal.call(CallId::generate()).await.unwrap(), None);
}

pub(crate) async fn a_call_is_accepted_leased_by_the_host_that_begins_it(engine: &impl Engine) {
    let storage = joined(engine).await;
    let holder = storage.members.join().await.unwrap();
    let record = CallRecord { state: State::Leased, attempts: 1, version: Some(version(1)), ..call() };
    assert_eq!(accept(&storage, accept_call(&record)).await, Accepted::New);
    let record = CallRecord { lease: Some(holder), ..record };
    assert_eq!(call_record(&storage, record.id).await, record);
    end(&storage, &record, State::Done).await;
}

pub(crate) async fn a_request_with_a_key_that_was_used_finds_what_the_first_one_made(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (first, second) = (call(), call());
    assert_eq!(accept(&storage, keyed(accept_call(&first), "key")).await, Accepted::New);
    assert_eq!(accept(&storage, keyed(accept_call(&second), "key")).await, of_key(&first));
    assert_eq!(storage.journal.call(second.id).await.unwrap(), None);
    // The key comes before the limit.
    let full = Accept { open_max: 1, ..keyed(accept_call(&second), "key") };
    assert_eq!(accept(&storage, full).await, of_key(&first));
    let storage = rejoined(engine, storage).await;
    assert_eq!(accept(&storage, keyed(accept_call(&second), "key")).await, of_key(&first));
}

pub(crate) async fn a_key_belongs_to_one_function(engine: &impl Engine) {
    let storage = joined(engine).await;
    for function in [function("app", "f"), function("app", "g"), function("b", "f")] {
        assert_eq!(accept(&storage, keyed(accept_call(&call_of(&function)), "key")).await, Accepted::New);
    }
}

pub(crate) async fn requests_of_one_batch_see_each_other(engine: &impl Engine) {
    let storage = joined(engine).await;
    let calls: [CallRecord; 4] = std::array::from_fn(|_| call());
    let batch = vec![
        keyed(accept_call(&calls[0]), "key"),
        keyed(accept_call(&calls[1]), "key"),
        Accept { open_max: 2, ..accept_call(&calls[2]) },
        Accept { open_max: 2, ..accept_call(&calls[3]) },
    ];
    let answers = storage.journal.accept(batch).await.unwrap();
    assert_eq!(answers, [Accepted::New, of_key(&calls[0]), Accepted::New, Accepted::TooMany { open: 2 }]);
    assert_eq!(storage.journal.open().calls, 2);
}

pub(crate) async fn one_request_over_the_limit_costs_the_others_nothing(engine: &impl Engine) {
    let storage = joined(engine).await;
    let parent = leased(&storage).await;
    end(&storage, &parent, State::Cancelled).await;
    let (first, child, other, map) = (call(), CallRecord { parent: Some(parent.id), ..call() }, call(), map());
    let batch = vec![
        Accept { open_max: 1, ..accept_call(&first) },
        accept_call(&child),
        Accept { open_max: 1, ..accept_call(&other) },
        Accept { open_max: 1, ..accept_map(&map) },
    ];
    let answers = storage.journal.accept(batch).await.unwrap();
    let too_many = Accepted::TooMany { open: 1 };
    assert_eq!(answers, [Accepted::New, Accepted::ParentCancelled, too_many, Accepted::New]);
    assert_eq!(call_record(&storage, first.id).await, first);
    assert_eq!(map_record(&storage, map.id).await.header, map);
    for refused in [child, other] {
        assert_eq!(storage.journal.call(refused.id).await.unwrap(), None);
    }
    assert_eq!(storage.journal.accept(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn calls_and_maps_are_counted_apart_and_by_app(engine: &impl Engine) {
    let storage = joined(engine).await;
    let other = call_of(&function("other", "f"));
    for accepted in [accept_call(&call()), accept_map(&map()), accept_call(&other)] {
        assert_eq!(accept(&storage, Accept { open_max: 1, ..accepted }).await, Accepted::New);
    }
    let too_many = Accepted::TooMany { open: 1 };
    for refused in [accept_call(&call()), accept_map(&map())] {
        assert_eq!(accept(&storage, Accept { open_max: 1, ..refused }).await, too_many);
    }
    let storage = rejoined(engine, storage).await;
    for refused in [accept_call(&call()), accept_map(&map())] {
        assert_eq!(accept(&storage, Accept { open_max: 1, ..refused }).await, too_many, "after a restart");
    }
}

pub(crate) async fn a_call_that_has_ended_makes_room_for_another(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let next = Accept { open_max: 1, ..accept_call(&call()) };
    assert_eq!(accept(&storage, next.clone()).await, Accepted::TooMany { open: 1 });
    settle(&storage, &record, waiting(&record, 1)).await;
    assert_eq!(accept(&storage, next.clone()).await, Accepted::TooMany { open: 1 }, "one that waits is open");
    end(&storage, &claimed(&storage, record.id).await, State::Done).await;
    assert_eq!(accept(&storage, next).await, Accepted::New);

    let map = open_map(&storage).await;
    let next = Accept { open_max: 1, ..accept_map(&self::map()) };
    assert_eq!(accept(&storage, next.clone()).await, Accepted::TooMany { open: 1 });
    mark(&storage, map, MapMark::Cancel).await;
    settle_map(&storage, super::super::MapSettle { is_drained: true, ..map_settle(map, Vec::new()) }).await;
    assert_eq!(accept(&storage, next).await, Accepted::New);
}

pub(crate) async fn a_child_of_a_cancelled_call_is_refused(engine: &impl Engine) {
    let storage = joined(engine).await;
    let parent = leased(&storage).await;
    let (call, map) = (
        CallRecord { parent: Some(parent.id), ..call() },
        super::super::MapHeader { parent: Some(parent.id), ..map() },
    );
    assert_eq!(
        accept(&storage, accept_call(&CallRecord { id: CallId::generate(), ..call.clone() })).await,
        Accepted::New
    );
    end(&storage, &parent, State::Cancelled).await;
    assert_eq!(accept(&storage, accept_call(&call)).await, Accepted::ParentCancelled);
    assert_eq!(accept(&storage, accept_map(&map)).await, Accepted::ParentCancelled);
    let children = storage.journal.children(parent.id, None, 10).await.unwrap();
    assert_eq!(children.len(), 1);
}

pub(crate) async fn a_child_of_a_cancelled_map_is_refused(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 2).await;
    let child = |of: u64| {
        let record = NewRecord::Call(Box::new(CallRecord { parent: Some(map.call(of)), ..call() }), Payload::json("1"));
        Accept { record, idempotency: None, parent_map: Some(map), open_max: 1_000 }
    };
    assert_eq!(accept(&storage, child(0)).await, Accepted::New);
    mark(&storage, map, MapMark::Cancel).await;
    assert_eq!(accept(&storage, child(1)).await, Accepted::ParentCancelled);
}

pub(crate) async fn a_parent_without_a_record_is_not_cancelled(engine: &impl Engine) {
    let storage = joined(engine).await;
    let child = CallRecord { parent: Some(CallId::generate()), ..call() };
    assert_eq!(accept(&storage, accept_call(&child)).await, Accepted::New);
}

/// With a key, the answer may be `New`, or `Existing` with the call itself.
pub(crate) async fn a_repeated_accept_changes_nothing(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = call();
    let new = Accept { open_max: 1, ..accept_call(&record) };
    assert_eq!(accept(&storage, new.clone()).await, Accepted::New);
    let leased = claimed(&storage, record.id).await;
    assert_eq!(accept(&storage, new.clone()).await, Accepted::New);
    assert_eq!(call_record(&storage, record.id).await, leased);
    assert_eq!(storage.journal.open().calls, 1);
    let settle = CallSettle { record: Box::new(ended(&leased, State::Done)), lease: token(&leased), output: None };
    storage.journal.settle(settle).await.unwrap();
    assert_eq!(accept(&storage, new).await, Accepted::New);
    assert_eq!(call_record(&storage, record.id).await.state, State::Done);
    assert_eq!(storage.journal.open().calls, 0);

    let record = CallRecord { idempotency_key: Some("key".to_owned()), ..call() };
    let new = keyed(accept_call(&record), "key");
    assert_eq!(accept(&storage, new.clone()).await, Accepted::New);
    let again = accept(&storage, new).await;
    assert!(again == Accepted::New || again == of_key(&record), "{again:?}");

    let header = map();
    assert_eq!(accept(&storage, accept_map(&header)).await, Accepted::New);
    kept(&storage, header.id, 0, inputs(2), false).await;
    assert_eq!(accept(&storage, accept_map(&header)).await, Accepted::New);
    assert_eq!(map_record(&storage, header.id).await.header.accepted, 2);
}
