//! Whether a failed attempt is followed by another, and when. A plain decider.
//!
//! The numbers are Modal's defaults: 1 s at first, doubled each time, at most 60 s; half of it is jitter, so that many
//! calls that failed together do not come back together.

use std::time::Duration;

use crate::call::Failure;

const DELAY_INITIAL: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Returns the wait before the next attempt, or none if there is no next. `attempt` is the one that failed, from 1;
/// `jitter` is drawn from 0 to 1.
pub fn delay(failure: &Failure, attempt: u32, retries_max: u32, jitter: f64) -> Option<Duration> {
    if attempt > retries_max || !failure.code.is_retryable() {
        return None;
    }
    let full = DELAY_INITIAL.saturating_mul(2u32.saturating_pow(attempt - 1)).min(DELAY_MAX);
    Some(full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::FailureCode;

    fn check(code: FailureCode, attempt: u32, retries_max: u32) -> Option<f64> {
        delay(&Failure::new(code, ""), attempt, retries_max, 1.0).map(|delay| delay.as_secs_f64())
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute() {
        let delays: Vec<_> = (1..=8).map(|attempt| check(FailureCode::Failed, attempt, 9).unwrap()).collect();
        assert_eq!(delays, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let failure = Failure::new(FailureCode::Failed, "");
        assert_eq!(delay(&failure, 1, 1, 0.0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_last_attempt_and_final_failures_end_it() {
        assert_eq!(check(FailureCode::Failed, 3, 2), None);
        assert_eq!(check(FailureCode::Failed, 1, 0), None);
        for code in FailureCode::ALL {
            assert_eq!(check(code, 1, 1).is_some(), code.is_retryable(), "{code}");
        }
    }
}
