//! A model's directory: its JSON files, read within a bound, and the errors that name what is wrong in them.
//!
//! Not here: the keys that a family reads (`families`), tensors (`weights`), the text side of a model
//! (`tokenizer`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The directory of one model.
#[derive(Debug)]
pub(crate) struct ModelDir {
    path: PathBuf,
}

/// A model's description cannot be read, or describes a model that would only run approximately.
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

/// The description that every model of tokens has.
pub(super) const CONFIG: &str = "config.json";

#[derive(Deserialize)]
struct ModelType {
    model_type: String,
}

impl ModelDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Returns the path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the name of the family, `model_type` in `config.json`.
    pub(crate) fn model_type(&self) -> Result<String, ConfigError> {
        self.json(CONFIG).map(|ModelType { model_type }| model_type)
    }

    /// Reads a JSON file.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let path = self.file(name);
        let read = |source| ConfigError::Read { path: path.clone(), source };
        let mut bytes = Vec::new();
        File::open(&path).map_err(read)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path });
        }
        serde_json::from_slice(&bytes).map_err(|source| ConfigError::Parse { path, source })
    }

    /// Reads a JSON file that a model may lack.
    pub(crate) fn json_if_present<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        match self.json(name) {
            Ok(value) => Ok(Some(value)),
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses the value of a key by name.
    pub(crate) fn unsupported(
        &self,
        name: &str,
        key: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> ConfigError {
        let (path, value, expected) = (self.file(name), value.to_string(), expected.into());
        ConfigError::Unsupported { path, key, value, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_endless_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelDir::new(dir.path());
        let shown = |error: ConfigError| error.to_string().replace(&dir.path().display().to_string(), "");
        assert_eq!(shown(model.model_type().unwrap_err()), "cannot read `/config.json`");
        assert!(model.json_if_present::<serde_json::Value>(CONFIG).unwrap().is_none());
        let endless = serde_json::json!("x".repeat(FILE_BYTES_MAX as usize));
        std::fs::write(model.file(CONFIG), endless.to_string()).unwrap();
        assert!(shown(model.model_type().unwrap_err()).contains("over the limit of 1048576 bytes"));
        std::fs::write(model.file(CONFIG), "{}").unwrap();
        assert!(shown(model.model_type().unwrap_err()).contains("is not what it should be"));
    }
}
