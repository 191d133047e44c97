//! Preloading: the base component of a language loads an app's source files once, and the memory that results becomes a
//! component of its own. So a call finds its modules imported.
//!
//! ```text
//! base ──instrument──► instance ──load(entry)──► snapshot ──► component of the app
//! ```
//!
//! The result depends on the base and the files alone: clock, randomness and environment are the same in each run.
//!
//! Not here: which files there are (`python`), native code of the instrumented base (`app::artifact`).

mod access;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, Linker, Lower};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wizer::{ComponentContext, Wizer};

use self::access::Access;
use self::state::PreloadState;
pub(crate) use self::state::SourceFiles;
use super::command::Output;
use super::invoke::{Sandbox, set_deadline};
use super::limiter::LimitExceeded;
use crate::app::compiled::Compiled;

/// Export of a base.
const LOADER: &str = "bireme:host/loader@0.1.0";

/// Limits of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PreloadLimits {
    pub timeout: Duration,
    pub memory_bytes_max: u64,
    /// Bytes of stdout and stderr together; more are dropped.
    pub output_bytes_max: usize,
}

/// A base whose state can be read after a run.
pub(crate) struct InstrumentedBase<'a> {
    context: ComponentContext<'a>,
    wizer: Wizer,
}

/// An instrumented base that is compiled and linked.
pub(crate) struct LinkedBase(InstancePre<PreloadState>);

/// An app as its directory tells.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct AppInfo {
    /// Name of the app where its source gives none.
    pub name: String,
    pub version: String,
    pub description: String,
}

/// Reason why a module cannot be loaded.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct LoadFailure {
    pub message: String,
    /// The author's own frames, below what the modules printed; empty if there is neither.
    pub traceback: String,
    /// Name of the module that was not found.
    pub missing: Option<String>,
}

/// A component of an instance's state.
struct Preloaded<R> {
    component: Vec<u8>,
    result: R,
    output: String,
}

/// A component with an app's modules.
pub(crate) struct PreloadedApp {
    pub component: Vec<u8>,
    /// The app's metadata.
    pub document: String,
    /// What the modules printed.
    pub output: String,
}

/// A run without a component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreloadError {
    /// The base is no component that can be preloaded.
    #[error("the base component cannot be used: {0:#}")]
    Base(wasmtime::Error),
    /// A module failed.
    #[error("{}", .0.message)]
    Load(LoadFailure),
    #[error("importing the modules took longer than {} s; move the work into a function", .0.as_secs())]
    Timeout(Duration),
    #[error("importing the modules asked for {asked} bytes of memory, over the limit of {limit}")]
    Memory { asked: u64, limit: u64 },
    #[error("a module ended the process while it was imported; call `exit` in no module")]
    Exited,
    #[error("importing the modules crashed the interpreter: {0}")]
    Crashed(String),
}

/// Makes the state of a base readable. Returns the base for `snapshot`, and the component to run.
pub(crate) fn instrument(base: &[u8]) -> Result<(InstrumentedBase<'_>, Vec<u8>), PreloadError> {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let (context, component) = wizer.instrument_component(base).map_err(PreloadError::Base)?;
    Ok((InstrumentedBase { context, wizer }, component))
}

impl Sandbox {
    /// Links an instrumented base.
    pub(crate) fn link_base(&self, compiled: &Compiled) -> Result<LinkedBase, PreloadError> {
        let link = || {
            let mut linker = compiled.linker(&Linker::new(self.engine()))?.into_owned();
            state::add_to_linker(&mut linker, compiled.component())?;
            linker.instantiate_pre(compiled.component())
        };
        link().map(LinkedBase).map_err(PreloadError::Base)
    }

    /// Loads `module` of `files` in a fresh instance, and returns what has become of the base.
    pub(crate) async fn preload_app(
        &self,
        base: &InstrumentedBase<'_>,
        linked: &LinkedBase,
        files: Arc<dyn SourceFiles>,
        (module, app): (&str, &AppInfo),
        limits: PreloadLimits,
    ) -> Result<PreloadedApp, PreloadError> {
        let load = async |store: &mut Store<PreloadState>, instance: &Instance| {
            let load = export(store, instance, "load")?;
            let load =
                instance.get_typed_func::<(&str, &AppInfo), (Result<String, LoadFailure>,)>(&mut *store, load)?;
            Ok(load.call_async(&mut *store, (module, app)).await?.0)
        };
        let Preloaded { component, result, output } = self.preload(base, linked, files, limits, load).await?;
        let document = result.map_err(|failure| {
            // What was printed may explain the failure.
            PreloadError::Load(LoadFailure { traceback: output.clone() + &failure.traceback, ..failure })
        })?;
        Ok(PreloadedApp { component, document, output })
    }

    /// Imports modules of `files` ahead of an app, those that can be imported, and returns what has become of the base.
    pub(crate) async fn preload_modules(
        &self,
        base: &InstrumentedBase<'_>,
        linked: &LinkedBase,
        files: Arc<dyn SourceFiles>,
        modules: &[String],
        limits: PreloadLimits,
    ) -> Result<Vec<u8>, PreloadError> {
        let preload = async |store: &mut Store<PreloadState>, instance: &Instance| {
            let preload = export(store, instance, "preload")?;
            let preload =
                instance.get_typed_func::<(&[String],), (Vec<(String, LoadFailure)>,)>(&mut *store, preload)?;
            Ok(preload.call_async(&mut *store, (modules,)).await?.0)
        };
        let preloaded = self.preload(base, linked, files, limits, preload).await?;
        for (module, failure) in preloaded.result {
            tracing::debug!(module, reason = failure.message, "a module of the requirements cannot be imported");
        }
        Ok(preloaded.component)
    }

    /// Runs `load` in a fresh instance, and makes a component of the instance's state.
    async fn preload<R>(
        &self,
        base: &InstrumentedBase<'_>,
        linked: &LinkedBase,
        files: Arc<dyn SourceFiles>,
        limits: PreloadLimits,
        load: impl AsyncFnOnce(&mut Store<PreloadState>, &Instance) -> wasmtime::Result<R>,
    ) -> Result<Preloaded<R>, PreloadError> {
        let output = Output::new(limits.output_bytes_max);
        let state = PreloadState::new(files, &output, limits.memory_bytes_max);
        let mut store = Store::new(self.engine(), state);
        store.limiter(|state| &mut state.limiter);
        // The whole memory is read as one list.
        store.set_hostcall_fuel(usize::MAX);
        let deadline = Instant::now() + limits.timeout;
        set_deadline(&mut store, deadline);
        let run = async {
            let instance = linked.0.instantiate_async(&mut store).await?;
            let result = load(&mut store, &instance).await?;
            Ok((instance, result))
        };
        let (instance, result) = match tokio::time::timeout_at(deadline.into(), run).await {
            Err(_) => return Err(PreloadError::Timeout(limits.timeout)),
            Ok(ran) => ran.map_err(|error| failure(&error, &limits))?,
        };
        // The instance runs no code of the author's from here on.
        store.set_epoch_deadline(u64::MAX / 2);
        store.data_mut().limiter.lift();
        let mut access = Access { store: &mut store, instance };
        let component = base.wizer.snapshot_component(&base.context, &mut access).await.map_err(PreloadError::Base)?;
        Ok(Preloaded { component, result, output: output.into_text() })
    }
}

/// Returns a function of the loader.
fn export(store: &mut Store<PreloadState>, instance: &Instance, name: &str) -> wasmtime::Result<ComponentExportIndex> {
    let interface = instance.get_export_index(&mut *store, None, LOADER);
    let export = interface.and_then(|at| instance.get_export_index(&mut *store, Some(&at), name));
    export.ok_or_else(|| wasmtime::format_err!("it has no export `{name}` of `{LOADER}`"))
}

fn failure(error: &wasmtime::Error, limits: &PreloadLimits) -> PreloadError {
    if error.is::<I32Exit>() {
        return PreloadError::Exited;
    }
    match error.downcast_ref() {
        Some(LimitExceeded::Deadline) => PreloadError::Timeout(limits.timeout),
        Some(&LimitExceeded::Memory { asked, limit }) => PreloadError::Memory { asked, limit },
        _ => {
            // The cause alone: wasm frames of the interpreter tell an author nothing.
            let reason = error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), Trap::to_string);
            PreloadError::Crashed(reason)
        }
    }
}
