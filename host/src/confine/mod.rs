//! Confinement of processes: a worker or a compiler may compute, and nothing else; a host keeps its files and the
//! network.
//!
//! A worker reads untrusted model files with third-party libraries. One that is taken over shall find no network, no
//! file but those of models, no program to start and no process to signal. Applied before the first thread, since
//! Landlock holds for the calling thread and those it starts.
//!
//! On the CPU (`files`, `syscalls`): the models and its own process are read, no file is written, no socket made, no
//! process started, signalled or traced; no mount, no `io_uring`, no kernel module; no core dump, 1,024 files. A CUDA
//! driver reads libraries and devices, writes caches, and starts a helper where its devices are missing: there only
//! sockets of the network, tracing and the kernel's interfaces are taken away, and a worker that is taken over can do
//! what the user can.
//!
//! A compiler reads hostile components, and no file: its service only what `/proc` says of its forks, each fork
//! nothing. The forks start and signal nobody.
//!
//! A host runs guests, and the code that the compiler made of them. One that is taken over through a hole in wasmtime
//! or Cranelift keeps its data, the connections that it may make anyway, and the files of `HostAccess`: it starts no
//! process (`spawner` does, for it), opens no other file, signals and traces nobody, makes no socket but of TCP and
//! UDP. One that runs as root gives up its capabilities but those over files and low ports.
//!
//! Mechanisms that a kernel lacks are left out: this is a second line of defence, and `bireme doctor` names them.
//! Memory and processes have no limit here: `RLIMIT_NPROC` counts a user's processes and not ours, and a model is as
//! large as it is.

mod files;
mod syscalls;

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

pub use self::files::HostAccess;

/// Files that a worker may have open.
const FILES_MAX: u64 = 1_024;

/// The strictness of a confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Strict, for a worker on the CPU: it reads models, writes no file, makes no socket and starts no program.
    Cpu,
    /// Looser, for a worker on a GPU: the CUDA driver writes caches and devices, and starts a helper.
    Cuda,
    /// For the compiler process: it reads nothing but `/proc`, starts forks and ends them.
    Compiler,
    /// For a compile in a fork of it: it reads no file, starts no process and sends no signal.
    Compile,
}

/// Capabilities that a host of root keeps: over files whose owners are others, and for a port below 1024.
const CAPABILITIES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Confines this process as a host, for good; returns the mechanisms that this kernel lacks. Must be called while it
/// has one thread, since Landlock and capabilities are each thread's own.
pub fn host(access: &HostAccess) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let kept = rustix::thread::capabilities(None).and_then(|sets| {
        let (effective, permitted) = (sets.effective & CAPABILITIES, sets.permitted & CAPABILITIES);
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() },
        )
    });
    if kept.is_err() {
        missing.push("capabilities");
    }
    if rustix::thread::set_no_new_privs(true).is_err() {
        missing.push("no-new-privs");
    }
    missing.extend(files::shut_host(access));
    let filter = syscalls::in_host();
    if filter.is_none_or(|filter| seccompiler::apply_filter_all_threads(&filter).is_err()) {
        missing.push("seccomp");
    }
    missing
}

impl Confinement {
    /// Returns the confinement for a worker on this CUDA device, else the CPU.
    pub(crate) fn of(device: Option<u32>) -> Self {
        if device.is_some() { Self::Cuda } else { Self::Cpu }
    }

    /// Confines the calling thread and all that it starts, for good; returns the mechanisms that this kernel lacks.
    ///
    /// `readable`: the directories and files that a worker on the CPU may read, those in them included. A missing one
    /// is left out.
    pub fn apply(self, readable: &[PathBuf]) -> Vec<&'static str> {
        let limit = |max| Rlimit { current: Some(max), maximum: Some(max) };
        let mut missing = Vec::new();
        for (name, resource, max) in [("core limit", Resource::Core, 0), ("file limit", Resource::Nofile, FILES_MAX)] {
            if rustix::process::setrlimit(resource, limit(max)).is_err() {
                missing.push(name);
            }
        }
        if rustix::thread::set_no_new_privs(true).is_err() {
            missing.push("no-new-privs");
        }
        match self {
            Self::Cpu => missing.extend(files::shut(&files::SYSTEM, readable)),
            Self::Compiler => missing.extend(files::shut(&["/proc"], &[])),
            Self::Compile => missing.extend(files::shut(&[], &[])),
            Self::Cuda => {}
        }
        let filter = match self {
            Self::Cpu | Self::Compile => syscalls::on_cpu(),
            Self::Cuda => syscalls::on_gpu(),
            Self::Compiler => syscalls::in_compiler(),
        };
        if filter.is_none_or(|filter| seccompiler::apply_filter(&filter).is_err()) {
            missing.push("seccomp");
        }
        if missing.is_empty() {
            tracing::debug!(confinement = ?self, "the process is confined");
        } else {
            tracing::info!(confinement = ?self, ?missing, "this kernel confines the process less than others do");
        }
        missing
    }
}
