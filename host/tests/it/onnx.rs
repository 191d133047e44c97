//! ONNX models as they are pulled, against what onnxruntime makes of the same inputs (`tests/data/onnx_reference.py`).

use std::f64::consts::TAU;

use bireme::wire::{Datatype, Signature, Tensor, TensorSpec};
use bireme::worker::onnx::OnnxModel;
use serde_json::{Value, json};

use crate::support::{self, real_model};
use crate::tiny_onnx::{INPUTS, Kinds};

const RATE: f64 = 16_000.0;
const CHUNK: usize = 512;
const CONTEXT: usize = 64;
const CHUNKS: usize = 40;

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(support::crate_dir("tests/data/onnx-reference.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// A second and a quarter of a voice that says vowels, as the script makes it.
pub(crate) fn speech() -> Vec<f32> {
    let mut phase = 0.0;
    let sample = |index: usize| {
        let t = index as f64 / RATE;
        let pitch = 120.0 + 15.0 * (TAU * 3.0 * t).sin();
        phase += pitch / RATE;
        let first = 500.0 + 250.0 * (TAU * 2.5 * t).sin();
        let second = 1500.0 + 500.0 * (TAU * 1.7 * t).sin();
        let loudness = (TAU * 2.0 * t).sin().max(0.0);
        let value: f64 = (1..=30)
            .map(|harmonic| {
                let frequency = f64::from(harmonic) * pitch;
                let near = (-((frequency - first) / 150.0).powi(2)).exp()
                    + 0.5 * (-((frequency - second) / 200.0).powi(2)).exp();
                (near + 0.02) * (TAU * f64::from(harmonic) * phase).sin()
            })
            .sum();
        ((6_000.0 * loudness * value).round() / 32_768.0) as f32
    };
    (0..CHUNK * CHUNKS).map(sample).collect()
}

fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    Tensor { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec(), data: data.into() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.datatype, Datatype::Fp32);
    tensor.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).map(|(actual, expected)| (actual - expected).abs()).fold(0.0, f32::max)
}

fn load(name: &str) -> Option<OnnxModel> {
    Some(OnnxModel::load(&real_model(name)?, 2).unwrap())
}

fn piece_of_sound(window: &[f32], state: &[f32]) -> Vec<Tensor> {
    let rate = Tensor {
        name: "sr".into(),
        datatype: Datatype::Int64,
        shape: vec![],
        data: 16_000i64.to_le_bytes().to_vec().into(),
    };
    vec![floats("input", &[1, (CONTEXT + CHUNK) as u64], window), floats("state", &[2, 1, 128], state), rate]
}

/// Says how likely each piece has speech, and the state at the end.
fn detect(model: &mut OnnxModel, sound: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut window, mut state) = (vec![0.0; CONTEXT], vec![0.0; 2 * 128]);
    let mut probabilities = Vec::new();
    for chunk in sound.chunks_exact(CHUNK) {
        window.extend_from_slice(chunk);
        let answer = model.infer(&[piece_of_sound(&window, &state)]).remove(0).unwrap();
        assert_eq!(answer.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["output", "stateN"]);
        probabilities.extend(values(&answer[0]));
        state = values(&answer[1]);
        window.drain(..CHUNK);
    }
    (probabilities, state)
}

#[test]
fn speech_is_found_where_another_engine_finds_it_alone_and_among_other_sounds() {
    let Some(mut model) = load("silero-vad") else { return };
    let reference = reference();
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.into(), datatype, shape: shape.to_vec() };
    let inputs = vec![
        spec("input", Datatype::Fp32, &[-1, -1]),
        spec("sr", Datatype::Int64, &[]),
        spec("state", Datatype::Fp32, &[2, -1, 128]),
    ];
    let outputs = vec![spec("output", Datatype::Fp32, &[-1, 1]), spec("stateN", Datatype::Fp32, &[2, -1, 128])];
    assert_eq!(model.signature(), Signature::Tensors { inputs, outputs });

    let (probabilities, state) = detect(&mut model, &speech());
    let off = difference(&probabilities, &numbers(&reference["silero"]["probabilities"]));
    let state_off = difference(&state, &numbers(&reference["silero"]["state"]));
    assert!(off < 1e-5 && state_off < 1e-4, "{off:e}, {state_off:e}");
    assert!(probabilities[7] > 0.9 && probabilities[14] < 0.1, "{probabilities:?}");
    check_together(&mut model, &speech());
}

/// Wants many sounds at once to be told as one by one.
fn check_together(model: &mut OnnxModel, sound: &[f32]) {
    let state: Vec<f32> = (0..256).map(|index| (index as f32 * 0.37).sin()).collect();
    let items: Vec<_> =
        (0..13).map(|index| piece_of_sound(&sound[index * 700..index * 700 + CONTEXT + CHUNK], &state)).collect();
    let singles: Vec<_> = items.iter().map(|item| infer_one(model, item)).collect();
    for _ in 0..2 {
        for (together, single) in model.infer(&items).into_iter().zip(&singles) {
            for (together, single) in together.unwrap().iter().zip(single) {
                assert_eq!((&together.name, &together.shape), (&single.name, &single.shape));
                let off = difference(&values(together), &values(single));
                assert!(off < 1e-5, "{off:e}");
            }
        }
    }
}

fn infer_one(model: &mut OnnxModel, item: &[Tensor]) -> Vec<Tensor> {
    model.infer(&[item.to_vec()]).remove(0).unwrap()
}

/// The first and the last 1,024 bytes without white space around them, padded with 256.
pub(crate) fn features(content: &[u8]) -> Vec<i32> {
    let content = content.trim_ascii();
    let first = &content[..content.len().min(1024)];
    let last = &content[content.len() - content.len().min(1024)..];
    let padding = |part: &[u8]| vec![256i32; 1024 - part.len()];
    let bytes = |part: &[u8]| part.iter().map(|byte| i32::from(*byte)).collect::<Vec<_>>();
    [bytes(first), padding(first), padding(last), bytes(last)].concat()
}

fn tensor(features: &[i32]) -> Tensor {
    let data = features.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    Tensor { name: "bytes".into(), datatype: Datatype::Int32, shape: vec![1, 2048], data: data.into() }
}

#[test]
fn files_are_told_apart_as_by_another_engine() {
    let Some(mut model) = load("magika") else { return };
    let reference = reference();
    let files = reference["magika"].as_array().unwrap();
    let items: Vec<_> = files
        .iter()
        .map(|file| {
            let content: Vec<u8> = serde_json::from_value(file["content"].clone()).unwrap();
            vec![tensor(&features(&content))]
        })
        .collect();
    // The first time proves whether items may share a run, the second uses what it showed.
    for _ in 0..2 {
        for (file, answer) in files.iter().zip(model.infer(&items)) {
            let (answer, expected) = (values(&answer.unwrap()[0]), numbers(&file["scores"]));
            let best = |scores: &[f32]| (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
            assert_eq!(Value::from(best(&answer)), file["index"], "{}", file["label"]);
            let off = difference(&answer, &expected);
            assert!(off < 1e-5, "{}: {off:e}", file["label"]);
        }
    }
}

#[test]
fn an_onnx_model_is_added_from_its_file_and_listed() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let graph = Kinds::new().onnx();
    let file = support::file(&files, "some.onnx", &graph);
    let run = |arguments: &[&str]| {
        let output = support::finish(support::command(data.path(), arguments));
        assert_eq!(output.status, 0, "{output:#?}");
        output
    };
    let added = run(&["--json", "models", "add", "kinds", &file]).json();
    assert_eq!((&added["installed"]["kind"], &added["installed"]["bytes"]), (&json!("onnx"), &json!(graph.len())));
    assert_eq!(added["installed"].get("dimension"), None);
    assert_eq!(run(&["--json", "models"]).json()["installed"], json!([added["installed"]]));
    let table = run(&["models"]).stdout;
    assert!(
        table
            .lines()
            .any(|line| line.trim_start().starts_with("kinds") && line.trim_end().ends_with("ONNX, named tensors")),
        "{table}"
    );

    let output = support::finish(support::command(data.path(), &["embed", "kinds", "text"]));
    assert!(output.stderr.contains("takes named tensors, not texts"), "{output:#?}");
}

#[test]
fn infer_takes_tensors_from_flags_a_file_and_standard_input() {
    let data = support::fresh_data();
    let (kinds, graph) = (Kinds::new(), data.path().join("kinds.onnx"));
    std::fs::write(&graph, kinds.onnx()).unwrap();
    let run = |arguments: &[&str]| support::finish(support::command(data.path(), arguments));
    assert_eq!(run(&["models", "add", "kinds", graph.to_str().unwrap()]).status, 0);

    let check = |output: &support::Output, features: &[i32]| {
        assert_eq!(output.status, 0, "{output:#?}");
        let outputs = &output.json()["outputs"][0];
        assert_eq!((&outputs["name"], &outputs["shape"]), (&json!("scores"), &json!([1, 5])));
        let scores = numbers(&outputs["data"]);
        for (score, expected) in scores.iter().zip(kinds.scores(features)) {
            assert!((f64::from(*score) - expected).abs() < 1e-5, "{score} is not {expected}");
        }
    };
    let length = INPUTS;
    check(&run(&["--json", "infer", "kinds", "--tensor", "bytes=7"]), &vec![7; length]);
    let features: Vec<i32> = (0..length as i32).collect();
    let raw = data.path().join("raw");
    std::fs::write(&raw, features.iter().flat_map(|feature| feature.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    check(&run(&["--json", "infer", "kinds", "--tensor", &format!("bytes=@{}", raw.display())]), &features);
    let tensor = json!({ "name": "bytes", "datatype": "INT32", "shape": [1, length], "data": features });
    let request = json!({ "inputs": [tensor] }).to_string();
    let command = support::command(data.path(), &["--json", "infer", "kinds"]);
    check(&support::finish_with(command, &request), &features);
    std::fs::write(&raw, &request).unwrap();
    check(&run(&["--json", "infer", "kinds", "--file", raw.to_str().unwrap()]), &features);

    let table = run(&["infer", "kinds", "--tensor", "bytes=7"]);
    assert!(table.stdout.starts_with("scores  FP32 [1, 5]  ["), "{table:#?}");
    let misnamed = run(&["infer", "kinds", "--tensor", "byte=7"]);
    assert!(misnamed.stderr.contains("has no input `byte`") && misnamed.stderr.contains("`bytes`?"), "{misnamed:#?}");
    let unknown = run(&["infer", "silero-vda", "--tensor", "x=1"]);
    assert_eq!(unknown.status, 4, "{unknown:#?}");
    assert!(unknown.stderr.contains("did you mean `silero-vad`?"), "{unknown:#?}");
    let encoder = support::bireme(&["infer", support::MODEL, "--tensor", "x=1"]);
    assert!(encoder.stderr.contains(&format!("use `bireme embed {}`", support::MODEL)), "{encoder:#?}");
}
