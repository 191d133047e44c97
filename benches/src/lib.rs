//! Parts that the benches share: a host with a guest in it, plain wasmtime beside it, figures.

pub mod bare;
pub mod figures;
pub mod guest;
