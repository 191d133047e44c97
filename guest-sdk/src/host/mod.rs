//! Host interface of the SDK, the only one.
//!
//! `wasm` crosses to the imports of `wit/`; `native` replaces them in the author's own tests: calls run in process, and
//! HTTP, models and key-value data come from a fake, or fail and name the missing one. Both offer the same functions,
//! so everything above is written once.

#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
mod wasm_http;
#[cfg(target_arch = "wasm32")]
mod wasm_model;
#[cfg(target_arch = "wasm32")]
mod wasm_spawn;
#[cfg(target_arch = "wasm32")]
mod wasm_web;
#[cfg(target_arch = "wasm32")]
pub use self::wasm::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm_http::send;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm_model::{classify, embed, infer, rerank};
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm_spawn::{OutcomeReader, SpawnedMap, cancel, get, spawn};
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm_web::{SERVE, Serve};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native;
#[cfg(not(target_arch = "wasm32"))]
mod native_spawn;
#[cfg(not(target_arch = "wasm32"))]
pub use self::native::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native_spawn::{OutcomeReader, SpawnedMap, cancel, get, spawn};

use crate::failure::Result;
use crate::kv;

/// Order of a map's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of the inputs.
    Input,
    /// As calls complete.
    Completion,
}

/// Error of a swap.
#[derive(Debug)]
pub(crate) enum SwapError {
    /// The key holds another value.
    Lost(Cas),
    Fault(kv::Fault),
}

/// Outcome of one input.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub index: u64,
    pub result: Result<Payload>,
}
