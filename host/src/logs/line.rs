//! One log line as plain data, and the sink that takes lines.

use crate::ids::{CallId, FunctionId, Version};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Returns the level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `log::info!` and its like.
    Log,
    Stdout,
    Stderr,
    /// The host: why the call failed.
    System,
}

/// One line, as it goes to a sink.
#[derive(Debug)]
pub struct Line<'a> {
    pub call: CallId,
    pub function: &'a FunctionId,
    /// Of the app that wrote it.
    pub version: &'a Version,
    pub source: Source,
    pub level: Level,
    pub message: &'a str,
    pub fields: &'a [(String, String)],
}

/// Takes lines. Called on the guest's thread for each line; must not block for long.
pub trait LogSink: Send + Sync {
    fn line(&self, line: &Line<'_>);
}

/// Drops every line.
pub struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &Line<'_>) {}
}
