//! Guests' log lines on a terminal: stderr, above a progress bar if there is one. `telemetry` writes them.

use std::sync::Arc;

use indicatif::ProgressBar;

use crate::sandbox::log::{Level, LogLine, LogSink, Source};
use crate::telemetry;

/// Prints lines of at least one level. Dropping it waits for those that are queued, unless stderr's reader stalls.
pub struct StderrLog {
    least: Level,
    /// Whether failures of calls are told, and each line's version; a command that runs one call says both itself.
    is_of_server: bool,
}

impl StderrLog {
    /// Prints what guests write.
    pub fn new(least: Level) -> Arc<Self> {
        Arc::new(Self { least, is_of_server: false })
    }

    /// Prints what guests write and which version of them, and why their calls failed.
    pub fn of_server(least: Level) -> Arc<Self> {
        Arc::new(Self { least, is_of_server: true })
    }

    /// Keeps lines from tearing a progress bar, from now on this one.
    pub fn above(&self, bar: &ProgressBar) {
        let bar = bar.clone();
        telemetry::set_write_wrapper(Box::new(move |write| bar.suspend(write)));
    }
}

impl LogSink for StderrLog {
    fn line(&self, line: &LogLine<'_>) {
        if line.level < self.least || (line.source == Source::System && !self.is_of_server) {
            return;
        }
        let mut text = line.function.to_string();
        if self.is_of_server {
            // Versions come and go while it runs.
            text += &format!("@{}", line.version);
        }
        text += &match line.source {
            Source::Log | Source::System => format!(" {}: {}", line.level.as_str(), line.message),
            Source::Stdout | Source::Stderr => format!(": {}", line.message),
        };
        for (key, value) in line.fields {
            text += &format!(" {key}={value}");
        }
        telemetry::app_line(line.function.app.as_str(), text);
    }
}

impl Drop for StderrLog {
    fn drop(&mut self) {
        telemetry::flush();
    }
}
