//! Cranelift: native code of components, for the compiler process. The host's own engine has no compiler.

use std::sync::Arc;

use wasmtime::Engine;

use super::engine;
use super::function_cache::FunctionCache;

/// A compiler whose code the host's engine loads.
pub(crate) struct CodeGenerator {
    engine: Engine,
}

/// The engine of the compiler cannot be set up, or refuses a component.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct CodeGeneratorError(wasmtime::Error);

impl CodeGenerator {
    /// Makes a compiler over a cache of functions. Starts no thread.
    pub(crate) fn new(cache: Arc<FunctionCache>) -> Result<Self, CodeGeneratorError> {
        let engine = engine::compiling(cache).map_err(CodeGeneratorError)?;
        Ok(Self { engine })
    }

    /// Compiles a component or a core module, on as many threads as there are cores. Blocks for as long as that takes
    /// (about a second for 2 MB on two cores).
    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, CodeGeneratorError> {
        let compiled = match wasmparser::Parser::is_core_wasm(wasm) {
            true => self.engine.precompile_module(wasm),
            false => self.engine.precompile_component(wasm),
        };
        compiled.map_err(CodeGeneratorError)
    }
}
