//! The models of a host, and which of them a worker holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OutputKind, PoolState, SWAP_PATIENCE};
use crate::inference::InferenceError;
use crate::inference::batcher::{Next, QueueFull};
use crate::inference::worker_pool::{ANSWER_TIMEOUT, ModelSource};
use crate::limits::BatchLimits;
use crate::wire::{ModelId, NOOP_PATH, Signature};

/// Workers that a model may end while it is loaded, before it is left alone for a while.
const LOAD_DEATHS_MAX: u32 = 2;
/// How long it is left alone.
const LOAD_PAUSE: Duration = Duration::from_secs(10);
/// A batch may take so many times what its like took.
const PATIENCE: u32 = 20;
/// And at least this long.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// Task is known of a model before it is loaded.
#[derive(Clone, Debug)]
pub(in crate::inference) struct ModelConfig {
    pub name: Arc<str>,
    pub source: ModelSource,
    pub limits: BatchLimits,
    /// Bytes that it will take, as far as its files tell.
    pub memory: u64,
    /// Never unloaded to make room.
    pub keep: bool,
}

pub(super) struct Model {
    config: ModelConfig,
    pub signature: Option<Signature>,
    /// Task a worker said that it takes.
    memory: Option<u64>,
    load_deaths: u32,
    paused_until: Option<Instant>,
}

/// Task has to be done before a model is loaded.
pub(super) enum Room {
    Free,
    Unload(ModelId),
    /// Models that do fit have work, and this one can wait a little.
    Later,
    /// It was refused; what waited for it was answered.
    Never,
}

impl Model {
    pub fn new(config: ModelConfig) -> Self {
        Self { config, signature: None, memory: None, load_deaths: 0, paused_until: None }
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn name_shared(&self) -> Arc<str> {
        self.config.name.clone()
    }

    pub fn keep(&self) -> bool {
        self.config.keep
    }

    pub fn path(&self) -> String {
        match &self.config.source {
            ModelSource::Directory(dir) => dir.to_string_lossy().into_owned(),
            ModelSource::Noop => NOOP_PATH.to_owned(),
        }
    }

    /// Bytes that it takes, as far as is known.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(self.config.memory)
    }

    /// Takes in that a worker loaded it.
    pub fn loaded(&mut self, signature: Signature, memory: u64) {
        self.signature = Some(signature);
        self.memory = Some(memory);
        self.load_deaths = 0;
        self.paused_until = None;
    }

    /// Takes in that a worker died while it loaded it. Returns whether it is to be left alone now.
    pub fn load_died(&mut self, now: Instant) -> bool {
        self.load_deaths += 1;
        let is_over = self.load_deaths >= LOAD_DEATHS_MAX;
        if is_over {
            self.load_deaths = 0;
            self.paused_until = Some(now + LOAD_PAUSE);
        }
        is_over
    }

    pub fn check_usable(&self, now: Instant) -> Result<(), InferenceError> {
        match self.paused_until {
            Some(until) if now < until => {
                let seconds = (until - now).as_secs_f64().ceil();
                Err(self.unavailable(&format!(
                    "{LOAD_DEATHS_MAX} workers died while they loaded it; it is tried again in {seconds} s"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a request that the model is not made for.
    pub fn check_output_kind(&self, output_kind: OutputKind, signature: &Signature) -> Result<(), InferenceError> {
        let (is, instead) = match (output_kind, signature) {
            (OutputKind::Anything, _)
            | (OutputKind::Vectors, Signature::Vector { .. })
            | (OutputKind::Scores, Signature::Scores { .. })
            | (OutputKind::Tensors, Signature::Tensors { .. }) => return Ok(()),
            (_, Signature::Vector { .. }) => ("an embedding model, which gives vectors", "`embed`"),
            (_, Signature::Scores { labels: 1 }) => ("a reranker, which gives one score", "`rerank`"),
            (_, Signature::Scores { .. }) => ("a classifier, which gives scores and no vectors", "`classify`"),
            (_, Signature::Tensors { .. }) => ("a model of named tensors", "`infer`"),
        };
        let reason = format!("`{}` is {is}; use {instead}, or another model", self.name());
        Err(InferenceError::BadInput { reason })
    }

    /// How long a batch may take before the worker counts as hung.
    pub fn patience(&self, expected: Option<Duration>) -> Duration {
        // Of tensors the bytes say little, and a new shape is planned for first.
        if matches!(self.signature, Some(Signature::Tensors { .. })) {
            return ANSWER_TIMEOUT;
        }
        expected.map_or(ANSWER_TIMEOUT, |expected| (expected * PATIENCE).clamp(PATIENCE_MIN, ANSWER_TIMEOUT))
    }

    pub fn overloaded(&self, full: QueueFull) -> InferenceError {
        InferenceError::Overloaded { model: self.name().to_owned(), waiting_rows: full.waiting_rows }
    }

    pub fn unavailable(&self, reason: &str) -> InferenceError {
        InferenceError::Unavailable { model: self.name().to_owned(), reason: reason.to_owned() }
    }
}

/// Half of the machine's memory: the other half is the guests'.
fn cpu_memory() -> Option<u64> {
    let system = rustix::system::sysinfo();
    (system.totalram as u64).checked_mul(u64::from(system.mem_unit)).map(|bytes| bytes / 2).filter(|bytes| *bytes > 0)
}

impl<W> PoolState<W> {
    /// Says what a worker has to do before it loads a model.
    pub(super) fn make_room(&mut self, now: Instant, index: usize, model: ModelId) -> Room {
        let slot = &self.slots[index];
        let by_default = if slot.device.as_deref() == Some("cpu") { cpu_memory() } else { None };
        let configured = self.config.memory_max.or(by_default);
        let Some(memory_max) = configured.into_iter().chain(slot.memory_shown).min() else { return Room::Free };
        let needed = self.model(model).memory();
        let kept = slot.loaded.iter().filter(|(id, _)| self.model(**id).keep());
        let kept = kept.fold(0u64, |sum, (_, loaded)| sum.saturating_add(loaded.memory));
        // Task a device has shown is a guess by the sizes of files: it unloads others, and refuses nobody.
        if let Some(memory_max) = configured.filter(|max| needed.saturating_add(kept) > *max) {
            let reason = format!(
                "it takes {needed} bytes, and of the {memory_max} for models {kept} belong to models that are kept"
            );
            self.fail_model(model, &reason);
            return Room::Never;
        }
        if slot.memory().saturating_add(needed) <= memory_max {
            return Room::Free;
        }
        let Some(victim) = self.least_used(index) else { return Room::Free };
        let loaded = &self.slots[index].loaded;
        let others_wait = matches!(self.batcher.next(now, |model, _| loaded.contains_key(&model)), Next::Batch { .. });
        let loaded_at = self.slots[index].loaded_at;
        let is_patient = loaded_at.is_some_and(|at| now.saturating_duration_since(at) < SWAP_PATIENCE);
        if others_wait && is_patient { Room::Later } else { Room::Unload(victim) }
    }

    /// Returns the model that a worker has used least lately, of those that may be unloaded.
    pub(super) fn least_used(&self, index: usize) -> Option<ModelId> {
        let loaded = self.slots[index].loaded.iter().filter(|(id, _)| !self.model(**id).keep());
        loaded.min_by_key(|(id, loaded)| (loaded.used, id.0)).map(|(id, _)| *id)
    }
}
