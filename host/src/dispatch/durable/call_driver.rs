//! Driver of durable calls: acts on the decisions of `call_queue`. One task reads pages and begins calls; each call
//! that runs has a task that leases it, makes an attempt and writes the outcome.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};

use super::call_outcome::{Outcome, settle};
use super::call_queue::{AttemptEnd, CallQueue, CancelAction, LaneKey, Lease, OwnerAction, PageRequest};
use super::call_waiters::CallWaiters;
use super::core::Core;
use super::lifecycle::STORE_RETRY_WAIT;
use crate::call::{Failure, FailureCode, Payload};
use crate::dispatch::apps::find_function;
use crate::dispatch::call::{Attempted, Call, Origin, check, panicked};
use crate::ids::CallId;
use crate::storage::{CallRecord, CallSettle, Claimed, ErrorKind, LeaseToken, OpenCall, Settled, State};
use crate::{failpoint, tasks};

/// Wait before a call is begun again whose record or input could not be read.
const READ_WAIT_MS: u64 = 1_000;
/// Longest sleep of the task that begins calls, if nothing is due.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);

/// See the module.
pub(crate) struct CallDriver {
    core: Arc<Core>,
    state: Mutex<DriverState>,
    /// Notified when a call may begin, or begins later.
    work: Notify,
    pub waiters: CallWaiters,
    /// Receives the calls of scheduled runs as they end.
    run_ends: OnceLock<mpsc::UnboundedSender<CallRecord>>,
}

#[derive(Default)]
struct DriverState {
    queue: CallQueue,
    /// Stops the attempt of a call that has an owner.
    stops: HashMap<CallId, Arc<Notify>>,
}

impl CallDriver {
    pub(crate) fn new(core: Arc<Core>) -> Arc<Self> {
        Arc::new(Self {
            core,
            state: Mutex::default(),
            work: Notify::new(),
            waiters: CallWaiters::default(),
            run_ends: OnceLock::new(),
        })
    }

    /// Queues calls that are on disk and not begun, or wait for a retry.
    pub(crate) fn accepted(&self, calls: impl IntoIterator<Item = OpenCall>) {
        let mut state = self.state();
        calls.into_iter().for_each(|call| state.queue.accepted(call));
        drop(state);
        self.work.notify_one();
    }

    /// Claims a call that is about to be accepted, if it can begin at once.
    pub(crate) fn begin(self: &Arc<Self>, call: CallId, lane: LaneKey, calls_max: usize) -> Option<OwnedCall> {
        let mut state = self.state();
        let lease = state.queue.begin(call, lane, calls_max)?;
        Some(self.own(&mut state, lease))
    }

    /// Claims a scheduled run, whatever waits and runs of its function.
    pub(crate) fn begin_run(self: &Arc<Self>, call: CallId, lane: LaneKey) -> OwnedCall {
        let mut state = self.state();
        let lease = state.queue.begin_run(call, lane);
        self.own(&mut state, lease)
    }

    /// Returns the calls of scheduled runs as they end. Once.
    pub(crate) fn run_ends(&self) -> mpsc::UnboundedReceiver<CallRecord> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.run_ends.set(sender);
        receiver
    }

    /// Runs the first attempt at a call that was accepted with a lease.
    pub(crate) fn begin_leased(self: &Arc<Self>, owned: OwnedCall, record: CallRecord, input: Payload) {
        let this = self.clone();
        self.core.lifecycle.spawn(async move { this.drive(owned, Some((record, input))).await });
    }

    /// Returns how many calls have an owner.
    pub(crate) fn owned(&self) -> usize {
        self.state().queue.owned()
    }

    /// A call waits for other calls until the result is dropped; its place is free meanwhile. `None` if it does not
    /// run.
    pub(crate) fn parent_waits(&self, call: CallId) -> Option<impl Drop> {
        let run = self.state().queue.parent_waits(call)?;
        self.work.notify_one();
        Some(ParentWait { driver: self, call, run })
    }

    /// Cancels a call. Returns the claim of a call that had no owner; the owner of another one is told.
    pub(crate) fn cancel(&self, call: CallId) -> Option<CancelClaim<'_>> {
        let mut state = self.state();
        match state.queue.cancel(call) {
            CancelAction::Write => Some(CancelClaim { driver: self, call, is_written: false }),
            CancelAction::Stop => {
                if let Some(stop) = state.stops.get(&call) {
                    stop.notify_one();
                }
                None
            }
            CancelAction::Wait => None,
        }
    }

    /// Counts a call whose end is on disk, and writes why it failed into the app's log.
    pub(crate) fn ended(&self, record: &CallRecord) {
        self.core.count_end(record);
        self.run_ended(record);
        if let Some(failure) = record.failure.as_ref().filter(|_| record.state != State::Cancelled) {
            self.core.log_failure(record.id, &record.function_id(), failure);
        }
    }

    /// A call had ended as `kept` before it was `written`: by the same write, whose answer was lost, or by another
    /// host, which has counted it.
    pub(crate) fn had_ended(&self, kept: &CallRecord, written: &CallRecord) {
        let end = |record: &CallRecord| (record.state, record.ended_ms, record.attempts);
        match end(kept) == end(written) {
            true => self.ended(kept),
            false => self.run_ended(kept),
        }
    }

    fn run_ended(&self, record: &CallRecord) {
        if let Some(ends) = self.run_ends.get().filter(|_| record.run.is_some()) {
            // A receiver that is gone belongs to a scheduler that has ended.
            let _ = ends.send(record.clone());
        }
    }

    /// Returns the end of an attempt at a call that is looked at again after a moment.
    pub(crate) fn paused(&self) -> AttemptEnd {
        AttemptEnd::Paused { at_ms: self.core.now_ms() + READ_WAIT_MS }
    }

    /// Begins calls as there are places for them, until the host stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut deployed = self.core.runner.apps.changes();
        // A call that would find no slot is not leased on the way down.
        while !self.core.lifecycle.is_stopped() && !self.core.runner.is_closed() {
            let now_ms = self.core.now_ms();
            if let Some(owned) = self.next(now_ms) {
                let this = self.clone();
                self.core.lifecycle.spawn(async move { this.drive(owned, None).await });
                continue;
            }
            let (page, wake_ms) = {
                let mut state = self.state();
                (state.queue.page_to_read(), state.queue.wake_ms())
            };
            if let Some(page) = page {
                let this = self.clone();
                self.core.lifecycle.spawn(async move { this.read_pages(page).await });
            }
            let wait = wake_ms.map_or(IDLE_WAIT, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)));
            tokio::select! {
                () = self.work.notified() => {}
                () = self.core.lifecycle.stopped() => return,
                _ = deployed.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Reads a page of open calls, and further ones if the queue scans all.
    async fn read_pages(&self, first: PageRequest) {
        let mut next = Some(first);
        while let Some(PageRequest { after, limit }) = next {
            if self.core.lifecycle.is_stopped() {
                return;
            }
            match self.core.journal.held(after, limit).await {
                Ok(calls) => next = self.state().queue.page_read(calls, self.core.now_ms()),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "open calls cannot be read");
                    tokio::time::sleep(STORE_RETRY_WAIT).await;
                    self.state().queue.page_failed();
                    break;
                }
            }
        }
        self.work.notify_one();
    }

    fn next(self: &Arc<Self>, now_ms: u64) -> Option<OwnedCall> {
        let mut state = self.state();
        let lease = state.queue.next(now_ms, |function| self.core.calls_max(function))?;
        Some(self.own(&mut state, lease))
    }

    fn own(self: &Arc<Self>, state: &mut DriverState, lease: Lease) -> OwnedCall {
        let stop = Arc::new(Notify::new());
        state.stops.insert(lease.call, stop.clone());
        OwnedCall { driver: self.clone(), lease, stop, is_released: false }
    }

    /// Makes one attempt at a call, and releases it.
    async fn drive(self: Arc<Self>, mut owned: OwnedCall, leased: Option<(CallRecord, Payload)>) {
        let LaneKey { priority, .. } = owned.lease.lane;
        let attempt = self.lease_and_attempt(&owned, leased);
        let caught = tasks::caught(self.core.runner.throttle().task(priority, attempt)).await;
        let (mut end, failure) = match caught {
            Ok(end) => (end, None),
            Err(panic) => {
                let failure = panicked(owned.lease.call, &panic);
                (self.panicked(&owned.lease, &failure).await, Some(failure))
            }
        };
        loop {
            let outcome = match owned.release(end) {
                OwnerAction::Release => return,
                OwnerAction::WriteCancelled => Outcome::Cancelled,
                OwnerAction::WriteDead => Outcome::GivenUp(failure.clone().unwrap_or_else(Failure::host_bug)),
            };
            end = self.end(&owned.lease, outcome).await;
        }
    }

    /// Decides about a call over which the host panicked. A scheduled run ends at once.
    async fn panicked(&self, lease: &Lease, failure: &Failure) -> AttemptEnd {
        match self.read(lease).await {
            Ok(record) if record.run.is_some() => {
                return self.settle(record, None, Outcome::GivenUp(failure.clone())).await;
            }
            // The lease is given back, so that the next attempt has a number of its own.
            Ok(mut record) if record.state == State::Leased => {
                (record.state, record.next_ms) = (State::Waiting, Some(self.core.now_ms()));
                record.lost += 1;
                let settle = CallSettle { record: Box::new(record), lease: None, output: None };
                let _ = self.core.lifecycle.written(|| self.core.journal.settle(settle.clone())).await;
            }
            _ => {}
        }
        AttemptEnd::Panicked { now_ms: self.core.now_ms() }
    }

    async fn lease_and_attempt(&self, owned: &OwnedCall, leased: Option<(CallRecord, Payload)>) -> AttemptEnd {
        let (mut record, input) = match leased {
            Some((record, input)) => (record, Some(input)),
            None => match self.lease(&owned.lease).await {
                Ok(record) => (record, None),
                Err(end) => return end,
            },
        };
        failpoint::panic_at("durable.leased");
        let attempt = self.attempt(&mut record, input);
        let outcome = tokio::select! {
            biased;
            () = owned.stop.notified() => Outcome::Cancelled,
            () = self.core.lifecycle.is_cut_off() => return AttemptEnd::Abandoned,
            outcome = attempt => match outcome {
                Ok(outcome) => outcome,
                Err(end) => return end,
            },
        };
        failpoint::panic_at("durable.ended");
        let is_final = match outcome {
            Outcome::Ended(Ok(_)) | Outcome::Cancelled => true,
            Outcome::Ended(Err(_)) => record.run.is_some(),
            _ => false,
        };
        // On the way down a failure may be the host's: the next one makes the attempt again, but for a scheduled run.
        if self.core.runner.is_closed() && !is_final {
            return AttemptEnd::Abandoned;
        }
        let lease = self.core.lease(&record);
        self.settle(record, lease, outcome).await
    }

    /// Leases the next attempt at a call.
    async fn lease(&self, lease: &Lease) -> Result<CallRecord, AttemptEnd> {
        if self.core.runner.is_closed() {
            return Err(AttemptEnd::Abandoned);
        }
        let program = self.core.runner.apps.get(lease.lane.function.app.as_str());
        let version = program.map(|program| program.version().clone());
        let claim = || self.core.journal.claim(lease.call, version.clone());
        match self.core.lifecycle.written(claim).await {
            Some(Claimed::Leased(record)) => Ok(*record),
            Some(Claimed::Later { at_ms }) => Err(AttemptEnd::Retry { at_ms }),
            Some(Claimed::Ended) => Err(AttemptEnd::Ended),
            None => Err(AttemptEnd::Abandoned),
        }
    }

    /// Reads a call that has not ended.
    async fn read(&self, lease: &Lease) -> Result<CallRecord, AttemptEnd> {
        match self.core.journal.call(lease.call).await {
            Ok(Some(record)) if !record.state.is_terminal() => Ok(record),
            Ok(_) => Err(AttemptEnd::Ended),
            // It is not open any more; the engine has said why.
            Err(error) if error.kind() == ErrorKind::Gone => Err(AttemptEnd::Ended),
            Err(error) => {
                tracing::error!(
                    call = %lease.call,
                    error = &error as &dyn std::error::Error,
                    "a call cannot be read"
                );
                Err(self.paused())
            }
        }
    }

    /// Makes the attempt, if it can begin.
    async fn attempt(&self, record: &mut CallRecord, input: Option<Payload>) -> Result<Outcome, AttemptEnd> {
        let runner = &self.core.runner;
        let program = match runner.apps.get(record.app.as_str()) {
            Some(program) => program,
            // A stopped app makes up for no run of its schedules when it is started again.
            None if record.run.is_some() => {
                let message = format!("`{}` is not deployed", record.app);
                return Ok(Outcome::Refused(Failure::new(FailureCode::UnknownFunction, message)));
            }
            None => return Ok(Outcome::NotBegun { again_ms: self.core.now_ms() }),
        };
        let function = match find_function(&program, record.function.as_str()) {
            Ok(function) => function,
            Err(failure) => return Ok(Outcome::Refused(failure)),
        };
        let input = match input {
            Some(input) => Ok(Some(input)),
            None => self.core.journal.call_input(record.id).await,
        };
        let input = match input {
            Ok(Some(input)) => input,
            Ok(None) => {
                return Ok(Outcome::Refused(Failure::new(FailureCode::InvalidInput, "the input of the call is gone")));
            }
            // The next look at the call finds it gone.
            Err(error) if error.kind() == ErrorKind::Gone => return Err(self.paused()),
            Err(error) => {
                tracing::error!(call = %record.id, error = &error as &dyn std::error::Error, "an input cannot be read");
                return Ok(Outcome::NotBegun { again_ms: self.core.now_ms() + READ_WAIT_MS });
            }
        };
        if let Err(failure) = check(&function, &input) {
            return Ok(Outcome::Refused(failure));
        }
        let CallRecord { depth, priority, .. } = *record;
        let origin = Origin { depth, priority, is_durable: true, ..Origin::outside(record.principal.clone()) };
        let call = Call { id: record.id, function, input, origin, siblings: None };
        let _live = runner.enter(&call);
        Ok(match runner.attempt(&call, record.attempts, &mut record.receipt).await {
            Attempted::Ended(result) => Outcome::Ended(result),
            Attempted::NoSlot(_) => Outcome::NotBegun { again_ms: self.core.now_ms() },
        })
    }

    /// Ends a call without an attempt.
    async fn end(&self, lease: &Lease, outcome: Outcome) -> AttemptEnd {
        match self.read(lease).await {
            Ok(record) => self.settle(record, None, outcome).await,
            Err(end) => end,
        }
    }

    /// Writes the outcome of an attempt that has this lease, or of none.
    async fn settle(&self, mut record: CallRecord, lease: Option<LeaseToken>, outcome: Outcome) -> AttemptEnd {
        let mut policy = self.core.runner.apps.retries(&record.function_id());
        if record.run.is_some() && self.core.runner.is_closed() {
            // The next host does not retry a scheduled run.
            policy.retries_max = 0;
        }
        let output = settle(&mut record, outcome, self.core.now_ms(), &policy, rand::random());
        let settle = CallSettle { record: Box::new(record), lease, output };
        match self.core.lifecycle.written(|| self.core.journal.settle(settle.clone())).await {
            Some(Settled::Kept) => match settle.record.next_ms {
                Some(at_ms) => AttemptEnd::Retry { at_ms },
                None => {
                    self.ended(&settle.record);
                    AttemptEnd::Ended
                }
            },
            Some(Settled::Ended(kept)) => {
                self.had_ended(&kept, &settle.record);
                AttemptEnd::Ended
            }
            // Another host has the call, or the answer to the same write was lost: the next claim tells.
            Some(Settled::Fenced) => self.paused(),
            None => AttemptEnd::Abandoned,
        }
    }

    fn state(&self) -> MutexGuard<'_, DriverState> {
        self.state.lock()
    }
}

/// Ownership of a call. If it is dropped before its release, the call is looked at again after a moment: a task that
/// was dropped cannot say what it had written.
pub(crate) struct OwnedCall {
    driver: Arc<CallDriver>,
    lease: Lease,
    stop: Arc<Notify>,
    is_released: bool,
}

impl OwnedCall {
    /// Tells the queue how an attempt ended. Unless the answer is `Release`, the call remains owned.
    pub(crate) fn release(&mut self, end: AttemptEnd) -> OwnerAction {
        let action = {
            let mut state = self.driver.state();
            let action = state.queue.attempt_ended(&self.lease, end);
            if action == OwnerAction::Release {
                state.stops.remove(&self.lease.call);
            }
            action
        };
        if action == OwnerAction::Release {
            self.is_released = true;
            self.driver.work.notify_one();
            self.driver.waiters.wake(self.lease.call);
        }
        action
    }
}

impl Drop for OwnedCall {
    fn drop(&mut self) {
        if !self.is_released {
            self.release(self.driver.paused());
        }
    }
}

/// Ownership of a call that is being cancelled. If it is dropped before the end is written, the call goes on.
pub(crate) struct CancelClaim<'a> {
    driver: &'a CallDriver,
    call: CallId,
    is_written: bool,
}

impl CancelClaim<'_> {
    /// The call has ended, on disk.
    pub(crate) fn release_ended(mut self) {
        self.is_written = true;
    }
}

impl Drop for CancelClaim<'_> {
    fn drop(&mut self) {
        let mut state = self.driver.state();
        match self.is_written {
            true => state.queue.cancelled(self.call),
            false => state.queue.cancel_failed(self.call, self.driver.core.now_ms() + READ_WAIT_MS),
        }
        drop(state);
        self.driver.work.notify_one();
        self.driver.waiters.wake(self.call);
    }
}

/// Wait of a call for other calls; it resumes when this is dropped.
struct ParentWait<'a> {
    driver: &'a CallDriver,
    call: CallId,
    run: u64,
}

impl Drop for ParentWait<'_> {
    fn drop(&mut self) {
        self.driver.state().queue.parent_resumes(self.call, self.run);
    }
}
