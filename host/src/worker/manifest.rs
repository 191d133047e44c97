//! The text side of a model: tokenizer, labels and serving settings, read from its JSON files.
//!
//! In a process of its own, which reads nothing else and may die of it: the files are anyone's, and a JSON file of
//! 64 MiB takes many times as much while it is parsed.
//!
//! Limits: [`MEMORY_BYTES_MAX`] and [`CPU_SECONDS_MAX`] for the process, those of `tokenizer::Table` and of
//! `ModelDir::json` for the files.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Deserialize;

use super::model_dir::{CONFIG, ConfigError, ModelDir};
use super::onnx;
use super::panic_message::panic_message;
use crate::tokenizer::{Table, Tokenizer, TokenizerError};
use crate::wire::{LABEL_BYTES_MAX, LABELS_MAX, Manifest, ServingSettings};

/// Data of the process. A tokenizer file of 16 MiB with a million tokens, more than any in use, takes 440 MiB.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Time on a processor. The same file takes 6 s where this is built without optimisation.
const CPU_SECONDS_MAX: u64 = 20;

const SERVING: &str = "serving.json";

/// Files of a model that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("`tokenizer.json` cannot be used: the tokenizer library stopped with `{reason}`; save the tokenizer anew")]
    Panicked { reason: String },
}

/// The keys of `config.json` for labels.
#[derive(Deserialize)]
struct LabelsJson {
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    problem_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServingJson {
    keep: bool,
    max_batch_size: Option<u64>,
    max_batch_tokens: Option<u64>,
    max_queue_size: Option<u64>,
    max_queue_delay_us: Option<u64>,
}

/// Bounds the memory and the time of this process, for good.
pub(super) fn limit_process() {
    let limits = [(Resource::Data, MEMORY_BYTES_MAX), (Resource::Cpu, CPU_SECONDS_MAX)];
    for (resource, max) in limits {
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) }) {
            tracing::warn!(%error, ?resource, "a limit of the process cannot be set");
        }
    }
}

/// Reads the files in a model's directory.
pub(super) fn read(dir: &Path) -> Result<Manifest, ManifestError> {
    let model = ModelDir::new(dir);
    let ServingJson { keep, max_batch_size, max_batch_tokens, max_queue_size, max_queue_delay_us } =
        model.json_if_present(SERVING)?.unwrap_or_default();
    let serving = ServingSettings { keep, max_batch_size, max_batch_tokens, max_queue_size, max_queue_delay_us };
    if onnx::is_model(dir) {
        return Ok(Manifest { serving, ..Manifest::default() });
    }
    let LabelsJson { id2label, problem_type } = model.json(CONFIG)?;
    let read_table = || {
        let table = Table::read(dir)?;
        // So that a table which makes no tokenizer is refused here, by its file's name.
        Tokenizer::new(table.clone())?;
        Ok::<_, TokenizerError>(table)
    };
    // The library panics on some files. Nothing that the closure could leave half done outlives it.
    let table = catch_unwind(AssertUnwindSafe(read_table))
        .map_err(|panic| ManifestError::Panicked { reason: panic_message(panic.as_ref()) })??;
    Ok(Manifest {
        tokenizer: Some(table),
        labels: labels(&model, id2label.unwrap_or_default())?,
        is_multi_label: problem_type.as_deref() == Some("multi_label_classification"),
        serving,
    })
}

/// Returns the labels by their places; keys that are none are passed over, as Transformers does.
fn labels(
    model: &ModelDir,
    entries: serde_json::Map<String, serde_json::Value>,
) -> Result<BTreeMap<u32, String>, ConfigError> {
    let label = |(place, name): (String, serde_json::Value)| {
        let name = match name {
            serde_json::Value::String(name) => name,
            other => other.to_string(),
        };
        Some((place.parse().ok()?, name))
    };
    let labels: BTreeMap<u32, String> = entries.into_iter().filter_map(label).collect();
    let longest = labels.values().map(String::len).max().unwrap_or(0);
    if labels.len() > LABELS_MAX || longest > LABEL_BYTES_MAX {
        let found = format!("{} labels of up to {longest} bytes", labels.len());
        let expected = format!("at most {LABELS_MAX} of {LABEL_BYTES_MAX}");
        return Err(model.unsupported(CONFIG, "id2label", found, expected));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn labels_of(config: &str) -> Result<BTreeMap<u32, String>, String> {
        let dir = dir(&[(CONFIG, config)]);
        let model = ModelDir::new(dir.path());
        let LabelsJson { id2label, .. } = model.json(CONFIG).map_err(|error| error.to_string())?;
        labels(&model, id2label.unwrap_or_default()).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_have_the_places_that_are_numbers() {
        let config = r#"{ "id2label": { "10": "ten", "2": 7, "1": "one", "x": "no", "-1": "no" } }"#;
        let expected = [(1, "one"), (2, "7"), (10, "ten")].map(|(place, name)| (place, name.to_owned()));
        assert_eq!(labels_of(config).unwrap(), expected.into());
        assert!(labels_of("{}").unwrap().is_empty());
    }

    #[test]
    fn labels_over_a_limit_are_refused_by_their_file() {
        let long = serde_json::json!({ "id2label": { "0": "x".repeat(5_000) } });
        let error = labels_of(&long.to_string()).unwrap_err();
        assert!(
            error.contains("config.json` is 1 labels of up to 5000 bytes, expected at most 65536 of 4096"),
            "{error}"
        );
        let nested = "{\"id2label\":".repeat(10_000);
        assert!(labels_of(&nested).unwrap_err().contains("config.json` is not what it should be"));
    }

    #[test]
    fn serving_settings_are_read_for_models_of_tensors_too() {
        let dir = dir(&[("model.onnx", ""), (SERVING, r#"{ "max_batch_size": 8, "keep": true }"#)]);
        let Manifest { tokenizer, serving, .. } = read(dir.path()).unwrap();
        assert!(tokenizer.is_none() && serving.keep);
        assert_eq!(serving.max_batch_size, Some(8));
        std::fs::write(dir.path().join(SERVING), r#"{ "max_bach_size": 8 }"#).unwrap();
        let error = format!("{:#}", anyhow::Error::from(read(dir.path()).unwrap_err()));
        assert!(error.contains("serving.json` is not what it should be: unknown field `max_bach_size`"), "{error}");
    }
}
