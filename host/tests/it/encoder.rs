//! The encoder on the CPU: a small model against the plainest arithmetic, and what it refuses.

use bireme::worker::encoder::{Encoder, RunError};

use crate::tiny::{HIDDEN, POSITIONS, Tiny, VOCABULARY};

/// Texts of these lengths with mixed ids.
pub(crate) fn batch(lengths: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let mut cu_seqlens = vec![0];
    for &length in lengths {
        cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length as u32);
    }
    ((0..cu_seqlens[lengths.len()]).map(|index| index * 17 % VOCABULARY as u32).collect(), cu_seqlens)
}

pub(crate) fn texts<'a>(ids: &'a [u32], cu_seqlens: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
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
fn a_text_has_the_same_vector_in_any_batch() {
    let count = POSITIONS;
    let text = |index: usize| (0..=index).map(move |token| ((index * 7 + token * 17) % VOCABULARY) as u32);
    let mut encoder = Tiny::new().load("", 2).unwrap();
    let mut run = |order: &[usize]| {
        let (mut ids, mut cu_seqlens, mut vectors) = (Vec::new(), vec![0], Vec::new());
        for &index in order {
            ids.extend(text(index));
            cu_seqlens.push(ids.len() as u32);
        }
        encoder.run(&ids, &cu_seqlens, &mut vectors).unwrap();
        vectors
    };
    let alone: Vec<Vec<f32>> = (0..count).map(|index| run(&[index])).collect();
    let orders: [Vec<usize>; 4] = [
        (0..count).collect(),
        (0..count).rev().collect(),
        (0..count).map(|index| index * 11 % count).collect(),
        // Long enough that each thread takes texts of its own.
        (0..8 * count).map(|index| index * index % count).collect(),
    ];
    for order in orders {
        for (&index, vector) in order.iter().zip(run(&order).chunks(HIDDEN)) {
            let is_same = vector.iter().zip(&alone[index]).all(|(actual, expected)| (actual - expected).abs() < 1e-5);
            assert!(is_same, "text {index} among {}: {vector:?} is not {:?}", order.len(), alone[index]);
        }
    }
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
    tiny.tensors.remove("encoder.layer.1.output.dense.bias");
    let error = tiny.load("bert.", 1).unwrap_err();
    assert!(error.to_string().starts_with("tensor `bert.encoder.layer.1.output.dense.bias` is missing in"), "{error}");
    tiny.add("encoder.layer.1.output.dense.bias", &[HIDDEN + 1]);
    let error = tiny.load("", 1).unwrap_err();
    assert!(error.to_string().ends_with("has shape [65], expected [64]"), "{error}");
}

#[test]
fn weights_that_overflow_give_an_error_and_not_a_vector() {
    let mut tiny = Tiny::new();
    let (_, values) = tiny.tensors.get_mut("encoder.layer.0.output.dense.weight").unwrap();
    values.fill(3e38);
    let mut encoder = tiny.load("", 1).unwrap();
    let error = encoder.run(&[1, 2, 3], &[0, 1, 3], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, RunError::NotFinite { sequence: 0 }), "{error}");
}

#[test]
fn a_classifier_scores_pairs_as_the_plain_forward_pass_does() {
    for labels in [1, 3] {
        let tiny = Tiny::classifier(labels);
        let mut encoder = tiny.load("bert.", 2).unwrap();
        assert!(encoder.is_classifier() && encoder.dimension() == labels);
        let (ids, cu_seqlens) = batch(&[5, POSITIONS, 1, 20]);
        let first_segments = [2, 30, 1, 0];
        let mut scores = Vec::new();
        encoder.run_pairs(&ids, &cu_seqlens, &first_segments, &mut scores).unwrap();
        assert_eq!(scores.len(), 4 * labels);
        for ((ids, first), scores) in texts(&ids, &cu_seqlens).zip(first_segments).zip(scores.chunks(labels)) {
            for (actual, expected) in scores.iter().zip(tiny.scores(ids, first as usize)) {
                assert!((f64::from(*actual) - expected).abs() < 1e-5, "{first} of {ids:?}: {actual}, not {expected}");
            }
        }
        // The segments are seen: the same text as one segment scores differently.
        let mut others = Vec::new();
        encoder.run(&ids, &cu_seqlens, &mut others).unwrap();
        assert!((scores[0] - others[0]).abs() > 1e-4);
    }
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    let mut encoder = Tiny::classifier(1).load("", 1).unwrap();
    let mut refused =
        |first_segments: &[u32]| encoder.run_pairs(&[1; 4], &[0, 4], first_segments, &mut Vec::new()).unwrap_err();
    let source = |error: RunError| std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source(refused(&[5])), "sequence 0 has 5 of its 4 tokens in its first segment");
    assert_eq!(source(refused(&[1, 1])), "`first_segments` holds 2 values, expected 1");
}

#[test]
fn a_classifier_without_its_head_is_named() {
    let mut tiny = Tiny::classifier(2);
    tiny.tensors.remove("classifier.weight");
    let error = tiny.load("bert.", 1).unwrap_err();
    assert!(error.to_string().starts_with("tensor `classifier.weight` is missing in"), "{error}");
}
