//! History of the workers: counters, and records of the last batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::inference::batcher::LimitReason;
use crate::inference::request::Tenant;

/// Batches that are on record.
const BATCHES_KEPT: usize = 256;

/// Counts since the host started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceStats {
    /// `cpu` or `cuda:N`, once a model was loaded; the first worker's.
    pub device: Option<String>,
    /// Process id of the first running worker; `None` while none runs.
    pub worker_pid: Option<u32>,
    /// Workers started, restarts included.
    pub worker_starts: u64,
    /// Of the starts, those in place of a worker that had ended.
    pub worker_restarts: u64,
    /// Workers that crashed or were killed because they hung.
    pub worker_deaths: u64,
    /// Batches answered without failure.
    pub batches: u64,
    /// Rows of the answered batches.
    pub rows: u64,
    /// Tokens of the answered batches; of named tensors, one for each four bytes.
    pub tokens: u64,
    /// Device time of the answered batches, in microseconds.
    pub device_us: u64,
    /// Answered batches that ended because nothing more was waiting.
    pub cut_drained: u64,
    /// Answered batches that ended at the maximum of rows.
    pub cut_rows: u64,
    /// Answered batches that ended because no waiting request fit into the remaining tokens.
    pub cut_tokens: u64,
    /// Answered batches that ended because more rows would gain too little for the requests behind them.
    pub cut_enough: u64,
    /// Answered batches that ended because nothing more came within `max_queue_delay`.
    pub cut_delay: u64,
    /// Answered batches that ran by themselves after a failure.
    pub cut_retry: u64,
    /// Batches that failed or were lost, each time.
    pub batches_failed: u64,
    /// Requests that were refused because the queue was full.
    pub refused: u64,
    /// Requests dropped because they could not meet their deadline.
    pub expired: u64,
    /// Requests rejected because they killed workers.
    pub rejected: u64,
    /// Models loaded by workers, reloads included.
    pub loads: u64,
    /// Models unloaded to make room for others.
    pub unloads: u64,
    /// Checks that a device passed after a failed batch.
    pub checks: u64,
    /// Bytes held for requests now.
    pub queue_bytes: usize,
    /// State of each model, in the order of their first requests since the start.
    pub models: Vec<ModelStats>,
}

/// The present state of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStats {
    pub name: String,
    pub waiting_rows: usize,
    /// Workers that hold it.
    pub loaded: usize,
    /// Bytes that it takes in each of them.
    pub memory_bytes: u64,
    pub keep: bool,
}

/// The end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    /// The worker refused it or its device failed.
    Failed,
    /// The worker died with it.
    Lost,
}

/// One batch that ran.
#[derive(Clone, Debug, Serialize)]
pub struct BatchRecord {
    /// Counts batches from the host's start.
    pub id: u64,
    pub model: Arc<str>,
    pub device: Option<Arc<str>>,
    pub worker_pid: Option<u32>,
    pub outcome: Outcome,
    pub requests: usize,
    /// Tenants that share it.
    pub tenants: Vec<Tenant>,
    pub rows: usize,
    pub tokens: usize,
    /// The limit that ended its filling.
    pub cut: LimitReason,
    /// Times that it was tried before.
    pub losses: u32,
    /// Wait of its oldest request.
    pub wait_us: u64,
    /// From its sending, or the end of the one before it, to its answer.
    pub wall_us: u64,
    /// Time that the device measured.
    pub device_us: u64,
    /// Time of its end, in milliseconds since 1970.
    pub ended_ms: u64,
}

#[derive(Default)]
pub(super) struct History {
    pub stats: DeviceStats,
    batches: VecDeque<BatchRecord>,
}

impl History {
    pub(crate) fn add(&mut self, record: BatchRecord) {
        let stats = &mut self.stats;
        match record.outcome {
            Outcome::Done => {
                stats.batches += 1;
                stats.rows += record.rows as u64;
                stats.tokens += record.tokens as u64;
                stats.device_us = stats.device_us.saturating_add(record.device_us);
                match record.cut {
                    LimitReason::Drained => stats.cut_drained += 1,
                    LimitReason::Rows => stats.cut_rows += 1,
                    LimitReason::Tokens => stats.cut_tokens += 1,
                    LimitReason::Enough => stats.cut_enough += 1,
                    LimitReason::Delay => stats.cut_delay += 1,
                    LimitReason::Retry => stats.cut_retry += 1,
                }
            }
            Outcome::Failed | Outcome::Lost => stats.batches_failed += 1,
        }
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(record);
    }

    /// Returns the last batches, newest first.
    pub(crate) fn batches(&self) -> Vec<BatchRecord> {
        self.batches.iter().rev().cloned().collect()
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
