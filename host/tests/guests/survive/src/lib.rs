//! Functions of `bireme-survive`: they tell each attempt to the tool, and then end as its checker expects.

use std::time::{Duration, Instant};

use bireme_sdk::context;
use bireme_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number, and where to tell that it was seen.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    pub n: u64,
    pub url: String,
}

impl Seen {
    /// Tells this attempt.
    fn tell(&self) -> Result<u32> {
        let call = context::current();
        http::get(format!("{}/ran/{}", self.url, call.call_id)).retries(0).send()?.error_for_status()?;
        Ok(call.attempt)
    }
}

/// Doubles the number.
#[function(outbound = ["$recorder"], retries(max = 3, initial = "20ms", backoff = 1.0))]
pub fn double(input: Seen) -> Result<u64> {
    input.tell()?;
    Ok(input.n * 2)
}

/// Fails at first, up to three times, and then returns the number.
#[function(outbound = ["$recorder"], retries(max = 3, initial = "20ms", backoff = 1.0))]
pub fn flaky(input: Seen) -> Result<u64> {
    let attempt = input.tell()?;
    if u64::from(attempt) <= input.n % 4 {
        return Err(Failure::failed("not yet"));
    }
    Ok(input.n)
}

/// Fails in a way that no attempt mends.
#[function(outbound = ["$recorder"], retries(max = 3, initial = "20ms", backoff = 1.0))]
pub fn terminal(input: Seen) -> Result<u64> {
    input.tell()?;
    Err(Failure::terminal("never"))
}

/// Fails with each attempt.
#[function(outbound = ["$recorder"], retries(max = 1, initial = "20ms", backoff = 1.0))]
pub fn hopeless(input: Seen) -> Result<u64> {
    input.tell()?;
    Err(Failure::failed("not at all"))
}

/// Sleeps for some milliseconds and returns the number.
#[function(outbound = ["$recorder"], retries(max = 3, initial = "20ms", backoff = 1.0))]
pub fn naps(input: Seen) -> Result<u64> {
    input.tell()?;
    std::thread::sleep(Duration::from_millis(input.n % 50));
    Ok(input.n)
}

/// Waits for an answer that takes a minute.
#[function(outbound = ["$recorder"], timeout = "2m", retries = 0)]
pub fn waits(input: Seen) -> Result<()> {
    http::get(format!("{}/slow", input.url)).retries(0).timeout(Duration::from_secs(100)).send()?;
    Ok(())
}

/// The same, one call at a time.
#[function(outbound = ["$recorder"], timeout = "2m", retries = 0, concurrency = 1)]
pub fn waits_alone(input: Seen) -> Result<()> {
    waits(input)
}

/// Sleeps for a minute.
#[function(timeout = "2m", retries = 0)]
pub fn sleeps(_input: Seen) -> Result<()> {
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

/// Computes for a minute.
#[function(timeout = "2m", retries = 0, concurrency = 2)]
pub fn spins(input: Seen) -> Result<u64> {
    let begin = Instant::now();
    let mut n = input.n;
    while begin.elapsed() < Duration::from_secs(60) {
        n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(7));
    }
    Ok(n)
}

/// Fails, and begins again a while later.
#[function(retries(max = 10, initial = "3s", backoff = 1.0))]
pub fn backs_off(_input: Seen) -> Result<()> {
    Err(Failure::failed("later"))
}
