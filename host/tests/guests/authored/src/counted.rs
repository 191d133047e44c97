//! Counters: right ones, a wrong one, and what a compare-and-swap tells.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// Writes text that expires after so many milliseconds.
#[function]
fn text_for(key: String, new: String, ttl_ms: u64) -> Result<()> {
    Ok(kv::open(BUCKET)?.set_with_ttl(&key, new, Duration::from_millis(ttl_ms))?)
}

/// Writes a batch of texts, reads it back, and deletes what is asked for.
#[function]
fn batch(texts: BTreeMap<String, String>, delete: Vec<String>) -> Result<Vec<Option<String>>> {
    let bucket = kv::open(BUCKET)?;
    let keys: Vec<String> = texts.keys().cloned().collect();
    bucket.set_many(texts)?;
    bucket.delete_many(delete)?;
    let text = |value: Option<Vec<u8>>| Ok(value.map(String::from_utf8).transpose()?);
    bucket.get_many(keys)?.into_iter().map(text).collect()
}

/// Lists keys.
#[function]
fn keys_with(prefix: String) -> Result<Vec<String>> {
    Ok(kv::open(BUCKET)?.keys_with_prefix(prefix).collect::<Result<_, _>>()?)
}
