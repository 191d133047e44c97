//! Apps ready to be called: compiled, linked, their limits and grants resolved; and references to their functions.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::bindings::AppPre;
use super::missing::{self, MissingImport};
use super::state::CallState;
use crate::app::metadata::{FunctionInfo, Metadata, MetadataError};
use crate::app::route::Route;
use crate::ids::{AppName, FunctionId, FunctionName, Version};
use crate::limits::{Ceilings, FunctionLimits};
use crate::outbound::{Grants, Policy, PolicyError};
use crate::provisions::{DeclaredSecrets, Provisions};

/// One function, ready to be called.
pub struct Function {
    pub name: FunctionName,
    pub limits: FunctionLimits,
    /// Whether its input is raw bytes rather than JSON.
    pub takes_bytes: bool,
    /// What it may reach over HTTP.
    pub outbound: Policy,
    /// Models that it may use.
    pub models: Vec<String>,
    /// The secrets that it declares, if any.
    pub secrets: Option<Arc<DeclaredSecrets>>,
    /// What it answers over HTTP; a function without a route is called by its name.
    pub route: Option<Route>,
}

/// A function of one version of an app. Clones share the program.
#[derive(Clone)]
pub struct FunctionRef {
    program: Arc<Program>,
    index: usize,
}

impl FunctionRef {
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    pub fn app(&self) -> &AppName {
        self.program.name()
    }

    pub fn version(&self) -> &Version {
        self.program.version()
    }

    /// Returns its name and that of its app.
    pub fn id(&self) -> FunctionId {
        FunctionId { app: self.app().clone(), function: self.name.clone() }
    }

    /// Whether both are the same function of the same program, not merely of the same name.
    pub fn is_same(&self, other: &FunctionRef) -> bool {
        Arc::ptr_eq(&self.program, &other.program) && self.index == other.index
    }
}

impl Deref for FunctionRef {
    type Target = Function;

    fn deref(&self) -> &Function {
        &self.program.functions[self.index]
    }
}

impl fmt::Debug for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id(), self.version())
    }
}

/// One version of an app. Immutable; shared by its calls.
pub struct Program {
    metadata: Metadata,
    version: Version,
    functions: Vec<Function>,
    by_name: HashMap<FunctionName, usize>,
    /// Configuration.
    values: BTreeMap<String, Arc<str>>,
    /// Runs functions. There if the app has one.
    pub(super) functions_pre: Option<AppPre<CallState>>,
    /// Runs web functions. There if the app has one.
    pub(super) web_pre: Option<ProxyPre<CallState>>,
}

/// An app that cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    #[error("the app `{app}` does not link: {reason}")]
    Link { app: AppName, reason: String },
    #[error("the app `{app}` does not link: {missing}")]
    Import { app: AppName, missing: MissingImport },
    #[error("the app `{app}` has {what} and exports no `{export}` to run them; is it built with bireme-sdk?")]
    Export { app: AppName, what: &'static str, export: &'static str },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("function `{function}` of `{app}` declares an outbound address that cannot be used")]
    Outbound { app: AppName, function: FunctionName, source: PolicyError },
    #[error(
        "function `{function}` of `{app}` declares the secret `{secret}`, which is not given; give it with `--secret {secret}=VALUE`, with `--secret {secret}` (from the host's environment) or in a file with `--secrets FILE`"
    )]
    Secret { app: AppName, function: FunctionName, secret: String },
}

impl Program {
    pub(super) fn new(
        linker: &Linker<CallState>,
        component: &Component,
        version: Version,
        metadata: Metadata,
        grants: &Grants,
        provisions: &Provisions,
        ceilings: &Ceilings,
    ) -> Result<Self, ProgramError> {
        let app = &metadata.app.name;
        let pre =
            linker.instantiate_pre(component).map_err(|error| match missing::find(component, linker, &error) {
                Some(missing) => ProgramError::Import { app: app.clone(), missing },
                None => ProgramError::Link { app: app.clone(), reason: format!("{error:#}") },
            })?;
        let has = |web: bool| metadata.functions.iter().any(|function| function.attributes.route.is_some() == web);
        let lacks = |what, export| ProgramError::Export { app: app.clone(), what, export };
        let functions_pre = has(false).then(|| AppPre::new(pre.clone())).transpose();
        let functions_pre = functions_pre.map_err(|_| lacks("functions", missing::HANDLER))?;
        let web_pre = has(true).then(|| ProxyPre::new(pre)).transpose();
        let web_pre = web_pre.map_err(|_| lacks("web functions", missing::WEB_HANDLER))?;

        let mut functions = Vec::with_capacity(metadata.functions.len());
        for info in &metadata.functions {
            let outbound = Policy::new(&info.attributes.outbound, grants).map_err(|source| ProgramError::Outbound {
                app: app.clone(),
                function: info.name.clone(),
                source,
            })?;
            functions.push(Function {
                name: info.name.clone(),
                limits: info.limits(ceilings)?,
                takes_bytes: info.takes_bytes(),
                outbound,
                // What cannot declare anything gets what the operator grants, and nothing without.
                models: if metadata.is_stock() { grants.models().to_vec() } else { info.attributes.models.clone() },
                secrets: secrets(app, info, provisions)?,
                route: info.attributes.route.clone(),
            });
        }
        let by_name = functions.iter().enumerate().map(|(i, function)| (function.name.clone(), i)).collect();
        let values = provisions.values(&metadata.app.name);
        Ok(Self { metadata, version, functions, by_name, values, functions_pre, web_pre })
    }

    pub fn name(&self) -> &AppName {
        &self.metadata.app.name
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the functions, in the order of the metadata.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Returns the web functions with their routes.
    pub fn routes(self: &Arc<Self>) -> impl Iterator<Item = (FunctionRef, &Route)> {
        let web = self.functions.iter().enumerate().filter_map(|(i, function)| Some((i, function.route.as_ref()?)));
        web.map(|(index, route)| (FunctionRef { program: self.clone(), index }, route))
    }

    /// Returns the configuration values that the operator gave.
    pub fn values(&self) -> &BTreeMap<String, Arc<str>> {
        &self.values
    }

    /// Returns the function of that name.
    pub fn find(self: &Arc<Self>, name: &str) -> Option<FunctionRef> {
        let index = self.by_name.get(name).copied()?;
        Some(FunctionRef { program: self.clone(), index })
    }
}

/// Returns the declared secrets with their values.
fn secrets(
    app: &AppName,
    function: &FunctionInfo,
    provisions: &Provisions,
) -> Result<Option<Arc<DeclaredSecrets>>, ProgramError> {
    let declared = &function.attributes.secrets;
    if declared.is_empty() {
        return Ok(None);
    }
    let given = declared.iter().map(|name| match provisions.secret(app, name) {
        Some(secret) => Ok((name.clone(), secret.clone())),
        None => {
            let (app, function, secret) = (app.clone(), function.name.clone(), name.clone());
            Err(ProgramError::Secret { app, function, secret })
        }
    });
    Ok(Some(Arc::new(DeclaredSecrets::new(given.collect::<Result<_, _>>()?))))
}
