//! A batch, and the sub-requests that it consists of.

use std::ops::Range;

use super::requests::RequestId;
use crate::wire::ModelId;

/// A sub-request: rows of a request that stay together, the unit of batching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubRequest {
    pub request: RequestId,
    /// Rows of the request.
    pub rows: Range<usize>,
    pub tokens: usize,
    /// Times that shorter sub-requests passed it.
    pub(super) skips: u8,
}

impl SubRequest {
    /// Returns a part of it.
    pub(crate) fn part(&self, rows: Range<usize>, tokens: usize) -> Self {
        Self { request: self.request, rows, tokens, skips: 0 }
    }
}

/// The limit that ended the filling of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitReason {
    /// Nothing more was waiting.
    Drained,
    /// It has the maximum of rows.
    Rows,
    /// Nothing that waits fits the tokens that are left.
    Tokens,
    /// A larger batch would gain too little for the requests that wait behind it.
    Enough,
    /// Nothing more came within `max_queue_delay`.
    Delay,
    /// It failed before and runs by itself.
    Retry,
}

/// Sub-requests that run together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub model: ModelId,
    pub sub_requests: Vec<SubRequest>,
    pub rows: usize,
    pub tokens: usize,
    pub cut: LimitReason,
    /// Times that it killed a worker or failed.
    pub losses: u32,
}

impl Batch {
    /// Returns a batch that runs by itself.
    pub(super) fn retry(model: ModelId, sub_requests: Vec<SubRequest>, losses: u32) -> Self {
        let rows = sub_requests.iter().map(|sub_request| sub_request.rows.len()).sum();
        let tokens = sub_requests.iter().map(|sub_request| sub_request.tokens).sum();
        Self { model, sub_requests, rows, tokens, cut: LimitReason::Retry, losses }
    }
}
