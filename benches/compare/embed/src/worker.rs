//! The host's own files, without the host: it would bring a WebAssembly engine along.
#![expect(dead_code, reason = "the host calls more of it than this does")]

#[path = "../../../../host/src/worker/cpu.rs"]
mod cpu;
#[path = "../../../../host/src/worker/cuda.rs"]
mod cuda;
#[path = "../../../../host/src/worker/encoder.rs"]
pub mod encoder;
#[path = "../../../../host/src/worker/error.rs"]
mod error;
#[path = "../../../../host/src/worker/families/mod.rs"]
mod families;
#[path = "../../../../host/src/worker/family.rs"]
mod family;
#[path = "../../../../host/src/worker/model_dir.rs"]
mod model_dir;
#[path = "../../../../host/src/worker/ops.rs"]
mod ops;
#[path = "../../../../host/src/worker/pooling.rs"]
mod pooling;
#[path = "../../../../host/src/worker/timing.rs"]
mod timing;
#[path = "../../../../host/src/worker/weights.rs"]
mod weights;
