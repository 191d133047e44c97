//! Log lines of guests on stderr, above a progress bar if there is one. `telemetry` writes them.

use std::sync::Arc;

use console::{StyledObject, style};
use indicatif::ProgressBar;

use crate::logs::{Level, LogLine, LogSink, Source};
use crate::telemetry;

/// Prints lines of at least a level. Drop waits for queued lines, unless the reader of stderr stalls.
pub(crate) struct StderrLog {
    least: Level,
    /// Prints failures of calls, and each line's version. A command that runs one call reports both itself.
    is_of_server: bool,
}

impl StderrLog {
    /// Prints lines of guests.
    pub(crate) fn new(least: Level) -> Arc<Self> {
        Arc::new(Self { least, is_of_server: false })
    }

    /// Prints lines of guests with their version, and failures of their calls.
    pub(crate) fn of_server(least: Level) -> Arc<Self> {
        Arc::new(Self { least, is_of_server: true })
    }

    /// Prints above this progress bar from now on.
    pub(crate) fn above(&self, bar: &ProgressBar) {
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
            // Several versions run over the life of a server.
            text += &format!("@{}", line.version);
        }
        text += &match line.source {
            Source::Log | Source::System => format!(" {}: {}", coloured(line.level), line.message),
            Source::Stdout | Source::Stderr => format!(": {}", line.message),
        };
        for (key, value) in line.fields {
            text += &format!(" {key}={value}");
        }
        telemetry::app_line(line.function.app.as_str(), text);
    }
}

/// Returns a level in its colour, where standard error is a terminal.
fn coloured(level: Level) -> StyledObject<&'static str> {
    let text = style(level.as_str()).for_stderr();
    match level {
        Level::Trace | Level::Debug => text.dim(),
        Level::Info => text.green(),
        Level::Warn => text.yellow(),
        Level::Error => text.red(),
    }
}

impl Drop for StderrLog {
    fn drop(&mut self) {
        telemetry::flush();
    }
}
