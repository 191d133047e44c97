//! Programs: apps with limits, grants and secrets resolved and code linked; and references to their functions.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::link_errors::MissingImport;
use crate::app::metadata::{FunctionInfo, Metadata, MetadataError};
use crate::app::route::Route;
use crate::ids::{AppName, FunctionId, FunctionName, Version};
use crate::limits::{Ceilings, FunctionLimits};
use crate::metrics::FunctionCounters;
use crate::outbound::{Grants, Policy, PolicyError};
use crate::settings::{DeclaredSecrets, Settings};

/// One callable function.
pub struct Function {
    pub name: FunctionName,
    pub limits: FunctionLimits,
    /// Whether its input is raw bytes rather than JSON.
    pub takes_bytes: bool,
    /// Origins within its reach over HTTP.
    pub outbound: Policy,
    /// Models that it may use.
    pub models: Vec<String>,
    /// Its secrets; `None` if it declares none.
    pub secrets: Option<Arc<DeclaredSecrets>>,
    /// Secrets that it declares and the operator did not give: it cannot be called.
    pub missing_secrets: Vec<String>,
    /// Route of a web function; a function without one is called by its name.
    pub route: Option<Route>,
    /// Set when the program is deployed.
    counters: OnceLock<Arc<FunctionCounters>>,
}

impl Function {
    /// Has calls counted from now on. Once; a second one is ignored.
    pub(crate) fn plug_counters(&self, counters: Arc<FunctionCounters>) {
        let _ = self.counters.set(counters);
    }

    /// Returns the counters of its calls; nobody reads those of a function that was never deployed.
    pub fn counters(&self) -> &FunctionCounters {
        self.counters.get_or_init(Arc::default)
    }
}

/// A function of one version of an app. Clones share the program.
#[derive(Clone)]
pub struct FunctionRef {
    program: Arc<Program>,
    index: usize,
}

impl FunctionRef {
    /// Returns the program of the function.
    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Returns the name of its app.
    pub(crate) fn app(&self) -> &AppName {
        self.program.name()
    }

    /// Returns its app's version.
    pub(crate) fn version(&self) -> &Version {
        self.program.version()
    }

    /// Refuses a function with a secret that the operator did not give.
    pub(crate) fn check_secrets(&self) -> Result<(), ProgramError> {
        let Some(secret) = self.missing_secrets.first().cloned() else { return Ok(()) };
        Err(ProgramError::Secret { app: self.app().clone(), function: self.name.clone(), secret })
    }

    /// Returns the ids of app and function.
    pub(crate) fn id(&self) -> FunctionId {
        FunctionId { app: self.app().clone(), function: self.name.clone() }
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

/// Linked code, made by `linked_code`. Opaque here: the type of a store's data names the call, and the call its
/// program.
pub(super) type Code = Box<dyn Any + Send + Sync>;

/// One version of an app. Immutable; shared by its calls.
pub struct Program {
    metadata: Metadata,
    version: Version,
    functions: Vec<Function>,
    by_name: HashMap<FunctionName, usize>,
    /// Configuration values.
    values: BTreeMap<String, Arc<str>>,
    code: Code,
}

/// An app that cannot become a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The component does not link for another reason than a missing import.
    #[error("the app `{app}` does not link: {reason}")]
    Link {
        /// Name of the app.
        app: AppName,
        /// Message of the engine, with its causes.
        reason: String,
    },
    /// The component imports an interface that this host lacks, or has in another version only.
    #[error("the app `{app}` does not link: {missing}")]
    Import {
        /// Name of the app.
        app: AppName,
        /// The import, with the remedy.
        missing: MissingImport,
    },
    /// The component lacks the entry point for functions that its metadata lists.
    #[error("the app `{app}` has {what} and exports no `{export}` to run them; is it built with bireme-sdk?")]
    Export {
        /// Name of the app.
        app: AppName,
        /// Kind of the functions: `functions` or `web functions`.
        what: &'static str,
        /// Interface that would run them, with its version.
        export: &'static str,
    },
    /// A limit that a function asks for is zero, over a ceiling of this host, or out of range.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A function declares a malformed outbound origin, or too many of them.
    #[error("function `{function}` of `{app}` declares an outbound address that cannot be used")]
    Outbound {
        /// Name of the app.
        app: AppName,
        /// Function with the declaration.
        function: FunctionName,
        /// Reason why the declaration cannot be used.
        source: PolicyError,
    },
    /// A function declares a secret for which the operator gave no value.
    #[error(
        "function `{function}` of `{app}` declares the secret `{secret}`, which is not given; give it with `--secret \
         {secret}=VALUE`, with `--secret {secret}` (from the host's environment) or in a file with `--secrets FILE`"
    )]
    Secret {
        /// Name of the app.
        app: AppName,
        /// Function with the declaration.
        function: FunctionName,
        /// Name of the secret, as declared.
        secret: String,
    },
}

impl Program {
    /// Resolves limits, grants and secrets of every function.
    pub(super) fn new(
        version: Version,
        metadata: Metadata,
        code: Code,
        grants: &Grants,
        settings: &Settings,
        ceilings: &Ceilings,
    ) -> Result<Self, ProgramError> {
        let app = &metadata.app.name;
        let mut functions = Vec::with_capacity(metadata.functions.len());
        for info in &metadata.functions {
            let policy = Policy::new(&info.attributes.outbound, grants, metadata.attributes_place());
            let outbound = policy.map_err(|source| ProgramError::Outbound {
                app: app.clone(),
                function: info.name.clone(),
                source,
            })?;
            let (secrets, missing_secrets) = secrets(app, info, settings);
            // A stock component gets the models of the operator's grants as well as those of its manifest.
            let mut models = info.attributes.models.clone();
            if metadata.is_stock() {
                models.extend_from_slice(grants.models());
            }
            functions.push(Function {
                name: info.name.clone(),
                limits: info.limits(ceilings)?,
                takes_bytes: info.takes_bytes(),
                outbound,
                models,
                secrets,
                missing_secrets,
                route: info.attributes.route.clone(),
                counters: OnceLock::new(),
            });
        }
        let by_name = functions.iter().enumerate().map(|(i, function)| (function.name.clone(), i)).collect();
        let values = settings.values(&metadata.app.name);
        Ok(Self { metadata, version, functions, by_name, values, code })
    }

    /// Returns the linked code, for `linked_code`.
    pub(super) fn code(&self) -> &Code {
        &self.code
    }

    /// Returns the app's name.
    pub(crate) fn name(&self) -> &AppName {
        &self.metadata.app.name
    }

    /// Returns the app's version.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the app's metadata.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the functions, in the order of the metadata.
    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Returns the web functions with their routes.
    pub(crate) fn routes(self: &Arc<Self>) -> impl Iterator<Item = (FunctionRef, &Route)> {
        let web = self.functions.iter().enumerate().filter_map(|(i, function)| Some((i, function.route.as_ref()?)));
        web.map(|(index, route)| (FunctionRef { program: self.clone(), index }, route))
    }

    /// Returns the app's configuration values.
    pub(crate) fn values(&self) -> &BTreeMap<String, Arc<str>> {
        &self.values
    }

    /// Returns the function `name`.
    pub(crate) fn find(self: &Arc<Self>, name: &str) -> Option<FunctionRef> {
        let index = self.by_name.get(name).copied()?;
        Some(FunctionRef { program: self.clone(), index })
    }
}

/// Returns the declared secrets with the operator's values, and the names of those without.
fn secrets(app: &AppName, function: &FunctionInfo, settings: &Settings) -> (Option<Arc<DeclaredSecrets>>, Vec<String>) {
    let declared = &function.attributes.secrets;
    if declared.is_empty() {
        return (None, Vec::new());
    }
    let given = declared.iter().filter_map(|name| Some((name.clone(), settings.secret(app, name)?.clone())));
    let missing = declared.iter().filter(|name| settings.secret(app, name).is_none());
    (Some(Arc::new(DeclaredSecrets::new(given.collect()))), missing.cloned().collect())
}
