//! Log lines as plain data, and their sinks.

use crate::ids::{CallId, FunctionId, Version};

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finest detail; the lowest level in the order.
    Trace,
    /// Detail for a developer who looks for a mistake.
    Debug,
    /// Events of normal work; every line of stdout and stderr has this level.
    Info,
    /// Problems that do not end the call; also the notice of lines dropped at the log limit.
    Warn,
    /// Failures, also that of the call itself; the highest level in the order.
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
    /// The guest's standard output, line by line.
    Stdout,
    /// The guest's standard error, line by line.
    Stderr,
    /// The host itself: the failure of the call.
    System,
}

/// One line on its way to a sink.
#[derive(Debug)]
pub struct LogLine<'a> {
    /// Id of the call that the line belongs to.
    pub call: CallId,
    /// Function that the call runs, with its app.
    pub function: &'a FunctionId,
    /// Version of the app that wrote it.
    pub version: &'a Version,
    /// Part of the guest that wrote it, or the host itself.
    pub source: Source,
    /// Severity; the guest chooses it for lines of `Source::Log`.
    pub level: Level,
    /// One line of text: control characters other than tabs are escaped.
    pub message: &'a str,
    /// Names and values beside the message, escaped like it; only lines of `Source::Log` have any.
    pub fields: &'a [(String, String)],
}

/// Receiver of lines. `line` is called on the guest's thread for each of them and must not block for long.
pub trait LogSink: Send + Sync {
    /// Takes one line; a sink that keeps it must copy it.
    fn line(&self, line: &LogLine<'_>);
}

/// A sink that drops every line.
pub struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &LogLine<'_>) {}
}
