//! The requests that wait or run, by id.

use std::time::Instant;

use super::tenant::TenantId;
use crate::call::Priority;
use crate::wire::ModelId;

/// Id of a request: a slot, and the generation of its occupant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    index: u32,
    generation: u32,
}

impl RequestId {
    /// Returns the slot, which another request takes once this one is gone.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Clone, Debug)]
pub(super) struct RequestEntry {
    pub model: ModelId,
    pub tenant: TenantId,
    pub priority: Priority,
    pub deadline: Instant,
    pub arrived: Instant,
    /// Order of arrival.
    pub seq: u64,
    pub bytes: usize,
    pub waiting_sub_requests: usize,
    pub waiting_rows: usize,
    pub waiting_tokens: usize,
}

impl RequestEntry {
    pub fn new(
        model: ModelId,
        tenant: TenantId,
        priority: Priority,
        deadline: Instant,
        arrived: Instant,
        bytes: usize,
    ) -> Self {
        Self {
            model,
            tenant,
            priority,
            deadline,
            arrived,
            seq: 0,
            bytes,
            waiting_sub_requests: 0,
            waiting_rows: 0,
            waiting_tokens: 0,
        }
    }

    pub fn add_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_sub_requests += 1;
        self.waiting_rows += rows;
        self.waiting_tokens += tokens;
    }

    pub fn take_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_sub_requests -= 1;
        self.waiting_rows -= rows;
        self.waiting_tokens -= tokens;
    }
}

#[derive(Default)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
    seq: u64,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    entry: Option<RequestEntry>,
}

impl Requests {
    pub fn insert(&mut self, mut entry: RequestEntry) -> RequestId {
        entry.seq = self.seq;
        self.seq += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("the queue is bounded far below")
        });
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        RequestId { index, generation: slot.generation }
    }

    pub fn get(&self, request: RequestId) -> Option<&RequestEntry> {
        let slot = self.slots.get(request.index())?;
        if slot.generation == request.generation { slot.entry.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, request: RequestId) -> Option<&mut RequestEntry> {
        let slot = self.slots.get_mut(request.index())?;
        if slot.generation == request.generation { slot.entry.as_mut() } else { None }
    }

    pub fn remove(&mut self, request: RequestId) -> Option<RequestEntry> {
        let slot = self.slots.get_mut(request.index())?;
        if slot.generation != request.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(request.index);
        Some(entry)
    }

    /// Returns the requests of a model, oldest first.
    pub fn of_model(&self, model: ModelId) -> Vec<RequestId> {
        let mut found: Vec<(u64, RequestId)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(entry) = slot.entry.as_ref().filter(|entry| entry.model == model) {
                found.push((entry.seq, RequestId { index: index as u32, generation: slot.generation }));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, request)| request).collect()
    }
}
