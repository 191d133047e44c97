//! Single durable calls: `spawn`, `get`, `cancel`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{Notify, mpsc};

use super::core::{Core, Options, depth_below};
use super::error::DurableError;
use super::idempotency::fingerprint;
use super::lines::Lines;
use crate::call::{Failure, FailureCode, Payload, Priority};
use crate::clock::unix_ms;
use crate::dispatch::apps::find_function;
use crate::dispatch::call::{Attempted, Call, Origin, check, panicked};
use crate::dispatch::retry;
use crate::ids::{CallId, FunctionId};
use crate::journal::{CallRecord, Idempotency, KeyedRecord, Kind, OpenCall, State};
use crate::sandbox::FunctionRef;
use crate::{failpoint, tasks};

/// How long a call that found no slot waits before it asks again.
const SLOT_WAIT_MS: u64 = 100;
/// How long one that could not be read waits.
const READ_WAIT_MS: u64 = 1_000;
/// Wait before a call is begun again over which the host panicked; doubles each time.
const PANIC_WAIT_MS: u64 = 500;
/// Panics over one call after which it is dead.
const PANICS_MAX: u32 = 5;

/// A call that is being run, or cancelled.
#[derive(Default)]
pub(super) struct Active {
    cancel: Notify,
    /// Of one that is run.
    pub(super) function: Option<FunctionId>,
    place: Mutex<Place>,
}

/// A call's place among its function's. Locked after `lines`.
#[derive(Default)]
pub(super) struct Place {
    /// How much of the call waits for other calls; the place is another's meanwhile.
    pub(super) waiting: usize,
    /// The call does not run any more.
    pub(super) is_over: bool,
}

impl Active {
    fn of(function: &FunctionId) -> Arc<Self> {
        Arc::new(Self { function: Some(function.clone()), ..Self::default() })
    }

    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The durable calls of a host.
pub struct Calls {
    core: Arc<Core>,
    lines: Mutex<Lines>,
    /// Calls that somebody is about to change: the one task that runs it, or cancels it.
    active: DashMap<CallId, Arc<Active>>,
    /// Whoever waits for a call to end.
    waiting: DashMap<CallId, Arc<Notify>>,
    /// Notified when a call may begin, or begins later.
    work: Notify,
    /// Panics of the host's over each call that has not ended.
    panics: DashMap<CallId, u32>,
    /// Receives the calls of scheduled runs as they end.
    run_ends: OnceLock<mpsc::UnboundedSender<CallRecord>>,
}

/// The right to change a call, and its place among its function's if it has one. Both are given back when this is dropped.
pub(super) struct Held {
    calls: Arc<Calls>,
    id: CallId,
    function: Option<FunctionId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let active = self.calls.active.remove(&self.id);
        if let Some(function) = &self.function {
            let mut lines = self.calls.lines();
            // EntryKind waited on its behalf may notice a moment later.
            let is_given = active.is_some_and(|(_, active)| {
                let mut place = active.place();
                place.is_over = true;
                place.waiting > 0
            });
            if !is_given {
                lines.end(function);
                self.calls.work.notify_one();
            }
        }
    }
}

impl Calls {
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            lines: Mutex::default(),
            active: DashMap::new(),
            waiting: DashMap::new(),
            work: Notify::new(),
            panics: DashMap::new(),
            run_ends: OnceLock::new(),
        }
    }

    /// Queues calls that an earlier host has accepted.
    pub fn recover(&self, open: Vec<OpenCall>) {
        let mut lines = self.lines();
        for call in open {
            self.core.open.recover(&call.function.app, Kind::Call);
            match call.next_ms {
                Some(at_ms) => lines.push_later(call.function, call.priority, call.id, at_ms),
                None => lines.push(&call.function, call.priority, call.id),
            }
        }
    }

    /// Returns how many calls wait to begin.
    pub fn waiting(&self) -> usize {
        self.lines().waiting()
    }

    /// Wakes the pump, so that it ends if the host stops.
    pub fn stop(&self) {
        self.work.notify_one();
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call and begins it as soon as there is room. Returns once it is on disk; a second request with the same key returns
    /// the same call.
    pub async fn spawn(
        self: &Arc<Self>,
        function: &FunctionRef,
        input: Payload,
        options: Options,
    ) -> Result<CallRecord, DurableError> {
        let depth = depth_below(options.parent)?;
        check(function, &input)?;
        let id = function.id();
        let fingerprint = fingerprint(&[b"call", input.content_type.as_bytes(), &input.data]);
        let found = async |keyed: KeyedRecord| self.record(CallId::from_bytes(keyed.id)).await;
        let make = async |idempotency: Option<Idempotency>| {
            let reservation = self.core.open.reserve(&id.app, Kind::Call)?;
            let mut record = CallRecord {
                priority: options.priority,
                parent: options.parent.map(|(parent, _)| parent),
                depth,
                idempotency_key: idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
                ..CallRecord::new(&id, options.principal, unix_ms())
            };
            // One that begins at once is leased with the same write.
            let takes_work = !self.core.lifecycle.is_stopped() && !self.core.runner.is_closed();
            let begins = takes_work && self.lines().begin(&id, function.limits.map_concurrency());
            let held = begins.then(|| {
                self.active.insert(record.id, Active::of(&id));
                Held { calls: self.clone(), id: record.id, function: Some(id.clone()) }
            });
            if begins {
                record.state = State::Leased;
                record.attempts = 1;
                record.version = Some(function.version().clone());
            }
            self.core.journal.accept_call(&record, input.clone(), idempotency.as_ref()).await?;
            reservation.keep();
            match held {
                Some(held) => self.begin_leased(record.clone(), input, held),
                None => {
                    self.lines().push(&id, record.priority, record.id);
                    self.work.notify_one();
                }
            }
            Ok(record)
        };
        let Core { journal, idempotency, .. } = &*self.core;
        idempotency.once(&**journal, &id, options.key.as_deref(), fingerprint, found, make).await
    }

    /// Claims a new call that begins as soon as it is on disk, whether its function has a place for it or not.
    pub(super) fn claim(self: &Arc<Self>, call: &CallRecord) -> Held {
        let function = call.function_id();
        self.lines().go_on(&function);
        self.active.insert(call.id, Active::of(&function));
        Held { calls: self.clone(), id: call.id, function: Some(function) }
    }

    /// Runs the first attempt at a call that was accepted with a lease.
    pub(super) fn begin_leased(self: &Arc<Self>, call: CallRecord, input: Payload, held: Held) {
        let this = self.clone();
        let (function, priority, id) = (call.function_id(), call.priority, call.id);
        self.core.lifecycle.spawn(async move {
            let run = this.clone().run(call, Some(input), held);
            this.clone().guarded(function, priority, id, run).await;
        });
    }

    /// Returns the calls of scheduled runs as they end.
    pub(super) fn run_ends(&self) -> mpsc::UnboundedReceiver<CallRecord> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.run_ends.set(sender);
        receiver
    }

    /// Returns a call, once it has ended or after `wait`.
    pub async fn get(&self, id: CallId, wait: Duration) -> Result<CallRecord, DurableError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let ended = self.waiting.entry(id).or_default().clone();
            let ended = Waiter { calls: self, id, ended: Some(ended) };
            let notified = ended.ended.as_ref().map(|ended| ended.notified());
            let mut notified = std::pin::pin!(notified.expect("it is there until it is dropped"));
            notified.as_mut().enable();
            let record = self.record(id).await?;
            if record.state.is_terminal() || tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Ok(record);
            }
        }
    }

    async fn record(&self, id: CallId) -> Result<CallRecord, DurableError> {
        self.core.journal.call(id).await?.ok_or(DurableError::UnknownCall { id })
    }

    /// Returns the output of a call that is done.
    pub async fn output(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        Ok(self.core.journal.call_output(id).await?)
    }

    /// Returns the input of a call.
    pub async fn input(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        Ok(self.core.journal.call_input(id).await?)
    }

    /// Cancels a call wherever it is, and nothing else.
    pub(super) async fn cancel_one(self: &Arc<Self>, id: CallId) -> Result<CallRecord, DurableError> {
        loop {
            let held = match self.active.entry(id) {
                dashmap::Entry::Occupied(active) => {
                    active.get().cancel.notify_one();
                    None
                }
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(Arc::default());
                    Some(Held { calls: self.clone(), id, function: None })
                }
            };
            if held.is_none() {
                // Whoever runs it writes how it ended. It may have been about to wait for another attempt.
                let record = self.get(id, Duration::from_millis(20)).await?;
                if record.state.is_terminal() {
                    return Ok(record);
                }
                continue;
            }
            let mut record = self.record(id).await?;
            if record.state.is_terminal() {
                return Ok(record);
            }
            let next_ms = record.next_ms;
            end(&mut record, State::Cancelled, Some(cancelled()));
            self.core.journal.save_call(&record, None).await?;
            if let Some(at_ms) = next_ms {
                self.lines().forget_later(id, at_ms);
            }
            self.ended(&record);
            return Ok(record);
        }
    }

    /// Begins calls as there is room for them.
    pub(super) async fn pump(self: &Arc<Self>) {
        let mut deployed = self.core.runner.apps.changes();
        // EntryKind would find no slot is not leased on the way down.
        while !self.core.lifecycle.is_stopped() && !self.core.runner.is_closed() {
            let now = unix_ms();
            let next = self.lines().next(now, |function| self.core.calls_max(function));
            if let Some((function, priority, id)) = next {
                let this = self.clone();
                self.core.lifecycle.spawn(async move {
                    let run = this.clone().begin(function.clone(), priority, id);
                    this.clone().guarded(function, priority, id, run).await;
                });
                continue;
            }
            let until = self.lines().next_ms().map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now)));
            tokio::select! {
                () = self.work.notified() => {}
                _ = deployed.changed() => {}
                () = tokio::time::sleep(until.unwrap_or(Duration::from_secs(3_600))) => {}
            }
        }
    }

    /// Runs a call's task. After a panic, which gave the call and its place back, the call is begun again.
    async fn guarded(
        self: Arc<Self>,
        function: FunctionId,
        priority: Priority,
        id: CallId,
        run: impl Future<Output = ()> + Send,
    ) {
        let Err(panic) = tasks::caught(self.core.runner.throttle().task(priority, run)).await else { return };
        let failure = panicked(id, &panic);
        let panics = {
            let mut panics = self.panics.entry(id).or_default();
            *panics += 1;
            *panics
        };
        if self.give_up(id, failure, panics).await.unwrap_or_default() {
            return;
        }
        self.lines().push_later(function, priority, id, unix_ms() + (PANIC_WAIT_MS << panics.min(PANICS_MAX)));
        self.work.notify_one();
    }

    /// Ends a call after a panic as dead, unless it is to be tried again. Returns whether it has ended.
    async fn give_up(self: &Arc<Self>, id: CallId, failure: Failure, panics: u32) -> Result<bool, DurableError> {
        let mut record = self.record(id).await?;
        // A call that panics again and again would repeat for ever what it does to others. A scheduled run ends at once.
        let is_last = panics >= PANICS_MAX || record.run.is_some();
        if is_last && !record.state.is_terminal() {
            end(&mut record, State::Dead, Some(failure));
            if self.core.lifecycle.written(|| self.core.journal.save_call(&record, None)).await.is_some() {
                self.ended(&record);
            }
        }
        Ok(is_last)
    }

    /// Reads a call that waited, leases it and runs an attempt.
    async fn begin(self: Arc<Self>, function: FunctionId, priority: Priority, id: CallId) {
        let is_claimed = match self.active.entry(id) {
            dashmap::Entry::Occupied(_) => false,
            dashmap::Entry::Vacant(vacant) => {
                vacant.insert(Active::of(&function));
                true
            }
        };
        if !is_claimed {
            // Somebody tries to cancel it, and may not come to that.
            let mut lines = self.lines();
            lines.end(&function);
            lines.push_later(function, priority, id, unix_ms() + SLOT_WAIT_MS);
            drop(lines);
            self.work.notify_one();
            return;
        }
        let held = Held { calls: self.clone(), id, function: Some(function.clone()) };
        let mut record = match self.core.journal.call(id).await {
            Ok(Some(record)) if !record.state.is_terminal() => record,
            // It was cancelled while it waited, or has been deleted.
            Ok(_) => return,
            Err(error) => {
                tracing::error!(call = %id, error = &error as &dyn std::error::Error, "a call cannot be read");
                drop(held);
                self.lines().push_later(function, priority, id, unix_ms() + READ_WAIT_MS);
                self.work.notify_one();
                return;
            }
        };
        if self.core.runner.is_closed() {
            return;
        }
        // The last attempt was under way when the host died.
        record.lost += u32::from(record.state == State::Leased);
        record.state = State::Leased;
        record.attempts += 1;
        record.next_ms = None;
        record.version = self.core.runner.apps.get(function.app.as_str()).map(|program| program.version().clone());
        if self.core.lifecycle.written(|| self.core.journal.save_call(&record, None)).await.is_some() {
            self.clone().run(record, None, held).await;
        }
    }

    /// Runs one attempt at a call that is held and leased, and writes what came of it.
    async fn run(self: Arc<Self>, mut record: CallRecord, input: Option<Payload>, held: Held) {
        failpoint::panic_at("durable.leased");
        let function = record.function_id();
        let active = self.active.get(&record.id).map(|active| active.clone()).unwrap_or_default();
        let attempt = self.attempt(&mut record, input);
        let attempted = tokio::select! {
            biased;
            () = active.cancel.notified() => None,
            () = self.core.lifecycle.is_cut_off() => return,
            attempted = attempt => Some(attempted),
        };
        failpoint::panic_at("durable.ended");
        let is_closing = self.core.runner.is_closed();
        let now = unix_ms();
        let mut output = None;
        let mut again = None;
        match attempted {
            None => end(&mut record, State::Cancelled, Some(cancelled())),
            Some(Ok(Attempted::Ended(Ok(payload)))) => {
                output = Some(payload);
                end(&mut record, State::Done, None);
            }
            // The host ends, and the next one makes the attempt again; a scheduled run that has failed is over.
            Some(ref attempted) if is_closing && !(record.run.is_some() && has_ended(attempted)) => return,
            Some(Ok(Attempted::NoSlot(_))) => {
                // It did not begin, so it is as it was before.
                record.attempts -= 1;
                record.state = State::Waiting;
                record.next_ms = Some(now + SLOT_WAIT_MS);
                again = record.next_ms;
            }
            Some(Err(failure)) => end(&mut record, State::Failed, Some(failure)),
            Some(Ok(Attempted::Ended(Err(failure)))) => {
                let policy = self.core.runner.apps.retries(&function);
                match retry::delay(&failure, record.attempts_charged(), &policy, rand::random()) {
                    Some(delay) if !is_closing => {
                        record.note_failed(now, failure);
                        record.state = State::Waiting;
                        record.next_ms = Some(now + delay.as_millis() as u64);
                        again = record.next_ms;
                    }
                    _ => {
                        let state = if failure.code.is_retryable() { State::Dead } else { State::Failed };
                        record.note_failed(now, failure.clone());
                        end(&mut record, state, Some(failure));
                    }
                }
            }
        }
        if self.core.lifecycle.written(|| self.core.journal.save_call(&record, output.clone())).await.is_none() {
            return;
        }
        // Let go of first: whoever begins it again must find it free.
        drop(held);
        if record.state.is_terminal() {
            self.ended(&record);
        } else if let Some(at_ms) = again {
            self.lines().push_later(function, record.priority, record.id, at_ms);
            self.work.notify_one();
        }
    }

    async fn attempt(&self, record: &mut CallRecord, input: Option<Payload>) -> Result<Attempted, Failure> {
        if self.core.runner.is_closed() {
            return Ok(Attempted::NoSlot(Failure::new(FailureCode::Unavailable, "the host is shutting down")));
        }
        let Some(program) = self.core.runner.apps.get(record.app.as_str()) else {
            let message = format!("`{}` is not deployed", record.app);
            if record.run.is_some() {
                // A stopped app makes up for nothing when it is started again.
                return Err(Failure::new(FailureCode::UnknownFunction, message));
            }
            return Ok(Attempted::NoSlot(Failure::new(FailureCode::Unavailable, message)));
        };
        let function = find_function(&program, record.function.as_str())?;
        let input = match input {
            Some(input) => input,
            None => match self.core.journal.call_input(record.id).await {
                Ok(Some(input)) => input,
                Ok(None) => return Err(Failure::new(FailureCode::InvalidInput, "the input of the call is gone")),
                Err(error) => {
                    tracing::error!(call = %record.id, error = &error as &dyn std::error::Error, "an input cannot be read");
                    let failure = Failure::new(FailureCode::Unavailable, "its input cannot be read now");
                    return Ok(Attempted::NoSlot(failure));
                }
            },
        };
        check(&function, &input)?;
        let origin = Origin {
            depth: record.depth,
            priority: record.priority,
            is_durable: true,
            ..Origin::outside(record.principal.clone())
        };
        let call = Call { id: record.id, function, input, origin, siblings: None };
        let _live = self.core.runner.enter(&call);
        Ok(self.core.runner.attempt(&call, record.attempts, &mut record.receipt).await)
    }

    /// While a call waits for another, its place among its function's is another's: a function that waits for itself would
    /// otherwise hold every place that what it waits for needs.
    pub(super) fn give_place_back(&self, call: CallId) -> Option<impl Drop> {
        let active = self.active.get(&call)?.clone();
        let function = active.function.clone()?;
        let mut lines = self.lines();
        let mut place = active.place();
        if place.is_over {
            return None;
        }
        if place.waiting == 0 {
            lines.end(&function);
            self.work.notify_one();
        }
        place.waiting += 1;
        drop(place);
        drop(lines);
        Some(PlaceGiven { calls: self, active, function })
    }

    /// Tells whoever waits that a call has ended, and writes why it failed into the app's log.
    pub(super) fn ended(&self, record: &CallRecord) {
        self.core.open.release(&record.app, Kind::Call);
        self.panics.remove(&record.id);
        if let Some((_, waiting)) = self.waiting.remove(&record.id) {
            waiting.notify_waiters();
        }
        if let Some(ends) = self.run_ends.get().filter(|_| record.run.is_some()) {
            // A scheduler that is gone begins nothing any more.
            let _ = ends.send(record.clone());
        }
        let Some(failure) = record.failure.as_ref().filter(|_| record.state != State::Cancelled) else { return };
        self.core.log_failure(record.id, &record.function_id(), failure);
    }
}

/// A place that is taken again when this is dropped.
struct PlaceGiven<'a> {
    calls: &'a Calls,
    active: Arc<Active>,
    function: FunctionId,
}

impl Drop for PlaceGiven<'_> {
    fn drop(&mut self) {
        let mut lines = self.calls.lines();
        let mut place = self.active.place();
        place.waiting -= 1;
        if place.waiting == 0 && !place.is_over {
            lines.go_on(&self.function);
        }
    }
}

/// Forgets who waits for a call, once nobody does.
struct Waiter<'a> {
    calls: &'a Calls,
    id: CallId,
    ended: Option<Arc<Notify>>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.ended = None;
        self.calls.waiting.remove_if(&self.id, |_, ended| Arc::strong_count(ended) == 1);
    }
}

fn has_ended(attempted: &Result<Attempted, Failure>) -> bool {
    matches!(attempted, Ok(Attempted::Ended(_)))
}

pub(super) fn end(record: &mut CallRecord, state: State, failure: Option<Failure>) {
    record.state = state;
    record.failure = failure;
    record.next_ms = None;
    record.ended_ms = Some(unix_ms());
}

fn cancelled() -> Failure {
    Failure::new(FailureCode::Cancelled, "it was cancelled")
}
