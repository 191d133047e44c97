//! Inference on the host's side: the models on disk, the one queue in front of the workers, and the workers themselves.
//!
//! Not here: arithmetic and the files of models (`worker`, another process), the frames between the two (`wire`), the
//! way from text to tokens (`tokenizer`).

pub(crate) mod batcher;
pub(crate) mod builtin_models;
pub mod catalogue;
pub(crate) mod devices;
mod encoding;
mod error;
mod infer;
mod labels;
mod manifest;
mod metrics;
mod models;
pub(crate) mod pull;
mod request;
mod score;
mod service;
pub(crate) mod serving;
mod staging;
pub(crate) mod tensors;
mod worker_pool;
mod worker_process;

pub(crate) use self::batcher::{LimitReason, WEIGHT_MAX};
pub use self::error::InferenceError;
pub use self::models::NOOP_MODEL;
pub use self::request::{Caller, Inputs, Tenant};
pub(crate) use self::score::{LabelScores, RelevanceScores, sigmoid};
pub(crate) use self::service::{Description, TensorOutputs};
pub use self::service::{Embeddings, Inference, InferenceConfig};
pub use self::worker_pool::DeviceStats;
pub(crate) use self::worker_pool::{BatchRecord, Outcome};
pub use crate::tokenizer::Overflow;
