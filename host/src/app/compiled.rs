//! Native code of a component, loaded: its rest, and its modules, which components share.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::Module;
use wasmtime::component::{Component, Linker};

use super::parts::Parts;

/// A component ready to be linked.
#[derive(Clone)]
pub(crate) struct Compiled {
    component: Component,
    /// Names of imports, in the order of `modules`.
    imports: Vec<String>,
    modules: Vec<CompiledModule>,
}

/// A core module that is loaded; clones share its code.
#[derive(Clone)]
pub(crate) struct CompiledModule(Arc<Module>);

/// Modules that are in use, by the SHA-256 of their bytes.
#[derive(Default)]
pub(crate) struct LoadedModules(Mutex<HashMap<[u8; 32], Weak<Module>>>);

impl Compiled {
    /// Joins parts that are loaded; `modules` are in the order of `parts`.
    pub(crate) fn new(component: Component, parts: &Parts, modules: Vec<CompiledModule>) -> Self {
        Self { component, imports: parts.modules.iter().map(|module| module.import.clone()).collect(), modules }
    }

    /// Returns the rest, which imports the modules.
    pub(crate) fn component(&self) -> &Component {
        &self.component
    }

    /// Returns the modules.
    pub(crate) fn modules(&self) -> &[CompiledModule] {
        &self.modules
    }

    /// Returns `linker` with the modules of this component, and those of no other: a copy, if it has some.
    pub(crate) fn linker<'a, T: 'static>(&self, linker: &'a Linker<T>) -> wasmtime::Result<Cow<'a, Linker<T>>> {
        let mut linker = Cow::Borrowed(linker);
        for (import, module) in self.imports.iter().zip(&self.modules) {
            linker.to_mut().root().module(import, &module.0)?;
        }
        Ok(linker)
    }
}

impl LoadedModules {
    /// Returns the module with these bytes, if it is in use.
    pub(crate) fn get(&self, digest: &[u8; 32]) -> Option<CompiledModule> {
        self.0.lock().get(digest)?.upgrade().map(CompiledModule)
    }

    /// Adds a module; returns the one that is in use if another was faster.
    pub(crate) fn insert(&self, digest: [u8; 32], module: Module) -> CompiledModule {
        let mut modules = self.0.lock();
        modules.retain(|_, module| module.strong_count() > 0);
        if let Some(loaded) = modules.get(&digest).and_then(Weak::upgrade) {
            return CompiledModule(loaded);
        }
        let module = Arc::new(module);
        modules.insert(digest, Arc::downgrade(&module));
        CompiledModule(module)
    }
}
