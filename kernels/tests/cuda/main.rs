//! The CUDA kernels, run on the CPU: the same `.cu` sources, compiled by g++ over `kernels/cuda/shim/`, launched as the
//! library would launch them, and compared with their CPU twins.
//!
//! Every case runs on a plain build with threads in ascending, descending and shuffled order, and on one with the
//! address sanitizer. Not here: speed, and anything between a launch and a GPU.

mod build;
mod cases;
mod checks;
mod device;
mod driver;
mod planted;
mod products;
mod ptx;
mod shim;
#[path = "../support/stub_driver.rs"]
mod stub_driver;
mod twins;
