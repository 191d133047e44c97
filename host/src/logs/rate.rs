//! Rate limit of an app's log lines: a token bucket of bytes. A plain decider.

use std::time::{Duration, Instant};

use crate::throttle::Throttle;

/// Bytes that an app may log at once after a pause.
const BURST_BYTES: u64 = 16 << 20;
/// Bytes that an app may log in a second over a longer time.
const BYTES_PER_SECOND: u64 = 2 << 20;
/// Pause between two reports of dropped lines.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Rate limit of one app.
#[derive(Debug)]
pub(super) struct LogRate {
    /// Bytes that may be logged now.
    room: u64,
    /// Time up to which `room` was filled.
    at: Instant,
    dropped: Dropped,
    reports: Throttle,
}

/// Lines over the limit that were not logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub lines: u64,
    pub bytes: u64,
}

impl LogRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { room: BURST_BYTES, at: now, dropped: Dropped::default(), reports: Throttle::new(REPORT_EVERY) }
    }

    /// Whether a line of `bytes` is within the limit; a line over it is counted.
    pub(super) fn admit(&mut self, bytes: u64, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.at).as_micros() * u128::from(BYTES_PER_SECOND) / 1_000_000;
        // The rest of a byte is not lost: the time stays where it was.
        if filled > 0 {
            self.room = u64::try_from(filled).unwrap_or(u64::MAX).saturating_add(self.room).min(BURST_BYTES);
            self.at = now;
        }
        let is_within = bytes <= self.room;
        if is_within {
            self.room -= bytes;
        } else {
            self.dropped.lines += 1;
            self.dropped.bytes += bytes;
        }
        is_within
    }

    /// Takes the count of dropped lines, if it is time to report it.
    pub(super) fn report(&mut self, now: Instant) -> Option<Dropped> {
        (self.dropped.lines > 0 && self.reports.is_due(now)).then(|| std::mem::take(&mut self.dropped))
    }
}

/// Returns the limit as text, for the report.
pub(super) fn limit() -> String {
    format!("{} MiB a second", BYTES_PER_SECOND >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_burst_and_then_to_the_rate() {
        let start = Instant::now();
        let mut rate = LogRate::new(start);
        let line = 64 << 10;
        let admitted = |rate: &mut LogRate, now| (0..1_000).filter(|_| rate.admit(line, now)).count();
        assert_eq!(admitted(&mut rate, start), 256);
        assert_eq!(rate.report(start), Some(Dropped { lines: 744, bytes: 744 * line }));
        assert_eq!(admitted(&mut rate, start + Duration::from_secs(1)), 32);
        assert_eq!(rate.report(start + Duration::from_secs(1)), None);
        assert_eq!(admitted(&mut rate, start + Duration::from_secs(3_600)), 256);
        assert_eq!(rate.report(start + Duration::from_secs(11)).map(|dropped| dropped.lines), Some(968 + 744));
    }

    #[test]
    fn lines_below_the_rate_are_all_admitted() {
        let start = Instant::now();
        let mut rate = LogRate::new(start);
        for tick in 0..100_000_u32 {
            assert!(rate.admit(2_000, start + Duration::from_millis(1) * tick));
        }
    }
}
