//! Pooling as Sentence Transformers describes it: how the rows of a text become one vector.
//!
//! `modules.json` lists the steps behind the transformer, `1_Pooling/config.json` the mode. The vector is always
//! normalised, with or without a `Normalize` step; any other step would change its direction, so it is refused.

use bireme_kernels::cpu::Pooling;
use serde::Deserialize;

use super::model_dir::{ConfigError, ModelDir};

const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";

/// One step of `modules.json`.
#[derive(Deserialize)]
struct ModuleJson {
    r#type: String,
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

/// Reads the pooling of a model: the mean, if its directory names none.
pub(super) fn load(dir: &ModelDir) -> Result<Pooling, ConfigError> {
    for ModuleJson { r#type } in dir.json_if_present::<Vec<ModuleJson>>(MODULES)?.unwrap_or_default() {
        let name = r#type.rsplit('.').next().unwrap_or_default();
        if !matches!(name, "Transformer" | "Pooling" | "Normalize") {
            return Err(dir.unsupported(MODULES, "type", &r#type, "`Transformer`, `Pooling` or `Normalize`"));
        }
    }

    let modes: PoolingJson = dir.json_if_present(POOLING)?.unwrap_or_default();
    let unknown = [
        ("pooling_mode_max_tokens", modes.pooling_mode_max_tokens),
        ("pooling_mode_mean_sqrt_len_tokens", modes.pooling_mode_mean_sqrt_len_tokens),
        ("pooling_mode_weightedmean_tokens", modes.pooling_mode_weightedmean_tokens),
        ("pooling_mode_lasttoken", modes.pooling_mode_lasttoken),
    ];
    if let Some((key, _)) = unknown.into_iter().find(|(_, is_set)| *is_set) {
        return Err(dir.unsupported(POOLING, key, true, "the mean or the `cls` token alone"));
    }
    match (modes.pooling_mode_mean_tokens, modes.pooling_mode_cls_token) {
        (true, false) => Ok(Pooling::Mean),
        (false, true) => Ok(Pooling::Cls),
        (_, value) => Err(dir.unsupported(POOLING, "pooling_mode_cls_token", value, "the opposite of the mean")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    /// Reads the pooling of a directory with one such file.
    fn pooling(name: &str, json: Value) -> Result<Pooling, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("1_Pooling")).unwrap();
        fs::write(dir.path().join(name), json.to_string()).unwrap();
        load(&ModelDir::new(dir.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn pooling_is_what_the_directory_says() {
        let cls = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
        assert_eq!(pooling(POOLING, cls), Ok(Pooling::Cls));
        assert_eq!(pooling(POOLING, json!({ "pooling_mode_mean_tokens": true })), Ok(Pooling::Mean));
        assert_eq!(pooling("other.json", json!({})), Ok(Pooling::Mean));
        let max = json!({ "pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": false });
        assert!(pooling(POOLING, max).unwrap_err().contains("`pooling_mode_max_tokens`"));
        let both = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true });
        assert!(pooling(POOLING, both).unwrap_err().contains("`pooling_mode_cls_token`"));
    }

    #[test]
    fn a_layer_after_the_pooling_is_refused() {
        let error = pooling(MODULES, json!([{ "type": "sentence_transformers.models.Dense" }])).unwrap_err();
        assert!(error.contains("is sentence_transformers.models.Dense, expected"), "{error}");
        let usual = json!([{ "type": "sentence_transformers.models.Pooling" }, { "type": "models.Normalize" }]);
        assert_eq!(pooling(MODULES, usual), Ok(Pooling::Mean));
    }
}
