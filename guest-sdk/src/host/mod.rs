//! Host interface of the SDK, the only one.
//!
//! `wasm` crosses to the imports of `wit/`; `native` replaces them in the author's own tests: calls run in process, and
//! HTTP, models and key-value data come from a fake, or fail and name the missing one. Both offer the same functions,
//! so everything above is written once. On wasm the feature `testing` chooses `native`, so that a test program imports
//! nothing of a host and runs in an empty sandbox.

#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod wasm;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod wasm_http;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod wasm_model;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod wasm_spawn;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod wasm_web;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub use self::wasm::*;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub(crate) use self::wasm_http::send;
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub(crate) use self::wasm_model::{classify, embed, infer, rerank};
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub(crate) use self::wasm_spawn::{OutcomeReader, SpawnedMap, cancel, get, spawn};
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub(crate) use self::wasm_web::{SERVE, Serve};

#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
pub(crate) mod native;
#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
mod native_spawn;
#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
pub use self::native::*;
#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
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
