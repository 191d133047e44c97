//! Turns packed token ids into one vector a text, with a BERT-family model.
//!
//! Not here: text (`inference::tokenizer`), which requests share a batch (`inference::batcher`), the process around it.
//!
//! Invariants: a text's vector does not depend on the texts beside it, their order, or the number of threads; a batch that
//! is refused leaves the encoder as it was; a vector is finite and has length 1.
//!
//! Limits: scratch for at most 2 · [`GROUP_TOKENS`] tokens a thread, kept between runs: some 15 KiB a token for MiniLM.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bireme_kernels::cpu::{Team, Threads, ThreadsError};
use bireme_kernels::{Sequences, ShapeError};

use super::config::{ConfigError, ModelConfig};
use super::model::{Model, Scratch};
use super::weights::{Weights, WeightsError};

/// A loaded model, ready to run.
pub struct Encoder {
    model: Model,
    threads: Threads,
    /// One for each thread.
    scratches: Vec<Mutex<Scratch>>,
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
}

/// A batch cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The batch is wrong; another one may be right.
    #[error("the batch does not fit the model")]
    Batch(#[from] ShapeError),
    /// The model is wrong: no text makes sound weights overflow.
    #[error("the vector of sequence {sequence} is not finite")]
    NotFinite { sequence: usize },
}

/// The tokens that one thread takes through all layers at once. Fewer read the weights too often, more leave the caches.
const GROUP_TOKENS: usize = 256;

impl Encoder {
    /// Loads the model in `dir`, to run on so many threads.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, LoadError> {
        let threads = Threads::new(threads)?;
        let config = ModelConfig::load(dir)?;
        let mut weights = Weights::open(&dir.join("model.safetensors"))?;
        let model = Model::load(&config, &mut weights)?;
        let scratches = (0..threads.count()).map(|_| Mutex::default()).collect();
        Ok(Self { model, threads, scratches })
    }

    /// The values in a vector.
    pub fn dimension(&self) -> usize {
        self.model.embedding.width()
    }

    /// The most tokens in a text.
    pub fn max_positions(&self) -> usize {
        self.model.embedding.positions()
    }

    /// The number of threads it runs on.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Replaces `out` by `[texts, dimension]`: text `i` has the ids from `cu_seqlens[i]` to `cu_seqlens[i + 1]`.
    ///
    /// Blocks for as long as the arithmetic takes: some 100 µs a token and thread for MiniLM.
    pub fn run(&mut self, ids: &[u32], cu_seqlens: &[u32], out: &mut Vec<f32>) -> Result<(), RunError> {
        let sequences = Sequences::new(cu_seqlens)?;
        self.model.embedding.check(ids, sequences)?;
        let dimension = self.dimension();
        out.clear();
        out.resize(sequences.len() * dimension, 0.0);

        let groups = groups(sequences);
        let Self { model, threads, scratches } = self;
        if threads.count() == 1 || groups.len() >= 2 * threads.count() {
            run_groups(model, threads, scratches, groups, ids, cu_seqlens, out)?;
        } else {
            // Too few groups to keep the threads busy: they share each step instead.
            let scratch = scratches[0].get_mut().unwrap_or_else(PoisonError::into_inner);
            if ids.len() * model.token_flop < Team::SHARE_FLOP_MIN {
                model.run(ids, sequences, out, scratch, Team::ALONE)?;
            } else {
                threads.install(|team| model.run(ids, sequences, out, scratch, team))?;
            }
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(RunError::NotFinite { sequence: index / dimension }),
        }
    }
}

/// Without the weights, which are millions of numbers.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("dimension", &self.dimension())
            .field("max_positions", &self.max_positions())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// Cuts a batch between sequences into runs of about [`GROUP_TOKENS`] tokens.
fn groups(sequences: Sequences<'_>) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, range) in sequences.ranges().enumerate() {
        if index > first && tokens + range.len() > GROUP_TOKENS {
            groups.push(first..index);
            (first, tokens) = (index, 0);
        }
        tokens += range.len();
    }
    if first < sequences.len() {
        groups.push(first..sequences.len());
    }
    groups
}

/// Takes each group through all layers on one thread: no thread waits for another before the end.
fn run_groups(
    model: &Model,
    threads: &Threads,
    scratches: &[Mutex<Scratch>],
    groups: Vec<Range<usize>>,
    ids: &[u32],
    cu_seqlens: &[u32],
    out: &mut [f32],
) -> Result<(), RunError> {
    let dimension = model.embedding.width();
    let mut rest = out;
    let jobs: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(group.len() * dimension);
            rest = after;
            (group, out)
        })
        .collect();
    let jobs = Mutex::new(jobs.into_iter());
    let failure = Mutex::new(None);
    threads.install(|team| {
        team.for_each(scratches.len(), |index| {
            let mut scratch = scratches[index].lock().unwrap_or_else(PoisonError::into_inner);
            let mut offsets = Vec::new();
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((group, out)) = job else { break };
                let start = cu_seqlens[group.start];
                offsets.clear();
                offsets.extend(cu_seqlens[group.start..=group.end].iter().map(|offset| offset - start));
                let ids = &ids[start as usize..cu_seqlens[group.end] as usize];
                let result = Sequences::new(&offsets)
                    .and_then(|sequences| model.run(ids, sequences, out, &mut scratch, Team::ALONE));
                if let Err(error) = result {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        });
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    const VOCABULARY: usize = 50;
    const HIDDEN: usize = 32;
    const HEADS: usize = 2;
    const INTERMEDIATE: usize = 72;
    const POSITIONS: usize = 40;
    const LAYERS: usize = 2;

    /// The tensors of a small random model, by name without a prefix.
    struct Tiny(HashMap<String, (Vec<usize>, Vec<f32>)>);

    impl Tiny {
        fn new() -> Self {
            let mut tiny = Self(HashMap::new());
            tiny.add("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN]);
            tiny.add("embeddings.position_embeddings.weight", &[POSITIONS, HIDDEN]);
            tiny.add("embeddings.token_type_embeddings.weight", &[2, HIDDEN]);
            tiny.add_pair("embeddings.LayerNorm", &[HIDDEN]);
            for layer in 0..LAYERS {
                let name = |part: &str| format!("encoder.layer.{layer}.{part}");
                for part in
                    ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
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

        fn add_pair(&mut self, name: &str, shape: &[usize]) {
            self.add(&format!("{name}.weight"), shape);
            self.add(&format!("{name}.bias"), &shape[..1]);
        }

        /// Adds a tensor of values between -0.5 and 0.5 that its name decides.
        fn add(&mut self, name: &str, shape: &[usize]) {
            let mut state =
                name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into())) | 1;
            let mut value = || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let values = (0..shape.iter().product()).map(|_| value()).collect();
            self.0.insert(name.to_owned(), (shape.to_vec(), values));
        }

        fn write(&self, dir: &Path, prefix: &str) {
            let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = self
                .0
                .iter()
                .map(|(name, (shape, values))| {
                    (
                        format!("{prefix}{name}"),
                        shape.clone(),
                        values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                    )
                })
                .collect();
            let views = bytes
                .iter()
                .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
            fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
            let config = serde_json::json!({
                "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS, "intermediate_size": INTERMEDIATE, "max_position_embeddings": POSITIONS,
            });
            fs::write(dir.join("config.json"), config.to_string()).unwrap();
        }

        fn load(&self, prefix: &str, threads: usize) -> Result<Encoder, LoadError> {
            let dir = tempfile::tempdir().unwrap();
            self.write(dir.path(), prefix);
            Encoder::load(dir.path(), threads)
        }

        fn values(&self, name: &str) -> Vec<f64> {
            self.0[name].1.iter().map(|&value| value.into()).collect()
        }

        /// One text's vector, computed in the plainest way.
        fn forward(&self, ids: &[u32]) -> Vec<f64> {
            let (words, positions) = (
                self.values("embeddings.word_embeddings.weight"),
                self.values("embeddings.position_embeddings.weight"),
            );
            let types = self.values("embeddings.token_type_embeddings.weight");
            let sum = |row: usize, column: usize| {
                words[ids[row] as usize * HIDDEN + column] + positions[row * HIDDEN + column] + types[column]
            };
            let mut rows = (0..ids.len()).map(|row| (0..HIDDEN).map(|column| sum(row, column)).collect()).collect();
            self.norm(&mut rows, "embeddings.LayerNorm");
            for layer in 0..LAYERS {
                let name = |part: &str| format!("encoder.layer.{layer}.{part}");
                let [q, k, v] =
                    ["query", "key", "value"].map(|part| self.linear(&rows, &name(&format!("attention.self.{part}"))));
                let mut context = vec![vec![0.0; HIDDEN]; ids.len()];
                for head in 0..HEADS {
                    let columns = head * HIDDEN / HEADS..(head + 1) * HIDDEN / HEADS;
                    for (query, context) in q.iter().zip(&mut context) {
                        let dot =
                            |key: &Vec<f64>| columns.clone().map(|column| query[column] * key[column]).sum::<f64>();
                        let weights: Vec<f64> = k.iter().map(|key| (dot(key) / 4.0).exp()).collect();
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
            let sum: Vec<f64> = (0..HIDDEN).map(|column| rows.iter().map(|row| row[column]).sum()).collect();
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            sum.iter().map(|value| value / length).collect()
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

    /// Texts of these lengths with mixed ids.
    fn batch(lengths: &[usize]) -> (Vec<u32>, Vec<u32>) {
        let mut cu_seqlens = vec![0];
        for &length in lengths {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length as u32);
        }
        ((0..cu_seqlens[lengths.len()]).map(|index| index * 17 % VOCABULARY as u32).collect(), cu_seqlens)
    }

    fn texts<'a>(ids: &'a [u32], cu_seqlens: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
        cu_seqlens.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize])
    }

    /// Runs these lengths and compares each vector with the plain forward pass.
    fn check(encoder: &mut Encoder, lengths: &[usize]) {
        let (ids, cu_seqlens) = batch(lengths);
        let mut vectors = vec![f32::NAN; 3];
        encoder.run(&ids, &cu_seqlens, &mut vectors).unwrap();
        assert_eq!(vectors.len(), lengths.len() * HIDDEN);
        let tiny = Tiny::new();
        for (ids, vector) in texts(&ids, &cu_seqlens).zip(vectors.chunks(HIDDEN)) {
            for (actual, expected) in vector.iter().zip(tiny.forward(ids)) {
                assert!((f64::from(*actual) - expected).abs() < 1e-5, "{ids:?}: {actual} is not {expected}");
            }
        }
    }

    #[test]
    fn vectors_equal_the_plain_forward_pass() {
        for threads in [1, 3] {
            let mut encoder = Tiny::new().load("bert.", threads).unwrap();
            check(&mut encoder, &[1, POSITIONS, 7, 12, 13]);
            check(&mut encoder, &[]);
            // Enough work to share between threads, in one group.
            check(&mut encoder, &[POSITIONS; 5]);
            check(&mut encoder, &[3]);
        }
    }

    #[test]
    fn many_groups_on_many_threads_keep_their_order() {
        let lengths: Vec<usize> = (0..200).map(|index| index * 7 % POSITIONS + 1).collect();
        check(&mut Tiny::new().load("", 3).unwrap(), &lengths);
    }

    #[test]
    fn groups_are_cut_between_texts() {
        let (_, cu_seqlens) = batch(&[200, 56, 1, 300, 255, 2]);
        assert_eq!(groups(Sequences::new(&cu_seqlens).unwrap()), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert!(groups(Sequences::new(&[0]).unwrap()).is_empty());
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_and_the_next_one_runs() {
        let mut encoder = Tiny::new().load("", 1).unwrap();
        assert_eq!((encoder.dimension(), encoder.max_positions(), encoder.threads()), (HIDDEN, POSITIONS, 1));
        let mut refused = |ids: &[u32], cu_seqlens: &[u32]| match encoder.run(ids, cu_seqlens, &mut Vec::new()) {
            Err(RunError::Batch(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&[1, 50], &[0, 2]), "token 1 has id 50, over the last id of a vocabulary of 50");
        assert_eq!(refused(&[1; 41], &[0, 41]), "sequence 0 has 41 tokens, over the limit of 40");
        assert_eq!(refused(&[1; 4], &[0, 2, 2, 4]), "sequence 1 runs from 2 to 2, expected at least one token");
        assert_eq!(refused(&[1; 4], &[0, 3]), "`ids` holds 4 values, expected 3");
        assert_eq!(refused(&[1; 4], &[]), "`cu_seqlens` starts with None, expected 0");
        check(&mut encoder, &[5]);
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let mut tiny = Tiny::new();
        tiny.0.remove("encoder.layer.1.output.dense.bias");
        let error = tiny.load("bert.", 1).unwrap_err();
        assert!(
            error.to_string().starts_with("tensor `bert.encoder.layer.1.output.dense.bias` is missing in"),
            "{error}"
        );
        tiny.add("encoder.layer.1.output.dense.bias", &[HIDDEN + 1]);
        let error = tiny.load("", 1).unwrap_err();
        assert!(error.to_string().ends_with("has shape [33], expected [32]"), "{error}");
    }

    #[test]
    fn weights_that_overflow_give_an_error_and_not_a_vector() {
        let mut tiny = Tiny::new();
        let (_, values) = tiny.0.get_mut("encoder.layer.0.output.dense.weight").unwrap();
        values.fill(3e38);
        let mut encoder = tiny.load("", 1).unwrap();
        let error = encoder.run(&[1, 2, 3], &[0, 1, 3], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, RunError::NotFinite { sequence: 0 }), "{error}");
    }
}
