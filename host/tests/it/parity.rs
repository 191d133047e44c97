//! A real model's vectors equal those of an independent engine, alone and in any company.
//!
//! The reference holds texts, token counts and vectors of all-MiniLM-L6-v2 from onnxruntime, to seven digits.

use std::path::Path;

use bireme::inference::tokenizer::{Overflow, Tokenizer};
use bireme::worker::encoder::Encoder;
use serde::Deserialize;

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

pub(crate) fn load() -> (Case, Encoder) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/minilm-reference.json");
    let Reference { items } = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let dir = crate::support::model_dir();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    assert_eq!(tokenizer.max_tokens(), 256);
    let ids = items.iter().map(|item| {
        let ids = tokenizer.encode(&item.text, Overflow::Truncate).unwrap();
        assert_eq!(ids.len(), item.tokens, "{}", item.text);
        ids
    });
    let ids = ids.collect();
    let expected = items.into_iter().map(|item| item.vector).collect();
    (Case { ids, expected }, Encoder::load(&dir, 2).unwrap())
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
fn vectors_equal_those_of_another_engine() {
    let (case, mut encoder) = load();
    for (index, expected) in case.expected.iter().enumerate() {
        let actual = &run(&case, &mut encoder, &[index])[0];
        assert!(cosine(actual, expected) >= 0.9999, "text {index}: {}", cosine(actual, expected));
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "text {index}: {actual} is not {expected}");
        }
    }
}

#[test]
fn a_text_has_the_same_vector_in_any_batch() {
    let (case, mut encoder) = load();
    let count = case.ids.len();
    let alone: Vec<Vec<f32>> = (0..count).flat_map(|index| run(&case, &mut encoder, &[index])).collect();
    let orders: [Vec<usize>; 4] = [
        (0..count).collect(),
        (0..count).rev().collect(),
        (0..count).map(|index| index * 10 % count).collect(),
        // Long enough that each thread takes texts of its own.
        (0..8 * count).map(|index| index * index % count).collect(),
    ];
    for order in orders {
        for (&index, vector) in order.iter().zip(run(&case, &mut encoder, &order)) {
            for (actual, expected) in vector.iter().zip(&alone[index]) {
                assert!(
                    (actual - expected).abs() < 1e-5,
                    "text {index} among {}: {actual} is not {expected}",
                    order.len()
                );
            }
        }
    }
}
