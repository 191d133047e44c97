//! Files of small models: ONNX spelt as protobuf by hand, safetensors, the JSON of a tokenizer.

use anyhow::Result;
use serde_json::json;

use super::Put;
use crate::targets::models::SEPARATOR;

const FLOAT: u64 = 1;
const INT64: u64 = 7;

pub(super) fn write(put: &Put<'_>) -> Result<()> {
    put("onnx", "scores", &scores())?;
    put("onnx", "expand", &expand())?;
    for (name, dtype, size) in [("f32", "F32", 4), ("f16", "F16", 2), ("bf16", "BF16", 2)] {
        put("safetensors", name, &tensors(dtype, size))?;
    }
    put("safetensors", "empty", &[&2_u64.to_le_bytes()[..], b"{}"].concat())?;
    for (name, is_lower) in [("lower", true), ("cased", false)] {
        put("model_manifest", name, manifest(is_lower).as_bytes())?;
    }
    Ok(())
}

fn tensors(dtype: &str, size: usize) -> Vec<u8> {
    let header = json!({
        "__metadata__": { "format": "pt" },
        "a": { "dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * size] },
        "b": { "dtype": dtype, "shape": [2], "data_offsets": [6 * size, 8 * size] },
    });
    let header = header.to_string().into_bytes();
    // The bytes of a small number in each of the types.
    [&(header.len() as u64).to_le_bytes()[..], &header, &[0x11, 0x3c, 0x22, 0x3d].repeat(2 * size)].concat()
}

fn manifest(is_lower: bool) -> String {
    let words =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "short", "text", "##s", "with", ",", "\u{4e2d}", "\u{e4}"];
    let vocabulary: serde_json::Map<_, _> = (0..).zip(words).map(|(id, word)| (word.to_owned(), json!(id))).collect();
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
    };
    let piece = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let sequence = |id: &str, segment: u32| json!({ "Sequence": { "id": id, "type_id": segment } });
    let config = json!({
        "model_type": "bert", "max_position_embeddings": 40, "problem_type": "multi_label_classification",
        "id2label": { "0": "no", "1": "yes" },
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"), special(4, "[MASK]")],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": is_lower },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing", "single": [piece("[CLS]"), sequence("A", 0), piece("[SEP]")],
            "pair": [piece("[CLS]"), sequence("A", 0), piece("[SEP]"), sequence("B", 1), piece("[SEP]")],
            "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] } } },
        "decoder": null,
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary },
    });
    let serving = json!({ "keep": true, "max_batch_size": 8 });
    [config.to_string(), tokenizer.to_string(), serving.to_string()].join(SEPARATOR)
}

// Parts of an ONNX file: (field << 3 | wire type), then the value.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn message(field: u64, body: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(body.len() as u64), body].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

fn port(name: &str, datatype: u64, columns: u64) -> Vec<u8> {
    let shape = [message(1, &text(2, "batch")), message(1, &number(1, columns))].concat();
    let tensor = [number(1, datatype), message(2, &shape)].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    [&inputs, &*text(2, output), &text(3, output), &text(4, op), attributes].concat()
}

fn attribute(name: &str, value: u64) -> Vec<u8> {
    message(5, &[text(1, name), number(3, value), number(20, 2)].concat())
}

fn file(nodes: &[Vec<u8>], weights: &[u8], input: &[u8], output: &[u8]) -> Vec<u8> {
    let mut graph: Vec<u8> = nodes.iter().flat_map(|node| message(1, node)).collect();
    graph.extend(message(5, weights));
    graph.extend(message(11, input));
    graph.extend(message(12, output));
    [number(1, 8), message(7, &graph), message(8, &[text(1, ""), number(2, 15)].concat())].concat()
}

/// The softmax of a product with four weights.
fn scores() -> Vec<u8> {
    let nodes = [
        node("Cast", &["x"], "floats", &attribute("to", FLOAT)),
        node("MatMul", &["floats", "weights"], "products", &[]),
        node("Relu", &["products"], "positive", &[]),
        node("Softmax", &["positive"], "y", &attribute("axis", 1)),
    ];
    let raw: Vec<u8> = [0.5_f32, -0.5, 0.25, 1.0].iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let weights = [number(1, 2), number(1, 2), number(2, FLOAT), text(8, "weights"), message(9, &raw)].concat();
    file(&nodes, &weights, &port("x", INT64, 2), &port("y", FLOAT, 2))
}

/// An expansion to a constant shape.
fn expand() -> Vec<u8> {
    let nodes = [node("Expand", &["x", "shape"], "wide", &[]), node("Transpose", &["wide"], "y", &[])];
    let raw: Vec<u8> = [4_i64, 2].iter().flat_map(|length| length.to_le_bytes()).collect();
    let shape = [number(1, 2), number(2, INT64), text(8, "shape"), message(9, &raw)].concat();
    file(&nodes, &shape, &port("x", FLOAT, 2), &port("y", FLOAT, 4))
}
