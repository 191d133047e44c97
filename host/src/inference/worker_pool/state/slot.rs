//! A worker slot: the link to one worker, its loaded models, and the frames it was sent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::inference::batcher::Batch;
use crate::wire::ModelId;

pub(super) enum Link<W> {
    Down,
    Starting,
    Up(Arc<W>),
    /// The host is shutting down.
    Closed,
}

pub(super) struct WorkerSlot<W> {
    pub link: Link<W>,
    /// Number of the worker in this slot, to detect replies of an earlier one.
    pub generation: u64,
    pub pid: Option<u32>,
    /// `cpu` or `cuda:N`, once a model was loaded: the worker's own device.
    pub device: Option<Arc<str>>,
    /// Bytes of models that did not fit the device.
    pub memory_shown: Option<u64>,
    /// Time of the last load.
    pub loaded_at: Option<Instant>,
    pub loaded: HashMap<ModelId, ResidentModel>,
    /// Frames without an answer, oldest first: at most two.
    pub sent: VecDeque<SentFrame>,
    /// Time at which the worker began the first of these.
    pub front_since: Instant,
    /// Starts since the last answer.
    pub starts: u32,
    /// Its device failed: it gets no batch before it has passed a check.
    pub is_doubted: bool,
}

pub(super) struct ResidentModel {
    pub memory: u64,
    /// Device of the model: an ONNX model runs on the CPU even if the worker's device is a GPU.
    pub device: Arc<str>,
    /// Last use, by the pool's clock.
    pub used: u64,
}

pub(super) struct SentFrame {
    pub job: u64,
    pub what: Task,
    pub sent: Instant,
    /// Checksum that the answer to a batch of rows must carry.
    pub checksum: u32,
}

pub(super) enum Task {
    Load(ModelId),
    Unload(ModelId),
    Check,
    Batch(Batch),
}

impl<W> WorkerSlot<W> {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::Down,
            generation: 0,
            pid: None,
            device: None,
            memory_shown: None,
            loaded_at: None,
            loaded: HashMap::new(),
            sent: VecDeque::new(),
            front_since: Instant::now(),
            starts: 0,
            is_doubted: false,
        }
    }

    /// Bytes of its loaded models.
    pub(crate) fn memory(&self) -> u64 {
        self.loaded.values().fold(0, |sum, loaded| sum.saturating_add(loaded.memory))
    }
}

/// The next frame for a worker, if there is one.
pub(super) enum NextFrame {
    Frame,
    Wait(Instant),
    Nothing,
}
