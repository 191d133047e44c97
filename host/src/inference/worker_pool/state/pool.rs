//! The pool: its models, requests and worker slots, and the way of a request through them.
//!
//! `W` is the driver's handle of a running worker, only handed back. Time comes from outside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::SecondaryMap;
use tokio::sync::oneshot;

use super::history::History;
use super::models::{ANSWER_TIMEOUT, Model, ModelConfig};
use super::slot::{Link, NextFrame, Task, WorkerSlot};
use super::work::{Answer, OutputKind, Work};
use crate::call::InferenceReceipt;
use crate::inference::batcher::{Arrival, Batcher, RequestId, TenantId};
use crate::inference::error::InferenceError;
use crate::inference::request::{Caller, Tenant};
use crate::wire::{ModelId, Signature};

/// Reason given to requests during shutdown.
pub(super) const CLOSING: &str = "the host is shutting down";
/// Wait before the second start in a row, and its growth.
const RESTART_DELAY: Duration = Duration::from_millis(100);

type AnswerSender = oneshot::Sender<Answer>;

/// An action for the driver.
pub(crate) enum Action<W> {
    Nothing,
    /// Write `PoolState::frame`.
    Send(Arc<W>),
    Start {
        slot: usize,
        after: Duration,
    },
    /// Call `woken` and `step` at this time.
    Wake(Instant),
}

/// Configuration of a pool.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    /// Worker processes.
    pub workers: usize,
    /// Bytes of models that a worker may hold; none: as many as fit its device.
    pub memory_max: Option<u64>,
    /// Bytes of waiting and running requests, with room for their results.
    pub requests_bytes_max: usize,
    /// Shares of tenants beside others, by name; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
}

pub(super) struct Request {
    pub(super) tenant: TenantId,
    pub(super) work: Work,
    pub(super) output_kind: OutputKind,
    /// Filled as the rows come in, in any order.
    pub(super) values: Vec<f32>,
    pub(super) rows_left: usize,
    pub(super) submitted: Instant,
    pub(super) receipt: InferenceReceipt,
    pub(super) done: AnswerSender,
}

impl Request {
    /// Takes in the values of rows from `row` on.
    pub(super) fn add_rows(&mut self, row: usize, width: usize, part: &[f32]) {
        if self.values.is_empty() && self.rows_left == 0 {
            self.values = part.to_vec();
            return;
        }
        if self.values.is_empty() {
            self.values = vec![0.0; self.work.rows() * width];
        }
        let at = row * width;
        self.values[at..at + part.len()].copy_from_slice(part);
    }
}

pub(crate) struct PoolState<W> {
    pub(super) config: PoolConfig,
    pub(super) models: Vec<Model>,
    pub(super) tenants: HashMap<Tenant, TenantId>,
    pub(super) tenant_names: Vec<Tenant>,
    pub(super) batcher: Batcher,
    /// By the index of their id.
    pub(super) requests: SecondaryMap<RequestId, Request>,
    pub(super) slots: Vec<WorkerSlot<W>>,
    pub(super) is_closed: bool,
    pub(super) next_job: u64,
    /// Logical clock of model uses.
    pub(super) clock: u64,
    pub(super) wake: Option<Instant>,
    pub(super) frame: Vec<u8>,
    pub(super) history: History,
}

impl<W> PoolState<W> {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Self {
            models: Vec::new(),
            tenants: HashMap::new(),
            tenant_names: Vec::new(),
            batcher: Batcher::new(config.requests_bytes_max),
            requests: SecondaryMap::new(),
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

    pub(crate) fn register(&mut self, config: ModelConfig) -> ModelId {
        let id = self.batcher.add_model(config.limits.clone());
        self.models.push(Model::new(config));
        id
    }

    /// Returns the signature of a model, once it was loaded.
    pub(crate) fn signature(&self, model: ModelId) -> Option<Signature> {
        self.model(model).signature.clone()
    }

    /// Returns the bytes that `Action::Send` sends.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Returns the time by which a worker has to answer; none if it owes no answer.
    pub(crate) fn due(&self, slot: usize) -> Option<Instant> {
        let slot = &self.slots[slot];
        let allowed = match &slot.sent.front()?.what {
            Task::Batch(batch) => self.model(batch.model).patience(self.batcher.expected(batch.model, batch.tokens)),
            Task::Load(_) | Task::Unload(_) | Task::Check => ANSWER_TIMEOUT,
        };
        Some(slot.front_since + allowed)
    }

    pub(crate) fn check_room(&self, model: ModelId, rows: usize) -> Result<(), InferenceError> {
        let max = self.batcher.max_queue_size(model);
        if rows > max {
            // It would not fit later either.
            let name = self.model(model).name();
            let reason = format!("{rows} texts in one request, and the queue of `{name}` holds {max}; send fewer");
            return Err(InferenceError::BadInput { reason });
        }
        self.batcher.check_room(model, rows, 0).map_err(|full| self.model(model).overloaded(full))
    }

    pub(crate) fn submit(
        &mut self,
        now: Instant,
        model: ModelId,
        work: Work,
        output_kind: OutputKind,
        caller: &Caller,
        done: AnswerSender,
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
            Request { tenant, work, output_kind, values: Vec::new(), rows_left, submitted: now, receipt, done };
        self.requests.insert(id, request);
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

    /// Forgets a request whose caller is gone. A part that is with a worker already runs to its end and is dropped.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        if self.requests.remove(id).is_some() {
            self.batcher.remove(id);
        }
    }

    /// Returns the next action; `Nothing` once there is none.
    pub(crate) fn step(&mut self, now: Instant) -> Action<W> {
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

    /// The time of the last `Action::Wake` has come.
    pub(crate) fn woken(&mut self, at: Instant) {
        if self.wake == Some(at) {
            self.wake = None;
        }
    }

    pub(super) fn request(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(id)
    }

    pub(super) fn request_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(id)
    }

    pub(super) fn model(&self, model: ModelId) -> &Model {
        &self.models[model.0 as usize]
    }

    pub(super) fn model_mut(&mut self, model: ModelId) -> &mut Model {
        &mut self.models[model.0 as usize]
    }

    /// Answers a request, once; its other sub-requests leave the queue.
    pub(super) fn finish(&mut self, id: RequestId, answer: Answer) {
        if let Some(found) = self.requests.remove(id) {
            self.batcher.remove(id);
            // The caller may be gone by now.
            let _ = found.done.send(answer);
        }
    }
}
