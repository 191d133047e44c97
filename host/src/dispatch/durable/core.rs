//! Parts that durable calls and maps share.

use std::sync::Arc;

use super::idempotency::IdempotencyGate;
use super::lifecycle::Lifecycle;
use super::open_counts::OpenCounts;
use super::spawn_gate::SpawnGate;
use crate::call::{Failure, FailureCode, Principal, Priority};
use crate::dispatch::map::MapMemory;
use crate::dispatch::runner::Runner;
use crate::ids::{CallId, FunctionId};
use crate::journal::Journal;
use crate::limits::DEPTH_MAX;

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

    /// Returns how many calls of a function may run at a time, as its live version says; `None` while the app is not deployed.
    pub fn calls_max(&self, function: &FunctionId) -> Option<usize> {
        let program = self.runner.apps.get(function.app.as_str())?;
        // A call of a function that is gone runs to its failure.
        Some(program.find(function.function.as_str()).map_or(1, |function| function.limits.map_concurrency()))
    }

    /// Writes a failure into the app's log, if the app is deployed.
    pub fn log_failure(&self, call: CallId, function: &FunctionId, failure: &Failure) {
        if let Some(function) = self.runner.apps.function(function) {
            self.runner.log_failure(call, &function, failure);
        }
    }
}

/// Returns the depth of a child of `parent`, or refuses it.
pub fn depth_below(parent: Option<(CallId, u32)>) -> Result<u32, Failure> {
    match parent {
        None => Ok(0),
        Some((_, depth)) if depth < DEPTH_MAX => Ok(depth + 1),
        Some((_, depth)) => {
            let message = format!("calls nest at most {} deep, and this one would be deeper", depth + 1);
            Err(Failure::new(FailureCode::DepthExceeded, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_one_deeper_down_to_the_limit() {
        let parent = CallId::from_bytes([1; 16]);
        assert_eq!(depth_below(None).unwrap(), 0);
        assert_eq!(depth_below(Some((parent, DEPTH_MAX - 1))).unwrap(), DEPTH_MAX);
        assert_eq!(depth_below(Some((parent, DEPTH_MAX))).unwrap_err().code, FailureCode::DepthExceeded);
    }
}
