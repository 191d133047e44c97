//! Queue of the durable calls that have not ended: their states, owners and turns, and the part in memory. A plain
//! decider.
//!
//! States of a call:
//!
//! ```text
//! accepted ──► Ready ──► Running ──► ended
//!                ▲         │  ▲
//!                │         ▼  │ (writes that it was cancelled, or dead)
//!                ├──── Retry, Paused
//!                ▼
//!            Cancelling ──► ended
//! ```
//!
//! `Running` and `Cancelling` have one owner, the only one that writes the call. A call in no state here is in the
//! journal only: of the ready calls of a function and priority the newest, of the retries the latest. They are read
//! back in pages of the journal's open calls when few are left in memory.
//!
//! Invariants: a call has at most one owner; a call that has not ended is in memory or found by a page that is still
//! to be read; calls of a function that run and do not wait for other calls are at most as many as its limit, but for
//! those that resume after a wait and runs of its schedule; memory is bounded by `Bounds`, the calls that run or
//! pause, and the pages.
//!
//! A page is read without a lock, so it may show a call that has ended, or whose retry is later by now. An owner reads
//! the record of its call first, and finds that.

mod lane;
mod retries;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use self::lane::Lane;
pub(crate) use self::lane::LaneKey;
use self::retries::{Retries, RetryKey};
use crate::call::Priority;
use crate::ids::{CallId, FunctionId};
use crate::limits::{OPEN_CALLS_PAGE_LEN, READY_CALLS_MAX, READY_LANE_MAX, READY_LANE_MIN, RETRY_CALLS_MAX};
use crate::storage::OpenCall;

/// Wait before a call is begun again over which the host panicked; doubles each time.
const PANIC_WAIT_MS: u64 = 500;
/// Panics over one call after which it is dead.
const PANICS_MAX: u32 = 5;

/// Bounds of the calls in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Ready calls of all lanes.
    pub ready: usize,
    /// Ready calls of one lane, and those that it may have though all lanes together have `ready`.
    pub lane: usize,
    pub lane_min: usize,
    pub retries: usize,
    /// Open calls that are read at a time.
    pub page: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ready: READY_CALLS_MAX,
            lane: READY_LANE_MAX,
            lane_min: READY_LANE_MIN,
            retries: RETRY_CALLS_MAX,
            page: OPEN_CALLS_PAGE_LEN,
        }
    }
}

/// Ownership of a call that runs. Goes back through `CallQueue::attempt_ended`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub call: CallId,
    pub lane: LaneKey,
    run: u64,
}

/// End of an owner's work on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Its end is on disk, or it has no record any more.
    Ended,
    /// It begins again at this time, which is on disk.
    Retry { at_ms: u64 },
    /// It could not be read or written; it is tried again at this time.
    Paused { at_ms: u64 },
    /// The host panicked over it.
    Panicked { now_ms: u64 },
    /// The host stops: its record stays for the next one.
    Abandoned,
}

/// Next step of a call's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerAction {
    /// The call is not its own any more.
    Release,
    /// Write that it was cancelled.
    WriteCancelled,
    /// Write that it is dead: the host panicked over it too often.
    WriteDead,
}

/// Answer to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelAction {
    /// The canceller owns the call and writes its end; then `cancelled`, or `cancel_failed`.
    Write,
    /// Stop the attempt under way; its owner writes the end.
    Stop,
    /// Another canceller owns it.
    Wait,
}

#[derive(Debug)]
struct Call {
    /// `None` of a call that is being cancelled and was in the journal only.
    lane: Option<LaneKey>,
    state: CallState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    Ready,
    Retry {
        at_ms: u64,
    },
    /// As `Retry`, for a reason that is not on disk.
    Paused {
        at_ms: u64,
    },
    Running {
        run: u64,
        /// Waits for other calls; while there are any, its place among its function's calls is free.
        waits: usize,
        is_cancelled: bool,
    },
    Cancelling,
}

#[derive(Debug, Default)]
struct FunctionQueue {
    /// By priority, the most urgent first.
    lanes: [Lane; Priority::ALL.len()],
    /// Calls that run and do not wait for others.
    places: usize,
}

impl FunctionQueue {
    fn is_ready(&self) -> bool {
        self.lanes.iter().any(Lane::is_ready)
    }

    fn has_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_empty())
    }
}

/// A page of open calls that is being read.
#[derive(Debug)]
struct PageRead {
    after: Option<CallId>,
    /// Ready calls that were left to the journal meanwhile; the page may not show them.
    arrivals: Vec<(CallId, LaneKey)>,
}

/// Open calls to read from the journal: those behind `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub after: Option<CallId>,
    pub limit: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct CallQueue {
    bounds: Bounds,
    calls: HashMap<CallId, Call>,
    functions: BTreeMap<FunctionId, FunctionQueue>,
    /// Calls in all lanes that may be dropped from memory.
    ready: usize,
    retries: Retries,
    pauses: BTreeSet<RetryKey>,
    /// Panics of the host over each call that has not ended.
    panics: HashMap<CallId, u32>,
    owned: usize,
    /// The function that had the last turn.
    last: Option<FunctionId>,
    page: Option<PageRead>,
    runs: u64,
}

/// Arrivals and turns.
impl CallQueue {
    /// A call is on disk and not begun, or waits for a retry: just accepted, or accepted by an earlier host.
    pub(crate) fn accepted(&mut self, call: OpenCall) {
        let lane = LaneKey { function: call.function, priority: call.priority };
        if let Some(Call { lane: known, .. }) = self.calls.get_mut(&call.id) {
            known.get_or_insert(lane);
            return;
        }
        match call.next_ms {
            Some(at_ms) => self.retry(call.id, lane, at_ms),
            None => self.ready(call.id, lane),
        }
    }

    /// Leases a call that is about to be accepted, if none of its function waits and there is a place.
    pub(crate) fn begin(&mut self, call: CallId, lane: LaneKey, calls_max: usize) -> Option<Lease> {
        let (has_waiting, places) =
            self.functions.get(&lane.function).map_or((false, 0), |queue| (queue.has_waiting(), queue.places));
        (!has_waiting && places < calls_max).then(|| self.lease(call, lane))
    }

    /// Leases a scheduled run that is about to be accepted, whatever waits and runs: its schedule bounds how many
    /// there are.
    pub(crate) fn begin_run(&mut self, call: CallId, lane: LaneKey) -> Lease {
        self.lease(call, lane)
    }

    /// Leases the next call to begin: functions take turns, urgent calls first, then the oldest. `calls_max` returns
    /// how many calls of a function may run at a time, or `None` if none can.
    pub(crate) fn next(&mut self, now_ms: u64, calls_max: impl Fn(&FunctionId) -> Option<usize>) -> Option<Lease> {
        self.wake_due(now_ms);
        let has_room = |(function, queue): (&FunctionId, &FunctionQueue)| {
            (queue.is_ready() && calls_max(function).is_some_and(|max| queue.places < max)).then(|| function.clone())
        };
        let behind = self.last.as_ref().map(|last| (Excluded(last.clone()), Unbounded));
        let found = behind.and_then(|behind| self.functions.range(behind).find_map(has_room));
        let function = found.or_else(|| self.functions.iter().find_map(has_room))?;
        let queue = self.functions.get_mut(&function)?;
        let (priority, call) = Priority::ALL.into_iter().find_map(|priority| {
            let lane = &mut queue.lanes[priority as usize];
            let before = lane.len();
            let call = lane.pop()?;
            self.ready -= before - lane.len();
            Some((priority, call))
        })?;
        self.last = Some(function.clone());
        Some(self.lease(call, LaneKey { function, priority }))
    }

    /// Returns when the next retry or paused call is due.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let paused = self.pauses.first().map(|(at_ms, _)| *at_ms);
        [self.retries.next_ms(), paused].into_iter().flatten().min()
    }

    /// Returns how many calls have an owner.
    pub(crate) fn owned(&self) -> usize {
        self.owned
    }

    fn lease(&mut self, call: CallId, lane: LaneKey) -> Lease {
        self.runs += 1;
        self.function(&lane.function).places += 1;
        let state = CallState::Running { run: self.runs, waits: 0, is_cancelled: false };
        self.set(call, Some(lane.clone()), state);
        Lease { call, lane, run: self.runs }
    }

    fn wake_due(&mut self, now_ms: u64) {
        while let Some(call) = self.retries.pop_due(now_ms) {
            if let Some(Call { lane: Some(lane), .. }) = self.calls.remove(&call) {
                self.ready(call, lane);
            }
        }
        while self.pauses.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, call)) = self.pauses.pop_first() else { break };
            let Some(Call { lane: Some(lane), state }) = self.calls.get_mut(&call) else { continue };
            *state = CallState::Ready;
            let lane = lane.clone();
            self.function(&lane.function).lanes[lane.priority as usize].pin(call);
        }
    }

    /// Puts a call that is ready on disk into its lane, or leaves it to the journal.
    fn ready(&mut self, call: CallId, key: LaneKey) {
        let Bounds { ready, lane: lane_max, lane_min, .. } = self.bounds;
        let all = self.ready;
        let lane = &mut self.function(&key.function).lanes[key.priority as usize];
        if !lane.insert(call) {
            self.left(call, key);
            return;
        }
        let is_over = lane.len() > lane_max || (all >= ready && lane.len() > lane_min);
        let evicted = if is_over { lane.evict() } else { None };
        self.ready += 1;
        self.set(call, Some(key.clone()), CallState::Ready);
        if let Some(evicted) = evicted {
            self.ready -= 1;
            self.calls.remove(&evicted);
            self.left(evicted, key);
        }
    }

    /// A ready call is in the journal only.
    fn left(&mut self, call: CallId, lane: LaneKey) {
        if let Some(page) = &mut self.page {
            page.arrivals.push((call, lane));
        }
    }

    fn retry(&mut self, call: CallId, lane: LaneKey, at_ms: u64) {
        if !self.retries.insert((at_ms, call), &lane) {
            return;
        }
        self.set(call, Some(lane), CallState::Retry { at_ms });
        if self.retries.len() > self.bounds.retries
            && let Some(key) = self.retries.evict()
            && let Some(Call { lane: Some(lane), .. }) = self.calls.remove(&key.1)
        {
            self.retries.offer(key, &lane);
        }
    }

    fn pause(&mut self, call: CallId, lane: LaneKey, at_ms: u64) {
        self.pauses.insert((at_ms, call));
        self.set(call, Some(lane), CallState::Paused { at_ms });
    }

    fn set(&mut self, call: CallId, lane: Option<LaneKey>, state: CallState) {
        let is_owned = |call: &Call| matches!(call.state, CallState::Running { .. } | CallState::Cancelling);
        let call_now = Call { lane, state };
        self.owned += usize::from(is_owned(&call_now));
        let before = self.calls.insert(call, call_now);
        self.owned -= usize::from(before.as_ref().is_some_and(is_owned));
    }

    /// Forgets a call.
    fn unset(&mut self, call: CallId) {
        if let Some(before) = self.calls.remove(&call) {
            self.owned -= usize::from(matches!(before.state, CallState::Running { .. } | CallState::Cancelling));
        }
    }

    fn function(&mut self, function: &FunctionId) -> &mut FunctionQueue {
        if !self.functions.contains_key(function) {
            self.functions.insert(function.clone(), FunctionQueue::default());
        }
        self.functions.get_mut(function).expect("inserted")
    }

    /// Drops an empty queue of a function.
    fn tidy(&mut self, function: &FunctionId) {
        if self.functions.get(function).is_some_and(|queue| queue.places == 0 && !queue.has_waiting()) {
            self.functions.remove(function);
        }
    }
}

/// Owners.
impl CallQueue {
    /// The owner of a call is done with an attempt. Returns what it does next; unless that is `Release`, it remains the
    /// owner.
    pub(crate) fn attempt_ended(&mut self, lease: &Lease, end: AttemptEnd) -> OwnerAction {
        let Lease { call, lane, run } = lease;
        let Some(Call { state: CallState::Running { run: running, waits, is_cancelled }, .. }) = self.calls.get(call)
        else {
            return OwnerAction::Release;
        };
        if running != run {
            return OwnerAction::Release;
        }
        let (holds_place, is_cancelled) = (*waits == 0, *is_cancelled);
        if let AttemptEnd::Panicked { .. } = end {
            *self.panics.entry(*call).or_default() += 1;
        }
        let goes_on = !matches!(end, AttemptEnd::Ended | AttemptEnd::Abandoned);
        if goes_on && is_cancelled && !matches!(end, AttemptEnd::Paused { .. }) {
            return OwnerAction::WriteCancelled;
        }
        let panics = self.panics.get(call).copied().unwrap_or_default();
        if matches!(end, AttemptEnd::Panicked { .. }) && panics >= PANICS_MAX {
            return OwnerAction::WriteDead;
        }
        if holds_place {
            self.function(&lane.function).places -= 1;
        }
        self.unset(*call);
        match end {
            AttemptEnd::Ended => drop(self.panics.remove(call)),
            AttemptEnd::Abandoned => {}
            AttemptEnd::Retry { at_ms } => self.retry(*call, lane.clone(), at_ms),
            AttemptEnd::Paused { at_ms } => self.pause(*call, lane.clone(), at_ms),
            AttemptEnd::Panicked { now_ms } => {
                self.pause(*call, lane.clone(), now_ms + (PANIC_WAIT_MS << panics.min(PANICS_MAX)));
            }
        }
        self.tidy(&lane.function);
        OwnerAction::Release
    }

    /// A running call waits for another: its place is free meanwhile, or a function that waits for itself would hold
    /// every place that the awaited calls need. Returns the number to resume with; `None` if the call does not run.
    pub(crate) fn parent_waits(&mut self, call: CallId) -> Option<u64> {
        let Some(Call { lane: Some(lane), state: CallState::Running { run, waits, .. } }) = self.calls.get_mut(&call)
        else {
            return None;
        };
        *waits += 1;
        let (run, frees_place, function) = (*run, *waits == 1, lane.function.clone());
        if frees_place {
            self.function(&function).places -= 1;
        }
        Some(run)
    }

    /// A running call resumes, whether there is a place or not. A run that is over is ignored: its place is free.
    pub(crate) fn parent_resumes(&mut self, call: CallId, resumed: u64) {
        let Some(Call { lane: Some(lane), state: CallState::Running { run, waits, .. } }) = self.calls.get_mut(&call)
        else {
            return;
        };
        if *run != resumed {
            return;
        }
        *waits -= 1;
        let (takes_place, function) = (*waits == 0, lane.function.clone());
        if takes_place {
            self.function(&function).places += 1;
        }
    }

    /// Somebody cancels a call.
    pub(crate) fn cancel(&mut self, call: CallId) -> CancelAction {
        let Some(Call { lane, state }) = self.calls.get_mut(&call) else {
            self.set(call, None, CallState::Cancelling);
            return CancelAction::Write;
        };
        match state {
            CallState::Running { is_cancelled, .. } => {
                *is_cancelled = true;
                return CancelAction::Stop;
            }
            CallState::Cancelling => return CancelAction::Wait,
            CallState::Retry { at_ms } => self.retries.remove((*at_ms, call)),
            CallState::Paused { at_ms } => drop(self.pauses.remove(&(*at_ms, call))),
            CallState::Ready => {
                if let Some(LaneKey { function, priority }) = lane
                    && let Some(queue) = self.functions.get_mut(function)
                {
                    self.ready -= usize::from(queue.lanes[*priority as usize].remove(call));
                }
            }
        }
        let lane = lane.clone();
        self.set(call, lane, CallState::Cancelling);
        CancelAction::Write
    }

    /// The canceller has written the end of a call, or found that it has ended.
    pub(crate) fn cancelled(&mut self, call: CallId) {
        if let Some(Call { lane, state: CallState::Cancelling }) = self.calls.get(&call) {
            let lane = lane.clone();
            self.unset(call);
            self.panics.remove(&call);
            if let Some(lane) = lane {
                self.tidy(&lane.function);
            }
        }
    }

    /// The canceller could not write the end of a call, which goes on at `at_ms`.
    pub(crate) fn cancel_failed(&mut self, call: CallId, at_ms: u64) {
        if let Some(Call { lane, state: CallState::Cancelling }) = self.calls.get(&call) {
            let lane = lane.clone();
            self.unset(call);
            // Without a lane it was in the journal only, and no page has passed it since.
            if let Some(lane) = lane {
                self.pause(call, lane, at_ms);
            }
        }
    }
}

/// Pages of the journal.
impl CallQueue {
    /// Returns the page of open calls to read next, if one is needed. Then `page_read`, or `page_failed`.
    pub(crate) fn page_to_read(&mut self) -> Option<PageRequest> {
        if self.page.is_some() {
            return None;
        }
        if self.retries.is_hungry(self.bounds.retries / 2) {
            self.retries.begin_scan(self.bounds.retries - self.retries.len());
            return Some(self.request(None, self.bounds.page));
        }
        let after = self.hungry_lanes().min()?;
        // As long as the lanes have room, or most rows would be read once for each refill that they wait for.
        let limit = self.hungry_lanes().count() * self.bounds.lane;
        Some(self.request(Some(after), limit.min(self.bounds.page)))
    }

    fn request(&mut self, after: Option<CallId>, limit: usize) -> PageRequest {
        self.page = Some(PageRead { after, arrivals: Vec::new() });
        PageRequest { after, limit }
    }

    /// Returns, of each lane that has few calls in memory and more in the journal, the id before the first of the
    /// latter.
    fn hungry_lanes(&self) -> impl Iterator<Item = CallId> {
        let Bounds { ready, lane, lane_min, .. } = self.bounds;
        let low = if self.ready + lane / 2 <= ready { lane / 2 } else { lane_min / 2 };
        let lanes = self.functions.values().flat_map(|queue| &queue.lanes);
        lanes.filter(move |lane| lane.len() <= low).filter_map(|lane| lane.beyond.map(before))
    }

    /// The page could not be read. A scan begins anew.
    pub(crate) fn page_failed(&mut self) {
        self.page = None;
        self.retries.abort_scan();
    }

    /// Takes in a page as it was read.
    pub(crate) fn page_read(&mut self, rows: Vec<OpenCall>, now_ms: u64) -> Option<PageRequest> {
        let PageRead { after, arrivals } = self.page.take()?;
        // A page may have fewer calls than it could: damaged rows are left out.
        let until = rows.last().map(|row| row.id);
        let mut ready = BTreeMap::new();
        let rows = rows.into_iter().map(|OpenCall { id, function, priority, next_ms, .. }| {
            let key = next_ms.filter(|at_ms| *at_ms > now_ms).map(|at_ms| (at_ms, id));
            (id, LaneKey { function, priority }, key)
        });
        let arrivals = arrivals.into_iter().map(|(call, lane)| (call, lane, None));
        for (call, lane, retry) in rows.chain(arrivals) {
            if let Some(Call { lane: known, .. }) = self.calls.get_mut(&call) {
                known.get_or_insert(lane);
            } else if let Some(key) = retry.filter(|key| self.retries.is_beyond(*key)) {
                self.retries.offer(key, &lane);
            } else {
                // Also a retry that was due before the clock was set back.
                ready.insert(call, lane);
            }
        }
        self.fill_lanes(after, until, ready);
        if !self.retries.is_scanning() {
            return None;
        }
        match until {
            Some(until) => Some(self.request(Some(until), self.bounds.page)),
            None => {
                self.take_scanned();
                None
            }
        }
    }

    /// Takes ready calls between `after` and `until` into their lanes, as far as there is room.
    fn fill_lanes(&mut self, after: Option<CallId>, until: Option<CallId>, ready: BTreeMap<CallId, LaneKey>) {
        let Bounds { ready: all_max, lane: lane_max, lane_min, .. } = self.bounds;
        // Lanes that the page covers from their first call on that is in the journal only.
        let covers = |beyond: CallId| after.is_none_or(|after| after < beyond);
        let mut full = BTreeSet::new();
        for (call, key) in ready {
            if until.is_some_and(|until| call > until) || self.calls.contains_key(&call) {
                continue;
            }
            let all = self.ready;
            let lane = &mut self.function(&key.function).lanes[key.priority as usize];
            let name = (key.function.clone(), key.priority);
            match lane.beyond {
                // Passed already, as it was not due then.
                Some(beyond) if call < beyond => {}
                Some(beyond) if !covers(beyond) || full.contains(&name) => continue,
                Some(_) => {
                    lane.beyond = Some(call);
                    if lane.len() >= lane_max || (all >= all_max && lane.len() >= lane_min) {
                        full.insert(name);
                        continue;
                    }
                    lane.beyond = after_id(call);
                }
                None => {}
            }
            let beyond = lane.beyond;
            self.ready(call, key);
            // Another call had to leave: the page's later calls do not fit, either.
            if self.functions.get(&name.0).is_some_and(|queue| queue.lanes[name.1 as usize].beyond != beyond) {
                full.insert(name);
            }
        }
        for (function, queue) in &mut self.functions {
            for (lane, priority) in queue.lanes.iter_mut().zip(Priority::ALL) {
                let Some(beyond) = lane.beyond.filter(|beyond| covers(*beyond)) else { continue };
                if full.contains(&(function.clone(), priority)) {
                    continue;
                }
                lane.beyond = until.and_then(|until| after_id(until).map(|next| next.max(beyond)));
            }
        }
        self.functions.retain(|_, queue| queue.places > 0 || queue.has_waiting());
    }

    /// Takes in the retries that a scan has found.
    fn take_scanned(&mut self) {
        for ((at_ms, call), lane) in self.retries.end_scan() {
            match self.calls.get_mut(&call) {
                // Its cancel may fail.
                Some(Call { lane: known, .. }) => {
                    known.get_or_insert(lane);
                }
                None => self.retry(call, lane, at_ms),
            }
        }
    }
}

/// Returns the id before `id`.
fn before(id: CallId) -> CallId {
    CallId::from_bytes(u128::from_be_bytes(*id.as_bytes()).saturating_sub(1).to_be_bytes())
}

/// Returns the id after `id`, if there is one.
fn after_id(id: CallId) -> Option<CallId> {
    let next = u128::from_be_bytes(*id.as_bytes()).checked_add(1)?;
    Some(CallId::from_bytes(next.to_be_bytes()))
}
