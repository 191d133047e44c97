//! The models of a host, as the pool knows them: signature, memory, failed loads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::work::OutputKind;
use crate::inference::batcher::QueueFull;
use crate::inference::error::InferenceError;
use crate::limits::BatchLimits;
use crate::wire::{ModelId, NOOP_PATH, Signature};

/// A worker without an answer for this long counts as hung and is killed.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Worker deaths during loads of one model before its loads are paused.
const LOAD_DEATHS_MAX: u32 = 2;
/// Pause before the next load.
const LOAD_PAUSE: Duration = Duration::from_secs(10);
/// A batch is overdue after this many times its expected time.
const PATIENCE: u32 = 20;
/// No batch is overdue sooner.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// The source of a model.
#[derive(Clone, Debug)]
pub(crate) enum ModelSource {
    Directory(PathBuf),
    Noop,
}

/// Description of a model before it is loaded.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    pub name: Arc<str>,
    pub source: ModelSource,
    pub limits: BatchLimits,
    /// Estimate of its bytes, by the size of its files.
    pub memory: u64,
    /// Never unloaded to make room.
    pub keep: bool,
}

pub(super) struct Model {
    config: ModelConfig,
    pub signature: Option<Signature>,
    /// Bytes that it takes, as a worker reported.
    memory: Option<u64>,
    load_deaths: u32,
    paused_until: Option<Instant>,
}

/// The step that makes room for a model.
pub(super) enum Room {
    Free,
    Unload(ModelId),
    /// Loaded models have work, and this one can wait a little.
    Later,
    /// It was refused, and its requests were answered.
    Never,
}

impl Model {
    pub(crate) fn new(config: ModelConfig) -> Self {
        Self { config, signature: None, memory: None, load_deaths: 0, paused_until: None }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn name_shared(&self) -> Arc<str> {
        self.config.name.clone()
    }

    pub(crate) fn keep(&self) -> bool {
        self.config.keep
    }

    pub(crate) fn path(&self) -> String {
        match &self.config.source {
            ModelSource::Directory(dir) => dir.to_string_lossy().into_owned(),
            ModelSource::Noop => NOOP_PATH.to_owned(),
        }
    }

    /// Bytes that it takes, or the estimate before it was loaded.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.unwrap_or(self.config.memory)
    }

    /// Takes in that a worker loaded it.
    pub(crate) fn loaded(&mut self, signature: Signature, memory: u64) {
        self.signature = Some(signature);
        self.memory = Some(memory);
        self.load_deaths = 0;
        self.paused_until = None;
    }

    /// Takes in that a worker died while it loaded it. Returns whether its loads are paused now.
    pub(crate) fn load_died(&mut self, now: Instant) -> bool {
        self.load_deaths += 1;
        let is_over = self.load_deaths >= LOAD_DEATHS_MAX;
        if is_over {
            self.load_deaths = 0;
            self.paused_until = Some(now + LOAD_PAUSE);
        }
        is_over
    }

    pub(crate) fn check_usable(&self, now: Instant) -> Result<(), InferenceError> {
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

    /// Refuses a request for an output that the model does not have.
    pub(crate) fn check_output_kind(
        &self,
        output_kind: OutputKind,
        signature: &Signature,
    ) -> Result<(), InferenceError> {
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

    /// Returns the time after which a batch is overdue and its worker counts as hung.
    pub(crate) fn patience(&self, expected: Option<Duration>) -> Duration {
        // Bytes of tensors predict little, and a new shape is planned first.
        if matches!(self.signature, Some(Signature::Tensors { .. })) {
            return ANSWER_TIMEOUT;
        }
        expected.map_or(ANSWER_TIMEOUT, |expected| (expected * PATIENCE).clamp(PATIENCE_MIN, ANSWER_TIMEOUT))
    }

    pub(crate) fn overloaded(&self, full: QueueFull) -> InferenceError {
        InferenceError::Overloaded { model: self.name().to_owned(), waiting_rows: full.waiting_rows }
    }

    pub(crate) fn unavailable(&self, reason: &str) -> InferenceError {
        InferenceError::Unavailable { model: self.name().to_owned(), reason: reason.to_owned() }
    }
}
