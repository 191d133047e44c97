//! Tests of the queue: turns and order, owners, and random traffic over a model of the journal.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ids::{AppName, FunctionName};

const SMALL: Bounds = Bounds { ready: 7, lane: 4, lane_min: 2, retries: 2, page: 3 };

fn function(name: &str) -> FunctionId {
    FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new(name).unwrap() }
}

fn lane(name: &str, priority: Priority) -> LaneKey {
    LaneKey { function: function(name), priority }
}

fn id(n: u64) -> CallId {
    CallId::from_bytes(u128::from(n).to_be_bytes())
}

fn open(n: u64, name: &str, priority: Priority) -> OpenCall {
    OpenCall { id: id(n), function: function(name), priority, next_ms: None }
}

fn queue(bounds: Bounds) -> CallQueue {
    CallQueue { bounds, ..CallQueue::default() }
}

/// Ends calls as they are leased; returns them in that order.
fn drain(queue: &mut CallQueue, now_ms: u64) -> Vec<CallId> {
    let mut calls = Vec::new();
    while let Some(lease) = queue.next(now_ms, |_| Some(1)) {
        calls.push(lease.call);
        assert_eq!(queue.attempt_ended(&lease, AttemptEnd::Ended), OwnerAction::Release);
    }
    calls
}

fn is_empty(queue: &CallQueue) -> bool {
    let CallQueue { calls, functions, ready, owned, pauses, panics, .. } = queue;
    (calls.len(), functions.len(), *ready, *owned, pauses.len(), panics.len()) == (0, 0, 0, 0, 0, 0)
}

#[test]
fn functions_take_turns_and_urgent_calls_go_first() {
    let mut queue = queue(SMALL);
    for (n, priority) in [(1, Priority::Low), (2, Priority::Normal), (3, Priority::High)] {
        queue.accepted(open(n, "f", priority));
    }
    queue.accepted(open(4, "g", Priority::Low));
    assert_eq!(drain(&mut queue, 0), [3, 4, 2, 1].map(id));
    assert!(is_empty(&queue));
}

#[test]
fn a_function_that_is_full_or_gone_keeps_its_calls() {
    let mut queue = queue(SMALL);
    let first = queue.begin(id(1), lane("f", Priority::Normal), 1).unwrap();
    queue.accepted(open(2, "f", Priority::Normal));
    assert_eq!(queue.next(0, |_| Some(1)), None);
    queue.attempt_ended(&first, AttemptEnd::Ended);
    assert_eq!(queue.next(0, |_| None), None);
    // A waiting call goes before a new one.
    assert_eq!(queue.begin(id(3), lane("f", Priority::Normal), 1), None);
    assert_eq!(drain(&mut queue, 0), [id(2)]);
}

#[test]
fn a_parent_that_waits_lends_its_place_and_resumes_without_one() {
    let mut queue = queue(SMALL);
    let parent = queue.begin(id(1), lane("f", Priority::Normal), 1).unwrap();
    let (run, again) = (queue.parent_waits(id(1)).unwrap(), queue.parent_waits(id(1)).unwrap());
    let child = queue.begin(id(2), lane("f", Priority::Normal), 1).unwrap();
    queue.parent_resumes(id(1), run);
    queue.parent_resumes(id(1), again);
    queue.accepted(open(3, "f", Priority::Normal));
    queue.attempt_ended(&child, AttemptEnd::Ended);
    assert_eq!(queue.next(0, |_| Some(1)), None);
    // A wait that is over after its run changes nothing.
    let late = queue.parent_waits(id(1)).unwrap();
    queue.attempt_ended(&parent, AttemptEnd::Retry { at_ms: 0 });
    let next = queue.next(0, |_| Some(1)).unwrap();
    queue.parent_resumes(next.call, late);
    assert_eq!(queue.next(0, |_| Some(1)), None);
    queue.attempt_ended(&next, AttemptEnd::Ended);
    assert_eq!(drain(&mut queue, 0).len(), 1);
    assert!(is_empty(&queue));
}

#[test]
fn a_retry_begins_when_it_is_due() {
    let mut queue = queue(SMALL);
    queue.accepted(OpenCall { next_ms: Some(100), ..open(1, "f", Priority::Normal) });
    assert_eq!(queue.wake_ms(), Some(100));
    assert_eq!(drain(&mut queue, 99), []);
    assert_eq!(drain(&mut queue, 100), [id(1)]);
}

#[test]
fn a_cancel_reaches_a_call_in_every_state() {
    let mut queue = queue(SMALL);
    let running = queue.begin(id(1), lane("f", Priority::Normal), 1).unwrap();
    queue.accepted(open(2, "f", Priority::Normal));
    queue.accepted(OpenCall { next_ms: Some(9), ..open(3, "f", Priority::Normal) });
    assert_eq!(queue.cancel(id(1)), CancelAction::Stop);
    for waiting in [2, 3, 4] {
        assert_eq!(queue.cancel(id(waiting)), CancelAction::Write);
        assert_eq!(queue.cancel(id(waiting)), CancelAction::Wait);
        queue.cancelled(id(waiting));
    }
    // It was about to be tried again.
    assert_eq!(queue.attempt_ended(&running, AttemptEnd::Retry { at_ms: 5 }), OwnerAction::WriteCancelled);
    assert_eq!(queue.attempt_ended(&running, AttemptEnd::Ended), OwnerAction::Release);
    assert_eq!(drain(&mut queue, 99), []);
    assert!(is_empty(&queue));
}

#[test]
fn a_cancel_that_cannot_be_written_leaves_the_call_in_the_queue() {
    let mut queue = queue(SMALL);
    queue.accepted(open(1, "f", Priority::Normal));
    assert_eq!(queue.cancel(id(1)), CancelAction::Write);
    queue.cancel_failed(id(1), 10);
    assert_eq!(drain(&mut queue, 9), []);
    assert_eq!(drain(&mut queue, 10), [id(1)]);
    assert!(is_empty(&queue));
}

#[test]
fn a_call_over_which_the_host_panics_again_and_again_is_dead() {
    let mut queue = queue(SMALL);
    queue.accepted(open(1, "f", Priority::Normal));
    let mut now_ms = 0;
    for panic in 1..=PANICS_MAX {
        let lease = queue.next(now_ms, |_| Some(1)).unwrap();
        let action = queue.attempt_ended(&lease, AttemptEnd::Panicked { now_ms });
        if panic < PANICS_MAX {
            assert_eq!(action, OwnerAction::Release);
            now_ms = queue.wake_ms().unwrap();
        } else {
            assert_eq!(action, OwnerAction::WriteDead);
            assert_eq!(queue.attempt_ended(&lease, AttemptEnd::Ended), OwnerAction::Release);
        }
    }
    // 1, 2, 4 and 8 s.
    assert_eq!(now_ms, 15_000);
    assert!(is_empty(&queue));
}

/// Reads pages of `rows` until none is needed.
fn refill(queue: &mut CallQueue, rows: &BTreeMap<CallId, OpenCall>, now_ms: u64) -> usize {
    let mut pages = 0;
    let mut request = queue.page_to_read();
    while let Some(page) = request {
        pages += 1;
        request = queue.page_read(read(rows, page), now_ms).or_else(|| queue.page_to_read());
    }
    pages
}

fn read(rows: &BTreeMap<CallId, OpenCall>, PageRequest { after, limit }: PageRequest) -> Vec<OpenCall> {
    let from = after.map_or(Unbounded, Excluded);
    rows.range((from, Unbounded)).take(limit).map(|(_, row)| row.clone()).collect()
}

#[test]
fn more_calls_than_fit_run_once_each_in_their_order_within_the_bound() {
    let bounds = Bounds::default();
    let mut queue = queue(bounds);
    let rows: BTreeMap<_, _> = (1..=60_000)
        .map(|n| open(n, ["f", "g"][(n % 100 == 0) as usize], Priority::ALL[n as usize % 3]))
        .map(|row| (row.id, row))
        .collect();
    let mut open = rows.clone();
    for row in rows.values() {
        queue.accepted(row.clone());
        assert!(queue.calls.len() <= 6 * bounds.lane);
    }
    let (mut begun, mut pages) = (Vec::new(), 0);
    loop {
        pages += refill(&mut queue, &open, 0);
        let Some(lease) = queue.next(0, |_| Some(1)) else { break };
        open.remove(&lease.call);
        assert!(queue.calls.len() <= 6 * bounds.lane);
        begun.push(lease.call);
        queue.attempt_ended(&lease, AttemptEnd::Ended);
    }
    assert_eq!(begun.len(), rows.len());
    for priority in Priority::ALL {
        for name in ["f", "g"] {
            let is_of = |call: &&CallId| rows[*call].priority == priority && rows[*call].function == function(name);
            assert!(begun.iter().filter(is_of).is_sorted(), "{name} {priority:?}");
        }
    }
    // Urgent calls of a function first.
    let urgent =
        begun.iter().rposition(|call| rows[call].priority == Priority::High && rows[call].function == function("f"));
    let normal =
        begun.iter().position(|call| rows[call].priority == Priority::Normal && rows[call].function == function("f"));
    assert!(urgent < normal);
    assert!(is_empty(&queue));
    assert!(pages < 60_000 / (bounds.lane / 2) * 2, "{pages} pages");
}

#[test]
fn more_retries_than_fit_begin_in_the_order_of_their_times() {
    let bounds = Bounds { retries: 100, page: 64, ..Bounds::default() };
    let mut queue = queue(bounds);
    // Spread over time, in another order than the ids.
    let mut rows: BTreeMap<_, _> = (0..1_000)
        .map(|n| OpenCall { next_ms: Some(10 + n * 617 % 1_000), ..open(n, "f", Priority::Normal) })
        .map(|row| (row.id, row))
        .collect();
    for row in rows.values() {
        queue.accepted(row.clone());
    }
    let mut begun = Vec::new();
    for now_ms in 0..1_010 {
        refill(&mut queue, &rows, now_ms);
        assert!(queue.retries.len() <= bounds.retries);
        for call in drain(&mut queue, now_ms) {
            begun.extend(rows.remove(&call).and_then(|row| row.next_ms).map(|at_ms| (at_ms, now_ms)));
        }
    }
    assert_eq!(begun.len(), 1_000);
    assert!(begun.iter().all(|(at_ms, now_ms)| at_ms == now_ms));
    assert!(is_empty(&queue));
}

/// The queue over a model of the journal, with whatever is under way.
struct Traffic {
    queue: CallQueue,
    rows: BTreeMap<CallId, OpenCall>,
    /// On disk, and not told to the queue yet.
    accepting: Vec<OpenCall>,
    running: Vec<Lease>,
    waits: Vec<(CallId, u64)>,
    cancelling: Vec<CallId>,
    request: Option<PageRequest>,
    page: Option<Vec<OpenCall>>,
    made: u64,
    ended: BTreeSet<CallId>,
    now_ms: u64,
}

const CALLS_MAX: usize = 2;

impl Traffic {
    fn new() -> Self {
        Self {
            queue: queue(SMALL),
            rows: BTreeMap::new(),
            accepting: Vec::new(),
            running: Vec::new(),
            waits: Vec::new(),
            cancelling: Vec::new(),
            request: None,
            page: None,
            made: 0,
            ended: BTreeSet::new(),
            now_ms: 1,
        }
    }

    fn make(&mut self, pick: usize) -> OpenCall {
        // Neighbours swap places, so that they do not come in the order of their ids.
        let n = self.made ^ 1;
        self.made += 1;
        open(n, ["f", "g", "h"][pick % 3], Priority::ALL[pick / 3 % 2])
    }

    fn accept(&mut self, pick: usize) {
        let call = self.make(pick);
        self.rows.insert(call.id, call.clone());
        if pick % 4 == 0 { self.accepting.push(call) } else { self.queue.accepted(call) }
    }

    fn begin(&mut self, pick: usize) {
        let call = self.make(pick);
        let lane = LaneKey { function: call.function.clone(), priority: call.priority };
        let lease = self.queue.begin(call.id, lane, CALLS_MAX);
        self.rows.insert(call.id, call.clone());
        match lease {
            Some(lease) => self.lease(lease),
            None => self.accepting.push(call),
        }
    }

    fn next(&mut self, is_deployed: bool) -> bool {
        let max = |of: &FunctionId| (is_deployed || *of != function("h")).then_some(CALLS_MAX);
        let Some(lease) = self.queue.next(self.now_ms, max) else { return false };
        self.lease(lease);
        true
    }

    /// The owner of a call reads its record first.
    fn lease(&mut self, lease: Lease) {
        let is_owned =
            self.running.iter().any(|other| other.call == lease.call) || self.cancelling.contains(&lease.call);
        assert!(!is_owned, "{:?} has two owners", lease.call);
        let of_function = self.running.iter().filter(|other| {
            let waits = self.waits.iter().any(|(call, run)| (*call, *run) == (other.call, other.run));
            other.lane.function == lease.lane.function && !waits
        });
        assert!(of_function.count() < CALLS_MAX);
        match self.rows.get(&lease.call).map(|row| row.next_ms) {
            None => assert_eq!(self.queue.attempt_ended(&lease, AttemptEnd::Ended), OwnerAction::Release),
            Some(Some(at_ms)) if at_ms > self.now_ms => {
                self.queue.attempt_ended(&lease, AttemptEnd::Retry { at_ms });
            }
            Some(_) => self.running.push(lease),
        }
    }

    fn end(&mut self, call: CallId) {
        assert!(self.rows.remove(&call).is_some(), "{call} ended twice");
        assert!(self.ended.insert(call));
    }

    fn attempt_ends(&mut self, pick: usize, time: u64) {
        if self.running.is_empty() {
            return;
        }
        let lease = self.running.swap_remove(pick % self.running.len());
        let at_ms = self.now_ms + time;
        let next_ms = &mut self.rows.get_mut(&lease.call).expect("a call that runs has not ended").next_ms;
        let end = match pick / 16 % 5 {
            0 | 1 => AttemptEnd::Ended,
            2 => {
                *next_ms = Some(at_ms);
                AttemptEnd::Retry { at_ms }
            }
            3 => AttemptEnd::Paused { at_ms },
            _ => AttemptEnd::Panicked { now_ms: self.now_ms },
        };
        if end == AttemptEnd::Ended {
            self.end(lease.call);
        }
        if self.queue.attempt_ended(&lease, end) != OwnerAction::Release {
            let is_written = pick % 2 == 0;
            let end = if is_written { AttemptEnd::Ended } else { AttemptEnd::Paused { at_ms } };
            if is_written {
                self.end(lease.call);
            }
            assert_eq!(self.queue.attempt_ended(&lease, end), OwnerAction::Release);
        }
    }

    fn cancel(&mut self, pick: usize) {
        let known: Vec<CallId> = self.rows.keys().chain(&self.ended).copied().collect();
        let Some(call) = known.get(pick % known.len().max(1)).copied() else { return };
        if self.queue.cancel(call) == CancelAction::Write {
            assert!(!self.running.iter().any(|lease| lease.call == call), "{call} has two owners");
            assert!(!self.cancelling.contains(&call), "{call} has two owners");
            self.cancelling.push(call);
        }
    }

    fn cancel_ends(&mut self, pick: usize) {
        if self.cancelling.is_empty() {
            return;
        }
        let call = self.cancelling.swap_remove(pick % self.cancelling.len());
        if self.rows.contains_key(&call) && pick % 3 == 0 {
            return self.queue.cancel_failed(call, self.now_ms + 5);
        }
        if self.rows.contains_key(&call) {
            self.end(call);
        }
        self.queue.cancelled(call);
    }

    fn wait(&mut self, pick: usize) {
        if !self.running.is_empty() {
            let call = self.running[pick % self.running.len()].call;
            let run = self.queue.parent_waits(call).expect("it runs");
            self.waits.push((call, run));
        }
    }

    fn resume(&mut self, pick: usize) {
        if !self.waits.is_empty() {
            let (call, run) = self.waits.swap_remove(pick % self.waits.len());
            self.queue.parent_resumes(call, run);
        }
    }

    /// Asks for a page, reads it or takes it in: three moments, between which anything may happen.
    fn page(&mut self, pick: usize) {
        if let Some(rows) = self.page.take() {
            if pick % 8 == 0 {
                return self.queue.page_failed();
            }
            self.request = self.queue.page_read(rows, self.now_ms);
        } else if let Some(request) = self.request.take() {
            self.page = Some(read(&self.rows, request));
        } else {
            self.request = self.queue.page_to_read();
        }
    }

    fn step(&mut self, what: u8, pick: usize, time: u64) {
        match what {
            0..6 => self.accept(pick),
            6 => self.begin(pick),
            7 if !self.accepting.is_empty() => {
                let call = self.accepting.swap_remove(pick % self.accepting.len());
                self.queue.accepted(call);
            }
            7..11 => drop(self.next(pick % 4 > 0)),
            11..15 => self.attempt_ends(pick, time),
            15 => self.cancel(pick),
            16 => self.cancel_ends(pick),
            17 => self.wait(pick),
            18 => self.resume(pick),
            19 => self.now_ms += time,
            20 => self.now_ms = self.now_ms.saturating_sub(time / 4).max(1),
            _ => self.page(pick),
        }
        let lanes = 3 * Priority::ALL.len();
        assert!(self.queue.ready <= SMALL.ready + lanes * SMALL.lane_min);
        assert!(self.queue.retries.len() <= SMALL.retries);
        assert_eq!(self.queue.owned(), self.running.len() + self.cancelling.len());
    }

    /// Lets everything end.
    fn finish(mut self) {
        for call in std::mem::take(&mut self.accepting) {
            self.queue.accepted(call);
        }
        while !self.cancelling.is_empty() {
            self.cancel_ends(1);
        }
        for _ in 0..100_000 {
            while self.request.is_some() || self.page.is_some() {
                self.page(1);
            }
            self.page(1);
            while !self.running.is_empty() {
                self.attempt_ends(0, 0);
            }
            if !self.next(true) && self.request.is_none() {
                let Some(wake_ms) = self.queue.wake_ms() else { break };
                self.now_ms = self.now_ms.max(wake_ms);
            }
        }
        assert!(self.rows.is_empty(), "lost: {:?}", self.rows);
        assert_eq!(self.ended.len() as u64, self.made);
        assert!(is_empty(&self.queue), "{:?}", self.queue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in whatever order (also cancels, panics, failed writes, pages that are out of date, a clock that
    /// goes back): each call has one owner at a time and one end, places are given back, and nothing is lost or left
    /// behind.
    #[test]
    fn each_call_ends_once(steps in proptest::collection::vec((0_u8..30, 0_usize..4_096, 0_u64..40), 1..600)) {
        let mut traffic = Traffic::new();
        for (what, pick, time) in steps {
            traffic.step(what, pick, time);
        }
        traffic.finish();
    }
}
