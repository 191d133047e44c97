//! Promises of maps: inputs, chunks and their leases, settles, ends.

use super::super::{
    Appended, CHUNK_BYTES_MAX, CHUNK_LEN_MAX, ChunkUpdate, ClaimedChunk, Lease, MapMark, MapSettle, MapSettled,
    MapState, PendingChunk, Storage,
};
use super::Engine;
use super::fixtures::*;
use crate::call::Payload;
use crate::ids::MapId;

pub(crate) async fn inputs_are_kept_in_order_and_in_chunks_by_length(engine: &impl Engine) {
    let storage = joined(engine).await;
    let holder = storage.members.join().await.unwrap();
    let map = open_map(&storage).await;
    let count = CHUNK_LEN_MAX as u64 + 1;
    let Appended::Kept { header, chunks } = append(&storage, map, 0, inputs(count), true).await else { panic!() };
    let leased = |len| Lease { is_leased: true, lost: 0, len, holder: Some(holder) };
    let expected = [
        PendingChunk { first: 0, lease: leased(CHUNK_LEN_MAX as u32) },
        PendingChunk { first: count - 1, lease: leased(1) },
    ];
    assert_eq!((chunks.as_slice(), header.accepted), (&expected[..], count));
    // An append begins a chunk of its own.
    let free = PendingChunk { first: count, lease: Lease { len: 2, ..Lease::default() } };
    assert_eq!(kept(&storage, map, count, inputs(2), false).await, [free]);
    assert_eq!(storage.journal.pending(map, None, 10).await.unwrap(), [expected[0], expected[1], free]);
    assert_eq!(map_record(&storage, map).await.header.accepted, count + 2);
    let input = async |index| storage.journal.map_input(map, index).await.unwrap();
    for (index, text) in [(0, "0"), (5, "5"), (count - 1, "1024"), (count, "0"), (count + 1, "1")] {
        assert_eq!(input(index).await, Some(Payload::json(text)), "input {index}");
    }
    assert_eq!(input(count + 2).await, None);
}

pub(crate) async fn chunks_are_split_by_bytes(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = open_map(&storage).await;
    let input = || Payload { content_type: String::new(), data: vec![b'1'; CHUNK_BYTES_MAX / 8].into() };
    let chunks = kept(&storage, map, 0, (0..10).map(|_| input()).collect(), false).await;
    let lens: Vec<_> = chunks.iter().map(|chunk| (chunk.first, chunk.lease.len)).collect();
    assert_eq!(lens, [(0, 8), (8, 2)]);
}

pub(crate) async fn inputs_behind_a_gap_are_not_kept(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = open_map(&storage).await;
    assert_eq!(append(&storage, map, 1, inputs(1), true).await, Appended::Gap { accepted: 0 });
    kept(&storage, map, 0, inputs(3), true).await;
    for at in [0, 2, 4] {
        assert_eq!(append(&storage, map, at, inputs(3), true).await, Appended::Gap { accepted: 3 }, "at {at}");
    }
    assert_eq!(map_record(&storage, map).await.header.accepted, 3);
    assert_eq!(storage.journal.pending(map, None, 10).await.unwrap().len(), 1);
}

pub(crate) async fn a_closed_or_cancelled_map_takes_no_inputs(engine: &impl Engine) {
    let storage = joined(engine).await;
    for kind in [MapMark::Close, MapMark::Cancel] {
        let map = running_map(&storage, 1).await;
        let header = mark(&storage, map, kind).await.header;
        assert_eq!(append(&storage, map, 1, inputs(1), false).await, Appended::Closed(Box::new(header.clone())));
        assert_eq!(map_record(&storage, map).await.header, header);
    }
}

/// Has a map with `count` chunks of one input, none leased.
async fn chunked_map(storage: &Storage, count: u64) -> MapId {
    let map = open_map(storage).await;
    for at in 0..count {
        kept(storage, map, at, inputs(1), false).await;
    }
    map
}

pub(crate) async fn pending_chunks_are_paged(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (map, other) = (chunked_map(&storage, 5).await, chunked_map(&storage, 1).await);
    let firsts = async |map, after, limit| {
        let pending = storage.journal.pending(map, after, limit).await.unwrap();
        pending.iter().map(|chunk| chunk.first).collect::<Vec<_>>()
    };
    assert_eq!(firsts(map, None, 2).await, [0, 1]);
    assert_eq!(firsts(map, Some(1), 2).await, [2, 3]);
    assert_eq!(firsts(map, Some(3), 2).await, [4]);
    assert_eq!(firsts(map, Some(4), 2).await, [0; 0]);
    assert_eq!(firsts(other, None, 2).await, [0]);
    assert_eq!(firsts(MapId::generate(), None, 2).await, [0; 0]);
}

pub(crate) async fn chunks_are_claimed_in_order_and_up_to_the_limit(engine: &impl Engine) {
    let storage = joined(engine).await;
    let holder = storage.members.join().await.unwrap();
    let map = chunked_map(&storage, 4).await;
    let claim = async |after, limit| storage.journal.claim_chunks(map, after, limit).await.unwrap();
    let firsts = |claimed: &[ClaimedChunk]| claimed.iter().map(|chunk| chunk.first).collect::<Vec<_>>();
    let two = claim(None, 2).await;
    assert_eq!(firsts(&two), [0, 1]);
    for ClaimedChunk { first, lease, chunk } in &two {
        assert_eq!(*lease, Lease { is_leased: true, lost: 0, len: 1, holder: Some(holder) });
        let chunk = chunk.as_ref().unwrap();
        assert_eq!((chunk.first, chunk.inputs.len(), chunk.segments, chunk.is_stripped), (*first, 1, 0, false));
        assert_eq!(chunk.entries, []);
        assert_eq!(storage.journal.payload(chunk.inputs[0].clone()).await.unwrap(), Payload::json("0"));
    }
    assert_eq!(claim(None, 2).await, two, "an answer that was lost");
    assert_eq!(firsts(&claim(Some(1), 9).await), [2, 3]);
    settled(&storage, map, vec![whole(0, 0, vec![done(0)])]).await;
    assert_eq!(firsts(&claim(None, 9).await), [1, 2, 3], "a whole chunk is not claimed");
}

pub(crate) async fn a_chunk_leased_at_a_restart_was_lost_once(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 1).await;
    kept(&storage, map, 1, inputs(1), false).await;
    let mut storage = storage;
    for lost in 1..=2 {
        storage = rejoined(engine, storage).await;
        let holder = storage.members.join().await.unwrap();
        for _ in 0..2 {
            let claimed = storage.journal.claim_chunks(map, None, 1).await.unwrap();
            assert_eq!(claimed[0].lease, Lease { is_leased: true, lost, len: 1, holder: Some(holder) });
        }
    }
    let pending = storage.journal.pending(map, Some(0), 1).await.unwrap();
    assert_eq!(pending[0].lease, Lease { len: 1, ..Lease::default() }, "it was never leased");
}

pub(crate) async fn outcomes_are_counted_and_add_up(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 3).await;
    let first = settled(&storage, map, vec![segment(0, 1, vec![done(1), retry(0, 5)])]).await;
    let second = settled(&storage, map, vec![segment(0, 2, vec![dead(0)])]).await;
    let counts = |record: &super::super::MapRecord| {
        let progress = &record.progress;
        (progress.done, progress.dead, progress.retried, progress.receipt.attempts, progress.receipt.wall_us)
    };
    assert_eq!((counts(&first), counts(&second)), ((1, 0, 1, 2, 20), (1, 1, 1, 3, 30)));
    assert_eq!(map_record(&storage, map).await, second);
    assert_eq!(second.state(), MapState::Open);
}

pub(crate) async fn a_repeated_settle_of_a_map_counts_once(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 2).await;
    let settle = map_settle(map, vec![segment(0, 1, vec![done(1), retry(0, 5)])]);
    let first = settle_map(&storage, settle.clone()).await;
    assert!(matches!(first, MapSettled::Kept(_)));
    assert_eq!(settle_map(&storage, settle.clone()).await, first);
    let second = settled(&storage, map, vec![segment(0, 2, vec![retry(0, 6)])]).await;
    assert_eq!(settle_map(&storage, settle).await, MapSettled::Kept(Box::new(second)), "also a late repetition");
    let claimed = storage.journal.claim_chunks(map, None, 1).await.unwrap();
    assert_eq!(claimed[0].chunk.as_ref().unwrap().entries.len(), 3);
}

/// The answer may be `Kept`, or `Ended` where the settle ended the map.
pub(crate) async fn a_repeated_settle_that_made_a_chunk_whole_counts_once(engine: &impl Engine) {
    let storage = joined(engine).await;
    // With the segment that replaces others, and with one more segment.
    let updates: [fn(u64) -> ChunkUpdate; 2] = [
        |first| whole(first, 1, vec![done(first), done(first + 1)]),
        |first| ChunkUpdate { is_whole: true, ..segment(first, 2, vec![done(first + 1)]) },
    ];
    for update in updates {
        let map = running_map(&storage, 2).await;
        kept(&storage, map, 2, inputs(2), true).await;
        for first in [0, 2] {
            settled(&storage, map, vec![segment(first, 1, vec![done(first)])]).await;
            let delta = delta(&[done(first + 1)]);
            let settle = MapSettle { map, chunks: vec![update(first)], delta, is_drained: false };
            for _ in 0..2 {
                let answer = settle_map(&storage, settle.clone()).await;
                let MapSettled::Kept(record) = answer else { panic!("{answer:?}") };
                assert_eq!(record.progress.done, first + 2);
            }
        }
        mark(&storage, map, MapMark::Close).await;
    }
    let map = running_map(&storage, 1).await;
    mark(&storage, map, MapMark::Close).await;
    let settle = map_settle(map, vec![whole(0, 0, vec![done(0)])]);
    let MapSettled::Kept(record) = settle_map(&storage, settle.clone()).await else { panic!() };
    let again = settle_map(&storage, settle).await;
    assert!(again == MapSettled::Kept(record.clone()) || again == MapSettled::Ended(record), "{again:?}");
}

pub(crate) async fn a_settle_with_a_chunk_of_another_writes_nothing(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 1).await;
    kept(&storage, map, 1, inputs(1), false).await;
    let before = map_record(&storage, map).await;
    let settle = map_settle(map, vec![segment(0, 1, vec![done(0)]), segment(1, 1, vec![done(1)])]);
    assert_eq!(settle_map(&storage, settle.clone()).await, MapSettled::Fenced, "the second was never leased");
    assert_eq!(map_record(&storage, map).await, before);
    assert_eq!(storage.journal.outcomes(map, 0).await.unwrap().unwrap().entries, []);

    let storage = rejoined(engine, storage).await;
    let first = map_settle(map, vec![segment(0, 1, vec![done(0)])]);
    assert_eq!(settle_map(&storage, first).await, MapSettled::Fenced, "the first was leased before the restart");
    storage.journal.claim_chunks(map, None, 2).await.unwrap();
    assert!(matches!(settle_map(&storage, settle).await, MapSettled::Kept(_)));
}

pub(crate) async fn a_closed_map_ends_with_its_last_outcome(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 2).await;
    let before_ms = storage.journal.now_ms();
    assert_eq!(mark(&storage, map, MapMark::Close).await.state(), MapState::Running);
    let running = settled(&storage, map, vec![segment(0, 1, vec![done(0)])]).await;
    assert_eq!(running.progress.ended_ms, None);
    let chunks = vec![whole(0, 1, vec![done(0), dead(1)])];
    let settle = MapSettle { map, chunks, delta: delta(&[dead(1)]), is_drained: false };
    let MapSettled::Kept(record) = settle_map(&storage, settle.clone()).await else { panic!() };
    let ended_ms = record.progress.ended_ms.expect("it was the last");
    assert!((before_ms..=storage.journal.now_ms()).contains(&ended_ms));
    assert_eq!((record.state(), map_record(&storage, map).await), (MapState::Done, *record.clone()));
    assert_eq!(
        storage.journal.held_maps(None, 10).await.unwrap().iter().filter(|held| held.header.id == map).count(),
        0
    );
    let late = settle_map(&storage, map_settle(map, Vec::new())).await;
    assert_eq!(late, MapSettled::Ended(record));
}

pub(crate) async fn a_map_that_is_closed_after_its_last_outcome_ends_with_the_next_settle(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 1).await;
    let record = settled(&storage, map, vec![whole(0, 0, vec![done(0)])]).await;
    assert_eq!(record.progress.ended_ms, None, "more inputs may come");
    close_and_end(&storage, map).await;
}

pub(crate) async fn an_empty_map_ends_with_the_settle_after_its_close(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = open_map(&storage).await;
    close_and_end(&storage, map).await;
}

async fn close_and_end(storage: &Storage, map: MapId) {
    assert_eq!(mark(storage, map, MapMark::Close).await.progress.ended_ms, None);
    let record = settled(storage, map, Vec::new()).await;
    assert!(record.progress.ended_ms.is_some());
    assert_eq!(record.state(), MapState::Done);
    assert_eq!(storage.journal.open().maps, 0);
}

pub(crate) async fn a_cancelled_map_ends_once_it_is_drained(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 3).await;
    let marked = mark(&storage, map, MapMark::Cancel).await;
    assert_eq!((marked.state(), marked.progress.ended_ms), (MapState::Cancelled, None));
    let running = settled(&storage, map, vec![segment(0, 1, vec![done(0)])]).await;
    assert_eq!(running.progress.ended_ms, None);
    let drained = MapSettle { is_drained: true, ..map_settle(map, Vec::new()) };
    let MapSettled::Kept(record) = settle_map(&storage, drained.clone()).await else { panic!() };
    assert!(record.progress.ended_ms.is_some());
    assert_eq!((record.cancelled(), record.progress.done), (2, 1));
    assert_eq!(settle_map(&storage, drained).await, MapSettled::Ended(record));

    let map = running_map(&storage, 1).await;
    let drained = MapSettle { is_drained: true, ..map_settle(map, Vec::new()) };
    let MapSettled::Kept(record) = settle_map(&storage, drained).await else { panic!() };
    assert_eq!(record.progress.ended_ms, None, "it was not cancelled");
}

pub(crate) async fn a_mark_is_idempotent(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = running_map(&storage, 1).await;
    let closed = mark(&storage, map, MapMark::Close).await;
    assert!(closed.header.is_closed && !closed.header.is_cancelled);
    assert_eq!(mark(&storage, map, MapMark::Close).await, closed);
    let cancelled = mark(&storage, map, MapMark::Cancel).await;
    assert!(cancelled.header.is_closed && cancelled.header.is_cancelled);
    assert_eq!(mark(&storage, map, MapMark::Cancel).await, cancelled);
    assert_eq!(map_record(&storage, map).await, cancelled);
    let map = running_map(&storage, 1).await;
    let cancelled = mark(&storage, map, MapMark::Cancel).await;
    assert_eq!(mark(&storage, map, MapMark::Close).await, cancelled, "closing adds nothing to a cancel");
}

pub(crate) async fn a_mark_of_a_map_that_has_ended_changes_nothing(engine: &impl Engine) {
    let storage = joined(engine).await;
    let map = ended_map(&storage).await;
    let record = map_record(&storage, map).await;
    for kind in [MapMark::Cancel, MapMark::Close] {
        assert_eq!(mark(&storage, map, kind).await, record);
    }
    assert_eq!(map_record(&storage, map).await, record);
}

pub(crate) async fn a_mark_of_an_unknown_map_finds_none(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(storage.journal.mark(MapId::generate(), MapMark::Close).await.unwrap(), None);
    assert_eq!(storage.journal.map(MapId::generate()).await.unwrap(), None);
}
