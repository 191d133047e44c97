//! The layers of a BERT-family encoder, and the order in which a batch goes through them.
//!
//! Not here: what the steps do (`ops`, and a file for each device), what becomes of a text's row (`head`).

use bireme_kernels::Vocabulary;
use bireme_kernels::cpu::{Activation, Pooling};

use super::config::{ModelConfig, Task};
use super::encoder::LoadError;
use super::ops::{Ops, Steps};
use super::weights::Weights;

/// The layers, in the order a batch goes through them.
pub(super) struct Bert<O: Ops> {
    embedding: O::Embedding,
    layers: Vec<Layer<O>>,
    pooling: Pooling,
    is_normalised: bool,
    pub(super) vocabulary: Vocabulary,
    pub(super) hidden: usize,
    intermediate: usize,
    /// The operations that the products of one token take.
    pub(super) token_flop: usize,
}

struct Layer<O: Ops> {
    /// Queries, keys and values in one product.
    qkv: O::Linear,
    attention: O::Attention,
    attention_output: O::Linear,
    attention_norm: O::LayerNorm,
    up: O::Linear,
    down: O::Linear,
    output_norm: O::LayerNorm,
}

/// The activations between steps.
pub(super) struct Activations<B> {
    pub(super) rows: B,
    pub(super) qkv: B,
    pub(super) context: B,
    pub(super) branch: B,
    pub(super) intermediate: B,
}

/// Where the words stand in every model file of the family.
const WORDS: &str = "embeddings.word_embeddings.weight";

impl<O: Ops> Bert<O> {
    pub(super) fn load(ops: &O, config: &ModelConfig, weights: &mut Weights) -> Result<Self, LoadError>
    where
        LoadError: From<O::Error>,
    {
        weights.prefer_prefix("bert.", WORDS);
        let &ModelConfig { vocabulary, hidden, intermediate, positions, token_types, .. } = config;
        let norm = |name: &str| -> Result<O::LayerNorm, LoadError> {
            let weight = weights.tensor(&format!("{name}.weight"), &[hidden])?;
            let bias = weights.tensor(&format!("{name}.bias"), &[hidden])?;
            Ok(ops.layer_norm(weight, bias, config.layer_norm_epsilon)?)
        };
        let linear = |names: &[String], inputs, outputs, activation| -> Result<O::Linear, LoadError> {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                weight.extend(weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(weights.tensor(&format!("{name}.bias"), &[outputs])?);
            }
            Ok(ops.linear(&weight, bias, inputs, activation)?)
        };

        let words = weights.tensor(WORDS, &[vocabulary, hidden])?;
        let position_rows = weights.tensor("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let types = weights.tensor("embeddings.token_type_embeddings.weight", &[token_types, hidden])?;
        let embedding = ops.embedding(words, &position_rows, &types, norm("embeddings.LayerNorm")?)?;

        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            let identity = Activation::Identity;
            layers.push(Layer {
                qkv: linear(&qkv, hidden, hidden, identity)?,
                attention: ops.attention(hidden, config.heads)?,
                attention_output: linear(&[name("attention.output.dense")], hidden, hidden, identity)?,
                attention_norm: norm(&name("attention.output.LayerNorm"))?,
                up: linear(&[name("intermediate.dense")], hidden, intermediate, Activation::Gelu)?,
                down: linear(&[name("output.dense")], intermediate, hidden, identity)?,
                output_norm: norm(&name("output.LayerNorm"))?,
            });
        }
        let (pooling, is_normalised) = match config.task {
            Task::Embedding(pooling) => (pooling, true),
            // The head reads the first token's row as it is.
            Task::Classification { .. } => (Pooling::Cls, false),
        };
        let vocabulary = Vocabulary { words: vocabulary, positions, types: token_types };
        let token_flop = 2 * config.layers * hidden * (4 * hidden + 2 * intermediate);
        Ok(Self { embedding, layers, pooling, is_normalised, vocabulary, hidden, intermediate, token_flop })
    }

    /// The values that each activation has for a token.
    pub(super) fn widths(&self) -> Activations<usize> {
        let Self { hidden, intermediate, .. } = *self;
        Activations { rows: hidden, qkv: 3 * hidden, context: hidden, branch: hidden, intermediate }
    }

    /// Takes a batch through all layers, to one row for each text.
    pub(super) fn run(
        &self,
        steps: &mut impl Steps<O>,
        activations: &mut Activations<O::Buffer>,
    ) -> Result<(), O::Error> {
        let Activations { rows, qkv, context, branch, intermediate } = activations;
        steps.embed(&self.embedding, rows)?;
        for layer in &self.layers {
            steps.linear(&layer.qkv, rows, qkv)?;
            steps.attention(&layer.attention, qkv, context)?;
            steps.linear(&layer.attention_output, context, branch)?;
            steps.add_norm(&layer.attention_norm, rows, branch)?;
            steps.linear(&layer.up, rows, intermediate)?;
            steps.linear(&layer.down, intermediate, branch)?;
            steps.add_norm(&layer.output_norm, rows, branch)?;
        }
        steps.pool(self.pooling, self.is_normalised, self.hidden, rows)
    }
}

impl<B> Activations<B> {
    /// Makes each from the width that it has.
    pub(super) fn try_map<C, E>(self, mut make: impl FnMut(B) -> Result<C, E>) -> Result<Activations<C>, E> {
        Ok(Activations {
            rows: make(self.rows)?,
            qkv: make(self.qkv)?,
            context: make(self.context)?,
            branch: make(self.branch)?,
            intermediate: make(self.intermediate)?,
        })
    }
}
