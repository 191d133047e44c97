//! The host's own files, without the host: it would bring a WebAssembly engine along.

#[path = "../../../../host/src/worker/config.rs"]
pub mod config;
#[path = "../../../../host/src/worker/encoder.rs"]
pub mod encoder;
#[path = "../../../../host/src/worker/model.rs"]
mod model;
#[path = "../../../../host/src/worker/weights.rs"]
pub mod weights;
