//! Engine of all maps: leases inputs from the window, makes an attempt at each, and settles it with the backing.
//!
//! Not here: the tasks that do so (`runners`). The backing is a trait: memory is one, the journal the other.
//!
//! Invariants: an input that was leased is settled, or is back in the window when its runner ends, by whatever; a panic
//! costs one attempt at most; an input that could not begin is not charged for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::window::{Input, Window};
use crate::call::{CallResult, Failure, Payload, Receipt};
use crate::dispatch::apps::find_function;
use crate::dispatch::call::{Attempted, Call, Origin, check};
use crate::dispatch::retry::{Verdict, verdict};
use crate::dispatch::runner::Runner;
use crate::failpoint;
use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::limits::{RetryPolicy, TICK};
use crate::sandbox::{FunctionRef, Siblings};

/// Wait of a runner whose input could not be read.
const READ_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Engine<B: Backing> {
    pub runner: Arc<Runner>,
    target: Target,
    pub origin: Origin,
    /// Its calls under way, so that their requests to a model form batches.
    siblings: Arc<Siblings>,
    state: Mutex<State<B>>,
    /// Notified when a runner may be started, or has left.
    pub wake: Notify,
    /// Notified by a backing when it has outcomes to write.
    pub settled: Notify,
}

/// Backing of a map: source of its inputs, destination of its outcomes. It is part of the engine's state, so a method
/// that takes `self` runs under the engine's lock.
pub(crate) trait Backing: Sized + Send + 'static {
    /// An input as it waits.
    type Body: Send;

    /// Whether an input outlives the host. Then one whose attempt the host's end prevents or cuts short is put back;
    /// otherwise it ends with that failure.
    const IS_DURABLE: bool;

    /// Returns the time against which retries are due, in milliseconds.
    fn now_ms(&self) -> u64;

    /// Whether inputs may begin. Asked before each one.
    fn is_open(&self) -> bool;

    /// Lets nothing more begin. Called when the host ends.
    fn stop(&mut self);

    /// Whether more inputs should be loaded; the engine then wakes the backing's driver. Asked after each input that
    /// began.
    fn wants_more(&self, window: &Window<Self::Body>) -> bool;

    /// Takes the payload of an input for an attempt, or reads it. An input that cannot be read now is put back.
    fn take_payload(
        engine: &Engine<Self>,
        body: &mut Self::Body,
    ) -> impl Future<Output = Result<Payload, Unreadable>> + Send;

    /// Returns the payload after the attempt: the input is as it was.
    fn return_payload(body: &mut Self::Body, payload: Payload);

    /// Takes what an attempt came to, without the lock. The input stays leased until the backing ends it or queues its
    /// retry.
    fn settle(engine: &Engine<Self>, ended: Ended<Self::Body>);
}

/// An input that cannot be read now. The backing has logged why.
pub(crate) struct Unreadable;

/// An attempt that has ended.
pub(crate) struct Ended<B> {
    pub input: Input<B>,
    pub call: CallId,
    pub began: Instant,
    pub result: CallResult,
    /// Cost of this attempt alone.
    pub receipt: Receipt,
    /// Wait before the next attempt; none if `result` is the outcome.
    pub retry: Option<Duration>,
}

/// Function of a map.
pub(crate) enum Target {
    /// Of one version.
    Version(FunctionRef),
    /// Of the version that is live when an attempt begins. Input `index` of `map` is call `map.call(index)`.
    Deployed { function: FunctionId, map: MapId },
}

/// What runners and the map's owner share.
pub(crate) struct State<B: Backing> {
    pub window: Window<B::Body>,
    pub backing: B,
    /// Runners that have not left.
    pub runners: usize,
}

impl<B: Backing> State<B> {
    pub(crate) fn new(window: Window<B::Body>, backing: B) -> Self {
        Self { window, backing, runners: 0 }
    }

    /// Whether nothing runs and nothing is going to, until there are more inputs or more room.
    pub(crate) fn is_idle(&mut self) -> bool {
        let Self { window, backing, .. } = self;
        self.runners == 0 && window.next_ms().is_none() && window.startable(|| backing.now_ms()) == 0
    }
}

/// Reason for which an attempt was not made.
enum NotBegun {
    /// The host takes no more calls.
    Closed,
    NotDeployed,
    Unreadable,
}

impl<B: Backing> Engine<B> {
    pub(crate) fn new(runner: Arc<Runner>, target: Target, origin: Origin, state: State<B>) -> Arc<Self> {
        let (wake, settled) = (Notify::new(), Notify::new());
        Arc::new(Self { runner, target, origin, siblings: Arc::default(), state: Mutex::new(state), wake, settled })
    }

    /// Returns the app whose function it calls.
    pub(crate) fn app(&self) -> &AppName {
        match &self.target {
            Target::Version(function) => function.app(),
            Target::Deployed { function, .. } => &function.app,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock()
    }

    /// Waits until runners may have to be started: a runner has left, inputs came, or a retry is due. Start them
    /// first, or a retry that is due makes it return at once.
    pub(crate) async fn changed(&self) {
        let wait_ms = {
            let state = self.lock();
            state.window.next_ms().map(|at_ms| at_ms.saturating_sub(state.backing.now_ms()))
        };
        match wait_ms.map(Duration::from_millis) {
            None => self.wake.notified().await,
            Some(wait) => drop(tokio::time::timeout(wait, self.wake.notified()).await),
        }
    }

    /// Writes a call's failure into the app's log, if the app is deployed.
    pub(crate) fn log_failure(&self, call: CallId, failure: &Failure) {
        if let Some(Ok(function)) = self.function() {
            self.runner.log_failure(call, &function, failure);
        }
    }

    /// Returns the function that an attempt runs now, or why there is none; nothing if the app is not deployed.
    fn function(&self) -> Option<Result<FunctionRef, Failure>> {
        match &self.target {
            Target::Version(function) => Some(Ok(function.clone())),
            Target::Deployed { function, .. } => {
                let program = self.runner.apps.get(function.app.as_str())?;
                Some(find_function(&program, function.function.as_str()))
            }
        }
    }

    /// Returns how many inputs run at a time: no more than may run, for a call that waits is one whose time runs.
    pub(crate) fn concurrency(&self) -> usize {
        match self.function() {
            Some(Ok(function)) => function.limits.map_concurrency(),
            // An input of a function that is gone runs to its failure.
            Some(Err(_)) => 1,
            None => 0,
        }
    }

    fn retries(&self) -> RetryPolicy {
        match &self.target {
            Target::Version(function) => function.limits.retries,
            Target::Deployed { function, .. } => self.runner.apps.retries(function),
        }
    }

    fn call_id(&self, index: u64) -> CallId {
        match &self.target {
            Target::Version(_) => CallId::generate(),
            Target::Deployed { map, .. } => map.call(index),
        }
    }

    /// Runs inputs one after the other until none can begin.
    pub(crate) async fn run(&self) {
        let mut yielded = Instant::now();
        while let Some(input) = self.lease() {
            let mut lease = Lease { engine: self, input: Some(input), call: None };
            failpoint::panic_at("map.leased");
            let begun = self.attempt(&mut lease).await;
            drop(lease);
            match begun {
                Ok(()) => {}
                Err(NotBegun::Closed) => self.lock().backing.stop(),
                // Runners are started again when the app is back.
                Err(NotBegun::NotDeployed) => return,
                Err(NotBegun::Unreadable) => tokio::time::sleep(READ_WAIT).await,
            }
            // Tiny calls never wait, and would keep the thread until the inputs run out.
            if yielded.elapsed() >= TICK {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
        }
    }

    fn lease(&self) -> Option<Input<B::Body>> {
        let mut state = self.lock();
        let State { window, backing, .. } = &mut *state;
        let input = if backing.is_open() { window.lease(|| backing.now_ms()) } else { None };
        // Before the inputs run out, so that runners need not wait for more.
        if input.is_some() && backing.wants_more(window) {
            self.wake.notify_one();
        }
        input
    }

    /// Makes an attempt at an input and settles it. One that did not begin is put back with the lease.
    async fn attempt(&self, lease: &mut Lease<'_, B>) -> Result<(), NotBegun> {
        let Some(input) = &mut lease.input else { return Ok(()) };
        if B::IS_DURABLE && self.runner.is_closed() {
            return Err(NotBegun::Closed);
        }
        let (began, mut receipt) = (Instant::now(), Receipt::default());
        let id = self.call_id(input.index);
        let attempted = match self.function().ok_or(NotBegun::NotDeployed)? {
            Err(failure) => Attempted::Ended(Err(failure)),
            Ok(function) => {
                let payload = B::take_payload(self, &mut input.body).await.map_err(|_| NotBegun::Unreadable)?;
                let (origin, siblings) = (self.origin.clone(), Some(self.siblings.clone()));
                let call = lease.call.insert(Call { id, function, input: payload, origin, siblings });
                match check(&call.function, &call.input) {
                    Err(failure) => Attempted::Ended(Err(failure)),
                    Ok(()) => {
                        let _running = self.siblings.run();
                        let _live = self.runner.enter(call);
                        self.runner.attempt(call, input.attempts + 1, &mut receipt).await
                    }
                }
            }
        };
        let is_closed = self.runner.is_closed();
        let (result, may_retry) = match attempted {
            Attempted::Ended(result) => (result, !is_closed),
            // Refused, or too late. A durable call waits for its slot as long as the host runs.
            Attempted::NoSlot(failure) => (Err(failure), false),
        };
        // The host ends; the next one makes the attempt again.
        if B::IS_DURABLE && is_closed && result.is_err() {
            return Err(NotBegun::Closed);
        }
        let retry =
            result.as_ref().err().filter(|_| may_retry).and_then(|failure| self.retry(input.failed + 1, failure));
        if retry.is_none() {
            let function = lease.call.as_ref().map(|call| call.function.counters());
            let failure = result.as_ref().err().map(|failure| failure.code);
            function.unwrap_or(self.runner.apps.counters().other()).count_map_input(failure, &receipt);
        }
        lease.settle(|input| Ended { input, call: id, began, result, receipt, retry });
        Ok(())
    }

    /// Returns the wait before the next attempt, if another may follow.
    fn retry(&self, failed: u32, failure: &Failure) -> Option<Duration> {
        let Verdict::Retry(delay) = verdict(failure, failed, &self.retries(), rand::random()) else { return None };
        (!self.origin.is_late_after(delay)).then_some(delay)
    }
}

/// An input that a runner has; put back unless it is settled.
struct Lease<'a, B: Backing> {
    engine: &'a Engine<B>,
    input: Option<Input<B::Body>>,
    /// Has the payload of the input, once there is one.
    call: Option<Call>,
}

impl<B: Backing> Lease<'_, B> {
    fn settle(&mut self, ended: impl FnOnce(Input<B::Body>) -> Ended<B::Body>) {
        if let Some(input) = self.take() {
            B::settle(self.engine, ended(input));
        }
    }

    fn take(&mut self) -> Option<Input<B::Body>> {
        let mut input = self.input.take()?;
        if let Some(call) = self.call.take() {
            B::return_payload(&mut input.body, call.input);
        }
        Some(input)
    }
}

impl<B: Backing> Drop for Lease<'_, B> {
    fn drop(&mut self) {
        if let Some(input) = self.take() {
            self.engine.lock().window.put_back(input);
        }
    }
}
