//! `/v1`: OpenAI's own client in Python, and what clients of other kinds send.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::python::python_with;
use crate::support::{
    self, MODEL, Reply, Server, bireme, crate_dir, data_with_model, data_without_models, finish, real_model,
};
use crate::tiny::{Tiny, words};

/// The client that is held against the host.
const CLIENT: &str = "openai==3.57.0";

#[test]
fn openais_own_client_gets_what_the_reference_has() {
    let Some(model) = real_model(MODEL) else { return };
    let Some(python) = python_with(CLIENT) else { return };
    let data = data_with_model(MODEL, &model);
    narrow(data.path(), &model);
    let server = Server::start_over(data.path(), &[]);
    let reference = crate_dir("tests/data/minilm-reference.json");
    // Tokens of the first texts, by the library itself.
    let tokenizer = tokenizers::Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    let items: Value = serde_json::from_slice(&fs::read(&reference).unwrap()).unwrap();
    let rows = items["items"].as_array().unwrap().iter().take(8).map(|item| {
        let encoding = tokenizer.encode(item["text"].as_str().unwrap(), true).unwrap();
        encoding.get_ids()[..encoding.get_attention_mask().iter().sum::<u32>() as usize].to_vec()
    });
    let dir = TempDir::new().unwrap();
    let tokens = support::file(&dir, "tokens.json", json!(rows.collect::<Vec<_>>()).to_string().as_bytes());

    let mut client = Command::new(python);
    client.arg(crate_dir("tests/py/openai_client.py"));
    client.arg(server.address.to_string()).arg(&reference).arg(MODEL).arg(tokens);
    let output = finish(client);
    assert_eq!(output.status, 0, "{output:#?}\n{}", server.stderr());
    assert!(output.stdout.contains("all well"), "{output:#?}");
}

/// Adds the model a second time, as `narrow`: a queue of its own that takes one text.
fn narrow(data: &Path, model: &Path) {
    let models = data.join("models");
    fs::create_dir(models.join("narrow")).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), models.join("narrow").join(entry.file_name())).unwrap();
    }
    fs::write(models.join("narrow/serving.json"), r#"{ "max_queue_size": 1 }"#).unwrap();
}

/// Wants an error as OpenAI has them.
#[track_caller]
fn check_error(reply: &Reply, status: u16, code: Value, words: &str) {
    assert_eq!(reply.status, status, "{reply:#?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().unwrap().contains(words), "no `{words}` in {error}");
    for key in ["type", "param"] {
        assert!(error.get(key).is_some(), "{error}");
    }
}

#[test]
fn what_is_no_request_is_refused_in_that_apis_words() {
    let server = Server::start(&[]);
    check_error(&server.post("/v1/embeddings", "{"), 400, Value::Null, "EOF");
    check_error(&server.post("/v1/embeddings", r#"{"model":"m"}"#), 400, Value::Null, "missing field `input`");
    check_error(&server.post("/v1/embeddings", r#"{"model":"m","input":"a"} x"#), 400, Value::Null, "behind the body");
    let reply = server.post("/v1/embeddings", r#"{"model":"m","input":["a",7]}"#);
    check_error(&reply, 400, Value::Null, "expected a string");
    assert_eq!(reply.json()["error"]["param"], "input[1]");
    let reply = server.post("/v1/embeddings", r#"{"model":"nothing","input":"a"}"#);
    check_error(&reply, 404, json!("model_not_found"), "`bireme models` lists those that can be pulled");
    check_error(&server.post("/v1/models", "{}"), 405, json!("method_not_allowed"), "GET, HEAD");
    check_error(&server.get("/v1/embeddings"), 405, json!("method_not_allowed"), "POST");
    check_error(&server.get("/v1/chat/completions"), 404, json!("unknown_url"), "/v1/embeddings");
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16777217\r\n\r\n";
    check_error(&server.exchange(head), 413, json!("input-too-large"), "16777216 bytes");
    // A page, of whatever site, has no business here.
    let page = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n\r\n";
    assert_eq!(server.exchange(page).status, 403);
}

#[test]
fn a_client_that_does_not_wait_is_told_so() {
    let server = Server::start(&[]);
    let body = format!(r#"{{"model":"{MODEL}","input":"a"}}"#);
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nx-stainless-read-timeout: 0\r\n";
    let reply = server.exchange(&format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
    check_error(&reply, 504, json!("timeout"), "deadline");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

/// A data directory with a small model of so many labels under the name `tiny`.
fn classifier(labels: usize, names: &Value) -> (TempDir, Tiny) {
    let data = data_without_models();
    let files = TempDir::new().unwrap();
    let tiny = Tiny::classifier(labels);
    tiny.install(files.path());
    let path = files.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["id2label"] = names.clone();
    fs::write(path, config.to_string()).unwrap();
    let added = finish(support::command(data.path(), &["models", "add", "tiny", files.path().to_str().unwrap()]));
    assert_eq!(added.status, 0, "{added:#?}");
    (data, tiny)
}

/// A question.
const QUERY: &[u32] = &[7, 8];

/// How well a text answers the question, in the plainest arithmetic.
fn score(tiny: &Tiny, text: &[u32]) -> f64 {
    let ids = [&[2], QUERY, &[3], text, &[3]].concat();
    1.0 / (1.0 + (-tiny.scores(&ids, 4)[0]).exp())
}

const TEXTS: [&[u32]; 3] = [&[9], &[10, 11, 12], &[49, 4]];

/// The places of the texts, the best first, and their scores.
fn expected(tiny: &Tiny) -> Vec<(usize, f64)> {
    let mut expected: Vec<_> = TEXTS.iter().map(|ids| score(tiny, ids)).enumerate().collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1));
    expected
}

#[track_caller]
fn check_results(results: &Value, key: &str, expected: &[(usize, f64)]) {
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), expected.len());
    for (result, (index, score)) in results.iter().zip(expected) {
        assert_eq!(result["index"], *index, "{results:?}");
        assert!((result[key].as_f64().unwrap() - score).abs() < 1e-4, "{result} is not {score}");
    }
}

#[test]
fn texts_are_ordered_by_how_well_they_answer() {
    let (data, tiny) = classifier(1, &Value::Null);
    let server = Server::start_over(data.path(), &[]);
    let expected = expected(&tiny);
    let documents = json!([words(TEXTS[0]), { "text": words(TEXTS[1]), "title": "x" }, words(TEXTS[2])]);
    let ask = |more: Value| {
        let mut body = json!({ "model": "tiny", "query": words(QUERY), "documents": documents, "user": "x" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/rerank", &body.to_string())
    };
    let reply = ask(json!({}));
    assert_eq!(reply.status, 200, "{reply:#?}");
    let answer = reply.json();
    check_results(&answer["results"], "relevance_score", &expected);
    assert_eq!(answer["results"][0].get("document"), None);
    // Two of the question and six of the texts, and three special ones with each.
    assert_eq!(answer["usage"]["total_tokens"], 3 * (2 + 3) + 6);
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    assert_eq!(receipt["inference"]["tokens"], answer["usage"]["total_tokens"]);

    let answer = ask(json!({ "top_n": 1, "return_documents": true })).json();
    check_results(&answer["results"], "relevance_score", &expected[..1]);
    assert_eq!(answer["results"][0]["document"]["text"], words(TEXTS[expected[0].0]));

    check_error(&ask(json!({ "top_n": 0 })), 400, Value::Null, "`top_n` is at least 1");
    check_error(&ask(json!({ "documents": [] })), 400, Value::Null, "1 to 2048");
    let long = json!({ "documents": [words(&[5; 60])], "truncate": false });
    check_error(&ask(long), 400, json!("context_length_exceeded"), "document 0 has 65 tokens");
    assert_eq!(ask(json!({ "documents": [words(&[5; 60])] })).status, 200);
    // And it gives no vectors.
    let reply = server.post("/v1/embeddings", r#"{"model":"tiny","input":"sea"}"#);
    check_error(&reply, 400, Value::Null, "`tiny` is a reranker, which gives one score; use `rerank`");
}

#[test]
fn a_model_without_scores_orders_nothing() {
    let server = Server::start(&[]);
    let body = json!({ "model": MODEL, "query": "a", "documents": ["b"] }).to_string();
    check_error(&server.post("/v1/rerank", &body), 400, Value::Null, "is an embedding model, which gives vectors");
    let output = bireme(&["rerank", MODEL, "a", "b"]);
    assert_eq!(output.status, 2, "{output:#?}");
    assert!(output.stderr.contains("use `embed`, or another model"), "{output:#?}");
}

fn run(data: &Path, arguments: &[&str]) -> support::Output {
    finish(support::command(data, arguments))
}

#[test]
fn the_command_line_orders_texts_too() {
    let (data, tiny) = classifier(1, &Value::Null);
    let texts = TEXTS.map(words);
    let expected = expected(&tiny);
    let output = run(data.path(), &["--json", "rerank", "tiny", &words(QUERY), &texts[0], &texts[1], &texts[2]]);
    assert_eq!(output.status, 0, "{output:#?}");
    check_results(&output.json()["results"], "score", &expected);
    let output = run(data.path(), &["rerank", "tiny", &words(QUERY), &texts[0], &texts[1], &texts[2]]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{output:#?}");
    assert_eq!(lines[0], format!("{:.4}  {}", expected[0].1, texts[expected[0].0]));
}

#[test]
fn labels_are_named_and_add_up_to_one() {
    let (data, tiny) = classifier(3, &json!({ "0": "calm", "2": "angry" }));
    let output = run(data.path(), &["--json", "classify", "tiny", &words(&[9, 10]), &words(&[4])]);
    assert_eq!(output.status, 0, "{output:#?}");
    let answer = output.json();
    for (index, ids) in [&[2, 9, 10, 3][..], &[2, 4, 3]].into_iter().enumerate() {
        let scores: Vec<f64> = tiny.scores(ids, ids.len()).iter().map(|score| score.exp()).collect();
        let sum: f64 = scores.iter().sum();
        for (label, score) in ["calm", "LABEL_1", "angry"].into_iter().zip(scores) {
            let actual = answer["classified"][index][label].as_f64().unwrap();
            assert!((actual - score / sum).abs() < 1e-4, "{label}: {actual} is not {}", score / sum);
        }
    }
    let output = run(data.path(), &["rerank", "tiny", "a", "sea"]);
    assert_eq!(output.status, 2, "{output:#?}");
    assert!(output.stderr.contains("`tiny` is a classifier with 3 labels; use `classify`"), "{output:#?}");
}
