//! What a model is written over: the layers that a device has, and the steps of a batch through them.
//!
//! A model is one piece of code over these two traits; a device is one implementation of them (`cpu`, `cuda`). A model of
//! another family is a file beside `bert` and a field of each device, with the ops that it needs added here.

use bireme_kernels::cpu::{Activation, Pooling};

/// A device's layers: weights laid out for it, where it reads them.
pub(super) trait Ops {
    type Embedding;
    type LayerNorm;
    type Linear;
    type Attention;
    /// Activations between two steps, for as many tokens as a batch has.
    type Buffer;
    type Error;

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

    /// Full attention of so many heads over `hidden` values.
    fn attention(&self, hidden: usize, heads: usize) -> Result<Self::Attention, Self::Error>;
}

/// The steps of one batch. Buffers hold a row for each token; what they held before is overwritten.
pub(super) trait Steps<O: Ops> {
    /// Writes `[tokens, width]` from the batch's ids.
    fn embed(&mut self, layer: &O::Embedding, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Writes `[tokens, outputs]` from `[tokens, inputs]`.
    fn linear(&mut self, layer: &O::Linear, x: &O::Buffer, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Writes `[tokens, hidden]` from `[tokens, 3 · hidden]`: each token over those of its own text.
    fn attention(&mut self, layer: &O::Attention, qkv: &O::Buffer, out: &mut O::Buffer) -> Result<(), O::Error>;

    /// Replaces `x` by the normalisation of `x + residual`.
    fn add_norm(&mut self, layer: &O::LayerNorm, x: &mut O::Buffer, residual: &O::Buffer) -> Result<(), O::Error>;

    /// Makes the batch's result: one row of `width` values for each text, divided by its length if so asked.
    fn pool(&mut self, method: Pooling, is_normalised: bool, width: usize, rows: &O::Buffer) -> Result<(), O::Error>;
}
