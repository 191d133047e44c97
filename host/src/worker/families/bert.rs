//! BERT: encoders of Transformers' class `BertModel`, and rerankers and classifiers built on it.
//!
//! A model is its description (`config.json` and the pooling beside it), the names of its tensors, its layers, and for
//! a classifier a head, which runs on the CPU whatever the device: one row a text, less than a thousandth of the
//! layers.

use std::time::Instant;

use bireme_kernels::cpu::{Activation, Linear, Parallelism, Pooling};
use bireme_kernels::{ShapeError, Vocabulary};
use serde::Deserialize;

use super::super::error::{LoadError, RunError};
use super::super::family::{Family, LoadedModel, ModelOutput};
use super::super::model_dir::{CONFIG, ConfigError, ModelDir};
use super::super::ops::{Executor, Network, Ops, Steps, TokenBatch};
use super::super::pooling;
use super::super::timing::nanoseconds_since;
use super::super::weights::Weights;

/// The family.
pub(super) struct Bert;

impl Family for Bert {
    const MODEL_TYPES: &'static [&'static str] = &["bert"];

    type Config = BertConfig;
    type Network<O: Ops> = BertNetwork<O>;

    fn configure(dir: &ModelDir) -> Result<BertConfig, ConfigError> {
        BertConfig::load(dir)
    }

    fn network<O: Ops>(config: &BertConfig, weights: &mut Weights, ops: &O) -> Result<BertNetwork<O>, LoadError> {
        BertNetwork::load(config, weights, ops)
    }

    fn model(
        config: &BertConfig,
        weights: &Weights,
        executor: Box<dyn Executor>,
    ) -> Result<Box<dyn LoadedModel>, LoadError> {
        let head = match config.task {
            Task::Embedding(_) => None,
            Task::Classification { labels } => Some(ClassifierHead::load(weights, config.hidden, labels)?),
        };
        let (hidden, vocabulary) = (config.hidden, config.vocabulary());
        Ok(Box::new(BertModel { executor, head, hidden, vocabulary, memory_bytes: weights.bytes() }))
    }
}

/// The shape of a model, from `config.json`, `modules.json` and `1_Pooling/config.json`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BertConfig {
    words: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
    positions: usize,
    token_types: usize,
    layer_norm_epsilon: f32,
    task: Task,
}

/// The purpose that a model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Embedding(Pooling),
    Classification { labels: usize },
}

/// `config.json`; optional keys have the values that Transformers gives them.
#[derive(Deserialize)]
struct BertJson {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    architectures: Vec<String>,
    num_labels: Option<usize>,
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default = "default_type_vocab_size")]
    type_vocab_size: usize,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f32,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default = "default_position_embedding_type")]
    position_embedding_type: String,
}

fn default_type_vocab_size() -> usize {
    2
}

fn default_layer_norm_eps() -> f32 {
    1e-12
}

fn default_hidden_act() -> String {
    "gelu".to_owned()
}

fn default_position_embedding_type() -> String {
    "absolute".to_owned()
}

/// More than any list of topics that a text is sorted into.
const LABELS_MAX: usize = 1 << 16;

impl BertConfig {
    fn load(dir: &ModelDir) -> Result<Self, ConfigError> {
        let json: BertJson = dir.json(CONFIG)?;
        let config = Self {
            words: json.vocab_size,
            hidden: json.hidden_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            intermediate: json.intermediate_size,
            positions: json.max_position_embeddings,
            token_types: json.type_vocab_size,
            layer_norm_epsilon: json.layer_norm_eps,
            task: json.task(dir)?,
        };
        let expect = |key, value: &str, expected: &str| match value == expected {
            true => Ok(()),
            false => Err(dir.unsupported(CONFIG, key, value, format!("`{expected}`"))),
        };
        expect("hidden_act", &json.hidden_act, "gelu")?;
        expect("position_embedding_type", &json.position_embedding_type, "absolute")?;
        config.check_sizes(dir)?;
        Ok(config)
    }

    /// Refuses sizes that no model has, before anything is allocated or multiplied by them. The weights bound them
    /// again: the file must hold every tensor in full.
    fn check_sizes(&self, dir: &ModelDir) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.words, 1 << 22),
            ("hidden_size", self.hidden, 1 << 14),
            ("num_hidden_layers", self.layers, 256),
            ("num_attention_heads", self.heads, 256),
            ("intermediate_size", self.intermediate, 1 << 16),
            ("max_position_embeddings", self.positions, 1 << 16),
            // The embedding keeps a row for each pair of a position and a type.
            ("type_vocab_size", self.token_types, 4),
        ];
        for (key, value, max) in sizes {
            if value == 0 || value > max {
                return Err(dir.unsupported(CONFIG, key, value, format!("1 to {max}")));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let expected = format!("a divisor of the hidden size, {}", self.hidden);
            return Err(dir.unsupported(CONFIG, "num_attention_heads", self.heads, expected));
        }
        let epsilon = self.layer_norm_epsilon;
        if !(1e-20..=1e-2).contains(&epsilon) {
            return Err(dir.unsupported(CONFIG, "layer_norm_eps", epsilon, "1e-20 to 1e-2"));
        }
        Ok(())
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { words: self.words, positions: self.positions, types: self.token_types }
    }
}

impl BertJson {
    /// Reads the task from `architectures`, which names the class that the model was saved from.
    fn task(&self, dir: &ModelDir) -> Result<Task, ConfigError> {
        match self.architectures.first().map(String::as_str) {
            // Saved with a head for another purpose, which an embedding does without.
            None | Some("BertModel" | "BertForMaskedLM" | "BertForPreTraining") => {
                pooling::load(dir).map(Task::Embedding)
            }
            Some("BertForSequenceClassification") => {
                let labels = self.num_labels.or(self.id2label.as_ref().map(|labels| labels.len())).unwrap_or(2);
                if !(1..=LABELS_MAX).contains(&labels) {
                    return Err(dir.unsupported(CONFIG, "num_labels", labels, format!("1 to {LABELS_MAX}")));
                }
                Ok(Task::Classification { labels })
            }
            Some(other) => {
                let expected = "`BertModel` or `BertForSequenceClassification`";
                Err(dir.unsupported(CONFIG, "architectures", other, expected))
            }
        }
    }
}

/// The layers, in the order in which a batch passes them.
pub(super) struct BertNetwork<O: Ops> {
    embedding: O::Embedding,
    layers: Vec<Layer<O>>,
    pooling: Pooling,
    is_normalised: bool,
    vocabulary: Vocabulary,
    hidden: usize,
    intermediate: usize,
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

/// The word table's name, without the prefix that some model files give to all names.
const WORDS: &str = "embeddings.word_embeddings.weight";
const PREFIX: &str = "bert.";

impl<O: Ops> BertNetwork<O> {
    fn load(config: &BertConfig, weights: &mut Weights, ops: &O) -> Result<Self, LoadError> {
        weights.prefer_prefix(PREFIX, WORDS);
        let &BertConfig { words, hidden, intermediate, positions, token_types, .. } = config;
        let norm = |name: &str| -> Result<O::LayerNorm, LoadError> {
            let weight = weights.tensor(&format!("{name}.weight"), &[hidden])?;
            let bias = weights.tensor(&format!("{name}.bias"), &[hidden])?;
            ops.layer_norm(weight, bias, config.layer_norm_epsilon).map_err(Into::into)
        };
        let linear = |names: &[String], inputs, outputs, activation| -> Result<O::Linear, LoadError> {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                weight.extend(weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(weights.tensor(&format!("{name}.bias"), &[outputs])?);
            }
            ops.linear(&weight, bias, inputs, activation).map_err(Into::into)
        };

        let word_rows = weights.tensor(WORDS, &[words, hidden])?;
        let position_rows = weights.tensor("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let type_rows = weights.tensor("embeddings.token_type_embeddings.weight", &[token_types, hidden])?;
        let embedding = ops.embedding(word_rows, &position_rows, &type_rows, norm("embeddings.LayerNorm")?);
        let embedding = embedding.map_err(Into::into)?;

        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            let identity = Activation::Identity;
            layers.push(Layer {
                qkv: linear(&qkv, hidden, hidden, identity)?,
                attention: ops.attention(hidden, config.heads).map_err(Into::into)?,
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
        let vocabulary = config.vocabulary();
        Ok(Self { embedding, layers, pooling, is_normalised, vocabulary, hidden, intermediate })
    }
}

impl<O: Ops> Network<O> for BertNetwork<O> {
    fn widths(&self) -> Vec<usize> {
        vec![self.hidden, 3 * self.hidden, self.hidden, self.hidden, self.intermediate]
    }

    fn output_width(&self) -> usize {
        self.hidden
    }

    fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    fn token_flop(&self) -> usize {
        2 * self.layers.len() * self.hidden * (4 * self.hidden + 2 * self.intermediate)
    }

    fn forward(&self, steps: &mut impl Steps<O>, buffers: &mut [O::Buffer]) -> Result<(), O::Error> {
        let [rows, qkv, context, branch, intermediate] = buffers else {
            unreachable!("an executor makes a buffer for each of `widths`")
        };
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

/// A model: the network on its device, and the head. It keeps nothing between batches.
struct BertModel {
    executor: Box<dyn Executor>,
    head: Option<ClassifierHead>,
    hidden: usize,
    vocabulary: Vocabulary,
    memory_bytes: u64,
}

impl LoadedModel for BertModel {
    fn output(&self) -> ModelOutput {
        match &self.head {
            None => ModelOutput::Vector { dimension: self.hidden },
            Some(head) => ModelOutput::Scores { labels: head.labels() },
        }
    }

    fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn step(&mut self, batch: TokenBatch<'_>, out: &mut Vec<f32>) -> Result<u64, RunError> {
        out.clear();
        out.resize(batch.sequences.len() * self.hidden, 0.0);
        let mut nanoseconds = self.executor.run(batch, out)?;
        if let Some(head) = &self.head {
            let started = Instant::now();
            *out = head.run(out)?;
            nanoseconds += nanoseconds_since(started);
        }
        Ok(nanoseconds)
    }
}

/// The pooler and classifier over a text's first row: a dense layer with `tanh`, then a score for each label.
struct ClassifierHead {
    pooler: Linear,
    classifier: Linear,
}

impl ClassifierHead {
    fn load(weights: &Weights, hidden: usize, labels: usize) -> Result<Self, LoadError> {
        let identity = Activation::Identity;
        let weight = weights.tensor("pooler.dense.weight", &[hidden, hidden])?;
        let bias = weights.tensor("pooler.dense.bias", &[hidden])?;
        let pooler = Linear::new(&weight, bias, hidden, identity)?;
        // The classifier stands beside the model, not within it.
        let weight = weights.tensor_beside("classifier.weight", &[labels, hidden])?;
        let bias = weights.tensor_beside("classifier.bias", &[labels])?;
        Ok(Self { pooler, classifier: Linear::new(&weight, bias, hidden, identity)? })
    }

    fn labels(&self) -> usize {
        self.classifier.outputs()
    }

    /// Makes `[texts, labels]` of `[texts, hidden]`: raw scores; softmax or sigmoid is up to the caller.
    fn run(&self, rows: &[f32]) -> Result<Vec<f32>, ShapeError> {
        let texts = rows.len() / self.pooler.inputs();
        let mut pooled = vec![0.0; rows.len()];
        self.pooler.run(rows, &mut pooled, Parallelism::SINGLE)?;
        pooled.iter_mut().for_each(|value| *value = value.tanh());
        let mut scores = vec![0.0; texts * self.labels()];
        self.classifier.run(&pooled, &mut scores, Parallelism::SINGLE)?;
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mini() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512, "hidden_act": "gelu",
        })
    }

    /// Loads the description of a directory with this `config.json`.
    fn load(json: &Value) -> Result<BertConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), json.to_string()).unwrap();
        let shown = dir.path().display().to_string();
        Bert::configure(&ModelDir::new(dir.path())).map_err(|error| error.to_string().replace(&shown, ""))
    }

    fn refused(key: &str, value: Value) -> String {
        let mut json = mini();
        json[key] = value;
        load(&json).unwrap_err()
    }

    #[test]
    fn a_config_alone_means_mean_pooling_and_the_usual_defaults() {
        let config = load(&mini()).unwrap();
        assert_eq!((config.hidden, config.heads, config.token_types), (384, 12, 2));
        assert_eq!((config.task, config.layer_norm_epsilon), (Task::Embedding(Pooling::Mean), 1e-12));
    }

    #[test]
    fn a_classifier_has_as_many_labels_as_it_says() {
        let task = |labels: Value| {
            let mut json = mini();
            json["architectures"] = json!(["BertForSequenceClassification"]);
            json.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
            load(&json).map(|config| config.task)
        };
        assert_eq!(task(json!({ "num_labels": 1 })), Ok(Task::Classification { labels: 1 }));
        assert_eq!(
            task(json!({ "id2label": { "0": "a", "1": "b", "2": "c" } })),
            Ok(Task::Classification { labels: 3 })
        );
        // The default of Transformers.
        assert_eq!(task(json!({})), Ok(Task::Classification { labels: 2 }));
        assert!(task(json!({ "num_labels": 0 })).unwrap_err().contains("expected 1 to 65536"));
        assert!(refused("architectures", json!(["BertForTokenClassification"])).contains("BertForTokenClassification"));
    }

    #[test]
    fn a_model_that_would_run_approximately_is_refused_by_name() {
        assert_eq!(refused("hidden_act", json!("relu")), "`hidden_act` in `/config.json` is relu, expected `gelu`");
        assert!(refused("position_embedding_type", json!("relative_key")).contains("expected `absolute`"));
    }

    #[test]
    fn absurd_sizes_are_refused_before_anything_is_allocated() {
        assert_eq!(
            refused("hidden_size", json!(1_u64 << 60)),
            "`hidden_size` in `/config.json` is 1152921504606846976, expected 1 to 16384"
        );
        assert!(refused("num_hidden_layers", json!(0)).contains("expected 1 to 256"));
        assert!(refused("num_attention_heads", json!(7)).contains("a divisor of the hidden size, 384"));
        assert!(refused("vocab_size", json!(-1)).contains("is not what it should be"));
        assert!(refused("layer_norm_eps", json!(0.0)).contains("1e-20 to 1e-2"));
    }
}
