//! Readers of models' files, for the targets in `fuzz/`.

use std::path::Path;

use super::manifest;
use super::weights::Weights;
use crate::wire::Manifest;

/// Opens a safetensors file and reads all its tensors; returns their bytes as f32.
pub fn weights(path: &Path) -> Result<u64, String> {
    let said = |error| format!("{:#}", anyhow::Error::from(error));
    let weights = Weights::open(path).map_err(said)?;
    for (name, shape) in weights.tensors() {
        let values = weights.tensor_beside(&name, &shape).map_err(said)?;
        assert_eq!(values.len(), shape.iter().product::<usize>(), "a tensor has as many values as its shape says");
        assert!(values.iter().all(|value| value.is_finite()), "weights are finite");
    }
    Ok(weights.bytes())
}

/// Reads the JSON files of a model.
pub fn manifest(dir: &Path) -> Result<Manifest, String> {
    manifest::read(dir).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}
