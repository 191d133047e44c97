//! The host's side: starts the compiler process with the first compile, and again after its death.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::config::{CompileLimits, CompilerConfig, Progress, announced_after};
use super::error::CompileError;
use super::message::{self, Reply};
use super::sealed;
use crate::limits::NATIVE_CODE_BYTES_MAX;
use crate::packets;
use crate::spawner::{Child, Role, Spawner};
use crate::tasks::{self, blocking};

/// Processes that one component may end: the first may have been another's fault.
const TRIES_MAX: u32 = 2;
/// Time beyond the limit of a compile after which the process itself counts as stopped.
const GRACE: Duration = Duration::from_secs(10);
/// Compiles at a time on a machine with one core: a slow one must not stop the others.
const PARALLEL_MIN: usize = 2;

/// Compiler of one host.
pub(crate) struct Compiler {
    config: CompilerConfig,
    spawner: Spawner,
    /// None before the first compile.
    process: Mutex<Option<Arc<Process>>>,
    places: Semaphore,
}

/// A running compiler process; ends with its last handle.
struct Process {
    control: UnixStream,
    _child: Child,
}

impl Compiler {
    /// Makes a compiler; starts nothing.
    pub(crate) fn new(config: CompilerConfig, spawner: Spawner) -> Self {
        let places = Semaphore::new(tasks::cores().max(PARALLEL_MIN));
        Self { config, spawner, process: Mutex::default(), places }
    }

    /// Compiles a component, called `name` in messages. Dropping the future ends the compile. Must run within a tokio
    /// runtime.
    pub(crate) async fn compile(&self, name: &str, component: Bytes) -> Result<Vec<u8>, CompileError> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let (begun, bytes) = (Instant::now(), component.len() as u64);
        let mut work = std::pin::pin!(self.attempts(component));
        if let Ok(done) = timeout(announced_after(bytes), work.as_mut()).await {
            return done;
        }
        (self.config.progress)(&Progress { name, bytes, took: None });
        let code = work.await?;
        (self.config.progress)(&Progress { name, bytes, took: Some(begun.elapsed()) });
        Ok(code)
    }

    async fn attempts(&self, component: Bytes) -> Result<Vec<u8>, CompileError> {
        let component = blocking(move || sealed::write(&component)).await.map_err(CompileError::Start)?;
        let CompileLimits { time_max, memory_bytes_max } = self.config.limits;
        let mut reason = String::new();
        for _ in 0..TRIES_MAX {
            let process = self.process().map_err(CompileError::Start)?;
            let reply = match timeout(time_max + GRACE, process.ask(&component, self.config.limits)).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => {
                    self.forget(&process);
                    reason = error.to_string();
                    continue;
                }
                Err(_) => {
                    self.forget(&process);
                    return Err(CompileError::OverTime { time_max });
                }
            };
            return match reply {
                Reply::Compiled(code) => {
                    let code = blocking(move || sealed::read(code, NATIVE_CODE_BYTES_MAX)).await;
                    code.map_err(|error| CompileError::Died { reason: error.to_string() })
                }
                Reply::Refused(reason) => Err(CompileError::Refused { reason }),
                Reply::OverTime => Err(CompileError::OverTime { time_max }),
                Reply::OverMemory => Err(CompileError::OverMemory { memory_bytes_max }),
                Reply::Died(reason) => Err(CompileError::Died { reason }),
            };
        }
        Err(CompileError::Died { reason })
    }

    /// Returns the running process; starts one if there is none.
    fn process(&self) -> io::Result<Arc<Process>> {
        let mut process = self.process.lock();
        if let Some(process) = &*process {
            return Ok(process.clone());
        }
        let started = Arc::new(Process::start(&self.spawner)?);
        *process = Some(started.clone());
        Ok(started)
    }

    /// Drops a process that does not answer; the next compile starts another.
    fn forget(&self, dead: &Arc<Process>) {
        let mut process = self.process.lock();
        if process.as_ref().is_some_and(|process| Arc::ptr_eq(process, dead)) {
            tracing::warn!("the compiler process has ended; the next compile starts another");
            *process = None;
        }
    }
}

impl Process {
    fn start(spawner: &Spawner) -> io::Result<Self> {
        let (ours, theirs) = packets::pair()?;
        let child = spawner.start(Role::Compiler, theirs)?;
        Ok(Self { control: packets::watched(ours)?, _child: child })
    }

    /// Has a component compiled. An error if the process is gone.
    async fn ask(&self, component: &OwnedFd, limits: CompileLimits) -> io::Result<Reply> {
        let (ours, theirs) = packets::pair()?;
        let send = || message::order(self.control.as_fd(), limits, theirs.as_fd(), component.as_fd());
        self.control.async_io(Interest::WRITABLE, send).await?;
        drop(theirs);
        let socket = packets::watched(ours)?;
        let reply = socket.async_io(Interest::READABLE, || Reply::receive(socket.as_fd())).await?;
        reply.ok_or_else(|| io::Error::other("the compiler process ended"))
    }
}
