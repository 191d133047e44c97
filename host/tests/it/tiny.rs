//! A small random model of the BERT family, and what it makes of a text in the plainest arithmetic.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bireme::worker::encoder::{Encoder, LoadError};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

pub(crate) const VOCABULARY: usize = 50;
pub(crate) const HIDDEN: usize = 64;
const HEADS: usize = 2;
const INTERMEDIATE: usize = 72;
pub(crate) const POSITIONS: usize = 40;
const LAYERS: usize = 2;

/// First tokens of the vocabulary; the words are behind them.
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// Words that have a token of their own.
#[rustfmt::skip]
const WORDS: [&str; VOCABULARY - SPECIAL.len()] = [
    "a", "and", "at", "in", "is", "of", "on", "the", "this", "to", "what",
    "anchor", "calm", "crew", "deck", "galley", "harbour", "keel", "mast", "oar", "port", "rope", "sail", "sea",
    "storm", "wave", "wind", "cat", "couch", "pet", "sleeps", "sofa", "again", "interest", "rates", "rose",
    "compilation", "crate", "rust", "unit", "example", "hello", "passage", "sentence", "warm", "word",
];

/// A small random model.
pub(crate) struct Tiny {
    /// Tensors by name without a prefix, each with its shape.
    pub(crate) tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    layers: usize,
    positions: usize,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        Self::sized(LAYERS, POSITIONS)
    }

    /// The same with more layers and longer texts, for a batch that takes a while.
    pub(crate) fn slow() -> Self {
        Self::sized(12, 512)
    }

    /// The same with vectors that are far apart for different words: no biases, and words that count more than their
    /// places.
    pub(crate) fn of_words() -> Self {
        let mut tiny = Self::new();
        for (name, (_, values)) in &mut tiny.tensors {
            match &**name {
                "embeddings.word_embeddings.weight" => values.iter_mut().for_each(|value| *value *= 10.0),
                name if name.ends_with(".bias") => values.fill(0.0),
                _ => {}
            }
        }
        tiny
    }

    fn sized(layers: usize, positions: usize) -> Self {
        let mut tiny = Self { tensors: HashMap::new(), layers, positions };
        tiny.add("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN]);
        tiny.add("embeddings.position_embeddings.weight", &[positions, HIDDEN]);
        tiny.add("embeddings.token_type_embeddings.weight", &[2, HIDDEN]);
        tiny.add_pair("embeddings.LayerNorm", &[HIDDEN]);
        for layer in 0..layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
            {
                tiny.add_pair(&name(part), &[HIDDEN, HIDDEN]);
            }
            tiny.add_pair(&name("attention.output.LayerNorm"), &[HIDDEN]);
            tiny.add_pair(&name("intermediate.dense"), &[INTERMEDIATE, HIDDEN]);
            tiny.add_pair(&name("output.dense"), &[HIDDEN, INTERMEDIATE]);
            tiny.add_pair(&name("output.LayerNorm"), &[HIDDEN]);
        }
        tiny
    }

    /// The same with a head for so many labels.
    pub(crate) fn classifier(labels: usize) -> Self {
        let mut tiny = Self::new();
        tiny.add_pair("pooler.dense", &[HIDDEN, HIDDEN]);
        tiny.add_pair("classifier", &[labels, HIDDEN]);
        tiny
    }

    pub(crate) fn add_pair(&mut self, name: &str, shape: &[usize]) {
        self.add(&format!("{name}.weight"), shape);
        self.add(&format!("{name}.bias"), &shape[..1]);
    }

    /// Adds a tensor of values between -0.5 and 0.5 that its name decides.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize]) {
        let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into())) | 1;
        let mut value = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values = (0..shape.iter().product()).map(|_| value()).collect();
        self.tensors.insert(name.to_owned(), (shape.to_vec(), values));
    }

    /// Writes all files of a model that texts can be given to.
    pub(crate) fn install(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        self.write(dir, "bert.");
        let words = SPECIAL.iter().chain(&WORDS).enumerate();
        let vocabulary: Value = words.map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [], "truncation": null, "padding": null, "decoder": null,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary
            }
        });
        fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    }

    /// Writes the weights and their description.
    pub(crate) fn write(&self, dir: &Path, prefix: &str) {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| {
                // The classifier stands beside the model.
                let prefix = if name.starts_with("classifier") { "" } else { prefix };
                (
                    format!("{prefix}{name}"),
                    shape.clone(),
                    values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                )
            })
            .collect();
        let views =
            bytes.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
        let mut config = json!({
            "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": self.layers,
            "num_attention_heads": HEADS, "intermediate_size": INTERMEDIATE, "max_position_embeddings": self.positions,
        });
        if let Some((shape, _)) = self.tensors.get("classifier.bias") {
            config["architectures"] = json!(["BertForSequenceClassification"]);
            config["num_labels"] = json!(shape[0]);
        }
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }

    pub(crate) fn load(&self, prefix: &str, threads: usize) -> Result<Encoder, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path(), prefix);
        Encoder::load(dir.path(), threads)
    }

    fn values(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|&value| value.into()).collect()
    }

    /// One text's vector, computed in the plainest way.
    pub(crate) fn forward(&self, ids: &[u32]) -> Vec<f64> {
        let rows = self.rows(ids, ids.len());
        let sum: Vec<f64> = (0..HIDDEN).map(|column| rows.iter().map(|row| row[column]).sum()).collect();
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        sum.iter().map(|value| value / length).collect()
    }

    /// A pair's scores, by a model with a head for so many labels.
    pub(crate) fn scores(&self, ids: &[u32], first_segment: usize) -> Vec<f64> {
        let first = self.rows(ids, first_segment).swap_remove(0);
        let mut pooled = self.linear(&[first], "pooler.dense");
        pooled[0].iter_mut().for_each(|value| *value = value.tanh());
        self.linear(&pooled, "classifier").swap_remove(0)
    }

    /// What all layers make of a text, row by row.
    fn rows(&self, ids: &[u32], first_segment: usize) -> Vec<Vec<f64>> {
        let (words, positions) =
            (self.values("embeddings.word_embeddings.weight"), self.values("embeddings.position_embeddings.weight"));
        let types = self.values("embeddings.token_type_embeddings.weight");
        let sum = |row: usize, column: usize| {
            let own = if row < first_segment { 0 } else { HIDDEN };
            words[ids[row] as usize * HIDDEN + column] + positions[row * HIDDEN + column] + types[own + column]
        };
        let mut rows: Vec<Vec<f64>> =
            (0..ids.len()).map(|row| (0..HIDDEN).map(|column| sum(row, column)).collect()).collect();
        self.norm(&mut rows, "embeddings.LayerNorm");
        for layer in 0..self.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let [q, k, v] =
                ["query", "key", "value"].map(|part| self.linear(&rows, &name(&format!("attention.self.{part}"))));
            let mut context = vec![vec![0.0; HIDDEN]; ids.len()];
            for head in 0..HEADS {
                let columns = head * HIDDEN / HEADS..(head + 1) * HIDDEN / HEADS;
                for (query, context) in q.iter().zip(&mut context) {
                    let dot = |key: &Vec<f64>| columns.clone().map(|column| query[column] * key[column]).sum::<f64>();
                    let weights: Vec<f64> =
                        k.iter().map(|key| (dot(key) / ((HIDDEN / HEADS) as f64).sqrt()).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    for (weight, value) in weights.iter().zip(&v) {
                        columns.clone().for_each(|column| context[column] += weight / sum * value[column]);
                    }
                }
            }
            add(&mut rows, &self.linear(&context, &name("attention.output.dense")));
            self.norm(&mut rows, &name("attention.output.LayerNorm"));
            let mut up = self.linear(&rows, &name("intermediate.dense"));
            up.iter_mut().flatten().for_each(|value| *value = gelu(*value));
            add(&mut rows, &self.linear(&up, &name("output.dense")));
            self.norm(&mut rows, &name("output.LayerNorm"));
        }
        rows
    }

    fn linear(&self, rows: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let (weight, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let output = |row: &Vec<f64>| {
            let weights = weight.chunks(row.len()).zip(&bias);
            weights.map(|(weight, bias)| row.iter().zip(weight).map(|(x, w)| x * w).sum::<f64>() + bias).collect()
        };
        rows.iter().map(output).collect()
    }

    fn norm(&self, rows: &mut Vec<Vec<f64>>, name: &str) {
        let (weight, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        for row in rows {
            let mean = row.iter().sum::<f64>() / HIDDEN as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / HIDDEN as f64;
            for ((x, weight), bias) in row.iter_mut().zip(&weight).zip(&bias) {
                *x = (*x - mean) / (variance + 1e-12).sqrt() * weight + bias;
            }
        }
    }
}

/// A text's vector by the model that the tests share (`of_words`), of as much of it as the model takes.
pub(crate) fn vector(text: &str) -> Vec<f64> {
    let mut ids = ids(text);
    if ids.len() > POSITIONS {
        ids.drain(POSITIONS - 1..ids.len() - 1);
    }
    Tiny::of_words().forward(&ids)
}

/// A text's tokens, for words in lower case with spaces between them.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    let place = |word: &str| WORDS.iter().position(|known| *known == word).map(|place| place + SPECIAL.len());
    let words = text.split_whitespace().map(|word| place(word).unwrap_or(1) as u32);
    [2].into_iter().chain(words).chain([3]).collect()
}

/// The words of these tokens.
pub(crate) fn words(ids: &[u32]) -> String {
    ids.iter().map(|&id| WORDS[id as usize - SPECIAL.len()]).collect::<Vec<_>>().join(" ")
}

fn add(rows: &mut [Vec<f64>], others: &[Vec<f64>]) {
    rows.iter_mut().flatten().zip(others.iter().flatten()).for_each(|(value, other)| *value += other);
}

/// The exact one, with `erf` by its series: the values here are small.
fn gelu(x: f64) -> f64 {
    let z = x * std::f64::consts::FRAC_1_SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..150 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}
