//! The ops on CUDA: what to launch, with every shape and type checked before it is.
//!
//! An op is a value that names its operands; its `launch` is a [`Launch`]: a kernel's name, the grid, and the arguments
//! as a driver takes them. Making one touches no GPU, so the same checks and the same numbers of threads are tested on
//! the CPU, where the kernels' own source runs through a shim (`kernels/cuda/shim/`).
//!
//! The kernels travel as PTX ([`Module`]), which the driver compiles; nothing here needs CUDA to build.
//!
//! Not here: talking to a driver, and the contents of memory. Ids and positions are checked where they are known, on
//! the host, before they are copied; a kernel takes them as they are.

mod attention;
pub mod device;
mod elementwise;
mod gemm;
mod launch;
mod module;
mod pooling;
pub mod probe;
mod rows;
mod values;

pub use attention::Attention;
pub use elementwise::{BiasGelu, Convert, Rotary, SiluGate};
pub use gemm::Gemm;
pub use launch::{Argument, Kernel, Launch, LaunchError};
pub use module::{Module, TensorCores};
pub use pooling::Pooling;
use rows::row_bytes;
pub use rows::{AddLayerNorm, AddRmsNorm, Embedding, Softmax};
pub use values::{DType, Values};
