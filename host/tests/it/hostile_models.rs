//! Models whose files mean harm: each costs the process that reads it, and no request to another model.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Reply, Server, data_without_models, peak_bytes};
use crate::tiny::Tiny;

/// Memory that the host may take for all the models below: one of their files alone is 60 MiB.
const HOST_GROWTH_MAX: u64 = 24 << 20;

fn embed(server: &Server, model: &str) -> Reply {
    server.post("/v1/embeddings", &json!({ "model": model, "input": "the sea is calm" }).to_string())
}

/// Installs a small model and changes one of its JSON files.
fn spoil(models: &Path, name: &str, file: &str, change: impl FnOnce(Value) -> String) {
    let dir = models.join(name);
    Tiny::of_words().install(&dir);
    let old = fs::read(dir.join(file)).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
    fs::write(dir.join(file), change(old)).unwrap();
}

fn with(mut json: Value, key: &str, value: Value) -> String {
    json[key] = value;
    json.to_string()
}

#[test]
fn hostile_files_of_a_model_cost_a_process_of_their_own_and_no_other_request() {
    let data = data_without_models();
    let models = data.path().join("models");
    Tiny::of_words().install(&models.join("good"));
    let tokenizer = "tokenizer.json";
    spoil(&models, "nested", tokenizer, |_| "{\"model\":".repeat(1 << 20));
    spoil(&models, "endless", tokenizer, |_| "[".to_owned() + &" ".repeat(64 << 20));
    // Each `[]` is 2 bytes in the file, and 32 in a parser that keeps it.
    spoil(&models, "swelling", tokenizer, |json| {
        with(json, "normalizer", json!({ "type": "x" })).replace("\"x\"", &format!("[{}[]]", "[],".repeat(20 << 20)))
    });
    spoil(&models, "regex", tokenizer, |json| {
        let pattern = json!({ "Regex": "((a{1,500}){1,500}){1,500}" });
        with(
            json,
            "pre_tokenizer",
            json!({ "type": "Split", "pattern": pattern, "behavior": "Removed", "invert": false }),
        )
    });
    spoil(&models, "bomb", tokenizer, |json| {
        let vocabulary: serde_json::Map<String, Value> =
            (0..(1 << 20) + 1).map(|id| (format!("{id:x}"), json!(id))).collect();
        let model = json!({
            "type": "WordPiece", "unk_token": "0", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary
        });
        with(json, "model", model)
    });
    spoil(&models, "labels", "config.json", |json| with(json, "id2label", json!({ "0": "x".repeat(9_000) })));
    spoil(&models, "serving", "serving.json", |_| "{\"keep\":".repeat(50_000));
    spoil(&models, "queue", "serving.json", |_| json!({ "max_queue_size": 0 }).to_string());
    let server = Server::start_over(data.path(), &[]);
    assert_eq!(embed(&server, "good").status, 200);
    let before = peak_bytes(server.process.pid());

    let hostile = [
        ("nested", "tokenizer.json"),
        ("endless", "tokenizer.json"),
        ("swelling", ""),
        ("regex", "tokenizer.json"),
        ("bomb", "tokenizer.json"),
        ("labels", "config.json"),
        ("serving", "serving.json"),
        ("queue", "serving.json"),
    ];
    std::thread::scope(|scope| {
        for (model, _) in hostile {
            let server = &server;
            scope.spawn(move || {
                let reply = embed(server, model);
                assert_eq!(reply.status, 503, "{model}: {reply:#?}");
                assert!(reply.body.contains(&format!("model `{model}` cannot be served")), "{reply:#?}");
            });
        }
        for _ in 0..20 {
            assert_eq!(embed(&server, "good").status, 200);
        }
    });
    // The refusals hold: no file is read again, so these take no time at all.
    for (model, _) in hostile {
        assert_eq!(embed(&server, model).status, 503, "{model}");
    }
    let grown = peak_bytes(server.process.pid()).saturating_sub(before);
    assert!(grown < HOST_GROWTH_MAX, "{grown} bytes");
    assert_eq!(embed(&server, "good").status, 200);

    // The log names the model and the file.
    let said = server.stderr();
    for (model, file) in hostile {
        let path = if file.is_empty() { models.join(model) } else { models.join(model).join(file) };
        let named = said.lines().any(|line| {
            line.contains(&format!("model=\"{model}\"")) && line.contains(&format!("`{}`", path.display()))
        });
        assert!(named, "{model}: {said}");
    }

    // A model that is mended is served without a restart.
    fs::remove_file(models.join("serving/serving.json")).unwrap();
    assert_eq!(embed(&server, "serving").status, 200);
}
