//! Batches of inference requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The last 256 batches, newest first, and totals since the host's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BatchList {
    pub batches: Vec<Batch>,
    pub totals: BatchTotals,
}

/// One batch that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Batch {
    /// Counted from the host's start.
    pub id: u64,
    pub model: String,
    pub device: Option<String>,
    pub worker_pid: Option<u32>,
    pub outcome: BatchOutcome,
    pub requests: usize,
    /// Apps, and APIs as `@NAME`, that share it.
    pub tenants: Vec<String>,
    pub rows: usize,
    pub tokens: usize,
    /// Reason why it was not larger.
    pub cut: BatchCut,
    /// Earlier attempts at it.
    pub losses: u32,
    /// Wait of its oldest request.
    pub wait_us: u64,
    pub wall_us: u64,
    /// Time that the device measured.
    pub device_us: u64,
    pub ended_ms: u64,
}

/// Outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BatchOutcome {
    Done,
    /// The worker refused it or its device failed.
    Failed,
    /// The worker died with it.
    Lost,
}

/// Limit that ended the filling of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BatchCut {
    /// Nothing more was waiting.
    Drained,
    Rows,
    Tokens,
    /// A larger batch would gain too little.
    Enough,
    /// Nothing more came within the longest wait.
    Delay,
    /// It failed before and runs by itself.
    Retry,
}

/// Counts since the host's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BatchTotals {
    pub device: Option<String>,
    pub worker_pid: Option<u32>,
    pub worker_starts: u64,
    pub worker_deaths: u64,
    pub batches: u64,
    pub rows: u64,
    pub tokens: u64,
    pub device_us: u64,
    pub cut_drained: u64,
    pub cut_rows: u64,
    pub cut_tokens: u64,
    pub cut_enough: u64,
    pub cut_delay: u64,
    pub cut_retry: u64,
    /// Batches that failed or were lost.
    pub batches_failed: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Requests dropped because they could not meet their deadline.
    pub expired: u64,
    /// Requests rejected because they killed workers.
    pub rejected: u64,
    pub loads: u64,
    pub unloads: u64,
    pub checks: u64,
    /// Bytes held for requests now.
    pub queue_bytes: usize,
    pub models: Vec<ModelTotals>,
}

/// Present state of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelTotals {
    pub name: String,
    pub waiting_rows: usize,
    /// Workers that hold it.
    pub loaded: usize,
    /// Bytes that it takes in each of them.
    pub memory_bytes: u64,
    /// True if it stays loaded without requests.
    pub keep: bool,
}
