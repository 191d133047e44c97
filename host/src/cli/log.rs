//! Where guests' log lines go on a terminal: stderr, above a progress bar if there is one.

use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;

use super::output;
use crate::sandbox::log::{Level, Line, LogSink, Source};

/// Prints lines of at least one level.
pub struct StderrLog {
    least: Level,
    bar: OnceLock<ProgressBar>,
}

impl StderrLog {
    pub fn new(least: Level) -> Arc<Self> {
        Arc::new(Self { least, bar: OnceLock::new() })
    }

    /// Keeps lines from tearing a progress bar.
    pub fn above(&self, bar: &ProgressBar) {
        let _ = self.bar.set(bar.clone());
    }
}

impl LogSink for StderrLog {
    fn line(&self, line: &Line<'_>) {
        if line.level < self.least {
            return;
        }
        let mut text = match line.source {
            Source::Log => format!("{} {}: {}", line.function, line.level.as_str(), line.message),
            Source::Stdout | Source::Stderr => format!("{}: {}", line.function, line.message),
        };
        for (key, value) in line.fields {
            text += &format!(" {key}={value}");
        }
        match self.bar.get() {
            Some(bar) => bar.suspend(|| output::note(&text)),
            None => output::note(&text),
        }
    }
}
