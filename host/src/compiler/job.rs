//! One compile, in a fork of the compiler process: it reads the component, answers the host, and ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::message::{Order, Reply};
use super::sealed;
use crate::confine::Confinement;
use crate::limits::{COMPONENT_BYTES_MAX, NATIVE_CODE_BYTES_MAX};
use crate::sandbox::{CodeGenerator, FunctionCache};
use crate::telemetry::panic_message;

/// Bytes of data that are not the compile's own: the shared cache, and stacks of a thread for each core.
const DATA_BYTES_BESIDES: u64 = 1 << 30;

/// A compile in the process that does it.
pub(super) struct Job {
    pub order: Order,
    /// Memory for what the cache of the service shall learn.
    pub news: File,
    /// Process that forked this one.
    pub service: Pid,
}

impl Job {
    /// Compiles and answers. The caller then lets the process end.
    pub(super) fn run(mut self, generator: &CodeGenerator, cache: &FunctionCache) -> io::Result<()> {
        // No compile outlives its service.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(self.service) {
            return Ok(());
        }
        self.limit()?;
        Confinement::Compile.apply(&[]);
        let component = sealed::read(self.order.component, COMPONENT_BYTES_MAX)?;
        let compiled = catch_unwind(AssertUnwindSafe(|| generator.compile(&component)));
        let reply = match compiled {
            Ok(Ok(code)) => Reply::Compiled(sealed::write(&code)?),
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(panic) => Reply::Died(format!("it panicked: {}", panic_message(&*panic))),
        };
        // First, since the service takes the end of the client for the end of the job.
        write_news(&mut self.news, &cache.news())?;
        reply.send(self.order.socket.as_fd())
    }

    /// Sets limits that the kernel enforces, wider than those of the service: a second net.
    fn limit(&self) -> io::Result<()> {
        let set =
            |resource, max| rustix::process::setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) });
        let limits = self.order.limits;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let cpu = limits.time_max + Duration::from_secs(2);
        set(Resource::Cpu, cpu.as_secs().saturating_mul(cores))?;
        set(Resource::Data, limits.memory_bytes_max.saturating_mul(2).saturating_add(DATA_BYTES_BESIDES))?;
        set(Resource::Fsize, NATIVE_CODE_BYTES_MAX)?;
        Ok(())
    }
}

/// Writes the news with their length in front, the length last: news that are cut off have none.
fn write_news(file: &mut File, news: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.write_all(&0_u64.to_le_bytes())?;
    file.write_all(news)?;
    file.write_all_at(&(news.len() as u64).to_le_bytes(), 0)
}

/// Reads the news of a job that has ended; none if it ended before they were written.
pub(super) fn read_news(file: &File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut length = [0; 8];
    let total = file.metadata()?.len();
    if total < length.len() as u64 {
        return Ok(Vec::new());
    }
    file.read_exact_at(&mut length, 0)?;
    let news = u64::from_le_bytes(length).min(total - length.len() as u64);
    let mut bytes = vec![0; usize::try_from(news).unwrap_or(0)];
    file.read_exact_at(&mut bytes, length.len() as u64)?;
    Ok(bytes)
}
