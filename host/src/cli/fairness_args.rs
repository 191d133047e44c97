//! Fairness between apps on one device: memory for models, weights.

use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;

use crate::inference::{InferenceConfig, WEIGHT_MAX};

#[derive(Args, Clone, Debug)]
pub(crate) struct FairnessArgs {
    /// Keep at most SIZE of models loaded, such as 4GiB; the least recently used are unloaded first. Default: half of
    /// the machine's memory on the CPU; on a GPU, what fits.
    #[arg(long, value_name = "SIZE", env = "BIREME_MODEL_MEMORY")]
    model_memory: Option<ByteSize>,
    /// Give APP the share of N other apps while apps compete for the device. Repeatable.
    #[arg(long = "weight", value_name = "APP=N")]
    weights: Vec<Weight>,
}

#[derive(Clone, Debug)]
struct Weight {
    app: String,
    weight: u32,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(app, weight)| {
            let weight = weight.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))?;
            (!app.is_empty()).then(|| Self { app: app.to_owned(), weight })
        });
        parsed.ok_or_else(|| format!("`{text}` is no weight; give APP=N with N from 1 to {WEIGHT_MAX}"))
    }
}

impl FairnessArgs {
    /// Sets the flags that were typed.
    pub(crate) fn apply(&self, config: &mut InferenceConfig) {
        config.model_memory_max = self.model_memory.map(|size| size.as_u64()).or(config.model_memory_max);
        config.weights.extend(self.weights.iter().map(|weight| (weight.app.clone(), weight.weight)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_a_name_and_a_number() {
        let weight: Weight = "scraper=3".parse().unwrap();
        assert_eq!((weight.app.as_str(), weight.weight), ("scraper", 3));
        for bad in ["scraper", "=1", "a=0", "a=1001", "a=x"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
    }
}
