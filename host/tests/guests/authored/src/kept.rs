//! Functions for tests of durable calls.

use std::time::Duration;

use bireme_sdk::prelude::*;

/// Fails until as many attempts have.
#[function(retries(max = 3, initial = "10ms", max_delay = "20ms"))]
fn flaky(failures: u32) -> Result<u32> {
    let attempt = bireme_sdk::context::current().attempt;
    if attempt <= failures { Err(Failure::failed(format!("attempt {attempt} fails"))) } else { Ok(attempt) }
}

/// Fails for good.
#[function(retries = 3)]
fn hopeless(why: String) -> Result<()> {
    Err(Failure::terminal(why))
}

/// Fails, and waits long for its next attempt.
#[function(retries(max = 3, initial = "10m", max_delay = "10m"))]
fn patient() -> Result<()> {
    Err(Failure::failed("not yet"))
}

/// Takes its time.
#[function(timeout = "1h")]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Takes its time, one call after the other.
#[function(timeout = "1h", concurrency = 1)]
fn nap_alone(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Returns the square of a number, a moment later; fails for multiples of `bad`.
#[function]
fn slow_square(n: u64, bad: u64) -> Result<u64> {
    std::thread::sleep(Duration::from_millis(2));
    if bad > 0 && n.is_multiple_of(bad) { Err(Failure::terminal(format!("{n} is bad"))) } else { Ok(n * n) }
}

/// Returns so many bytes of text.
#[function]
fn text_of(bytes: usize) -> String {
    "x".repeat(bytes)
}
