//! What a device knows: models, requests, the frame that is out. Decides; `device` acts.
//!
//! `W` is whatever sends frames to a running worker; this module only hands it back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{LOSSES_MAX, ModelSource, RESTART_DELAY, STARTS_MAX};
use crate::call::{InferenceReceipt, micros};
use crate::devices::LiveWorker;
use crate::inference::batcher::{Batch, Batcher, Cut, QueueFull, RequestId};
use crate::inference::wire::{FailureKind, Frame, Header, ModelId, NOOP_PATH, Signature};
use crate::inference::{Embedded, InferenceError};
use crate::limits::BatchLimits;

/// Why nothing is served any more.
const CLOSING: &str = "the host is shutting down";

/// Why a classifier embeds nothing.
const CLASSIFIER: &str = "it is a classifier, which gives scores and no vectors; embed with an embedding model";

type Done = oneshot::Sender<Result<Embedded, InferenceError>>;

/// What the driver is to do now.
pub(super) enum Step<W> {
    Nothing,
    /// Write `State::frame`.
    Send(Arc<W>),
    Start {
        after: Duration,
    },
}

/// Counts since the host started.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct DeviceStats {
    /// `cpu` or `cuda:N`, once a model was loaded.
    pub device: Option<String>,
    pub worker_pid: Option<u32>,
    pub worker_starts: u64,
    pub batches: u64,
    pub rows: u64,
    pub tokens: u64,
    pub device_us: u64,
    pub cut_drained: u64,
    pub cut_rows: u64,
    pub cut_tokens: u64,
    pub cut_alone: u64,
}

enum Link<W> {
    Down,
    Starting,
    Up(Arc<W>),
    /// The host is on its way down.
    Closed,
}

struct Model {
    name: String,
    source: ModelSource,
    batcher: Batcher,
    /// Set while the running worker has it loaded.
    loaded: bool,
    dimension: Option<u32>,
    /// True once it turned out to be one, which has no vectors to give.
    is_classifier: bool,
}

impl Model {
    fn overloaded(&self, full: QueueFull) -> InferenceError {
        InferenceError::Overloaded { model: self.name.clone(), waiting_rows: full.waiting_rows }
    }
}

struct Request {
    ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
    values: Vec<f32>,
    rows_left: usize,
    submitted: Instant,
    receipt: InferenceReceipt,
    done: Done,
}

enum Out {
    Load { model: ModelId, sent: Instant },
    Batch { model: ModelId, batch: Batch, sent: Instant },
}

pub(super) struct State<W> {
    limits: BatchLimits,
    models: Vec<Model>,
    requests: HashMap<RequestId, Request>,
    next_request: u64,
    link: Link<W>,
    generation: u64,
    out: Option<(u64, Out)>,
    next_job: u64,
    /// Model whose turn is next, so that none waits behind another for ever.
    turn: usize,
    /// Starts since the last answer.
    starts: u32,
    frame: Vec<u8>,
    stats: DeviceStats,
}

impl<W> State<W> {
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            models: Vec::new(),
            requests: HashMap::new(),
            next_request: 0,
            link: Link::Down,
            generation: 0,
            out: None,
            next_job: 0,
            turn: 0,
            starts: 0,
            frame: Vec::new(),
            stats: DeviceStats::default(),
        }
    }

    pub fn register(&mut self, name: &str, source: ModelSource) -> ModelId {
        let batcher = Batcher::new(self.limits.clone());
        self.models.push(Model {
            name: name.to_owned(),
            source,
            batcher,
            loaded: false,
            dimension: None,
            is_classifier: false,
        });
        ModelId(u32::try_from(self.models.len() - 1).expect("models are few"))
    }

    pub fn dimension(&self, model: ModelId) -> Option<u32> {
        self.models[model.0 as usize].dimension
    }

    pub fn stats(&self) -> DeviceStats {
        self.stats.clone()
    }

    /// Returns the worker that runs now, if one does.
    pub fn live(&self) -> Option<LiveWorker> {
        let loaded = || self.models.iter().filter(|model| model.loaded);
        Some(LiveWorker {
            pid: self.stats.worker_pid?,
            // The count's device is that of the last load, which may have been an earlier worker's.
            device: loaded().next().and(self.stats.device.clone()),
            models: loaded().map(|model| model.name.clone()).collect(),
        })
    }

    /// Returns the bytes that `Step::Send` sends.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Returns since when an answer is due.
    pub fn due_since(&self) -> Option<Instant> {
        self.out.as_ref().map(|(_, out)| match out {
            Out::Load { sent, .. } | Out::Batch { sent, .. } => *sent,
        })
    }

    pub fn check_room(&self, model: ModelId, rows: usize) -> Result<(), InferenceError> {
        let entry = &self.models[model.0 as usize];
        entry.batcher.check_room(rows).map_err(|full| entry.overloaded(full))
    }

    pub fn submit(
        &mut self,
        model: ModelId,
        ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        done: Done,
    ) -> Result<RequestId, InferenceError> {
        let entry = &mut self.models[model.0 as usize];
        if matches!(self.link, Link::Closed) {
            return Err(InferenceError::Unavailable { model: entry.name.clone(), reason: CLOSING.to_owned() });
        }
        if entry.is_classifier {
            return Err(InferenceError::Unavailable { model: entry.name.clone(), reason: CLASSIFIER.to_owned() });
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let lengths: Vec<usize> = cu_seqlens.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
        let pieces = entry.batcher.pieces(request, &lengths);
        if let Err(full) = entry.batcher.enqueue(pieces) {
            return Err(entry.overloaded(full));
        }
        let receipt = InferenceReceipt { requests: 1, tokens: ids.len() as u64, ..Default::default() };
        let rows_left = lengths.len();
        let submitted = Instant::now();
        self.requests
            .insert(request, Request { ids, cu_seqlens, values: Vec::new(), rows_left, submitted, receipt, done });
        Ok(request)
    }

    /// Forgets a request whose caller is gone. What is with the worker already runs to its end and is dropped.
    pub fn cancel(&mut self, request: RequestId) {
        if self.requests.remove(&request).is_some() {
            self.models.iter_mut().for_each(|model| model.batcher.cancel(request));
        }
    }

    pub fn step(&mut self) -> Step<W> {
        if self.out.is_some() || !self.models.iter().any(|model| model.batcher.waiting_rows() > 0) {
            return Step::Nothing;
        }
        match &self.link {
            Link::Starting | Link::Closed => Step::Nothing,
            Link::Down => {
                self.link = Link::Starting;
                let after =
                    if self.starts == 0 { Duration::ZERO } else { RESTART_DELAY * 4u32.pow(self.starts.min(4) - 1) };
                Step::Start { after }
            }
            Link::Up(worker) => {
                let worker = worker.clone();
                self.next_frame();
                Step::Send(worker)
            }
        }
    }

    /// Encodes the next load or batch. Some model has waiting rows.
    fn next_frame(&mut self) {
        let count = self.models.len();
        let index = (0..count)
            .map(|offset| (self.turn + offset) % count)
            .find(|&index| self.models[index].batcher.waiting_rows() > 0)
            .expect("checked by the caller");
        let model = ModelId(index as u32);
        let entry = &mut self.models[index];
        let job = self.next_job;
        self.next_job += 1;
        self.frame.clear();
        if !entry.loaded {
            let path = match &entry.source {
                ModelSource::Directory(dir) => dir.to_string_lossy().into_owned(),
                ModelSource::Noop => NOOP_PATH.to_owned(),
            };
            Frame::Load { model, path }.encode(job, &mut self.frame);
            self.out = Some((job, Out::Load { model, sent: Instant::now() }));
            return;
        }
        self.turn = (index + 1) % count;
        let batch = entry.batcher.take().expect("it has waiting rows");
        let mut ids = Vec::with_capacity(batch.tokens);
        let mut cu_seqlens = Vec::with_capacity(batch.rows + 1);
        cu_seqlens.push(0);
        for piece in &batch.pieces {
            let request = &self.requests[&piece.request];
            let ends = &request.cu_seqlens[piece.rows.start..=piece.rows.end];
            let base = ids.len() as u32;
            cu_seqlens.extend(ends[1..].iter().map(|end| base + (end - ends[0])));
            ids.extend_from_slice(&request.ids[ends[0] as usize..ends[ends.len() - 1] as usize]);
        }
        Frame::Batch { model, cu_seqlens, first_segments: Vec::new(), ids }.encode(job, &mut self.frame);
        self.out = Some((job, Out::Batch { model, batch, sent: Instant::now() }));
    }

    /// Takes in a started worker; none if the device was closed meanwhile.
    pub fn started(&mut self, worker: W, pid: u32) -> Option<u64> {
        if matches!(self.link, Link::Closed) {
            return None;
        }
        self.generation += 1;
        self.starts += 1;
        self.stats.worker_starts += 1;
        self.stats.worker_pid = Some(pid);
        self.link = Link::Up(Arc::new(worker));
        Some(self.generation)
    }

    pub fn start_failed(&mut self, reason: &str) {
        if matches!(self.link, Link::Closed) {
            return;
        }
        self.link = Link::Down;
        self.fail_all(reason);
    }

    /// Takes a reply to the frame that is out; an error is a reply that was not asked for.
    pub fn reply(&mut self, generation: u64, header: Header, frame: Frame) -> Result<(), &'static str> {
        if generation != self.generation {
            return Err("a reply of an earlier worker");
        }
        let Some((_, out)) = self.out.take_if(|(job, _)| *job == header.job) else {
            return Err("a reply to no job");
        };
        match (out, frame) {
            (Out::Load { model, .. }, Frame::Loaded { model: loaded, signature, device, .. })
                if model == loaded && signature.width().is_some() =>
            {
                let entry = &mut self.models[model.0 as usize];
                entry.loaded = true;
                entry.dimension = signature.width();
                entry.is_classifier = matches!(signature, Signature::Scores { .. });
                let is_classifier = entry.is_classifier;
                self.stats.device = Some(device);
                self.starts = 0;
                if is_classifier {
                    self.fail_model(model, CLASSIFIER);
                }
                Ok(())
            }
            (Out::Load { model, .. }, Frame::Failed { kind: FailureKind::Load, message }) => {
                self.starts = 0;
                self.fail_model(model, &message);
                Ok(())
            }
            (Out::Batch { model, batch, sent }, Frame::Vectors { model: of, rows, dimension, device_ns, values })
                if model == of
                    && rows as usize == batch.rows
                    && Some(dimension) == self.models[model.0 as usize].dimension =>
            {
                self.starts = 0;
                self.hand_out(&batch, sent, dimension, device_ns, &values);
                Ok(())
            }
            (
                Out::Batch { model, mut batch, .. },
                Frame::Failed {
                    kind: kind @ (FailureKind::BadBatch | FailureKind::OutOfMemory | FailureKind::Device),
                    message,
                },
            ) => {
                self.starts = 0;
                if let [piece] = batch.pieces.as_slice() {
                    let error = match kind {
                        FailureKind::OutOfMemory | FailureKind::Device => {
                            let name = self.models[model.0 as usize].name.clone();
                            InferenceError::Unavailable { model: name, reason: message }
                        }
                        _ => InferenceError::BadInput { reason: message },
                    };
                    self.finish(piece.request, Err(error));
                } else {
                    // One of them is to blame; by itself it will show.
                    batch.pieces.retain(|piece| self.requests.contains_key(&piece.request));
                    batch.pieces.iter_mut().for_each(|piece| piece.is_alone = true);
                    self.models[model.0 as usize].batcher.requeue(batch.pieces);
                }
                Ok(())
            }
            (out, _) => {
                // Kept, so that the batch is tried again with the next worker.
                self.out = Some((header.job, out));
                Err("a reply of another kind or shape")
            }
        }
    }

    fn hand_out(&mut self, batch: &Batch, sent: Instant, dimension: u32, device_ns: u64, values: &[f32]) {
        self.stats.batches += 1;
        self.stats.rows += batch.rows as u64;
        self.stats.tokens += batch.tokens as u64;
        self.stats.device_us = self.stats.device_us.saturating_add(device_ns / 1_000);
        match batch.cut {
            Cut::Drained => self.stats.cut_drained += 1,
            Cut::Rows => self.stats.cut_rows += 1,
            Cut::Tokens => self.stats.cut_tokens += 1,
            Cut::Alone => self.stats.cut_alone += 1,
        }
        let mut start = 0;
        for piece in &batch.pieces {
            let end = start + piece.rows.len() * dimension as usize;
            let part = &values[start..end];
            start = end;
            // A request that was cancelled meanwhile leaves its part unused.
            let Some(request) = self.requests.get_mut(&piece.request) else {
                continue;
            };
            // A model that returns what is no number has met a text it cannot handle; its neighbours are well.
            if !part.iter().all(|value| value.is_finite()) {
                let reason = "the model returned values that are no numbers".to_owned();
                self.finish(piece.request, Err(InferenceError::BadInput { reason }));
                continue;
            }
            // Pieces of a request leave in order and one batch runs at a time, so appending keeps the rows in order.
            request.values.extend_from_slice(part);
            request.rows_left -= piece.rows.len();
            request.receipt.batches += 1;
            request.receipt.batch_rows += batch.rows as u64;
            request.receipt.wait_us += micros(sent.saturating_duration_since(request.submitted));
            let share = (device_ns / 1_000).saturating_mul(piece.tokens as u64) / batch.tokens.max(1) as u64;
            request.receipt.device_us = request.receipt.device_us.saturating_add(share);
            request.receipt.device.clone_from(&self.stats.device);
            if request.rows_left == 0 {
                let values = std::mem::take(&mut request.values);
                let receipt = std::mem::take(&mut request.receipt);
                self.finish(piece.request, Ok(Embedded { dimension, values, receipt }));
            }
        }
    }

    /// Takes in the end of a worker. Returns whether it was the current one and ended by itself.
    pub fn lost(&mut self, generation: u64, reason: &str) -> bool {
        if generation != self.generation || matches!(self.link, Link::Closed) {
            return false;
        }
        self.link = Link::Down;
        self.stats.worker_pid = None;
        self.models.iter_mut().for_each(|model| model.loaded = false);
        if let Some((_, Out::Batch { model, batch, .. })) = self.out.take() {
            let mut again = Vec::new();
            for mut piece in batch.pieces {
                piece.losses += 1;
                piece.is_alone = true;
                if !self.requests.contains_key(&piece.request) {
                    continue;
                }
                if piece.losses > LOSSES_MAX {
                    let name = self.models[model.0 as usize].name.clone();
                    self.finish(piece.request, Err(InferenceError::DeviceLost { model: name, losses: piece.losses }));
                } else {
                    again.push(piece);
                }
            }
            self.models[model.0 as usize].batcher.requeue(again);
        }
        if self.starts >= STARTS_MAX {
            self.starts = 0;
            self.fail_all(&format!("the worker died {STARTS_MAX} times in a row: {reason}"));
        }
        true
    }

    /// Fails everything. Returns the worker, to be hung up on.
    pub fn close(&mut self) -> Option<Arc<W>> {
        let link = std::mem::replace(&mut self.link, Link::Closed);
        self.stats.worker_pid = None;
        if let Some((_, Out::Batch { model, batch, .. })) = self.out.take() {
            // Back in the queue, to fail there with the others.
            self.models[model.0 as usize].batcher.requeue(batch.pieces);
        }
        self.fail_all(CLOSING);
        match link {
            Link::Up(worker) => Some(worker),
            _ => None,
        }
    }

    fn fail_all(&mut self, reason: &str) {
        for index in 0..self.models.len() {
            self.fail_model(ModelId(index as u32), reason);
        }
    }

    fn fail_model(&mut self, model: ModelId, reason: &str) {
        let entry = &mut self.models[model.0 as usize];
        let name = entry.name.clone();
        let mut waiting = Vec::new();
        while let Some(batch) = entry.batcher.take() {
            waiting.extend(batch.pieces);
        }
        for piece in waiting {
            let error = InferenceError::Unavailable { model: name.clone(), reason: reason.to_owned() };
            self.finish(piece.request, Err(error));
        }
    }

    /// Answers a request, once; its other pieces leave the queue.
    fn finish(&mut self, request: RequestId, answer: Result<Embedded, InferenceError>) {
        if let Some(found) = self.requests.remove(&request) {
            if answer.is_err() {
                self.models.iter_mut().for_each(|model| model.batcher.cancel(request));
            }
            // The caller may be gone by now; nobody else wants the answer.
            let _ = found.done.send(answer);
        }
    }
}

#[cfg(test)]
mod tests;
