//! Calls: attempts, each alone or in a batch, and the retry loop.

use std::sync::Arc;
use std::time::Instant;

use super::apps::Apps;
use super::batching::Batching;
use super::call::{Attempted, Call, Finished, Origin, WebCall, check, check_secrets, panicked};
use super::executor::{AttemptSpec, Executor};
use super::live_calls::{Entered, LiveCalls};
use super::poll_throttle::PollThrottle;
use super::retry::{self, Verdict};
use crate::app::compiled::Compiled;
use crate::app::metadata::Metadata;
use crate::call::{Failure, Receipt, micros};
use crate::failpoint;
use crate::ids::{AppName, CallId};
use crate::limits::{DURABLE_WAITING_APP_MAX, LOG_LINE_BYTES_MAX};
use crate::logs::{self, LogSink, printable_within};
use crate::metrics::CallCounters;
use crate::sandbox::{FunctionRef, Sandbox, SandboxError, Services};
use crate::tasks;

/// Runs calls of deployed apps. Maps, durable calls and schedules hold it.
pub(crate) struct Runner {
    executor: Arc<Executor>,
    batching: Arc<Batching>,
    pub(super) apps: Apps,
    pub(super) live: LiveCalls,
}

impl Runner {
    pub(super) fn new(
        sandbox: Arc<Sandbox>,
        services: Arc<Services>,
        log: Arc<dyn LogSink>,
        counters: Arc<CallCounters>,
    ) -> Arc<Self> {
        let holders = services.budgets.holders.clone();
        let executor = Arc::new(Executor::new(sandbox, services, log));
        let batching = Batching::new(executor.clone());
        let apps = Apps::new(counters, holders);
        Arc::new(Self { executor, batching, apps, live: LiveCalls::default() })
    }

    /// Runs a component's `describe` in a slot.
    pub(super) async fn describe(&self, component: &Compiled) -> Result<Result<Metadata, SandboxError>, Failure> {
        self.executor.describe(component).await
    }

    /// Runs one call to its end. Dropping the future cancels it, wherever it is.
    pub(crate) async fn call(&self, call: Call) -> Finished {
        let (id, function) = (call.id, call.function.clone());
        let counted = function.counters().begin();
        let finished = tasks::caught(self.call_with_retries(call)).await;
        let finished = finished.unwrap_or_else(|panic| self.end_in_panic(id, &function, &panic));
        counted.end(finished.failure_code(), &finished.receipt);
        finished
    }

    async fn call_with_retries(&self, call: Call) -> Finished {
        let id = call.id;
        failpoint::panic_at("call.begin");
        let mut receipt = Receipt::default();
        if let Err(failure) = check(&call.function, &call.input) {
            return Finished::failed(id, failure);
        }
        let _live = self.enter(&call);
        let arrived = Instant::now();
        let mut first_queue_us = 0;
        let mut attempt = 1;
        let result = loop {
            // The panic of an attempt is caught around the whole call.
            let result = match self.attempt_unguarded(&call, attempt, &mut receipt).await {
                Attempted::NoSlot(failure) => break Err(failure),
                Attempted::Ended(result) => result,
            };
            if attempt == 1 {
                first_queue_us = receipt.queue_us;
            }
            let Err(failure) = &result else { break result };
            if self.is_closed() {
                break result;
            }
            let verdict = retry::verdict(failure, attempt, &call.function.limits.retries, rand::random());
            let Verdict::Retry(delay) = verdict else { break result };
            if call.origin.is_late_after(delay) {
                break result;
            }
            let function = &call.function.name;
            tracing::info!(%id, %function, attempt, ?delay, failure = %failure, "a call failed and is tried again");
            tokio::select! {
                () = tokio::time::sleep(delay) => attempt += 1,
                () = self.closing() => break result,
            }
        };
        if receipt.attempts > 0 {
            // That of the attempts, and the waits between them.
            receipt.end_call(micros(arrived.elapsed()).saturating_sub(first_queue_us));
        }
        if let Err(failure) = &result {
            self.log_failure(id, &call.function, failure);
        }
        Finished { id, result, receipt }
    }

    /// Makes one attempt at a call that was checked and entered, and adds its cost to `receipt`, whose wall clock is
    /// that of the attempts alone. A panic of the host costs this attempt, and gives back its slot.
    pub(super) async fn attempt(&self, call: &Call, attempt: u32, receipt: &mut Receipt) -> Attempted {
        let attempted = tasks::caught(self.attempt_unguarded(call, attempt, receipt)).await;
        attempted.unwrap_or_else(|panic| Attempted::Ended(Err(panicked(call.id, &panic))))
    }

    async fn attempt_unguarded(&self, call: &Call, attempt: u32, receipt: &mut Receipt) -> Attempted {
        let Call { id, function, input, origin, siblings } = call;
        if let Some(limits) = &function.limits.group {
            return self.batching.attempt(call, attempt, limits, receipt).await;
        }
        let spec = AttemptSpec { id: *id, function, origin, attempt, siblings: siblings.clone() };
        self.executor.attempt(spec, input.clone(), receipt).await
    }

    /// Runs a web call. A request that was sent in part cannot be sent again, so there are no retries.
    pub(super) async fn serve(&self, id: CallId, call: WebCall) -> Finished<()> {
        let function = call.function.clone();
        let counted = function.counters().begin();
        let finished = tasks::caught(self.serve_once(id, call)).await;
        let finished = finished.unwrap_or_else(|panic| self.end_in_panic(id, &function, &panic));
        counted.end(finished.failure_code(), &finished.receipt);
        finished
    }

    async fn serve_once(&self, id: CallId, call: WebCall) -> Finished<()> {
        let WebCall { function, exchange, principal } = call;
        if let Err(failure) = check_secrets(&function) {
            self.log_failure(id, &function, &failure);
            return Finished::failed(id, failure);
        }
        let origin = Origin::outside(principal);
        let _live = self.live.enter(id, function.id(), &origin);
        let mut receipt = Receipt::default();
        let spec = AttemptSpec { id, function: &function, origin: &origin, attempt: 1, siblings: None };
        let result = match self.executor.attempt(spec, exchange, &mut receipt).await {
            Attempted::NoSlot(failure) => return Finished { id, result: Err(failure), receipt },
            Attempted::Ended(result) => result,
        };
        if let Err(failure) = &result {
            self.log_failure(id, &function, failure);
        }
        Finished { id, result, receipt }
    }

    fn end_in_panic<T>(&self, id: CallId, function: &FunctionRef, panic: &str) -> Finished<T> {
        let failure = panicked(id, panic);
        self.log_failure(id, function, &failure);
        Finished::failed(id, failure)
    }

    /// Lists a call among those under way until the answer is dropped.
    pub(super) fn enter(&self, call: &Call) -> Entered<'_> {
        self.live.enter(call.id, call.function.id(), &call.origin)
    }

    /// Writes a call's failure into its app's log, for readers other than the caller.
    pub(super) fn log_failure(&self, call: CallId, function: &FunctionRef, failure: &Failure) {
        self.executor.log.line(&logs::LogLine {
            call,
            function: &function.id(),
            version: function.version(),
            source: logs::Source::System,
            level: logs::Level::Error,
            message: &printable_within(&format!("failed [{}]: {failure}", failure.code), LOG_LINE_BYTES_MAX).0,
            fields: &[],
        });
    }

    /// Throttle of the tasks that run calls of low priority.
    pub(super) fn throttle(&self) -> &PollThrottle {
        &self.executor.throttle
    }

    /// Takes no more calls from outside; those that wait for a slot, a batch or another attempt end.
    pub(super) fn close(&self) {
        self.executor.slots.close();
    }

    /// Whether the host is on its way down.
    pub(super) fn is_closed(&self) -> bool {
        self.executor.slots.is_closed()
    }

    /// Waits until the host is on its way down.
    pub(super) async fn closing(&self) {
        self.executor.slots.closing().await;
    }

    /// Returns the number of slots.
    pub(super) fn slots(&self) -> usize {
        self.executor.slots.total()
    }

    /// Counts the slots in use, and the calls that wait for a slot or for others of their batch.
    /// Whether so many durable calls of an app wait that its maps should start no more than they need to go on.
    pub(super) fn has_enough_waiting(&self, app: &AppName) -> bool {
        self.executor.slots.durable_waiting_of(app) >= DURABLE_WAITING_APP_MAX
    }

    pub(super) fn load(&self) -> (usize, usize) {
        let (used, waiting) = self.executor.slots.load();
        (used, waiting + self.batching.waiting())
    }
}
