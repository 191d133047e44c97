//! Timetable of a schedule: due times of its runs.
//!
//! Not here: running anything (`dispatch::scheduler`).
//!
//! Daylight saving: a skipped time of day is due right after the gap, a repeated one is due once. That holds for
//! patterns of one minute and one hour; others follow the clock (`docs/schedules.md`).

use std::path::PathBuf;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::schedule::{CronSchedule, Schedule};

/// Shortest and longest period, in milliseconds.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 24 * 3_600_000;

/// Time before now that is searched for the latest of many due times.
const RECENT: Duration = Duration::from_secs(3_600);

/// A parsed schedule.
#[derive(Clone, Debug)]
pub(crate) enum Timetable {
    Cron { pattern: Box<Cron>, zone: TimeZone },
    Period(Duration),
}

impl Timetable {
    /// Parses a schedule. The error is one sentence, for the author.
    pub(crate) fn parse(schedule: &Schedule) -> Result<Self, String> {
        match schedule {
            Schedule::Cron(CronSchedule { cron, tz, .. }) => {
                let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
                let pattern =
                    parser.parse(cron).map_err(|error| format!("`{cron}` is no pattern of five fields: {error}"))?;
                let zone = TimeZone::get(tz).map_err(|_| format!("there is no time zone `{tz}`"))?;
                let table = Self::Cron { pattern: Box::new(pattern), zone };
                // `0 0 31 2 *` is a valid pattern without a day.
                match table.next_after(Timestamp::now(), Timestamp::now()) {
                    Some(_) => Ok(table),
                    None => Err(format!("`{cron}` is never due")),
                }
            }
            Schedule::Period(period) if PERIOD_MS.contains(&period.period_ms) => {
                Ok(Self::Period(Duration::from_millis(period.period_ms)))
            }
            Schedule::Period(period) => Err(format!("{} ms is not from 1 s to 30 days", period.period_ms)),
        }
    }

    /// Returns the first due time after `now`. A period counts from `start`.
    pub(crate) fn next_after(&self, now: Timestamp, start: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { pattern, zone } => {
                let next = pattern.find_next_occurrence(&now.to_zoned(zone.clone()), false).ok()?;
                Some(next.timestamp()).filter(|next| *next > now)
            }
            Self::Period(period) => {
                let period = SignedDuration::try_from(*period).ok()?;
                let passed = now.duration_since(start).max(SignedDuration::ZERO);
                let periods = i64::try_from(passed.as_nanos() / period.as_nanos()).ok()? + 1;
                start.checked_add(SignedDuration::from_nanos_i128(period.as_nanos() * i128::from(periods))).ok()
            }
        }
    }

    /// Returns the latest due time between `first`, itself one, and `now`, and the number of due times, at most
    /// `count_max`.
    pub(crate) fn until(&self, first: Timestamp, now: Timestamp, count_max: u64) -> (Timestamp, u64) {
        match self {
            Self::Cron { .. } => {
                let times = std::iter::successors(Some(first), |time| self.next_after(*time, first));
                let counted = times.take_while(|time| *time <= now).zip(1..=count_max).last();
                let (last, count) = counted.unwrap_or((first, 1));
                if count < count_max {
                    return (last, count);
                }
                // Too many in between to count; the latest is still searched for.
                let recent = now.checked_sub(RECENT).ok().map(|recent| recent.max(last));
                let times = std::iter::successors(recent, |time| self.next_after(*time, first));
                (times.skip(1).take_while(|time| *time <= now).last().unwrap_or(last), count)
            }
            Self::Period(period) => {
                let passed = now.duration_since(first).unsigned_abs();
                let periods = u64::try_from(passed.as_nanos() / period.as_nanos()).unwrap_or(u64::MAX);
                let last = u32::try_from(periods).ok().and_then(|periods| period.checked_mul(periods));
                let last = last.and_then(|passed| first.checked_add(passed).ok()).unwrap_or(now);
                (last, periods.saturating_add(1).min(count_max))
            }
        }
    }

    /// Returns the times in words, to follow `runs`.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Cron { pattern, zone } => {
                let said = pattern.describe();
                let said = said.trim_end_matches('.');
                // croner's descriptions begin with "At every 15 minutes".
                let said = said.strip_prefix("At ").filter(|said| said.starts_with("every")).unwrap_or(said);
                let mut letters = said.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                let said: String = first.into_iter().chain(letters).collect();
                format!("{said} ({})", zone.iana_name().unwrap_or("UTC"))
            }
            Self::Period(period) => {
                format!("every {:#}", SignedDuration::try_from(*period).unwrap_or(SignedDuration::MAX))
            }
        }
    }

    /// Formats a time in the schedule's zone.
    pub(crate) fn written(&self, time: Timestamp) -> String {
        let zone = match self {
            Self::Cron { zone, .. } => zone.clone(),
            Self::Period(_) => TimeZone::UTC,
        };
        time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

/// Returns the directories of time zones, which are read at their first use; without them there is a table of our own.
pub(crate) fn system_files() -> Vec<PathBuf> {
    let given = std::env::var_os("TZDIR").map(PathBuf::from);
    given.into_iter().chain([PathBuf::from("/usr/share/zoneinfo")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::schedule::PeriodSchedule;

    fn cron(cron: &str, tz: &str) -> Result<Timetable, String> {
        let (missed, overlap) = Default::default();
        Timetable::parse(&Schedule::Cron(CronSchedule { cron: cron.into(), tz: tz.into(), missed, overlap }))
    }

    fn period(period_ms: u64) -> Result<Timetable, String> {
        let (missed, overlap) = Default::default();
        Timetable::parse(&Schedule::Period(PeriodSchedule { period_ms, missed, overlap }))
    }

    /// Due times after `from`, in the schedule's zone.
    fn times(table: &Timetable, from: &str, count: usize) -> Vec<String> {
        let start: Timestamp = from.parse().unwrap();
        let times = std::iter::successors(Some(start), |time| table.next_after(*time, start));
        times.skip(1).take(count).map(|time| table.written(time)).collect()
    }

    #[test]
    fn a_pattern_is_read_in_its_time_zone() {
        let mondays = cron("0 6 * * MON", "Europe/Stockholm").unwrap();
        assert_eq!(times(&mondays, "2026-11-24T12:00:00Z", 2), ["2026-11-30 06:00:00 CET", "2026-12-07 06:00:00 CET"]);
        let last_fridays = cron("30 17 * * FRI#L", "UTC").unwrap();
        assert_eq!(times(&last_fridays, "2026-11-24T12:00:00Z", 1), ["2026-11-27 17:30:00 UTC"]);
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_due_once_they_have() {
        let nights = cron("30 2 * * *", "Europe/Stockholm").unwrap();
        assert_eq!(
            times(&nights, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28 02:30:00 CET", "2026-03-29 03:00:00 CEST", "2026-03-30 02:30:00 CEST"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_is_due_once() {
        let nights = cron("30 2 * * *", "Europe/Stockholm").unwrap();
        let times = times(&nights, "2026-10-24T12:00:00Z", 2);
        assert_eq!(times, ["2026-10-25 02:30:00 CEST", "2026-10-26 02:30:00 CET"]);
    }

    #[test]
    fn every_half_hour_follows_the_time_that_passes() {
        let halves = cron("*/30 * * * *", "Europe/Stockholm").unwrap();
        let times = times(&halves, "2026-10-25T00:00:00Z", 5);
        assert_eq!(
            times,
            [
                "2026-10-25 02:30:00 CEST",
                "2026-10-25 02:00:00 CET",
                "2026-10-25 02:30:00 CET",
                "2026-10-25 03:00:00 CET",
                "2026-10-25 03:30:00 CET"
            ]
        );
    }

    #[test]
    fn a_period_keeps_its_step_however_late_it_is_asked() {
        let table = period(900_000).unwrap();
        let start: Timestamp = "2026-11-24T12:00:07Z".parse().unwrap();
        let check = |now: &str| table.written(table.next_after(now.parse().unwrap(), start).unwrap());
        assert_eq!(check("2026-11-24T12:00:07Z"), "2026-11-24 12:15:07 UTC");
        assert_eq!(check("2026-11-24T12:15:07Z"), "2026-11-24 12:30:07 UTC");
        assert_eq!(check("2026-11-24T14:50:00Z"), "2026-11-24 15:00:07 UTC");
        // After the clock was set back.
        assert_eq!(check("2026-11-24T11:00:00Z"), "2026-11-24 12:15:07 UTC");
    }

    #[test]
    fn the_latest_of_many_times_is_found_however_many_are_counted() {
        let check = |table: &Timetable, first: &str, now: &str| {
            let (last, count) = table.until(first.parse().unwrap(), now.parse().unwrap(), 1_000);
            (table.written(last), count)
        };
        let minutes = cron("* * * * *", "UTC").unwrap();
        let (first, later) = ("2026-11-24T12:00:00Z", "2026-11-26T12:00:30Z");
        assert_eq!(check(&minutes, first, "2026-11-24T12:00:59Z"), ("2026-11-24 12:00:00 UTC".into(), 1));
        assert_eq!(check(&minutes, first, "2026-11-24T12:02:00Z"), ("2026-11-24 12:02:00 UTC".into(), 3));
        assert_eq!(check(&minutes, first, later), ("2026-11-26 12:00:00 UTC".into(), 1_000));
        let seconds = period(7_000).unwrap();
        assert_eq!(check(&seconds, first, "2026-11-24T12:00:20Z"), ("2026-11-24 12:00:14 UTC".into(), 3));
        assert_eq!(check(&seconds, first, later), ("2026-11-26 12:00:30 UTC".into(), 1_000));
    }

    #[test]
    fn a_timetable_is_told_in_words() {
        let check = |pattern: &str| cron(pattern, "Europe/Stockholm").unwrap().words();
        assert_eq!(check("0 6 * * MON"), "at 06:00, on Monday (Europe/Stockholm)");
        assert_eq!(check("*/15 * * * *"), "every 15 minutes (Europe/Stockholm)");
        assert_eq!(period(900_000).unwrap().words(), "every 15m");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(cron("0 6 * *", "UTC").unwrap_err().contains("no pattern of five fields"));
        assert!(cron("0 0 6 * * MON", "UTC").unwrap_err().contains("no pattern of five fields"));
        assert!(cron("0 25 * * *", "UTC").is_err());
        assert_eq!(cron("0 6 * * *", "Europe/Stokholm").unwrap_err(), "there is no time zone `Europe/Stokholm`");
        assert_eq!(cron("0 0 31 2 *", "UTC").unwrap_err(), "`0 0 31 2 *` is never due");
        assert!(period(10).is_err());
    }
}
