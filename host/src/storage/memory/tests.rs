//! Promises of the traits on the engine in memory, and what it alone has: several hosts, and faults.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::call::Principal;
use crate::storage::conformance;
use crate::storage::{ErrorKind, NewRecord};

conformance::run_all!(Memory::new());

/// Runs a test on paused time.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn delays_change_no_answer(steps in conformance::steps(false), seed in any::<u64>()) {
        let faults = Faults { delay: 0.5, delay_max: Duration::from_secs(9), ..Faults::default() };
        paused(async { conformance::agree(&Memory::new(), &Memory::with_faults(faults, seed), &steps).await });
    }

    /// An operation whose answer was lost is repeated, also where it had been applied.
    #[test]
    fn what_is_lost_and_repeated_is_there_once(steps in conformance::steps(true), seed in any::<u64>()) {
        let faults = Faults { lose_answers: 0.3, lose_requests: 0.2, ..Faults::default() };
        paused(async { conformance::agree(&Memory::new(), &Memory::with_faults(faults, seed), &steps).await });
    }
}

fn accepted() -> (CallRecord, Vec<Accept>) {
    let function = FunctionId { app: "app".parse().unwrap(), function: "f".parse().unwrap() };
    let record = CallRecord::new(&function, Principal::Operator, 1);
    let new = NewRecord::Call(Box::new(record.clone()), Payload::json("1"));
    (record, vec![Accept { record: new, idempotency: None, parent_map: None, open_max: 100 }])
}

#[tokio::test(start_paused = true)]
async fn a_call_of_another_host_is_left_to_it_until_that_is_fenced() {
    let memory = Memory::new();
    let (one, other) = (memory.host("one"), memory.host("other"));
    let (first, second) = (one.members.join().await.unwrap(), other.members.join().await.unwrap());
    assert!(first.epoch < second.epoch);
    let (record, new) = accepted();
    one.journal.accept(new).await.unwrap();
    let Claimed::Leased(leased) = one.journal.claim(record.id, None).await.unwrap() else { panic!() };
    let at_ms = other.journal.now_ms() + 1_000;
    assert_eq!(other.journal.claim(record.id, None).await.unwrap(), Claimed::Later { at_ms });
    assert_eq!(other.journal.held(None, 10).await.unwrap(), []);

    memory.fence("one");
    assert_eq!(one.members.beat().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(other.journal.held(None, 10).await.unwrap().len(), 1);
    let Claimed::Leased(taken) = other.journal.claim(record.id, None).await.unwrap() else { panic!() };
    assert_eq!((taken.lease, taken.attempts, taken.lost), (Some(second), leased.attempts + 1, 1));
    assert!(memory.log().contains("one was fenced"), "{}", memory.log());
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_that_of_tokio() {
    let memory = Memory::new();
    let (journal, before_ms) = (memory.host("host").journal, memory.0.now_ms());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(journal.now_ms(), before_ms + 60_000);
}

#[tokio::test(start_paused = true)]
async fn operations_at_once_are_applied_in_any_order() {
    let app: AppName = "app".parse().unwrap();
    let mut last = HashSet::new();
    for seed in 0..20 {
        let faults = Faults { delay: 1.0, delay_max: Duration::from_secs(1), ..Faults::default() };
        let storage = Memory::with_faults(faults, seed).host("host");
        let at = Place { app: &app, bucket: "x", key: "k" };
        let set = |value: &'static str| storage.key_value.set(at, value.into(), None);
        let (one, other) = tokio::join!(set("1"), set("2"));
        one.and(other).unwrap();
        last.insert(storage.key_value.get(at).await.unwrap());
    }
    assert_eq!(last.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_fenced_at_a_moment_that_is_drawn() {
    let faults = Faults { fence: 0.1, ..Faults::default() };
    let mut counts = HashSet::new();
    for seed in 0..5 {
        let storage = Memory::with_faults(faults, seed).host("host");
        let mut count = 0;
        while count < 1_000 && storage.journal.sweep().await.is_ok() {
            count += 1;
        }
        assert_eq!(storage.journal.sweep().await.unwrap_err().kind(), ErrorKind::Fenced, "for ever");
        counts.insert(count);
    }
    assert!(counts.len() > 2 && !counts.contains(&1_000), "{counts:?}");
}
