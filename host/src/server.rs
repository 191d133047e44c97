//! Start and shutdown of a host: builds the parts from the configuration, starts them in order, ends them by one
//! deadline.
//!
//! The only way to listen is `Host::open`, then `OpenHost::start`; the only end of a host that listens is
//! `RunningHost::shut_down`. So whatever can fail at start fails before the port accepts, and no control API accepts
//! durable work that would not run. The control socket is bound under the lock of the data directory.
//!
//! Not here: HTTP (`http`), the command line (`cli`).

mod confined;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::api;
use crate::app::artifact::{ArtifactCache, ArtifactError};
use crate::app::metadata::Metadata;
use crate::app::{ComponentBytes, DescribedApp};
use crate::budgets::Budgets;
use crate::compiler::Compiler;
use crate::config::Config;
use crate::deploy::{Deployments, LoadError, Loader, NativeCode};
use crate::devices::DeviceRefused;
use crate::dispatch::{Dispatcher, Durable, Retention, Scheduler};
use crate::http::{Backend, Events, Ingress, LastCall, Serving};
use crate::inference::{Inference, InferenceConfig};
use crate::kv::Buckets;
use crate::limits::{DRAIN_DEFAULT, FLUSH_TIMEOUT_MAX};
use crate::logs::{LogSink, Logs};
use crate::metrics::Metrics;
use crate::outbound::{Grants, Outbound, OutboundLimits, OwnListeners};
use crate::sandbox::{EngineConfig, Program, Sandbox, SandboxError, Services};
use crate::settings::{OperatorToken, TokenError};
use crate::storage::{Observer, StorageError};
use crate::store::{StoreDir, engine};
use crate::unix_socket::UnboundSocket;

pub use self::confined::ConfineError;
pub(crate) use self::confined::confine;

/// A host whose parts cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The WebAssembly engine cannot be set up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The cache of compiled components cannot be opened, or others can write to it.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// A host that cannot use its device or its data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The GPU that was named cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceRefused),
    /// Another host has the data directory.
    #[error(transparent)]
    InUse(StorageError),
    /// The database cannot be opened, or the deployed apps cannot be read from it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The token of the control API cannot be read or made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The log files, or the signal of the file size limit.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A host that cannot resume the durable work in its data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Durable calls, maps or schedules cannot be read or written.
    #[error(transparent)]
    Journal(#[from] StorageError),
}

/// Every part of a host.
pub struct Host {
    /// Configuration that the parts were built from.
    pub config: Config,
    /// WebAssembly engine with its pool of instances.
    pub sandbox: Arc<Sandbox>,
    /// Models and the worker processes that run them.
    pub inference: Arc<Inference>,
    /// Data directory, with the database once it is open.
    pub store: Arc<StoreDir>,
    /// Listeners of this host: no guest reaches them, whatever is granted.
    pub own_listeners: OwnListeners,
    /// Callable apps, and calls under way.
    pub dispatcher: Arc<Dispatcher>,
    /// Calls and maps kept on disk.
    pub durable: Arc<Durable>,
    /// Loader that turns components into programs.
    pub loader: Arc<Loader>,
    /// Apps deployed over HTTP, kept on disk.
    pub deployments: Arc<Deployments>,
    /// Latest log lines of each app; in files as well if the host serves deployments.
    pub logs: Arc<Logs>,
    /// Feed of changes for HTTP clients.
    pub events: Arc<Events>,
    /// Counters since the start of this host.
    pub metrics: Arc<Metrics>,
    key_value: Arc<Buckets>,
    budgets: Budgets,
}

impl Host {
    /// Builds the parts. Must run within a tokio runtime; binds nothing and starts no worker.
    pub fn build(config: Config, log: Arc<dyn LogSink>) -> Result<Self, ServerError> {
        let plan = config.memory;
        let budgets = Budgets::new(plan);
        let instances_max = config.engine.instances_max.min(plan.instances);
        let sandbox = Arc::new(Sandbox::new(&EngineConfig { instances_max, ..config.engine.clone() })?);
        let artifacts = ArtifactCache::open(&config.directories.artifacts)?;
        let artifacts = if config.is_for_edits { artifacts.for_edits() } else { artifacts };
        let requests_bytes_max = usize::try_from(plan.inference).unwrap_or(usize::MAX);
        let inference = InferenceConfig { requests_bytes_max, ..config.inference.clone() };
        let inference = Arc::new(Inference::new(inference));
        let metrics = Metrics::new(api::host_paths());
        let store = StoreDir::counted(&config.directories.data, metrics.store.clone());
        let store = Arc::new(store.with_app_disk(config.app_disk_max));
        let events = Events::new();
        let observer: Arc<dyn Observer> = events.clone();
        let storage = engine(store.clone(), Some(observer));
        let key_value = Arc::new(Buckets::new(storage.key_value.clone()));
        let own_listeners = OwnListeners::default();
        let outbound = Outbound::new(OutboundLimits::default(), own_listeners.clone());
        let services = Services::new(inference.clone(), key_value.clone(), outbound, budgets.clone());
        let services = Arc::new(services);
        let logs = Logs::new(log);
        let dispatcher = Dispatcher::new(sandbox.clone(), services, logs.clone(), metrics.calls.clone());
        let durable = dispatcher.durable(&storage);
        let compiler = Compiler::new(config.compiler.clone(), config.inference.spawner.clone());
        let code = NativeCode::new(sandbox.clone(), artifacts, compiler);
        let loader = Arc::new(Loader::new(sandbox.clone(), dispatcher.clone(), code, config.settings.clone()));
        let grants = config.grants.clone();
        let deployments = Deployments::new(loader.clone(), dispatcher.clone(), &storage, grants, inference.clone());
        let deployments = Arc::new(deployments);
        let told = events.clone();
        deployments.observe(Box::new(move |app, record| told.app_changed(app, record)));
        Ok(Self {
            config,
            sandbox,
            inference,
            store,
            own_listeners,
            dispatcher,
            durable,
            loader,
            deployments,
            logs,
            events,
            metrics,
            key_value,
            budgets,
        })
    }

    /// Opens the device and the data directory of a host that will listen.
    pub async fn open(self, settings: ListenSettings) -> Result<OpenHost, OpenError> {
        self.inference.check_device().await?;
        ignore_file_size_signal()?;
        self.store.open_for_host().map_err(|error| match error.is_in_use() {
            true => OpenError::InUse(error.into()),
            false => OpenError::Storage(error.into()),
        })?;
        if settings.serves_deployments {
            self.logs.keep_in(&self.config.directories.data)?;
            self.deployments.restore().await?;
        }
        let token = match OperatorToken::of_environment()? {
            Some(token) => token,
            None => OperatorToken::read_or_make(&self.config.directories.token)?,
        };
        Ok(OpenHost { host: self, settings, token })
    }

    /// Returns a component's metadata. An app without a name (web functions only) is named by `stem`, its file's.
    pub async fn describe(&self, component: &ComponentBytes, stem: Option<&str>) -> Result<Metadata, LoadError> {
        self.loader.describe(component, stem).await
    }

    /// Makes an app callable, within `grants`.
    pub async fn load(&self, app: &DescribedApp, grants: &Grants) -> Result<Arc<Program>, LoadError> {
        let program = self.loader.program(app, grants).await?;
        self.dispatcher.deploy(program.clone());
        Ok(program)
    }

    /// Ends a host that does not listen: calls under way may finish within `DRAIN_DEFAULT`.
    pub async fn shut_down(&self) {
        self.dispatcher.close();
        let end = Deadlines::of(DRAIN_DEFAULT);
        self.drain(end.cut).await;
        self.finish(end.all).await;
    }

    /// Waits for calls under way, until `cut`.
    async fn drain(&self, cut: Instant) {
        if timeout_at(cut, self.dispatcher.drain()).await.is_err() {
            tracing::warn!(live = self.dispatcher.live().len(), "calls did not end in time and are cut off");
        }
        self.durable.cut_off();
    }

    /// Waits for durable outcomes to reach the disk, then ends the worker.
    async fn finish(&self, deadline: Instant) {
        if timeout_at(deadline, self.durable.shut_down()).await.is_err() {
            tracing::warn!("outcomes of durable calls were not written in time; the next host runs these calls again");
        }
        // A worker that does not end in time ends with this process, which closes its input.
        let _ = timeout_at(deadline, self.inference.shut_down()).await;
        // The process ends without closing the database; without a checkpoint the next host would read all of it first.
        let _ = timeout_at(deadline, self.store.checkpoint()).await;
    }
}

/// Settings of a host that listens, besides those of `Config`.
#[derive(Default)]
pub struct ListenSettings {
    /// Time for which durable calls and maps are kept after their end.
    pub retention: Retention,
    /// Restores the apps and log lines of the data directory, and accepts deployments over HTTP. Without it, all apps
    /// come from the command line.
    pub serves_deployments: bool,
    /// Records the last call of a function, to repeat it.
    pub last_call: Option<Arc<LastCall>>,
    /// The control socket of a host that can make none any more.
    pub(crate) control: Option<UnboundSocket>,
}

/// A host whose data directory is open. It does not listen yet, so more apps can be loaded first.
pub struct OpenHost {
    /// Parts of the host; its dispatcher takes more apps until `start`.
    pub host: Host,
    settings: ListenSettings,
    token: OperatorToken,
}

impl OpenHost {
    /// Resumes durable calls, maps and schedules, then accepts connections.
    pub async fn start(self, mut ingress: Ingress) -> Result<RunningHost, StartError> {
        let Self { host, settings, token } = self;
        bind_control(&mut ingress, settings.control, &host.config.directories.control_socket());
        let control_socket = ingress.control_path().map(Path::to_owned);
        let address = ingress.address();
        host.own_listeners.insert(address);
        let (calls, maps) = host.durable.start(settings.retention).await?;
        let scheduler = Scheduler::start(host.dispatcher.clone(), host.durable.clone()).await?;
        let backend = Backend {
            address,
            dispatcher: host.dispatcher.clone(),
            durable: host.durable.clone(),
            budgets: host.budgets.clone(),
            token,
            logs: host.logs.clone(),
            metrics: host.metrics.clone(),
            store: host.store.clone(),
            devices: host.inference.clone(),
            inference: host.inference.clone(),
            deployments: settings.serves_deployments.then(|| host.deployments.clone()),
            schedules: scheduler.schedules(),
            events: host.events.clone(),
            key_value: host.key_value.clone(),
            last_call: settings.last_call,
        };
        let serving = Serving::start(ingress, backend);
        Ok(RunningHost { host, address, control_socket, resumed: Resumed { calls, maps }, scheduler, serving })
    }
}

/// Listens at the control socket. A host goes on without one: its control API answers over TCP, with the token.
fn bind_control(ingress: &mut Ingress, socket: Option<UnboundSocket>, path: &Path) {
    let socket = socket.map_or_else(UnboundSocket::new, Ok);
    if let Err(error) = socket.and_then(|socket| ingress.bind_control(socket, path)) {
        tracing::warn!(%error, path = %path.display(), "no control socket; commands send the token over TCP");
    }
}

/// Turns a write over the file size limit (RLIMIT_FSIZE) into an error like a full disk: the default action of SIGXFSZ
/// ends the process.
fn ignore_file_size_signal() -> io::Result<()> {
    // The handler stays installed for the process's lifetime; the receiver is not needed.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Durable calls and maps resumed at start.
#[derive(Clone, Copy, Debug)]
pub struct Resumed {
    /// Number of calls; interrupted runs of schedules are not among them.
    pub calls: usize,
    /// Number of maps.
    pub maps: usize,
}

/// A host that listens.
pub struct RunningHost {
    /// Parts of the host, in use by its listener.
    pub host: Host,
    /// Bound address, with the real port where 0 was asked for.
    pub address: SocketAddr,
    /// Control socket; none where it could not be bound.
    pub control_socket: Option<PathBuf>,
    /// Numbers of durable calls and maps that an earlier host left open.
    pub resumed: Resumed,
    scheduler: Scheduler,
    serving: Serving,
}

/// One deadline for all parts of a shutdown.
struct Deadlines {
    /// Calls under way end here; the rest of the time is for their outcomes to reach the disk.
    cut: Instant,
    all: Instant,
}

impl Deadlines {
    fn of(drain: Duration) -> Self {
        let all = Instant::now() + drain;
        Self { cut: all - (drain / 4).min(FLUSH_TIMEOUT_MAX), all }
    }
}

impl RunningHost {
    /// Ends the host within `drain`. Waiting requests (for a slot, for a durable call) end at once; calls under way may
    /// finish; durable ones that do not finish run again on the next host.
    pub(crate) async fn shut_down(self, drain: Duration) {
        let Self { host, scheduler, serving, .. } = self;
        let end = Deadlines::of(drain);
        // First, so that no run is recorded as started and then gets no slot. Immediate unless the disk stalls.
        let _ = timeout_at(Instant::now() + drain / 8, scheduler.stop()).await;
        // Before connections drain: nothing new starts meanwhile.
        host.dispatcher.close();
        serving.stop(end.cut).await;
        host.drain(end.cut).await;
        host.finish(end.all).await;
    }
}
