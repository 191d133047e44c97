//! Refused writes in the log: the first at once, then one line a minute with their number. On a full disk a line for
//! each would take what room is left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::StoreError;
use crate::throttle::Throttle;

const EVERY: Duration = Duration::from_secs(60);
/// Reasons that are told apart; the others share one.
const REASONS_MAX: usize = 1_024;

/// Refusals by reason: an app over its quota, the disk, the queue.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Box<str>, Reason>>);

#[derive(Debug)]
struct Reason {
    lines: Throttle,
    /// Refusals since the last line.
    since: u64,
}

impl Refusals {
    /// Takes note of a write that was refused for want of room.
    pub(super) fn note(&self, error: &StoreError) {
        let reason = match error {
            StoreError::OverQuota(over) => over.app.as_str(),
            StoreError::Full { .. } => "\0disk",
            StoreError::Busy { .. } => "\0queue",
            _ => return,
        };
        if let Some(refused) = self.count(reason, Instant::now()) {
            let error = error as &dyn std::error::Error;
            tracing::error!(
                error,
                refused,
                "writes are refused; the next line about it comes in a minute at the soonest"
            );
        }
    }

    /// Counts a refusal. Returns the number since the last line if a line is due.
    fn count(&self, reason: &str, now: Instant) -> Option<u64> {
        let mut reasons = self.0.lock();
        let reason = if reasons.len() < REASONS_MAX || reasons.contains_key(reason) { reason } else { "\0other" };
        let known = match reasons.get_mut(reason) {
            Some(known) => known,
            None => reasons.entry(reason.into()).or_insert(Reason { lines: Throttle::new(EVERY), since: 0 }),
        };
        known.since += 1;
        known.lines.is_due(now).then(|| std::mem::take(&mut known.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute_with_its_number() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let lines: Vec<u64> =
            (0..180_000).filter_map(|ms| refusals.count("app", start + Duration::from_millis(ms))).collect();
        assert_eq!(lines, [1, 60_000, 60_000]);
        assert_eq!(refusals.count("other", start), Some(1));
    }
}
