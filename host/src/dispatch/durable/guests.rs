//! Durable calls and maps for guests: those of their own app, on behalf of a call that may end at any moment.
//!
//! A write runs in a task of its own, so that a caller that ends meanwhile undoes nothing halfway.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::calls::Calls;
use super::core::{Core, Options};
use super::descendants::Descendants;
use super::error::DurableError;
use super::map::Maps;
use super::results::{Results, ResultsOrder};
use crate::call::{CallResult, Failure, FailureCode, Payload, Priority};
use crate::dispatch::apps::find_function;
use crate::ids::{CallId, MapId};
use crate::limits::OUTCOMES_BYTES_MAX;
use crate::sandbox::{BoxFuture, CallIdentity, MapOutcome, Order, OutcomeReader, SpawnedMap, SpawnedProgress};
use crate::storage::{Entry, EntryKind, ErrorKind, MapRecord, MapState, State};

/// See the module.
pub(crate) struct Guests {
    pub core: Arc<Core>,
    pub calls: Arc<Calls>,
    pub maps: Arc<Maps>,
    pub descendants: Descendants,
}

impl Guests {
    /// Keeps a call of the caller's app.
    pub(in crate::dispatch) async fn spawn_for(
        self: &Arc<Self>,
        caller: &CallIdentity,
        function: &str,
        input: Payload,
    ) -> Result<CallId, Failure> {
        let function = find_function(caller.function.program(), function)?;
        let (this, options) = (self.clone(), options(caller));
        self.detached(async move { this.calls.spawn(&function, input, options).await.map(|record| record.id) }).await
    }

    /// Returns the result of a call of the caller's app, once it has ended; none if it has not after `wait`.
    pub(in crate::dispatch) async fn get_for(
        &self,
        caller: &CallIdentity,
        id: &str,
        wait: Duration,
    ) -> Result<Option<CallResult>, Failure> {
        let id = self.own_call(caller, id).await?;
        let left = caller.deadline.saturating_duration_since(Instant::now());
        let place = (!wait.is_zero()).then(|| self.calls.parent_waits(caller.spawner));
        let record = tokio::select! {
            record = self.calls.get(id, wait.min(left)) => record.map_err(failure)?,
            () = self.core.runner.closing() => return Err(closing()),
        };
        drop(place);
        if !record.state.is_terminal() {
            return Ok(None);
        }
        if record.state != State::Done {
            let unknown = || Failure::new(FailureCode::Unavailable, format!("call `{id}` failed"));
            return Ok(Some(Err(record.failure.unwrap_or_else(unknown))));
        }
        match self.calls.output(id).await.map_err(failure)? {
            Some(output) => Ok(Some(Ok(output))),
            None => Err(failure(DurableError::UnknownCall { id })),
        }
    }

    /// Cancels a call of the caller's app and its descendants; returns whether it is cancelled.
    pub(in crate::dispatch) async fn cancel_for(
        self: &Arc<Self>,
        caller: &CallIdentity,
        id: &str,
    ) -> Result<bool, Failure> {
        let id = self.own_call(caller, id).await?;
        let this = self.clone();
        let record = self.detached(async move { this.descendants.cancel_call(id).await }).await?;
        Ok(record.state == State::Cancelled)
    }

    /// Makes a map of a function of the caller's app.
    pub(in crate::dispatch) async fn spawn_map_for(
        self: &Arc<Self>,
        caller: &CallIdentity,
        function: &str,
    ) -> Result<Box<dyn SpawnedMap>, Failure> {
        let function = find_function(caller.function.program(), function)?;
        let (this, options) = (self.clone(), options(caller));
        let (spawner, runtime) = (caller.spawner, tokio::runtime::Handle::current());
        let made = async move {
            let id = this.maps.create_map(&function, options).await?.header.id;
            // Made here, so that it is closed even if nobody waits for it any more.
            Ok(GuestMap { guests: this, id, spawner, started: Some(runtime) })
        };
        Ok(Box::new(self.detached(made).await?))
    }

    /// Finds a map of the caller's app.
    pub(in crate::dispatch) async fn open_map_for(
        self: &Arc<Self>,
        caller: &CallIdentity,
        id: &str,
    ) -> Result<Box<dyn SpawnedMap>, Failure> {
        let id = id.parse::<MapId>().map_err(|error| Failure::new(FailureCode::Terminal, error.to_string()))?;
        match self.maps.map(id).await {
            Ok(record) if record.header.app == *caller.function.app() => {
                let map = GuestMap { guests: self.clone(), id, spawner: caller.spawner, started: None };
                Ok(Box::new(map))
            }
            Ok(_) => Err(failure(DurableError::UnknownMap { id })),
            Err(error) => Err(failure(error)),
        }
    }

    /// Returns the id of a call if it is one of the caller's app. Another app's is as unknown as one that never was.
    async fn own_call(&self, caller: &CallIdentity, id: &str) -> Result<CallId, Failure> {
        let id = id.parse::<CallId>().map_err(|error| Failure::new(FailureCode::Terminal, error.to_string()))?;
        match self.calls.get(id, Duration::ZERO).await {
            Ok(record) if record.app == *caller.function.app() => Ok(id),
            Ok(_) => Err(failure(DurableError::UnknownCall { id })),
            Err(error) => Err(failure(error)),
        }
    }

    /// Does something to its end, even if nobody waits for that.
    async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, DurableError>> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.core.lifecycle.is_stopped() {
            return Err(closing());
        }
        let (done, waits) = oneshot::channel();
        self.core.lifecycle.spawn(async move {
            let _ = done.send(work.await);
        });
        waits.await.map_err(|_| closing())?.map_err(failure)
    }
}

/// A map that a guest holds.
struct GuestMap {
    guests: Arc<Guests>,
    id: MapId,
    /// Call that lends its place while the guest waits for outcomes.
    spawner: CallId,
    /// Of the one that started it, which closes it.
    started: Option<tokio::runtime::Handle>,
}

impl Drop for GuestMap {
    fn drop(&mut self) {
        let Some(runtime) = &self.started else { return };
        let (maps, id) = (self.guests.maps.clone(), self.id);
        let _runtime = runtime.enter();
        self.guests.core.lifecycle.spawn(async move {
            if let Err(error) = maps.close_map(id).await {
                tracing::warn!(map = %id, error = &error as &dyn std::error::Error, "a map whose caller has ended cannot be closed");
            }
        });
    }
}

impl SpawnedMap for GuestMap {
    fn id(&self) -> MapId {
        self.id
    }

    fn push(&self, inputs: Vec<Payload>) -> BoxFuture<'_, Result<u64, Failure>> {
        let (guests, id) = (self.guests.clone(), self.id);
        Box::pin(self.guests.detached(async move { guests.maps.append(id, None, inputs).await }))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let (guests, id) = (self.guests.clone(), self.id);
        Box::pin(self.guests.detached(async move { guests.maps.close_map(id).await.map(drop) }))
    }

    fn progress(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>> {
        Box::pin(async move { self.guests.maps.map(self.id).await.map(|record| progress(&record)).map_err(failure) })
    }

    fn outcome(&self, index: u64) -> BoxFuture<'_, Result<Option<CallResult>, Failure>> {
        Box::pin(async move {
            // Read first: an input that was cancelled by then has no outcome later.
            let record = self.guests.maps.map(self.id).await.map_err(failure)?;
            match self.guests.maps.outcome(self.id, index).await.map_err(failure)? {
                Some(entry) => Ok(Some(result(&self.guests.maps, entry).await?)),
                None if record.state() == MapState::Cancelled && record.progress.ended_ms.is_some() => {
                    let message = format!("input {index} of map `{}` was cancelled", self.id);
                    Ok(Some(Err(Failure::new(FailureCode::Cancelled, message))))
                }
                None => Ok(None),
            }
        })
    }

    fn outcomes(&self, order: Order, start: u64) -> BoxFuture<'_, Result<Box<dyn OutcomeReader>, Failure>> {
        let order = match order {
            Order::Input => ResultsOrder::Input,
            Order::Completion => ResultsOrder::Completion,
        };
        Box::pin(async move {
            let results = self.guests.maps.results(self.id, start, order, true).await.map_err(failure)?;
            let reader = GuestReader {
                guests: self.guests.clone(),
                spawner: self.spawner,
                results,
                entries: VecDeque::new(),
                start,
            };
            Ok(Box::new(reader) as Box<dyn OutcomeReader>)
        })
    }

    fn cancel(&self) -> BoxFuture<'_, Result<SpawnedProgress, Failure>> {
        let (guests, id) = (self.guests.clone(), self.id);
        Box::pin(
            self.guests
                .detached(async move { guests.descendants.cancel_map(id).await.map(|record| progress(&record)) }),
        )
    }
}

/// Outcomes that a guest reads.
struct GuestReader {
    guests: Arc<Guests>,
    spawner: CallId,
    results: Results,
    /// Read, and not yet taken.
    entries: VecDeque<Entry>,
    start: u64,
}

impl OutcomeReader for GuestReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<MapOutcome>, Failure>> {
        Box::pin(async move {
            while self.entries.is_empty() {
                let place = self.guests.calls.parent_waits(self.spawner);
                let entries = tokio::select! {
                    entries = self.results.next() => entries.map_err(failure)?,
                    () = self.guests.core.runner.closing() => return Err(closing()),
                };
                drop(place);
                if entries.is_empty() {
                    return Ok(Vec::new());
                }
                self.entries.extend(entries.into_iter().filter(|entry| entry.index >= self.start));
            }
            let (mut outcomes, mut bytes) = (Vec::new(), 0);
            while outcomes.len() < max && bytes < OUTCOMES_BYTES_MAX {
                let Some(entry) = self.entries.pop_front() else { break };
                let (index, receipt) = (entry.index, entry.receipt.clone());
                let result = result(&self.guests.maps, entry).await?;
                bytes += result.as_ref().map_or_else(Failure::bytes, Payload::bytes);
                outcomes.push(MapOutcome { index, result, receipt });
            }
            Ok(outcomes)
        })
    }
}

/// Returns the result of an input.
async fn result(maps: &Maps, entry: Entry) -> Result<CallResult, Failure> {
    match entry.kind {
        EntryKind::Done(stored) => maps.payload(stored).await.map(Ok).map_err(failure),
        EntryKind::Failed(failure) | EntryKind::Dead(failure) | EntryKind::Retry { failure, .. } => Ok(Err(failure)),
    }
}

/// Options of a caller's children. No client waits for them, so their priority is never high.
fn options(caller: &CallIdentity) -> Options {
    let priority = caller.priority.max(Priority::Normal);
    Options {
        priority,
        key: None,
        principal: caller.principal.clone(),
        parent: Some((caller.spawner, caller.depth)),
        parent_map: caller.spawner_map,
    }
}

fn progress(record: &MapRecord) -> SpawnedProgress {
    let is_ended = record.progress.ended_ms.is_some();
    SpawnedProgress {
        inputs: record.header.accepted,
        done: record.progress.done,
        failed: record.progress.failed + record.progress.dead,
        cancelled: if is_ended { record.cancelled() } else { 0 },
        is_closed: record.header.is_closed || record.header.is_cancelled,
        is_ended,
    }
}

/// The host ends; a caller that is kept goes on with the next one.
fn closing() -> Failure {
    Failure::new(FailureCode::Unavailable, "the host is shutting down")
}

/// Failure that a guest gets. It never holds a path of the host.
fn failure(error: DurableError) -> Failure {
    let (code, message) = match error {
        DurableError::Refused(failure) => return failure,
        DurableError::TooMany { .. } | DurableError::OverQuota(_) => (FailureCode::Overloaded, error.to_string()),
        DurableError::ParentCancelled => (FailureCode::Cancelled, error.to_string()),
        DurableError::Unanswered { .. } | DurableError::RunsElsewhere { .. } => {
            (FailureCode::Unavailable, error.to_string())
        }
        DurableError::Journal(error) => {
            let message = error.public().unwrap_or("the host cannot read or write what it keeps").to_owned();
            // The engine has said that it has no room, once a minute.
            if error.kind() != ErrorKind::Full {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal failed a guest");
            }
            (FailureCode::Unavailable, message)
        }
        // Asking again would be answered in the same way.
        error => (FailureCode::Terminal, error.to_string()),
    };
    Failure::new(code, message)
}
