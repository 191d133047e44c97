use bireme_sdk::prelude::*;

/// Has every attribute.
#[function(
    timeout = "10s",
    memory = "64MiB",
    retries(max = 3, backoff = 1.5, initial = "100ms", max_delay = "1m"),
    concurrency = 4,
    schedule = cron("*/15 8-18 * JAN-JUN MON-FRI", tz = "Europe/Stockholm", missed = "run_once", overlap = "queue"),
    outbound = ["https://api.example.com", "$site"],
    models = ["all-minilm-l6-v2"],
    tokens = 100_000,
    tokens_per_day = 5_000_000,
    secrets = ["API_KEY"],
)]
fn everything(limit: Option<u32>) -> Result<u32> {
    Ok(limit.unwrap_or(10))
}

#[function(schedule = period("15m", overlap = "allow"), retries = 0)]
fn every_quarter() {}

fn main() -> Result<()> {
    every_quarter();
    assert_eq!(everything(None)?, 10);
    assert_eq!(everything::call(Some(3))?, 3);
    Ok(())
}
