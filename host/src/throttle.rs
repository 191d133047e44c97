//! Pause between two log lines of one kind: the first is due at once, a later one after the pause. A plain decider.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Throttle {
    pause: Duration,
    /// Time of the last line.
    last: Option<Instant>,
}

impl Throttle {
    pub(crate) const fn new(pause: Duration) -> Self {
        Self { pause, last: None }
    }

    /// Whether a line is due; if so, the next pause begins.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.pause);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_due_at_once_and_a_later_one_after_the_pause() {
        let (mut throttle, start) = (Throttle::new(Duration::from_secs(60)), Instant::now());
        let due: Vec<u64> = (0..200).filter(|s| throttle.is_due(start + Duration::from_secs(*s))).collect();
        assert_eq!(due, [0, 60, 120, 180]);
        // A clock that has not moved on, seen from another thread.
        assert!(!throttle.is_due(start));
    }
}
