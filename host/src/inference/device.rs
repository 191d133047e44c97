//! One device: its models, their batchers, and the worker process that runs one batch at a time.
//!
//! Not here: what a batch holds (`batcher`), how frames look (`wire`), how the process starts (`process`).
//!
//! The caller that finds the device free sends its batch itself, on its own thread; whoever receives a reply sends the
//! next. So a request costs no hop through a task of ours.
//!
//! Invariants: one frame is out at a time; a request is answered once; a batch whose worker died runs once more, and a
//! request that meets a second death fails (`LOSSES_MAX`); a caller that goes away takes its request out of the queue.

mod process;
mod state;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use self::process::Worker;
use self::state::{State, Step};
use super::batcher::RequestId;
use super::devices::Devices;
use super::wire::{Frame, Header, ModelId};
use super::{Embedded, InferenceError};
use crate::devices::LiveWorker;
use crate::limits::BatchLimits;

pub(super) use self::process::command;
pub use self::state::DeviceStats;

/// Worker deaths that a request may meet and still be tried again.
const LOSSES_MAX: u32 = 1;
/// Deaths in a row, without one answer between them, before what waits is failed rather than tried again.
const STARTS_MAX: u32 = 3;
/// Wait before the second start in a row, and its growth.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// A worker that answers nothing for this long is taken for hung and killed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What runs as the worker.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl WorkerProgram {
    /// This same binary, started as `bireme worker`. The link in `/proc` still leads to it after the file was replaced.
    pub fn this_binary() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["worker".into()] }
    }
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub(super) enum ModelSource {
    Directory(PathBuf),
    Noop,
}

/// A device, shared by all models. Dropping it ends its worker.
pub(super) struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    program: WorkerProgram,
    devices: Arc<Devices>,
    state: Mutex<State<Worker>>,
}

impl Device {
    pub fn new(program: WorkerProgram, devices: Arc<Devices>, limits: BatchLimits) -> Self {
        Self { inner: Arc::new(Inner { program, devices, state: Mutex::new(State::new(limits)) }) }
    }

    /// Makes a model known. It is loaded with its first request.
    pub fn register(&self, name: &str, source: ModelSource) -> ModelId {
        self.inner.lock().register(name, source)
    }

    /// Refuses a request of so many rows that the queue has no room for, before it costs anything.
    pub fn check_room(&self, model: ModelId, rows: usize) -> Result<(), InferenceError> {
        self.inner.lock().check_room(model, rows)
    }

    /// Runs one request. Dropping the future cancels it.
    pub async fn embed(&self, model: ModelId, ids: Vec<u32>, cu_seqlens: Vec<u32>) -> Result<Embedded, InferenceError> {
        let (done, answer) = oneshot::channel();
        let request = {
            let mut state = self.inner.lock();
            let request = state.submit(model, ids, cu_seqlens, done)?;
            self.inner.pump(&mut state);
            request
        };
        let _cancel = CancelOnDrop { inner: &self.inner, request };
        answer.await.expect("the state answers every request that its caller did not take out")
    }

    /// Returns the model's dimension, loading it where needed.
    pub async fn dimension(&self, model: ModelId) -> Result<u32, InferenceError> {
        if let Some(dimension) = self.inner.lock().dimension(model) {
            return Ok(dimension);
        }
        // The shortest request that loads it: one row of the model's own padding id.
        Ok(self.embed(model, vec![0], vec![0, 1]).await?.dimension)
    }

    pub fn stats(&self) -> DeviceStats {
        self.inner.lock().stats()
    }

    /// Returns the worker that runs now.
    pub fn live(&self) -> Option<LiveWorker> {
        self.inner.lock().live()
    }

    /// Ends the worker and fails what waits.
    pub async fn shut_down(&self) {
        let worker = self.inner.lock().close();
        if let Some(worker) = worker {
            worker.hang_up();
            worker.closed().await;
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(worker) = self.inner.lock().close() {
            worker.hang_up();
        }
    }
}

/// Takes a request out of the queue unless it was answered.
struct CancelOnDrop<'a> {
    inner: &'a Inner,
    request: RequestId,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.inner.lock().cancel(self.request);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State<Worker>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the state wants done: sends the next frame, or starts the worker.
    fn pump(self: &Arc<Self>, state: &mut State<Worker>) {
        match state.step() {
            Step::Nothing => {}
            Step::Send(worker) => worker.send(state.frame()),
            Step::Start { after } => {
                let inner = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    inner.start().await;
                });
            }
        }
    }

    async fn start(self: &Arc<Self>) {
        let chosen = match self.devices.chosen().await {
            Ok(chosen) => chosen,
            Err(refused) => {
                tracing::error!(%refused, "no worker is started");
                let mut state = self.lock();
                state.start_failed(&refused.to_string());
                return self.pump(&mut state);
            }
        };
        match &chosen.obstacle {
            Some(obstacle) if obstacle.is_absence() => {
                tracing::info!(device = %chosen.device, %obstacle, "a worker starts")
            }
            // Slower than its owner expects: not only for those who ask.
            Some(obstacle) => {
                tracing::warn!(device = %chosen.device, %obstacle, "a GPU is not used; see `bireme doctor`")
            }
            None => tracing::info!(device = %chosen.device, "a worker starts"),
        }
        let started = Worker::start(&self.program, chosen.device);
        let mut state = self.lock();
        match started {
            Ok((worker, replies)) => {
                let pid = worker.pid();
                // None: the device was closed meanwhile, and dropping `replies` ends the process.
                let Some(generation) = state.started(worker, pid) else {
                    return;
                };
                self.pump(&mut state);
                drop(state);
                // Weak, so that dropping the device closes the socket, which ends the worker and then this task.
                let inner = Arc::downgrade(self);
                tokio::spawn(async move {
                    let ended = replies
                        .run(
                            ANSWER_TIMEOUT,
                            |header, frame| {
                                inner.upgrade().is_some_and(|inner| inner.on_reply(generation, header, frame))
                            },
                            || inner.upgrade().and_then(|inner| inner.lock().due_since()),
                        )
                        .await;
                    if let Some(inner) = inner.upgrade() {
                        inner.on_lost(generation, &ended);
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot start the worker");
                state.start_failed(&format!("the worker does not start: {error}"));
                self.pump(&mut state);
            }
        }
    }

    /// Takes a reply; returns whether the conversation goes on.
    fn on_reply(self: &Arc<Self>, generation: u64, header: Header, frame: Frame) -> bool {
        let mut state = self.lock();
        match state.reply(generation, header, frame) {
            Ok(()) => {
                self.pump(&mut state);
                true
            }
            Err(what) => {
                tracing::error!(what, "the worker answered what was not asked");
                false
            }
        }
    }

    fn on_lost(self: &Arc<Self>, generation: u64, reason: &str) {
        let mut state = self.lock();
        if state.lost(generation, reason) {
            tracing::warn!(reason, "the worker is gone");
        }
        self.pump(&mut state);
    }
}
