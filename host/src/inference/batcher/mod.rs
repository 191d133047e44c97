//! Turns waiting requests of many apps for several models into batches. A plain decider: no clock, no task, no lock.
//!
//! Not here: which worker runs a batch and what happens to its answer (`device`), how a batch travels (`wire`).
//!
//! **Fairness.** Between tenants (apps, and ways in from outside) service is counted in tokens, as the Virtual Token Counter
//! of Sheng et al., *Fairness in Serving Large Language Models* (arXiv 2401.00588), does: the tenant that got least goes
//! first, and one that comes back from idleness starts at the level of those that wait, so that nobody saves up. A weight
//! divides what is charged. Between the requests of one tenant the priority decides, and the order of arrival within it;
//! every [`AGING`]th turn takes the oldest whatever its priority.
//!
//! **Batches.** The tenant whose turn it is decides the model, and its request goes in first. The batch is then filled, in
//! the same order, with what fits its rows and tokens; a request that does not fit may be passed by shorter ones, at most
//! [`SKIPS_MAX`] times. Nothing waits for company unless the model has a `max_queue_delay`: a batch is taken whenever the
//! device is free, so batches grow by themselves while it is busy; but no larger than pays (`cost`).
//!
//! **Failures.** What a dying worker held comes back as a group that runs by itself: once more as a whole, then in halves,
//! until the request that kills workers stands alone. RetryQueue beyond their first retry take turns with everybody else.
//!
//! Invariants: a sub_request leaves exactly once for each time that it was put in, or is cancelled; a batch stays within the
//! model's rows and tokens, but for one sub_request that by itself is larger; a request of a tenant that was idle and is not ahead
//! of the others waits for at most as many batches as other tenants waited when it came; a batch is taken whenever there is
//! one.

mod cost;
mod model_queue;
mod requests;
mod retry_queue;
mod selection;
mod tenant_queue;

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use self::model_queue::ModelQueue;
pub use self::requests::RequestId;
use self::requests::{RequestEntry, Requests};
use self::retry_queue::RetryQueue;
use self::tenant_queue::TenantQueue;
use crate::call::Priority;
use crate::limits::BatchLimits;
use crate::wire::ModelId;

/// Every so many turns of a tenant the oldest of its requests goes first, whatever its priority.
const AGING: u32 = 4;
/// Times that shorter requests may pass one that does not fit.
const SKIPS_MAX: u8 = 4;
/// Requests of one tenant_queue that are looked at for one that fits.
const LOOKAHEAD: usize = 16;
/// Part of a queue that is kept for tenants that have little in it.
const SHARE: usize = 8;
/// Share of a batch's time that its fixed part may be where tenants compete.
const LOSS_CONTENDED: f64 = 0.1;
/// What a token costs a tenant of weight 1; a weight divides it.
const TOKEN_COST: u64 = 1 << 16;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 1_000;

/// A tenant, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

/// Part of a request that stays together: the unit of batching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubRequest {
    pub request: RequestId,
    /// Rows of the request.
    pub rows: Range<usize>,
    pub tokens: usize,
    /// Times that shorter ones passed it.
    skips: u8,
}

impl SubRequest {
    /// A part of it, with so many tokens.
    pub fn part(&self, rows: Range<usize>, tokens: usize) -> Self {
        Self { request: self.request, rows, tokens, skips: 0 }
    }
}

/// Why a batch was not larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitReason {
    /// Nothing more was waiting.
    Drained,
    /// It has as many rows as it may.
    Rows,
    /// What waits does not fit the tokens that are left.
    Tokens,
    /// A larger one would gain too little for those that wait behind it.
    Enough,
    /// Nothing more came within `max_queue_delay`.
    Delay,
    /// It failed before and runs by itself.
    Retry,
}

/// Pieces that run together.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub model: ModelId,
    pub sub_requests: Vec<SubRequest>,
    pub rows: usize,
    pub tokens: usize,
    pub cut: LimitReason,
    /// Times that it ended a worker, or failed with it.
    pub losses: u32,
}

impl Batch {
    /// One that is to run by itself.
    fn retry(model: ModelId, sub_requests: Vec<SubRequest>, losses: u32) -> Self {
        let rows = sub_requests.iter().map(|sub_request| sub_request.rows.len()).sum();
        let tokens = sub_requests.iter().map(|sub_request| sub_request.tokens).sum();
        Self { model, sub_requests, rows, tokens, cut: LimitReason::Retry, losses }
    }
}

/// The queue would exceed its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull {
    pub waiting_rows: usize,
}

/// A request on its way in.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub model: ModelId,
    pub tenant: TenantId,
    pub priority: Priority,
    pub deadline: Instant,
    /// Requests that are known to follow at once; none: nothing is known.
    pub following: Option<usize>,
    /// Bytes that the host holds for it.
    pub bytes: usize,
}

/// What there is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A batch of this model.
    Batch {
        model: ModelId,
        of: Turn,
    },
    /// Nothing before this time, when somebody has waited long enough for company.
    Wait(Instant),
    Nothing,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Retry,
    Tenant(TenantId),
}

struct Tenant {
    weight: u32,
    /// Tokens served, times [`TOKEN_COST`], over the weight.
    served: u64,
    /// Pieces that wait.
    waiting: usize,
    models: Vec<ModelId>,
    turns: u32,
}

impl Tenant {
    /// Whether its oldest request has the next turn, whatever its priority.
    fn is_oldest_first(&self) -> bool {
        self.turns % AGING == AGING - 1
    }
}

/// The queue in front of one device.
pub struct Batcher {
    queues: Vec<ModelQueue>,
    tenants: Vec<Tenant>,
    tenant_queues: HashMap<(TenantId, ModelId), TenantQueue>,
    requests: Requests,
    retries: RetryQueue,
    /// When two tenants waited last.
    contended: Option<Instant>,
    /// What the tenant that went last had been served before.
    level: u64,
    waiting_bytes: usize,
    max_queue_bytes: usize,
    /// Requests that were dropped because they could not be answered in time.
    expired: Vec<RequestId>,
}

impl Batcher {
    pub fn new(max_queue_bytes: usize) -> Self {
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
    pub fn add_model(&mut self, limits: BatchLimits) -> ModelId {
        let id = ModelId(u32::try_from(self.queues.len()).expect("models are few"));
        self.queues.push(ModelQueue::new(limits));
        id
    }

    /// Makes a tenant known; ids count from 0. `weight` is its share beside others, 1 to [`WEIGHT_MAX`].
    pub fn add_tenant(&mut self, weight: u32) -> TenantId {
        let id = TenantId(u32::try_from(self.tenants.len()).expect("tenants are few"));
        self.tenants.push(Tenant {
            weight: weight.clamp(1, WEIGHT_MAX),
            served: 0,
            waiting: 0,
            models: Vec::new(),
            turns: 0,
        });
        id
    }

    /// Rows of a model that may wait.
    pub fn max_queue_size(&self, model: ModelId) -> usize {
        self.queue(model).limits.max_queue_size
    }

    /// Tells whether `rows` more of a tenant may wait. An eighth of the queue is kept for those who have less than that in it:
    /// who floods fills the rest and is refused, and the others are not.
    fn check_share(&self, model: ModelId, tenant: TenantId, rows: usize) -> Result<(), QueueFull> {
        let queue = self.queue(model);
        let reserve = queue.limits.max_queue_size / SHARE;
        let own = self.tenant_queues.get(&(tenant, model)).map_or(0, TenantQueue::rows) + rows;
        if own > reserve && queue.waiting_rows + rows > queue.limits.max_queue_size - reserve {
            return Err(QueueFull { waiting_rows: queue.waiting_rows });
        }
        Ok(())
    }

    /// Tells whether `rows` more of a model, and so many bytes, may wait.
    pub fn check_room(&self, model: ModelId, rows: usize, bytes: usize) -> Result<(), QueueFull> {
        let queue = self.queue(model);
        let is_full = queue.waiting_rows + rows > queue.limits.max_queue_size
            || self.waiting_bytes.saturating_add(bytes) > self.max_queue_bytes;
        if is_full { Err(QueueFull { waiting_rows: queue.waiting_rows }) } else { Ok(()) }
    }

    /// Takes a request in, cut into sub_requests that fit one batch each, or refuses it whole. `lengths` holds the tokens of
    /// each row.
    pub fn enqueue(&mut self, now: Instant, arrival: Arrival, lengths: &[u32]) -> Result<RequestId, QueueFull> {
        self.check_room(arrival.model, lengths.len(), arrival.bytes)?;
        self.check_share(arrival.model, arrival.tenant, lengths.len())?;
        let Arrival { model, tenant, priority, deadline, following, bytes } = arrival;
        let request = self.requests.insert(RequestEntry::new(model, tenant, priority, deadline, now, bytes));
        self.waiting_bytes += bytes;
        let queue = self.queue(model);
        // Pieces of the least size that is worth a batch, so that a large request need not go in one.
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
            // Back from idleness, at the level of those that wait: what was not asked for is not saved up.
            tenant.served = tenant.served.max(level);
        }
        tenant.waiting += 1;
        let tenant_queue = self.tenant_queues.entry((tenant_id, model)).or_insert_with(|| {
            tenant.models.push(model);
            TenantQueue::default()
        });
        tenant_queue.push(priority, SubRequest { request, rows, tokens, skips: 0 });
    }

    /// Forgets a request: one whose caller is gone, or that was answered. Its waiting sub_requests leave the queue.
    pub fn remove(&mut self, request: RequestId) {
        let Some(entry) = self.requests.remove(request) else { return };
        self.waiting_bytes -= entry.bytes;
        self.uncount(&entry, entry.waiting_sub_requests, entry.waiting_rows, entry.waiting_tokens);
        if let Some(tenant_queue) = self.tenant_queues.get_mut(&(entry.tenant, entry.model)) {
            tenant_queue.forget(entry.waiting_sub_requests, entry.waiting_rows, &self.requests);
        }
    }

    fn uncount(&mut self, entry: &RequestEntry, sub_requests: usize, rows: usize, tokens: usize) {
        let queue = &mut self.queues[entry.model.0 as usize];
        queue.waiting_rows -= rows;
        queue.waiting_tokens -= tokens;
        self.tenants[entry.tenant.0 as usize].waiting -= sub_requests;
    }

    /// Puts back what a worker did not answer, as a group that runs by itself. Never refused: it was accepted once.
    pub fn requeue(&mut self, mut batch: Batch) {
        batch.sub_requests.retain(|sub_request| self.requests.get(sub_request.request).is_some());
        self.retries.push(batch);
    }

    /// Puts back a batch in two halves.
    pub fn requeue_halves(&mut self, mut batch: Batch) {
        batch.sub_requests.retain(|sub_request| self.requests.get(sub_request.request).is_some());
        let second = batch.sub_requests.split_off(batch.sub_requests.len().div_ceil(2));
        self.retries.push(Batch::retry(batch.model, second, batch.losses));
        self.retries.push(Batch::retry(batch.model, batch.sub_requests, batch.losses));
    }

    /// Returns the requests that were dropped since the last time, because they could not be answered in time.
    pub fn take_expired(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.expired)
    }

    /// Returns the requests of a model that wait, oldest first, retries included.
    pub fn waiting_of(&self, model: ModelId) -> Vec<RequestId> {
        self.requests.of_model(model)
    }

    /// Learns what a batch cost.
    pub fn observe(&mut self, model: ModelId, tokens: usize, device_ns: u64) {
        let queue = self.queue_mut(model);
        queue.cost.observe(tokens, device_ns);
        let step = (queue.limits.max_batch_tokens / 64).max(1);
        queue.tokens_max = queue.limits.max_batch_tokens.min(queue.tokens_max + step);
    }

    /// Makes a model's batches smaller: the device had no room for one of so many tokens.
    pub fn shrink(&mut self, model: ModelId, tokens: usize) {
        let queue = self.queue_mut(model);
        queue.tokens_max = queue.tokens_max.min((tokens / 2).max(1));
    }

    /// Returns the time that a batch of so many tokens takes, by what was measured lately; none before the first.
    pub fn expected(&self, model: ModelId, tokens: usize) -> Option<Duration> {
        self.queue(model).cost.expected(tokens)
    }

    /// Returns the rows of a model that wait.
    pub fn waiting_rows(&self, model: ModelId) -> usize {
        self.queue(model).waiting_rows
    }

    /// Returns the bytes that the host holds for what waits or runs.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Tells whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.retries.is_empty() && self.tenants.iter().all(|tenant| tenant.waiting == 0)
    }

    fn queue(&self, model: ModelId) -> &ModelQueue {
        &self.queues[model.0 as usize]
    }

    fn queue_mut(&mut self, model: ModelId) -> &mut ModelQueue {
        &mut self.queues[model.0 as usize]
    }
}

#[cfg(test)]
mod tests;
