//! The outputs of a batch: each request gets its own rows or tensors and its share of the cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::{self, BatchRecord, Outcome};
use super::pool::PoolState;
use super::work::Output;
use crate::call::micros;
use crate::inference::batcher::Batch;
use crate::inference::error::InferenceError;
use crate::wire::{ModelId, Tensor};

/// The output of a batch.
pub(super) enum BatchOutput {
    Rows { width: u32, values: Vec<f32> },
    Tensors(Vec<Result<Vec<Tensor>, String>>),
}

impl<W> PoolState<W> {
    /// Gives each request of a batch its part of the output.
    pub(super) fn hand_out(&mut self, index: usize, begun: Instant, batch: Batch, device_ns: u64, made: BatchOutput) {
        let device = self.device_of(index, batch.model);
        let device_us = device_ns / 1_000;
        let mut tokens = 0;
        let mut shared = 0;
        let mut start = 0;
        let (width, values, mut items) = match made {
            BatchOutput::Rows { width, values } => (width, values, Vec::new().into_iter()),
            BatchOutput::Tensors(items) => (0, Vec::new(), items.into_iter()),
        };
        for sub_request in &batch.sub_requests {
            let end = start + sub_request.rows.len() * width as usize;
            let part = if width > 0 { &values[start..end] } else { &[] };
            start = end;
            let item = items.next();
            // By tokens, rounded so that the shares add up to the device time of the batch.
            tokens += sub_request.tokens as u128;
            let upto = (u128::from(device_us) * tokens / batch.tokens.max(1) as u128) as u64;
            let share = upto - shared;
            shared = upto;
            // The part of a request that was cancelled meanwhile is dropped.
            let Some(request) = self.request_mut(sub_request.request) else { continue };
            request.receipt.batches += 1;
            request.receipt.batch_rows += batch.rows as u64;
            request.receipt.wait_us += micros(begun.saturating_duration_since(request.submitted));
            request.receipt.device_us = request.receipt.device_us.saturating_add(share);
            request.receipt.device = device.as_deref().map(str::to_owned);
            request.rows_left -= sub_request.rows.len();
            let output = match item {
                None => {
                    // A text that the model cannot handle gives NaN or infinity; its neighbours are unaffected.
                    if !part.iter().all(|value| value.is_finite()) {
                        let reason = "the model returned values that are no numbers".to_owned();
                        self.finish(sub_request.request, Err(InferenceError::BadInput { reason }));
                        continue;
                    }
                    request.add_rows(sub_request.rows.start, width as usize, part);
                    if request.rows_left > 0 {
                        continue;
                    }
                    Output::Rows { width, values: std::mem::take(&mut request.values) }
                }
                Some(Ok(tensors)) => Output::Tensors(tensors),
                Some(Err(reason)) => {
                    self.finish(sub_request.request, Err(InferenceError::BadInput { reason }));
                    continue;
                }
            };
            let receipt = std::mem::take(&mut request.receipt);
            self.finish(sub_request.request, Ok((output, receipt)));
        }
    }

    pub(super) fn observe(
        &mut self,
        now: Instant,
        index: usize,
        begun: Instant,
        batch: &Batch,
        outcome: Outcome,
        device_ns: u64,
    ) {
        if outcome == Outcome::Done {
            self.batcher.observe(batch.model, batch.tokens, device_ns);
        }
        let mut tenants = Vec::new();
        let mut wait = Duration::ZERO;
        for request in batch.sub_requests.iter().filter_map(|sub_request| self.request(sub_request.request)) {
            if !tenants.contains(&request.tenant) {
                tenants.push(request.tenant);
            }
            wait = wait.max(begun.saturating_duration_since(request.submitted));
        }
        let slot = &self.slots[index];
        let record = BatchRecord {
            id: self.history.stats.batches + self.history.stats.batches_failed,
            model: self.model(batch.model).name_shared(),
            device: self.device_of(index, batch.model),
            worker_pid: slot.pid,
            outcome,
            requests: batch.sub_requests.len(),
            tenants: tenants.into_iter().map(|id| self.tenant_names[id.0 as usize].clone()).collect(),
            rows: batch.rows,
            tokens: batch.tokens,
            cut: batch.cut,
            losses: batch.losses,
            wait_us: micros(wait),
            wall_us: micros(now.saturating_duration_since(begun)),
            device_us: device_ns / 1_000,
            ended_ms: history::now_ms(),
        };
        self.history.add(record);
    }

    /// Returns the device of a model on this worker.
    fn device_of(&self, index: usize, model: ModelId) -> Option<Arc<str>> {
        let slot = &self.slots[index];
        slot.loaded.get(&model).map(|loaded| loaded.device.clone()).or_else(|| slot.device.clone())
    }
}
