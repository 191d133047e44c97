//! Promises of `Journal::settle`.

use super::super::{Accept, Accepted, CallRecord, CallSettle, LeaseHolder, LeaseToken, NewRecord, Settled, State};
use super::Engine;
use super::fixtures::*;
use crate::call::Payload;
use crate::ids::HostId;

pub(crate) async fn a_settle_under_the_lease_ends_the_call(engine: &impl Engine) {
    let storage = joined(engine).await;
    for state in State::ALL.into_iter().filter(|state| state.is_terminal()) {
        let record = leased(&storage).await;
        let to =
            CallRecord { receipt: crate::call::Receipt { cpu_us: 7, ..Default::default() }, ..ended(&record, state) };
        assert_eq!(settle(&storage, &record, to.clone()).await, Settled::Kept);
        assert_eq!(call_record(&storage, record.id).await, to);
        let output = (state == State::Done).then(|| Payload::json("2"));
        assert_eq!(storage.journal.call_output(record.id).await.unwrap(), output);
        assert_eq!(storage.journal.call_input(record.id).await.unwrap(), Some(Payload::json("1")));
    }
}

pub(crate) async fn a_settle_to_a_retry_gives_the_lease_back(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    // The holder in the record is the engine's business.
    let to = CallRecord { lease: record.lease, ..waiting(&record, 5) };
    assert_eq!(settle(&storage, &record, to.clone()).await, Settled::Kept);
    assert_eq!(call_record(&storage, record.id).await, CallRecord { lease: None, ..to });
}

pub(crate) async fn a_settle_of_an_earlier_attempt_is_fenced(engine: &impl Engine) {
    let storage = joined(engine).await;
    let first = leased(&storage).await;
    settle(&storage, &first, waiting(&first, 1)).await;
    let second = claimed(&storage, first.id).await;
    assert_eq!(settle(&storage, &first, ended(&first, State::Done)).await, Settled::Fenced);
    assert_eq!(call_record(&storage, first.id).await, second);
    end(&storage, &second, State::Done).await;
}

pub(crate) async fn a_settle_of_another_holder_is_fenced(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let holder = record.lease.unwrap();
    for holder in [
        LeaseHolder { epoch: holder.epoch + 1, ..holder },
        LeaseHolder { owner: HostId::generate(), epoch: holder.epoch.wrapping_sub(1) },
    ] {
        let lease = Some(LeaseToken { holder, attempt: record.attempts });
        let to = Box::new(ended(&record, State::Done));
        let answer = storage.journal.settle(CallSettle { record: to, lease, output: None }).await.unwrap();
        assert_eq!(answer, Settled::Fenced);
    }
    assert_eq!(call_record(&storage, record.id).await, record);
}

pub(crate) async fn a_settle_under_the_lease_of_an_earlier_start_is_fenced(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let storage = rejoined(engine, storage).await;
    for to in [ended(&record, State::Done), waiting(&record, 5)] {
        assert_eq!(settle(&storage, &record, to).await, Settled::Fenced);
        assert_eq!(call_record(&storage, record.id).await, record);
    }
}

pub(crate) async fn the_first_end_of_a_call_holds(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let cancelled = ended(&record, State::Cancelled);
    let cancel = CallSettle { record: Box::new(cancelled.clone()), lease: None, output: None };
    assert_eq!(storage.journal.settle(cancel).await.unwrap(), Settled::Kept);
    let late = settle(&storage, &record, ended(&record, State::Done)).await;
    assert_eq!(late, Settled::Ended(Box::new(cancelled.clone())));
    assert_eq!(call_record(&storage, record.id).await, cancelled);
    assert_eq!(storage.journal.call_output(record.id).await.unwrap(), None);
    let late = settle(&storage, &record, waiting(&record, 1)).await;
    assert_eq!(late, Settled::Ended(Box::new(cancelled)));
}

pub(crate) async fn a_call_that_nobody_runs_is_ended_without_a_lease(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (untouched, waits, lost) = (accepted(&storage).await, leased(&storage).await, leased(&storage).await);
    settle(&storage, &waits, waiting(&waits, u64::MAX >> 1)).await;
    let storage = rejoined(engine, storage).await;
    for record in [untouched, waits, lost] {
        let to = CallRecord { next_ms: None, ..ended(&record, State::Cancelled) };
        let cancel = CallSettle { record: Box::new(to.clone()), lease: None, output: None };
        assert_eq!(storage.journal.settle(cancel).await.unwrap(), Settled::Kept);
        assert_eq!(call_record(&storage, record.id).await, to);
    }
    assert_eq!(storage.journal.held(None, 10).await.unwrap(), []);
}

/// The answer may be `Kept`, or `Ended` with the call as it was settled.
pub(crate) async fn a_repeated_end_finds_the_call_ended_as_it_said(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let to = ended(&record, State::Done);
    assert_eq!(settle(&storage, &record, to.clone()).await, Settled::Kept);
    let again = settle(&storage, &record, to.clone()).await;
    assert!(again == Settled::Kept || again == Settled::Ended(Box::new(to.clone())), "{again:?}");
    assert_eq!(call_record(&storage, record.id).await, to);
    assert_eq!(storage.journal.call_output(record.id).await.unwrap(), Some(Payload::json("2")));
    assert_eq!(storage.journal.open().calls, 0);
}

pub(crate) async fn a_repeated_retry_is_kept_once(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let to = waiting(&record, 5);
    for _ in 0..2 {
        assert_eq!(settle(&storage, &record, to.clone()).await, Settled::Kept);
        assert_eq!(call_record(&storage, record.id).await, to);
    }
}

pub(crate) async fn another_settle_of_an_attempt_that_gave_its_lease_back_is_fenced(engine: &impl Engine) {
    let storage = joined(engine).await;
    let record = leased(&storage).await;
    let to = waiting(&record, 5);
    settle(&storage, &record, to.clone()).await;
    for other in [ended(&record, State::Done), waiting(&record, 6)] {
        assert_eq!(settle(&storage, &record, other).await, Settled::Fenced);
        assert_eq!(call_record(&storage, record.id).await, to);
    }
}

pub(crate) async fn a_repeated_retry_does_not_undo_a_later_attempt(engine: &impl Engine) {
    let storage = joined(engine).await;
    let first = leased(&storage).await;
    let to = waiting(&first, 1);
    settle(&storage, &first, to.clone()).await;
    let second = claimed(&storage, first.id).await;
    assert_eq!(settle(&storage, &first, to).await, Settled::Fenced);
    assert_eq!(call_record(&storage, first.id).await, second);
}

pub(crate) async fn large_payloads_of_a_call_are_read_back(engine: &impl Engine) {
    let storage = joined(engine).await;
    let large = |byte: u8| Payload { content_type: "text/plain".to_owned(), data: vec![byte; 300 << 10].into() };
    let record = call();
    let new = NewRecord::Call(Box::new(record.clone()), large(1));
    let new = Accept { record: new, idempotency: None, parent_map: None, open_max: 10 };
    assert_eq!(accept(&storage, new).await, Accepted::New);
    let record = claimed(&storage, record.id).await;
    let to = Box::new(ended(&record, State::Done));
    let settle = CallSettle { record: to, lease: token(&record), output: Some(large(2)) };
    assert_eq!(storage.journal.settle(settle).await.unwrap(), Settled::Kept);
    let storage = rejoined(engine, storage).await;
    storage.journal.sweep().await.unwrap();
    assert_eq!(storage.journal.call_input(record.id).await.unwrap(), Some(large(1)));
    assert_eq!(storage.journal.call_output(record.id).await.unwrap(), Some(large(2)));
}
