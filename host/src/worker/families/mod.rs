//! The registry of model families: one file for each, one row in [`FAMILIES`].
//!
//! The rest of the worker names no family: it looks a model up by the `model_type` of its `config.json`.

mod bert;
#[cfg(test)]
mod word_mean;

use bireme_kernels::cpu::Threads;
use bireme_kernels::cuda::device::Device;

use super::cpu::{Cpu, CpuExecutor};
use super::cuda::{Cuda, CudaExecutor};
use super::error::LoadError;
use super::family::{Family, LoadedModel};
use super::model_dir::{CONFIG, ConfigError, ModelDir};
use super::ops::Executor;
use super::weights::Weights;

/// All families.
const FAMILIES: &[Row] = &[
    Row::of::<bert::Bert>(),
    // Shows that a family is one file and one row.
    #[cfg(test)]
    Row::of::<word_mean::WordMean>(),
];

/// The weights of every model of tokens.
const WEIGHTS: &str = "model.safetensors";

/// The device that a model is loaded for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// The CPU, with this many threads.
    Cpu {
        threads: usize,
    },
    Cuda(&'a Device),
}

type Loader = fn(&ModelDir, Target<'_>) -> Result<Box<dyn LoadedModel>, LoadError>;

/// One family, with its types erased.
struct Row {
    model_types: &'static [&'static str],
    load: Loader,
}

impl Row {
    const fn of<F: Family>() -> Self
    where
        F::Network<Cpu>: Sync,
    {
        Self { model_types: F::MODEL_TYPES, load: load_family::<F> }
    }
}

/// Loads the model in a directory, by the family that its `config.json` names.
pub(super) fn load(dir: &ModelDir, target: Target<'_>) -> Result<Box<dyn LoadedModel>, LoadError> {
    let row = find(dir, FAMILIES)?;
    (row.load)(dir, target)
}

fn find<'a>(dir: &ModelDir, families: &'a [Row]) -> Result<&'a Row, ConfigError> {
    let model_type = dir.model_type()?;
    families.iter().find(|row| row.model_types.contains(&model_type.as_str())).ok_or_else(|| {
        let known = families.iter().flat_map(|row| row.model_types).map(|name| format!("`{name}`"));
        dir.unsupported(CONFIG, "model_type", &model_type, known.collect::<Vec<_>>().join(" or "))
    })
}

fn load_family<F: Family>(dir: &ModelDir, target: Target<'_>) -> Result<Box<dyn LoadedModel>, LoadError>
where
    F::Network<Cpu>: Sync,
{
    let config = F::configure(dir)?;
    let mut weights = Weights::open(&dir.file(WEIGHTS))?;
    let executor: Box<dyn Executor> = match target {
        Target::Cpu { threads } => {
            let threads = Threads::new(threads)?;
            let network = F::network(&config, &mut weights, &Cpu)?;
            Box::new(CpuExecutor::new(network, threads))
        }
        Target::Cuda(device) => {
            let cuda = Cuda(device.clone());
            let network = F::network(&config, &mut weights, &cuda)?;
            Box::new(CudaExecutor::new(network, cuda)?)
        }
    };
    F::model(&config, &weights, executor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_type_without_a_family_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelDir::new(dir.path());
        std::fs::write(model.file(CONFIG), r#"{"model_type":"roberta"}"#).unwrap();
        let shown = |families| find(&model, families).map(|row| row.model_types).unwrap_err().to_string();
        let path = model.file(CONFIG);
        let said = format!("`model_type` in `{}` is roberta, expected ", path.display());
        assert_eq!(shown(&FAMILIES[..1]), format!("{said}`bert`"));
        assert_eq!(shown(FAMILIES), format!("{said}`bert` or `word-mean`"));
    }

    #[test]
    fn a_model_type_has_one_family() {
        let mut names: Vec<_> = FAMILIES.iter().flat_map(|row| row.model_types).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
