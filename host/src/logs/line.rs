//! Log lines as plain data, and their sinks.

use crate::ids::{CallId, FunctionId, Version};

/// Severity of a line.
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
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `log::info!` and its siblings.
    Log,
    Stdout,
    Stderr,
    /// The host itself: the failure of the call.
    System,
}

/// One line on its way to a sink.
#[derive(Debug)]
pub struct LogLine<'a> {
    pub call: CallId,
    pub function: &'a FunctionId,
    /// Version of the app that wrote it.
    pub version: &'a Version,
    pub source: Source,
    pub level: Level,
    pub message: &'a str,
    pub fields: &'a [(String, String)],
}

/// Receiver of lines. `line` is called on the guest's thread for each of them and must not block for long.
pub trait LogSink: Send + Sync {
    fn line(&self, line: &LogLine<'_>);
}

/// A sink that drops every line.
pub struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &LogLine<'_>) {}
}
