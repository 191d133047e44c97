//! Harm that a function can try to do to others through the host.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bireme_sdk::prelude::*;

/// The status, or the error's text: what the host's check made of it.
fn status(url: String) -> String {
    match http::get(url).redirects(5).send() {
        Ok(response) => response.status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Fetches what may be granted.
#[function(outbound = ["$site", "https://example.com"], retries = 0)]
fn fetch(url: String) -> String {
    status(url)
}

/// Fetches without having declared anything.
#[function(retries = 0)]
fn fetch_undeclared(url: String) -> String {
    status(url)
}

/// Fetches with a time limit of its own and returns the length of the body, which may not exceed `bytes_max`.
#[function(outbound = ["$site"], timeout = "10s", retries = 0)]
fn fetch_within(url: String, ms: u64, bytes_max: u32) -> Result<usize> {
    let response = http::get(url).timeout(Duration::from_millis(ms)).body_bytes_max(bytes_max as usize).send()?;
    Ok(response.error_for_status()?.body.len())
}

/// Sends a body and returns what came back.
#[function(outbound = ["$site"], retries = 0)]
fn post(url: String, body: String) -> Result<String> {
    Ok(http::post(url).header("content-type", "text/plain").body(body).send()?.error_for_status()?.text()?)
}

/// Embeds one text.
#[function(models = ["all-minilm-l6-v2"])]
fn embed_it(text: String) -> Result<Vector> {
    Ok(model("all-minilm-l6-v2").embed(&[text])?.swap_remove(0))
}

/// Embeds one text with a model that it did not declare.
#[function]
fn embed_undeclared(text: String) -> Result<Vector> {
    Ok(model("all-minilm-l6-v2").embed(&[text])?.swap_remove(0))
}

/// Calls itself through the host, `depth` levels deep, and counts them.
#[function(retries = 0)]
fn nest(depth: u32) -> Result<u32> {
    if depth == 0 { Ok(0) } else { Ok(nest::call(depth - 1)? + 1) }
}

/// Returns `n`.
#[function]
fn same(n: u64) -> u64 {
    n
}

/// Fails for multiples of 3.
#[function(retries = 0)]
fn not_thirds(n: u64) -> Result<u64> {
    if n.is_multiple_of(3) { Err(Failure::terminal(format!("{n} is a multiple of 3"))) } else { Ok(n) }
}

/// Maps `same` over the numbers below `n`, and checks their order.
#[function(timeout = "60s", retries = 0)]
fn map_self(n: u64) -> Result<u64> {
    let mut expected = 0;
    for result in same::map(0..n) {
        let result = result?;
        if result != expected {
            bail!("{result} came in place of {expected}");
        }
        expected += 1;
    }
    Ok(expected)
}

/// Maps `same` as calls complete, and returns the sum of the results.
#[function(timeout = "60s", retries = 0)]
fn map_unordered(n: u64) -> Result<u64> {
    let mut sum = 0;
    for (index, result) in same::map(0..n).unordered() {
        let result = result?;
        if result != index {
            bail!("{result} came with index {index}");
        }
        sum += result;
    }
    Ok(sum)
}

/// Maps a function that fails for every third input, and returns how many succeeded and failed.
#[function(timeout = "60s", retries = 0)]
fn map_keep_going(n: u64) -> (u64, u64) {
    let mut results = not_thirds::map(0..n).keep_going();
    let succeeded = results.by_ref().count() as u64;
    (succeeded, results.failures_count())
}

/// Drops a map after its first result.
#[function(timeout = "60s", retries = 0)]
fn map_first(n: u64) -> Result<Option<u64>> {
    same::map(0..n).next().transpose()
}

/// Calls a function that the app does not have.
#[function(retries = 0)]
fn call_unknown() -> Result<()> {
    bireme_sdk::call_by_name("no_such_function", &())
}

/// Writes and reads back a value of `bytes` bytes, and returns how many keys the bucket has.
#[function(retries = 0)]
fn keep(bucket: String, key: String, bytes: u32) -> Result<usize> {
    let bucket = kv::open(bucket)?;
    let value = vec![7_u8; bytes as usize];
    bucket.set(&key, &value)?;
    if bucket.get(&key)?.as_ref() != Some(&value) {
        bail!("key `{key}` holds another value than was written");
    }
    let mut count = 0;
    for key in bucket.keys() {
        key?;
        count += 1;
    }
    Ok(count)
}

/// What the sandbox lets through of the world: the clocks, randomness, environment, files.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct World {
    unix_seconds: u64,
    monotonic_advances: bool,
    map_iterates: bool,
    variables: usize,
    arguments: usize,
    reads_a_file: Option<String>,
    connects: Option<String>,
}

/// Looks around.
#[function(retries = 0)]
fn looks_around() -> World {
    let begin = Instant::now();
    let map: HashMap<u32, u32> = (0..10).map(|n| (n, n)).collect();
    World {
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        monotonic_advances: begin.elapsed() >= Duration::ZERO,
        map_iterates: map.len() == 10,
        variables: std::env::vars().count(),
        arguments: std::env::args().count(),
        reads_a_file: std::fs::read_to_string("/etc/hostname").err().map(|error| error.to_string()),
        connects: std::net::TcpStream::connect(("127.0.0.1", 80)).err().map(|error| error.to_string()),
    }
}
