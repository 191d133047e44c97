//! Inference on the host's side: the models on disk, the one queue in front of the workers, and the workers themselves.
//!
//! Not here: arithmetic (`worker`, another process), the frames between the two (`wire`).

pub mod batcher;
mod builtin_models;
pub mod catalogue;
pub mod devices;
mod encoding;
mod error;
mod infer;
mod labels;
mod metrics;
pub mod pull;
mod request;
mod score;
mod service;
pub mod serving;
mod staging;
pub mod tensors;
pub mod tokenizer;
mod worker_pool;
mod worker_program;

pub use self::batcher::{LimitReason, WEIGHT_MAX};
pub use self::error::InferenceError;
pub use self::request::{Caller, Inputs, Tenant};
pub use self::score::{LabelScores, RelevanceScores, sigmoid};
pub use self::service::{Description, Embeddings, Inference, InferenceConfig, NOOP_MODEL, TensorOutputs};
pub use self::tokenizer::Overflow;
pub use self::worker_pool::{BatchRecord, DeviceStats, ModelStats, Outcome};
pub use self::worker_program::WorkerProgram;
