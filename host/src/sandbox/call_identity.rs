//! Identity of one attempt: the call, its function and its place in the tree of calls.

use std::time::Instant;

use super::program::FunctionRef;
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
}
