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
    /// A JSON file of the model is unreadable, too large or malformed, or asks for an unsupported feature.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are unreadable or damaged, lack a tensor, or have one of an unexpected shape or type.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Threads for the arithmetic cannot be started: zero or too many are asked for, or the system refuses them.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// Sizes in the weights or the configuration contradict each other.
    #[error("the weights do not fit together")]
    Shape(#[from] ShapeError),
    /// A call to the GPU failed, mostly for lack of memory, or a weight is beyond half precision.
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
    NotFinite {
        /// Index of the first such sequence in the batch, from 0.
        sequence: usize,
    },
    /// A call to the GPU failed while the batch ran.
    #[error("the device failed")]
    Device(#[from] DeviceError),
}

/// The error that ends a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The socket or the shared memory to the host failed, or held a malformed frame.
    #[error("the connection to the host broke")]
    Connection(#[from] io::Error),
    /// Every later call would fail the same way; the next worker has a context of its own.
    #[error("the device is lost")]
    DeviceLost(#[source] DeviceError),
}
