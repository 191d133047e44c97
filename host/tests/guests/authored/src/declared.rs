//! A function's declarations.

use bireme_sdk::prelude::*;

/// Asks the site for a number, one call at a time.
#[function(outbound = ["$site"], concurrency = 1)]
fn one_at_a_time(url: String) -> Result<u64> {
    Ok(http::get(url).send()?.error_for_status()?.json()?)
}

/// Calls itself, which cannot end well with one place.
#[function(concurrency = 1, timeout = "300ms")]
fn calls_itself(depth: u32) -> Result<u32> {
    if depth == 0 { Ok(0) } else { Ok(calls_itself::call(depth - 1)? + 1) }
}

/// Returns the secret, or the name of another variable that it can see.
#[function(secrets = ["API_KEY"])]
fn reads_secret() -> Result<String> {
    let key = std::env::var("API_KEY").context("`API_KEY` is not there")?;
    let other = std::env::vars().map(|(name, _)| name).find(|name| name != "API_KEY");
    Ok(other.unwrap_or(key))
}

/// Tells its secret to everybody who listens.
#[function(secrets = ["API_KEY"])]
fn tells_secret() -> Result<()> {
    let key = std::env::var("API_KEY")?;
    eprintln!("stderr {key}");
    log::info!(key = key; "log {key}");
    Err(Failure::failed(format!("failure {key}")).because(format!("cause {key}")))
}

/// Tells its secret in the failure of each input.
#[function(secrets = ["API_KEY"], batched(max_size = 2, wait = "10s"))]
fn tells_secret_to_each(inputs: Vec<u32>) -> Result<Vec<Result<u32>>> {
    let key = std::env::var("API_KEY")?;
    Ok(inputs.iter().map(|input| Err(Failure::terminal(format!("failure {input} {key}")).because(&key))).collect())
}

/// Panics with its secret.
#[function(secrets = ["API_KEY"])]
fn panics_with_secret() {
    panic!("panic {}", std::env::var("API_KEY").unwrap_or_default());
}

/// Sees no secret, since it declares none.
#[function]
fn sees_no_secret() -> usize {
    std::env::vars().count()
}

/// Reads configuration and tells of it.
#[function]
fn configured() -> Result<(u32, Option<String>)> {
    let depth: u32 = config::get("depth")?;
    log::info!("configured", depth = depth);
    Ok((depth, config::find("title")?))
}

/// Is called by the host every second.
#[function(schedule = period("1s"))]
fn ticks(by: Option<u32>) -> u32 {
    log::info!("tick");
    by.unwrap_or(1)
}

/// Is called by the host on Monday mornings.
#[function(schedule = cron("0 6 * * MON", tz = "Europe/Stockholm"))]
fn reports() {}

/// Fails twice, and is tried again at once.
#[function(retries(max = 2, initial = "1ms", max_delay = "2ms"))]
fn fails_twice() -> Result<u32> {
    match context::current().attempt {
        attempt @ 1..=2 => bail!("attempt {attempt}"),
        attempt => Ok(attempt),
    }
}
