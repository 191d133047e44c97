//! The host's own log, and the single writer of standard error, for it and for guests' lines.
//!
//! A dedicated thread writes: a stalled reader of standard error (a pipe, a paused terminal) must not block the
//! runtime's threads. The queue is bounded in bytes (`STDERR_BYTES_MAX`), with a share for the host and for each app;
//! dropped lines are counted, and the count is written once there is room. Only while a host starts, and must have no
//! thread, do lines go out on the caller's.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

use crate::byte_queue::{ByteQueue, DropCount};
use crate::limits::{LOG_LINE_BYTES_MAX, STDERR_BYTES_MAX};

/// Queue source of the host's own lines. No app has this name: names are not empty.
const HOST: &str = "";
/// Longest wait of the exiting process for a stalled reader.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a line besides the guest's text: function and version, separators, the note of a cut.
const PREFIX_BYTES_MAX: usize = 4 << 10;
/// Bytes of the queue that a line takes besides its text.
const LINE_OVERHEAD_BYTES: usize = 64;

static STDERR: LazyLock<Stderr> = LazyLock::new(Stderr::start);
/// Whether there must be no thread yet.
static IS_THREADLESS: AtomicBool = AtomicBool::new(false);

/// Wrapper of a write that moves a progress bar out of its way.
pub(crate) type WriteWrapper = Box<dyn Fn(&mut dyn FnMut()) + Send>;

struct Stderr {
    lines: ByteQueue<Vec<u8>>,
    wrapper: Mutex<Option<WriteWrapper>>,
    /// Whether a flush has timed out.
    has_stalled: AtomicBool,
}

impl Stderr {
    fn start() -> Self {
        // Without the thread there is no log; everything else goes on.
        let _ = std::thread::Builder::new().name("log".into()).spawn(|| STDERR.write_all());
        Self { lines: ByteQueue::new(STDERR_BYTES_MAX), wrapper: Mutex::new(None), has_stalled: AtomicBool::new(false) }
    }

    fn write_all(&self) {
        while let Some(line) = self.lines.take() {
            self.write(&line);
            let DropCount { items, bytes } = self.lines.take_dropped();
            if items > 0 {
                let text = format!(
                    "{items} log lines ({bytes} bytes) were dropped: they came faster than standard error took them\n"
                );
                self.write(text.as_bytes());
            }
        }
    }

    fn write(&self, line: &[u8]) {
        // A closed standard error is not an error of ours.
        let mut write = || drop(io::stderr().lock().write_all(line));
        match &*self.wrapper.lock() {
            Some(wrapper) => wrapper(&mut write),
            None => write(),
        }
    }
}

/// Queues one line of an app for standard error, without its line break. Never waits.
pub(crate) fn app_line(app: &str, line: String) {
    queue(app, line.into_bytes());
}

/// Queues one line of the host for standard error. Never waits.
pub(crate) fn note(line: String) {
    queue(HOST, line.into_bytes());
}

fn queue(source: &str, mut line: Vec<u8>) {
    line.truncate(LOG_LINE_BYTES_MAX + PREFIX_BYTES_MAX);
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    if IS_THREADLESS.load(Ordering::Relaxed) {
        // A closed standard error is not an error of ours.
        return drop(io::stderr().lock().write_all(&line));
    }
    STDERR.lines.offer(source, line.len() + LINE_OVERHEAD_BYTES, line);
}

/// Starts no thread until `start_thread`; for a process that is about to confine itself.
pub(crate) fn hold_thread() {
    IS_THREADLESS.store(true, Ordering::Relaxed);
}

/// Ends `hold_thread`.
pub(crate) fn start_thread() {
    IS_THREADLESS.store(false, Ordering::Relaxed);
}

/// Wraps every later write; replaces an earlier wrapper.
pub(crate) fn set_write_wrapper(wrapper: WriteWrapper) {
    *STDERR.wrapper.lock() = Some(wrapper);
}

/// Waits until standard error has taken all queued lines, at most `FLUSH_PATIENCE`; no longer waits for a reader that
/// has stalled once.
pub(crate) fn flush() {
    if IS_THREADLESS.load(Ordering::Relaxed) {
        return;
    }
    if !STDERR.has_stalled.load(Ordering::Relaxed) && !STDERR.lines.flush(FLUSH_PATIENCE) {
        STDERR.has_stalled.store(true, Ordering::Relaxed);
    }
}

/// Writer of one `tracing` event, as a whole.
struct EventWriter;

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        queue(HOST, bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets up the log of this process: to standard error, filtered by `RUST_LOG` (warnings by default, `verbose` adds the
/// rest). Later calls do nothing.
pub(crate) fn init(verbose: bool) {
    let default = if verbose { "bireme=debug,warn" } else { "bireme=warn,error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| EventWriter).with_target(false);
    if log.with_ansi(console::colors_enabled_stderr()).try_init().is_ok() {
        log_panics();
    }
}

/// Sends panics of all threads but the main one to the log. The main thread runs nothing else, so its hook may block.
fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("main") {
            default(panic);
        } else {
            log_panic(panic);
        }
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic_message(panic.payload());
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    // Symbols cost hundreds of MiB for good, so they are loaded only if `RUST_BACKTRACE` asks for them.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(location, message, "a task panicked\n{backtrace}"),
        _ => tracing::error!(location, message, "a task panicked"),
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
