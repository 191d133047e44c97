//! Promises of `Members`, and of writes by a start that another has followed.

use super::super::{CallSettle, ErrorKind, LeaseHolder, MapMark, ScheduleStep, State, Storage};
use super::Engine;
use super::fixtures::*;

pub(crate) async fn a_second_join_returns_the_same(engine: &impl Engine) {
    let storage = engine.fresh().await;
    let holder = storage.members.join().await.unwrap();
    assert_eq!(storage.members.join().await.unwrap(), holder);
    leased(&storage).await;
    assert_eq!(storage.members.join().await.unwrap(), holder);
    storage.members.beat().await.unwrap();
}

pub(crate) async fn each_start_has_a_higher_epoch(engine: &impl Engine) {
    let mut storage = joined(engine).await;
    let mut holders: Vec<LeaseHolder> = vec![storage.members.join().await.unwrap()];
    for _ in 0..3 {
        storage = rejoined(engine, storage).await;
        holders.push(storage.members.join().await.unwrap());
    }
    assert!(holders.windows(2).all(|pair| pair[0].epoch < pair[1].epoch), "{holders:?}");
    assert!(holders.windows(2).all(|pair| pair[0].owner != pair[1].owner), "{holders:?}");
}

/// Has an earlier start with a leased call and a running map, and a later one that has joined.
async fn overtaken(engine: &impl Engine) -> (Storage, Storage) {
    let earlier = joined(engine).await;
    let later = engine.overtake(&earlier).await;
    (earlier, later)
}

/// Values, records of apps and blobs are left open.
pub(crate) async fn writes_of_an_earlier_start_are_fenced(engine: &impl Engine) {
    let (earlier, later) = overtaken(engine).await;
    let (record, map) = (leased(&earlier).await, running_map(&earlier, 1).await);
    let free = accepted(&earlier).await;
    later.members.join().await.unwrap();

    assert_refused(earlier.members.beat().await, ErrorKind::Fenced);
    let journal = &earlier.journal;
    assert_refused(journal.accept(vec![accept_call(&call())]).await, ErrorKind::Fenced);
    assert_refused(journal.accept(vec![accept_map(&self::map())]).await, ErrorKind::Fenced);
    assert_refused(journal.claim(free.id, None).await, ErrorKind::Fenced);
    let to = Box::new(ended(&record, State::Done));
    for lease in [token(&record), None] {
        let settle = CallSettle { record: to.clone(), lease, output: None };
        assert_refused(journal.settle(settle).await, ErrorKind::Fenced);
    }
    let append = super::super::Append { map, at: 1, inputs: inputs(1), is_leased: false };
    assert_refused(journal.append(append).await, ErrorKind::Fenced);
    assert_refused(journal.mark(map, MapMark::Close).await, ErrorKind::Fenced);
    assert_refused(journal.claim_chunks(map, None, 1).await, ErrorKind::Fenced);
    let settle = map_settle(map, vec![segment(0, 1, vec![done(0)])]);
    assert_refused(journal.settle_map(settle).await, ErrorKind::Fenced);
    let step = ScheduleStep { begun: vec![(call(), crate::call::Payload::json("1"))], ..ScheduleStep::default() };
    assert_refused(earlier.timetable.advance(&step).await, ErrorKind::Fenced);
}

pub(crate) async fn a_fenced_start_has_changed_nothing(engine: &impl Engine) {
    let (earlier, later) = overtaken(engine).await;
    let (record, map) = (leased(&earlier).await, running_map(&earlier, 1).await);
    let holder = later.members.join().await.unwrap();
    let (call_before, map_before) = (call_record(&later, record.id).await, map_record(&later, map).await);
    let settle = CallSettle { record: Box::new(ended(&record, State::Done)), lease: token(&record), output: None };
    assert_refused(earlier.journal.settle(settle).await, ErrorKind::Fenced);
    let settle = map_settle(map, vec![segment(0, 1, vec![done(0)])]);
    assert_refused(earlier.journal.settle_map(settle).await, ErrorKind::Fenced);
    assert_eq!(call_record(&later, record.id).await, call_before);
    assert_eq!(map_record(&later, map).await, map_before);

    let again = claimed(&later, record.id).await;
    assert_eq!((again.lease, again.attempts, again.lost), (Some(holder), 2, 1));
    let chunks = later.journal.claim_chunks(map, None, 1).await.unwrap();
    assert_eq!((chunks[0].lease.holder, chunks[0].lease.lost), (Some(holder), 1));
    end(&later, &again, State::Done).await;
    settled(&later, map, vec![segment(0, 1, vec![done(0)])]).await;
}

pub(crate) async fn the_clock_does_not_go_back(engine: &impl Engine) {
    let storage = joined(engine).await;
    let mut before_ms = storage.journal.now_ms();
    assert!(before_ms > 1_500_000_000_000, "milliseconds since 1970");
    for _ in 0..3 {
        accepted(&storage).await;
        let now_ms = storage.members.beat().await.unwrap().now_ms;
        assert!(before_ms <= now_ms && now_ms <= storage.journal.now_ms());
        before_ms = now_ms;
    }
    let storage = rejoined(engine, storage).await;
    assert!(before_ms <= storage.journal.now_ms());
}
