//! Identity of one attempt: the call, its function and its place in the tree of calls.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::program::FunctionRef;
use crate::budgets::Scope;
use crate::call::{Principal, Priority};
use crate::ids::{CallId, MapId};

/// Identity of one attempt, as `Functions` sees its caller. Plain data.
#[derive(Clone, Debug)]
pub(crate) struct CallIdentity {
    pub id: CallId,
    pub function: FunctionRef,
    /// Inherited by the calls and maps that it makes.
    pub principal: Principal,
    /// Counted from 1.
    pub attempt: u32,
    /// Nesting depth; 0 for a call from outside.
    pub depth: u32,
    pub started: Instant,
    pub deadline: Instant,
    /// Order of the app's requests for inference; children are as urgent.
    pub priority: Priority,
    /// Parent recorded for calls and maps that it spawns: itself, or the call from outside that it is part of.
    pub spawner: CallId,
    /// Durable map that has that parent as an input.
    pub spawner_map: Option<MapId>,
    /// Bound on the maps in memory of this attempt together, from the first one on.
    pub maps: OnceLock<Arc<Scope>>,
}

impl CallIdentity {
    /// Returns the bound on its maps: they may hold as much as its own memory.
    pub(crate) fn maps_scope(&self) -> &Arc<Scope> {
        self.maps.get_or_init(|| Scope::new(self.function.limits.memory_bytes_max))
    }
}
