//! Replies of a worker: checked against the frame that they answer, then applied.

use std::sync::Arc;
use std::time::Instant;

use super::history::Outcome;
use super::outputs::BatchOutput;
use super::pool::PoolState;
use super::slot::{Link, ResidentModel, SentFrame, Task};
use super::work::{Output, Work};
use crate::wire::{FailureKind, Frame, Header, ModelId, Signature};

impl<W> PoolState<W> {
    /// Takes in a started worker; none if the pool was closed meanwhile.
    pub(crate) fn started(&mut self, index: usize, worker: W, pid: u32) -> Option<u64> {
        let slot = &mut self.slots[index];
        if self.is_closed {
            return None;
        }
        let is_restart = slot.generation > 0;
        slot.generation += 1;
        slot.starts += 1;
        slot.pid = Some(pid);
        slot.link = Link::Up(Arc::new(worker));
        self.history.stats.worker_starts += 1;
        self.history.stats.worker_restarts += u64::from(is_restart);
        Some(slot.generation)
    }

    /// Takes a reply to the oldest sent frame; an error means a reply that was not asked for.
    pub(crate) fn reply(
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
            // Kept, so that the next worker tries the batch again.
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
                // The device knows its memory better than our sum. Another model leaves, or this one cannot be loaded.
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
            // `Unload` took effect when it was sent; `check_reply` lets no other frame through.
            _ => {}
        }
        Ok(())
    }

    /// Refuses an answer that does not match its frame.
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
        // Its files were replaced. Requests begun with the old ones have rows of another shape by now.
        if self.model(model).signature.as_ref().is_some_and(|before| *before != signature) {
            self.fail_model(model, "its files were exchanged meanwhile; try again");
        }
        self.clock += 1;
        let used = self.clock;
        let slot = &mut self.slots[index];
        slot.loaded.insert(model, ResidentModel { memory, used, device: device.into() });
        slot.loaded_at = Some(now);
        if !slot.device.as_deref().is_some_and(|own| own.starts_with("cuda")) {
            slot.device = Some(device.into());
        }
        self.history.stats.loads += 1;
        self.model_mut(model).loaded(signature.clone(), memory);
        // Requests that came before the signature was known.
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

    /// Lowers this worker's budget below the sum that did not fit: its loaded models and the new one.
    fn lower_budget(&mut self, index: usize, model: ModelId) {
        let shown = self.slots[index].memory().saturating_add(self.model(model).memory()).saturating_sub(1);
        self.slots[index].memory_shown = Some(shown);
    }
}
