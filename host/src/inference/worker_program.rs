//! The worker program: the executable, its arguments and its environment.

use std::path::PathBuf;

use tokio::process::Command;

/// Variables of the host's environment that a worker gets, and no others: the environment holds the secrets of the
/// apps, and a driver is a large foreign program.
const ENVIRONMENT: [&str; 9] = [
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

/// The program that runs as the worker.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// Path of the executable.
    pub program: PathBuf,
    /// First arguments of the executable; the host appends `--device` or `--probe`.
    pub args: Vec<String>,
}

impl WorkerProgram {
    /// Returns this same binary, started as `bireme worker`. The link in `/proc` still leads to it after the file was
    /// replaced.
    pub fn this_binary() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["worker".into()] }
    }

    /// Returns the command that starts it, with nothing of the host's environment but [`ENVIRONMENT`].
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            // Its own group: Ctrl-C in a terminal reaches the host, which then hangs up in its own time.
            .process_group(0)
            .env_clear()
            .kill_on_drop(true);
        for key in ENVIRONMENT {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command
    }
}
