//! The contract between models and devices: the layers a device has, a batch's steps through them, and the network that
//! puts them in order.
//!
//! A network is written once over [`Ops`] and [`Steps`]; a device (`cpu`, `cuda`) implements both, and an [`Executor`]
//! that runs batches through any network. A family that needs another op adds it here and to each device.

use bireme_kernels::cpu::{Activation, Pooling};
use bireme_kernels::{Sequences, Vocabulary};

use super::error::{LoadError, RunError};

/// A device's layers: weights in the layout that it reads.
pub(super) trait Ops: 'static {
    type Embedding;
    type LayerNorm;
    type Linear;
    type Attention;
    /// Activations between two steps, for as many tokens as a batch has.
    type Buffer;
    type Error: Into<LoadError>;

    /// Tables of `[words, width]`, `[positions, width]` and `[types, width]`, whose sum is normalised.
    fn embedding(
        &self,
        words: Vec<f32>,
        positions: &[f32],
        types: &[f32],
        norm: Self::LayerNorm,
    ) -> Result<Self::Embedding, Self::Error>;

    /// A scale and a shift of `[width]`.
    fn layer_norm(&self, weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Result<Self::LayerNorm, Self::Error>;

    /// A weight of `[outputs, inputs]`, a bias of `[outputs]`.
    fn linear(
        &self,
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        activation: Activation,
    ) -> Result<Self::Linear, Self::Error>;

    /// Full attention with `heads` heads over `hidden` values.
    fn attention(&self, hidden: usize, heads: usize) -> Result<Self::Attention, Self::Error>;
}

/// The steps of one batch. Buffers hold a row for each token; a step overwrites its output.
pub(super) trait Steps<O: Ops> {
    /// Writes `[tokens, width]` from the batch's ids.
    fn embed(&mut self, layer: &O::Embedding, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Writes `[tokens, outputs]` from `[tokens, inputs]`.
    fn linear(&mut self, layer: &O::Linear, x: &O::Buffer, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Writes `[tokens, hidden]` from `[tokens, 3 · hidden]`: each token over those of its own text.
    fn attention(&mut self, layer: &O::Attention, qkv: &O::Buffer, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Replaces `x` by the normalisation of `x + residual`.
    fn add_norm(&mut self, layer: &O::LayerNorm, x: &mut O::Buffer, residual: &O::Buffer) -> Result<(), O::Error>;

    /// Writes the batch's result: one row of `width` values for each text, of length 1 if `is_normalised`.
    fn pool(&mut self, method: Pooling, is_normalised: bool, width: usize, rows: &O::Buffer) -> Result<(), O::Error>;
}

/// The layers of a model on one device, in the order in which a batch passes them.
///
/// A pass has no effect but its output: an executor runs parts of a batch at the same time, repeats one that found no
/// memory, and on CUDA records a pass once and replays it. State that batches share belongs to
/// [`LoadedModel`](super::family::LoadedModel).
pub(super) trait Network<O: Ops> {
    /// Values for a token in each buffer that [`forward`](Self::forward) gets, in the same order.
    fn widths(&self) -> Vec<usize>;

    /// Values in the result of one sequence.
    fn output_width(&self) -> usize;

    /// Ids, positions and types that the embedding has rows for.
    fn vocabulary(&self) -> Vocabulary;

    /// Floating-point operations of the products for one token: tells how far a batch is worth sharing between threads.
    fn token_flop(&self) -> usize;

    /// Takes a batch through all layers, to one row for each sequence.
    fn forward(&self, steps: &mut impl Steps<O>, buffers: &mut [O::Buffer]) -> Result<(), O::Error>;
}

/// Token ids, packed without padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBatch<'a> {
    pub ids: &'a [u32],
    pub sequences: Sequences<'a>,
}

/// A network on its device, and the device's way of running batches through it.
pub(super) trait Executor {
    /// Fills `out`, `[sequences, output_width]`, from a batch that the vocabulary has rows for. Returns the device's
    /// nanoseconds. Blocks until the result is there.
    fn run(&mut self, batch: TokenBatch<'_>, out: &mut [f32]) -> Result<u64, RunError>;
}
