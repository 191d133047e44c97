//! When the host calls a function by itself, as its author declared it.

use serde::{Deserialize, Serialize};

/// When the host calls the function by itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Schedule {
    Cron(CronSchedule),
    Period(PeriodSchedule),
}

/// At the times of a pattern of five fields.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CronSchedule {
    pub cron: String,
    /// Name in the IANA database.
    pub tz: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: Missed,
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
}

/// Again and again, counted from when the host first saw it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PeriodSchedule {
    pub period_ms: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: Missed,
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
}

/// What becomes of runs whose time passed while the host was down or asleep.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    #[default]
    Skip,
    /// One run for all that were missed.
    RunOnce,
}

/// What becomes of a run that is due while the one before it goes on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    #[default]
    Skip,
    /// It runs beside the other.
    Allow,
    /// One waits until the other has ended; more are skipped.
    Queue,
}

impl Schedule {
    pub fn missed(&self) -> Missed {
        match self {
            Self::Cron(cron) => cron.missed,
            Self::Period(period) => period.missed,
        }
    }

    pub fn overlap(&self) -> Overlap {
        match self {
            Self::Cron(cron) => cron.overlap,
            Self::Period(period) => period.overlap,
        }
    }

    /// Returns it without its policies: two that are equal so are due at the same times.
    pub fn times(&self) -> Self {
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
