//! Configuration of a host: the command line, validated once, then immutable. It holds the settings of each part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::app::build::BuildDirs;
use crate::budgets::{MEMORY_MIN, MemoryPlan, machine_bytes};
use crate::compiler::CompilerConfig;
use crate::devices::{DeviceChoice, DeviceName};
use crate::inference::InferenceConfig;
use crate::limits::{BatchLimits, INFERENCE_BYTES_MAX};
use crate::outbound::{Grants, PolicyError};
use crate::sandbox::EngineConfig;
use crate::settings::{Settings, SettingsError};
use crate::spawner::Spawner;

/// Names in the data directory: the token's file, and the Unix socket of the control API.
const TOKEN: &str = "token";
const CONTROL_SOCKET: &str = "run/control.sock";
const MEMORY_MIN_MIB: u64 = MEMORY_MIN >> 20;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No data directory is given, and no home directory is known to take its place.
    #[error("no home directory is known; give a data directory with --data DIR")]
    NoHome,
    /// A value of `--grant` is malformed or means no single machine, or there are too many.
    #[error("a grant cannot be used")]
    Grant(#[from] PolicyError),
    /// Secrets or configuration values are malformed, too large, missing or unreadable.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The memory for the host is more than the machine has, or too little for one call.
    #[error(
        "`--memory-max` is {given} MiB, and must be {MEMORY_MIN_MIB} MiB to {machine} MiB, the memory of this machine"
    )]
    Memory {
        /// Memory that was asked for, in MiB.
        given: u64,
        /// Memory of the machine, in MiB.
        machine: u64,
    },
    /// The address to listen on is not a loopback one.
    #[error(
        "`{listen}` is reachable from other machines, and this version has no access control; \
         listen on 127.0.0.1 behind a proxy that has"
    )]
    NotLoopback {
        /// Address that was asked for.
        listen: SocketAddr,
    },
}

/// Directories of one installation.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Database, components and logs. Must be kept.
    pub data: PathBuf,
    /// File with the operator's token.
    pub token: PathBuf,
    /// Models, one directory each.
    pub models: PathBuf,
    /// Compiled components: a cache.
    pub artifacts: PathBuf,
    /// Compiled dependencies of apps: a cache.
    pub compiled: PathBuf,
}

impl Directories {
    /// Returns directories under `data`, else the XDG base directories.
    pub fn resolve(data: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(data) = data {
            return Ok(Self {
                data: data.to_owned(),
                token: data.join(TOKEN),
                models: data.join("models"),
                artifacts: data.join("artifacts"),
                compiled: data.join("compiled"),
            });
        }
        let dirs = directories::ProjectDirs::from("", "", "bireme").ok_or(ConfigError::NoHome)?;
        Ok(Self {
            data: dirs.data_dir().to_owned(),
            token: dirs.data_dir().join(TOKEN),
            models: dirs.data_dir().join("models"),
            artifacts: dirs.cache_dir().join("artifacts"),
            compiled: dirs.cache_dir().join("compiled"),
        })
    }

    /// Returns the directories of a confined host. Its compiled code is its own: commands load code that they keep
    /// themselves, so that one that is taken over leaves them none to run.
    #[must_use]
    pub(crate) fn of_confined(self) -> Self {
        Self { artifacts: self.artifacts.join("served"), ..self }
    }

    /// Returns the control socket of the host that has the data directory.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.data.join(CONTROL_SOCKET)
    }

    /// Returns the directory of the unpacked SDKs.
    pub(crate) fn sdk(&self) -> PathBuf {
        self.data.join("sdk")
    }

    /// Returns the directories that builds of apps share.
    pub(crate) fn builds(&self) -> BuildDirs {
        BuildDirs { sdk: Some(self.sdk()), compiled: Some(self.compiled.clone()) }
    }
}

/// Input of `Host::build`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Places of data, models and compiled components.
    pub directories: Directories,
    /// Grants to every app; an app deployed over HTTP may have more of its own.
    pub grants: Grants,
    /// Secrets and configuration values for the apps.
    pub settings: Settings,
    /// Limits of the sandbox, and its way to reset memory.
    pub engine: EngineConfig,
    /// Division of the host's memory.
    pub(crate) memory: MemoryPlan,
    /// Whether the code of the app changes all the time, so that its compiled form is not worth keeping.
    pub(crate) is_for_edits: bool,
    /// Compiler process and its limits.
    pub compiler: CompilerConfig,
    /// Models, device and worker processes.
    pub inference: InferenceConfig,
    /// Bytes that each app may keep on disk; a quarter of the disk unless given.
    pub app_disk_max: Option<u64>,
}

impl Config {
    /// Returns the defaults with these directories and grants.
    pub fn new(directories: Directories, grants: &[String]) -> Result<Self, ConfigError> {
        let inference = InferenceConfig {
            models_dir: directories.models.clone(),
            spawner: Spawner::in_process(&directories.models),
            // Needs no probe of the machine; commands that run models set their own.
            device: DeviceChoice::Named(DeviceName::Cpu),
            batch_limits: BatchLimits::default(),
            model_memory_max: None,
            weights: Default::default(),
            noop_model: false,
            requests_bytes_max: INFERENCE_BYTES_MAX,
        };
        Ok(Self {
            directories,
            grants: Grants::parse(grants)?,
            settings: Settings::default(),
            engine: EngineConfig::default(),
            memory: MemoryPlan::of_machine(),
            is_for_edits: false,
            compiler: CompilerConfig::default(),
            inference,
            app_disk_max: None,
        })
    }
}

/// Divides the memory that the operator gives the host.
pub(crate) fn memory_plan(given: u64) -> Result<MemoryPlan, ConfigError> {
    let machine = machine_bytes();
    if (MEMORY_MIN..=machine).contains(&given) {
        return Ok(MemoryPlan::new(given));
    }
    Err(ConfigError::Memory { given: given >> 20, machine: machine >> 20 })
}

/// Rejects addresses other than loopback: there is no access control.
pub(crate) fn check_listen(listen: SocketAddr) -> Result<SocketAddr, ConfigError> {
    if listen.ip().is_loopback() { Ok(listen) } else { Err(ConfigError::NotLoopback { listen }) }
}
