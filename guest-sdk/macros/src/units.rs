//! Durations and sizes, as authors write them: `"10s"`, `"64MiB"`.

/// A unit's suffix, and its factor to the base unit.
type Unit = (&'static str, u64);

const TIME_MS: [Unit; 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_BYTES: [Unit; 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

const TIMEOUT_MS_MIN: u64 = 1;
const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
const PERIOD_MS_MIN: u64 = 1_000;
const PERIOD_MS_MAX: u64 = 30 * 24 * 3_600_000;
const BATCH_WAIT_MS_MAX: u64 = 10_000;
const RETRY_DELAY_MS_MAX: u64 = 3_600_000;
const MEMORY_BYTES_MIN: u64 = 1 << 20;
const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Parses a timeout; the error is a sentence for the author.
pub(crate) fn timeout_ms(text: &str) -> Result<u64, String> {
    let value = read(text, &TIME_MS, "a time such as \"10s\"")?;
    within(text, value, TIMEOUT_MS_MIN, TIMEOUT_MS_MAX, "a timeout goes from 1ms to 24h")
}

/// Parses the period of a schedule; the error is a sentence for the author.
pub(crate) fn period_ms(text: &str) -> Result<u64, String> {
    let value = read(text, &TIME_MS, "a time such as \"15m\"")?;
    within(text, value, PERIOD_MS_MIN, PERIOD_MS_MAX, "a period goes from 1s to 720h")
}

/// Parses the delay before another attempt; the error is a sentence for the author.
pub(crate) fn retry_delay_ms(text: &str) -> Result<u64, String> {
    let value = read(text, &TIME_MS, "a time such as \"1s\"")?;
    within(text, value, 0, RETRY_DELAY_MS_MAX, "a delay goes from 0s to 1h")
}

/// Parses the wait of a batch's first input; the error is a sentence for the author.
pub(crate) fn batch_wait_ms(text: &str) -> Result<u64, String> {
    let value = read(text, &TIME_MS, "a time such as \"10ms\"")?;
    within(text, value, 0, BATCH_WAIT_MS_MAX, "a group waits from 0ms to 10s")
}

/// Parses a memory limit; the error is a sentence for the author.
pub(crate) fn memory_bytes(text: &str) -> Result<u64, String> {
    let value = read(text, &SIZE_BYTES, "a size such as \"64MiB\"")?;
    within(text, value, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX, "a memory limit goes from 1MiB to 4GiB")
}

fn read(text: &str, units: &[Unit], expected: &str) -> Result<u64, String> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, suffix) = text.split_at(digits_len);
    let known = || units.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if digits.is_empty() {
        return Err(format!("`{text}` is not {expected}: a whole number and one of {}", known()));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == suffix.trim_start()) else {
        let unit = if suffix.is_empty() { "no unit".to_owned() } else { format!("the unit `{suffix}`") };
        return Err(format!("`{text}` has {unit}; the units are {}", known()));
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(*factor))
        .ok_or_else(|| format!("`{text}` is too large"))
}

fn within(text: &str, value: u64, min: u64, max: u64, rule: &str) -> Result<u64, String> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(format!("`{text}` is out of range: {rule}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_read() {
        assert_eq!(timeout_ms("10s"), Ok(10_000));
        assert_eq!(timeout_ms("1500 ms"), Ok(1_500));
        assert_eq!(timeout_ms("2h"), Ok(7_200_000));
        assert_eq!(memory_bytes("64MiB"), Ok(64 << 20));
    }

    #[test]
    fn a_missing_or_unknown_unit_names_the_known_ones() {
        assert_eq!(timeout_ms("10").unwrap_err(), "`10` has no unit; the units are `ms`, `s`, `m`, `h`");
        assert_eq!(memory_bytes("64MB").unwrap_err(), "`64MB` has the unit `MB`; the units are `KiB`, `MiB`, `GiB`");
        assert!(timeout_ms("soon").unwrap_err().contains("is not a time such as"));
    }

    #[test]
    fn a_value_outside_its_range_is_refused() {
        assert!(timeout_ms("0s").unwrap_err().contains("from 1ms to 24h"));
        assert_eq!(batch_wait_ms("0ms"), Ok(0));
        assert!(batch_wait_ms("11s").unwrap_err().contains("from 0ms to 10s"));
        assert!(memory_bytes("5GiB").unwrap_err().contains("from 1MiB to 4GiB"));
        assert_eq!(timeout_ms("99999999999999999999h").unwrap_err(), "`99999999999999999999h` is too large");
    }
}
