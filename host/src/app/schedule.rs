//! Schedule of a function, as its author declared it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Times of the runs, with their policies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
#[schemars(rename = "ScheduleAttribute")]
pub enum Schedule {
    /// Due times by a cron pattern, in a time zone.
    Cron(CronSchedule),
    /// Due times at a fixed distance from each other.
    Period(PeriodSchedule),
}

/// A cron pattern of five fields.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CronSchedule {
    /// Minute, hour, day of the month, month and day of the week, separated by spaces.
    pub cron: String,
    /// Time zone, by its name in the IANA database.
    pub tz: String,
    /// Policy for missed runs; without one they are skipped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: Missed,
    /// Policy for a run that is due while the previous one is still running; without one it is skipped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
}

/// A fixed period, counted from the host's first sight of the schedule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PeriodSchedule {
    /// Time from one due time to the next, in milliseconds: 1,000 (1 s) to 2,592,000,000 (30 days).
    pub period_ms: u64,
    /// Policy for missed runs; without one they are skipped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: Missed,
    /// Policy for a run that is due while the previous one is still running; without one it is skipped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
}

/// Policy for runs that were due while the host was down or asleep.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    #[default]
    Skip,
    /// One run in place of all missed ones.
    RunOnce,
}

/// Policy for a run that is due while the previous one is still running.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    #[default]
    Skip,
    /// Both run.
    Allow,
    /// One run waits for the end of the previous one; further ones are skipped.
    Queue,
}

impl Schedule {
    /// Returns the policy for missed runs.
    pub(crate) fn missed(&self) -> Missed {
        match self {
            Self::Cron(cron) => cron.missed,
            Self::Period(period) => period.missed,
        }
    }

    /// Returns the policy for overlapping runs.
    pub(crate) fn overlap(&self) -> Overlap {
        match self {
            Self::Cron(cron) => cron.overlap,
            Self::Period(period) => period.overlap,
        }
    }

    /// Returns the schedule without its policies: equal results mean equal times.
    pub(crate) fn times(&self) -> Self {
        let mut times = self.clone();
        match &mut times {
            Self::Cron(CronSchedule { missed, overlap, .. }) | Self::Period(PeriodSchedule { missed, overlap, .. }) => {
                (*missed, *overlap) = Default::default();
            }
        }
        times
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Schedule {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_was_written_before_there_were_policies_reads_as_skip_and_is_written_as_it_was() {
        for old in [r#"{"cron":"0 6 * * MON","tz":"UTC"}"#, r#"{"period_ms":900000}"#] {
            let schedule = read(old);
            assert_eq!((schedule.missed(), schedule.overlap()), (Missed::Skip, Overlap::Skip));
            assert_eq!(serde_json::to_string(&schedule).unwrap(), old);
        }
    }

    #[test]
    fn policies_are_no_part_of_the_times() {
        let once = read(r#"{"cron":"0 6 * * MON","tz":"UTC","missed":"run_once","overlap":"queue"}"#);
        assert_eq!((once.missed(), once.overlap()), (Missed::RunOnce, Overlap::Queue));
        assert_eq!(once.times(), read(r#"{"cron":"0 6 * * MON","tz":"UTC"}"#));
        assert_ne!(once.times(), read(r#"{"cron":"0 6 * * MON","tz":"Europe/Stockholm"}"#));
        assert!(serde_json::from_str::<Schedule>(r#"{"period_ms":1000,"overlap":"never"}"#).is_err());
    }
}
