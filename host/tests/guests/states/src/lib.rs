//! Functions that leave calls, maps, schedules and values in every state, for the fixtures of the data directory.
//!
//! A call behind a gate runs until the gate is opened: a host can be killed while it runs, and the next host can end
//! it.

use std::time::Duration;

use bireme_sdk::prelude::*;

/// Wait between two looks at a gate.
const GATE_POLL: Duration = Duration::from_millis(20);

/// Waits until a gate is open.
fn pass(gate: &str) -> Result<()> {
    let gates = kv::open("gates")?;
    while gates.get(gate)?.is_none() {
        std::thread::sleep(GATE_POLL);
    }
    Ok(())
}

/// Opens a gate, for good.
#[function]
fn open_gate(gate: String) -> Result<()> {
    Ok(kv::open("gates")?.set(&gate, "")?)
}

/// Doubles a number; refuses those over 1,000.
#[function]
fn double(n: u64) -> Result<u64> {
    if n > 1_000 { Err(Failure::terminal(format!("{n} is over 1,000"))) } else { Ok(n * 2) }
}

/// Doubles a number once a gate is open.
#[function(timeout = "1h")]
fn double_behind(gate: String, n: u64) -> Result<u64> {
    pass(&gate)?;
    double(n)
}

/// Doubles a number once a gate is open, one call at a time.
#[function(timeout = "1h", concurrency = 1)]
fn double_alone(gate: String, n: u64) -> Result<u64> {
    pass(&gate)?;
    double(n)
}

/// Returns so many bytes of text once a gate is open.
#[function(timeout = "1h")]
fn text_behind(gate: String, bytes: usize) -> Result<String> {
    pass(&gate)?;
    Ok("x".repeat(bytes))
}

/// Fails in its first attempts, with a long backoff.
#[function(retries(max = 1, initial = "30s", max_delay = "30s"))]
fn patient(failures: u32) -> Result<u32> {
    attempt_after(failures)
}

/// Fails in its first attempts, with a short backoff.
#[function(retries(max = 2, initial = "1ms", max_delay = "2ms"))]
fn hasty(failures: u32) -> Result<u32> {
    attempt_after(failures)
}

/// Returns the number of the attempt, or fails if so many have not failed before.
fn attempt_after(failures: u32) -> Result<u32> {
    let attempt = context::current().attempt;
    if attempt <= failures {
        return Err(Failure::failed(format!("attempt {attempt} fails")).because("it was asked to"));
    }
    Ok(attempt)
}

/// Spawns a call and a map of which each is behind a gate; their ids.
#[function]
fn spawn_behind(gate: String) -> Result<(String, String)> {
    let call = double_behind::spawn(gate.clone(), 21)?;
    let map = double_behind::spawn_map(vec![gate; 3], [1, 2, 2_000])?;
    Ok((call.id().to_owned(), map.id().to_owned()))
}

/// Spawns a call behind a gate, and waits for it.
#[function(timeout = "1h")]
fn wait_behind(gate: String, n: u64) -> Result<u64> {
    double_behind::spawn(gate, n)?.wait()
}

/// Keeps a value.
#[function]
fn keep(bucket: String, key: String, value: String) -> Result<()> {
    log::info!("a value is kept", key = key);
    Ok(kv::open(&bucket)?.set(&key, value)?)
}

/// Returns the keys of a bucket with their values.
#[function]
fn kept(bucket: String) -> Result<Vec<(String, String)>> {
    let bucket = kv::open(&bucket)?;
    let mut kept = Vec::new();
    for key in bucket.keys() {
        let key = key?;
        let value = bucket.get(&key)?.unwrap_or_default();
        kept.push((key, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(kept)
}

/// Runs every second.
#[function(schedule = period("1s"))]
fn ticks() {}

/// Runs every two seconds, until a gate is open.
#[function(timeout = "1h", schedule = period("2s", missed = "run_once", overlap = "queue"))]
fn slow_ticks() -> Result<()> {
    pass("slow-ticks")
}

/// Runs at New Year, and fails.
#[function(schedule = cron("0 0 1 1 *", tz = "UTC"))]
fn fails_yearly() -> Result<()> {
    Err(Failure::terminal("not this year"))
}

/// Runs at New Year.
#[function(schedule = cron("0 0 1 1 *", tz = "Europe/Stockholm", missed = "run_once", overlap = "allow"))]
fn yearly() {}
