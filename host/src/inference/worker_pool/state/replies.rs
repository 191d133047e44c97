//! Task a worker's answers come to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::{self, BatchRecord};
use super::slot::{Loaded, SentFrame, Task};
use super::{DeviceStats, Link, ModelStats, Outcome, Output, PoolState, Work, WorkerSlot};
use crate::call::micros;
use crate::inference::InferenceError;
use crate::inference::batcher::Batch;
use crate::wire::{FailureKind, Frame, Header, ModelId, Signature, Tensor};

impl<W> PoolState<W> {
    /// Takes in a started worker; none if the device was closed meanwhile.
    pub fn started(&mut self, index: usize, worker: W, pid: u32) -> Option<u64> {
        let slot = &mut self.slots[index];
        if self.is_closed {
            return None;
        }
        slot.generation += 1;
        slot.starts += 1;
        slot.pid = Some(pid);
        slot.link = Link::Up(Arc::new(worker));
        self.history.stats.worker_starts += 1;
        Some(slot.generation)
    }

    /// Takes a reply to the oldest frame that is out; an error is a reply that was not asked for.
    pub fn reply(
        &mut self,
        now: Instant,
        index: usize,
        generation: u64,
        header: Header,
        frame: Frame,
    ) -> Result<(), &'static str> {
        let slot = &mut self.slots[index];
        if generation != slot.generation {
            return Err("a reply of an earlier worker");
        }
        let Some(out) = slot.sent.pop_front_if(|out| out.job == header.job) else {
            return Err("a reply to no job");
        };
        let begun = slot.front_since.max(out.sent);
        if let Err(what) = self.check_reply(&out, &frame) {
            // Kept, so that the batch is tried again with the next worker.
            self.slots[index].sent.push_front(out);
            return Err(what);
        }
        let slot = &mut self.slots[index];
        slot.starts = 0;
        slot.front_since = now;
        match (out.what, frame) {
            (Task::Load(model), Frame::Loaded { signature, memory, device, .. }) => {
                self.loaded(now, index, model, signature, memory, &device);
            }
            (Task::Load(model), Frame::Failed { kind: FailureKind::OutOfMemory, message }) => {
                // The device knows better than our sum. Another model leaves, or this one cannot be held.
                match self.least_used(index) {
                    Some(_) => self.lower_budget(index, model),
                    None => self.fail_model(model, &message),
                }
            }
            (Task::Load(model), Frame::Failed { message, .. }) => self.fail_model(model, &message),
            (Task::Check, Frame::Checked { .. }) => {
                self.slots[index].is_doubted = false;
                self.history.stats.checks += 1;
            }
            (Task::Batch(batch), Frame::Vectors { dimension, device_ns, values, .. }) => {
                self.observe(now, index, begun, &batch, Outcome::Done, device_ns);
                self.hand_out(index, begun, batch, device_ns, BatchOutput::Rows { width: dimension, values });
            }
            (Task::Batch(batch), Frame::Inferred { device_ns, items, .. }) => {
                self.observe(now, index, begun, &batch, Outcome::Done, device_ns);
                self.hand_out(index, begun, batch, device_ns, BatchOutput::Tensors(items));
            }
            (Task::Batch(batch), Frame::Failed { kind, message }) => {
                self.observe(now, index, begun, &batch, Outcome::Failed, 0);
                self.batch_failed(index, batch, kind, &message);
            }
            // `Unload`, which took effect when it was sent; `check_reply` let nothing else by.
            _ => {}
        }
        Ok(())
    }

    /// Refuses an answer that does not fit what was asked.
    fn check_reply(&self, out: &SentFrame, frame: &Frame) -> Result<(), &'static str> {
        let fits = match (&out.what, frame) {
            (Task::Load(model), Frame::Loaded { model: of, device, .. }) => model == of && device.len() <= 64,
            (Task::Load(_), Frame::Failed { kind: FailureKind::Load | FailureKind::OutOfMemory, .. }) => true,
            (Task::Unload(model), Frame::Unloaded { model: of, .. }) => model == of,
            (Task::Check, Frame::Checked { .. }) => true,
            (Task::Batch(batch), Frame::Vectors { model, rows, dimension, checksum, .. }) => {
                let width = self.model(batch.model).signature.as_ref().and_then(Signature::width);
                *model == batch.model
                    && *rows as usize == batch.rows
                    && Some(*dimension) == width
                    && *checksum == out.checksum
            }
            (Task::Batch(batch), Frame::Inferred { model, items, .. }) => {
                let is_tensors = matches!(self.model(batch.model).signature, Some(Signature::Tensors { .. }));
                *model == batch.model && is_tensors && items.len() == batch.sub_requests.len()
            }
            (Task::Batch(_), Frame::Failed { kind, .. }) => *kind != FailureKind::Load,
            _ => false,
        };
        if fits { Ok(()) } else { Err("a reply of another kind or shape") }
    }

    fn loaded(&mut self, now: Instant, index: usize, model: ModelId, signature: Signature, memory: u64, device: &str) {
        // Its files were exchanged. Task was begun with the old ones has rows of another shape by now.
        if self.model(model).signature.as_ref().is_some_and(|before| *before != signature) {
            self.fail_model(model, "its files were exchanged meanwhile; try again");
        }
        self.clock += 1;
        let used = self.clock;
        let slot = &mut self.slots[index];
        slot.loaded.insert(model, Loaded { memory, used, device: device.into() });
        slot.loaded_at = Some(now);
        if !slot.device.as_deref().is_some_and(|own| own.starts_with("cuda")) {
            slot.device = Some(device.into());
        }
        self.history.stats.loads += 1;
        self.model_mut(model).loaded(signature.clone(), memory);
        // Those that came before it was known what the model is.
        for id in self.batcher.waiting_of(model) {
            let Some(request) = self.request(id) else { continue };
            if matches!(request.work, Work::Load) {
                let loaded = Output::Rows { width: 0, values: Vec::new() };
                self.finish(id, Ok((loaded, Default::default())));
            } else if let Err(error) = self.model(model).check_output_kind(request.output_kind, &signature) {
                self.finish(id, Err(error));
            }
        }
    }

    /// Lowers this worker's budget below what its device has shown not to have: what it held and the model that did not fit.
    fn lower_budget(&mut self, index: usize, model: ModelId) {
        let shown = self.slots[index].memory().saturating_add(self.model(model).memory()).saturating_sub(1);
        self.slots[index].memory_shown = Some(shown);
    }

    /// Task computes a model on this worker.
    fn device_of(&self, index: usize, model: ModelId) -> Option<Arc<str>> {
        let slot = &self.slots[index];
        slot.loaded.get(&model).map(|loaded| loaded.device.clone()).or_else(|| slot.device.clone())
    }

    /// Gives each request of a batch what is its own.
    fn hand_out(&mut self, index: usize, begun: Instant, batch: Batch, device_ns: u64, made: BatchOutput) {
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
            // By tokens, and so rounded that the shares of a batch are its device time together.
            tokens += sub_request.tokens as u128;
            let upto = (u128::from(device_us) * tokens / batch.tokens.max(1) as u128) as u64;
            let share = upto - shared;
            shared = upto;
            // A request that was cancelled meanwhile leaves its part unused.
            let Some(request) = self.request_mut(sub_request.request) else { continue };
            request.receipt.batches += 1;
            request.receipt.batch_rows += batch.rows as u64;
            request.receipt.wait_us += micros(begun.saturating_duration_since(request.submitted));
            request.receipt.device_us = request.receipt.device_us.saturating_add(share);
            request.receipt.device = device.as_deref().map(str::to_owned);
            request.rows_left -= sub_request.rows.len();
            let output = match item {
                None => {
                    // A model that returns what is no number has met a text it cannot handle; its neighbours are well.
                    if !part.iter().all(|value| value.is_finite()) {
                        let reason = "the model returned values that are no numbers".to_owned();
                        self.finish(sub_request.request, Err(InferenceError::BadInput { reason }));
                        continue;
                    }
                    if request.values.is_empty() && request.rows_left == 0 {
                        request.values = part.to_vec();
                    } else {
                        if request.values.is_empty() {
                            request.values = vec![0.0; request.work.rows() * width as usize];
                        }
                        let at = sub_request.rows.start * width as usize;
                        request.values[at..at + part.len()].copy_from_slice(part);
                    }
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

    /// Returns the last batches, newest first.
    pub fn batches(&self) -> Vec<BatchRecord> {
        self.history.batches()
    }

    /// The first worker that runs, or else was to run.
    fn first(&self) -> &WorkerSlot<W> {
        self.slots.iter().find(|slot| slot.pid.is_some()).unwrap_or(&self.slots[0])
    }

    /// Returns what computes, once a model was loaded.
    pub fn device(&self) -> Option<String> {
        self.first().device.as_deref().map(str::to_owned)
    }

    pub fn stats(&self) -> DeviceStats {
        let mut stats = self.history.stats.clone();
        stats.device = self.device();
        stats.worker_pid = self.first().pid;
        stats.queue_bytes = self.batcher.bytes();
        let models = self.models.iter().enumerate().map(|(index, model)| {
            let id = ModelId(index as u32);
            ModelStats {
                name: model.name().to_owned(),
                waiting_rows: self.batcher.waiting_rows(id),
                loaded: self.slots.iter().filter(|slot: &&WorkerSlot<W>| slot.loaded.contains_key(&id)).count(),
                memory_bytes: model.memory(),
                keep: model.keep(),
            }
        });
        stats.models = models.collect();
        stats
    }
}

/// Task a batch came to.
enum BatchOutput {
    Rows { width: u32, values: Vec<f32> },
    Tensors(Vec<Result<Vec<Tensor>, String>>),
}
