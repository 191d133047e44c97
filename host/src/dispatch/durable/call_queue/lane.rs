//! Lane of a function and priority: its ready calls, oldest first. Only the front is in memory.

use std::collections::BTreeSet;

use crate::call::Priority;
use crate::ids::{CallId, FunctionId};

/// Function and priority of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneKey {
    pub function: FunctionId,
    pub priority: Priority,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Calls that the journal's open calls would show again, so they may be dropped from memory.
    ready: BTreeSet<CallId>,
    /// Calls that must stay in memory: no row of the journal says that they are ready.
    pinned: BTreeSet<CallId>,
    /// Ready calls from this id on are in the journal only.
    pub beyond: Option<CallId>,
}

impl Lane {
    /// Takes a ready call in. Returns false if it stays in the journal: older calls of the lane are there, too.
    pub(crate) fn insert(&mut self, call: CallId) -> bool {
        let is_in_memory = self.beyond.is_none_or(|beyond| call < beyond);
        is_in_memory && self.ready.insert(call)
    }

    /// Takes a call in that must stay in memory.
    pub(crate) fn pin(&mut self, call: CallId) {
        self.pinned.insert(call);
    }

    /// Takes the oldest call out.
    pub(crate) fn pop(&mut self) -> Option<CallId> {
        let is_pinned = match (self.ready.first(), self.pinned.first()) {
            (Some(ready), Some(pinned)) => pinned < ready,
            (ready, _) => ready.is_none(),
        };
        if is_pinned { self.pinned.pop_first() } else { self.ready.pop_first() }
    }

    /// Drops the newest call from memory and returns it; the journal has it.
    pub(crate) fn evict(&mut self) -> Option<CallId> {
        let evicted = self.ready.pop_last()?;
        self.beyond = Some(evicted);
        Some(evicted)
    }

    /// Takes a call out, wherever it stands. Returns whether it was among those that may be dropped.
    pub(crate) fn remove(&mut self, call: CallId) -> bool {
        self.pinned.remove(&call);
        self.ready.remove(&call)
    }

    /// Returns how many calls may be dropped from memory.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether a call in memory is ready.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.pinned.is_empty()
    }

    /// Whether no call is ready, neither in memory nor in the journal.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_ready() && self.beyond.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u8) -> CallId {
        CallId::from_bytes([n; 16])
    }

    #[test]
    fn calls_leave_in_the_order_of_their_ids_and_the_newest_are_dropped_first() {
        let mut lane = Lane::default();
        for n in [2, 4, 3] {
            assert!(lane.insert(call(n)));
        }
        lane.pin(call(1));
        assert_eq!(lane.evict(), Some(call(4)));
        // Newer than one that is in the journal only.
        assert!(!lane.insert(call(5)));
        let left: Vec<_> = std::iter::from_fn(|| lane.pop()).collect();
        assert_eq!(left, [call(1), call(2), call(3)]);
        assert!(!lane.is_empty() && !lane.is_ready());
        lane.beyond = None;
        assert!(lane.is_empty());
    }

    #[test]
    fn a_pinned_call_is_never_dropped() {
        let mut lane = Lane::default();
        lane.pin(call(9));
        assert_eq!(lane.evict(), None);
        assert!(!lane.remove(call(9)));
        assert!(lane.is_empty());
    }
}
