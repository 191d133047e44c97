//! The host's own files, without the host: it would bring a WebAssembly engine along.
#![expect(dead_code, reason = "the host calls more of it than this does")]

#[path = "../../../../host/src/worker/bert.rs"]
mod bert;
#[path = "../../../../host/src/worker/config.rs"]
mod config;
#[path = "../../../../host/src/worker/cpu.rs"]
mod cpu;
#[path = "../../../../host/src/worker/cuda.rs"]
mod cuda;
#[path = "../../../../host/src/worker/encoder.rs"]
pub mod encoder;
#[path = "../../../../host/src/worker/head.rs"]
mod head;
#[path = "../../../../host/src/worker/ops.rs"]
mod ops;
#[path = "../../../../host/src/worker/weights.rs"]
mod weights;
