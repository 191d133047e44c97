//! Retries: the verdict on a failed attempt. A plain decider.
//!
//! Half of each wait is jitter, so that many calls that failed together do not come back together.

use std::time::Duration;

use crate::call::Failure;
use crate::limits::RetryPolicy;

/// Verdict on a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt begins after this wait.
    Retry(Duration),
    /// No attempt could succeed.
    Failed,
    /// Another attempt might succeed, and none is left.
    Dead,
}

/// Decides after `failed` attempts that failed, this one included; `jitter` is drawn from 0 to 1.
pub(crate) fn verdict(failure: &Failure, failed: u32, policy: &RetryPolicy, jitter: f64) -> Verdict {
    match delay(failure, failed, policy, jitter) {
        Some(delay) => Verdict::Retry(delay),
        None if failure.code.is_retryable() => Verdict::Dead,
        None => Verdict::Failed,
    }
}

/// Returns the wait before the next attempt, or none if there is no next. `attempt` is the one that failed, from 1;
/// `jitter` is drawn from 0 to 1.
fn delay(failure: &Failure, attempt: u32, policy: &RetryPolicy, jitter: f64) -> Option<Duration> {
    if attempt > policy.retries_max || !failure.code.is_retryable() {
        return None;
    }
    let factor = policy.backoff.powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX)).min(f64::MAX);
    let full = (policy.initial.as_secs_f64() * factor).min(policy.delay_max.as_secs_f64());
    Some(Duration::from_secs_f64(full * (0.5 + 0.5 * jitter.clamp(0.0, 1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::FailureCode;

    fn check(code: FailureCode, attempt: u32, retries_max: u32) -> Option<f64> {
        let policy = RetryPolicy { retries_max, ..RetryPolicy::default() };
        delay(&Failure::new(code, ""), attempt, &policy, 1.0).map(|delay| delay.as_secs_f64())
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute() {
        let delays: Vec<_> = (1..=8).map(|attempt| check(FailureCode::Failed, attempt, 9).unwrap()).collect();
        assert_eq!(delays, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let failure = Failure::new(FailureCode::Failed, "");
        let policy = RetryPolicy { retries_max: 1, ..RetryPolicy::default() };
        assert_eq!(delay(&failure, 1, &policy, 0.0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_function_can_have_a_spacing_of_its_own() {
        let (initial, delay_max) = (Duration::from_millis(100), Duration::from_millis(250));
        let policy = RetryPolicy { retries_max: u32::MAX, initial, backoff: 1.5, delay_max };
        let failure = Failure::new(FailureCode::Failed, "");
        let delays = [1, 2, 3, 4, u32::MAX].map(|attempt| delay(&failure, attempt, &policy, 1.0).unwrap().as_millis());
        assert_eq!(delays, [100, 150, 225, 250, 250]);
        let at_once = RetryPolicy { initial: Duration::ZERO, ..policy };
        assert_eq!(delay(&failure, 9_999, &at_once, 1.0), Some(Duration::ZERO));
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
