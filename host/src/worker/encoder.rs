//! Turns packed token ids into one vector a text, or one score a label, with a BERT-family model on one device.
//!
//! Not here: text (`inference::tokenizer`), which requests share a batch (`inference::batcher`), the process around it,
//! and what a device does (`cpu`, `cuda`).
//!
//! Invariants: on the CPU a text's result does not depend on the texts beside it, their order, or the number of threads, and
//! on a GPU not beyond the rounding of half precision; a batch that is refused leaves the encoder as it was; a result is
//! finite, and a vector has length 1.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use bireme_kernels::cpu::ThreadsError;
use bireme_kernels::cuda::device::{Device, DeviceError};
use bireme_kernels::{Sequences, ShapeError, Vocabulary};

use super::config::{ConfigError, ModelConfig, Task};
use super::cpu::OnCpu;
use super::cuda::OnCuda;
use super::head::Head;
use super::weights::{Weights, WeightsError};

/// A loaded model, ready to run.
pub struct Encoder {
    model: Model,
    /// What turns rows into scores, if it is a classifier.
    head: Option<Head>,
    hidden: usize,
    vocabulary: Vocabulary,
    /// Bytes of the weights, as they lie on the CPU.
    weights: u64,
}

enum Model {
    Cpu(Box<OnCpu>),
    Cuda(Box<OnCuda>),
}

/// A model cannot be loaded from its directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    #[error("the weights do not fit together")]
    Shape(#[from] ShapeError),
    #[error("the device cannot hold the model")]
    Device(#[from] DeviceError),
}

/// A batch cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The batch is wrong; another one may be right.
    #[error("the batch does not fit the model")]
    Batch(#[from] ShapeError),
    /// The model is wrong, or beyond half precision where that is used: no text makes sound weights overflow f32.
    #[error("the result of sequence {sequence} is not finite")]
    NotFinite { sequence: usize },
    #[error("the device failed")]
    Device(#[from] DeviceError),
}

impl Encoder {
    /// Loads the model in `dir`, to run on so many threads of the CPU.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, LoadError> {
        Self::load_with(dir, |config, weights| {
            OnCpu::load(config, weights, threads).map(|model| Model::Cpu(Box::new(model)))
        })
    }

    /// Loads the model in `dir` onto a CUDA device, in half precision.
    pub fn load_on(dir: &Path, device: &Device) -> Result<Self, LoadError> {
        Self::load_with(dir, |config, weights| {
            OnCuda::load(config, weights, device).map(|model| Model::Cuda(Box::new(model)))
        })
    }

    fn load_with(
        dir: &Path,
        load: impl FnOnce(&ModelConfig, &mut Weights) -> Result<Model, LoadError>,
    ) -> Result<Self, LoadError> {
        let config = ModelConfig::load(dir)?;
        let mut weights = Weights::open(&dir.join("model.safetensors"))?;
        let model = load(&config, &mut weights)?;
        let head = match config.task {
            Task::Embedding(_) => None,
            Task::Classification { labels } => Some(Head::load(&weights, config.hidden, labels)?),
        };
        let weights = weights.bytes();
        let vocabulary = match &model {
            Model::Cpu(model) => model.bert.vocabulary,
            Model::Cuda(model) => model.bert.vocabulary,
        };
        Ok(Self { model, head, hidden: config.hidden, vocabulary, weights })
    }

    /// The values in a text's result: of its vector, or one for each label.
    pub fn dimension(&self) -> usize {
        self.head.as_ref().map_or(self.hidden, Head::labels)
    }

    /// True if a result is a score for each label, not a vector.
    pub fn is_classifier(&self) -> bool {
        self.head.is_some()
    }

    /// The memory that it takes, where that is the CPU's; a device is asked for its own.
    pub fn memory(&self) -> Option<u64> {
        matches!(self.model, Model::Cpu(_)).then_some(self.weights)
    }

    /// The most tokens in a text.
    pub fn max_positions(&self) -> usize {
        self.vocabulary.positions
    }

    /// The number of threads it runs on.
    pub fn threads(&self) -> usize {
        match &self.model {
            Model::Cpu(model) => model.threads(),
            Model::Cuda(_) => 1,
        }
    }

    /// Replaces `out` by `[texts, dimension]`: text `i` has the ids from `cu_seqlens[i]` to `cu_seqlens[i + 1]`. Returns
    /// the nanoseconds of the device.
    pub fn run(&mut self, ids: &[u32], cu_seqlens: &[u32], out: &mut Vec<f32>) -> Result<u64, RunError> {
        self.run_pairs(ids, cu_seqlens, &[], out)
    }

    /// The same for pairs: of text `i` the first `first_segments[i]` tokens are a question, the others what it is held
    /// against. Empty, if no text is a pair.
    pub fn run_pairs(
        &mut self,
        ids: &[u32],
        cu_seqlens: &[u32],
        first_segments: &[u32],
        out: &mut Vec<f32>,
    ) -> Result<u64, RunError> {
        let sequences = Sequences::new(cu_seqlens)?.with_first_segments(first_segments)?;
        self.vocabulary.check(ids, sequences)?;
        out.clear();
        out.resize(sequences.len() * self.hidden, 0.0);
        let started = Instant::now();
        let mut nanoseconds = match &mut self.model {
            Model::Cpu(model) => {
                model.run(ids, sequences, out)?;
                elapsed(started)
            }
            Model::Cuda(model) => model.run(ids, sequences, out)?,
        };
        if let Some(head) = &self.head {
            let started = Instant::now();
            *out = head.run(out)?;
            nanoseconds += elapsed(started);
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(nanoseconds),
            Some(index) => Err(RunError::NotFinite { sequence: index / self.dimension() }),
        }
    }
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Without the weights, which are millions of numbers.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("dimension", &self.dimension())
            .field("is_classifier", &self.is_classifier())
            .field("max_positions", &self.max_positions())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}
