//! What a model directory says about its own shape.
//!
//! Not here: whether the weights agree with it (`weights`), and the text side of a model (`inference::tokenizer`).
//!
//! Invariants: a [`ModelConfig`] is one that [`Encoder`](super::encoder::Encoder) can run exactly; what it could only run
//! approximately (another activation, another kind of position, a layer after the pooling) is refused by name.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bireme_kernels::cpu::Pooling;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The shape of an encoder, from `config.json`, `modules.json` and `1_Pooling/config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub vocabulary: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub positions: usize,
    pub token_types: usize,
    pub layer_norm_epsilon: f32,
    pub task: Task,
}

/// What a model makes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A vector of length 1.
    Embedding(Pooling),
    /// A score for each label: one for a reranker, which reads a question and a text.
    Classification { labels: usize },
}

/// A model's description cannot be read, or describes what this encoder is not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is over the limit of {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{}` is not what it should be", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("`{key}` in `{}` is {value}, expected {expected}", path.display())]
    Unsupported { path: PathBuf, key: &'static str, value: String, expected: String },
}

/// Real files hold 1 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl ModelConfig {
    /// Reads and checks the description of the model in `dir`.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let bert: BertJson = read_json(&path)?;
        let config = Self {
            vocabulary: bert.vocab_size,
            hidden: bert.hidden_size,
            layers: bert.num_hidden_layers,
            heads: bert.num_attention_heads,
            intermediate: bert.intermediate_size,
            positions: bert.max_position_embeddings,
            token_types: bert.type_vocab_size,
            layer_norm_epsilon: bert.layer_norm_eps,
            task: bert.task(dir, &path)?,
        };
        let expect = |key, value: &str, expected: &str| match value == expected {
            true => Ok(()),
            false => Err(unsupported(&path, key, value, format!("`{expected}`"))),
        };
        expect("model_type", &bert.model_type, "bert")?;
        expect("hidden_act", &bert.hidden_act, "gelu")?;
        expect("position_embedding_type", &bert.position_embedding_type, "absolute")?;
        config.check_sizes(&path)?;
        Ok(config)
    }

    /// Refuses sizes that no model has, before anything is allocated or multiplied by them. The weights bound them again:
    /// the file must hold every tensor in full.
    fn check_sizes(&self, path: &Path) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocabulary, 1 << 22),
            ("hidden_size", self.hidden, 1 << 14),
            ("num_hidden_layers", self.layers, 256),
            ("num_attention_heads", self.heads, 256),
            ("intermediate_size", self.intermediate, 1 << 16),
            ("max_position_embeddings", self.positions, 1 << 16),
            // The table of places is as large as both together.
            ("type_vocab_size", self.token_types, 4),
        ];
        for (key, value, max) in sizes {
            if value == 0 || value > max {
                return Err(unsupported(path, key, value, format!("1 to {max}")));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let expected = format!("a divisor of the hidden size, {}", self.hidden);
            return Err(unsupported(path, "num_attention_heads", self.heads, expected));
        }
        let epsilon = self.layer_norm_epsilon;
        if !(1e-20..=1e-2).contains(&epsilon) {
            return Err(unsupported(path, "layer_norm_eps", epsilon, "1e-20 to 1e-2".into()));
        }
        Ok(())
    }
}

/// `config.json`; what is optional has the value that Transformers gives it.
#[derive(Deserialize)]
struct BertJson {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    architectures: Vec<String>,
    num_labels: Option<usize>,
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default = "default_type_vocab_size")]
    type_vocab_size: usize,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f32,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default = "default_position_embedding_type")]
    position_embedding_type: String,
}

impl BertJson {
    /// What the model was trained for: `architectures` names the class that it was saved from.
    fn task(&self, dir: &Path, path: &Path) -> Result<Task, ConfigError> {
        match self.architectures.first().map(String::as_str) {
            // Saved with a head for another purpose, which an embedding does without.
            None | Some("BertModel" | "BertForMaskedLM" | "BertForPreTraining") => {
                load_pooling(dir).map(Task::Embedding)
            }
            Some("BertForSequenceClassification") => {
                let labels = self.num_labels.or(self.id2label.as_ref().map(|labels| labels.len())).unwrap_or(2);
                if !(1..=LABELS_MAX).contains(&labels) {
                    return Err(unsupported(path, "num_labels", labels, format!("1 to {LABELS_MAX}")));
                }
                Ok(Task::Classification { labels })
            }
            Some(other) => {
                let expected = "`BertModel` or `BertForSequenceClassification`".to_owned();
                Err(unsupported(path, "architectures", other, expected))
            }
        }
    }
}

/// More than any list of topics that a text is sorted into.
const LABELS_MAX: usize = 1 << 16;

fn default_type_vocab_size() -> usize {
    2
}

fn default_layer_norm_eps() -> f32 {
    1e-12
}

fn default_hidden_act() -> String {
    "gelu".to_owned()
}

fn default_position_embedding_type() -> String {
    "absolute".to_owned()
}

/// `1_Pooling/config.json`: one mode may be set.
#[derive(Deserialize)]
#[serde(default)]
struct PoolingJson {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Default for PoolingJson {
    fn default() -> Self {
        Self {
            pooling_mode_cls_token: false,
            pooling_mode_mean_tokens: true,
            pooling_mode_max_tokens: false,
            pooling_mode_mean_sqrt_len_tokens: false,
            pooling_mode_weightedmean_tokens: false,
            pooling_mode_lasttoken: false,
        }
    }
}

/// One step of `modules.json`.
#[derive(Deserialize)]
struct ModuleJson {
    r#type: String,
}

/// Reads how the rows of a text become one vector: the mean, if the directory does not say.
fn load_pooling(dir: &Path) -> Result<Pooling, ConfigError> {
    // The vector is always normalised, with or without a `Normalize` step. Any other step would change its direction.
    let path = dir.join("modules.json");
    for ModuleJson { r#type } in read_json_if_present::<Vec<ModuleJson>>(&path)?.unwrap_or_default() {
        let name = r#type.rsplit('.').next().unwrap_or_default();
        if !matches!(name, "Transformer" | "Pooling" | "Normalize") {
            return Err(unsupported(&path, "type", &r#type, "`Transformer`, `Pooling` or `Normalize`".into()));
        }
    }

    let path = dir.join("1_Pooling/config.json");
    let modes: PoolingJson = read_json_if_present(&path)?.unwrap_or_default();
    let unknown = [
        ("pooling_mode_max_tokens", modes.pooling_mode_max_tokens),
        ("pooling_mode_mean_sqrt_len_tokens", modes.pooling_mode_mean_sqrt_len_tokens),
        ("pooling_mode_weightedmean_tokens", modes.pooling_mode_weightedmean_tokens),
        ("pooling_mode_lasttoken", modes.pooling_mode_lasttoken),
    ];
    if let Some((key, _)) = unknown.into_iter().find(|(_, is_set)| *is_set) {
        return Err(unsupported(&path, key, true, "the mean or the `cls` token alone".into()));
    }
    match (modes.pooling_mode_mean_tokens, modes.pooling_mode_cls_token) {
        (true, false) => Ok(Pooling::Mean),
        (false, true) => Ok(Pooling::Cls),
        (_, value) => Err(unsupported(&path, "pooling_mode_cls_token", value, "the opposite of the mean".into())),
    }
}

fn unsupported(path: &Path, key: &'static str, value: impl ToString, expected: String) -> ConfigError {
    ConfigError::Unsupported { path: path.to_owned(), key, value: value.to_string(), expected }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    serde_json::from_slice(&bytes).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}

fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConfigError> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn mini() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512, "hidden_act": "gelu",
        })
    }

    /// Loads a directory of such files: the names, and what they hold.
    fn load(files: &[(&str, Value)]) -> Result<ModelConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("1_Pooling")).unwrap();
        for (name, json) in files {
            fs::write(dir.path().join(name), json.to_string()).unwrap();
        }
        ModelConfig::load(dir.path()).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), ""))
    }

    fn refused(key: &str, value: Value) -> String {
        let mut json = mini();
        json[key] = value;
        load(&[("config.json", json)]).unwrap_err()
    }

    #[test]
    fn a_config_alone_means_mean_pooling_and_the_usual_defaults() {
        let config = load(&[("config.json", mini())]).unwrap();
        assert_eq!((config.hidden, config.heads, config.token_types), (384, 12, 2));
        assert_eq!((config.task, config.layer_norm_epsilon), (Task::Embedding(Pooling::Mean), 1e-12));
    }

    #[test]
    fn pooling_is_what_the_directory_says() {
        let pooling =
            |json| load(&[("config.json", mini()), ("1_Pooling/config.json", json)]).map(|config| config.task);
        let cls = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
        assert_eq!(pooling(cls), Ok(Task::Embedding(Pooling::Cls)));
        assert_eq!(pooling(json!({ "pooling_mode_mean_tokens": true })), Ok(Task::Embedding(Pooling::Mean)));
        let max = json!({ "pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": false });
        assert!(pooling(max).unwrap_err().contains("`pooling_mode_max_tokens`"));
        let both = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true });
        assert!(pooling(both).unwrap_err().contains("`pooling_mode_cls_token`"));
    }

    #[test]
    fn a_classifier_has_as_many_labels_as_it_says() {
        let task = |labels: Value| {
            let mut json = mini();
            json["architectures"] = json!(["BertForSequenceClassification"]);
            json.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
            load(&[("config.json", json)]).map(|config| config.task)
        };
        assert_eq!(task(json!({ "num_labels": 1 })), Ok(Task::Classification { labels: 1 }));
        assert_eq!(
            task(json!({ "id2label": { "0": "a", "1": "b", "2": "c" } })),
            Ok(Task::Classification { labels: 3 })
        );
        // What Transformers takes where nothing is said.
        assert_eq!(task(json!({})), Ok(Task::Classification { labels: 2 }));
        assert!(task(json!({ "num_labels": 0 })).unwrap_err().contains("expected 1 to 65536"));
        assert!(refused("architectures", json!(["BertForTokenClassification"])).contains("BertForTokenClassification"));
    }

    #[test]
    fn a_layer_after_the_pooling_is_refused() {
        let modules = json!([{ "type": "sentence_transformers.models.Dense" }]);
        let error = load(&[("config.json", mini()), ("modules.json", modules)]).unwrap_err();
        assert!(error.contains("`sentence_transformers.models.Dense`") || error.contains("models.Dense"), "{error}");
    }

    #[test]
    fn other_architectures_are_refused_by_name() {
        assert_eq!(
            refused("model_type", json!("roberta")),
            "`model_type` in `/config.json` is roberta, expected `bert`"
        );
        assert_eq!(refused("hidden_act", json!("relu")), "`hidden_act` in `/config.json` is relu, expected `gelu`");
        assert!(refused("position_embedding_type", json!("relative_key")).contains("expected `absolute`"));
    }

    #[test]
    fn absurd_sizes_are_refused_before_anything_is_allocated() {
        assert_eq!(
            refused("hidden_size", json!(1_u64 << 60)),
            "`hidden_size` in `/config.json` is 1152921504606846976, expected 1 to 16384"
        );
        assert!(refused("num_hidden_layers", json!(0)).contains("expected 1 to 256"));
        assert!(refused("num_attention_heads", json!(7)).contains("a divisor of the hidden size, 384"));
        assert!(refused("vocab_size", json!(-1)).contains("is not what it should be"));
        assert!(refused("layer_norm_eps", json!(0.0)).contains("1e-20 to 1e-2"));
    }

    #[test]
    fn a_missing_or_endless_file_is_named() {
        assert_eq!(load(&[]).unwrap_err(), "cannot read `/config.json`");
        let endless = json!("x".repeat(FILE_BYTES_MAX as usize));
        assert!(load(&[("config.json", endless)]).unwrap_err().contains("over the limit of 1048576 bytes"));
    }
}
