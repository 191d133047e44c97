//! Log lines of functions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AppName, CallId, FunctionName, Version};

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogEntry {
    /// Counted over all lines of the host.
    pub number: u64,
    #[serde(default)]
    pub created_ms: u64,
    /// Deprecated: `created_ms`.
    #[serde(default)]
    #[schemars(extend("deprecated" = true))]
    pub at_ms: u64,
    pub app: AppName,
    pub function: FunctionName,
    pub version: Version,
    pub call: CallId,
    pub source: LogSource,
    pub level: LogLevel,
    pub message: String,
    /// Structured fields, all of them text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogSource {
    /// The function's logger.
    Log,
    Stdout,
    Stderr,
    /// The host: the failure of a call.
    System,
}

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Gap in a stream of lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogLost {
    /// Lines that came faster than the client read them.
    pub lost: u64,
}

/// Line of a stream of log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LogStreamLine {
    Entry(LogEntry),
    Lost(LogLost),
}
