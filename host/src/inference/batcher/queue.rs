//! The waiting requests of all tenants for all models, and the counts that bound them.
//!
//! Not here: the order in which they run (`selection`).

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::batch::{Batch, SubRequest};
use super::model_queue::ModelQueue;
use super::requests::{RequestEntry, RequestId, Requests};
use super::retry_queue::RetryQueue;
use super::tenant::{Tenant, TenantId};
use super::tenant_queue::TenantQueue;
use crate::call::Priority;
use crate::limits::BatchLimits;
use crate::wire::ModelId;

/// Part of a queue that is reserved for tenants with few requests in it: one in this many.
pub(super) const SHARE: usize = 8;
/// Share of a batch's time that its fixed part may be where tenants compete.
pub(super) const LOSS_CONTENDED: f64 = 0.1;

/// The queue would exceed its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    pub waiting_rows: usize,
}

/// A new request.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub model: ModelId,
    pub tenant: TenantId,
    pub priority: Priority,
    pub deadline: Instant,
    /// Number of requests that follow at once; none if unknown.
    pub following: Option<usize>,
    /// Bytes that the host holds for it.
    pub bytes: usize,
}

/// The queue in front of one device.
pub(crate) struct Batcher {
    pub(super) queues: Vec<ModelQueue>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) tenant_queues: HashMap<(TenantId, ModelId), TenantQueue>,
    pub(super) requests: Requests,
    pub(super) retries: RetryQueue,
    /// Last time at which two tenants waited.
    pub(super) contended: Option<Instant>,
    /// Service of the last selected tenant, before its turn.
    pub(super) level: u64,
    waiting_bytes: usize,
    max_queue_bytes: usize,
    /// Requests dropped because they could not meet their deadline.
    pub(super) expired: Vec<RequestId>,
}

impl Batcher {
    pub(crate) fn new(max_queue_bytes: usize) -> Self {
        Self {
            queues: Vec::new(),
            tenants: Vec::new(),
            tenant_queues: HashMap::new(),
            requests: Requests::default(),
            retries: RetryQueue::default(),
            contended: None,
            level: 0,
            waiting_bytes: 0,
            max_queue_bytes,
            expired: Vec::new(),
        }
    }

    /// Makes a model known; ids count from 0.
    pub(crate) fn add_model(&mut self, limits: BatchLimits) -> ModelId {
        let id = ModelId(u32::try_from(self.queues.len()).expect("models are few"));
        self.queues.push(ModelQueue::new(limits));
        id
    }

    /// Makes a tenant known; ids count from 0. `weight` is its share beside others, 1 to [`WEIGHT_MAX`].
    pub(crate) fn add_tenant(&mut self, weight: u32) -> TenantId {
        let id = TenantId(u32::try_from(self.tenants.len()).expect("tenants are few"));
        self.tenants.push(Tenant::new(weight));
        id
    }

    /// Rows of a model that may wait.
    pub(crate) fn max_queue_size(&self, model: ModelId) -> usize {
        self.queue(model).limits.max_queue_size
    }

    /// Refuses `rows` more of a tenant beyond its share. An eighth of the queue is reserved for tenants that have less
    /// than that in it, so a flood of one tenant is refused and the others are not.
    fn check_share(&self, model: ModelId, tenant: TenantId, rows: usize) -> Result<(), QueueFull> {
        let queue = self.queue(model);
        let reserve = queue.limits.max_queue_size / SHARE;
        let own = self.tenant_queues.get(&(tenant, model)).map_or(0, TenantQueue::rows) + rows;
        if own > reserve && queue.waiting_rows + rows > queue.limits.max_queue_size - reserve {
            return Err(QueueFull { waiting_rows: queue.waiting_rows });
        }
        Ok(())
    }

    /// Refuses rows of a model, or bytes, beyond the bounds of the queue.
    pub(crate) fn check_room(&self, model: ModelId, rows: usize, bytes: usize) -> Result<(), QueueFull> {
        let queue = self.queue(model);
        let is_full = queue.waiting_rows + rows > queue.limits.max_queue_size
            || self.waiting_bytes.saturating_add(bytes) > self.max_queue_bytes;
        if is_full { Err(QueueFull { waiting_rows: queue.waiting_rows }) } else { Ok(()) }
    }

    /// Takes a request in, cut into sub-requests that fit one batch each, or refuses it whole. `lengths` holds the
    /// tokens of each row.
    pub(crate) fn enqueue(&mut self, now: Instant, arrival: Arrival, lengths: &[u32]) -> Result<RequestId, QueueFull> {
        self.check_room(arrival.model, lengths.len(), arrival.bytes)?;
        self.check_share(arrival.model, arrival.tenant, lengths.len())?;
        let Arrival { model, tenant, priority, deadline, following, bytes } = arrival;
        let request = self.requests.insert(RequestEntry::new(model, tenant, priority, deadline, now, bytes));
        self.waiting_bytes += bytes;
        let queue = self.queue(model);
        // Sub-requests of the least size that is worth a batch, so that a large request need not go in one.
        let (rows_max, tokens_max) = (queue.limits.max_batch_size, queue.tokens_worthwhile(LOSS_CONTENDED));
        let (mut start, mut tokens) = (0, 0);
        for (row, &length) in lengths.iter().enumerate() {
            let length = length as usize;
            let is_full = row - start == rows_max || tokens + length > tokens_max;
            if is_full && row > start {
                self.push(request, start..row, tokens);
                (start, tokens) = (row, 0);
            }
            tokens += length;
        }
        if start < lengths.len() {
            self.push(request, start..lengths.len(), tokens);
        }
        self.queue_mut(model).following = following;
        Ok(request)
    }

    fn push(&mut self, request: RequestId, rows: Range<usize>, tokens: usize) {
        let level = self.level;
        let entry = self.requests.get_mut(request).expect("it was just inserted");
        entry.add_waiting(rows.len(), tokens);
        let (model, tenant_id, priority) = (entry.model, entry.tenant, entry.priority);
        let queue = &mut self.queues[model.0 as usize];
        queue.waiting_rows += rows.len();
        queue.waiting_tokens += tokens;
        let tenant = &mut self.tenants[tenant_id.0 as usize];
        if tenant.waiting == 0 {
            // Back from idleness, at the level of those that wait: unused service is not saved up.
            tenant.served = tenant.served.max(level);
        }
        tenant.waiting += 1;
        let tenant_queue = self.tenant_queues.entry((tenant_id, model)).or_insert_with(|| {
            tenant.models.push(model);
            TenantQueue::default()
        });
        tenant_queue.push(priority, SubRequest { request, rows, tokens, skips: 0 });
    }

    /// Forgets a request: one whose caller is gone, or that was answered. Its waiting sub-requests leave the queue.
    pub(crate) fn remove(&mut self, request: RequestId) {
        let Some(entry) = self.requests.remove(request) else { return };
        self.waiting_bytes -= entry.bytes;
        self.uncount(&entry, entry.waiting_sub_requests, entry.waiting_rows, entry.waiting_tokens);
        if let Some(tenant_queue) = self.tenant_queues.get_mut(&(entry.tenant, entry.model)) {
            tenant_queue.forget(entry.waiting_sub_requests, entry.waiting_rows, &self.requests);
        }
    }

    pub(super) fn uncount(&mut self, entry: &RequestEntry, sub_requests: usize, rows: usize, tokens: usize) {
        let queue = &mut self.queues[entry.model.0 as usize];
        queue.waiting_rows -= rows;
        queue.waiting_tokens -= tokens;
        self.tenants[entry.tenant.0 as usize].waiting -= sub_requests;
    }

    /// Puts back a batch without an answer, to run by itself. Never refused: it was accepted once.
    pub(crate) fn requeue(&mut self, mut batch: Batch) {
        batch.sub_requests.retain(|sub_request| self.requests.get(sub_request.request).is_some());
        self.retries.push(batch);
    }

    /// Puts back a batch in two halves.
    pub(crate) fn requeue_halves(&mut self, mut batch: Batch) {
        batch.sub_requests.retain(|sub_request| self.requests.get(sub_request.request).is_some());
        let second = batch.sub_requests.split_off(batch.sub_requests.len().div_ceil(2));
        self.retries.push(Batch::retry(batch.model, second, batch.losses));
        self.retries.push(Batch::retry(batch.model, batch.sub_requests, batch.losses));
    }

    /// Returns the requests dropped since the last call because they could not meet their deadline.
    pub(crate) fn take_expired(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.expired)
    }

    /// Returns the requests of a model that wait, oldest first, retries included.
    pub(crate) fn waiting_of(&self, model: ModelId) -> Vec<RequestId> {
        self.requests.of_model(model)
    }

    /// Learns from the cost of a batch.
    pub(crate) fn observe(&mut self, model: ModelId, tokens: usize, device_ns: u64) {
        let queue = self.queue_mut(model);
        queue.cost.observe(tokens, device_ns);
        let step = (queue.limits.max_batch_tokens / 64).max(1);
        queue.tokens_max = queue.limits.max_batch_tokens.min(queue.tokens_max + step);
    }

    /// Makes a model's batches smaller: one of `tokens` tokens did not fit the device.
    pub(crate) fn shrink(&mut self, model: ModelId, tokens: usize) {
        let queue = self.queue_mut(model);
        queue.tokens_max = queue.tokens_max.min((tokens / 2).max(1));
    }

    /// Returns the expected time of a batch, by recent measurements; none before the first.
    pub(crate) fn expected(&self, model: ModelId, tokens: usize) -> Option<Duration> {
        self.queue(model).cost.expected(tokens)
    }

    /// Returns the rows of a model that wait.
    pub(crate) fn waiting_rows(&self, model: ModelId) -> usize {
        self.queue(model).waiting_rows
    }

    /// Returns the bytes held for waiting and running requests.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.retries.is_empty() && self.tenants.iter().all(|tenant| tenant.waiting == 0)
    }

    fn queue(&self, model: ModelId) -> &ModelQueue {
        &self.queues[model.0 as usize]
    }

    fn queue_mut(&mut self, model: ModelId) -> &mut ModelQueue {
        &mut self.queues[model.0 as usize]
    }
}
