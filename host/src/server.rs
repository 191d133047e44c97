//! Builds every part of a host from its configuration, starts them in order, and ends them within one deadline.
//!
//! `Host::start` is the only way to listen: a host that listens runs what its control API accepts.
//!
//! Not here: HTTP (`http`), the command line (`cli`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::app::artifact::{ArtifactCache, ArtifactError};
use crate::app::metadata::Metadata;
use crate::app::{ComponentBytes, DescribedApp};
use crate::config::Config;
use crate::deploy::{Deployments, LoadError, Loader};
use crate::dispatch::{Dispatcher, Durable, Retention, Scheduler};
use crate::http::{Backend, Ingress, LastCall, Serving};
use crate::inference::Inference;
use crate::journal::{JournalError, StoreJournal};
use crate::kv::KeyValue;
use crate::limits::{DRAIN_DEFAULT, FLUSH_TIMEOUT_MAX};
use crate::logs::Logs;
use crate::outbound::{Grants, Outbound, OutboundLimits, OwnListeners};
use crate::sandbox::log::LogSink;
use crate::sandbox::{Program, Sandbox, SandboxError, Services};
use crate::store::StoreDir;

/// A host that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// A host that cannot take up what its data directory holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Every part of a host.
pub struct Host {
    pub config: Config,
    pub sandbox: Arc<Sandbox>,
    pub inference: Arc<Inference>,
    pub store: Arc<StoreDir>,
    /// Where this host listens: no guest reaches that, whatever was granted.
    pub own_listeners: OwnListeners,
    pub dispatcher: Arc<Dispatcher>,
    pub durable: Arc<Durable>,
    pub loader: Arc<Loader>,
    pub deployments: Arc<Deployments>,
    pub logs: Arc<Logs>,
}

impl Host {
    /// Builds the parts. Must run within a tokio runtime; binds nothing and starts no worker yet.
    pub fn build(config: Config, log: Arc<dyn LogSink>) -> Result<Self, ServerError> {
        let sandbox = Arc::new(Sandbox::new(&config.engine)?);
        let artifacts = ArtifactCache::open(&config.directories.artifacts)?;
        let inference = Arc::new(Inference::new(config.inference.clone()));
        let store = Arc::new(StoreDir::new(&config.directories.data));
        let key_value = Arc::new(KeyValue::new(store.clone()));
        let own_listeners = OwnListeners::default();
        let outbound = Outbound::new(OutboundLimits::default(), own_listeners.clone());
        let services = Arc::new(Services::new(inference.clone(), key_value, outbound));
        let logs = Logs::new(log);
        let dispatcher = Dispatcher::new(sandbox.clone(), services, logs.clone());
        let durable = Durable::new(dispatcher.clone(), Arc::new(StoreJournal::new(store.clone())));
        let loader = Arc::new(Loader::new(sandbox.clone(), artifacts, config.provisions.clone()));
        let grants = config.grants.clone();
        let deployments = Deployments::new(loader.clone(), dispatcher.clone(), store.clone(), grants);
        let deployments = Arc::new(deployments);
        Ok(Self { config, sandbox, inference, store, own_listeners, dispatcher, durable, loader, deployments, logs })
    }

    /// Returns what a component says of itself; one that only answers HTTP is named by `stem`, its file's.
    pub async fn describe(&self, component: &ComponentBytes, stem: Option<&str>) -> Result<Metadata, LoadError> {
        self.loader.describe(component, stem).await
    }

    /// Makes an app callable, within `grants`.
    pub async fn load(&self, app: &DescribedApp, grants: &Grants) -> Result<Arc<Program>, LoadError> {
        let program = self.loader.program(app, grants).await?;
        self.dispatcher.deploy(program.clone());
        Ok(program)
    }

    /// Starts to listen. Calls, maps and schedules of an earlier host go on first, so that nothing is accepted which
    /// will not run.
    pub async fn start(self, ingress: Ingress, settings: ListenSettings) -> Result<RunningHost, StartError> {
        let ListenSettings { retention, takes_deployments, last_call } = settings;
        let address = ingress.address();
        self.own_listeners.insert(address);
        let (calls, maps) = self.durable.start(retention).await?;
        let scheduler = Scheduler::start(self.dispatcher.clone(), self.durable.clone()).await?;
        let backend = Backend {
            dispatcher: self.dispatcher.clone(),
            durable: self.durable.clone(),
            logs: self.logs.clone(),
            devices: self.inference.clone(),
            inference: self.inference.clone(),
            deployments: takes_deployments.then(|| self.deployments.clone()),
            schedules: scheduler.schedules(),
            last_call,
        };
        let serving = Serving::start(ingress, backend);
        Ok(RunningHost { host: self, address, resumed: Resumed { calls, maps }, scheduler, serving })
    }

    /// Ends a host that does not listen: lets calls under way finish, within `DRAIN_DEFAULT`.
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

    /// Waits until outcomes of ended calls are on disk, and ends the worker.
    async fn finish(&self, deadline: Instant) {
        if timeout_at(deadline, self.durable.shut_down()).await.is_err() {
            tracing::warn!("outcomes of durable calls were not written in time; the next host runs these calls again");
        }
        // One that does not end in time sees the end of its input with this process.
        let _ = timeout_at(deadline, self.inference.shut_down()).await;
    }
}

/// Settings of a host that listens, besides those of `Config`.
#[derive(Default)]
pub struct ListenSettings {
    pub retention: Retention,
    /// Whether apps can be deployed over HTTP; else all come from the command line.
    pub takes_deployments: bool,
    /// Where calls of functions are noted, if the last one is to be made again.
    pub last_call: Option<Arc<LastCall>>,
}

/// Durable work of an earlier host that goes on.
#[derive(Clone, Copy, Debug)]
pub struct Resumed {
    pub calls: usize,
    pub maps: usize,
}

/// A host that listens.
pub struct RunningHost {
    pub host: Host,
    pub address: SocketAddr,
    pub resumed: Resumed,
    scheduler: Scheduler,
    serving: Serving,
}

/// One deadline for all parts of a shutdown.
struct Deadlines {
    /// End of calls under way; the time behind it is for their outcomes to reach the disk.
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
    /// Ends the host within `drain`. Requests that wait (for a slot, for a durable call) end at once; calls under way
    /// may finish; durable ones that do not are run again by the next host.
    pub async fn shut_down(self, drain: Duration) {
        let Self { host, scheduler, serving, .. } = self;
        let end = Deadlines::of(drain);
        // First, so that no run is recorded as begun which gets no slot. It answers at once unless the disk stands
        // still.
        let _ = timeout_at(Instant::now() + drain / 8, scheduler.stop()).await;
        // Before the connections are drained, so that nothing new begins meanwhile.
        host.dispatcher.close();
        serving.stop(end.cut).await;
        host.drain(end.cut).await;
        host.finish(end.all).await;
    }
}
