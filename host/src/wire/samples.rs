//! A frame of each kind, for tests and for the fuzz targets.

use super::{Datatype, FailureKind, Frame, Manifest, ModelId, ServingSettings, Signature, Tensor, TensorSpec};
use crate::tokenizer::{AddedToken, Normalizer, Piece, Slot, Table};

/// Returns a frame of each kind.
pub fn frames() -> Vec<Frame> {
    let model = ModelId(1);
    let tensor = |name: &str, datatype, shape: &[u64], bytes| Tensor {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
        data: vec![7; bytes].into(),
    };
    let spec =
        |name: &str, shape: &[i64]| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec() };
    let tensors = Signature::Tensors {
        inputs: vec![spec("input", &[-1, 576]), spec("sr", &[])],
        outputs: vec![spec("output", &[-1, 1])],
    };
    let loaded = |signature, device: &str| Frame::Loaded { model, signature, memory: 1 << 33, device: device.into() };
    vec![
        Frame::Load { model, path: "models/ä".into() },
        loaded(Signature::Vector { dimension: 384 }, "cpu"),
        loaded(Signature::Scores { labels: 1 }, "cuda:1"),
        loaded(tensors, "cpu"),
        Frame::Unload { model },
        Frame::Unloaded { model, in_use: 1 << 40 },
        Frame::Batch { model, cu_seqlens: vec![0, 2, 3], first_segments: vec![], ids: vec![7, 8, 9] },
        Frame::Batch { model, cu_seqlens: vec![0, 2, 3], first_segments: vec![1, 1], ids: vec![7, 8, 9] },
        Frame::Vectors {
            model,
            rows: 2,
            dimension: 2,
            checksum: 9,
            device_ns: 1 << 40,
            values: vec![1.0, -2.0, 0.5, 3.0],
        },
        Frame::Infer {
            model,
            items: vec![vec![tensor("a", Datatype::Int64, &[1, 2], 16), tensor("b", Datatype::Bool, &[], 1)], vec![]],
        },
        Frame::Inferred {
            model,
            device_ns: 9,
            items: vec![Ok(vec![tensor("c", Datatype::Fp16, &[3], 6)]), Err("no".into()), Ok(vec![])],
        },
        Frame::Check,
        Frame::Checked { in_use: 3 },
        Frame::Failed { kind: FailureKind::BadBatch, message: "no".into() },
        Frame::Describe { path: "models/ä".into() },
        Frame::Described { manifest: Box::default() },
        Frame::Described { manifest: Box::new(manifest()) },
    ]
}

fn manifest() -> Manifest {
    let piece = |slot, segment| Piece { slot, segment };
    let added = AddedToken {
        id: 1,
        content: "[MASK]".into(),
        is_single_word: true,
        strips_left: false,
        strips_right: true,
        is_normalized: false,
        is_special: true,
    };
    let normalizer =
        Normalizer { cleans_text: true, splits_chinese: false, strips_accents: Some(true), lowers_case: true };
    let table = Table {
        vocabulary: vec![(0, "a".into()), (1, "ä".into())],
        added: vec![added],
        unknown: "a".into(),
        continuation: "##".into(),
        word_chars_max: 100,
        normalizer: Some(normalizer),
        single: vec![piece(Slot::Token(1), 0), piece(Slot::First, 0)],
        pair: vec![piece(Slot::First, 0), piece(Slot::Second, 1)],
        tokens_max: 512,
    };
    Manifest {
        tokenizer: Some(table),
        labels: [(0, "no".into()), (2, "yes".into())].into(),
        is_multi_label: true,
        serving: ServingSettings { keep: true, max_batch_size: Some(8), ..ServingSettings::default() },
    }
}
