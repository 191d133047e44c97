//! Where guests' log lines go on a terminal: stderr, above a progress bar if there is one.
//!
//! A thread of its own writes them: a reader of stderr that stalls must not stop the threads that guests run on. What does not
//! fit the queue meanwhile is counted and dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use indicatif::ProgressBar;

use super::output;
use crate::sandbox::log::{Level, Line, LogSink, Source};

/// Lines that wait for stderr.
const LINES_WAITING_MAX: usize = 4_096;

/// Prints lines of at least one level. Dropping it prints what waits.
pub struct StderrLog {
    least: Level,
    /// Whether failures of calls are told, and each line's version; a command that runs one call says both itself.
    is_of_server: bool,
    lines: Option<SyncSender<String>>,
    shared: Arc<Shared>,
    printer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    bar: OnceLock<Mutex<ProgressBar>>,
    dropped: AtomicU64,
}

impl StderrLog {
    /// Prints what guests write.
    pub fn new(least: Level) -> Arc<Self> {
        Self::start(least, false)
    }

    /// Prints what guests write and which version of them, and why their calls failed.
    pub fn of_server(least: Level) -> Arc<Self> {
        Self::start(least, true)
    }

    fn start(least: Level, is_of_server: bool) -> Arc<Self> {
        let (lines, queue) = sync_channel(LINES_WAITING_MAX);
        let shared = Arc::new(Shared::default());
        let printer = std::thread::Builder::new().name("log".into()).spawn({
            let shared = shared.clone();
            move || shared.print(&queue)
        });
        // Without a thread there is no log; the functions run all the same.
        let (lines, printer) = match printer {
            Ok(printer) => (Some(lines), Some(printer)),
            Err(_) => (None, None),
        };
        Arc::new(Self { least, is_of_server, lines, shared, printer: Mutex::new(printer) })
    }

    /// Keeps lines from tearing a progress bar, from now on this one.
    pub fn above(&self, bar: &ProgressBar) {
        let kept = self.shared.bar.get_or_init(|| Mutex::new(bar.clone()));
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = bar.clone();
    }
}

impl LogSink for StderrLog {
    fn line(&self, line: &Line<'_>) {
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
        if let Some(lines) = &self.lines
            && lines.try_send(text).is_err()
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn print(&self, queue: &Receiver<String>) {
        for text in queue {
            self.note(&text);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.note(&format!("{dropped} log lines were dropped: they came faster than standard error took them"));
            }
        }
    }

    fn note(&self, text: &str) {
        match self.bar.get() {
            Some(bar) => bar.lock().unwrap_or_else(PoisonError::into_inner).suspend(|| output::note(text)),
            None => output::note(text),
        }
    }
}

impl Drop for StderrLog {
    fn drop(&mut self) {
        self.lines = None;
        let printer = self.printer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(printer) = printer {
            let _ = printer.join();
        }
    }
}
