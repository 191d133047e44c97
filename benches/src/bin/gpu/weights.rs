//! Models of a true shape with random weights, for machines to which no model can be brought.

use std::fs;
use std::path::Path;

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::Failure;

/// The sizes of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub name: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
}

const VOCABULARY: usize = 30_522;
const POSITIONS: usize = 512;

impl Shape {
    /// all-MiniLM-L6-v2.
    pub(crate) const MINILM: Self = Self { name: "minilm", layers: 6, hidden: 384, heads: 12, intermediate: 1536 };
    /// bge-base-en-v1.5, e5-base-v2.
    pub(crate) const BGE_BASE: Self = Self { name: "bge-base", layers: 12, hidden: 768, heads: 12, intermediate: 3072 };
    /// bge-large-en-v1.5.
    pub(crate) const BGE_LARGE: Self =
        Self { name: "bge-large", layers: 24, hidden: 1024, heads: 16, intermediate: 4096 };

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::MINILM, Self::BGE_BASE, Self::BGE_LARGE].into_iter().find(|shape| shape.name == name)
    }

    /// Writes a model folder: what a real one has, but for the tokenizer.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let Self { layers, hidden, heads, intermediate, .. } = *self;
        fs::create_dir_all(dir)?;
        let mut tensors: Vec<(String, Vec<usize>, Vec<f16>)> = Vec::new();
        let mut random = Random(1);
        let mut add = |name: String, shape: Vec<usize>, around: f32, spread: f32| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| around + spread * random.next()).collect();
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            tensors.push((name, shape, halves));
        };
        for (table, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)] {
            add(format!("embeddings.{table}_embeddings.weight"), vec![rows, hidden], 0.0, 0.05);
        }
        let mut norms = vec!["embeddings.LayerNorm".to_owned()];
        for layer in 0..layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let dense = [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", intermediate, hidden),
                ("output.dense", hidden, intermediate),
            ];
            for (part, outputs, inputs) in dense {
                // As spread as initialisation makes them: activations stay near 1 through all layers.
                let spread = (3.0 / inputs as f32).sqrt();
                add(format!("{}.weight", name(part)), vec![outputs, inputs], 0.0, spread);
                add(format!("{}.bias", name(part)), vec![outputs], 0.0, 0.02);
            }
            norms.extend([name("attention.output.LayerNorm"), name("output.LayerNorm")]);
        }
        for norm in norms {
            add(format!("{norm}.weight"), vec![hidden], 1.0, 0.1);
            add(format!("{norm}.bias"), vec![hidden], 0.0, 0.1);
        }
        let views = tensors.iter().map(|(name, shape, values)| {
            (
                name,
                TensorView::new(Dtype::F16, shape.clone(), cast_slice(values))
                    .expect("as many values as the shape says"),
            )
        });
        safetensors::serialize_to_file(views, None, &dir.join("model.safetensors"))?;
        let config = format!(
            r#"{{"model_type":"bert","architectures":["BertModel"],"vocab_size":{VOCABULARY},"hidden_size":{hidden},"num_hidden_layers":{layers},"num_attention_heads":{heads},"intermediate_size":{intermediate},"max_position_embeddings":{POSITIONS},"hidden_act":"gelu","type_vocab_size":2,"layer_norm_eps":1e-12}}"#
        );
        fs::write(dir.join("config.json"), config)?;
        Ok(())
    }
}

/// A folder's name, for a model that has no other.
pub(crate) fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// SplitMix64: the same weights and ids on every machine.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from -1 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}
