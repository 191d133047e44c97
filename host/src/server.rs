//! Builds every part of a host from its configuration, in order, and ends them in the reverse one.
//!
//! Not here: listening (`http`), what a user typed (`cli`).

use std::sync::Arc;

use crate::app::artifact::{ArtifactCache, ArtifactError};
use crate::app::metadata::Metadata;
use crate::app::{ComponentBytes, DescribedApp};
use crate::config::Config;
use crate::deploy::{Deployments, LoadError, Loader};
use crate::dispatch::{Dispatcher, Durable};
use crate::http::Backend;
use crate::inference::Inference;
use crate::journal::StoreJournal;
use crate::kv::KeyValue;
use crate::limits;
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

/// Every part of a running host.
pub struct Host {
    pub config: Config,
    pub sandbox: Arc<Sandbox>,
    pub inference: Arc<Inference>,
    pub store: Arc<StoreDir>,
    /// Where this host listens: no guest reaches that, whatever was granted.
    pub own_listeners: OwnListeners,
    pub dispatcher: Arc<Dispatcher>,
    /// Calls and maps that survive; begun by whoever wants the host to take up what it finds.
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

    /// Returns what `http` serves; without the deployments, where apps come from the command line alone.
    pub fn backend(&self, takes_deployments: bool) -> Backend {
        let deployments = takes_deployments.then(|| self.deployments.clone());
        Backend {
            dispatcher: self.dispatcher.clone(),
            durable: self.durable.clone(),
            logs: self.logs.clone(),
            devices: self.inference.clone(),
            inference: self.inference.clone(),
            deployments,
            schedules: None,
            last_call: None,
        }
    }

    /// Lets calls under way finish, then ends the worker. What is not done after `DRAIN_TIMEOUT` is cut off.
    pub async fn shut_down(&self) {
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, self.dispatcher.drain()).await.is_err() {
            tracing::warn!(live = self.dispatcher.live().len(), "calls did not end in time and are cut off");
        }
        // Outcomes of what has ended are on their way to the disk.
        if tokio::time::timeout(limits::FLUSH_TIMEOUT, self.durable.shut_down()).await.is_err() {
            tracing::warn!("durable calls were cut off; the next host runs them again");
        }
        self.inference.shut_down().await;
    }
}
