//! A call's access to the other functions of its app: the permits for maps and spawns, and the handles that a guest
//! holds.
//!
//! Not here: the interface by which guests call (`imports::functions`, `imports::spawned`), the calls themselves
//! (`dispatch`, behind `Functions`).
//!
//! Invariant: a handle holds one of the call's permits for as long as the guest has it.

use std::sync::Arc;

use super::call_context::CallContext;
use super::services::{Functions, MapRun, OutcomeReader, SpawnedMap};
use crate::call::{Failure, FailureCode};
use crate::limits::{MAPS_PER_CALL_MAX, SPAWNS_PER_CALL_MAX};

/// One of the maps that a call may hold open, given back on drop.
pub(crate) struct MapPermit(Arc<CallContext>);

impl MapPermit {
    /// Takes a permit, or refuses a call that holds all of them.
    pub(crate) fn acquire(call: &Arc<CallContext>) -> Result<Self, Failure> {
        if call.open_map() {
            return Ok(Self(call.clone()));
        }
        let message = format!("a call may hold {MAPS_PER_CALL_MAX} maps open; drop one first");
        Err(Failure::new(FailureCode::Overloaded, message))
    }
}

impl Drop for MapPermit {
    fn drop(&mut self) {
        self.0.close_map();
    }
}

/// One of the outcome readers that a call may hold open, given back on drop.
pub(crate) struct ReaderPermit(Arc<CallContext>);

impl ReaderPermit {
    /// Takes a permit, or refuses a call that holds all of them.
    pub(crate) fn acquire(call: &Arc<CallContext>) -> Result<Self, Failure> {
        if call.open_reader() {
            return Ok(Self(call.clone()));
        }
        let message = format!("a call may read {MAPS_PER_CALL_MAX} maps at a time; drop a reader first");
        Err(Failure::new(FailureCode::Overloaded, message))
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        self.0.close_reader();
    }
}

/// A guest's handle on a map in memory.
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct OpenMap {
    pub run: Box<dyn MapRun>,
    pub _permit: MapPermit,
}

/// A guest's handle on a map on disk.
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct OpenSpawnedMap {
    pub map: Box<dyn SpawnedMap>,
    pub _permit: MapPermit,
}

/// A guest's handle on a reader of outcomes.
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct OpenReader {
    pub reader: Box<dyn OutcomeReader>,
    pub _permit: ReaderPermit,
}

/// Returns the functions of the host, or a failure while it shuts down.
pub(crate) fn functions(call: &CallContext) -> Result<Arc<dyn Functions>, Failure> {
    call.services.functions().ok_or_else(|| Failure::new(FailureCode::Cancelled, "the host is shutting down"))
}

/// Counts one more call or map that `call` spawns, or refuses it.
pub(crate) fn count_spawn(call: &CallContext) -> Result<(), Failure> {
    if call.spawn() {
        return Ok(());
    }
    let message = format!(
        "a call can spawn {SPAWNS_PER_CALL_MAX} calls and maps, and this one has; \
         give a map its inputs instead (`spawn_map`)"
    );
    Err(Failure::new(FailureCode::Overloaded, message))
}
