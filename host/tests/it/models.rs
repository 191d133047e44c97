//! Models and their vectors through the binary: the command line, a guest, a server.

use serde_json::{Value, json};

use crate::support::{self, Guest, MODEL, Server, bireme, finish, function, shared_data};
use crate::tiny::{self, HIDDEN, POSITIONS};

/// Texts that the command line and a guest may be given: one is empty, one begins with a dash, one is cut.
fn texts() -> Vec<String> {
    let whole = ["the sea is calm", "", "- calm sea", "a rose", "an unheard word", "wave"].map(str::to_owned);
    whole.into_iter().chain(["sea storm ".repeat(POSITIONS)]).collect()
}

fn vector(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap_or_else(|| panic!("no vector: {value}"));
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

#[track_caller]
fn check(actual: &Value, text: &str) {
    let (actual, expected) = (vector(actual), tiny::vector(text));
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 1e-5, "{text}: {actual} is not {expected}");
    }
}

#[test]
fn embed_gives_one_vector_for_each_text() {
    let texts = texts();
    let mut arguments = vec!["--json", "embed", MODEL, "--"];
    arguments.extend(texts.iter().map(String::as_str));
    let output = bireme(&arguments);
    assert_eq!(output.status, 0, "{output:#?}");
    let output = output.json();
    let embeddings = output["embeddings"].as_array().unwrap();
    assert_eq!(embeddings.len(), texts.len());
    embeddings.iter().zip(&texts).for_each(|(embedding, text)| check(embedding, text));
}

#[test]
fn embed_prints_a_vector_a_line() {
    let output = bireme(&["embed", MODEL, "a calm sea", "storm"]);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{output:#?}");
    check(&lines[0], "a calm sea");
    check(&lines[1], "storm");
}

#[test]
fn a_guest_gets_the_same_vectors_and_its_receipt_counts_them() {
    let texts = texts();
    let server = Server::start(&[Guest::DocsSearch, Guest::Hostile]);
    let reply = server.post("/docs-search/embed", &json!({ "texts": texts }).to_string());
    assert_eq!(reply.status, 200, "{reply:#?}");
    let vectors = reply.json();
    assert_eq!(vectors.as_array().unwrap().len(), texts.len());
    vectors.as_array().unwrap().iter().zip(&texts).for_each(|(vector, text)| check(vector, text));
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    let inference = &receipt["inference"];
    assert_eq!(inference["requests"], 1);
    assert_eq!(inference["device"], "cpu");
    assert_eq!(inference["batch_rows"], texts.len());

    let reply = server.post("/hostile/embed_it", &json!({ "text": texts[0] }).to_string());
    check(&reply.json(), &texts[0]);
}

#[test]
fn a_model_that_was_not_declared_is_refused() {
    let output = bireme(&["run", &function(Guest::Hostile, "embed_undeclared"), "--text", "x"]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("error[terminal]"), "{output:#?}");
    assert!(output.stderr.contains("add `models = [\"all-minilm-l6-v2\"]` to its `#[function]`"), "{output:#?}");
}

#[test]
fn a_missing_model_exits_with_4_and_says_how_to_get_it() {
    let output = bireme(&["embed", "nothing", "text"]);
    assert_eq!(output.status, 4);
    let expected = "error[unknown-model]: no model `nothing` is installed; `bireme models` lists those";
    assert!(output.stderr.starts_with(expected), "{}", output.stderr);

    // The same for a function that declares a model, with nothing installed.
    let data = tempfile::tempdir().unwrap();
    let target = function(Guest::Hostile, "embed_it");
    let output = finish(support::command(data.path(), &["run", &target, "--text", "x"]));
    assert_eq!(output.status, 1, "{output:#?}");
    assert!(output.stderr.contains("bireme models pull all-minilm-l6-v2"), "{output:#?}");
}

#[test]
fn a_model_is_added_listed_used_and_removed() {
    let (files, data) = (shared_data().join("models").join(MODEL), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| {
        let output = finish(support::command(data.path(), arguments));
        assert_eq!(output.status, 0, "{output:#?}");
        output.json()
    };
    let before = run(&["--json", "models"]);
    assert_eq!(before["installed"], json!([]));
    assert_eq!(before["available"][0]["name"], MODEL);
    let available = run(&["--json", "models", "available"]);
    let model = json!({ "name": MODEL, "task": "embed", "license": "Apache-2.0", "installed": false });
    for (key, value) in model.as_object().unwrap() {
        assert_eq!(&available["models"][0][key], value);
    }

    let added = run(&["--json", "models", "add", "mine", files.to_str().unwrap()]);
    assert_eq!(added["installed"]["name"], "mine");
    assert_eq!(added["installed"]["dimension"], HIDDEN);
    let listed = run(&["--json", "models", "list"]);
    assert_eq!(listed["installed"], json!([added["installed"]]));
    check(&run(&["--json", "embed", "mine", "a calm sea"])["embeddings"][0], "a calm sea");

    assert_eq!(run(&["--json", "models", "rm", "mine"]), json!({ "removed": "mine" }));
    assert_eq!(run(&["--json", "models"])["installed"], json!([]));
    let output = finish(support::command(data.path(), &["models", "rm", "mine"]));
    assert_eq!(output.status, 4, "{output:#?}");

    // For people, a table; a name that is near is suggested.
    let output = finish(support::command(data.path(), &["models", "available"]));
    assert!(output.stdout.starts_with("NAME ") && output.stdout.contains("silero-vad"), "{output:#?}");
    let output = finish(support::command(data.path(), &["models", "pull", "silero-vda"]));
    assert!(output.stderr.contains("did you mean `silero-vad`?"), "{output:#?}");
}
