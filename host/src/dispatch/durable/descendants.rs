//! Cancellation of a call or map together with its descendants: the calls and maps that it spawned, at any depth.
//!
//! Children are looked for once the cancel of their parent is on disk: the engine accepts no further one from then on.

use std::collections::HashSet;
use std::sync::Arc;

use super::calls::Calls;
use super::core::Core;
use super::error::DurableError;
use super::map::Maps;
use crate::ids::{CallId, MapId};
use crate::storage::{CallRecord, Kind, MapRecord, MapState, State};

/// Children that are read at a time, and chunks.
const CHILDREN_LEN: usize = 256;

/// A cancelled call or map.
enum Parent {
    Call(CallId),
    Map(MapId),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Descendants {
    pub core: Arc<Core>,
    pub calls: Arc<Calls>,
    pub maps: Arc<Maps>,
}

impl Descendants {
    /// Cancels a call in whatever state, and its descendants. Returns its record: a call that had ended stays as it
    /// was.
    pub(crate) async fn cancel_call(&self, id: CallId) -> Result<CallRecord, DurableError> {
        let record = self.calls.cancel_one(id).await?;
        if record.state == State::Cancelled {
            self.cancel_below(Parent::Call(id)).await?;
        }
        Ok(record)
    }

    /// Cancels the open inputs of a map, and their descendants. A map that has ended stays as it was.
    pub(crate) async fn cancel_map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        let record = self.maps.cancel_map_one(id).await?;
        if record.state() == MapState::Cancelled {
            self.cancel_below(Parent::Map(id)).await?;
        }
        Ok(record)
    }

    async fn cancel_below(&self, parent: Parent) -> Result<(), DurableError> {
        let mut parents = vec![parent];
        while let Some(parent) = parents.pop() {
            let calls = match parent {
                Parent::Call(id) => vec![id],
                Parent::Map(id) => self.begun_and_lost(id).await?,
            };
            for call in calls {
                self.cancel_children(call, &mut parents).await?;
            }
        }
        Ok(())
    }

    /// Cancels the children of one call, and adds those that may have children to `parents`.
    async fn cancel_children(&self, parent: CallId, parents: &mut Vec<Parent>) -> Result<(), DurableError> {
        let mut after = None;
        loop {
            let children = self.core.journal.children(parent, after, CHILDREN_LEN).await?;
            after = children.last().copied();
            for (kind, child) in &children {
                match kind {
                    Kind::Call => {
                        let child = CallId::from_bytes(*child);
                        match self.calls.cancel_one(child).await {
                            // Its children go on if it had ended: nobody cancelled it.
                            Ok(record) if record.state == State::Cancelled => parents.push(Parent::Call(child)),
                            Ok(_) | Err(DurableError::UnknownCall { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Kind::Map => {
                        let child = MapId::from_bytes(*child);
                        match self.maps.cancel_map_one(child).await {
                            Ok(record) if record.state() == MapState::Cancelled => parents.push(Parent::Map(child)),
                            Ok(_) | Err(DurableError::UnknownMap { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
            if children.len() < CHILDREN_LEN {
                return Ok(());
            }
        }
    }

    /// Returns the calls of a cancelled map that may have begun and have no outcome. Chunks are leased in order, so
    /// these are among the first that are not whole.
    async fn begun_and_lost(&self, map: MapId) -> Result<Vec<CallId>, DurableError> {
        let (mut calls, mut after) = (Vec::new(), None);
        loop {
            let chunks = self.core.journal.pending(map, after, CHILDREN_LEN).await?;
            let Some(last) = chunks.last() else { return Ok(calls) };
            after = Some(last.first);
            let mut has_leased = false;
            for chunk in chunks.iter().filter(|chunk| chunk.lease.is_leased) {
                has_leased = true;
                let outcomes = self.core.journal.outcomes(map, chunk.first).await?;
                let ended: HashSet<u64> =
                    outcomes.iter().flat_map(|outcomes| &outcomes.entries).map(|entry| entry.index).collect();
                let indices = chunk.first..chunk.first + u64::from(chunk.lease.len);
                calls.extend(indices.filter(|index| !ended.contains(index)).map(|index| map.call(index)));
            }
            if !has_leased {
                return Ok(calls);
            }
        }
    }
}
