//! Promises of `Journal::claim`.

use super::super::{CallRecord, Claimed, State};
use super::Engine;
use super::fixtures::*;
use crate::ids::CallId;

pub(crate) async fn a_claim_leases_the_next_attempt(engine: &impl Engine) {
    let storage = joined(engine).await;
    let holder = storage.members.join().await.unwrap();
    let record = accepted(&storage).await;
    let leased = claimed(&storage, record.id).await;
    let (attempts, version) = (1, Some(version(1)));
    assert_eq!(leased, CallRecord { state: State::Leased, lease: Some(holder), attempts, version, ..record });
    assert_eq!(call_record(&storage, leased.id).await, leased);
}

pub(crate) async fn a_claim_of_a_call_that_waits_comes_later(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let at_ms = storage.journal.now_ms() + 3_600_000;
    let waiting = waiting(&record, at_ms);
    settle(&storage, &record, waiting.clone()).await;
    assert_eq!(storage.journal.claim(record.id, None).await.unwrap(), Claimed::Later { at_ms });
    assert_eq!(call_record(&storage, record.id).await, waiting);
}

pub(crate) async fn a_claim_of_a_call_whose_wait_is_over_leases_it(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    settle(&storage, &record, waiting(&record, storage.journal.now_ms())).await;
    match storage.journal.claim(record.id, Some(version(2))).await.unwrap() {
        Claimed::Leased(again) => {
            assert_eq!(*again, CallRecord { attempts: 2, version: Some(version(2)), next_ms: None, ..record });
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_repeated_claim_returns_the_lease_unchanged(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let again = storage.journal.claim(record.id, Some(version(2))).await.unwrap();
    assert_eq!(again, Claimed::Leased(Box::new(record.clone())));
    assert_eq!(call_record(&storage, record.id).await, record);
}

pub(crate) async fn a_claim_of_a_call_that_has_ended_or_is_unknown_says_so(engine: &impl Engine) {
    let storage = joined(engine).await;
    for state in State::ALL.into_iter().filter(|state| state.is_terminal()) {
        let record = leased(&storage).await;
        end(&storage, &record, state).await;
        assert_eq!(storage.journal.claim(record.id, None).await.unwrap(), Claimed::Ended);
        assert_eq!(call_record(&storage, record.id).await, ended(&record, state));
    }
    assert_eq!(storage.journal.claim(CallId::generate(), None).await.unwrap(), Claimed::Ended);
}

pub(crate) async fn an_attempt_under_way_at_a_restart_counts_as_lost(engine: &impl Engine) {
    let storage = joined(engine).await;
    let mut record = leased(&storage).await;
    let mut storage = storage;
    for lost in 1..=2 {
        storage = rejoined(engine, storage).await;
        let holder = storage.members.join().await.unwrap();
        let again = claimed(&storage, record.id).await;
        record = CallRecord { lease: Some(holder), attempts: 1 + lost, lost, ..record };
        assert_eq!(again, record);
        assert_eq!(claimed(&storage, record.id).await, record, "a repeated claim");
    }
    assert_eq!(record.attempts_charged(), 1);
    end(&storage, &record, State::Done).await;
}

pub(crate) async fn a_call_that_waits_at_a_restart_lost_nothing(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    settle(&storage, &record, waiting(&record, 1)).await;
    let untouched = accepted(&storage).await;
    let storage = rejoined(engine, storage).await;
    let again = claimed(&storage, record.id).await;
    assert_eq!((again.attempts, again.lost), (2, 0));
    let first = claimed(&storage, untouched.id).await;
    assert_eq!((first.attempts, first.lost), (1, 0));
}
