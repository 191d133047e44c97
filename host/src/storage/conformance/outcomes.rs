//! Promises of what is read of a map, and of the runs of its failures again.

use super::super::{
    ChunkUpdate, EntryKind, Lease, MapMark, MapSettle, MapSettled, MapState, OutcomeCounts, PendingChunk, Storage,
    StoredPayload,
};
use super::Engine;
use super::fixtures::*;
use crate::call::Payload;
use crate::ids::MapId;

async fn read(storage: &Storage, stored: &StoredPayload) -> Payload {
    storage.journal.payload(stored.clone()).await.unwrap()
}

pub(crate) async fn a_whole_chunk_is_one_segment_with_the_outcomes_of_all(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 3).await;
    settled(&storage, map, vec![segment(0, 1, vec![done(2), retry(1, 5)])]).await;
    settled(&storage, map, vec![segment(0, 2, vec![done(0)])]).await;
    let all = vec![done(0), dead(1), done(2)];
    let chunks = vec![whole(0, 2, all.clone())];
    settle_map(&storage, MapSettle { map, chunks, delta: delta(&[dead(1)]), is_drained: false }).await;
    let outcomes = storage.journal.outcomes(map, 0).await.unwrap().unwrap();
    assert_eq!((outcomes.first, outcomes.len, outcomes.until), (0, 3, 3));
    assert_eq!(outcomes.entries, all);
    assert_eq!(outcomes.counts, OutcomeCounts { done: 2, failed: 0, dead: 1 });
    assert_eq!(storage.journal.pending(map, None, 10).await.unwrap(), []);
    assert_eq!(storage.journal.claim_chunks(map, None, 10).await.unwrap(), []);
}

pub(crate) async fn a_chunk_is_read_back_with_its_retries(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 3).await;
    settled(&storage, map, vec![segment(0, 1, vec![retry(1, 5)])]).await;
    settled(&storage, map, vec![segment(0, 2, vec![done(2), retry(1, 6)])]).await;
    let storage = rejoined(engine, storage).await;
    let claimed = storage.journal.claim_chunks(map, None, 10).await.unwrap();
    let chunk = claimed[0].chunk.as_ref().unwrap();
    assert_eq!(chunk.entries, [retry(1, 5), done(2), retry(1, 6)], "oldest first");
    assert_eq!((chunk.segments, chunk.inputs.len(), chunk.is_stripped), (2, 3, false));
    settled(&storage, map, vec![segment(0, 3, vec![done(1)])]).await;
    let outcomes = storage.journal.outcomes(map, 0).await.unwrap().unwrap();
    assert_eq!(outcomes.entries, [done(1), done(2)], "without retries");
}

pub(crate) async fn the_first_outcome_of_an_input_holds(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 2).await;
    settled(&storage, map, vec![segment(0, 1, vec![done(0)])]).await;
    settled(&storage, map, vec![segment(0, 2, vec![dead(0)])]).await;
    let outcomes = storage.journal.outcomes(map, 0).await.unwrap().unwrap();
    assert_eq!(outcomes.entries, [done(0)]);
    assert_eq!(outcomes.counts, OutcomeCounts { done: 1, failed: 0, dead: 0 });
}

pub(crate) async fn outcomes_are_read_from_an_index_on(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 3).await;
    kept(&storage, map, 3, inputs(2), true).await;
    settled(&storage, map, vec![segment(0, 1, vec![done(0), done(2)]), segment(3, 1, vec![dead(4)])]).await;
    let read = async |index| storage.journal.outcomes(map, index).await.unwrap();
    let from_1 = read(1).await.unwrap();
    assert_eq!((from_1.first, from_1.len, from_1.until), (0, 3, 3));
    assert_eq!(from_1.entries, [done(2)]);
    assert_eq!(from_1.counts, OutcomeCounts { done: 2, failed: 0, dead: 0 }, "of the whole chunk");
    let second = read(3).await.unwrap();
    assert_eq!((second.first, second.len, second.until), (3, 2, 5));
    assert_eq!(second.entries, [dead(4)]);
    assert_eq!(read(5).await, None);
    assert_eq!(storage.journal.outcomes(MapId::generate(), 0).await.unwrap(), None);
}

pub(crate) async fn outcomes_too_large_for_one_answer_come_in_several(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 20).await;
    // Each of less than any engine would keep apart, 4 MB together.
    let output = |index: u64| done_with(index, Payload::json(vec![b'0' + index as u8; 200 << 10]));
    for index in 0..20 {
        settled(&storage, map, vec![segment(0, index as u32 + 1, vec![output(index)])]).await;
    }
    let (mut index, mut answers) = (0, 0);
    while index < 20 {
        let outcomes = storage.journal.outcomes(map, index).await.unwrap().unwrap();
        assert_eq!(outcomes.counts.done, 20);
        assert!(outcomes.until > index);
        assert_eq!(outcomes.entries, (index..outcomes.until).map(output).collect::<Vec<_>>());
        (index, answers) = (outcomes.until, answers + 1);
    }
    assert!(answers > 1, "4 MB in one answer");
    // A chunk that is claimed tells what has its outcome, if not with which output.
    let claimed = storage.journal.claim_chunks(map, None, 1).await.unwrap();
    let chunk = claimed[0].chunk.as_ref().unwrap();
    let found: Vec<_> = chunk.entries.iter().map(|entry| entry.index).collect();
    assert_eq!((found, chunk.segments), ((0..20).collect(), 20));
}

pub(crate) async fn inputs_and_outputs_of_a_map_are_read_back(engine: &impl Engine) {
    let storage = joined(engine).await;
    let large = |byte: u8| Payload { content_type: "text/plain".to_owned(), data: vec![byte; 300 << 10].into() };
    let map = open_map(&storage).await;
    kept(&storage, map, 0, vec![Payload::json("0"), large(1)], true).await;
    settled(&storage, map, vec![segment(0, 1, vec![done_with(0, large(2)), done_with(1, Payload::json("3"))])]).await;
    let storage = rejoined(engine, storage).await;
    storage.journal.sweep().await.unwrap();

    assert_eq!(storage.journal.map_input(map, 0).await.unwrap(), Some(Payload::json("0")));
    assert_eq!(storage.journal.map_input(map, 1).await.unwrap(), Some(large(1)));
    assert_eq!(storage.journal.map_input(map, 2).await.unwrap(), None);
    let (first, inputs) = storage.journal.inputs(map, 1).await.unwrap().unwrap();
    assert_eq!((first, inputs.len()), (0, 2));
    assert_eq!((read(&storage, &inputs[0]).await, read(&storage, &inputs[1]).await), (Payload::json("0"), large(1)));
    assert_eq!(storage.journal.inputs(map, 2).await.unwrap(), None);
    let outcomes = storage.journal.outcomes(map, 0).await.unwrap().unwrap();
    let expected = [large(2), Payload::json("3")];
    assert_eq!(outcomes.entries.len(), expected.len());
    for (entry, output) in outcomes.entries.iter().zip(expected) {
        let EntryKind::Done(stored) = &entry.kind else { panic!("{entry:?}") };
        assert_eq!(read(&storage, stored).await, output);
    }
}

pub(crate) async fn failures_are_taken_back_and_run_again(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = open_map(&storage).await;
    kept(&storage, map, 0, inputs(3), true).await;
    mark(&storage, map, MapMark::Close).await;
    settled(&storage, map, vec![segment(0, 1, vec![retry(0, 1), done(1)])]).await;
    let last = ChunkUpdate { is_whole: true, ..segment(0, 2, vec![dead(0), dead(2)]) };
    let over = settled(&storage, map, vec![last]).await;
    assert!(over.progress.ended_ms.is_some());

    for _ in 0..2 {
        let record = storage.journal.reset_failures(map, 0).await.unwrap();
        let progress = &record.progress;
        assert_eq!((progress.done, progress.dead, progress.ended_ms), (1, 0, None));
        assert_eq!(record.state(), MapState::Running);
        assert_eq!(map_record(&storage, map).await, record);
        assert_eq!(storage.journal.outcomes(map, 0).await.unwrap().unwrap().entries, [done(1)]);
        let free = PendingChunk { first: 0, lease: Lease { len: 3, ..Lease::default() } };
        assert_eq!(storage.journal.pending(map, None, 9).await.unwrap(), [free]);
    }
    assert_eq!(storage.journal.open().maps, 1);
    let claimed = storage.journal.claim_chunks(map, None, 9).await.unwrap();
    let chunk = claimed[0].chunk.as_ref().unwrap();
    assert_eq!((claimed[0].lease.lost, chunk.entries.as_slice()), (0, &[done(1)][..]));
    let chunks = vec![whole(0, chunk.segments, vec![done(0), done(1), done(2)])];
    let settle = MapSettle { map, chunks, delta: delta(&[done(0), done(2)]), is_drained: false };
    let MapSettled::Kept(record) = settle_map(&storage, settle).await else { panic!() };
    assert_eq!((record.state(), record.progress.done), (MapState::Done, 3));
    assert!(record.progress.ended_ms.is_some());
}

pub(crate) async fn a_cancelled_map_runs_again(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 2).await;
    settled(&storage, map, vec![segment(0, 1, vec![done(0)])]).await;
    mark(&storage, map, MapMark::Cancel).await;
    settle_map(&storage, MapSettle { is_drained: true, ..map_settle(map, Vec::new()) }).await;
    let record = storage.journal.reset_failures(map, 0).await.unwrap();
    assert_eq!((record.state(), record.progress.ended_ms, record.progress.done), (MapState::Running, None, 1));
    let claimed = storage.journal.claim_chunks(map, None, 9).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].lease.lost), (1, 0));
}

pub(crate) async fn a_chunk_without_a_failure_stays_as_it_is(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = ended_map(&storage).await;
    let before = map_record(&storage, map).await;
    assert_eq!(storage.journal.reset_failures(map, 0).await.unwrap(), before);
    assert_eq!(map_record(&storage, map).await, before);
    assert_eq!(storage.journal.outcomes(map, 0).await.unwrap().unwrap().entries, [done(0)]);
}
