//! Hostile bytes for every reader of the host.
//!
//! A target is a function of bytes that panics where the host would break a promise. The same targets run in three
//! ways: over their corpus in `cargo test`, under a seeded mutator that needs no other compiler (`bireme-fuzz run`),
//! and under libFuzzer (`fuzz_targets/`, nightly).
//!
//! Limits: each target has its own, of bytes of an input and of memory that one execution may hold.

mod allocations;
mod mutator;
mod panics;
pub mod runner;
pub mod seeds;
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use self::targets::{TARGETS, Target};

/// Processor time of one execution; targets take microseconds.
const TIME_MAX: Duration = Duration::from_secs(10);

/// One execution of a target.
#[derive(Debug)]
pub struct Execution {
    /// Reason of the refusal, if the input was refused.
    pub outcome: Result<(), String>,
    /// Most bytes that were allocated at a time.
    pub peak_bytes: usize,
}

/// Runs a target on one input.
///
/// # Panics
/// The target panics, holds more memory or takes more time than it may, or refuses the input without a reason.
pub fn execute(target: &Target, input: &[u8]) -> Execution {
    panics::record();
    let input = &input[..input.len().min(target.input_bytes_max)];
    let execution = catch_unwind(AssertUnwindSafe(|| measured(target, input)));
    let latest = panics::stop();
    execution.unwrap_or_else(|panic| {
        panics::print(&latest);
        resume_unwind(panic)
    })
}

fn measured(target: &Target, input: &[u8]) -> Execution {
    let began = clock_gettime(ClockId::ProcessCPUTime);
    allocations::begin();
    let outcome = (target.run)(input);
    let peak_bytes = allocations::peak();
    let took = clock_gettime(ClockId::ProcessCPUTime);
    let took = Duration::new((took.tv_sec - began.tv_sec) as u64, 0) + Duration::from_nanos(took.tv_nsec as u64)
        - Duration::from_nanos(began.tv_nsec as u64);
    assert!(took <= TIME_MAX, "an input of {} bytes takes {took:?} of a processor", input.len());
    let peak_max = target.memory.bytes_max(input.len());
    let len = input.len();
    assert!(peak_bytes <= peak_max, "an input of {len} bytes takes {peak_bytes} bytes of memory, over {peak_max}");
    if let Err(reason) = &outcome {
        assert!(reason.chars().any(char::is_alphabetic), "a refusal says nothing: `{reason}`");
        // A reason may quote the input, escaped.
        let reason_max = 16 * len + 4_096;
        assert!(reason.len() <= reason_max, "the reason of a refusal has {} bytes", reason.len());
    }
    Execution { outcome, peak_bytes }
}

/// Runs a target by its name, for `fuzz_targets/`.
///
/// # Panics
/// As `execute` does, and where there is no such target.
pub fn run_one(name: &str, input: &[u8]) {
    let target = targets::find(name).expect("a target's file has its name");
    execute(target, input);
}
