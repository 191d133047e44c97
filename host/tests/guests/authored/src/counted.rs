//! Counters: right ones, a wrong one, and what a compare-and-swap tells.

use bireme_sdk::kv::Swap;
use bireme_sdk::prelude::*;

const BUCKET: &str = "counted";

/// Adds to a number.
#[function]
fn count_by_increment(key: String, delta: i64) -> Result<i64> {
    Ok(kv::open(BUCKET)?.increment(&key, delta)?)
}

/// Adds one to the number in a value of its own.
#[function]
fn count_by_update(key: String) -> Result<u64> {
    Ok(kv::open(BUCKET)?.update_json(&key, |count: Option<u64>| count.unwrap_or(0) + 1)?)
}

/// Adds one by hand.
#[function]
fn count_by_swap(key: String) -> Result<u64> {
    let bucket = kv::open(BUCKET)?;
    let mut current = bucket.get_json::<u64>(&key)?;
    loop {
        let next = current.unwrap_or(0) + 1;
        match bucket.compare_and_swap_json(&key, current.as_ref(), &next)? {
            Swap::Done => return Ok(next),
            Swap::Lost { current: newer } => current = newer,
        }
    }
}

/// Adds one the way that loses.
#[function]
fn count_by_set(key: String) -> Result<u64> {
    let bucket = kv::open(BUCKET)?;
    let count = bucket.get_json::<u64>(&key)?.unwrap_or(0) + 1;
    bucket.set_json(&key, &count)?;
    Ok(count)
}

/// Swaps text; returns what was there instead of the expected, if anything was.
#[function]
fn swap_text(key: String, expected: Option<String>, new: String) -> Result<Option<String>> {
    let expected = expected.as_ref().map(String::as_bytes);
    Ok(match kv::open(BUCKET)?.compare_and_swap(&key, expected, new)? {
        Swap::Done => None,
        Swap::Lost { current } => Some(String::from_utf8(current.unwrap_or_default())?),
    })
}

/// Writes text over whatever is there, or reads it.
#[function]
fn text_at(key: String, new: Option<String>) -> Result<Option<String>> {
    let bucket = kv::open(BUCKET)?;
    if let Some(new) = new {
        bucket.set(&key, new)?;
    }
    Ok(bucket.get(&key)?.map(String::from_utf8).transpose()?)
}
