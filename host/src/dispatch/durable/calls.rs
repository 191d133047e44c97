//! Single durable calls: `spawn`, `get`, `cancel`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::call_driver::CallDriver;
use super::call_outcome::{Outcome, settle};
use super::call_queue::{AttemptEnd, LaneKey};
use super::core::{Core, Options};
use super::error::DurableError;
use super::idempotency::fingerprint;
use crate::call::Payload;
use crate::clock::unix_ms;
use crate::dispatch::call::check;
use crate::ids::CallId;
use crate::limits::RetryPolicy;
use crate::sandbox::FunctionRef;
use crate::storage::{CallRecord, Idempotency, KeyedRecord, Kind, OpenCall, State};

/// The durable calls of a host.
pub struct Calls {
    core: Arc<Core>,
    driver: Arc<CallDriver>,
}

impl Calls {
    pub fn new(core: Arc<Core>) -> Self {
        let driver = CallDriver::new(core.clone());
        Self { core, driver }
    }

    /// Returns the driver of the calls.
    pub fn driver(&self) -> &Arc<CallDriver> {
        &self.driver
    }

    /// Queues calls that an earlier host has accepted.
    pub fn recover(&self, open: Vec<OpenCall>) {
        for call in &open {
            self.core.open.recover(&call.function.app, Kind::Call);
        }
        self.driver.accepted(open);
    }

    /// Begins calls until the host stops.
    pub fn start(&self) {
        self.core.lifecycle.spawn(self.driver.clone().run());
    }

    /// Begins nothing more, once the lifecycle is stopped.
    pub fn stop(&self) {
        self.driver.stop();
    }

    /// Returns how many calls wait to begin.
    pub fn waiting(&self) -> usize {
        self.core.open.calls().saturating_sub(self.driver.owned())
    }

    /// Keeps a call and begins it as soon as there is a place. Returns once it is on disk; a second request with the
    /// same key returns the same call.
    pub async fn spawn(
        &self,
        function: &FunctionRef,
        input: Payload,
        options: Options,
    ) -> Result<CallRecord, DurableError> {
        let depth = options.depth(&function.name)?;
        check(function, &input)?;
        let id = function.id();
        let fingerprint = fingerprint(&[b"call", input.content_type.as_bytes(), &input.data]);
        let key = options.key.clone();
        let find = async |keyed: KeyedRecord| self.record(CallId::from_bytes(keyed.id)).await;
        let make = async |idempotency: Option<Idempotency>| {
            let record = CallRecord {
                priority: options.priority,
                parent: options.parent.map(|(parent, _)| parent),
                depth,
                idempotency_key: idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
                ..CallRecord::new(&id, options.principal, unix_ms())
            };
            self.accept(function, record, input, idempotency).await
        };
        let Core { journal, idempotency, .. } = &*self.core;
        idempotency.once(&**journal, &id, key.as_deref(), fingerprint, find, make).await
    }

    /// Writes a new call. One that begins at once is leased with the same write.
    async fn accept(
        &self,
        function: &FunctionRef,
        mut record: CallRecord,
        input: Payload,
        idempotency: Option<Idempotency>,
    ) -> Result<CallRecord, DurableError> {
        let reservation = self.core.open.reserve(function.app(), Kind::Call)?;
        let takes_work = !self.core.lifecycle.is_stopped() && !self.core.runner.is_closed();
        let lane = LaneKey { function: record.function_id(), priority: record.priority };
        let calls_max = if takes_work { function.limits.map_concurrency() } else { 0 };
        let mut owned = self.driver.begin(record.id, lane, calls_max);
        if owned.is_some() {
            record.state = State::Leased;
            record.attempts = 1;
            record.version = Some(function.version().clone());
        }
        if let Err(error) = self.core.journal.accept_call(&record, input.clone(), idempotency.as_ref()).await {
            if let Some(owned) = &mut owned {
                owned.release(AttemptEnd::Ended);
            }
            return Err(error.into());
        }
        reservation.keep();
        match owned {
            Some(owned) => self.driver.begin_leased(owned, record.clone(), input),
            None => {
                let CallRecord { id, priority, .. } = record;
                self.driver.accepted([OpenCall {
                    id,
                    function: record.function_id(),
                    priority,
                    next_ms: None,
                    run: None,
                }]);
            }
        }
        Ok(record)
    }

    /// Returns a call, once it has ended or after `wait`.
    pub async fn get(&self, id: CallId, wait: Duration) -> Result<CallRecord, DurableError> {
        let deadline = tokio::time::Instant::now() + wait;
        let waiter = self.driver.waiters.watch(id);
        loop {
            let mut released = pin!(waiter.released());
            released.as_mut().enable();
            let record = self.record(id).await?;
            if record.state.is_terminal() || tokio::time::timeout_at(deadline, released).await.is_err() {
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

    /// Cancels a call in whatever state, and nothing else. Returns how it ended.
    pub async fn cancel_one(&self, id: CallId) -> Result<CallRecord, DurableError> {
        let waiter = self.driver.waiters.watch(id);
        loop {
            let mut released = pin!(waiter.released());
            released.as_mut().enable();
            if let Some(claim) = self.driver.cancel(id) {
                let mut record = self.record(id).await?;
                if !record.state.is_terminal() {
                    settle(&mut record, Outcome::Cancelled, unix_ms(), &RetryPolicy::default(), 0.0);
                    self.core.journal.save_call(&record, None).await?;
                    self.driver.ended(&record);
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
    pub fn parent_waits(&self, call: CallId) -> Option<impl Drop> {
        self.driver.parent_waits(call)
    }
}
