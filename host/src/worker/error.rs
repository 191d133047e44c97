//! Errors of a worker: a model that does not load, a batch that does not run, and the end of the worker itself.

use std::io;

use bireme_kernels::ShapeError;
use bireme_kernels::cpu::ThreadsError;
use bireme_kernels::cuda::device::DeviceError;

use super::model_dir::ConfigError;
use super::weights::WeightsError;

/// A model cannot be loaded from its directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    #[error("the weights do not fit together")]
    Shape(#[from] ShapeError),
    #[error("the device cannot hold the model")]
    Device(#[from] DeviceError),
}

/// A batch cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The batch is wrong; another one may be right.
    #[error("the batch does not fit the model")]
    Batch(#[from] ShapeError),
    /// The model is wrong, or beyond half precision where that is used: no text makes sound weights overflow f32.
    #[error("the result of sequence {sequence} is not finite")]
    NotFinite { sequence: usize },
    #[error("the device failed")]
    Device(#[from] DeviceError),
}

/// The error that ends a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    #[error("the connection to the host broke")]
    Connection(#[from] io::Error),
    /// Every later call would fail the same way; the next worker has a context of its own.
    #[error("the device is lost")]
    DeviceLost(#[source] DeviceError),
}
