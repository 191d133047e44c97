//! Single durable calls: `spawn`, `get`, `cancel`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::call_driver::CallDriver;
use super::call_outcome::{Outcome, settle};
use super::call_queue::{AttemptEnd, LaneKey};
use super::core::{Core, Options};
use super::error::DurableError;
use super::idempotency::identity;
use crate::call::Payload;
use crate::dispatch::call::check;
use crate::ids::CallId;
use crate::limits::{OPEN_CALLS_PER_APP_MAX, RetryPolicy};
use crate::sandbox::FunctionRef;
use crate::storage::{Accept, CallRecord, CallSettle, NewRecord, OpenCall, Settled, State};

/// Interval at which a waiter looks at its call again: the end of one that another host runs wakes nobody here.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The durable calls of a host.
pub(crate) struct Calls {
    core: Arc<Core>,
    driver: Arc<CallDriver>,
}

impl Calls {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let driver = CallDriver::new(core.clone());
        Self { core, driver }
    }

    /// Returns the driver of the calls.
    pub(crate) fn driver(&self) -> &Arc<CallDriver> {
        &self.driver
    }

    /// Begins calls until the host stops.
    pub(crate) fn start(&self) {
        self.core.lifecycle.spawn(self.driver.clone().run());
    }

    /// Returns how many calls wait to begin. An estimate, for metrics.
    pub(crate) fn waiting(&self) -> usize {
        self.core.journal.open().calls.saturating_sub(self.driver.owned())
    }

    /// Keeps a call and begins it as soon as there is a place. Returns once it is on disk; a second request with the
    /// same key returns the same call.
    pub(crate) async fn spawn(
        &self,
        function: &FunctionRef,
        input: Payload,
        options: Options,
    ) -> Result<CallRecord, DurableError> {
        let depth = options.depth(&function.name)?;
        check(function, &input)?;
        let request: [&[u8]; 3] = [b"call", input.content_type.as_bytes(), &input.data];
        let idempotency = identity(options.key.as_deref(), &request)?;
        let mut record = CallRecord {
            priority: options.priority,
            parent: options.parent.map(|(parent, _)| parent),
            depth,
            idempotency_key: options.key,
            ..CallRecord::new(&function.id(), options.principal, self.core.now_ms())
        };
        let takes_work = !self.core.lifecycle.is_stopped() && !self.core.runner.is_closed();
        let lane = LaneKey { function: record.function_id(), priority: record.priority };
        let calls_max = if takes_work { function.limits.map_concurrency() } else { 0 };
        let owned = self.driver.begin(record.id, lane, calls_max);
        // One that begins at once is leased with the same write.
        if owned.is_some() {
            record.state = State::Leased;
            record.attempts = 1;
            record.version = Some(function.version().clone());
        }
        let accept = Accept {
            record: NewRecord::Call(Box::new(record.clone()), input.clone()),
            idempotency,
            parent_map: options.parent_map,
            open_max: OPEN_CALLS_PER_APP_MAX,
        };
        let accepted = self.core.accept(accept).await;
        match (&accepted, owned) {
            (Ok(None), Some(owned)) => self.driver.begin_leased(owned, record.clone(), input),
            // If it was accepted, it is found when it is looked at again.
            (Err(DurableError::Unanswered { .. }), Some(mut owned)) => {
                owned.release(self.driver.paused());
            }
            (Ok(None) | Err(DurableError::Unanswered { .. }), None) => {
                let (id, function, priority) = (record.id, record.function_id(), record.priority);
                self.driver.accepted([OpenCall { id, function, priority, next_ms: None, run: None }]);
            }
            (Ok(Some(_)) | Err(_), Some(mut owned)) => {
                owned.release(AttemptEnd::Ended);
            }
            (Ok(Some(_)) | Err(_), None) => {}
        }
        match accepted? {
            None => Ok(record),
            Some(first) => self.record(CallId::from_bytes(first.id)).await,
        }
    }

    /// Returns a call, once it has ended or after `wait`.
    pub(crate) async fn get(&self, id: CallId, wait: Duration) -> Result<CallRecord, DurableError> {
        let deadline = Instant::now() + wait;
        let waiter = self.driver.waiters.watch(id);
        loop {
            let mut released = pin!(waiter.released());
            released.as_mut().enable();
            let record = self.record(id).await?;
            let now = Instant::now();
            if record.state.is_terminal() || now >= deadline {
                return Ok(record);
            }
            let _ = timeout_at(deadline.min(now + LOOK_INTERVAL), released).await;
        }
    }

    async fn record(&self, id: CallId) -> Result<CallRecord, DurableError> {
        self.core.journal.call(id).await?.ok_or(DurableError::UnknownCall { id })
    }

    /// Returns the output of a call that is done.
    pub(crate) async fn output(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        Ok(self.core.journal.call_output(id).await?)
    }

    /// Returns the input of a call.
    pub(crate) async fn input(&self, id: CallId) -> Result<Option<Payload>, DurableError> {
        Ok(self.core.journal.call_input(id).await?)
    }

    /// Cancels a call in whatever state, and nothing else. Returns how it ended.
    pub(crate) async fn cancel_one(&self, id: CallId) -> Result<CallRecord, DurableError> {
        let waiter = self.driver.waiters.watch(id);
        loop {
            let mut released = pin!(waiter.released());
            released.as_mut().enable();
            if let Some(claim) = self.driver.cancel(id) {
                let mut record = self.record(id).await?;
                if !record.state.is_terminal() {
                    settle(&mut record, Outcome::Cancelled, self.core.now_ms(), &RetryPolicy::default(), 0.0);
                    let cancel = CallSettle { record: Box::new(record.clone()), lease: None, output: None };
                    match self.core.lifecycle.answered(|| self.core.journal.settle(cancel.clone())).await? {
                        Settled::Kept => self.driver.ended(&record),
                        Settled::Ended(kept) => {
                            self.driver.had_ended(&kept, &record);
                            record = *kept;
                        }
                        Settled::Fenced => return Err(DurableError::RunsElsewhere { id }),
                    }
                }
                claim.release_ended();
                return Ok(record);
            }
            // Its owner writes the end, unless the host stops.
            released.await;
            let record = self.record(id).await?;
            if record.state.is_terminal() {
                return Ok(record);
            }
        }
    }

    /// A call waits for other calls until the result is dropped; see `CallQueue::parent_waits`.
    pub(crate) fn parent_waits(&self, call: CallId) -> Option<impl Drop> {
        self.driver.parent_waits(call)
    }
}
