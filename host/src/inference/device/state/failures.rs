//! What fails, who is to blame, and what is tried again.

use std::sync::Arc;
use std::time::Instant;

use super::seat::{Out, What};
use super::{CLOSING, Link, Outcome, State, Work};
use crate::inference::InferenceError;
use crate::inference::batcher::Batch;
use crate::inference::device::{LOSSES_MAX, STARTS_MAX};
use crate::inference::wire::{FailureKind, ModelId};

impl<W> State<W> {
    /// Takes in a batch that the worker refused, or its device failed, and the worker lives on.
    pub(super) fn batch_failed(&mut self, index: usize, mut batch: Batch, kind: FailureKind, message: &str) {
        if kind == FailureKind::Device {
            // Out of rotation until it has computed something right: a device that fails fast would get the most work.
            self.seats[index].is_doubted = true;
        }
        if kind == FailureKind::OutOfMemory {
            self.batcher.shrink(batch.model, batch.tokens);
        }
        batch.losses += 1;
        if kind == FailureKind::OutOfMemory && batch.pieces.len() == 1 && batch.rows > 1 {
            self.split_rows(&mut batch);
        }
        match (batch.pieces.as_slice(), kind) {
            // A device may have failed for a reason of its own: once more.
            (_, FailureKind::Device) if batch.losses <= LOSSES_MAX => self.batcher.requeue(batch),
            ([piece], FailureKind::OutOfMemory | FailureKind::Device) => {
                let error = self.model(batch.model).unavailable(message);
                self.finish(piece.request, Err(error));
            }
            ([piece], _) => {
                self.finish(piece.request, Err(InferenceError::BadInput { reason: message.to_owned() }));
            }
            // One of them is to blame; the halves will show which.
            _ => self.batcher.requeue_halves(batch),
        }
    }

    /// Cuts the one piece of a batch in two.
    fn split_rows(&self, batch: &mut Batch) {
        let [piece] = batch.pieces.as_slice() else { return };
        let Some(Work::Rows { cu_seqlens, .. }) = self.request(piece.request).map(|request| &request.work) else {
            return;
        };
        let (start, end) = (piece.rows.start, piece.rows.end);
        let middle = start + (end - start) / 2;
        let part = |rows: std::ops::Range<usize>| {
            let tokens = (cu_seqlens[rows.end] - cu_seqlens[rows.start]) as usize;
            piece.part(rows, tokens)
        };
        batch.pieces = vec![part(start..middle), part(middle..end)];
    }

    /// Takes in a worker that could not be started.
    pub fn start_failed(&mut self, index: usize, reason: &str) {
        if self.is_closed {
            return;
        }
        let seat = &mut self.seats[index];
        seat.link = Link::Down;
        seat.starts += 1;
        // Others may serve what waits.
        if self.seats.iter().all(|seat| matches!(seat.link, Link::Down)) {
            self.seats[index].starts = 0;
            self.fail_all(reason);
        }
    }

    /// Takes in the end of a worker. Returns whether it was the current one and ended by itself.
    pub fn lost(&mut self, now: Instant, index: usize, generation: u64, reason: &str) -> bool {
        let seat = &mut self.seats[index];
        if generation != seat.generation || matches!(seat.link, Link::Closed) {
            return false;
        }
        seat.link = Link::Down;
        seat.pid = None;
        seat.loaded.clear();
        seat.is_doubted = false;
        seat.device = None;
        seat.memory_shown = None;
        self.history.stats.worker_deaths += 1;
        let begun = self.seats[index].front_since;
        let mut outs = std::mem::take(&mut self.seats[index].outs);
        // Only the first is to blame: the worker had not looked at what came behind it.
        let first = outs.pop_front();
        for out in outs.into_iter().rev() {
            if let What::Batch(batch) = out.what {
                self.batcher.requeue(batch);
            }
        }
        match first {
            Some(Out { what: What::Batch(batch), .. }) => self.batch_lost(now, index, begun, batch),
            Some(Out { what: What::Load(model), .. }) if self.model_mut(model).load_died(now) => {
                self.fail_model(model, &format!("the worker died twice while it loaded it: {reason}"));
            }
            _ => {}
        }
        if self.seats[index].starts >= STARTS_MAX {
            self.seats[index].starts = 0;
            if self.seats.iter().all(|seat| !matches!(seat.link, Link::Up(_))) {
                self.fail_all(&format!("the worker died {STARTS_MAX} times in a row: {reason}"));
            }
        }
        true
    }

    /// Once more as it was; then in halves, until the request that ends workers stands alone.
    fn batch_lost(&mut self, now: Instant, index: usize, begun: Instant, mut batch: Batch) {
        self.observe(now, index, begun, &batch, Outcome::Lost, 0);
        batch.losses += 1;
        batch.pieces.retain(|piece| self.request(piece.request).is_some());
        if batch.losses <= LOSSES_MAX {
            return self.batcher.requeue(batch);
        }
        match batch.pieces.as_slice() {
            [piece] => {
                let model = self.model(batch.model).name().to_owned();
                self.history.stats.rejected += 1;
                self.finish(piece.request, Err(InferenceError::DeviceLost { model, losses: batch.losses }));
            }
            _ => self.batcher.requeue_halves(batch),
        }
    }

    /// Fails everything. Returns the workers, to be hung up on.
    pub fn close(&mut self) -> Vec<Arc<W>> {
        self.is_closed = true;
        let mut workers = Vec::new();
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            seat.pid = None;
            if let Link::Up(worker) = std::mem::replace(&mut seat.link, Link::Closed) {
                workers.push(worker);
            }
            seat.outs.clear();
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
