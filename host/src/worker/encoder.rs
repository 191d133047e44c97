//! A loaded model of tokens behind the checks that hold for every family.
//!
//! Not here: text (`tokenizer`), which requests share a batch (`inference::batcher`), the process around it,
//! and the arithmetic (`families`, over `cpu` and `cuda`).
//!
//! Invariants: on the CPU a text's result does not depend on the texts beside it, their order, or the number of
//! threads, and on a GPU not beyond the rounding of half precision; a batch that is refused leaves the model as it was;
//! a result is finite.

use std::fmt;
use std::path::Path;

use bireme_kernels::Sequences;
use bireme_kernels::cuda::device::Device;

pub use super::error::{LoadError, RunError};
use super::families::{self, Target};
use super::family::{LoadedModel, ModelOutput};
use super::model_dir::ModelDir;
use super::ops::TokenBatch;

/// A loaded model, ready to run.
pub struct Encoder {
    model: Box<dyn LoadedModel>,
    /// Threads of the CPU; none on another device.
    cpu_threads: Option<usize>,
}

impl Encoder {
    /// Loads the model in `dir`, to run on this many threads of the CPU.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, LoadError> {
        let model = families::load(&ModelDir::new(dir), Target::Cpu { threads })?;
        Ok(Self { model, cpu_threads: Some(threads) })
    }

    /// Loads the model in `dir` onto a CUDA device, in half precision.
    pub fn load_on(dir: &Path, device: &Device) -> Result<Self, LoadError> {
        let model = families::load(&ModelDir::new(dir), Target::Cuda(device))?;
        Ok(Self { model, cpu_threads: None })
    }

    /// Returns the kind and width of a text's result.
    pub(crate) fn output(&self) -> ModelOutput {
        self.model.output()
    }

    /// Returns the values in a text's result: of its vector, or one for each label.
    pub fn dimension(&self) -> usize {
        self.output().width()
    }

    /// Whether a result is a score for each label, not a vector.
    pub fn is_classifier(&self) -> bool {
        matches!(self.output(), ModelOutput::Scores { .. })
    }

    /// Returns the bytes that it takes of the CPU's memory; none on another device, which counts its own.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.cpu_threads.map(|_| self.model.memory_bytes())
    }

    /// Returns the most tokens in a text.
    pub fn max_positions(&self) -> usize {
        self.model.vocabulary().positions
    }

    /// Returns the number of threads it runs on.
    pub fn threads(&self) -> usize {
        self.cpu_threads.unwrap_or(1)
    }

    /// Replaces `out` by `[texts, dimension]`: text `i` has the ids from `cu_seqlens[i]` to `cu_seqlens[i + 1]`.
    /// Returns the nanoseconds of the device.
    pub fn run(&mut self, ids: &[u32], cu_seqlens: &[u32], out: &mut Vec<f32>) -> Result<u64, RunError> {
        self.run_pairs(ids, cu_seqlens, &[], out)
    }

    /// The same for pairs: of text `i` the first `first_segments[i]` tokens are a question, the others the text to
    /// score against it. Empty, if no text is a pair.
    pub fn run_pairs(
        &mut self,
        ids: &[u32],
        cu_seqlens: &[u32],
        first_segments: &[u32],
        out: &mut Vec<f32>,
    ) -> Result<u64, RunError> {
        let sequences = Sequences::new(cu_seqlens)?.with_first_segments(first_segments)?;
        self.model.vocabulary().check(ids, sequences)?;
        let nanoseconds = self.model.step(TokenBatch { ids, sequences }, out)?;
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(nanoseconds),
            Some(index) => Err(RunError::NotFinite { sequence: index / self.dimension() }),
        }
    }
}

/// Without the weights, which are millions of numbers.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("output", &self.output())
            .field("max_positions", &self.max_positions())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}
