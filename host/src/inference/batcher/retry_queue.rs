//! The retry queue: batches that came back from a worker without an answer.

use std::collections::VecDeque;

use super::batch::{Batch, LimitReason};
use super::requests::Requests;
use crate::wire::ModelId;

#[derive(Default)]
pub(super) struct RetryQueue {
    waiting: VecDeque<Batch>,
    /// Whether the last turn was of a suspect batch: the next one is for other requests.
    was_suspect: bool,
}

impl RetryQueue {
    /// Puts a batch in front: it waited longest.
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.sub_requests.is_empty() {
            self.waiting.push_front(Batch { cut: LimitReason::Retry, ..batch });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the model of the first batch, and whether other requests go first: a batch that failed twice is suspect
    /// and must not keep the device to itself.
    pub(crate) fn first(&mut self, requests: &Requests, among: impl Fn(ModelId) -> bool) -> Option<(ModelId, bool)> {
        self.waiting
            .retain(|batch| batch.sub_requests.iter().any(|sub_request| requests.get(sub_request.request).is_some()));
        let group = self.waiting.iter().find(|batch| among(batch.model))?;
        Some((group.model, group.losses > 1 && self.was_suspect))
    }

    /// Records a turn of other requests.
    pub(crate) fn pass(&mut self) {
        self.was_suspect = false;
    }

    /// Takes the first batch of a model, without requests that were cancelled meanwhile.
    pub(crate) fn take(&mut self, model: ModelId, requests: &Requests) -> Option<Batch> {
        let at = self.waiting.iter().position(|batch| batch.model == model)?;
        let Batch { mut sub_requests, losses, .. } = self.waiting.remove(at)?;
        self.was_suspect = losses > 1;
        sub_requests.retain(|sub_request| requests.get(sub_request.request).is_some());
        (!sub_requests.is_empty()).then(|| Batch::retry(model, sub_requests, losses))
    }
}
