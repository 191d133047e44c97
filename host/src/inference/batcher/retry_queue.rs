//! Batches that came back from a worker without an answer.

use std::collections::VecDeque;

use super::requests::Requests;
use super::{Batch, LimitReason};
use crate::wire::ModelId;

#[derive(Default)]
pub(super) struct RetryQueue {
    waiting: VecDeque<Batch>,
    /// True if the last turn was a suspect's: the next one is everybody else's.
    was_suspect: bool,
}

impl RetryQueue {
    /// Puts one in front: it waited longest.
    pub fn push(&mut self, batch: Batch) {
        if !batch.sub_requests.is_empty() {
            self.waiting.push_front(Batch { cut: LimitReason::Retry, ..batch });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the model of the first group, and whether it is somebody else's turn: a group that failed twice is suspect,
    /// and does not keep the device to itself.
    pub fn first(&mut self, requests: &Requests, among: impl Fn(ModelId) -> bool) -> Option<(ModelId, bool)> {
        self.waiting
            .retain(|batch| batch.sub_requests.iter().any(|sub_request| requests.get(sub_request.request).is_some()));
        let group = self.waiting.iter().find(|batch| among(batch.model))?;
        Some((group.model, group.losses > 1 && self.was_suspect))
    }

    /// Takes in that others had a turn.
    pub fn pass(&mut self) {
        self.was_suspect = false;
    }

    /// Takes the first group of that model, without what was cancelled meanwhile.
    pub fn take(&mut self, model: ModelId, requests: &Requests) -> Option<Batch> {
        let at = self.waiting.iter().position(|batch| batch.model == model)?;
        let Batch { mut sub_requests, losses, .. } = self.waiting.remove(at)?;
        self.was_suspect = losses > 1;
        sub_requests.retain(|sub_request| requests.get(sub_request.request).is_some());
        (!sub_requests.is_empty()).then(|| Batch::retry(model, sub_requests, losses))
    }
}
