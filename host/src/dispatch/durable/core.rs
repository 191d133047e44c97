//! Parts that durable calls and maps share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use super::error::DurableError;
use super::lifecycle::Lifecycle;
use crate::budgets::ByteBudget;
use crate::call::{Failure, Principal, Priority};
use crate::dispatch::call::child_depth;
use crate::dispatch::runner::Runner;
use crate::ids::{CallId, FunctionId, FunctionName, MapId};
use crate::storage::{
    Accept, Accepted, CallRecord, ErrorKind, Journal, KeyValue, KeyedRecord, LeaseHolder, LeaseToken, Members,
    NewRecord, Storage, StorageError, Timetable,
};

/// See the module.
pub(crate) struct Core {
    /// Makes the attempts.
    pub runner: Arc<Runner>,
    /// Memory budget that maps in memory draw on as well.
    pub map_memory: ByteBudget,
    pub journal: Arc<dyn Journal>,
    pub timetable: Arc<dyn Timetable>,
    pub members: Arc<dyn Members>,
    /// Values that expire are swept with the journal.
    pub key_value: Arc<dyn KeyValue>,
    /// Holder of the leases of this start; set before anything is leased.
    holder: OnceLock<LeaseHolder>,
    pub lifecycle: Lifecycle,
    /// How far the engine's clock is ahead of the time that retention goes by. Written by the sweeper.
    pub clock_ahead_ms: AtomicU64,
}

/// Settings of a new call or map, besides its function and input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Priority of the call, or of each call of the map.
    pub priority: Priority,
    /// Idempotency key: a second request with the same key returns the call or map of the first.
    pub key: Option<String>,
    /// Party on whose behalf the call or map runs.
    pub principal: Principal,
    /// The spawning call and its depth.
    pub parent: Option<(CallId, u32)>,
    /// Durable map that has the spawning call as an input.
    pub parent_map: Option<MapId>,
}

impl Options {
    /// Returns the depth of a call or map of `function`, or refuses it.
    pub(crate) fn depth(&self, function: &FunctionName) -> Result<u32, Failure> {
        self.parent.map_or(Ok(0), |(_, depth)| child_depth(function, depth))
    }
}

impl Core {
    pub(crate) fn new(runner: Arc<Runner>, map_memory: ByteBudget, storage: &Storage) -> Arc<Self> {
        let Storage { journal, timetable, members, key_value, .. } = storage.clone();
        let (holder, lifecycle, clock_ahead_ms) = Default::default();
        Arc::new(Self { runner, map_memory, journal, timetable, members, key_value, holder, lifecycle, clock_ahead_ms })
    }

    /// Joins the hosts of the engine. Once, before anything is leased.
    pub(crate) async fn join(&self) -> Result<(), StorageError> {
        let holder = self.lifecycle.answered(|| self.members.join()).await?;
        self.holder.get_or_init(|| holder);
        Ok(())
    }

    /// Returns the time of the engine, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.journal.now_ms()
    }

    /// Returns the lease of the attempt that a call is in.
    pub(crate) fn lease(&self, record: &CallRecord) -> Option<LeaseToken> {
        self.holder.get().map(|holder| LeaseToken { holder: *holder, attempt: record.attempts })
    }

    /// Keeps a new call or map. Returns the one of an earlier request with the same key, if there is one.
    pub(crate) async fn accept(&self, new: Accept) -> Result<Option<KeyedRecord>, DurableError> {
        let (app, parent, what) = match &new.record {
            NewRecord::Call(record, _) => (record.app.clone(), record.parent, "call"),
            NewRecord::Map(header) => (header.app.clone(), header.parent, "map"),
        };
        let request = new.idempotency.clone();
        // A guest has no key to send its request again with.
        let answer = match parent {
            Some(_) => self.lifecycle.answered(|| self.journal.accept(vec![new.clone()])).await,
            None => self.journal.accept(vec![new]).await,
        };
        let mut accepted = match answer {
            Ok(accepted) => accepted,
            Err(source) if source.kind() == ErrorKind::Unknown => {
                return Err(DurableError::Unanswered { what, source });
            }
            Err(error) => return Err(error.into()),
        };
        match accepted.pop().expect("each new record has its answer") {
            Accepted::New => Ok(None),
            Accepted::Existing(keyed) => match request {
                Some(request) if request.fingerprint != keyed.fingerprint => {
                    Err(DurableError::KeyReused { key: request.key })
                }
                _ => Ok(Some(keyed)),
            },
            Accepted::TooMany { open } => Err(DurableError::TooMany { app, open, what }),
            Accepted::OverQuota(over) => Err(DurableError::OverQuota(over)),
            Accepted::ParentCancelled => Err(DurableError::ParentCancelled),
        }
    }

    /// Returns how many calls of a function may run at a time, as its live version says; `None` while the app is not
    /// deployed.
    pub(crate) fn calls_max(&self, function: &FunctionId) -> Option<usize> {
        let program = self.runner.apps.get(function.app.as_str())?;
        // A call of a function that is gone runs to its failure.
        Some(program.find(function.function.as_str()).map_or(1, |function| function.limits.map_concurrency()))
    }

    /// Counts the end of a durable call.
    pub(crate) fn count_end(&self, record: &CallRecord) {
        let failure = record.failure.as_ref().map(|failure| failure.code);
        match self.runner.apps.function(&record.function_id()) {
            Some(function) => function.counters().count_end(failure, &record.receipt),
            None => self.runner.apps.counters().other().count_end(failure, &record.receipt),
        }
    }

    /// Writes a failure into the app's log, if the app is deployed.
    pub(crate) fn log_failure(&self, call: CallId, function: &FunctionId, failure: &Failure) {
        if let Some(function) = self.runner.apps.function(function) {
            self.runner.log_failure(call, &function, failure);
        }
    }
}
