//! The second family, for the tests: the mean of a text's projected words, by a model that counts its steps.
//!
//! It has a description, tensor names and a network of its own, and state that one batch leaves for the next. Only the
//! registry names it.

use std::path::Path;

use bireme_kernels::Vocabulary;
use bireme_kernels::cpu::{Activation, Pooling};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use super::super::error::{LoadError, RunError};
use super::super::family::{Family, LoadedModel, ModelOutput};
use super::super::model_dir::{CONFIG, ConfigError, ModelDir};
use super::super::models::Worker;
use super::super::ops::{Executor, Network, Ops, Steps, TokenBatch};
use super::super::weights::Weights;
use super::WEIGHTS;
use crate::wire::{Frame, ModelId, Signature};

pub(super) struct WordMean;

#[derive(Deserialize)]
pub(super) struct WordMeanConfig {
    words: usize,
    width: usize,
    length_max: usize,
}

/// One layer: rows of a table, normalised, and a square product.
pub(super) struct WordMeanNetwork<O: Ops> {
    embedding: O::Embedding,
    projection: O::Linear,
    vocabulary: Vocabulary,
    width: usize,
}

/// Its result is the mean and, behind it, the steps before this one.
struct WordMeanModel {
    executor: Box<dyn Executor>,
    vocabulary: Vocabulary,
    width: usize,
    memory_bytes: u64,
    steps: u32,
}

impl Family for WordMean {
    const MODEL_TYPES: &'static [&'static str] = &["word-mean"];

    type Config = WordMeanConfig;
    type Network<O: Ops> = WordMeanNetwork<O>;

    fn configure(dir: &ModelDir) -> Result<WordMeanConfig, ConfigError> {
        let config: WordMeanConfig = dir.json(CONFIG)?;
        match config.width {
            0 => Err(dir.unsupported(CONFIG, "width", config.width, "at least 1")),
            _ => Ok(config),
        }
    }

    fn network<O: Ops>(config: &WordMeanConfig, weights: &mut Weights, ops: &O) -> Result<Self::Network<O>, LoadError> {
        let &WordMeanConfig { words, width, length_max } = config;
        let norm = ops.layer_norm(vec![1.0; width], vec![0.0; width], 1e-12).map_err(Into::into)?;
        let (positions, types) = (vec![0.0; length_max * width], vec![0.0; width]);
        let table = weights.tensor("table", &[words, width])?;
        let embedding = ops.embedding(table, &positions, &types, norm).map_err(Into::into)?;
        let weight = weights.tensor("projection", &[width, width])?;
        let projection = ops.linear(&weight, vec![0.0; width], width, Activation::Identity).map_err(Into::into)?;
        let vocabulary = Vocabulary { words, positions: length_max, types: 1 };
        Ok(WordMeanNetwork { embedding, projection, vocabulary, width })
    }

    fn model(
        config: &WordMeanConfig,
        weights: &Weights,
        executor: Box<dyn Executor>,
    ) -> Result<Box<dyn LoadedModel>, LoadError> {
        let &WordMeanConfig { words, width, length_max } = config;
        let vocabulary = Vocabulary { words, positions: length_max, types: 1 };
        Ok(Box::new(WordMeanModel { executor, vocabulary, width, memory_bytes: weights.bytes(), steps: 0 }))
    }
}

impl<O: Ops> Network<O> for WordMeanNetwork<O> {
    fn widths(&self) -> Vec<usize> {
        vec![self.width; 2]
    }

    fn output_width(&self) -> usize {
        self.width
    }

    fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    fn token_flop(&self) -> usize {
        2 * self.width * self.width
    }

    fn forward(&self, steps: &mut impl Steps<O>, buffers: &mut [O::Buffer]) -> Result<(), O::Error> {
        let [rows, projected] = buffers else { unreachable!("an executor makes a buffer for each of `widths`") };
        steps.embed(&self.embedding, rows)?;
        steps.linear(&self.projection, rows, projected)?;
        steps.pool(Pooling::Mean, false, self.width, projected)
    }
}

impl LoadedModel for WordMeanModel {
    fn output(&self) -> ModelOutput {
        ModelOutput::Vector { dimension: self.width + 1 }
    }

    fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn step(&mut self, batch: TokenBatch<'_>, out: &mut Vec<f32>) -> Result<u64, RunError> {
        let mut means = vec![0.0; batch.sequences.len() * self.width];
        let nanoseconds = self.executor.run(batch, &mut means)?;
        out.clear();
        for mean in means.chunks(self.width) {
            out.extend_from_slice(mean);
            out.push(self.steps as f32);
        }
        self.steps += 1;
        Ok(nanoseconds)
    }
}

/// Writes a model of three words and two values: the projection doubles the first and drops the second.
fn write(dir: &Path) {
    let config = serde_json::json!({ "model_type": "word-mean", "words": 3, "width": 2, "length_max": 8 });
    std::fs::write(dir.join(CONFIG), config.to_string()).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (table, projection) = (bytes(&[5.0, 1.0, 1.0, 5.0, 3.0, 1.0]), bytes(&[2.0, 0.0, 0.0, 0.0]));
    let view = |shape: [usize; 2], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
    let tensors = [("table", view([3, 2], &table)), ("projection", view([2, 2], &projection))];
    std::fs::write(dir.join(WEIGHTS), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn load(worker: &mut Worker, model: ModelId, dir: &Path) {
    let path = dir.to_str().unwrap().to_owned();
    let loaded = Frame::Loaded {
        model,
        signature: Signature::Vector { dimension: 3 },
        memory: 4 * (6 + 4),
        device: "cpu".into(),
    };
    assert_eq!(worker.answer(Frame::Load { model, path }).unwrap(), loaded);
}

/// Runs a batch; returns the values of its answer, or the failure's message.
fn run(worker: &mut Worker, model: ModelId, cu_seqlens: &[u32], ids: &[u32]) -> Result<Vec<f32>, String> {
    let batch = Frame::Batch { model, cu_seqlens: cu_seqlens.to_vec(), first_segments: vec![], ids: ids.to_vec() };
    match worker.answer(batch).unwrap() {
        Frame::Vectors { values, dimension: 3, .. } => Ok(values),
        Frame::Failed { message, .. } => Err(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_family_that_only_the_registry_names_is_loaded_and_keeps_its_state_between_batches() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let mut worker = Worker::new(None);
    let (one, two) = (ModelId(1), ModelId(2));
    load(&mut worker, one, dir.path());
    load(&mut worker, two, dir.path());
    // A row of two values is normalised to 1 and -1; of the words 0 and 2 the first value is the larger one.
    assert_eq!(run(&mut worker, one, &[0, 1, 3], &[0, 1, 2]), Ok(vec![2.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    assert_eq!(run(&mut worker, one, &[0, 2], &[1, 1]), Ok(vec![-2.0, 0.0, 1.0]));
    // A batch that is refused is no step.
    let refused = run(&mut worker, one, &[0, 1], &[3]).unwrap_err();
    assert!(refused.starts_with("the batch does not fit the model"), "{refused}");
    assert_eq!(run(&mut worker, one, &[0, 3], &[0, 2, 0]), Ok(vec![2.0, 0.0, 2.0]));
    // Each model has its own.
    assert_eq!(run(&mut worker, two, &[0, 1], &[2]), Ok(vec![2.0, 0.0, 0.0]));
    worker.answer(Frame::Unload { model: one }).unwrap();
    load(&mut worker, one, dir.path());
    assert_eq!(run(&mut worker, one, &[0, 1], &[2]), Ok(vec![2.0, 0.0, 0.0]));
}
