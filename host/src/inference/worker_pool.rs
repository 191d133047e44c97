//! The worker pool of a host: worker processes behind one queue, and the driver that acts on its decisions.
//!
//! Not here: batches (`batcher`), frames (`wire`), a process and its socket (`worker_process`), decisions (`state`).
//!
//! A caller that finds a worker free sends its batch on its own thread, and the receiver of a reply sends the next one:
//! a request costs no hop through another task.
//!
//! Invariants: at most two frames are out to a worker, the second only behind a batch and only a full batch; a request
//! is answered once; a batch whose worker died runs once more as it was, then in halves, and the request that ends
//! workers by itself is rejected; a caller that goes away takes its request out of the queue.

mod state;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use self::state::{Action, PoolState};
use super::batcher::RequestId;
use super::devices::Devices;
use super::error::InferenceError;
use super::request::Caller;
use super::worker_process::Worker;
use crate::call::InferenceReceipt;
use crate::devices::LiveWorker;
use crate::spawner::{Role, Spawner};
use crate::wire::{Frame, Header, ModelId, Signature};

pub use self::state::DeviceStats;
#[cfg(test)]
pub(super) use self::state::ModelStats;
pub(super) use self::state::{Answer, ModelConfig, ModelSource, Output, OutputKind, PoolConfig, Work};
pub(crate) use self::state::{BatchRecord, Outcome};

/// The workers, shared by all models. Dropping the pool ends them.
pub(super) struct WorkerPool {
    shared: Arc<Shared>,
}

struct Shared {
    spawner: Spawner,
    devices: Arc<Devices>,
    state: Mutex<PoolState<Worker>>,
}

impl WorkerPool {
    pub(crate) fn new(spawner: Spawner, devices: Arc<Devices>, config: PoolConfig) -> Self {
        let state = Mutex::new(PoolState::new(config));
        Self { shared: Arc::new(Shared { spawner, devices, state }) }
    }

    /// Makes a model known. It is loaded with its first request.
    pub(crate) fn register(&self, config: ModelConfig) -> ModelId {
        self.shared.lock().register(config)
    }

    /// Refuses a request that the queue has no room for, before it is tokenised.
    pub(crate) fn check_room(&self, model: ModelId, rows: usize) -> Result<(), InferenceError> {
        self.shared.lock().check_room(model, rows)
    }

    /// Runs one request. Dropping the future cancels it.
    pub(crate) async fn run(&self, model: ModelId, work: Work, output_kind: OutputKind, caller: &Caller) -> Answer {
        let pending = self.submit(self.shared.lock(), model, work, output_kind, caller)?;
        pending.answer().await
    }

    fn submit(
        &self,
        mut state: MutexGuard<'_, PoolState<Worker>>,
        model: ModelId,
        work: Work,
        output_kind: OutputKind,
        caller: &Caller,
    ) -> Result<Pending<'_>, InferenceError> {
        let (done, answer) = oneshot::channel();
        let request = state.submit(Instant::now(), model, work, output_kind, caller, done)?;
        self.shared.drive(&mut state);
        Ok(Pending { answer, _cancel: CancelOnDrop { shared: &self.shared, request } })
    }

    /// Runs rows of tokens; returns the width of a row, and the rows one after another.
    pub(crate) async fn rows(
        &self,
        model: ModelId,
        work: Work,
        output_kind: OutputKind,
        caller: &Caller,
    ) -> Result<(u32, Vec<f32>, InferenceReceipt), InferenceError> {
        match self.run(model, work, output_kind, caller).await? {
            (Output::Rows { width, values }, receipt) => Ok((width, values, receipt)),
            // Its files were replaced by those of a model of another kind.
            (Output::Tensors(_), _) => {
                Err(InferenceError::BadInput { reason: "the model takes tensors now; try again".to_owned() })
            }
        }
    }

    /// Returns the signature of a model, which is loaded the first time.
    pub(crate) async fn signature(&self, model: ModelId, caller: &Caller) -> Result<Signature, InferenceError> {
        let pending = {
            let state = self.shared.lock();
            if let Some(signature) = state.signature(model) {
                return Ok(signature);
            }
            self.submit(state, model, Work::Load, OutputKind::Anything, caller)?
        };
        pending.answer().await?;
        Ok(self.shared.lock().signature(model).expect("it was just loaded"))
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        self.shared.lock().stats()
    }

    /// Returns the last batches, newest first.
    pub(crate) fn batches(&self) -> Vec<BatchRecord> {
        self.shared.lock().batches()
    }

    /// Returns the workers that run now.
    pub(crate) fn live(&self) -> Vec<LiveWorker> {
        self.shared.lock().live()
    }

    /// Ends the workers and fails waiting requests.
    pub(crate) async fn shut_down(&self) {
        let workers = self.shared.lock().close();
        workers.iter().for_each(|worker| worker.hang_up());
        for worker in workers {
            worker.closed().await;
        }
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.shared.lock().close().iter().for_each(|worker| worker.hang_up());
    }
}

/// An accepted request. Dropping it cancels it.
struct Pending<'a> {
    answer: oneshot::Receiver<Answer>,
    _cancel: CancelOnDrop<'a>,
}

impl Pending<'_> {
    async fn answer(self) -> Answer {
        self.answer.await.expect("the state answers every request that its caller did not take out")
    }
}

/// Takes a request out of the queue unless it was answered.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    request: RequestId,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.shared.lock().cancel(self.request);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PoolState<Worker>> {
        self.state.lock()
    }

    /// Carries out the actions of the state: sends frames, starts workers, sets timers.
    fn drive(self: &Arc<Self>, state: &mut PoolState<Worker>) {
        loop {
            match state.step(Instant::now()) {
                Action::Nothing => return,
                Action::Send(worker) => worker.send(state.frame()),
                Action::Start { slot, after } => {
                    let shared = self.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(after).await;
                        shared.start(slot).await;
                    });
                }
                Action::Wake(at) => {
                    let shared = Arc::downgrade(self);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(at.into()).await;
                        if let Some(shared) = shared.upgrade() {
                            let mut state = shared.lock();
                            state.woken(at);
                            shared.drive(&mut state);
                        }
                    });
                }
            }
        }
    }

    async fn start(self: &Arc<Self>, slot: usize) {
        let chosen = match self.devices.chosen().await {
            Ok(chosen) => chosen,
            Err(refused) => {
                tracing::error!(%refused, "no worker is started");
                let mut state = self.lock();
                state.start_failed(slot, &refused.to_string());
                return self.drive(&mut state);
            }
        };
        match &chosen.obstacle {
            Some(obstacle) if obstacle.is_absence() => {
                tracing::info!(device = %chosen.device, %obstacle, "a worker starts")
            }
            // Slower than the owner expects, so worth a warning.
            Some(obstacle) => {
                tracing::warn!(device = %chosen.device, %obstacle, "a GPU is not used; see `bireme doctor`")
            }
            None => tracing::info!(device = %chosen.device, "a worker starts"),
        }
        let started = Worker::start(&self.spawner, Role::Worker(chosen.device)).await;
        let mut state = self.lock();
        match started {
            Ok((worker, replies)) => {
                let pid = worker.pid();
                // None: the pool was closed meanwhile, and dropping `replies` ends the process.
                let Some(generation) = state.started(slot, worker, pid) else {
                    return;
                };
                self.drive(&mut state);
                drop(state);
                // Weak, so that dropping the pool closes the socket, which ends the worker and then this task.
                let shared = Arc::downgrade(self);
                tokio::spawn(async move {
                    let connection = shared.clone();
                    let run = tokio::spawn(async move {
                        let take = |header, frame| {
                            connection.upgrade().is_some_and(|shared| shared.on_reply(slot, generation, header, frame))
                        };
                        let due = || connection.upgrade().and_then(|shared| shared.lock().due(slot));
                        replies.run(take, due).await
                    });
                    // A panic in the task loses the worker like any other end, and another one starts.
                    let ended = run.await.unwrap_or_else(|_| "what it answered broke our bookkeeping".to_owned());
                    if let Some(shared) = shared.upgrade() {
                        shared.on_lost(slot, generation, &ended);
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot start the worker");
                state.start_failed(slot, &format!("the worker does not start: {error}"));
                self.drive(&mut state);
            }
        }
    }

    /// Takes a reply; returns whether the connection goes on.
    fn on_reply(self: &Arc<Self>, slot: usize, generation: u64, header: Header, frame: Frame) -> bool {
        let mut state = self.lock();
        match state.reply(Instant::now(), slot, generation, header, frame) {
            Ok(()) => {
                self.drive(&mut state);
                true
            }
            Err(what) => {
                tracing::error!(what, "the worker answered what was not asked");
                false
            }
        }
    }

    fn on_lost(self: &Arc<Self>, slot: usize, generation: u64, reason: &str) {
        let mut state = self.lock();
        if state.lost(Instant::now(), slot, generation, reason) {
            tracing::warn!(reason, "the worker is gone");
        }
        self.drive(&mut state);
    }
}
