//! Parts that durable calls and maps share.

use std::sync::Arc;

use super::idempotency::IdempotencyGate;
use super::lifecycle::Lifecycle;
use super::open_counts::OpenCounts;
use super::spawn_gate::SpawnGate;
use crate::call::{Failure, Principal, Priority};
use crate::dispatch::call::child_depth;
use crate::dispatch::map::MapMemory;
use crate::dispatch::runner::Runner;
use crate::ids::{CallId, FunctionId, FunctionName};
use crate::storage::{CallRecord, Journal};

/// See the module.
pub struct Core {
    /// Makes the attempts.
    pub runner: Arc<Runner>,
    /// Memory budget that maps in memory draw on as well.
    pub map_memory: MapMemory,
    pub journal: Arc<dyn Journal>,
    pub lifecycle: Lifecycle,
    pub open: OpenCounts,
    pub idempotency: IdempotencyGate,
    pub spawns: SpawnGate,
}

/// Settings of a new call or map, besides its function and input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub priority: Priority,
    /// Idempotency key: a second request with the same key returns the call or map of the first.
    pub key: Option<String>,
    pub principal: Principal,
    /// The spawning call and its depth.
    pub parent: Option<(CallId, u32)>,
}

impl Options {
    /// Returns the depth of a call or map of `function`, or refuses it.
    pub fn depth(&self, function: &FunctionName) -> Result<u32, Failure> {
        self.parent.map_or(Ok(0), |(_, depth)| child_depth(function, depth))
    }
}

impl Core {
    pub fn new(runner: Arc<Runner>, map_memory: MapMemory, journal: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self {
            runner,
            map_memory,
            journal,
            lifecycle: Lifecycle::default(),
            open: OpenCounts::default(),
            idempotency: IdempotencyGate::default(),
            spawns: SpawnGate::default(),
        })
    }

    /// Returns how many calls of a function may run at a time, as its live version says; `None` while the app is not
    /// deployed.
    pub fn calls_max(&self, function: &FunctionId) -> Option<usize> {
        let program = self.runner.apps.get(function.app.as_str())?;
        // A call of a function that is gone runs to its failure.
        Some(program.find(function.function.as_str()).map_or(1, |function| function.limits.map_concurrency()))
    }

    /// Counts the end of a durable call.
    pub fn count_end(&self, record: &CallRecord) {
        let failure = record.failure.as_ref().map(|failure| failure.code);
        match self.runner.apps.function(&record.function_id()) {
            Some(function) => function.counters().count_end(failure, &record.receipt),
            None => self.runner.apps.counters().other().count_end(failure, &record.receipt),
        }
    }

    /// Writes a failure into the app's log, if the app is deployed.
    pub fn log_failure(&self, call: CallId, function: &FunctionId, failure: &Failure) {
        if let Some(function) = self.runner.apps.function(function) {
            self.runner.log_failure(call, &function, failure);
        }
    }
}
