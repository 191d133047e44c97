//! Batches that came back from a worker without an answer.

use std::collections::VecDeque;

use super::super::wire::ModelId;
use super::ledger::Ledger;
use super::{Batch, Cut};

#[derive(Default)]
pub(super) struct Groups {
    waiting: VecDeque<Batch>,
    /// True if the last turn was a suspect's: the next one is everybody else's.
    was_suspect: bool,
}

impl Groups {
    /// Puts one in front: it waited longest.
    pub fn push(&mut self, batch: Batch) {
        if !batch.pieces.is_empty() {
            self.waiting.push_front(Batch { cut: Cut::Retry, ..batch });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the model of the first group, and whether it is somebody else's turn: a group that failed twice is suspect,
    /// and does not keep the device to itself.
    pub fn first(&mut self, ledger: &Ledger, among: impl Fn(ModelId) -> bool) -> Option<(ModelId, bool)> {
        self.waiting.retain(|batch| batch.pieces.iter().any(|piece| ledger.get(piece.request).is_some()));
        let group = self.waiting.iter().find(|batch| among(batch.model))?;
        Some((group.model, group.losses > 1 && self.was_suspect))
    }

    /// Takes in that others had a turn.
    pub fn pass(&mut self) {
        self.was_suspect = false;
    }

    /// Takes the first group of that model, without what was cancelled meanwhile.
    pub fn take(&mut self, model: ModelId, ledger: &Ledger) -> Option<Batch> {
        let at = self.waiting.iter().position(|batch| batch.model == model)?;
        let Batch { mut pieces, losses, .. } = self.waiting.remove(at)?;
        self.was_suspect = losses > 1;
        pieces.retain(|piece| ledger.get(piece.request).is_some());
        (!pieces.is_empty()).then(|| Batch::retry(model, pieces, losses))
    }
}
