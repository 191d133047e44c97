//! Clock of retention: the engine's clock, unless that has jumped ahead. A plain decider.
//!
//! A clock that jumps by days would make everything that has ended look old at once, and deleted rows do not come back
//! when the clock does. So retention goes by a time that follows the engine's clock as long as that moves as this host
//! counts, or at most [`JUMP_MAX`] further, such as over a restart. Beyond that it goes on from the last time that it
//! had, and takes the new one over once the host has run for [`HOLD`] with it. A clock that goes back is followed at
//! once: it deletes less.

use std::time::Duration;

use crate::storage::ClockMark;

/// Longest time that may pass unseen, as over a restart.
const JUMP_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Running time after which a clock that has jumped is taken over, for an operator to see it and set it right.
const HOLD: Duration = Duration::from_secs(24 * 3_600);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedClock {
    mark: ClockMark,
}

/// What a look at the engine's clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Trusted,
    /// The engine's clock is `ahead` of the trusted time.
    Held {
        ahead: Duration,
        /// Running time until it is taken over.
        left: Duration,
    },
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TrustedClock {
    /// Goes on from what an earlier host has kept.
    pub(crate) fn new(mark: Option<ClockMark>, now_ms: u64) -> Self {
        Self { mark: mark.unwrap_or(ClockMark { trusted_ms: now_ms, held_ms: 0 }) }
    }

    /// Looks at the engine's clock, `elapsed` of this host's time after the last look.
    pub(crate) fn look(&mut self, now_ms: u64, elapsed: Duration) -> Reading {
        let expected_ms = self.mark.trusted_ms.saturating_add(ms(elapsed));
        let ahead_ms = now_ms.saturating_sub(expected_ms);
        let held_ms = self.mark.held_ms.saturating_add(ms(elapsed));
        if ahead_ms <= ms(JUMP_MAX) || held_ms >= ms(HOLD) {
            self.mark = ClockMark { trusted_ms: now_ms, held_ms: 0 };
            return Reading::Trusted;
        }
        self.mark = ClockMark { trusted_ms: expected_ms, held_ms };
        let left = HOLD.saturating_sub(Duration::from_millis(held_ms));
        Reading::Held { ahead: Duration::from_millis(ahead_ms), left }
    }

    /// Returns the time that retention goes by, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.mark.trusted_ms
    }

    /// Returns what the next host goes on from.
    pub(crate) fn mark(&self) -> ClockMark {
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY_MS: u64 = 24 * 3_600_000;

    fn at(trusted_ms: u64) -> TrustedClock {
        TrustedClock::new(Some(ClockMark { trusted_ms, held_ms: 0 }), 0)
    }

    #[test]
    fn a_clock_that_runs_with_the_host_is_followed() {
        let mut clock = TrustedClock::new(None, 5_000);
        assert_eq!(clock.look(65_000, Duration::from_secs(60)), Reading::Trusted);
        assert_eq!(clock.now_ms(), 65_000);
        // A night over which no host ran, and a clock that was set back.
        assert_eq!(clock.look(65_000 + DAY_MS, Duration::ZERO), Reading::Trusted);
        assert_eq!(clock.look(1_000, HOUR), Reading::Trusted);
        assert_eq!(clock.now_ms(), 1_000);
    }

    #[test]
    fn a_clock_that_has_jumped_by_days_is_held_for_a_day_of_running_and_then_taken_over() {
        let (mut clock, start) = (at(10 * DAY_MS), 18 * DAY_MS);
        let mut now_ms = start;
        assert_eq!(
            clock.look(now_ms, Duration::ZERO),
            Reading::Held { ahead: Duration::from_millis(8 * DAY_MS), left: HOLD }
        );
        for hour in 1..24 {
            now_ms += ms(HOUR);
            let left = HOLD - HOUR * hour;
            let ahead = Duration::from_millis(8 * DAY_MS);
            assert_eq!(clock.look(now_ms, HOUR), Reading::Held { ahead, left });
            assert_eq!(clock.now_ms(), 10 * DAY_MS + ms(HOUR) * u64::from(hour), "time goes on");
            // Restarts do not begin the wait anew.
            clock = TrustedClock::new(Some(clock.mark()), now_ms);
        }
        now_ms += ms(HOUR);
        assert_eq!(clock.look(now_ms, HOUR), Reading::Trusted);
        assert_eq!(clock.now_ms(), start + DAY_MS);
    }

    #[test]
    fn a_clock_that_is_set_right_again_ends_the_wait() {
        let mut clock = at(10 * DAY_MS);
        assert!(matches!(clock.look(100 * DAY_MS, HOUR), Reading::Held { .. }));
        assert_eq!(clock.look(10 * DAY_MS + 2 * ms(HOUR), HOUR), Reading::Trusted);
        assert_eq!(clock.mark(), ClockMark { trusted_ms: 10 * DAY_MS + 2 * ms(HOUR), held_ms: 0 });
    }
}
