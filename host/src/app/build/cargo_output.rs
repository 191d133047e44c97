//! Cargo's standard error: passed through with its colours, its end kept for the diagnosis.

use std::io::{IsTerminal, Read, Write};
use std::process::{ChildStderr, Command};
use std::thread::JoinHandle;

use super::diagnosis::without_colours;

/// Bytes kept: errors stand at the end, and one compiler error takes some hundred bytes.
const KEPT_BYTES: usize = 256 << 10;

/// A copy under way.
pub(crate) struct CargoOutput(Option<JoinHandle<Vec<u8>>>);

/// Makes cargo print colours and progress, which it would not print to our pipe.
pub(crate) fn colour(command: &mut Command) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let set = |command: &mut Command, key: &str, value: &str| {
        if std::env::var_os(key).is_none() {
            command.env(key, value);
        }
    };
    set(command, "CARGO_TERM_COLOR", "always");
    set(command, "CARGO_TERM_PROGRESS_WHEN", "always");
    set(command, "CARGO_TERM_PROGRESS_WIDTH", "80");
}

impl CargoOutput {
    /// Starts the copy. If no thread starts, the output is lost and the build goes on.
    pub(crate) fn copy(mut from: ChildStderr) -> Self {
        let copy = move || {
            let (mut kept, mut buffer) = (Vec::new(), [0; 8 << 10]);
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                // A closed standard error must not stop the build.
                let mut stderr = std::io::stderr().lock();
                let _ = stderr.write_all(&buffer[..read]).and_then(|()| stderr.flush());
                kept.extend_from_slice(&buffer[..read]);
                if kept.len() > 2 * KEPT_BYTES {
                    kept.drain(..kept.len() - KEPT_BYTES);
                }
            }
            kept
        };
        Self(std::thread::Builder::new().name("cargo".into()).spawn(copy).ok())
    }

    /// Waits for the end of the output, and returns the kept part without colours.
    pub(crate) fn finish(self) -> String {
        let kept = self.0.and_then(|copy| copy.join().ok()).unwrap_or_default();
        without_colours(&String::from_utf8_lossy(&kept))
    }
}
