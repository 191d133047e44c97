//! One worker's place: the link to it, what it holds, what it was sent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::inference::batcher::Batch;
use crate::wire::ModelId;

pub(super) enum Link<W> {
    Down,
    Starting,
    Up(Arc<W>),
    /// The host is on its way down.
    Closed,
}

pub(super) struct WorkerSlot<W> {
    pub link: Link<W>,
    /// Counts the workers that sat here, to tell a reply of an earlier one.
    pub generation: u64,
    pub pid: Option<u32>,
    /// `cpu` or `cuda:N`, once a model was loaded: the worker's own device.
    pub device: Option<Arc<str>>,
    /// Bytes of models that this worker's device has shown not to have.
    pub memory_shown: Option<u64>,
    /// When it loaded a model last.
    pub loaded_at: Option<Instant>,
    pub loaded: HashMap<ModelId, Loaded>,
    /// Task was sent and not answered, oldest first: at most two.
    pub sent: VecDeque<SentFrame>,
    /// Since when the worker is at the first of these.
    pub front_since: Instant,
    /// Starts since the last answer.
    pub starts: u32,
    /// Its device failed: it gets no batch before it has computed something right.
    pub is_doubted: bool,
}

pub(super) struct Loaded {
    pub memory: u64,
    /// Task computes it: an ONNX model runs on the CPU whatever the worker's own device is.
    pub device: Arc<str>,
    /// When it was used last, by the state's count.
    pub used: u64,
}

pub(super) struct SentFrame {
    pub job: u64,
    pub what: Task,
    pub sent: Instant,
    /// Task the answer to a batch of rows must carry.
    pub checksum: u32,
}

pub(super) enum Task {
    Load(ModelId),
    Unload(ModelId),
    Check,
    Batch(Batch),
}

impl<W> WorkerSlot<W> {
    pub fn new() -> Self {
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

    /// Bytes of the models that it holds.
    pub fn memory(&self) -> u64 {
        self.loaded.values().fold(0, |sum, loaded| sum.saturating_add(loaded.memory))
    }
}
