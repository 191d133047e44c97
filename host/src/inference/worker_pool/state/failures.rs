//! Failures: a batch is tried again, then halved until the faulty request stands alone; a worker is restarted.

use std::sync::Arc;
use std::time::Instant;

use super::history::Outcome;
use super::pool::{CLOSING, PoolState};
use super::slot::{Link, SentFrame, Task};
use super::work::Work;
use crate::inference::batcher::Batch;
use crate::inference::error::InferenceError;
use crate::wire::{FailureKind, ModelId};

/// Failures of a batch after which it is tried again as it was.
const LOSSES_MAX: u32 = 1;
/// Deaths in a row, without one answer between them, before waiting requests fail rather than wait for the next worker.
pub(super) const STARTS_MAX: u32 = 3;

impl<W> PoolState<W> {
    /// Takes in a batch that the worker refused or its device failed; the worker lives on.
    pub(super) fn batch_failed(&mut self, index: usize, mut batch: Batch, kind: FailureKind, message: &str) {
        if kind == FailureKind::Device {
            // Out of rotation until it has passed a check: a device that fails fast would get the most work.
            self.slots[index].is_doubted = true;
        }
        if kind == FailureKind::OutOfMemory {
            self.batcher.shrink(batch.model, batch.tokens);
        }
        batch.losses += 1;
        if kind == FailureKind::OutOfMemory && batch.sub_requests.len() == 1 && batch.rows > 1 {
            self.split_rows(&mut batch);
        }
        match (batch.sub_requests.as_slice(), kind) {
            // The fault may be the device's: once more.
            (_, FailureKind::Device) if batch.losses <= LOSSES_MAX => self.batcher.requeue(batch),
            ([sub_request], FailureKind::OutOfMemory | FailureKind::Device) => {
                let error = self.model(batch.model).unavailable(message);
                self.finish(sub_request.request, Err(error));
            }
            ([sub_request], _) => {
                self.finish(sub_request.request, Err(InferenceError::BadInput { reason: message.to_owned() }));
            }
            // One request is at fault; the halves will show which.
            _ => self.batcher.requeue_halves(batch),
        }
    }

    /// Splits the only sub-request of a batch in two.
    fn split_rows(&self, batch: &mut Batch) {
        let [sub_request] = batch.sub_requests.as_slice() else { return };
        let Some(Work::Rows { cu_seqlens, .. }) = self.request(sub_request.request).map(|request| &request.work) else {
            return;
        };
        let (start, end) = (sub_request.rows.start, sub_request.rows.end);
        let middle = start + (end - start) / 2;
        let part = |rows: std::ops::Range<usize>| {
            let tokens = (cu_seqlens[rows.end] - cu_seqlens[rows.start]) as usize;
            sub_request.part(rows, tokens)
        };
        batch.sub_requests = vec![part(start..middle), part(middle..end)];
    }

    /// Takes in a failed start.
    pub(crate) fn start_failed(&mut self, index: usize, reason: &str) {
        if self.is_closed {
            return;
        }
        let slot = &mut self.slots[index];
        slot.link = Link::Down;
        slot.starts += 1;
        // Other workers may serve the waiting requests.
        if self.slots.iter().all(|slot| matches!(slot.link, Link::Down)) {
            self.slots[index].starts = 0;
            self.fail_all(reason);
        }
    }

    /// Takes in the end of a worker. Returns whether it was the current one and ended by itself.
    pub(crate) fn lost(&mut self, now: Instant, index: usize, generation: u64, reason: &str) -> bool {
        let slot = &mut self.slots[index];
        if generation != slot.generation || matches!(slot.link, Link::Closed) {
            return false;
        }
        slot.link = Link::Down;
        slot.pid = None;
        slot.loaded.clear();
        slot.is_doubted = false;
        slot.device = None;
        slot.memory_shown = None;
        self.history.stats.worker_deaths += 1;
        let begun = self.slots[index].front_since;
        let mut sent = std::mem::take(&mut self.slots[index].sent);
        // Only the first can be at fault: the worker had not begun the second.
        let first = sent.pop_front();
        for out in sent.into_iter().rev() {
            if let Task::Batch(batch) = out.what {
                self.batcher.requeue(batch);
            }
        }
        match first {
            Some(SentFrame { what: Task::Batch(batch), .. }) => self.batch_lost(now, index, begun, batch),
            Some(SentFrame { what: Task::Load(model), .. }) if self.model_mut(model).load_died(now) => {
                self.fail_model(model, &format!("the worker died twice while it loaded it: {reason}"));
            }
            _ => {}
        }
        if self.slots[index].starts >= STARTS_MAX {
            self.slots[index].starts = 0;
            if self.slots.iter().all(|slot| !matches!(slot.link, Link::Up(_))) {
                self.fail_all(&format!("the worker died {STARTS_MAX} times in a row: {reason}"));
            }
        }
        true
    }

    /// Puts a lost batch back: once as it was, then in halves, until the request that kills workers stands alone.
    fn batch_lost(&mut self, now: Instant, index: usize, begun: Instant, mut batch: Batch) {
        self.observe(now, index, begun, &batch, Outcome::Lost, 0);
        batch.losses += 1;
        batch.sub_requests.retain(|sub_request| self.request(sub_request.request).is_some());
        if batch.losses <= LOSSES_MAX {
            return self.batcher.requeue(batch);
        }
        match batch.sub_requests.as_slice() {
            [sub_request] => {
                let model = self.model(batch.model).name().to_owned();
                self.history.stats.rejected += 1;
                self.finish(sub_request.request, Err(InferenceError::DeviceLost { model, losses: batch.losses }));
            }
            _ => self.batcher.requeue_halves(batch),
        }
    }

    /// Fails all requests. Returns the workers, which the driver hangs up on.
    pub(crate) fn close(&mut self) -> Vec<Arc<W>> {
        self.is_closed = true;
        let mut workers = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.pid = None;
            if let Link::Up(worker) = std::mem::replace(&mut slot.link, Link::Closed) {
                workers.push(worker);
            }
            slot.sent.clear();
        }
        self.fail_all(CLOSING);
        workers
    }

    pub(super) fn fail_all(&mut self, reason: &str) {
        for index in 0..self.models.len() {
            self.fail_model(ModelId(index as u32), reason);
        }
    }

    /// Fails the waiting requests of a model.
    pub(super) fn fail_model(&mut self, model: ModelId, reason: &str) {
        for id in self.batcher.waiting_of(model) {
            let error = self.model(model).unavailable(reason);
            self.finish(id, Err(error));
        }
    }
}
