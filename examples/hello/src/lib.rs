//! Small functions, one for each thing that a first app wants to know.

use bireme_sdk::prelude::*;
use serde_json::Value;

/// Greets somebody by name.
#[function]
pub fn greet(name: String) -> String {
    format!("hello, {name}")
}

/// Adds two numbers.
#[function]
pub fn add(a: i64, b: i64) -> Result<i64> {
    a.checked_add(b).with_context(|| format!("{a} + {b} does not fit 64 bits"))
}

/// Sums a list of numbers.
#[function]
pub fn sum(numbers: Vec<f64>) -> f64 {
    numbers.iter().sum()
}

/// Returns its input, whatever it is.
#[function]
pub fn echo(value: Value) -> Value {
    value
}

/// Squares a number.
#[function]
pub fn square(n: u32) -> u64 {
    u64::from(n) * u64::from(n)
}

/// Sums the squares below `n`, each squared by a call of its own.
#[function]
pub fn fan_out(n: u32) -> Result<u64> {
    square::map(0..n).sum()
}

/// Maps itself over `width` branches, `depth` levels deep, and counts the leaves.
#[function]
pub fn leaves(width: u32, depth: u32) -> Result<u64> {
    if depth == 0 {
        return Ok(1);
    }
    leaves::starmap((0..width).map(|_| (width, depth - 1))).sum()
}

/// Identity of a call.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    pub app: String,
    pub function: String,
    pub version: String,
    pub call_id: String,
    pub attempt: u32,
    pub remaining_ms: u64,
}

/// Tells what the call knows about itself.
#[function(timeout = "5s", memory = "32MiB", retries = 1)]
pub fn whoami() -> Identity {
    let call = context::current();
    let remaining_ms = u64::try_from(context::remaining().as_millis()).unwrap_or(u64::MAX);
    log::info!(attempt = call.attempt; "asked who I am");
    Identity {
        app: call.app,
        function: call.function,
        version: call.version,
        call_id: call.call_id,
        attempt: call.attempt,
        remaining_ms,
    }
}

/// Counts how often it was called with a key.
#[function]
pub fn count(key: String) -> Result<i64> {
    // Not `get`, add one, `set`: of two calls at the same time, one would overwrite the other's count.
    Ok(kv::open("counts")?.increment(&key, 1)?)
}

#[cfg(test)]
mod tests {
    use bireme_sdk::testing;

    use super::*;

    #[test]
    fn a_function_is_a_function() {
        assert_eq!(greet("you".to_owned()), "hello, you");
        assert_eq!(add(1, 2), Ok(3));
        assert_eq!(add(i64::MAX, 1).unwrap_err().message, "9223372036854775807 + 1 does not fit 64 bits");
    }

    #[test]
    fn maps_run_in_process() {
        assert_eq!(fan_out(1_000), Ok((0..1_000).map(|n| n * n).sum()));
        assert_eq!(leaves(3, 2), Ok(9));
        assert_eq!(leaves(1, 9).unwrap_err().code, bireme_sdk::Code::DepthExceeded);
    }

    #[test]
    fn a_call_knows_its_function() {
        assert_eq!(whoami::call().map(|identity| identity.function), Ok("whoami".to_owned()));
    }

    #[test]
    fn counts_are_kept_between_calls() {
        let _kv = testing::with_kv();
        assert_eq!(count("a".to_owned()), Ok(1));
        assert_eq!(count::call("a".to_owned()), Ok(2));
        assert_eq!(count("b".to_owned()), Ok(1));
        // As it was written before there was `increment`.
        kv::open("counts").and_then(|counts| counts.set_json("c", &41)).expect("there is a fake");
        assert_eq!(count("c".to_owned()), Ok(42));
    }
}
