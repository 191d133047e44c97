//! Apps of a host, their versions and deployments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::capabilities::Capability;
use crate::app::metadata::{FunctionInfo, Metadata};
use crate::ids::{AppName, FunctionName, Version};

/// An app of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct App {
    pub name: AppName,
    pub version: Version,
    pub state: AppState,
    /// Reason for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time of its deployment; absent of an app that was given at the host's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// Deprecated: `created_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("deprecated" = true))]
    pub deployed_at_ms: Option<u64>,
    #[serde(default)]
    pub message: Option<String>,
    /// Grants of the app itself, beyond those of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Bytes that it keeps on disk: key-value data, durable calls and maps, with their inputs and results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_used_bytes: Option<u64>,
    /// Quota for that. Above it, the app reads and deletes, and its writes are refused (`disk-quota`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_quota_bytes: Option<u64>,
    /// Functions of a live app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Vec<AppFunction>>,
}

/// State of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AppState {
    Live,
    Stopped,
    /// It could not be restored when the host started.
    Failed,
}

/// A function in the list of apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppFunction {
    pub name: FunctionName,
    pub doc: String,
    /// Method and path: `POST /hello/greet`.
    pub route: String,
}

/// Apps of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppList {
    pub apps: Vec<App>,
}

/// Description of a live app: its functions with the schemas of their inputs and outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppDescription {
    pub name: AppName,
    pub version: Version,
    /// Capabilities that its functions declare.
    pub capabilities: Vec<Capability>,
    pub metadata: Metadata,
}

/// Description of one function of a live app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FunctionDescription {
    pub app: AppName,
    /// Version of the app that is live.
    pub version: Version,
    /// Method and path: `POST /hello/greet`.
    pub route: String,
    /// The function's entry of the metadata: parameters, schemas of its input and output, attributes.
    pub function: FunctionInfo,
}

/// Kept deployments of an app, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppHistory {
    pub app: AppName,
    pub records: Vec<DeploymentRecord>,
}

/// One change to an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeploymentRecord {
    /// Counted from 1 for each app.
    pub number: u64,
    pub action: DeploymentAction,
    /// The version that is live from then on; of `stop`, the one that was live until then.
    pub version: Version,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    #[serde(default)]
    pub created_ms: u64,
    /// Deprecated: `created_ms`.
    #[serde(default)]
    #[schemars(extend("deprecated" = true))]
    pub at_ms: u64,
    /// Bytes of the component.
    pub bytes: u64,
    pub functions: Vec<FunctionName>,
    pub grants: Vec<String>,
    /// Capabilities that the app declares.
    pub capabilities: Vec<Capability>,
    /// Capabilities that were new, and accepted.
    pub added: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Kind of a change to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeploymentAction {
    Deploy,
    Rollback,
    Stop,
}

/// Outcome of a deployment or a rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Deployment {
    pub app: AppName,
    pub version: Version,
    /// The version that was live before.
    pub previous: Option<Version>,
    /// False if the same version was live, or if it was a dry run.
    pub changed: bool,
    /// Capabilities that the version before did not have.
    pub added: Vec<Capability>,
    /// Capabilities that only the version before had.
    pub removed: Vec<Capability>,
    /// Methods and paths of the functions.
    pub routes: Vec<String>,
    /// Declarations that the host does not meet yet; the app is live, and calls that need one fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<DeploymentWarning>,
}

/// A declaration that the host does not meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeploymentWarning {
    pub kind: DeploymentWarningKind,
    /// Name of the grant, the model, the secret or the configuration value.
    pub name: String,
    /// One sentence with the next step.
    pub message: String,
}

/// Kind of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeploymentWarningKind {
    /// A `$name` without an origin.
    Grant,
    /// A model that is not installed.
    Model,
    Secret,
    Config,
}

/// Answer to a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppStopped {
    pub app: AppName,
    /// The version that was live until then.
    pub stopped: Version,
}
