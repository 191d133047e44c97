//! Builds every part of a host from its configuration, in order, and ends them in the reverse one.
//!
//! Not here: listening (`http`), what a user typed (`cli`).

use std::sync::Arc;

use crate::app::artifact::{ArtifactCache, ArtifactError, Compiled};
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, ComponentError, DescribedApp};
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::ids::AppName;
use crate::inference::Inference;
use crate::kv::KeyValue;
use crate::limits;
use crate::outbound::{Grants, Outbound, OutboundLimits, OwnListeners};
use crate::sandbox::log::LogSink;
use crate::sandbox::{Program, ProgramError, Sandbox, SandboxError, Services};

/// A host, or an app, that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("an app cannot be named `{name}`: the host uses that path itself; rename the crate")]
    ReservedName { name: AppName },
}

/// First path segments that are the host's own, now or as its design has it.
const RESERVED_NAMES: [&str; 6] = ["api", "v1", "ui", "healthz", "readyz", "metrics"];

/// Every part of a running host.
pub struct Host {
    pub config: Config,
    pub sandbox: Arc<Sandbox>,
    pub inference: Arc<Inference>,
    pub key_value: Arc<KeyValue>,
    /// Where this host listens: no guest reaches that, whatever was granted.
    pub own_listeners: OwnListeners,
    pub dispatcher: Arc<Dispatcher>,
    artifacts: Arc<ArtifactCache>,
}

impl Host {
    /// Builds the parts. Must run within a tokio runtime; binds nothing and starts no worker yet.
    pub fn build(config: Config, log: Arc<dyn LogSink>) -> Result<Self, ServerError> {
        let sandbox = Arc::new(Sandbox::new(&config.engine)?);
        let artifacts = Arc::new(ArtifactCache::open(&config.directories.artifacts)?);
        let inference = Arc::new(Inference::new(config.inference.clone()));
        let key_value = Arc::new(KeyValue::new(&config.directories.data));
        let own_listeners = OwnListeners::default();
        let outbound = Outbound::new(OutboundLimits::default(), own_listeners.clone());
        let services = Arc::new(Services::new(inference.clone(), key_value.clone(), outbound));
        let dispatcher = Dispatcher::new(sandbox.clone(), services, log);
        Ok(Self { config, sandbox, inference, key_value, own_listeners, dispatcher, artifacts })
    }

    /// Returns what a component says of itself: its metadata section, else what its `describe` returns.
    pub async fn describe(&self, component: &ComponentBytes) -> Result<Metadata, ServerError> {
        match Metadata::read(&component.bytes) {
            Ok(metadata) => Ok(metadata),
            Err(MetadataError::Missing) => Ok(self.sandbox.describe(&self.compile(component).await?).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an app callable, within `grants`.
    pub async fn load(&self, app: &DescribedApp, grants: &Grants) -> Result<Arc<Program>, ServerError> {
        let name = &app.metadata.app.name;
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(ServerError::ReservedName { name: name.clone() });
        }
        let compiled = self.compile(&app.component).await?;
        let program = self.sandbox.program(&compiled, app.component.version(), app.metadata.clone(), grants)?;
        let program = Arc::new(program);
        self.dispatcher.deploy(program.clone());
        Ok(program)
    }

    /// Takes as long as Cranelift does, once for each component, on a thread of its own.
    async fn compile(&self, component: &ComponentBytes) -> Result<Compiled, ArtifactError> {
        let (artifacts, engine, component) = (self.artifacts.clone(), self.sandbox.engine().clone(), component.clone());
        match tokio::task::spawn_blocking(move || artifacts.load(&engine, &component)).await {
            Ok(compiled) => compiled,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Lets calls under way finish, then ends the worker. What is not done after `DRAIN_TIMEOUT` is cut off.
    pub async fn shut_down(&self) {
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, self.dispatcher.drain()).await.is_err() {
            tracing::warn!(live = self.dispatcher.live().len(), "calls did not end in time and are cut off");
        }
        self.inference.shut_down().await;
    }
}
