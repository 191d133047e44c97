//! A CUDA device: its memory, its queue, and the layers that run on it.
//!
//! Not here: the contents of a launch (`cuda`, tested without a driver), and the layers of a model.
//!
//! Invariants: every call's error is checked and typed; memory stays under the budget; dropped memory goes back to the
//! device; nothing here is used from two threads.
//!
//! The libraries are loaded when a device is opened, and only then: `libcuda.so.1` comes with NVIDIA's driver, cuBLASLt
//! with CUDA or PyTorch, and without the latter products go to the kernels. A driver that lacks a function makes
//! `cudarc` panic, so devices are opened in worker processes alone.

mod batch;
mod blas;
mod context;
mod error;
mod event;
mod graph;
mod layers;
mod memory;
mod size_class_allocator;

pub use batch::{Batch, BatchShape, Inputs};
pub use context::{COMPUTE_CAPABILITY_MIN, Device, DeviceInfo, DeviceOptions};
pub use error::DeviceError;
pub use event::Event;
pub use graph::Graph;
pub use layers::{Embedding, LayerNorm, Linear};
pub use memory::{Pinned, Tensor};
