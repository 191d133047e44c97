//! Serving settings of one model, over the host's defaults: `serving.json` in its directory.
//!
//! The names are Triton's. A worker reads the file when the model is first asked for something; the host checks the
//! values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::BatchLimits;
use crate::wire::{ITEMS_MAX, ServingSettings};

/// The file's name.
pub(crate) const SERVING_FILE: &str = "serving.json";

/// The longest wait of a partial batch.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// A setting that no model can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` sets `{key}` to {value}; expected {expected}", path.display())]
pub(crate) struct ServingError {
    path: PathBuf,
    key: &'static str,
    value: u64,
    expected: String,
}

/// Returns the limits of the model in `dir`, given the host's.
pub(crate) fn limits(
    settings: &ServingSettings,
    dir: &Path,
    defaults: &BatchLimits,
) -> Result<BatchLimits, ServingError> {
    let refused = |key, value, expected| ServingError { path: dir.join(SERVING_FILE), key, value, expected };
    let count = |key, value: Option<u64>, max: usize, default| match value {
        None => Ok(default),
        Some(value) if (1..=max as u64).contains(&value) => Ok(value as usize),
        Some(value) => Err(refused(key, value, format!("1 to {max}"))),
    };
    let delay_max = DELAY_MAX.as_micros() as u64;
    let max_queue_delay = match settings.max_queue_delay_us {
        None => defaults.max_queue_delay,
        Some(value) if value <= delay_max => Duration::from_micros(value),
        Some(value) => return Err(refused("max_queue_delay_us", value, format!("at most {delay_max}"))),
    };
    Ok(BatchLimits {
        max_batch_size: count("max_batch_size", settings.max_batch_size, ITEMS_MAX, defaults.max_batch_size)?,
        max_batch_tokens: count("max_batch_tokens", settings.max_batch_tokens, 1 << 22, defaults.max_batch_tokens)?,
        max_queue_size: count("max_queue_size", settings.max_queue_size, 1 << 22, defaults.max_queue_size)?,
        max_queue_delay,
        max_request_rows: defaults.max_request_rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: ServingSettings) -> Result<BatchLimits, String> {
        limits(&settings, Path::new("DIR"), &BatchLimits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_hosts() {
        let (max_batch_size, max_queue_delay_us) = (Some(8), Some(500));
        let limits = check(ServingSettings { max_batch_size, max_queue_delay_us, ..Default::default() }).unwrap();
        assert_eq!((limits.max_batch_size, limits.max_queue_delay), (8, Duration::from_micros(500)));
        let defaults = BatchLimits::default();
        assert_eq!(limits.max_batch_tokens, defaults.max_batch_tokens);
        assert_eq!(check(ServingSettings::default()).unwrap().max_batch_size, defaults.max_batch_size);
    }

    #[test]
    fn a_value_that_no_model_can_have_is_named() {
        let error = check(ServingSettings { max_batch_size: Some(0), ..Default::default() }).unwrap_err();
        assert_eq!(error, "`DIR/serving.json` sets `max_batch_size` to 0; expected 1 to 4096");
        let error = check(ServingSettings { max_queue_delay_us: Some(10_000_001), ..Default::default() }).unwrap_err();
        assert_eq!(error, "`DIR/serving.json` sets `max_queue_delay_us` to 10000001; expected at most 10000000");
    }
}
