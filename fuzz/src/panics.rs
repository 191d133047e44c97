//! Messages of panics: of a target they are printed if nothing catches it, as the worker catches those of its engine.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    /// Message of the latest panic within an execution; none outside of one.
    static LATEST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the messages of this thread's panics from now on.
pub(crate) fn record() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let is_recorded =
                LATEST.with_borrow_mut(|latest| latest.as_mut().map(|latest| *latest = panic.to_string()));
            if is_recorded.is_none() {
                before(panic);
            }
        }));
    });
    LATEST.set(Some(String::new()));
}

/// Returns the latest message, and leaves those to come to others.
pub(crate) fn stop() -> String {
    LATEST.take().unwrap_or_default()
}

/// Prints a message.
#[expect(clippy::print_stderr, reason = "the end of a process says why")]
pub(crate) fn print(message: &str) {
    eprintln!("{message}");
}
