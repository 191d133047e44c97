//! The sandbox itself: makes programs of apps, and runs one attempt of a call.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use wasmtime::component::Linker;
use wasmtime::{Store, UpdateDeadline};

use super::call_context::CallContext;
use super::engine::{EngineConfig, PoolMode, TickingEngine};
use super::imports;
use super::limiter::LimitExceeded;
use super::linked_code::LinkedCode;
use super::meter::{CpuTime, metered};
use super::program::{Program, ProgramError};
use super::state::CallState;
use super::trap;
use crate::app::compiled::Compiled;
use crate::app::metadata::Metadata;
use crate::call::{CallResult, Failure, FailureCode, Payload, Receipt, WallParts, micros};
use crate::ids::Version;
use crate::limits::Ceilings;
use crate::outbound::Grants;
use crate::settings::{DeclaredSecrets, Settings};

/// Bytes allowed for the shape of a result around its data, when guest data is copied out.
pub(super) const LIFT_SLACK: u64 = 64 << 10;

/// A sandbox that cannot be set up, or a component whose description fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    #[error("the component exports no `bireme:host/metadata`; is it built with bireme-sdk?")]
    NoDescribe,
    #[error("`describe` failed: {0}")]
    Describe(String),
}

/// Result of one attempt and its cost as far as the sandbox measures it: no wall clock, no wait for a slot.
#[derive(Debug)]
pub(crate) struct Attempt<T = Payload> {
    pub result: Result<T, Failure>,
    pub receipt: Receipt,
}

/// Times of an attempt that the sandbox measures.
#[derive(Default)]
pub(super) struct AttemptTimes {
    pub instantiate: Duration,
    pub cpu: CpuTime,
}

impl<T> Attempt<T> {
    /// Closes the call's log and collects its figures.
    pub(super) fn new(
        call: &CallContext,
        store: &Store<CallState>,
        times: &AttemptTimes,
        result: Result<T, Failure>,
    ) -> Self {
        let result = result.map_err(|failure| redact_secrets(call, failure));
        call.log.finish();
        let instantiate_us = micros(times.instantiate);
        let receipt = Receipt {
            instantiate_us,
            wall_parts: WallParts { instantiate_us, ..call.boundary.task.lock().timeline.parts() },
            cpu_us: micros(times.cpu.total),
            memory_peak_bytes: store.data().limiter.peak,
            host_calls: call.boundary.crossings(),
            log_dropped_bytes: call.log.dropped_bytes(),
            inference: call.take_inference(),
            ..Receipt::default()
        };
        Self { result, receipt }
    }
}

/// The engine, its pool, and the linked interfaces of the host.
pub struct Sandbox {
    ticking: TickingEngine,
    linker: Linker<CallState>,
    ceilings: Ceilings,
}

impl Sandbox {
    /// Makes a sandbox: the engine, its pool, and every linked interface.
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, SandboxError> {
        let ticking = TickingEngine::new(config).map_err(SandboxError::Engine)?;
        let mut linker = Linker::new(&ticking.engine);
        imports::add_to_linker(&mut linker).map_err(SandboxError::Engine)?;
        Ok(Self { ticking, linker, ceilings: config.ceilings.clone() })
    }

    /// Returns the engine, for compilation.
    pub fn engine(&self) -> &wasmtime::Engine {
        &self.ticking.engine
    }

    /// Returns the number of concurrent instances.
    pub(crate) fn instances_max(&self) -> u32 {
        self.ticking.instances_max
    }

    /// Returns the pool's way to reset memories.
    pub(crate) fn pool_mode(&self) -> PoolMode {
        self.ticking.pool_mode
    }

    /// Makes a program of an app: links it, and resolves its limits, grants and secrets.
    pub(crate) fn program(
        &self,
        compiled: &Compiled,
        version: Version,
        metadata: Metadata,
        grants: &Grants,
        settings: &Settings,
    ) -> Result<Program, ProgramError> {
        let code = LinkedCode::link(&self.linker, compiled, &metadata)?;
        Program::new(version, metadata, code, grants, settings, &self.ceilings)
    }

    /// Runs one attempt in a fresh instance. Dropping the future ends the guest and frees its slot.
    pub(crate) async fn invoke(&self, call: &Arc<CallContext>, input: Payload) -> Attempt {
        let mut store = self.store(call);
        let mut times = AttemptTimes::default();
        let guest = async {
            let begun = Instant::now();
            let app = LinkedCode::functions_of(call.function.program()).instantiate_async(&mut store).await;
            times.instantiate = begun.elapsed();
            let app = app?;
            let name = call.function.name.as_str();
            let input = input.into();
            let guest = app.bireme_host_handler().call_invoke(&mut store, name, &input);
            metered(guest, &call.boundary, &call.clone().into(), &mut times.cpu).await
        };
        let result = match run_to_end(call, guest).await {
            Err(failure) => Err(failure),
            Ok(Err(failure)) => Err(add_denial(call, failure.into())),
            Ok(Ok(output)) => check_output(call, output.into()),
        };
        Attempt::new(call, &store, &times, result)
    }

    /// Returns a store for one attempt, with its function's limits.
    pub(super) fn store(&self, call: &Arc<CallContext>) -> Store<CallState> {
        let mut store = Store::new(&self.ticking.engine, CallState::new(call.clone()));
        store.limiter(|state| &mut state.limiter);
        let out_bytes = call.function.limits.output_bytes_max.max(call.function.limits.input_bytes_max) + LIFT_SLACK;
        store.set_hostcall_fuel(usize::try_from(out_bytes).unwrap_or(usize::MAX));
        set_deadline(&mut store, call.deadline);
        store
    }

    #[cfg(test)]
    pub(super) fn linker(&self) -> &Linker<CallState> {
        &self.linker
    }
}

/// Runs a guest until it returns, traps, or meets its deadline, or a host function panics under it.
pub(super) async fn run_to_end<T>(
    call: &CallContext,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Failure> {
    // A panic in a host function costs this call, not the process; its store is not used again.
    let guest = AssertUnwindSafe(guest).catch_unwind();
    match tokio::time::timeout_at(call.deadline.into(), guest).await {
        Err(_) => Err(trap::timeout(call)),
        Ok(Err(_panic)) => Err(Failure::host_bug()),
        Ok(Ok(ended)) => ended.map_err(|error| trap::failure(call, &error)),
    }
}

/// Makes the guest check its deadline and yield its thread at every tick.
pub(super) fn set_deadline<T>(store: &mut Store<T>, deadline: Instant) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if Instant::now() >= deadline { Err(LimitExceeded::Deadline.into()) } else { Ok(UpdateDeadline::Yield(1)) }
    });
}

/// Adds the reason of a refused request, which the guest itself saw as a bare code.
fn add_denial(call: &CallContext, mut failure: Failure) -> Failure {
    failure.causes.extend(call.take_denial());
    failure
}

/// Redacts the function's secrets in a failure: a URL in an error may hold one.
fn redact_secrets(call: &CallContext, mut failure: Failure) -> Failure {
    if let Some(secrets) = &call.function.secrets {
        redact(&mut failure, secrets);
    }
    failure
}

/// Redacts secrets in the texts of a failure.
pub(crate) fn redact(failure: &mut Failure, secrets: &DeclaredSecrets) {
    for text in std::iter::once(&mut failure.message).chain(&mut failure.causes) {
        *text = secrets.redact(text).into_owned();
    }
}

fn check_output(call: &CallContext, output: Payload) -> CallResult {
    let limit = call.function.limits.output_bytes_max;
    if output.data.len() as u64 > limit {
        let message = format!(
            "function `{}` returned {} bytes, over its output limit of {limit}; return less, or in parts",
            call.function.name,
            output.data.len()
        );
        return Err(Failure::new(FailureCode::OutputTooLarge, message));
    }
    Ok(output)
}
