//! Cron patterns in time zones.

use bireme::fuzzing::app::schedule;
use jiff::{SignedDuration, Timestamp};

/// Minutes of a search that looks at each.
const MINUTES_MAX: i64 = 600;

/// Lines of a pattern, a time zone and a time in seconds. The next time is due, comes after now, and is the first.
pub(super) fn times(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let (cron, tz) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let seconds: i64 = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(1_796_000_000);
    let times = schedule(cron, tz)?;
    assert!(times.words().len() <= 64 * (input.len() + 64), "a schedule in {} bytes of words", times.words().len());
    let now = Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    let Some(next) = times.next_after(now) else { return Err("it is not due after that time".to_owned()) };
    assert!(next > now, "`{cron}` in {tz} is due at {next}, after {now}");
    // Days that a zone left out are the longest gap.
    assert!(
        times.matches(next) || times.follows_gap(next, 26),
        "`{cron}` in {tz} is due at {next}, and does not say so"
    );
    if tz == "UTC" {
        let minutes = (next.as_second() - 1).div_euclid(60) - now.as_second().div_euclid(60);
        let missed = (1..=minutes.min(MINUTES_MAX)).find(|minute| {
            let time = Timestamp::from_second((now.as_second().div_euclid(60) + minute) * 60);
            time.is_ok_and(|time| times.matches(time))
        });
        assert_eq!(missed, None, "`{cron}` is due in that minute after {now}, before {next}");
    }
    let Ok(until) = next.checked_add(SignedDuration::from_hours(48)) else { return Ok(()) };
    let (last, count) = times.until(next, until, 50);
    assert!((1..=50).contains(&count) && (next..=until).contains(&last), "{count} times from {next} to {last}");
    Ok(())
}
