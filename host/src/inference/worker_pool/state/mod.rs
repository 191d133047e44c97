//! Task a host knows of its workers: models, requests, the frames that are out. Decides; `device` acts.
//!
//! `W` is whatever sends frames to a running worker; this module only hands it back. Time comes from outside.

mod failures;
mod history;
mod models;
mod replies;
mod slot;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::history::History;
pub use self::history::{BatchRecord, DeviceStats, ModelStats, Outcome};
use self::models::Model;
pub(in crate::inference) use self::models::ModelConfig;
use self::slot::{Link, SentFrame, Task, WorkerSlot};
pub(in crate::inference) use self::work::{Answer, Output, OutputKind, Work};
use super::RESTART_DELAY;
use crate::call::InferenceReceipt;
use crate::devices::LiveWorker;
use crate::inference::InferenceError;
use crate::inference::batcher::{Arrival, Batcher, Next, RequestId, TenantId};
use crate::inference::request::{Caller, Tenant};
use crate::limits::INFERENCE_BYTES_MAX;
use crate::wire::{Frame, ModelId, Signature};

/// Why nothing is served any more.
const CLOSING: &str = "the host is shutting down";
/// How long a worker keeps a model that it just loaded while that one has work, whoever else waits: the time of a few loads,
/// so that two models that do not fit together do not spend their lives being loaded.
const SWAP_PATIENCE: Duration = Duration::from_secs(1);

/// A batch is sent ahead behind one that takes less than this.
const AHEAD_BELOW: Duration = Duration::from_millis(5);

type Done = oneshot::Sender<Answer>;

/// Task the driver is to do now.
pub(super) enum Action<W> {
    Nothing,
    /// Write `PoolState::frame`.
    Send(Arc<W>),
    Start {
        slot: usize,
        after: Duration,
    },
    /// Come back at this time.
    Wake(Instant),
}

/// How a device is set up.
#[derive(Clone, Debug)]
pub(in crate::inference) struct PoolConfig {
    /// Worker processes.
    pub workers: usize,
    /// Bytes of models that a worker may hold; none: as many as its device takes.
    pub memory_max: Option<u64>,
    /// Shares of tenants beside others, by name; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
}

struct Request {
    id: RequestId,
    tenant: TenantId,
    work: Work,
    output_kind: OutputKind,
    /// Filled as the rows come in, in any order.
    values: Vec<f32>,
    rows_left: usize,
    submitted: Instant,
    receipt: InferenceReceipt,
    done: Done,
}

pub(super) struct PoolState<W> {
    config: PoolConfig,
    models: Vec<Model>,
    tenants: HashMap<Tenant, TenantId>,
    tenant_names: Vec<Tenant>,
    batcher: Batcher,
    /// By the place of their id.
    requests: Vec<Option<Request>>,
    slots: Vec<WorkerSlot<W>>,
    is_closed: bool,
    next_job: u64,
    /// Counts uses of models, to know which was used last.
    clock: u64,
    wake: Option<Instant>,
    frame: Vec<u8>,
    history: History,
}

impl<W> PoolState<W> {
    pub fn new(config: PoolConfig) -> Self {
        Self {
            models: Vec::new(),
            tenants: HashMap::new(),
            tenant_names: Vec::new(),
            batcher: Batcher::new(INFERENCE_BYTES_MAX),
            requests: Vec::new(),
            slots: (0..config.workers.max(1)).map(|_| WorkerSlot::new()).collect(),
            is_closed: false,
            next_job: 0,
            clock: 0,
            wake: None,
            frame: Vec::new(),
            history: History::default(),
            config,
        }
    }

    pub fn register(&mut self, config: ModelConfig) -> ModelId {
        let id = self.batcher.add_model(config.limits.clone());
        self.models.push(Model::new(config));
        id
    }

    /// Returns what a model is, once it was loaded.
    pub fn signature(&self, model: ModelId) -> Option<Signature> {
        self.model(model).signature.clone()
    }

    /// Returns the workers that run now.
    pub fn live(&self) -> Vec<LiveWorker> {
        let live = |slot: &WorkerSlot<W>| {
            let mut models: Vec<_> = slot.loaded.keys().map(|model| self.model(*model).name().to_owned()).collect();
            models.sort_unstable();
            Some(LiveWorker { pid: slot.pid?, device: slot.device.as_deref().map(str::to_owned), models })
        };
        self.slots.iter().filter_map(live).collect()
    }

    /// Returns the bytes that `Action::Send` sends.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Returns by when a worker has to answer; none if it owes no answer.
    pub fn due(&self, slot: usize) -> Option<Instant> {
        let slot = &self.slots[slot];
        let allowed = match &slot.sent.front()?.what {
            Task::Batch(batch) => self.model(batch.model).patience(self.batcher.expected(batch.model, batch.tokens)),
            Task::Load(_) | Task::Unload(_) | Task::Check => super::ANSWER_TIMEOUT,
        };
        Some(slot.front_since + allowed)
    }

    pub fn check_room(&self, model: ModelId, rows: usize) -> Result<(), InferenceError> {
        let max = self.batcher.max_queue_size(model);
        if rows > max {
            // Later would be no better.
            let name = self.model(model).name();
            let reason = format!("{rows} texts in one request, and the queue of `{name}` holds {max}; send fewer");
            return Err(InferenceError::BadInput { reason });
        }
        self.batcher.check_room(model, rows, 0).map_err(|full| self.model(model).overloaded(full))
    }

    pub fn submit(
        &mut self,
        now: Instant,
        model: ModelId,
        work: Work,
        output_kind: OutputKind,
        caller: &Caller,
        done: Done,
    ) -> Result<RequestId, InferenceError> {
        let entry = self.model(model);
        if self.is_closed {
            return Err(entry.unavailable(CLOSING));
        }
        entry.check_usable(now)?;
        if let Some(signature) = &entry.signature {
            entry.check_output_kind(output_kind, signature)?;
        }
        let (lengths, tokens, bytes) = work.measure(entry.signature.as_ref());
        let tenant = self.tenant(&caller.tenant);
        let arrival = Arrival {
            model,
            tenant,
            priority: caller.priority,
            deadline: caller.deadline,
            following: caller.following,
            bytes,
        };
        let id = match self.batcher.enqueue(now, arrival, &lengths) {
            Ok(id) => id,
            Err(full) => {
                self.history.stats.refused += 1;
                return Err(self.model(model).overloaded(full));
            }
        };
        let receipt = InferenceReceipt { requests: 1, tokens, ..Default::default() };
        let rows_left = lengths.len();
        let request =
            Request { id, tenant, work, output_kind, values: Vec::new(), rows_left, submitted: now, receipt, done };
        if self.requests.len() <= id.index() {
            self.requests.resize_with(id.index() + 1, || None);
        }
        self.requests[id.index()] = Some(request);
        Ok(id)
    }

    fn tenant(&mut self, tenant: &Tenant) -> TenantId {
        if let Some(&id) = self.tenants.get(tenant) {
            return id;
        }
        let weight = self.config.weights.get(tenant.as_str()).copied().unwrap_or(1);
        let id = self.batcher.add_tenant(weight);
        self.tenants.insert(tenant.clone(), id);
        self.tenant_names.push(tenant.clone());
        id
    }

    /// Forgets a request whose caller is gone. Task is with the worker already runs to its end and is dropped.
    pub fn cancel(&mut self, id: RequestId) {
        if self.request(id).is_some() {
            self.requests[id.index()] = None;
            self.batcher.remove(id);
        }
    }

    /// Says what is to be done, one thing at a time, until that is nothing.
    pub fn step(&mut self, now: Instant) -> Action<W> {
        for index in 0..self.slots.len() {
            if let Some(step) = self.slot_action(now, index) {
                return step;
            }
        }
        Action::Nothing
    }

    fn slot_action(&mut self, now: Instant, index: usize) -> Option<Action<W>> {
        let slot = &mut self.slots[index];
        match &slot.link {
            Link::Starting | Link::Closed => None,
            Link::Down if self.batcher.is_empty() => None,
            Link::Down => {
                slot.link = Link::Starting;
                let after =
                    if slot.starts == 0 { Duration::ZERO } else { RESTART_DELAY * 4u32.pow(slot.starts.min(4) - 1) };
                Some(Action::Start { slot: index, after })
            }
            Link::Up(worker) => {
                let worker = worker.clone();
                match self.next_frame(now, index) {
                    NextFrame::Frame => Some(Action::Send(worker)),
                    NextFrame::Wait(until) if self.wake.is_none_or(|wake| until < wake) => {
                        self.wake = Some(until);
                        Some(Action::Wake(until))
                    }
                    NextFrame::Wait(_) | NextFrame::Nothing => None,
                }
            }
        }
    }

    /// Takes in that the time of the last `Action::Wake` has come.
    pub fn woken(&mut self, at: Instant) {
        if self.wake == Some(at) {
            self.wake = None;
        }
    }

    /// Encodes what a worker is to do next, if there is anything.
    fn next_frame(&mut self, now: Instant, index: usize) -> NextFrame {
        let slot = &self.slots[index];
        // One batch ahead, so that the worker need not wait for us; only a full one, because company may still come.
        let ahead = match slot.sent.len() {
            0 => false,
            1 if !slot.is_doubted && self.is_short(&slot.sent[0].what) => true,
            _ => return NextFrame::Nothing,
        };
        if slot.is_doubted {
            return self.send(now, index, Task::Check);
        }
        loop {
            let loaded = &self.slots[index].loaded;
            let next = if ahead {
                self.batcher.next(now, |model, is_full| is_full && loaded.contains_key(&model))
            } else {
                self.batcher.next(now, |_, _| true)
            };
            self.answer_expired();
            let (mut model, mut of) = match next {
                Next::Batch { model, of } => (model, of),
                Next::Wait(until) => return NextFrame::Wait(until),
                Next::Nothing => return NextFrame::Nothing,
            };
            if !self.slots[index].loaded.contains_key(&model) {
                match self.make_room(now, index, model) {
                    models::Room::Free => return self.send(now, index, Task::Load(model)),
                    models::Room::Unload(victim) => return self.send(now, index, Task::Unload(victim)),
                    // The model failed; what waits for others goes on.
                    models::Room::Never => continue,
                    models::Room::Later => {
                        let loaded = &self.slots[index].loaded;
                        match self.batcher.next(now, |model, _| loaded.contains_key(&model)) {
                            Next::Batch { model: other, of: turn } => (model, of) = (other, turn),
                            _ => return NextFrame::Nothing,
                        }
                    }
                }
            }
            if let Some(batch) = self.batcher.take(now, model, of) {
                self.clock += 1;
                let clock = self.clock;
                if let Some(loaded) = self.slots[index].loaded.get_mut(&model) {
                    loaded.used = clock;
                }
                return self.send(now, index, Task::Batch(batch));
            }
        }
    }

    /// Whether what a worker is at is over so soon that the way to us and back counts. Whatever is sent ahead of a long one
    /// is a turn that nobody else can have.
    fn is_short(&self, what: &Task) -> bool {
        match what {
            Task::Batch(batch) => {
                self.batcher.expected(batch.model, batch.tokens).is_some_and(|expected| expected < AHEAD_BELOW)
            }
            _ => false,
        }
    }

    /// Encodes a frame and notes that it is out.
    fn send(&mut self, now: Instant, index: usize, what: Task) -> NextFrame {
        let job = self.next_job;
        self.next_job += 1;
        self.frame.clear();
        let mut checksum = 0;
        match &what {
            Task::Load(model) => {
                let path = self.model(*model).path();
                Frame::Load { model: *model, path }.encode(job, &mut self.frame);
            }
            Task::Unload(model) => Frame::Unload { model: *model }.encode(job, &mut self.frame),
            Task::Check => Frame::Check.encode(job, &mut self.frame),
            Task::Batch(batch) => {
                let mut frame = std::mem::take(&mut self.frame);
                checksum = self.encode_batch(batch, job, &mut frame);
                self.frame = frame;
            }
        }
        let slot = &mut self.slots[index];
        if let Task::Unload(model) = what {
            slot.loaded.remove(&model);
            self.history.stats.unloads += 1;
        }
        if slot.sent.is_empty() {
            slot.front_since = now;
        }
        slot.sent.push_back(SentFrame { job, what, sent: now, checksum });
        NextFrame::Frame
    }

    fn request(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(id.index())?.as_ref().filter(|request| request.id == id)
    }

    fn request_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(id.index())?.as_mut().filter(|request| request.id == id)
    }

    fn model(&self, model: ModelId) -> &Model {
        &self.models[model.0 as usize]
    }

    fn model_mut(&mut self, model: ModelId) -> &mut Model {
        &mut self.models[model.0 as usize]
    }

    /// Answers a request, once; its other sub_requests leave the queue.
    fn finish(&mut self, id: RequestId, answer: Answer) {
        if self.request(id).is_some()
            && let Some(found) = self.requests[id.index()].take()
        {
            self.batcher.remove(id);
            // The caller may be gone by now; nobody else wants the answer.
            let _ = found.done.send(answer);
        }
    }

    /// Answers those whose time ran out while they waited.
    fn answer_expired(&mut self) {
        for id in self.batcher.take_expired() {
            self.history.stats.expired += 1;
            if let Some(found) = self.requests.get_mut(id.index()).and_then(|place| place.take_if(|r| r.id == id)) {
                let _ = found.done.send(Err(InferenceError::Deadline));
            }
        }
    }
}

enum NextFrame {
    Frame,
    Wait(Instant),
    Nothing,
}

#[cfg(test)]
mod tests;
