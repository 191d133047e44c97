//! Loader of apps: describes, compiles and links a component to a program.

use std::sync::Arc;

use super::native_code::{CodeError, NativeCode};
use crate::api;
use crate::app::compiled::Compiled;
use crate::app::kind::{AppKind, NotAnApp};
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, DescribedApp};
use crate::call::Failure;
use crate::codes::Code;
use crate::dispatch::Dispatcher;
use crate::ids::{AppName, NameError};
use crate::outbound::Grants;
use crate::sandbox::{Program, ProgramError, Sandbox, SandboxError};
use crate::settings::Settings;

/// An app that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    NotAnApp(#[from] NotAnApp),
    #[error(
        "the component has no metadata, so the app is named after its file, and `{stem}` is not a valid name; rename \
         the file, or give `name` in a bireme.toml beside it"
    )]
    StockName { stem: String, source: NameError },
    #[error(
        "the component has no metadata and the request names no app; `bireme deploy FILE` names it after its file, or \
         by the `name` in a bireme.toml beside it"
    )]
    NoName,
    #[error("the component was not described: {0}")]
    NotDescribed(Failure),
    #[error("an app cannot be named `{name}`: the host uses that path itself; rename the crate")]
    ReservedName { name: AppName },
}

impl LoadError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotAnApp(_) => Code::BadComponent,
            Self::Code(error) => error.code(),
            Self::Sandbox(SandboxError::Engine(_)) => Code::Sandbox,
            Self::NotDescribed(failure) => failure.code.code(),
            Self::Metadata(_)
            | Self::Program(_)
            | Self::Sandbox(_)
            | Self::ReservedName { .. }
            | Self::StockName { .. }
            | Self::NoName => Code::BadApp,
        }
    }
}

/// Name in messages of a component that was not described yet.
const UNNAMED: &str = "a component";

/// Loader of one host.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    dispatcher: Arc<Dispatcher>,
    code: Arc<NativeCode>,
    settings: Settings,
}

impl Loader {
    /// Makes a loader that gives apps these settings.
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        dispatcher: Arc<Dispatcher>,
        code: NativeCode,
        settings: Settings,
    ) -> Self {
        Self { sandbox, dispatcher, code: Arc::new(code), settings }
    }

    /// Returns a loader with other settings.
    pub(crate) fn with_settings(&self, settings: Settings) -> Self {
        Self { sandbox: self.sandbox.clone(), dispatcher: self.dispatcher.clone(), code: self.code.clone(), settings }
    }

    /// Returns a component's metadata: its section, or else the result of its `describe`. A stock component is an app
    /// named `stem`, after its file.
    pub(crate) async fn describe(&self, component: &ComponentBytes, stem: Option<&str>) -> Result<Metadata, LoadError> {
        match Metadata::read(&component.bytes) {
            Ok(metadata) => return Ok(metadata),
            Err(MetadataError::Missing) => {}
            Err(error) => return Err(error.into()),
        }
        if AppKind::of(component.code())?? == AppKind::Described {
            let compiled = self.compile(component, stem.unwrap_or(UNNAMED)).await?;
            return self.run_describe(&compiled).await;
        }
        stock_metadata(stem)
    }

    /// Returns the metadata of a component without a section of them, which is compiled already.
    pub(crate) async fn describe_compiled(
        &self,
        component: &ComponentBytes,
        compiled: &Compiled,
        stem: Option<&str>,
    ) -> Result<Metadata, LoadError> {
        match AppKind::of(component.code())?? {
            AppKind::Described => self.run_describe(compiled).await,
            AppKind::Stock => stock_metadata(stem),
        }
    }

    /// Runs a component's own code, within the limits of a call.
    async fn run_describe(&self, compiled: &Compiled) -> Result<Metadata, LoadError> {
        Ok(self.dispatcher.describe(compiled).await.map_err(LoadError::NotDescribed)??)
    }

    /// Compiles and links an app, within `grants`. Makes nothing callable yet.
    pub(crate) async fn program(&self, app: &DescribedApp, grants: &Grants) -> Result<Arc<Program>, LoadError> {
        let compiled = self.compile_app(app).await?;
        self.link(&compiled, app, grants)
    }

    /// Links an app whose component is compiled, within `grants`. Makes nothing callable yet.
    pub(crate) fn link(
        &self,
        compiled: &Compiled,
        app: &DescribedApp,
        grants: &Grants,
    ) -> Result<Arc<Program>, LoadError> {
        check_name(app)?;
        let (version, metadata) = (app.component.version(), app.metadata.clone());
        let program = self.sandbox.program(compiled, version, metadata, grants, &self.settings)?;
        Ok(Arc::new(program))
    }

    /// Compiles an app. Links nothing, and needs no lock.
    pub(crate) async fn compile_app(&self, app: &DescribedApp) -> Result<Compiled, LoadError> {
        check_name(app)?;
        self.compile(&app.component, app.metadata.app.name.as_str()).await
    }

    /// Compiles a component, called `name` in messages, unless it was compiled before. Dropping the future ends the
    /// compile.
    pub(crate) async fn compile(&self, component: &ComponentBytes, name: &str) -> Result<Compiled, LoadError> {
        Ok(self.code.compile(component, name).await?)
    }
}

/// Returns the metadata of an app that is a stock component, named by its file or its manifest.
fn stock_metadata(name: Option<&str>) -> Result<Metadata, LoadError> {
    let name = name.ok_or(LoadError::NoName)?;
    let name = AppName::new(name).map_err(|source| LoadError::StockName { stem: name.to_owned(), source })?;
    Ok(Metadata::of_stock_component(name))
}

/// Refuses a name that the host's own paths have, before Cranelift runs.
fn check_name(app: &DescribedApp) -> Result<(), LoadError> {
    let name = &app.metadata.app.name;
    if api::RESERVED_NAMES.contains(&name.as_str()) {
        return Err(LoadError::ReservedName { name: name.clone() });
    }
    Ok(())
}
