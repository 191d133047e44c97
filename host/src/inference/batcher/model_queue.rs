//! A model queue: the amount that waits for one model, and the size of its batches.

use std::time::{Duration, Instant};

use super::cost::Cost;
use crate::limits::BatchLimits;

pub(super) struct ModelQueue {
    pub limits: BatchLimits,
    pub waiting_rows: usize,
    pub waiting_tokens: usize,
    /// Number of requests that follow, as the latest arrival announced.
    pub following: Option<usize>,
    pub cost: Cost,
    /// Maximum of tokens in a batch, below the configured limit after a batch did not fit the device.
    pub tokens_max: usize,
}

impl ModelQueue {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        let tokens_max = limits.max_batch_tokens;
        Self { limits, waiting_rows: 0, waiting_tokens: 0, following: None, cost: Cost::default(), tokens_max }
    }

    pub(crate) fn is_full(&self, tokens_max: usize) -> bool {
        self.waiting_rows >= self.limits.max_batch_size || self.waiting_tokens >= tokens_max
    }

    /// Returns the tokens from which on the fixed part is at most `loss` of a batch.
    pub(crate) fn tokens_worthwhile(&self, loss: f64) -> usize {
        self.cost.worthwhile(loss).map_or(self.tokens_max, |tokens| tokens.min(self.tokens_max))
    }

    /// Whether a partial batch waits for more requests.
    pub(crate) fn waits_for_company(&self, tokens_max: usize) -> bool {
        self.limits.max_queue_delay > Duration::ZERO && !self.is_full(tokens_max) && self.following != Some(0)
    }

    /// Returns the time at which a request has waited long enough for others; none: it need not wait.
    pub(crate) fn ripe_at(&self, arrived: Instant) -> Option<Instant> {
        self.waits_for_company(self.tokens_max).then(|| arrived + self.limits.max_queue_delay)
    }
}
