//! Builds every part of a host from its configuration, in order, and ends them in the reverse one.
//!
//! Not here: listening (`http`), what a user typed (`cli`).

use std::sync::Arc;

use crate::app::artifact::{ArtifactCache, ArtifactError};
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, ComponentError};
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::inference::Inference;
use crate::kv::KeyValue;
use crate::limits;
use crate::outbound::{Outbound, OutboundLimits, OwnListeners};
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
}

/// Every part of a running host.
pub struct Host {
    pub config: Config,
    pub sandbox: Arc<Sandbox>,
    pub inference: Arc<Inference>,
    pub key_value: Arc<KeyValue>,
    /// Where this host listens: no guest reaches that, whatever was granted.
    pub own_listeners: OwnListeners,
    pub dispatcher: Arc<Dispatcher>,
    artifacts: ArtifactCache,
}

impl Host {
    /// Builds the parts. Must run within a tokio runtime; binds nothing and starts no worker yet.
    pub fn build(config: Config, log: Arc<dyn LogSink>) -> Result<Self, ServerError> {
        let sandbox = Arc::new(Sandbox::new(&config.engine)?);
        let artifacts = ArtifactCache::open(&config.directories.artifacts)?;
        let inference = Arc::new(Inference::new(config.inference.clone()));
        let key_value = Arc::new(KeyValue::new(&config.directories.data));
        let own_listeners = OwnListeners::default();
        let outbound = Outbound::new(OutboundLimits::default(), own_listeners.clone());
        let services = Arc::new(Services::new(inference.clone(), key_value.clone(), outbound));
        let dispatcher = Dispatcher::new(sandbox.clone(), services, log);
        Ok(Self { config, sandbox, inference, key_value, own_listeners, dispatcher, artifacts })
    }

    /// Makes a component callable. One without a metadata section is described first. Blocks while it compiles.
    pub async fn load(&self, component: ComponentBytes) -> Result<Arc<Program>, ServerError> {
        let metadata = match Metadata::read(&component.bytes) {
            Ok(metadata) => metadata,
            Err(MetadataError::Missing) => self.sandbox.describe(&component.bytes).await?,
            Err(error) => return Err(error.into()),
        };
        let compiled = tokio::task::block_in_place(|| self.artifacts.load(self.sandbox.engine(), &component))?;
        let program = self.sandbox.program(&compiled, component.version(), metadata, &self.config.grants)?;
        let program = Arc::new(program);
        self.dispatcher.deploy(program.clone());
        Ok(program)
    }

    /// Lets calls under way finish, then ends the worker. What is not done after `DRAIN_TIMEOUT` is cut off.
    pub async fn shut_down(&self) {
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, self.dispatcher.drain()).await.is_err() {
            tracing::warn!(live = self.dispatcher.live().len(), "calls did not end in time and are cut off");
        }
        self.inference.shut_down().await;
    }
}
