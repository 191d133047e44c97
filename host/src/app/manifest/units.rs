//! Durations and sizes, in the syntax of the SDK's attributes: `"10s"`, `"64MiB"`.

/// Parses a duration.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    read(text, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)], "a time such as \"10s\"")
}

/// Parses a size.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    read(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], "a size such as \"64MiB\"")
}

fn read(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let (digits, suffix) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let known = || units.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if digits.is_empty() {
        return Err(format!("`{text}` is not {expected}: a whole number and one of {}", known()));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == suffix.trim_start()) else {
        let unit = if suffix.is_empty() { "no unit".to_owned() } else { format!("the unit `{suffix}`") };
        return Err(format!("`{text}` has {unit}; the units are {}", known()));
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(*factor));
    value.ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_read() {
        assert_eq!(milliseconds("1500 ms"), Ok(1_500));
        assert_eq!(milliseconds("2h"), Ok(7_200_000));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert!(bytes("64MB").unwrap_err().ends_with("has the unit `MB`; the units are `KiB`, `MiB`, `GiB`"));
        assert!(milliseconds("soon").unwrap_err().contains("is not a time such as"));
        assert!(bytes("99999999999999999999GiB").unwrap_err().ends_with("is too large"));
    }
}
