//! The requests that wait or run, by id.

use std::time::Instant;

use slotmap::{SlotMap, new_key_type};

use super::tenant::TenantId;
use crate::call::Priority;
use crate::wire::ModelId;

new_key_type! {
    /// Id of a request.
    pub struct RequestId;
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
    pub(crate) fn new(
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

    pub(crate) fn add_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_sub_requests += 1;
        self.waiting_rows += rows;
        self.waiting_tokens += tokens;
    }

    pub(crate) fn take_waiting(&mut self, rows: usize, tokens: usize) {
        self.waiting_sub_requests -= 1;
        self.waiting_rows -= rows;
        self.waiting_tokens -= tokens;
    }
}

#[derive(Default)]
pub(super) struct Requests {
    entries: SlotMap<RequestId, RequestEntry>,
    seq: u64,
}

impl Requests {
    pub(crate) fn insert(&mut self, mut entry: RequestEntry) -> RequestId {
        entry.seq = self.seq;
        self.seq += 1;
        self.entries.insert(entry)
    }

    pub(crate) fn get(&self, request: RequestId) -> Option<&RequestEntry> {
        self.entries.get(request)
    }

    pub(crate) fn get_mut(&mut self, request: RequestId) -> Option<&mut RequestEntry> {
        self.entries.get_mut(request)
    }

    pub(crate) fn remove(&mut self, request: RequestId) -> Option<RequestEntry> {
        self.entries.remove(request)
    }

    /// Returns the requests of a model, oldest first.
    pub(crate) fn of_model(&self, model: ModelId) -> Vec<RequestId> {
        let of_model = self.entries.iter().filter(|(_, entry)| entry.model == model);
        let mut found: Vec<(u64, RequestId)> = of_model.map(|(id, entry)| (entry.seq, id)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, request)| request).collect()
    }
}
