//! Programs of the roles: executable, arguments and environment.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::role::Role;
use crate::devices::DeviceName;
use crate::tasks;
use crate::wire::MODELS_DIR_VARIABLE;

/// Variables of the host's environment that a child gets, and no others: the environment holds the secrets of the apps,
/// and a driver is a large foreign program.
pub(super) const ENVIRONMENT: [&str; 9] = [
    "RUST_LOG",
    "RUST_BACKTRACE",
    "BIREME_WORKER_THREADS",
    "BIREME_CUDA_MEMORY",
    // Search path of the loader for `libcuda.so.1` and cuBLASLt.
    "LD_LIBRARY_PATH",
    // The visible devices and their order.
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    // Compilation cache of the driver, by default below the home directory: without it each start compiles anew.
    "CUDA_CACHE_PATH",
    "HOME",
];
/// Those of them that the compiler gets.
const ENVIRONMENT_OF_COMPILER: [&str; 2] = ["RUST_BACKTRACE", "LD_LIBRARY_PATH"];

/// An executable and its first arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path of the executable.
    pub program: PathBuf,
    /// First arguments; those of the role follow.
    pub args: Vec<String>,
}

impl Program {
    /// Returns this same binary with a first word. The link in `/proc` still leads to it after the file was replaced.
    pub(super) fn this_binary(word: &str) -> Self {
        Self { program: "/proc/self/exe".into(), args: vec![word.to_owned()] }
    }

    /// Returns its command with some of this process's environment, in a process group of its own: Ctrl-C in a terminal
    /// reaches the host, which then hangs up in its own time.
    pub(super) fn command(&self, environment: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).process_group(0).env_clear();
        for key in environment {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command
    }
}

/// Programs of all roles, and the directory of the models.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    worker: Program,
    compiler: Program,
    models_dir: PathBuf,
}

impl Programs {
    /// Returns this binary in each role.
    pub(super) fn of_this_binary(models_dir: &Path) -> Self {
        Self::of_worker(Program::this_binary("worker"), models_dir)
    }

    /// Returns this binary but for the workers.
    pub(super) fn of_worker(worker: Program, models_dir: &Path) -> Self {
        Self { worker, compiler: Program::this_binary("compiler"), models_dir: models_dir.to_owned() }
    }

    /// Returns the command of a role. `end` is the child's end of what it speaks over.
    pub(super) fn command(&self, role: &Role, end: OwnedFd) -> io::Result<Command> {
        let mut command = match role {
            Role::Compiler => self.compiler.command(&ENVIRONMENT_OF_COMPILER),
            _ => self.worker.command(&ENVIRONMENT),
        };
        match role {
            Role::Probe => {
                command.arg("--probe").stdin(Stdio::null()).stdout(end).stderr(Stdio::null());
                return Ok(command);
            }
            Role::Worker(device) => {
                // The worker may read what is there when it starts.
                std::fs::create_dir_all(&self.models_dir)?;
                command.env(MODELS_DIR_VARIABLE, &self.models_dir);
                // The CPU is the default of the worker.
                if *device != DeviceName::Cpu {
                    command.arg("--device").arg(device.to_string());
                }
            }
            Role::ModelReader(name) => {
                command.env(MODELS_DIR_VARIABLE, self.models_dir.join(name));
            }
            // It may read no file, and so not the machine's number of cores.
            Role::Compiler => {
                command.env("RAYON_NUM_THREADS", tasks::cores().to_string());
            }
        }
        command.stdin(end).stdout(Stdio::null());
        Ok(command)
    }
}
