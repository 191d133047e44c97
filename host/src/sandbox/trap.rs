//! Failures from traps: wasmtime's errors, translated to causes that a function's author can act on.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::call_context::CallContext;
use super::limiter::LimitExceeded;
use crate::call::{Failure, FailureCode};
use crate::limits;

/// Stack frames named in a crash.
const FRAMES_MAX: usize = 5;
/// Characters of one function's name, which guests choose.
const FRAME_CHARS_MAX: usize = 512;

/// Returns the failure of a call whose deadline passed.
pub(crate) fn timeout(call: &CallContext) -> Failure {
    let timeout = call.function.limits.timeout;
    let granted = call.deadline.saturating_duration_since(call.started);
    if granted < timeout {
        let message = format!(
            "function `{}` was cut off after {granted:?}, when its caller's own timeout passed; raise the caller's \
             `timeout`",
            call.function.name
        );
        return Failure::new(FailureCode::Timeout, message);
    }
    let message = format!(
        "function `{}` did not finish within its timeout of {timeout:?}; raise `timeout` in {} or give it less to do",
        call.function.name,
        place(call)
    );
    Failure::new(FailureCode::Timeout, message)
}

/// Returns the place of the function's attributes.
fn place(call: &CallContext) -> &'static str {
    call.function.program().metadata().attributes_place()
}

/// Returns the failure of a call that ended in `error`.
pub(crate) fn failure(call: &CallContext, error: &wasmtime::Error) -> Failure {
    let name = &call.function.name;
    if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
        return match limit {
            LimitExceeded::Deadline => timeout(call),
            LimitExceeded::Memory { asked, limit } => {
                let message = format!(
                    "function `{name}` asked for {} MiB of memory, over its limit of {} MiB; raise `memory` in {}",
                    asked.div_ceil(1 << 20),
                    limit >> 20,
                    place(call)
                );
                Failure::new(FailureCode::MemoryLimit, message)
            }
            LimitExceeded::HostMemory { asked } => {
                let message = format!(
                    "no memory is left for function `{name}`, which asked for {} MiB: running calls and unread answers of \
                     `{}` use up its part of the host's memory; try again later, or raise `--memory-max`",
                    asked.div_ceil(1 << 20),
                    call.function.app()
                );
                Failure::new(FailureCode::Overloaded, message)
            }
            LimitExceeded::Table { .. } => Failure::new(FailureCode::MemoryLimit, format!("function `{name}` {limit}")),
        };
    }
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        let message =
            format!("function `{name}` ended the process (status {status}) instead of returning; return a failure");
        return Failure::new(FailureCode::Crashed, message);
    }
    if let Some(panic) = panic_message(&call.log.stderr_tail()) {
        return Failure::new(FailureCode::Crashed, format!("function `{name}` panicked: {panic}"));
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        // Endless recursion shows as an access out of bounds (the guest's own stack lies in its memory), so only the
        // trap and its place are known.
        let mut failure = Failure::new(FailureCode::Crashed, format!("function `{name}` crashed: {trap}"));
        failure.causes.extend(stack_names(error));
        return failure;
    }
    let text = format!("{error:#}");
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        // wasmtime has no type for this error; a test through a real guest pins its wording.
        let message = format!(
            "function `{name}` passed more than its output limit of {} MiB out of the sandbox at once{}",
            call.function.limits.output_bytes_max >> 20,
            if call.function.program().metadata().is_stock() {
                "; raise `output` in the app's bireme.toml"
            } else {
                ""
            }
        );
        return Failure::new(FailureCode::OutputTooLarge, message);
    }
    if text.contains("total size of fields exceeds limit") {
        let message = format!(
            "function `{name}` set headers of more than {} KiB together; send what is long in the body",
            limits::HTTP_FIELDS_BYTES_MAX >> 10
        );
        return Failure::new(FailureCode::Crashed, message);
    }
    if text.contains("maximum concurrent") {
        return Failure::new(FailureCode::Overloaded, "the host has no free instance; try again");
    }
    tracing::warn!(call = %call.id, function = %name, error = %text, "a call ended in an unexpected way");
    Failure::new(FailureCode::Crashed, format!("function `{name}` crashed"))
}

/// Names the guest's innermost functions, if the component has a name section.
fn stack_names(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name()).map(demangled);
    let mut own: Vec<String> = names.filter(|name| !is_runtime(name)).collect();
    // Recursion repeats one name.
    own.dedup();
    own.truncate(FRAMES_MAX);
    (!own.is_empty()).then(|| crate::logs::printable(&format!("in `{}`", own.join("`, called by `"))))
}

fn demangled(name: &str) -> String {
    let name: String = name.chars().take(FRAME_CHARS_MAX).collect();
    // Without the hash suffix.
    format!("{:#}", rustc_demangle::demangle(&name))
}

/// Whether a function belongs to the language or the SDK rather than the app.
fn is_runtime(name: &str) -> bool {
    let name = name.trim_start_matches('<');
    ["core::", "std::", "alloc::", "bireme_sdk::", "wit_bindgen::", "rust_", "__", "_start", "cabi_", "bireme:"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Finds Rust's panic message at the end of stderr, as "message (file:line)".
fn panic_message(stderr: &str) -> Option<String> {
    let (_, panic) = stderr.rsplit_once("panicked at ")?;
    let (place, rest) = panic.split_once('\n')?;
    let place = place.trim_end_matches(':');
    // Without the column, which one line has no use for.
    let place = place.rsplit_once(':').map_or(place, |(file_and_line, _)| file_and_line);
    let message = rest.lines().take_while(|line| !line.starts_with("note: run with")).collect::<Vec<_>>().join(" ");
    Some(crate::logs::printable(&format!("{} ({place})", message.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source_and_not_of_the_runtime() {
        assert_eq!(demangled("_ZN7hostile9resources7recurse17h0123456789abcdefE"), "hostile::resources::recurse");
        assert_eq!(demangled("plain"), "plain");
        for runtime in
            ["core::ops::function::FnOnce::call_once", "bireme_sdk::entry::run", "<alloc::vec::Vec<u8>>::push"]
        {
            assert!(is_runtime(runtime), "{runtime}");
        }
        assert!(!is_runtime("hostile::resources::recurse") && !is_runtime("<hostile::A as core::fmt::Display>::fmt"));
    }

    #[test]
    fn a_panic_is_one_line() {
        let stderr = "log\nthread '<unnamed>' panicked at src/lib.rs:12:9:\nindex out of bounds: the len is 0\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_message(stderr).unwrap(), "index out of bounds: the len is 0 (src/lib.rs:12)");
        assert_eq!(panic_message("all is well"), None);
    }
}
