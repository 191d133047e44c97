//! The contract of a model family: the one file in `families` that makes a kind of model loadable.
//!
//! A family says which models it takes, reads their description and their tensors, and builds the model that the worker
//! runs. It is written once for all devices; the registry (`families`) pairs it with each of them.
//!
//! Two parts of a model are kept apart. The [`Network`] has weights only: a device may run it in parts, repeat it or
//! replay a recording of it. The [`LoadedModel`] has everything that one batch leaves for the next, such as the
//! sequences of a generation and their pages of a cache, and hears of each batch exactly once.

use bireme_kernels::Vocabulary;

use super::error::{LoadError, RunError};
use super::model_dir::{ConfigError, ModelDir};
use super::ops::{Executor, Network, Ops, TokenBatch};
use super::weights::Weights;

/// A kind of model, over the ops of any device.
pub(super) trait Family {
    /// Values of `model_type` in `config.json`, the keys of the registry.
    const MODEL_TYPES: &'static [&'static str];

    /// The checked description of one model.
    type Config;

    /// The layers on one device.
    type Network<O: Ops>: Network<O> + 'static;

    /// Reads and checks the description of a model. A model that would only run approximately is refused by name.
    fn configure(dir: &ModelDir) -> Result<Self::Config, ConfigError>;

    /// Reads the tensors by the names that the family gives them, into the layers of a device.
    fn network<O: Ops>(config: &Self::Config, weights: &mut Weights, ops: &O) -> Result<Self::Network<O>, LoadError>;

    /// Builds the model around its network, which `executor` runs.
    fn model(
        config: &Self::Config,
        weights: &Weights,
        executor: Box<dyn Executor>,
    ) -> Result<Box<dyn LoadedModel>, LoadError>;
}

/// The result of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelOutput {
    /// A vector of length 1.
    Vector { dimension: usize },
    /// A score for each label: one for a reranker, which reads a question and a text.
    Scores { labels: usize },
}

impl ModelOutput {
    /// Values in a sequence's result.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Vector { dimension: width } | Self::Scores { labels: width } => width,
        }
    }
}

/// A model that was loaded, with the state that it keeps from one batch to the next.
///
/// Called on the worker's one thread, through a pointer: once for a batch, and never within its layers.
pub(super) trait LoadedModel {
    fn output(&self) -> ModelOutput;

    /// Ids, positions and types that a batch may hold. A batch beyond them is refused before [`step`](Self::step).
    fn vocabulary(&self) -> Vocabulary;

    /// Bytes that weights and state take where the device is the CPU; other devices count their memory themselves.
    fn memory_bytes(&self) -> u64;

    /// Runs a batch: replaces `out` by the result of each sequence, one after another. Returns the device's
    /// nanoseconds.
    ///
    /// A batch that fails leaves the state as it was.
    fn step(&mut self, batch: TokenBatch<'_>, out: &mut Vec<f32>) -> Result<u64, RunError>;
}
