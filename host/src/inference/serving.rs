//! Serving settings of one model, over the host's defaults: `serving.json` in its directory.
//!
//! The names are Triton's. A host reads the file when the model is first asked for something.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::BatchLimits;
use crate::wire::ITEMS_MAX;

/// The file's name.
pub(crate) const SERVING_FILE: &str = "serving.json";

/// The longest file that is read.
const BYTES_MAX: u64 = 64 << 10;
/// The longest wait of a partial batch.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// The settings that differ from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Serving {
    /// Never unloaded to make room for other models.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Rows of one batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<usize>,
    /// Tokens of one batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_tokens: Option<usize>,
    /// Rows that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_size: Option<usize>,
    /// How long a partial batch waits for more requests, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_delay_us: Option<u64>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServingError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` does not say how to serve a model: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("`{}` sets `{key}` to {value}; expected {expected}", path.display())]
    Value { path: PathBuf, key: &'static str, value: u64, expected: String },
}

impl Serving {
    /// Reads the file in a model's directory; without one, the defaults hold.
    pub(crate) fn load(dir: &Path) -> Result<Self, ServingError> {
        let path = dir.join(SERVING_FILE);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ServingError::Read { path, source }),
            Ok(file) => {
                let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
                read.map_err(|source| ServingError::Read { path: path.clone(), source })?;
            }
        }
        let serving: Self =
            serde_json::from_slice(&bytes).map_err(|source| ServingError::Parse { path: path.clone(), source })?;
        serving.check(&path)?;
        Ok(serving)
    }

    fn check(&self, path: &Path) -> Result<(), ServingError> {
        let counts = [
            ("max_batch_size", self.max_batch_size, ITEMS_MAX),
            ("max_batch_tokens", self.max_batch_tokens, 1 << 22),
            ("max_queue_size", self.max_queue_size, 1 << 22),
        ];
        for (key, value, max) in counts {
            if let Some(value) = value.filter(|value| !(1..=max).contains(value)) {
                let (path, expected) = (path.to_owned(), format!("1 to {max}"));
                return Err(ServingError::Value { path, key, value: value as u64, expected });
            }
        }
        match self.max_queue_delay_us {
            Some(value) if value > DELAY_MAX.as_micros() as u64 => Err(ServingError::Value {
                path: path.to_owned(),
                key: "max_queue_delay_us",
                value,
                expected: format!("at most {}", DELAY_MAX.as_micros()),
            }),
            _ => Ok(()),
        }
    }

    /// Returns the limits of a model, given the host's.
    pub(crate) fn limits(&self, defaults: &BatchLimits) -> BatchLimits {
        BatchLimits {
            max_batch_size: self.max_batch_size.unwrap_or(defaults.max_batch_size),
            max_batch_tokens: self.max_batch_tokens.unwrap_or(defaults.max_batch_tokens),
            max_queue_size: self.max_queue_size.unwrap_or(defaults.max_queue_size),
            max_queue_delay: self.max_queue_delay_us.map_or(defaults.max_queue_delay, Duration::from_micros),
            max_request_rows: defaults.max_request_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Serving, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SERVING_FILE), text).unwrap();
        let shown = dir.path().display().to_string();
        Serving::load(dir.path()).map_err(|error| error.to_string().replace(&shown, "DIR"))
    }

    #[test]
    fn what_is_not_said_is_the_hosts() {
        let defaults = BatchLimits::default();
        let serving = load(r#"{ "max_batch_size": 8, "max_queue_delay_us": 500, "keep": true }"#).unwrap();
        let limits = serving.limits(&defaults);
        assert_eq!((limits.max_batch_size, limits.max_queue_delay), (8, Duration::from_micros(500)));
        assert_eq!(limits.max_batch_tokens, defaults.max_batch_tokens);
        assert!(serving.keep);
        assert_eq!(Serving::load(Path::new("/nowhere")).unwrap(), Serving::default());
    }

    #[test]
    fn a_slip_is_named() {
        let error = load(r#"{ "max_bach_size": 8 }"#).unwrap_err();
        assert!(error.contains("`DIR/serving.json`") && error.contains("max_bach_size"), "{error}");
        let error = load(r#"{ "max_batch_size": 0 }"#).unwrap_err();
        assert_eq!(error, "`DIR/serving.json` sets `max_batch_size` to 0; expected 1 to 4096");
        let error = load(r#"{ "max_queue_delay_us": 10000001 }"#).unwrap_err();
        assert_eq!(error, "`DIR/serving.json` sets `max_queue_delay_us` to 10000001; expected at most 10000000");
        assert!(load("[").is_err());
    }
}
