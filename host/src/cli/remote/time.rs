//! Times for people: parsing of `--since`, formatting in the local zone.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cli::exit::Exit;

/// Parses `10m` (that long ago) or an RFC 3339 time; returns milliseconds since 1970.
pub(crate) fn parse(flag: &str, text: &str) -> Result<u64, Exit> {
    let ago = || text.parse::<SignedDuration>().ok().filter(|ago| !ago.is_negative());
    let time = match text.parse::<Timestamp>() {
        Ok(time) => Some(time),
        Err(_) => ago().and_then(|ago| Timestamp::now().checked_sub(ago).ok()),
    };
    time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).ok_or_else(|| {
        Exit::usage(format!("`{flag} {text}` is no time; give `10m`, `2h` or a time like 2026-01-31T09:00:00Z"))
    })
}

/// Formats a time in the local zone, to the millisecond.
pub(crate) fn exact(at_ms: impl TryInto<i64>) -> String {
    let zoned = timestamp(at_ms).to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// Formats a time in the local zone, to the second.
pub(crate) fn local(at_ms: impl TryInto<i64>) -> String {
    timestamp(at_ms).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Formats a future time and the wait for it.
pub(crate) fn until(at_ms: impl TryInto<i64>) -> String {
    let at = timestamp(at_ms);
    let off = at.duration_since(Timestamp::now());
    format!("{} (in {})", local(at.as_millisecond()), in_largest_unit(off, "days"))
}

/// Formats a time in the local zone for a log, without the year.
pub(crate) fn brief(at_ms: impl TryInto<i64>) -> String {
    timestamp(at_ms).to_zoned(TimeZone::system()).strftime("%b %d %H:%M:%S").to_string()
}

/// Formats the age of a past time in its largest unit, for a narrow column.
pub(crate) fn age(at_ms: impl TryInto<i64>) -> String {
    in_largest_unit(since(at_ms), "d")
}

/// Formats how long ago a past time was, in its largest unit.
pub(crate) fn ago(at_ms: impl TryInto<i64>) -> String {
    format!("{} ago", in_largest_unit(since(at_ms), "days"))
}

fn since(at_ms: impl TryInto<i64>) -> SignedDuration {
    Timestamp::now().duration_since(timestamp(at_ms))
}

/// Formats a span of time, 0 at least; `days` is the word for days.
fn in_largest_unit(span: SignedDuration, days: &str) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} {days}", seconds / 86_400),
    }
}

fn timestamp(at_ms: impl TryInto<i64>) -> Timestamp {
    at_ms.try_into().ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::MAX)
}

/// Returns a time that has two names: the newer one, else the one that an older host answers.
pub(crate) fn newer_or(newer_ms: u64, older_ms: u64) -> u64 {
    if newer_ms > 0 { newer_ms } else { older_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_a_while_ago() {
        assert_eq!(parse("--since", "1970-01-01T00:00:01Z").unwrap(), 1_000);
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let ago = now - parse("--since", "10m").unwrap();
        assert!((599_000..=600_000).contains(&ago), "{ago}");
        for bad in ["", "soon", "-5m", "99999999999h"] {
            assert!(parse("--since", bad).unwrap_err().message.contains("no time"), "{bad}");
        }
    }

    #[test]
    fn times_past_are_told_in_their_largest_unit() {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        assert_eq!(ago(now - 90_000), "1 min ago");
        assert_eq!(ago(now - 3 * 86_400_000), "3 days ago");
        assert_eq!(ago(now + 60_000), "0 s ago");
    }

    #[test]
    fn times_to_come_are_told_with_how_far_off_they_are() {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let until = |ms: u64| until(now + ms).split_once(" (").unwrap().1.to_owned();
        assert_eq!(until(90_500), "in 1 min)");
        assert_eq!(until(3 * 86_400_000 + 60_000), "in 3 days)");
    }
}
