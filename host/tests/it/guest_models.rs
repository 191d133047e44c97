//! Models as guests use them: the SDK's `model`, and `wasi:nn` of a component that knows nothing of Bireme.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Guest, MODEL, Output, Server, bireme, command, data_with_model, data_without_models, finish, fresh_data, function,
    real_model, shared_data,
};
use crate::tiny::{self, HIDDEN, Tiny, ids};
use crate::tiny_onnx::Kinds;

/// Runs a function of the authored app.
fn run(data: &Path, name: &str, input: &Value) -> Output {
    let (target, input) = (function(Guest::Authored, name), input.to_string());
    finish(command(data, &["run", "--secret", "API_KEY=x", &target, &input]))
}

#[track_caller]
fn check_near(actual: &Value, expected: &Value) {
    let numbers = |value: &Value| -> Vec<f64> {
        let values = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let (actual, expected) = (numbers(actual), numbers(expected));
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 1e-5, "{actual} is not {expected}");
    }
}

/// A data directory with a small random model that has a head for so many labels.
fn data_with_classifier(name: &str, labels: usize) -> TempDir {
    let (data, files) = (data_without_models(), tempfile::tempdir().unwrap());
    Tiny::classifier(labels).install(files.path());
    let output = finish(command(data.path(), &["models", "add", name, files.path().to_str().unwrap()]));
    assert_eq!(output.status, 0, "{output:#?}");
    data
}

#[test]
fn a_text_that_is_too_long_is_cut_or_refused_as_the_function_says() {
    let long = "sea ".repeat(50);
    let cut = bireme(&["run", &function(Guest::Hostile, "embed_it"), "--text", &long]);
    assert_eq!(cut.status, 0, "{cut:#?}");
    check_near(&cut.json(), &json!(tiny::vector(&long)));
    let refused = run(shared_data(), "embed_whole", &json!({ "texts": ["short", long] }));
    assert_eq!(refused.status, 1, "{refused:#?}");
    assert!(refused.stderr.contains("error[terminal]"), "{refused:#?}");
    assert!(refused.stderr.contains("text 1 has 52 tokens, over the model's limit of 40"), "{refused:#?}");
}

#[test]
fn texts_as_a_tensor_come_back_as_their_vectors() {
    let texts = ["the sea", "a mast and a keel"];
    let inferred = run(shared_data(), "infer_texts", &json!({ "texts": texts })).json();
    assert_eq!(inferred[0], json!([2, HIDDEN]));
    check_near(&inferred[1], &json!(texts.map(tiny::vector).concat()));
    let vectors = run(shared_data(), "embed_whole", &json!({ "texts": texts })).json();
    texts.iter().enumerate().for_each(|(index, text)| check_near(&vectors[index], &json!(tiny::vector(text))));

    let refused = run(shared_data(), "infer_nonsense", &json!({}));
    assert!(refused.stderr.contains("error[terminal]") && refused.stderr.contains("nonsense"), "{refused:#?}");
}

#[test]
fn tokens_of_a_call_and_of_a_day_come_to_an_end() {
    // Three tokens each: the word and the two around it.
    let one_by_one = |texts: &[&str]| run(shared_data(), "embed_sparingly", &json!({ "texts": texts }));
    assert_eq!(one_by_one(&["sea", "mast"]).stdout.trim(), "2");
    let spent = one_by_one(&["sea", "mast", "keel"]);
    assert!(spent.stderr.contains("error[terminal]: text 2"), "{spent:#?}");
    let words = "function `authored::embed_sparingly` has used 6 tokens in this call, and its `tokens` are 5";
    assert!(spent.stderr.contains(words), "{spent:#?}");

    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::Authored], &["--secret", "API_KEY=x"]).unwrap();
    let replies = [(); 3].map(|()| server.post("/authored/embed_daily", r#"{"text":"sea"}"#));
    // Over midnight, a fourth call has what the third had not.
    let words = "`authored::embed_daily` has used 6 tokens today, and its `tokens_per_day` are 5; it has more from 2";
    let refused = replies.iter().filter(|reply| reply.body.contains(words)).count();
    let answered = replies.iter().filter(|reply| (reply.status, &*reply.body) == (200, "1")).count();
    assert!((answered, refused) == (2, 1) || answered == 3 && is_near_midnight(), "{replies:#?}");
}

/// Whether a day of UTC may have begun within the last minutes.
fn is_near_midnight() -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() % 86_400 < 600
}

#[test]
fn documents_are_ranked_by_their_scores() {
    let data = data_with_classifier("reranker", 1);
    let documents = ["calm sea", "storm", "oar mast keel", "sea"];
    let output = run(data.path(), "rank", &json!({ "query": "sea", "documents": documents }));
    assert_eq!(output.status, 0, "{output:#?}");
    let (scores, ranked) = (&output.json()[0], &output.json()[1]);
    // The plain arithmetic, over the pairs' tokens.
    let tiny = Tiny::classifier(1);
    let plain: Vec<f64> =
        documents.iter().map(|document| tiny.scores(&[&ids("sea"), &ids(document)[1..]].concat(), 3)[0]).collect();
    check_near(scores, &json!(plain));
    let mut order: Vec<usize> = (0..4).collect();
    order.sort_by(|&one, &other| plain[other].total_cmp(&plain[one]));
    let indexes: Vec<usize> =
        ranked.as_array().unwrap().iter().map(|ranked| ranked["index"].as_u64().unwrap() as usize).collect();
    assert_eq!(indexes, order);

    let none = run(data.path(), "classify", &json!({ "texts": ["sea"] }));
    assert!(none.stderr.contains("bireme models pull classifier"), "{none:#?}");
}

#[test]
fn each_text_has_a_score_for_each_label() {
    let data = data_with_classifier("classifier", 3);
    let output = run(data.path(), "classify", &json!({ "texts": ["calm sea", "storm"] }));
    assert_eq!(output.status, 0, "{output:#?}");
    let classes = output.json();
    assert_eq!(classes["labels"].as_array().unwrap().len(), 3);
    let tiny = Tiny::classifier(3);
    let plain: Vec<f64> = [ids("calm sea"), ids("storm")]
        .iter()
        .flat_map(|text| {
            let exponents: Vec<f64> = tiny.scores(text, text.len()).iter().map(|score| score.exp()).collect();
            let sum: f64 = exponents.iter().sum();
            exponents.into_iter().map(move |exponent| exponent / sum)
        })
        .collect();
    check_near(&classes["scores"], &json!(plain));
}

/// A server of the stock component, with a model granted.
fn nn() -> (tempfile::TempDir, Server) {
    let data = fresh_data();
    let grant = format!("model:{MODEL}");
    let server = Server::try_start(data.path(), &[Guest::StockNn], &["--grant", &grant]).unwrap();
    (data, server)
}

#[test]
fn a_component_for_wasi_nn_runs_a_granted_model_unchanged() {
    let (_data, server) = nn();
    let ids: Vec<String> = ids("a calm sea").iter().map(u32::to_string).collect();
    let reply = server.get(&format!("/stock_nn/embed/{MODEL}/{}", ids.join(",")));
    let body = reply.body.clone();
    let (head, values) = body.split_once('\n').unwrap();
    assert_eq!(head, format!("embedding [1, {HIDDEN}] TensorType::Fp32"), "{reply:#?}");
    check_near(&serde_json::from_str(values.trim()).unwrap(), &json!(tiny::vector("a calm sea")));
    assert_eq!(server.get(&format!("/stock_nn/named/{MODEL}")).body, format!("{MODEL} is there"));
    assert_eq!(server.get("/stock_nn/tensor").body, "kept: true");
}

#[test]
fn what_a_component_for_wasi_nn_may_not_do_is_told_by_its_own_errors() {
    let (_data, server) = nn();
    let told = |path: &str| server.get(&format!("/stock_nn/{path}")).body;
    let denied = told("named/another-model");
    assert_eq!(
        denied,
        "ErrorCode::Security: model `another-model` is not granted to `stock_nn`; add it to `models` in its bireme.toml, \
         or deploy it with `--grant model:another-model`"
    );
    assert!(told("bytes").starts_with("ErrorCode::UnsupportedOperation: this host takes no models from components"));
    let wrong = told(&format!("wrong/{MODEL}"));
    assert!(wrong.starts_with("ErrorCode::InvalidArgument:") && wrong.contains("nonsense"), "{wrong}");

    let misfit = told(&format!("misfit/{MODEL}"));
    assert!(misfit.starts_with("ErrorCode::InvalidArgument:") && misfit.contains("has 15 bytes, not 16"), "{misfit}");

    // Tensors are the function's memory for as long as it has them.
    assert_eq!(told("again"), "1000 MiB in turn");
    let hoard = server.get("/stock_nn/hoard");
    assert_eq!(hoard.json()["code"], "memory-limit", "{hoard:#?}");
    assert_eq!(told("tensor"), "kept: true");
}

#[test]
fn a_granted_model_that_is_not_installed_is_not_found() {
    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::StockNn], &["--grant", "model:nothing"]).unwrap();
    let told = server.get("/stock_nn/named/nothing").body;
    assert_eq!(
        told,
        "ErrorCode::NotFound: no model `nothing` is installed; `bireme models` lists those that can be pulled, \
         `bireme models add` takes your own"
    );
}

/// A WAV file of 16 kHz and 16 bits.
fn wav(samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| ((sample * 32_768.0) as i16).to_le_bytes()).collect();
    let bytes = data.len() as u32;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    wav.extend([1u16, 1].map(u16::to_le_bytes).concat());
    wav.extend([16_000u32, 32_000].map(u32::to_le_bytes).concat());
    wav.extend([2u16, 16].map(u16::to_le_bytes).concat());
    wav.extend(b"data");
    wav.extend(bytes.to_le_bytes());
    wav.extend(data);
    wav
}

#[test]
fn a_guest_finds_speech_where_another_engine_does() {
    let Some(model) = real_model("silero-vad") else { return };
    let data = data_with_model("silero-vad", &model);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recording.wav");
    std::fs::write(&file, wav(&crate::onnx::speech())).unwrap();
    let target = function(Guest::Speech, "speech");
    let ran = finish(command(data.path(), &["run", &target, &format!("@{}", file.display())]));
    assert_eq!(ran.status, 0, "{ran:?}");
    let spans: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    let spans: Vec<(f64, f64)> =
        spans.iter().map(|span| (span["from"].as_f64().unwrap(), span["to"].as_f64().unwrap())).collect();
    // Where onnxruntime's probabilities are over a half (`onnx-reference.json`), in pieces of 32 ms.
    assert_eq!(spans, [(0.032, 0.32), (0.512, 0.832), (1.024, 1.248)]);
}

#[test]
fn a_guest_tells_files_apart_by_a_graph_over_tensors() {
    let files = tempfile::tempdir().unwrap();
    let kinds = Kinds::new();
    fs::write(files.path().join("model.onnx"), kinds.onnx()).unwrap();
    let data = data_with_model("magika", files.path());
    let target = function(Guest::Authored, "tells_files");
    let mut found = Vec::new();
    for content in [
        &b"fn main() {}"[..],
        &b"  a bireme has two decks of oars\n".repeat(100),
        &b"fn main() {}\n".repeat(90),
        &[255, 0].repeat(2_000),
    ] {
        let path = data.path().join("file");
        fs::write(&path, content).unwrap();
        let ran =
            finish(command(data.path(), &["run", "--secret", "API_KEY=x", &target, &format!("@{}", path.display())]));
        assert_eq!(ran.status, 0, "{ran:?}");
        let (index, score): (usize, f64) = serde_json::from_str(&ran.stdout).unwrap();
        let scores = kinds.scores(&crate::onnx::features(content));
        assert!(scores.iter().all(|other| *other <= scores[index]), "{index} of {scores:?}");
        assert!((score - scores[index]).abs() < 1e-5, "{score} for {scores:?}");
        found.push(index);
    }
    found.dedup();
    assert!(found.len() > 1, "{found:?}");
}
