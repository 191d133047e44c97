//! What is known of each request that waits or runs.

use std::time::Instant;

use super::super::wire::ModelId;
use super::TenantId;
use crate::call::Priority;

/// One request of a caller: a place, and which of its tenants in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    index: u32,
    generation: u32,
}

impl RequestId {
    /// The place, which another request takes once this one is gone.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub model: ModelId,
    pub tenant: TenantId,
    pub priority: Priority,
    pub deadline: Instant,
    pub arrived: Instant,
    /// Order of arrival.
    pub seq: u64,
    pub bytes: usize,
    pub waiting_pieces: usize,
    pub waiting_rows: usize,
    pub waiting_tokens: usize,
}

impl Entry {
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
            waiting_pieces: 0,
            waiting_rows: 0,
            waiting_tokens: 0,
        }
    }

    pub fn add_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_pieces += 1;
        self.waiting_rows += rows;
        self.waiting_tokens += tokens;
    }

    pub fn take_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_pieces -= 1;
        self.waiting_rows -= rows;
        self.waiting_tokens -= tokens;
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    places: Vec<Place>,
    free: Vec<u32>,
    seq: u64,
}

#[derive(Default)]
struct Place {
    generation: u32,
    entry: Option<Entry>,
}

impl Ledger {
    pub fn insert(&mut self, mut entry: Entry) -> RequestId {
        entry.seq = self.seq;
        self.seq += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("the queue is bounded far below")
        });
        let place = &mut self.places[index as usize];
        place.entry = Some(entry);
        RequestId { index, generation: place.generation }
    }

    pub fn get(&self, request: RequestId) -> Option<&Entry> {
        let place = self.places.get(request.index())?;
        if place.generation == request.generation { place.entry.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, request: RequestId) -> Option<&mut Entry> {
        let place = self.places.get_mut(request.index())?;
        if place.generation == request.generation { place.entry.as_mut() } else { None }
    }

    pub fn remove(&mut self, request: RequestId) -> Option<Entry> {
        let place = self.places.get_mut(request.index())?;
        if place.generation != request.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(request.index);
        Some(entry)
    }

    /// Returns the requests of a model, oldest first.
    pub fn of_model(&self, model: ModelId) -> Vec<RequestId> {
        let mut found: Vec<(u64, RequestId)> = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            if let Some(entry) = place.entry.as_ref().filter(|entry| entry.model == model) {
                found.push((entry.seq, RequestId { index: index as u32, generation: place.generation }));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, request)| request).collect()
    }
}
