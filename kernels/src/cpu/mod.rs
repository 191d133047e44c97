//! The ops on the CPU, in f32: the embedded default device, and the reference for every other.
//!
//! An op is a value that holds its weights in the layout it reads them in, made once when a model is loaded. Its `run`
//! takes a [`Parallelism`]: the number of threads that may share this piece of work. Vectors are AVX-512, AVX2 or plain
//! arrays, chosen by the machine when the op is made ([`Isa`]), so one binary runs everywhere.
//!
//! Limits: sizes are bounded by memory alone; a piece of work under [`Parallelism::SHARE_FLOP_MIN`] is never split.

mod attention;
mod buffer;
mod convert;
mod embedding;
mod gelu;
mod isa;
mod layer_norm;
mod linear;
mod parallelism;
mod pooling;
mod rms_norm;
mod rotary;
mod silu;
mod simd;
mod softmax;
mod thread_pool;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod naive;

pub use attention::Attention;
pub use convert::Half;
pub use embedding::Embedding;
pub(crate) use embedding::places;
pub use gelu::bias_gelu;
pub use isa::Isa;
pub use layer_norm::LayerNorm;
pub use linear::{Activation, Linear};
pub use parallelism::{Parallelism, Threads, ThreadsError};
pub use pooling::Pooling;
pub use rms_norm::RmsNorm;
pub use rotary::Rotary;
pub use silu::silu_gate;
pub use softmax::softmax;
