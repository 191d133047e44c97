//! Commands: components with an export of `wasi:cli/run`, such as a program of tests. They import WASI alone, reach no
//! file and no network, and their output is collected.
//!
//! Not here: calls of functions (`invoke`), which have more imports and a receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Store, Trap};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::invoke::{LIFT_SLACK, Sandbox, set_deadline};
use super::limiter::{LimitExceeded, MemoryLimiter};
use crate::app::compiled::Compiled;
use crate::limits;

/// Bytes that one write may carry.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// A command that can be run.
pub(crate) struct Command(CommandPre<CommandState>);

/// Limits of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandLimits {
    pub timeout: Duration,
    pub memory_bytes_max: u64,
    /// Bytes of stdout and stderr together; more are dropped.
    pub output_bytes_max: usize,
}

/// One run.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub end: CommandEnd,
    /// Stdout and stderr, as they were written.
    pub text: String,
    pub dropped_bytes: usize,
}

/// End of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    Exited {
        is_success: bool,
    },
    Timeout,
    MemoryLimit {
        asked_bytes: u64,
    },
    /// A panic among others; its message is in the output.
    Trapped {
        reason: String,
    },
}

impl Sandbox {
    /// Links a command. The error is a text: a component that imports more than WASI, or has no `wasi:cli/run`.
    pub(crate) fn command(&self, compiled: &Compiled) -> Result<Command, String> {
        let link = || {
            let mut linker: Linker<CommandState> = Linker::new(self.engine());
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            CommandPre::new(compiled.linker(&linker)?.instantiate_pre(compiled.component())?)
        };
        link().map(Command).map_err(|error: wasmtime::Error| format!("{error:#}"))
    }

    /// Runs a command to its end in a fresh instance.
    pub(crate) async fn run_command(&self, command: &Command, words: &[&str], limits: CommandLimits) -> CommandOutput {
        let output = Output::new(limits.output_bytes_max);
        let mut store = Store::new(self.engine(), CommandState::new(words, &output, limits.memory_bytes_max));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.output_bytes_max + LIFT_SLACK as usize);
        let deadline = Instant::now() + limits.timeout;
        set_deadline(&mut store, deadline);
        let run = async {
            let command = command.0.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        let end = match tokio::time::timeout_at(deadline.into(), run).await {
            Err(_) => CommandEnd::Timeout,
            Ok(Ok(ended)) => CommandEnd::Exited { is_success: ended.is_ok() },
            Ok(Err(error)) => CommandEnd::of_error(&error),
        };
        let mut kept = output.kept.lock();
        let text = String::from_utf8_lossy(&std::mem::take(&mut kept.bytes)).into_owned();
        CommandOutput { end, text, dropped_bytes: kept.dropped_bytes }
    }
}

impl CommandEnd {
    fn of_error(error: &wasmtime::Error) -> Self {
        if let Some(I32Exit(status)) = error.downcast_ref() {
            return Self::Exited { is_success: *status == 0 };
        }
        match error.downcast_ref() {
            Some(LimitExceeded::Deadline) => return Self::Timeout,
            Some(LimitExceeded::Memory { asked, .. }) => return Self::MemoryLimit { asked_bytes: *asked },
            Some(LimitExceeded::Table { .. } | LimitExceeded::HostMemory { .. }) | None => {}
        }
        let reason = error.downcast_ref::<Trap>().map_or_else(|| error.to_string(), Trap::to_string);
        Self::Trapped { reason }
    }
}

/// Data of a command's store.
struct CommandState {
    limiter: MemoryLimiter,
    table: ResourceTable,
    wasi: WasiCtx,
}

impl CommandState {
    fn new(words: &[&str], output: &Output, memory_bytes_max: u64) -> Self {
        // No preopened directory and no environment; stdin is closed.
        let wasi = output.wasi().args(words).build();
        Self { limiter: MemoryLimiter::new(memory_bytes_max), table: resource_table(), wasi }
    }
}

impl WasiView for CommandState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Returns a table of bounded size.
pub(super) fn resource_table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::RESOURCES_MAX);
    table
}

/// Stdout and stderr of a command, one after the other as they are written.
#[derive(Clone)]
pub(super) struct Output {
    kept: Arc<Mutex<Kept>>,
    bytes_max: usize,
}

impl Output {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: Arc::default(), bytes_max }
    }

    /// Returns a builder of a WASI that writes here, and reaches no file and no network.
    pub(super) fn wasi(&self) -> WasiCtxBuilder {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(self.clone())
            .stderr(self.clone())
            .max_random_size(limits::RANDOM_BYTES_MAX)
            .allow_ip_name_lookup(false)
            .allow_tcp(false)
            .allow_udp(false);
        wasi
    }

    /// Returns what was written so far.
    pub(super) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.kept.lock().bytes).into_owned()
    }
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped_bytes: usize,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 calls this, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut kept = self.kept.lock();
        let room = self.bytes_max.saturating_sub(kept.bytes.len()).min(bytes.len());
        kept.bytes.extend_from_slice(&bytes[..room]);
        kept.dropped_bytes += bytes.len() - room;
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
