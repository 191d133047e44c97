//! Task fails, who is to blame, and what is tried again.

use std::sync::Arc;
use std::time::Instant;

use super::slot::{SentFrame, Task};
use super::{CLOSING, Link, Outcome, PoolState, Work};
use crate::inference::InferenceError;
use crate::inference::batcher::Batch;
use crate::inference::worker_pool::{LOSSES_MAX, STARTS_MAX};
use crate::wire::{FailureKind, ModelId};

impl<W> PoolState<W> {
    /// Takes in a batch that the worker refused, or its device failed, and the worker lives on.
    pub(super) fn batch_failed(&mut self, index: usize, mut batch: Batch, kind: FailureKind, message: &str) {
        if kind == FailureKind::Device {
            // SentFrame of rotation until it has computed something right: a device that fails fast would get the most work.
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
            // A device may have failed for a reason of its own: once more.
            (_, FailureKind::Device) if batch.losses <= LOSSES_MAX => self.batcher.requeue(batch),
            ([sub_request], FailureKind::OutOfMemory | FailureKind::Device) => {
                let error = self.model(batch.model).unavailable(message);
                self.finish(sub_request.request, Err(error));
            }
            ([sub_request], _) => {
                self.finish(sub_request.request, Err(InferenceError::BadInput { reason: message.to_owned() }));
            }
            // One of them is to blame; the halves will show which.
            _ => self.batcher.requeue_halves(batch),
        }
    }

    /// Cuts the one sub_request of a batch in two.
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

    /// Takes in a worker that could not be started.
    pub fn start_failed(&mut self, index: usize, reason: &str) {
        if self.is_closed {
            return;
        }
        let slot = &mut self.slots[index];
        slot.link = Link::Down;
        slot.starts += 1;
        // Others may serve what waits.
        if self.slots.iter().all(|slot| matches!(slot.link, Link::Down)) {
            self.slots[index].starts = 0;
            self.fail_all(reason);
        }
    }

    /// Takes in the end of a worker. Returns whether it was the current one and ended by itself.
    pub fn lost(&mut self, now: Instant, index: usize, generation: u64, reason: &str) -> bool {
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
        // Only the first is to blame: the worker had not looked at what came behind it.
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

    /// Once more as it was; then in halves, until the request that ends workers stands alone.
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

    /// Fails everything. Returns the workers, to be hung up on.
    pub fn close(&mut self) -> Vec<Arc<W>> {
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

    /// Answers what waits for a model.
    pub(super) fn fail_model(&mut self, model: ModelId, reason: &str) {
        for id in self.batcher.waiting_of(model) {
            let error = self.model(model).unavailable(reason);
            self.finish(id, Err(error));
        }
    }
}
