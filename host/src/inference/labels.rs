//! The labels of a classifier, as its `config.json` names them.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::catalogue::{CatalogueError, read_json};

/// The names of labels. Models of other kinds have entries too, without a meaning.
#[derive(Debug, Default)]
pub(super) struct Labels {
    names: HashMap<usize, String>,
    /// Whether a text may have several labels.
    pub several: bool,
}

#[derive(Deserialize)]
struct Config {
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    problem_type: Option<String>,
}

impl Labels {
    pub(crate) fn load(dir: &Path) -> Result<Self, CatalogueError> {
        let Config { id2label, problem_type } = read_json(&dir.join("config.json"))?;
        let name = |(index, name): (String, serde_json::Value)| {
            let name = match name {
                serde_json::Value::String(name) => name,
                other => other.to_string(),
            };
            Some((index.parse().ok()?, name))
        };
        let names = id2label.unwrap_or_default().into_iter().filter_map(name).collect();
        Ok(Self { names, several: problem_type.as_deref() == Some("multi_label_classification") })
    }

    /// Returns the names in order; a label without one has the default name of Transformers.
    pub(crate) fn names(&self, count: usize) -> Vec<String> {
        (0..count).map(|i| self.names.get(&i).cloned().unwrap_or_else(|| format!("LABEL_{i}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(config: &str) -> Labels {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Labels::load(dir.path()).unwrap()
    }

    #[test]
    fn labels_stand_in_the_order_of_their_numbers() {
        let labels = labels(r#"{ "id2label": { "10": "ten", "2": 7, "1": "one", "x": "no", "-1": "no" } }"#);
        assert_eq!(labels.names(3), ["LABEL_0", "one", "7"]);
        assert_eq!(labels.names(11)[10], "ten");
        assert!(!labels.several);
    }

    #[test]
    fn a_config_without_labels_has_those_of_transformers() {
        assert_eq!(labels("{}").names(2), ["LABEL_0", "LABEL_1"]);
        assert!(labels(r#"{ "problem_type": "multi_label_classification" }"#).several);
    }
}
