//! From a component's bytes to a program that can be called: described, compiled, linked.

use std::sync::Arc;

use crate::app::artifact::{ArtifactCache, ArtifactError, Compiled};
use crate::app::footprint::{Footprint, FootprintError};
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, DescribedApp};
use crate::ids::{AppName, NameError};
use crate::outbound::Grants;
use crate::sandbox::{Program, ProgramError, Sandbox, SandboxError};
use crate::settings::Settings;
use crate::tasks::blocking;

/// First path segments that are the host's own, now or as its design has it.
pub const RESERVED_NAMES: [&str; 7] = ["api", "v1", "v2", "ui", "healthz", "readyz", "metrics"];

/// An app that cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Footprint(#[from] FootprintError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(
        "the component says nothing of itself, so its file's name is the app's, and `{stem}` cannot be that; rename the file"
    )]
    StockName { stem: String, source: NameError },
    #[error(
        "the component says nothing of itself, and nothing else names the app; `bireme deploy FILE` names it by its file"
    )]
    NoName,
    #[error("an app cannot be named `{name}`: the host uses that path itself; rename the crate")]
    ReservedName { name: AppName },
}

/// Makes apps ready.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    artifacts: Arc<ArtifactCache>,
    settings: Settings,
}

impl Loader {
    pub fn new(sandbox: Arc<Sandbox>, artifacts: ArtifactCache, settings: Settings) -> Self {
        Self { sandbox, artifacts: Arc::new(artifacts), settings }
    }

    /// Returns one that gives apps something else.
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self { sandbox: self.sandbox.clone(), artifacts: self.artifacts.clone(), settings }
    }

    /// Returns what a component says of itself: its metadata section, else what its `describe` returns. One that says nothing
    /// and answers HTTP is an app of the name `stem`, its file's.
    pub async fn describe(&self, component: &ComponentBytes, stem: Option<&str>) -> Result<Metadata, LoadError> {
        match Metadata::read(&component.bytes) {
            Ok(metadata) => return Ok(metadata),
            Err(MetadataError::Missing) => {}
            Err(error) => return Err(error.into()),
        }
        let compiled = self.compile(component).await?;
        if !self.sandbox.is_stock(&compiled) {
            return Ok(self.sandbox.describe(&compiled).await?);
        }
        let stem = stem.ok_or(LoadError::NoName)?;
        let name = AppName::new(stem).map_err(|source| LoadError::StockName { stem: stem.to_owned(), source })?;
        Ok(Metadata::of_stock_component(name))
    }

    /// Compiles and links an app, within `grants`. Makes nothing callable yet.
    pub async fn program(&self, app: &DescribedApp, grants: &Grants) -> Result<Arc<Program>, LoadError> {
        let name = &app.metadata.app.name;
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(LoadError::ReservedName { name: name.clone() });
        }
        let compiled = self.compile(&app.component).await?;
        let (version, metadata) = (app.component.version(), app.metadata.clone());
        let program = self.sandbox.program(&compiled, version, metadata, grants, &self.settings)?;
        Ok(Arc::new(program))
    }

    /// Whether a component was compiled before, so that making it ready takes no time.
    pub async fn is_compiled(&self, component: &ComponentBytes) -> bool {
        let (artifacts, engine, component) = (self.artifacts.clone(), self.sandbox.engine().clone(), component.clone());
        blocking(move || artifacts.has(&engine, &component)).await
    }

    /// Takes as long as Cranelift does, once for each component, on a thread of its own.
    async fn compile(&self, component: &ComponentBytes) -> Result<Compiled, LoadError> {
        let (artifacts, engine, component) = (self.artifacts.clone(), self.sandbox.engine().clone(), component.clone());
        blocking(move || {
            // The engine would refuse it as well, after half a minute of Cranelift for a component of 20 MB.
            Footprint::of(&component.bytes).check()?;
            Ok(artifacts.load(&engine, &component)?)
        })
        .await
    }
}
