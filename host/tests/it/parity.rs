//! A real model's vectors equal those of an independent engine; `encoder` has the small model's, in any company.
//!
//! The reference holds texts, token counts and vectors of all-MiniLM-L6-v2 from onnxruntime, to seven digits.

use std::path::{Path, PathBuf};

use bireme::tokenizer::{Overflow, Tokenizer};
use bireme::worker::encoder::Encoder;
use serde::Deserialize;

use crate::support::{MODEL, real_model};

#[derive(Deserialize)]
struct Reference {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    text: String,
    tokens: usize,
    vector: Vec<f32>,
}

/// The reference's texts as the model sees them.
pub(crate) struct Case {
    pub(crate) ids: Vec<Vec<u32>>,
    pub(crate) expected: Vec<Vec<f32>>,
}

/// The reference's texts and the directory of the model; none where the model's own files are not there.
pub(crate) fn load() -> Option<(Case, PathBuf)> {
    let dir = real_model(MODEL)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/minilm-reference.json");
    let Reference { items } = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    assert_eq!(tokenizer.max_tokens(), 256);
    let ids = items.iter().map(|item| {
        let ids = tokenizer.encode(&item.text, Overflow::Truncate).unwrap();
        assert_eq!(ids.len(), item.tokens, "{}", item.text);
        ids
    });
    let ids = ids.collect();
    let expected = items.into_iter().map(|item| item.vector).collect();
    Some((Case { ids, expected }, dir))
}

/// Runs the texts of these indexes as one batch.
fn run(case: &Case, encoder: &mut Encoder, indexes: &[usize]) -> Vec<Vec<f32>> {
    let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0]);
    for &index in indexes {
        ids.extend_from_slice(&case.ids[index]);
        cu_seqlens.push(ids.len() as u32);
    }
    let mut out = Vec::new();
    encoder.run(&ids, &cu_seqlens, &mut out).unwrap();
    out.chunks_exact(encoder.dimension()).map(<[f32]>::to_vec).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_equal_those_of_another_engine_alone_and_together() {
    let Some((case, dir)) = load() else { return };
    let mut encoder = Encoder::load(&dir, 2).unwrap();
    let count = case.ids.len();
    let alone: Vec<Vec<f32>> = (0..count).flat_map(|index| run(&case, &mut encoder, &[index])).collect();
    let all: Vec<usize> = (0..count).collect();
    for vectors in [alone, run(&case, &mut encoder, &all)] {
        assert_eq!(vectors.len(), count);
        for (index, (actual, expected)) in vectors.iter().zip(&case.expected).enumerate() {
            assert!(cosine(actual, expected) >= 0.9999, "text {index}: {}", cosine(actual, expected));
            for (actual, expected) in actual.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-5, "text {index}: {actual} is not {expected}");
            }
        }
    }
}
