//! The fault table of the inference workers: real processes that misbehave on command, and what callers see of it.
//!
//! The worker is this binary again ([`fake`]), over the real worker's conversation. Each test ends with a good
//! request to the same host, and leaves no process and no file descriptor behind; they run one at a time, so that
//! both can be counted.
//!
//! Counts are small unless `BIREME_FAULTS=full` asks for all of them; `-- --nocapture` shows the table. No test
//! succeeds or fails by the clock but for [`support::PATIENCE`], which only a hang meets.

#![expect(clippy::print_stdout, reason = "the table is what these tests are run for")]

mod fake;
mod host;
mod kills;
mod memory;
mod poison;
mod single;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support.rs"]
mod support;
mod tags;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../it/tiny.rs"]
mod tiny;
