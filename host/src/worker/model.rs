//! The layers of a BERT-family encoder, and the order in which a batch goes through them.
//!
//! Not here: how a batch is shared between threads, and what a caller may pass (`encoder`).

use bireme_kernels::cpu::{Activation, Attention, Embedding, LayerNorm, Linear, Pooling, Team};
use bireme_kernels::{Sequences, ShapeError};

use super::config::ModelConfig;
use super::encoder::LoadError;
use super::weights::Weights;

/// The layers, in the order a batch goes through them.
pub(super) struct Model {
    pub(super) embedding: Embedding,
    layers: Vec<Layer>,
    pooling: Pooling,
    intermediate: usize,
    /// The operations that the products of one token take.
    pub(super) token_flop: usize,
}

struct Layer {
    /// Queries, keys and values in one product.
    qkv: Linear,
    attention: Attention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
}

/// The activations between steps, as large as the largest group so far.
#[derive(Default)]
pub(super) struct Scratch {
    rows: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    branch: Vec<f32>,
    intermediate: Vec<f32>,
}

impl Model {
    pub(super) fn load(config: &ModelConfig, weights: &mut Weights) -> Result<Self, LoadError> {
        const WORDS: &str = "embeddings.word_embeddings.weight";
        weights.prefer_prefix("bert.", WORDS);
        let &ModelConfig { vocabulary, hidden, intermediate, positions, token_types, .. } = config;
        let norm = |name: &str| -> Result<LayerNorm, LoadError> {
            let weight = weights.tensor(&format!("{name}.weight"), &[hidden])?;
            let bias = weights.tensor(&format!("{name}.bias"), &[hidden])?;
            Ok(LayerNorm::new(weight, bias, config.layer_norm_epsilon)?)
        };
        let linear = |names: &[String], inputs, outputs, activation| -> Result<Linear, LoadError> {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                weight.extend(weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(weights.tensor(&format!("{name}.bias"), &[outputs])?);
            }
            Ok(Linear::new(&weight, bias, inputs, activation)?)
        };

        let words = weights.tensor(WORDS, &[vocabulary, hidden])?;
        let position_rows = weights.tensor("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let types = weights.tensor("embeddings.token_type_embeddings.weight", &[token_types, hidden])?;
        let embedding = Embedding::new(words, &position_rows, &types, norm("embeddings.LayerNorm")?)?;

        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            let identity = Activation::Identity;
            layers.push(Layer {
                qkv: linear(&qkv, hidden, hidden, identity)?,
                attention: Attention::new(hidden, config.heads)?,
                attention_output: linear(&[name("attention.output.dense")], hidden, hidden, identity)?,
                attention_norm: norm(&name("attention.output.LayerNorm"))?,
                up: linear(&[name("intermediate.dense")], hidden, intermediate, Activation::Gelu)?,
                down: linear(&[name("output.dense")], intermediate, hidden, identity)?,
                output_norm: norm(&name("output.LayerNorm"))?,
            });
        }
        let token_flop = 2 * config.layers * hidden * (4 * hidden + 2 * intermediate);
        Ok(Self { embedding, layers, pooling: config.pooling, intermediate, token_flop })
    }

    pub(super) fn run(
        &self,
        ids: &[u32],
        sequences: Sequences<'_>,
        out: &mut [f32],
        scratch: &mut Scratch,
        team: Team,
    ) -> Result<(), ShapeError> {
        let hidden = self.embedding.width();
        let rows = sized(&mut scratch.rows, ids.len() * hidden);
        let qkv = sized(&mut scratch.qkv, ids.len() * 3 * hidden);
        let context = sized(&mut scratch.context, ids.len() * hidden);
        let branch = sized(&mut scratch.branch, ids.len() * hidden);
        let intermediate = sized(&mut scratch.intermediate, ids.len() * self.intermediate);

        self.embedding.run(ids, sequences, rows, team)?;
        for layer in &self.layers {
            layer.qkv.run(rows, qkv, team)?;
            layer.attention.run(qkv, sequences, context, team)?;
            layer.attention_output.run(context, branch, team)?;
            layer.attention_norm.add_residual(rows, branch, team)?;
            layer.up.run(rows, intermediate, team)?;
            layer.down.run(intermediate, branch, team)?;
            layer.output_norm.add_residual(rows, branch, team)?;
        }
        self.pooling.run(rows, sequences, hidden, true, out)
    }
}

/// The first `len` values of a buffer that only grows; what they hold is left from before.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
