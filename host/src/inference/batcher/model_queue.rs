//! The queue of one model: how much waits, and how large a batch of it is.

use std::time::{Duration, Instant};

use super::cost::Cost;
use crate::limits::BatchLimits;

pub(super) struct ModelQueue {
    pub limits: BatchLimits,
    pub waiting_rows: usize,
    pub waiting_tokens: usize,
    /// What the latest arrival said of those behind it.
    pub following: Option<usize>,
    pub cost: Cost,
    /// Tokens of a batch, below the limit after the device had no room.
    pub tokens_max: usize,
}

impl ModelQueue {
    pub fn new(limits: BatchLimits) -> Self {
        let tokens_max = limits.max_batch_tokens;
        Self { limits, waiting_rows: 0, waiting_tokens: 0, following: None, cost: Cost::default(), tokens_max }
    }

    pub fn is_full(&self, tokens_max: usize) -> bool {
        self.waiting_rows >= self.limits.max_batch_size || self.waiting_tokens >= tokens_max
    }

    /// Tokens of a batch, at which its fixed part is at most `loss` of it.
    pub fn tokens_worthwhile(&self, loss: f64) -> usize {
        self.cost.worthwhile(loss).map_or(self.tokens_max, |tokens| tokens.min(self.tokens_max))
    }

    /// Whether a batch of it is held back for what may yet come.
    pub fn waits_for_company(&self, tokens_max: usize) -> bool {
        self.limits.max_queue_delay > Duration::ZERO && !self.is_full(tokens_max) && self.following != Some(0)
    }

    /// When one that came at that time has waited long enough for company; none: at once.
    pub fn ripe_at(&self, arrived: Instant) -> Option<Instant> {
        self.waits_for_company(self.tokens_max).then(|| arrived + self.limits.max_queue_delay)
    }
}
