//! Random sequences of operations: two engines give the same answers, whatever happens on them.
//!
//! A [`Player`] plays steps on one engine as a careful caller would: it settles only what it claimed, and repeats an
//! operation whose answer was lost. Two players are given the same ids, so that their answers can be compared as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::prelude::*;

use super::super::{
    Accept, Append, CallRecord, CallSettle, ChunkUpdate, Claimed, ClaimedChunk, Entry, ErrorKind, Idempotency,
    Increment, KeyQuery, Kind, LeaseHolder, MapMark, MapRecord, MapSettle, NewRecord, Place, Query, RunOutcome,
    ScheduleStep, ScheduledRun, Settled, State, Storage, StorageError,
};
use super::Engine;
use super::fixtures::*;
use crate::call::Payload;
use crate::ids::{CallId, HostId, MapId};

const CALLS: usize = 5;
const MAPS: usize = 3;
const APPS: [&str; 2] = ["a", "b"];
const KEYS: [&str; 3] = ["", "k", "ä"];
/// Tries of one operation whose answers are lost.
const TRIES_MAX: usize = 200;

/// One step. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    AcceptCall {
        call: usize,
        is_leased: bool,
        key: Option<u8>,
        parent: Option<usize>,
        open_max: usize,
    },
    AcceptMap {
        map: usize,
        parent: Option<usize>,
        open_max: usize,
    },
    Claim {
        call: usize,
    },
    /// Under the lease that the player knows of, or without one.
    Settle {
        call: usize,
        to: State,
        is_late: bool,
        has_lease: bool,
    },
    Append {
        map: usize,
        gap: u64,
        len: u64,
        is_leased: bool,
    },
    Mark {
        map: usize,
        mark: MapMark,
    },
    ClaimChunks {
        map: usize,
        after: Option<u64>,
        limit: usize,
    },
    /// Two bits of `outcomes` decide about each input of a chunk that the player knows of.
    SettleMap {
        map: usize,
        chunk: usize,
        outcomes: u64,
        is_merged: bool,
        is_drained: bool,
    },
    RepeatSettleMap,
    RunAgain {
        map: usize,
    },
    BeginRun {
        call: usize,
    },
    Expire {
        app: usize,
    },
    Push {
        app: usize,
        number: u64,
        displaced: u64,
    },
    Set {
        key: usize,
        value: u8,
        /// In the past, or far ahead.
        expires: Option<bool>,
    },
    SetMany {
        keys: [usize; 2],
        value: u8,
    },
    ExpireValues,
    Delete {
        key: usize,
    },
    Swap {
        key: usize,
        expected: Option<u8>,
        value: u8,
    },
    Increment {
        key: usize,
        delta: i128,
    },
    Restart,
}

/// Draws sequences of steps. A swap and an increment cannot be repeated, so they are left out of `is_repeatable` ones.
pub(crate) fn steps(is_repeatable: bool) -> impl Strategy<Value = Vec<Step>> {
    let index = || 0..15_usize;
    let mark = prop_oneof![Just(MapMark::Close), Just(MapMark::Cancel)];
    let to = prop_oneof![
        3 => Just(State::Waiting), 2 => Just(State::Done), 1 => Just(State::Failed), 1 => Just(State::Cancelled)
    ];
    let journal = prop_oneof![
        3 => (index(), any::<bool>(), proptest::option::of(0..2_u8), proptest::option::of(index()), 1..6_usize).prop_map(
            |(call, is_leased, key, parent, open_max)| Step::AcceptCall { call, is_leased, key, parent, open_max }
        ),
        3 => (index(), proptest::option::of(index()), 1..4_usize)
            .prop_map(|(map, parent, open_max)| Step::AcceptMap { map, parent, open_max }),
        4 => index().prop_map(|call| Step::Claim { call }),
        4 => (index(), to, any::<bool>(), proptest::bool::weighted(0.8))
            .prop_map(|(call, to, is_late, has_lease)| Step::Settle { call, to, is_late, has_lease }),
        5 => (index(), prop_oneof![9 => Just(0_u64), 1 => 1..3_u64], 1..5_u64, any::<bool>())
            .prop_map(|(map, gap, len, is_leased)| Step::Append { map, gap, len, is_leased }),
        2 => (index(), mark).prop_map(|(map, mark)| Step::Mark { map, mark }),
        4 => (index(), proptest::option::of(0..6_u64), 1..4_usize)
            .prop_map(|(map, after, limit)| Step::ClaimChunks { map, after, limit }),
        9 => (index(), index(), any::<u64>(), any::<bool>(), proptest::bool::weighted(0.3)).prop_map(
            |(map, chunk, outcomes, is_merged, is_drained)| {
                Step::SettleMap { map, chunk, outcomes, is_merged, is_drained }
            }
        ),
        2 => Just(Step::RepeatSettleMap),
        2 => index().prop_map(|map| Step::RunAgain { map }),
        1 => index().prop_map(|call| Step::BeginRun { call }),
        1 => index().prop_map(|app| Step::Expire { app }),
        1 => Just(Step::Restart),
    ];
    let data = prop_oneof![
        (index(), 0..4_u64, 0..4_u64).prop_map(|(app, number, displaced)| Step::Push { app, number, displaced }),
        (index(), 0..3_u8, proptest::option::of(proptest::bool::weighted(0.3)))
            .prop_map(|(key, value, expires)| Step::Set { key, value, expires }),
        ([index(), index()], 0..3_u8).prop_map(|(keys, value)| Step::SetMany { keys, value }),
        Just(Step::ExpireValues),
        index().prop_map(|key| Step::Delete { key }),
    ];
    let atomic = prop_oneof![
        (index(), proptest::option::of(0..3_u8), 0..3_u8).prop_map(|(key, expected, value)| Step::Swap {
            key,
            expected,
            value
        }),
        (index(), -3..3_i128).prop_map(|(key, delta)| Step::Increment { key, delta }),
    ];
    let weight = if is_repeatable { 0 } else { 1 };
    proptest::collection::vec(prop_oneof![12 => journal, 1 => data, weight => atomic], 1..60)
}

/// Ids that the players share.
struct Ids {
    calls: [CallId; CALLS],
    maps: [MapId; MAPS],
}

/// Chunk that a player claimed, with what it settled since.
struct KnownChunk {
    len: u64,
    entries: Vec<Entry>,
    segments: u32,
}

struct Player<'a, E> {
    engine: &'a E,
    ids: &'a Ids,
    /// None only while the engine starts again.
    storage: Option<Storage>,
    holder: LeaseHolder,
    /// Calls as they were claimed.
    claimed: BTreeMap<usize, CallRecord>,
    chunks: BTreeMap<(usize, u64), KnownChunk>,
    last: Option<MapSettle>,
    /// Calls and maps that were there once. An id is used once, so one that is gone is not accepted again.
    seen: BTreeSet<(Kind, usize)>,
}

/// Calls until the answer is not lost.
async fn sure<T>(mut operation: impl AsyncFnMut() -> Result<T, StorageError>) -> Result<T, ErrorKind> {
    for _ in 0..TRIES_MAX {
        match operation().await {
            Err(error) if error.kind() == ErrorKind::Unknown => {}
            answer => return answer.map_err(|error| error.kind()),
        }
    }
    panic!("{TRIES_MAX} answers in a row were lost");
}

impl<'a, E: Engine> Player<'a, E> {
    async fn new(engine: &'a E, ids: &'a Ids) -> Self {
        let storage = engine.fresh().await;
        let holder = sure(async || storage.members.join().await).await.expect("it joins");
        let (claimed, chunks, seen) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { engine, ids, storage: Some(storage), holder, claimed, chunks, last: None, seen }
    }

    fn storage(&self) -> &Storage {
        self.storage.as_ref().expect("it has started")
    }

    /// Returns an answer as text.
    fn text(&self, answer: impl Debug) -> String {
        format!("{answer:?}")
    }

    /// Returns a holder as two engines have it in common: the player's own, or another.
    fn holder_text(&self, holder: Option<LeaseHolder>) -> Option<LeaseHolder> {
        holder.map(|holder| LeaseHolder { owner: HostId::from_bytes([u8::from(holder == self.holder); 16]), epoch: 0 })
    }

    fn call_text(&self, record: CallRecord) -> CallRecord {
        CallRecord { lease: self.holder_text(record.lease), ..record }
    }

    /// Returns a map without the time at which it ended.
    fn map_text(&self, mut record: MapRecord) -> MapRecord {
        record.progress.ended_ms = record.progress.ended_ms.map(|_| 0);
        record
    }

    fn known_call(&self, call: usize) -> CallRecord {
        let function = function(APPS[call % 2], "f");
        CallRecord { id: self.ids.calls[call], ..call_of(&function) }
    }

    async fn play(&mut self, step: &Step) -> String {
        let journal = self.storage().journal.clone();
        let place = |app| Place { app, bucket: "x", key: KEYS[0] };
        let app_a = app("a");
        match step.clone() {
            Step::AcceptCall { call, is_leased, key, parent, open_max } => {
                let call = call % CALLS;
                let record = CallRecord {
                    state: if is_leased { State::Leased } else { State::Accepted },
                    attempts: u32::from(is_leased),
                    parent: parent.map(|parent| self.ids.calls[parent % CALLS]),
                    idempotency_key: key.map(|key| key.to_string()),
                    ..self.known_call(call)
                };
                let idempotency = key.map(|key| Idempotency { key: key.to_string(), fingerprint: [key; 32] });
                let is_there = self.call(call).await.is_some();
                // A repetition with a key may be answered either way.
                let is_skipped = if is_there { key.is_some() } else { self.seen.contains(&(Kind::Call, call)) };
                if is_skipped {
                    return String::new();
                }
                let input = Payload::json(call.to_string());
                let new = NewRecord::Call(Box::new(record.clone()), input);
                let new = Accept { record: new, idempotency, parent_map: None, open_max };
                let answer = sure(async || journal.accept(vec![new.clone()]).await).await;
                if let Some(kept) = sure(async || journal.call(record.id).await).await.expect("it is read") {
                    self.seen.insert((Kind::Call, call));
                    if kept.lease == Some(self.holder) {
                        self.claimed.insert(call, kept);
                    }
                }
                self.text(answer)
            }
            Step::AcceptMap { map, parent, open_max } => {
                let map = map % MAPS;
                let header = super::super::MapHeader {
                    id: self.ids.maps[map],
                    parent: parent.map(|parent| self.ids.calls[parent % CALLS]),
                    ..map_of(&function(APPS[map % 2], "f"))
                };
                let new = Accept { open_max, ..accept_map(&header) };
                if self.map(map).await.is_none() && self.seen.contains(&(Kind::Map, map)) {
                    return String::new();
                }
                let answer = sure(async || journal.accept(vec![new.clone()]).await).await;
                if self.map(map).await.is_some() {
                    self.seen.insert((Kind::Map, map));
                }
                self.text(answer)
            }
            Step::Claim { call } => {
                let call = call % CALLS;
                let id = self.ids.calls[call];
                let answer = sure(async || journal.claim(id, Some(version(1))).await).await;
                if let Ok(Claimed::Leased(record)) = &answer {
                    self.claimed.insert(call, (**record).clone());
                }
                self.text(answer.map(|answer| match answer {
                    Claimed::Leased(record) => Claimed::Leased(Box::new(self.call_text(*record))),
                    other => other,
                }))
            }
            Step::Settle { call, to, is_late, has_lease } => self.settle(call % CALLS, to, is_late, has_lease).await,
            Step::Append { map, gap, len, is_leased } => {
                let (slot, map) = (map % MAPS, self.ids.maps[map % MAPS]);
                let Some(before) = self.map(slot).await else { return String::new() };
                let at = before.header.accepted + gap;
                // A repetition finds a gap where its own inputs are.
                let _ =
                    sure(async || journal.append(Append { map, at, inputs: inputs(len), is_leased }).await.map(drop))
                        .await;
                self.text(self.map(slot).await)
            }
            Step::Mark { map, mark } => {
                let map = self.ids.maps[map % MAPS];
                let answer = sure(async || journal.mark(map, mark).await).await;
                self.text(answer.map(|map| map.map(|map| self.map_text(map))))
            }
            Step::ClaimChunks { map, after, limit } => self.claim_chunks(map % MAPS, after, limit).await,
            Step::SettleMap { map, chunk, outcomes, is_merged, is_drained } => {
                self.settle_map(map % MAPS, chunk, outcomes, is_merged, is_drained).await
            }
            Step::RepeatSettleMap => match self.last.clone() {
                Some(settle) => {
                    let _ = sure(async || journal.settle_map(settle.clone()).await.map(drop)).await;
                    String::new()
                }
                None => String::new(),
            },
            Step::RunAgain { map } => self.run_again(map % MAPS).await,
            Step::BeginRun { call } => self.begin_run(call % CALLS).await,
            Step::Expire { app } => {
                let app = self::app(APPS[app % 2]);
                for _ in 0..TRIES_MAX {
                    match sure(async || journal.expire(&app, u64::MAX).await).await {
                        Ok(true) => {}
                        answer => return self.text(answer),
                    }
                }
                panic!("it expires for ever");
            }
            Step::Push { app, number, displaced } => {
                let app = self::app(APPS[app % 2]);
                let record = super::apps::record(number);
                self.text(sure(async || self.storage().apps.push(&app, &record, &[displaced]).await).await)
            }
            Step::Set { key, value, expires } => {
                let at = Place { key: KEYS[key % 3], ..place(&app_a) };
                let expires_ms = expires.map(|is_past| if is_past { 1 } else { u64::MAX });
                let set = async || self.storage().key_value.set(at, value.to_string().into(), expires_ms).await;
                self.text(sure(set).await)
            }
            Step::SetMany { keys, value } => {
                let values = keys.map(|key| (KEYS[key % 3].to_owned(), value.to_string().into()));
                let set = async || self.storage().key_value.set_many(&app_a, "x", values.clone().into()).await;
                self.text(sure(set).await)
            }
            Step::ExpireValues => {
                for _ in 0..TRIES_MAX {
                    match sure(async || self.storage().key_value.expire().await).await {
                        Ok(true) => {}
                        answer => return self.text(answer),
                    }
                }
                panic!("it expires for ever");
            }
            Step::Delete { key } => {
                let at = Place { key: KEYS[key % 3], ..place(&app_a) };
                self.text(sure(async || self.storage().key_value.delete(at).await).await)
            }
            Step::Swap { key, expected, value } => {
                let at = Place { key: KEYS[key % 3], ..place(&app_a) };
                let expected = expected.map(|expected| expected.to_string().into());
                self.text(
                    self.storage().key_value.swap(at, expected, value.to_string().into()).await.expect("no faults"),
                )
            }
            Step::Increment { key, delta } => {
                let at = Place { key: KEYS[key % 3], ..place(&app_a) };
                let increment = Increment { delta, min: -5, max: 5 };
                self.text(self.storage().key_value.increment(at, increment).await.expect("no faults"))
            }
            Step::Restart => {
                drop(journal);
                self.claimed.clear();
                let earlier = self.storage.take().expect("it has started");
                self.storage = Some(self.engine.restart(earlier).await);
                self.holder = sure(async || self.storage().members.join().await).await.expect("it joins");
                String::new()
            }
        }
    }

    async fn map(&self, map: usize) -> Option<MapRecord> {
        let found = sure(async || self.storage().journal.map(self.ids.maps[map]).await).await;
        found.expect("it is read").map(|map| self.map_text(map))
    }

    async fn call(&self, call: usize) -> Option<CallRecord> {
        let found = sure(async || self.storage().journal.call(self.ids.calls[call]).await).await;
        found.expect("it is read").map(|record| self.call_text(record))
    }

    async fn settle(&mut self, call: usize, to: State, is_late: bool, has_lease: bool) -> String {
        let Some(present) = self.call(call).await else { return String::new() };
        let known = self.claimed.get(&call).cloned();
        let (base, lease) = match known.filter(|_| has_lease) {
            Some(known) => (known.clone(), token(&known)),
            None => (present, None),
        };
        let record = match to {
            // Without a lease, a call only ends.
            State::Waiting if lease.is_some() => waiting(&base, if is_late { u64::MAX >> 2 } else { 1 }),
            State::Waiting => ended(&base, State::Cancelled),
            to => ended(&base, to),
        };
        let output = (record.state == State::Done).then(|| Payload::json("2"));
        let settle = CallSettle { record: Box::new(record), lease, output };
        let answer = sure(async || self.storage().journal.settle(settle.clone()).await).await;
        // A repetition may be answered as the end that it is.
        let is_fenced = matches!(answer, Ok(Settled::Fenced));
        format!("{is_fenced} {:?}", self.call(call).await)
    }

    async fn claim_chunks(&mut self, map: usize, after: Option<u64>, limit: usize) -> String {
        if self.map(map).await.is_none() {
            return String::new();
        }
        self.last = None;
        let id = self.ids.maps[map];
        let answer = sure(async || self.storage().journal.claim_chunks(id, after, limit).await).await;
        let answer = answer.map(|claimed| {
            let claimed = claimed.into_iter().map(|claimed| {
                let ClaimedChunk { first, lease, chunk } = &claimed;
                if let Some(chunk) = chunk {
                    let (entries, segments) = (chunk.entries.clone(), chunk.segments);
                    let known = KnownChunk { len: chunk.inputs.len() as u64, entries, segments };
                    self.chunks.insert((map, *first), known);
                }
                let holder = self.holder_text(lease.holder);
                ClaimedChunk { lease: super::super::Lease { holder, ..*lease }, ..claimed }
            });
            claimed.collect::<Vec<_>>()
        });
        self.text(answer)
    }

    /// Settles some inputs of one chunk, as its caller would: each input once, and the segments in order.
    async fn settle_map(
        &mut self,
        map: usize,
        pick: usize,
        mut outcomes: u64,
        is_merged: bool,
        is_drained: bool,
    ) -> String {
        if self.map(map).await.is_none() {
            return String::new();
        }
        let firsts: Vec<u64> = self.chunks.keys().filter(|(of, _)| *of == map).map(|(_, first)| *first).collect();
        let (mut chunks, mut new) = (Vec::new(), Vec::new());
        let first = firsts.get(pick % firsts.len().max(1)).copied();
        if let Some((first, known)) = first.and_then(|first| Some((first, self.chunks.get(&(map, first))?))) {
            let is_settled = |all: &[Entry], index| all.iter().any(|entry| entry.index == index && entry.is_outcome());
            for index in first..first + known.len {
                let bits = outcomes & 3;
                outcomes >>= 2;
                if !is_settled(&known.entries, index) {
                    new.extend(match bits {
                        0 => None,
                        1 => Some(retry(index, 1)),
                        2 => Some(dead(index)),
                        _ => Some(done(index)),
                    });
                }
            }
            let all: Vec<Entry> = known.entries.iter().chain(&new).cloned().collect();
            let is_whole = (first..first + known.len).all(|index| is_settled(&all, index));
            let replaces = (is_whole && is_merged).then_some(known.segments);
            let mut entries = new.clone();
            if replaces.is_some() {
                entries = all.into_iter().filter(Entry::is_outcome).collect();
                entries.sort_by_key(|entry| entry.index);
            }
            if !new.is_empty() {
                chunks.push(ChunkUpdate { first, entries, segment: known.segments + 1, replaces, is_whole });
            }
        }
        let settle = MapSettle { map: self.ids.maps[map], chunks, delta: delta(&new), is_drained };
        let answer = sure(async || self.storage().journal.settle_map(settle.clone()).await).await;
        if let (Ok(super::super::MapSettled::Kept(_)), Some(update)) = (&answer, settle.chunks.first()) {
            if update.is_whole {
                self.chunks.remove(&(map, update.first));
            } else if let Some(known) = self.chunks.get_mut(&(map, update.first)) {
                known.segments += 1;
                known.entries.extend(new);
            }
        }
        let is_fenced = matches!(answer, Ok(super::super::MapSettled::Fenced));
        if !is_fenced {
            self.last = Some(settle);
        }
        format!("{is_fenced} {:?}", self.map(map).await)
    }

    async fn run_again(&mut self, map: usize) -> String {
        let Some(before) = self.map(map).await.filter(|map| map.progress.ended_ms.is_some()) else {
            return String::new();
        };
        self.last = None;
        self.chunks.retain(|(of, _), _| *of != map);
        let (id, mut index) = (self.ids.maps[map], 0);
        while let Ok(Some(outcomes)) = sure(async || self.storage().journal.outcomes(id, index).await).await {
            sure(async || self.storage().journal.reset_failures(id, outcomes.first).await).await.expect("it is reset");
            index = outcomes.first + outcomes.len;
        }
        assert!(index <= before.header.accepted);
        self.text(self.map(map).await)
    }

    /// Begins a scheduled run that is a call, if there was no such call yet.
    async fn begin_run(&mut self, call: usize) -> String {
        if self.call(call).await.is_some() || self.seen.contains(&(Kind::Call, call)) {
            return String::new();
        }
        let number = call as u64 + 1;
        let record = CallRecord { state: State::Leased, attempts: 1, run: Some(number), ..self.known_call(call) };
        let run = ScheduledRun {
            number,
            owed: None,
            started: None,
            ended: None,
            call: Some(record.id),
            version: None,
            outcome: RunOutcome::Running,
        };
        let step = ScheduleStep {
            runs: vec![(record.function_id(), run)],
            begun: vec![(record.clone(), Payload::json("{}"))],
            ..ScheduleStep::default()
        };
        let answer = sure(async || self.storage().timetable.advance(&step).await).await;
        self.seen.insert((Kind::Call, call));
        self.claimed.insert(call, CallRecord { lease: Some(self.holder), ..record });
        self.text(answer)
    }

    /// Reads everything.
    async fn everything(&self) -> Vec<String> {
        let Storage { journal, timetable, apps, key_value, .. } = self.storage();
        let mut all = Vec::new();
        for (slot, id) in self.ids.calls.into_iter().enumerate() {
            all.push(self.text(self.call(slot).await));
            if self.call(slot).await.is_some() {
                all.push(self.text(journal.call_input(id).await));
                all.push(self.text(journal.call_output(id).await));
                all.push(self.text(journal.children(id, None, 100).await));
            }
        }
        for (slot, id) in self.ids.maps.into_iter().enumerate() {
            let map = self.map(slot).await;
            all.push(self.text(&map));
            for index in 0..map.map_or(0, |map| map.header.accepted) {
                all.push(self.text((journal.map_input(id, index).await, journal.outcomes(id, index).await)));
            }
            let pending = journal.pending(id, None, 100).await.expect("it is read").into_iter();
            all.extend(pending.map(|chunk| self.text((chunk.first, chunk.lease.is_leased, chunk.lease.lost))));
        }
        let open = journal.held(None, 100).await.expect("it is read").into_iter();
        all.extend(open.map(|call| self.text((call.id, call.function, call.run))));
        let maps = journal.held_maps(None, 100).await.expect("it is read").into_iter();
        all.extend(maps.map(|map| self.text(map.header.id)));
        all.push(self.text(journal.open()));
        let (listed, next) = journal.list(Query { limit: 100, ..Query::default() }).await.expect("it is read");
        all.push(self.text((listed.len(), next)));
        let mut ended = journal.apps_with_ended().await.expect("it is read");
        ended.sort();
        all.push(self.text(ended));
        for name in APPS {
            all.push(self.text(timetable.runs(&function(name, "f")).await));
        }
        all.push(self.text(apps.records().await));
        for key in KEYS {
            all.push(self.text(key_value.get(Place { app: &app("a"), bucket: "x", key }).await));
        }
        let app_a = app("a");
        let query = KeyQuery { app: &app_a, bucket: "x", prefix: "", after: None, len_max: 10, bytes_max: 1_000 };
        all.push(self.text(key_value.keys(query).await));
        let keys = KEYS.map(str::to_owned);
        all.push(self.text(key_value.get_many(&app_a, "x", &keys, 1_000).await));
        all
    }
}

/// Plays steps on two engines. Each answer, and everything there is in the end, is the same.
pub(crate) async fn agree(one: &impl Engine, other: &impl Engine, steps: &[Step]) {
    let ids =
        Ids { calls: std::array::from_fn(|_| CallId::generate()), maps: std::array::from_fn(|_| MapId::generate()) };
    let (mut one, mut other) = (Player::new(one, &ids).await, Player::new(other, &ids).await);
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(one.play(step).await, other.play(step).await, "step {number}: {step:?}");
    }
    assert_eq!(one.everything().await, other.everything().await);
}
